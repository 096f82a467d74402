package guard

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
)

// Question asks what would come of a call. It needs no call and makes no Permit.
type Question struct {
	Caller   *Caller
	Region   arn.Region // empty: not known
	Time     time.Time  // zero: not known
	Forward  *Forward   // the call comes from a registered service; nil for a direct one
	Resource Resource

	// Values are what condition keys shall have, by their names in documents. They outweigh everything else. An empty list
	// makes a key absent.
	Values map[string][]string
	// Suppose asks what could be: what nobody has said anything about, such as the encryption context of some call to come,
	// may be whatever lets the caller in. The Explanation then lists what that is.
	Suppose bool
	// Keys are the names of the condition keys of the service that a call of the action can have, and whether a call can tag;
	// nil if that is not known. Others are absent, also in what is only supposed.
	Keys []policy.Key
}

// Explanation says why a call is allowed or denied. It is for administrators: never for the caller that was refused.
type Explanation struct {
	Principal string `json:"principal"`
	Action    string `json:"action"`
	Resource  string `json:"resource"`
	Allowed   bool   `json:"allowed"`
	// Explicit, of a denial, says that a Deny statement applies; By is the type of the policy that has it or, without
	// Explicit, of the one that is missing.
	Explicit bool   `json:"explicitDeny"`
	By       string `json:"by,omitempty"`
	// Barred says that the resource is another account's and the operation, or the service, is not for other accounts'.
	Barred bool `json:"barred,omitempty"`
	// Ways are those in which the caller is allowed; there can be several, one of which is enough.
	Ways []Way `json:"ways,omitempty"`
	// Unless, with Suppose, are the conditions under which a Deny would apply to all ways.
	Unless []string `json:"unless,omitempty"`
	// Policies are all that had a say, in the order in which they are named when several deny, and Grants all for the caller.
	Policies []Explained      `json:"policies"`
	Grants   []ExplainedGrant `json:"grants,omitempty"`
	// Values are the condition keys that were asked for, with the values that they had; none for one that was absent.
	Values []AskedValue `json:"values,omitempty"`

	by PolicyType
}

// Way is a path on which a call is allowed.
type Way struct {
	Path    string   `json:"path"`              // in words: "the key policy names the role"
	GrantID string   `json:"grantId,omitempty"` // if a grant allows
	Shared  bool     `json:"shared,omitempty"`  // the identity policies have to allow besides
	Given   []string `json:"given,omitempty"`   // with Suppose: what it depends on; all of it has to be
}

// Explained is one policy with what it says.
type Explained struct {
	Type       string      `json:"type"` // "identity-based policy" and so on
	ARN        string      `json:"arn,omitempty"`
	Name       string      `json:"name,omitempty"`
	Holder     string      `json:"holder,omitempty"`
	Effect     string      `json:"effect"` // none, allow or deny
	Statements []Statement `json:"statements"`

	kind PolicyType
}

// Statement is one statement of a policy and whether it applies.
type Statement struct {
	Index     int      `json:"index"`
	Sid       string   `json:"sid,omitempty"`
	Effect    string   `json:"effect"` // allow or deny, as written
	Applies   bool     `json:"applies"`
	Names     string   `json:"names,omitempty"`     // how it names the caller
	Failed    string   `json:"failed,omitempty"`    // the part that does not match
	Condition string   `json:"condition,omitempty"` // the condition that does not hold
	Want      []string `json:"want,omitempty"`      // its values in the policy
	Have      []string `json:"have,omitempty"`      // and in the request
	Given     []string `json:"given,omitempty"`     // with Suppose: what it depends on

	match policy.Match
}

// ExplainedGrant is one grant for the caller that has the operation.
type ExplainedGrant struct {
	ID     string   `json:"grantId"`
	Name   string   `json:"name,omitempty"`
	Holds  bool     `json:"holds"` // its constraints do
	Allows bool     `json:"allows"`
	Given  []string `json:"given,omitempty"`
}

// AskedValue is a condition key that a policy asked for.
type AskedValue struct {
	Key    string   `json:"key"`
	Values []string `json:"values,omitempty"`
}

// Explain decides a question just as Authorize does and says why.
func (g *Guard) Explain(q Question) (*Explanation, error) {
	c := &Call{Meta: Meta{Time: q.Time}, Caller: q.Caller, Forward: q.Forward, Region: q.Region, guard: g}
	c.circumstances.supposed = &supposed{values: map[policy.Key]policy.Values{}, open: q.Suppose, keys: q.Keys}
	for name, values := range q.Values {
		c.circumstances.supposed.values[policy.ParseKey(name)] = policy.Many(values)
	}
	c.settleContext(&q)
	return c.explain(&q.Resource)
}

