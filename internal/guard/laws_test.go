package guard_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// layers are generated policies of every type around one call. A nil list is a type that is not attached.
type layers struct {
	service, control, resource, identity, boundary, session []string
	grants                                                  []*key.Grant
	caller, action                                          string
	via                                                     bool
	context                                                 map[string]string
}

// lists returns the statements of every type, in the order of their kinds.
func (l *layers) lists() []*[]string {
	return []*[]string{&l.service, &l.control, &l.resource, &l.identity, &l.boundary, &l.session}
}

func (l *layers) clone() *layers {
	c := *l
	for _, list := range c.lists() {
		*list = slices.Clone(*list)
	}
	c.grants = slices.Clone(l.grants)
	return &c
}

var (
	lawCallers    = []string{"root", "alice", "bob", "dev/plain", "dev/narrow", "bob/fay", "alice/token", "objects", "olga", "their-root", "their-dev/plain"}
	lawPrincipals = []string{"root", "alice", "bob", "dev", "dev/plain", "bob/fay", "objects", "their-root", "olga", "their-dev", "*"}
	lawActions    = []string{"kms:Encrypt", "kms:Decrypt", "kms:*", "*", "kms:En*", "kms:DescribeKey"}
	lawResources  = []string{"*", "key/law", "key/other", "arn:aws:kms:*:111122223333:key/*"}
	lawConditions = []string{
		"", "", "", " if Bool aws:ViaAWSService = true", " if StringEquals kms:EncryptionContext:stage = prod", " if StringNotEquals aws:PrincipalTag/team = red",
		" if StringEquals aws:PrincipalAccount = 111122223333", " if Null aws:TokenIssueTime = true",
	}
)

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// statement writes one statement for the list of the given index.
func (l *layers) statement(r *rand.Rand, list int, effect string) string {
	to := ""
	switch list {
	case 1:
		if to = " to *"; effect == "Allow" {
			return "Allow to * * on *" // the only one that there is
		}
	case 2:
		to = pick(r, []string{" to ", " to ", " to ", " not-to "}) + pick(r, lawPrincipals)
		if to == " not-to *" {
			to = " to *"
		}
	}
	on, action := " on "+pick(r, lawResources), pick(r, lawActions)
	if list == 1 && action == "*" {
		action = "kms:*"
	}
	return effect + to + " " + action + on + pick(r, lawConditions)
}

// generate makes a world in which about half of the calls are allowed.
func generate(r *rand.Rand, w *world) *layers {
	l := &layers{caller: pick(r, lawCallers), action: pick(r, lawActions[:2]), via: r.IntN(3) == 0}
	if r.IntN(2) == 0 {
		l.context = map[string]string{"stage": pick(r, []string{"prod", "test"})}
	}
	for i, list := range l.lists() {
		if i != 2 && i != 3 && r.IntN(3) > 0 {
			continue
		}
		if i == 2 && r.IntN(2) == 0 {
			*list = append(*list, "Allow to root kms:*")
		}
		for range 1 + r.IntN(4) {
			*list = append(*list, l.statement(r, i, pick(r, []string{"Allow", "Allow", "Allow", "Allow", "Deny"})))
		}
	}
	if l.session == nil && w.callers[l.caller].Type == policy.FederatedUser {
		l.session = []string{"Allow kms:Nothing"} // without session policies it has no rights: they are no limit there
	}
	for range r.IntN(3) {
		g := &key.Grant{ID: "g", Key: w.keyName("law"), Issuer: own, Grantee: w.grantPrincipal(pick(r, lawPrincipals[:10]))}
		g.Operations = key.GrantOperation(pick(r, []string{"Encrypt", "Decrypt"}))
		if r.IntN(2) == 0 {
			g.Constraints.Subset = map[string]string{"stage": "prod"}
		}
		l.grants = append(l.grants, g)
	}
	return l
}

// Of implements guard.Grants, whatever the order.
func (l *layers) Of(grantee string) (list []*key.Grant, err error) {
	for _, g := range l.grants {
		if g.Grantee.ID == grantee || g.Grantee.Service == grantee || g.Grantee.ID == "" && g.Grantee.ARN == grantee {
			list = append(list, g)
		}
	}
	return list, nil
}

// policies compiles a list, one document a statement, or one for all.
func (w *world) listed(kind policy.Kind, statements []string, apart bool) (list []guard.Policy) {
	if !apart && len(statements) > 0 {
		statements = []string{strings.Join(statements, ";")}
	}
	for _, s := range statements {
		list = append(list, guard.Policy{Name: "p", Document: w.compile(kind, s)})
	}
	return list
}

