package store_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/store/storetest"
)

// TestForgottenWriters: the row of a process that has ended goes, that of one that lives stays, and a follower that was away for so
// long that such a row may have come and gone forgets everything.
func TestForgottenWriters(t *testing.T) {
	dsn := postgres(t)
	var passed atomic.Int64
	beside := func() *store.Store {
		db, err := store.Open(t.Context(), store.Options{DSN: dsn, Now: func() time.Time { return storetest.Clock().Add(time.Duration(passed.Load())) }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return storetest.Unseal(t, db)
	}
	write := func(s *store.Store) {
		t.Helper()
		if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.PutKey(storetest.Key()) }); err != nil {
			t.Fatal(err)
		}
	}
	one := beside()
	follow := func() *store.Follower {
		f, err := one.Follow(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	hears := func(f *store.Follower, news int, lost bool) {
		t.Helper()
		got, gotLost, err := f.Next(t.Context())
		if err != nil || len(got) != news || gotLost != lost {
			t.Errorf("%d changes, lost %v, %v, want %d and %v", len(got), gotLost, err, news, lost)
		}
	}
	here, away := follow(), follow()
	ended, lives := beside(), beside()
	write(ended)
	write(lives)
	hears(here, 2, false)
	for _, s := range []*store.Store{one, lives} {
		if _, _, err := s.Beat(t.Context(), store.Node{Name: "lives"}, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		passed.Add(int64(16 * time.Minute))
		hears(here, 0, false)
	}
	if _, err := store.SQL(one).ExecContext(t.Context(), `UPDATE writers SET seen_ms = seen_ms - 3600001`); err != nil { // time passes
		t.Fatal(err)
	}
	third := beside()
	var rows int
	if err := store.SQL(one).QueryRowContext(t.Context(), `SELECT count(*) FROM writers`).Scan(&rows); err != nil || rows != 3 {
		t.Errorf("%d rows stay, %v", rows, err)
	}
	hears(here, 0, false)
	write(lives)
	write(third)
	hears(here, 2, false)
	passed.Add(int64(29 * time.Minute))
	hears(here, 0, false)
	passed.Add(int64(2 * time.Minute))
	hears(away, 3, true)
	hears(away, 0, false)
	hears(here, 0, false)
}
