package sigv4

import (
	"strings"
	"sync"

	"github.com/keywright/keywright/internal/secret"
)

// SigningKeys remembers derived keys, because deriving one costs more than verifying a request with it. It is bounded and
// safe for concurrent use. The zero value is not usable: call NewSigningKeys.
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

// Get returns the signing key of a credential for a scope. The secret is the one that is valid now: a remembered key is
// used only if it came from the same secret, so that a replaced secret stops working at once and nobody has to remember
// to clear the cache.
func (c *SigningKeys) Get(accessKeyID string, s secret.Bytes, sc Scope) *SigningKey {
	id := cacheKey{accessKeyID, sc}
	c.mu.RLock()
	e, ok := c.keys[id]
	c.mu.RUnlock()
	if ok && e.from.Equal(s) {
		return e.key
	}
	// The strings may be parts of a request's buffer, and the caller may wipe the secret: keep copies.
	id = cacheKey{strings.Clone(accessKeyID), Scope{strings.Clone(sc.Date), strings.Clone(sc.Region), strings.Clone(sc.Service)}}
	e = cacheEntry{from: secret.Copy(s.Expose()), key: Derive(s, sc)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.keys) >= c.limit {
		c.evict(sc.Date)
	}
	c.keys[id] = e
	return e.key
}

// evict makes room: it drops all keys of other days than today and, if that frees nothing, arbitrary ones. Called with
// mu held. Only requests with a right signature of a known credential should add keys that stay long; whoever calls Get
// before verifying has at least found the credential.
func (c *SigningKeys) evict(today string) {
	for id := range c.keys {
		if id.scope.Date != today {
			delete(c.keys, id)
		}
	}
	for id := range c.keys {
		if len(c.keys) < c.limit {
			return
		}
		delete(c.keys, id)
	}
}

// Len returns the number of remembered keys.
func (c *SigningKeys) Len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.keys)
}
