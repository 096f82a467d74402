package store_test

import (
	"context"
	"errors"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/store/storetest"
)

// What happens when the database, or the way to it, says nothing, which is worse than to refuse.

func follow(t *testing.T, s *store.Store) *store.Follower {
	t.Helper()
	f, err := s.Follow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// look looks for at most a second, as a server does.
func look(t *testing.T, f *store.Follower) ([]store.News, bool, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	return f.Next(ctx)
}

func mustLook(t *testing.T, f *store.Follower) ([]store.News, bool) {
	t.Helper()
	news, lost, err := look(t, f)
	if err != nil {
		t.Fatal(err)
	}
	return news, lost
}

// TestChangeThatComesTrueLate has a commit reach the database when nobody waits for it any more: the process that made it, and was told
// that its outcome is not known, hears of it like the others.
func TestChangeThatComesTrueLate(t *testing.T) {
	f, s, direct := openBehind(t)
	k := aKey()
	put := func(s *store.Store, was, is *key.Key) error {
		return s.Update(t.Context(), func(tx *store.Tx) error { return tx.ReplaceKey(was, is) })
	}
	if err := put(direct, nil, k); err != nil {
		t.Fatal(err)
	}
	own, others := follow(t, s), follow(t, direct)
	off := k.Clone()
	off.State = key.Disabled
	x := &fault{text: "commit", late: make(chan struct{})}
	x.times.Store(1)
	f.fault.Store(x)
	if err := put(s, k, off); !errors.Is(err, store.ErrUnknown) {
		t.Fatalf("a commit of which nothing was heard: %v", err)
	}
	if got, err := s.GetKey(t.Context(), k.Name); err != nil || got.State != key.Enabled {
		t.Fatalf("the key before: %v, %v", got, err)
	}
	for _, of := range []*store.Follower{own, others} {
		if news, lost := mustLook(t, of); len(news) > 0 || lost {
			t.Errorf("before: news %v, lost %v", news, lost)
		}
	}
	close(x.late)
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		got, err := s.GetKey(t.Context(), k.Name)
		if err == nil && got.State == key.Disabled {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the commit does not come true: %v", err)
		}
	}
	for what, of := range map[string]*store.Follower{"the process that made it": own, "another": others} {
		if news, lost := mustLook(t, of); len(news) != 1 || news[0].Ref != string(k.ID) || lost {
			t.Errorf("%s: news %v, lost %v", what, news, lost)
		}
	}
	if err := put(s, off, k); err != nil {
		t.Error(err)
	}
	if news, _ := mustLook(t, others); len(news) != 1 {
		t.Errorf("afterwards: news %v", news)
	}
	if news, lost := mustLook(t, own); len(news) > 0 || lost {
		t.Errorf("of its own: news %v, lost %v", news, lost)
	}
}

// TestFirstHostSilent has the first of two hosts accept connections and say nothing: a look by itself finds the second one in time.
func TestFirstHostSilent(t *testing.T) {
	dsn := postgres(t)
	first, through := newFaults(t, dsn)
	a, err := url.Parse(through)
	if err != nil {
		t.Fatal(err)
	}
	second, through := newFaults(t, dsn)
	b, err := url.Parse(through)
	if err != nil {
		t.Fatal(err)
	}
	a.Host += "," + b.Host
	s := openPostgres(t, a.String())
	f := follow(t, s)
	for _, silent := range []*faults{first, second, first} {
		silent.deaf.Store(true)
		silent.cut()
		if _, _, err := look(t, f); err != nil { // a connection that was good is found not to be
			if _, _, err := look(t, f); err != nil {
				t.Errorf("the second look: %v", err)
			}
		}
		silent.deaf.Store(false)
		silent.cut()
	}
}

// TestConnectionsThatDieSilently has all connections carry nothing any more, as when the other machine loses power, while new ones do:
// a change is tried again on one of those, and so is a look.
func TestConnectionsThatDieSilently(t *testing.T) {
	dsn := postgres(t)
	proxy, through := newFaults(t, dsn)
	db, err := store.Open(t.Context(), store.Options{DSN: through, Timeout: time.Second, Patience: time.Minute, Now: storetest.Clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	s := storetest.Unseal(t, db)
	put := func() error { return s.Update(t.Context(), func(tx *store.Tx) error { return tx.PutKey(aKey()) }) }
	if err := put(); err != nil {
		t.Fatal(err)
	}
	f, k := follow(t, s), aKey()
	var reads sync.WaitGroup
	for range store.DefaultReaders { // so that there are connections
		reads.Go(func() { _, _ = s.GetKey(t.Context(), k.Name) })
	}
	reads.Wait()
	proxy.freeze()
	began := time.Now()
	if err := put(); err != nil {
		t.Errorf("a change: %v", err)
	}
	if took := time.Since(began); took > 30*time.Second { // and not patience
		t.Errorf("it was tried again after %s", took)
	}
	for n := 1; ; n++ {
		_, _, err := look(t, f)
		if err == nil {
			break
		}
		if n == 3 {
			t.Fatalf("look %d: %v", n, err)
		}
	}
	if n, err := s.CountKeys(t.Context(), account, region); err != nil || n != 2 {
		t.Errorf("%d keys, %v", n, err)
	}
}

// TestStatementsThatNeverEnd has each statement of an update hang for longer than it is tried: it is unavailable, and nothing was changed.
func TestStatementsThatNeverEnd(t *testing.T) {
	for _, text := range []string{"begin", "for update", "into keys", "into changes"} {
		f, s, direct := openBehind(t)
		x := &fault{text: text, silent: true}
		x.times.Store(1000)
		f.cut()
		f.fault.Store(x)
		err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.PutKey(aKey()) })
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("silent at %s: %v", text, err)
		}
		f.fault.Store(nil)
		if n, err := direct.CountKeys(t.Context(), account, region); err != nil || n != 0 {
			t.Errorf("%d keys, %v", n, err)
		}
	}
}

