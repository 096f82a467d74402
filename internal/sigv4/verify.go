package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"hash"
	"sync"

	"github.com/keywright/keywright/internal/secret"
)

// SigningKey is the key derived from a secret access key for one Scope. It is safe for concurrent use. It prints as an
// address at most: its octets live only in a closure and in keyed hashes.
type SigningKey struct {
	// macs holds hash.Hash values keyed once and reset for every use: keying costs two of the six compressions of a short
	// HMAC.
	macs sync.Pool
}

// Derive computes the signing key of a scope: HMACs chained over date, Region, service and terminator, starting from
// "AWS4" and the secret.
func Derive(s secret.Bytes, sc Scope) *SigningKey {
	k := append([]byte("AWS4"), s.Expose()...)
	for _, part := range [...]string{sc.Date, sc.Region, sc.Service, Terminator} {
		h := hmac.New(sha256.New, k)
		h.Write([]byte(part))
		next := h.Sum(nil)
		clear(k)
		k = next
	}
	return &SigningKey{macs: sync.Pool{New: func() any { return hmac.New(sha256.New, k) }}}
}

func (k *SigningKey) sum(dst, message []byte) []byte {
	h := k.macs.Get().(hash.Hash)
	h.Reset()
	h.Write(message)
	dst = h.Sum(dst)
	k.macs.Put(h)
	return dst
}

// Verify proves that whoever holds the key signed the request: all the headers that have to be signed are, the body is the
// one that was signed, and the signature is right. The key must be that of a.Scope, and a must have passed Check. Every
// failure of the signature itself is ErrMismatch, whatever the reason.
func (a *Auth) Verify(req *Request, key *SigningKey) *Error {
	if !a.checked || key == nil {
		return ErrMismatch()
	}
	if err := a.checkHeaders(req.Header, req.RawQuery); err != nil {
		return err
	}
	s := scratches.Get().(*scratch)
	defer s.release()
	if len(a.signature) != 2*sha256.Size {
		return ErrMismatch()
	}
	if !s.canonicalRequest(req, a.SignedHeaders, a.Presigned) {
		return ErrMismatch()
	}
	s.stringToSign(a.stamp, a.Scope)
	mac := hex.AppendEncode(s.buf[:0], key.sum(s.mac[:0], s.buf))
	s.buf = append(mac, a.signature...)
	if subtle.ConstantTimeCompare(s.buf[:2*sha256.Size], s.buf[2*sha256.Size:]) != 1 {
		return ErrMismatch()
	}
	return nil
}
