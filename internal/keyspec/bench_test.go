package keyspec_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"testing"

	"filippo.io/mldsa"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
)

// BenchmarkSign compares signing with what the primitive does by itself, on the same key and message.
func BenchmarkSign(b *testing.B) {
	message := make([]byte, 64)
	hashed := func() []byte {
		sum := sha256.Sum256(message)
		return sum[:]
	}
	for _, test := range []struct {
		spec      key.Spec
		algorithm string
		bare      func(k any) ([]byte, error)
	}{
		{keyspec.RSA2048, "RSASSA_PKCS1_V1_5_SHA_256", func(k any) ([]byte, error) {
			return rsa.SignPKCS1v15(nil, k.(*rsa.PrivateKey), crypto.SHA256, hashed())
		}},
		{keyspec.RSA2048, "RSASSA_PSS_SHA_256", func(k any) ([]byte, error) {
			return rsa.SignPSS(rand.Reader, k.(*rsa.PrivateKey), crypto.SHA256, hashed(), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		}},
		{keyspec.P256, "ECDSA_SHA_256", func(k any) ([]byte, error) {
			return ecdsa.SignASN1(rand.Reader, k.(*ecdsa.PrivateKey), hashed())
		}},
		{keyspec.Ed25519, "ED25519_SHA_512", func(k any) ([]byte, error) { return ed25519.Sign(k.(ed25519.PrivateKey), message), nil }},
		{keyspec.MLDSA65, "ML_DSA_SHAKE_256", func(k any) ([]byte, error) { return k.(*mldsa.PrivateKey).Sign(nil, message, nil) }},
	} {
		ours, err := keyspec.Generate(test.spec)
		if err != nil {
			b.Fatal(err)
		}
		var bare any
		if test.spec == keyspec.MLDSA65 {
			octets := ours.Octets().Expose()
			bare, err = mldsa.NewPrivateKey(mldsa.MLDSA65(), octets[len(octets)-mldsa.PrivateKeySize:])
		} else {
			bare, err = x509.ParsePKCS8PrivateKey(ours.Octets().Expose())
		}
		if err != nil {
			b.Fatal(err)
		}
		b.Run(test.algorithm+"/ours", func(b *testing.B) {
			for b.Loop() {
				if _, err := ours.(keyspec.Signer).Sign(test.algorithm, keyspec.Raw, message); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(test.algorithm+"/bare", func(b *testing.B) {
			for b.Loop() {
				if _, err := test.bare(bare); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkVerifyMu compares verification over mu, which is of this package, with that over the message.
func BenchmarkVerifyMu(b *testing.B) {
	k, err := keyspec.Generate(keyspec.MLDSA65)
	if err != nil {
		b.Fatal(err)
	}
	m := make([]byte, 64)
	for _, kind := range []keyspec.MessageType{keyspec.Raw, keyspec.ExternalMu} {
		signature, err := k.(keyspec.Signer).Sign("ML_DSA_SHAKE_256", kind, m)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(string(kind), func(b *testing.B) {
			for b.Loop() {
				if !k.Public().(keyspec.Verifier).Verify("ML_DSA_SHAKE_256", kind, m, signature) {
					b.Fatal("does not verify")
				}
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	for _, s := range []key.Spec{keyspec.RSA2048, keyspec.RSA4096, keyspec.P256, keyspec.P256K1, keyspec.MLDSA65, keyspec.MLKEM768} {
		k, err := keyspec.Generate(s)
		if err != nil {
			b.Fatal(err)
		}
		octets := k.Octets()
		b.Run(string(s), func(b *testing.B) {
			for b.Loop() {
				if _, err := keyspec.Parse(s, octets.Expose()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
