package iam_test

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/iam"
	"github.com/keywright/keywright/internal/identity"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/sigv4"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/stsapi"
)

const (
	everything  = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
	encryptOnly = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:Encrypt","Resource":"*"}]}`
	trustAlice  = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":["sts:AssumeRole","sts:TagSession","sts:SetSourceIdentity"]}]}`
)

// newUser stores a user who may do everything, and returns it with its access key.
func (w *world) newUser(a arn.Account, name string) (*identity.User, sigv4.Credential) {
	w.t.Helper()
	u := &identity.User{Meta: identity.Meta{Account: a, ID: identity.NewID(identity.KindUser), Name: name, Path: "/", CreatedAt: w.now, Tags: []key.Tag{{Key: "team", Value: "red"}}}}
	u.PutInline(identity.Inline{Name: "p", Document: everything})
	w.must(iam.PutUser(w.directory, u))
	c := sigv4.Credential{AccessKeyID: fmt.Sprintf("AKIA%016d", rand.IntN(1e15)), Secret: secret.FromString("secret of " + name)}
	w.must(w.store.Update(context.Background(), func(tx *store.Tx) error {
		return tx.PutAccessKey(&store.AccessKey{ID: c.AccessKeyID, Account: a, Principal: u.ID, Status: store.AccessKeyActive, CreatedAt: w.now, Secret: c.Secret})
	}))
	return u, c
}

// newRole stores a role whose sessions may do everything. principals are those of the trust policy that are bound.
func (w *world) newRole(name, trust string, principals map[string]string) *identity.Role {
	w.t.Helper()
	r := &identity.Role{
		Meta:  identity.Meta{Account: alice, ID: identity.NewID(identity.KindRole), Name: name, Path: "/x/", CreatedAt: w.now, Tags: []key.Tag{{Key: "Team", Value: "role"}, {Key: "stage", Value: "test"}}},
		Trust: trust, Principals: principals, MaxSession: 2 * time.Hour,
	}
	r.PutInline(identity.Inline{Name: "p", Document: everything})
	w.must(iam.PutRole(w.directory, r))
	return r
}

func (w *world) newPolicy(a arn.Account, name, document string) *identity.Policy {
	w.t.Helper()
	p := &identity.Policy{
		Meta: identity.Meta{Account: a, ID: identity.NewID(identity.KindPolicy), Name: name, Path: "/", CreatedAt: w.now}, UpdatedAt: w.now, Default: 1, Next: 2,
		Versions: []identity.Version{{N: 1, Document: document, CreatedAt: w.now}},
	}
	w.must(iam.PutPolicy(w.directory, p))
	return p
}

// ask has an operation of STS done as the pipeline does it: signed with c, or unsigned if c is the zero value.
func (w *world) ask(c sigv4.Credential, in wire.Input) (wire.Output, error) {
	w.t.Helper()
	out, _, err := w.call(c, in)
	return out, err
}

func (w *world) call(c sigv4.Credential, in wire.Input) (wire.Output, *guard.Call, error) {
	w.t.Helper()
	return w.callIn("us-east-1", c, in)
}

func (w *world) callIn(region string, c sigv4.Credential, in wire.Input) (wire.Output, *guard.Call, error) {
	w.t.Helper()
	call := &guard.Call{Meta: guard.Meta{Time: w.now}}
	if c.AccessKeyID != "" {
		who, err := w.as(c, region)
		w.must(err)
		call.Identify(who, arn.Region(region))
	}
	if err := wire.Validate(in); err != nil {
		return nil, call, err
	}
	for _, op := range w.directory.STS() {
		if op.New().ShapeName() == in.ShapeName() {
			out, err := op.Do(context.Background(), call, in)
			return out, call, err
		}
	}
	w.t.Fatalf("no operation takes %s", in.ShapeName())
	return nil, nil, nil
}

func credentialOf(c *stsapi.Credentials) sigv4.Credential {
	return sigv4.Credential{AccessKeyID: c.AccessKeyID.V, Secret: c.SecretAccessKey, Token: c.SessionToken.V}
}

// assume returns the credentials of a role's session that must be given.
func (w *world) assume(c sigv4.Credential, in *stsapi.AssumeRoleRequest) (sigv4.Credential, *stsapi.AssumeRoleResponse) {
	w.t.Helper()
	out, err := w.ask(c, in)
	w.must(err)
	r := out.(*stsapi.AssumeRoleResponse)
	return credentialOf(r.Credentials), r
}

