package iam_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/iam"
	"github.com/keywright/keywright/internal/oidc/oidctest"
	"github.com/keywright/keywright/internal/sigv4"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/stsapi"
)

// trustOf returns a policy with one statement.
func trustOf(principal, actions, condition string) string {
	if condition != "" {
		condition = `,"Condition":` + condition
	}
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + principal + `"},"Action":` + actions + condition + `}]}`
}

// Who may assume a role: its trust policy says it, with what the request says of the session.
func TestTrust(t *testing.T) {
	const annARN, account = "arn:aws:iam::111122223333:user/ann", "111122223333"
	const all = `"sts:*"`
	tags := []stsapi.Tag{{Key: wire.Some("team"), Value: wire.Some("blue")}}
	denied := func(action string) string {
		return "AccessDeniedException: User: " + annARN + " is not authorized to perform: sts:" + action + " on resource: arn:aws:iam::111122223333:role/x/r"
	}
	for _, c := range []struct {
		about, trust string
		change       func(*stsapi.AssumeRoleRequest)
		want         string // the error, empty for allow
	}{
		{"the account", trustOf(account, all, ""), nil, ""},
		{"the user", trustOf(annARN, `"sts:AssumeRole"`, ""), nil, ""},
		{"everybody", trustOf("*", all, ""), nil, ""},
		{"another user", trustOf("arn:aws:iam::111122223333:user/bob", all, ""), nil, denied("AssumeRole")},
		{"another account", trustOf(string(bob), all, ""), nil, denied("AssumeRole")},
		{"another action", trustOf(account, `"sts:AssumeRoleWithWebIdentity"`, ""), nil, denied("AssumeRole")},
		{"a deny", strings.Replace(trustOf(account, all, ""), `"Statement":[`, `"Statement":[{"Effect":"Deny","Principal":"*","Action":"sts:AssumeRole"},`, 1), nil, denied("AssumeRole")},
		{"an external id", trustOf(account, all, `{"StringEquals":{"sts:ExternalId":"secret-1"}}`), func(in *stsapi.AssumeRoleRequest) { in.ExternalID = wire.Some("secret-1") }, ""},
		{"another external id", trustOf(account, all, `{"StringEquals":{"sts:ExternalId":"secret-1"}}`), func(in *stsapi.AssumeRoleRequest) { in.ExternalID = wire.Some("secret-2") }, denied("AssumeRole")},
		{"no external id", trustOf(account, all, `{"StringEquals":{"sts:ExternalId":"secret-1"}}`), nil, denied("AssumeRole")},
		{"the session's name", trustOf(account, all, `{"StringLike":{"sts:RoleSessionName":"${aws:username}-*"}}`), func(in *stsapi.AssumeRoleRequest) { in.RoleSessionName = wire.Some("ann-1") }, ""},
		{"another name", trustOf(account, all, `{"StringLike":{"sts:RoleSessionName":"${aws:username}-*"}}`), nil, denied("AssumeRole")},
		{"a short session", trustOf(account, all, `{"NumericLessThanEquals":{"sts:DurationSeconds":"900"}}`), func(in *stsapi.AssumeRoleRequest) { in.DurationSeconds = wire.Some[int32](900) }, ""},
		{"the default is longer", trustOf(account, all, `{"NumericLessThanEquals":{"sts:DurationSeconds":"900"}}`), nil, denied("AssumeRole")},
		{"tags", trustOf(account, all, `{"StringEquals":{"aws:RequestTag/team":"blue"},"ForAllValues:StringEquals":{"aws:TagKeys":["team"]}}`), func(in *stsapi.AssumeRoleRequest) { in.Tags = tags }, ""},
		{"other tags", trustOf(account, all, `{"StringEquals":{"aws:RequestTag/team":"red"}}`), func(in *stsapi.AssumeRoleRequest) { in.Tags = tags }, denied("AssumeRole")},
		{"no right to tag", trustOf(account, `"sts:AssumeRole"`, ""), func(in *stsapi.AssumeRoleRequest) { in.Tags = tags }, denied("TagSession")},
		{"transitive tags", trustOf(account, all, `{"Null":{"sts:TransitiveTagKeys":"true"}}`), func(in *stsapi.AssumeRoleRequest) { in.Tags, in.TransitiveTagKeys = tags, []string{"team"} }, denied("AssumeRole")},
		{"a source identity", trustOf(account, all, `{"StringEquals":{"sts:SourceIdentity":"ann"}}`), func(in *stsapi.AssumeRoleRequest) { in.SourceIdentity = wire.Some("ann") }, ""},
		{"no right to set it", trustOf(account, `"sts:AssumeRole"`, ""), func(in *stsapi.AssumeRoleRequest) { in.SourceIdentity = wire.Some("ann") }, denied("SetSourceIdentity")},
		{"the caller's tags", trustOf(account, all, `{"StringEquals":{"aws:PrincipalTag/team":"red","aws:ResourceTag/stage":"test"}}`), nil, ""},
		{"other tags of the caller", trustOf(account, all, `{"StringEquals":{"aws:PrincipalTag/team":"blue"}}`), nil, denied("AssumeRole")},
	} {
		w := newWorld(t)
		w.root(alice)
		_, ann := w.newUser(alice, "ann")
		in := into(w.newRole("r", c.trust, nil), "s1")
		if c.change != nil {
			c.change(in)
		}
		got := ""
		if _, err := w.ask(ann, in); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.about, got, c.want)
		}
	}
}

