package guard

import (
	"fmt"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/wire"
)

// Resource is what a call wants to do, and to what.
type Resource struct {
	Action Action
	ARN    string           // key ARN or alias ARN; "*" for operations without a resource
	Key    *key.Key         // nil for aliases and operations without a resource
	Policy *policy.Document // the key's policy; required with Key

	Foreign bool          // the operation works on keys of other accounts
	Alias   arn.AliasName // the alias through which the client named the key, if it did
	Grants  Grants        // the grants of the key; nil for none

	Owner arn.Account // whose resource it is, where there is no Key
	Tags  []key.Tag   // aws:ResourceTag of a resource that is no key

	// EncryptionContext is what constraints of grants look at. The name of the member that holds it differs by operation.
	EncryptionContext map[string]string

	Facts FactSource // what conditions may ask about Input; nil for nothing
	Input wire.Input
}

// Grants finds the grants of one key.
type Grants interface {
	// Of returns the grants whose grantee is known by the given name: the unique id of a user or role (of sessions of the
	// role, too), the id of an account, or a service principal. The list must not be changed.
	Of(grantee string) ([]*key.Grant, error)
}

// Authorize decides whether the caller may do what Resource says, and returns the Permit for it. The error is an
// AccessDeniedException in the service's words.
//
// Callers are root users of accounts. Like every principal, a root user has over a key only what the key's policy gives;
// over its account's aliases, and in operations without a resource, it may do everything.
func (c *Call) Authorize(r Resource) (Permit, error) {
	if c.Caller == nil {
		return Permit{}, fmt.Errorf("authorizing %s: nobody was identified", r.Action.name)
	}
	if r.Key == nil {
		return Permit{uses: r.Action.uses}, nil
	}
	if r.Policy == nil {
		return Permit{}, fmt.Errorf("authorizing %s on %s: no key policy", r.Action.name, r.ARN)
	}
	foreign := r.Key.Account != c.Caller.Account
	if foreign && !r.Foreign {
		return Permit{}, c.Deny(r.Action, r.ARN)
	}
	switch effect := c.evaluate(r.Policy, &r); {
	case effect == policy.Allow:
	case foreign:
		return Permit{}, c.Deny(r.Action, r.ARN) // to other accounts the reason stays untold
	case effect == policy.Deny:
		return Permit{}, c.deny(r.Action, r.ARN, " with an explicit deny in a resource-based policy")
	default:
		return Permit{}, c.deny(r.Action, r.ARN, " because no resource-based policy allows the "+r.Action.name+" action")
	}
	c.touches(r.Key.Account)
	return Permit{name: r.Key.Name, uses: r.Action.uses}, nil
}

// evaluate asks a key policy about the caller. That the policy allows the caller's account is enough for its root user,
// who needs no identity policy.
func (c *Call) evaluate(doc *policy.Document, r *Resource) policy.Effect {
	// These live in the Call, so that a decision allocates nothing.
	c.principal = policy.Principal{Type: policy.AccountRoot, Account: string(c.Caller.Account), ARN: c.Caller.ARN}
	inputs := c.circumstances.inputs
	inputs.reset()
	c.circumstances = circumstances{call: c, about: *r, inputs: inputs}
	c.question = policy.Request{Principal: &c.principal, Action: r.Action.name, Resource: r.ARN, Context: &c.circumstances}
	return doc.Evaluate(&c.question).Effect
}

// WouldAllow reports whether a key policy that is not yet in force would let the caller do something to the key. It
// makes no Permit; the lockout safety check uses it.
func (c *Call) WouldAllow(doc *policy.Document, r Resource) bool {
	return c.evaluate(doc, &r) == policy.Allow
}

// Deny returns the refusal that tells a caller of another account nothing but that it is refused.
func (c *Call) Deny(a Action, resourceARN string) error { return c.deny(a, resourceARN, "") }

// deny words a refusal ("Troubleshoot access denied error messages", IAM user guide).
func (c *Call) deny(a Action, resourceARN, because string) error {
	return &wire.Error{
		Code:    wire.CodeAccessDenied,
		Message: "User: " + c.Caller.ARN + " is not authorized to perform: " + a.name + " on resource: " + resourceARN + because,
	}
}
