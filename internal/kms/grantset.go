package kms

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/store"
)

// grantSet holds the grants of one key, found by who has them. Adding one costs the same however many there are; none is
// ever copied. It is safe for concurrent use, but who changes it holds the lock of its key in Service.grants, so that it is
// what is stored.
type grantSet struct {
	position int64 // of the feed of the key's account and Region, at which these are its grants; of who holds that lock

	mu        sync.RWMutex
	byID      map[string]*key.Grant
	byGrantee map[string]*held        // by key.GrantPrincipal.Known
	byName    map[string][]*key.Grant // those with a name, which makes CreateGrant idempotent
}

// held are the grants of one grantee. Services make thousands of them for one role, each bound to an encryption context of
// its own: which of them can matter is found by the context of the call.
type held struct {
	all   []*key.Grant
	free  []*key.Grant          // without constraints on the encryption context
	bound map[pair][]*key.Grant // the others, by the first pair that they ask for
}

// pair is one pair of an encryption context. The zero pair stands for an empty context.
type pair struct{ name, value string }

// firstPair returns the pair by which a grant is found, and whether it is bound to a context at all.
func firstPair(c *key.GrantConstraints) (p pair, ok bool) {
	asked := c.Equals
	if asked == nil {
		asked = c.Subset
	}
	first := true
	for name, value := range asked {
		if first || name < p.name {
			p, first = pair{name, value}, false
		}
	}
	return p, asked != nil
}

// of returns all grants of a grantee. The list must not be changed: it is as it was when it was asked for.
func (s *grantSet) of(grantee string) []*key.Grant {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if h := s.byGrantee[grantee]; h != nil {
		return h.all
	}
	return nil
}

// under returns the grants of a grantee that an encryption context can meet, and maybe some that it does not.
func (s *grantSet) under(grantee string, context map[string]string) []*key.Grant {
	s.mu.RLock()
	defer s.mu.RUnlock()
	h := s.byGrantee[grantee]
	if h == nil {
		return nil
	}
	list := h.free
	if len(h.bound) == 0 {
		return list
	}
	add := func(p pair) {
		if more := h.bound[p]; len(list) == 0 {
			list = more
		} else if len(more) > 0 {
			list = slices.Concat(list, more)
		}
	}
	add(pair{})
	for name, value := range context {
		if p := (pair{name, value}); p != (pair{}) {
			add(p)
		}
	}
	return list
}

func (s *grantSet) get(id string) *key.Grant {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byID[id]
}

// list returns all grants, in the order of their ids.
func (s *grantSet) list() []*key.Grant {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.SortedFunc(maps.Values(s.byID), func(a, b *key.Grant) int { return strings.Compare(a.ID, b.ID) })
}

func (s *grantSet) size() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.byID)
}

// twin returns a grant with the name and all parameters of g, or nil.
func (s *grantSet) twin(g *key.Grant) *key.Grant {
	if g.Name == "" {
		return nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, other := range s.byName[g.Name] {
		if other.SameAs(g) {
			return other
		}
	}
	return nil
}

// add takes in a grant, if it is not there. Lists that were handed out stay as they are: they end before it.
func (s *grantSet) add(g *key.Grant) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID == nil {
		s.byID, s.byGrantee, s.byName = map[string]*key.Grant{}, map[string]*held{}, map[string][]*key.Grant{}
	}
	if s.byID[g.ID] != nil {
		return
	}
	s.byID[g.ID] = g
	h := s.byGrantee[g.Grantee.Known()]
	if h == nil {
		h = new(held)
		s.byGrantee[g.Grantee.Known()] = h
	}
	h.all = append(h.all, g)
	if p, ok := firstPair(&g.Constraints); !ok {
		h.free = append(h.free, g)
	} else {
		if h.bound == nil {
			h.bound = map[pair][]*key.Grant{}
		}
		h.bound[p] = append(h.bound[p], g)
	}
	if g.Name != "" {
		s.byName[g.Name] = append(s.byName[g.Name], g)
	}
}

// remove forgets a grant. The lists that it is in are made anew, because others may be reading them.
func (s *grantSet) remove(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.byID[id]
	if g == nil {
		return
	}
	delete(s.byID, id)
	without(s.byName, g.Name, g)
	h := s.byGrantee[g.Grantee.Known()]
	h.all = cut(h.all, g)
	if p, ok := firstPair(&g.Constraints); ok {
		without(h.bound, p, g)
	} else {
		h.free = cut(h.free, g)
	}
	if len(h.all) == 0 {
		delete(s.byGrantee, g.Grantee.Known())
	}
}

