package kms

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// The bounds of an encryption context in a constraint (GrantConstraints of the API).
const (
	maxConstraintPairs = 8
	maxConstraintValue = 384 // characters
)

// toConstraints reads constraints as they came in. An empty EncryptionContextEquals asks for an empty context; an empty
// EncryptionContextSubset asks for nothing.
func toConstraints(in *kmsapi.GrantConstraints) (c key.GrantConstraints) {
	if in == nil {
		return c
	}
	c.Equals, c.SourceARN = in.EncryptionContextEquals, in.SourceARN.V
	if len(in.EncryptionContextSubset) > 0 {
		c.Subset = in.EncryptionContextSubset
	}
	return c
}

func toOperations(names []string) (set key.GrantOperations) {
	for _, n := range names {
		set |= key.GrantOperation(n)
	}
	return set
}

func invalid(format string, args ...any) error {
	return wire.Errorf(wire.CodeValidation, format, args...)
}

// checkCreateGrant checks the members of CreateGrant that depend on each other.
func checkCreateGrant(in *kmsapi.CreateGrantRequest) error {
	c := toConstraints(in.Constraints)
	switch {
	case in.GranteePrincipal.Set == in.GranteeServicePrincipal.Set:
		return invalid("Specify either GranteePrincipal or GranteeServicePrincipal.")
	case in.RetiringPrincipal.Set && in.RetiringServicePrincipal.Set:
		return invalid("Specify either RetiringPrincipal or RetiringServicePrincipal, not both.")
	case in.GranteeServicePrincipal.Set && c.SourceARN == "":
		return invalid("A grant to a GranteeServicePrincipal needs a SourceArn constraint.")
	case in.GranteeServicePrincipal.Set && !in.RetiringPrincipal.Set && !in.RetiringServicePrincipal.Set:
		return invalid("A grant to a GranteeServicePrincipal needs a RetiringPrincipal or RetiringServicePrincipal.")
	case len(in.Operations) == 0:
		return invalid("A grant needs at least one operation.")
	case c.Equals != nil && c.Subset != nil:
		return invalid("Specify either EncryptionContextEquals or EncryptionContextSubset, not both.")
	}
	for _, pairs := range []map[string]string{c.Equals, c.Subset} {
		if len(pairs) > maxConstraintPairs {
			return invalid("An encryption context in grant constraints can have at most %d pairs.", maxConstraintPairs)
		}
		for _, v := range pairs {
			if len([]rune(v)) > maxConstraintValue {
				return invalid("A value of an encryption context in grant constraints can have at most %d characters.", maxConstraintValue)
			}
		}
	}
	return nil
}

// checkGrantOn checks a grant against the key that it is to be on.
func checkGrantOn(k *key.Key, names []string, c *key.GrantConstraints) error {
	possible := key.GrantOperationsOf(k.Spec, k.Usage)
	for _, n := range names {
		if o := key.GrantOperation(n); o == 0 || !possible.Has(o) {
			return invalid("Operation %s is not supported by grants on %s.", n, k.ARN())
		}
	}
	if k.Spec != key.SymmetricDefault && (c.Equals != nil || c.Subset != nil) {
		return invalid("EncryptionContext is supported only when creating a grant for a symmetric encryption KMS key.")
	}
	return nil
}

// covered says which grants can allow the making of another: those that are no narrower.
func covered(in *kmsapi.CreateGrantRequest) func(*key.Grant) bool {
	return func(parent *key.Grant) bool {
		c := toConstraints(in.Constraints)
		return parent.Covers(toOperations(in.Operations), &c)
	}
}

