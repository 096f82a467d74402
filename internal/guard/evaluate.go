package guard

import (
	"errors"
	"fmt"
	"slices"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
)

// PolicyType is a type of policy by its place in a decision.
type PolicyType uint8

// The types, in the order in which one of several that deny is named.
const (
	NoPolicy        PolicyType = iota
	ServiceControl             // of the caller's account
	ResourceControl            // of the resource's account
	ResourceBased              // the policy of a key or role, and grants
	IdentityBased              // of the user and its groups, or the role
	Boundary                   // permissions boundary
	SessionBased               // handed over when the session was made
)

var policyTypes = [...]string{
	"", "service control policy", "resource control policy", "resource-based policy", "identity-based policy", "permissions boundary", "session policy",
}

// String returns the type's name as refusals have it ("Troubleshoot access denied error messages", IAM user guide).
func (t PolicyType) String() string { return policyTypes[t] }

// one returns the name with its article.
func (t PolicyType) one() string {
	if t == IdentityBased {
		return "an " + t.String()
	}
	return "a " + t.String()
}

// ruling is the outcome of a decision.
type ruling struct {
	allowed  bool
	explicit bool       // a Deny statement applies
	by       PolicyType // what denies or, without explicit, what is missing
	policy   *Policy    // explicit: the policy with the Deny; nil if it is the resource's own
	grant    *key.Grant // allowed: the grant that did it; nil if policies did
	foreign  bool       // the resource is another account's: the reason is not for the caller
	barred   bool       // the resource is another account's, and no policy can change that
}

// voice is what the policies of one type say together. Where no such policy is attached, the type does not apply and
// takes nothing.
type voice struct {
	applies bool
	effect  policy.Effect
	denier  *Policy
}

func (v *voice) allows() bool { return !v.applies || v.effect == policy.Allow }

// voices are those of all types. resource has the way in which the resource's policy names the caller.
type voices struct {
	by    [SessionBased + 1]voice
	match policy.Match
}

// reach says how far an allow on the resource's side carries. Of two the greater one needs less.
type reach uint8

const (
	reachNone      reach = iota
	reachDelegated       // the account is named: identity policies must allow too, within boundary and session policies
	reachLimited         // the role is named, or everybody: boundary and session policies must allow too
	reachDirect          // exactly the caller is named: nothing else has to allow
)

// decide is the one place where access is decided; explanations and simulations come through here as well.
func (c *Call) decide(r *Resource) (ruling, error) {
	who := c.Caller
	if who == nil || who.Type == policy.Anonymous {
		return ruling{}, errNobody
	}
	if r.Key != nil && r.Policy == nil {
		return ruling{}, errors.New("no key policy")
	}
	c.prepare(r)
	owner := r.owner(who)
	foreign := owner != who.Account && who.belongs()
	var all voices
	if err := c.hear(&all, r, owner); err != nil {
		return ruling{}, err
	}
	if c.trace != nil {
		c.trace.all = all
	}
	out, err := c.rule(&all, r, foreign, who.barred(r, owner))
	if err == nil {
		err = c.circumstances.failed
	}
	if err != nil {
		return ruling{}, err
	}
	out.foreign = owner != who.Account
	return out, nil
}

// belongs reports whether the caller is an account's. Services and bearers of web identities are nobody's: no account's
// controls bind them, no identity policies can give them anything, and only their own names in a resource's policy count.
func (who *Caller) belongs() bool {
	return who.Type != policy.Service && who.Type != policy.WebIdentity
}

// barred reports whether the caller has no business with the resource, whatever its policy says: it is another account's, and
// the operation is not for other accounts, or the service does not serve that account, or the provider of the web identity
// is not that account's.
func (who *Caller) barred(r *Resource, owner arn.Account) bool {
	switch {
	case owner == who.Account:
		return false
	case who.belongs():
		return !r.Foreign || r.Policy == nil
	}
	return !slices.Contains(who.Serves, owner)
}

