// Package custody holds key material and is the only one that opens it. It opens nothing without a guard.Permit for that
// key and that use: a new operation cannot forget to ask.
//
// It trusts the guard's permits and its Engine. It must never return the material of a KMS key (Pair returns a pair that is
// nobody's here), say why a ciphertext is bad, or log anything that came out of one.
package custody

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/ciphertext"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/steps"
	"github.com/keywright/keywright/internal/turns"
)

// The errors of this package. Anything else that its methods return is an internal failure.
var (
	// ErrInvalidCiphertext is the one answer to every ciphertext that does not open: altered, of another key or
	// material, with another encryption context.
	ErrInvalidCiphertext = ciphertext.ErrInvalid
	// ErrNoPermit means that a caller came without a permit for what it does: a defect, never a client's fault.
	ErrNoPermit = errors.New("no permit for this use of the key")
	// ErrBusy means that too much is being made for an account: it may try again later.
	ErrBusy = keyspec.ErrBusy
	// ErrNoMaterial means that the key has no material now, as one that waits for import.
	ErrNoMaterial = errors.New("the key has no material")
)

// Engine makes and opens key material of one kind of custody. An Engine is safe for concurrent use and keeps no state of
// single keys: what it needs to open material again is in the wrapped form that it returned.
type Engine interface {
	// Generate makes new material for the key and returns its id (64 hexadecimal digits, the same for the same key and
	// octets), its wrapped form and, of asymmetric keys, the public key (a DER SubjectPublicKeyInfo, RFC 5280). It can take
	// seconds, and ends early with ctx or with ErrBusy.
	Generate(ctx context.Context, k *key.Key) (id string, wrapped, public []byte, err error)
	// Pair makes a key pair that is no KMS key's: for a client of an account, who gets it. It takes as long as Generate.
	Pair(ctx context.Context, a arn.Account, s key.Spec) (keyspec.Private, error)
	// Open unwraps material that Generate made for this key. A wrapped form that was altered, or is another key's, is
	// an error. The material has the abilities of the key's spec.
	Open(k *key.Key, m *key.Material) (Material, error)
	// Rewrap returns the material wrapped under the newest domain key: m.Wrapped itself if it is so already.
	Rewrap(k *key.Key, m *key.Material) (wrapped []byte, err error)
}

// Custody gives callers with a permit the use of key material. It is safe for concurrent use.
type Custody struct {
	engine Engine
	turns  *turns.Turns // who runs a slow primitive has one
}

// New returns a Custody over an engine.
func New(e Engine) *Custody {
	return &Custody{engine: e, turns: turns.New(runtime.GOMAXPROCS(0))}
}

// Generate makes new material for k, as its first or its next generation. It needs a permit with guard.UseCreate: for a
// key that is just being made the permit names no key. The error is ErrBusy if the key's account has too much made at a time.
func (c *Custody) Generate(ctx context.Context, p guard.Permit, k *key.Key, now time.Time) (key.Material, error) {
	defer p.Step(steps.Custody).End()
	if !p.Allows(guard.UseCreate, k.Name) && !p.Allows(guard.UseCreate, key.Name{}) {
		return key.Material{}, ErrNoPermit
	}
	id, wrapped, public, err := c.engine.Generate(ctx, k)
	if err != nil {
		return key.Material{}, fmt.Errorf("generating key material: %w", err)
	}
	return key.Material{ID: id, CreatedAt: now, State: key.Current, Wrapped: wrapped, Public: public}, nil
}

// Random returns n octets from the system's generator for a caller with a permit for the named key (the zero Name where
// the operation has none). n is positive.
func (c *Custody) Random(p guard.Permit, name key.Name, n int) (secret.Bytes, error) {
	defer p.Step(steps.Custody).End()
	if !p.Allows(guard.UseRandom, name) {
		return secret.Bytes{}, ErrNoPermit
	}
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand crashes the program instead
	return secret.Take(b), nil
}

// Key binds a key to its engine. Nothing is opened yet: material is opened at its first use under a permit and kept for
// as long as the Key lives.
type Key struct {
	custody *Custody
	key     *key.Key
	opened  []slot // one for each generation of material, in the order of key.Material
	current int    // which of them encrypts, signs and so on; -1 if none does
	public  parsedKey
	opens   func(octets int)
	memory  atomic.Int64
}

// Memory returns how many octets of memory the opened material takes, about.
func (k *Key) Memory() int { return int(k.memory.Load()) }

// grow counts memory that something takes from now on, as long as the Key lives.
func (k *Key) grow(octets int) {
	k.memory.Add(int64(octets))
	k.opens(octets)
}