func into(r *identity.Role, name string) *stsapi.AssumeRoleRequest {
	return &stsapi.AssumeRoleRequest{RoleARN: wire.Some(r.ARN("aws")), RoleSessionName: wire.Some(name)}
}

// fails asks for something that must be refused with "Code: message"; "Code" alone leaves the message open.
func (w *world) fails(want string, c sigv4.Credential, in wire.Input) {
	w.t.Helper()
	out, err := w.ask(c, in)
	if out != nil || err == nil || err.Error() != want && !strings.HasPrefix(err.Error(), want+": ") {
		w.t.Errorf("%s:\n got %v\nwant %s", in.ShapeName(), err, want)
	}
}

func TestSessionsOfUsers(t *testing.T) {
	w := newWorld(t)
	w.root(alice)
	u, long := w.newUser(alice, "ann")
	out, err := w.ask(long, &stsapi.GetSessionTokenRequest{})
	w.must(err)
	c := credentialOf(out.(*stsapi.GetSessionTokenResponse).Credentials)
	if end := out.(*stsapi.GetSessionTokenResponse).Credentials.Expiration.V; !end.Equal(w.now.Add(12 * time.Hour)) {
		t.Errorf("until %v", end)
	}
	who, err := w.as(c, "us-east-1")
	w.must(err)
	if who.Type != policy.User || who.UniqueID != u.ID || who.PrincipalID != u.ID || who.ARN != "arn:aws:iam::111122223333:user/ann" || who.Name != "ann" ||
		who.AccessKeyID != c.AccessKeyID || who.Session == nil || !who.Session.IssuedAt.Equal(w.now) || who.Session.Policies != nil || len(who.Tags) != 1 || len(who.Rights.Identity) != 1 {
		t.Errorf("%+v %+v", who, who.Session)
	}
	out, err = w.ask(long, &stsapi.GetSessionTokenRequest{DurationSeconds: wire.Some[int32](129600)})
	w.must(err)
	if end := out.(*stsapi.GetSessionTokenResponse).Credentials.Expiration.V; !end.Equal(w.now.Add(36 * time.Hour)) {
		t.Errorf("until %v", end)
	}
	// The key that made it may go; what the user may do now counts; a rename shows.
	w.must(w.store.Update(context.Background(), func(tx *store.Tx) error {
		return tx.PutAccessKey(&store.AccessKey{ID: long.AccessKeyID, Account: alice, Principal: u.ID, Status: store.AccessKeyInactive, CreatedAt: w.now, Secret: long.Secret})
	}))
	changed := u.Clone()
	changed.Name, changed.Inline = "anna", nil
	w.must(iam.PutUser(w.directory, changed))
	who, err = w.as(c, "us-east-1")
	w.must(err)
	if who.ARN != "arn:aws:iam::111122223333:user/anna" || len(who.Rights.Identity) != 0 {
		t.Errorf("%+v", who)
	}
	// The user goes, and another comes who is called the same.
	w.must(iam.Remove(w.directory, changed))
	w.refused(sigv4.ErrUnknownCredential(), c)
	w.newUser(alice, "anna")
	w.refused(sigv4.ErrUnknownCredential(), c)
	w.directory = w.newDirectory(0)
	w.refused(sigv4.ErrUnknownCredential(), c)
}

