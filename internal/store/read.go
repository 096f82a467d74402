package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/seal"
)

// Store is the unsealed store. It is safe for concurrent use. Its reads see what was committed when they began; they must
// not be called from within the function given to Update, which has a *Tx for that. A stored row that does not verify
// gives a *CorruptRowError.
type Store struct {
	db       *DB
	verifier verifier
	reads    *reader
	looks    *reader // reads too, or what does not wait for those
	writer   *writer // nil if read-only
	timing   timing
}

// DB returns the DB that was unsealed.
func (s *Store) DB() *DB { return s.db }

// Patience returns for how long an update waits, at most, for a database that does not answer.
func (s *Store) Patience() time.Duration { return s.db.patience }

// Barrier returns the barrier that the store was unsealed with.
func (s *Store) Barrier() *seal.Barrier { return s.verifier.barrier }

func (s *Store) stop() {
	if s.writer != nil {
		s.writer.stop()
	}
	s.reads.close()
}

// GetKey returns a key, or ErrNotFound.
func (s *Store) GetKey(ctx context.Context, n key.Name) (*key.Key, error) {
	v, err := verified(ctx, &s.verifier, s.reads, "keys", scanKeyRow, s.verifier.key, selectKey,
		string(n.Account), string(n.Region), string(n.ID))
	return v, doing("reading a key", err)
}

// ListKeys returns the ids of the keys of an account and Region that come after the given one in the order of their
// octets ("" for the first page), limit at most, and whether there are more. Ids are not authenticated: see the package
// comment.
func (s *Store) ListKeys(ctx context.Context, a arn.Account, r arn.Region, after arn.KeyID, limit int) (ids []arn.KeyID, more bool, err error) {
	scan := func(rows *sql.Rows) (id arn.KeyID, err error) { return id, rows.Scan(&id) }
	ids, err = collect(ctx, s.reads, scan, selectKeyIDs, string(a), string(r), string(after), limit+1)
	if err != nil {
		return nil, false, fmt.Errorf("listing keys: %w", err)
	}
	ids, more = page(ids, limit)
	return ids, more, nil
}

// CountKeys returns how many keys an account has in a Region, whoever manages them. It is one look-up.
func (s *Store) CountKeys(ctx context.Context, a arn.Account, r arn.Region) (int64, error) {
	n, err := one(ctx, s.reads, scanNumber, selectKeyCount, string(a), string(r))
	if errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	return n, doing("counting keys", err)
}

// CountReservedAliases returns how many aliases with reserved names an account has in a Region: one for each of its AWS managed
// keys.
func (s *Store) CountReservedAliases(ctx context.Context, a arn.Account, r arn.Region) (int64, error) {
	return countReservedAliases(ctx, s.reads, a, r)
}

func countReservedAliases(ctx context.Context, q querier, a arn.Account, r arn.Region) (int64, error) {
	past := arn.ReservedAliasPrefix[:len(arn.ReservedAliasPrefix)-1] + "0" // the octet after the slash
	count, err := one(ctx, q, scanNumber, selectAliasRange, string(a), string(r), arn.ReservedAliasPrefix, past)
	return count, doing("counting reserved aliases", err)
}

func scanNumber(rows *sql.Rows) (n int64, err error) { return n, rows.Scan(&n) }

// DueKeys returns the names of keys whose key.Key.Due is not after the given time, in all accounts and Regions, earliest
// first. Names are not authenticated: see the package comment.
func (s *Store) DueKeys(ctx context.Context, until time.Time, limit int) ([]key.Name, error) {
	scan := func(rows *sql.Rows) (n key.Name, err error) { return n, rows.Scan(&n.Account, &n.Region, &n.ID) }
	v, err := collect(ctx, s.reads, scan, selectDue, until.UnixMilli(), limit)
	return v, doing("looking for due keys", err)
}

// NextDue returns the first time after the given one at which a key becomes due; the zero time if none does.
func (s *Store) NextDue(ctx context.Context, after time.Time) (time.Time, error) {
	at, err := one(ctx, s.reads, scanNumber, selectNextDue, after.UnixMilli())
	if errors.Is(err, ErrNotFound) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("looking for what is due next: %w", err)
	}
	return time.UnixMilli(at).UTC(), nil
}

