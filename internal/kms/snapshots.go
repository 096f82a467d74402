package kms

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/custody"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/quota"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
)

// snapshot is a key made ready for use. It is immutable: a change of the key puts another snapshot in its place.
type snapshot struct {
	*key.Key
	arn      string
	policy   *policy.Document
	material *custody.Key
	aliases  func() ([]string, error) // the names of its aliases
	expires  time.Time                // when the first of its material goes; zero for never
	closed   int                      // octets of memory that it takes without opened material
}

func (s *Service) snapshot(k *key.Key) (*snapshot, error) {
	doc, err := s.compile(k.Policy, k.Principals)
	if err != nil {
		return nil, fmt.Errorf("the stored policy of %s: %w", k.ARN(), err)
	}
	material, err := s.custody.Bind(k, s.keys.grew)
	if err != nil {
		return nil, err
	}
	snap := &snapshot{
		Key: k, arn: k.ARN(), policy: doc, material: material, expires: k.ExpiresAt(func(*key.Material) bool { return true }), closed: closedMemory(k),
	}
	snap.aliases = func() ([]string, error) { return s.aliasNames(context.Background(), k.Name) } // made once, not for each request
	return snap, nil
}

// memory returns how many octets of memory the snapshot takes, about.
func (s *snapshot) memory() int { return s.closed + s.material.Memory() }

// What a key takes about, measured: for itself, each of its tags and principals, and each generation of its material, besides
// their octets.
const (
	memoryOfKey      = 1_300
	memoryOfPair     = 32
	memoryOfMaterial = 200
)

// closedMemory returns how many octets of memory a key takes about, without opened material.
func closedMemory(k *key.Key) int {
	n := memoryOfKey + len(k.Description) + policyMemory(k.Policy)
	for _, t := range k.Tags {
		n += memoryOfPair + len(t.Key) + len(t.Value)
	}
	for _, p := range k.Principals {
		n += memoryOfPair + len(p.ARN) + len(p.ID)
	}
	for i := range k.Material {
		m := &k.Material[i]
		n += memoryOfMaterial + len(m.ID) + len(m.Wrapped) + len(m.Public) + len(m.Description)
	}
	return n
}

// policyMemory returns how many octets of memory a policy takes about, compiled and as text: measured, and rounded up, twice its
// length and as much again for each string of a statement, of which there can be one for every five octets of text.
func policyMemory(text string) int {
	return 2*len(text) + 190*max(strings.Count(text, `"`)/2, strings.Count(text, ","))
}

// typicalMemory is what a symmetric key with the default policy takes, opened.
func typicalMemory() int {
	k := key.Key{Policy: policy.DefaultKeyPolicy("111122223333", "aws"), Material: []key.Material{{ID: strings.Repeat("0", 64), Wrapped: make([]byte, 100)}}}
	return closedMemory(&k) + keyspec.PrivateMemory(key.SymmetricDefault)
}

// policyKey is what a compiled policy is made of. The same text means others where it names others.
type policyKey struct{ text, bindings string }

// compiled is a policy, and how many octets of memory it takes, about.
type compiled struct {
	*policy.Document
	memory int
}

// compile parses a key policy and binds it to whom it names, or finds it done. The error is a *policy.Error.
func (s *Service) compile(text string, bindings []key.Binding) (*policy.Document, error) {
	k := policyKey{text, joinBindings(bindings)}
	if known, ok := s.policies.get(k); ok {
		return known.Document, nil
	}
	doc, err := policy.Parse(policy.KeyPolicy, []byte(text))
	if err != nil {
		return nil, err
	}
	if len(bindings) > 0 {
		doc = doc.Bind(bound(bindings))
	}
	s.policies.putSince(s.policies.since(k), k, compiled{doc, policyMemory(text) + len(k.bindings)}) // compiled twice at the same time, either will do
	return doc, nil
}

// load returns the snapshot of a key, from memory or from the store. Material whose time is over goes first, if it has not gone
// yet. The error is store.ErrNotFound or internal. The caller holds no lock of a key.
func (s *Service) load(ctx context.Context, name key.Name) (*snapshot, error) {
	snap, ok := s.keys.get(name)
	if !ok {
		s.uses.room(ctx)
		var err error
		if snap, err = s.peek(ctx, name); err != nil {
			return nil, err
		}
	}
	if !s.expired(snap) {
		return snap, nil
	}
	err := store.Retry(ctx, func() error { // another process may have it go at the same moment
		set, unlock, err := s.lockRegions(ctx, name)
		if err != nil {
			return err
		}
		defer unlock()
		snap = set.now[0]
		return nil
	})
	if err != nil {
		return nil, err
	}
	return snap, nil
}

// loadLocked is load for whoever holds the key's lock, to look at the key and not to change it. Nobody sees material whose time is
// over: it goes from what is returned. From the store it goes with others of its set, which are not locked: with the next load or
// when the scheduler comes to it.
func (s *Service) loadLocked(ctx context.Context, name key.Name) (*snapshot, error) {
	snap, err := s.loadStored(ctx, name)
	if err != nil || !s.expired(snap) {
		return snap, err
	}
	without := snap.Key.Clone()
	for _, id := range snap.Expired(s.now()) {
		without.Drop(id)
	}
	return s.snapshot(without)
}

