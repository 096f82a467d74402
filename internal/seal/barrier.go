package seal

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/kbkdf"
	"github.com/keywright/keywright/internal/secret"
)

const keySize = 32 // of the root key and of domain keys

// TagSize is the length of a tag: the version of the domain key (uint32, big-endian) and an HMAC-SHA-256.
const TagSize = 4 + sha256.Size

// Barrier is the unsealed state: the root key and every domain key, ready to use. It is safe for concurrent use.
type Barrier struct {
	rootID  string
	root    secret.Bytes
	rootKey wrappingKey

	loading sync.Mutex // held while state is replaced
	state   atomic.Pointer[domains]
}

// domains is an immutable snapshot of all domain keys.
type domains [lastDomain + 1]struct {
	newest uint32
	keys   map[uint32]*domainKey
}

// domainKey is one version of a domain key in use.
type domainKey struct {
	encrypt wrappingKey
	tags    sync.Pool // of *tagger
}

type tagger struct {
	mac hash.Hash
	buf [TagSize]byte
}

func newDomainKey(d Domain, key secret.Bytes) *domainKey {
	subkey := func(use string) []byte {
		return kbkdf.Key(key.Expose(), "keywright "+use+" subkey v1", subkeyContext(d), keySize)
	}
	k := &domainKey{encrypt: newWrappingKey(subkey("encryption"))}
	tagKey := subkey("tag")
	k.tags.New = func() any { return &tagger{mac: hmac.New(sha256.New, tagKey)} }
	return k
}

// subkeyContext is the KBKDF context of a domain's subkeys.
func subkeyContext(d Domain) []byte { return Associate("keywright domain v1", d.String()) }

// newBarrier opens the domain keys under the root key. Every domain must have one at least.
func newBarrier(rootID string, root secret.Bytes, keys []DomainKey) (*Barrier, error) {
	b := &Barrier{rootID: rootID, root: root, rootKey: newWrappingKey(root.Expose())}
	b.state.Store(&domains{})
	if err := b.Load(keys); err != nil {
		return nil, err
	}
	for d := Material; d <= lastDomain; d++ {
		if b.state.Load()[d].newest == 0 {
			return nil, fmt.Errorf("the domain %q has no key", d)
		}
	}
	return b, nil
}

// RootID returns the id of the root key that is open.
func (b *Barrier) RootID() string { return b.rootID }

// Load takes in domain keys that the Barrier does not have yet, such as those made by another process, and uses the
// newest of each domain from then on. It takes all or none. The error is ErrRootChanged or ErrOpen, wrapped with the
// domain and version that it is about.
func (b *Barrier) Load(keys []DomainKey) error {
	b.loading.Lock()
	defer b.loading.Unlock()
	old := b.state.Load()
	next := *old
	for d := range next {
		next[d].keys = make(map[uint32]*domainKey, len(old[d].keys)+1)
		for v, k := range old[d].keys {
			next[d].keys[v] = k
		}
	}
	for _, rec := range keys {
		if !rec.Domain.Valid() || rec.Version == 0 {
			return fmt.Errorf("domain key %q version %d: %w", rec.Domain, rec.Version, ErrOpen)
		}
		if next[rec.Domain].keys[rec.Version] != nil {
			continue
		}
		key, err := b.openDomainKey(rec)
		if err != nil {
			return fmt.Errorf("domain key %q version %d: %w", rec.Domain, rec.Version, err)
		}
		next[rec.Domain].keys[rec.Version] = newDomainKey(rec.Domain, key)
		next[rec.Domain].newest = max(next[rec.Domain].newest, rec.Version)
	}
	b.state.Store(&next)
	return nil
}

func (b *Barrier) openDomainKey(rec DomainKey) (secret.Bytes, error) {
	if rec.RootID != b.rootID {
		return secret.Bytes{}, ErrRootChanged
	}
	// The root key has no versions: its blobs say 0, and the header being bound, no other number opens.
	key, err := b.rootKey.open(rec.associatedData(), rec.Wrapped)
	if err != nil || key.Len() != keySize {
		return secret.Bytes{}, ErrOpen
	}
	return key, nil
}

