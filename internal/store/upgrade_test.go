package store_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/store"
)

// tablesOf returns the tables of a database, those with references behind what they refer to.
func tablesOf(ctx context.Context, t *testing.T, db *sql.DB) (names []string) {
	t.Helper()
	rows, err := db.QueryContext(ctx, `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name <> 'goose_db_version' ORDER BY rowid`)
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		t.Fatal(err)
	}
	return names
}

// oldStore makes a data directory as a program of that schema left it, with a row in every table that it knew.
func oldStore(t *testing.T, version int64) (dir string, k *key.Key) {
	t.Helper()
	ctx, source := t.Context(), t.TempDir()
	dir = t.TempDir()
	db, err := store.Open(ctx, store.Options{Dir: source})
	if err != nil {
		t.Fatal(err)
	}
	k = fillTables(t, unseal(t, db))
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "keywright.db")
	if err := store.MakeOld(ctx, path, version); err != nil {
		t.Fatal(err)
	}
	old, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = old.Close() }()
	old.SetMaxOpenConns(1) // what is attached belongs to a connection
	if _, err := old.ExecContext(ctx, `ATTACH $1 AS source`, filepath.Join(source, "keywright.db")); err != nil {
		t.Fatal(err)
	}
	for _, table := range tablesOf(ctx, t, old) {
		columns := columnsOf(ctx, t, old, table)
		if _, err := old.ExecContext(ctx, `INSERT INTO main.`+table+` (`+columns+`) SELECT `+columns+` FROM source.`+table); err != nil {
			t.Fatalf("%s: %v", table, err)
		}
	}
	return dir, k
}

// columnsOf returns the columns that a table has in the schema.
func columnsOf(ctx context.Context, t *testing.T, db *sql.DB, table string) (columns string) {
	t.Helper()
	if err := db.QueryRowContext(ctx, `SELECT group_concat(name) FROM pragma_table_info($1, 'main')`, table).Scan(&columns); err != nil {
		t.Fatal(err)
	}
	return columns
}

// TestUpgradeFromEverySchema opens a store of every program that there has been.
func TestUpgradeFromEverySchema(t *testing.T) {
	newest, err := store.NewestSchema()
	if err != nil {
		t.Fatal(err)
	}
	for version := int64(1); version <= newest; version++ {
		t.Run(strconv.FormatInt(version, 10), func(t *testing.T) {
			ctx := t.Context()
			dir, k := oldStore(t, version)
			beside, err := store.Open(ctx, store.Options{Dir: dir, ReadOnly: true})
			if (err == nil) != (version == newest) {
				t.Errorf("beside no server: %v", err)
			}
			if err == nil {
				if err := beside.Close(); err != nil {
					t.Error(err)
				}
			}
			s := open(t, dir)
			if got, err := s.GetKey(ctx, k.Name); err != nil || got.Spec != k.Spec {
				t.Errorf("%v, %v", got, err)
			}
			if list, _, err := s.ListAliasesOfKey(ctx, k.Name, "", 10); err != nil || len(list) != 1 {
				t.Errorf("%v, %v", list, err)
			}
			if _, err := s.GetAccessKey(ctx, "AKIA"); err != nil {
				t.Error(err)
			}
			grants := 0
			if version >= 2 { // which brought them
				grants = 1
			}
			if list, _, err := s.ListGrants(ctx, k.Name, "", 10); err != nil || len(list) != grants {
				t.Errorf("grants: %v, %v", list, err)
			}
			// What the old program did not know can be written.
			if err := s.Update(ctx, func(tx *store.Tx) error {
				return tx.PutKeyUse(&store.KeyUse{Key: k.Name, At: k.CreatedAt, Operation: "Encrypt"})
			}); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestNewerSchemaIsRefused is the way back without a backup: an older program leaves the store as it is and says why.
func TestNewerSchemaIsRefused(t *testing.T) {
	ctx := t.Context()
	newest, err := store.NewestSchema()
	if err != nil {
		t.Fatal(err)
	}
	dir, _ := oldStore(t, newest)
	path, backup := filepath.Join(dir, "keywright.db"), filepath.Join(t.TempDir(), "backup")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{
		`INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1)`, `CREATE TABLE of_the_future (x TEXT)`, `PRAGMA wal_checkpoint(TRUNCATE)`,
		`VACUUM INTO '` + backup + `'`,
	} {
		if _, err := db.ExecContext(ctx, q); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	before := hashOf(t, path)
	for name, try := range map[string]func() error{
		"opening":   func() error { _, err := store.Open(ctx, store.Options{Dir: dir}); return err },
		"reading":   func() error { _, err := store.Open(ctx, store.Options{Dir: dir, ReadOnly: true}); return err },
		"checking":  func() error { _, err := store.CheckBackup(ctx, backup); return err },
		"restoring": func() error { _, err := store.Restore(ctx, backup, t.TempDir()); return err },
	} {
		if err := try(); !errors.Is(err, store.ErrNewer) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if after := hashOf(t, path); !slices.Equal(before, after) {
		t.Errorf("the file was changed")
	}
}

func hashOf(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return sum[:]
}
