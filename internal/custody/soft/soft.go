// Package soft is custody in software: key material is made here, wrapped by the installation's domain key for material,
// and opened into this process's memory.
//
// It trusts the barrier that wraps and unwraps. Material is bound to its key by the associated data of the wrapping, so
// that a row that was copied or edited in the store does not open. The package must never write or print material.
package soft

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/ciphertext"
	"github.com/keywright/keywright/internal/custody"
	"github.com/keywright/keywright/internal/kbkdf"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
)

// Engine is the software engine. It has no state but the barrier and the keys that are ready for use.
type Engine struct {
	barrier *seal.Barrier
	pool    *keyspec.Pool
}

// New returns an Engine that wraps material with the barrier, and makes RSA keys when they are asked for.
func New(b *seal.Barrier) *Engine { return &Engine{barrier: b} }

// NewWithPool is New for an engine that takes its RSA keys from a pool, which remains the caller's to close.
func NewWithPool(b *seal.Barrier, pool *keyspec.Pool) *Engine { return &Engine{barrier: b, pool: pool} }

// materialData is the associated data of wrapped material. It names the key without its Region where the key is a
// multi-Region key, because its replicas share the material.
func materialData(k *key.Key, id string) []byte {
	region := string(k.Region)
	if k.MultiRegion {
		region = "*"
	}
	return seal.Associate("keywright material v1", string(k.Account), region, string(k.ID), string(k.Spec), id)
}

// materialID computes a key material id: 256 bits that depend on the key and the octets only, so that the same material
// imported again into the same key has the same id, and that say nothing of the octets. Clients are told ids, so that none may
// be what a client has to ask for: the material of HMAC_256 is an HMAC key itself, and never the key of the HMAC here. Only
// SYMMETRIC_DEFAULT, which makes no MACs, keeps the first form, because ids of it are in ciphertexts.
func materialID(k *key.Key, material secret.Bytes) (string, error) {
	name := string(k.Account) + "/" + string(k.ID)
	if k.Spec == key.SymmetricDefault {
		mac := hmac.New(sha256.New, material.Expose())
		mac.Write([]byte("keywright material id v1\x00" + name))
		return hex.EncodeToString(mac.Sum(nil)), nil
	}
	id, err := hkdf.Key(sha256.New, material.Expose(), []byte("keywright material id v2"), name, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("computing a key material id: %w", err)
	}
	return hex.EncodeToString(id), nil
}

// Pair implements custody.Engine.
func (e *Engine) Pair(ctx context.Context, a arn.Account, s key.Spec) (keyspec.Private, error) {
	if !keyspec.Allowed(s) {
		return nil, fmt.Errorf("key spec %q is not available here", s)
	}
	if e.pool != nil {
		return e.pool.Take(ctx, a, s)
	}
	return keyspec.Generate(s)
}

// Generate implements custody.Engine.
func (e *Engine) Generate(ctx context.Context, k *key.Key) (id string, wrapped, public []byte, err error) {
	made, err := e.Pair(ctx, k.Account, k.Spec)
	if err != nil {
		return "", nil, nil, err
	}
	return e.wrap(k, made)
}

// wrap returns what is stored of material, and wipes it.
func (e *Engine) wrap(k *key.Key, m keyspec.Private) (id string, wrapped, public []byte, err error) {
	defer keyspec.Wipe(m)
	octets := m.Octets()
	defer octets.Wipe()
	if p := m.Public(); p != nil {
		public = p.SPKI()
	}
	if id, err = materialID(k, octets); err != nil {
		return "", nil, nil, err
	}
	wrapped, err = e.barrier.Encrypt(seal.Material, materialData(k, id), octets)
	return id, wrapped, public, err
}

func (e *Engine) unwrap(k *key.Key, m *key.Material) (secret.Bytes, error) {
	material, err := e.barrier.Decrypt(seal.Material, materialData(k, m.ID), m.Wrapped)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("unwrapping key material %s: %w", m.ID, err)
	}
	return material, nil
}

// Open implements custody.Engine.
func (e *Engine) Open(k *key.Key, m *key.Material) (custody.Material, error) {
	if !keyspec.Allowed(k.Spec) {
		return nil, fmt.Errorf("key spec %q is not available here", k.Spec)
	}
	octets, err := e.unwrap(k, m)
	if err != nil {
		return nil, err
	}
	defer octets.Wipe() // what comes out of it has its own copy
	if k.Spec == key.SymmetricDefault && octets.Len() == symmetricSize {
		return &symmetric{kbkdf.NewDeriver(octets.Expose(), messageKeyLabel)}, nil
	}
	opened, err := keyspec.Parse(k.Spec, octets.Expose())
	if err != nil {
		return nil, fmt.Errorf("reading unwrapped key material %s: %w", m.ID, err)
	}
	return opened, nil
}

// Rewrap implements custody.Engine.
func (e *Engine) Rewrap(k *key.Key, m *key.Material) ([]byte, error) {
	if !e.barrier.Stale(seal.Material, m.Wrapped) {
		return m.Wrapped, nil
	}
	material, err := e.unwrap(k, m)
	if err != nil {
		return nil, err
	}
	defer material.Wipe()
	return e.barrier.Encrypt(seal.Material, materialData(k, m.ID), material)
}

// messageKeyLabel is the SP 800-108 label of the key that encrypts one message; the context is the blob's 16-octet nonce.
const messageKeyLabel = "keywright message key v1"

// symmetricSize is the length of SYMMETRIC_DEFAULT material in octets.
const symmetricSize = 32

// symmetric is opened SYMMETRIC_DEFAULT material.
type symmetric struct {
	messageKeys *kbkdf.Deriver
}

// gcm returns the cipher of one message. Its key is used once: with 128 random bits in the derivation nonce and 96 in the
// GCM nonce, no key ever comes near the limits of SP 800-38D, whatever number of messages it encrypts.
func (s *symmetric) gcm(nonce *[ciphertext.NonceSize]byte) (cipher.AEAD, error) {
	k := s.messageKeys.Derive(nonce[:])
	defer clear(k[:])
	block, err := aes.NewCipher(k[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// Seal implements custody.Sealer.
func (s *symmetric) Seal(dst []byte, nonce *[ciphertext.NonceSize]byte, plaintext, aad []byte) ([]byte, error) {
	aead, err := s.gcm(nonce)
	if err != nil {
		return nil, err
	}
	return aead.Seal(dst, nil, plaintext, aad), nil
}

// Open implements custody.Sealer.
func (s *symmetric) Open(nonce *[ciphertext.NonceSize]byte, sealed, aad []byte) (secret.Bytes, error) {
	aead, err := s.gcm(nonce)
	if err != nil {
		return secret.Bytes{}, err
	}
	plaintext, err := aead.Open(make([]byte, 0, max(0, len(sealed)-ciphertext.SealOverhead)), nil, sealed, aad)
	if err != nil {
		return secret.Bytes{}, custody.ErrInvalidCiphertext // why is nobody's business
	}
	return secret.Take(plaintext), nil
}
