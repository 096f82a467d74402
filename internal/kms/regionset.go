package kms

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// Each key of a multi-Region set has a row of its own, with what all of them share in each. What is shared changes in all rows
// in one transaction, under the locks of all keys: whoever looks at any of them never sees them differ.

// regionSet is a key in every Region that has it, locked: as it is and as it is to be. A single-Region key is a set of one.
type regionSet struct {
	now  []*snapshot // the key that was asked for comes first; after commitRegions, those of next
	next []*key.Key  // clones, in the same order; those that are to be made follow
	gone *key.Key    // the one of next that is to go, if one is
	// told is the one of next that the record of the change itself names; nil for the first.
	told *key.Key
}

// own returns the key that was asked for.
func (g *regionSet) own() *key.Key { return g.next[0] }

// primary returns the primary key, or the only one.
func (g *regionSet) primary() *key.Key {
	for _, k := range g.next {
		if !k.IsReplica() {
			return k
		}
	}
	return nil
}

// replica returns the replica in a Region, or nil.
func (g *regionSet) replica(r arn.Region) *key.Key {
	for _, k := range g.next {
		if k.Region == r && k.IsReplica() {
			return k
		}
	}
	return nil
}

// share gives all keys what the primary key has of what they share.
func (g *regionSet) share() {
	from := g.primary()
	var replicas []*key.Key
	for _, k := range g.next {
		if k != from && k != g.gone {
			k.Primary, k.Replicas, k.Rotation = from.Primary, slices.Clone(from.Replicas), from.Rotation
			replicas = append(replicas, k)
		}
	}
	key.Share(from, replicas)
}

// related returns the names of the keys of a key's set, its own first.
func related(k *key.Key) []key.Name {
	names := []key.Name{k.Name}
	if !k.MultiRegion {
		return names
	}
	for _, r := range append([]arn.Region{k.Primary}, k.Replicas...) {
		if r != k.Region {
			names = append(names, key.Name{Account: k.Account, Region: r, ID: k.ID})
		}
	}
	return names
}

// lockRegions locks a key in all its Regions, and in others where it is to be made. The error is store.ErrNotFound if there is no
// such key, or internal. The caller holds no lock of a key.
func (s *Service) lockRegions(ctx context.Context, name key.Name, also ...arn.Region) (*regionSet, func(), error) {
	snap, err := s.peek(ctx, name)
	for err == nil {
		names := related(snap.Key)
		locked := slices.Clone(names)
		for _, r := range also {
			locked = append(locked, key.Name{Account: name.Account, Region: r, ID: name.ID})
		}
		unlock := s.keys.lockAll(locked)
		var set *regionSet
		if set, err = s.loadRegions(ctx, names); err == nil && slices.Equal(related(set.now[0].Key), names) {
			if err = s.expireRegions(ctx, set); err == nil {
				return set, unlock, nil
			}
		}
		if err == nil {
			snap = set.now[0] // the set has grown or shrunk since
		}
		unlock()
	}
	return nil, nil, err
}

// peek returns a key as it is stored.
func (s *Service) peek(ctx context.Context, name key.Name) (*snapshot, error) {
	defer s.keys.lock(name)()
	return s.loadStored(ctx, name)
}

// expireRegions deletes the material of a set whose time is over, each with its record. What the primary key has not yet encrypted
// under goes from all keys.
func (s *Service) expireRegions(ctx context.Context, set *regionSet) error {
	for i := range set.now {
		for _, id := range set.now[i].Expired(s.now()) {
			set.next[i].Drop(id)
			set.share()
			set.told = set.next[i]
			commit := func(record func() error) error {
				return s.commitRegions(context.WithoutCancel(ctx), set, anyTime, nil, record)
			}
			if err := s.guard.Act(guard.DeleteExpiredMaterial, set.next[i].Name, expiredDetails(set.next[i], id), commit); err != nil {
				return err
			}
			for j, snap := range set.now {
				set.next[j] = snap.Key.Clone()
			}
			set.told = nil
		}
	}
	return nil
}

func (s *Service) loadRegions(ctx context.Context, names []key.Name) (*regionSet, error) {
	set := new(regionSet)
	for i, name := range names {
		snap, err := s.loadStored(ctx, name)
		if i > 0 && errors.Is(err, store.ErrNotFound) {
			if set, err := s.loadRegions(ctx, names[:1]); err != nil || !slices.Equal(related(set.now[0].Key), names) {
				return set, err // the names were those of before
			}
			return nil, fmt.Errorf("%s is not there, though %s is a key of the same set", name.ARN(), names[0].ARN())
		}
		if err != nil {
			return nil, err
		}
		set.now, set.next = append(set.now, snap), append(set.next, snap.Key.Clone())
	}
	return set, nil
}

