package kms

import (
	"errors"

	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// defaultPolicy is the name of the one policy that a key has.
const defaultPolicy = "default"

func checkPolicyName(name wire.Opt[string]) error {
	if name.Or(defaultPolicy) != defaultPolicy {
		return wire.Errorf(kmsapi.CodeNotFoundException, "No such policy exists")
	}
	return nil
}

func getKeyPolicy(r *request, in *kmsapi.GetKeyPolicyRequest) (*kmsapi.GetKeyPolicyResponse, error) {
	if err := checkPolicyName(in.PolicyName); err != nil {
		return nil, err
	}
	shown, err := r.shownPrincipals(r.key.Principals)
	if err != nil {
		return nil, err
	}
	text := r.key.policy.TextWith(func(principal string) string {
		if now, ok := shown[principal]; ok {
			return now
		}
		return principal
	})
	return &kmsapi.GetKeyPolicyResponse{Policy: wire.Some(text), PolicyName: wire.Some(defaultPolicy)}, nil
}

func listKeyPolicies(r *request, in *kmsapi.ListKeyPoliciesRequest) (*kmsapi.ListKeyPoliciesResponse, error) {
	after, err := r.readMarker(in.Marker)
	if err != nil {
		return nil, err
	}
	out := &kmsapi.ListKeyPoliciesResponse{PolicyNames: []string{defaultPolicy}, Truncated: wire.Some(false)}
	if after == defaultPolicy {
		out.PolicyNames = []string{}
	}
	return out, nil
}

func putKeyPolicy(r *request, in *kmsapi.PutKeyPolicyRequest) error {
	if err := checkPolicyName(in.PolicyName); err != nil {
		return err
	}
	next := r.key.Clone()
	if err := r.givePolicy(next, in.Policy.V, in.BypassPolicyLockoutSafetyCheck.V); err != nil {
		return err
	}
	return r.change(func(k *key.Key) error {
		k.Policy, k.Principals = next.Policy, next.Principals
		return nil
	})
}

// actionPutKeyPolicy is what the lockout safety check asks of a new policy.
var actionPutKeyPolicy = guard.NewAction("kms:PutKeyPolicy")

// givePolicy checks a policy and gives it to a key that nobody else has yet. The text stays as it was given, because the
// printed form of GetKeyPolicy can be longer than what is allowed.
func (r *request) givePolicy(k *key.Key, text string, bypass bool) error {
	doc, err := r.compile(text, nil)
	var fault *policy.Error
	switch {
	case errors.As(err, &fault) && fault.Fault == policy.TooLarge:
		return wire.Errorf(kmsapi.CodeLimitExceededException, "%s", fault.Message())
	case errors.As(err, &fault):
		return malformedPolicy(fault.Message())
	case err != nil:
		return err
	}
	k.Policy = text
	if k.Principals, err = r.bindPrincipals(r.ctx, doc, r.call.Region.Partition()); err != nil {
		return err
	}
	if doc, err = r.compile(text, k.Principals); err != nil {
		return err
	}
	if !bypass && !r.call.WouldAllow(doc, guard.Resource{Action: actionPutKeyPolicy, ARN: k.ARN(), Key: k, Policy: doc}) {
		return malformedPolicy("The new key policy will not allow you to update the key policy in the future.")
	}
	return nil
}

func malformedPolicy(message string) error {
	return wire.Errorf(kmsapi.CodeMalformedPolicyDocumentException, "%s", message)
}
