package iam

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/identity"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
)

// realm remembers the views of accounts, a bounded number of them. It is safe for concurrent use.
type realm struct {
	limit int

	mu    sync.RWMutex
	views map[arn.Account]*view
	count uint64 // of views that ever were
	// heard is how far the feeds of accounts have come that other servers changed. A view that is older is not shown.
	heard map[arn.Account]int64
	epoch uint64 // counts how often all was forgotten because nobody knows what has changed
}

func (r *realm) get(a arn.Account) *view {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.views[a]
}

// put shows a view, which nobody else has yet, to everybody. It is of what was read, or written, since an epoch.
func (r *realm) put(epoch uint64, v *view) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.views == nil {
		r.views = map[arn.Account]*view{}
	}
	r.count++
	v.generation = r.count
	v.policyUses = sync.OnceValue(v.countUses)
	if epoch != r.epoch || v.position < r.heard[v.account.ID] {
		delete(r.views, v.account.ID)
		return
	}
	delete(r.heard, v.account.ID) // what comes is newer
	for other := range r.views {  // any: whichever goes is read again when it is asked for
		if len(r.views) < r.limit {
			break
		}
		delete(r.views, other)
	}
	r.views[v.account.ID] = v
}

// now returns the epoch to hand to put. Take it before the store is read or written.
func (r *realm) now() uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.epoch
}

// changed forgets an account whose feed has come to n by another server, unless the view has that.
func (r *realm) changed(a arn.Account, n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v := r.views[a]; v != nil && v.position >= n {
		return
	}
	delete(r.views, a)
	if r.heard == nil {
		r.heard = map[arn.Account]int64{}
	}
	r.heard[a] = max(r.heard[a], n)
}

func (r *realm) drop(a arn.Account) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.views, a)
}

func (r *realm) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.views)
	clear(r.heard)
	r.epoch++
}

// Heard forgets what other servers on the same store have changed, and everything if some of it was lost. What is being read
// meanwhile is not remembered, so that nothing older than the news is left when it returns. It waits for nobody.
func (d *Directory) Heard(news []store.News, lost bool) {
	if lost {
		d.realm.clear()
		d.ready.clear()
		return
	}
	for _, n := range news {
		if n.Region != store.GlobalRegion {
			continue
		}
		d.realm.changed(n.Account, n.N)
		if n.Kind == store.ChangedAccessKey {
			d.ready.drop(n.Ref)
		}
	}
}

// Forget has wipe empty the store and drops everything that is remembered of it, for servers that others test with. No request may
// be under way.
func (d *Directory) Forget(wipe func() error) error {
	d.changing.Lock()
	defer d.changing.Unlock()
	d.flushing.Lock()
	defer d.flushing.Unlock()
	err := wipe()
	d.realm.clear()
	d.ready.clear()
	d.tokens.clear()
	d.passwords.clear()
	d.uses.take()
	return err
}

// view returns the account as it is now; store.ErrNotFound if there is no such account.
func (d *Directory) view(ctx context.Context, a arn.Account) (*view, error) {
	if v := d.realm.get(a); v != nil {
		return v, nil
	}
	if _, err := d.store.GetAccount(ctx, a); err != nil {
		return nil, err // before the lock: who asks for accounts that are not there holds nobody up
	}
	d.changing.Lock() // so that nothing that is read here is older than a change that was put
	defer d.changing.Unlock()
	return d.load(ctx, a)
}

// load is view for those who hold the lock.
func (d *Directory) load(ctx context.Context, a arn.Account) (*view, error) {
	if v := d.realm.get(a); v != nil {
		return v, nil
	}
	epoch := d.realm.now()
	position, err := d.store.Position(ctx, a, store.GlobalRegion) // first: what is read then is as new as that, or newer
	if err != nil {
		return nil, err
	}
	account, err := d.store.GetAccount(ctx, a)
	if err != nil {
		return nil, err
	}
	all, err := d.store.ListIdentities(ctx, a)
	if err != nil {
		return nil, err
	}
	v := newView(account)
	v.position = position
	for _, n := range all {
		if err := v.add(n); err != nil {
			return nil, fmt.Errorf("reading %s %s of account %s: %w", n.Kind, n.ID, a, err)
		}
	}
	d.realm.put(epoch, v)
	return v, nil
}

