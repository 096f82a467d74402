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
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
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

// The server gives up a statement after the time-out, and a transaction whose process says nothing any more after idleTransaction: it holds locks that others wait for.
const idleTransaction = 10 * time.Second

// connectionLife bounds how long a connection is used, so that after a fail-over or a change of addresses all are on the
// right server sooner or later.
const connectionLife = 10 * time.Minute

// idleConnection is how long a connection is kept that nobody uses: a database has fewer for all processes together than they may take
// when they are busy.
const idleConnection = time.Minute

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
	for name, value := range map[string]string{
		"application_name":                    "keywright",
		"statement_timeout":                   millis(timeout),
		"lock_timeout":                        millis(timeout / 2),
		"idle_in_transaction_session_timeout": millis(idleTransaction),
		"default_transaction_isolation":       "read committed", // see Tx.touch
	} {
		if _, set := config.RuntimeParams[name]; !set {
			config.RuntimeParams[name] = value
		}
	}
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if ctx.Value(connecting{}) == nil {
			return nil, errNoCancel
		}
		return dial(ctx, network, address)
	}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if n.File == "syncrep.c" { // whatever the language: a commit that did not wait for its standby
			db.unreplicated.Store(true)
		}
	}
	if config.ValidateConnect == nil && !o.ReadOnly {
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	readers := o.Readers
	if readers <= 0 {
		readers = DefaultReaders
	}
	if !o.ReadOnly {
		writing := config.Copy()
		writing.RuntimeParams["lock_timeout"] = millis(min(lockPatience, timeout/2))
		db.write = sharedPool(writing, 3) // the writer, who manages seals, and one to ask what became of a lost transaction
	}
	config = config.Copy()
	config.RuntimeParams["default_transaction_read_only"] = "on"
	config.ValidateConnect = notStandby(config.ValidateConnect)
	db.read = sharedPool(config, readers, stdlib.OptionAfterConnect(prepareFirst))
	db.look = sharedPool(config, 2) // one that follows, and one that looks who lives
	return nil
}

// firstStatements are those that a request can wait for on a server that knows nothing yet.
var firstStatements = []statement{selectAccessKey, selectWholeAccount, selectKey}

// prepareFirst has no request wait while these are prepared. Where the database cannot, because its tables are yet to be made, they will
// be when they are used.
func prepareFirst(ctx context.Context, c *pgx.Conn) error {
	for _, s := range firstStatements {
		var pg *pgconn.PgError
		if _, err := c.Prepare(ctx, statements[s], statements[s]); err != nil && !errors.As(err, &pg) {
			return err
		}
	}
	return nil
}

// notStandby is like ValidateConnectTargetSessionAttrsReadWrite for sessions that are read-only by their own wish.
func notStandby(chosen pgconn.ValidateConnectFunc) pgconn.ValidateConnectFunc {
	if chosen == nil {
		return nil
	}
	return pgconn.ValidateConnectTargetSessionAttrsPrimary
}

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

func sharedPool(config *pgx.ConnConfig, conns int, more ...stdlib.OptionOpenDB) *sql.DB {
	db := sql.OpenDB(marked{stdlib.GetConnector(*config, more...)})
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	db.SetConnMaxLifetime(connectionLife)
	db.SetConnMaxIdleTime(idleConnection)
	return db
}

// connecting marks the context of a dial that is for a connection, and not for a request to cancel a statement. Such a request,
// which the driver makes when it gives a connection up, could come while the server waits for its standby to have a commit:
// it would then call the commit done.
type connecting struct{}

var errNoCancel = errors.New("statements are not cancelled from outside")

type marked struct{ driver.Connector }

// Connect implements driver.Connector.
func (m marked) Connect(ctx context.Context) (driver.Conn, error) {
	return m.Connector.Connect(context.WithValue(ctx, connecting{}, true))
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
	cockroach := strings.HasPrefix(version, "CockroachDB")
	if !cockroach { // which knows no other order
		files = collatedFiles{files}
	}
	if cockroach { // no advisory locks; who comes second fails, and starts again
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
	if errors.Is(err, errRestart) {
		return again
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code {
		case "40001", "40P01", // serialization, deadlock
			lockNotAvailable,
			"25006",                   // read-only: the server became a standby
			"25P03",                   // the session was idle for too long inside the transaction
			"26000",                   // a prepared statement of another session
			"53300",                   // too many connections
			"57P01", "57P02", "57P03": // the server stops, or starts
			return again
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

func connectionError(err error) bool {
	var connect *pgconn.ConnectError
	return errors.As(err, &connect) || errors.Is(err, pgconn.ErrConnClosed) || pgconn.SafeToRetry(err)
}

// judgeCommit says what an error of COMMIT means: only what the server says plainly is known.
func judgeCommit(err error) verdict {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch {
		case pg.Code == "40001", pg.Code == "40P01":
			return again
		case strings.HasPrefix(pg.Code, "23"): // a constraint that is looked at last
			return refused
		}
	}
	return unknown
}
