// Package keyspec knows every key spec of the API: which algorithms a key of it has, how its material is made, encoded and
// read, and the primitives that work with it. Nothing else in the house calls a primitive of an asymmetric or HMAC key.
//
// It trusts the standard library and, for what that has not, the four modules that its files name. What it parses comes
// from outside (imported material, public keys of peers) and is never trusted. It asks for no permission: its one user is
// custody, which does. It must never print or log material, nor say why a ciphertext does not decrypt.
package keyspec

import (
	"crypto/fips140"
	"errors"
	"slices"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/secret"
)

// The key specs of the API ("KeySpec" of CreateKey). SYMMETRIC_DEFAULT is key.SymmetricDefault.
const (
	RSA2048    key.Spec = "RSA_2048"
	RSA3072    key.Spec = "RSA_3072"
	RSA4096    key.Spec = "RSA_4096"
	P256       key.Spec = "ECC_NIST_P256"
	P384       key.Spec = "ECC_NIST_P384"
	P521       key.Spec = "ECC_NIST_P521"
	Ed25519    key.Spec = "ECC_NIST_EDWARDS25519"
	P256K1     key.Spec = "ECC_SECG_P256K1"
	SM2        key.Spec = "SM2"
	MLDSA44    key.Spec = "ML_DSA_44"
	MLDSA65    key.Spec = "ML_DSA_65"
	MLDSA87    key.Spec = "ML_DSA_87"
	MLKEM512   key.Spec = "ML_KEM_512"
	MLKEM768   key.Spec = "ML_KEM_768"
	MLKEM1024  key.Spec = "ML_KEM_1024"
	HMACSHA224 key.Spec = "HMAC_224"
	HMACSHA256 key.Spec = "HMAC_256"
	HMACSHA384 key.Spec = "HMAC_384"
	HMACSHA512 key.Spec = "HMAC_512"
)

// The errors of this package. What they mean to a client is for the caller to say.
var (
	// ErrSpec means that there is no such key spec.
	ErrSpec = errors.New("unknown key spec")
	// ErrMaterial means octets that are no key of the spec: malformed, of another kind or size, or not consistent.
	ErrMaterial = errors.New("no key material of this key spec")
	// ErrPublic means octets that are no public key of the spec.
	ErrPublic = errors.New("no public key of this key spec")
	// ErrAlgorithm means an algorithm, or a message type, that keys of the spec do not have.
	ErrAlgorithm = errors.New("the key spec has no such algorithm or message type")
	// ErrSize means a plaintext or a digest of a length that the algorithm does not take.
	ErrSize = errors.New("wrong length for the algorithm")
	// ErrDecrypt is the one answer to every ciphertext that does not decrypt.
	ErrDecrypt = errors.New("the ciphertext does not decrypt")
	// ErrPeer means that the other party's public key is malformed, of another curve or not on it.
	ErrPeer = errors.New("no public key of the same curve")
	// ErrCiphertextSize means a ciphertext whose length does not fit the key spec.
	ErrCiphertextSize = errors.New("wrong length for a ciphertext of this key spec")
)

// MessageType is a MessageType of Sign and Verify: what the message is to the algorithm.
type MessageType string

// The message types. The zero value is refused.
const (
	Raw        MessageType = "RAW"         // the message itself
	Digest     MessageType = "DIGEST"      // its digest, DigestSize octets
	ExternalMu MessageType = "EXTERNAL_MU" // ML-DSA: mu of FIPS 204, 64 octets
)

// Private is a whole key: its secret part, with its public part where it has one. It is safe for concurrent use. What it
// can do besides is found by asserting Signer, Decrypter, Authenticator, Agreer or Decapsulator; a type may have a method
// for an algorithm that its spec has not, and refuses it with ErrAlgorithm.
type Private interface {
	// Octets returns the canonical form of the material, the same for the same key however it was imported: PKCS#8 DER
	// (RFC 5958) of asymmetric keys, the raw octets of others. It is a fresh copy, and the caller's to wipe.
	Octets() secret.Bytes
	// Public returns the public key, nil for keys that have none.
	Public() Public
}

// wiper is a Private whose secrets can be overwritten.
type wiper interface{ wipe() }

// Wipe overwrites the secrets of a key that nobody uses any more, as far as they can be reached: of NIST curves, SM2, ML-DSA
// and ML-KEM they cannot, and the standard library keeps copies of its own of RSA keys.
func Wipe(k Private) {
	if w, ok := k.(wiper); ok {
		w.wipe()
	}
}

// Public is a public key, safe for concurrent use. What it can do is found by asserting Verifier, Encrypter or Encapsulator.
type Public interface {
	// SPKI returns the DER SubjectPublicKeyInfo (RFC 5280), which nobody may change.
	SPKI() []byte
}

// Signer is a Private that signs.
type Signer interface {
	// Sign returns the signature of a message. The error is ErrAlgorithm, ErrSize for a digest of a wrong length, or a
	// failure of the primitive.
	Sign(algorithm string, kind MessageType, message []byte) ([]byte, error)
}

// Verifier is a Public that verifies.
type Verifier interface {
	// Verify reports whether the signature is one of the message. What the key cannot do, it has not signed.
	Verify(algorithm string, kind MessageType, message, signature []byte) bool
}

