package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/store"
)

func testReplaceKey(t *testing.T, h Harness) {
	s := h.Open(t)
	ctx, k := t.Context(), Key()
	replace := func(was, is *key.Key) error {
		return s.Update(ctx, func(tx *store.Tx) error { return tx.ReplaceKey(was, is) })
	}
	if err := replace(nil, k); err != nil {
		t.Fatal(err)
	}
	if err := replace(nil, k); !errors.Is(err, store.ErrExists) {
		t.Errorf("new a second time: %v", err)
	}
	described, due := k.Clone(), k.Clone()
	described.Description = "another"
	due.State, due.DeletionAt = key.PendingDeletion, moment
	if err := replace(k, described); err != nil {
		t.Error(err)
	}
	if err := replace(k, due); !errors.Is(err, store.ErrConflict) {
		t.Errorf("in place of what it was before: %v", err)
	}
	if err := replace(described, described); err != nil {
		t.Errorf("in place of itself: %v", err)
	}
	for was, want := range map[*key.Key]error{k: store.ErrConflict, described: nil, Key(): store.ErrNotFound} {
		if err := s.Update(ctx, func(tx *store.Tx) error { return tx.ExpectKey(was) }); !errors.Is(err, want) {
			t.Errorf("expecting %q: %v, want %v", was.Description, err, want)
		}
	}
	if err := replace(described, Key()); err == nil || errors.Is(err, store.ErrConflict) {
		t.Errorf("another key: %v", err)
	}
	if got, err := s.GetKey(ctx, k.Name); err != nil || !reflect.DeepEqual(got, described) {
		t.Errorf("got %+v, %v", got, err)
	}
	update(t, s, func(tx *store.Tx) error { return tx.DeleteKey(k.Name) })
	if err := replace(described, due); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("gone: %v", err)
	}
	if n, err := s.CountKeys(ctx, account, region); err != nil || n != 0 {
		t.Errorf("%d keys, %v", n, err)
	}
	if p, err := s.Position(ctx, account, region); err != nil || p != 4 {
		t.Errorf("position %d, %v", p, err)
	}
}

func testExpect(t *testing.T, h Harness) {
	s := h.Open(t)
	ctx, k := t.Context(), Key()
	expect := func(n int64) error {
		return s.Update(ctx, func(tx *store.Tx) error { return tx.Expect(account, region, n) })
	}
	if err := expect(0); err != nil {
		t.Errorf("nothing there: %v", err)
	}
	if p, err := s.Positions(ctx); err != nil || len(p) != 0 {
		t.Errorf("positions %v, %v", p, err)
	}
	put(t, s, k, Key())
	if err := expect(1); !errors.Is(err, store.ErrConflict) {
		t.Errorf("an older state: %v", err)
	}
	if err := expect(2); err != nil {
		t.Error(err)
	}
	update(t, s, func(tx *store.Tx) error {
		err := errors.Join(tx.Expect(account, region, 2), tx.DeleteKey(k.Name), tx.Expect(account, region, 3))
		changes, err2 := tx.ChangesSince(account, region, 2, 10)
		if want := []store.Change{{N: 3, Kind: store.ChangedKey, Ref: string(k.ID)}}; !slices.Equal(changes, want) {
			t.Errorf("changes in the transaction: %v", changes)
		}
		return errors.Join(err, err2)
	})
}

