package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
)

// Options say which store to open.
type Options struct {
	// Dir is the data directory. It is made if it is not there. Empty means a store in memory that ends with Close.
	Dir string
	// DSN is the URL of a database on PostgreSQL: postgres://user@host,otherhost/name?sslmode=verify-full. Without TLS only this
	// machine is spoken to. The data directory, if there is one, is locked and holds nothing.
	DSN string
	// Password is that of the database, in place of what the DSN says.
	Password secret.Bytes
	// Existing refuses a database on PostgreSQL that was never a store with ErrNotInitialized, instead of making one of it.
	Existing bool
	// Timeout bounds a statement on PostgreSQL. Zero means 5 s.
	Timeout time.Duration
	// Patience is for how long an update is tried on PostgreSQL when connections are lost or others are in the way. Zero means 10 s.
	Patience time.Duration
	// ReadOnly opens the store beside a server that runs on it: no lock, no migration, no writing. A store that is not
	// there is an error then.
	ReadOnly bool
	// Readers is how many queries may run at once, besides the writer. Zero means four, and eight on PostgreSQL. In memory there
	// is one connection for all.
	Readers int
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
	// Logger gets the refused rows. Nil means slog.Default().
	Logger *slog.Logger

	migrations fs.FS // in place of this program's own, for tests of those that follow
}

// DB is a store that is not unsealed: it gives access to the seals only.
type DB struct {
	write, read  *sql.DB // the same in memory; write is nil if read-only
	look         *sql.DB // if shared: for what must not wait for those that read
	tasks        *sql.DB // likewise: for what takes long, and may; nil if read-only
	connectors   []*connector
	renewed      atomic.Int64 // when the pools gave up their connections last, in nanoseconds
	lock         *Lock
	shared       bool          // on an engine that other processes use at the same time: PostgreSQL
	timeout      time.Duration // of a statement, if shared
	patience     time.Duration // of an update, if shared
	unreplicated atomic.Int64  // commits, of all connections, that did not wait for the standby that they have to wait for
	path         string        // absolute; empty in memory and if shared
	log          *slog.Logger
	now          func() time.Time
	migrations   fs.FS
	installation string

	mu         sync.Mutex
	store      *Store // once unsealed
	generation string // of the seals and domain keys that Sealed returned last
}

// slow returns the pool for what writes and takes long.
func (db *DB) slow() *sql.DB {
	if db.shared {
		return db.tasks
	}
	return db.write
}

// Open opens the store, or makes an empty one. Unless it is read-only the data directory is locked until Close: the error
// is ErrLocked if another process has it.
func Open(ctx context.Context, o Options) (*DB, error) {
	db := &DB{log: o.Logger, now: o.Now, migrations: o.migrations}
	if db.log == nil {
		db.log = slog.Default()
	}
	if db.now == nil {
		db.now = time.Now
	}
	db.shared = o.DSN != ""
	db.timeout, db.patience = orDefault(o.Timeout, DefaultTimeout), orDefault(o.Patience, DefaultPatience)
	var err error
	switch {
	case o.ReadOnly && o.Dir == "" && !db.shared:
		return nil, errors.New("a store in memory cannot be opened read-only")
	case o.Dir != "" && !o.ReadOnly:
		if db.lock, err = LockDir(o.Dir); err != nil {
			return nil, err
		}
	}
	if db.shared {
		err = db.openShared(o)
	} else {
		readers := o.Readers
		if readers <= 0 {
			readers = 4
		}
		if o.Dir != "" {
			db.path, err = filepath.Abs(filepath.Join(o.Dir, databaseName))
		}
		if err == nil {
			db.write, db.read, err = openPools(db.path, o.ReadOnly, readers)
		}
	}
	if err == nil && db.shared && o.Existing {
		err = db.mustExist(ctx)
	}
	if err == nil {
		policy := schemaIsUpdated
		if o.ReadOnly {
			policy = schemaMustFit
		}
		err = db.start(ctx, policy)
	}
	if err != nil && db.shared && judge(err) == again {
		err = unavailable(err)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the store: %w", err), db.Close())
	}
	return db, nil
}

