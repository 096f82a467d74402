package oidc

import "errors"

// ReadKeySet shows the reader of key sets: how many keys it finds.
func ReadKeySet(text []byte) (int, error) {
	keys, err := readKeySet(text)
	return len(keys), err
}

// ReadDiscovery shows the reader of discovery documents.
var ReadDiscovery = readDiscovery

// FaultOf returns the fault of an error of this package, 0 for any other.
func FaultOf(err error) Fault {
	var e *Error
	if errors.As(err, &e) {
		return e.Fault
	}
	return 0
}
