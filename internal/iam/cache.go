package iam

import "sync"

// credentials remembers ready credentials by access key id. It is bounded and safe for concurrent use.
type credentials struct {
	limit int

	mu    sync.RWMutex
	ids   map[string]*credential
	epoch uint64 // counts drops
}

func newCredentials(limit int) *credentials {
	return &credentials{limit: limit, ids: make(map[string]*credential)}
}

func (c *credentials) get(id string) (*credential, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	found, ok := c.ids[id]
	return found, ok
}

// now returns the epoch to hand to put. Take it before the store is read.
func (c *credentials) now() uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.epoch
}

// put remembers what was read from the store in the given epoch, unless a credential was dropped since: then it may be
// the old one.
func (c *credentials) put(epoch uint64, id string, found *credential) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if epoch != c.epoch {
		return
	}
	for other := range c.ids { // any: whichever goes is read again when it is used
		if len(c.ids) < c.limit {
			break
		}
		delete(c.ids, other)
	}
	c.ids[id] = found
}

// clear forgets all credentials.
func (c *credentials) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.ids)
	c.epoch++
}

// drop forgets a credential that has been changed in the store.
func (c *credentials) drop(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.ids, id)
	c.epoch++
}
