package guard_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/wire"
)

func TestExplanations(t *testing.T) {
	w := readWorld(t)
	for line, want := range map[string]string{
		"allow bob kms:Encrypt key/both : account": `allowed: arn:aws:iam::111122223333:user/bob may kms:Encrypt on arn:aws:kms:us-east-1:111122223333:key/both
  because the resource's policy, statement 1, names the account, and the identity-based policies allow
resource-based policy: allow
  statement 1, allow: applies, names the account
  statement 2, allow: another principal
identity-based policy inline of arn:aws:iam::111122223333:user/bob: allow
  statement 1, allow: applies
`,
		"deny dave kms:Decrypt key/account : explicit identity-based policy": `denied: arn:aws:iam::111122223333:user/dave may not kms:Decrypt on arn:aws:kms:us-east-1:111122223333:key/account with an explicit deny in an identity-based policy
resource-based policy: allow
  statement 1, allow: applies, names the account
identity-based policy arn:aws:iam::111122223333:policy/no-decrypt: deny
  statement 1, deny: applies
identity-based policy inline of arn:aws:iam::111122223333:user/dave: allow
  statement 1, allow: applies
`,
		"deny alice kms:Encrypt key/if if(StringEquals kms:EncryptionContext:stage = prod) facts(kms:EncryptionContext:stage=test) : no resource-based policy": `denied: arn:aws:iam::111122223333:user/alice may not kms:Encrypt on arn:aws:kms:us-east-1:111122223333:key/if because no resource-based policy allows it
resource-based policy: none
  statement 1, allow: another action
  statement 2, allow: condition StringEquals kms:EncryptionContext:stage = prod does not hold: the request has test
`,
		"deny root kms:CreateAlias alias/their-x : short": `denied: arn:aws:iam::111122223333:root may not kms:CreateAlias on arn:aws:kms:us-east-1:444455556666:alias/their-x because that is another account's
`,
		"allow tables kms:Encrypt key/granted : grant g-tables": `allowed: tables.amazonaws.com may kms:Encrypt on arn:aws:kms:us-east-1:111122223333:key/granted
  because a grant g-tables
resource-based policy: none
  statement 1, allow: another principal
grant g-tables: its constraints hold
`,
	} {
		q := w.read(line)
		e, err := q.explain(false)
		if err != nil || e.String() != want {
			t.Errorf("%s: %v\n got %s\nwant %s", line, err, e, want)
		}
	}
}

// What could be: ways that depend on what the question leaves open, each with what it depends on.
func TestSuppositions(t *testing.T) {
	w := readWorld(t)
	for line, want := range map[string]string{
		"allow bob kms:Encrypt key/granted : grant":  `[{"path":"a grant","grantId":"g-equals","given":["EncryptionContextEquals = stage=prod"]}] null`,
		"allow erin kms:Encrypt key/granted : grant": `[{"path":"a grant","grantId":"g-user-source","given":["SourceArn = arn:aws:s3:::photos"]}] null`,
		"allow alice kms:Encrypt key/if if(StringEquals kms:EncryptionContext:stage = prod & StringEquals kms:ViaService = objects.us-east-1.amazonaws.com) : everybody": `[{"path":"the resource's policy, statement 2, names everybody",` +
			`"given":["StringEquals kms:EncryptionContext:stage = prod","StringEquals kms:ViaService = objects.us-east-1.amazonaws.com"]}] null`,
		"allow alice kms:Encrypt key/alice unless(StringNotEquals kms:ViaService = objects.us-east-1.amazonaws.com) : principal": `[{"path":"the resource's policy, statement 1, names the principal"}] ` +
			`["StringNotEquals kms:ViaService = objects.us-east-1.amazonaws.com (resource-based policy, statement 2)"]`,
		"allow grace kms:Decrypt key/account : account":                                                `[{"path":"the resource's policy, statement 1, names the account, and the identity-based policies allow","shared":true,"given":["StringEquals kms:RequestAlias = alias/grace"]}] null`,
		"deny grace kms:Encrypt key/account aliases(alias/x) : no identity-based policy":               `null null`,
		"deny alice kms:Encrypt key/if if(StringEquals aws:PrincipalTag/team = blue) : no":             `null null`,
		"deny carol kms:Encrypt key/if if(StringEquals aws:PrincipalTag/team = blue) : no":             `null null`,
		"deny alice kms:Encrypt key/if if(StringLike aws:PrincipalOrgID = *) : no":                     `null null`,
		"deny root kms:Encrypt key/if if(StringLike aws:username = *) : no":                            `null null`,
		"allow dev/plain kms:Encrypt key/if if(StringEquals aws:PrincipalTag/project = x) : everybody": `[{"path":"the resource's policy, statement 2, names everybody","given":["StringEquals aws:PrincipalTag/project = x"]}] null`,
		"allow alice kms:Encrypt key/if if(Bool aws:MultiFactorAuthPresent = false) : everybody":       `[{"path":"the resource's policy, statement 2, names everybody","given":["Bool aws:MultiFactorAuthPresent = false"]}] null`,
	} {
		q := w.read(line)
		e, err := q.explain(true)
		if err != nil {
			t.Fatal(err)
		}
		ways, _ := json.Marshal(e.Ways)
		unless, _ := json.Marshal(e.Unless)
		if got := string(ways) + " " + string(unless); got != want || e.Allowed != q.allow {
			t.Errorf("%s:\n got %s\nwant %s", line, got, want)
		}
	}
}

