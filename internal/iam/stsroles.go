package iam

import (
	"context"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/identity"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/stsapi"
)

// How long sessions of roles last ("AssumeRole", STS API reference).
const (
	defaultRoleSession = time.Hour
	maxChainedSession  = time.Hour
)

// The permissions that making a role's session takes, all of them on the role.
var (
	actionAssumeRole        = guard.NewAction("sts:AssumeRole")
	actionAssumeWebIdentity = guard.NewAction("sts:AssumeRoleWithWebIdentity")
	actionTagSession        = guard.NewAction("sts:TagSession")
	actionSetSourceIdentity = guard.NewAction("sts:SetSourceIdentity")
)

// assumption is a role's session in the making.
type assumption struct {
	action guard.Action
	role   *entry[*identity.Role]
	view   *view // of the role's account
	name   string
	asked  limits // what the request hands over
	limits limits // what the session gets: with inherited tags
	source string
	wish   wire.Opt[int32] // DurationSeconds
	facts  func(*guard.Facts)
	input  wire.Input
}

// errRoleARN answers what can be no role's ARN.
func errRoleARN(given string) error { return wire.Errorf(wire.CodeValidation, "%s is invalid", given) }

// findRole finds a role by its ARN, in any account of the installation that is in partition p. The role is nil if there is
// none, and the view if there is no such account.
func (d *Directory) findRole(ctx context.Context, given string, p arn.Partition) (*view, *entry[*identity.Role], error) {
	ref := parsePrincipal(given)
	if ref.form != roleForm {
		return nil, nil, errRoleARN(given)
	}
	v, ok, err := d.exists(ctx, ref.account)
	if !ok || err != nil || v.part() != p {
		return nil, nil, err
	}
	if role := exact(&v.roles, ref.name, ref.path); role != nil && role.noun.ARN(p) == given {
		return v, role, nil
	}
	return v, nil, nil
}

// authorize asks the role's trust policy, and the policies of the caller, for everything that the session takes.
func (a *assumption) authorize(call *guard.Call) error {
	trust, err := a.role.others[0].compile()
	if err != nil {
		return err
	}
	need := []guard.Action{a.action}
	if len(a.limits.Tags) > 0 {
		need = append(need, actionTagSession)
	}
	if a.source != "" {
		need = append(need, actionSetSourceIdentity)
	}
	n := a.role.noun
	for _, action := range need {
		if _, err := call.Authorize(guard.Resource{
			Action: action, ARN: n.ARN(partitionOf(call)), Owner: n.Account, Tags: n.Tags, Policy: trust, Foreign: true, Terse: true,
			Facts: a.conditions, Input: a.input,
		}); err != nil {
			return err
		}
	}
	return nil
}

// conditions are what policies may ask about the session that is wanted.
func (a *assumption) conditions(f *guard.Facts, _ wire.Input) {
	f.String("sts:RoleSessionName", a.name)
	if a.source != "" {
		f.String("sts:SourceIdentity", a.source)
	}
	f.Int("sts:DurationSeconds", int64(a.wish.Or(int32(defaultRoleSession/time.Second))))
	a.asked.facts(f) // inherited tags are the caller's: aws:PrincipalTag has them
	if a.facts != nil {
		a.facts(f)
	}
}