func TestSessionsOfRoles(t *testing.T) {
	w := newWorld(t)
	w.root(alice)
	_, ann := w.newUser(alice, "ann")
	role := w.newRole("deploy", trustAlice, nil)
	managed := w.newPolicy(alice, "limit", encryptOnly)
	in := into(role, "ci-1")
	in.Policy = wire.Some(everything)
	in.PolicyARNs = []stsapi.PolicyDescriptorType{{ARN: wire.Some(managed.ARN("aws"))}, {ARN: wire.Some("arn:aws:iam::aws:policy/AdministratorAccess")}}
	in.Tags = []stsapi.Tag{{Key: wire.Some("TEAM"), Value: wire.Some("blue")}, {Key: wire.Some("cost"), Value: wire.Some("")}}
	in.TransitiveTagKeys = []string{"cost"}
	in.SourceIdentity = wire.Some("ann@example")
	c, out := w.assume(ann, in)
	if out.AssumedRoleUser.ARN.V != "arn:aws:sts::111122223333:assumed-role/deploy/ci-1" || out.AssumedRoleUser.AssumedRoleID.V != role.ID+":ci-1" ||
		out.SourceIdentity.V != "ann@example" || !out.Credentials.Expiration.V.Equal(w.now.Add(time.Hour)) || out.PackedPolicySize.V < 1 || out.PackedPolicySize.V > 30 ||
		int(out.SessionTokenSize.V) != len(c.Token) {
		t.Errorf("%+v %+v", out, out.AssumedRoleUser)
	}
	who, err := w.as(c, "us-east-1")
	w.must(err)
	s := who.Session
	if who.Type != policy.RoleSession || who.Account != alice || who.ARN != out.AssumedRoleUser.ARN.V || who.RoleARN != role.ARN("aws") || who.PrincipalID != role.ID+":ci-1" ||
		who.UniqueID != role.ID || who.Name != "" || who.AccessKeyID != c.AccessKeyID || len(who.Rights.Identity) != 1 {
		t.Errorf("%+v", who)
	}
	if want := []key.Tag{{Key: "stage", Value: "test"}, {Key: "TEAM", Value: "blue"}, {Key: "cost", Value: ""}}; !reflect.DeepEqual(who.Tags, want) {
		t.Errorf("tags %v", who.Tags)
	}
	if len(s.Policies) != 3 || s.Policies[1].ARN != managed.ARN("aws") || s.SourceIdentity != "ann@example" || s.Chained || s.Provider != "" || !s.IssuedAt.Equal(w.now) ||
		!reflect.DeepEqual(s.Transitive, []string{"cost"}) || s.IssuerType != "Role" || s.IssuerARN != role.ARN("aws") || s.IssuerID != role.ID || s.IssuerName != "deploy" {
		t.Errorf("%+v", s)
	}
	// Changes hold for the very next request.
	changed := role.Clone()
	changed.PutInline(identity.Inline{Name: "q", Document: encryptOnly})
	changed.Boundary = managed.ARN("aws")
	w.must(iam.PutRole(w.directory, changed))
	if who, err = w.as(c, "us-east-1"); err != nil || len(who.Rights.Identity) != 2 || who.Rights.Boundary == nil {
		t.Errorf("%+v, %v", who, err)
	}
	plain, _ := w.assume(ann, into(role, "ci-2"))
	changed = changed.Clone()
	changed.Boundary = ""
	w.must(iam.PutRole(w.directory, changed))
	w.must(iam.Remove(w.directory, managed)) // a session policy that could have denied something
	w.refused(sigv4.ErrUnknownCredential(), c)
	w.newPolicy(alice, "limit", everything) // another one
	w.refused(sigv4.ErrUnknownCredential(), c)
	_, err = w.as(plain, "us-east-1")
	w.must(err)
	w.must(iam.Remove(w.directory, changed))
	w.refused(sigv4.ErrUnknownCredential(), plain)
	w.newRole("deploy", trustAlice, nil)
	w.refused(sigv4.ErrUnknownCredential(), plain)
}

// What fits when it is compressed can still be too much to read again. It is refused when it is made, not when it is used.
func TestTermsThatAreTooLargeToReadAgain(t *testing.T) {
	w := newWorld(t)
	w.root(alice)
	_, ann := w.newUser(alice, "ann")
	in := into(w.newRole("deploy", trustAlice, nil), "job")
	for i := range 50 {
		in.Tags = append(in.Tags, stsapi.Tag{Key: wire.Some(fmt.Sprint(i) + strings.Repeat("𝒜", 120)), Value: wire.Some(strings.Repeat("𝒜", 256))})
	}
	w.fails("PackedPolicyTooLargeException: Packed policy consumes 116% of allotted space, please use smaller policy.", ann, in)
	in.Tags = in.Tags[:40]
	c, _ := w.assume(ann, in)
	if who, err := w.as(c, "us-east-1"); err != nil || len(who.Session.Tags) != 40 {
		t.Errorf("%+v, %v", who, err)
	}
}

