package store_test

import (
	"database/sql"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/store/storetest"
)

// session begins a transaction behind the back of stores, and runs a statement in it.
func session(t *testing.T, dsn, statement string, args ...any) *sql.Tx {
	t.Helper()
	admin, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Close() })
	tx, err := admin.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback() })
	if _, err := tx.ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatal(err)
	}
	return tx
}

// TestLooksDoNotWaitForReads has all connections of the readers, and many more that want one, wait for a table: what others changed and
// who lives is learned all the same.
func TestLooksDoNotWaitForReads(t *testing.T) {
	dsn := postgres(t)
	s, beside := openPostgres(t, dsn), openPostgres(t, dsn)
	f, err := s.Follow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	k := aKey()
	if err := beside.Update(t.Context(), func(tx *store.Tx) error { return tx.PutKey(k) }); err != nil {
		t.Fatal(err)
	}
	lock := session(t, dsn, `LOCK TABLE keys`)
	var reads sync.WaitGroup
	for range 50 * store.DefaultReaders {
		reads.Go(func() {
			if _, err := s.GetKey(t.Context(), k.Name); err != nil && !errors.Is(err, store.ErrUnavailable) {
				t.Error(err)
			}
		})
	}
	for s.DB().Reading() < store.DefaultReaders {
		time.Sleep(time.Millisecond)
	}
	if news, lost, err := f.Next(t.Context()); err != nil || lost || len(news) != 1 {
		t.Errorf("news %v, lost %v, %v", news, lost, err)
	}
	if live, _, err := s.Beat(t.Context(), store.Node{Name: "one"}, time.Minute); err != nil || len(live) != 1 {
		t.Errorf("live %v, %v", live, err)
	}
	if n := s.DB().Reading(); n < store.DefaultReaders {
		t.Errorf("%d reads wait: the test shows nothing", n)
	}
	if err := lock.Rollback(); err != nil {
		t.Error(err)
	}
	reads.Wait()
}

// heldKeys returns keys of accounts whose rows another process holds, and the transaction that does.
func heldKeys(t *testing.T, dsn string, accounts int) (*sql.Tx, []*key.Key) {
	t.Helper()
	direct := openPostgres(t, dsn)
	keys := make([]*key.Key, accounts)
	for i := range keys {
		keys[i] = aKey()
		keys[i].Account = arn.Account("99999999999" + string(rune('0'+i)))
		if err := direct.Update(t.Context(), func(tx *store.Tx) error { return tx.PutKey(keys[i]) }); err != nil {
			t.Fatal(err)
		}
	}
	return session(t, dsn, `SELECT n FROM counters WHERE account >= $1 FOR UPDATE`, "99"), keys
}

// TestProcessThatHangs has another process hold several accounts and not go on: changes of others are made meanwhile, those of these when it has
// ended.
func TestProcessThatHangs(t *testing.T) {
	dsn := postgres(t)
	lock, keys := heldKeys(t, dsn, 5)
	db, err := store.Open(t.Context(), store.Options{DSN: dsn, Patience: time.Minute, Now: storetest.Clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	s := storetest.Unseal(t, db)

	ended := make(chan error, 100)
	change := func(keys ...*key.Key) {
		ended <- s.Update(t.Context(), func(tx *store.Tx) error {
			for _, k := range keys {
				if err := tx.PutKey(k); err != nil {
					return err
				}
			}
			return nil
		})
	}
	waiting := 0
	for i, k := range keys {
		another := *k
		another.ID = aKey().ID
		other := aKey()
		go change(&another)         // the one that is there is held
		go change(&another, other)  // in order
		go change(aKey(), &another) // and not
		waiting += 3
		if i == 0 { // later ones come while some are parked
			time.Sleep(200 * time.Millisecond)
		}
	}
	for range 40 {
		k := aKey()
		if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.PutKey(k) }); err != nil {
			t.Fatal(err)
		}
		if len(ended) > 0 {
			t.Fatalf("a change of what another process holds: %v", <-ended)
		}
	}
	if err := lock.Rollback(); err != nil {
		t.Fatal(err)
	}
	for range waiting {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	for _, k := range keys {
		if n, err := s.CountKeys(t.Context(), k.Account, k.Region); err != nil || n != 2 {
			t.Errorf("%d keys in %s, %v", n, k.Account, err)
		}
	}
	if n, err := s.CountKeys(t.Context(), account, region); err != nil || n != 40+2*int64(len(keys)) {
		t.Errorf("%d keys in the other account, %v", n, err)
	}
}

// TestProcessThatHangsForLong: what cannot be had is refused after a while, and when the store closes, with nothing changed.
func TestProcessThatHangsForLong(t *testing.T) {
	dsn := postgres(t)
	lock, keys := heldKeys(t, dsn, 2)
	for _, patience := range []time.Duration{time.Second, time.Hour} {
		db, err := store.Open(t.Context(), store.Options{DSN: dsn, Patience: patience, Now: storetest.Clock})
		if err != nil {
			t.Fatal(err)
		}
		s := storetest.Unseal(t, db)
		ended := make(chan error, len(keys))
		var calls sync.WaitGroup
		for _, k := range keys {
			another := *k
			another.ID = aKey().ID
			calls.Add(1)
			var once sync.Once
			go func() {
				ended <- s.Update(t.Context(), func(tx *store.Tx) error { once.Do(calls.Done); return tx.PutKey(&another) })
			}()
		}
		calls.Wait()
		if patience == time.Hour {
			go func() { _ = db.Close() }()
		}
		for range keys {
			if err := <-ended; !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("after %s: %v", patience, err)
			}
		}
		_ = db.Close()
	}
	if err := lock.Rollback(); err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if n, err := openPostgres(t, dsn).CountKeys(t.Context(), k.Account, k.Region); err != nil || n != 1 {
			t.Errorf("%d keys in %s, %v", n, k.Account, err)
		}
	}
}
