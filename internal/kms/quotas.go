package kms

import (
	"cmp"
	"context"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// Quotas bound what an account has in a Region. A field that is zero means the default of AWS KMS ("Resource quotas", KMS
// developer guide).
type Quotas struct {
	Keys          int // customer managed keys, in whatever state; 100,000
	AliasesPerKey int // 50
}

// The defaults.
const (
	defaultKeys          = 100_000
	defaultAliasesPerKey = 50
)

// filled returns the quotas with defaults in place of zeros.
func (q Quotas) filled() Quotas {
	return Quotas{Keys: cmp.Or(q.Keys, defaultKeys), AliasesPerKey: cmp.Or(q.AliasesPerKey, defaultAliasesPerKey)}
}

// keyCounts are what the quota on keys is about: all keys of an account in a Region, and the reserved aliases, of which each AWS
// managed key has one.
type keyCounts struct {
	keys, reserved func() (int64, error)
}

// spare returns how many customer managed keys more there may be, negative for too many, or the error of what could not be counted.
// It mostly takes one look-up.
func (q Quotas) spare(c keyCounts) (int64, error) {
	count, err := c.keys()
	if err != nil || count < int64(q.Keys) {
		return int64(q.Keys) - count, err
	}
	managed, err := c.reserved()
	return int64(q.Keys) - (count - managed), err
}

func (q Quotas) tooManyKeys(usage int64) error {
	return wire.Errorf(kmsapi.CodeLimitExceededException, "KMS keys quota for this account in this region is %d, current usage is %d.", q.Keys, usage)
}

// keyQuota undoes the transaction that has just written a new customer managed key if its account has too many in the Region
// now. AWS managed keys do not count.
func (s *Service) keyQuota(tx *store.Tx, name key.Name) error {
	spare, err := s.quotas.spare(keyCounts{
		func() (int64, error) { return tx.CountKeys(name.Account, name.Region) },
		func() (int64, error) { return tx.CountReservedAliases(name.Account, name.Region) },
	})
	if err == nil && spare < 0 {
		err = s.quotas.tooManyKeys(int64(s.quotas.Keys) - spare - 1)
	}
	return err
}

// keyRoom refuses early what keyQuota would: before anything is made that would be for nothing.
func (s *Service) keyRoom(ctx context.Context, name key.Name) error {
	spare, err := s.quotas.spare(keyCounts{
		func() (int64, error) { return s.store.CountKeys(ctx, name.Account, name.Region) },
		func() (int64, error) { return s.store.CountReservedAliases(ctx, name.Account, name.Region) },
	})
	if err == nil && spare <= 0 {
		err = s.quotas.tooManyKeys(int64(s.quotas.Keys) - spare)
	}
	return err
}

// aliasQuota makes a transaction fail that would point one alias more at a key than it may have.
func (s *Service) aliasQuota(tx *store.Tx, name key.Name) error {
	count, err := tx.CountAliasesOfKey(name)
	if err != nil || count < int64(s.quotas.AliasesPerKey) {
		return err
	}
	return wire.Errorf(kmsapi.CodeLimitExceededException, "Aliases per key quota for this account in this region is %d, current usage is %d.", s.quotas.AliasesPerKey, count)
}
