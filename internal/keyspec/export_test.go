package keyspec

import (
	"crypto/rsa"

	"github.com/keywright/keywright/internal/key"
)

// CanonicalRSA makes a key of the given one.
func CanonicalRSA(given *rsa.PrivateKey) error {
	_, err := canonicalRSA(given)
	return err
}

// MaxPKCS8 is the capacity of the buffer of private keys.
const MaxPKCS8 = maxPKCS8

// NewPoolOf is NewPool with another way to make keys.
var NewPoolOf = newPool

// MaxAsking is how many keys an account can ask a pool for at a time, and OnDemand how many are made.
const (
	MaxAsking = maxAsking
	OnDemand  = onDemand
)

// Peek returns a key that the pool has ready and leaves it there.
func Peek(p *Pool, s key.Spec) Private {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ready[s][0]
}

// Wiped reports whether nothing is left of the secrets of an RSA key that can be reached.
func Wiped(k Private) bool {
	signing := k.(*rsaKey).signing
	for _, word := range append(signing.D.Bits(), append(signing.Primes[0].Bits(), signing.Primes[1].Bits()...)...) {
		if word != 0 {
			return false
		}
	}
	return true
}