// life returns how long the session lasts.
func (a *assumption) life(chained bool) (time.Duration, error) {
	life := defaultRoleSession
	if a.wish.Set {
		life = time.Duration(a.wish.V) * time.Second
	}
	switch {
	case chained && life > maxChainedSession:
		return 0, wire.Errorf(wire.CodeValidation, "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining")
	case life > a.role.noun.MaxSession:
		return 0, wire.Errorf(wire.CodeValidation, "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	return life, nil
}

// made is a role's session as answers show it.
type made struct {
	credentials *stsapi.Credentials
	user        *stsapi.AssumedRoleUser
	packed      wire.Opt[int32]
	size        wire.Opt[int32]
}

// grant makes the session that was authorized.
func (d *Directory) grant(call *guard.Call, a *assumption, provider string, size wire.Opt[int32]) (made, error) {
	n := a.role.noun
	chained := call.Caller.Type == policy.RoleSession
	life, err := a.life(chained)
	if err != nil {
		return made{}, err
	}
	if err := a.limits.attach(a.view); err != nil {
		return made{}, err
	}
	m := made{user: &stsapi.AssumedRoleUser{
		AssumedRoleID: wire.Some(n.ID + ":" + a.name), ARN: wire.Some(n.SessionARN(partitionOf(call), a.name)),
	}}
	if m.packed, err = a.limits.fit(); err != nil {
		return made{}, err
	}
	m.credentials, m.size, err = d.grantSession(call, terms{
		Kind: roleSession, Account: n.Account, ID: n.ID, Name: a.name, limits: a.limits, Source: a.source, Provider: provider, Chained: chained,
	}, life, size)
	if err == nil {
		call.Concerns(n.Account, n.ARN(partitionOf(call)))
	}
	return m, err
}

// assumeRole makes a session of a role for a user or for another role's session.
func (d *Directory) assumeRole(ctx context.Context, call *guard.Call, in *stsapi.AssumeRoleRequest) (*stsapi.AssumeRoleResponse, error) {
	who := call.Caller
	switch {
	case who.Type == policy.AccountRoot:
		return nil, wire.Errorf(wire.CodeAccessDenied, "Roles may not be assumed by root accounts.")
	case in.SerialNumber.Set || in.TokenCode.Set:
		return nil, errNoDevice()
	case len(in.ProvidedContexts) > 0:
		return nil, wire.Errorf(wire.CodeValidation, "This server knows no context providers.")
	}
	asked, err := sessionLimits(partitionOf(call), in.Policy, in.PolicyARNs, in.Tags, in.TransitiveTagKeys)
	if err != nil {
		return nil, err
	}
	l, err := asked.inherit(who.Session)
	if err != nil {
		return nil, err
	}
	v, role, err := d.findRole(ctx, in.RoleARN.V, partitionOf(call))
	if err != nil {
		return nil, err
	}
	if role == nil { // as if it were there and did not trust the caller: nobody learns which roles there are
		return nil, call.Deny(actionAssumeRole, in.RoleARN.V)
	}
	a := &assumption{
		action: actionAssumeRole, role: role, view: v, name: in.RoleSessionName.V, asked: asked, limits: l, source: in.SourceIdentity.V, wish: in.DurationSeconds, input: in,
		facts: func(f *guard.Facts) {
			if in.ExternalID.Set {
				f.String("sts:ExternalId", in.ExternalID.V)
			}
		},
	}
	if who.Session != nil && who.Session.SourceIdentity != "" { // set once, it stays through every chain
		if a.source != "" && a.source != who.Session.SourceIdentity {
			return nil, call.Deny(actionSetSourceIdentity, in.RoleARN.V)
		}
		a.source = who.Session.SourceIdentity
	}
	if err := a.authorize(call); err != nil {
		return nil, err
	}
	m, err := d.grant(call, a, "", in.MinimumSessionTokenSize)
	if err != nil {
		return nil, err
	}
	out := &stsapi.AssumeRoleResponse{Credentials: m.credentials, AssumedRoleUser: m.user, PackedPolicySize: m.packed, SessionTokenSize: m.size}
	if a.source != "" {
		out.SourceIdentity = wire.Some(a.source)
	}
	return out, nil
}

func showAssumeRole(f *audit.Fields, in wire.Input) {
	r := in.(*stsapi.AssumeRoleRequest)
	f.String("roleArn", r.RoleARN.V)
	f.String("roleSessionName", r.RoleSessionName.V)
	showDuration(f, r.DurationSeconds)
	showOptional(f, "externalId", r.ExternalID)
	showOptional(f, "sourceIdentity", r.SourceIdentity)
	showLimits(f, r.Policy, r.PolicyARNs, r.Tags, r.TransitiveTagKeys)
}

func replyAssumeRole(f *audit.Fields, _ *guard.Call, out wire.Output) {
	r := out.(*stsapi.AssumeRoleResponse)
	showCredentials(f, r.Credentials)
	showAssumed(f, r.AssumedRoleUser)
	showPacked(f, r.PackedPolicySize)
	showOptional(f, "sourceIdentity", r.SourceIdentity)
}

func showAssumed(f *audit.Fields, u *stsapi.AssumedRoleUser) {
	f.Object("assumedRoleUser", func(f *audit.Fields) {
		f.String("assumedRoleId", u.AssumedRoleID.V)
		f.String("arn", u.ARN.V)
	})
}

var actionGetFederationToken = guard.NewAction("sts:GetFederationToken")

// getFederationToken makes a session for somebody whom the caller vouches for. He has what both the caller's policies and the
// session policies allow; without session policies, nothing but what resources give him by name.
func (d *Directory) getFederationToken(ctx context.Context, call *guard.Call, in *stsapi.GetFederationTokenRequest) (*stsapi.GetFederationTokenResponse, error) {
	who := call.Caller
	l, err := sessionLimits(partitionOf(call), in.Policy, in.PolicyARNs, in.Tags, nil)
	if err != nil {
		return nil, err
	}
	user := federatedARN(who.Account, in.Name.V, partitionOf(call))
	need := []guard.Action{actionGetFederationToken}
	if len(l.Tags) > 0 {
		need = append(need, actionTagSession)
	}
	for _, action := range need {
		if _, err := call.Authorize(guard.Resource{
			Action: action, ARN: user, Owner: who.Account, Facts: func(f *guard.Facts, _ wire.Input) { l.facts(f) }, Input: in,
		}); err != nil {
			return nil, err
		}
	}
	v, err := d.view(ctx, who.Account)
	if err != nil {
		return nil, err
	}
	if err := l.attach(v); err != nil {
		return nil, err
	}
	packed, err := l.fit()
	if err != nil {
		return nil, err
	}
	c, size, err := d.grantSession(call, terms{
		Kind: federatedSession, Account: who.Account, ID: who.UniqueID, Name: in.Name.V, limits: l,
	}, lifeOf(who, in.DurationSeconds), in.MinimumSessionTokenSize)
	if err != nil {
		return nil, err
	}
	return &stsapi.GetFederationTokenResponse{
		Credentials: c, PackedPolicySize: packed, SessionTokenSize: size,
		FederatedUser: &stsapi.FederatedUser{FederatedUserID: wire.Some(federatedID(who.Account, in.Name.V)), ARN: wire.Some(user)},
	}, nil
}

func showFederation(f *audit.Fields, in wire.Input) {
	r := in.(*stsapi.GetFederationTokenRequest)
	f.String("name", r.Name.V)
	showDuration(f, r.DurationSeconds)
	showLimits(f, r.Policy, r.PolicyARNs, r.Tags, nil)
}

func replyFederation(f *audit.Fields, _ *guard.Call, out wire.Output) {
	r := out.(*stsapi.GetFederationTokenResponse)
	showCredentials(f, r.Credentials)
	f.Object("federatedUser", func(f *audit.Fields) {
		f.String("federatedUserId", r.FederatedUser.FederatedUserID.V)
		f.String("arn", r.FederatedUser.ARN.V)
	})
	showPacked(f, r.PackedPolicySize)
}