// change is an edit of an account. What it has put and removed holds for everybody once it is on disk, and never half of it.
type change struct {
	*view  // as it will be
	base   *view
	writes []func(*store.Tx) error
	after  []func() // whatever became of it
}

// change runs f on a copy of the account's view, writes what f changed and then shows the copy to everybody. call may be
// nil for a change that has no audit record of its own. Where another server changed the account since it was read, it is read again and f
// is run once more.
func (d *Directory) change(ctx context.Context, call *guard.Call, a arn.Account, f func(*change) error) error {
	d.changing.Lock()
	defer d.changing.Unlock()
	return store.Retry(ctx, func() error { return d.changeOnce(ctx, call, a, f) })
}

func (d *Directory) changeOnce(ctx context.Context, call *guard.Call, a arn.Account, f func(*change) error) error {
	v, err := d.load(ctx, a)
	if err != nil {
		return err
	}
	c := &change{view: v.clone(), base: v}
	if err := f(c); err != nil || len(c.writes) == 0 {
		return err
	}
	if call != nil {
		if err := call.Reserve(); err != nil {
			return err
		}
	}
	epoch := d.realm.now()
	err = d.store.Update(ctx, func(tx *store.Tx) error {
		err := tx.Expect(a, store.GlobalRegion, v.position)
		for i := 0; i < len(c.writes) && err == nil; i++ {
			err = c.writes[i](tx)
		}
		if err == nil {
			c.position, err = tx.Position(a, store.GlobalRegion)
		}
		return err
	})
	if err == nil {
		d.realm.put(epoch, c.view)
	} else {
		d.realm.drop(a) // the store knows
	}
	for _, f := range c.after {
		f()
	}
	return err
}

// put writes a noun, new or in place of the one with its id. The noun must not be changed any more.
func put[N identity.Noun](c *change, s *shelf[N], n N, hidden secret.Bytes) error {
	body, err := identity.Encode(n)
	if err != nil {
		return err
	}
	m := *n.Of()
	row := &store.Identity{Account: m.Account, Kind: string(s.kind), Name: identity.Fold(m.Name), ID: m.ID, Body: body, Secret: hidden}
	if old := s.ids[m.ID]; old != nil {
		if was := identity.Fold(old.noun.Of().Name); was != row.Name {
			c.writes = append(c.writes, func(tx *store.Tx) error { return tx.DeleteIdentity(row.Account, row.Kind, was) })
		}
	}
	c.writes = append(c.writes, func(tx *store.Tx) error { return tx.PutIdentity(row) })
	s.put(newEntry(n, hidden))
	return nil
}

// replace is put for a noun whose secret stays what it is.
func replace[N identity.Noun](c *change, s *shelf[N], n N) error {
	var hidden secret.Bytes
	if old := s.ids[n.Of().ID]; old != nil {
		hidden = old.secret
	}
	return put(c, s, n, hidden)
}

// remove deletes a noun.
func remove[N identity.Noun](c *change, s *shelf[N], n N) {
	m := *n.Of()
	kind := string(s.kind)
	c.writes = append(c.writes, func(tx *store.Tx) error { return tx.DeleteIdentity(m.Account, kind, identity.Fold(m.Name)) })
	s.remove(m.ID)
}

// exists reports whether there is an account.
func (d *Directory) exists(ctx context.Context, a arn.Account) (*view, bool, error) {
	v, err := d.view(ctx, a)
	if errors.Is(err, store.ErrNotFound) {
		return nil, false, nil
	}
	return v, err == nil, err
}