// loadStored returns a key as it is stored, its material expired or not. The caller holds its lock.
func (s *Service) loadStored(ctx context.Context, name key.Name) (*snapshot, error) {
	if snap, ok := s.keys.look(name); ok {
		return snap, nil
	}
	moment := s.keys.since(name)
	k, err := s.store.GetKey(ctx, name)
	if err != nil {
		return nil, err
	}
	snap, err := s.snapshot(k)
	if err == nil {
		s.keys.putSince(moment, name, snap)
	}
	return snap, err
}

// change replaces a key by what edit makes of it: edit gets the key as it is and a clone to change, or returns an error that
// ends it. When change returns without an error the new state is on disk and every later request sees it. Material whose time is
// over goes before, from all related keys; otherwise nothing depends on those, which may be damaged. Where another process changed
// the key since it was read, edit gets it once more. The transaction asks inTime first.
func (s *Service) change(ctx context.Context, name key.Name, edit changeOfKey, inTime func() error) (snap *snapshot, err error) {
	for {
		var expired bool
		err = store.Retry(ctx, func() error {
			snap, expired, err = s.tryChange(ctx, name, edit, inTime)
			return err
		})
		if !expired {
			return snap, err
		}
		if _, err := s.load(ctx, name); err != nil {
			return nil, err
		}
	}
}

// changeOfKey edits next, a clone of a key as it is now, or returns why it must not be.
type changeOfKey func(now *snapshot, next *key.Key) error

// tryChange is change for a key of which no material has expired: otherwise it reports that, and does nothing.
func (s *Service) tryChange(ctx context.Context, name key.Name, edit changeOfKey, inTime func() error) (snap *snapshot, expired bool, err error) {
	defer s.keys.lock(name)()
	now, err := s.loadStored(ctx, name)
	if err != nil {
		return nil, false, err
	}
	if s.expired(now) {
		return nil, true, nil
	}
	next := now.Key.Clone()
	if err := edit(now, next); err != nil {
		return nil, false, err
	}
	snap, err = s.commit(ctx, now.Key, next, inTime, func(tx *store.Tx) error {
		if loses(now.Key, next) {
			tx.Erase()
		}
		return nil
	})
	return snap, false, err
}

// loses reports whether a key loses octets of its material: they must not stay in any file.
func loses(now, next *key.Key) bool {
	for i := range now.Material {
		m := &now.Material[i]
		if kept := next.FindMaterial(m.ID); m.Imported() && (kept == nil || !kept.Imported()) {
			return true
		}
	}
	return false
}

// asDecided reads a key in a transaction. store.ErrConflict if another server has changed what the guard decided by since snap was read.
func (s *Service) asDecided(tx *store.Tx, snap *snapshot) (*key.Key, error) {
	k, err := tx.GetKey(snap.Name)
	if err != nil {
		return nil, err
	}
	if k.Policy != snap.Policy || !slices.Equal(k.Principals, snap.Principals) || !slices.Equal(k.Tags, snap.Tags) {
		s.keys.drop(snap.Name)
		return nil, fmt.Errorf("%w: the key has another policy, or other tags", store.ErrConflict)
	}
	return k, nil
}

// anyTime is for changes that nobody has asked for: no right to them can be taken.
func anyTime() error { return nil }

// wrapAnew wraps the material of a key that is about to be written with the newest domain key. While seals are rotated the store refuses
// what was wrapped before, such as what was made for a change that waited; it knows then which key is the newest.
func (s *Service) wrapAnew(k *key.Key) error {
	for i := range k.Material {
		m := &k.Material[i]
		if !s.barrier.OldMaterial(m.Wrapped) {
			continue
		}
		wrapped, err := s.custody.Rewrap(k, m)
		if err != nil {
			return err
		}
		m.Wrapped = wrapped
	}
	return nil
}

// commit writes a key in place of what it was, nil if it is new, and shows its snapshot; store.ErrConflict if it was something else.
// The transaction asks inTime before anything else, and extra, if not nil, adds writes to it. The caller holds the key's lock, or has just
// made the key.
func (s *Service) commit(ctx context.Context, was, k *key.Key, inTime func() error, extra func(*store.Tx) error) (*snapshot, error) {
	var snap *snapshot
	err := s.wrapAnew(k)
	if err == nil {
		snap, err = s.snapshot(k)
	}
	if err != nil {
		return nil, err
	}
	moment := s.keys.since(k.Name)
	err = s.store.Update(ctx, func(tx *store.Tx) error {
		if err := inTime(); err != nil {
			return err
		}
		if err := tx.ReplaceKey(was, k); err != nil {
			return err
		}
		if extra != nil {
			return extra(tx)
		}
		return nil
	})
	if err != nil {
		s.keys.drop(k.Name) // whether it was written may be unknown: the store knows
		return nil, err
	}
	s.keys.putSince(moment, k.Name, snap)
	return snap, nil
}

