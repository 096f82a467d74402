package kms

import (
	"context"
	"slices"
	"sync"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/store"
)

// maxGrants is how many grants a key can have ("Resource quotas", KMS developer guide).
const maxGrants = 50_000

// grantSet holds the grants of one key, found by who has them. Adding one costs the same however many there are; none is
// ever copied. It is safe for concurrent use, but who changes it holds the lock of its key in Service.grants, so that it is
// what is stored.
type grantSet struct {
	mu        sync.RWMutex
	byID      map[string]*key.Grant
	byGrantee map[string][]*key.Grant // by key.GrantPrincipal.Known
	byName    map[string][]*key.Grant // those with a name, which makes CreateGrant idempotent
}

// of returns the grants of a grantee. The list must not be changed: it is as it was when it was asked for.
func (s *grantSet) of(grantee string) []*key.Grant {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byGrantee[grantee]
}

func (s *grantSet) get(id string) *key.Grant {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byID[id]
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
		s.byID, s.byGrantee, s.byName = map[string]*key.Grant{}, map[string][]*key.Grant{}, map[string][]*key.Grant{}
	}
	if s.byID[g.ID] != nil {
		return
	}
	s.byID[g.ID] = g
	grantee := g.Grantee.Known()
	s.byGrantee[grantee] = append(s.byGrantee[grantee], g)
	if g.Name != "" {
		s.byName[g.Name] = append(s.byName[g.Name], g)
	}
}

// remove forgets a grant. Its grantee's list is made anew, because others may be reading it.
func (s *grantSet) remove(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.byID[id]
	if g == nil {
		return
	}
	delete(s.byID, id)
	without(s.byGrantee, g.Grantee.Known(), g)
	without(s.byName, g.Name, g)
}

func without(lists map[string][]*key.Grant, name string, g *key.Grant) {
	i := slices.Index(lists[name], g)
	switch {
	case i < 0:
	case len(lists[name]) == 1:
		delete(lists, name)
	default:
		lists[name] = slices.Concat(lists[name][:i], lists[name][i+1:])
	}
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

// grantsLocked is grantsOf for who holds the lock of the key in s.grants.
func (s *Service) grantsLocked(ctx context.Context, name key.Name) (*grantSet, error) {
	if set, ok := s.grants.get(name); ok {
		return set, nil
	}
	set := new(grantSet)
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
	s.grants.put(name, set)
	return set, nil
}

// changeGrants runs a transaction that changes the grants of a key, and shows its outcome: when it returns, the next request
// of anybody sees it. The caller holds the lock of the key in s.grants.
func (s *Service) changeGrants(ctx context.Context, name key.Name, write func(*store.Tx) error, show func(*grantSet)) error {
	set, err := s.grantsLocked(ctx, name)
	if err != nil {
		return err
	}
	if err := s.store.Update(ctx, write); err != nil {
		s.grants.drop(name) // whether it was written may be unknown: the store knows
		return err
	}
	before := set.size()
	show(set)
	s.grants.grew(set.size() - before)
	return nil
}

// grantFinder looks up the grants of the key that a request asks for. It implements guard.Grants.
type grantFinder struct {
	r    *request
	name key.Name
}

// Of implements guard.Grants.
func (f *grantFinder) Of(grantee string) ([]*key.Grant, error) {
	set, err := f.r.grantsOf(f.r.ctx, f.name)
	if err != nil {
		return nil, err
	}
	return set.of(grantee), nil
}
