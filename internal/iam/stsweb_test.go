package iam_test

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/iam"
	"github.com/keywright/keywright/internal/identity"
	"github.com/keywright/keywright/internal/oidc"
	"github.com/keywright/keywright/internal/oidc/oidctest"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/sigv4"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/stsapi"
)

// webWorld has an identity provider that alice's account has registered, and a role that trusts it.
type webWorld struct {
	*world
	provider   *oidctest.Provider
	registered *identity.Provider
	role       *identity.Role
}

func newWebWorld(t *testing.T) *webWorld {
	t.Helper()
	w := &webWorld{world: newWorld(t)}
	slog.SetDefault(slog.New(slog.DiscardHandler))
	clock := func() time.Time { return w.now }
	w.provider = oidctest.New(t, clock)
	w.directory = iam.New(iam.Config{Store: w.store, Barrier: w.barrier, Now: clock, Tokens: oidc.New(oidc.Config{Now: clock, Loopback: true})})
	w.root(alice)
	w.registered = &identity.Provider{
		Meta:      identity.Meta{Account: alice, ID: identity.NewID(identity.KindProvider), Name: strings.TrimPrefix(w.provider.URL, "https://"), CreatedAt: w.now},
		ClientIDs: []string{oidctest.Client}, Thumbprints: []string{oidctest.Thumbprint(w.provider.CA)},
	}
	w.must(iam.PutProvider(w.directory, w.registered))
	w.role = w.newRole("web", w.trust(`{"StringEquals":{"ISSUER:aud":"keywright-test"}}`), nil)
	return w
}

// trust returns a trust policy for bearers of the provider's tokens; ISSUER in the condition stands for its name.
func (w *webWorld) trust(condition string) string {
	return strings.ReplaceAll(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Federated":"arn:aws:iam::111122223333:oidc-provider/ISSUER"},`+
		`"Action":["sts:AssumeRoleWithWebIdentity","sts:TagSession","sts:SetSourceIdentity"],"Condition":`+condition+`}]}`, "ISSUER", w.registered.Name)
}

func (w *webWorld) request(token string) *stsapi.AssumeRoleWithWebIdentityRequest {
	return &stsapi.AssumeRoleWithWebIdentityRequest{
		RoleARN: wire.Some(w.role.ARN("aws")), RoleSessionName: wire.Some("job-1"), WebIdentityToken: secret.FromString(token),
	}
}

func TestWebIdentities(t *testing.T) {
	w := newWebWorld(t)
	in := w.request(w.provider.Token(map[string]any{
		"https://aws.amazon.com/tags":            map[string]any{"principal_tags": map[string]any{"repo": []string{"x"}}, "transitive_tag_keys": []string{"repo"}},
		"https://aws.amazon.com/source_identity": "ann",
	}))
	in.Policy = wire.Some(encryptOnly)
	in.DurationSeconds = wire.Some[int32](7200)
	answer, call, err := w.call(sigv4.Credential{}, in)
	w.must(err)
	out := answer.(*stsapi.AssumeRoleWithWebIdentityResponse)
	if out.SubjectFromWebIdentityToken.V != oidctest.Subject || out.Audience.V != oidctest.Client || out.Provider.V != w.registered.ARN("aws") || out.SourceIdentity.V != "ann" ||
		out.AssumedRoleUser.ARN.V != "arn:aws:sts::111122223333:assumed-role/web/job-1" || !out.PackedPolicySize.Set || !out.Credentials.Expiration.V.Equal(w.now.Add(2*time.Hour)) {
		t.Errorf("%+v", out)
	}
	// The record's caller is the bearer.
	if who := call.Caller; who.Type != policy.WebIdentity || who.Account != alice || who.Name != oidctest.Subject || call.Region != "us-east-1" ||
		who.PrincipalID != w.registered.ARN("aws")+":"+oidctest.Client+":"+oidctest.Subject {
		t.Errorf("%+v in %s", who, call.Region)
	}
	who, err := w.as(credentialOf(out.Credentials), "us-east-1")
	w.must(err)
	s := who.Session
	if who.Type != policy.RoleSession || who.UniqueID != w.role.ID || s.Provider != w.registered.ARN("aws") || s.SourceIdentity != "ann" || s.Chained || len(s.Policies) != 1 ||
		len(s.Tags) != 1 || s.Tags[0].Value != "x" || len(s.Transitive) != 1 {
		t.Errorf("%+v %+v", who, s)
	}
	// What a signature says does not count.
	_, ann := w.newUser(alice, "ann")
	_, call, err = w.call(ann, w.request(w.provider.Token(nil)))
	w.must(err)
	if call.Caller.Type != policy.WebIdentity {
		t.Errorf("%+v", call.Caller)
	}
}

