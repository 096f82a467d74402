package oidc

// ReadKeySet shows the reader of key sets: how many keys it finds.
func ReadKeySet(text []byte) (int, error) {
	keys, err := readKeySet(text)
	return len(keys), err
}

// ReadDiscovery shows the reader of discovery documents.
var ReadDiscovery = readDiscovery
