package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"testing/fstest"
)

// MakeOld makes an empty database as a program knew it whose newest migration had the version.
func MakeOld(ctx context.Context, path string, version int64) (err error) {
	write, read, err := openPools(path, false, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closePools(write, read)) }()
	m, err := new(DB).migrator(ctx, write)
	if err == nil {
		_, err = m.UpTo(ctx, version)
	}
	return err
}

// NewestSchema returns the version of the last migration.
func NewestSchema() (int64, error) {
	db, _, err := openPools("", false, 1)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	m, err := new(DB).migrator(context.Background(), db)
	if err != nil {
		return 0, err
	}
	all := m.ListSources()
	return all[len(all)-1].Version, nil
}

// WithNext returns options of a program that has one more migration than this one.
func WithNext(o Options, sql string) (Options, error) {
	own, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return o, err
	}
	newest, err := NewestSchema()
	if err != nil {
		return o, err
	}
	files := fstest.MapFS{fmt.Sprintf("%05d_next.sql", newest+1): {Data: []byte("-- +goose Up\n" + sql)}}
	o.migrations = files
	return o, fs.WalkDir(own, ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			var text []byte
			text, err = fs.ReadFile(own, path)
			files[path] = &fstest.MapFile{Data: text}
		}
		return err
	})
}

// OldestName is the row of table meta that says which programs may use a schema.
var OldestName = oldestName

// SQL returns the pool that writes, for tests that do what an attacker could do.
func SQL(s *Store) *sql.DB { return s.db.write }

// Reads returns the pool that reads.
func Reads(s *Store) *sql.DB { return s.db.read }

// Queries returns the statements that read.
func Queries() []string { return statements[:firstWrite] }

// Follow is the query with which a follower reads what others did.
var Follow = statements[selectChangesOfWriters]

// The body codec, for the fuzz target and the property tests.
var (
	EncodeKey       = encodeKey
	DecodeKey       = decodeKey
	DecodeAlias     = decodeAlias
	EncodeGrant     = encodeGrant
	DecodeGrant     = decodeGrant
	EncodeAccount   = encodeAccount
	DecodeAccount   = decodeAccount
	DecodeAccessKey = decodeAccessKey
	EncodeKeyUse    = encodeKeyUse
	DecodeKeyUse    = decodeKeyUse
)

// AccountAfter looks an account up the way GetAccount does, but through a statement that finds the next one: what an index
// that leads elsewhere does.
func AccountAfter(ctx context.Context, s *Store, id string) (*Account, error) {
	return verified(ctx, &s.verifier, s.reads, "accounts", scanAccountRow, s.verifier.account, walkAccounts, id, "1")
}

// Reading returns how many connections of the readers are in use.
func (db *DB) Reading() int { return db.read.Stats().InUse }

// TransferredTables returns the columns of the tables that a transfer copies row by row.
func TransferredTables() map[string][]string {
	all := map[string][]string{}
	for _, t := range plainTables {
		all[t.name] = t.columns
	}
	return all
}
