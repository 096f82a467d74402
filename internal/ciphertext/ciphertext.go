// Package ciphertext is the format of a CiphertextBlob under a symmetric KMS key: a header that says which key and which
// material, then the sealed octets. A blob describes itself, so that Decrypt needs no KeyId.
//
// The package is pure. It trusts nothing in a blob: a header that parses only says where to look, and the whole header
// is authenticated when the blob is opened. It must never tell callers why a blob is bad: there is one error.
package ciphertext

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"

	"github.com/keywright/keywright/internal/arn"
)

// ErrInvalid says that a blob is not one of ours. It carries no detail on purpose.
var ErrInvalid = errors.New("invalid ciphertext")

// Version 1 of the blob. All numbers are big-endian.
//
//	offset  size  content
//	     0     2  "KW"
//	     2     1  version, 1
//	     3     1  flags: bit 0 = the key id is that of a multi-Region key; the others are zero
//	     4     8  account id that owns the key, as a number
//	    12    16  key id
//	    28    32  key material id
//	    60    16  derivation nonce: context of the counter-mode KDF (SP 800-108) that gives the message's own AES key
//	    76    12  nonce of AES-256-GCM (SP 800-38D)
//	    88     n  encrypted plaintext, as long as the plaintext
//	  88+n    16  GCM tag
//
// The Region is left out: a key is looked for in the Region of the request, and the related keys of a multi-Region key
// open each other's blobs. Octets 0 to 75 are the header, all of it part of the associated data.
const (
	version    = 1
	flagMulti  = 1
	maxAccount = 999_999_999_999

	// NonceSize is the length of the derivation nonce in octets.
	NonceSize = 16
	// HeaderSize is the length of the header in octets.
	HeaderSize = 76
	// SealOverhead is what the cipher adds to a plaintext: GCM nonce and tag.
	SealOverhead = 12 + 16
	// Overhead is how much longer a blob is than its plaintext.
	Overhead = HeaderSize + SealOverhead
)

// MaterialID is a key material id in binary; clients see 64 hexadecimal digits.
type MaterialID [32]byte

// ParseMaterialID reads the 64-digit form.
func ParseMaterialID(s string) (id MaterialID, ok bool) {
	n, err := hex.Decode(id[:], []byte(s))
	return id, err == nil && n == len(id) && len(s) == 2*n
}

// String returns the 64-digit form.
func (id MaterialID) String() string { return hex.EncodeToString(id[:]) }

// Header is what a blob says about itself.
type Header struct {
	Account  arn.Account
	Key      arn.KeyID
	Material MaterialID
	Nonce    [NonceSize]byte
}

// Append appends the 76 octets of the header. The account and the key id must have come through their constructors.
func (h *Header) Append(dst []byte) []byte {
	var flags byte
	if h.Key.MultiRegion() {
		flags = flagMulti
	}
	account, _ := strconv.ParseUint(string(h.Account), 10, 64)
	id := h.Key.Bytes()
	dst = append(dst, 'K', 'W', version, flags)
	dst = binary.BigEndian.AppendUint64(dst, account)
	dst = append(dst, id[:]...)
	dst = append(dst, h.Material[:]...)
	return append(dst, h.Nonce[:]...)
}

// Parse splits a blob into its header and the sealed octets that follow, which alias blob. The error is ErrInvalid.
func Parse(blob []byte) (h Header, sealed []byte, err error) {
	if len(blob) <= Overhead || blob[0] != 'K' || blob[1] != 'W' || blob[2] != version || blob[3]&^flagMulti != 0 {
		return Header{}, nil, ErrInvalid
	}
	account := binary.BigEndian.Uint64(blob[4:])
	if account > maxAccount {
		return Header{}, nil, ErrInvalid
	}
	var digits [12]byte
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i], account = byte('0'+account%10), account/10
	}
	h.Account = arn.Account(digits[:])
	h.Key = arn.KeyIDFromBytes([16]byte(blob[12:28]), blob[3]&flagMulti != 0)
	h.Material = MaterialID(blob[28:60])
	h.Nonce = [NonceSize]byte(blob[60:76])
	return h, blob[HeaderSize:], nil
}

// AppendAssociatedData appends what is authenticated with a message of version 1 but not encrypted: a name and version,
// the header's octets, and the encryption context in canonical form (AppendContext).
func AppendAssociatedData(dst, header []byte, context map[string]string) []byte {
	dst = append(dst, "keywright ciphertext v1\x00"...)
	dst = append(dst, header...)
	return AppendContext(dst, context)
}

// AppendContext appends the canonical form of an encryption context: the number of pairs, then each key and value, all
// as a 32-bit length and the octets, in the octet order of the keys. Lengths in front make the form injective: no two
// contexts have the same one. A nil and an empty context are the same.
func AppendContext(dst []byte, context map[string]string) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(context)))
	if len(context) == 0 {
		return dst
	}
	var few [8]string // the common case needs no allocation
	keys := few[:0]
	for k := range context {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		dst = appendString(appendString(dst, k), context[k])
	}
	return dst
}

func appendString(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(s))), s...)
}
