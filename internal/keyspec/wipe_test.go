package keyspec_test

import (
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"slices"
	"testing"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
)

func TestWipe(t *testing.T) {
	for _, s := range []key.Spec{key.SymmetricDefault, keyspec.HMACSHA256, keyspec.HMACSHA512, keyspec.Ed25519, keyspec.P256K1} {
		k, err := keyspec.Generate(s)
		if err != nil {
			t.Fatal(err)
		}
		before := k.Octets()
		if keyspec.Wipe(k); k.Octets().Equal(before) {
			t.Errorf("%s is as before", s)
		}
	}
	k, err := keyspec.Generate(keyspec.RSA2048)
	if err != nil {
		t.Fatal(err)
	}
	if keyspec.Wipe(k); !keyspec.Wiped(k) {
		t.Error("an RSA key is not wiped")
	}
}

// The buffer of a private key never grew: that would leave parts of the key behind.
func TestPrivateKeysAreWrittenOnce(t *testing.T) {
	for _, r := range keyspec.All() {
		k, err := keyspec.Generate(r.Spec)
		if err != nil {
			t.Fatal(err)
		}
		if octets := k.Octets().Expose(); k.Public() != nil && cap(octets) != keyspec.MaxPKCS8 {
			t.Errorf("%s: %d octets in a buffer of %d", r.Spec, len(octets), cap(octets))
		}
	}
}

// What an RSA key is read from is wiped, but for the primes, which the key has.
func TestReadRSAKeysAreWiped(t *testing.T) {
	given, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if err := keyspec.CanonicalRSA(given); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*big.Int{given.D, given.Precomputed.Dp, given.Precomputed.Dq, given.Precomputed.Qinv} {
		if slices.Max(n.Bits()) != 0 {
			t.Error("a number of the given key is as before")
		}
	}
}
