package attest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
)

// The answer to an enclave is an EnvelopedData (RFC 5652, section 6) in BER, in just the form in which the service is known to
// write it: clients in enclaves have parsers that understand little else.

// Object identifiers, as contents of OBJECT IDENTIFIER.
var (
	oidData          = oid(1, 2, 840, 113549, 1, 7, 1)
	oidEnvelopedData = oid(1, 2, 840, 113549, 1, 7, 3)
	oidOAEP          = oid(1, 2, 840, 113549, 1, 1, 7)
	oidMGF1          = oid(1, 2, 840, 113549, 1, 1, 8)
	oidSHA256        = oid(2, 16, 840, 1, 101, 3, 4, 2, 1)
	oidAES256CBC     = oid(2, 16, 840, 1, 101, 3, 4, 1, 42)
)

// Tags (X.690).
const (
	tagInteger     = 0x02
	tagOctetString = 0x04
	tagNull        = 0x05
	tagSequence    = 0x30
	tagSet         = 0x31
	tagImplicit0   = 0x80 // [0], primitive
	tagExplicit0   = 0xa0
	tagExplicit1   = 0xa1
)

const envelopeVersion = 2 // of EnvelopedData without attributes, and of a recipient who is known by a key identifier

func oid(n ...int) []byte {
	b, err := asn1.Marshal(asn1.ObjectIdentifier(n))
	if err != nil {
		panic("attest: " + err.Error()) // they are constants
	}
	return b
}

// element encodes an element with a definite length.
func element(tag byte, contents ...[]byte) []byte {
	n := 0
	for _, c := range contents {
		n += len(c)
	}
	b := []byte{tag}
	switch {
	case n < 0x80:
		b = append(b, byte(n))
	case n < 0x100:
		b = append(b, 0x81, byte(n))
	default:
		b = append(b, 0x82, byte(n>>8), byte(n)) // an answer has 6,144 octets at most
	}
	for _, c := range contents {
		b = append(b, c...)
	}
	return b
}

// open encodes an element with an indefinite length.
func open(tag byte, contents ...[]byte) []byte {
	b := []byte{tag, 0x80}
	for _, c := range contents {
		b = append(b, c...)
	}
	return append(b, 0, 0)
}

// maxPlaintext is what fits into an answer (CiphertextForRecipient, 1 to 6,144 octets) for an RSA key of any size.
const maxPlaintext = 4096

// Encrypt encrypts an answer for the key of the document: under a fresh AES-256 key in CBC mode, which is encrypted by
// RSAES-OAEP with SHA-256 (RSAES_OAEP_SHA_256). The answer itself is not authenticated, as the service's is not. A plaintext of
// more than 4,096 octets is an error.
func (d *Document) Encrypt(plaintext []byte) ([]byte, error) {
	if len(plaintext) > maxPlaintext {
		return nil, fmt.Errorf("encrypting for a recipient: %d octets are too many", len(plaintext))
	}
	spki, err := x509.MarshalPKIXPublicKey(d.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("encrypting for a recipient: %w", err)
	}
	var contentKey [32]byte
	var iv [aes.BlockSize]byte
	_, _ = rand.Read(contentKey[:]) // never fails: crypto/rand crashes the program instead
	_, _ = rand.Read(iv[:])
	defer clear(contentKey[:])
	encryptedKey, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, d.PublicKey, contentKey[:], nil)
	if err != nil {
		return nil, fmt.Errorf("encrypting for a recipient: %w", err)
	}
	content, err := encryptCBC(contentKey[:], iv[:], plaintext)
	if err != nil {
		return nil, fmt.Errorf("encrypting for a recipient: %w", err)
	}
	// What the service hashes for the identifier is not known. Enclaves have one key, and do not look.
	keyID := sha256.Sum256(spki)
	return envelope(keyID[:], encryptedKey, iv[:], content), nil
}

// encryptCBC pads with the padding of PKCS #7 (RFC 5652, section 6.3).
func encryptCBC(key, iv, plaintext []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	padding := aes.BlockSize - len(plaintext)%aes.BlockSize
	b := make([]byte, len(plaintext)+padding)
	copy(b, plaintext)
	for i := len(plaintext); i < len(b); i++ {
		b[i] = byte(padding)
	}
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(b, b)
	return b, nil
}

func envelope(keyID, encryptedKey, iv, content []byte) []byte {
	version := element(tagInteger, []byte{envelopeVersion})
	sha := element(tagSequence, oidSHA256, element(tagNull))
	recipient := element(tagSequence, version, element(tagImplicit0, keyID),
		element(tagSequence, oidOAEP, element(tagSequence,
			element(tagExplicit0, sha),
			element(tagExplicit1, element(tagSequence, oidMGF1, sha)),
		)),
		element(tagOctetString, encryptedKey),
	)
	return open(tagSequence, oidEnvelopedData, open(tagExplicit0, open(tagSequence, version, element(tagSet, recipient),
		open(tagSequence, oidData, element(tagSequence, oidAES256CBC, element(tagOctetString, iv)),
			open(tagExplicit0, element(tagOctetString, content)),
		),
	)))
}