// An encryption context that is given as condition keys is the one that grants ask for, and the other way.
func TestQuestionsAgreeOnTheEncryptionContext(t *testing.T) {
	w := readWorld(t)
	g := guard.New(guard.Config{Recorder: audit.NewMemory(1), Now: now})
	q := w.read("allow bob kms:Encrypt key/granted : grant")
	e, err := g.Explain(guard.Question{Caller: q.caller, Resource: q.resource, Values: map[string][]string{"kms:EncryptionContext:stage": {"prod"}}})
	if err != nil || !e.Allowed || len(e.Ways) != 1 || e.Ways[0].GrantID != "g-equals" {
		t.Errorf("%v, %v", e, err)
	}
	q = w.read("allow alice kms:Encrypt key/if ctx(stage:prod) if(StringEquals kms:EncryptionContext:stage = prod & ForAllValues:StringEquals kms:EncryptionContextKeys = stage) : everybody")
	if e, err := g.Explain(guard.Question{Caller: q.caller, Resource: q.resource}); err != nil || !e.Allowed {
		t.Errorf("%v, %v", e, err)
	}
	if _, err := g.Explain(guard.Question{Resource: q.resource}); err == nil {
		t.Error("nobody was explained")
	}
}

// The explanation of a refusal leaves sealed, and within one account only: a stranger would learn from a token, or from its
// length, what the refusal does not tell.
func TestSealedExplanations(t *testing.T) {
	w := readWorld(t)
	for line, want := range map[string]string{
		"deny dave kms:Decrypt key/account : explicit": `{"accounts":["111122223333"],"refused":"AIDADAVE000000000","message":{"allowed":false,"explicitDeny":true,"matchedStatements":{"items":[` +
			`{"statementId":"","effect":"ALLOW","policyType":"resource-based policy"},` +
			`{"statementId":"","effect":"DENY","policyType":"identity-based policy","policyArn":"arn:aws:iam::111122223333:policy/no-decrypt","policyName":"no-decrypt"},` +
			`{"statementId":"","effect":"ALLOW","policyType":"identity-based policy","policyName":"inline"}]},"failures":{"items":[]},` +
			`"context":{"principal":{"id":"AIDADAVE000000000","name":"dave","arn":"arn:aws:iam::111122223333:user/dave"},"action":"kms:Decrypt",` +
			`"resource":"arn:aws:kms:us-east-1:111122223333:key/account","conditions":{"items":[]}}}}`,
		"deny alice kms:Encrypt key/if if(StringEquals aws:username = bob) : no": `{"accounts":["111122223333"],"refused":"AIDAALICE00000000","message":{"allowed":false,"explicitDeny":false,"matchedStatements":{"items":[]},` +
			`"failures":{"items":[{"missing":"resource-based policy"}]},"context":{"principal":{"id":"AIDAALICE00000000","name":"alice","arn":"arn:aws:iam::111122223333:user/alice"},` +
			`"action":"kms:Encrypt","resource":"arn:aws:kms:us-east-1:111122223333:key/if","conditions":{"items":[{"key":"aws:username","values":{"items":[{"value":"alice"}]}}]}}}}`,
	} {
		q := w.read(line)
		e, plain := refuse(q, func([]byte) (string, error) { return "token", nil })
		if e.Authorization != "token" || string(plain) != want {
			t.Errorf("%s: token %q\n got %s\nwant %s", line, e.Authorization, plain, want)
		}
		if bodies := e.AppendJSON(nil); strings.Contains(string(bodies), "token") {
			t.Errorf("%s: the token is in the body", line)
		}
	}
	if e, _ := refuse(w.read("deny frank kms:Decrypt key/their-account : short"), func([]byte) (string, error) { return "token", nil }); e.Authorization != "" {
		t.Error("a stranger gets an explanation")
	}
	silence(t)
	q := w.read("deny alice kms:Encrypt key/account : no")
	if e, _ := refuse(q, func([]byte) (string, error) { return "", errors.New("no key") }); e.Authorization != "" || e.Code != wire.CodeAccessDenied {
		t.Errorf("without a seal: %+v", e)
	}
	// The caller cannot make it long.
	long := strings.Repeat("<", 3000)
	q = w.read("deny alice kms:Encrypt key/if if(StringEquals aws:UserAgent = x) : no")
	q.meta.UserAgent = long + long
	if e, plain := refuse(q, func([]byte) (string, error) { return "token", nil }); e.Authorization == "" || len(plain) > 7000 {
		t.Errorf("%d octets, token %q", len(plain), e.Authorization)
	}
}