func testTrim(t *testing.T, h Harness) {
	s := h.Open(t)
	ctx := t.Context()
	for range 10 {
		put(t, s, Key())
	}
	elsewhere := Key()
	elsewhere.Region = "eu-west-1"
	put(t, s, elsewhere)
	for _, c := range []struct{ keep, gone, oldest int64 }{{20, 0, 1}, {4, 6, 7}, {4, 0, 7}, {0, 3, 10}} {
		if n, err := s.TrimChanges(ctx, c.keep); err != nil || n != c.gone {
			t.Errorf("keeping %d: %d changes went, %v", c.keep, n, err)
		}
		changes, err := s.ChangesSince(ctx, account, region, c.oldest-1, 100)
		if err != nil || int64(len(changes)) != 11-c.oldest {
			t.Errorf("keeping %d: %v, %v", c.keep, changes, err)
		}
		if c.oldest == 1 {
			continue
		}
		if changes, err := s.ChangesSince(ctx, account, region, c.oldest-2, 100); !errors.Is(err, store.ErrTrimmed) {
			t.Errorf("keeping %d: what went gives %v, %v", c.keep, changes, err)
		}
	}
	if changes, err := s.ChangesSince(ctx, account, region, 10, 100); err != nil || len(changes) != 0 {
		t.Errorf("nothing new: %v, %v", changes, err)
	}
	put(t, s, Key())
	if p, err := s.Position(ctx, account, region); err != nil || p != 11 {
		t.Errorf("position %d, %v", p, err)
	}
	k := Key()
	k.Region = "eu-west-2"
	update(t, s, func(tx *store.Tx) error { // more than go in one update
		err := tx.PutKey(k)
		for i := 0; i < 2300 && err == nil; i++ {
			err = tx.InsertAlias(alias(k, strconv.Itoa(i)))
		}
		return err
	})
	if n, err := s.TrimChanges(ctx, 100); err != nil || n != 2201 {
		t.Errorf("%d changes of many went, %v", n, err)
	}
}

// besides opens a store n times, or skips the test if only one process can use one.
func besides(t *testing.T, h Harness, n int) []*store.Store {
	t.Helper()
	if h.Beside == nil {
		t.Skip("one process has this store alone")
	}
	all := []*store.Store{h.Open(t)}
	for len(all) < n {
		all = append(all, h.Beside(t, all[0]))
	}
	return all
}

