package kms

import (
	"context"
	"errors"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// flushEvery is how often the last uses of keys are written down; a server that is killed forgets what came after. AWS KMS
// allows itself an hour until a use is seen (API_GetKeyLastUsage); here it is seen at once.
const flushEvery = time.Minute

// flushBatch is how many uses are written before they are forgotten here.
const flushBatch = 500

// trackingBegan is when AWS KMS began to keep the last uses of keys (API_GetKeyLastUsage).
var trackingBegan = time.Date(2026, 4, 23, 0, 0, 0, 0, time.UTC)

// usesPerCachedKey is how many last uses may wait in memory, for each key that may stay there, before they are written down early. Some
// twenty of them take as much memory as a key; and whoever uses more keys than that reads them from the store anyway.
const usesPerCachedKey = 4

// uses has the last uses of keys that are not yet in the store. It is in shards, so that busy keys do not wait for each other.
type uses struct {
	seed   maphash.Seed
	many   int           // in a shard
	full   chan struct{} // there are so many in one that they should be written
	shards [64]useShard
	count  atomic.Int64 // in all shards

	patience time.Duration // of room
	failing  atomic.Bool   // they could not be written: it makes no sense to wait for that

	mu      sync.Mutex
	written chan struct{} // closed when some of them are
}

// roomPatience is how long a request waits for room for the use of one more key: much less than what it is decided by may be old.
const roomPatience = 100 * time.Millisecond

// most is how many uses may wait before those of more keys have to.
func (u *uses) most() int64 { return 2 * int64(u.many) * int64(len(u.shards)) }

// room waits, for a while, if uses of twice as many keys as may wait in memory do: they come faster than they are written down. It is for
// requests with keys that are not in memory, which wait for the store anyway.
func (u *uses) room(ctx context.Context) {
	if u.count.Load() < u.most() || u.failing.Load() {
		return
	}
	patience := time.NewTimer(u.patience)
	defer patience.Stop()
	for {
		u.mu.Lock()
		written := u.written
		u.mu.Unlock()
		if u.count.Load() < u.most() {
			return
		}
		select {
		case <-written:
		case <-patience.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

type useShard struct {
	mu   sync.Mutex
	last map[key.Name]store.KeyUse
}

// newUses returns uses of which many are limit.
func newUses(limit int) *uses {
	u := &uses{seed: maphash.MakeSeed(), full: make(chan struct{}, 1), written: make(chan struct{}), patience: roomPatience}
	u.many = max(limit/len(u.shards), 1)
	for i := range u.shards {
		u.shards[i].last = map[key.Name]store.KeyUse{}
	}
	return u
}

func (u *uses) shard(n key.Name) *useShard {
	return &u.shards[maphash.String(u.seed, string(n.ID))%uint64(len(u.shards))]
}

// note takes a use, unless a later one is known.
func (u *uses) note(use store.KeyUse) {
	s := u.shard(use.Key)
	s.mu.Lock()
	defer s.mu.Unlock()
	last, ok := s.last[use.Key]
	if !ok || !use.At.Before(last.At) {
		s.last[use.Key] = use
	}
	if !ok {
		u.count.Add(1)
	}
	if len(s.last) >= u.many {
		select {
		case u.full <- struct{}{}:
		default: // somebody has been told
		}
	}
}

func (u *uses) of(n key.Name) (store.KeyUse, bool) {
	s := u.shard(n)
	s.mu.Lock()
	defer s.mu.Unlock()
	use, ok := s.last[n]
	return use, ok
}

// forget drops what it knows of a key that was deleted.
func (u *uses) forget(n key.Name) {
	s := u.shard(n)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.last[n]; ok {
		delete(s.last, n)
		u.count.Add(-1)
	}
}

// clear drops everything.
func (u *uses) clear() {
	for i := range u.shards {
		s := &u.shards[i]
		s.mu.Lock()
		u.count.Add(-int64(len(s.last)))
		clear(s.last)
		s.mu.Unlock()
	}
}

// list returns all that is there.
func (u *uses) list() (all []store.KeyUse) {
	for i := range u.shards {
		s := &u.shards[i]
		s.mu.Lock()
		for _, use := range s.last {
			all = append(all, use)
		}
		s.mu.Unlock()
	}
	return all
}

// wrote drops uses that are in the store now, but for keys that were used again.
func (u *uses) wrote(batch []store.KeyUse) {
	for _, use := range batch {
		s := u.shard(use.Key)
		s.mu.Lock()
		if s.last[use.Key] == use {
			delete(s.last, use.Key)
			u.count.Add(-1)
		}
		s.mu.Unlock()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	close(u.written)
	u.written = make(chan struct{})
}

// FlushUses writes down when keys were last used. What could not be written stays for the next time.
func (s *Service) FlushUses(ctx context.Context) error {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	all := s.uses.list()
	for len(all) > 0 {
		batch := all[:min(len(all), flushBatch)]
		all = all[len(batch):]
		if err := s.store.PutKeyUses(ctx, batch); err != nil {
			return err
		}
		s.uses.wrote(batch)
	}
	return nil
}

// usedKey notes that the request uses a key. ReEncrypt uses two.
func (r *request) usedKey(snap *snapshot) {
	if r.used[0] == nil {
		r.used[0] = snap
	} else if r.used[0] != snap {
		r.used[1] = snap
	}
}

// noteUses remembers which keys a request has used. It succeeded, and its record, which the uses name, is written.
func (r *request) noteUses() {
	if r.op.Usage == "" {
		return
	}
	if r.key != nil {
		r.usedKey(r.key)
	}
	for _, snap := range r.used {
		if snap != nil {
			r.Service.uses.note(store.KeyUse{
				Key: snap.Name, At: r.moment(), Operation: r.op.Name, EventID: r.call.EventOf(snap.Account), RequestID: r.call.RequestID,
			})
		}
	}
}

// lastUse returns the last use of a key, or nil if it was never used.
func (s *Service) lastUse(ctx context.Context, n key.Name) (*store.KeyUse, error) {
	if use, ok := s.uses.of(n); ok {
		return &use, nil
	}
	use, err := s.store.GetKeyUse(ctx, n)
	if errors.Is(err, store.ErrNotFound) {
		if use, ok := s.uses.of(n); ok { // noted since
			return &use, nil
		}
		return nil, nil
	}
	return use, err
}

// trackedSince returns from when on a use of a key would be known.
func (s *Service) trackedSince(ctx context.Context, k *key.Key) (time.Time, error) {
	since, err := s.store.UsesSince(ctx)
	if err != nil {
		return since, err
	}
	for _, t := range []time.Time{trackingBegan, k.CreatedAt} {
		if t.After(since) {
			since = t
		}
	}
	return since, nil
}

// idleFacts returns facts with kms:TrailingDaysWithoutKeyUsage: the whole days since the key was used, or, if it never was, since a
// use would be known.
func (r *request) idleFacts(snap *snapshot, facts guard.FactSource) (guard.FactSource, error) {
	use, err := r.lastUse(r.ctx, snap.Name)
	if err != nil {
		return nil, err
	}
	var from time.Time
	if use != nil {
		from = use.At
	} else if from, err = r.trackedSince(r.ctx, snap.Key); err != nil {
		return nil, err
	}
	days := max(int64(r.now().Sub(from)/(24*time.Hour)), 0)
	return func(f *guard.Facts, in wire.Input) {
		if facts != nil {
			facts(f, in)
		}
		f.Int("kms:TrailingDaysWithoutKeyUsage", days)
	}, nil
}

func getKeyLastUsage(r *request, _ *kmsapi.GetKeyLastUsageRequest) (*kmsapi.GetKeyLastUsageResponse, error) {
	since, err := r.trackedSince(r.ctx, r.key.Key)
	if err != nil {
		return nil, err
	}
	use, err := r.lastUse(r.ctx, r.key.Name)
	if err != nil {
		return nil, err
	}
	out := &kmsapi.GetKeyLastUsageResponse{
		KeyID: wire.Some(string(r.key.ID)), KeyLastUsage: &kmsapi.KeyLastUsageData{}, TrackingStartDate: wire.Some(since), KeyCreationDate: wire.Some(r.key.CreatedAt),
	}
	if use != nil {
		out.KeyLastUsage = &kmsapi.KeyLastUsageData{
			Operation: wire.Some(use.Operation), Timestamp: wire.Some(use.At), CloudTrailEventID: wire.Some(use.EventID), KmsRequestID: wire.Some(use.RequestID),
		}
	}
	return out, nil
}
