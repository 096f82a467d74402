package iam

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
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
	count uint64     // of views that ever were
	news  [64]uint64 // how often an account of a stripe was changed: see since
	seed  maphash.Seed
}

func newRealm(limit int) realm {
	return realm{limit: limit, views: map[arn.Account]*view{}, seed: maphash.MakeSeed()}
}

func (r *realm) get(a arn.Account) *view {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.views[a]
}

func (r *realm) stripe(a arn.Account) *uint64 {
	return &r.news[maphash.String(r.seed, string(a))%uint64(len(r.news))]
}

// since returns a moment for put. Whoever reads an account from the store, or changes it there, asks for it before.
func (r *realm) since(a arn.Account) (moment uint64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return *r.stripe(a)
}

// put shows a view, which nobody else has yet, to everybody, unless the account has changed since a moment: then it may be outdated.
func (r *realm) put(moment uint64, v *view) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.show(moment, v)
}

// putChanged is put for who has changed the account: the view that is there is older, and so may be what others read meanwhile.
func (r *realm) putChanged(moment uint64, v *view) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.views, v.account.ID)
	r.show(moment, v)
	*r.stripe(v.account.ID)++
}

func (r *realm) show(moment uint64, v *view) {
	r.count++
	v.generation = r.count
	v.policyUses = sync.OnceValue(v.countUses)
	if moment != *r.stripe(v.account.ID) {
		return
	}
	for other := range r.views { // any: whichever goes is read again when it is asked for
		if len(r.views) < r.limit {
			break
		}
		delete(r.views, other)
	}
	r.views[v.account.ID] = v
}

// changed forgets an account whose feed has come to n by another server, unless the view has that.
func (r *realm) changed(a arn.Account, n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*r.stripe(a)++
	if v := r.views[a]; v == nil || v.position < n {
		delete(r.views, a)
	}
}

func (r *realm) drop(a arn.Account) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*r.stripe(a)++
	delete(r.views, a)
}

func (r *realm) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.news {
		r.news[i]++
	}
	clear(r.views)
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

// view returns the account as it is now; store.ErrNotFound if there is no such account. It waits for nobody who changes the account.
func (d *Directory) view(ctx context.Context, a arn.Account) (*view, error) {
	if v := d.realm.get(a); v != nil {
		return v, nil
	}
	return d.loads.do(ctx, a, func() (*view, error) {
		if v := d.realm.get(a); v != nil { // the load before this one put it
			return v, nil
		}
		return d.load(context.WithoutCancel(ctx), a) // others wait for it
	})
}

func (d *Directory) load(ctx context.Context, a arn.Account) (*view, error) {
	moment := d.realm.since(a)
	whole, err := d.store.GetWholeAccount(ctx, a)
	if err != nil {
		return nil, err
	}
	v := newView(whole.Account)
	v.position = whole.Position
	for _, n := range whole.Identities {
		if err := v.add(n); err != nil {
			return nil, fmt.Errorf("reading %s %s of account %s: %w", n.Kind, n.ID, a, err)
		}
	}
	d.realm.put(moment, v)
	return v, nil
}

// change is an edit of an account. What it has put and removed holds for everybody once it is on disk, and never half of it.
type change struct {
	*view  // as it will be
	base   *view
	unique bool  // it gives a name that is unique in the whole installation
	names  int64 // what store.Names said before it was looked whether the name is free, if unique
	writes []func(*store.Tx) error
	after  []func() // whatever became of it
}

// giveName says that the change gives a name that is unique in the whole installation. It has to look in the store after that whether the
// name is free: what is remembered of other accounts can be old.
func (c *change) giveName(ctx context.Context, s *store.Store) (err error) {
	c.unique = true
	c.names, err = s.Names(ctx)
	return err
}

// change runs f on a copy of the account's view, writes what f changed and then shows the copy to everybody. call may be
// nil for a change that has no audit record of its own. Where another server changed the account since it was read, it is read again and f
// is run once more.
func (d *Directory) change(ctx context.Context, call *guard.Call, a arn.Account, f func(*change) error) error {
	unlock, err := d.changing.lock(ctx, d.store.Patience(), a)
	if err != nil {
		return err
	}
	defer unlock()
	return store.Retry(ctx, func() error { return d.changeOnce(ctx, call, a, f) })
}

func (d *Directory) changeOnce(ctx context.Context, call *guard.Call, a arn.Account, f func(*change) error) error {
	v, err := d.view(ctx, a)
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
	moment := d.realm.since(a)
	err = d.store.Update(ctx, func(tx *store.Tx) error {
		var err error
		if c.unique {
			err = tx.ExpectNames(c.names)
		}
		if err == nil {
			err = tx.Expect(a, store.GlobalRegion, v.position)
		}
		for i := 0; i < len(c.writes) && err == nil; i++ {
			err = c.writes[i](tx)
		}
		if err == nil {
			c.position, err = tx.Position(a, store.GlobalRegion)
		}
		return err
	})
	if err == nil {
		d.realm.putChanged(moment, c.view)
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
