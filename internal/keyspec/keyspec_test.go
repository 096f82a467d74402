package keyspec_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
)

// spkiSizes has the length of the DER public keys of each spec (GetPublicKey), 0 for keys that have none.
var spkiSizes = map[key.Spec]int{
	keyspec.RSA2048: 294, keyspec.RSA3072: 422, keyspec.RSA4096: 550,
	keyspec.P256: 91, keyspec.P384: 120, keyspec.P521: 158, keyspec.Ed25519: 44, keyspec.P256K1: 88, keyspec.SM2: 91,
	keyspec.MLDSA44: 1334, keyspec.MLDSA65: 1974, keyspec.MLDSA87: 2614,
	keyspec.MLKEM512: 822, keyspec.MLKEM768: 1206, keyspec.MLKEM1024: 1590,
	key.SymmetricDefault: 0, keyspec.HMACSHA224: 0, keyspec.HMACSHA256: 0, keyspec.HMACSHA384: 0, keyspec.HMACSHA512: 0,
}

// signatureSizes has the lengths that signatures of a spec have at most, and whether all have it.
var signatureSizes = map[key.Spec]struct {
	most  int
	fixed bool
}{
	keyspec.RSA2048: {256, true}, keyspec.RSA3072: {384, true}, keyspec.RSA4096: {512, true},
	keyspec.P256: {72, false}, keyspec.P384: {104, false}, keyspec.P521: {139, false}, keyspec.Ed25519: {64, true},
	keyspec.P256K1: {72, false}, keyspec.SM2: {72, false},
	keyspec.MLDSA44: {2420, true}, keyspec.MLDSA65: {3309, true}, keyspec.MLDSA87: {4627, true},
}

var macSizes = map[string]int{"HMAC_SHA_224": 28, "HMAC_SHA_256": 32, "HMAC_SHA_384": 48, "HMAC_SHA_512": 64}

// keys has one key of each spec, for all tests that change nothing: RSA keys take long to make.
var keys sync.Map

func generated(t testing.TB, s key.Spec) keyspec.Private {
	t.Helper()
	if k, ok := keys.Load(s); ok {
		return k.(keyspec.Private)
	}
	k, err := keyspec.Generate(s)
	if err != nil {
		t.Fatal(err)
	}
	keys.Store(s, k)
	return k
}

// each runs a test with a key of every spec.
func each(t *testing.T, test func(t *testing.T, r *keyspec.Row, k keyspec.Private)) {
	for _, r := range keyspec.All() {
		t.Run(string(r.Spec), func(t *testing.T) {
			test(t, r, generated(t, r.Spec))
		})
	}
}

func TestEverySpecHasASize(t *testing.T) {
	for _, r := range keyspec.All() {
		if _, ok := spkiSizes[r.Spec]; !ok {
			t.Errorf("%s has no size", r.Spec)
		}
		if keyspec.Of(r.Spec) != r {
			t.Errorf("%s is another row", r.Spec)
		}
		for _, u := range r.Usages {
			if len(r.Algorithms(u)) == 0 {
				t.Errorf("%s has no algorithm for %s", r.Spec, u)
			}
		}
		if r.Algorithms("OTHER") != nil {
			t.Errorf("%s has algorithms for another usage", r.Spec)
		}
	}
	if len(keyspec.All()) != len(spkiSizes) {
		t.Errorf("%d rows", len(keyspec.All()))
	}
	if keyspec.Of("RSA_1024") != nil {
		t.Error("a row for a spec that is none")
	}
}