// mustExist refuses an empty database.
func (db *DB) mustExist(ctx context.Context) error {
	version, err := db.schemaVersion(ctx, db.read)
	if err == nil && version == 0 {
		err = ErrNotInitialized
	}
	return err
}

// start looks at the schema and reads, or makes, the installation's id.
func (db *DB) start(ctx context.Context, policy schemaPolicy) error {
	if policy != schemaIsUpdated {
		if err := db.migrate(ctx, db.read, policy); err != nil {
			return err
		}
	} else {
		err := db.migrate(ctx, db.slow(), policy)
		// A table that somebody reads is waited for in short turns: whoever comes after a migration that waits, waits for it.
		for end := time.Now().Add(db.patience); isLocked(err) && time.Now().Before(end); {
			err = db.migrate(ctx, db.slow(), policy)
		}
		if err != nil {
			return err
		}
		for name, value := range map[string]string{"installation": arn.NewUUID(), generationName: "0"} {
			_, err := db.write.ExecContext(ctx, `INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING`, name, value)
			if err != nil {
				return err
			}
		}
	}
	return db.read.QueryRowContext(ctx, `SELECT value FROM meta WHERE name = 'installation'`).Scan(&db.installation)
}

// Installation returns the random id of the installation. A backup has the id of what it is a backup of.
func (db *DB) Installation() string { return db.installation }

// Close closes the store, and with it what Unseal returned: updates that wait are finished first.
func (db *DB) Close() error {
	db.mu.Lock()
	s := db.store
	db.mu.Unlock()
	if s != nil {
		s.stop()
	}
	return errors.Join(closePools(db.write, db.read, db.look, db.tasks), db.lock.Unlock())
}

