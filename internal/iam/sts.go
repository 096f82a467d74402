package iam

import (
	"context"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/stsapi"
)

// How long sessions of root users last ("GetSessionToken", STS API reference): an hour is the longest, and what a
// longer wish becomes. A wish of less than 15 minutes, or more than 36 hours, the model refuses.
const (
	maxRootSession     = time.Hour
	defaultRootSession = time.Hour
)

// STS returns the operations of STS. Neither asks for a permission: GetCallerIdentity cannot be denied to anybody, and
// GetSessionToken gives nobody more than he has.
func (d *Directory) STS() []guard.Operation {
	return []guard.Operation{
		{
			Service: "sts", Name: "GetCallerIdentity", ReadOnly: true,
			New: func() wire.Input { return new(stsapi.GetCallerIdentityRequest) },
			Do: func(_ context.Context, call *guard.Call, _ wire.Input) (wire.Output, error) {
				return getCallerIdentity(call), nil
			},
		},
		{
			Service: "sts", Name: "GetSessionToken", ReadOnly: true,
			New: func() wire.Input { return new(stsapi.GetSessionTokenRequest) },
			Do: func(_ context.Context, call *guard.Call, in wire.Input) (wire.Output, error) {
				return d.getSessionToken(call, in.(*stsapi.GetSessionTokenRequest))
			},
			Show: func(f *audit.Fields, in wire.Input) {
				if r := in.(*stsapi.GetSessionTokenRequest); r.DurationSeconds.Set {
					f.Int("durationSeconds", int64(r.DurationSeconds.V))
				}
			},
			Reply: func(f *audit.Fields, _ *guard.Call, out wire.Output) {
				c := out.(*stsapi.GetSessionTokenResponse).Credentials
				f.Object("credentials", func(f *audit.Fields) {
					f.String("accessKeyId", c.AccessKeyID.V)
					f.Date("expiration", c.Expiration.V)
				})
			},
		},
	}
}

func getCallerIdentity(call *guard.Call) *stsapi.GetCallerIdentityResponse {
	return &stsapi.GetCallerIdentityResponse{
		UserID:  wire.Some(call.Caller.PrincipalID),
		Account: wire.Some(string(call.Caller.Account)),
		ARN:     wire.Some(call.Caller.ARN),
	}
}

func (d *Directory) getSessionToken(call *guard.Call, in *stsapi.GetSessionTokenRequest) (wire.Output, error) {
	if strings.HasPrefix(call.Caller.AccessKeyID, temporaryPrefix) {
		return nil, wire.Errorf(wire.CodeAccessDenied, "Cannot call GetSessionToken with session credentials")
	}
	if in.SerialNumber.Set || in.TokenCode.Set { // there are no MFA devices, so no code is right
		return nil, wire.Errorf(wire.CodeAccessDenied, "MultiFactorAuthentication failed with invalid MFA one time pass code. ")
	}
	life := defaultRootSession
	if in.DurationSeconds.Set {
		life = min(time.Duration(in.DurationSeconds.V)*time.Second, maxRootSession)
	}
	id := newAccessKeyID(temporaryPrefix)
	s := session{account: call.Caller.Account, expires: call.Time.Add(life).UTC().Truncate(time.Second), secret: newSecret()}
	token, err := d.sealSession(id, s, int(in.MinimumSessionTokenSize.V))
	if err != nil {
		return nil, err
	}
	return &stsapi.GetSessionTokenResponse{
		Credentials: &stsapi.Credentials{
			AccessKeyID: wire.Some(id), SecretAccessKey: s.secret, SessionToken: wire.Some(token), Expiration: wire.Some(s.expires),
		},
		SessionTokenSize: wire.Some(int32(len(token))),
	}, nil
}
