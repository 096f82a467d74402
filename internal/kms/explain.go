package kms

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
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
		if op := &operations[i]; op.Key != noKey && op.Name != "ListRetirableGrants" { // whose resource is "*"
			list = append(list, op.Permission)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// Explain fills in the resource of a question about an action on the key, and has the guard decide it. ErrNoAction, wrapped,
// for what is no permission on a key. RetireGrant is about each of the key's grants. What is done to an alias needs its
// permission on the alias, too: on that by which the subject was found, or else on aliases of any name; who moves one needs it
// on the other key as well, which is another question.
func (k *Subject) Explain(action string, q guard.Question) (*guard.Explanation, error) {
	i := slices.IndexFunc(Actions(), func(a string) bool { return strings.EqualFold(a, action) }) // as policies compare them
	if i < 0 {
		return nil, fmt.Errorf("%w: %s", ErrNoAction, action)
	}
	action = Actions()[i]
	q.Region, q.Keys = k.key.Region, conditionKeys()[action]
	switch action {
	case "kms:RetireGrant":
		return k.explainRetiring(q)
	case "kms:CreateAlias", "kms:UpdateAlias", "kms:DeleteAlias":
		return k.explainAlias(action, q)
	}
	q.Resource = k.resource(action)
	q.Resource.Alias = k.alias
	return k.s.guard.Explain(q)
}

func (k *Subject) resource(action string) guard.Resource {
	foreign := action == actionReEncryptTo.Name() || slices.ContainsFunc(operations, func(op operation) bool {
		return op.Permission == action && op.Foreign
	})
	return guard.Resource{
		Action: guard.NewAction(action), ARN: k.key.arn, Key: k.key.Key, Policy: k.key.policy, Foreign: foreign,
		Grants: grantsInForce{k.s, k.ctx, k.key.Name}, Aliases: k.key.aliases,
	}
}

// retirers are all of a grant that says who may retire it.
type retirers struct {
	retiring, grantee key.GrantPrincipal
	issuer            arn.Account
}

// explainRetiring explains which of the key's grants the caller may retire: a way for each.
func (k *Subject) explainRetiring(q guard.Question) (*guard.Explanation, error) {
	set, err := k.s.grantsOf(k.ctx, k.key.Name)
	if err != nil {
		return nil, err
	}
	out, err := k.explainGrant(q, new(key.Grant)) // of a key without grants: nobody may retire one that is not there
	if err != nil {
		return nil, err
	}
	// There can be thousands of grants for one role: where no policy asks about their constraints, one answer is for all.
	known := map[retirers]*guard.Explanation{}
	for _, g := range set.list() {
		if err := k.ctx.Err(); err != nil {
			return nil, err
		}
		who := retirers{retiring: g.Retiring, issuer: g.Issuer}
		if g.Operations.Has(key.GrantOperation("RetireGrant")) {
			who.grantee = g.Grantee
		}
		e := known[who]
		if e == nil {
			if e, err = k.explainGrant(q, g); err != nil {
				return nil, err
			}
			if !asksAboutConstraints(e) {
				known[who] = e
			}
		}
		out = withGrant(out, e, g.ID)
	}
	return out, nil
}

// maxWays is how many grants an explanation names: one is enough, and a key can have 50,000.
const maxWays = 20

// withGrant adds what was found out about one grant to what is known of others. One that may be retired counts more than one
// that may not, and of those one that is not for the caller least.
func withGrant(out, e *guard.Explanation, id string) *guard.Explanation {
	switch {
	case e.Allowed && !out.Allowed, !e.Allowed && !out.Allowed && !out.Explicit && out.By == guard.ResourceBased.String():
		first := *e
		first.Ways, first.Unless = nil, nil
		out = &first
	}
	if !e.Allowed {
		return out
	}
	for _, w := range e.Ways {
		if len(out.Ways) >= maxWays {
			break
		}
		w.GrantID = id
		out.Ways = append(out.Ways, w)
	}
	for _, u := range e.Unless {
		if !slices.Contains(out.Unless, u) {
			out.Unless = append(out.Unless, u)
		}
	}
	return out
}

func asksAboutConstraints(e *guard.Explanation) bool {
	return slices.ContainsFunc(e.Values, func(v guard.AskedValue) bool {
		name := strings.ToLower(v.Key)
		return strings.HasPrefix(name, "kms:grantconstraint") || strings.HasPrefix(name, "kms:encryptioncontext")
	})
}

func (k *Subject) explainGrant(q guard.Question, g *key.Grant) (*guard.Explanation, error) {
	q.Resource = k.resource("kms:RetireGrant")
	q.Resource.Retiring, q.Resource.Input = g, new(kmsapi.RetireGrantRequest)
	q.Resource.Facts = func(f *guard.Facts, _ wire.Input) { constraintFacts(f, g.Constraints) }
	return k.s.guard.Explain(q)
}

// explainAlias explains what is done to an alias that points at the key.
func (k *Subject) explainAlias(action string, q guard.Question) (*guard.Explanation, error) {
	q.Resource = k.resource(action)
	onKey, err := k.s.guard.Explain(q)
	if err != nil {
		return nil, err
	}
	alias, open := k.alias, k.alias == ""
	if open {
		alias = arn.AliasPrefix + "*"
	}
	q.Resource = guard.Resource{Action: guard.NewAction(action), ARN: alias.ARN(k.key.Region, k.key.Account), Owner: k.key.Account}
	onAlias, err := k.s.guard.Explain(q)
	if err != nil {
		return nil, err
	}
	var path string
	var given []string
	switch {
	case !onAlias.Allowed && !open:
		return onAlias, nil
	case !onKey.Allowed:
		return onKey, nil
	case onAlias.Allowed:
		path, given = ", and on the alias "+onAlias.Ways[0].Path, onAlias.Ways[0].Given
	case q.Suppose && !onAlias.Explicit: // there may be a name that is allowed
		given = []string{"identity-based policies allow " + action + " on the alias"}
	default:
		return onAlias, nil
	}
	for i := range onKey.Ways {
		w := &onKey.Ways[i]
		w.Path, w.Given = w.Path+path, append(w.Given, given...)
	}
	onKey.Unless = append(onKey.Unless, onAlias.Unless...)
	return onKey, nil
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
