package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/store"
)

var errRefused = errors.New("refused by the test")

// testGapless has several goroutines change keys and aliases of two Regions, some of them in vain, and then follows the feed.
func testGapless(t *testing.T, h Harness) {
	s := h.Open(t)
	ctx := t.Context()
	var made [2]atomic.Int64
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 40 {
				where := (g + i) % 2
				k := Key()
				if where == 1 {
					k.Region = "eu-west-1"
				}
				n, fails := int64(0), i%5 == 3
				err := s.Update(ctx, func(tx *store.Tx) error {
					n = 2
					err := errors.Join(tx.PutKey(k), tx.InsertAlias(alias(k, fmt.Sprintf("%d-%d", g, i))))
					if err == nil && i%3 == 0 {
						err, n = tx.DeleteKey(k.Name), 4
					}
					if err == nil && fails {
						err = errRefused
					}
					return err
				})
				if fails != errors.Is(err, errRefused) || err != nil && !fails {
					t.Errorf("update %d of %d: %v", i, g, err)
				}
				if !fails {
					made[where].Add(n)
				}
			}
		})
	}
	wg.Wait()
	for where, r := range []string{"us-east-1", "eu-west-1"} {
		k := Key()
		k.Region = region
		if where == 1 {
			k.Region = "eu-west-1"
		}
		var last int64
		for {
			changes, err := s.ChangesSince(ctx, account, k.Region, last, 17)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range changes {
				last++
				if c.N != last || c.Ref == "" || c.Kind != store.ChangedKey && c.Kind != store.ChangedAlias {
					t.Fatalf("%s: change %+v where number %d should be", r, c, last)
				}
			}
			if len(changes) == 0 {
				break
			}
		}
		if want := made[where].Load(); last != want {
			t.Errorf("%s: %d changes, want %d", r, last, want)
		}
	}
}

// held keeps the writer busy until it is released, so that updates pile up for one group.
func held(t *testing.T, s *store.Store) (release func()) {
	t.Helper()
	entered, leave, left := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		left <- s.Update(context.Background(), func(*store.Tx) error {
			close(entered)
			<-leave
			return nil
		})
	}()
	<-entered
	return sync.OnceFunc(func() {
		close(leave)
		if err := <-left; err != nil {
			t.Error(err)
		}
	})
}

func testGroupIsolation(t *testing.T, h Harness) {
	s := h.Open(t)
	ctx, k := t.Context(), Key()
	put(t, s, k)
	release := held(t, s)
	defer release()
	const n = 30
	keys := make([]*key.Key, n)
	results := make([]error, n)
	var taken atomic.Int64
	var wg sync.WaitGroup
	for i := range n {
		keys[i] = Key()
		wg.Go(func() {
			results[i] = s.Update(ctx, func(tx *store.Tx) error {
				if err := tx.PutKey(keys[i]); err != nil {
					return err
				}
				switch i % 3 {
				case 1:
					return errRefused
				case 2:
					return tx.InsertAlias(alias(keys[i], "the only one")) // one of them gets it
				}
				return nil
			})
			if i%3 == 2 && results[i] == nil {
				taken.Add(1)
			}
		})
	}
	release()
	wg.Wait()
	var want int64 = 1
	for i := range n {
		_, err := s.GetKey(ctx, keys[i].Name)
		ok := results[i] == nil
		if ok != (err == nil) || i%3 == 0 && !ok || i%3 == 1 && !errors.Is(results[i], errRefused) ||
			i%3 == 2 && !ok && !errors.Is(results[i], store.ErrExists) {
			t.Errorf("update %d: %v, then %v", i, results[i], err)
		}
		if ok {
			want++
		}
	}
	if got, err := s.CountKeys(ctx, account, region); err != nil || got != want || taken.Load() != 1 {
		t.Errorf("%d keys, %v; want %d; %d have the alias", got, err, want, taken.Load())
	}
}

func testPanic(t *testing.T, h Harness) {
	s := h.Open(t)
	k := Key()
	func() {
		defer func() {
			if v, ok := recover().(string); !ok || !strings.Contains(v, "the test panics") {
				t.Errorf("recovered %v", v)
			}
		}()
		_ = s.Update(t.Context(), func(tx *store.Tx) error {
			_ = tx.PutKey(k)
			panic("the test panics")
		})
	}()
	if _, err := s.GetKey(t.Context(), k.Name); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a part of the panicking update stays: %v", err)
	}
	put(t, s, k)
}

func testContexts(t *testing.T, h Harness) {
	s := h.Open(t)
	release := held(t, s)
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := make(chan error)
	go func() {
		gone <- s.Update(ctx, func(*store.Tx) error { t.Error("an abandoned update runs"); return nil })
	}()
	cancel(errRefused)
	if err := <-gone; !errors.Is(err, errRefused) {
		t.Errorf("abandoned before the start: %v", err)
	}
	release()
	if err := s.Update(ctx, func(*store.Tx) error { t.Error("runs"); return nil }); !errors.Is(err, errRefused) {
		t.Errorf("ended before the call: %v", err)
	}
	ctx, cancel = context.WithCancelCause(t.Context())
	k := Key()
	err := s.Update(ctx, func(tx *store.Tx) error {
		cancel(errRefused)
		return tx.PutKey(k)
	})
	if err != nil {
		t.Errorf("ended while it ran: %v", err)
	}
	if _, err := s.GetKey(t.Context(), k.Name); err != nil {
		t.Error(err)
	}
}

func testOnCommit(t *testing.T, h Harness) {
	s := h.Open(t)
	k := Key()
	put(t, s, k)
	release := held(t, s)
	defer release()
	var order []string // written by the writer's goroutine only
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			description := fmt.Sprint(i)
			err := s.Update(t.Context(), func(tx *store.Tx) error {
				c := k.Clone()
				c.Description = description
				tx.OnCommit(func() { order = append(order, description) })
				if err := tx.PutKey(c); err != nil || i%4 == 0 {
					return errors.Join(err, errRefused)
				}
				return nil
			})
			if (err != nil) != (i%4 == 0) {
				t.Errorf("update %d: %v", i, err)
			}
		})
	}
	release()
	wg.Wait()
	got, err := s.GetKey(t.Context(), k.Name)
	if err != nil || len(order) != 15 || order[len(order)-1] != got.Description || slices.Contains(order, "0") {
		t.Errorf("called in the order %v; the key ends as %q, %v", order, got.Description, err)
	}
}

func testTxEnds(t *testing.T, h Harness) {
	s := h.Open(t)
	var kept *store.Tx
	update(t, s, func(tx *store.Tx) error { kept = tx; return nil })
	_, err1 := kept.GetKey(Key().Name)
	_, err2 := kept.CountKeys(account, region)
	_, err3 := kept.GetAlias(account, region, "alias/x")
	_, err4 := kept.CountAliasesOfKey(Key().Name)
	for i, err := range []error{err1, err2, err3, err4, kept.PutKey(Key()), kept.DeleteKey(Key().Name), kept.PutAlias(alias(Key(), "x")), kept.PutAccount(anAccount())} {
		if err == nil || errors.Is(err, store.ErrNotFound) {
			t.Errorf("%d: a Tx works after its update: %v", i, err)
		}
	}
}