func TestKeysKeepTheirEncodings(t *testing.T) {
	each(t, func(t *testing.T, r *keyspec.Row, k keyspec.Private) {
		octets := k.Octets()
		again, err := keyspec.Parse(r.Spec, octets.Expose())
		if err != nil {
			t.Fatal(err)
		}
		if !again.Octets().Equal(octets) {
			t.Error("the canonical octets change when they are parsed")
		}
		size := spkiSizes[r.Spec]
		if (k.Public() == nil) != (size == 0) {
			t.Fatalf("public key: %v", k.Public())
		}
		if size == 0 {
			if _, err := keyspec.ParsePublic(r.Spec, octets.Expose()); !errors.Is(err, keyspec.ErrPublic) {
				t.Errorf("public key: %v", err)
			}
			return
		}
		spki := k.Public().SPKI()
		if len(spki) != size || !bytes.Equal(spki, again.Public().SPKI()) {
			t.Errorf("SPKI of %d octets, want %d", len(spki), size)
		}
		public, err := keyspec.ParsePublic(r.Spec, spki)
		if err != nil || !bytes.Equal(public.SPKI(), spki) {
			t.Errorf("parsing the SPKI: %v", err)
		}
		if _, err := keyspec.ParsePublic(r.Spec, append(slices.Clone(spki), 0)); !errors.Is(err, keyspec.ErrPublic) {
			t.Errorf("SPKI and more: %v", err)
		}
		for _, bad := range [][]byte{nil, octets.Expose()[:octets.Len()-1], append(slices.Clone(octets.Expose()), 0), make([]byte, octets.Len())} {
			if _, err := keyspec.Parse(r.Spec, bad); !errors.Is(err, keyspec.ErrMaterial) {
				t.Errorf("parsing %d octets: %v", len(bad), err)
			}
		}
		for _, other := range keyspec.All() {
			if other != r {
				if _, err := keyspec.Parse(other.Spec, octets.Expose()); !errors.Is(err, keyspec.ErrMaterial) && len(octets.Expose()) > 128 {
					t.Errorf("parsed as %s: %v", other.Spec, err)
				}
				if _, err := keyspec.ParsePublic(other.Spec, spki); !errors.Is(err, keyspec.ErrPublic) {
					t.Errorf("public key parsed as %s: %v", other.Spec, err)
				}
			}
		}
	})
}

// The standard library reads what it knows, and agrees.
func TestEncodingsAreThoseOfTheStandardLibrary(t *testing.T) {
	for _, s := range []key.Spec{keyspec.RSA2048, keyspec.P256, keyspec.P384, keyspec.P521, keyspec.Ed25519} {
		k := generated(t, s)
		private, err := x509.ParsePKCS8PrivateKey(k.Octets().Expose())
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		if der, err := x509.MarshalPKCS8PrivateKey(private); err != nil || !bytes.Equal(der, k.Octets().Expose()) {
			t.Errorf("%s: PKCS#8 of the standard library: %x, %v", s, der, err)
		}
		public, err := x509.ParsePKIXPublicKey(k.Public().SPKI())
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		if der, err := x509.MarshalPKIXPublicKey(public); err != nil || !bytes.Equal(der, k.Public().SPKI()) {
			t.Errorf("%s: SPKI of the standard library: %x, %v", s, der, err)
		}
	}
}

// message returns a message that an algorithm takes as the kind, nil if it takes none of the kind.
func message(algorithm string, kind keyspec.MessageType) []byte {
	switch kind {
	case keyspec.Raw:
		if algorithm == "ED25519_PH_SHA_512" {
			return nil
		}
		return []byte("a message")
	case keyspec.Digest:
		if n := keyspec.DigestSize(algorithm); n > 0 {
			return bytes.Repeat([]byte{7}, n)
		}
	case keyspec.ExternalMu:
		if algorithm == "ML_DSA_SHAKE_256" {
			return bytes.Repeat([]byte{7}, 64)
		}
	}
	return nil
}

func TestSigning(t *testing.T) {
	each(t, func(t *testing.T, r *keyspec.Row, k keyspec.Private) {
		signer, ok := k.(keyspec.Signer)
		if !ok {
			if len(r.Signing) > 0 {
				t.Fatal("cannot sign")
			}
			return
		}
		public, err := keyspec.ParsePublic(r.Spec, k.Public().SPKI())
		if err != nil {
			t.Fatal(err)
		}
		verifier := public.(keyspec.Verifier)
		if _, err := signer.Sign("RSASSA_OTHER", keyspec.Raw, []byte("m")); !errors.Is(err, keyspec.ErrAlgorithm) {
			t.Errorf("signing with another algorithm: %v", err)
		}
		for _, algorithm := range r.Signing {
			for _, kind := range []keyspec.MessageType{keyspec.Raw, keyspec.Digest, keyspec.ExternalMu, ""} {
				m := message(algorithm, kind)
				if m == nil {
					if _, err := signer.Sign(algorithm, kind, make([]byte, 64)); !errors.Is(err, keyspec.ErrAlgorithm) {
						t.Errorf("%s of %q: %v", algorithm, kind, err)
					}
					continue
				}
				sig, err := signer.Sign(algorithm, kind, m)
				size := signatureSizes[r.Spec]
				if err != nil || len(sig) > size.most || size.fixed && len(sig) != size.most {
					t.Fatalf("%s of %s: %d octets, %v", algorithm, kind, len(sig), err)
				}
				if !verifier.Verify(algorithm, kind, m, sig) {
					t.Errorf("%s of %s does not verify", algorithm, kind)
				}
				altered := slices.Clone(m)
				altered[0] ^= 1
				if verifier.Verify(algorithm, kind, altered, sig) || verifier.Verify(algorithm, kind, m, sig[1:]) || verifier.Verify("OTHER", kind, m, sig) || verifier.Verify(algorithm, "OTHER", m, sig) {
					t.Errorf("%s of %s verifies what was not signed", algorithm, kind)
				}
				if kind != keyspec.Raw {
					if verifier.Verify(algorithm, kind, m[1:], sig) {
						t.Errorf("%s of %s of another length verifies", algorithm, kind)
					}
					if _, err := signer.Sign(algorithm, kind, m[1:]); !errors.Is(err, keyspec.ErrSize) {
						t.Errorf("%s of %s of another length: %v", algorithm, kind, err)
					}
				}
			}
		}
	})
}

