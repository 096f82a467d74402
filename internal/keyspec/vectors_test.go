package keyspec_test

import (
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/mlkem"
	"crypto/mlkem/mlkemtest"
	"crypto/rsa"
	"crypto/sha3"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cloudflare/circl/kem/mlkem/mlkem512"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
)

// TestVectors runs the published vectors of every primitive. Run it with -v: the counts are printed. A count that changes
// fails: vectors that vanish from their modules, or are skipped for a new reason, are noticed.
func TestVectors(t *testing.T) {
	if testing.Short() {
		t.Skip("nothing here runs at the same time as anything else: the long run has it")
	}
	total, skipped := 0, 0
	for _, suite := range []struct {
		name    string
		run     func(t *testing.T, c *tally)
		want    int
		skipped int
	}{
		{"RSA OAEP", oaepVectors, 134, 408},
		{"RSA PSS", pssVectors, 788, 147},
		{"RSA PSS, other salts", otherSaltVectors, 193, 87},
		{"RSA PKCS #1, verify", pkcs1Vectors, 2325, 5},
		{"RSA PKCS #1, sign", pkcs1SignVectors, 72, 21},
		{"RSA, three primes", threePrimesVectors, 3, 107},
		{"ECDSA", ecdsaVectors, 2006, 0},
		{"ECDH", ecdhVectors, 2575, 0},
		{"Ed25519", ed25519Vectors, 151, 0},
		{"Ed25519, reference", ed25519Reference, 128, 0},
		{"RFC 8032", rfc8032Vectors, 4, 0},
		{"HMAC", hmacVectors, 330, 364},
		{"SM2, GB/T 32918.5", sm2Vectors, 2, 0},
		{"AES-GCM", gcmVectors, 197, 119},
		{"ML-DSA, verify", mldsaVectors, 631, 0},
		{"ML-DSA, sign", mldsaSignVectors, 492, 15},
		{"ML-DSA, NIST ACVP", mldsaACVP, 180, 0},
		{"ML-KEM", mlkemVectors, 603, 27},
		{"ML-KEM, encapsulate", mlkemEncapsulateVectors, 795, 0},
		{"ML-KEM, key generation", mlkemKeyVectors, 300, 0},
		{"ML-KEM, NIST ACVP", mlkemACVP, 150, 30},
	} {
		c := &tally{name: suite.name}
		t.Run(suite.name, func(t *testing.T) { suite.run(t, c) })
		t.Log(c)
		left := 0
		for _, n := range c.skipped {
			left += n
		}
		if c.run != suite.want || left != suite.skipped {
			t.Errorf("%s: %d vectors and %d skipped, not %d and %d", suite.name, c.run, left, suite.want, suite.skipped)
		}
		total, skipped = total+c.run, skipped+left
	}
	t.Logf("%d published vectors run, %d skipped", total, skipped)
}

const (
	otherModulus  = "modulus of a size that no key spec has"
	otherHash     = "hash that no algorithm has"
	otherExponent = "public exponent under 65537"
	labelled      = "label that is not empty"
	otherSalt     = "salt of another length than the hash"
)

var (
	rsaSpecs   = map[int]key.Spec{2048: keyspec.RSA2048, 3072: keyspec.RSA3072, 4096: keyspec.RSA4096}
	oaepBySHA  = map[string]string{"SHA-1": "RSAES_OAEP_SHA_1", "SHA-256": "RSAES_OAEP_SHA_256"}
	pssBySHA   = map[string]string{"SHA-256": "RSASSA_PSS_SHA_256", "SHA-384": "RSASSA_PSS_SHA_384", "SHA-512": "RSASSA_PSS_SHA_512"}
	pkcs1BySHA = map[string]string{"SHA-256": "RSASSA_PKCS1_V1_5_SHA_256", "SHA-384": "RSASSA_PKCS1_V1_5_SHA_384", "SHA-512": "RSASSA_PKCS1_V1_5_SHA_512"}
	hashSizes  = map[string]int{"SHA-1": 20, "SHA-224": 28, "SHA-256": 32, "SHA-384": 48, "SHA-512": 64}
)