type slot struct {
	id ciphertext.MaterialID
	m  atomic.Pointer[Material]
}

// Bind returns the Key of a snapshot. When material of it is opened, opens is told how many octets of memory that takes.
func (c *Custody) Bind(k *key.Key, opens func(octets int)) (*Key, error) {
	b := &Key{custody: c, key: k, opened: make([]slot, len(k.Material)), current: -1, opens: opens}
	for i := range k.Material {
		if m := &k.Material[i]; m.State == key.Current && len(m.Wrapped) > 0 {
			b.current = i
		}
		id, ok := ciphertext.ParseMaterialID(k.Material[i].ID)
		if !ok {
			return nil, fmt.Errorf("key %s has a malformed material id", k.ARN())
		}
		b.opened[i].id = id
	}
	return b, nil
}

// work is the memory that one message needs besides its blob, used again. Nothing in it is secret.
type work struct {
	header ciphertext.Header
	aad    []byte
}

var works = sync.Pool{New: func() any { return new(work) }}

// Encrypt returns the ciphertext blob of plaintext under the key's current material.
func (k *Key) Encrypt(p guard.Permit, plaintext []byte, context map[string]string) ([]byte, error) {
	defer p.Step(steps.Custody).End()
	if !p.Allows(guard.UseEncrypt, k.key.Name) {
		return nil, ErrNoPermit
	}
	m, err := ability[Sealer](k, k.current)
	if err != nil {
		return nil, err
	}
	w := works.Get().(*work)
	defer works.Put(w)
	w.header = ciphertext.Header{Account: k.key.Account, Key: k.key.ID, Material: k.opened[k.current].id}
	_, _ = rand.Read(w.header.Nonce[:])
	blob := w.header.Append(make([]byte, 0, ciphertext.Overhead+len(plaintext)))
	w.aad = ciphertext.AppendAssociatedData(w.aad[:0], blob, context)
	blob, err = m.Seal(blob, &w.header.Nonce, plaintext, w.aad)
	if err != nil {
		return nil, fmt.Errorf("encrypting: %w", err)
	}
	return blob, nil
}

// Decrypt opens a blob, whose header Parse gave as h. It returns the plaintext and which generation of the material it was
// encrypted under.
func (k *Key) Decrypt(p guard.Permit, h *ciphertext.Header, blob []byte, context map[string]string) (secret.Bytes, *key.Material, error) {
	defer p.Step(steps.Custody).End()
	if !p.Allows(guard.UseDecrypt, k.key.Name) {
		return secret.Bytes{}, nil, ErrNoPermit
	}
	if h.Account != k.key.Account || h.Key != k.key.ID || len(blob) <= ciphertext.Overhead {
		return secret.Bytes{}, nil, ErrInvalidCiphertext
	}
	for i := len(k.opened) - 1; i >= 0; i-- {
		if k.opened[i].id != h.Material || len(k.key.Material[i].Wrapped) == 0 {
			continue
		}
		m, err := ability[Sealer](k, i)
		if err != nil {
			return secret.Bytes{}, nil, err
		}
		w := works.Get().(*work)
		defer works.Put(w)
		w.aad = ciphertext.AppendAssociatedData(w.aad[:0], blob[:ciphertext.HeaderSize], context)
		plaintext, err := m.Open(&h.Nonce, blob[ciphertext.HeaderSize:], w.aad)
		return plaintext, &k.key.Material[i], err
	}
	return secret.Bytes{}, nil, ErrInvalidCiphertext
}

// open returns the opened material of a generation. Two callers may open it at the same time; both get good material and
// one of them stays.
func (k *Key) open(i int) (Material, error) {
	if m := k.opened[i].m.Load(); m != nil {
		return *m, nil
	}
	m, err := k.custody.engine.Open(k.key, &k.key.Material[i])
	if err != nil {
		return nil, fmt.Errorf("opening the material of %s: %w", k.key.ARN(), err)
	}
	if k.opened[i].m.CompareAndSwap(nil, &m) {
		k.grow(keyspec.PrivateMemory(k.key.Spec))
	}
	return m, nil
}

// Rewrap wraps one generation of a key's material again, if it is not wrapped under the newest domain key; otherwise it
// returns what it has, which is nothing for imported material that is missing. It shows no material to its caller and needs no permit.
func (c *Custody) Rewrap(k *key.Key, m *key.Material) ([]byte, error) {
	if !m.Imported() {
		return m.Wrapped, nil
	}
	wrapped, err := c.engine.Rewrap(k, m)
	if err != nil {
		return nil, fmt.Errorf("rewrapping the material of %s: %w", k.ARN(), err)
	}
	return wrapped, nil
}
