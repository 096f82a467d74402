package kms

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
)

// cache is a bounded map in two generations: a value that is used stays, one that is not used while limit others are
// goes. Looking a value up takes one read lock. It is safe for concurrent use.
type cache[K comparable, V any] struct {
	limit int // what the values of one generation weigh together
	weigh func(V) int
	seed  maphash.Seed
	locks [64]sync.Mutex // stripes for whoever loads or changes what a key stands for

	mu    sync.RWMutex
	news  [64]uint64 // how often something of a stripe was changed by others: see since
	young map[K]V
	old   map[K]V
	load  int // weight of the young generation

	hits, misses atomic.Uint64 // of get
}

// newCache returns a cache of limit values.
func newCache[K comparable, V any](limit int) *cache[K, V] {
	return newWeighedCache[K](limit, func(V) int { return 1 })
}

// newWeighedCache returns a cache whose values weigh limit together.
func newWeighedCache[K comparable, V any](limit int, weigh func(V) int) *cache[K, V] {
	return &cache[K, V]{limit: limit, weigh: weigh, seed: maphash.MakeSeed(), young: map[K]V{}}
}

// get returns the value and whether there is one.
func (c *cache[K, V]) get(k K) (V, bool) {
	v, ok := c.look(k)
	if ok {
		c.hits.Add(1)
	} else {
		c.misses.Add(1)
	}
	return v, ok
}

// look is get for whoever looks a second time, under the key's lock: it is not counted.
func (c *cache[K, V]) look(k K) (V, bool) {
	c.mu.RLock()
	v, ok := c.young[k]
	if !ok {
		v, ok = c.old[k]
		if ok {
			c.mu.RUnlock()
			return c.promote(k)
		}
	}
	c.mu.RUnlock()
	return v, ok
}

// promote moves a value of the old generation to the young one, if it is still there.
func (c *cache[K, V]) promote(k K) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.old[k]
	if ok {
		delete(c.old, k)
		c.add(k, v)
	}
	return v, ok
}

func (c *cache[K, V]) add(k K, v V) {
	c.lighten(k)
	c.young[k] = v
	c.age(c.weigh(v))
}

// lighten takes the weight of what is about to leave the young generation from it.
func (c *cache[K, V]) lighten(k K) {
	if v, ok := c.young[k]; ok {
		c.load = max(c.load-c.weigh(v), 0)
	}
}

// age adds to the weight of the young generation, and begins a new one if it is full.
func (c *cache[K, V]) age(weight int) {
	if c.load += weight; c.load >= c.limit {
		c.old, c.young, c.load = c.young, make(map[K]V), 0
	}
}

// stats says how the cache does.
func (c *cache[K, V]) stats(name string) CacheStats {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return CacheStats{name, c.hits.Load(), c.misses.Load(), len(c.young) + len(c.old)}
}

// CacheStats says how one of the service's caches does.
type CacheStats struct {
	Name         string // what is in it
	Hits, Misses uint64 // since the start
	Entries      int
}

// Caches says how the caches do.
func (s *Service) Caches() []CacheStats {
	return []CacheStats{s.keys.stats("keys"), s.aliases.stats("aliases"), s.grants.stats("grants"), s.aliasLists.stats("alias_lists"), s.policies.stats("policies")}
}

// grew tells that a value in the cache has become heavier.
func (c *cache[K, V]) grew(weight int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.age(max(weight, 0))
}

// since returns a moment for putSince. Whoever reads what a key stands for, or changes it in the store, asks for it before.
func (c *cache[K, V]) since(k K) (moment uint64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.news[c.stripe(k)]
}

// putSince sets the value of a key, as it was at a moment or later. If others have changed something since, it may be outdated, and
// is not remembered. The caller holds the key's lock.
func (c *cache[K, V]) putSince(moment uint64, k K, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.old, k)
	if c.news[c.stripe(k)] == moment {
		c.add(k, v)
		return
	}
	c.lighten(k)
	delete(c.young, k)
}

// changed forgets a key that others have changed. It needs no lock, and so waits for nobody.
func (c *cache[K, V]) changed(k K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.news[c.stripe(k)]++
	c.lighten(k)
	delete(c.young, k)
	delete(c.old, k)
}

// allChanged is changed for all keys.
func (c *cache[K, V]) allChanged() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.news {
		c.news[i]++
	}
	c.young, c.old, c.load = map[K]V{}, nil, 0
}

// drop forgets a key. The caller holds the key's lock.
func (c *cache[K, V]) drop(k K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lighten(k)
	delete(c.young, k)
	delete(c.old, k)
}

// clear forgets everything.
func (c *cache[K, V]) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.young, c.old, c.load = map[K]V{}, nil, 0
}

// lock locks the key against others who load or change it, and returns how to unlock it. Whoever holds a lock must not
// take another one of the same cache but by lockTwo and lockAll. Of several caches those of aliases come first, then keys, grants, and lists of aliases.
func (c *cache[K, V]) lock(k K) (unlock func()) {
	m := &c.locks[c.stripe(k)]
	m.Lock()
	return m.Unlock
}

// lockTwo locks two keys, which may be the same.
func (c *cache[K, V]) lockTwo(a, b K) (unlock func()) {
	i, j := c.stripe(a), c.stripe(b)
	first, second := &c.locks[min(i, j)], &c.locks[max(i, j)] // all in one order, so that no two wait for each other
	first.Lock()
	if i == j {
		return first.Unlock
	}
	second.Lock()
	return func() {
		second.Unlock()
		first.Unlock()
	}
}

// lockAll locks any number of keys, of which some may be the same.
func (c *cache[K, V]) lockAll(all []K) (unlock func()) {
	stripes := make([]uint64, len(all))
	for i, k := range all {
		stripes[i] = c.stripe(k)
	}
	slices.Sort(stripes) // one order, as in lockTwo
	stripes = slices.Compact(stripes)
	for _, i := range stripes {
		c.locks[i].Lock()
	}
	return func() {
		for _, i := range slices.Backward(stripes) {
			c.locks[i].Unlock()
		}
	}
}

func (c *cache[K, V]) stripe(k K) uint64 {
	return maphash.Comparable(c.seed, k) % uint64(len(c.locks))
}
