package kms

import (
	"context"
	"strings"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/quota"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// errThrottled is the answer to who asks more often than a quota allows, or for more than can be made at a time ("Throttling", KMS
// developer guide).
var errThrottled = wire.Errorf(wire.CodeThrottling, "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.")

// charge counts the call to a rate of the caller's account. It comes after the guard and what the row says of the key, in a
// cryptographic operation after all that could refuse it, and before anything is done: so nobody without rights can use up what
// others of his account need, nor the room that the audit log keeps for records of changes.
func (r *request) charge(bucket quota.ID) error { return r.chargeIn(r.call.Region, bucket, 1) }

// chargeIn is charge in a Region, for what counts as several requests.
func (r *request) chargeIn(region arn.Region, bucket quota.ID, cost uint) error {
	place := quota.Place{Account: r.call.Caller.Account, Region: region}
	if !r.book.Allow(quota.Request{Place: place, Bucket: bucket, Cost: cost}) {
		return errThrottled
	}
	if r.op.ReadOnly {
		return nil
	}
	return r.call.Reserve() // again and again is once
}

// chargeOwn counts the call to the rate of its operation, once.
func (r *request) chargeOwn() error {
	if r.charged {
		return nil // it has begun again
	}
	r.charged = true
	return r.charge(r.op.rate())
}

// rate returns the rate that the operation has for itself; zero if it shares one.
func (op *operation) rate() quota.ID { return quota.Own("kms", op.Name) }

// chargeUse counts a cryptographic operation on a key.
func (r *request) chargeUse(k *key.Key) error { return r.charge(bucketOf(k.Spec)) }

// chargeBoth counts a re-encryption: to the rates of both keys if they are of different kinds, else once.
func (r *request) chargeBoth(from, to *key.Key) error {
	err := r.chargeUse(from)
	if err == nil && bucketOf(to.Spec) != bucketOf(from.Spec) {
		err = r.chargeUse(to)
	}
	return err
}

// ready ends the checks of a cryptographic operation, of which err is what they found: it counts the call, and then ends a dry
// run, in which everything was checked.
func (r *request) ready(err error, bucket quota.ID, run wire.Opt[bool]) error {
	if err == nil {
		err = r.charge(bucket)
	}
	if err == nil {
		err = dry(run)
	}
	return err
}

// bucketOf returns the rate that cryptographic operations on keys of a spec count to.
func bucketOf(s key.Spec) quota.ID {
	switch {
	case s == key.SymmetricDefault || strings.HasPrefix(string(s), "HMAC_"):
		return quota.Symmetric
	case strings.HasPrefix(string(s), "RSA_"):
		return quota.RSA
	case strings.HasPrefix(string(s), "ML_DSA_"):
		return quota.MLDSA
	case strings.HasPrefix(string(s), "ML_KEM_"):
		return quota.MLKEM
	}
	return quota.ECC // and SM2
}

// most returns how many of something there may be where a key is.
func (s *Service) most(name key.Name, id quota.ID) int64 {
	return s.book.Most(quota.Place{Account: name.Account, Region: name.Region}, id)
}

// keyCounts are what the quota on keys is about: all keys of an account in a Region, and the reserved aliases, of which each AWS
// managed key has one.
type keyCounts struct {
	keys, reserved func() (int64, error)
}

// spare returns how many customer managed keys more there may be, negative for too many, or the error of what could not be counted.
// It mostly takes one look-up.
func (c keyCounts) spare(most int64) (int64, error) {
	count, err := c.keys()
	if err != nil || count < most {
		return most - count, err
	}
	managed, err := c.reserved()
	return most - (count - managed), err
}

func tooManyKeys(most, usage int64) error {
	return wire.Errorf(kmsapi.CodeLimitExceededException, "KMS keys quota for this account in this region is %d, current usage is %d.", most, usage)
}

// keyQuota undoes the transaction that has just written a new customer managed key if its account has too many in the Region
// now. AWS managed keys do not count.
func (s *Service) keyQuota(tx *store.Tx, name key.Name) error {
	most := s.most(name, quota.Keys)
	spare, err := keyCounts{
		func() (int64, error) { return tx.CountKeys(name.Account, name.Region) },
		func() (int64, error) { return tx.CountReservedAliases(name.Account, name.Region) },
	}.spare(most)
	if err == nil && spare < 0 {
		err = tooManyKeys(most, most-spare-1)
	}
	return err
}

// keyRoom refuses early what keyQuota would: before anything is made that would be for nothing.
func (s *Service) keyRoom(ctx context.Context, name key.Name) error {
	most := s.most(name, quota.Keys)
	spare, err := keyCounts{
		func() (int64, error) { return s.store.CountKeys(ctx, name.Account, name.Region) },
		func() (int64, error) { return s.store.CountReservedAliases(ctx, name.Account, name.Region) },
	}.spare(most)
	if err == nil && spare <= 0 {
		err = tooManyKeys(most, most-spare)
	}
	return err
}

// aliasQuota makes a transaction fail that would point one alias more at a key than it may have.
func (s *Service) aliasQuota(tx *store.Tx, name key.Name) error {
	most := s.most(name, quota.AliasesPerKey)
	count, err := tx.CountAliasesOfKey(name)
	if err != nil || count < most {
		return err
	}
	return wire.Errorf(kmsapi.CodeLimitExceededException, "Aliases per key quota for this account in this region is %d, current usage is %d.", most, count)
}

// grantQuota refuses one grant more than a key may have.
func (s *Service) grantQuota(name key.Name, count int) error {
	if most := s.most(name, quota.GrantsPerKey); int64(count) >= most {
		return wire.Errorf(kmsapi.CodeLimitExceededException, "Grants per key quota is %d, current usage is %d.", most, count)
	}
	return nil
}