// parsed reads the private key of a group once for all its tests.
func parsed(t *testing.T, s key.Spec, octets []byte) keyspec.Private {
	t.Helper()
	k, err := keyspec.Parse(s, octets)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return k
}

func oaepVectors(t *testing.T, c *tally) {
	keys := map[*group]keyspec.Private{}
	try := func(t *testing.T, g *group, v *vector) (bool, string) {
		s, algorithm := rsaSpecs[g.KeySize], oaepBySHA[g.Sha]
		switch {
		case s == "":
			return false, otherModulus
		case algorithm == "" || g.MgfSha != g.Sha:
			return false, otherHash
		case len(v.Label) > 0:
			return false, labelled
		}
		if keys[g] == nil {
			keys[g] = parsed(t, s, g.PrivateKeyPkcs8)
		}
		got, err := keys[g].(keyspec.Decrypter).Decrypt(algorithm, v.Ct)
		if err == nil && !bytes.Equal(got.Expose(), v.Msg) {
			t.Errorf("%d: another plaintext", v.TcID)
		}
		return err == nil, ""
	}
	wycheproofFiles(t, c, try, "rsa_oaep_2048_sha1_mgf1sha1", "rsa_oaep_2048_sha256_mgf1sha256", "rsa_oaep_3072_sha256_mgf1sha256",
		"rsa_oaep_4096_sha256_mgf1sha256", "rsa_oaep_misc")
}

// verified checks a signature with the public key of its group, through the message and through its digest.
func verified(t *testing.T, s key.Spec, g *group, v *vector, algorithm string) (bool, error) {
	public, err := keyspec.ParsePublic(s, g.PublicKeyDer)
	if err != nil {
		return false, err
	}
	verifier := public.(keyspec.Verifier)
	raw := verifier.Verify(algorithm, keyspec.Raw, v.Msg, v.Sig)
	if n := keyspec.DigestSize(algorithm); n > 0 && algorithm != "SM2DSA" {
		h := map[int]crypto.Hash{32: crypto.SHA256, 48: crypto.SHA384, 64: crypto.SHA512}[n].New()
		h.Write(v.Msg)
		if verifier.Verify(algorithm, keyspec.Digest, h.Sum(nil), v.Sig) != raw {
			t.Errorf("%d: the digest and the message differ", v.TcID)
		}
	}
	return raw, nil
}

func rsaVerify(algorithms map[string]string) check {
	return func(t *testing.T, g *group, v *vector) (bool, string) {
		s, algorithm := rsaSpecs[g.KeySize], algorithms[g.Sha]
		switch {
		case s == "":
			return false, otherModulus
		case algorithm == "" || g.MgfSha != "" && g.MgfSha != g.Sha:
			return false, otherHash
		case g.MgfSha != "" && g.SLen != hashSizes[g.Sha]:
			return false, otherSalt
		}
		good, err := verified(t, s, g, v, algorithm)
		if err != nil {
			k, failed := x509.ParsePKIXPublicKey(g.PublicKeyDer)
			if failed != nil || k.(*rsa.PublicKey).E >= 65537 {
				t.Fatal(err)
			}
			return false, otherExponent
		}
		return good, ""
	}
}

func pssVectors(t *testing.T, c *tally) {
	wycheproofFiles(t, c, rsaVerify(pssBySHA), "rsa_pss_2048_sha256_mgf1_32", "rsa_pss_2048_sha384_mgf1_48", "rsa_pss_3072_sha256_mgf1_32",
		"rsa_pss_4096_sha256_mgf1_32", "rsa_pss_4096_sha384_mgf1_48", "rsa_pss_4096_sha512_mgf1_64", "rsa_pss_misc")
}

// otherSaltVectors has signatures whose salt is not as long as the hash: none of them may verify here.
func otherSaltVectors(t *testing.T, c *tally) {
	try := func(t *testing.T, g *group, v *vector) (bool, string) {
		if v.Result != "valid" {
			return false, "not valid with its own salt length either"
		}
		good, err := verified(t, rsaSpecs[g.KeySize], g, v, pssBySHA[g.Sha])
		if err != nil {
			t.Fatal(err)
		}
		return !good, ""
	}
	wycheproofFiles(t, c, try, "rsa_pss_2048_sha256_mgf1_0", "rsa_pss_4096_sha512_mgf1_32")
}

