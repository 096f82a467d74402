package keyspec

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // of RSAES_OAEP_SHA_1
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"math/big"

	"golang.org/x/crypto/cryptobyte"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/secret"
)

// rsaExponent is the public exponent of the keys made here, and the least one that is imported.
const rsaExponent = 65537

var rsaType = keyType{algorithm: oidRSA, null: true}

// oaepHashes has the hash of each encryption algorithm, for the label, which is empty, and for MGF1 (RFC 8017, 7.1).
var oaepHashes = map[string]crypto.Hash{AlgorithmOAEPSHA1: crypto.SHA1, AlgorithmOAEPSHA256: crypto.SHA256}

// rsaDigest is digest for the algorithms of RSA keys alone, and says whether the padding is PSS.
func rsaDigest(algorithm string, kind MessageType, message []byte) (h crypto.Hash, sum []byte, pss bool, err error) {
	switch algorithm {
	case AlgorithmPKCS1SHA256, AlgorithmPKCS1SHA384, AlgorithmPKCS1SHA512:
	case AlgorithmPSSSHA256, AlgorithmPSSSHA384, AlgorithmPSSSHA512:
		pss = true
	default:
		return 0, nil, false, ErrAlgorithm
	}
	h, sum, err = digest(algorithm, kind, message)
	return h, sum, pss, err
}

type rsaKey struct {
	signing   *rsa.PrivateKey
	publicKey *rsaPublic
}

type rsaPublic struct {
	verifying *rsa.PublicKey
	spki      []byte
}

func rsaFamily(bits int) family {
	return family{
		generate: func() (Private, error) {
			k, err := rsa.GenerateKey(rand.Reader, bits)
			if err != nil {
				return nil, err
			}
			if k, err = canonicalRSA(k); err != nil {
				return nil, err
			}
			return newRSA(k), nil
		},
		parse: func(octets []byte) (Private, error) { return parseRSA(octets, bits) },
		parsePublic: func(spki []byte) (Public, error) {
			octets, ok := parseSPKI(rsaType, spki)
			if !ok {
				return nil, ErrPublic
			}
			k, err := x509.ParsePKCS1PublicKey(octets)
			if err != nil || !fitsRSA(k, bits) {
				return nil, ErrPublic
			}
			return &rsaPublic{k, bytes.Clone(spki)}, nil
		},
	}
}

func fitsRSA(k *rsa.PublicKey, bits int) bool { return k.N.BitLen() == bits && k.E >= rsaExponent }

// parseRSA reads a PKCS#8 key. Encodings of one key can differ, in the order of the primes and in the private exponent;
// all of them give the same canonical octets.
func parseRSA(octets []byte, bits int) (Private, error) {
	private, public, err := parsePKCS8(rsaType, octets)
	if err != nil || public != nil {
		return nil, ErrMaterial
	}
	given, err := x509.ParsePKCS1PrivateKey(private) // checks the CRT values and that nothing follows, and refuses weak keys
	if err != nil || !fitsRSA(&given.PublicKey, bits) || len(given.Primes) != 2 {
		return nil, ErrMaterial
	}
	k, err := canonicalRSA(given)
	if err != nil {
		return nil, ErrMaterial
	}
	// Whether p and q are primes is not in the checks before. If they are not, CRT does not give what the public key
	// takes back, and signing, which looks at its own result, fails.
	if _, err := rsa.SignPKCS1v15(nil, k, crypto.SHA256, make([]byte, crypto.SHA256.Size())); err != nil {
		return nil, ErrMaterial
	}
	return newRSA(k), nil
}

// canonicalRSA returns the one form of a key: its larger prime first and its private exponent modulo lcm(p-1, q-1). It takes the
// primes of the given key and wipes the rest of it.
func canonicalRSA(given *rsa.PrivateKey) (*rsa.PrivateKey, error) {
	defer wipeNumbers(given.D, given.Precomputed.Dp, given.Precomputed.Dq, given.Precomputed.Qinv)
	p, q := given.Primes[0], given.Primes[1]
	if p.Cmp(q) < 0 {
		p, q = q, p
	}
	one := big.NewInt(1)
	p1, q1 := new(big.Int).Sub(p, one), new(big.Int).Sub(q, one)
	lambda := new(big.Int).Mul(p1, q1)
	defer wipeNumbers(p1, q1, lambda)
	lambda.Div(lambda, new(big.Int).GCD(nil, nil, p1, q1))
	d := new(big.Int).ModInverse(big.NewInt(int64(given.E)), lambda)
	if d == nil {
		return nil, ErrMaterial
	}
	k := &rsa.PrivateKey{PublicKey: given.PublicKey, D: d, Primes: []*big.Int{p, q}}
	k.Precompute()
	return k, k.Validate()
}

