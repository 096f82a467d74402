package iam

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/identity"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/iamapi"
)

// Simulations are decided by the guard, as real calls are: what differs is where the policies come from.

// simulation is what SimulateCustomPolicy and SimulatePrincipalPolicy ask.
type simulation struct {
	caller   *guard.Caller
	controls []guard.Directory // each of them has to let the call pass
	resource *policy.Document  // policy of the resource, nil for none
	owner    arn.Account
	values   map[string][]string
	sources  map[source]*written

	actions, resources []string
	marker             wire.Opt[string]
	limit              wire.Opt[int32]

	given int // octets of the policies that the request brings
}

// source tells one policy of a simulation from the others, as explanations name it.
type source struct{ holder, arn, name string }

// written is the text of a policy, and what the answer calls it.
type written struct {
	text, id, kind string

	places [][2]place // of its statements, once they were asked for
}

// Bounds of a simulation. mostActions is how much it asks in all; a page of it is decided at a time. mostText is how many
// octets the policies have that it brings.
const (
	mostActions = 10_000
	mostText    = 128 << 10
)

// mostWork bounds what one page costs: the sum of octets of policies times octets that they may be compared with. It is a second
// of one processor for the worst of policies, and far less for others.
const mostWork = 1 << 30

// asking is what the decision of one item costs besides the comparisons, in octets compared.
const asking = 256

// fixedControls are service control policies that a simulation brings.
type fixedControls []guard.Policy

// ServiceControls implements guard.Directory.
func (c fixedControls) ServiceControls(arn.Account) ([]guard.Policy, error) { return c, nil }

// ResourceControls implements guard.Directory.
func (fixedControls) ResourceControls(arn.Account) ([]guard.Policy, error) { return nil, nil }

// ownControls are the control policies of one account. What binds others nobody learns by simulating what they could do.
type ownControls struct {
	*Directory
	account arn.Account
}

// ServiceControls implements guard.Directory.
func (c ownControls) ServiceControls(a arn.Account) ([]guard.Policy, error) {
	if a != c.account {
		return nil, nil
	}
	return c.Directory.ServiceControls(a)
}

// ResourceControls implements guard.Directory.
func (c ownControls) ResourceControls(a arn.Account) ([]guard.Policy, error) {
	if a != c.account {
		return nil, nil
	}
	return c.Directory.ResourceControls(a)
}

// suppose compiles policies that a request brings.
func (s *simulation) suppose(kind policy.Kind, list string, texts []string) ([]guard.Policy, error) {
	var out []guard.Policy
	for i, text := range texts {
		name := list + "." + strconv.Itoa(i+1)
		if err := s.bring(text); err != nil {
			return nil, err
		}
		d, err := parse(kind, text)
		if errors.Is(err, errTooLarge) {
			return nil, overQuota("PolicySize", maxManaged)
		}
		if err != nil {
			return nil, unusable(name, err)
		}
		out = append(out, guard.Policy{Name: name, Document: d})
		s.sources[source{name: name}] = &written{text: text, id: name, kind: "none"}
	}
	return out, nil
}

// bring counts a policy that a request brings.
func (s *simulation) bring(text string) error {
	if s.given += len(text); s.given > mostText {
		return invalidInput("The policies have more than %d characters in all.", mostText)
	}
	return nil
}

// unusable is the refusal of a policy in a request that does not save it.
func unusable(name string, err error) error {
	var e *wire.Error
	if errors.As(err, &e) {
		return invalidInput("Invalid policy %s: %s", name, e.Message)
	}
	return err
}

// resourcePolicy compiles the policy of the resource.
func (s *simulation) resourcePolicy(given wire.Opt[string]) error {
	if !given.Set {
		return nil
	}
	if err := s.bring(given.V); err != nil {
		return err
	}
	d, err := parse(policy.KeyPolicy, given.V)
	if errors.Is(err, errTooLarge) {
		return overQuota("PolicySize", maxManaged)
	}
	if err != nil {
		return unusable("ResourcePolicy", err)
	}
	s.resource = d
	s.sources[source{}] = &written{text: given.V, id: "ResourcePolicy", kind: "resource"}
	return nil
}

