// Package store keeps what Keywright must not forget: keys with their policies, tags and wrapped material, aliases, grants,
// accounts, access keys, and the sealed root of trust. It is a concrete store over SQL, which two engines run: SQLite, embedded,
// for one process, and PostgreSQL, or what speaks like it, for many that share one database.
//
// # Two types, two states
//
// Open gives a *DB, which reads and writes the seals and nothing else. DB.Unseal takes the barrier that they opened and
// gives a *Store. So nothing can be read before the root key is there.
//
// # Trust
//
// The database is not trusted with rights. Every row that decides who may do what carries a tag of the barrier over its
// table, its primary key, its index columns and its body; a row that does not verify is refused with a
// *CorruptRowError and named in the log. Secret access keys are encrypted; key material arrives wrapped. What an attacker with
// write access to the file can still do is to delete rows and to put back an older value of a row. Lists of key ids and of
// what is due come from indexes and are names only: whoever acts on a name reads the row and so verifies it. The change
// feed is not authenticated: it says where to look, never what is there.
//
// # Durability
//
// When Update returns nil, its changes are on disk (fsynced). Updates that wait at the same time share one transaction.
// Every mutation of a key, alias or grant gets a change number, gapless per account and Region, in the same transaction.
//
// # Many processes
//
// On PostgreSQL every update takes the counter row of each account and Region that it reads or writes, for as long as its
// transaction runs: updates of one account and Region follow each other, whichever process they come from, and each sees what
// those before it left. What a process remembers from outside an update can be old: ReplaceKey and Expect give ErrConflict then.
// Updates that could not be made, because another came in between or the connection was lost, are made again; where even the
// database cannot say what became of a commit the error is ErrUnknown.
//
// # Never
//
// This package must never decide whether an operation is allowed, never hold the plaintext of key material, and never log
// what is in a row.
package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/secret"
)

// The errors that callers tell apart.
var (
	// ErrNotFound says that the row is not there.
	ErrNotFound = errors.New("not found")
	// ErrExists says that the row is there already.
	ErrExists = errors.New("already exists")
	// ErrLocked says that another process uses the data directory.
	ErrLocked = errors.New("the data directory is in use by another process")
	// ErrInitialized says that the installation has seals already.
	ErrInitialized = errors.New("the installation is initialized already")
	// ErrNotInitialized says that the installation has no seals yet.
	ErrNotInitialized = errors.New("the installation is not initialized")
	// ErrClosed says that the store was closed.
	ErrClosed = errors.New("the store is closed")
	// ErrNewer says that a newer program has brought the schema up to date: this one does not touch it.
	ErrNewer = errors.New("use a newer Keywright")
	// ErrStale says that rows still need an old domain key.
	ErrStale = errors.New("rows still use an old domain key")
	// ErrConflict says that a row is not what the caller thinks it is: it has to be read again.
	ErrConflict = errors.New("it was changed by somebody else meanwhile")
	// ErrUnavailable says that the database does not answer. Nothing was changed.
	ErrUnavailable = errors.New("the database does not answer")
	// ErrUnknown says that the connection to the database was lost during a commit, and that nobody can tell whether the changes
	// were made. They were made as a whole or not at all.
	ErrUnknown = errors.New("whether the change was made is not known")
	// ErrTrimmed says that changes that were asked for are not in the feed any more: everything has to be read again.
	ErrTrimmed = errors.New("older changes are not in the feed any more")
)

// unavailable says of an error that it is one of the connection to the database.
func unavailable(err error) error { return fmt.Errorf("%w: %w", ErrUnavailable, err) }

// How often Retry begins again at most, and how long it waits before: up to twice as long each time.
const (
	conflictTries      = 20
	firstConflictDelay = 2 * time.Millisecond
	lastConflictDelay  = 50 * time.Millisecond
)

// Retry runs change, and again while it ends with ErrConflict because somebody else changed the same at the same time: it has to forget
// what it remembered then, and read it again. Each time but the first it waits a little, at random. ErrUnavailable means that it was
// tried in vain, or for as long as ctx allows, and that nothing has changed.
func Retry(ctx context.Context, change func() error) error {
	err := change()
	delay := firstConflictDelay
	for i := 1; i < conflictTries && errors.Is(err, ErrConflict); i++ {
		if i > 1 {
			select {
			case <-time.After(rand.N(delay)):
			case <-ctx.Done():
			}
			if ctx.Err() != nil {
				break
			}
			delay = min(2*delay, lastConflictDelay)
		}
		err = change()
	}
	if errors.Is(err, ErrConflict) {
		return unavailable(err)
	}
	return err
}

// CorruptRowError says that a stored row was refused: it is not what Keywright wrote there. It has been logged. Key is
// the row's primary key, its columns joined with slashes.
type CorruptRowError struct{ Table, Key string }

// Error implements error.
func (e *CorruptRowError) Error() string {
	return fmt.Sprintf("row %q of table %s was changed outside Keywright and is refused", e.Key, e.Table)
}

// Account is an account of the installation.
type Account struct {
	ID        arn.Account
	Name      string // what the operator calls it; may be empty
	CreatedAt time.Time
	Partition arn.Partition // in which it is, for good; what is written as empty is read as aws
}

// AccessKeyStatus is the StatusType of the IAM API. The zero value is invalid.
type AccessKeyStatus string

// The statuses of an access key.
const (
	AccessKeyActive   AccessKeyStatus = "Active"
	AccessKeyInactive AccessKeyStatus = "Inactive"
)

// AccessKey is a long-term credential. The secret is encrypted in the store.
type AccessKey struct {
	ID        string
	Account   arn.Account
	Principal string // ARN of the principal that signs with it
	Status    AccessKeyStatus
	CreatedAt time.Time
	Secret    secret.Bytes
	LastUsed  AccessKeyUse
}

// AccessKeyUse says when an access key last signed a request, and where. The zero value means never.
type AccessKeyUse struct {
	At      time.Time
	Region  arn.Region
	Service string // signing name, such as kms
}

// ChangeKind says what a change is about.
type ChangeKind string

// The kinds of change. Put and delete are not told apart: a follower reads what is there now. The grants that go with a key
// have no change of their own.
const (
	ChangedKey   ChangeKind = "key"   // Ref is a key id
	ChangedAlias ChangeKind = "alias" // Ref is an AliasRef
	ChangedGrant ChangeKind = "grant" // Ref is a key id, a slash and a grant id
	// These are in GlobalRegion.
	ChangedAccount   ChangeKind = "account"    // Ref is the account's id
	ChangedAccessKey ChangeKind = "access-key" // Ref is an access key id
	ChangedNames     ChangeKind = "names"      // of no account: a name that is unique in the whole installation was given; no Ref
)

// Shared reports whether other processes may change the store at the same time.
func (s *Store) Shared() bool { return s.db.shared }

// Change is one entry of the change feed of an account and Region.
type Change struct {
	N    int64 // 1, 2, 3, … without gaps, in commit order
	Kind ChangeKind
	Ref  string
}

// Position is how far the change feed of an account and Region has come.
type Position struct {
	Account arn.Account
	Region  arn.Region
	N       int64 // number of the last change
}