// Decrypter is a Private that decrypts.
type Decrypter interface {
	// Decrypt returns the plaintext. The error is ErrAlgorithm, or ErrDecrypt whatever is wrong with the ciphertext.
	Decrypt(algorithm string, ciphertext []byte) (secret.Bytes, error)
}

// Encrypter is a Public that encrypts.
type Encrypter interface {
	// Encrypt returns the ciphertext of plaintext. The error is ErrAlgorithm, ErrSize for a plaintext longer than
	// MaxPlaintext, or a failure of the primitive.
	Encrypt(algorithm string, plaintext []byte) ([]byte, error)
}

// Authenticator is a Private that makes message authentication codes. To verify one, make it again.
type Authenticator interface {
	// MAC returns the code of a message at its full length, or ErrAlgorithm.
	MAC(algorithm string, message []byte) ([]byte, error)
}

// Agreer is a Private that agrees on a secret with another party.
type Agreer interface {
	// Agree returns the x coordinate of the shared point, big-endian, at the length of the curve's field, with no
	// derivation after it (SP 800-56A, 5.7.1.2). The error is ErrPeer.
	Agree(peerSPKI []byte) (secret.Bytes, error)
}

// Encapsulator is a Public that makes a secret and its ciphertext.
type Encapsulator interface {
	// Encapsulate returns 32 secret octets, and the ciphertext that the private key gets them from.
	Encapsulate() (shared secret.Bytes, ciphertext []byte, err error)
}

// Decapsulator is a Private that gets the secret back.
type Decapsulator interface {
	// Decapsulate returns the 32 secret octets. A ciphertext that was altered, or made for another key, gives others, with
	// no error (implicit rejection, FIPS 203); one of a wrong length is ErrCiphertextSize.
	Decapsulate(ciphertext []byte) (secret.Bytes, error)
}

// Generate returns a fresh key of the spec, with secrets from crypto/rand. RSA keys take up to seconds: Pool has them ready.
// The error is ErrSpec, or a failure of the primitive.
func Generate(s key.Spec) (Private, error) {
	r := Of(s)
	if r == nil {
		return nil, ErrSpec
	}
	return r.family.generate()
}

// Parse reads material: its canonical octets, or another encoding that import accepts (key-material formats of
// ImportKeyMaterial: PKCS#8 DER, or raw octets). The error is ErrSpec or ErrMaterial.
func Parse(s key.Spec, octets []byte) (Private, error) {
	r := Of(s)
	if r == nil {
		return nil, ErrSpec
	}
	return r.family.parse(octets)
}

// ParsePublic reads the DER SubjectPublicKeyInfo of a key of the spec. The error is ErrSpec or ErrPublic.
func ParsePublic(s key.Spec, spki []byte) (Public, error) {
	r := Of(s)
	if r == nil {
		return nil, ErrSpec
	}
	if r.family.parsePublic == nil {
		return nil, ErrPublic
	}
	return r.family.parsePublic(spki)
}

// Allowed reports whether keys of the spec may be made and used by this process: in FIPS mode (crypto/fips140), only those
// whose primitives are inside the module.
func Allowed(s key.Spec) bool {
	r := Of(s)
	return r != nil && (r.FIPS || !fips140.Enabled())
}

// Row says what may be done with one key spec. Rows and their slices are never changed.
type Row struct {
	Spec   key.Spec
	Usages []key.Usage
	// The algorithms that a key has if its usage is ENCRYPT_DECRYPT, SIGN_VERIFY, GENERATE_VERIFY_MAC, KEY_AGREEMENT or
	// ENCAPSULATE_DECAPSULATE, in the order in which the API lists them.
	Encryption, Signing, MAC, Agreement, Encapsulation []string

	Pair       bool // GenerateDataKeyPair makes pairs of it (DataKeyPairSpec)
	Importable bool // its keys can have the origin EXTERNAL
	Wrapping   bool // it can be a WrappingKeySpec of GetParametersForImport
	FIPS       bool // its primitives are inside the FIPS 140-3 module of the toolchain

	family family
}

// family is how keys of one spec are made and read.
type family struct {
	generate    func() (Private, error)
	parse       func(octets []byte) (Private, error)
	parsePublic func(spki []byte) (Public, error) // nil: keys without a public part
}

// Algorithms returns the algorithms of a key with the spec and usage, nil if the spec has no such usage.
func (r *Row) Algorithms(u key.Usage) []string {
	switch u {
	case key.EncryptDecrypt:
		return r.Encryption
	case key.SignVerify:
		return r.Signing
	case key.MACUsage:
		return r.MAC
	case key.KeyAgreement:
		return r.Agreement
	case key.Encapsulation:
		return r.Encapsulation
	}
	return nil
}

// Of returns the row of a spec, nil if there is none.
func Of(s key.Spec) *Row { return bySpec[s] }

// All returns the rows of all specs, in the order of the API's own list. The caller must not change it.
func All() []*Row { return slices.Clone(rows) }

var bySpec = func() map[key.Spec]*Row {
	m := make(map[key.Spec]*Row, len(rows))
	for _, r := range rows {
		m[r.Spec] = r
	}
	return m
}()