func TestStolenAndAlteredTokens(t *testing.T) {
	w := newWorld(t)
	w.root(alice)
	_, ann := w.newUser(alice, "ann")
	role := w.newRole("deploy", trustAlice, nil)
	a, _ := w.assume(ann, into(role, "a1"))
	b, _ := w.assume(ann, into(role, "b1"))
	for range 2 { // before and after the tokens are remembered
		w.refused(sigv4.ErrUnknownCredential(), sigv4.Credential{AccessKeyID: a.AccessKeyID, Secret: a.Secret, Token: b.Token})
		w.refused(sigv4.ErrUnknownCredential(), sigv4.Credential{AccessKeyID: a.AccessKeyID, Secret: b.Secret, Token: b.Token})
		w.refused(sigv4.ErrMismatch(), sigv4.Credential{AccessKeyID: a.AccessKeyID, Secret: b.Secret, Token: a.Token})
		w.refused(sigv4.ErrUnknownCredential(), sigv4.Credential{AccessKeyID: a.AccessKeyID, Secret: a.Secret, Token: a.Token + "="})
		w.refused(sigv4.ErrUnknownCredential(), sigv4.Credential{AccessKeyID: a.AccessKeyID, Secret: a.Secret, Token: a.Token[1:] + a.Token[:1]})
		for _, c := range []sigv4.Credential{a, b} {
			if _, err := w.as(c, "us-east-1"); err != nil {
				t.Error(err)
			}
		}
	}
	// Another installation's tokens are nothing here, though it has the same accounts.
	elsewhere := newWorld(t)
	elsewhere.root(alice)
	_, other := elsewhere.newUser(alice, "ann")
	strange, _ := elsewhere.assume(other, into(elsewhere.newRole("deploy", trustAlice, nil), "a1"))
	w.refused(sigv4.ErrUnknownCredential(), strange)
	w.now = w.now.Add(time.Hour - time.Second)
	_, err := w.as(a, "us-east-1")
	w.must(err)
	w.now = w.now.Add(time.Second)
	w.refused(sigv4.ErrExpiredToken(), a) // although it is remembered
	w.directory = w.newDirectory(0)
	w.refused(sigv4.ErrExpiredToken(), a)
}

func TestOpenedTokensAreBounded(t *testing.T) {
	w := newWorld(t)
	w.root(alice)
	_, ann := w.newUser(alice, "ann")
	role := w.newRole("deploy", trustAlice, nil)
	w.directory = w.newDirectory(4)
	var all []sigv4.Credential
	for i := range 10 {
		c, _ := w.assume(ann, into(role, fmt.Sprintf("s-%d", i)))
		all = append(all, c)
	}
	for _, c := range append(all, all...) {
		if _, err := w.as(c, "us-east-1"); err != nil {
			t.Error(err)
		}
	}
	if n := iam.OpenedTokens(w.directory); n != 4 {
		t.Errorf("%d tokens are remembered", n)
	}
}

func TestDurations(t *testing.T) {
	w := newWorld(t)
	w.root(alice)
	_, ann := w.newUser(alice, "ann")
	role, next := w.newRole("first", trustAlice, nil), w.newRole("second", trustAlice, nil)
	long := into(role, "s1")
	long.DurationSeconds = wire.Some[int32](7200)
	c, out := w.assume(ann, long)
	if !out.Credentials.Expiration.V.Equal(w.now.Add(2 * time.Hour)) {
		t.Error(out.Credentials.Expiration.V)
	}
	long.DurationSeconds = wire.Some[int32](7201)
	w.fails("ValidationException: The requested DurationSeconds exceeds the MaxSessionDuration set for this role.", ann, long)
	long.DurationSeconds = wire.Some[int32](43201)
	w.fails("ValidationException: 1 validation error detected: Value '43201' at 'durationSeconds' failed to satisfy constraint: Member must have value less than or equal to 43200", ann, long)
	chained := into(next, "s2")
	chained.DurationSeconds = wire.Some[int32](3601)
	w.fails("ValidationException: The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining", c, chained)
	chained.DurationSeconds = wire.Some[int32](3600)
	second, _ := w.assume(c, chained)
	who, err := w.as(second, "us-east-1")
	w.must(err)
	if !who.Session.Chained || who.RoleARN != next.ARN("aws") {
		t.Errorf("%+v", who.Session)
	}
	// A chain outlives the session that it began with, but each link has its own hour.
	w.now = w.now.Add(time.Hour)
	w.refused(sigv4.ErrExpiredToken(), second)
	_, err = w.as(c, "us-east-1")
	w.must(err)
}