// about takes what both operations have in common.
func (r *request) about(s *simulation, owner wire.Opt[string], entries []iamapi.ContextEntry) error {
	if s.owner = s.caller.Account; owner.Set {
		ref := parsePrincipal(owner.V)
		if ref.form != rootForm {
			return invalidInput("Invalid ResourceOwner: %s", owner.V)
		}
		s.owner = ref.account
	}
	for _, e := range entries {
		s.values[e.ContextKeyName.V] = e.ContextKeyValues
	}
	if len(s.resources) == 0 {
		s.resources = []string{"*"}
	}
	if len(s.actions)*len(s.resources) > mostActions {
		return invalidInput("Too many actions and resources")
	}
	for _, a := range s.actions {
		if !strings.Contains(a, ":") || strings.ContainsAny(a, "*?") {
			return invalidInput("Invalid action: %s", a)
		}
	}
	return nil
}

// supposedCaller is the user that a simulation is about: by its ARN, or nobody in particular.
func (r *request) supposedCaller(given wire.Opt[string], rights *guard.Rights) (*guard.Caller, error) {
	who := &guard.Caller{Type: policy.User, Account: r.account, ARN: r.iamARN("user/simulated"), Rights: rights}
	if !given.Set {
		return who, nil
	}
	ref := parsePrincipal(given.V)
	if ref.form != userForm {
		return nil, invalidInput("Invalid CallerArn: %s", given.V)
	}
	who.Account, who.ARN, who.Name = ref.account, given.V, ref.name
	id, _, err := r.Lookup(r.ctx, given.V)
	who.UniqueID, who.PrincipalID = id, id
	return who, err
}

func simulateCustomPolicy(r *request, in *iamapi.SimulateCustomPolicyRequest) (*iamapi.SimulatePolicyResponse, error) {
	s := &simulation{
		values: map[string][]string{}, sources: map[source]*written{}, actions: in.ActionNames, resources: in.ResourceARNs, marker: in.Marker, limit: in.MaxItems,
	}
	rights := new(guard.Rights)
	var err error
	if rights.Identity, err = s.suppose(policy.IdentityPolicy, "PolicyInputList", in.PolicyInputList); err != nil {
		return nil, err
	}
	if err := s.supposeBoundary(rights, in.PermissionsBoundaryPolicyInputList); err != nil {
		return nil, err
	}
	for i, level := range in.OrderedOrganizationPolicyInputList {
		list, err := s.suppose(policy.ServiceControlPolicy, fmt.Sprintf("OrderedOrganizationPolicyInputList.%d", i+1), level.ServiceControlPolicyInputList)
		if err != nil {
			return nil, err
		}
		s.controls = append(s.controls, fixedControls(list))
	}
	if err := s.resourcePolicy(in.ResourcePolicy); err != nil {
		return nil, err
	}
	if s.resource != nil && !in.CallerARN.Set {
		return nil, invalidInput("CallerArn is required with ResourcePolicy")
	}
	if s.caller, err = r.supposedCaller(in.CallerARN, rights); err != nil {
		return nil, err
	}
	if err := r.about(s, in.ResourceOwner, in.ContextEntries); err != nil {
		return nil, err
	}
	return r.simulate(s)
}

// supposeBoundary puts a permissions boundary in the place of the one that there is.
func (s *simulation) supposeBoundary(rights *guard.Rights, texts []string) error {
	if len(texts) > 1 {
		return invalidInput("PermissionsBoundaryPolicyInputList must contain one policy")
	}
	list, err := s.suppose(policy.BoundaryPolicy, "PermissionsBoundaryPolicyInputList", texts)
	if len(list) > 0 {
		rights.Boundary = &list[0]
	}
	return err
}

func simulatePrincipalPolicy(r *request, in *iamapi.SimulatePrincipalPolicyRequest) (*iamapi.SimulatePolicyResponse, error) {
	s := &simulation{
		values: map[string][]string{}, sources: map[source]*written{}, actions: in.ActionNames, resources: in.ResourceARNs, marker: in.Marker, limit: in.MaxItems,
		controls: []guard.Directory{ownControls{r.Directory, r.account}},
	}
	caller, err := r.sourceCaller(in.PolicySourceARN.V)
	if err != nil {
		return nil, err
	}
	rights := *caller.Rights
	if err := r.exclude(&rights, in.PolicyExclusionList); err != nil {
		return nil, err
	}
	r.remember(s, rights)
	more, err := s.suppose(policy.IdentityPolicy, "PolicyInputList", in.PolicyInputList)
	if err != nil {
		return nil, err
	}
	rights.Identity = append(rights.Identity, more...)
	if err := s.supposeBoundary(&rights, in.PermissionsBoundaryPolicyInputList); err != nil {
		return nil, err
	}
	if err := s.resourcePolicy(in.ResourcePolicy); err != nil {
		return nil, err
	}
	if in.CallerARN.Set {
		if s.caller, err = r.supposedCaller(in.CallerARN, &rights); err != nil {
			return nil, err
		}
	} else {
		as := *caller
		as.Rights, s.caller = &rights, &as
	}
	if err := r.about(s, in.ResourceOwner, in.ContextEntries); err != nil {
		return nil, err
	}
	return r.simulate(s)
}