func newRSA(k *rsa.PrivateKey) *rsaKey {
	return &rsaKey{k, &rsaPublic{&k.PublicKey, marshalSPKI(rsaType, x509.MarshalPKCS1PublicKey(&k.PublicKey))}}
}

func (k *rsaKey) Octets() secret.Bytes {
	private := x509.MarshalPKCS1PrivateKey(k.signing)
	defer clear(private)
	return secret.Take(marshalPKCS8(rsaType, func(b *cryptobyte.Builder) { b.AddBytes(private) }))
}

func (k *rsaKey) Public() Public  { return k.publicKey }
func (p *rsaPublic) SPKI() []byte { return p.spki }

// wipe overwrites what can be reached of the key; the standard library keeps copies of its own.
func (k *rsaKey) wipe() {
	wipeNumbers(k.signing.D, k.signing.Precomputed.Dp, k.signing.Precomputed.Dq, k.signing.Precomputed.Qinv)
	wipeNumbers(k.signing.Primes...)
}

// wipeNumbers overwrites numbers, of which some may be nil.
func wipeNumbers(all ...*big.Int) {
	for _, n := range all {
		if n != nil {
			clear(n.Bits())
		}
	}
}

// Sign implements Signer. The salt of PSS is as long as the digest, and MGF1 has the same hash.
func (k *rsaKey) Sign(algorithm string, kind MessageType, message []byte) ([]byte, error) {
	h, sum, pss, err := rsaDigest(algorithm, kind, message)
	switch {
	case err != nil:
		return nil, err
	case pss:
		return rsa.SignPSS(rand.Reader, k.signing, h, sum, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	}
	return rsa.SignPKCS1v15(nil, k.signing, h, sum)
}

// Verify implements Verifier. A PSS signature with a salt of another length than Sign makes is none.
func (p *rsaPublic) Verify(algorithm string, kind MessageType, message, signature []byte) bool {
	h, sum, pss, err := rsaDigest(algorithm, kind, message)
	switch {
	case err != nil:
		return false
	case pss:
		return rsa.VerifyPSS(p.verifying, h, sum, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
	}
	return rsa.VerifyPKCS1v15(p.verifying, h, sum, signature) == nil
}

// Encrypt implements Encrypter.
func (p *rsaPublic) Encrypt(algorithm string, plaintext []byte) ([]byte, error) {
	h, ok := oaepHashes[algorithm]
	switch {
	case !ok:
		return nil, ErrAlgorithm
	case len(plaintext) > oaepLimit(p.verifying.Size(), h):
		return nil, ErrSize
	}
	return rsa.EncryptOAEP(h.New(), rand.Reader, p.verifying, plaintext, nil)
}

// Decrypt implements Decrypter.
func (k *rsaKey) Decrypt(algorithm string, ciphertext []byte) (secret.Bytes, error) {
	h, ok := oaepHashes[algorithm]
	if !ok {
		return secret.Bytes{}, ErrAlgorithm
	}
	if len(ciphertext) != k.signing.Size() { // the primitive would take shorter ones
		return secret.Bytes{}, ErrDecrypt
	}
	plaintext, err := rsa.DecryptOAEP(h.New(), nil, k.signing, ciphertext, nil)
	if err != nil {
		return secret.Bytes{}, ErrDecrypt
	}
	return secret.Take(plaintext), nil
}

func oaepLimit(modulus int, h crypto.Hash) int { return modulus - 2*h.Size() - 2 }

// modulusSizes has the length of the moduli of RSA specs in octets.
var modulusSizes = map[key.Spec]int{RSA2048: 256, RSA3072: 384, RSA4096: 512}

// MaxPlaintext returns how many octets a key of the spec encrypts at most with the algorithm, 0 if the key does not limit
// them.
func MaxPlaintext(s key.Spec, algorithm string) int {
	if s == SM2 && algorithm == AlgorithmSM2PKE {
		return sm2MostPlaintext
	}
	modulus, h := modulusSizes[s], oaepHashes[algorithm]
	if modulus == 0 || h == 0 {
		return 0
	}
	return oaepLimit(modulus, h)
}

// CiphertextSize returns the length of all ciphertexts of the spec in octets, 0 where it varies: RSA ciphertexts have the
// length of the modulus, ML-KEM ciphertexts that of FIPS 203.
func CiphertextSize(s key.Spec) int {
	switch s {
	case MLKEM512:
		return mlkemSet512.ciphertextSize
	case MLKEM768:
		return mlkemSet768.ciphertextSize
	case MLKEM1024:
		return mlkemSet1024.ciphertextSize
	}
	return modulusSizes[s]
}