func createGrant(r *request, in *kmsapi.CreateGrantRequest) (*kmsapi.CreateGrantResponse, error) {
	g := &key.Grant{
		ID: newGrantID(), Key: r.key.Name, Name: in.Name.V, CreatedAt: r.moment(), Issuer: r.call.Caller.Account,
		Operations: toOperations(in.Operations), Constraints: toConstraints(in.Constraints),
	}
	if err := checkGrantOn(r.key.Key, in.Operations, &g.Constraints); err != nil {
		return nil, err
	}
	var err error
	if g.Grantee, err = r.grantPrincipal(in.GranteePrincipal, in.GranteeServicePrincipal); err != nil {
		return nil, err
	}
	if g.Retiring, err = r.grantPrincipal(in.RetiringPrincipal, in.RetiringServicePrincipal); err != nil {
		return nil, err
	}
	if err := dry(in.DryRun); err != nil {
		return nil, err
	}
	if g, err = r.addGrant(g); err != nil {
		return nil, err
	}
	token, err := r.grantToken(g)
	if err != nil {
		return nil, err
	}
	return &kmsapi.CreateGrantResponse{GrantID: wire.Some(g.ID), GrantToken: wire.Some(token)}, nil
}

// newGrantID returns a random grant id: 64 hexadecimal digits (KMS API reference, samples of CreateGrant).
func newGrantID() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand crashes the program instead
	return hex.EncodeToString(b[:])
}

// withGrants locks a key and its grants for a change of these, which gets them as they are. It has to ask the guard again:
// the right to change them may come from a policy or grant that went while the call waited.
func (r *request) withGrants(name key.Name, change func(*snapshot, *grantSet) error) error {
	defer r.keys.lock(name)()
	defer r.grants.lock(name)()
	snap, err := r.loadLocked(r.ctx, name)
	if err != nil {
		return gone(name, err)
	}
	set, err := r.grantsLocked(r.ctx, name)
	if err != nil {
		return err
	}
	r.held = set
	defer func() { r.held = nil }()
	return change(snap, set)
}

// addGrant stores a grant, or returns the one of the same name and parameters that is there already.
func (r *request) addGrant(g *key.Grant) (there *key.Grant, err error) {
	err = r.retry(func() error {
		there, err = r.tryAddGrant(g)
		return err
	})
	return there, err
}

func (r *request) tryAddGrant(g *key.Grant) (*key.Grant, error) {
	err := r.withGrants(g.Key, func(snap *snapshot, set *grantSet) error {
		if err := r.stillAllowed(snap); err != nil {
			return err
		}
		if twin := set.twin(g); twin != nil {
			g = twin
			return nil
		}
		if err := r.grantQuota(g.Key, set.size()); err != nil {
			return err
		}
		return r.changeGrants(r.ctx, g.Key, r.inTime, func(tx *store.Tx, others error) error {
			if others != nil {
				return others
			}
			k, err := r.asDecided(tx, snap)
			if err != nil {
				return gone(g.Key, err)
			}
			if err := r.op.States.blocks(k); err != nil {
				return err
			}
			return tx.PutGrant(g)
		}, func(set *grantSet) { set.add(g) })
	})
	if err != nil {
		return nil, err
	}
	return g, nil
}

// gone words that a key went while a request was under way.
func gone(name key.Name, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return wire.Errorf(kmsapi.CodeNotFoundException, "Key '%s' does not exist", name.ARN())
	}
	return err
}

// removeGrant deletes a grant for good, if allowed says so of its key and the grants as they are.
func (r *request) removeGrant(name key.Name, id string, allowed func(*snapshot, *grantSet) error) error {
	err := r.retry(func() error {
		return r.withGrants(name, func(snap *snapshot, set *grantSet) error {
			if err := allowed(snap, set); err != nil {
				return err
			}
			return r.changeGrants(r.ctx, name, r.inTime, func(tx *store.Tx, _ error) error {
				if _, err := r.asDecided(tx, snap); err != nil {
					return gone(name, err)
				}
				return tx.DeleteGrant(name, id)
			}, func(set *grantSet) { set.remove(id) })
		})
	})
	if errors.Is(err, store.ErrNotFound) {
		return noGrant(id)
	}
	return err
}

func noGrant(id string) error {
	return wire.Errorf(kmsapi.CodeNotFoundException, "Grant ID %s not found", id)
}

// checkGrantID refuses what can be no grant id.
func checkGrantID(id string) error {
	if len(id) != 64 || strings.Trim(id, "0123456789abcdef") != "" {
		return wire.Bare(kmsapi.CodeInvalidGrantIDException)
	}
	return nil
}

