package kms

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/store"
)

// The errors of questions about keys. They are for administrators.
var (
	ErrNoKey    = errors.New("there is no such key")
	ErrNoAction = errors.New("there is no such permission on a key")
)

// Subject is a key that somebody asks about. It answers for the moment at which it was found.
type Subject struct {
	s     *Service
	ctx   context.Context //nolint:containedctx // a subject lives no longer than the question
	key   *snapshot
	alias arn.AliasName
}

// Subject finds a key or alias by its ARN, or by id or alias name within an account and Region. ErrNoKey, wrapped, if
// it is not there.
func (s *Service) Subject(ctx context.Context, given string, a arn.Account, region arn.Region) (*Subject, error) {
	ref := arn.ParseRef(given)
	if ref.Region != "" {
		a, region = ref.Account, ref.Region
	}
	var snap *snapshot
	var err error
	switch {
	case a == "" || region == "" || ref.Key == "" && ref.Alias == "":
		err = store.ErrNotFound
	case ref.Alias != "":
		snap, err = s.lookup(ctx, aliasName{account: a, region: region, name: ref.Alias})
	default:
		snap, err = s.load(ctx, key.Name{Account: a, Region: region, ID: ref.Key})
	}
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("%w: %s", ErrNoKey, given)
	}
	if err != nil {
		return nil, err
	}
	return &Subject{s, ctx, snap, ref.Alias}, nil
}

// Account returns whose key it is, Region where it is, and ARN how it is called.
func (k *Subject) Account() arn.Account { return k.key.Account }

// Region returns the key's Region.
func (k *Subject) Region() arn.Region { return k.key.Region }

// ARN returns the key's ARN.
func (k *Subject) ARN() string { return k.key.arn }

// With returns the subject as it would be under another key policy, which is checked as PutKeyPolicy does, but for
// the lockout safety check.
func (k *Subject) With(text string) (*Subject, error) {
	doc, err := policy.Parse(policy.KeyPolicy, []byte(text))
	if err != nil {
		return nil, err
	}
	bindings, err := k.s.bindPrincipals(k.ctx, doc, k.key.Region.Partition())
	if err != nil {
		return nil, err
	}
	other := *k.key
	if other.policy, err = k.s.compile(text, bindings); err != nil {
		return nil, err
	}
	return &Subject{k.s, k.ctx, &other, k.alias}, nil
}

// Actions returns all permissions that are asked on keys, in the order of their names.
func Actions() []string {
	list := []string{actionReEncryptTo.Name()}
	for i := range operations {
		if operations[i].Key != noKey {
			list = append(list, operations[i].Permission)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// Explain fills in the resource of a question about an action on the key, and has the guard decide it. ErrNoAction, wrapped,
// for what is no permission on a key.
func (k *Subject) Explain(action string, q guard.Question) (*guard.Explanation, error) {
	if !slices.Contains(Actions(), action) {
		return nil, fmt.Errorf("%w: %s", ErrNoAction, action)
	}
	foreign := action == actionReEncryptTo.Name() || slices.ContainsFunc(operations, func(op operation) bool {
		return op.Permission == action && op.Foreign
	})
	q.Region, q.Keys = k.key.Region, conditionKeys()[action]
	q.Resource = guard.Resource{
		Action: guard.NewAction(action), ARN: k.key.arn, Key: k.key.Key, Policy: k.key.policy, Foreign: foreign, Alias: k.alias,
		Grants: grantsInForce{k.s, k.ctx, k.key.Name}, Aliases: k.key.aliases,
	}
	return k.s.guard.Explain(q)
}

// grantsInForce are the grants of a key outside of any call, and so without tokens.
type grantsInForce struct {
	s    *Service
	ctx  context.Context //nolint:containedctx // as a Subject's
	name key.Name
}

// Of implements guard.Grants.
func (g grantsInForce) Of(grantee string) ([]*key.Grant, error) {
	set, err := g.s.grantsOf(g.ctx, g.name)
	if err != nil {
		return nil, err
	}
	return set.of(grantee), nil
}
