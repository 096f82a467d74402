package iam

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/identity"
	"github.com/keywright/keywright/internal/oidc"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/stsapi"
)

// assumeRoleWithWebIdentity makes a session of a role for the bearer of an identity provider's token. The request is not
// signed: the token proves who calls, to a provider that the role's account has registered and that the role trusts.
func (d *Directory) assumeRoleWithWebIdentity(
	ctx context.Context, call *guard.Call, in *stsapi.AssumeRoleWithWebIdentityRequest,
) (*stsapi.AssumeRoleWithWebIdentityResponse, error) {
	if call.Region == "" {
		call.Region = unsignedRegion(in.RoleARN.V)
	}
	call.Identify(nil, call.Region) // somebody may have signed the request all the same: that does not count
	if in.ProviderID.Set {
		return nil, wire.Errorf(wire.CodeValidation, "ProviderId is for OAuth 2.0 access tokens, which this server does not take.")
	}
	v, role, err := d.findRole(ctx, in.RoleARN.V, partitionOf(call))
	if err != nil {
		return nil, err
	}
	provider, claims, err := d.verifyToken(ctx, call, v, string(in.WebIdentityToken.Expose()))
	if err == nil && call.Late() { // the provider was asked for its keys, which are known now
		if err := call.Refresh(ctx); err != nil {
			return nil, err
		}
		if v, role, err = d.findRole(ctx, in.RoleARN.V, partitionOf(call)); err == nil {
			provider, claims, err = d.verifyToken(ctx, call, v, string(in.WebIdentityToken.Expose()))
		}
	}
	if err != nil {
		return nil, err
	}
	named := provider.ARN(partitionOf(call))
	call.Identify(&guard.Caller{
		Type: policy.WebIdentity, Account: provider.Account, PrincipalID: named + ":" + claims.Client + ":" + claims.Subject, Name: claims.Subject,
		Rights: &guard.Rights{}, Session: &guard.Session{IssuedAt: claims.IssuedAt, Provider: named},
	}, call.Region)
	l, err := claimedLimits(partitionOf(call), in, claims)
	if err != nil {
		return nil, err
	}
	if role == nil {
		return nil, wire.Errorf(wire.CodeAccessDenied, "Not authorized to perform %s", actionAssumeWebIdentity.Name())
	}
	a := &assumption{
		action: actionAssumeWebIdentity, role: role, view: v, name: in.RoleSessionName.V, asked: l, limits: l, source: claims.SourceIdentity, wish: in.DurationSeconds,
		input: in, facts: func(f *guard.Facts) { claimFacts(f, provider, named, claims) },
	}
	if err := a.authorize(call); err != nil {
		return nil, err
	}
	m, err := d.grant(call, a, provider.ARN(home), in.MinimumSessionTokenSize)
	if err != nil {
		return nil, err
	}
	out := &stsapi.AssumeRoleWithWebIdentityResponse{
		Credentials: m.credentials, AssumedRoleUser: m.user, PackedPolicySize: m.packed, SessionTokenSize: m.size,
		SubjectFromWebIdentityToken: wire.Some(claims.Subject), Provider: wire.Some(named), Audience: wire.Some(claims.Client),
	}
	if a.source != "" {
		out.SourceIdentity = wire.Some(a.source)
	}
	return out, nil
}

// unsignedRegion returns the Region of a request that has no signature to say it: the one in which each partition keeps its
// global services, because of the role that the request names.
func unsignedRegion(roleARN string) arn.Region {
	return parsePrincipal(roleARN).part.GlobalRegion()
}

// verifyToken finds the provider of a token in the role's account and has the token verified. v is nil if there is no such
// account.
func (d *Directory) verifyToken(ctx context.Context, call *guard.Call, v *view, token string) (*identity.Provider, *oidc.Claims, error) {
	issuer, err := oidc.Issuer(token)
	if err != nil {
		return nil, nil, tokenRefusal(call, issuer, err)
	}
	name, ok := strings.CutPrefix(issuer, "https://")
	if !ok {
		return nil, nil, wire.Errorf(stsapi.CodeInvalidIdentityTokenException, "Issuer must be a valid URL")
	}
	if v == nil || v.providers.named(name) == nil {
		return nil, nil, noProvider(issuer)
	}
	p := v.providers.named(name).noun
	claims, err := d.oidc.Verify(ctx, oidc.Provider{URL: p.URL(), ClientIDs: p.ClientIDs, Thumbprints: p.Thumbprints}, token)
	if err != nil {
		return nil, nil, tokenRefusal(call, issuer, err)
	}
	return p, claims, nil
}