func pkcs1Vectors(t *testing.T, c *tally) {
	wycheproofFiles(t, c, rsaVerify(pkcs1BySHA), "rsa_signature_2048_sha256", "rsa_signature_2048_sha384", "rsa_signature_2048_sha512",
		"rsa_signature_3072_sha256", "rsa_signature_3072_sha384", "rsa_signature_3072_sha512",
		"rsa_signature_4096_sha256", "rsa_signature_4096_sha384", "rsa_signature_4096_sha512")
}

func pkcs1SignVectors(t *testing.T, c *tally) {
	keys := map[*group]keyspec.Private{}
	try := func(t *testing.T, g *group, v *vector) (bool, string) {
		algorithm := pkcs1BySHA[g.Sha]
		if algorithm == "" {
			return false, otherHash
		}
		if k, err := x509.ParsePKCS8PrivateKey(g.PrivateKeyPkcs8); err == nil && k.(*rsa.PrivateKey).E < 65537 {
			return false, otherExponent
		}
		if keys[g] == nil {
			keys[g] = parsed(t, rsaSpecs[g.KeySize], g.PrivateKeyPkcs8)
		}
		got, err := keys[g].(keyspec.Signer).Sign(algorithm, keyspec.Raw, v.Msg)
		return err == nil && bytes.Equal(got, v.Sig), ""
	}
	wycheproofFiles(t, c, try, "rsa_pkcs1_2048_sig_gen", "rsa_pkcs1_3072_sig_gen", "rsa_pkcs1_4096_sig_gen")
}

// threePrimesVectors has keys of three primes, which are refused: the standard library does not use them in its module.
func threePrimesVectors(t *testing.T, c *tally) {
	try := func(_ *testing.T, g *group, v *vector) (bool, string) {
		if v != g.Tests[0] {
			return false, "key that was refused"
		}
		_, err := keyspec.Parse(rsaSpecs[g.KeySize], g.PrivateKeyPkcs8)
		return err != nil, ""
	}
	wycheproofFiles(t, c, try, "rsa_three_primes_oaep_2048_sha1_mgf1sha1", "rsa_three_primes_oaep_3072_sha224_mgf1sha224",
		"rsa_three_primes_oaep_4096_sha256_mgf1sha256")
}

func ecdsaVectors(t *testing.T, c *tally) {
	for _, f := range []struct {
		spec            key.Spec
		algorithm, file string
	}{
		{keyspec.P256, "ECDSA_SHA_256", "ecdsa_secp256r1_sha256"},
		{keyspec.P384, "ECDSA_SHA_384", "ecdsa_secp384r1_sha384"},
		{keyspec.P521, "ECDSA_SHA_512", "ecdsa_secp521r1_sha512"},
		{keyspec.P256K1, "ECDSA_SHA_256", "ecdsa_secp256k1_sha256"},
	} {
		wycheproofFiles(t, c, func(t *testing.T, g *group, v *vector) (bool, string) {
			good, err := verified(t, f.spec, g, v, f.algorithm)
			if err != nil {
				t.Fatalf("%s: %v", f.file, err)
			}
			return good, ""
		}, f.file)
	}
}

func ecdhVectors(t *testing.T, c *tally) {
	for _, f := range []struct {
		spec  key.Spec
		curve ecdh.Curve
		size  int
		file  string
	}{
		{keyspec.P256, ecdh.P256(), 32, "ecdh_secp256r1"},
		{keyspec.P384, ecdh.P384(), 48, "ecdh_secp384r1"},
		{keyspec.P521, ecdh.P521(), 66, "ecdh_secp521r1"},
	} {
		wycheproofFiles(t, c, func(t *testing.T, _ *group, v *vector) (bool, string) {
			scalar := append(make([]byte, f.size), v.Private...)
			private, err := f.curve.NewPrivateKey(scalar[len(scalar)-f.size:])
			if err != nil {
				t.Fatalf("%d: %v", v.TcID, err)
			}
			der, err := x509.MarshalPKCS8PrivateKey(private)
			if err != nil {
				t.Fatal(err)
			}
			got, err := parsed(t, f.spec, der).(keyspec.Agreer).Agree(v.Public)
			if err == nil && !bytes.Equal(got.Expose(), v.Shared) {
				t.Errorf("%d: another secret", v.TcID)
			}
			return err == nil, ""
		}, f.file)
	}
}

