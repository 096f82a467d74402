// Package seal holds the root of trust: the root key, the seals that wrap it, and the domain keys below it.
//
//	root key      32 random octets, in memory only. Wrapped once by every configured seal; any one seal opens it.
//	domain keys   32 random octets each, versioned, wrapped by the root key. One chain of versions for every Domain:
//	              what a domain protects can be re-keyed without touching the others' data.
//	subkeys       derived from a domain key with SP 800-108: one to encrypt, one to tag, so that no key serves both.
//	message keys  one per Encrypt, derived over a random 16-octet nonce, so that no domain key runs out of nonces.
//
// What is stored (Record, DomainKey; together Sealed) is data for the store, which is not trusted with it: whoever can
// read it learns nothing without the secret of a seal, and whoever can change a bit of it makes it useless. A Barrier is
// the unsealed state: it encrypts, decrypts and tags for the rooms above.
//
// The package trusts the secret of a seal, the process's memory and crypto/rand. It must never write the root key or a
// domain key anywhere unwrapped, never tell why an opening failed (ErrOpen is all that callers learn), and never use
// a new domain key before the store has it on disk.
//
// # Rotation
//
// RotateDomainKeys adds a version to every domain; what is written from then on uses it. Once every row is re-wrapped,
// the old versions are dropped from the store (store.Rekey). RotateRoot then makes a new root key. Only the three
// together, in that order, lock out someone who holds an old copy of the store and the secret of a seal that has since
// been removed: he knows the old root key and with it every domain key of his copy.
//
// What this package cannot see is an older state put back as a whole, or an older value of one row: both were valid once.
package seal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/keywright/keywright/internal/secret"
)

// The errors of this package that callers tell apart. Messages never contain a secret or a part of one.
var (
	// ErrOpen is every failure to open something sealed: wrong secret, wrong associated data, changed or cut bytes.
	ErrOpen = errors.New("cannot be opened")
	// ErrLastSeal says that the last seal cannot be removed: nothing could open the root key any more.
	ErrLastSeal = errors.New("the last seal cannot be removed")
	// ErrNoSuchSeal says that no seal has the id.
	ErrNoSuchSeal = errors.New("there is no such seal")
	// ErrRootChanged says that domain keys are wrapped by another root key than the one that is open: it has been
	// rotated elsewhere, and the process must unseal again.
	ErrRootChanged = errors.New("the root key has changed")
)

// UnknownVersionError says that something is sealed with a domain-key version that this Barrier does not have. Another
// process may have made it: load the domain keys from the store again and try once more. If the version is still
// unknown the bytes are forged or damaged.
type UnknownVersionError struct {
	Domain  Domain
	Version uint32
}

// Error implements error.
func (e *UnknownVersionError) Error() string {
	return fmt.Sprintf("unknown version %d of the domain key %q", e.Version, e.Domain)
}

// Kind is the kind of a seal, as it is stored.
type Kind string

// The kinds of this package. Others (shares, TPM, HSM, remote services) may live in packages of their own.
const (
	KindPassphrase Kind = "passphrase"
	KindKeyFile    Kind = "key-file"
)

// Seal wraps the root key with a secret that Keywright does not store, and unwraps it. Implementations are used by one
// goroutine at a time.
type Seal interface {
	// Kind says which records are this seal's. It is constant.
	Kind() Kind
	// Name is what the operator calls the seal. With an empty name, Unwrap may be tried on every record of the kind.
	Name() string
	// Wrap sets rec.Params and rec.Wrapped, everything else in rec being final. The wrapping must be authenticated and
	// must bind rec.AssociatedData(), which covers the parameters: set them first. It must give another result each
	// time. The secret of the seal must not be in rec.
	Wrap(ctx context.Context, rec *Record, root secret.Bytes) error
	// Unwrap returns the root key. It must bound what rec.Params makes it do, since they are not authenticated yet. If
	// the secret does not fit, or rec was changed, the error must be ErrOpen and nothing else; other errors are for
	// what the operator can mend (a device that is not there).
	Unwrap(ctx context.Context, rec Record) (secret.Bytes, error)
}

// Record is one seal as it is stored: the root key wrapped, and how. Nothing in it is secret; every field is
// authenticated by the wrapping.
type Record struct {
	ID        string    // a UUID, kept when the root key is rotated
	Kind      Kind      // which Seal opens it
	Name      string    // the operator's name for it
	RootID    string    // which root key is inside
	CreatedAt time.Time // UTC, milliseconds; of this wrapping
	Params    []byte    // the Kind's own, such as salt and cost
	Wrapped   []byte    // the root key, wrapped
}

// AssociatedData returns what the wrapping binds: every field but Wrapped itself.
func (r *Record) AssociatedData() []byte {
	return Associate("keywright seal record v1", r.ID, string(r.Kind), r.Name, r.RootID,
		strconv.FormatInt(r.CreatedAt.UnixMilli(), 10), string(r.Params))
}

// DomainKey is one version of a domain key as it is stored, wrapped by the root key. Every field is authenticated.
type DomainKey struct {
	Domain    Domain
	Version   uint32 // 1 and up
	RootID    string // which root key wraps it
	CreatedAt time.Time
	Wrapped   []byte
}

func (k *DomainKey) associatedData() []byte {
	return Associate("keywright domain key v1", k.Domain.String(), strconv.FormatUint(uint64(k.Version), 10), k.RootID,
		strconv.FormatInt(k.CreatedAt.UnixMilli(), 10))
}

// Sealed is everything that the store keeps of the root of trust.
type Sealed struct {
	Seals      []Record
	DomainKeys []DomainKey
}

// Domain is a kind of data with keys of its own. The zero value is invalid.
type Domain uint8

// The domains.
const (
	Material   Domain = iota + 1 // key material of KMS keys
	Credential                   // secret access keys and other credentials that must be readable
	Row                          // authentication of stored rows
	Token                        // opaque tokens handed to clients: pagination markers and the like
	lastDomain = Token
)

// domainNames are in associated data and in the store: never change one.
var domainNames = [...]string{Material: "material", Credential: "credential", Row: "row", Token: "token"}

// Valid reports whether d is one of the domains.
func (d Domain) Valid() bool { return d >= Material && d <= lastDomain }

// String returns the domain's stored name.
func (d Domain) String() string {
	if !d.Valid() {
		return "invalid"
	}
	return domainNames[d]
}

// ParseDomain is the inverse of String.
func ParseDomain(s string) (Domain, error) {
	for d := Material; d <= lastDomain; d++ {
		if domainNames[d] == s {
			return d, nil
		}
	}
	return 0, errors.New("unknown domain")
}

// Associate builds associated data: the name of a format with its version, then fields, each with its length (uint32,
// big-endian) in front, so that no two different lists give the same octets. Formats call it from one named function
// each, beside the format.
func Associate(name string, fields ...string) []byte {
	size := 4 + len(name)
	for _, f := range fields {
		size += 4 + len(f)
	}
	out := appendField(make([]byte, 0, size), name)
	for _, f := range fields {
		out = appendField(out, f)
	}
	return out
}

func appendField(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(s))), s...)
}