func TestChains(t *testing.T) {
	w := newWorld(t)
	w.root(alice)
	_, ann := w.newUser(alice, "ann")
	role, next := w.newRole("first", trustAlice, nil), w.newRole("second", trustAlice, map[string]string{})
	in := into(role, "s1")
	in.Tags = []stsapi.Tag{{Key: wire.Some("Cost"), Value: wire.Some("1")}, {Key: wire.Some("project"), Value: wire.Some("x")}}
	in.TransitiveTagKeys, in.SourceIdentity = []string{"cost"}, wire.Some("ann")
	first, _ := w.assume(ann, in)
	again := into(next, "s2")
	again.Tags = []stsapi.Tag{{Key: wire.Some("project"), Value: wire.Some("y")}}
	second, out := w.assume(first, again)
	who, err := w.as(second, "us-east-1")
	w.must(err)
	if want := []key.Tag{{Key: "project", Value: "y"}, {Key: "Cost", Value: "1"}}; !reflect.DeepEqual(who.Session.Tags, want) {
		t.Errorf("tags %v", who.Session.Tags)
	}
	if who.Session.SourceIdentity != "ann" || out.SourceIdentity.V != "ann" || !reflect.DeepEqual(who.Session.Transitive, []string{"cost"}) {
		t.Errorf("%+v", who.Session)
	}
	again.Tags = []stsapi.Tag{{Key: wire.Some("COST"), Value: wire.Some("2")}}
	w.fails("InvalidParameterValue: One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from the calling session.", first, again)
	again.Tags, again.SourceIdentity = nil, wire.Some("bob")
	w.fails("AccessDeniedException: User: arn:aws:sts::111122223333:assumed-role/first/s1 is not authorized to perform: sts:SetSourceIdentity on resource: arn:aws:iam::111122223333:role/x/second", first, again)
	again.SourceIdentity = wire.Some("ann")
	w.assume(first, again)
}

func TestFederatedUsers(t *testing.T) {
	w := newWorld(t)
	root := w.root(alice)
	u, ann := w.newUser(alice, "ann")
	out, err := w.ask(ann, &stsapi.GetFederationTokenRequest{Name: wire.Some("guest"), Policy: wire.Some(encryptOnly), Tags: []stsapi.Tag{{Key: wire.Some("a"), Value: wire.Some("b")}}})
	w.must(err)
	r := out.(*stsapi.GetFederationTokenResponse)
	if r.FederatedUser.ARN.V != "arn:aws:sts::111122223333:federated-user/guest" || r.FederatedUser.FederatedUserID.V != "111122223333:guest" ||
		!r.Credentials.Expiration.V.Equal(w.now.Add(12*time.Hour)) || !r.PackedPolicySize.Set {
		t.Errorf("%+v %+v", r, r.FederatedUser)
	}
	c := credentialOf(r.Credentials)
	who, err := w.as(c, "us-east-1")
	w.must(err)
	if who.Type != policy.FederatedUser || who.ARN != r.FederatedUser.ARN.V || who.PrincipalID != "111122223333:guest" || who.Name != "" || len(who.Rights.Identity) != 1 ||
		len(who.Session.Policies) != 1 || who.Session.IssuerType != "User" || who.Session.IssuerID != u.ID || who.Session.IssuerName != "ann" || len(who.Tags) != 1 {
		t.Errorf("%+v %+v", who, who.Session)
	}
	const cannot = "AccessDeniedException: Cannot call %s with session credentials"
	w.fails(fmt.Sprintf(cannot, "GetFederationToken"), c, &stsapi.GetFederationTokenRequest{Name: wire.Some("other")})
	w.fails(fmt.Sprintf(cannot, "GetSessionToken"), c, &stsapi.GetSessionTokenRequest{})
	w.fails(fmt.Sprintf(cannot, "AssumeRole"), c, into(w.newRole("r", trustAlice, nil), "s1"))
	w.fails(fmt.Sprintf(cannot, "GetAccessKeyInfo"), c, &stsapi.GetAccessKeyInfoRequest{AccessKeyID: wire.Some(ann.AccessKeyID)})
	if out, err := w.ask(c, &stsapi.GetCallerIdentityRequest{}); err != nil || out.(*stsapi.GetCallerIdentityResponse).ARN.V != who.ARN {
		t.Errorf("%v, %v", out, err)
	}
	// A root user's lasts an hour at most and, without session policies, has no policies at all.
	out, err = w.ask(root, &stsapi.GetFederationTokenRequest{Name: wire.Some("guest"), DurationSeconds: wire.Some[int32](129600)})
	w.must(err)
	r = out.(*stsapi.GetFederationTokenResponse)
	if !r.Credentials.Expiration.V.Equal(w.now.Add(time.Hour)) || r.PackedPolicySize.Set {
		t.Errorf("%+v", r)
	}
	if who, err := w.as(credentialOf(r.Credentials), "us-east-1"); err != nil || who.Session.Policies != nil || who.Session.IssuerType != "Root" || who.UniqueID != "" {
		t.Errorf("%+v, %v", who, err)
	}
	w.must(iam.Remove(w.directory, u))
	w.refused(sigv4.ErrUnknownCredential(), c)
}

// federated returns the credentials of a federated user that everything is allowed to.
func (w *world) federated(c sigv4.Credential) sigv4.Credential {
	w.t.Helper()
	out, err := w.ask(c, &stsapi.GetFederationTokenRequest{Name: wire.Some("guest"), Policy: wire.Some(everything)})
	w.must(err)
	return credentialOf(out.(*stsapi.GetFederationTokenResponse).Credentials)
}