func ed25519Vectors(t *testing.T, c *tally) {
	wycheproofFiles(t, c, func(t *testing.T, g *group, v *vector) (bool, string) {
		good, err := verified(t, keyspec.Ed25519, g, v, "ED25519_SHA_512")
		if err != nil {
			t.Fatal(err)
		}
		return good, ""
	}, "ed25519")
}

// ed25519Seed returns the key of a seed.
func ed25519Seed(t *testing.T, seed []byte) keyspec.Private {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(seed))
	if err != nil {
		t.Fatal(err)
	}
	return parsed(t, keyspec.Ed25519, der)
}

// ed25519Reference runs sign.input of the authors of Ed25519 (ed25519.cr.yp.to), which the standard library's tests have.
// Each line has the seed and public key, the public key, the signature and message, and the message.
func ed25519Reference(t *testing.T, c *tally) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	text := gunzip(t, filepath.Join(strings.TrimSpace(string(root)), "src/crypto/ed25519/testdata/sign.input.gz"))
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(line, ":")
		k, want := ed25519Seed(t, unhex(t, fields[0])[:32]), unhex(t, fields[3])[:64]
		message := unhex(t, fields[2])
		got, err := k.(keyspec.Signer).Sign("ED25519_SHA_512", keyspec.Raw, message)
		if err != nil || !bytes.Equal(got, want) || !bytes.HasSuffix(k.Public().SPKI(), unhex(t, fields[1])) {
			t.Errorf("message of %d octets: %x, %v", len(message), got, err)
		}
		c.run++
	}
}

// rfc8032Vectors runs tests 1 to 3 of RFC 8032, 7.1, and the one of 7.3. The message of the latter is no digest, as the API's
// are: it shows what the primitive is given.
func rfc8032Vectors(t *testing.T, c *tally) {
	for _, v := range []struct{ seed, public, message, signature string }{
		{
			"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
			"e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
		},
		{
			"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
			"92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
		},
		{
			"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7", "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
			"6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
		},
	} {
		k := ed25519Seed(t, unhex(t, v.seed))
		got, err := k.(keyspec.Signer).Sign("ED25519_SHA_512", keyspec.Raw, unhex(t, v.message))
		if err != nil || hex.EncodeToString(got) != v.signature || !bytes.HasSuffix(k.Public().SPKI(), unhex(t, v.public)) {
			t.Errorf("%s: %x, %v", v.message, got, err)
		}
		c.run++
	}
	seed := unhex(t, "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42")
	options := &ed25519.Options{Hash: crypto.SHA512}
	bare := ed25519.NewKeyFromSeed(seed)
	sum := sha512.Sum512([]byte("abc"))
	got, err := bare.Sign(nil, sum[:], options)
	if want := "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae4131f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406"; err != nil || hex.EncodeToString(got) != want {
		t.Errorf("Ed25519ph: %x, %v", got, err)
	}
	c.run++
	again := sha512.Sum512(sum[:])
	want, err := bare.Sign(nil, again[:], options)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := ed25519Seed(t, seed).(keyspec.Signer).Sign("ED25519_PH_SHA_512", keyspec.Digest, sum[:])
	if err != nil || !bytes.Equal(ours, want) {
		t.Errorf("the digest is not the message of Ed25519ph: %v", err)
	}
}

func hmacVectors(t *testing.T, c *tally) {
	for _, f := range []struct {
		spec            key.Spec
		algorithm, file string
		size            int
	}{
		{keyspec.HMACSHA224, "HMAC_SHA_224", "hmac_sha224", 28},
		{keyspec.HMACSHA256, "HMAC_SHA_256", "hmac_sha256", 32},
		{keyspec.HMACSHA384, "HMAC_SHA_384", "hmac_sha384", 48},
		{keyspec.HMACSHA512, "HMAC_SHA_512", "hmac_sha512", 64},
	} {
		wycheproofFiles(t, c, func(_ *testing.T, g *group, v *vector) (bool, string) {
			if g.TagSize != 8*f.size {
				return false, "truncated code"
			}
			k, err := keyspec.Parse(f.spec, v.Key)
			if err != nil {
				return false, "key of a length that is not imported"
			}
			got, err := k.(keyspec.Authenticator).MAC(f.algorithm, v.Msg)
			return err == nil && bytes.Equal(got, v.Tag), ""
		}, f.file)
	}
}

