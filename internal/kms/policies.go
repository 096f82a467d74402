package kms

import (
	"context"
	"errors"

	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/quota"
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
	doc, bindings, err := r.readPolicy(in.Policy.V)
	if err != nil {
		return err
	}
	aliases := r.key.aliases
	return r.change(func(k *key.Key) error {
		k.Policy, k.Principals = in.Policy.V, bindings
		return r.lockout(k, doc, aliases, in.BypassPolicyLockoutSafetyCheck.V)
	})
}

// readPolicy checks a policy that a key is to have, and returns it compiled and whom it names. The text is to be kept as it was
// given, because the printed form of GetKeyPolicy can be longer than what is allowed.
func (r *request) readPolicy(text string) (*policy.Document, []key.Binding, error) {
	name := key.Name{Account: r.call.Caller.Account, Region: r.call.Region}
	return r.readPolicyOf(r.ctx, name, text)
}

// readPolicyOf is readPolicy for a key of an account and Region, whose id does not matter.
func (s *Service) readPolicyOf(ctx context.Context, name key.Name, text string) (*policy.Document, []key.Binding, error) {
	if most := s.most(name, quota.PolicySize); int64(len(text)) > most {
		return nil, nil, wire.Errorf(kmsapi.CodeLimitExceededException, "the document is larger than %d", most)
	}
	doc, err := s.compile(text, nil)
	var fault *policy.Error
	switch {
	case errors.As(err, &fault):
		return nil, nil, malformedPolicy(fault.Message())
	case err != nil:
		return nil, nil, err
	}
	bindings, err := s.bindPrincipals(ctx, doc, name.Region.Partition())
	if err != nil {
		return nil, nil, err
	}
	doc, err = s.compile(text, bindings)
	return doc, bindings, err
}

// actionPutKeyPolicy is what the lockout safety check asks of a new policy.
var actionPutKeyPolicy = guard.NewAction("kms:PutKeyPolicy")

// lockout is the lockout safety check: whoever gives a key its policy must be able to put the next one, without bypassing the
// check. aliases returns the aliases of the key.
func (r *request) lockout(k *key.Key, doc *policy.Document, aliases func() ([]string, error), bypass bool) error {
	if bypass || r.call.WouldAllow(doc, guard.Resource{
		Action: actionPutKeyPolicy, ARN: k.ARN(), Key: k, Policy: doc, Aliases: aliases, Facts: putKeyPolicyFacts, Input: new(kmsapi.PutKeyPolicyRequest),
	}) {
		return nil
	}
	return malformedPolicy("The new key policy will not allow you to update the key policy in the future.")
}

// putKeyPolicyFacts are what conditions on kms:PutKeyPolicy may ask.
var putKeyPolicyFacts = facts(func(f *guard.Facts, in *kmsapi.PutKeyPolicyRequest) {
	f.Bool("kms:BypassPolicyLockoutSafetyCheck", in.BypassPolicyLockoutSafetyCheck.V)
})

func malformedPolicy(message string) error {
	return wire.Errorf(kmsapi.CodeMalformedPolicyDocumentException, "%s", message)
}
