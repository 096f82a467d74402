package store_test

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/store/storetest"
)

// expanding is a migration that programs of today know nothing of, and that lets those go on which know the schema since oldest.
func expanding(t testing.TB, oldest int64) string {
	t.Helper()
	newest, err := store.NewestSchema()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`ALTER TABLE keys ADD COLUMN note TEXT NOT NULL DEFAULT 'none';
CREATE TABLE notes (note TEXT NOT NULL PRIMARY KEY, body BYTEA NOT NULL);
CREATE INDEX keys_by_note ON keys (note);
INSERT INTO meta (name, value) VALUES ('%s', '%d');`, store.OldestName(newest+1), oldest)
}

// tryProgram opens a store with a program: the one of today, or, with a migration, the next one.
func tryProgram(t testing.TB, dsn, next string) (*store.DB, error) {
	t.Helper()
	o := store.Options{DSN: dsn, Now: storetest.Clock}
	if next != "" {
		var err error
		if o, err = store.WithNext(o, next); err != nil {
			t.Fatal(err)
		}
	}
	db, err := store.Open(t.Context(), o)
	if err == nil {
		t.Cleanup(func() { _ = db.Close() })
	}
	return db, err
}

func program(t testing.TB, dsn, next string) *store.Store {
	t.Helper()
	db, err := tryProgram(t, dsn, next)
	if err != nil {
		t.Fatal(err)
	}
	return storetest.Unseal(t, db)
}

func newestSchema(t testing.TB) int64 {
	t.Helper()
	n, err := store.NewestSchema()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestRollingUpgrade replaces servers one by one while all of them write: the old ones go on when a new one has brought the schema up to
// date, and start again.
func TestRollingUpgrade(t *testing.T) {
	const writers, each = 2, 40
	dsn := postgres(t)
	next := expanding(t, newestSchema(t))
	old := program(t, dsn, "")
	k := storetest.Key()
	write := func(s *store.Store, description string) error {
		return s.Update(t.Context(), func(tx *store.Tx) error {
			now, err := tx.GetKey(k.Name)
			if errors.Is(err, store.ErrNotFound) {
				now, err = k, nil
			}
			if err != nil {
				return err
			}
			now.Tags = append(now.Tags, key.Tag{Key: description})
			return tx.PutKey(now)
		})
	}
	var wg sync.WaitGroup
	var written atomic.Int64
	under := func(s *store.Store, name string) {
		for i := range writers {
			wg.Go(func() {
				for n := range each {
					if err := write(s, fmt.Sprintf("%s-%d-%d", name, i, n)); err != nil {
						t.Errorf("%s: %v", name, err)
						return
					}
					written.Add(1)
				}
			})
		}
	}
	under(old, "old")
	upgraded := program(t, dsn, next) // which migrates while the old one writes
	under(upgraded, "new")
	again := program(t, dsn, "") // an old one that starts again
	under(again, "again")
	wg.Wait()
	for name, s := range map[string]*store.Store{"old": old, "new": upgraded, "again": again} {
		got, err := s.GetKey(t.Context(), k.Name)
		if err != nil || int64(len(got.Tags)) != written.Load() || written.Load() != 3*writers*each {
			t.Errorf("%s: %d of %d changes are there, %v", name, len(got.Tags), written.Load(), err)
		}
	}
	if p, err := old.Position(t.Context(), k.Account, k.Region); err != nil || p != written.Load() {
		t.Errorf("position %d, %v", p, err)
	}
	if _, err := again.Rekey(t.Context(), func(_ *key.Key, m *key.Material) ([]byte, error) { return m.Wrapped, nil }); !errors.Is(err, store.ErrNewer) {
		t.Errorf("an old program writes all rows that it knows of: %v", err)
	}
	if err := again.DropOldDomainKeys(t.Context(), nil); !errors.Is(err, store.ErrNewer) {
		t.Errorf("an old program drops keys that rows may need of which it does not know: %v", err)
	}
}

// TestNewerSchemaOnPostgres: an older program uses a newer schema only where that says that it may.
func TestNewerSchemaOnPostgres(t *testing.T) {
	newest := newestSchema(t)
	for name, c := range map[string]struct {
		next string
		want error
	}{
		"for this program":    {expanding(t, newest), nil},
		"for older ones, too": {expanding(t, newest-1), nil},
		"for newer ones":      {expanding(t, newest+1), store.ErrNewer},
		"says nothing":        {`CREATE TABLE notes (note TEXT NOT NULL PRIMARY KEY);`, store.ErrNewer},
		"says it of another version": {
			`INSERT INTO meta (name, value) VALUES ('` + store.OldestName(newest) + `', '` + strconv.FormatInt(newest, 10) + `');`, store.ErrNewer,
		},
	} {
		t.Run(name, func(t *testing.T) {
			dsn := postgres(t)
			program(t, dsn, c.next)
			if _, err := tryProgram(t, dsn, ""); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// TestPostgresOfTheNextVersion runs the suite with programs of today and of the next version in turn, on the schema of the next one. What
// writes or copies everything is left to the newest.
func TestPostgresOfTheNextVersion(t *testing.T) {
	t.Parallel()
	postgres(t) // skips
	next := expanding(t, newestSchema(t))
	programs := []string{next, ""}
	for first, name := range []string{"next", "today"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opened := map[string]int{} // at each URL
			storetest.Run(t, harness(func(t testing.TB, dsn string) *store.Store {
				t.Helper()
				if db, err := tryProgram(t, dsn, next); err != nil || db.Close() != nil {
					t.Fatal(err)
				}
				n := opened[dsn]
				opened[dsn]++
				return program(t, dsn, programs[(first+n)%2])
			}), "Rekey", "RotateRoot", "RotateBeside", "WrappedBefore")
		})
	}
}