func revokeGrant(r *request, in *kmsapi.RevokeGrantRequest) error {
	if err := checkGrantID(in.GrantID.V); err != nil {
		return err
	}
	g, err := r.grant(r.ctx, r.key.Name, in.GrantID.V)
	if err != nil {
		return err
	}
	if g == nil {
		return noGrant(in.GrantID.V)
	}
	if err := dry(in.DryRun); err != nil {
		return err
	}
	return r.removeGrant(r.key.Name, in.GrantID.V, func(now *snapshot, _ *grantSet) error { return r.stillAllowed(now) })
}

// toRetire finds the grant that RetireGrant is about: by its token, or by key and id. If all are given they must agree.
func (r *request) toRetire(in *kmsapi.RetireGrantRequest) (*snapshot, string, error) {
	if in.GrantToken.Set {
		name, err := r.openToken(in.GrantToken.V)
		if err != nil {
			return nil, "", err
		}
		if name.key.Region != r.call.Region {
			return nil, "", wire.Bare(kmsapi.CodeInvalidGrantTokenException)
		}
		if in.GrantID.Set && in.GrantID.V != name.id {
			return nil, "", invalid("GrantToken and GrantId name different grants.")
		}
		snap, _, err := r.find(keyOnly, name.key.ARN(), r.action)
		return snap, name.id, err
	}
	if !in.KeyID.Set || !in.GrantID.Set {
		return nil, "", invalid("Specify either GrantToken, or KeyId and GrantId.")
	}
	snap, _, err := r.find(keyOnly, in.KeyID.V, r.action)
	if err != nil {
		return nil, "", err
	}
	return snap, in.GrantID.V, checkGrantID(in.GrantID.V)
}

func retireGrant(r *request, in *kmsapi.RetireGrantRequest) error {
	snap, id, err := r.toRetire(in)
	if err != nil {
		return err
	}
	g, err := r.grant(r.ctx, snap.Name, id)
	if err != nil {
		return err
	}
	if err := r.mayRetire(snap, g, id, in); err != nil {
		return err
	}
	r.call.Concerns(snap.Account, snap.arn)
	r.call.Additional().String("grantId", id)
	if err := r.ready(nil, r.op.rate(), in.DryRun); err != nil {
		return err
	}
	return r.removeGrant(snap.Name, id, func(now *snapshot, set *grantSet) error {
		if err := r.renew(); err != nil {
			return err
		}
		return r.mayRetire(now, set.get(id), id, in)
	})
}

// mayRetire asks the guard whether the caller may retire a grant: nil for an id that no grant has. The right comes from the grant and not from policies,
// which can only take it; the account that issued the grant passes it on by its identity policies ("Retiring and revoking
// grants", KMS developer guide).
func (r *request) mayRetire(snap *snapshot, g *key.Grant, id string, in wire.Input) error {
	if g == nil && snap.Account != r.call.Caller.Account {
		return r.call.Deny(r.action, snap.arn) // to other accounts it stays untold what there is
	}
	if g == nil {
		return noGrant(id)
	}
	_, err := r.call.Authorize(guard.Resource{
		Action: r.action, ARN: snap.arn, Key: snap.Key, Policy: snap.policy, Foreign: r.op.Foreign, Aliases: snap.aliases, Retiring: g, Input: in,
		Facts: func(f *guard.Facts, _ wire.Input) { constraintFacts(f, g.Constraints) },
	})
	return err
}

// listedGrants is how many grants a page has where the client does not say (API_ListGrants).
const listedGrants = 50

func listGrants(r *request, in *kmsapi.ListGrantsRequest) (*kmsapi.ListGrantsResponse, error) {
	after, err := r.readMarker(in.Marker)
	if err != nil {
		return nil, err
	}
	page, more, err := r.grantPage(in, after, int(in.Limit.Or(listedGrants)))
	if err != nil {
		return nil, err
	}
	out := &kmsapi.ListGrantsResponse{Truncated: wire.Some(more)}
	if out.Grants, err = r.showGrants(page); err == nil && more {
		out.NextMarker, err = r.marker(page[len(page)-1].ID)
	}
	return out, err
}