// GetAlias returns an alias, or ErrNotFound.
func (s *Store) GetAlias(ctx context.Context, a arn.Account, r arn.Region, name arn.AliasName) (*key.Alias, error) {
	v, err := verified(ctx, &s.verifier, s.reads, "aliases", scanAliasRow, s.verifier.alias, selectAlias,
		string(a), string(r), string(name))
	return v, doing("reading an alias", err)
}

// ListAliases returns the aliases of an account and Region whose names come after the given one in the order of their
// octets, limit at most, and whether there are more.
func (s *Store) ListAliases(ctx context.Context, a arn.Account, r arn.Region, after arn.AliasName, limit int) (aliases []*key.Alias, more bool, err error) {
	aliases, err = verifiedAll(ctx, s.reads, scanAliasRow, s.verifier.alias, selectAliases,
		string(a), string(r), string(after), limit+1)
	if err == nil {
		err = s.inPlace(aliases, func(x *key.Alias) bool { return x.Account == a && x.Region == r })
	}
	if err != nil {
		return nil, false, fmt.Errorf("listing aliases: %w", err)
	}
	aliases, more = page(aliases, limit)
	return aliases, more, nil
}

// ListAliasesOfKey is ListAliases for those that point at one key.
func (s *Store) ListAliasesOfKey(ctx context.Context, n key.Name, after arn.AliasName, limit int) (aliases []*key.Alias, more bool, err error) {
	aliases, err = verifiedAll(ctx, s.reads, scanAliasRow, s.verifier.alias, selectAliasesOfKey,
		string(n.Account), string(n.Region), string(n.ID), string(after), limit+1)
	if err == nil {
		err = s.inPlace(aliases, func(x *key.Alias) bool {
			return x.Account == n.Account && x.Region == n.Region && x.Target == n.ID
		})
	}
	if err != nil {
		return nil, false, fmt.Errorf("listing the aliases of a key: %w", err)
	}
	aliases, more = page(aliases, limit)
	return aliases, more, nil
}

// inPlace refuses a list into which a changed index brought the alias of somebody else.
func (s *Store) inPlace(aliases []*key.Alias, belongs func(*key.Alias) bool) error {
	for _, a := range aliases {
		if !belongs(a) {
			return s.verifier.corrupt("aliases", string(a.Account)+"/"+string(a.Region)+"/"+string(a.Name))
		}
	}
	return nil
}

// GetAccount returns an account, or ErrNotFound.
func (s *Store) GetAccount(ctx context.Context, a arn.Account) (*Account, error) {
	v, err := verified(ctx, &s.verifier, s.reads, "accounts", scanAccountRow, s.verifier.account, selectAccount, string(a))
	return v, doing("reading an account", err)
}

// ListAccounts returns all accounts in the order of their ids.
func (s *Store) ListAccounts(ctx context.Context) ([]*Account, error) {
	v, err := verifiedAll(ctx, s.reads, scanAccountRow, s.verifier.account, walkAccounts, "", everything)
	return v, doing("listing accounts", err)
}

// everything is a limit for lists that have no pages.
const everything = int64(1) << 62

// GetAccessKey returns an access key with its secret, or ErrNotFound.
func (s *Store) GetAccessKey(ctx context.Context, id string) (*AccessKey, error) {
	v, err := verified(ctx, &s.verifier, s.reads, "access_keys", scanAccessKeyRow, s.verifier.accessKey, selectAccessKey, id)
	return v, doing("reading an access key", err)
}

// ListAccessKeys returns all access keys of an account, with their secrets, in the order of their ids.
func (s *Store) ListAccessKeys(ctx context.Context, a arn.Account) ([]*AccessKey, error) {
	v, err := verifiedAll(ctx, s.reads, scanAccessKeyRow, s.verifier.accessKey,
		selectAccessKeysOfAccount, string(a), "", everything)
	return v, doing("listing access keys", err)
}

// doing wraps an error, if there is one, with what was being done.
func doing(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