// makeDomainKey makes a version of a domain key and returns its record.
func (b *Barrier) makeDomainKey(d Domain, version uint32, now time.Time, key secret.Bytes) DomainKey {
	rec := DomainKey{Domain: d, Version: version, RootID: b.rootID, CreatedAt: now.UTC().Truncate(time.Millisecond)}
	rec.Wrapped = b.rootKey.seal(0, rec.associatedData(), key)
	return rec
}

// Newest returns the version of the domain's key that Encrypt or Tag uses now.
func (b *Barrier) Newest(d Domain) uint32 {
	if !d.Valid() {
		return 0
	}
	return b.state.Load()[d].newest
}

func (b *Barrier) newest(d Domain) (*domainKey, uint32, error) {
	if !d.Valid() {
		return nil, 0, fmt.Errorf("domain %d is invalid", d)
	}
	s := &b.state.Load()[d]
	return s.keys[s.newest], s.newest, nil
}

func (b *Barrier) version(d Domain, v uint32) (*domainKey, error) {
	if !d.Valid() {
		return nil, fmt.Errorf("domain %d is invalid", d)
	}
	if k := b.state.Load()[d].keys[v]; k != nil {
		return k, nil
	}
	return nil, &UnknownVersionError{d, v}
}

// Encrypt seals plaintext with the newest key of the domain and binds aad, which comes from Associate. The result is a
// blob that names the version; its length is that of the plaintext and 49 octets.
func (b *Barrier) Encrypt(d Domain, aad []byte, plaintext secret.Bytes) ([]byte, error) {
	k, version, err := b.newest(d)
	if err != nil {
		return nil, err
	}
	return k.encrypt.seal(version, aad, plaintext), nil
}

// Decrypt opens what Encrypt made for the same domain and aad. The error is an *UnknownVersionError or ErrOpen.
func (b *Barrier) Decrypt(d Domain, aad, blob []byte) (secret.Bytes, error) {
	version, ok := parseBlob(blob)
	if !ok {
		return secret.Bytes{}, ErrOpen
	}
	k, err := b.version(d, version)
	if err != nil {
		return secret.Bytes{}, err
	}
	return k.encrypt.open(aad, blob)
}

// Stale reports whether a blob of the domain should be encrypted again, because its key is not the newest. It says
// nothing about whether the blob opens.
func (b *Barrier) Stale(d Domain, blob []byte) bool {
	version, ok := parseBlob(blob)
	return !ok || version != b.Newest(d)
}

// OldMaterial reports whether wrapped material has a key that came before the newest. Of what is no blob it reports false. It is for
// the store, which looks at the version and has no business with what is inside.
func (b *Barrier) OldMaterial(blob []byte) bool {
	version, ok := parseBlob(blob)
	return ok && version > 0 && version < b.Newest(Material)
}

// Tag appends to dst the tag of data under the newest key of the domain: TagSize octets. Data must come from a named
// function that makes it unambiguous. Only an invalid domain gives an error.
func (b *Barrier) Tag(dst []byte, d Domain, data []byte) ([]byte, error) {
	k, version, err := b.newest(d)
	if err != nil {
		return nil, err
	}
	return k.tag(dst, version, data), nil
}

func (k *domainKey) tag(dst []byte, version uint32, data []byte) []byte {
	t := k.tags.Get().(*tagger)
	binary.BigEndian.PutUint32(t.buf[:], version)
	t.mac.Reset()
	t.mac.Write(t.buf[:4])
	t.mac.Write(data)
	dst = append(dst, t.mac.Sum(t.buf[:4])...)
	k.tags.Put(t)
	return dst
}

// VerifyTag checks a tag that Tag made for the same domain and data. The error is an *UnknownVersionError or ErrOpen.
func (b *Barrier) VerifyTag(d Domain, data, tag []byte) error {
	if len(tag) != TagSize {
		return ErrOpen
	}
	version := binary.BigEndian.Uint32(tag)
	k, err := b.version(d, version)
	if err != nil {
		return err
	}
	var want [TagSize]byte
	if !hmac.Equal(k.tag(want[:0], version, data), tag) {
		return ErrOpen
	}
	return nil
}

// StaleTag reports whether a tag of the domain should be made again, because its key is not the newest. It says nothing
// about whether the tag is right.
func (b *Barrier) StaleTag(d Domain, tag []byte) bool {
	return len(tag) != TagSize || binary.BigEndian.Uint32(tag) != b.Newest(d)
}