func TestEncryption(t *testing.T) {
	each(t, func(t *testing.T, r *keyspec.Row, k keyspec.Private) {
		decrypter, ok := k.(keyspec.Decrypter)
		if !ok {
			if len(r.Encryption) > 0 && r.Spec != key.SymmetricDefault {
				t.Fatal("cannot decrypt")
			}
			return
		}
		encrypter := k.Public().(keyspec.Encrypter)
		if _, err := encrypter.Encrypt("OTHER", []byte("m")); !errors.Is(err, keyspec.ErrAlgorithm) {
			t.Errorf("encrypting with another algorithm: %v", err)
		}
		if _, err := decrypter.Decrypt("OTHER", []byte("m")); !errors.Is(err, keyspec.ErrAlgorithm) {
			t.Errorf("decrypting with another algorithm: %v", err)
		}
		for _, algorithm := range r.Encryption {
			most := keyspec.MaxPlaintext(r.Spec, algorithm)
			plaintext := make([]byte, 4096)
			if most > 0 {
				plaintext = plaintext[:most]
			}
			_, _ = rand.Read(plaintext)
			ciphertext, err := encrypter.Encrypt(algorithm, plaintext)
			if size := keyspec.CiphertextSize(r.Spec); err != nil || size != 0 && len(ciphertext) != size {
				t.Fatalf("%s: %d octets, %v", algorithm, len(ciphertext), err)
			}
			got, err := decrypter.Decrypt(algorithm, ciphertext)
			if err != nil || !bytes.Equal(got.Expose(), plaintext) {
				t.Errorf("%s: %v", algorithm, err)
			}
			if most > 0 {
				if _, err := encrypter.Encrypt(algorithm, make([]byte, most+1)); !errors.Is(err, keyspec.ErrSize) {
					t.Errorf("%s of too much: %v", algorithm, err)
				}
			}
			altered := slices.Clone(ciphertext)
			altered[len(altered)-1] ^= 1
			for _, bad := range [][]byte{nil, altered, ciphertext[1:], append(slices.Clone(ciphertext), 0)} {
				if _, err := decrypter.Decrypt(algorithm, bad); !errors.Is(err, keyspec.ErrDecrypt) {
					t.Errorf("%s of %d octets: %v", algorithm, len(bad), err)
				}
			}
		}
	})
}

// The limits are those of the API reference, operation Encrypt.
func TestPlaintextLimits(t *testing.T) {
	for s, want := range map[key.Spec][2]int{keyspec.RSA2048: {214, 190}, keyspec.RSA3072: {342, 318}, keyspec.RSA4096: {470, 446}} {
		if got := [2]int{keyspec.MaxPlaintext(s, "RSAES_OAEP_SHA_1"), keyspec.MaxPlaintext(s, "RSAES_OAEP_SHA_256")}; got != want {
			t.Errorf("%s: %v, want %v", s, got, want)
		}
	}
	if keyspec.MaxPlaintext(key.SymmetricDefault, "SYMMETRIC_DEFAULT") != 0 {
		t.Error("SYMMETRIC_DEFAULT has a limit")
	}
}