// Sealed reads the seals and domain keys. ErrNotInitialized if there are none.
func (db *DB) Sealed(ctx context.Context) (seal.Sealed, error) {
	var out seal.Sealed
	options := &sql.TxOptions{ReadOnly: true} // both lists from one state
	if db.shared {
		options.Isolation = sql.LevelRepeatableRead
	}
	tx, err := db.read.BeginTx(ctx, options)
	if err != nil {
		return out, fmt.Errorf("reading seals: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // it only reads
	q := unprepared{tx}
	if out.Seals, err = collect(ctx, q, scanSeal, selectSeals); err != nil {
		return out, fmt.Errorf("reading seals: %w", err)
	}
	if len(out.Seals) == 0 {
		return out, ErrNotInitialized
	}
	if out.DomainKeys, err = collect(ctx, q, scanDomainKey, selectDomainKeys); err != nil {
		return out, fmt.Errorf("reading domain keys: %w", err)
	}
	generation, err := one(ctx, q, scanText, selectMeta, generationName)
	if err != nil && !errors.Is(err, ErrNotFound) { // as in older backups
		return out, fmt.Errorf("reading domain keys: %w", err)
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	db.generation = generation
	return out, nil
}

func scanSeal(rows *sql.Rows) (r seal.Record, err error) {
	var created int64
	err = rows.Scan(&r.ID, &r.Kind, &r.Name, &r.RootID, &created, &r.Params, &r.Wrapped)
	r.CreatedAt = time.UnixMilli(created).UTC()
	return r, err
}

// unprepared runs statements by their text.
type unprepared struct{ tx *sql.Tx }

func (u unprepared) query(ctx context.Context, s statement, args ...any) (*sql.Rows, error) {
	return u.tx.QueryContext(ctx, statements[s], args...)
}

func (u unprepared) note(err error) error { return err }

func (u unprepared) bound(ctx context.Context) (context.Context, context.CancelFunc, bool) {
	return ctx, func() {}, false
}

// Initialize stores the root of trust of a new installation. ErrInitialized if there is one already, ErrTransferring if one is
// about to come.
func (db *DB) Initialize(ctx context.Context, sealed seal.Sealed) error {
	return db.writeSealed(ctx, func(tx *sql.Tx) error {
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM seals`).Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			return ErrInitialized
		}
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM meta WHERE name = $1`, transferName).Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			return ErrTransferring
		}
		return insertSealed(ctx, tx, sealed)
	})
}

// ReplaceSealed stores sealed in place of all seals and domain keys, in one step: after seals were added or removed, and
// after seal.Barrier.RotateRoot. What it replaces is what Sealed returned last: ErrConflict if there are others by now.
func (db *DB) ReplaceSealed(ctx context.Context, sealed seal.Sealed) error {
	if len(sealed.Seals) == 0 {
		return seal.ErrLastSeal
	}
	err := db.writeSealed(ctx, func(tx *sql.Tx) error {
		if err := db.sameGeneration(ctx, tx); err != nil {
			return err
		}
		for _, q := range []string{`DELETE FROM seals`, `DELETE FROM domain_keys`} {
			if _, err := tx.ExecContext(ctx, q); err != nil {
				return err
			}
		}
		return insertSealed(ctx, tx, sealed)
	})
	if err == nil && !db.shared {
		db.scrubNow(ctx)
	}
	return err
}

// generationName is the row of table meta that counts how often there were other seals or domain keys. On an engine that many
// processes use, whoever changes those holds it alone, and every update holds it together with others and looks whether it has the
// newest domain keys: so nothing is written with those that somebody is about to drop.
const generationName = "seals and domain keys"

const nextGeneration = `UPDATE meta SET value = CAST(CAST(value AS BIGINT) + 1 AS TEXT) WHERE name = '` + generationName + `'`

// sameGeneration gives ErrConflict if somebody else changed seals or domain keys since Sealed read them. The caller has counted its own
// change.
func (db *DB) sameGeneration(ctx context.Context, tx *sql.Tx) error {
	if !db.shared {
		return nil
	}
	db.mu.Lock()
	read, err := strconv.ParseInt(db.generation, 10, 64)
	db.mu.Unlock()
	if err != nil {
		return fmt.Errorf("counting changes of seals: %w", err)
	}
	var now string
	if err := tx.QueryRowContext(ctx, statements[selectMeta], generationName).Scan(&now); err != nil {
		return err
	}
	if now != strconv.FormatInt(read+1, 10) {
		return ErrConflict
	}
	return nil
}

// AddDomainKeys stores more domain keys; it is what seal.Barrier.RotateDomainKeys saves with.
func (db *DB) AddDomainKeys(ctx context.Context, keys []seal.DomainKey) error {
	return db.writeSealed(ctx, func(tx *sql.Tx) error {
		return insertSealed(ctx, tx, seal.Sealed{DomainKeys: keys})
	})
}

// writeSealed changes seals or domain keys. On an engine that many processes use it is tried for as long as an update is.
func (db *DB) writeSealed(ctx context.Context, f func(*sql.Tx) error) error {
	if db.write == nil {
		return errReadOnly
	}
	until, asker := time.Now().Add(db.patience), arn.NewUUID()
	for delay := firstRetryDelay; ; delay = min(2*delay, lastRetryDelay) {
		v, err := db.tryWriteSealed(ctx, asker, f)
		switch {
		case err == nil:
			return nil
		case !db.shared || v == refused:
			return fmt.Errorf("storing seals: %w", err)
		case v == unknown:
			return fmt.Errorf("storing seals: %w: %w", ErrUnknown, err)
		case v == slow || !time.Now().Before(until):
			return fmt.Errorf("storing seals: %w", unavailable(err))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("storing seals: %w", ctx.Err())
		case <-time.After(delay):
		}
	}
}

// sealsLease is had by whoever is about to change seals or domain keys, for askingTime. Updates stand back meanwhile: they hold a row
// together that is wanted by one alone, and would never all have let go of it.
const (
	sealsLease = "change of seals"
	askingTime = 2 * time.Second
)

func (db *DB) tryWriteSealed(ctx context.Context, asker string, f func(*sql.Tx) error) (verdict, error) {
	if db.shared {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, db.patience+db.timeout)
		defer cancel()
		if _, err := db.write.ExecContext(ctx, statements[takeLease], sealsLease, asker, askingTime.Milliseconds()); err != nil {
			return judge(err), err
		}
		defer func() { _, _ = db.write.ExecContext(ctx, statements[endLease], sealsLease, asker) }() // or it ends by itself
	}
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return judge(err), err
	}
	if db.shared {
		_, err = tx.ExecContext(ctx, nextGeneration)
	}
	if err == nil {
		err = f(tx)
	}
	if err != nil {
		return judge(err), errors.Join(err, tx.Rollback())
	}
	if err := db.commit(tx.Commit); err != nil {
		return judgeCommit(err), err
	}
	return 0, nil
}

