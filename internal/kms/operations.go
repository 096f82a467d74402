package kms

import (
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// operation is a row of the table below. The columns say what all operations have in common; the handler has only what
// is peculiar to its own.
type operation struct {
	Name       string
	Permission string    // what the caller needs on the key, or on "*" where there is none
	Key        finder    // how the key may be named
	Foreign    bool      // works on keys of other accounts
	Usage      key.Usage // what the key must be for; empty: any
	States     stateRule // which key states forbid it
	Bucket     string    // request quota that it counts to; empty: its own
	ReadOnly   bool      // readOnly of the audit record

	named func(wire.Input) string // the key's identifier in the input
	// Where grants count: the client's grant tokens, the encryption context, and which grants may allow the call at all. Nil
	// for none of the first two, and for any grant.
	tokens  func(wire.Input) []string
	context func(wire.Input) map[string]string
	fits    func(wire.Input) func(*key.Grant) bool

	recipient func(wire.Input) *kmsapi.RecipientInfo // the enclave that the answer is to be for; nil for operations without

	idle  bool                           // conditions may ask how long the key has not been used
	facts func(*guard.Facts, wire.Input) // what conditions of policies may ask about the input
	// fill gives members that the client left out, and whose default depends on the key, the value that they have in the record.
	// They stay unset.
	fill  func(*key.Key, wire.Input)
	check func(wire.Input) error // rules between members, before usage and state are looked at
	do    func(*request, wire.Input) (wire.Output, error)
	show  func(*audit.Fields, wire.Input)               // requestParameters
	reply func(*audit.Fields, *guard.Call, wire.Output) // responseElements
}

// The request quotas that cryptographic operations share ("Request quotas", KMS developer guide). There is one for symmetric and
// HMAC keys, one for RSA keys, one for ML-DSA keys, one for keys of elliptic curves and SM2, and here one for ML-KEM keys; and one
// for each spec of key pairs.
const (
	symmetricBucket  = "cryptographic operations (symmetric)"
	cryptoBucket     = "cryptographic operations, by the kind of key"
	asymmetricBucket = "cryptographic operations (RSA, ECC or ML-DSA)"
	kemBucket        = "cryptographic operations (ML-KEM)"
	pairBucket       = "key pairs, by their spec"
)

// operations is the table of everything that this service does. What is not in it is answered by an error that says so.
var operations = []operation{
	{
		Name: "CancelKeyDeletion", Permission: "kms:CancelKeyDeletion", Key: keyOnly, States: restores,
		named: id(func(in *kmsapi.CancelKeyDeletionRequest) string { return in.KeyID.V }),
		do:    guard.Answers(cancelKeyDeletion), show: show(func(f *audit.Fields, in *kmsapi.CancelKeyDeletionRequest) { f.String("keyId", in.KeyID.V) }), reply: keyARN,
	},
	{
		Name: "CreateAlias", Permission: "kms:CreateAlias", Key: inHandler,
		do: guard.Quiet(createAlias), show: show(func(f *audit.Fields, in *kmsapi.CreateAliasRequest) {
			f.String("aliasName", in.AliasName.V)
			f.String("targetKeyId", in.TargetKeyID.V)
		}), reply: keyARN,
	},
	{
		Name: "CreateGrant", Permission: "kms:CreateGrant", Key: keyOnly, Foreign: true, States: grantable,
		named:  id(func(in *kmsapi.CreateGrantRequest) string { return in.KeyID.V }),
		tokens: tokens(func(in *kmsapi.CreateGrantRequest) []string { return in.GrantTokens }),
		fits:   func(in wire.Input) func(*key.Grant) bool { return covered(in.(*kmsapi.CreateGrantRequest)) },
		facts:  facts(createGrantFacts), check: check(checkCreateGrant),
		do: guard.Answers(createGrant), show: show(showCreateGrant), reply: replyCreateGrant,
	},
	{
		Name: "CreateKey", Permission: "kms:CreateKey", facts: facts(createKeyFacts),
		do: guard.Answers(createKey), show: show(showCreateKey), reply: replyCreateKey,
	},
	{
		Name: "Decapsulate", Permission: "kms:Decapsulate", Key: anyForm, Foreign: true, Usage: key.Encapsulation, States: usable, Bucket: kemBucket, ReadOnly: true,
		tokens: tokens(func(in *kmsapi.DecapsulateRequest) []string { return in.GrantTokens }),
		named:  id(func(in *kmsapi.DecapsulateRequest) string { return in.KeyID.V }),
		do:     guard.Answers(decapsulate), show: show(func(f *audit.Fields, in *kmsapi.DecapsulateRequest) {
			showUse(f, in.KeyID.V, "encapsulationAlgorithm", in.EncapsulationAlgorithm, in.DryRun)
		}),
	},
	{
		Name: "Decrypt", Permission: "kms:Decrypt", Key: inHandler, Foreign: true, Usage: key.EncryptDecrypt, States: usable, Bucket: cryptoBucket, ReadOnly: true,
		tokens:  tokens(func(in *kmsapi.DecryptRequest) []string { return in.GrantTokens }),
		context: pairs(func(in *kmsapi.DecryptRequest) map[string]string { return in.EncryptionContext }),
		facts: facts(func(f *guard.Facts, in *kmsapi.DecryptRequest) {
			contextFacts(f, in.EncryptionAlgorithm, in.EncryptionContext)
		}),
		recipient: recipientOf(func(in *kmsapi.DecryptRequest) *kmsapi.RecipientInfo { return in.Recipient }),
		do:        guard.Answers(decrypt), show: show(showDecrypt),
	},
	{
		Name: "DeleteAlias", Permission: "kms:DeleteAlias", Key: inHandler,
		do: guard.Quiet(deleteAlias), show: show(func(f *audit.Fields, in *kmsapi.DeleteAliasRequest) { f.String("aliasName", in.AliasName.V) }), reply: keyARN,
	},
	{
		Name: "DeleteImportedKeyMaterial", Permission: "kms:DeleteImportedKeyMaterial", Key: keyOnly, States: deletesImport,
		named: id(func(in *kmsapi.DeleteImportedKeyMaterialRequest) string { return in.KeyID.V }),
		do:    guard.Answers(deleteImportedKeyMaterial), show: show(func(f *audit.Fields, in *kmsapi.DeleteImportedKeyMaterialRequest) {
			f.String("keyId", in.KeyID.V)
			text(f, "keyMaterialId", in.KeyMaterialID)
		}), reply: replyImport,
	},
	{
		Name: "DeriveSharedSecret", Permission: "kms:DeriveSharedSecret", Key: anyForm, Foreign: true, Usage: key.KeyAgreement, States: usable, Bucket: asymmetricBucket, ReadOnly: true,
		tokens: tokens(func(in *kmsapi.DeriveSharedSecretRequest) []string { return in.GrantTokens }),
		named:  id(func(in *kmsapi.DeriveSharedSecretRequest) string { return in.KeyID.V }),
		facts: facts(func(f *guard.Facts, in *kmsapi.DeriveSharedSecretRequest) {
			f.String("kms:KeyAgreementAlgorithm", in.KeyAgreementAlgorithm.V)
		}),
		recipient: recipientOf(func(in *kmsapi.DeriveSharedSecretRequest) *kmsapi.RecipientInfo { return in.Recipient }),
		do:        guard.Answers(deriveSharedSecret), show: show(func(f *audit.Fields, in *kmsapi.DeriveSharedSecretRequest) {
			showUse(f, in.KeyID.V, "keyAgreementAlgorithm", in.KeyAgreementAlgorithm, in.DryRun)
		}),
	},
	{
		Name: "DescribeKey", Permission: "kms:DescribeKey", Key: anyForm, Foreign: true, ReadOnly: true,
		tokens: tokens(func(in *kmsapi.DescribeKeyRequest) []string { return in.GrantTokens }),
		named:  id(func(in *kmsapi.DescribeKeyRequest) string { return in.KeyID.V }),
		do:     guard.Answers(describeKey), show: show(func(f *audit.Fields, in *kmsapi.DescribeKeyRequest) { f.String("keyId", in.KeyID.V) }),
	},
	{
		Name: "DisableKey", Permission: "kms:DisableKey", Key: keyOnly, States: settable,
		named: id(func(in *kmsapi.DisableKeyRequest) string { return in.KeyID.V }),
		idle:  true,
		do:    guard.Quiet(disableKey), show: show(func(f *audit.Fields, in *kmsapi.DisableKeyRequest) { f.String("keyId", in.KeyID.V) }), reply: keyARN,
	},
	{
		Name: "DisableKeyRotation", Permission: "kms:DisableKeyRotation", Key: keyOnly, States: rotates,
		named: id(func(in *kmsapi.DisableKeyRotationRequest) string { return in.KeyID.V }),
		do:    guard.Quiet(disableKeyRotation), show: show(func(f *audit.Fields, in *kmsapi.DisableKeyRotationRequest) { f.String("keyId", in.KeyID.V) }), reply: keyARN,
	},
	{
		Name: "EnableKey", Permission: "kms:EnableKey", Key: keyOnly, States: settable,
		named: id(func(in *kmsapi.EnableKeyRequest) string { return in.KeyID.V }),
		do:    guard.Quiet(enableKey), show: show(func(f *audit.Fields, in *kmsapi.EnableKeyRequest) { f.String("keyId", in.KeyID.V) }), reply: keyARN,
	},
	{
		Name: "EnableKeyRotation", Permission: "kms:EnableKeyRotation", Key: keyOnly, States: rotates,
		named: id(func(in *kmsapi.EnableKeyRotationRequest) string { return in.KeyID.V }),
		facts: facts(func(f *guard.Facts, in *kmsapi.EnableKeyRotationRequest) {
			f.Int("kms:RotationPeriodInDays", int64(in.RotationPeriodInDays.Or(defaultRotationPeriod)))
		}),
		do: guard.Quiet(enableKeyRotation), show: show(func(f *audit.Fields, in *kmsapi.EnableKeyRotationRequest) {
			f.String("keyId", in.KeyID.V)
			number(f, "rotationPeriodInDays", in.RotationPeriodInDays)
		}), reply: keyARN,
	},
	{
		Name: "Encapsulate", Permission: "kms:Encapsulate", Key: anyForm, Foreign: true, Usage: key.Encapsulation, States: usable, Bucket: kemBucket, ReadOnly: true,
		tokens: tokens(func(in *kmsapi.EncapsulateRequest) []string { return in.GrantTokens }),
		named:  id(func(in *kmsapi.EncapsulateRequest) string { return in.KeyID.V }),
		do:     guard.Answers(encapsulate), show: show(func(f *audit.Fields, in *kmsapi.EncapsulateRequest) {
			showUse(f, in.KeyID.V, "encapsulationAlgorithm", in.EncapsulationAlgorithm, in.DryRun)
		}),
	},
	{
		Name: "Encrypt", Permission: "kms:Encrypt", Key: anyForm, Foreign: true, Usage: key.EncryptDecrypt, States: usable, Bucket: cryptoBucket, ReadOnly: true,
		tokens:  tokens(func(in *kmsapi.EncryptRequest) []string { return in.GrantTokens }),
		context: pairs(func(in *kmsapi.EncryptRequest) map[string]string { return in.EncryptionContext }),
		named:   id(func(in *kmsapi.EncryptRequest) string { return in.KeyID.V }),
		facts: facts(func(f *guard.Facts, in *kmsapi.EncryptRequest) {
			contextFacts(f, in.EncryptionAlgorithm, in.EncryptionContext)
		}),
		do: guard.Answers(encrypt), show: show(func(f *audit.Fields, in *kmsapi.EncryptRequest) {
			f.String("keyId", in.KeyID.V)
			showContext(f, "encryptionAlgorithm", in.EncryptionAlgorithm, "encryptionContext", in.EncryptionContext)
			truth(f, "dryRun", in.DryRun)
		}),
	},
	{
		Name: "GenerateDataKey", Permission: "kms:GenerateDataKey", Key: anyForm, Foreign: true, Usage: key.EncryptDecrypt, States: usable, Bucket: symmetricBucket, ReadOnly: true,
		tokens:  tokens(func(in *kmsapi.GenerateDataKeyRequest) []string { return in.GrantTokens }),
		context: pairs(func(in *kmsapi.GenerateDataKeyRequest) map[string]string { return in.EncryptionContext }),
		named:   id(func(in *kmsapi.GenerateDataKeyRequest) string { return in.KeyID.V }),
		facts: facts(func(f *guard.Facts, in *kmsapi.GenerateDataKeyRequest) {
			contextFacts(f, wire.Opt[string]{}, in.EncryptionContext)
		}),
		check:     check(func(in *kmsapi.GenerateDataKeyRequest) error { return oneSize(in.KeySpec, in.NumberOfBytes) }),
		recipient: recipientOf(func(in *kmsapi.GenerateDataKeyRequest) *kmsapi.RecipientInfo { return in.Recipient }),
		do:        guard.Answers(generateDataKey), show: show(func(f *audit.Fields, in *kmsapi.GenerateDataKeyRequest) {
			showDataKey(f, in.KeyID.V, in.KeySpec, in.NumberOfBytes, in.EncryptionContext, in.DryRun)
		}),
	},
	{
		Name: "GenerateDataKeyPair", Permission: "kms:GenerateDataKeyPair", Key: anyForm, Foreign: true, Usage: key.EncryptDecrypt, States: usable, Bucket: pairBucket, ReadOnly: true,
		tokens:  tokens(func(in *kmsapi.GenerateDataKeyPairRequest) []string { return in.GrantTokens }),
		context: pairs(func(in *kmsapi.GenerateDataKeyPairRequest) map[string]string { return in.EncryptionContext }),
		named:   id(func(in *kmsapi.GenerateDataKeyPairRequest) string { return in.KeyID.V }),
		facts: facts(func(f *guard.Facts, in *kmsapi.GenerateDataKeyPairRequest) {
			pairFactsOf(f, in.KeyPairSpec, in.EncryptionContext)
		}),
		recipient: recipientOf(func(in *kmsapi.GenerateDataKeyPairRequest) *kmsapi.RecipientInfo { return in.Recipient }),
		do:        guard.Answers(generateDataKeyPair), show: show(func(f *audit.Fields, in *kmsapi.GenerateDataKeyPairRequest) {
			showPair(f, in.KeyID.V, in.KeyPairSpec.V, in.EncryptionContext, in.DryRun)
		}),
	},
	{
		Name: "GenerateDataKeyPairWithoutPlaintext", Permission: "kms:GenerateDataKeyPairWithoutPlaintext", Key: anyForm, Foreign: true, Usage: key.EncryptDecrypt, States: usable, Bucket: pairBucket, ReadOnly: true,
		tokens: tokens(func(in *kmsapi.GenerateDataKeyPairWithoutPlaintextRequest) []string { return in.GrantTokens }),
		context: pairs(func(in *kmsapi.GenerateDataKeyPairWithoutPlaintextRequest) map[string]string {
			return in.EncryptionContext
		}),
		named: id(func(in *kmsapi.GenerateDataKeyPairWithoutPlaintextRequest) string { return in.KeyID.V }),
		facts: facts(func(f *guard.Facts, in *kmsapi.GenerateDataKeyPairWithoutPlaintextRequest) {
			pairFactsOf(f, in.KeyPairSpec, in.EncryptionContext)
		}),
		do: guard.Answers(generateDataKeyPairWithoutPlaintext), show: show(func(f *audit.Fields, in *kmsapi.GenerateDataKeyPairWithoutPlaintextRequest) {
			showPair(f, in.KeyID.V, in.KeyPairSpec.V, in.EncryptionContext, in.DryRun)
		}),
	},
	{
		Name: "GenerateDataKeyWithoutPlaintext", Permission: "kms:GenerateDataKeyWithoutPlaintext", Key: anyForm, Foreign: true, Usage: key.EncryptDecrypt, States: usable, Bucket: symmetricBucket, ReadOnly: true,
		tokens:  tokens(func(in *kmsapi.GenerateDataKeyWithoutPlaintextRequest) []string { return in.GrantTokens }),
		context: pairs(func(in *kmsapi.GenerateDataKeyWithoutPlaintextRequest) map[string]string { return in.EncryptionContext }),
		named:   id(func(in *kmsapi.GenerateDataKeyWithoutPlaintextRequest) string { return in.KeyID.V }),
		facts: facts(func(f *guard.Facts, in *kmsapi.GenerateDataKeyWithoutPlaintextRequest) {
			contextFacts(f, wire.Opt[string]{}, in.EncryptionContext)
		}),
		check: check(func(in *kmsapi.GenerateDataKeyWithoutPlaintextRequest) error {
			return oneSize(in.KeySpec, in.NumberOfBytes)
		}),
		do: guard.Answers(generateDataKeyWithoutPlaintext), show: show(func(f *audit.Fields, in *kmsapi.GenerateDataKeyWithoutPlaintextRequest) {
			showDataKey(f, in.KeyID.V, in.KeySpec, in.NumberOfBytes, in.EncryptionContext, in.DryRun)
		}),
	},
	{
		Name: "GenerateMac", Permission: "kms:GenerateMac", Key: anyForm, Foreign: true, Usage: key.MACUsage, States: usable, Bucket: symmetricBucket, ReadOnly: true,
		tokens: tokens(func(in *kmsapi.GenerateMacRequest) []string { return in.GrantTokens }),
		named:  id(func(in *kmsapi.GenerateMacRequest) string { return in.KeyID.V }),
		facts:  facts(func(f *guard.Facts, in *kmsapi.GenerateMacRequest) { f.String("kms:MacAlgorithm", in.MacAlgorithm.V) }),
		do:     guard.Answers(generateMac), show: show(func(f *audit.Fields, in *kmsapi.GenerateMacRequest) {
			showUse(f, in.KeyID.V, "macAlgorithm", in.MacAlgorithm, in.DryRun)
		}),
	},
	{
		Name: "GenerateRandom", Permission: "kms:GenerateRandom", Bucket: symmetricBucket, ReadOnly: true,
		recipient: recipientOf(func(in *kmsapi.GenerateRandomRequest) *kmsapi.RecipientInfo { return in.Recipient }),
		do:        guard.Answers(generateRandom),
	},
	{
		Name: "GetKeyLastUsage", Permission: "kms:GetKeyLastUsage", Key: keyOnly, ReadOnly: true,
		named: id(func(in *kmsapi.GetKeyLastUsageRequest) string { return in.KeyID.V }),
		do:    guard.Answers(getKeyLastUsage), show: show(func(f *audit.Fields, in *kmsapi.GetKeyLastUsageRequest) { f.String("keyId", in.KeyID.V) }),
	},
	{
		Name: "GetKeyPolicy", Permission: "kms:GetKeyPolicy", Key: keyOnly, ReadOnly: true,
		named: id(func(in *kmsapi.GetKeyPolicyRequest) string { return in.KeyID.V }),
		do:    guard.Answers(getKeyPolicy), show: show(func(f *audit.Fields, in *kmsapi.GetKeyPolicyRequest) {
			f.String("keyId", in.KeyID.V)
			f.String("policyName", in.PolicyName.Or(defaultPolicy))
		}),
	},
	{
		Name: "GetKeyRotationStatus", Permission: "kms:GetKeyRotationStatus", Key: keyOnly, Foreign: true, ReadOnly: true,
		named: id(func(in *kmsapi.GetKeyRotationStatusRequest) string { return in.KeyID.V }),
		do:    guard.Answers(getKeyRotationStatus), show: show(func(f *audit.Fields, in *kmsapi.GetKeyRotationStatusRequest) { f.String("keyId", in.KeyID.V) }),
	},
	{
		Name: "GetParametersForImport", Permission: "kms:GetParametersForImport", Key: keyOnly, States: asksImport, ReadOnly: true,
		named: id(func(in *kmsapi.GetParametersForImportRequest) string { return in.KeyID.V }),
		facts: facts(func(f *guard.Facts, in *kmsapi.GetParametersForImportRequest) {
			f.String("kms:WrappingAlgorithm", in.WrappingAlgorithm.V)
			f.String("kms:WrappingKeySpec", in.WrappingKeySpec.V)
		}),
		do: guard.Answers(getParametersForImport), show: show(func(f *audit.Fields, in *kmsapi.GetParametersForImportRequest) {
			f.String("keyId", in.KeyID.V)
			f.String("wrappingAlgorithm", in.WrappingAlgorithm.V)
			f.String("wrappingKeySpec", in.WrappingKeySpec.V)
		}),
	},
	{
		Name: "GetPublicKey", Permission: "kms:GetPublicKey", Key: anyForm, Foreign: true, States: readable, ReadOnly: true,
		tokens: tokens(func(in *kmsapi.GetPublicKeyRequest) []string { return in.GrantTokens }),
		named:  id(func(in *kmsapi.GetPublicKeyRequest) string { return in.KeyID.V }),
		do:     guard.Answers(getPublicKey), show: show(func(f *audit.Fields, in *kmsapi.GetPublicKeyRequest) { f.String("keyId", in.KeyID.V) }),
	},
	{
		Name: "ImportKeyMaterial", Permission: "kms:ImportKeyMaterial", Key: keyOnly, States: imports,
		named: id(func(in *kmsapi.ImportKeyMaterialRequest) string { return in.KeyID.V }),
		facts: facts(importFacts), fill: fillImport, check: check(checkImport),
		do: guard.Answers(importKeyMaterial), show: show(showImport), reply: replyImport,
	},
	{
		Name: "ListAliases", Permission: "kms:ListAliases", ReadOnly: true,
		do: guard.Answers(listAliases), show: show(func(f *audit.Fields, in *kmsapi.ListAliasesRequest) {
			text(f, "keyId", in.KeyID)
			page(f, in.Limit, in.Marker)
		}),
	},
	{
		Name: "ListGrants", Permission: "kms:ListGrants", Key: keyOnly, Foreign: true, ReadOnly: true,
		named: id(func(in *kmsapi.ListGrantsRequest) string { return in.KeyID.V }),
		do:    guard.Answers(listGrants), show: show(func(f *audit.Fields, in *kmsapi.ListGrantsRequest) {
			f.String("keyId", in.KeyID.V)
			text(f, "grantId", in.GrantID)
			text(f, "granteePrincipal", in.GranteePrincipal)
			text(f, "granteeServicePrincipal", in.GranteeServicePrincipal)
			page(f, in.Limit, in.Marker)
		}),
	},
	{
		Name: "ListKeyPolicies", Permission: "kms:ListKeyPolicies", Key: keyOnly, ReadOnly: true,
		named: id(func(in *kmsapi.ListKeyPoliciesRequest) string { return in.KeyID.V }),
		do:    guard.Answers(listKeyPolicies), show: show(func(f *audit.Fields, in *kmsapi.ListKeyPoliciesRequest) {
			f.String("keyId", in.KeyID.V)
			page(f, in.Limit, in.Marker)
		}),
	},
	{
		Name: "ListKeyRotations", Permission: "kms:ListKeyRotations", Key: keyOnly, ReadOnly: true,
		named: id(func(in *kmsapi.ListKeyRotationsRequest) string { return in.KeyID.V }),
		do:    guard.Answers(listKeyRotations), show: show(func(f *audit.Fields, in *kmsapi.ListKeyRotationsRequest) {
			f.String("keyId", in.KeyID.V)
			text(f, "includeKeyMaterial", in.IncludeKeyMaterial)
			page(f, in.Limit, in.Marker)
		}),
	},
	{
		Name: "ListKeys", Permission: "kms:ListKeys", ReadOnly: true,
		do: guard.Answers(listKeys), show: show(func(f *audit.Fields, in *kmsapi.ListKeysRequest) { page(f, in.Limit, in.Marker) }),
	},
	{
		Name: "ListResourceTags", Permission: "kms:ListResourceTags", Key: keyOnly, ReadOnly: true,
		named: id(func(in *kmsapi.ListResourceTagsRequest) string { return in.KeyID.V }),
		do:    guard.Answers(listResourceTags), show: show(func(f *audit.Fields, in *kmsapi.ListResourceTagsRequest) {
			f.String("keyId", in.KeyID.V)
			page(f, in.Limit, in.Marker)
		}),
	},
	{
		// Services, whom no identity policy can allow anything, may ask about themselves.
		Name: "ListRetirableGrants", Permission: "kms:ListRetirableGrants", Key: inHandler, ReadOnly: true,
		do: guard.Answers(listRetirableGrants), show: show(func(f *audit.Fields, in *kmsapi.ListRetirableGrantsRequest) {
			text(f, "retiringPrincipal", in.RetiringPrincipal)
			text(f, "retiringServicePrincipal", in.RetiringServicePrincipal)
			page(f, in.Limit, in.Marker)
		}),
	},
	{
		Name: "PutKeyPolicy", Permission: "kms:PutKeyPolicy", Key: keyOnly,
		named: id(func(in *kmsapi.PutKeyPolicyRequest) string { return in.KeyID.V }),
		facts: putKeyPolicyFacts,
		do:    guard.Quiet(putKeyPolicy), show: show(func(f *audit.Fields, in *kmsapi.PutKeyPolicyRequest) {
			f.String("keyId", in.KeyID.V)
			f.String("policyName", in.PolicyName.Or(defaultPolicy))
			f.String("policy", in.Policy.V)
			f.Bool("bypassPolicyLockoutSafetyCheck", in.BypassPolicyLockoutSafetyCheck.V)
		}), reply: keyARN,
	},
	{
		// Its keys are two and are found by the handler: kms:ReEncryptFrom on the source, kms:ReEncryptTo on the destination.
		Name: "ReEncrypt", Permission: "kms:ReEncryptFrom", Key: inHandler, Foreign: true, Usage: key.EncryptDecrypt, States: usable, Bucket: cryptoBucket, ReadOnly: true,
		tokens: tokens(func(in *kmsapi.ReEncryptRequest) []string { return in.GrantTokens }),
		facts: facts(func(f *guard.Facts, in *kmsapi.ReEncryptRequest) {
			contextFacts(f, in.SourceEncryptionAlgorithm, in.SourceEncryptionContext)
		}),
		do: guard.Answers(reEncrypt), show: show(showReEncrypt),
	},
	{
		Name: "ReplicateKey", Permission: "kms:ReplicateKey", Key: keyOnly, States: replicates,
		named: id(func(in *kmsapi.ReplicateKeyRequest) string { return in.KeyID.V }),
		facts: facts(replicateFacts), do: guard.Answers(replicateKey), show: show(showReplicate), reply: replyReplicate,
	},
	{
		// The grant says who may retire it, and the handler finds it: by its token, or by the key's ARN and its id.
		Name: "RetireGrant", Permission: "kms:RetireGrant", Key: inHandler, Foreign: true,
		do: guard.Quiet(retireGrant), reply: keyARN,
	},
	{
		Name: "RevokeGrant", Permission: "kms:RevokeGrant", Key: keyOnly, Foreign: true,
		named: id(func(in *kmsapi.RevokeGrantRequest) string { return in.KeyID.V }),
		do:    guard.Quiet(revokeGrant), show: show(func(f *audit.Fields, in *kmsapi.RevokeGrantRequest) {
			f.String("keyId", in.KeyID.V)
			f.String("grantId", in.GrantID.V)
			truth(f, "dryRun", in.DryRun)
		}), reply: keyARN,
	},
	{
		Name: "RotateKeyOnDemand", Permission: "kms:RotateKeyOnDemand", Key: keyOnly, States: rotatesNow,
		named: id(func(in *kmsapi.RotateKeyOnDemandRequest) string { return in.KeyID.V }),
		do:    guard.Answers(rotateKeyOnDemand), show: show(func(f *audit.Fields, in *kmsapi.RotateKeyOnDemandRequest) { f.String("keyId", in.KeyID.V) }), reply: keyARN,
	},
	{
		Name: "ScheduleKeyDeletion", Permission: "kms:ScheduleKeyDeletion", Key: keyOnly, States: deletes,
		named: id(func(in *kmsapi.ScheduleKeyDeletionRequest) string { return in.KeyID.V }),
		facts: facts(func(f *guard.Facts, in *kmsapi.ScheduleKeyDeletionRequest) {
			f.Int("kms:ScheduleKeyDeletionPendingWindowInDays", int64(in.PendingWindowInDays.Or(defaultWindow)))
		}),
		check: check(checkWindow), idle: true,
		do: guard.Answers(scheduleKeyDeletion), show: show(func(f *audit.Fields, in *kmsapi.ScheduleKeyDeletionRequest) {
			f.String("keyId", in.KeyID.V)
			f.Int("pendingWindowInDays", int64(in.PendingWindowInDays.Or(defaultWindow)))
		}), reply: replySchedule,
	},
	{
		Name: "Sign", Permission: "kms:Sign", Key: anyForm, Foreign: true, Usage: key.SignVerify, States: usable, Bucket: asymmetricBucket, ReadOnly: true,
		tokens: tokens(func(in *kmsapi.SignRequest) []string { return in.GrantTokens }),
		named:  id(func(in *kmsapi.SignRequest) string { return in.KeyID.V }),
		facts:  facts(func(f *guard.Facts, in *kmsapi.SignRequest) { signFacts(f, in.SigningAlgorithm, in.MessageType) }),
		do:     guard.Answers(sign), show: show(func(f *audit.Fields, in *kmsapi.SignRequest) {
			f.String("messageType", string(messageType(in.MessageType)))
			showUse(f, in.KeyID.V, "signingAlgorithm", in.SigningAlgorithm, in.DryRun)
		}),
	},
	{
		Name: "TagResource", Permission: "kms:TagResource", Key: keyOnly, States: editable,
		named: id(func(in *kmsapi.TagResourceRequest) string { return in.KeyID.V }),
		facts: facts(func(f *guard.Facts, in *kmsapi.TagResourceRequest) { tagFacts(f, in.Tags) }),
		do:    guard.Quiet(tagResource), show: show(func(f *audit.Fields, in *kmsapi.TagResourceRequest) {
			f.String("keyId", in.KeyID.V)
			showTags(f, in.Tags)
		}), reply: keyARN,
	},
	{
		Name: "UntagResource", Permission: "kms:UntagResource", Key: keyOnly, States: editable,
		named: id(func(in *kmsapi.UntagResourceRequest) string { return in.KeyID.V }),
		facts: facts(func(f *guard.Facts, in *kmsapi.UntagResourceRequest) { f.Strings("aws:TagKeys", in.TagKeys) }),
		do:    guard.Quiet(untagResource), show: show(func(f *audit.Fields, in *kmsapi.UntagResourceRequest) {
			f.String("keyId", in.KeyID.V)
			f.Strings("tagKeys", in.TagKeys)
		}), reply: keyARN,
	},
	{
		Name: "UpdateAlias", Permission: "kms:UpdateAlias", Key: inHandler,
		do: guard.Quiet(updateAlias), show: show(func(f *audit.Fields, in *kmsapi.UpdateAliasRequest) {
			f.String("aliasName", in.AliasName.V)
			f.String("targetKeyId", in.TargetKeyID.V)
		}), reply: keyARN,
	},
	{
		Name: "UpdateKeyDescription", Permission: "kms:UpdateKeyDescription", Key: keyOnly, States: editable,
		named: id(func(in *kmsapi.UpdateKeyDescriptionRequest) string { return in.KeyID.V }),
		do:    guard.Quiet(updateKeyDescription), show: show(func(f *audit.Fields, in *kmsapi.UpdateKeyDescriptionRequest) {
			f.String("keyId", in.KeyID.V)
			f.String("description", in.Description.V)
		}), reply: keyARN,
	},
	{
		Name: "UpdatePrimaryRegion", Permission: "kms:UpdatePrimaryRegion", Key: keyOnly, States: leadsOff,
		named: id(func(in *kmsapi.UpdatePrimaryRegionRequest) string { return in.KeyID.V }),
		facts: facts(func(f *guard.Facts, in *kmsapi.UpdatePrimaryRegionRequest) {
			f.String("kms:PrimaryRegion", in.PrimaryRegion.V)
		}),
		do: guard.Quiet(updatePrimaryRegion), show: show(func(f *audit.Fields, in *kmsapi.UpdatePrimaryRegionRequest) {
			f.String("keyId", in.KeyID.V)
			f.String("primaryRegion", in.PrimaryRegion.V)
		}),
	},
	{
		Name: "Verify", Permission: "kms:Verify", Key: anyForm, Foreign: true, Usage: key.SignVerify, States: usable, Bucket: asymmetricBucket, ReadOnly: true,
		tokens: tokens(func(in *kmsapi.VerifyRequest) []string { return in.GrantTokens }),
		named:  id(func(in *kmsapi.VerifyRequest) string { return in.KeyID.V }),
		facts:  facts(func(f *guard.Facts, in *kmsapi.VerifyRequest) { signFacts(f, in.SigningAlgorithm, in.MessageType) }),
		do:     guard.Answers(verify), show: show(func(f *audit.Fields, in *kmsapi.VerifyRequest) {
			f.String("messageType", string(messageType(in.MessageType)))
			showUse(f, in.KeyID.V, "signingAlgorithm", in.SigningAlgorithm, in.DryRun)
		}),
	},
	{
		Name: "VerifyMac", Permission: "kms:VerifyMac", Key: anyForm, Foreign: true, Usage: key.MACUsage, States: usable, Bucket: symmetricBucket, ReadOnly: true,
		tokens: tokens(func(in *kmsapi.VerifyMacRequest) []string { return in.GrantTokens }),
		named:  id(func(in *kmsapi.VerifyMacRequest) string { return in.KeyID.V }),
		facts:  facts(func(f *guard.Facts, in *kmsapi.VerifyMacRequest) { f.String("kms:MacAlgorithm", in.MacAlgorithm.V) }),
		do:     guard.Answers(verifyMac), show: show(func(f *audit.Fields, in *kmsapi.VerifyMacRequest) {
			showUse(f, in.KeyID.V, "macAlgorithm", in.MacAlgorithm, in.DryRun)
		}),
	},
}

// actionReEncryptTo is what ReEncrypt needs on its destination, beside its row's permission on the source.
var actionReEncryptTo = guard.NewAction("kms:ReEncryptTo")

// destinationFacts are what conditions on that permission may ask.
var destinationFacts = facts(func(f *guard.Facts, in *kmsapi.ReEncryptRequest) {
	contextFacts(f, in.DestinationEncryptionAlgorithm, in.DestinationEncryptionContext)
})

// The adaptors below give the untyped columns of a row their typed functions. The pipeline decodes each request into what
// the model says is the operation's input, so the assertions hold; a row with another operation's handler fails its
// first test.

func id[In wire.Input](f func(In) string) func(wire.Input) string {
	return func(in wire.Input) string { return f(in.(In)) }
}

func tokens[In wire.Input](f func(In) []string) func(wire.Input) []string {
	return func(in wire.Input) []string { return f(in.(In)) }
}

func pairs[In wire.Input](f func(In) map[string]string) func(wire.Input) map[string]string {
	return func(in wire.Input) map[string]string { return f(in.(In)) }
}

func recipientOf[In wire.Input](f func(In) *kmsapi.RecipientInfo) func(wire.Input) *kmsapi.RecipientInfo {
	return func(in wire.Input) *kmsapi.RecipientInfo { return f(in.(In)) }
}

func facts[In wire.Input](f func(*guard.Facts, In)) guard.FactSource {
	return func(to *guard.Facts, in wire.Input) { f(to, in.(In)) }
}

func check[In wire.Input](f func(In) error) func(wire.Input) error {
	return func(in wire.Input) error { return f(in.(In)) }
}

func show[In wire.Input](f func(*audit.Fields, In)) func(*audit.Fields, wire.Input) {
	return func(to *audit.Fields, in wire.Input) { f(to, in.(In)) }
}
