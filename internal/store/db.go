package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/seal"
)

// Options say which store to open.
type Options struct {
	// Dir is the data directory. It is made if it is not there. Empty means a store in memory that ends with Close.
	Dir string
	// ReadOnly opens the store beside a server that runs on it: no lock, no migration, no writing. A store that is not
	// there is an error then.
	ReadOnly bool
	// Readers is how many queries may run at once, besides the writer. Zero means four. In memory there is one
	// connection for all.
	Readers int
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
	// Logger gets the refused rows. Nil means slog.Default().
	Logger *slog.Logger
}

// DB is a store that is not unsealed: it gives access to the seals only.
type DB struct {
	write, read  *sql.DB // the same in memory; write is nil if read-only
	lock         *Lock
	path         string // absolute; empty in memory
	log          *slog.Logger
	now          func() time.Time
	installation string

	mu    sync.Mutex
	store *Store // once unsealed
}

// Open opens the store, or makes an empty one. Unless it is read-only the data directory is locked until Close: the error
// is ErrLocked if another process has it.
func Open(ctx context.Context, o Options) (*DB, error) {
	db := &DB{log: o.Logger, now: o.Now}
	if db.log == nil {
		db.log = slog.Default()
	}
	if db.now == nil {
		db.now = time.Now
	}
	readers := o.Readers
	if readers <= 0 {
		readers = 4
	}
	var err error
	if o.Dir != "" {
		if db.path, err = filepath.Abs(filepath.Join(o.Dir, databaseName)); err != nil {
			return nil, fmt.Errorf("opening the store: %w", err)
		}
	}
	switch {
	case o.ReadOnly && o.Dir == "":
		return nil, errors.New("a store in memory cannot be opened read-only")
	case o.Dir != "" && !o.ReadOnly:
		if db.lock, err = LockDir(o.Dir); err != nil {
			return nil, err
		}
	}
	db.write, db.read, err = openPools(db.path, o.ReadOnly, readers)
	if err == nil {
		policy := schemaIsUpdated
		if o.ReadOnly {
			policy = schemaMustFit
		}
		err = db.start(ctx, policy)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the store: %w", err), db.Close())
	}
	return db, nil
}

// start looks at the schema and reads, or makes, the installation's id.
func (db *DB) start(ctx context.Context, policy schemaPolicy) error {
	if policy != schemaIsUpdated {
		if err := migrate(ctx, db.read, policy); err != nil {
			return err
		}
	} else {
		if err := migrate(ctx, db.write, policy); err != nil {
			return err
		}
		_, err := db.write.ExecContext(ctx, `INSERT INTO meta (name, value) VALUES ('installation', $1)
			ON CONFLICT (name) DO NOTHING`, arn.NewUUID())
		if err != nil {
			return err
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
	return errors.Join(closePools(db.write, db.read), db.lock.Unlock())
}

// Sealed reads the seals and domain keys. ErrNotInitialized if there are none.
func (db *DB) Sealed(ctx context.Context) (seal.Sealed, error) {
	var out seal.Sealed
	tx, err := db.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true}) // both lists from one state
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

// Initialize stores the root of trust of a new installation. ErrInitialized if there is one already.
func (db *DB) Initialize(ctx context.Context, sealed seal.Sealed) error {
	return db.writeSealed(ctx, func(tx *sql.Tx) error {
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM seals`).Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			return ErrInitialized
		}
		return insertSealed(ctx, tx, sealed)
	})
}

// ReplaceSealed stores sealed in place of all seals and domain keys, in one step: after seals were added or removed, and
// after seal.Barrier.RotateRoot.
func (db *DB) ReplaceSealed(ctx context.Context, sealed seal.Sealed) error {
	if len(sealed.Seals) == 0 {
		return seal.ErrLastSeal
	}
	err := db.writeSealed(ctx, func(tx *sql.Tx) error {
		for _, q := range []string{`DELETE FROM seals`, `DELETE FROM domain_keys`} {
			if _, err := tx.ExecContext(ctx, q); err != nil {
				return err
			}
		}
		return insertSealed(ctx, tx, sealed)
	})
	if err == nil {
		db.scrubNow(ctx)
	}
	return err
}

// AddDomainKeys stores more domain keys; it is what seal.Barrier.RotateDomainKeys saves with.
func (db *DB) AddDomainKeys(ctx context.Context, keys []seal.DomainKey) error {
	return db.writeSealed(ctx, func(tx *sql.Tx) error {
		return insertSealed(ctx, tx, seal.Sealed{DomainKeys: keys})
	})
}

func (db *DB) writeSealed(ctx context.Context, f func(*sql.Tx) error) error {
	if db.write == nil {
		return errReadOnly
	}
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("storing seals: %w", err)
	}
	if err := f(tx); err != nil {
		return errors.Join(fmt.Errorf("storing seals: %w", err), tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("storing seals: %w", err)
	}
	return nil
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
	reads, err := prepare(ctx, db.read, firstWrite)
	if err != nil {
		return nil, fmt.Errorf("unsealing the store: %w", err)
	}
	s.reads = &reader{reads, &s.timing}
	if db.write != nil {
		if s.writer, err = newWriter(ctx, db.write, s.verifier); err != nil {
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
