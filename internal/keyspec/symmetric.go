package keyspec

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"hash"

	"github.com/keywright/keywright/internal/secret"
)

// symmetricSize is the length of SYMMETRIC_DEFAULT material in octets: a 256-bit key (KMS developer guide,
// "SYMMETRIC_DEFAULT key spec"). What is done with it is the engine's business.
const symmetricSize = 32

// symmetricKey is the material of a SYMMETRIC_DEFAULT key. It has no abilities.
type symmetricKey struct{ octets secret.Bytes }

func (k *symmetricKey) Octets() secret.Bytes { return secret.Copy(k.octets.Expose()) }
func (k *symmetricKey) Public() Public       { return nil }
func (k *symmetricKey) wipe()                { k.octets.Wipe() }

var symmetricFamily = family{
	generate: func() (Private, error) { return &symmetricKey{random(symmetricSize)}, nil },
	parse: func(octets []byte) (Private, error) {
		if len(octets) != symmetricSize {
			return nil, ErrMaterial
		}
		return &symmetricKey{secret.Copy(octets)}, nil
	},
}

// hmacKey is the material of an HMAC key (FIPS 198-1).
type hmacKey struct {
	octets    secret.Bytes
	algorithm string
	hash      func() hash.Hash
}

func (k *hmacKey) Octets() secret.Bytes { return secret.Copy(k.octets.Expose()) }
func (k *hmacKey) Public() Public       { return nil }
func (k *hmacKey) wipe()                { k.octets.Wipe() }

// MAC implements Authenticator.
func (k *hmacKey) MAC(algorithm string, message []byte) ([]byte, error) {
	if algorithm != k.algorithm {
		return nil, ErrAlgorithm
	}
	mac := hmac.New(k.hash, k.octets.Expose())
	mac.Write(message)
	return mac.Sum(nil), nil
}

// hmacFamily returns the family of HMAC keys over a hash. Generated keys are as long as the code; imported ones may be
// longer, up to the block of the hash: HMAC would hash a longer key first and so make two keys of one.
func hmacFamily(algorithm string, h crypto.Hash) family {
	size, block := h.Size(), h.New().BlockSize()
	return family{
		generate: func() (Private, error) { return &hmacKey{random(size), algorithm, h.New}, nil },
		parse: func(octets []byte) (Private, error) {
			if len(octets) < size || len(octets) > block {
				return nil, ErrMaterial
			}
			return &hmacKey{secret.Copy(octets), algorithm, h.New}, nil
		},
	}
}

func random(n int) secret.Bytes {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand crashes the program instead
	return secret.Take(b)
}
