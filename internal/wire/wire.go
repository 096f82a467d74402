// Package wire holds the shapes of the APIs that Keywright speaks and everything that turns bytes into shapes and back:
// the AWS JSON 1.1 and Query/XML codecs, the validator that words its findings as the service does, and the one error type.
// The shapes themselves are generated into kmsapi, stsapi, iamapi, trailapi and quotaapi from the files under model.
//
// It trusts nothing that it reads: every limit that keeps a hostile document cheap is here. It must never decide
// anything about keys or callers, never log, and never put into an error message what a sensitive member held.
package wire

//go:generate go run ./gen

import (
	"slices"
	"strings"
)

// Opt is an optional scalar member that needs no allocation. The zero value is an absent member.
type Opt[T any] struct {
	V   T    // the value; the zero value of T if not Set
	Set bool // whether the member was there
}

// Some returns a member that is there.
func Some[T any](v T) Opt[T] { return Opt[T]{V: v, Set: true} }

// Or returns the value, or fallback if the member is absent.
func (o Opt[T]) Or(fallback T) T {
	if o.Set {
		return o.V
	}
	return fallback
}

// Shape is any generated structure that is the input or output of an operation.
type Shape interface {
	// ShapeName returns the name in the model, such as "EncryptRequest".
	ShapeName() string
}

// Input is the input of an operation. Those of JSON services are JSONInputs too, those of Query services QueryInputs.
type Input interface {
	Shape
	// Validate reports every constraint of the model that the input breaks. It changes nothing.
	Validate(v *Violations)
}

// JSONInput is an Input that reads itself from a JSON object.
type JSONInput interface {
	Input
	// DecodeJSON fills the shape; what goes wrong stays in d.
	DecodeJSON(d *Decoder)
}

// QueryInput is an Input that reads itself from form parameters.
type QueryInput interface {
	Input
	// DecodeQuery fills the shape from the parameters whose names start with at; what goes wrong stays in f.
	DecodeQuery(f *Form, at string)
}

// Output is the output of an operation: a JSONOutput or an XMLOutput. A nil Output is the answer of an operation whose
// model has no output shape.
type Output interface{ Shape }

// JSONOutput is an Output that writes itself as a JSON object.
type JSONOutput interface {
	Output
	AppendJSON(b []byte) []byte
}

// XMLOutput is an Output that writes the content of its result element.
type XMLOutput interface {
	Output
	AppendXML(b []byte) []byte
}

// Operation describes one operation of a service as the model has it.
type Operation struct {
	Name      string        // such as "Encrypt"
	New       func() Input  // returns an empty input
	NewOutput func() Output // returns an empty output; nil if the operation has none
	Errors    []Code        // modelled error codes, in model order; the service answers others too
	HasOutput bool          // false: the answer has an empty body (JSON) or no result element (XML)
	Wrapper   string        // name of the result element in XML; empty in JSON services
	Anonymous bool          // the operation takes unsigned requests because its input proves itself
}

// Protocol is a way to write requests and answers.
type Protocol uint8

// The protocols. The zero value is invalid.
const (
	JSON11 Protocol = iota + 1 // AWS JSON 1.1: one POST, operation in X-Amz-Target
	Query                      // form parameters in, XML out
)

// Service describes one API.
type Service struct {
	Title        string      // as the model calls it
	SigningName  string      // service in the scope of signatures
	TargetPrefix string      // JSON11: the part of X-Amz-Target before the dot
	APIVersion   string      // such as 2014-11-01
	Protocol     Protocol    // how it is spoken
	Namespace    string      // Query: XML namespace of the answers
	Operations   []Operation // sorted by name
	Errors       []ErrorShape
}

// Operation finds an operation by its name, which is case-sensitive.
func (s *Service) Operation(name string) (*Operation, bool) {
	i, ok := slices.BinarySearchFunc(s.Operations, name, func(o Operation, n string) int { return strings.Compare(o.Name, n) })
	if !ok {
		return nil, false
	}
	return &s.Operations[i], true
}

// ParseTarget splits an X-Amz-Target header, <prefix>.<Operation>, at its last dot. It reports false unless both parts
// are there.
func ParseTarget(header string) (prefix, operation string, ok bool) {
	i := strings.LastIndexByte(header, '.')
	if i <= 0 || i == len(header)-1 {
		return "", "", false
	}
	return header[:i], header[i+1:], true
}
