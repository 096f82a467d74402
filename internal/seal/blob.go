package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"

	"github.com/keywright/keywright/internal/kbkdf"
	"github.com/keywright/keywright/internal/secret"
)

// A blob is what Encrypt returns, and what the wrapped root key and domain keys look like:
//
//	octet     format version: 1
//	uint32    version of the wrapping key, big-endian; 0 when that key has no versions (root key, key-encryption key)
//	16 octets random nonce of the message key
//	12 octets random nonce of AES-GCM
//	n octets  ciphertext
//	16 octets tag
//
// The message key is KBKDF(wrapping key, "keywright message key v1", nonce). The associated data of AES-256-GCM is
// blobAssociatedData: the header, all but the GCM nonce, and what the caller binds.
const (
	blobVersion  = 1
	nonceSize    = 16
	headerSize   = 1 + 4 + nonceSize
	gcmOverhead  = 12 + 16
	blobOverhead = headerSize + gcmOverhead

	messageKeyLabel = "keywright message key v1"
)

// blobAssociatedData binds the header and the caller's associated data, which is as it comes from Associate.
func blobAssociatedData(header, callers []byte) []byte {
	return Associate("keywright blob v1", string(header), string(callers))
}

// wrappingKey makes message keys. It is safe for concurrent use.
type wrappingKey struct{ messages *kbkdf.Deriver }

func newWrappingKey(key []byte) wrappingKey {
	return wrappingKey{kbkdf.NewDeriver(key, messageKeyLabel)}
}

func (k wrappingKey) aead(nonce []byte) cipher.AEAD {
	key := k.messages.Derive(nonce)
	defer clear(key[:])
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // 32 octets are a valid key size
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // AES has the block size that GCM wants
	}
	return aead
}

// seal returns the blob of plaintext.
func (k wrappingKey) seal(version uint32, aad []byte, plaintext secret.Bytes) []byte {
	blob := make([]byte, headerSize, blobOverhead+plaintext.Len())
	blob[0] = blobVersion
	binary.BigEndian.PutUint32(blob[1:], version)
	_, _ = rand.Read(blob[5:]) // never fails: crypto/rand crashes the program instead
	return k.aead(blob[5:]).Seal(blob, nil, plaintext.Expose(), blobAssociatedData(blob, aad))
}

// open returns the plaintext of a blob; its version is the caller's to check first. The error is ErrOpen.
func (k wrappingKey) open(aad, blob []byte) (secret.Bytes, error) {
	if _, ok := parseBlob(blob); !ok {
		return secret.Bytes{}, ErrOpen
	}
	header := blob[:headerSize]
	plaintext, err := k.aead(header[5:]).Open(make([]byte, 0, len(blob)-headerSize), nil, blob[headerSize:],
		blobAssociatedData(header, aad))
	if err != nil {
		return secret.Bytes{}, ErrOpen
	}
	return secret.Take(plaintext), nil
}

// parseBlob checks the form of a blob and returns the version of its wrapping key.
func parseBlob(blob []byte) (version uint32, ok bool) {
	if len(blob) < blobOverhead || blob[0] != blobVersion {
		return 0, false
	}
	return binary.BigEndian.Uint32(blob[1:]), true
}
