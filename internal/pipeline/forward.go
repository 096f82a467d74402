package pipeline

import (
	"context"
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/iam"
	"github.com/keywright/keywright/internal/wire"
)

// The headers by which a registered service says for whom, and about which resource of its own, it calls. They must be
// among the signed ones. docs/services.md has them for those who write services.
const (
	forwardPrefix       = "x-keywright-"
	onBehalfOfHeader    = forwardPrefix + "on-behalf-of"   // ARN of the user, root user or role's session
	accessKeyHeader     = forwardPrefix + "access-key-id"  // of that principal's temporary credentials
	sessionTokenHeader  = forwardPrefix + "session-token"  // likewise
	sourceARNHeader     = forwardPrefix + "source-arn"     // aws:SourceArn
	sourceAccountHeader = forwardPrefix + "source-account" // aws:SourceAccount
)

// maxForward bounds what a header may add to records, in octets, and maxForwardToken the session token, which no record has.
const (
	maxForward      = 2048
	maxForwardToken = 8 << 10
)

// forward reads those headers and returns who the call is to be decided for, and what a service says of it. From anybody but
// a registered service they are refused rather than ignored: whoever sends them expects something of them.
func (x *exchange) forward(ctx context.Context, caller *guard.Caller) (*guard.Caller, *guard.Forward, error) {
	if caller.Service != "" {
		return x.forwardOf(ctx, caller)
	}
	for _, h := range x.req.Header {
		if isForward(h.Name) {
			return nil, nil, refusedForward("Only a registered service may send the header " + strings.ToLower(h.Name) + ".")
		}
	}
	return caller, nil, nil
}

func isForward(header string) bool {
	return len(header) >= len(forwardPrefix) && strings.EqualFold(header[:len(forwardPrefix)], forwardPrefix)
}

// forwardOf reads the headers of a service.
func (x *exchange) forwardOf(ctx context.Context, service *guard.Caller) (*guard.Caller, *guard.Forward, error) {
	if a := &x.address; a.service.SigningName != "kms" && a.name != "GetCallerIdentity" {
		return nil, nil, refusedForward("A registered service may call KMS only.")
	}
	f := guard.Forward{Service: service.Service}
	var behalf iam.Behalf
	var account string
	signed := strings.Split(x.auth.SignedHeaders, ";")
	for _, h := range x.req.Header {
		if !isForward(h.Name) {
			continue
		}
		name := strings.ToLower(h.Name)
		limit := maxForward
		if name == sessionTokenHeader {
			limit = maxForwardToken
		}
		into, known := map[string]*string{
			onBehalfOfHeader: &behalf.Principal, accessKeyHeader: &behalf.AccessKeyID, sessionTokenHeader: &behalf.Token,
			sourceARNHeader: &f.SourceARN, sourceAccountHeader: &account,
		}[name]
		switch {
		case !slices.Contains(signed, name):
			return nil, nil, refusedForward("The header " + name + " must be signed.")
		case !known:
			return nil, nil, refusedForward("There is no header " + name + ".")
		case *into != "" || h.Value == "" || len(h.Value) > limit:
			return nil, nil, refusedForward("The header " + name + " is not well-formed.")
		}
		*into = h.Value
	}
	if account != "" {
		var err error
		if f.SourceAccount, err = arn.ParseAccount(account); err != nil {
			return nil, nil, refusedForward("The header " + sourceAccountHeader + " is not well-formed.")
		}
	}
	if (behalf.AccessKeyID == "") != (behalf.Token == "") || behalf.Token != "" && behalf.Principal == "" {
		return nil, nil, refusedForward("The headers " + accessKeyHeader + " and " + sessionTokenHeader + " go together, and with " + onBehalfOfHeader + ".")
	}
	if behalf.Principal == "" {
		return service, &f, nil
	}
	region := arn.Region(x.auth.Scope.Region)
	user, err := x.pipeline.directory.OnBehalf(ctx, service, behalf, region.Partition())
	if err != nil {
		return nil, nil, err
	}
	f.ViaService = viaService(service.Service, string(region))
	return user, &f, nil
}

// viaService returns the value of kms:ViaService: the Region goes behind the first label of the service's principal, as in
// objects.us-east-1.example.com for objects.example.com ("kms:ViaService", KMS developer guide).
func viaService(principal, region string) string {
	name, rest, _ := strings.Cut(principal, ".")
	return name + "." + region + "." + rest
}

func refusedForward(why string) error {
	return &wire.Error{Code: wire.CodeAccessDenied, Message: why, Auth: true}
}
