package guard_test

import (
	"cmp"
	"testing"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/policy"
)

// Policies that are not in force are asked like all others: simulations give them to a caller.
func TestExplainWhatIsNotInForce(t *testing.T) {
	w := readWorld(t)
	const keyARN = "arn:aws:kms:us-east-1:111122223333:key/account"
	alice := w.complete("alice")
	nobody := &guard.Caller{Type: policy.User, Account: own}
	for _, c := range []struct {
		about                        string
		who                          *guard.Caller
		identity, boundary, resource string
		action, arn                  string
		values                       map[string][]string
		want                         string
	}{
		{about: "allowed", identity: "Allow kms:Encrypt on *", want: "allowed"},
		{about: "nothing", identity: "Allow kms:Decrypt on *", want: "implicitDeny"},
		{about: "a deny", identity: "Allow kms:* on * ; Deny kms:Encrypt on *", want: "explicitDeny"},
		{about: "within a boundary", identity: "Allow kms:* on *", boundary: "Allow kms:Encrypt on *", want: "allowed"},
		{about: "outside a boundary", identity: "Allow kms:* on *", boundary: "Allow kms:Decrypt on *", want: "implicitDeny"},
		{about: "another account's resource", identity: "Allow kms:* on *", arn: "arn:aws:kms:us-east-1:444455556666:key/x", want: "allowed"},
		{about: "without a resource", identity: "Allow kms:ListKeys on *", action: "kms:ListKeys", arn: "*", want: "allowed"},
		{about: "a value", identity: "Allow kms:* on * if StringEquals kms:ViaService = x", values: map[string][]string{"kms:viaservice": {"x"}}, want: "allowed"},
		{about: "no value", identity: "Allow kms:* on * if StringEquals kms:ViaService = x", want: "implicitDeny"},
		{about: "no TLS is known", identity: "Allow kms:* on * if Null aws:SecureTransport = true", want: "allowed"},
		{about: "a principal's tag", who: alice, identity: "Allow kms:* on * if StringEquals aws:PrincipalTag/team = red", want: "allowed"},
		{about: "another tag", who: alice, identity: "Allow kms:* on * if StringEquals aws:PrincipalTag/team = red", values: map[string][]string{"aws:PrincipalTag/team": {"blue"}}, want: "implicitDeny"},
		{about: "a resource's policy", who: alice, identity: "Allow kms:Decrypt on *", resource: "Allow to alice kms:Encrypt", want: "allowed"},
		{about: "delegation", who: alice, identity: "Allow kms:Encrypt on *", resource: "Allow to root kms:*", want: "allowed"},
		{about: "no delegation", who: alice, identity: "Allow kms:Encrypt on *", resource: "Allow to bob kms:*", want: "implicitDeny"},
		{about: "a control policy", who: alice, identity: "Allow kms:* on *", action: "kms:Decrypt", want: "explicitDeny"},
		{about: "nobody's control policy", identity: "Allow kms:* on *", action: "kms:Decrypt", want: "allowed"},
	} {
		who := *cmp.Or(c.who, nobody)
		who.Rights = &guard.Rights{Identity: w.listed(policy.IdentityPolicy, []string{c.identity}, false)}
		if c.boundary != "" {
			who.Rights.Boundary = &w.listed(policy.BoundaryPolicy, []string{c.boundary}, false)[0]
		}
		r := guard.Resource{Action: guard.NewAction(cmp.Or(c.action, "kms:Encrypt")), ARN: cmp.Or(c.arn, keyARN), Owner: own, Foreign: true}
		if c.resource != "" {
			r.Policy = w.compile(policy.KeyPolicy, c.resource)
		}
		var controlled guard.Directory
		if c.who != nil {
			controlled = &controls{service: w.listed(policy.ServiceControlPolicy, []string{"Allow * on * ; Deny kms:Decrypt on *"}, false)}
		}
		e, err := guard.New(guard.Config{Recorder: audit.NewMemory(1), Now: now, Directory: controlled}).Explain(guard.Question{Caller: &who, Resource: r, Values: c.values})
		if err != nil {
			t.Fatal(err)
		}
		got := map[bool]string{true: "allowed", false: "implicitDeny"}[e.Allowed]
		if e.Explicit {
			got = "explicitDeny"
		}
		if got != c.want {
			t.Errorf("%s: %s\n%s", c.about, got, e)
		}
	}
}
