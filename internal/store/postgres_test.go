package store_test

import (
	"database/sql"
	"errors"
	"net/url"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/store/storetest"
)

// postgres returns the URL of a new schema.
func postgres(t testing.TB) string {
	t.Helper()
	return storetest.Postgres(t)
}

// with returns a URL with one more parameter.
func with(t testing.TB, dsn, name, value string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set(name, value)
	u.RawQuery = q.Encode()
	return u.String()
}

// openPostgres opens the store at a URL.
func openPostgres(t testing.TB, dsn string) *store.Store {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{DSN: dsn, Now: storetest.Clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return storetest.Unseal(t, db)
}

// postgresHarness is the suite's harness. Its stores are those of one process each.
func postgresHarness() storetest.Harness { return harness(openPostgres) }

// harness is that of stores that open opens at a URL.
func harness(opens func(testing.TB, string) *store.Store) storetest.Harness {
	var mu sync.Mutex
	where := map[*store.Store]string{}
	open := func(t testing.TB, dsn string) *store.Store {
		t.Helper()
		s := opens(t, dsn)
		mu.Lock()
		defer mu.Unlock()
		where[s] = dsn
		return s
	}
	at := func(s *store.Store) string {
		mu.Lock()
		defer mu.Unlock()
		return where[s]
	}
	return storetest.Harness{
		Open: func(t testing.TB) *store.Store { t.Helper(); return open(t, postgres(t)) },
		Reopen: func(t testing.TB, s *store.Store) *store.Store {
			t.Helper()
			if err := s.DB().Close(); err != nil {
				t.Fatal(err)
			}
			return open(t, at(s))
		},
		Beside: func(t testing.TB, s *store.Store) *store.Store { t.Helper(); return open(t, at(s)) },
		SQL:    behind(at),
	}
}

// behind returns a function that hands out connections behind the back of stores, of which at knows the URL.
func behind(at func(*store.Store) string) func(testing.TB, *store.Store) *sql.DB {
	return func(t testing.TB, s *store.Store) *sql.DB {
		t.Helper()
		config, err := pgx.ParseConfig(at(s))
		if err != nil {
			t.Fatal(err)
		}
		config.RuntimeParams["session_replication_role"] = "replica" // foreign keys are not enforced
		config.RuntimeParams["synchronous_commit"] = "off"
		db := stdlib.OpenDB(*config)
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	postgres(t) // skips
	storetest.Run(t, postgresHarness())
}

// TestOpenTogether has several processes find an empty database at the same time: they make one store of it.
func TestOpenTogether(t *testing.T) {
	dsn := postgres(t)
	var wg sync.WaitGroup
	installations := make([]string, 5)
	for i := range installations {
		wg.Go(func() {
			db, err := store.Open(t.Context(), store.Options{DSN: dsn})
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { _ = db.Close() })
			_, sealed, err := seal.Initialize(t.Context(), storetest.Clock(), storetest.Seal())
			if err != nil {
				t.Error(err)
				return
			}
			if err := db.Initialize(t.Context(), sealed); err != nil && !errors.Is(err, store.ErrInitialized) {
				t.Error(err)
			}
			if sealed, err = db.Sealed(t.Context()); err != nil || len(sealed.Seals) != 1 || len(sealed.DomainKeys) != 4 {
				t.Errorf("%d seals, %d domain keys, %v", len(sealed.Seals), len(sealed.DomainKeys), err)
			}
			storetest.Unseal(t, db)
			installations[i] = db.Installation()
		})
	}
	wg.Wait()
	slices.Sort(installations)
	if one := slices.Compact(installations); len(one) != 1 || one[0] == "" {
		t.Errorf("installations %q", one)
	}
}
