package iam

import (
	"context"
	"errors"
	"time"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/sigv4"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/stsapi"
)

// stsOperation is a row of the table below.
type stsOperation struct {
	Name string
	// Callers are who may ask at all, whatever policies say ("Comparing the AWS STS API operations", IAM user guide). Zero
	// means nobody in particular: the operation finds out itself who calls.
	Callers callers

	new   func() wire.Input
	do    func(*Directory, context.Context, *guard.Call, wire.Input) (wire.Output, error)
	show  func(*audit.Fields, wire.Input)               // requestParameters; nil for none
	reply func(*audit.Fields, *guard.Call, wire.Output) // responseElements; nil for none
}

// callers is a set of kinds of callers.
type callers uint8

const (
	longTermRoot callers = 1 << iota
	longTermUser
	rootToken // the session of a root user or user, by GetSessionToken
	userToken
	roleBearer
	federatedBearer
	serviceCredential

	longTerm = longTermRoot | longTermUser
	anybody  = longTerm | rootToken | userToken | roleBearer | federatedBearer | serviceCredential
)

// kindOf returns which kind of caller it is; zero for nobody.
func kindOf(who *guard.Caller) callers {
	switch who.Type {
	case policy.AccountRoot:
		if who.Session != nil {
			return rootToken
		}
		return longTermRoot
	case policy.User:
		if who.Session != nil {
			return userToken
		}
		return longTermUser
	case policy.RoleSession:
		return roleBearer
	case policy.FederatedUser:
		return federatedBearer
	case policy.Service:
		return serviceCredential
	}
	return 0
}

// stsOperations is the table of what STS does here. All of them only give out credentials and answers: nothing is changed.
var stsOperations = []stsOperation{
	{
		Name: "AssumeRole", Callers: anybody &^ (federatedBearer | serviceCredential), // root users get an answer of their own
		new: func() wire.Input { return new(stsapi.AssumeRoleRequest) }, do: stsOn((*Directory).assumeRole),
		show: showAssumeRole, reply: replyAssumeRole,
	},
	{
		// Unsigned: the token in it proves who calls.
		Name: "AssumeRoleWithWebIdentity",
		new:  func() wire.Input { return new(stsapi.AssumeRoleWithWebIdentityRequest) }, do: stsOn((*Directory).assumeRoleWithWebIdentity),
		show: showWebIdentity, reply: replyWebIdentity,
	},
	{
		Name: "DecodeAuthorizationMessage", Callers: longTerm | roleBearer,
		new: func() wire.Input { return new(stsapi.DecodeAuthorizationMessageRequest) }, do: stsOn((*Directory).decodeAuthorizationMessage),
	},
	{
		Name: "GetAccessKeyInfo", Callers: longTerm | roleBearer,
		new: func() wire.Input { return new(stsapi.GetAccessKeyInfoRequest) }, do: stsOn((*Directory).getAccessKeyInfo),
		show: func(f *audit.Fields, in wire.Input) {
			f.String("accessKeyId", in.(*stsapi.GetAccessKeyInfoRequest).AccessKeyID.V)
		},
	},
	{
		Name: "GetCallerIdentity", Callers: anybody,
		new: func() wire.Input { return new(stsapi.GetCallerIdentityRequest) }, do: stsOn((*Directory).getCallerIdentity),
	},
	{
		Name: "GetFederationToken", Callers: longTerm,
		new: func() wire.Input { return new(stsapi.GetFederationTokenRequest) }, do: stsOn((*Directory).getFederationToken),
		show: showFederation, reply: replyFederation,
	},
	{
		Name: "GetSessionToken", Callers: longTerm,
		new: func() wire.Input { return new(stsapi.GetSessionTokenRequest) }, do: stsOn((*Directory).getSessionToken),
		show: func(f *audit.Fields, in wire.Input) {
			showDuration(f, in.(*stsapi.GetSessionTokenRequest).DurationSeconds)
		},
		reply: func(f *audit.Fields, _ *guard.Call, out wire.Output) {
			showCredentials(f, out.(*stsapi.GetSessionTokenResponse).Credentials)
		},
	},
}

// stsOn gives the untyped column of a row its typed method. The pipeline decodes each request into the input of its
// operation, so the assertion holds.
func stsOn[In wire.Input, Out wire.Output](f func(*Directory, context.Context, *guard.Call, In) (Out, error)) func(*Directory, context.Context, *guard.Call, wire.Input) (wire.Output, error) {
	return func(d *Directory, ctx context.Context, call *guard.Call, in wire.Input) (wire.Output, error) {
		out, err := f(d, ctx, call, in.(In))
		if err != nil {
			return nil, err
		}
		return out, nil
	}
}

// STS returns the operations of STS.
func (d *Directory) STS() []guard.Operation {
	list := make([]guard.Operation, len(stsOperations))
	for i := range stsOperations {
		op := &stsOperations[i]
		list[i] = guard.Operation{
			Service: "sts", Name: op.Name, ReadOnly: true, Perishable: true, New: op.new, Show: op.show, Reply: op.reply,
			Do: func(ctx context.Context, call *guard.Call, in wire.Input) (wire.Output, error) {
				if err := op.admits(call); err != nil {
					return nil, err
				}
				return op.do(d, ctx, call, in)
			},
		}
	}
	return list
}

