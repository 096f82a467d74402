package kms

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/store"
)

// dueBatch is how many due keys one look at the store brings.
const dueBatch = 100

// Lease says which of several servers does what is due.
type Lease interface {
	// Leads reports whether it is this one now.
	Leads() bool
	// Taken receives something when that begins.
	Taken() <-chan struct{}
}

// RunSchedule does what is due until ctx ends: it rotates and deletes keys, ends their creation and update, drops imported material
// whose time is over, and writes down when keys were used, also at the end. What is due is in the store, so that nothing is
// forgotten over a restart; every is how often it looks, and it does at the start. Where several servers share a store one is to do this:
// lease says whether it is this one; nil means that there are no others. Each writes down itself when keys were used here.
func (s *Service) RunSchedule(ctx context.Context, every time.Duration, lease Lease) {
	leads, taken := always, (<-chan struct{})(nil)
	if lease != nil {
		leads, taken = lease.Leads, lease.Taken()
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	flush := time.NewTicker(flushEvery)
	defer flush.Stop()
	defer s.flush(context.WithoutCancel(ctx))
	look := func() {
		if err := s.runDue(ctx, leads); err != nil && ctx.Err() == nil {
			logFailure("scheduled work", key.Name{}, err)
		}
	}
	look()
	for full := s.uses.full; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			look()
		case <-taken:
			look()
		case <-flush.C:
			full = s.flush(ctx)
		case <-full:
			full = s.flush(ctx)
		}
	}
}

// flush writes last uses, and returns who asks for that before it is time: nobody after a failure, which the next attempt at once would
// only repeat.
func (s *Service) flush(ctx context.Context) chan struct{} {
	err := s.FlushUses(ctx)
	s.uses.failing.Store(err != nil)
	if err == nil {
		return s.uses.full
	}
	if ctx.Err() == nil {
		slog.Warn("the last uses of keys will be written later", "err", err)
	}
	return nil
}

// retryAfter is how long a key whose work failed is left alone, so that a failing disk does not fill the log.
const retryAfter = time.Minute

// RunDue does everything that is due now, once. A key whose work fails is logged and left alone for a minute. The error
// says that the store could not tell what is due. Of several callers one waits for the other.
func (s *Service) RunDue(ctx context.Context) error { return s.runDue(ctx, always) }

func always() bool { return true }

// runDue is RunDue until leads says that another server does it.
func (s *Service) runDue(ctx context.Context, leads func() bool) error {
	s.due.Lock()
	defer s.due.Unlock()
	now := s.now()
	maps.DeleteFunc(s.failed, func(_ key.Name, at time.Time) bool { return !at.Add(retryAfter).After(now) })
	seen := map[key.Name]bool{} // each key once: what the index calls due, the key itself may not
	for leads() {
		names, err := s.store.DueKeys(ctx, now, dueBatch+len(s.failed)+len(seen))
		if err != nil {
			return err
		}
		worked := false
		for _, name := range names {
			if _, failed := s.failed[name]; failed || seen[name] {
				continue
			}
			if err := ctx.Err(); err != nil || !leads() {
				return err // what has begun is ended, what has not is left
			}
			worked, seen[name] = true, true
			if err := s.runDueKey(ctx, name); err != nil {
				logFailure("scheduled work on a key", name, err)
				s.failed[name] = now
			}
		}
		if !worked {
			return nil
		}
	}
	return nil
}

func (s *Service) runDueKey(ctx context.Context, name key.Name) error {
	snap, err := s.peek(ctx, name)
	if err == nil && rotationDue(snap.Key, s.now()) {
		err = s.rotateKey(ctx, snap)
	} else if err == nil {
		err = s.workOnKey(ctx, name)
	}
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, errNotDue) || errors.Is(err, store.ErrConflict) {
		return nil // it has changed since the store was asked: what is due still is found with the next look
	}
	return err
}

// errNotDue says that there is nothing to do any more.
var errNotDue = errors.New("not due")

func passed(at, now time.Time) bool { return !at.IsZero() && !at.After(now) }

func rotationDue(k *key.Key, now time.Time) bool {
	return k.State == key.Enabled && !k.IsReplica() && k.Rotation.Enabled && passed(k.Rotation.Next, now)
}

