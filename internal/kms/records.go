package kms

import (
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// What the audit record shows of inputs and outputs, after "Logging AWS KMS API calls with AWS CloudTrail" (KMS developer
// guide): lower camel case names, the service's defaults filled in, and never a plaintext, ciphertext or token.

func text(f *audit.Fields, name string, v wire.Opt[string]) {
	if v.Set {
		f.String(name, v.V)
	}
}

func number(f *audit.Fields, name string, v wire.Opt[int32]) {
	if v.Set {
		f.Int(name, int64(v.V))
	}
}

func truth(f *audit.Fields, name string, v wire.Opt[bool]) {
	if v.V {
		f.Bool(name, true)
	}
}

func page(f *audit.Fields, limit wire.Opt[int32], marker wire.Opt[string]) {
	number(f, "limit", limit)
	text(f, "marker", marker)
}

func showContext(f *audit.Fields, algorithmName string, algorithm wire.Opt[string], contextName string, context map[string]string) {
	f.String(algorithmName, algorithm.Or("SYMMETRIC_DEFAULT"))
	if len(context) > 0 {
		f.Map(contextName, context)
	}
}

func showDecrypt(f *audit.Fields, in *kmsapi.DecryptRequest) {
	text(f, "keyId", in.KeyID)
	showContext(f, "encryptionAlgorithm", in.EncryptionAlgorithm, "encryptionContext", in.EncryptionContext)
	truth(f, "dryRun", in.DryRun)
}

func showReEncrypt(f *audit.Fields, in *kmsapi.ReEncryptRequest) {
	text(f, "sourceKeyId", in.SourceKeyID)
	showContext(f, "sourceEncryptionAlgorithm", in.SourceEncryptionAlgorithm, "sourceEncryptionContext", in.SourceEncryptionContext)
	text(f, "destinationKeyId", in.DestinationKeyID)
	showContext(f, "destinationEncryptionAlgorithm", in.DestinationEncryptionAlgorithm, "destinationEncryptionContext", in.DestinationEncryptionContext)
	truth(f, "dryRun", in.DryRun)
}

func showDataKey(f *audit.Fields, keyID string, spec wire.Opt[string], size wire.Opt[int32], context map[string]string, dryRun wire.Opt[bool]) {
	f.String("keyId", keyID)
	text(f, "keySpec", spec)
	number(f, "numberOfBytes", size)
	if len(context) > 0 {
		f.Map("encryptionContext", context)
	}
	truth(f, "dryRun", dryRun)
}

// showUse shows which key was used, and with which algorithm.
func showUse(f *audit.Fields, keyID, name string, algorithm wire.Opt[string], dryRun wire.Opt[bool]) {
	f.String("keyId", keyID)
	text(f, name, algorithm)
	truth(f, "dryRun", dryRun)
}

func showPair(f *audit.Fields, keyID, spec string, context map[string]string, dryRun wire.Opt[bool]) {
	f.String("keyId", keyID)
	f.String("keyPairSpec", spec)
	if len(context) > 0 {
		f.Map("encryptionContext", context)
	}
	truth(f, "dryRun", dryRun)
}

func showTags(f *audit.Fields, tags []kmsapi.Tag) {
	f.Objects("tags", len(tags), func(i int, f *audit.Fields) {
		f.String("tagKey", tags[i].TagKey.V)
		f.String("tagValue", tags[i].TagValue.V)
	})
}

func showCreateKey(f *audit.Fields, in *kmsapi.CreateKeyRequest) {
	spec, usage, origin := createKeyDefaults(in)
	f.String("description", in.Description.V)
	f.String("keyUsage", string(usage))
	f.String("origin", string(origin))
	f.String("keySpec", string(spec))
	f.String("customerMasterKeySpec", string(spec))
	f.Bool("bypassPolicyLockoutSafetyCheck", in.BypassPolicyLockoutSafetyCheck.V)
	truth(f, "multiRegion", in.MultiRegion)
	text(f, "policy", in.Policy)
	if in.Tags != nil {
		showTags(f, in.Tags)
	}
	text(f, "customKeyStoreId", in.CustomKeyStoreID)
	text(f, "xksKeyId", in.XksKeyID)
}

func replyCreateKey(f *audit.Fields, _ *guard.Call, out wire.Output) {
	f.Object("keyMetadata", func(f *audit.Fields) { showMetadata(f, out.(*kmsapi.CreateKeyResponse).KeyMetadata) })
}

// showMetadata shows the description of a key that was made.
func showMetadata(f *audit.Fields, m *kmsapi.KeyMetadata) {
	f.String("aWSAccountId", m.AWSAccountID.V)
	f.String("keyId", m.KeyID.V)
	f.String("arn", m.ARN.V)
	f.Date("creationDate", m.CreationDate.V)
	f.Bool("enabled", m.Enabled.V)
	f.String("description", m.Description.V)
	f.String("keyUsage", m.KeyUsage.V)
	f.String("keyState", m.KeyState.V)
	f.String("origin", m.Origin.V)
	f.String("keyManager", m.KeyManager.V)
	f.String("customerMasterKeySpec", m.CustomerMasterKeySpec.V)
	f.String("keySpec", m.KeySpec.V)
	for name, list := range map[string][]string{
		"encryptionAlgorithms": m.EncryptionAlgorithms, "signingAlgorithms": m.SigningAlgorithms, "macAlgorithms": m.MacAlgorithms,
		"keyAgreementAlgorithms": m.KeyAgreementAlgorithms, "encapsulationAlgorithms": m.EncapsulationAlgorithms,
	} {
		if len(list) > 0 { // one of them
			f.Strings(name, list)
		}
	}
	f.Bool("multiRegion", m.MultiRegion.V)
	text(f, "currentKeyMaterialId", m.CurrentKeyMaterialID)
	if c := m.MultiRegionConfiguration; c != nil {
		one := func(f *audit.Fields, k *kmsapi.MultiRegionKey) {
			f.String("arn", k.ARN.V)
			f.String("region", k.Region.V)
		}
		f.Object("multiRegionConfiguration", func(f *audit.Fields) {
			f.String("multiRegionKeyType", c.MultiRegionKeyType.V)
			f.Object("primaryKey", func(f *audit.Fields) { one(f, c.PrimaryKey) })
			f.Objects("replicaKeys", len(c.ReplicaKeys), func(i int, f *audit.Fields) { one(f, &c.ReplicaKeys[i]) })
		})
	}
}

func replySchedule(f *audit.Fields, _ *guard.Call, out wire.Output) {
	s := out.(*kmsapi.ScheduleKeyDeletionResponse)
	f.String("keyId", s.KeyID.V)
	f.String("keyState", s.KeyState.V)
	if s.DeletionDate.Set {
		f.Date("deletionDate", s.DeletionDate.V)
	}
	f.Int("pendingWindowInDays", int64(s.PendingWindowInDays.V))
}

// keyARN shows the ARN of the key that the operation changed.
func keyARN(f *audit.Fields, call *guard.Call, _ wire.Output) { f.String("keyId", call.KeyARN()) }

// showCreateGrant shows everything but the grant tokens.
func showCreateGrant(f *audit.Fields, in *kmsapi.CreateGrantRequest) {
	f.String("keyId", in.KeyID.V)
	f.Strings("operations", in.Operations)
	text(f, "granteePrincipal", in.GranteePrincipal)
	text(f, "granteeServicePrincipal", in.GranteeServicePrincipal)
	text(f, "retiringPrincipal", in.RetiringPrincipal)
	text(f, "retiringServicePrincipal", in.RetiringServicePrincipal)
	if c := in.Constraints; c != nil {
		f.Object("constraints", func(f *audit.Fields) {
			if c.EncryptionContextSubset != nil {
				f.Map("encryptionContextSubset", c.EncryptionContextSubset)
			}
			if c.EncryptionContextEquals != nil {
				f.Map("encryptionContextEquals", c.EncryptionContextEquals)
			}
			text(f, "sourceArn", c.SourceARN)
		})
	}
	text(f, "name", in.Name)
	truth(f, "dryRun", in.DryRun)
}

// replyCreateGrant shows which grant it is, and not its token.
func replyCreateGrant(f *audit.Fields, call *guard.Call, out wire.Output) {
	f.String("grantId", out.(*kmsapi.CreateGrantResponse).GrantID.V)
	f.String("keyId", call.KeyARN())
}