// prepare sets the question. It lives in the Call, so that a decision allocates nothing.
func (c *Call) prepare(r *Resource) {
	who := c.Caller
	c.principal = policy.Principal{
		Type: who.Type, Account: string(who.Account), ARN: who.ARN, RoleARN: who.RoleARN, ID: who.UniqueID, Service: who.Service,
	}
	switch who.Type {
	case policy.Service:
		c.principal.Account = ""
	case policy.FederatedUser: // known by its name; a unique id would be that of the user that sent it
		c.principal.ID = ""
	}
	if who.Type == policy.WebIdentity && who.Session != nil {
		c.principal.Federated = who.Session.Provider
	}
	inputs, supposed := c.circumstances.inputs, c.circumstances.supposed
	inputs.reset()
	c.circumstances = circumstances{call: c, about: *r, inputs: inputs, supposed: supposed}
	c.question = policy.Request{
		Principal: &c.principal, Action: r.Action.name, Resource: r.ARN, Context: &c.circumstances,
		Explain: c.trace != nil, Suppose: supposed != nil && supposed.open,
	}
}

// hear asks every policy that has a say.
func (c *Call) hear(all *voices, r *Resource, owner arn.Account) error {
	who := c.Caller
	if d := c.directory(); d != nil {
		if who.belongs() {
			list, err := d.ServiceControls(who.Account)
			if err != nil {
				return fmt.Errorf("reading service control policies: %w", err)
			}
			all.by[ServiceControl] = c.listen(ServiceControl, list, len(list) > 0)
		}
		if r.controllable() {
			list, err := d.ResourceControls(owner)
			if err != nil {
				return fmt.Errorf("reading resource control policies: %w", err)
			}
			// They can only deny: the one that allows everything is always attached and cannot be replaced.
			all.by[ResourceControl] = c.listen(ResourceControl, list, false)
		}
	}
	if r.Policy != nil {
		said := c.ask(ResourceBased, nil, r.Policy)
		all.by[ResourceBased], all.match = voice{applies: true, effect: said.Effect}, said.Match
		if who.Type == policy.FederatedUser && who.Session != nil && who.Session.IssuerType == "User" {
			c.askAboutSender(&all.by[ResourceBased], &all.match, r.Policy)
		}
	}
	var rights Rights
	if who.Rights != nil {
		rights = *who.Rights
	}
	all.by[IdentityBased] = c.listen(IdentityBased, rights.Identity, true)
	if who.sovereign() {
		all.by[IdentityBased].effect = policy.Allow
	}
	if rights.Boundary != nil {
		said := c.ask(Boundary, rights.Boundary, rights.Boundary.Document)
		all.by[Boundary] = voice{applies: true, effect: said.Effect, denier: rights.Boundary}
	}
	if who.Session != nil {
		// A federated user without session policies has no rights but those of resources that name it (GetFederationToken,
		// STS API reference); every other session without them has all rights of its user or role.
		applies := who.Session.Policies != nil || who.Type == policy.FederatedUser
		all.by[SessionBased] = c.listen(SessionBased, who.Session.Policies, applies)
	}
	return nil
}

// sovereign reports whether the caller needs no identity policies: the root user, and federated users that it sent.
func (who *Caller) sovereign() bool {
	return who.Type == policy.AccountRoot || who.Type == policy.FederatedUser && who.Session != nil && who.Session.IssuerType == "Root"
}

// controllable reports whether resource control policies cover the resource: keys, aliases, and roles that are being
// assumed, but no IAM entities ("Resource control policies", AWS Organizations user guide).
func (r *Resource) controllable() bool {
	return r.ARN != "*" && (r.Policy != nil || len(r.Action.name) > 4 && r.Action.name[:4] == "kms:")
}

// listen asks the policies of one type. Any of them can allow, and any can deny.
func (c *Call) listen(t PolicyType, list []Policy, applies bool) voice {
	v := voice{applies: applies}
	for i := range list {
		said := c.ask(t, &list[i], list[i].Document)
		if said.Effect == policy.Deny && v.effect != policy.Deny {
			v.denier = &list[i]
		}
		v.effect = max(v.effect, said.Effect)
	}
	return v
}

