package kms

import (
	"errors"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// finder says how an operation's key may be named.
type finder uint8

// The finders.
const (
	noKey     finder = iota // the operation has no key: its permission is needed on "*"
	keyOnly                 // key id or key ARN
	anyForm                 // key id, key ARN, alias name or alias ARN
	inHandler               // the handler finds and authorizes what the operation works on
)

// find resolves a key identifier for an action, and returns the alias name if it went through one. A key or alias of
// another account that does not exist looks as one that denies. What it returns for the alias of an AWS managed key may be
// only planned, so that it goes to admit next.
func (r *request) find(f finder, given string, action guard.Action) (*snapshot, arn.AliasName, error) {
	ref := arn.ParseRef(given)
	name := key.Name{Account: r.call.Caller.Account, Region: r.call.Region, ID: ref.Key}
	switch ref.Form {
	case arn.FormBadID:
		return nil, "", wire.Errorf(kmsapi.CodeNotFoundException, "Invalid keyId '%s'", ref.Given)
	case arn.FormNotKMS:
		return nil, "", wire.Errorf(kmsapi.CodeInvalidARNException, "Invalid arn %s", ref.Given)
	case arn.FormAlias, arn.FormAliasARN:
		if f == keyOnly {
			return nil, "", wire.Errorf(kmsapi.CodeInvalidARNException, "Key Aliases are not supported for this operation.")
		}
	}
	if ref.Region != "" {
		if ref.Region != r.call.Region {
			return nil, "", wire.Errorf(kmsapi.CodeNotFoundException, "Invalid arn %s", ref.Region)
		}
		name.Account = ref.Account
	}
	if ref.Form == arn.FormBadARN {
		return nil, "", wire.Errorf(kmsapi.CodeNotFoundException, "Invalid keyId %s", ref.Given)
	}
	if ref.Alias != "" {
		return r.findAlias(aliasName{account: name.Account, region: name.Region, name: ref.Alias}, action)
	}
	snap, err := r.load(r.ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		if name.Account != r.call.Caller.Account {
			return nil, "", r.call.Deny(action, name.ARN())
		}
		return nil, "", wire.Errorf(kmsapi.CodeNotFoundException, "Key '%s' does not exist", name.ARN())
	}
	return snap, "", err
}

func (r *request) findAlias(a aliasName, action guard.Action) (*snapshot, arn.AliasName, error) {
	snap, err := r.lookup(r.ctx, a)
	if errors.Is(err, store.ErrNotFound) && a.account == r.call.Caller.Account && a.name.Reserved() {
		snap, err = r.plan(a)
	}
	if errors.Is(err, store.ErrNotFound) {
		if a.account != r.call.Caller.Account {
			return nil, "", r.call.Deny(action, a.ARN())
		}
		return nil, "", aliasNotFound(a)
	}
	return snap, a.name, err
}

func aliasNotFound(a aliasName) error {
	return wire.Errorf(kmsapi.CodeNotFoundException, "Alias %s is not found.", a.ARN())
}
