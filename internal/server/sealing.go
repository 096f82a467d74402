package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/keywright/keywright/internal/custody"
	"github.com/keywright/keywright/internal/custody/soft"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/store"
)

// The errors of seal management that an operator can mend.
var (
	// ErrSealMissing says that a rotation would leave a seal behind that the configuration does not name or open.
	ErrSealMissing = errors.New("a rotation needs every seal, and the configuration does not open them all")
	// ErrLockedOut says that the server could not start any more without the seal that was to go.
	ErrLockedOut = errors.New("none of the other seals is opened by the configuration")
)

// openReadOnly opens the store beside a server that may run on it.
func openReadOnly(ctx context.Context, c Config) (*store.DB, error) {
	db, err := c.openStore(ctx, func(o *store.Options) { o.ReadOnly, o.Existing = true, true })
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", c.Data, store.ErrNotInitialized)
	}
	return db, err
}

// Seals reads the seals and domain keys of an installation, whether a server runs on it or not.
func Seals(ctx context.Context, c Config) (sealed seal.Sealed, err error) {
	db, err := openReadOnly(ctx, c)
	if err != nil {
		return sealed, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.Sealed(ctx)
}

// AddSeal wraps the root key with one more seal.
func (i *Installation) AddSeal(ctx context.Context, now time.Time, s Seal, ask Ask) (seal.Record, error) {
	opened, err := s.open(ask)
	if err != nil {
		return seal.Record{}, err
	}
	sealed, err := i.DB.Sealed(ctx)
	if err != nil {
		return seal.Record{}, err
	}
	rec, err := i.Barrier.AddSeal(ctx, now, sealed, opened)
	if err != nil {
		return seal.Record{}, err
	}
	sealed.Seals = append(sealed.Seals, rec)
	return rec, i.DB.ReplaceSealed(ctx, sealed)
}

// RemoveSeal removes the seal of that id or name, unless the configuration could open none of the others.
func (i *Installation) RemoveSeal(ctx context.Context, c Config, which string, ask Ask) (seal.Record, error) {
	sealed, err := i.DB.Sealed(ctx)
	if err != nil {
		return seal.Record{}, err
	}
	at := slices.IndexFunc(sealed.Seals, func(r seal.Record) bool { return r.ID == which || r.Name == which })
	if at < 0 {
		return seal.Record{}, fmt.Errorf("%q: %w", which, seal.ErrNoSuchSeal)
	}
	gone := sealed.Seals[at]
	rest, err := seal.RemoveSeal(sealed, gone.ID)
	if err != nil {
		return seal.Record{}, err
	}
	if _, err := openAny(ctx, rest, c.Seals, ask); err != nil {
		return seal.Record{}, fmt.Errorf("%w: %w", ErrLockedOut, err)
	}
	return gone, i.DB.ReplaceSealed(ctx, rest)
}

// Rotate makes new domain keys, writes everything that the old ones protect again, drops them, and makes a new root key:
// an old copy of the store and the secret of a seal that has been removed since are worth nothing from then on. It returns
// how many rows were written. The installation must be closed afterwards. What an interruption leaves undone, the next
// Rotate does.
func (i *Installation) Rotate(ctx context.Context, c Config, now time.Time, ask Ask) (rows int64, err error) {
	sealed, err := i.DB.Sealed(ctx)
	if err != nil {
		return 0, err
	}
	seals, err := openAll(ctx, sealed, c.Seals, ask)
	if err != nil {
		return 0, err
	}
	err = i.Barrier.RotateDomainKeys(now, func(keys []seal.DomainKey) error { return i.DB.AddDomainKeys(ctx, keys) })
	if err != nil {
		return 0, err
	}
	rewrap := custody.New(soft.New(i.Barrier)).Rewrap
	const tries = 3
	for try := 1; ; try++ {
		n, err := i.Store.Rekey(ctx, rewrap)
		if rows += n; err != nil {
			return rows, err
		}
		// Another server may have written what it had wrapped before. After the first try none does any more.
		err = i.Store.DropOldDomainKeys(ctx, rewrap)
		if err == nil {
			break
		}
		if try == tries || !errors.Is(err, store.ErrStale) {
			return rows, err
		}
	}
	if sealed, err = i.DB.Sealed(ctx); err != nil {
		return rows, err
	}
	if _, sealed, err = i.Barrier.RotateRoot(ctx, now, sealed, seals, nil); err != nil {
		return rows, err
	}
	return rows, i.DB.ReplaceSealed(ctx, sealed)
}

// openAll opens every record with one of the configured seals. Seals that open nothing are left out.
func openAll(ctx context.Context, sealed seal.Sealed, configured []Seal, ask Ask) ([]seal.Seal, error) {
	var seals []seal.Seal
	var why []error
	for i := range configured {
		s, err := configured[i].open(ask)
		if err == nil {
			if _, err = seal.Unseal(ctx, sealed, s); err == nil {
				seals = append(seals, s)
				continue
			}
		}
		why = append(why, fmt.Errorf("the seal %s: %w", configured[i].label(), err))
	}
	if len(seals) < len(sealed.Seals) {
		return nil, errors.Join(append([]error{ErrSealMissing}, why...)...)
	}
	return seals, nil
}

// Backup writes a copy of the store to a new file, beside a server that may run on it, and checks the copy: as far as
// that goes without the root key or, if unsealed is set, by opening it with a configured seal and verifying every row.
func Backup(ctx context.Context, c Config, to string, unsealed bool, ask Ask) (info store.BackupInfo, err error) {
	db, err := openReadOnly(ctx, c)
	if err != nil {
		return info, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.Backup(ctx, to); err != nil {
		return info, err
	}
	return CheckBackup(ctx, c, to, unsealed, ask)
}

// CheckBackup checks a backup as Backup does.
func CheckBackup(ctx context.Context, c Config, path string, unsealed bool, ask Ask) (store.BackupInfo, error) {
	if !unsealed {
		return store.CheckBackup(ctx, path)
	}
	var why []error
	for i := range c.Seals {
		s, err := c.Seals[i].open(ask)
		if err == nil {
			var info store.BackupInfo
			if info, err = store.CheckBackupSealed(ctx, path, s); !errors.Is(err, seal.ErrOpen) {
				return info, err
			}
		}
		why = append(why, fmt.Errorf("the seal %s: %w", c.Seals[i].label(), err))
	}
	return store.BackupInfo{}, &SealedError{errors.Join(why...)}
}

// Restore checks a backup as Backup does, and makes the store of the data directory from it. A directory that has a store
// is refused.
func Restore(ctx context.Context, c Config, from string, unsealed bool, ask Ask) (store.BackupInfo, error) {
	if c.Store.DSN != "" {
		return store.BackupInfo{}, store.ErrBackupElsewhere
	}
	info, err := CheckBackup(ctx, c, from, unsealed, ask)
	if err != nil {
		return info, err
	}
	_, err = store.Restore(ctx, from, c.Data)
	return info, err
}