// refuse puts a question that is refused and returns the error, with what was to be sealed.
func refuse(q *question, seal func([]byte) (string, error)) (failure *wire.Error, plain []byte) {
	g := guard.New(guard.Config{Recorder: audit.NewMemory(1), Now: now, Directory: &q.controls, Seal: func(b []byte) (string, error) {
		plain = slices.Clone(b)
		return seal(b)
	}})
	_, failure = g.Answer(q.meta, func(c *guard.Call) (wire.Output, error) {
		c.Identify(q.caller, q.region)
		_, err := c.Authorize(q.resource)
		return nil, err
	})
	return failure, plain
}

// The lockout check hears all that Authorize hears.
func TestWouldAllow(t *testing.T) {
	w := readWorld(t)
	for _, c := range []struct {
		who, document string
		want          bool
	}{
		{"root", "Allow to root kms:*", true},
		{"root", "Allow to alice kms:*", false},
		{"alice", "Allow to alice kms:PutKeyPolicy", true},
		{"alice", "Allow to alice kms:Encrypt", false},
		{"alice", "Allow to root kms:*", false},
		{"bob", "Allow to root kms:*", true},
		{"erin", "Allow to root kms:*", false},
		{"erin", "Allow to erin kms:PutKeyPolicy", true},
		{"bob", "Allow to root kms:* ; Deny to bob kms:PutKeyPolicy", false},
		{"dev/plain", "Allow to dev kms:PutKeyPolicy", true},
		{"dev/narrow", "Allow to dev kms:PutKeyPolicy", false},
	} {
		q := w.read("allow " + c.who + " kms:PutKeyPolicy key/if : x")
		var got bool
		_, _ = guard.New(guard.Config{Recorder: audit.NewMemory(1), Now: now}).Answer(q.meta, func(call *guard.Call) (wire.Output, error) {
			call.Identify(q.caller, q.region)
			got = call.WouldAllow(w.compile(policy.KeyPolicy, c.document), q.resource)
			return nil, nil
		})
		if got != c.want {
			t.Errorf("%s under %s: %t", c.who, c.document, got)
		}
	}
}

// A caller of no kind is nobody, whatever its policies.
func TestNobodyIsRefused(t *testing.T) {
	w := readWorld(t)
	q := w.read("deny root kms:Encrypt key/all : error")
	who := *q.caller
	who.Type = policy.Anonymous
	q.caller = &who
	silence(t)
	if permit, refusal := q.put(); refusal != "error" || permit.Allows(guard.UseEncrypt, q.resource.Key.Name) {
		t.Errorf("%+v, %q", permit, refusal)
	}
	q = w.read("deny root kms:Encrypt key/all : error")
	q.resource.Policy = nil
	if _, refusal := q.put(); refusal != "error" {
		t.Errorf("a key without a policy: %q", refusal)
	}
	q.resource.Key, q.resource.Owner = nil, arn.Account("999999999999")
	if _, refusal := q.put(); strings.Contains(refusal, "because") || refusal == "" {
		t.Errorf("another's resource: %q", refusal)
	}
}

// Somebody who is called like a principal, but has another unique id, is somebody else.
func TestNamesakesAreStrangers(t *testing.T) {
	w := readWorld(t)
	for _, line := range []string{
		"allow alice kms:Encrypt key/alice : principal", "allow idle/plain kms:Encrypt key/idle : role", "allow dev/plain kms:Encrypt key/plain : principal",
		"allow alice kms:Encrypt key/granted : grant", "allow idle/plain kms:Encrypt key/granted : grant", "allow idle/plain kms:Decrypt key/granted : grant",
		"allow dev/plain sts:AssumeRole role:idle : role", "allow dave kms:RetireGrant key/granted retire(g-subset) : grant",
	} {
		q := w.read(line)
		if _, refusal := q.put(); refusal != "" {
			t.Errorf("%s: %s", line, refusal)
		}
		namesake := *q.caller
		namesake.UniqueID, namesake.Rights = "AIDANAMESAKE00000", &guard.Rights{}
		q.caller = &namesake
		q.resource.Grants = anybody{w.grants} // whatever index there is
		if _, refusal := q.put(); refusal == "" {
			t.Errorf("%s: a namesake may, too", line)
		}
	}
}

// anybody finds the grants of all for anybody.
type anybody struct{ grants }

func (a anybody) Of(string) (list []*key.Grant, err error) {
	for _, some := range a.grants {
		list = append(list, some...)
	}
	return list, nil
}