// ask asks one document. from says where it comes from; nil for the resource's own.
func (c *Call) ask(t PolicyType, from *Policy, doc *policy.Document) policy.Decision {
	said := doc.Evaluate(&c.question)
	if c.trace != nil {
		c.trace.heard(t, from, &said, c.Caller)
	}
	return said
}

// askAboutSender asks the resource's policy about the user that sent a federated user. What it allows and denies to the user it
// does to the federated one, within the session policies ("Session policies", IAM user guide), as it does to a role's sessions.
func (c *Call) askAboutSender(v *voice, match *policy.Match, doc *policy.Document) {
	sender := c.Caller.Session
	federated := c.principal
	c.principal = policy.Principal{Type: policy.User, Account: federated.Account, ARN: sender.IssuerARN, ID: sender.IssuerID}
	said := doc.Evaluate(&c.question)
	c.principal = federated
	asRole := func(m policy.Match) policy.Match {
		if m&policy.MatchExact != 0 {
			return policy.MatchRole
		}
		return 0
	}
	for i := range said.Reasons {
		said.Reasons[i].Match = asRole(said.Reasons[i].Match)
	}
	if c.trace != nil {
		c.trace.heard(ResourceBased, nil, &said, c.Caller)
	}
	v.effect = max(v.effect, said.Effect)
	*match |= asRole(said.Match)
}

// rule adds up what the policies say.
func (c *Call) rule(all *voices, r *Resource, foreign, barred bool) (ruling, error) {
	for t := ServiceControl; t <= SessionBased; t++ {
		if all.by[t].effect == policy.Deny {
			return ruling{explicit: true, by: t, policy: all.by[t].denier}, nil
		}
	}
	if barred {
		return ruling{by: ResourceBased, barred: true}, nil
	}
	if !all.by[ServiceControl].allows() {
		return ruling{by: ServiceControl}, nil
	}
	if r.Policy == nil { // the account's own, and its identity policies alone decide
		return all.settle(reachDelegated, nil), nil
	}
	best := c.reach(all.match, foreign)
	if r.Retiring != nil {
		best = c.retires(r)
	}
	out := all.settle(best, nil)
	if r.Retiring != nil || out.allowed && c.trace == nil {
		return out, nil
	}
	byGrant, err := c.ruleByGrants(all, r, best)
	if err != nil || !out.allowed {
		return byGrant, err
	}
	return out, nil
}

// settle says what comes of an allow of the resource's side.
func (all *voices) settle(far reach, grant *key.Grant) ruling {
	switch {
	case far == reachNone:
		return ruling{by: ResourceBased}
	case far == reachDirect:
	case far == reachDelegated && !all.by[IdentityBased].allows():
		return ruling{by: IdentityBased}
	case !all.by[Boundary].allows():
		return ruling{by: Boundary}
	case !all.by[SessionBased].allows():
		return ruling{by: SessionBased}
	}
	return ruling{allowed: true, grant: grant}
}

// reach says how far the allow of a resource's policy carries for the caller that it names in these ways.
func (c *Call) reach(match policy.Match, foreign bool) reach {
	who := c.Caller
	switch {
	case match == 0:
		return reachNone
	case !who.belongs():
		// "*" is everybody with an account; a service or web identity has to be named.
		if match&policy.MatchExact != 0 {
			return reachDirect
		}
		return reachNone
	case who.Type == policy.AccountRoot && (foreign || match&(policy.MatchExact|policy.MatchAnyone) != 0):
		return reachDirect
	case foreign: // an account never gives more to its principals than it gives itself: both sides must allow
		return reachDelegated
	case match&policy.MatchExact != 0, match&policy.MatchAnyone != 0 && who.Type == policy.User:
		return reachDirect
	case match&(policy.MatchRole|policy.MatchAnyone) != 0:
		return reachLimited
	}
	return reachDelegated
}
