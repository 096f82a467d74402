package store

import (
	"context"
	"database/sql"
)

// SQL returns the pool that writes, for tests that do what an attacker could do.
func SQL(s *Store) *sql.DB { return s.db.write }

// Reads returns the pool that reads.
func Reads(s *Store) *sql.DB { return s.db.read }

// Queries returns the statements that read.
func Queries() []string { return statements[:firstWrite] }

// The body codec, for the fuzz target and the property tests.
var (
	EncodeKey       = encodeKey
	DecodeKey       = decodeKey
	DecodeAlias     = decodeAlias
	EncodeGrant     = encodeGrant
	DecodeGrant     = decodeGrant
	EncodeAccount   = encodeAccount
	DecodeAccount   = decodeAccount
	DecodeAccessKey = decodeAccessKey
	EncodeKeyUse    = encodeKeyUse
	DecodeKeyUse    = decodeKeyUse
)

// AccountAfter looks an account up the way GetAccount does, but through a statement that finds the next one: what an index
// that leads elsewhere does.
func AccountAfter(ctx context.Context, s *Store, id string) (*Account, error) {
	return verified(ctx, &s.verifier, s.reads, "accounts", scanAccountRow, s.verifier.account, walkAccounts, id, "1")
}
