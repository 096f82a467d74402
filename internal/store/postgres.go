package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/keywright/keywright/internal/secret"
)

// ErrPlainDatabase says that the database would be spoken to without TLS on another machine.
var ErrPlainDatabase = errors.New("without TLS only a database on this machine is used")

// What Options that do not say it mean on a database that many processes share.
const (
	DefaultTimeout  = 5 * time.Second  // of a statement
	DefaultPatience = 10 * time.Second // for an update
	DefaultReaders  = 8                // connections
)

// The server gives up a statement after the time-out, and a transaction whose process says nothing any more after idleTransaction:
// it holds locks that others wait for.
const idleTransaction = 10 * time.Second

// lockPatience is for how long a statement that writes waits for a lock. The writer waits for nothing else meanwhile, and those that wait take
// turns; one that is held for longer is held by a process that hangs, and what wants it is put aside.
const lockPatience = 500 * time.Millisecond

// openShared opens the writer, the readers and the lookers of a database that other processes use too. Its URL may name several
// hosts: the first one that accepts writing is used.
func (db *DB) openShared(o Options) error {
	config, err := parseDSN(o.DSN, o.Password)
	if err != nil {
		return err
	}
	timeout := orDefault(o.Timeout, DefaultTimeout)
	config.ConnectTimeout = orDefault(config.ConnectTimeout, timeout)
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if n.File == "syncrep.c" { // whatever the language: a commit that did not wait for its standby
			db.unreplicated.Add(1)
		}
	}
	if config.ValidateConnect == nil && !o.ReadOnly {
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	readers := o.Readers
	if readers <= 0 {
		readers = DefaultReaders
	}
	if _, given := config.RuntimeParams["application_name"]; !given {
		config.RuntimeParams["application_name"] = "keywright"
	}
	settings := []setting{
		{"client_min_messages", "warning"}, // for OnNotice
		{"idle_in_transaction_session_timeout", millis(idleTransaction)},
		{"default_transaction_isolation", "read committed"}, // see Tx.touch
	}
	waiting := func(statement, lock time.Duration) []setting {
		return append(slices.Clone(settings), setting{"statement_timeout", millis(statement)}, setting{"lock_timeout", millis(lock)})
	}
	if !o.ReadOnly {
		locks := min(lockPatience, timeout/2)
		db.write = db.sharedPool(config, 3, waiting(timeout, locks)) // the writer, who manages seals, and who asks
		db.tasks = db.sharedPool(config, 2, waiting(0, locks))       // migrations and transfers take as long as they take
	}
	settings = append(settings, setting{"default_transaction_read_only", "on"})
	db.read = db.sharedPool(config, readers, waiting(timeout, timeout/2), firstStatements...)
	db.look = db.sharedPool(config, 2, waiting(timeout, timeout/2)) // one that follows, and one that looks who lives
	return nil
}

// firstStatements are those that a request can wait for on a server that knows nothing yet: they are prepared before.
var firstStatements = []statement{selectAccessKey, selectWholeAccount, selectKey}

func millis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

func orDefault(d, otherwise time.Duration) time.Duration {
	if d <= 0 {
		return otherwise
	}
	return d
}

// parseDSN reads the URL of a database. No error shows its password.
func parseDSN(dsn string, password secret.Bytes) (*pgx.ConnConfig, error) {
	if !strings.HasPrefix(dsn, "postgres://") && !strings.HasPrefix(dsn, "postgresql://") {
		return nil, errors.New("the database is named by a URL that begins with postgres://")
	}
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err // pgx takes the password out
	}
	if password.Len() > 0 {
		config.Password = string(password.Expose())
	}
	plain := func(host string, encrypted bool) error {
		if encrypted || strings.HasPrefix(host, "/") || host == "localhost" {
			return nil
		}
		if ip, err := netip.ParseAddr(host); err == nil && ip.IsLoopback() {
			return nil
		}
		return fmt.Errorf("%w: %s: set sslmode to verify-full", ErrPlainDatabase, host)
	}
	err = plain(config.Host, config.TLSConfig != nil)
	for _, f := range config.Fallbacks {
		err = errors.Join(err, plain(f.Host, f.TLSConfig != nil))
	}
	return config, err
}