// aliasName says which alias is meant.
type aliasName struct {
	account arn.Account
	region  arn.Region
	name    arn.AliasName
}

func (a aliasName) ARN() string { return a.name.ARN(a.region, a.account) }

// target returns the key that an alias points at, from memory or from the store. The error is store.ErrNotFound or
// internal.
func (s *Service) target(ctx context.Context, a aliasName) (arn.KeyID, error) {
	if id, ok := s.aliases.get(a); ok {
		return id, nil
	}
	defer s.aliases.lock(a)()
	if id, ok := s.aliases.look(a); ok {
		return id, nil
	}
	moment := s.aliases.since(a)
	alias, err := s.store.GetAlias(ctx, a.account, a.region, a.name)
	if err != nil {
		return "", err
	}
	s.aliases.putSince(moment, a, alias.Target)
	return alias.Target, nil
}

// targets are the keys between which an alias is moved: last is empty when it comes, and next when it goes.
type targets struct{ last, next arn.KeyID }

// names returns the keys, the new target first.
func (t targets) names(a aliasName) (list []key.Name) {
	for _, id := range []arn.KeyID{t.next, t.last} {
		if id != "" {
			list = append(list, key.Name{Account: a.account, Region: a.region, ID: id})
		}
	}
	return list
}

// changeAlias runs a transaction that makes, moves or removes an alias, and shows its outcome. Before that it asks whether
// the change is allowed, of the keys as they are: they are locked, because what may be done to a key can depend on its
// aliases, and stay so until the outcome is seen by all.
func (s *Service) changeAlias(ctx context.Context, a aliasName, t targets, allowed func([]*snapshot) error, inTime func() error, write func(*store.Tx) error) error {
	defer s.aliases.lock(a)()
	names := t.names(a)
	defer s.keys.lockTwo(names[0], names[len(names)-1])()
	keys := make([]*snapshot, len(names))
	for i, name := range names {
		var err error
		keys[i], err = s.loadLocked(ctx, name)
		switch {
		case errors.Is(err, store.ErrNotFound) && name.ID == t.next:
			return gone(name, err)
		case errors.Is(err, store.ErrNotFound):
			return errMoved
		case err != nil:
			return err
		}
	}
	if err := allowed(keys); err != nil {
		return err
	}
	moment := s.aliases.since(a)
	err := s.store.Update(ctx, func(tx *store.Tx) error {
		if err := inTime(); err != nil {
			return err
		}
		for _, snap := range keys {
			k, err := s.asDecided(tx, snap)
			switch {
			case errors.Is(err, store.ErrNotFound) && snap.ID != t.next:
				return errMoved
			case err != nil:
				return gone(snap.Name, err)
			case snap.ID == t.next:
				if err := usableTarget(k); err != nil {
					return err
				}
			}
		}
		return write(tx)
	})
	for _, name := range names {
		s.forgetAliasList(name)
	}
	if err != nil || t.next == "" {
		s.aliases.drop(a)
		return err
	}
	s.aliases.putSince(moment, a, t.next)
	return nil
}

// The least and the most of the names of a key's aliases that are kept in memory for conditions, whatever the quota.
const (
	leastListed = 50
	mostListed  = 10_000
)

// aliasNames returns the names of a key's aliases, from memory or from the store. A key can have more than the quota allows, from
// when there was none or a larger one: calls to it are refused where a policy asks for them.
func (s *Service) aliasNames(ctx context.Context, name key.Name) ([]string, error) {
	if names, ok := s.aliasLists.get(name); ok {
		return names, nil
	}
	defer s.aliasLists.lock(name)()
	moment := s.aliasLists.since(name)
	list, more, err := s.store.ListAliasesOfKey(ctx, name, "", int(min(max(s.most(name, quota.AliasesPerKey), leastListed), mostListed)))
	if err != nil {
		return nil, err
	}
	if more {
		return nil, wire.Errorf(wire.CodeAccessDenied, "%s has more aliases than a condition on kms:ResourceAliases can be about.", name.ARN())
	}
	names := make([]string, len(list))
	for i, a := range list {
		names[i] = string(a.Name)
	}
	s.aliasLists.putSince(moment, name, names)
	return names, nil
}

func (s *Service) forgetAliasList(name key.Name) {
	defer s.aliasLists.lock(name)()
	s.aliasLists.drop(name)
}

// lookup resolves an alias to its key's snapshot. A name that outlived its key in memory is looked up again.
func (s *Service) lookup(ctx context.Context, a aliasName) (*snapshot, error) {
	id, err := s.target(ctx, a)
	if err != nil {
		return nil, err
	}
	snap, err := s.load(ctx, key.Name{Account: a.account, Region: a.region, ID: id})
	if !errors.Is(err, store.ErrNotFound) {
		return snap, err
	}
	func() {
		defer s.aliases.lock(a)()
		s.aliases.drop(a)
	}()
	if id, err = s.target(ctx, a); err != nil {
		return nil, err
	}
	return s.load(ctx, key.Name{Account: a.account, Region: a.region, ID: id})
}