// sm2Vectors runs the examples of GB/T 32918.5, annexes A and C, on the recommended curve and with the default user id.
func sm2Vectors(t *testing.T, c *tally) {
	const scalar = "3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8"
	k := parsed(t, keyspec.SM2, inPKCS8(t, oidEC, asn1.ObjectIdentifier{1, 2, 156, 10197, 1, 301}, der(t, ecPrivate{Version: 1, Scalar: unhex(t, scalar)})))
	number := func(digits string) *big.Int { return new(big.Int).SetBytes(unhex(t, digits)) }
	signature := der(t, struct{ R, S *big.Int }{
		number("f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3"),
		number("b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa"),
	})
	if !k.Public().(keyspec.Verifier).Verify("SM2DSA", keyspec.Raw, []byte("message digest"), signature) {
		t.Error("the signature does not verify")
	}
	c.run++
	ciphertext := der(t, struct {
		X, Y *big.Int
		Hash []byte
		Text []byte
	}{
		number("04ebfc718e8d1798620432268e77feb6415e2ede0e073c0f4f640ecd2e149a73"),
		number("e858f9d81e5430a57b36daab8f950a3c64e6ee6a63094d99283aff767e124df0"),
		unhex(t, "59983c18f809e262923c53aec295d30383b54e39d609d160afcb1908d0bd8766"),
		unhex(t, "21886ca989ca9c7d58087307ca93092d651efa"),
	})
	if got, err := k.(keyspec.Decrypter).Decrypt("SM2PKE", ciphertext); err != nil || string(got.Expose()) != "encryption standard" {
		t.Errorf("the ciphertext does not decrypt: %v", err)
	}
	c.run++
}

// gcmVectors opens with the mode that the service opens ciphertexts with: a nonce before the ciphertext, always 96 bits.
func gcmVectors(t *testing.T, c *tally) {
	wycheproofFiles(t, c, func(t *testing.T, g *group, v *vector) (bool, string) {
		if g.IvSize != 96 || g.TagSize != 128 {
			return false, "nonce that is not of 96 bits"
		}
		block, err := aes.NewCipher(v.Key)
		if err != nil {
			t.Fatal(err)
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			t.Fatal(err)
		}
		got, err := aead.Open(nil, nil, slices.Concat(v.Iv, v.Ct, v.Tag), v.Aad)
		if err == nil && !bytes.Equal(got, v.Msg) {
			t.Errorf("%d: another plaintext", v.TcID)
		}
		return err == nil, ""
	}, "aes_gcm")
}

var (
	mldsaSpecs = []key.Spec{keyspec.MLDSA44, keyspec.MLDSA65, keyspec.MLDSA87}
	mlkemSpecs = []key.Spec{keyspec.MLKEM512, keyspec.MLKEM768, keyspec.MLKEM1024}
	numbers    = map[key.Spec]string{
		keyspec.MLDSA44: "44", keyspec.MLDSA65: "65", keyspec.MLDSA87: "87",
		keyspec.MLKEM512: "512", keyspec.MLKEM768: "768", keyspec.MLKEM1024: "1024",
	}
)

// spkiOf returns the SubjectPublicKeyInfo of a raw public key, with the header of a good key of the spec.
func spkiOf(t *testing.T, s key.Spec, raw []byte) []byte {
	t.Helper()
	number := map[key.Spec]byte{keyspec.MLDSA44: 17, keyspec.MLDSA65: 18, keyspec.MLDSA87: 19, keyspec.MLKEM512: 1, keyspec.MLKEM768: 2, keyspec.MLKEM1024: 3}[s]
	family := byte(3)
	if strings.HasPrefix(string(s), "ML_KEM") {
		family = 4
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes([]byte{0x60, 0x86, 0x48, 1, 0x65, 3, 4, family, number}) })
		})
		b.AddASN1BitString(raw)
	})
	return b.BytesOrPanic()
}

