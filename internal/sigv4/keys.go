package sigv4

import (
	"strings"
	"sync"

	"github.com/keywright/keywright/internal/secret"
)

// SigningKeys remembers derived keys, because deriving one costs more than verifying a request with it. It is bounded and
// safe for concurrent use. It is filled with Put only, which is for keys that have verified a request: whoever cannot sign
// neither fills nor empties it. The zero value is not usable: call NewSigningKeys.
type SigningKeys struct {
	limit int
	mu    sync.RWMutex
	keys  map[cacheKey]cacheEntry
}

type cacheKey struct {
	accessKeyID string
	scope       Scope
}

type cacheEntry struct {
	from secret.Bytes // the secret access key that key was derived from
	key  *SigningKey
}

// NewSigningKeys returns a cache for at most limit keys; limit must be positive.
func NewSigningKeys(limit int) *SigningKeys {
	return &SigningKeys{limit: limit, keys: make(map[cacheKey]cacheEntry)}
}

// Get returns the signing key that is remembered for a credential and a scope. The secret is the one that is valid now: a
// key is found only if it came from the same secret, so that a replaced secret stops working at once and nobody has to
// remember to clear the cache. Where there is none, Derive makes it.
func (c *SigningKeys) Get(accessKeyID string, s secret.Bytes, sc Scope) (key *SigningKey, found bool) {
	c.mu.RLock()
	e, ok := c.keys[cacheKey{accessKeyID, sc}]
	c.mu.RUnlock()
	if !ok || !e.from.Equal(s) {
		return nil, false
	}
	return e.key, true
}

// Put remembers the key that Derive made of the secret for the scope. Call it only after the key has verified a request:
// before, all of the scope is the word of somebody unknown. In a full cache it takes the place of an arbitrary key, which
// is derived again when it is used; nothing that a request says chooses which.
func (c *SigningKeys) Put(accessKeyID string, s secret.Bytes, sc Scope, key *SigningKey) {
	// The strings may be parts of a request's buffer, and the caller may wipe the secret: keep copies.
	id := cacheKey{strings.Clone(accessKeyID), Scope{strings.Clone(sc.Date), strings.Clone(sc.Region), strings.Clone(sc.Service)}}
	e := cacheEntry{from: secret.Copy(s.Expose()), key: key}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, replaced := c.keys[id]; !replaced && len(c.keys) >= c.limit {
		for other := range c.keys {
			delete(c.keys, other)
			break
		}
	}
	c.keys[id] = e
}

// Len returns the number of remembered keys.
func (c *SigningKeys) Len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.keys)
}
