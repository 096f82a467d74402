package kms

import (
	"context"
	"errors"
	"strings"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/store"
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
	return &kmsapi.GetKeyPolicyResponse{Policy: wire.Some(r.key.policy.Text()), PolicyName: wire.Some(defaultPolicy)}, nil
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
	document, err := r.checkPolicy(r.key.Key, in.Policy.V, in.BypassPolicyLockoutSafetyCheck.V)
	if err != nil {
		return err
	}
	return r.change(func(k *key.Key) error {
		k.Policy = document
		return nil
	})
}

// actionPutKeyPolicy is what the lockout safety check asks of a new policy.
var actionPutKeyPolicy = guard.NewAction("kms:PutKeyPolicy")

// checkPolicy checks a policy that is to become that of key k, and returns the text to keep: as it was given, because the
// printed form of GetKeyPolicy can be longer than what is allowed.
func (r *request) checkPolicy(k *key.Key, text string, bypass bool) (string, error) {
	doc, err := r.compile(text)
	var fault *policy.Error
	switch {
	case errors.As(err, &fault) && fault.Fault == policy.TooLarge:
		return "", wire.Errorf(kmsapi.CodeLimitExceededException, "%s", fault.Message())
	case errors.As(err, &fault):
		return "", malformedPolicy(fault.Message())
	case err != nil:
		return "", err
	}
	if err := r.principalsExist(r.ctx, doc); err != nil {
		return "", err
	}
	if !bypass && !r.call.WouldAllow(doc, guard.Resource{Action: actionPutKeyPolicy, ARN: k.ARN(), Key: k, Policy: doc}) {
		return "", malformedPolicy("The new key policy will not allow you to update the key policy in the future.")
	}
	return text, nil
}

func malformedPolicy(message string) error {
	return wire.Errorf(kmsapi.CodeMalformedPolicyDocumentException, "%s", message)
}

// principalsExist refuses a policy that names a principal that is not there: accounts are all the principals there are.
func (r *request) principalsExist(ctx context.Context, doc *policy.Document) error {
	for _, p := range doc.Principals() {
		if p.Type == "Service" {
			continue
		}
		account, ok := rootAccount(p.Value, r.call.Region.Partition())
		if ok && account == r.call.Caller.Account {
			continue
		}
		if ok {
			_, err := r.store.GetAccount(ctx, account)
			if err == nil {
				continue
			}
			if !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
		return malformedPolicy("Policy contains a statement with one or more invalid principals.")
	}
	return nil
}

// rootAccount returns the account that a principal names as a whole, by its id or the ARN of its root.
func rootAccount(principal string, p arn.Partition) (arn.Account, bool) {
	id := strings.TrimSuffix(strings.TrimPrefix(principal, "arn:"+string(p)+":iam::"), ":root")
	account, err := arn.ParseAccount(id)
	return account, err == nil && (principal == id || principal == account.Root(p))
}
