package flip_test

import (
	"database/sql"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// tables are those that decide who may do what, and that hold what is secret, with their primary keys.
var tables = map[string][]string{
	"keys": {"account", "region", "key_id"}, "aliases": {"account", "region", "name"}, "accounts": {"account"},
	"access_keys": {"access_key_id"}, "identities": {"account", "kind", "name"}, "grants": {"account", "region", "key_id", "grant_id"}, "key_uses": {"account", "region", "key_id"},
	"seals": {"seal_id"}, "domain_keys": {"domain", "version"},
}

// site is one octet of a stored row.
type site struct {
	table, column, row string // row is the primary key as the log names it
	rowid              int64
	octet              int
	value              any // what the column holds
}

func (s site) String() string {
	return fmt.Sprintf("%s.%s of %s, octet %d", s.table, s.column, s.row, s.octet)
}

// key reports whether the octet belongs to the primary key: then the row is no longer found under its name.
func (s site) key() bool {
	return strings.Contains(" "+strings.Join(tables[s.table], " ")+" ", " "+s.column+" ")
}

// open opens a database file with no rule enforced, as somebody would who means harm.
func open(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=foreign_keys(0)&_pragma=synchronous(0)")
	check(t, err)
	db.SetMaxOpenConns(1)
	return db
}

// sites returns every octet of every column of the tables.
func sites(t *testing.T, in *installation) []site {
	t.Helper()
	dir := t.TempDir()
	in.write(t, dir, in.database)
	db := open(t, filepath.Join(dir, "keywright.db"))
	defer db.Close()
	var all []site
	for table, primary := range tables {
		rows, err := db.Query("SELECT rowid, " + strings.Join(primary, " || '/' || ") + ", * FROM " + table)
		check(t, err)
		names, err := rows.Columns()
		check(t, err)
		for rows.Next() {
			values := make([]any, len(names))
			to := make([]any, len(names))
			for i := range values {
				to[i] = &values[i]
			}
			check(t, rows.Scan(to...))
			for i := 2; i < len(names); i++ {
				for octet := range len(octets(values[i])) {
					all = append(all, site{table, names[i], fmt.Sprint(values[1]), values[0].(int64), octet, values[i]})
				}
			}
		}
		check(t, rows.Err())
		check(t, rows.Close())
	}
	return all
}

// octets gives a column's value as octets: none for NULL.
func octets(v any) []byte {
	switch v := v.(type) {
	case int64:
		return binary.BigEndian.AppendUint64(nil, uint64(v))
	case string:
		return []byte(v)
	case []byte:
		return v
	}
	return nil
}

// flipped returns the database with one bit of the site's octet changed: the given one, or the next one where that would
// make a primary key that another row has, which the database does not take.
func (s site) flipped(t *testing.T, in *installation, bit uint) []byte {
	t.Helper()
	for range 8 {
		database, err := s.flip(t, in, bit)
		if err == nil {
			return database
		}
		if !strings.Contains(err.Error(), "UNIQUE constraint") {
			t.Fatal(err)
		}
		bit++
	}
	t.Fatalf("%v: every bit makes another row's key", s)
	return nil
}

func (s site) flip(t *testing.T, in *installation, bit uint) ([]byte, error) {
	t.Helper()
	changed := append([]byte(nil), octets(s.value)...)
	changed[s.octet] ^= 1 << (bit % 8)
	var value any = changed
	expression := "?"
	switch s.value.(type) {
	case int64:
		value = int64(binary.BigEndian.Uint64(changed))
	case string:
		expression = "CAST(? AS TEXT)"
	}
	return in.edit(t, "UPDATE "+s.table+" SET "+s.column+" = "+expression+" WHERE rowid = ?", value, s.rowid)
}

// edited returns the database after a statement that changes something.
func (in *installation) edited(t *testing.T, statement string) []byte {
	t.Helper()
	database, err := in.edit(t, statement)
	check(t, err)
	return database
}

// edit is edited with arguments. The error is the statement's.
func (in *installation) edit(t *testing.T, statement string, args ...any) ([]byte, error) {
	t.Helper()
	dir := scratch(t)
	defer func() { check(t, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "edited.db")
	check(t, os.WriteFile(path, in.database, 0o600))
	db := open(t, path)
	result, err := db.Exec(statement, args...)
	if err != nil {
		check(t, db.Close())
		return nil, err
	}
	if n, _ := result.RowsAffected(); n < 1 {
		t.Fatalf("nothing was changed by %s", statement)
	}
	_, err = db.Exec("PRAGMA wal_checkpoint(TRUNCATE)")
	check(t, err)
	check(t, db.Close())
	database, err := os.ReadFile(path)
	check(t, err)
	return database, nil
}

// scratch makes a directory that the caller removes at once, not at the end of the test: thousands are used.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "keywright-flip-")
	check(t, err)
	return dir
}