// commitRegions writes the keys of a set and shows their snapshots, also in the set: nothing has to be read after the commit, which could
// fail when the change was made. extra, if not nil, adds writes to the same transaction. Within it,
// when it is certain that nobody has changed the keys meanwhile, record writes the change's own record, and replicas that get something
// from it each have a record of that.
func (s *Service) commitRegions(ctx context.Context, set *regionSet, inTime func() error, extra func(*store.Tx) error, record func() error) error {
	snaps := make([]*snapshot, len(set.next))
	for i, k := range set.next {
		var err error
		if k != set.gone {
			err = s.wrapAnew(k)
		}
		if err == nil {
			snaps[i], err = s.snapshot(k)
		}
		if err != nil {
			return err
		}
	}
	return s.synchronize(set, record, func(record func() error) error {
		moments := make([]uint64, len(set.next))
		for i, k := range set.next {
			moments[i] = s.keys.since(k.Name)
		}
		err := s.store.Update(ctx, func(tx *store.Tx) error {
			if err := inTime(); err != nil {
				return err
			}
			if err := set.write(tx, extra); err != nil {
				return err
			}
			return record()
		})
		for i, k := range set.next {
			switch {
			case k == set.gone && !errors.Is(err, store.ErrConflict):
				s.forget(k.Name)
			case err != nil:
				s.keys.drop(k.Name) // as in commit
			default:
				s.keys.putSince(moments[i], k.Name, snaps[i])
			}
		}
		if err == nil {
			set.now = snaps
		}
		return err
	})
}

func (g *regionSet) write(tx *store.Tx, extra func(*store.Tx) error) error {
	for i, k := range g.next {
		var err error
		switch {
		case k == g.gone:
			if err = tx.ExpectKey(g.now[i].Key); err == nil {
				err = tx.DeleteKey(k.Name)
			}
		case i < len(g.now):
			err = tx.ReplaceKey(g.now[i].Key, k)
		default:
			err = tx.ReplaceKey(nil, k)
		}
		if err != nil {
			return err
		}
		if i < len(g.now) && k != g.gone {
			if loses(g.now[i].Key, k) {
				tx.Erase()
			}
		}
	}
	if extra != nil {
		return extra(tx)
	}
	return nil
}

// synchronize runs commit with record and a record for each replica that gets something from it, but the one that has a record of its own.
func (s *Service) synchronize(set *regionSet, record func() error, commit func(record func() error) error) error {
	told := cmp.Or(set.told, set.own())
	for i, k := range set.next[:len(set.now)] {
		name, follow := k.Name, commit
		if k != told && k != set.gone && k.IsReplica() && follows(set.now[i].Key, k) {
			commit = func(before func() error) error {
				return s.guard.Act(guard.SynchronizeKey, name, nothing, func(record func() error) error {
					return follow(func() error {
						if err := before(); err != nil {
							return err
						}
						return record()
					})
				})
			}
		}
	}
	return commit(record)
}

// noRecord is for a change whose record is that of the call, or that needs none.
func noRecord() error { return nil }

// nothing is the preparation of an event that needs none.
func nothing(guard.Permit) (*audit.Fields, error) { return nil, nil }

// follows reports whether a replica differs from what it was in what it has from its primary key.
func follows(was, is *key.Key) bool {
	return was.Rotation != is.Rotation || was.Primary != is.Primary ||
		!slices.EqualFunc(was.Material, is.Material, func(a, b key.Material) bool { return a.ID == b.ID && a.State == b.State })
}

// changeRegions changes the request's key and those that share with it, under the rules of change.
func (r *request) changeRegions(edit func(*regionSet) error) error {
	return r.retry(func() error { return r.changeRegionsOnce(edit) })
}

func (r *request) changeRegionsOnce(edit func(*regionSet) error) error {
	set, unlock, err := r.lockRegions(r.ctx, r.key.Name)
	if err != nil {
		return gone(r.key.Name, err)
	}
	defer unlock()
	if err := firstError(r.stillAllowed(set.now[0]), r.op.States.blocks(set.own())); err != nil {
		return err
	}
	if err := edit(set); err != nil {
		return err
	}
	set.share()
	if err := r.commitRegions(r.ctx, set, r.inTime, nil, noRecord); err != nil {
		return err
	}
	r.key = set.now[0]
	return nil
}

// changeShared is change for what all keys of a set share, edited in the request's key.
func (r *request) changeShared(edit func(*key.Key) error) error {
	return r.changeRegions(func(set *regionSet) error { return edit(set.own()) })
}

// isPrimary returns the error for a key that follows another one, or has none to follow it where it must have.
func isPrimary(k *key.Key) error {
	if !k.MultiRegion || k.IsReplica() {
		return notPrimary(k)
	}
	return nil
}

// leads returns the error for a replica, which has from its primary key what is to change.
func leads(k *key.Key) error {
	if k.IsReplica() {
		return notPrimary(k)
	}
	return nil
}

func notPrimary(k *key.Key) error {
	return wire.Errorf(kmsapi.CodeUnsupportedOperationException, "%s is not a multi-region primary key.", k.ARN())
}
