package kms

import (
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// What conditions in policies may ask about an input, after "Condition keys for AWS KMS" (KMS developer guide). The facts
// about the key and the caller are the guard's.

// usage returns the error for a key that is not for what the operation does.
func (op *operation) usage(k *key.Key) error {
	if op.Usage == "" || op.Usage == k.Usage {
		return nil
	}
	return wire.Errorf(kmsapi.CodeInvalidKeyUsageException, "%s key usage is %s which is not valid for %s.", k.ARN(), k.Usage, op.Name)
}

// model returns the operation as the wire model has it.
func (op *operation) model() *wire.Operation {
	m, ok := kmsapi.Service.Operation(op.Name)
	if !ok {
		panic("kms: no operation " + op.Name + " in the model")
	}
	return m
}

// The condition keys of every call that encrypts or decrypts.
var (
	encryptionAlgorithmKey = policy.ParseKey("kms:EncryptionAlgorithm")
	contextKeysKey         = policy.ParseKey("kms:EncryptionContextKeys")
	contextKey             = policy.ParseKey("kms:EncryptionContext:x").Name
)

func contextFacts(f *guard.Facts, algorithm wire.Opt[string], context map[string]string) {
	f.Add(encryptionAlgorithmKey, algorithm.Or(string(key.SymmetricDefault)))
	pairFacts(f, context)
}

// pairFacts adds what conditions may ask about an encryption context.
func pairFacts(f *guard.Facts, context map[string]string) {
	var names []string
	for k, v := range context {
		f.Add(policy.Key{Name: contextKey, Sub: strings.ToLower(k)}, v)
		if len(context) == 1 { // as most have it
			f.Add(contextKeysKey, k)
			return
		}
		names = append(names, k)
	}
	if len(names) > 0 {
		slices.Sort(names)
		f.AddMany(contextKeysKey, names)
	}
}

func signFacts(f *guard.Facts, algorithm, kind wire.Opt[string]) {
	f.String("kms:SigningAlgorithm", algorithm.V)
	f.String("kms:MessageType", string(messageType(kind)))
}

// pairFactsOf adds what conditions may ask about a key pair that is to be made. Its private key is always encrypted under a
// symmetric key.
func pairFactsOf(f *guard.Facts, spec wire.Opt[string], context map[string]string) {
	f.String("kms:DataKeyPairSpec", spec.V)
	contextFacts(f, wire.Opt[string]{}, context)
}

func tagFacts(f *guard.Facts, tags []kmsapi.Tag) {
	names := make([]string, len(tags))
	for i, t := range tags {
		f.String("aws:RequestTag/"+t.TagKey.V, t.TagValue.V)
		names[i] = t.TagKey.V
	}
	if len(names) > 0 {
		f.Strings("aws:TagKeys", names)
	}
}

func createKeyFacts(f *guard.Facts, in *kmsapi.CreateKeyRequest) {
	spec, usage, origin := createKeyDefaults(in)
	f.String("kms:KeySpec", string(spec))
	f.String("kms:CustomerMasterKeySpec", string(spec)) // the deprecated names of the two
	f.String("kms:KeyUsage", string(usage))
	f.String("kms:CustomerMasterKeyUsage", string(usage))
	f.String("kms:KeyOrigin", string(origin))
	f.Bool("kms:MultiRegion", in.MultiRegion.V)
	if in.MultiRegion.V {
		f.String("kms:MultiRegionKeyType", kmsapi.MultiRegionKeyTypePrimary)
	}
	f.Bool("kms:BypassPolicyLockoutSafetyCheck", in.BypassPolicyLockoutSafetyCheck.V)
	tagFacts(f, in.Tags)
}

func createGrantFacts(f *guard.Facts, in *kmsapi.CreateGrantRequest) {
	f.Strings("kms:GrantOperations", in.Operations)
	given := func(name string, v wire.Opt[string]) {
		if v.Set {
			f.String(name, v.V)
		}
	}
	given("kms:GranteePrincipal", in.GranteePrincipal)
	given("kms:GranteeServicePrincipal", in.GranteeServicePrincipal)
	given("kms:RetiringPrincipal", in.RetiringPrincipal)
	given("kms:RetiringServicePrincipal", in.RetiringServicePrincipal)
	constraintFacts(f, toConstraints(in.Constraints))
}

// constraintFacts adds what conditions may ask about the constraints of a grant that is made or retired.
func constraintFacts(f *guard.Facts, c key.GrantConstraints) {
	switch {
	case c.Equals != nil:
		f.String("kms:GrantConstraintType", "EncryptionContextEquals")
		pairFacts(f, c.Equals)
	case c.Subset != nil:
		f.String("kms:GrantConstraintType", "EncryptionContextSubset")
		pairFacts(f, c.Subset)
	}
	if c.SourceARN != "" {
		f.String("kms:GrantConstraintSourceArn", c.SourceARN)
	}
}
