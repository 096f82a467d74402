package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Every connection waits this long for a lock that another process holds, such as a backup that opens the file.
const busyTimeoutMillis = 10_000

// commonPragmas are those of every connection. Deleted content is overwritten (secure_delete): a deleted key's wrapped
// material must not stay in free pages.
var commonPragmas = []string{
	"busy_timeout(" + strconv.Itoa(busyTimeoutMillis) + ")",
	"foreign_keys(1)",
	"secure_delete(1)",
	"cache_size(-16384)", // KiB
	// What SQLite sets aside, such as the old content of the pages that a savepoint changed, stays in memory: in files of its own it
	// would outlive what was deleted, and a container may have no directory for them.
	"temp_store(2)",
}

// dsn returns the data source name of a database file, whatever characters its path has.
func dsn(path string, parameters url.Values, pragmas ...string) string {
	q := url.Values{}
	for name, values := range parameters {
		q[name] = values
	}
	q["_pragma"] = append(append([]string(nil), commonPragmas...), pragmas...)
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

// openPools opens the writer and the readers of a database file, whose directory the caller has locked unless it is
// read-only. An empty path means a database in memory.
func openPools(path string, readOnly bool, readers int) (write, read *sql.DB, err error) {
	if path == "" {
		// A database in memory belongs to its connection: there is one, and it must stay.
		write, err = sql.Open("sqlite", "file::memory:?"+strings.SplitN(dsn("", url.Values{"_txlock": {"immediate"}}), "?", 2)[1])
		if err != nil {
			return nil, nil, err
		}
		write.SetMaxOpenConns(1)
		write.SetMaxIdleConns(1)
		return write, write, nil
	}
	if !readOnly {
		if err := makeFile(path); err != nil {
			return nil, nil, err
		}
		write, err = sql.Open("sqlite", dsn(path, url.Values{"_txlock": {"immediate"}},
			"journal_mode(WAL)", "synchronous(FULL)"))
		if err != nil {
			return nil, nil, err
		}
		write.SetMaxOpenConns(1)
		write.SetMaxIdleConns(1)
	} else if _, err := os.Stat(path); err != nil {
		return nil, nil, err
	}
	// Readers too open the file for writing, which WAL wants, but refuse every statement that writes.
	read, err = sql.Open("sqlite", dsn(path, url.Values{"mode": {"rw"}}, "query_only(1)"))
	if err != nil {
		return nil, nil, errors.Join(err, closePools(write))
	}
	read.SetMaxOpenConns(readers)
	read.SetMaxIdleConns(readers)
	return write, read, nil
}

// openImmutable opens a finished database file that nobody writes to, such as a backup, and leaves no trace beside it.
func openImmutable(path string) (*sql.DB, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	return sql.Open("sqlite", dsn(path, url.Values{"mode": {"ro"}, "immutable": {"1"}}, "query_only(1)"))
}

func closePools(write *sql.DB, others ...*sql.DB) error {
	var err error
	for _, pool := range others {
		if pool != nil && pool != write {
			err = errors.Join(err, pool.Close())
		}
	}
	if write != nil {
		err = errors.Join(err, write.Close()) // last, so that it folds the log into the file
	}
	return err
}

// makeFile makes an empty database file, or takes from an existing one every right of others than its owner. SQLite gives
// the files that it makes beside it the same mode.
func makeFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return os.Chmod(path, 0o600)
	}
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// migrator returns the migrations on a database. It must not be closed: that would close the database.
func (db *DB) migrator(ctx context.Context, pool *sql.DB) (*goose.Provider, error) {
	files := db.migrations
	if files == nil {
		var err error
		if files, err = fs.Sub(migrations, "migrations"); err != nil {
			return nil, err
		}
	}
	if db.shared {
		return sharedMigrator(ctx, pool, files)
	}
	return goose.NewProvider(goose.DialectSQLite3, pool, files)
}

// schemaPolicy says what to do about a schema that is older than this program.
type schemaPolicy int

const (
	schemaIsUpdated  schemaPolicy = iota + 1 // run the missing migrations
	schemaMustFit                            // refuse it
	schemaMayBeOlder                         // leave it: only tables that every version has are read
)

// oldestName is the row of table meta that says which programs may use a schema of a version: those that know at least the version which
// is its value. The migration to that version writes it, if it takes nothing away that these programs need and if they can
// read what newer programs write. So servers on one database can be replaced one by one, and the older ones start again meanwhile.
func oldestName(version int64) string {
	return "oldest schema of programs for schema " + strconv.FormatInt(version, 10)
}

// mayUse returns nil if a program that knows the schema up to a version may use one that is newer.
func (db *DB) mayUse(ctx context.Context, pool *sql.DB, current, newest int64) error {
	err := fmt.Errorf("the schema has version %d and this program knows %d at most: %w", current, newest, ErrNewer)
	if !db.shared {
		return err
	}
	var value string
	switch e := pool.QueryRowContext(ctx, statements[selectMeta], oldestName(current)).Scan(&value); {
	case errors.Is(e, sql.ErrNoRows):
		return err
	case e != nil:
		return e
	}
	if oldest, e := strconv.ParseInt(value, 10, 64); e != nil || newest < oldest {
		return err
	}
	return nil
}

// knowsAll gives ErrNewer if there can be tables that this program does not know: whoever has to write or copy everything must not.
func (db *DB) knowsAll(ctx context.Context) error {
	m, err := db.migrator(ctx, db.read)
	if err != nil {
		return err
	}
	current, err := db.schemaVersion(ctx, db.read)
	sources := m.ListSources()
	if newest := sources[len(sources)-1].Version; err == nil && current > newest {
		err = fmt.Errorf("the schema has version %d and this program knows %d at most: %w", current, newest, ErrNewer)
	}
	return err
}

// migrate looks at the version of the schema and brings it up to date if the policy says so. It refuses a schema that is
// newer than this program, unless that says that the program may use it.
func (db *DB) migrate(ctx context.Context, pool *sql.DB, policy schemaPolicy) error {
	m, err := db.migrator(ctx, pool)
	if err != nil {
		return err
	}
	current, err := db.schemaVersion(ctx, pool)
	if err != nil {
		return err
	}
	sources := m.ListSources()
	newest := sources[len(sources)-1].Version
	switch {
	case current > newest:
		if err := db.mayUse(ctx, pool, current, newest); err != nil {
			return err
		}
		db.log.Warn("a newer program has brought the schema up to date: this one may use it until it is replaced", "schema", current, "known", newest)
		return nil
	case current == newest:
		return nil
	case current == 0 && policy != schemaIsUpdated:
		return errors.New("this is no Keywright store")
	case policy == schemaMustFit:
		return fmt.Errorf("the schema has version %d, not %d: start the server once to bring it up to date", current, newest)
	case policy == schemaMayBeOlder:
		return nil
	}
	if _, err := m.Up(ctx); err != nil {
		return fmt.Errorf("bringing the schema up to date: %w", err)
	}
	return nil
}

// schemaVersion reads the number of the last migration that ran; 0 for an empty database.
func (db *DB) schemaVersion(ctx context.Context, pool *sql.DB) (version int64, err error) {
	find := `SELECT count(*) FROM sqlite_master WHERE name = 'goose_db_version'`
	if db.shared {
		find = `SELECT count(*) FROM information_schema.tables WHERE table_schema = current_schema() AND table_name = 'goose_db_version'`
	}
	var tables int
	err = pool.QueryRowContext(ctx, find).Scan(&tables)
	if err != nil || tables == 0 {
		return 0, err
	}
	err = pool.QueryRowContext(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`).Scan(&version)
	return version, err
}
