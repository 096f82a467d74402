package guard

import (
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/wire"
)

// Deny returns the refusal that tells a caller of another account nothing but that it is refused.
func (c *Call) Deny(a Action, resourceARN string) error { return c.deny(a, resourceARN, "") }

// refuse words a ruling that does not allow ("Troubleshoot access denied error messages", IAM user guide). The kind of policy
// that denies is for principals of the resource's own account only; for them a managed policy is named, too.
func (c *Call) refuse(r *Resource, out *ruling) error {
	reason := ""
	switch {
	case out.foreign || r.Terse:
	case out.explicit:
		reason = " with an explicit deny in " + out.by.one()
		if out.policy != nil && out.policy.ARN != "" {
			reason += ": " + out.policy.ARN
		}
	default:
		reason = " because no " + out.by.String() + " allows the " + r.Action.name + " action"
	}
	e := c.deny(r.Action, r.ARN, reason)
	if !out.foreign && !r.Terse { // else a token, or its length, would tell what the text does not
		e.Authorization = c.sealed(r)
	}
	return e
}

// deny words a refusal. The services of the Query protocol spell the code AccessDenied, which is the wire's business.
func (c *Call) deny(a Action, resourceARN, reason string) *wire.Error {
	who := c.Caller
	if who.Type == policy.WebIdentity { // STS has another sentence for those who are nobody yet
		return &wire.Error{Code: wire.CodeAccessDenied, Message: "Not authorized to perform " + a.name}
	}
	resource := " on resource: " + resourceARN
	if c.Forward != nil && c.Forward.ViaService != "" {
		resource = " on this resource" // the service's business, not its user's
	}
	return &wire.Error{Code: wire.CodeAccessDenied, Message: "User: " + who.displayed() + " is not authorized to perform: " + a.name + resource + reason}
}