// errUnreplicated says that the server was told not to wait any longer for its standby: what the next primary has is not known.
var errUnreplicated = errors.New("the commit is on the primary, and may not be on its standby")

// commit calls do. The error wraps errUnreplicated if a commit did not wait for its standby meanwhile: a notice does not say of which
// connection it is, so that another one's may be meant.
func (db *DB) commit(do func() error) error {
	before := db.unreplicated.Load()
	err := do()
	if db.unreplicated.Load() != before {
		err = errors.Join(errUnreplicated, err)
	}
	return err
}

var errReadOnly = errors.New("the store is open read-only")

func insertSealed(ctx context.Context, tx *sql.Tx, sealed seal.Sealed) error {
	for _, r := range sealed.Seals {
		_, err := tx.ExecContext(ctx, `INSERT INTO seals (seal_id, kind, name, root_id, created_ms, params, wrapped)
			VALUES ($1, $2, $3, $4, $5, $6, $7)`, r.ID, string(r.Kind), r.Name, r.RootID, r.CreatedAt.UnixMilli(),
			notNil(r.Params), notNil(r.Wrapped))
		if err != nil {
			return err
		}
	}
	for _, k := range sealed.DomainKeys {
		_, err := tx.ExecContext(ctx, `INSERT INTO domain_keys (domain, version, root_id, created_ms, wrapped)
			VALUES ($1, $2, $3, $4, $5)`, k.Domain.String(), int64(k.Version), k.RootID, k.CreatedAt.UnixMilli(), notNil(k.Wrapped))
		if err != nil {
			return err
		}
	}
	return nil
}

// notNil makes an empty value of an absent one, for columns that are NOT NULL.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// Unseal opens the store with the barrier that its seals opened. It can be called once. Close of the DB closes the Store.
func (db *DB) Unseal(ctx context.Context, b *seal.Barrier) (*Store, error) {
	sealed, err := db.Sealed(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range sealed.Seals {
		if r.RootID != b.RootID() {
			return nil, fmt.Errorf("unsealing the store: %w", seal.ErrRootChanged)
		}
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.store != nil {
		return nil, errors.New("the store is unsealed already")
	}
	s := &Store{db: db}
	s.verifier = verifier{b, db.log, &s.timing}
	reads, err := db.prepare(ctx, db.read, firstWrite)
	if err != nil {
		return nil, fmt.Errorf("unsealing the store: %w", err)
	}
	s.reads = &reader{prepared: reads, timing: &s.timing}
	s.looks = s.reads
	if db.shared {
		s.looks = &reader{prepared: &prepared{pool: db.look, shared: true, timeout: db.timeout, renew: db.renew}, timing: &s.timing}
	}
	if db.write != nil {
		if s.writer, err = newWriter(ctx, db, s.verifier); err != nil {
			s.reads.close()
			return nil, fmt.Errorf("unsealing the store: %w", err)
		}
	}
	db.store = s
	if db.write != nil {
		if err := s.trackUses(ctx, db.now()); err != nil {
			return nil, fmt.Errorf("unsealing the store: %w", err) // Close closes what there is
		}
	}
	return s, nil
}