// What nobody may ask, whatever policies say.
func TestWhoMayAsk(t *testing.T) {
	w := newWorld(t)
	root := w.root(alice)
	_, ann := w.newUser(alice, "ann")
	role := w.newRole("deploy", trustAlice, nil)
	w.fails("AccessDeniedException: Roles may not be assumed by root accounts.", root, into(role, "s1"))
	rootSession, _, err := w.session(root, &stsapi.GetSessionTokenRequest{})
	w.must(err)
	w.fails("AccessDeniedException: Roles may not be assumed by root accounts.", rootSession, into(role, "s1"))
	annSession, _, err := w.session(ann, &stsapi.GetSessionTokenRequest{})
	w.must(err)
	inRole, _ := w.assume(annSession, into(role, "s1")) // users may, with a session of their own too
	for _, c := range []sigv4.Credential{rootSession, annSession, inRole} {
		w.fails("AccessDeniedException: Cannot call GetSessionToken with session credentials", c, &stsapi.GetSessionTokenRequest{})
		w.fails("AccessDeniedException: Cannot call GetFederationToken with session credentials", c, &stsapi.GetFederationTokenRequest{Name: wire.Some("guest")})
	}
	w.fails("AccessDeniedException: Cannot call DecodeAuthorizationMessage with session credentials", annSession, &stsapi.DecodeAuthorizationMessageRequest{EncodedMessage: wire.Some("x")})
	w.fails("AccessDeniedException: MultiFactorAuthentication failed with invalid MFA one time pass code. ", ann, func() wire.Input {
		in := into(role, "s1")
		in.SerialNumber, in.TokenCode = wire.Some("GAHT12345678"), wire.Some("123456")
		return in
	}())
	for _, in := range []wire.Input{
		&stsapi.GetCallerIdentityRequest{}, &stsapi.GetSessionTokenRequest{}, into(role, "s1"), &stsapi.GetFederationTokenRequest{Name: wire.Some("guest")},
		&stsapi.GetAccessKeyInfoRequest{AccessKeyID: wire.Some(ann.AccessKeyID)}, &stsapi.DecodeAuthorizationMessageRequest{EncodedMessage: wire.Some("x")},
	} {
		w.fails("MissingAuthenticationTokenException", sigv4.Credential{}, in)
	}
	for _, given := range []string{"arn:aws:iam::111122223333:user/ann", "arn:aws:iam::111122223333:root", "arn:aws:sts::111122223333:assumed-role/deploy/s1", "not an arn but long enough"} {
		w.fails("ValidationException: "+given+" is invalid", ann, &stsapi.AssumeRoleRequest{RoleARN: wire.Some(given), RoleSessionName: wire.Some("s1")})
	}
	// A role that is not there looks like one that does not trust the caller.
	for _, given := range []string{
		"arn:aws:iam::111122223333:role/deploy", "arn:aws:iam::111122223333:role/x/Deploy", "arn:aws:iam::444455556666:role/x/deploy", "arn:aws-cn:iam::111122223333:role/x/deploy",
	} {
		w.fails("AccessDeniedException: User: arn:aws:iam::111122223333:user/ann is not authorized to perform: sts:AssumeRole on resource: "+given,
			ann, &stsapi.AssumeRoleRequest{RoleARN: wire.Some(given), RoleSessionName: wire.Some("s1")})
	}
	for _, op := range w.directory.IAM() {
		for who, c := range map[string]sigv4.Credential{"a root user's session": rootSession, "a user's session": annSession, "a federated user": w.federated(root)} {
			caller, err := w.as(c, "us-east-1")
			w.must(err)
			call := &guard.Call{Meta: guard.Meta{Time: w.now}}
			call.Identify(caller, "us-east-1")
			if _, err := op.Do(context.Background(), call, op.New()); err == nil || err.Error() != "UnrecognizedClientException: The security token included in the request is invalid." {
				t.Errorf("%s of %s: %v", op.Name, who, err)
			}
		}
	}
	provided := into(role, "s1")
	provided.ProvidedContexts = []stsapi.ProvidedContext{{ProviderARN: wire.Some("arn:aws:iam::aws:contextProvider/x")}}
	w.fails("ValidationException: This server knows no context providers.", ann, provided)
}

