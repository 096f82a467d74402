package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"

	"github.com/keywright/keywright/internal/seal"
)

// Backup writes a copy of the whole store, as it is at one moment, to a new file: mode 0600, on disk when Backup returns.
// It runs beside the server, from its process or from another one that opened the store read-only; updates go on
// meanwhile. An existing file is not touched: the error is os.ErrExist, wrapped. The copy is as sealed as the store is: it
// opens with the seals that the store had.
//
// A store on PostgreSQL is refused with ErrBackupElsewhere.
func (db *DB) Backup(ctx context.Context, path string) error {
	if db.shared {
		return ErrBackupElsewhere
	}
	return doing("backing up", placeFile(path, func(partial string) (err error) {
		source := db.read
		if db.path != "" { // a reader's connections refuse to write, even to another file
			if source, err = sql.Open("sqlite", dsn(db.path, url.Values{"mode": {"rw"}})); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, source.Close()) }()
		}
		// SQLite takes an existing file only if it is empty, and keeps its mode.
		_, err = source.ExecContext(ctx, `VACUUM INTO $1`, partial)
		return err
	}))
}

// placeFile has fill write a file beside path and gives it that name when it is on disk. It never replaces a file: of two
// at once, one gets os.ErrExist.
func placeFile(path string, fill func(partial string) error) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return &os.PathError{Op: "create", Path: path, Err: os.ErrExist}
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".partial-*") // mode 0600
	if err != nil {
		return err
	}
	partial := f.Name()
	defer func() { err = errors.Join(err, f.Close(), os.Remove(partial)) }()
	if err := fill(partial); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Link(partial, path); err != nil { // unlike a renaming, it refuses a name that is taken
		return err
	}
	return syncDir(filepath.Dir(path))
}

// ErrBackupElsewhere says that the store is on a database that has means of its own.
var ErrBackupElsewhere = errors.New("the store is on PostgreSQL, whose own programs back it up and restore it")

// BackupInfo is what CheckBackup finds.
type BackupInfo struct {
	Installation string // of the store that it is a copy of
	Schema       int64  // version of the schema
	Counts       Counts
}

// CheckBackup opens a backup and reads all of it: the engine's own integrity check, the schema's version, every row
// counted. It needs no secret and so cannot tell whether rows were changed: CheckBackupSealed can.
func CheckBackup(ctx context.Context, path string) (BackupInfo, error) {
	db, err := openBackup(ctx, path, nil, schemaMayBeOlder) // a restored store is brought up to date by Open
	if err != nil {
		return BackupInfo{}, doing("checking the backup", err)
	}
	info, err := db.inspect(ctx)
	return info, doing("checking the backup", errors.Join(err, db.Close()))
}

// The versions of the schema that brought tables: a backup can be older.
const (
	grantsSchema     = 2
	identitiesSchema = 3
	keyUsesSchema    = 4
	quotasSchema     = 5
)

// inspect checks the file as far as that goes without the root key.
func (db *DB) inspect(ctx context.Context) (BackupInfo, error) {
	info := BackupInfo{Installation: db.installation}
	var result string
	if err := db.read.QueryRowContext(ctx, `PRAGMA integrity_check(1)`).Scan(&result); err != nil {
		return info, err
	}
	if result != "ok" {
		return info, fmt.Errorf("the file is damaged: %s", result)
	}
	var err error
	if info.Schema, err = db.schemaVersion(ctx, db.read); err != nil {
		return info, err
	}
	counted := map[string]*int64{
		"seals": &info.Counts.Seals, "domain_keys": &info.Counts.DomainKeys, "accounts": &info.Counts.Accounts,
		"access_keys": &info.Counts.AccessKeys, "keys": &info.Counts.Keys, "aliases": &info.Counts.Aliases,
	}
	if info.Schema >= grantsSchema {
		counted["grants"] = &info.Counts.Grants
	}
	if info.Schema >= identitiesSchema {
		counted["identities"] = &info.Counts.Identities
	}
	if info.Schema >= keyUsesSchema {
		counted["key_uses"] = &info.Counts.KeyUses
	}
	if info.Schema >= quotasSchema {
		counted["quotas"] = &info.Counts.Quotas
	}
	for table, n := range counted {
		if err := db.read.QueryRowContext(ctx, `SELECT count(*) FROM `+table).Scan(n); err != nil {
			return info, fmt.Errorf("counting %s: %w", table, err)
		}
	}
	if info.Counts.Seals == 0 {
		return info, ErrNotInitialized
	}
	return info, nil
}

// CheckBackupSealed is CheckBackup, and then unseals the backup with one of its seals and verifies every row: what it
// counts would be accepted after a restore.
func CheckBackupSealed(ctx context.Context, path string, s seal.Seal) (BackupInfo, error) {
	db, err := OpenBackup(ctx, path, nil)
	if err != nil {
		return BackupInfo{}, doing("checking the backup", err)
	}
	info, err := db.inspectSealed(ctx, s)
	return info, doing("checking the backup", errors.Join(err, db.Close()))
}

func (db *DB) inspectSealed(ctx context.Context, unsealer seal.Seal) (BackupInfo, error) {
	info, err := db.inspect(ctx)
	if err != nil {
		return info, err
	}
	sealed, err := db.Sealed(ctx)
	if err != nil {
		return info, err
	}
	b, err := seal.Unseal(ctx, sealed, unsealer)
	if err != nil {
		return info, err
	}
	s, err := db.Unseal(ctx, b)
	if err != nil {
		return info, err
	}
	info.Counts, err = s.Verify(ctx, nil)
	return info, err
}

// OpenBackup opens a backup to read it, as Open does with a store. Nothing must write to the file meanwhile. The logger
// may be nil, as in Options.
func OpenBackup(ctx context.Context, path string, log *slog.Logger) (*DB, error) {
	return openBackup(ctx, path, log, schemaMustFit)
}

func openBackup(ctx context.Context, path string, log *slog.Logger, policy schemaPolicy) (*DB, error) {
	db := &DB{log: log}
	if db.log == nil {
		db.log = slog.Default()
	}
	var err error
	if db.read, err = openImmutable(path); err == nil {
		err = db.start(ctx, policy)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the backup %s: %w", path, err), db.Close())
	}
	return db, nil
}

// Restore makes the store of a data directory from a backup, which it checks first as CheckBackup does. A directory that
// has a store is refused with os.ErrExist, wrapped; one in use with ErrLocked. When it returns nil the store is on disk.
func Restore(ctx context.Context, path, dir string) (info BackupInfo, err error) {
	if info, err = CheckBackup(ctx, path); err != nil {
		return info, err
	}
	lock, err := LockDir(dir)
	if err != nil {
		return info, doing("restoring", err)
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	target := filepath.Join(dir, databaseName)
	// A log left behind by another database would be taken for this one's.
	for _, suffix := range []string{"-wal", "-shm", "-journal"} {
		if _, err := os.Lstat(target + suffix); err == nil {
			return info, fmt.Errorf("restoring: %w", &os.PathError{Op: "create", Path: target + suffix, Err: os.ErrExist})
		}
	}
	return info, doing("restoring", placeFile(target, func(partial string) error { return copyFile(path, partial) }))
}

// copyFile writes the content of one file to another that is there.
func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close() // nothing to lose: it is read only
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}