// Trust in an account leaves it to the account's policies; trust in a user is trust in that user, not in a namesake.
func TestTrustNeedsRights(t *testing.T) {
	w := newWorld(t)
	w.root(alice)
	u, ann := w.newUser(alice, "ann")
	delegated, direct := w.newRole("delegated", trustOf(string(alice), `"sts:*"`, ""), nil), w.newRole("direct", trustOf(u.ARN("aws"), `"sts:*"`, ""), map[string]string{u.ARN("aws"): u.ID})
	weak := u.Clone()
	weak.Inline = nil
	w.must(iam.PutUser(w.directory, weak))
	w.fails("AccessDeniedException: User: arn:aws:iam::111122223333:user/ann is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::111122223333:role/x/delegated", ann, into(delegated, "s1"))
	w.assume(ann, into(direct, "s1"))
	w.must(iam.Remove(w.directory, weak))
	_, namesake := w.newUser(alice, "ann")
	w.fails("AccessDeniedException: User: arn:aws:iam::111122223333:user/ann is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::111122223333:role/x/direct", namesake, into(direct, "s1"))
	w.assume(namesake, into(delegated, "s1"))
}

// Across accounts both sides must allow.
func TestTrustAcrossAccounts(t *testing.T) {
	w := newWorld(t)
	w.root(alice)
	w.root(bob)
	u, bert := w.newUser(bob, "bert")
	const denied = "AccessDeniedException: User: arn:aws:iam::444455556666:user/bert is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::111122223333:role/x/"
	trusting, direct, closed := w.newRole("trusting", trustOf(string(bob), `"sts:*"`, ""), nil), w.newRole("direct", trustOf(u.ARN("aws"), `"sts:*"`, ""), nil), w.newRole("closed", trustAlice, nil)
	c, _ := w.assume(bert, into(trusting, "s1"))
	if who, err := w.as(c, "us-east-1"); err != nil || who.Account != alice {
		t.Errorf("%+v, %v", who, err)
	}
	w.assume(bert, into(direct, "s1"))
	w.fails(denied+"closed", bert, into(closed, "s1"))
	weak := u.Clone()
	weak.Inline = nil
	w.must(iam.PutUser(w.directory, weak))
	w.fails(denied+"trusting", bert, into(trusting, "s1"))
	w.fails(denied+"direct", bert, into(direct, "s1")) // even where it is named
}

// A session can do no more than its policies let it, chaining included.
func TestSessionPoliciesLimitChains(t *testing.T) {
	w := newWorld(t)
	w.root(alice)
	_, ann := w.newUser(alice, "ann")
	first, second := w.newRole("first", trustAlice, nil), w.newRole("second", trustAlice, nil)
	in := into(first, "s1")
	in.Policy = wire.Some(encryptOnly)
	limited, _ := w.assume(ann, in)
	w.fails("AccessDeniedException: User: arn:aws:sts::111122223333:assumed-role/first/s1 is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::111122223333:role/x/second", limited, into(second, "s2"))
	free, _ := w.assume(ann, into(first, "s1"))
	w.assume(free, into(second, "s2"))
	// Transitive tags and a source identity need their permissions at every link.
	strict := w.newRole("strict", trustOf(string(alice), `"sts:AssumeRole"`, ""), nil)
	w.assume(free, into(strict, "s2"))
	in = into(first, "s1")
	in.Tags, in.TransitiveTagKeys = []stsapi.Tag{{Key: wire.Some("a"), Value: wire.Some("b")}}, []string{"a"}
	tagged, _ := w.assume(ann, in)
	w.fails("AccessDeniedException", tagged, into(strict, "s2"))
	// Inherited tags are the caller's, not the request's.
	byCaller := w.newRole("by-caller", trustOf(string(alice), `"sts:*"`, `{"StringEquals":{"aws:PrincipalTag/a":"b"},"Null":{"aws:RequestTag/a":"true","aws:TagKeys":"true"}}`), nil)
	w.assume(tagged, into(byCaller, "s2"))
	in = into(first, "s1")
	in.SourceIdentity = wire.Some("ann")
	sourced, _ := w.assume(ann, in)
	w.fails("AccessDeniedException", sourced, into(strict, "s2"))
}