// pkcs8Of returns a PKCS#8 key with a private key of the caller's.
func pkcs8Of(t *testing.T, s key.Spec, private func(*cryptobyte.Builder)) []byte {
	t.Helper()
	spki := cryptobyte.String(spkiOf(t, s, nil))
	var outer, id cryptobyte.String
	if !spki.ReadASN1(&outer, cbasn1.SEQUENCE) || !outer.ReadASN1Element(&id, cbasn1.SEQUENCE) {
		t.Fatal("no algorithm")
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(0)
		b.AddBytes(id)
		b.AddASN1(cbasn1.OCTET_STRING, private)
	})
	return b.BytesOrPanic()
}

// seedOf returns the PKCS#8 form of a seed.
func seedOf(t *testing.T, s key.Spec, seed []byte) []byte {
	t.Helper()
	return pkcs8Of(t, s, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.Tag(0).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(seed) })
	})
}

// bothOf returns the PKCS#8 form of a seed and its expanded key.
func bothOf(t *testing.T, s key.Spec, seed, expanded []byte) []byte {
	t.Helper()
	return pkcs8Of(t, s, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1OctetString(seed)
			b.AddASN1OctetString(expanded)
		})
	})
}

// mu computes the message representative of FIPS 204, algorithm 7, of what follows the hash of the public key.
func mu(public []byte, parts ...[]byte) []byte {
	tr, h := make([]byte, 64), sha3.NewSHAKE256()
	_, _ = h.Write(public)
	_, _ = h.Read(tr)
	h.Reset()
	_, _ = h.Write(tr)
	for _, p := range parts {
		_, _ = h.Write(p)
	}
	_, _ = h.Read(tr)
	return tr
}

// mldsaVerified verifies a signature over the message, if its context is empty, and in any case over its mu.
func mldsaVerified(t *testing.T, s key.Spec, raw []byte, v *vector) bool {
	t.Helper()
	public, err := keyspec.ParsePublic(s, spkiOf(t, s, raw))
	if err != nil || len(v.Ctx) > 255 {
		return false
	}
	representative := []byte(v.Mu)
	if v.Mu == nil {
		representative = mu(raw, []byte{0, byte(len(v.Ctx))}, v.Ctx, v.Msg)
	}
	verifier := public.(keyspec.Verifier)
	good := verifier.Verify("ML_DSA_SHAKE_256", keyspec.ExternalMu, representative, v.Sig)
	if v.Msg != nil && len(v.Ctx) == 0 && verifier.Verify("ML_DSA_SHAKE_256", keyspec.Raw, v.Msg, v.Sig) != good {
		t.Errorf("%s, %d: the message and its mu differ", s, v.TcID)
	}
	return good
}

func mldsaVectors(t *testing.T, c *tally) {
	for _, s := range mldsaSpecs {
		wycheproofFiles(t, c, func(t *testing.T, g *group, v *vector) (bool, string) {
			return mldsaVerified(t, s, g.PublicKey, v), ""
		}, "mldsa_"+numbers[s]+"_verify")
	}
}

// mldsaSignVectors checks keys and signatures of the deterministic variant, which the service does not make: the key has the
// public key that the group says, it verifies the published signature, and one of its own.
func mldsaSignVectors(t *testing.T, c *tally) {
	for _, s := range mldsaSpecs {
		wycheproofFiles(t, c, func(t *testing.T, g *group, v *vector) (bool, string) {
			k, err := keyspec.Parse(s, seedOf(t, s, g.PrivateSeed))
			if err != nil {
				return false, ""
			}
			if g.PrivateKeyPkcs8 != nil && !bytes.Equal(k.Octets().Expose(), g.PrivateKeyPkcs8) {
				t.Errorf("%s, %d: another PKCS#8 encoding", s, v.TcID)
			}
			if !bytes.Equal(k.Public().SPKI(), spkiOf(t, s, g.PublicKey)) {
				t.Errorf("%s, %d: another public key", s, v.TcID)
			}
			if v.Mu != nil {
				own, err := k.(keyspec.Signer).Sign("ML_DSA_SHAKE_256", keyspec.ExternalMu, v.Mu)
				if err != nil || !k.Public().(keyspec.Verifier).Verify("ML_DSA_SHAKE_256", keyspec.ExternalMu, v.Mu, own) {
					t.Errorf("%s, %d: signing: %v", s, v.TcID, err)
				}
			}
			return mldsaVerified(t, s, g.PublicKey, v), ""
		}, "mldsa_"+numbers[s]+"_sign_seed")
		wycheproofFiles(t, c, func(t *testing.T, g *group, v *vector) (bool, string) {
			if v.Result == "invalid" {
				return false, "private key without its seed, to be refused"
			}
			return mldsaVerified(t, s, g.PublicKey, v), ""
		}, "mldsa_"+numbers[s]+"_sign_noseed")
	}
}

