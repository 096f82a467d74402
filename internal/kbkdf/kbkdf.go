// Package kbkdf derives keys from keys: the counter-mode KDF of NIST SP 800-108r1 section 4.1 with HMAC-SHA-256 as its
// PRF, a 32-bit counter in front and the fixed input data in the standard's own form:
//
//	K(i) = HMAC-SHA-256(key, uint32(i) ‖ label ‖ 0x00 ‖ context ‖ uint32(bits wanted))    i = 1, 2, …
//
// All integers are big-endian. The label says what the derived key is for and is a constant of the caller; the context
// says which one it is. The caller must give a key of full entropy: this package does not stretch passwords, and must
// never be used for that. It keeps no derived key.
package kbkdf

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"strings"
	"sync"
)

// Size is the output of one PRF call, and of Derive, in octets.
const Size = sha256.Size

// Key derives length octets, 1 to 2^29-1, from hmacKey. It panics on another length and on a label with a zero octet,
// which would make the border between label and context ambiguous: both are mistakes in the program, not in its input.
func Key(hmacKey []byte, label string, context []byte, length int) []byte {
	check(label, length)
	fixed := make([]byte, 0, len(label)+1+len(context)+4)
	fixed = appendFixed(fixed, label, context, length)
	return expand(hmac.New(sha256.New, hmacKey), fixed, length)
}

// expand is the counter mode over any fixed input data. It is apart because the published vectors fix that data as a
// whole, not its parts.
func expand(mac hash.Hash, fixed []byte, length int) []byte {
	out := make([]byte, 0, (length+Size-1)/Size*Size)
	var counter [4]byte
	for i := uint32(1); len(out) < length; i++ {
		binary.BigEndian.PutUint32(counter[:], i)
		mac.Reset()
		mac.Write(counter[:])
		mac.Write(fixed)
		out = mac.Sum(out)
	}
	return out[:length]
}

// check panics on what no caller may ask for.
func check(label string, length int) {
	if length < 1 || length >= 1<<29 {
		panic("kbkdf: the length must be 1 to 2^29-1 octets")
	}
	if strings.IndexByte(label, 0) >= 0 {
		panic("kbkdf: a label has no zero octet")
	}
}

func appendFixed(dst []byte, label string, context []byte, length int) []byte {
	dst = append(dst, label...)
	dst = append(dst, 0)
	dst = append(dst, context...)
	return binary.BigEndian.AppendUint32(dst, uint32(length)*8)
}

// Deriver derives many 32-octet keys with one key and one label, differing in their context. It is safe for concurrent
// use. It exists for paths where each message gets a key of its own: the keyed HMAC states are computed once and pooled,
// which saves half of the hash work and nearly all allocations of Key.
type Deriver struct {
	prefix []byte // counter ‖ label ‖ 0x00
	pool   sync.Pool
}

// derivation is what one call of Derive needs; it lives in the pool.
type derivation struct {
	mac hash.Hash
	buf []byte // the whole PRF input, then the output
}

// NewDeriver returns a Deriver for the key and label. It keeps a copy of the key. It panics on a label with a zero
// octet, as Key does.
func NewDeriver(hmacKey []byte, label string) *Deriver {
	check(label, Size)
	d := &Deriver{prefix: append([]byte{0, 0, 0, 1}, label...)}
	d.prefix = append(d.prefix, 0)
	keyCopy := append([]byte(nil), hmacKey...)
	d.pool.New = func() any { return &derivation{mac: hmac.New(sha256.New, keyCopy)} }
	return d
}

// Derive returns Key(hmacKey, label, context, Size) of the Deriver's key and label.
func (d *Deriver) Derive(context []byte) (key [Size]byte) {
	v := d.pool.Get().(*derivation)
	v.buf = append(append(v.buf[:0], d.prefix...), context...)
	v.buf = binary.BigEndian.AppendUint32(v.buf, Size*8)
	v.mac.Reset() // after the first use a copy of the keyed state, not two blocks of hashing
	v.mac.Write(v.buf)
	v.buf = v.mac.Sum(v.buf[:0])
	copy(key[:], v.buf)
	clear(v.buf) // no derived key waits in the pool
	d.pool.Put(v)
	return key
}
