package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
)

// Installation is an unsealed store, open for writing.
type Installation struct {
	DB      *store.DB
	Store   *store.Store
	Barrier *seal.Barrier

	node string // the name of this server among those that share the store; "" if none do
}

// Close closes the store.
func (i *Installation) Close() error { return i.DB.Close() }

// SealedError says that none of the configured seals opened the root key.
type SealedError struct {
	Why error // of each seal, joined
}

// Error implements error.
func (e *SealedError) Error() string { return "no seal opens the root key: " + e.Why.Error() }

// Unwrap returns why.
func (e *SealedError) Unwrap() error { return e.Why }

// OpenInstallation opens the store that the configuration names with the first of the configured seals that opens. The error
// wraps store.ErrNotInitialized, store.ErrLocked or a *SealedError for what an operator can mend.
func OpenInstallation(ctx context.Context, c Config, ask Ask) (*Installation, error) {
	if _, err := os.Stat(c.Data); errors.Is(err, os.ErrNotExist) && c.Store.DSN == "" { // do not make the directory of a misspelt name
		return nil, fmt.Errorf("%s: %w", c.Data, store.ErrNotInitialized)
	}
	node, err := c.node()
	if err != nil {
		return nil, err
	}
	db, err := c.openStore(ctx, func(o *store.Options) { o.Existing = true })
	if err != nil {
		return nil, err
	}
	in, err := unseal(ctx, db, c.Seals, ask)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	in.node = node
	return in, nil
}

func unseal(ctx context.Context, db *store.DB, seals []Seal, ask Ask) (*Installation, error) {
	sealed, err := db.Sealed(ctx)
	if err != nil {
		return nil, err
	}
	barrier, err := openAny(ctx, sealed, seals, ask)
	if err != nil {
		return nil, err
	}
	s, err := db.Unseal(ctx, barrier)
	if err != nil {
		return nil, err
	}
	return &Installation{DB: db, Store: s, Barrier: barrier}, nil
}

// openAny tries the configured seals one after the other.
func openAny(ctx context.Context, sealed seal.Sealed, seals []Seal, ask Ask) (*seal.Barrier, error) {
	var why []error
	for i := range seals {
		s, err := seals[i].open(ask)
		if err == nil {
			var b *seal.Barrier
			if b, err = seal.Unseal(ctx, sealed, s); err == nil {
				return b, nil
			}
		}
		why = append(why, fmt.Errorf("the seal %s: %w", seals[i].label(), err))
	}
	return nil, &SealedError{errors.Join(why...)}
}

// CreateInstallation makes the root of trust of a new installation, wrapped by every configured seal. Key files that are
// not there are made. A data directory or database that has an installation is refused with store.ErrInitialized.
func CreateInstallation(ctx context.Context, c Config, now time.Time, ask Ask) (*Installation, error) {
	node, err := c.node()
	if err != nil {
		return nil, err
	}
	db, err := c.openStore(ctx, nil)
	if err != nil {
		return nil, err
	}
	in, err := create(ctx, db, c.Seals, now, ask)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	in.node = node
	return in, nil
}

func create(ctx context.Context, db *store.DB, configured []Seal, now time.Time, ask Ask) (*Installation, error) {
	switch _, err := db.Sealed(ctx); {
	case err == nil:
		return nil, store.ErrInitialized
	case !errors.Is(err, store.ErrNotInitialized):
		return nil, err
	}
	var seals []seal.Seal
	for i := range configured {
		if err := configured[i].makeKeyFile(); err != nil {
			return nil, err
		}
		s, err := configured[i].open(ask)
		if err != nil {
			return nil, fmt.Errorf("the seal %s: %w", configured[i].label(), err)
		}
		seals = append(seals, s)
	}
	return initialize(ctx, db, now, seals...)
}

// initialize stores a new root of trust and opens the store with it.
func initialize(ctx context.Context, db *store.DB, now time.Time, seals ...seal.Seal) (*Installation, error) {
	barrier, sealed, err := seal.Initialize(ctx, now, seals...)
	if err != nil {
		return nil, err
	}
	if err := db.Initialize(ctx, sealed); err != nil {
		return nil, err
	}
	s, err := db.Unseal(ctx, barrier)
	if err != nil {
		return nil, err
	}
	return &Installation{DB: db, Store: s, Barrier: barrier}, nil
}

// EphemeralInstallation makes an installation in memory, which ends with its Close. Nothing outside ever holds its root key.
func EphemeralInstallation(ctx context.Context, now time.Time) (*Installation, error) {
	db, err := store.Open(ctx, store.Options{})
	if err != nil {
		return nil, err
	}
	in, err := initialize(ctx, db, now, seal.KeyFile("memory", secret.Take(randomOctets(32))))
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return in, nil
}

// DevelopmentInstallation opens the installation in a database, or makes it there, with a seal that everybody knows, so that several
// servers for development can share it.
func DevelopmentInstallation(ctx context.Context, c Config, now time.Time) (*Installation, error) {
	node, err := c.node()
	if err != nil {
		return nil, err
	}
	db, err := c.openStore(ctx, nil)
	if err != nil {
		return nil, err
	}
	if c.Node == "" && c.Data == "" { // it has nothing that another start could go on with, and there may be several on this machine
		node = "dev-" + rand.Text()
	}
	known := seal.KeyFile("development", secret.FromString("known to everybody: not a secret"))
	in, err := initialize(ctx, db, now, known)
	if errors.Is(err, store.ErrInitialized) { // perhaps by another server, just now
		var sealed seal.Sealed
		var barrier *seal.Barrier
		if sealed, err = db.Sealed(ctx); err == nil {
			barrier, err = seal.Unseal(ctx, sealed, known)
		}
		if err == nil {
			var s *store.Store
			if s, err = db.Unseal(ctx, barrier); err == nil {
				in = &Installation{DB: db, Store: s, Barrier: barrier}
			}
		}
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	in.node = node
	return in, nil
}
