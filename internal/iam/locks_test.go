package iam_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/iam"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire/iamapi"
)

// hold has the store write nothing until the function that it returns is called.
func (w *world) hold() (release func()) {
	begun, end, over := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		_ = w.store.Update(context.Background(), func(*store.Tx) error {
			close(begun)
			<-end
			return nil
		})
	}()
	<-begun
	return sync.OnceFunc(func() { close(end); <-over })
}

// Whoever asks for an account that is not in memory waits for no change: neither of another account nor of this one.
func TestReadsWaitForNoChange(t *testing.T) {
	w := newWorldOn(t, store.Options{Dir: t.TempDir()})
	w.root(alice)
	client := w.client(w.root(bob))
	release := w.hold()
	defer release()
	var changes sync.WaitGroup
	changes.Go(func() { must(client, &iamapi.CreateUserRequest{UserName: str("ann")}) })
	for !iam.Changing(w.directory, bob) {
		time.Sleep(time.Millisecond)
	}
	for _, id := range []arn.Account{alice, bob} {
		w.directory.Heard([]store.News{{Account: id, Region: store.GlobalRegion, Change: store.Change{N: 1000, Kind: store.ChangedAccount}}}, false)
		if who, err := w.directory.Caller(t.Context(), id.Root("aws")); err != nil || who.Account != id {
			t.Errorf("%s: %v, %v", id, who, err)
		}
	}
	soon, end := context.WithCancel(t.Context())
	end()
	if err := w.directory.RemoveService(soon, bob, "objects.example.com"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a change behind another one: %v", err)
	}
	release()
	changes.Wait()
	if iam.Changing(w.directory, bob) {
		t.Error("the account is locked")
	}
	if l := client.do(&iamapi.ListUsersRequest{}).(*iamapi.ListUsersResponse).Users; len(l) != 1 {
		t.Errorf("%d users: what was read before the change is shown after it", len(l))
	}
}

// queries counts those of a store. It is a store.Observer.
type queries struct{ atomic.Int64 }

func (q *queries) Read(time.Duration)      { q.Add(1) }
func (*queries) Wrote(time.Duration, bool) {}
func (*queries) Refused(string)            {}

// Many that ask for an account at once have it read once or twice, and not each for itself.
func TestLoadsAreShared(t *testing.T) {
	w := newWorldOn(t, store.Options{Dir: t.TempDir()})
	w.root(alice)
	q := new(queries)
	w.store.Tell(q)
	const rounds = 20
	for range rounds {
		w.directory.Heard(nil, true)
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if who, err := w.directory.Caller(t.Context(), alice.Root("aws")); err != nil || who.Account != alice {
					t.Errorf("%v, %v", who, err)
				}
			})
		}
		all.Wait()
	}
	if n := q.Load(); n < rounds || n > 2*rounds {
		t.Errorf("%d queries for %d times an account, want one or two each", n, rounds)
	}
	for range 2 {
		if _, err := w.directory.Caller(t.Context(), bob.Root("aws")); !errors.Is(err, iam.ErrNoPrincipal) {
			t.Errorf("of an account that is not there: %v", err)
		}
	}
}

// News of another server that come while this one changes the account, and that it knows already, do not make the change unseen.
func TestNewsDuringAChange(t *testing.T) {
	w := newWorld(t)
	d := iam.New(iam.Config{Store: w.store, Barrier: w.barrier, Now: func() time.Time {
		if w.directory != nil { // in the transaction, too
			w.directory.Heard([]store.News{{Account: alice, Region: store.GlobalRegion, Change: store.Change{N: 1, Kind: store.ChangedAccount}}}, false)
		}
		return w.now
	}})
	w.directory = d
	w.root(alice)
	for i, name := range []string{"objects.example.com", "mail.example.com"} {
		if _, err := d.Services(t.Context(), alice); err != nil { // which remembers the account
			t.Fatal(err)
		}
		if _, _, err := d.RegisterService(t.Context(), alice, name, nil); err != nil {
			t.Fatal(err)
		}
		if l, err := d.Services(t.Context(), alice); err != nil || len(l) != i+1 {
			t.Errorf("%d services, %v; want %d", len(l), err, i+1)
		}
	}
}