// workOnKey does what is due of a key but its rotation.
func (s *Service) workOnKey(ctx context.Context, name key.Name) error {
	set, unlock, err := s.lockRegions(ctx, name) // material that has expired is gone then
	if err != nil {
		return err
	}
	defer unlock()
	snap, now := set.now[0], s.now()
	// Each kind of work asks for its own date. What else is due, such as material that has expired since the key was loaded, is
	// for the next look; and the key may have changed since the store was asked.
	switch {
	case snap.State == key.PendingDeletion && passed(snap.DeletionAt, now):
		return s.deleteKey(ctx, set)
	case (snap.State == key.Creating || snap.State == key.Updating) && passed(snap.ReadyAt, now):
		return s.makeReady(ctx, set)
	}
	return nil
}

// deleteKey removes a key, its material and its aliases for good, in the Region that the set was locked for. A primary key that
// waited for the last of its replicas to go goes itself when its own window has passed.
func (s *Service) deleteKey(ctx context.Context, set *regionSet) error {
	set.gone = set.own()
	if primary := set.primary(); primary != set.gone {
		primary.Replicas = slices.DeleteFunc(primary.Replicas, func(r arn.Region) bool { return r == set.gone.Region })
		if len(primary.Replicas) == 0 && primary.State == key.PendingReplicaDeletion {
			primary.State, primary.DeletionAt = key.PendingDeletion, s.moment().AddDate(0, 0, primary.PendingWindowInDays)
		}
		set.share()
	}
	return s.guard.Act(guard.DeleteKey, set.gone.Name, nothing, func(record func() error) error {
		return s.commitRegions(context.WithoutCancel(ctx), set, anyTime, nil, record)
	})
}

// makeReady ends the creation of a replica, or the update of a key that became or ceased to be the primary one.
func (s *Service) makeReady(ctx context.Context, set *regionSet) error {
	k := set.own()
	made := k.State == key.Creating
	k.State, k.Next, k.ReadyAt = k.Next, "", time.Time{}
	if !k.Complete() && k.State == key.Enabled {
		k.State = key.PendingImport
	}
	commit := func(record func() error) error {
		_, err := s.commit(context.WithoutCancel(ctx), set.now[0].Key, k, anyTime, func(*store.Tx) error { return record() })
		return err
	}
	if made {
		return s.guard.Act(guard.SynchronizeKey, k.Name, nothing, commit)
	}
	return commit(noRecord)
}

// forget drops everything that is remembered of a key. The caller holds the key's lock.
func (s *Service) forget(name key.Name) {
	s.keys.drop(name)
	s.forgetAliasList(name)
	s.uses.forget(name)
	defer s.grants.lock(name)()
	s.grants.drop(name)
}

// rotateKey gives a key whose rotation is due its next material, which it makes before the key is locked: an engine may take its
// time. However late it is, one rotation is done and the next one is a period after the last date that has passed.
func (s *Service) rotateKey(ctx context.Context, snap *snapshot) error {
	var set *regionSet
	unlock := func() {}
	defer func() { unlock() }()
	return s.guard.Act(guard.RotateKey, snap.Name, func(p guard.Permit) (*audit.Fields, error) {
		m, err := s.custody.Generate(ctx, p, snap.Key, s.moment())
		if err != nil {
			return nil, err
		}
		locked, end, err := s.lockRegions(ctx, snap.Name)
		if err != nil {
			return nil, err
		}
		set, unlock = locked, end
		next, now := set.own(), s.now()
		if !rotationDue(next, now) {
			return nil, errNotDue
		}
		if next.Rotation.PeriodInDays <= 0 {
			return nil, fmt.Errorf("%s rotates every %d days", next.ARN(), next.Rotation.PeriodInDays)
		}
		for !next.Rotation.Next.After(now) {
			next.Rotation.Next = next.Rotation.Next.AddDate(0, 0, next.Rotation.PeriodInDays)
		}
		return s.rotate(set, key.Automatic, m), nil
	}, func(record func() error) error {
		return s.commitRegions(context.WithoutCancel(ctx), set, anyTime, nil, record)
	})
}
