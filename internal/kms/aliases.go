package kms

import (
	"errors"
	"strings"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// ownAlias checks the name of an alias that a client wants to make, move or remove, and returns it in the caller's account
// and Region.
func (r *request) ownAlias(name string) (aliasName, error) {
	a := aliasName{account: r.call.Caller.Account, region: r.call.Region, name: arn.AliasName(name)}
	return a, checkAliasName(a.name)
}

// checkAliasName refuses names that no alias of a customer can have.
func checkAliasName(alias arn.AliasName) error {
	name := string(alias)
	switch {
	case !strings.HasPrefix(name, arn.AliasPrefix):
		return wire.Errorf(wire.CodeValidation, `Alias must start with the prefix "alias/". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html`)
	case name == arn.AliasPrefix || strings.Contains(name, ":"):
		return wire.Errorf(wire.CodeValidation, "%s contains invalid characters for an alias", name)
	case alias.Reserved():
		return wire.Bare(codeNotAuthorized)
	}
	return nil
}

// codeNotAuthorized is the answer to the making of an alias with a reserved name. It is not in the service's model.
const codeNotAuthorized wire.Code = "NotAuthorizedException"

// targetKey finds the key that an alias is to point at, and asks the guard about the alias and the key.
func (r *request) targetKey(a aliasName, given string, in wire.Input) (*snapshot, error) {
	if form := arn.ParseRef(given).Form; form == arn.FormAlias || form == arn.FormAliasARN {
		return nil, wire.Errorf(wire.CodeValidation, "Aliases must refer to keys. Not aliases")
	}
	snap, _, err := r.find(keyOnly, given, r.action)
	if err != nil {
		return nil, err
	}
	if err := r.authorizeAlias(a); err != nil {
		return nil, err
	}
	if _, err := r.authorize(snap, "", question{action: r.action, in: in}); err != nil {
		return nil, err
	}
	return snap, usableTarget(snap.Key)
}

// mayPoint asks the guard about a change of an alias: about the alias and all keys that it points at before or after.
func (r *request) mayPoint(a aliasName, in wire.Input) func([]*snapshot) error {
	return func(keys []*snapshot) error {
		if err := r.renew(); err != nil {
			return err
		}
		if err := r.authorizeAlias(a); err != nil {
			return err
		}
		for _, snap := range keys {
			if _, err := r.authorize(snap, "", question{action: r.action, in: in}); err != nil {
				return err
			}
		}
		return nil
	}
}

// pointAlias makes, moves or removes an alias between keys.
func (r *request) pointAlias(a aliasName, t targets, in wire.Input, write func(*store.Tx) error) error {
	return r.retry(func() error {
		return r.changeAlias(r.ctx, a, t, r.mayPoint(a, in), r.inTime, write)
	})
}

func usableTarget(k *key.Key) error {
	return stateRule{PendingDeletion: true}.blocks(k)
}

func (r *request) authorizeAlias(a aliasName) error {
	if _, err := r.call.Authorize(guard.Resource{Action: r.action, ARN: a.ARN(), Owner: a.account}); err != nil {
		return err
	}
	return nil
}

// concerns notes an alias and its key for the record, in the service's order: the key first where the alias is new.
func (r *request) concerns(a aliasName, snap *snapshot, isNew bool) {
	if isNew {
		r.call.Concerns(snap.Account, snap.arn)
	}
	r.call.Concerns(a.account, a.ARN())
	r.call.Concerns(snap.Account, snap.arn)
}

func createAlias(r *request, in *kmsapi.CreateAliasRequest) error {
	a, err := r.ownAlias(in.AliasName.V)
	if err != nil {
		return err
	}
	snap, err := r.targetKey(a, in.TargetKeyID.V, in)
	if err := firstFailure(err, r.chargeOwn); err != nil {
		return err
	}
	r.concerns(a, snap, true)
	now := r.moment()
	alias := &key.Alias{Account: a.account, Region: a.region, Name: a.name, Target: snap.ID, CreatedAt: now, UpdatedAt: now}
	err = r.pointAlias(a, targets{next: snap.ID}, in, func(tx *store.Tx) error {
		if err := r.aliasQuota(tx, snap.Name); err != nil {
			return existing(tx, a, err)
		}
		return tx.InsertAlias(alias)
	})
	if errors.Is(err, store.ErrExists) {
		return wire.Errorf(kmsapi.CodeAlreadyExistsException, "An alias with the name %s already exists", a.ARN())
	}
	return err
}

// existing returns err, or store.ErrExists if the alias is there already: that is what its maker must hear first.
func existing(tx *store.Tx, a aliasName, err error) error {
	if _, missing := tx.GetAlias(a.account, a.region, a.name); missing == nil {
		return store.ErrExists
	}
	return err
}

// errMoved says that an alias points at another key than the one that was authorized.
var errMoved = errors.New("the alias was moved meanwhile")

// aliasTries is how often a call that changes an alias starts again because others move it at the same time.
const aliasTries = 10

// settled repeats a change of an alias while somebody else moves it between the look-up and the commit: the permission is
// needed on the key that it really points at.
func settled(change func() error) error {
	err := errMoved
	for i := 0; i < aliasTries && errors.Is(err, errMoved); i++ {
		err = change()
	}
	return err
}

func updateAlias(r *request, in *kmsapi.UpdateAliasRequest) error {
	return settled(func() error { return moveAlias(r, in) })
}

func moveAlias(r *request, in *kmsapi.UpdateAliasRequest) error {
	a, err := r.ownAlias(in.AliasName.V)
	if err != nil {
		return err
	}
	old, err := r.lookup(r.ctx, a)
	if errors.Is(err, store.ErrNotFound) {
		return aliasNotFound(a)
	}
	if err != nil {
		return err
	}
	next, err := r.targetKey(a, in.TargetKeyID.V, in)
	if err != nil {
		return err
	}
	if _, err := r.authorize(old, "", question{action: r.action, in: in}); err != nil {
		return err
	}
	if err := firstFailure(alike(a, old.Key, next.Key), r.chargeOwn); err != nil {
		return err
	}
	now := r.moment()
	err = r.pointAlias(a, targets{old.ID, next.ID}, in, func(tx *store.Tx) error {
		alias, err := tx.GetAlias(a.account, a.region, a.name)
		if err != nil {
			return err
		}
		if alias.Target != old.ID {
			return errMoved
		}
		if old.ID != next.ID {
			if err := r.aliasQuota(tx, next.Name); err != nil {
				return err
			}
		}
		moved := *alias
		moved.Target, moved.UpdatedAt = next.ID, now
		return tx.PutAlias(&moved)
	})
	if errors.Is(err, errMoved) {
		return err
	}
	r.concerns(a, next, false)
	if errors.Is(err, store.ErrNotFound) {
		return aliasNotFound(a)
	}
	return err
}

// alike checks that an alias can be moved between two keys: they are of one kind, and for the same (API_UpdateAlias).
func alike(a aliasName, old, next *key.Key) error {
	differ := func(what, from, to string) error {
		return wire.Errorf(wire.CodeValidation,
			"Alias %s cannot be changed from a CMK with key %[2]s %[3]s to a CMK with key %[2]s %[4]s. The key %[2]s of the current CMK and the new CMK must be the same.",
			a.name, what, from, to)
	}
	switch {
	case old.Usage != next.Usage:
		return differ("usage", string(old.Usage), string(next.Usage))
	case kindOf(old) != kindOf(next):
		return differ("type", kindOf(old), kindOf(next))
	}
	return nil
}

// kindOf says which of the kinds of keys a key is whose usage could be that of another kind.
func kindOf(k *key.Key) string {
	if k.Spec == key.SymmetricDefault {
		return "SYMMETRIC"
	}
	return "ASYMMETRIC"
}

func deleteAlias(r *request, in *kmsapi.DeleteAliasRequest) error {
	return settled(func() error { return removeAlias(r, in) })
}

func removeAlias(r *request, in *kmsapi.DeleteAliasRequest) error {
	a, err := r.ownAlias(in.AliasName.V)
	if err != nil {
		return err
	}
	snap, err := r.lookup(r.ctx, a)
	if errors.Is(err, store.ErrNotFound) {
		return aliasNotFound(a)
	}
	if err != nil {
		return err
	}
	if err := r.authorizeAlias(a); err != nil {
		return err
	}
	_, err = r.authorize(snap, "", question{action: r.action, in: in})
	if err := firstFailure(err, r.chargeOwn); err != nil {
		return err
	}
	err = r.pointAlias(a, targets{last: snap.ID}, in, func(tx *store.Tx) error {
		alias, err := tx.GetAlias(a.account, a.region, a.name)
		if err != nil {
			return err
		}
		if alias.Target != snap.ID {
			return errMoved
		}
		return tx.DeleteAlias(a.account, a.region, a.name)
	})
	if errors.Is(err, errMoved) {
		return err
	}
	r.concerns(a, snap, false)
	if errors.Is(err, store.ErrNotFound) {
		return aliasNotFound(a)
	}
	return err
}

func listAliases(r *request, in *kmsapi.ListAliasesRequest) (*kmsapi.ListAliasesResponse, error) {
	after, err := r.readMarker(in.Marker)
	if err != nil {
		return nil, err
	}
	account, region, limit := r.call.Caller.Account, r.call.Region, int(in.Limit.Or(50))
	var page []*key.Alias
	var more bool
	if in.KeyID.Set {
		snap, _, err := r.find(keyOnly, in.KeyID.V, r.action)
		if err != nil {
			return nil, err
		}
		if snap.Account != account {
			return nil, r.call.Deny(r.action, snap.arn)
		}
		page, more, err = r.store.ListAliasesOfKey(r.ctx, snap.Name, arn.AliasName(after), limit)
		if err != nil {
			return nil, err
		}
	} else if page, more, err = r.store.ListAliases(r.ctx, account, region, arn.AliasName(after), limit); err != nil {
		return nil, err
	}
	out := &kmsapi.ListAliasesResponse{Aliases: make([]kmsapi.AliasListEntry, len(page)), Truncated: wire.Some(more)}
	for i, a := range page {
		out.Aliases[i] = kmsapi.AliasListEntry{
			AliasName: wire.Some(string(a.Name)), AliasARN: wire.Some(a.ARN()), TargetKeyID: wire.Some(string(a.Target)),
			CreationDate: wire.Some(a.CreatedAt), LastUpdatedDate: wire.Some(a.UpdatedAt),
		}
	}
	if more {
		out.NextMarker, err = r.marker(string(page[len(page)-1].Name))
	}
	return out, err
}