func TestMAC(t *testing.T) {
	each(t, func(t *testing.T, r *keyspec.Row, k keyspec.Private) {
		authenticator, ok := k.(keyspec.Authenticator)
		if ok != (len(r.MAC) > 0) {
			t.Fatalf("an authenticator: %v", ok)
		}
		for _, algorithm := range r.MAC {
			mac, err := authenticator.MAC(algorithm, []byte("m"))
			if err != nil || len(mac) != macSizes[algorithm] {
				t.Errorf("%d octets, %v", len(mac), err)
			}
			if _, err := authenticator.MAC("HMAC_OTHER", nil); !errors.Is(err, keyspec.ErrAlgorithm) {
				t.Error(err)
			}
			block := 64
			if len(mac) > 32 {
				block = 128
			}
			for n, good := range map[int]bool{len(mac) - 1: false, len(mac): true, block: true, block + 1: false} {
				if _, err := keyspec.Parse(r.Spec, make([]byte, n)); (err == nil) != good {
					t.Errorf("%d octets of material: %v", n, err)
				}
			}
		}
	})
}

func TestAgreement(t *testing.T) {
	var other keyspec.Private
	each(t, func(t *testing.T, r *keyspec.Row, k keyspec.Private) {
		if len(r.Agreement) == 0 {
			return
		}
		peer, err := keyspec.Generate(r.Spec)
		if err != nil {
			t.Fatal(err)
		}
		ours, err := k.(keyspec.Agreer).Agree(peer.Public().SPKI())
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := peer.(keyspec.Agreer).Agree(k.Public().SPKI())
		if err != nil || !ours.Equal(theirs) {
			t.Errorf("the two differ: %v", err)
		}
		off := slices.Clone(peer.Public().SPKI())
		off[len(off)-1] ^= 1
		bad := [][]byte{nil, off, off[1:], append(slices.Clone(peer.Public().SPKI()), 0)}
		if other != nil {
			bad = append(bad, other.Public().SPKI())
		}
		for _, spki := range bad {
			if _, err := k.(keyspec.Agreer).Agree(spki); !errors.Is(err, keyspec.ErrPeer) {
				t.Errorf("a bad peer: %v", err)
			}
		}
		other = k
	})
}

func TestEncapsulation(t *testing.T) {
	sizes := map[key.Spec]int{keyspec.MLKEM512: 768, keyspec.MLKEM768: 1088, keyspec.MLKEM1024: 1568}
	each(t, func(t *testing.T, r *keyspec.Row, k keyspec.Private) {
		if len(r.Encapsulation) == 0 {
			return
		}
		public, err := keyspec.ParsePublic(r.Spec, k.Public().SPKI())
		if err != nil {
			t.Fatal(err)
		}
		shared, ciphertext, err := public.(keyspec.Encapsulator).Encapsulate()
		if err != nil || shared.Len() != 32 || len(ciphertext) != sizes[r.Spec] || len(ciphertext) != keyspec.CiphertextSize(r.Spec) {
			t.Fatalf("a secret of %d octets, a ciphertext of %d: %v", shared.Len(), len(ciphertext), err)
		}
		decapsulator := k.(keyspec.Decapsulator)
		got, err := decapsulator.Decapsulate(ciphertext)
		if err != nil || !got.Equal(shared) {
			t.Errorf("decapsulating: %v", err)
		}
		ciphertext[7] ^= 1
		rejected, err := decapsulator.Decapsulate(ciphertext)
		if err != nil || rejected.Len() != 32 || rejected.Equal(shared) {
			t.Errorf("an altered ciphertext: %v", err)
		}
		if again, _ := decapsulator.Decapsulate(ciphertext); !again.Equal(rejected) {
			t.Error("the secret of an altered ciphertext is not always the same")
		}
		for _, bad := range [][]byte{nil, ciphertext[1:], append(slices.Clone(ciphertext), 0)} {
			if _, err := decapsulator.Decapsulate(bad); !errors.Is(err, keyspec.ErrCiphertextSize) {
				t.Errorf("%d octets: %v", len(bad), err)
			}
		}
	})
}

// What SM2PKE makes of the shortest plaintext can be opened, whatever octet it becomes.
func TestShortestPlaintext(t *testing.T) {
	k := generated(t, keyspec.SM2)
	for range 4000 { // of which some 30 would meet one of the faults, and not open
		blob, err := k.Public().(keyspec.Encrypter).Encrypt(keyspec.AlgorithmSM2PKE, []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := k.(keyspec.Decrypter).Decrypt(keyspec.AlgorithmSM2PKE, blob); err != nil || string(got.Expose()) != "x" {
			t.Fatalf("%x opens to %v", blob, err)
		}
	}
}