// settleContext makes an encryption context that was given as values of condition keys known to grants, and the other way.
func (c *Call) settleContext(q *Question) {
	const prefix = "kms:encryptioncontext:"
	values := c.circumstances.supposed.values
	if q.Resource.EncryptionContext == nil {
		for name, list := range q.Values {
			if len(name) > len(prefix) && strings.EqualFold(name[:len(prefix)], prefix) && len(list) == 1 {
				if q.Resource.EncryptionContext == nil {
					q.Resource.EncryptionContext = map[string]string{}
				}
				q.Resource.EncryptionContext[name[len(prefix):]] = list[0]
			}
		}
	}
	keys := slices.Sorted(maps.Keys(q.Resource.EncryptionContext))
	var facts Facts // as an operation gives them: names that differ in letter case only are one key
	for _, k := range keys {
		facts.String(prefix+k, q.Resource.EncryptionContext[k])
	}
	for _, f := range facts.list {
		values[f.key] = f.values
	}
	every := policy.ParseKey("kms:EncryptionContextKeys")
	if _, said := values[every]; !said && q.Resource.EncryptionContext != nil {
		values[every] = policy.Many(keys)
	}
}

// explain decides with a trace and writes down what it heard.
func (c *Call) explain(r *Resource) (*Explanation, error) {
	c.trace = &trace{}
	out, err := c.decide(r)
	if err != nil {
		return nil, err
	}
	t := c.trace
	e := &Explanation{
		Principal: c.Caller.displayed(), Action: r.Action.name, Resource: r.ARN, Allowed: out.allowed, Explicit: out.explicit, By: out.by.String(), Barred: out.barred, by: out.by,
		Policies: t.policies, Values: t.values,
	}
	for _, g := range t.grants {
		e.Grants = append(e.Grants, g.ExplainedGrant)
	}
	if !out.allowed {
		return e, nil
	}
	e.Ways = c.ways(r, out.foreign)
	for _, p := range t.policies {
		for _, s := range p.Statements {
			if s.Effect == "deny" && len(s.Given) > 0 {
				e.Unless = append(e.Unless, strings.Join(s.Given, " and ")+" ("+p.label()+", "+s.label()+")")
			}
		}
	}
	return e, nil
}

// supposed is set in the circumstances of a question.
type supposed struct {
	values map[policy.Key]policy.Values
	open   bool         // what is not there may be anything, but for what Absent knows
	keys   []policy.Key // of the service, that a call can have; nil for any
}

// ofInput reports whether a key comes with the input of a call, and with no other.
func ofInput(k policy.Key) bool {
	return strings.HasPrefix(k.Name, "kms:") || k.Name == "aws:requesttag" || k.Name == "aws:tagkeys"
}

// never are condition keys that no request here ever has.
var never = []string{
	"aws:principalorgid", "aws:principalorgpaths", "aws:resourceorgid", "aws:resourceorgpaths", "aws:sourceorgid", "aws:sourceorgpaths",
	"aws:sourcevpc", "aws:sourcevpce", "aws:vpcsourceip", "aws:multifactorauthage", "aws:assumedroot", "aws:referer",
}

// Absent implements policy.Settled: it knows of what is certain not to be there, as things are, in a call that is only
// supposed. All of it is about the caller and the resource; the call itself is open.
func (c *circumstances) Absent(k policy.Key) bool {
	if c.supposed == nil || !c.supposed.open {
		return true
	}
	if v, said := c.supposed.values[k]; said {
		return v.Len() == 0
	}
	who := c.call.Caller
	switch k.Name {
	case "aws:username", "aws:principalarn", "aws:principalaccount", "aws:principalservicename", "aws:principalservicenameslist",
		"aws:resourcetag", "aws:resourceaccount", "kms:calleraccount", "kms:resourcealiases", "kms:multiregionkeytype":
		return true
	case "aws:principaltag", "aws:federatedprovider", "aws:sourceidentity": // sessions come with their own
		return who.Type != policy.RoleSession
	case "aws:multifactorauthpresent", "aws:tokenissuetime": // a user has long-term credentials, or sessions of them
		return false
	}
	possible := c.supposed.keys
	if possible != nil && ofInput(k) && !slices.ContainsFunc(possible, func(p policy.Key) bool { return p.Name == k.Name }) {
		return true
	}
	return slices.Contains(never, k.Name)
}