func TestLimitsOfSessions(t *testing.T) {
	w := newWorld(t)
	w.root(alice)
	_, ann := w.newUser(alice, "ann")
	role := w.newRole("deploy", trustAlice, nil)
	tag := func(k, v string) stsapi.Tag { return stsapi.Tag{Key: wire.Some(k), Value: wire.Some(v)} }
	noise := func(n int) string { // does not compress
		b := make([]byte, n)
		for i := range b {
			b[i] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"[rand.IntN(62)]
		}
		return string(b)
	}
	for _, c := range []struct {
		about  string
		change func(*stsapi.AssumeRoleRequest)
		want   string
	}{
		{"a broken policy", func(in *stsapi.AssumeRoleRequest) { in.Policy = wire.Some("{") }, "MalformedPolicyDocumentException"},
		{"a policy with a principal", func(in *stsapi.AssumeRoleRequest) { in.Policy = wire.Some(trustAlice) }, "MalformedPolicyDocumentException"},
		{"a large policy", func(in *stsapi.AssumeRoleRequest) {
			in.Policy = wire.Some(strings.Replace(encryptOnly, `"*"`, `"arn:aws:kms:us-east-1:111122223333:`+noise(2048)+`"`, 1))
		}, "PackedPolicyTooLargeException: Packed policy consumes 10"},
		{"a policy that is not there", func(in *stsapi.AssumeRoleRequest) {
			in.PolicyARNs = []stsapi.PolicyDescriptorType{{ARN: wire.Some("arn:aws:iam::111122223333:policy/none")}}
		}, "ValidationException: Policy arn:aws:iam::111122223333:policy/none does not exist or is not attachable."},
		{"another account's policy", func(in *stsapi.AssumeRoleRequest) {
			in.PolicyARNs = []stsapi.PolicyDescriptorType{{ARN: wire.Some("arn:aws:iam::444455556666:policy/none")}}
		}, "ValidationException: Policy arn:aws:iam::444455556666:policy/none does not exist or is not attachable."},
		{"eleven policies", func(in *stsapi.AssumeRoleRequest) {
			in.PolicyARNs = make([]stsapi.PolicyDescriptorType, 11)
		}, "ValidationException: The number of session policies exceeds the limit of 10."},
		{"a policy twice", func(in *stsapi.AssumeRoleRequest) {
			in.PolicyARNs = []stsapi.PolicyDescriptorType{{ARN: wire.Some("arn:aws:iam::aws:policy/IAMFullAccess")}, {ARN: wire.Some("arn:aws:iam::aws:policy/IAMFullAccess")}}
		}, "ValidationException: Session policies must be given by ARN, each once."},
		{"a tag twice", func(in *stsapi.AssumeRoleRequest) {
			in.Tags = []stsapi.Tag{tag("Team", "a"), tag("team", "b")}
		}, "InvalidParameterValue: Duplicate tag keys found. Please note that Tag keys are case insensitive."},
		{"a reserved tag", func(in *stsapi.AssumeRoleRequest) { in.Tags = []stsapi.Tag{tag("AWS:x", "a")} }, "InvalidParameterValue: Tag keys must not start with aws:, which is reserved."},
		{"a transitive tag that is none", func(in *stsapi.AssumeRoleRequest) {
			in.Tags, in.TransitiveTagKeys = []stsapi.Tag{tag("a", "b")}, []string{"c"}
		}, "InvalidParameterValue: The specified transitive tag key must be included in the requested tags."},
		{"too many tags", func(in *stsapi.AssumeRoleRequest) {
			for i := range 51 {
				in.Tags = append(in.Tags, tag(fmt.Sprint(i), ""))
			}
		}, "ValidationException: 1 validation error detected: Value "},
		{"tags that do not fit", func(in *stsapi.AssumeRoleRequest) {
			for range 14 {
				in.Tags = append(in.Tags, tag(noise(100), noise(256)))
			}
		}, "PackedPolicyTooLargeException: Packed policy consumes 1"},
	} {
		in := into(role, "s1")
		c.change(in)
		if out, err := w.ask(ann, in); out != nil || err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.about, err, c.want)
		}
	}
	// What just fits comes through whole, in a token that a header can hold.
	in := into(role, "s1")
	for range 9 {
		in.Tags = append(in.Tags, tag(noise(100), noise(256)))
	}
	c, out := w.assume(ann, in)
	if len(c.Token) > 8<<10 || out.PackedPolicySize.V < 80 {
		t.Errorf("a token of %d octets, %d%%", len(c.Token), out.PackedPolicySize.V)
	}
	if who, err := w.as(c, "us-east-1"); err != nil || len(who.Session.Tags) != 9 {
		t.Errorf("%v, %v", who, err)
	}
}

