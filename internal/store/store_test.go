package store_test

import (
	"database/sql"
	"testing"

	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/store/storetest"
)

// withoutForeignKeys is the SQL of a storetest.Harness.
func withoutForeignKeys(t testing.TB, s *store.Store) *sql.DB {
	t.Helper()
	db := store.SQL(s)
	for _, pragma := range []string{"PRAGMA foreign_keys = OFF", "PRAGMA synchronous = OFF"} {
		if _, err := db.ExecContext(t.Context(), pragma); err != nil {
			t.Fatal(err)
		}
	}
	return db
}

// dirs remembers where a store is.
type dirs map[*store.Store]string

func (d dirs) open(t testing.TB, dir string) *store.Store {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{Dir: dir, Now: storetest.Clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	s := storetest.Unseal(t, db)
	d[s] = dir
	return s
}

func TestSQLiteFile(t *testing.T) {
	t.Parallel()
	d := dirs{}
	storetest.Run(t, storetest.Harness{
		Open: func(t testing.TB) *store.Store { return d.open(t, t.TempDir()) },
		Reopen: func(t testing.TB, s *store.Store) *store.Store {
			t.Helper()
			if err := s.DB().Close(); err != nil {
				t.Fatal(err)
			}
			return d.open(t, d[s])
		},
		SQL: withoutForeignKeys,
	})
}

func TestSQLiteMemory(t *testing.T) {
	t.Parallel()
	d := dirs{}
	storetest.Run(t, storetest.Harness{
		Open: func(t testing.TB) *store.Store { return d.open(t, "") },
		SQL:  withoutForeignKeys,
	})
}