// admits refuses callers that may not ask at all.
func (op *stsOperation) admits(call *guard.Call) error {
	if op.Callers == 0 {
		return nil
	}
	if call.Caller == nil {
		return wire.Errorf(wire.CodeMissingAuthentication, "Request is missing Authentication Token")
	}
	kind := kindOf(call.Caller)
	switch {
	case kind&op.Callers != 0:
		return nil
	case kind == serviceCredential:
		return call.Deny(guard.NewAction("sts:"+op.Name), "*")
	}
	return wire.Errorf(wire.CodeAccessDenied, "Cannot call %s with session credentials", op.Name)
}

// mayAdminister refuses IAM to sessions of GetSessionToken without an MFA device, which nobody has here, and to federated
// users, whatever policies say ("Comparing the AWS STS API operations"). As in the service they look like strangers.
func mayAdminister(who *guard.Caller) error {
	if kindOf(who)&(longTerm|roleBearer|serviceCredential) != 0 {
		return nil
	}
	return &wire.Error{Code: wire.CodeUnrecognizedClient, Message: sigv4.ErrUnknownCredential().Message, Auth: true}
}

// How long sessions last ("GetSessionToken" and "GetFederationToken", STS API reference). A wish of less than 15 minutes, or
// more than 36 hours, the model refuses; a longer one of a root user becomes an hour.
const (
	defaultUserSession = 12 * time.Hour
	maxRootSession     = time.Hour
)

// lifeOf returns how long a session of the caller itself lasts.
func lifeOf(who *guard.Caller, wish wire.Opt[int32]) time.Duration {
	life := time.Duration(wish.V) * time.Second
	if !wish.Set {
		life = defaultUserSession
	}
	if who.Type == policy.AccountRoot {
		return min(life, maxRootSession)
	}
	return life
}

// grantSession seals a session that begins now, and returns its credentials with the size of the token.
func (d *Directory) grantSession(call *guard.Call, t terms, life time.Duration, size wire.Opt[int32]) (*stsapi.Credentials, wire.Opt[int32], error) {
	begin := call.Time.UTC().Truncate(time.Second)
	end := begin.Add(life)
	t.IssuedAt, t.Expires = begin.Unix(), end.Unix()
	id := newAccessKeyID(temporaryPrefix)
	s := session{secret: newSecret(), terms: t}
	token, err := d.sealSession(id, &s, int(size.V))
	if err != nil {
		return nil, wire.Opt[int32]{}, err
	}
	return &stsapi.Credentials{
		AccessKeyID: wire.Some(id), SecretAccessKey: s.secret, SessionToken: wire.Some(token), Expiration: wire.Some(end),
	}, wire.Some(int32(len(token))), nil
}

func (d *Directory) getCallerIdentity(_ context.Context, call *guard.Call, _ *stsapi.GetCallerIdentityRequest) (*stsapi.GetCallerIdentityResponse, error) {
	return &stsapi.GetCallerIdentityResponse{
		UserID:  wire.Some(call.Caller.PrincipalID),
		Account: wire.Some(string(call.Caller.Account)),
		ARN:     wire.Some(call.Caller.ARN),
	}, nil
}

// errNoDevice answers whoever brings an MFA code: there are no MFA devices, so no code is right.
func errNoDevice() error {
	return wire.Errorf(wire.CodeAccessDenied, "MultiFactorAuthentication failed with invalid MFA one time pass code. ")
}

// getSessionToken asks for no permission: it gives nobody more than he has.
func (d *Directory) getSessionToken(_ context.Context, call *guard.Call, in *stsapi.GetSessionTokenRequest) (*stsapi.GetSessionTokenResponse, error) {
	if in.SerialNumber.Set || in.TokenCode.Set {
		return nil, errNoDevice()
	}
	who := call.Caller
	t := terms{Kind: userSession, Account: who.Account, ID: who.UniqueID}
	if who.Type == policy.AccountRoot {
		t.Kind = rootSession
	}
	made, size, err := d.grantSession(call, t, lifeOf(who, in.DurationSeconds), in.MinimumSessionTokenSize)
	if err != nil {
		return nil, err
	}
	return &stsapi.GetSessionTokenResponse{Credentials: made, SessionTokenSize: size}, nil
}

var actionGetAccessKeyInfo = guard.NewAction("sts:GetAccessKeyInfo")

// getAccessKeyInfo knows the account of every long-term access key. Temporary ones are stored nowhere and show no account.
func (d *Directory) getAccessKeyInfo(ctx context.Context, call *guard.Call, in *stsapi.GetAccessKeyInfoRequest) (*stsapi.GetAccessKeyInfoResponse, error) {
	if _, err := call.Authorize(guard.Resource{Action: actionGetAccessKeyInfo, ARN: "*", Owner: call.Caller.Account, Input: in}); err != nil {
		return nil, err
	}
	k, err := d.store.GetAccessKey(ctx, in.AccessKeyID.V)
	if errors.Is(err, store.ErrNotFound) {
		return nil, wire.Errorf(wire.CodeValidation, "The access key id %s is not known.", in.AccessKeyID.V)
	}
	if err != nil {
		return nil, err
	}
	return &stsapi.GetAccessKeyInfoResponse{Account: wire.Some(string(k.Account))}, nil
}