// trace collects what was heard in a decision.
type trace struct {
	policies []Explained
	grants   []tracedGrant
	values   []AskedValue
	all      voices
}

type tracedGrant struct {
	ExplainedGrant
	reach reach
}

func (t *trace) heard(kind PolicyType, from *Policy, said *policy.Decision, who *Caller) {
	e := Explained{Type: kind.String(), Effect: said.Effect.String(), kind: kind}
	if from != nil {
		e.ARN, e.Name, e.Holder = from.ARN, from.Name, from.Holder
	}
	for i := range said.Reasons {
		r := &said.Reasons[i]
		s := Statement{
			Index: r.Statement, Sid: r.Sid, Effect: r.Effect.String(), Applies: r.Failed == policy.NoPart, Failed: r.Failed.String(),
			Condition: r.Condition, Want: r.Want, Have: r.Have, Given: r.Given, match: r.Match,
		}
		if kind == ResourceBased {
			s.Names = named(r.Match, who)
		}
		e.Statements = append(e.Statements, s)
	}
	t.policies = append(t.policies, e)
}

// named says in words how a statement names the caller.
func named(m policy.Match, who *Caller) string {
	if m == policy.MatchRole && who.Type == policy.FederatedUser {
		return "the user that sent it"
	}
	var list []string
	for bit, text := range map[policy.Match]string{policy.MatchExact: "the principal", policy.MatchRole: "the role", policy.MatchAccount: "the account", policy.MatchAnyone: "everybody"} {
		if m&bit != 0 {
			list = append(list, text)
		}
	}
	slices.Sort(list)
	return strings.Join(list, " and ")
}

func (t *trace) looked(g *key.Grant, holds bool, far reach, out *ruling, given []string) {
	t.grants = append(t.grants, tracedGrant{ExplainedGrant{ID: g.ID, Name: g.Name, Holds: holds, Allows: holds && out.allowed, Given: given}, far})
}

func (t *trace) asked(k policy.Key, v policy.Values) {
	name := k.String()
	for i := range t.values {
		if t.values[i].Key == name {
			return
		}
	}
	t.values = append(t.values, AskedValue{Key: name, Values: all(v)})
}

// ways lists every path on which the decision was an allow.
func (c *Call) ways(r *Resource, foreign bool) []Way {
	var list []Way
	t := c.trace
	add := func(path, grant string, far reach, given []string) {
		if out := t.all.settle(far, nil); out.allowed {
			list = append(list, Way{Path: path + c.besides(far), GrantID: grant, Shared: c.besides(far) != "", Given: append(slices.Clone(given), t.needs(far, c.Caller)...)})
		}
	}
	if r.Policy == nil {
		path := "the identity-based policies allow"
		if c.Caller.sovereign() {
			path = "the account is the root user's"
		}
		if out := t.all.settle(reachDelegated, nil); out.allowed {
			list = append(list, Way{Path: path, Given: t.needs(reachDelegated, c.Caller)})
		}
		return list
	}
	if r.Retiring != nil {
		add("the grant lets the principal retire it", r.Retiring.ID, c.retires(r), nil)
		return list
	}
	for _, p := range t.policies {
		for _, s := range p.Statements {
			if p.kind == ResourceBased && s.Applies && s.Effect == "allow" {
				add("the resource's policy, "+s.label()+", names "+s.Names, "", c.reach(s.match, foreign), s.Given)
			}
		}
	}
	for _, g := range t.grants {
		if g.Allows {
			add("a grant", g.ID, g.reach, g.Given)
		}
	}
	return list
}

// besides says what else allows on a way.
func (c *Call) besides(far reach) string {
	if far == reachDelegated && !c.Caller.sovereign() {
		return ", and the identity-based policies allow"
	}
	return ""
}

// needs returns what all of the types of policies that have to allow, on a way of that reach, depend on together.
func (t *trace) needs(far reach, who *Caller) (given []string) {
	for kind := ServiceControl; kind <= SessionBased; kind++ {
		switch {
		case kind == ResourceBased, !t.all.by[kind].applies,
			kind == IdentityBased && (far != reachDelegated || who.sovereign()),
			kind > IdentityBased && far == reachDirect:
			continue
		}
		if line := t.alternatives(kind); line != "" {
			given = append(given, line)
		}
	}
	return given
}

