package kms

import (
	"cmp"

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

// keyQuota undoes the transaction that has just written a new customer managed key if its account has too many in the Region
// now. AWS managed keys do not count: each has one alias of a reserved name.
func (s *Service) keyQuota(tx *store.Tx, name key.Name) error {
	most := int64(s.quotas.Keys)
	count, err := tx.CountKeys(name.Account, name.Region)
	if err != nil || count <= most {
		return err // mostly: it takes one look-up
	}
	managed, err := tx.CountReservedAliases(name.Account, name.Region)
	if err != nil || count-managed <= most {
		return err
	}
	return wire.Errorf(kmsapi.CodeLimitExceededException, "KMS keys quota for this account in this region is %d, current usage is %d.", most, count-managed-1)
}

// aliasQuota makes a transaction fail that would point one alias more at a key than it may have.
func (s *Service) aliasQuota(tx *store.Tx, name key.Name) error {
	count, err := tx.CountAliasesOfKey(name)
	if err != nil || count < int64(s.quotas.AliasesPerKey) {
		return err
	}
	return wire.Errorf(kmsapi.CodeLimitExceededException, "Aliases per key quota for this account in this region is %d, current usage is %d.", s.quotas.AliasesPerKey, count)
}