func mlkemVectors(t *testing.T, c *tally) {
	for _, s := range mlkemSpecs {
		wycheproofFiles(t, c, func(t *testing.T, _ *group, v *vector) (bool, string) {
			k, err := keyspec.Parse(s, seedOf(t, s, v.Seed))
			if err != nil {
				return false, ""
			}
			if v.Ek != nil && !bytes.Equal(k.Public().SPKI(), spkiOf(t, s, v.Ek)) {
				t.Errorf("%s, %d: another public key", s, v.TcID)
			}
			got, err := k.(keyspec.Decapsulator).Decapsulate(v.C)
			return err == nil && bytes.Equal(got.Expose(), v.K), ""
		}, "mlkem_"+numbers[s])
		wycheproofFiles(t, c, func(*testing.T, *group, *vector) (bool, string) {
			return false, "private key without its seed"
		}, "mlkem_"+numbers[s]+"_semi_expanded_decaps")
	}
}

// encapsulated is the primitive with its randomness given, which keys of the service never do.
func encapsulated(t *testing.T, s key.Spec, ek, m []byte) (shared, ciphertext []byte) {
	t.Helper()
	var err error
	switch s {
	case keyspec.MLKEM768:
		k, failed := mlkem.NewEncapsulationKey768(ek)
		if failed != nil {
			t.Fatal(failed)
		}
		shared, ciphertext, err = mlkemtest.Encapsulate768(k, m)
	case keyspec.MLKEM1024:
		k, failed := mlkem.NewEncapsulationKey1024(ek)
		if failed != nil {
			t.Fatal(failed)
		}
		shared, ciphertext, err = mlkemtest.Encapsulate1024(k, m)
	default:
		var k mlkem512.PublicKey
		if err := k.Unpack(ek); err != nil {
			t.Fatal(err)
		}
		shared, ciphertext = make([]byte, mlkem512.SharedKeySize), make([]byte, mlkem512.CiphertextSize)
		k.EncapsulateTo(ciphertext, shared, m)
	}
	if err != nil {
		t.Fatal(err)
	}
	return shared, ciphertext
}

func mlkemEncapsulateVectors(t *testing.T, c *tally) {
	for _, s := range mlkemSpecs {
		wycheproofFiles(t, c, func(t *testing.T, _ *group, v *vector) (bool, string) {
			if _, err := keyspec.ParsePublic(s, spkiOf(t, s, v.Ek)); err != nil {
				return false, ""
			}
			if len(v.M) != 32 {
				return false, "randomness of a wrong length"
			}
			shared, ciphertext := encapsulated(t, s, v.Ek, v.M)
			return bytes.Equal(shared, v.K) && bytes.Equal(ciphertext, v.C), ""
		}, "mlkem_"+numbers[s]+"_encaps")
	}
}

func mlkemKeyVectors(t *testing.T, c *tally) {
	for _, s := range mlkemSpecs {
		wycheproofFiles(t, c, func(t *testing.T, _ *group, v *vector) (bool, string) {
			k, err := keyspec.Parse(s, seedOf(t, s, v.Seed))
			return err == nil && bytes.Equal(k.Public().SPKI(), spkiOf(t, s, v.Ek)), ""
		}, "mlkem_"+numbers[s]+"_keygen_seed")
	}
}

func gunzip(t *testing.T, name string) []byte {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