func TestRefusedWebIdentities(t *testing.T) {
	w := newWebWorld(t)
	p := w.provider
	neighbour := oidctest.New(t, func() time.Time { return w.now })
	const noKey = "Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity documentation for requirements"
	const noToken = "InvalidIdentityTokenException: The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)"
	for _, c := range []struct{ about, want, token string }{
		{"no token", noToken, "none"},
		{"no signature", noToken, p.Unsigned(map[string]any{"alg": "none", "kid": "rsa"}, p.Claims(nil), nil)},
		{"an HMAC", noToken, p.Unsigned(map[string]any{"alg": "HS256", "kid": "rsa"}, p.Claims(nil), []byte("x"))},
		{"a forged one", "InvalidIdentityTokenException: The signature of the ID Token is not valid", p.Sign(jose.RS256, "rsa", neighbour.RSA, p.Claims(nil))},
		{"an unknown key", "InvalidIdentityTokenException: " + noKey, p.Sign(jose.RS256, "nobody", p.RSA, p.Claims(nil))},
		{"a stranger's", "InvalidIdentityTokenException: No OpenIDConnect provider found in your account for " + neighbour.URL, neighbour.Token(nil)},
		{"a strange issuer", "InvalidIdentityTokenException: Issuer must be a valid URL", p.Token(map[string]any{"iss": "nobody"})},
		{"an issuer in capitals", "InvalidIdentityTokenException: No OpenIDConnect provider found in your account for https://LOCAL", p.Token(map[string]any{"iss": "https://LOCAL"})},
		{"an expired one", "ExpiredTokenException: Token expired: current date/time 1767268800 must be before the expiration date/time 1767268799", p.Token(map[string]any{"exp": w.now.Unix() - 1})},
		{"one of tomorrow", "InvalidIdentityTokenException: Token is not valid yet", p.Token(map[string]any{"nbf": w.now.Add(time.Hour).Unix()})},
		{"another client's", "InvalidIdentityTokenException: Incorrect token audience", p.Token(map[string]any{"aud": "stranger"})},
		{"without a subject", "InvalidIdentityTokenException: Missing a required claim: sub", p.Token(map[string]any{"sub": nil})},
		{"bad tags", "InvalidIdentityTokenException: Missing a required claim: https://aws.amazon.com/tags", p.Token(map[string]any{"https://aws.amazon.com/tags": "x"})},
		{"a reserved tag", "InvalidParameterValue: Tag keys must not start with aws:, which is reserved.", p.Token(map[string]any{"https://aws.amazon.com/tags": map[string]any{"principal_tags": map[string]any{"aws:x": []string{"y"}}}})},
		{"a bad source identity", "ValidationException", p.Token(map[string]any{"https://aws.amazon.com/source_identity": "a b"})},
	} {
		if out, err := w.ask(sigv4.Credential{}, w.request(c.token)); out != nil || err == nil || err.Error() != c.want && !strings.HasPrefix(err.Error(), c.want+": ") {
			t.Errorf("%s:\n got %v\nwant %s", c.about, err, c.want)
		}
	}
	good := w.request(p.Token(nil))
	good.RoleARN = wire.Some("arn:aws:iam::111122223333:role/none")
	w.fails("AccessDeniedException: Not authorized to perform sts:AssumeRoleWithWebIdentity", sigv4.Credential{}, good)
	good.RoleARN = wire.Some("arn:aws:iam::444455556666:role/none")
	w.fails("InvalidIdentityTokenException: No OpenIDConnect provider found in your account for "+p.URL, sigv4.Credential{}, good)
	good.RoleARN = wire.Some("arn:aws:iam::111122223333:user/none")
	w.fails("ValidationException: arn:aws:iam::111122223333:user/none is invalid", sigv4.Credential{}, good)
	good = w.request(p.Token(nil))
	good.ProviderID = wire.Some("www.amazon.com")
	w.fails("ValidationException", sigv4.Credential{}, good)
	good = w.request(p.Token(nil))
	good.DurationSeconds = wire.Some[int32](7201)
	w.fails("ValidationException: The requested DurationSeconds exceeds the MaxSessionDuration set for this role.", sigv4.Credential{}, good)
	// The provider's server.
	registered := w.registered.Clone()
	registered.Thumbprints = []string{oidctest.Thumbprint(neighbour.CA)}
	w.must(iam.PutProvider(w.directory, registered))
	w.fails("InvalidIdentityTokenException: OpenIDConnect provider's HTTPS certificate doesn't match configured thumbprint", sigv4.Credential{}, w.request(p.Token(nil)))
	w.must(iam.PutProvider(w.directory, w.registered))
	if _, err := w.ask(sigv4.Credential{}, w.request(p.Token(nil))); err != nil {
		t.Error(err)
	}
	p.Discovery = func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusBadGateway) }
	w.now = w.now.Add(2 * time.Hour)
	w.fails("IDPCommunicationErrorException: "+noKey, sigv4.Credential{}, w.request(p.Token(nil)))
}

func TestUnsignedRegions(t *testing.T) {
	w := newWebWorld(t)
	in := w.request(w.provider.Token(nil))
	// The account is in partition aws, and so are its roles and providers, whatever the request says.
	in.RoleARN = wire.Some(w.role.ARN("aws-cn"))
	w.fails("InvalidIdentityTokenException: No OpenIDConnect provider found in your account for "+w.provider.URL, sigv4.Credential{}, in)
	account, err := w.store.GetAccount(context.Background(), alice)
	w.must(err)
	account.Partition = arn.China
	w.must(w.store.Update(context.Background(), func(tx *store.Tx) error { return tx.PutAccount(account) }))
	iam.Forget(w.directory, alice)
	w.must(iam.PutRole(w.directory, func() *identity.Role {
		r := w.role.Clone()
		r.Trust = strings.ReplaceAll(r.Trust, "arn:aws:", "arn:aws-cn:")
		return r
	}()))
	answer, call, err := w.call(sigv4.Credential{}, in)
	w.must(err)
	out := answer.(*stsapi.AssumeRoleWithWebIdentityResponse)
	if call.Region != "cn-north-1" || out.AssumedRoleUser.ARN.V != "arn:aws-cn:sts::111122223333:assumed-role/web/job-1" || out.Provider.V != w.registered.ARN("aws-cn") {
		t.Errorf("%s %+v", call.Region, out)
	}
	in.RoleARN = wire.Some(w.role.ARN("aws"))
	w.fails("InvalidIdentityTokenException: No OpenIDConnect provider found in your account for "+w.provider.URL, sigv4.Credential{}, in)
}
