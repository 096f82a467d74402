// Package secret holds the one type in which secret bytes travel: key material, plaintexts, secret access keys,
// passphrases.
//
// It trusts nothing and nobody: a Bytes prints as a fixed redaction in every verb of fmt, in slog, JSON and text
// encodings, and cannot be compared with ==. Whoever needs the octets calls Expose, so that a search for that name
// lists every place where a secret becomes plain bytes. The package must never offer another way out.
package secret

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what a Bytes shows instead of its content.
const Redacted = "[redacted]"

// Bytes is an immutable sequence of secret octets. The zero value is "no secret": IsZero reports it, and it differs
// from a present but empty secret. Bytes must not be compared with == (that would not be constant-time), and the
// compiler refuses it.
type Bytes struct {
	// The octets live in a closure because fmt does not ask a Formatter for values that it reaches through an
	// unexported field or with a mismatched verb: it walks structs, slices and pointers itself and prints what it finds.
	// A func is the one reference that it prints as an address only.
	open func() []byte
}

func (s Bytes) bytes() []byte {
	if s.open == nil {
		return nil
	}
	return s.open()
}

// Copy returns a Bytes with a copy of b. Copy(nil) is the zero value.
func Copy(b []byte) Bytes {
	if b == nil {
		return Bytes{}
	}
	return Take(append(make([]byte, 0, len(b)), b...))
}

// Take returns a Bytes that owns b from now on: the caller must not touch b again. Take(nil) is the zero value.
func Take(b []byte) Bytes {
	if b == nil {
		return Bytes{}
	}
	return Bytes{open: func() []byte { return b }}
}

// FromString returns a Bytes with the octets of s.
func FromString(s string) Bytes { return Take([]byte(s)) }

// Expose returns the octets themselves, not a copy. The caller must neither change nor keep them.
func (s Bytes) Expose() []byte { return s.bytes() }

// Len returns the number of octets.
func (s Bytes) Len() int { return len(s.bytes()) }

// IsZero reports whether there is no secret at all; an empty secret that is present is not zero.
func (s Bytes) IsZero() bool { return s.open == nil }

// Equal reports whether both hold the same octets, in time that depends on the lengths only.
func (s Bytes) Equal(t Bytes) bool { return subtle.ConstantTimeCompare(s.bytes(), t.bytes()) == 1 }

// Wipe overwrites the octets with zeros. Every copy of this Bytes value shares them and sees zeros afterwards.
func (s Bytes) Wipe() { clear(s.bytes()) }

// Format implements fmt.Formatter: whatever the verb, it prints Redacted.
func (s Bytes) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// LogValue implements slog.LogValuer.
func (s Bytes) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalJSON implements json.Marshaler. Wire encoders that must send a plaintext to its owner call Expose.
func (s Bytes) MarshalJSON() ([]byte, error) { return []byte(`"` + Redacted + `"`), nil }

// MarshalText implements encoding.TextMarshaler.
func (s Bytes) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// MarshalBinary implements encoding.BinaryMarshaler, so that gob and its kin get no octets either.
func (s Bytes) MarshalBinary() ([]byte, error) { return []byte(Redacted), nil }
