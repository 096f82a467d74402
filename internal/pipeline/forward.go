package pipeline

import (
	"context"
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/wire"
)

// The headers by which a registered service says for whom, and about which resource of its own, it calls. They must be
// among the signed ones. docs/services.md has them for those who write services.
const (
	forwardPrefix       = "x-keywright-"
	onBehalfOfHeader    = forwardPrefix + "on-behalf-of"   // ARN of the user, root user or role's session
	sourceARNHeader     = forwardPrefix + "source-arn"     // aws:SourceArn
	sourceAccountHeader = forwardPrefix + "source-account" // aws:SourceAccount
)

// maxForward bounds what a header may add to records, in octets.
const maxForward = 2048

// forward reads those headers and returns who the call is to be decided for, and what a service says of it. From anybody but a registered service they
// are refused rather than ignored: whoever sends them expects something of them.
func (x *exchange) forward(ctx context.Context, caller *guard.Caller) (*guard.Caller, *guard.Forward, error) {
	var f guard.Forward
	var behalf string
	for _, h := range x.req.Header {
		if len(h.Name) < len(forwardPrefix) || !strings.EqualFold(h.Name[:len(forwardPrefix)], forwardPrefix) {
			continue
		}
		name := strings.ToLower(h.Name)
		if caller.Service == "" {
			return nil, nil, refusedForward("Only a registered service may send the header " + name + ".")
		}
		if !slices.Contains(strings.Split(x.auth.SignedHeaders, ";"), name) {
			return nil, nil, refusedForward("The header " + name + " must be signed.")
		}
		var into *string
		switch name {
		case onBehalfOfHeader:
			into = &behalf
		case sourceARNHeader:
			into = &f.SourceARN
		case sourceAccountHeader:
			into = (*string)(&f.SourceAccount)
		default:
			return nil, nil, refusedForward("There is no header " + name + ".")
		}
		if *into != "" || h.Value == "" || len(h.Value) > maxForward {
			return nil, nil, refusedForward("The header " + name + " is not well-formed.")
		}
		*into = h.Value
	}
	if caller.Service == "" {
		return caller, nil, nil
	}
	if a := &x.address; a.service.SigningName != "kms" && a.name != "GetCallerIdentity" {
		return nil, nil, refusedForward("A registered service may call KMS only.")
	}
	if f.SourceAccount != "" {
		if _, err := arn.ParseAccount(string(f.SourceAccount)); err != nil {
			return nil, nil, refusedForward("The header " + sourceAccountHeader + " is not well-formed.")
		}
	}
	f.Service = caller.Service
	if behalf == "" {
		return caller, &f, nil
	}
	user, err := x.pipeline.directory.OnBehalf(ctx, caller, behalf)
	if err != nil {
		return nil, nil, err
	}
	f.ViaService = viaService(caller.Service, x.auth.Scope.Region)
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