// maxIssuer bounds how much of an unverified token an answer and its record repeat.
const maxIssuer = 255

func noProvider(issuer string) error {
	return wire.Errorf(stsapi.CodeInvalidIdentityTokenException, "No OpenIDConnect provider found in your account for %s", issuer[:min(len(issuer), maxIssuer)])
}

// tokenRefusal words why a token was not taken. What went wrong between the server and the provider goes into the log only.
func tokenRefusal(call *guard.Call, issuer string, err error) error {
	const noKey = "Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity documentation for requirements"
	var fault *oidc.Error
	if !errors.As(err, &fault) {
		return err
	}
	code, text := stsapi.CodeInvalidIdentityTokenException, ""
	switch fault.Fault {
	case oidc.MissingClaim:
		text = "Missing a required claim: " + fault.Claim
	case oidc.WrongIssuer:
		return noProvider(issuer)
	case oidc.WrongTime:
		text = "Token is not valid yet"
	case oidc.Expired:
		return wire.Errorf(stsapi.CodeExpiredTokenException, "Token expired: current date/time %d must be before the expiration date/time %d", call.Time.Unix(), fault.Expires.Unix())
	case oidc.WrongClient:
		text = "Incorrect token audience"
	case oidc.BadSignature:
		text = "The signature of the ID Token is not valid"
	case oidc.NoKey:
		text = noKey
	case oidc.Unreachable:
		code, text = stsapi.CodeIDPCommunicationErrorException, noKey
	case oidc.Untrusted:
		text = "OpenIDConnect provider's HTTPS certificate doesn't match configured thumbprint"
	default:
		text = "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)"
	}
	if fault.Fault >= oidc.NoKey {
		slog.Warn("an identity provider could not be asked", "requestId", call.RequestID, "issuer", issuer, "err", err)
	}
	return wire.Errorf(code, "%s", text)
}

// claimedLimits returns the limits of a session with the tags that the token asks for. These obey the rules of AssumeRole's
// own, so they are checked as such.
func claimedLimits(p arn.Partition, in *stsapi.AssumeRoleWithWebIdentityRequest, claims *oidc.Claims) (limits, error) {
	like := stsapi.AssumeRoleRequest{RoleARN: in.RoleARN, RoleSessionName: in.RoleSessionName, TransitiveTagKeys: claims.Transitive}
	for _, k := range slices.Sorted(maps.Keys(claims.Tags)) {
		like.Tags = append(like.Tags, stsapi.Tag{Key: wire.Some(k), Value: wire.Some(claims.Tags[k])})
	}
	if claims.SourceIdentity != "" {
		like.SourceIdentity = wire.Some(claims.SourceIdentity)
	}
	if err := wire.Validate(&like); err != nil {
		return limits{}, err
	}
	return sessionLimits(p, in.Policy, in.PolicyARNs, like.Tags, like.TransitiveTagKeys)
}

// claimFacts are what conditions may ask about a token ("Available keys for AWS OIDC federation", IAM user guide). Their
// names start with the provider's.
func claimFacts(f *guard.Facts, p *identity.Provider, named string, c *oidc.Claims) {
	f.String("aws:FederatedProvider", named)
	f.String(p.Name+":aud", c.Client)
	f.String(p.Name+":sub", c.Subject)
	if c.Party {
		f.Strings(p.Name+":oaud", c.Audience)
	}
	if c.Email != "" {
		f.String(p.Name+":email", c.Email)
	}
	if len(c.AMR) > 0 {
		f.Strings(p.Name+":amr", c.AMR)
	}
}

func showWebIdentity(f *audit.Fields, in wire.Input) {
	r := in.(*stsapi.AssumeRoleWithWebIdentityRequest)
	f.String("roleArn", r.RoleARN.V)
	f.String("roleSessionName", r.RoleSessionName.V)
	showDuration(f, r.DurationSeconds)
	showOptional(f, "providerId", r.ProviderID)
	showLimits(f, r.Policy, r.PolicyARNs, nil, nil)
}

func replyWebIdentity(f *audit.Fields, _ *guard.Call, out wire.Output) {
	r := out.(*stsapi.AssumeRoleWithWebIdentityResponse)
	showOptional(f, "subjectFromWebIdentityToken", r.SubjectFromWebIdentityToken)
	showCredentials(f, r.Credentials)
	showAssumed(f, r.AssumedRoleUser)
	showPacked(f, r.PackedPolicySize)
	showOptional(f, "provider", r.Provider)
	showOptional(f, "audience", r.Audience)
	showOptional(f, "sourceIdentity", r.SourceIdentity)
}