// alternatives returns what the statements of a type of policy depend on, of which one has to apply; empty if one does in any case.
func (t *trace) alternatives(kind PolicyType) string {
	var any []string
	for _, p := range t.policies {
		if p.kind != kind {
			continue
		}
		for _, s := range p.Statements {
			if !s.Applies || s.Effect != "allow" {
				continue
			}
			if len(s.Given) == 0 {
				return ""
			}
			any = append(any, strings.Join(s.Given, " and "))
		}
	}
	return strings.Join(any, " or ")
}

// unsaid returns the constraints of a grant that a question leaves open.
func (c *Call) unsaid(g *key.Grant, r *Resource, operation key.GrantOperations) (given []string) {
	limits := &g.Constraints
	if !c.supposes() {
		return nil
	}
	if limits.SourceARN != "" && c.Forward == nil {
		given = append(given, "SourceArn = "+limits.SourceARN)
	}
	if r.EncryptionContext == nil && !withoutContext.Has(operation) {
		given = append(given, pairs("EncryptionContextEquals", limits.Equals)...)
		given = append(given, pairs("EncryptionContextSubset", limits.Subset)...)
	}
	return given
}

func pairs(what string, context map[string]string) []string {
	if len(context) == 0 {
		return nil
	}
	var list []string
	for k, v := range context {
		list = append(list, k+"="+v)
	}
	slices.Sort(list)
	return []string{what + " = " + strings.Join(list, ", ")}
}

// supposes reports whether what is not known may be anything.
func (c *Call) supposes() bool {
	return c.circumstances.supposed != nil && c.circumstances.supposed.open
}

// displayed returns the name of the caller in refusals and explanations.
func (who *Caller) displayed() string {
	if who.Type == policy.Service {
		return who.Service
	}
	return who.ARN
}

func (s *Statement) label() string {
	text := "statement " + strconv.Itoa(s.Index+1)
	if s.Sid != "" {
		text += " (" + s.Sid + ")"
	}
	return text
}

func (e *Explained) label() string {
	name := e.ARN
	if name == "" {
		name = e.Name
	}
	text := e.Type
	if name != "" {
		text += " " + name
	}
	if e.Holder != "" {
		text += " of " + e.Holder
	}
	return text
}

// String tells the explanation in lines for people.
func (e *Explanation) String() string {
	var b strings.Builder
	say := func(parts ...string) {
		for _, p := range parts {
			b.WriteString(p)
		}
		b.WriteByte('\n')
	}
	switch {
	case e.Allowed:
		say("allowed: ", e.Principal, " may ", e.Action, " on ", e.Resource)
	case e.Explicit:
		say("denied: ", e.Principal, " may not ", e.Action, " on ", e.Resource, " with an explicit deny in ", e.by.one())
	case e.Barred:
		say("denied: ", e.Principal, " may not ", e.Action, " on ", e.Resource, " because that is another account's")
	default:
		say("denied: ", e.Principal, " may not ", e.Action, " on ", e.Resource, " because no ", e.By, " allows it")
	}
	for _, w := range e.Ways {
		say("  because ", w.Path, label(" ", w.GrantID))
		for _, g := range w.Given {
			say("    given ", g)
		}
	}
	for _, u := range e.Unless {
		say("  unless ", u)
	}
	for _, p := range e.Policies {
		say(p.label(), ": ", p.Effect)
		for _, s := range p.Statements {
			say("  ", s.label(), ", ", s.Effect, ": ", s.outcome())
		}
	}
	for _, g := range e.Grants {
		text := "its constraints do not hold"
		if g.Holds {
			text = "its constraints hold"
		}
		say("grant ", g.ID, label(" ", g.Name), ": ", text)
	}
	return b.String()
}

func label(before, text string) string {
	if text == "" {
		return ""
	}
	return before + text
}

// outcome says whether the statement applies, or the first thing about it that does not match.
func (s *Statement) outcome() string {
	switch {
	case s.Applies && s.Names != "":
		return "applies, names " + s.Names
	case s.Applies:
		return "applies"
	case s.Condition == "":
		return "another " + s.Failed
	}
	have := "the key is absent"
	if s.Have != nil {
		have = "the request has " + strings.Join(s.Have, ", ")
	}
	return "condition " + s.Condition + " = " + strings.Join(s.Want, ", ") + " does not hold: " + have
}
