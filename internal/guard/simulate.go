package guard

import (
	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/policy"
)

// Simulation asks what policies that need not be in force would make of one action on one resource. It serves the
// operations SimulatePrincipalPolicy and SimulateCustomPolicy of IAM.
type Simulation struct {
	// Caller is who would call, for conditions and for the principals that Resource names. nil is some user of Account that
	// nothing is known of, and whom no control policies bind.
	Caller  *Caller
	Account arn.Account // with a nil Caller

	Identity []Policy         // take the place of the caller's own
	Boundary *Policy          // likewise; nil for none
	Resource *policy.Document // the resource's policy; nil: the resource has none, and identity policies alone decide
	Owner    arn.Account      // whose the resource is, with Resource; empty: the caller's account

	Action string // such as kms:Decrypt
	ARN    string // or "*"
	// Values are what condition keys shall have, by their names in documents. Others are there only if the caller has them.
	Values map[string][]string
}

// Simulate decides by the same rules as Authorize. The Explanation's Allowed and Explicit are the three decisions of the
// operations: allowed, explicitDeny and implicitDeny.
func (g *Guard) Simulate(s Simulation) (*Explanation, error) {
	c := &Call{guard: g}
	who := Caller{Type: policy.User, Account: s.Account}
	if s.Caller != nil {
		who = *s.Caller
	} else {
		c.guard = nil
	}
	who.Rights = &Rights{Identity: s.Identity, Boundary: s.Boundary}
	c.Caller = &who
	r := Resource{Action: NewAction(s.Action), ARN: s.ARN, Policy: s.Resource, Owner: s.Owner, Foreign: true}
	if r.Owner == "" || r.Policy == nil {
		r.Owner = who.Account
	}
	return c.suppose(&Question{Resource: r, Values: s.Values})
}