// question turns the layers into a call. apart makes a policy of each statement where a type can have several.
func (w *world) question(l *layers, apart bool) *question {
	q := &question{line: l.caller + " " + l.action, region: "us-east-1", meta: guard.Meta{RequestID: "r", Time: now(), SourceIP: "192.0.2.1"}}
	c := *w.callers[l.caller]
	if c.Type != policy.Service {
		c.Rights = &guard.Rights{Identity: w.listed(policy.IdentityPolicy, l.identity, apart)}
		if c.Type == policy.AccountRoot {
			c.Rights = nil
		} else if l.boundary != nil {
			c.Rights.Boundary = &w.listed(policy.BoundaryPolicy, l.boundary, false)[0]
		}
	}
	if l.session != nil && c.Session != nil {
		s := *c.Session
		s.Policies = w.listed(policy.SessionPolicy, l.session, apart)
		c.Session = &s
	}
	q.caller = &c
	q.controls.service = w.listed(policy.ServiceControlPolicy, l.service, apart)
	q.controls.resource = w.listed(policy.ResourceControlPolicy, l.control, apart)
	q.resource = guard.Resource{
		Action: guard.NewAction(l.action), ARN: w.arnOf("key/law"), Foreign: true, Key: &key.Key{Name: w.keyName("law")}, Grants: l,
		Policy: w.compile(policy.KeyPolicy, strings.Join(l.resource, ";")), EncryptionContext: l.context,
		Input: &kmsapi.EncryptRequest{}, Facts: func(f *guard.Facts, _ wire.Input) {
			for k, v := range l.context {
				f.String("kms:EncryptionContext:"+k, v)
			}
		},
	}
	if l.via {
		q.forward = &guard.Forward{Service: "tables.amazonaws.com", ViaService: "tables.us-east-1.amazonaws.com"}
	}
	return q
}

func (w *world) allows(l *layers) bool {
	_, refusal := w.question(l, false).put()
	return refusal == ""
}

// TestLaws holds decisions against what must be true of them in any world.
func TestLaws(t *testing.T) {
	w := readWorld(t)
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	const rounds = 500
	allowed := 0
	for range rounds {
		l := generate(r, w)
		before := w.allows(l)
		if before {
			allowed++
		}
		w.checkLimits(t, r, l, before)
		w.checkOrder(t, r, l)
		w.checkExplained(t, l, before)
		if t.Failed() {
			t.Fatalf("seed %d: %+v", seed, l)
		}
	}
	if allowed < rounds/10 || allowed > rounds*9/10 {
		t.Errorf("seed %d: %d of %d worlds allow, which tells little", seed, allowed, rounds)
	}
}

// checkLimits: adding a Deny, a limit of any type, or removing an Allow or a grant never allows; adding an Allow never denies.
func (w *world) checkLimits(t *testing.T, r *rand.Rand, l *layers, before bool) {
	t.Helper()
	never := func(what string, changed *layers) {
		t.Helper()
		if !before && w.allows(changed) {
			t.Errorf("%s allowed what was denied: %+v", what, changed)
		}
	}
	for i := range l.lists() {
		c := l.clone()
		list := c.lists()[i]
		*list = append(*list, c.statement(r, i, "Deny"))
		never("a Deny", c)

		c = l.clone()
		if list = c.lists()[i]; *list == nil {
			*list = []string{c.statement(r, i, "Allow")}
			never("a limit", c)
			continue
		}
		for j, s := range *list {
			if strings.HasPrefix(s, "Allow") {
				d := c.clone()
				(*d.lists()[i])[j] = map[bool]string{true: "Allow to objects kms:Nothing", false: "Allow kms:Nothing"}[i == 2]
				if i == 1 {
					(*d.lists()[i])[j] = "Deny to * kms:Nothing on *"
				}
				never("the loss of an Allow", d)
			}
		}
		*list = append(*list, c.statement(r, i, "Allow"))
		if before && !w.allows(c) {
			t.Errorf("an Allow denied what was allowed: %+v", c)
		}
	}
	if len(l.grants) > 0 {
		c := l.clone()
		c.grants = c.grants[1:]
		never("the loss of a grant", c)
	}
	// Nobody of another account is let in by its resource's side alone, but by grants and as the root user.
	who := w.callers[l.caller]
	if before && who.Account == alien && who.Type != policy.AccountRoot && len(l.grants) == 0 {
		c := l.clone()
		c.identity = []string{"Allow kms:Nothing"}
		if w.allows(c) {
			t.Errorf("an account let in another's principal without its account: %+v", c)
		}
	}
}

// checkOrder: neither the order of statements and policies nor their distribution over policies matters.
func (w *world) checkOrder(t *testing.T, r *rand.Rand, l *layers) {
	t.Helper()
	c := l.clone()
	for _, list := range c.lists() {
		r.Shuffle(len(*list), func(i, j int) { (*list)[i], (*list)[j] = (*list)[j], (*list)[i] })
	}
	r.Shuffle(len(c.grants), func(i, j int) { c.grants[i], c.grants[j] = c.grants[j], c.grants[i] })
	_, one := w.question(l, false).put()
	_, two := w.question(c, true).put()
	if one != two {
		t.Errorf("in another order it is %q, not %q", two, one)
	}
}

// checkExplained: an explanation says what the decision was, and a supposition at least that.
func (w *world) checkExplained(t *testing.T, l *layers, before bool) {
	t.Helper()
	q := w.question(l, false)
	e, err := q.explain(false)
	if err != nil || e.Allowed != before || before != (len(e.Ways) > 0) {
		t.Errorf("explained as %v\n%v", err, e)
		return
	}
	if e, err := q.explain(true); err != nil || before && !e.Allowed {
		t.Errorf("supposed: %v\n%v", err, e)
	}
}