// without makes a list of a map anew, without a grant.
func without[K comparable](lists map[K][]*key.Grant, k K, g *key.Grant) {
	if list := cut(lists[k], g); len(list) > 0 {
		lists[k] = list
	} else {
		delete(lists, k)
	}
}

// cut returns a new list without a grant.
func cut(list []*key.Grant, g *key.Grant) []*key.Grant {
	i := slices.Index(list, g)
	if i < 0 {
		return list
	}
	return slices.Concat(list[:i], list[i+1:])
}

// grantPage is how many grants are read from the store at once.
const grantPage = 1000

// grantsOf returns the grants of a key, from memory or from the store. A key that has none costs a look into memory.
func (s *Service) grantsOf(ctx context.Context, name key.Name) (*grantSet, error) {
	if set, ok := s.grants.get(name); ok {
		return set, nil
	}
	defer s.grants.lock(name)()
	return s.grantsLocked(ctx, name)
}

// grant returns a grant of a key, or nil if there is none. What memory does not know, another server may just have made: it is asked for
// alone, because who asks may have no right to it, and must not have all grants of the key forgotten and read again.
func (s *Service) grant(ctx context.Context, name key.Name, id string) (*key.Grant, error) {
	set, known := s.grants.get(name)
	if known {
		if g := set.get(id); g != nil || !s.store.Shared() {
			return g, nil
		}
	}
	g, err := s.store.GetGrant(ctx, name, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err == nil && known {
		s.grants.changed(name)
	}
	return g, err
}

// grantsLocked is grantsOf for who holds the lock of the key in s.grants.
func (s *Service) grantsLocked(ctx context.Context, name key.Name) (*grantSet, error) {
	if set, ok := s.grants.look(name); ok {
		return set, nil
	}
	set, moment := new(grantSet), s.grants.since(name)
	if s.store.Shared() {
		var err error
		if set.position, err = s.store.Position(ctx, name.Account, name.Region); err != nil {
			return nil, err
		}
	}
	for more, after := true, ""; more; {
		var list []*key.Grant
		var err error
		if list, more, err = s.store.ListGrants(ctx, name, after, grantPage); err != nil {
			return nil, err
		}
		for _, g := range list {
			set.add(g)
			after = g.ID
		}
	}
	s.grants.putSince(moment, name, set)
	return set, nil
}

// changeGrants runs a transaction that changes the grants of a key, and shows its outcome: when it returns, the next request
// of anybody sees it. The transaction hears of it, by store.ErrConflict, if other servers have changed them since they were read. The
// caller holds the lock of the key in s.grants.
func (s *Service) changeGrants(ctx context.Context, name key.Name, inTime func() error, write func(tx *store.Tx, others error) error, show func(*grantSet)) error {
	set, err := s.grantsLocked(ctx, name)
	if err != nil {
		return err
	}
	var others error
	var position int64
	err = s.store.Update(ctx, func(tx *store.Tx) error {
		if err := inTime(); err != nil {
			return err
		}
		if others = tx.ExpectGrants(name, set.position); others != nil && !errors.Is(others, store.ErrConflict) {
			return others
		}
		err := write(tx, others)
		if err == nil {
			position, err = tx.Position(name.Account, name.Region)
		}
		return err
	})
	if err != nil || others != nil {
		s.grants.drop(name) // whether it was written may be unknown: the store knows
		return err
	}
	set.position = position
	before := set.size()
	show(set)
	s.grants.grew(set.size() - before)
	return nil
}

// grantFinder looks up the grants of the key that a request asks for. It implements guard.Grants.
type grantFinder struct {
	r    *request
	name key.Name
	// bound says that the operation has an encryption context, which the constraints of grants go by.
	bound   bool
	context map[string]string
}

// Of implements guard.Grants.
func (f *grantFinder) Of(grantee string) ([]*key.Grant, error) {
	set := f.r.held
	if set == nil {
		var err error
		if set, err = f.r.grantsOf(f.r.ctx, f.name); err != nil {
			return nil, err
		}
	}
	if f.bound {
		return set.under(grantee, f.context), nil
	}
	return set.of(grantee), nil
}
