package attest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"sync"
	"time"
)

// The chain of an enclave's certificate changes every few hours, and its verification takes most of the time that a
// document's takes: verified chains are remembered.

// chain is a chain of certificates that was verified up to a root.
type chain struct {
	signer        *ecdsa.PublicKey
	after, before time.Time // all of its certificates are valid from the first until the second
}

// maxChains bounds the memory of verified chains, about 500 octets each. Only chains of a root get there.
const maxChains = 1000

type chainCache struct {
	mu  sync.Mutex
	all map[[sha256.Size]byte]chain
}

func newChainCache() *chainCache { return &chainCache{all: map[[sha256.Size]byte]chain{}} }

func (c *chainCache) get(id [sha256.Size]byte, now time.Time) (*ecdsa.PublicKey, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, ok := c.all[id]
	if !ok || now.Before(known.after) || now.After(known.before) {
		return nil, false
	}
	return known.signer, true
}

func (c *chainCache) put(id [sha256.Size]byte, k chain) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.all) >= maxChains {
		clear(c.all) // most of them have expired
	}
	c.all[id] = k
}

// chainID is the hash of all certificates of a document, each behind its length.
func chainID(p *payload) (id [sha256.Size]byte) {
	h := sha256.New()
	var size [4]byte
	for _, der := range append([]octets{p.Certificate}, p.Bundle...) {
		binary.BigEndian.PutUint32(size[:], uint32(len(der))) //nolint:gosec // at most maxCertificate
		h.Write(size[:])
		h.Write(der)
	}
	h.Sum(id[:0])
	return id
}

// signer verifies the certificates of a document and returns the key of the lowest.
func (v *Verifier) signer(p *payload, now time.Time) (*ecdsa.PublicKey, error) {
	id := chainID(p)
	if k, ok := v.chains.get(id, now); ok {
		return k, nil
	}
	c, err := v.verifyChain(p, now)
	if err != nil {
		return nil, err
	}
	v.chains.put(id, c)
	return c.signer, nil
}

// verifyChain requires that the certificates are, in their order and all of them, a chain from a trusted root to the
// document's certificate (RFC 5280, section 6).
func (v *Verifier) verifyChain(p *payload, now time.Time) (chain, error) {
	leaf, err := x509.ParseCertificate(p.Certificate)
	if err != nil {
		return chain{}, bad("certificate is malformed")
	}
	want := []*x509.Certificate{leaf} // as the verification returns it, the root last
	middle := x509.NewCertPool()
	for i := len(p.Bundle) - 1; i >= 0; i-- {
		c, err := x509.ParseCertificate(p.Bundle[i])
		if err != nil {
			return chain{}, bad("a certificate of cabundle is malformed")
		}
		want = append(want, c)
		if i > 0 {
			middle.AddCert(c)
		}
	}
	all := chain{signer: p384(leaf), after: leaf.NotBefore, before: leaf.NotAfter}
	for i, c := range want {
		if err := fitsChain(c, i == 0); err != nil {
			return chain{}, err
		}
		if now.Before(c.NotBefore) || now.After(c.NotAfter) {
			return chain{}, bad("a certificate is expired or not yet valid")
		}
		all.after, all.before = later(all.after, c.NotBefore), earlier(all.before, c.NotAfter)
	}
	if err := v.signedDown(want); err != nil {
		return chain{}, err
	}
	found, err := leaf.Verify(x509.VerifyOptions{Roots: v.roots, Intermediates: middle, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return chain{}, bad("its certificates are not a valid chain")
	}
	for _, f := range found {
		if sameChain(f, want) {
			return all, nil
		}
	}
	return chain{}, bad("cabundle is not the chain of its certificate, the root first")
}

// signedDown checks the signatures of a chain from its root down, so that a forged one costs a single verification: the search
// for a path, which knows the rest of the rules, would try many.
func (v *Verifier) signedDown(chain []*x509.Certificate) error {
	root := len(chain) - 1
	if !v.trusted[string(chain[root].Raw)] {
		return bad("its certificates do not lead to a root that is trusted here")
	}
	for i := root; i > 0; i-- {
		if err := chain[i-1].CheckSignatureFrom(chain[i]); err != nil {
			return bad("a certificate is not signed by the one above it")
		}
	}
	return nil
}

// fitsChain checks what a certificate says of itself, over what every chain on the internet must meet.
func fitsChain(c *x509.Certificate, leaf bool) error {
	switch {
	case p384(c) == nil || c.SignatureAlgorithm != x509.ECDSAWithSHA384:
		return bad("a certificate is not of ECDSA with P-384 and SHA-384")
	case leaf && c.IsCA:
		return bad("certificate is of a CA")
	case leaf && c.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return bad("certificate is not for signatures")
	case !leaf && (!c.BasicConstraintsValid || !c.IsCA || c.KeyUsage&x509.KeyUsageCertSign == 0):
		return bad("a certificate of cabundle is not of a CA")
	}
	return nil
}

func sameChain(a, b []*x509.Certificate) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i].Raw, b[i].Raw) {
			return false
		}
	}
	return true
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
