package guard

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/steps"
	"github.com/keywright/keywright/internal/wire"
)

// Resource is what a call wants to do, and to what.
type Resource struct {
	Action Action
	ARN    string           // of the key, alias, role, … ; "*" for operations without a resource
	Key    *key.Key         // nil for everything that is no key
	Policy *policy.Document // the key's or role's own policy, bound to unique ids; required with Key, nil for what has none

	Foreign bool          // the operation works on keys (or roles) of other accounts
	Terse   bool          // refusals give no reason, to whomever: AssumeRole
	Alias   arn.AliasName // the alias through which the client named the key, if it did

	Grants    Grants                // the grants of the key; nil for none
	GrantFits func(*key.Grant) bool // what a grant must meet besides; nil for nothing. CreateGrant: that it covers the child
	// Retiring is the grant that RetireGrant wants to end. It alone gives the right to that, to its retiring principal, its
	// grantee or its issuer's account; the key's policy only can deny it.
	Retiring *key.Grant

	Owner arn.Account // whose resource it is, where there is no Key; empty: the account in ARN, or else the caller's
	Tags  []key.Tag   // aws:ResourceTag of a resource that is no key
	// Aliases returns the names of all of the key's aliases, kms:ResourceAliases; nil if there is none to ask. It is called
	// only if a policy asks, and if it fails the call does.
	Aliases func() ([]string, error)

	// EncryptionContext is what constraints of grants look at. The name of the member that holds it differs by operation.
	EncryptionContext map[string]string

	Facts FactSource // what conditions may ask about Input; nil for nothing
	Input wire.Input
}

// Grants finds the grants of one key.
type Grants interface {
	// Of returns the grants whose grantee is known by the given name: the unique id of a user or role (of sessions of the
	// role, too), the id of an account, the ARN of a federated user, or a service principal. The list must not be changed.
	Of(grantee string) ([]*key.Grant, error)
}

// owner returns the account whose resource it is.
func (r *Resource) owner(who *Caller) arn.Account {
	switch {
	case r.Key != nil:
		return r.Key.Account
	case r.Owner != "":
		return r.Owner
	}
	if a := accountOf(r.ARN); a != "" {
		return a
	}
	return who.Account
}

// accountOf returns the account in an ARN; empty if there is none.
func accountOf(s string) arn.Account {
	colons := 0
	for i := range len(s) {
		if s[i] != ':' {
			continue
		}
		if colons++; colons == 4 && len(s) > i+13 && s[i+13] == ':' {
			if a, err := arn.ParseAccount(s[i+1 : i+13]); err == nil {
				return a
			}
			return ""
		}
	}
	return ""
}

var errNobody = errors.New("nobody was identified")

// Authorize decides whether the caller may do what Resource says, and returns the Permit for it. A *wire.Error is a
// refusal in the service's words; any other error means that no decision could be made, and permits nothing either.
//
// Everything that has a say is heard each time: the control policies of the accounts, the resource's own policy, grants, the
// caller's identity policies, its boundary and its session policies. docs/authorization.md has the order.
func (c *Call) Authorize(r Resource) (Permit, error) {
	noted := c.Steps.Begin(steps.Authorize)
	out, err := c.decide(&r)
	noted.EndWith(err)
	if r.Key != nil && c.origin == "" {
		c.origin = r.Key.Origin
	}
	if err != nil {
		return Permit{}, fmt.Errorf("authorizing %s on %s: %w", r.Action.name, r.ARN, err)
	}
	if !out.allowed {
		return Permit{}, c.refuse(&r, &out)
	}
	p := Permit{uses: r.Action.uses, grant: out.grant, steps: c.Steps}
	if r.Key != nil {
		p.name = r.Key.Name
	}
	if r.Policy != nil {
		c.touches(r.owner(c.Caller))
	}
	return p, nil
}

// WouldAllow reports whether a key policy that is not yet in force would let the caller do something to the key, all other
// policies being as they are. It makes no Permit; the lockout safety check uses it.
func (c *Call) WouldAllow(doc *policy.Document, r Resource) bool {
	r.Policy = doc
	out, err := c.decide(&r)
	if err != nil {
		slog.Error("no decision about a new key policy", "requestId", c.RequestID, "err", err)
	}
	return err == nil && out.allowed
}

// Allows decides as Authorize does about one of many things that a call lists. It makes no Permit and words no refusal, and the
// record of the call says nothing of it. The error means that no decision could be made.
func (c *Call) Allows(r Resource) (bool, error) {
	out, err := c.decide(&r)
	if err != nil {
		return false, fmt.Errorf("deciding on %s for %s: %w", r.Action.name, r.ARN, err)
	}
	return out.allowed, nil
}