// sourceCaller returns the caller that a user or role would be, or a user that has nothing but the policies of a group.
func (r *request) sourceCaller(given string) (*guard.Caller, error) {
	if ref := parsePrincipal(given); ref.account == r.account && ref.part == r.part {
		u, n := exact(&r.view.users, ref.name, ref.path), exact(&r.view.roles, ref.name, ref.path)
		switch {
		case ref.form == userForm && u != nil:
			return r.view.userCaller(u)
		case ref.form == roleForm && n != nil:
			return r.view.roleCaller(n, explained)
		}
	}
	for _, g := range r.view.groups.ids {
		if g.noun.ARN(r.part) == given {
			list, err := r.view.held(nil, given, g.documents, g.noun.Attached)
			who, _ := r.supposedCaller(wire.Opt[string]{}, &guard.Rights{Identity: list})
			return who, err
		}
	}
	return nil, notFound("The entity with ARN %s cannot be found.", given)
}

// exclude takes away the policies that a simulation is to go without.
func (r *request) exclude(rights *guard.Rights, list []iamapi.PolicyIdentifier) error {
	var identities, boundaries []iamapi.PolicyIdentifier
	for _, x := range list {
		if r.elsewhere(x.PolicyARN.V) {
			return invalidARN(x.PolicyARN.V)
		}
		switch x.PolicyType.V {
		case "scp", "rcp": // they are not the caller's to see, nor to do without
			return invalidInput("Policies of type %s cannot be excluded.", x.PolicyType.V)
		case "permission-boundary":
			boundaries = append(boundaries, x)
		default:
			identities = append(identities, x)
		}
	}
	rights.Identity = slices.DeleteFunc(slices.Clone(rights.Identity), func(p guard.Policy) bool { return r.excluded(identities, p) })
	if rights.Boundary != nil && r.excluded(boundaries, *rights.Boundary) {
		rights.Boundary = nil
	}
	return nil
}

// excluded reports whether a simulation is to go without a policy.
func (r *request) excluded(list []iamapi.PolicyIdentifier, p guard.Policy) bool {
	for _, x := range list {
		if p.ARN != "" && x.PolicyARN.V == p.ARN {
			return true
		}
		inline := x.InlinePolicyIdentifier
		if inline == nil || p.ARN != "" || inline.PolicyName.V != p.Name {
			continue
		}
		_, resource, _ := strings.Cut(p.Holder, ":iam::"+string(r.account)+":")
		if strings.HasPrefix(resource, inline.AttachmentType.V+"/") && strings.EqualFold(lastName(resource), inline.AttachmentName.V) {
			return true
		}
	}
	return false
}

