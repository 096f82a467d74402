// Package keywrap wraps key material for its way into the service, and takes it out again, with the wrapping algorithms of
// GetParametersForImport.
//
// It trusts keyspec's primitives. What it unwraps comes from outside and is never trusted: whatever comes out is for the
// caller to parse. It must never say why something does not unwrap, nor print what came out.
package keywrap

import (
	"crypto/aes"
	"crypto/rand"
	"errors"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
	"github.com/keywright/keywright/internal/secret"
)

// The wrapping algorithms (AlgorithmSpec of the API). RSAES_PKCS1_V1_5 is not among them: the service gave it up.
const (
	OAEPSHA1      = "RSAES_OAEP_SHA_1"
	OAEPSHA256    = "RSAES_OAEP_SHA_256"
	AESWrapSHA1   = "RSA_AES_KEY_WRAP_SHA_1"
	AESWrapSHA256 = "RSA_AES_KEY_WRAP_SHA_256"
	SM2PKE        = "SM2PKE"
)

// The errors of this package.
var (
	// ErrAlgorithm means that wrapping keys of this spec do not have the algorithm.
	ErrAlgorithm = errors.New("the wrapping key has no such algorithm")
	// ErrUnwrap is the one answer to everything that does not unwrap.
	ErrUnwrap = errors.New("the wrapped key does not unwrap")
	// ErrSize means that the material is longer than the algorithm can wrap, or empty.
	ErrSize = errors.New("the wrapping algorithm takes no material of this length")
)

// encryptions has the encryption algorithm under each wrapping algorithm, and whether it encrypts an AES key, which wraps
// the material, or the material itself.
var encryptions = map[string]struct {
	algorithm string
	twoSteps  bool
}{
	OAEPSHA1:      {keyspec.AlgorithmOAEPSHA1, false},
	OAEPSHA256:    {keyspec.AlgorithmOAEPSHA256, false},
	AESWrapSHA1:   {keyspec.AlgorithmOAEPSHA1, true},
	AESWrapSHA256: {keyspec.AlgorithmOAEPSHA256, true},
	SM2PKE:        {keyspec.AlgorithmSM2PKE, false},
}

// aesKeySize is the length of the AES key of the algorithms with two steps, in octets: no material of the service may
// come under less than AES-256 ("Select a wrapping algorithm", KMS developer guide).
const aesKeySize = 32

// Algorithms returns the wrapping algorithms of a wrapping key spec, nil if it is none.
func Algorithms(s key.Spec) []string {
	r := keyspec.Of(s)
	switch {
	case r == nil || !r.Wrapping:
		return nil
	case s == keyspec.SM2:
		return []string{SM2PKE}
	}
	return []string{OAEPSHA1, OAEPSHA256, AESWrapSHA1, AESWrapSHA256}
}

// Fits reports whether a blob of so many octets can be one that the algorithm made with a wrapping key of the spec. It is
// false for an algorithm that the spec has not.
func Fits(s key.Spec, algorithm string, blob int) bool {
	e, ok := encryptions[algorithm]
	modulus := keyspec.CiphertextSize(s)
	switch {
	case !ok || (algorithm == SM2PKE) != (s == keyspec.SM2):
		return false
	case algorithm == SM2PKE:
		return blob > 0
	case e.twoSteps:
		return modulus > 0 && blob >= modulus+2*semiblock && blob%semiblock == 0
	}
	return modulus > 0 && blob == modulus
}

// Unwrap returns the material in a blob that was wrapped for a wrapping key of the spec. RSA_AES_KEY_WRAP has an AES-256 key, encrypted
// with OAEP at the length of the modulus, and the material in AES-KWP (RFC 5649) after it. The error is ErrAlgorithm or
// ErrUnwrap.
func Unwrap(algorithm string, s key.Spec, wrapping keyspec.Private, blob []byte) (secret.Bytes, error) {
	e, ok := encryptions[algorithm]
	decrypter, can := wrapping.(keyspec.Decrypter)
	if !ok || !can {
		return secret.Bytes{}, ErrAlgorithm
	}
	if !e.twoSteps {
		return decrypt(decrypter, e.algorithm, blob)
	}
	modulus := keyspec.CiphertextSize(s)
	if modulus == 0 {
		return secret.Bytes{}, ErrAlgorithm
	}
	if len(blob) < modulus {
		return secret.Bytes{}, ErrUnwrap
	}
	aesKey, err := decrypt(decrypter, e.algorithm, blob[:modulus])
	if err != nil {
		return secret.Bytes{}, err
	}
	defer aesKey.Wipe()
	if aesKey.Len() != aesKeySize {
		return secret.Bytes{}, ErrUnwrap
	}
	block, err := aes.NewCipher(aesKey.Expose())
	if err != nil {
		return secret.Bytes{}, err
	}
	return unwrapKWP(block, blob[modulus:])
}

func decrypt(d keyspec.Decrypter, algorithm string, ciphertext []byte) (secret.Bytes, error) {
	plaintext, err := d.Decrypt(algorithm, ciphertext)
	switch {
	case errors.Is(err, keyspec.ErrAlgorithm):
		return secret.Bytes{}, ErrAlgorithm
	case err != nil:
		return secret.Bytes{}, ErrUnwrap
	}
	return plaintext, nil
}

// Wrap wraps material for the owner of a wrapping key, as a client does. The error is ErrAlgorithm, ErrSize, or a failure
// of the primitive.
func Wrap(algorithm string, wrapping keyspec.Public, material []byte) ([]byte, error) {
	e, ok := encryptions[algorithm]
	encrypter, can := wrapping.(keyspec.Encrypter)
	if !ok || !can {
		return nil, ErrAlgorithm
	}
	if !e.twoSteps {
		return encrypt(encrypter, e.algorithm, material)
	}
	aesKey := make([]byte, aesKeySize)
	_, _ = rand.Read(aesKey) // never fails: crypto/rand crashes the program instead
	defer clear(aesKey)
	encrypted, err := encrypt(encrypter, e.algorithm, aesKey)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(aesKey)
	if err != nil {
		return nil, err
	}
	wrapped, err := wrapKWP(block, material)
	if err != nil {
		return nil, err
	}
	return append(encrypted, wrapped...), nil
}

func encrypt(e keyspec.Encrypter, algorithm string, plaintext []byte) ([]byte, error) {
	if len(plaintext) == 0 {
		return nil, ErrSize
	}
	ciphertext, err := e.Encrypt(algorithm, plaintext)
	switch {
	case errors.Is(err, keyspec.ErrAlgorithm):
		return nil, ErrAlgorithm
	case errors.Is(err, keyspec.ErrSize):
		return nil, ErrSize
	}
	return ciphertext, err
}