func TestGetAccessKeyInfo(t *testing.T) {
	w := newWorld(t)
	root := w.root(alice)
	w.root(bob)
	_, other := w.newUser(bob, "bert")
	out, err := w.ask(root, &stsapi.GetAccessKeyInfoRequest{AccessKeyID: wire.Some(other.AccessKeyID)})
	if err != nil || out.(*stsapi.GetAccessKeyInfoResponse).Account.V != string(bob) {
		t.Errorf("%v, %v", out, err)
	}
	w.fails("ValidationException: The access key id AKIANOBODYNOBODYNOBO is not known.", root, &stsapi.GetAccessKeyInfoRequest{AccessKeyID: wire.Some("AKIANOBODYNOBODYNOBO")})
}

func TestAuthorizationMessages(t *testing.T) {
	w := newWorld(t)
	root, other := w.root(alice), w.root(bob)
	const text = `{"allowed":false,"context":{"principal":{"arn":"arn:aws:iam::111122223333:user/ann"},"action":"kms:Encrypt"}}`
	sealed, err := w.directory.SealMessage([]byte(`{"accounts":["111122223333"],"refused":"AIDASOMEBODY","message":` + text + `}`))
	w.must(err)
	if strings.Contains(sealed, "ann") || len(sealed) > 10240 {
		t.Error(sealed)
	}
	out, err := w.ask(root, &stsapi.DecodeAuthorizationMessageRequest{EncodedMessage: wire.Some(sealed)})
	if err != nil || out.(*stsapi.DecodeAuthorizationMessageResponse).DecodedMessage.V != text {
		t.Errorf("%v, %v", out, err)
	}
	const refusal = "InvalidAuthorizationMessageException: Message is not valid"
	w.fails(refusal, other, &stsapi.DecodeAuthorizationMessageRequest{EncodedMessage: wire.Some(sealed)})
	session, _, err := w.session(root, &stsapi.GetSessionTokenRequest{})
	w.must(err)
	for _, bad := range []string{"x", sealed[4:], "B" + sealed[1:], session.Token} {
		w.fails(refusal, root, &stsapi.DecodeAuthorizationMessageRequest{EncodedMessage: wire.Some(bad)})
	}
	// A message is no session, either.
	w.refused(sigv4.ErrUnknownCredential(), sigv4.Credential{AccessKeyID: session.AccessKeyID, Secret: session.Secret, Token: sealed})
	for _, bad := range []string{"", "{}", `{"accounts":[],"message":1}`, `{"accounts":["111122223333"]}`, `{"accounts":["111122223333"],"message":"` + strings.Repeat("x", 7500) + `"}`} {
		if _, err := w.directory.SealMessage([]byte(bad)); err == nil {
			t.Errorf("%.20s was sealed", bad)
		}
	}
}

// FuzzSession reads arbitrary plaintexts as session tokens.
func FuzzSession(f *testing.F) {
	plain := func(text string) []byte {
		var packed bytes.Buffer
		z, err := flate.NewWriter(&packed, 9)
		if err = errors.Join(err, write(z, text)); err != nil {
			f.Fatal(err)
		}
		b := append([]byte{2}, strings.Repeat("s", 40)...)
		b = binary.BigEndian.AppendUint32(b, uint32(packed.Len()))
		return append(append(b, packed.Bytes()...), 0, 0, 0)
	}
	f.Add(plain(`{"kind":"role","account":"111122223333","id":"AROAX","name":"s","issued":1,"expires":2,"tags":[{"Key":"a","Value":"b"}]}`))
	f.Add(plain(`{"kind":"root","account":"111122223333","id":"111122223333","issued":1,"expires":2}`))
	f.Add(plain(`{"kind":"role","account":"111122223333","id":"AROAX","name":"s","issued":1,"expires":2,"newer":true}`))
	f.Add([]byte{1})
	f.Add(append([]byte{2}, strings.Repeat("\xff", 60)...))
	if _, ok := iam.ParseSession(plain(`{"kind":"root","account":"111122223333","id":"111122223333","issued":1,"expires":2,"newer":true}`)); ok {
		f.Error("terms of a newer program were taken")
	}
	f.Fuzz(func(t *testing.T, plain []byte) {
		if account, ok := iam.ParseSession(plain); ok && len(account) != 12 {
			t.Errorf("account %q", account)
		}
	})
}

func write(z *flate.Writer, text string) error {
	if _, err := z.Write([]byte(text)); err != nil {
		return err
	}
	return z.Close()
}