// grantPage returns the grants of the request's key that the client asks for, in the order of their ids.
func (r *request) grantPage(in *kmsapi.ListGrantsRequest, after string, limit int) ([]*key.Grant, bool, error) {
	if !in.GrantID.Set && !in.GranteePrincipal.Set && !in.GranteeServicePrincipal.Set {
		return r.store.ListGrants(r.ctx, r.key.Name, after, limit)
	}
	set, err := r.grantsOf(r.ctx, r.key.Name)
	if err != nil {
		return nil, false, err
	}
	var list []*key.Grant
	switch {
	case in.GranteePrincipal.Set:
		holder, err := r.holder(in.GranteePrincipal.V)
		if err != nil {
			return nil, false, err
		}
		list = keep(set.of(holder.Known()), func(g *key.Grant) bool { return g.Grantee.Holder() == holder.Holder() })
	case in.GranteeServicePrincipal.Set:
		list = keep(set.of(in.GranteeServicePrincipal.V), func(g *key.Grant) bool { return g.Grantee.Service != "" })
	default:
		if err := checkGrantID(in.GrantID.V); err != nil {
			return nil, false, err
		}
		if g := set.get(in.GrantID.V); g != nil {
			list = []*key.Grant{g}
		}
	}
	list = keep(list, func(g *key.Grant) bool {
		return g.ID > after && (!in.GrantID.Set || g.ID == in.GrantID.V) &&
			(!in.GranteeServicePrincipal.Set || g.Grantee.Service == in.GranteeServicePrincipal.V)
	})
	slices.SortFunc(list, func(a, b *key.Grant) int { return strings.Compare(a.ID, b.ID) })
	if len(list) > limit {
		return list[:limit], true, nil
	}
	return list, false, nil
}

func keep(list []*key.Grant, wanted func(*key.Grant) bool) []*key.Grant {
	return slices.DeleteFunc(slices.Clone(list), func(g *key.Grant) bool { return !wanted(g) })
}

// holder returns whom a client means who looks for grants: a principal that is there, or one that was deleted, by the unique
// id under which it is shown.
func (r *request) holder(given string) (key.GrantPrincipal, error) {
	if !here(given, r.call.Region.Partition()) {
		return key.GrantPrincipal{ID: given}, nil
	}
	id, _, err := r.principals.Lookup(r.ctx, given)
	return key.GrantPrincipal{ARN: given, ID: id}, err
}

// showGrants describes grants as lists answer them.
func (r *request) showGrants(list []*key.Grant) ([]kmsapi.GrantListEntry, error) {
	out := make([]kmsapi.GrantListEntry, len(list))
	for i, g := range list {
		e := &out[i]
		*e = kmsapi.GrantListEntry{
			KeyID: wire.Some(g.Key.ARN()), GrantID: wire.Some(g.ID), Name: wire.Some(g.Name), CreationDate: wire.Some(g.CreatedAt),
			IssuingAccount: wire.Some(g.Issuer.Root(r.call.Region.Partition())), Operations: g.Operations.Names(),
		}
		for _, p := range []struct {
			of           key.GrantPrincipal
			arn, service *wire.Opt[string]
		}{
			{g.Grantee, &e.GranteePrincipal, &e.GranteeServicePrincipal},
			{g.Retiring, &e.RetiringPrincipal, &e.RetiringServicePrincipal},
		} {
			switch {
			case p.of.Service != "":
				*p.service = wire.Some(p.of.Service)
			case p.of.ARN != "":
				now, err := r.shownPrincipal(p.of.ARN, p.of.ID)
				if err != nil {
					return nil, err
				}
				*p.arn = wire.Some(now)
			}
		}
		if c := g.Constraints; c.Equals != nil || c.Subset != nil || c.SourceARN != "" {
			e.Constraints = &kmsapi.GrantConstraints{EncryptionContextEquals: c.Equals, EncryptionContextSubset: c.Subset}
			if c.SourceARN != "" {
				e.Constraints.SourceARN = wire.Some(c.SourceARN)
			}
		}
	}
	return out, nil
}