// collatedFiles is the migrations as PostgreSQL needs them: it would sort texts by a language, where the lists of this package are
// in the order of octets.
type collatedFiles struct{ fs.FS }

var collated = strings.NewReplacer(" TEXT ", ` TEXT COLLATE "C" `)

// Open implements fs.FS.
func (c collatedFiles) Open(name string) (fs.File, error) {
	f, err := c.FS.Open(name)
	if err != nil || !strings.HasSuffix(name, ".sql") {
		return f, err
	}
	text, err := io.ReadAll(f)
	return collatedFile{f, strings.NewReader(collated.Replace(string(text)))}, err
}

// ReadDir implements fs.ReadDirFS.
func (c collatedFiles) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(c.FS, name) }

type collatedFile struct {
	fs.File
	text *strings.Reader
}

// Read implements fs.File.
func (f collatedFile) Read(b []byte) (int, error) { return f.text.Read(b) }

func sharedMigrator(ctx context.Context, db *sql.DB, files fs.FS) (*goose.Provider, error) {
	var version, encoding string
	err := db.QueryRowContext(ctx, `SELECT version(), current_setting('server_encoding')`).Scan(&version, &encoding)
	if err != nil {
		return nil, err
	}
	if encoding != "UTF8" {
		return nil, fmt.Errorf("the database has the encoding %s, not UTF8", encoding)
	}
	if !strings.HasPrefix(version, "CockroachDB") { // which knows no other order
		files = collatedFiles{files}
	}
	if !strings.HasPrefix(version, "PostgreSQL") || strings.Contains(version, "-YB-") { // no advisory locks; who comes second fails, and starts again
		return goose.NewProvider(goose.DialectPostgres, db, files)
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 120)) // once a second, for two minutes
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectPostgres, db, files, goose.WithSessionLocker(locker))
}

// verdict is what an error says about a transaction.
type verdict int

const (
	refused verdict = iota + 1 // nothing stays, and the same again would end the same
	again                      // nothing stays, and the same again may succeed
	slow                       // nothing stays, and the same again would take as long
	unknown                    // it may have been committed
)

// lockNotAvailable is what PostgreSQL says where a lock cannot be had at once, or within lock_timeout.
const lockNotAvailable = "55P03"

// isLocked reports whether an error says that.
func isLocked(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == lockNotAvailable
}

// judge says what an error of a statement means.
func judge(err error) verdict {
	if errors.Is(err, errRestart) || errors.Is(err, errWentBack) {
		return again
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code {
		case "40001", "40P01", // serialization, deadlock
			lockNotAvailable,
			"25006",                   // read-only: the server became a standby
			"25P03", "25P04", "57P05", // the session was idle for too long inside the transaction, which took too long; or was idle
			"26000",                   // a prepared statement of another session
			"53300",                   // too many connections
			"57P01", "57P02", "57P03": // the server stops, or starts
			return again
		case "57014": // statement_timeout
			return slow
		}
		if strings.HasPrefix(pg.Code, "08") {
			return again
		}
		return refused
	}
	var network net.Error
	if errors.As(err, &network) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) || errors.Is(err, sql.ErrTxDone) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, errNoCancel) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || connectionError(err) {
		return again
	}
	return refused
}

// connectionLost reports whether an error says that a connection is of no use any more, as others to the same server may be.
func connectionLost(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "25006" || strings.HasPrefix(pg.Code, "57P0") || strings.HasPrefix(pg.Code, "08")
	}
	return !errors.Is(err, errRestart) && !errors.Is(err, errWentBack) && judge(err) == again
}

func connectionError(err error) bool {
	var connect *pgconn.ConnectError
	return errors.As(err, &connect) || errors.Is(err, pgconn.ErrConnClosed) || pgconn.SafeToRetry(err)
}

// judgeCommit says what an error of COMMIT means: only what the server says plainly is known.
func judgeCommit(err error) verdict {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && !errors.Is(err, errUnreplicated) {
		switch {
		case pg.Code == "40001", pg.Code == "40P01":
			return again
		case strings.HasPrefix(pg.Code, "23"): // a constraint that is looked at last
			return refused
		}
	}
	return unknown
}
