package guard

import (
	"fmt"
	"strings"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
)

// ruleByGrants looks for a grant that allows what the policies do not. best is how far these reached, for the reason of a
// refusal.
func (c *Call) ruleByGrants(all *voices, r *Resource, best reach) (ruling, error) {
	var allowed ruling // only a trace looks further than the first
	operation, ok := strings.CutPrefix(r.Action.name, "kms:")
	if need := key.GrantOperation(operation); ok && need != 0 && r.Grants != nil && r.Key != nil {
		names, n := c.Caller.granteeNames()
		for _, name := range names[:n] {
			list, err := r.Grants.Of(name)
			if err != nil {
				return ruling{}, fmt.Errorf("reading grants: %w", err)
			}
			for _, g := range list {
				far := c.Caller.named(&g.Grantee)
				if far == reachNone || !g.Operations.Has(need) || g.Key != r.Key.Name {
					continue
				}
				fits := c.fits(g, r, need)
				out := all.settle(far, g)
				if c.trace != nil {
					c.trace.looked(g, fits, far, &out, c.unsaid(g, r, need))
				}
				switch {
				case !fits:
				case out.allowed && c.trace == nil:
					return out, nil
				case out.allowed && !allowed.allowed:
					allowed = out
				default:
					best = max(best, far)
				}
			}
		}
	}
	if allowed.allowed {
		return allowed, nil
	}
	return all.settle(best, nil), nil
}

// granteeNames returns the names under which grants for the caller are found.
func (who *Caller) granteeNames() (names [2]string, n int) {
	account := string(who.Account)
	switch who.Type {
	case policy.User, policy.RoleSession:
		return [2]string{who.UniqueID, account}, 2
	case policy.FederatedUser:
		return [2]string{who.ARN, account}, 2
	case policy.AccountRoot:
		return [2]string{account}, 1
	case policy.Service:
		return [2]string{who.Service}, 1
	}
	return names, 0
}

// named says how far an allow to a principal of a grant carries for the caller. Users and roles are known by unique id alone.
func (who *Caller) named(p *key.GrantPrincipal) reach {
	is := func(yes bool, far reach) reach {
		if yes {
			return far
		}
		return reachNone
	}
	switch {
	case p.Service != "":
		return is(who.Type == policy.Service && who.Service == p.Service, reachDirect)
	case p.ARN == "" || !who.belongs():
		return reachNone
	case strings.HasSuffix(p.ARN, ":root"):
		if who.Type == policy.AccountRoot {
			return is(p.ID == string(who.Account), reachDirect)
		}
		return is(p.ID == string(who.Account), reachDelegated)
	case strings.Contains(p.ARN, ":assumed-role/"):
		return is(who.Type == policy.RoleSession && p.ARN == who.ARN && p.ID == who.UniqueID, reachDirect)
	case strings.Contains(p.ARN, ":federated-user/"):
		return is(who.Type == policy.FederatedUser && p.ARN == who.ARN, reachDirect)
	case p.ID == "" || p.ID != who.UniqueID:
		return reachNone
	case who.Type == policy.RoleSession:
		return reachLimited
	}
	return is(who.Type == policy.User, reachDirect)
}

// withoutContext are the operations for which a grant's encryption context constraints count nothing: the first two have no
// context, and for CreateGrant they bound the child (KMS developer guide, "Using grant constraints").
var withoutContext = key.GrantOperation("DescribeKey") | key.GrantOperation("RetireGrant") | key.GrantOperation("CreateGrant")

// fits reports whether the constraints of the grant hold.
func (c *Call) fits(g *key.Grant, r *Resource, operation key.GrantOperations) bool {
	limits := &g.Constraints
	open := c.supposes()
	switch {
	case limits.SourceARN != "" && !(open && c.Forward == nil) && (c.Forward == nil || c.Forward.SourceARN == "" || !policy.MatchARN(limits.SourceARN, c.Forward.SourceARN)):
		return false
	case !withoutContext.Has(operation) && !(open && r.EncryptionContext == nil) && !limits.Meets(r.EncryptionContext):
		return false
	}
	return r.GrantFits == nil || r.GrantFits(g)
}

// retires says how far the right to retire a grant carries: for its retiring principal and a grantee with RetireGrant all the
// way, for principals of the issuing account as far as their identity policies do.
func (c *Call) retires(r *Resource) reach {
	who, g := c.Caller, r.Retiring
	if r.Key == nil || g.Key != r.Key.Name {
		return reachNone
	}
	best := who.named(&g.Retiring)
	if g.Operations.Has(key.GrantOperation("RetireGrant")) {
		best = max(best, who.named(&g.Grantee))
	}
	if g.Issuer != who.Account || !who.belongs() {
		return best
	}
	if who.Type == policy.AccountRoot {
		return reachDirect
	}
	return max(best, reachDelegated)
}