// TestStatementsThatTakeTooLong has the server give up what takes longer than the time-out.
func TestStatementsThatTakeTooLong(t *testing.T) {
	dsn := postgres(t)
	s := openPostgres(t, with(t, dsn, "statement_timeout", "300"))
	k := aKey()
	if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.PutKey(k) }); err != nil {
		t.Fatal(err)
	}
	lock := session(t, dsn, `LOCK TABLE keys`)
	if _, err := s.GetKey(t.Context(), k.Name); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a read: %v", err)
	}
	if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.PutKey(aKey()) }); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a change: %v", err)
	}
	if err := lock.Rollback(); err != nil {
		t.Fatal(err)
	}
	if n, err := s.CountKeys(t.Context(), account, region); err != nil || n != 1 {
		t.Errorf("%d keys, %v", n, err)
	}
}

// TestDatabaseThatWentBack takes from the database what it had acknowledged, as a standby does that did not have all: whoever remembers
// something of it hears that everything may be different, whether or not something was written since.
func TestDatabaseThatWentBack(t *testing.T) {
	for _, gone := range []bool{false, true} { // the row of the process whose transaction was lost
		for _, writes := range []bool{false, true} {
			dsn := postgres(t)
			s, other := openPostgres(t, dsn), openPostgres(t, dsn)
			own, others := follow(t, s), follow(t, other)
			put := func() error { return s.Update(t.Context(), func(tx *store.Tx) error { return tx.PutKey(aKey()) }) }
			for range 2 {
				if err := put(); err != nil {
					t.Fatal(err)
				}
			}
			for _, f := range []*store.Follower{own, others} {
				if _, lost := mustLook(t, f); lost {
					t.Error("lost before")
				}
			}
			back := `UPDATE writers SET mark = mark - 1 WHERE mark = (SELECT max(mark) FROM writers)`
			if gone {
				back = `DELETE FROM writers WHERE mark = (SELECT max(mark) FROM writers)`
			}
			if _, err := store.SQL(other).ExecContext(t.Context(), back); err != nil {
				t.Fatal(err)
			}
			if writes {
				if err := put(); err != nil {
					t.Errorf("a change afterwards: %v", err)
				}
			}
			for what, f := range map[string]*store.Follower{"own": own, "another": others} {
				if _, lost := mustLook(t, f); !lost {
					t.Errorf("row gone %v, written since %v: %s notices nothing", gone, writes, what)
				}
				if _, lost := mustLook(t, f); lost {
					t.Errorf("row gone %v, written since %v: %s is told twice", gone, writes, what)
				}
			}
			if err := put(); err != nil {
				t.Errorf("a change at the end: %v", err)
			}
			if news, lost := mustLook(t, others); len(news) != 1 || lost {
				t.Errorf("at the end: news %v, lost %v", news, lost)
			}
		}
	}
}

// TestProcessOfAnotherName: a process whose last commit had an unknown outcome has another name in the feed, and is the same one among those that
// live and for its leases.
func TestProcessOfAnotherName(t *testing.T) {
	f, s, direct := openBehind(t)
	beat := func() []store.Node {
		t.Helper()
		live, _, err := direct.Beat(t.Context(), store.Node{Name: "another"}, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Beat(t.Context(), store.Node{Name: "one"}, time.Minute); err != nil {
			t.Fatal(err)
		}
		return live
	}
	beat()
	if held, err := s.Lease(t.Context(), "a lease", time.Hour); err != nil || !held {
		t.Fatalf("lease %v, %v", held, err)
	}
	x := &fault{text: "commit", late: make(chan struct{})}
	x.times.Store(1)
	f.fault.Store(x)
	if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.PutKey(aKey()) }); !errors.Is(err, store.ErrUnknown) {
		t.Fatal(err)
	}
	close(x.late)
	if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.PutKey(aKey()) }); err != nil {
		t.Fatal(err)
	}
	beat()
	if live := beat(); len(live) != 2 {
		t.Errorf("live %v", live)
	}
	if held, err := s.Lease(t.Context(), "a lease", time.Hour); err != nil || !held {
		t.Errorf("lease %v, %v", held, err)
	}
}

// TestRowThatSomebodyHas has another process hold one row of an update, which is no account: others in the same transaction are made.
func TestRowThatSomebodyHas(t *testing.T) {
	dsn := postgres(t)
	s, direct := openPostgres(t, dsn), openPostgres(t, dsn)
	k := aKey()
	use := store.KeyUse{Key: k.Name, At: storetest.Clock(), Operation: "Encrypt"}
	err := errors.Join(direct.Update(t.Context(), func(tx *store.Tx) error { return tx.PutKey(k) }), direct.PutKeyUses(t.Context(), []store.KeyUse{use}))
	if err != nil {
		t.Fatal(err)
	}
	lock := session(t, dsn, `SELECT key_id FROM key_uses FOR UPDATE`)
	var all sync.WaitGroup
	use.At = use.At.Add(time.Minute)
	all.Go(func() {
		if err := s.PutKeyUses(t.Context(), []store.KeyUse{use}); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("the row that is held: %v", err)
		}
	})
	for range 20 {
		all.Go(func() {
			if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.PutKey(aKey()) }); err != nil {
				t.Errorf("another row: %v", err)
			}
		})
	}
	all.Wait()
	if err := lock.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := s.PutKeyUses(t.Context(), []store.KeyUse{use}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