func lastName(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// remember notes the texts of stored policies, so that matched statements can be shown where they are.
func (r *request) remember(s *simulation, rights guard.Rights) {
	all := slices.Clone(rights.Identity)
	if rights.Boundary != nil {
		all = append(all, *rights.Boundary)
	}
	for _, p := range all {
		at := source{p.Holder, p.ARN, p.Name}
		if stored, ok := r.view.stored(p.ARN); ok {
			m := r.view.managed(stored).noun
			kind := "user-managed"
			if m.AWS {
				kind = "aws-managed"
			}
			s.sources[at] = &written{text: m.Find(m.Default).Document, id: m.Name, kind: kind}
			continue
		}
		_, resource, _ := strings.Cut(p.Holder, ":iam::"+string(r.account)+":")
		kind, _, _ := strings.Cut(resource, "/")
		name := lastName(resource)
		s.sources[at] = &written{text: r.inlineText(kind, name, p.Name), id: kind + "_" + name + "_" + p.Name, kind: kind}
	}
}

// inlineText returns the text of an inline policy; empty if there is none.
func (r *request) inlineText(kind, holder, name string) (text string) {
	switch identity.Kind(kind) {
	case identity.KindUser:
		text, _ = getInline(&r.view.users, holder, name)
	case identity.KindGroup:
		text, _ = getInline(&r.view.groups, holder, name)
	case identity.KindRole:
		text, _ = getInline(&r.view.roles, holder, name)
	}
	return text
}

// simulate decides one page of all actions on all resources.
func (r *request) simulate(s *simulation) (*iamapi.SimulatePolicyResponse, error) {
	var numbers []int
	for i := range len(s.actions) * len(s.resources) {
		numbers = append(numbers, i)
	}
	out := new(iamapi.SimulatePolicyResponse)
	if len(s.controls) == 0 {
		s.controls = []guard.Directory{fixedControls(nil)}
	}
	limit, err := s.pageSize()
	if err != nil {
		return nil, err
	}
	var items []int
	items, out.IsTruncated, out.Marker, err = page(r, numbers, func(i int) string { return fmt.Sprintf("%06d", i) }, s.marker, wire.Some(limit))
	if err != nil {
		return nil, err
	}
	asked := s.asked()
	for _, i := range items {
		if err := r.ctx.Err(); err != nil { // nobody waits for the rest
			return nil, err
		}
		result, err := r.simulateOne(s, s.actions[i/len(s.resources)], s.resources[i%len(s.resources)], asked)
		if err != nil {
			return nil, err
		}
		out.EvaluationResults = append(out.EvaluationResults, *result)
	}
	return out, nil
}

// The decisions of PolicyEvaluationDecisionType.
const (
	simulatedAllow    = "allowed"
	simulatedDeny     = "explicitDeny"
	simulatedImplicit = "implicitDeny"
)

// pageSize returns how many items one page has: as many as are wanted, as far as their work is bounded.
func (s *simulation) pageSize() (int32, error) {
	text, compared := 0, asking
	for _, w := range s.sources {
		text += len(w.text)
	}
	for name, values := range s.values {
		compared += len(name)
		for _, v := range values {
			compared += len(v) + 1
		}
	}
	longest := 0
	for _, on := range s.resources {
		longest = max(longest, len(on))
	}
	fits := mostWork / ((text + asking) * (compared + longest) * len(s.controls))
	if fits == 0 {
		return 0, invalidInput("The policies and context values are too large to be simulated together")
	}
	return min(s.limit.Or(defaultPage), int32(min(fits, mostActions))), nil
}

// asked returns the condition keys that the policies use which the answer may speak of, in lower case: those that the caller has
// brought or may see.
func (s *simulation) asked() map[string]bool {
	all := slices.Clone(s.caller.Rights.Identity)
	if b := s.caller.Rights.Boundary; b != nil {
		all = append(all, *b)
	}
	if s.resource != nil {
		all = append(all, guard.Policy{Document: s.resource})
	}
	for _, c := range s.controls {
		if brought, ok := c.(fixedControls); ok {
			all = append(all, brought...)
		}
	}
	keys := map[string]bool{}
	for _, p := range all {
		for _, k := range p.Document.ContextKeys() {
			keys[strings.ToLower(k)] = true
		}
	}
	return keys
}

func (r *request) simulateOne(s *simulation, name, on string, asked map[string]bool) (*iamapi.EvaluationResult, error) {
	out := &iamapi.EvaluationResult{EvalActionName: wire.Some(name), EvalResourceName: wire.Some(on)}
	decision := simulatedAllow
	missing := map[string]bool{}
	for _, controls := range s.controls {
		g := guard.New(guard.Config{Recorder: audit.NewMemory(1), Directory: controls, Now: r.Directory.now})
		e, err := g.Explain(guard.Question{
			Caller: s.caller, Time: r.call.Time, Values: s.values,
			Resource: guard.Resource{Action: guard.NewAction(name), ARN: on, Policy: s.resource, Owner: s.owner, Foreign: true},
		})
		if err != nil {
			return nil, wire.Errorf(iamapi.CodePolicyEvaluationException, "The simulation of %s could not be decided", name)
		}
		switch {
		case e.Explicit:
			decision = simulatedDeny
		case !e.Allowed && decision != simulatedDeny:
			decision = simulatedImplicit
		}
		s.matched(out, e)
		for _, v := range e.Values {
			if len(v.Values) == 0 && asked[strings.ToLower(v.Key)] {
				missing[v.Key] = true
			}
		}
		s.limits(out, e)
	}
	for key := range missing {
		out.MissingContextValues = append(out.MissingContextValues, key)
	}
	slices.Sort(out.MissingContextValues)
	out.EvalDecision = wire.Some(decision)
	out.MatchedStatements = slices.DeleteFunc(out.MatchedStatements, func(iamapi.Statement) bool { return decision == simulatedImplicit })
	return out, nil
}

// limits says whether the boundary and the account's control policies allow.
func (s *simulation) limits(out *iamapi.EvaluationResult, e *guard.Explanation) {
	boundary, allowed := false, false
	controls, passed, denied := false, false, false
	for _, p := range e.Policies {
		switch p.Type {
		case guard.Boundary.String():
			boundary, allowed = true, p.Effect == "allow"
		case guard.ServiceControl.String():
			controls, passed, denied = true, passed || p.Effect == "allow", denied || p.Effect == "deny"
		}
	}
	if boundary {
		out.PermissionsBoundaryDecisionDetail = &iamapi.PermissionsBoundaryDecisionDetail{AllowedByPermissionsBoundary: wire.Some(allowed)}
	}
	if controls {
		old := out.OrganizationsDecisionDetail
		passed = passed && !denied && (old == nil || old.AllowedByOrganizations.V)
		out.OrganizationsDecisionDetail = &iamapi.OrganizationsDecisionDetail{AllowedByOrganizations: wire.Some(passed)}
	}
}

// matched adds the statements that decided: those that deny, or if none does those that allow.
func (s *simulation) matched(out *iamapi.EvaluationResult, e *guard.Explanation) {
	want := "allow"
	if e.Explicit {
		want = "deny"
	}
	for _, p := range e.Policies {
		text, known := s.sources[source{p.Holder, p.ARN, p.Name}]
		if !known {
			continue // a control policy of the account, which is not the caller's to see
		}
		if text.places == nil {
			text.places = statementPlaces(text.text)
		}
		for _, m := range p.Statements {
			if !m.Applies || m.Effect != want || m.Index >= len(text.places) {
				continue
			}
			shown := iamapi.Statement{
				SourcePolicyID: wire.Some(text.id), SourcePolicyType: wire.Some(text.kind),
				StartPosition: text.places[m.Index][0].show(), EndPosition: text.places[m.Index][1].show(),
			}
			if !slices.ContainsFunc(out.MatchedStatements, func(o iamapi.Statement) bool {
				return o.SourcePolicyID == shown.SourcePolicyID && *o.StartPosition == *shown.StartPosition
			}) {
				out.MatchedStatements = append(out.MatchedStatements, shown)
			}
		}
	}
}

func getContextKeysForCustomPolicy(_ *request, in *iamapi.GetContextKeysForCustomPolicyRequest) (*iamapi.GetContextKeysForPolicyResponse, error) {
	names, err := contextKeys(nil, in.PolicyInputList)
	return &iamapi.GetContextKeysForPolicyResponse{ContextKeyNames: names}, err
}

func getContextKeysForPrincipalPolicy(r *request, in *iamapi.GetContextKeysForPrincipalPolicyRequest) (*iamapi.GetContextKeysForPolicyResponse, error) {
	who, err := r.sourceCaller(in.PolicySourceARN.V)
	if err != nil {
		return nil, err
	}
	names, err := contextKeys(who.Rights.Identity, in.PolicyInputList)
	return &iamapi.GetContextKeysForPolicyResponse{ContextKeyNames: names}, err
}

// contextKeys returns the condition keys that policies use, each once.
func contextKeys(stored []guard.Policy, texts []string) ([]string, error) {
	s := &simulation{sources: map[source]*written{}}
	more, err := s.suppose(policy.IdentityPolicy, "PolicyInputList", texts)
	if err != nil {
		return nil, err
	}
	names := []string{}
	for _, p := range append(slices.Clone(stored), more...) {
		names = append(names, p.Document.ContextKeys()...)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(strings.Compare(strings.ToLower(a), strings.ToLower(b)), strings.Compare(a, b))
	})
	return slices.CompactFunc(names, strings.EqualFold), nil
}