func TestFederationNeedsRights(t *testing.T) {
	w := newWorld(t)
	w.root(alice)
	u, ann := w.newUser(alice, "ann")
	weak := u.Clone()
	weak.Inline = nil
	w.must(iam.PutUser(w.directory, weak))
	for action, in := range map[string]wire.Input{
		"GetFederationToken on resource: arn:aws:sts::111122223333:federated-user/guest because no identity-based policy allows the sts:GetFederationToken action": &stsapi.GetFederationTokenRequest{Name: wire.Some("guest")},
		"GetAccessKeyInfo on resource: * because no identity-based policy allows the sts:GetAccessKeyInfo action":                                                  &stsapi.GetAccessKeyInfoRequest{AccessKeyID: wire.Some(ann.AccessKeyID)},
		"DecodeAuthorizationMessage on resource: * because no identity-based policy allows the sts:DecodeAuthorizationMessage action":                              &stsapi.DecodeAuthorizationMessageRequest{EncodedMessage: wire.Some("x")},
	} {
		w.fails("AccessDeniedException: User: arn:aws:iam::111122223333:user/ann is not authorized to perform: sts:"+action, ann, in)
	}
	if _, err := w.ask(ann, &stsapi.GetCallerIdentityRequest{}); err != nil {
		t.Error(err)
	}
	if _, err := w.ask(ann, &stsapi.GetSessionTokenRequest{}); err != nil {
		t.Error(err)
	}
}

// The record of a bearer's call is one, in the account of the role.
func TestRecordOfAWebIdentity(t *testing.T) {
	w := newWebWorld(t)
	records := audit.NewMemory(10)
	g := guard.New(guard.Config{Recorder: records, Directory: w.directory, Now: func() time.Time { return w.now }})
	in := w.request(w.provider.Token(nil))
	for _, op := range w.directory.STS() {
		if op.Name != "AssumeRoleWithWebIdentity" {
			continue
		}
		if _, failure := g.Answer(guard.Meta{RequestID: "r", Time: w.now}, func(call *guard.Call) (wire.Output, error) {
			call.Service, call.Name, call.Operation, call.Input = "sts", op.Name, &op, in
			return op.Do(t.Context(), call, in)
		}); failure != nil {
			t.Fatal(failure)
		}
	}
	all := records.Records()
	if len(all) != 1 || !strings.Contains(string(all[0]), `"userIdentity":{"type":"WebIdentityUser","principalId":"`+w.registered.ARN("aws")+`:keywright-test:somebody","userName":"somebody"`) ||
		!strings.Contains(string(all[0]), `"recipientAccountId":"111122223333"`) || strings.Contains(string(all[0]), string(in.WebIdentityToken.Expose())) {
		t.Errorf("%s", all)
	}
}

// Bearers of web identities are trusted by their provider's name and their token's claims, and by nothing else.
func TestTrustInWebIdentities(t *testing.T) {
	w := newWebWorld(t)
	const denied = "AccessDeniedException: Not authorized to perform sts:AssumeRoleWithWebIdentity"
	for _, c := range []struct {
		about, trust string
		claims       map[string]any
		want         string
	}{
		{"its subject", w.trust(`{"StringEquals":{"ISSUER:sub":"somebody","ISSUER:aud":"keywright-test"}}`), nil, ""},
		{"another subject", w.trust(`{"StringEquals":{"ISSUER:sub":"somebody else"}}`), nil, denied},
		{"another audience", w.trust(`{"StringEquals":{"ISSUER:aud":"other"}}`), nil, denied},
		{"its methods", w.trust(`{"ForAnyValue:StringEquals":{"ISSUER:amr":"otp"}}`), map[string]any{"amr": []string{"pwd", "otp"}}, ""},
		{"other methods", w.trust(`{"ForAnyValue:StringEquals":{"ISSUER:amr":"otp"}}`), map[string]any{"amr": []string{"pwd"}}, denied},
		{"its e-mail address", w.trust(`{"StringLike":{"ISSUER:email":"*@example.com"}}`), map[string]any{"email": "a@example.com"}, ""},
		{"no e-mail address", w.trust(`{"StringLike":{"ISSUER:email":"*@example.com"}}`), nil, denied},
		{"the audience beside the party", w.trust(`{"StringEquals":{"ISSUER:oaud":"backend","ISSUER:aud":"keywright-test"}}`), map[string]any{"aud": "backend", "azp": oidctest.Client}, ""},
		{"no party", w.trust(`{"Null":{"ISSUER:oaud":"false"}}`), nil, denied},
		{"the provider", w.trust(`{"StringLike":{"aws:FederatedProvider":"arn:aws:iam::111122223333:oidc-provider/*"}}`), nil, ""},
		{"another provider", strings.Replace(w.trust(`{}`), "oidc-provider/", "oidc-provider/x", 1), nil, denied},
		{"the account", trustOf(string(alice), `"sts:*"`, ""), nil, denied},
		{"everybody", trustOf("*", `"sts:*"`, ""), nil, denied},
		{"another action", strings.Replace(w.trust(`{}`), "sts:AssumeRoleWithWebIdentity", "sts:AssumeRole", 1), nil, denied},
	} {
		changed := w.role.Clone()
		changed.Trust = c.trust
		w.must(iam.PutRole(w.directory, changed))
		got := ""
		if _, err := w.ask(sigv4.Credential{}, w.request(w.provider.Token(c.claims))); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.about, got, c.want)
		}
	}
}