// testManyWriters has three processes change keys of two accounts and Regions in every order, each change a number higher in the
// key's description: in the end no change is lost, and the feed has each once, in order.
func testManyWriters(t *testing.T, h Harness) {
	nodes := besides(t, h, 3)
	ctx := t.Context()
	var keys []*key.Key
	for i := range 6 {
		k := Key()
		k.Description = "0"
		if i%2 == 1 {
			k.Account = "444455556666"
		}
		if i%3 == 1 {
			k.Region = "eu-west-1"
		}
		keys = append(keys, k)
	}
	put(t, nodes[0], keys...)
	const rounds = 40
	var conflicts atomic.Int64
	var wg sync.WaitGroup
	for g := range 6 {
		s := nodes[g%len(nodes)]
		wg.Go(func() {
			for i := range rounds {
				a, b := keys[(g+i)%len(keys)].Name, keys[(g+3*i+1)%len(keys)].Name
				if a == b {
					b = keys[(g+i+1)%len(keys)].Name
				}
				for {
					err := countBoth(ctx, s, a, b)
					if err == nil {
						break
					}
					if !errors.Is(err, store.ErrConflict) {
						t.Errorf("round %d of %d: %v", i, g, err)
						return
					}
					conflicts.Add(1)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d conflicts in %d changes", conflicts.Load(), 6*rounds)
	sum := 0
	for _, k := range keys {
		got, err := nodes[1].GetKey(ctx, k.Name)
		if err != nil {
			t.Fatal(err)
		}
		n, _ := strconv.Atoi(got.Description)
		sum += n
	}
	if sum != 2*6*rounds {
		t.Errorf("%d changes are in the keys, want %d", sum, 2*6*rounds)
	}
	positions, err := nodes[2].Positions(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var all int64
	for _, p := range positions {
		changes, err := nodes[2].ChangesSince(ctx, p.Account, p.Region, 0, 10_000)
		if err != nil || int64(len(changes)) != p.N {
			t.Errorf("%v: %d changes, %v", p, len(changes), err)
		}
		for i, c := range changes {
			if c.N != int64(i)+1 {
				t.Fatalf("%v: change %+v at place %d", p, c, i)
			}
		}
		all += p.N
	}
	if want := int64(len(keys) + 2*6*rounds); all != want {
		t.Errorf("%d changes in the feed, want %d", all, want)
	}
	if _, err := nodes[0].Verify(ctx, nil); err != nil {
		t.Error(err)
	}
}

// countBoth raises the numbers of two keys by one, as it reads them outside the transaction.
func countBoth(ctx context.Context, s *store.Store, names ...key.Name) error {
	var was, is []*key.Key
	for _, n := range names {
		k, err := s.GetKey(ctx, n)
		if err != nil {
			return err
		}
		next := k.Clone()
		n, err := strconv.Atoi(k.Description)
		if err != nil {
			return err
		}
		next.Description = strconv.Itoa(n + 1)
		was, is = append(was, k), append(is, next)
	}
	return s.Update(ctx, func(tx *store.Tx) error {
		for i := range was {
			if err := tx.ReplaceKey(was[i], is[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// testReadsHold has several processes each make an alias if there are fewer than five, which they count in the transaction.
func testReadsHold(t *testing.T, h Harness) {
	nodes := besides(t, h, 3)
	ctx, k := t.Context(), Key()
	put(t, nodes[0], k)
	const most = 5
	var made atomic.Int64
	var wg sync.WaitGroup
	for g := range 12 {
		s := nodes[g%len(nodes)]
		wg.Go(func() {
			for i := range 3 {
				err := s.Update(ctx, func(tx *store.Tx) error {
					n, err := tx.CountAliasesOfKey(k.Name)
					if err == nil && n >= most {
						err = errRefused
					}
					if err == nil {
						err = tx.InsertAlias(alias(k, fmt.Sprintf("%d-%d", g, i)))
					}
					return err
				})
				switch {
				case err == nil:
					made.Add(1)
				case !errors.Is(err, errRefused):
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	list, _, err := nodes[0].ListAliasesOfKey(ctx, k.Name, "", 100)
	if err != nil || len(list) != most || made.Load() != most {
		t.Errorf("%d aliases, %d made, %v", len(list), made.Load(), err)
	}
}

// testRotateBeside rotates the domain keys and drops the old ones while another process writes: nothing that it writes is lost.
func testRotateBeside(t *testing.T, h Harness) {
	nodes := besides(t, h, 2)
	ctx, s, other := t.Context(), nodes[0], nodes[1]
	k := Key()
	k.Material = nil
	put(t, s, k)
	stop, wrote := make(chan struct{}), 0
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			c := k.Clone()
			c.Description = strconv.Itoa(wrote + 1)
			if err := other.Update(ctx, func(tx *store.Tx) error {
				return errors.Join(tx.PutKey(c), tx.PutAccount(anAccount()), tx.PutIdentity(anIdentity("bob")), tx.PutAlias(alias(k, "a")))
			}); err != nil {
				t.Error(err)
				return
			}
			wrote++
		}
	})
	same := func(_ *key.Key, m *key.Material) ([]byte, error) { return m.Wrapped, nil }
	for range 5 {
		rotate(t, s)
		if _, err := s.Rekey(ctx, same); err != nil {
			t.Fatal(err)
		}
		if err := s.DropOldDomainKeys(ctx, same); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
	for _, n := range nodes {
		if _, err := n.Verify(ctx, nil); err != nil {
			t.Error(err)
		}
		if got, err := n.GetKey(ctx, k.Name); err != nil || got.Description != strconv.Itoa(wrote) {
			t.Errorf("%d changes were written, %v, %v", wrote, got, err)
		}
	}
	sealed, err := s.DB().Sealed(ctx)
	if err != nil || len(sealed.DomainKeys) != 4 || sealed.DomainKeys[0].Version != 6 {
		t.Errorf("%+v, %v", sealed.DomainKeys, err)
	}
}

// testWrappedBefore writes material that was wrapped before a rotation of the domain keys that has ended since.
func testWrappedBefore(t *testing.T, h Harness) {
	nodes := besides(t, h, 2)
	s, other := nodes[0], nodes[1]
	ctx, k := t.Context(), Key()
	w, v := wrapping{s.Barrier()}, wrapping{other.Barrier()}
	if err := v.wrap(k.Name, &k.Material[0], "the material"); err != nil {
		t.Fatal(err)
	}
	rotate(t, s)
	if _, err := s.Rekey(ctx, w.rewrap); err != nil {
		t.Fatal(err)
	}
	put(t, other, k) // nobody has dropped anything yet
	if err := s.DropOldDomainKeys(ctx, w.rewrap); !errors.Is(err, store.ErrStale) {
		t.Errorf("dropping a key that was just used: %v", err)
	}
	late := Key()
	late.Material[0].Wrapped = k.Material[0].Wrapped
	for what, f := range map[string]func(*store.Tx) error{
		"PutKey": func(tx *store.Tx) error { return tx.PutKey(late) }, "ReplaceKey": func(tx *store.Tx) error { return tx.ReplaceKey(nil, late) },
	} {
		if err := other.Update(ctx, f); !errors.Is(err, store.ErrConflict) {
			t.Errorf("%s of material under a key that goes: %v", what, err)
		}
	}
	if _, err := s.Rekey(ctx, w.rewrap); err != nil {
		t.Fatal(err)
	}
	if err := s.DropOldDomainKeys(ctx, w.rewrap); err != nil {
		t.Fatal(err)
	}
	got, err := other.GetKey(ctx, k.Name)
	if err != nil || v.open(k.Name, got.Material[0]) != "the material" {
		t.Errorf("%v", err)
	}
	if err := v.wrap(late.Name, &late.Material[0], "new"); err != nil {
		t.Fatal(err)
	}
	put(t, other, late)
}

// testSealsBeside has two processes change the seals: the second one must not undo what the first one did.
func testSealsBeside(t *testing.T, h Harness) {
	nodes := besides(t, h, 2)
	ctx, one, two := t.Context(), nodes[0], nodes[1]
	sealed, err := two.DB().Sealed(ctx)
	if err != nil {
		t.Fatal(err)
	}
	rotate(t, one)
	if err := two.DB().ReplaceSealed(ctx, sealed); !errors.Is(err, store.ErrConflict) {
		t.Errorf("over domain keys that are newer: %v", err)
	}
	if sealed, err = two.DB().Sealed(ctx); err != nil || len(sealed.DomainKeys) != 8 {
		t.Fatalf("%d domain keys, %v", len(sealed.DomainKeys), err)
	}
	if err := two.DB().ReplaceSealed(ctx, sealed); err != nil {
		t.Error(err)
	}
	put(t, one, Key())
	put(t, two, Key())
}

// testSeenBeside changes things in one process and looks at them in another.
func testSeenBeside(t *testing.T, h Harness) {
	nodes := besides(t, h, 2)
	one, two := nodes[0], nodes[1]
	ctx, k := t.Context(), Key()
	if one.DB().Installation() != two.DB().Installation() {
		t.Error("two processes have two installations")
	}
	update(t, one, func(tx *store.Tx) error {
		return errors.Join(tx.PutAccount(anAccount()), tx.PutAccessKey(anAccessKey("AKIA1")), tx.PutKey(k), tx.PutGrant(grant(k, 1)))
	})
	if _, err := two.GetKey(ctx, k.Name); err != nil {
		t.Error(err)
	}
	sameAccessKey(t, two, anAccessKey("AKIA1"))
	inactive := anAccessKey("AKIA1")
	inactive.Status = store.AccessKeyInactive
	update(t, two, func(tx *store.Tx) error {
		return errors.Join(tx.PutAccessKey(inactive), tx.PutAccessKeyUse("AKIA1", store.AccessKeyUse{At: moment, Region: region, Service: "kms"}))
	})
	update(t, two, func(tx *store.Tx) error {
		return errors.Join(tx.DeleteGrant(k.Name, grant(k, 1).ID), tx.DeleteAccessKey("AKIA1"))
	})
	var seen []string
	for _, r := range []arn.Region{store.GlobalRegion, region} {
		changes, err := one.ChangesSince(ctx, account, r, 0, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range changes {
			seen = append(seen, string(c.Kind))
		}
	}
	if want := []string{"account", "access-key", "access-key", "access-key", "key", "grant", "grant"}; !slices.Equal(seen, want) {
		t.Errorf("the feed says %q", seen)
	}
	if _, err := one.GetAccessKey(ctx, "AKIA1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a deleted access key: %v", err)
	}
}
