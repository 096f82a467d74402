package kms_test

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// conditionValues are conditions on each key that are true of the requests below, which leave out what has a default.
var conditionValues = map[string]string{
	"aws:RequestTag/${TagKey}":     `{"StringEquals":{"aws:RequestTag/team":"red"}}`,
	"aws:ResourceTag/${TagKey}":    `{"StringEquals":{"aws:ResourceTag/stage":"test"}}`,
	"aws:TagKeys":                  `{"ForAnyValue:StringEquals":{"aws:TagKeys":"team"}}`,
	"kms:CallerAccount":            `{"StringEquals":{"kms:CallerAccount":"111122223333"}}`,
	"kms:CustomerMasterKeySpec":    `{"StringEquals":{"kms:CustomerMasterKeySpec":"SYMMETRIC_DEFAULT"}}`,
	"kms:CustomerMasterKeyUsage":   `{"StringEquals":{"kms:CustomerMasterKeyUsage":"ENCRYPT_DECRYPT"}}`,
	"kms:EncryptionAlgorithm":      `{"StringEquals":{"kms:EncryptionAlgorithm":"SYMMETRIC_DEFAULT"}}`,
	"kms:DataKeyPairSpec":          `{"StringEquals":{"kms:DataKeyPairSpec":"ECC_NIST_P256"}}`,
	"kms:KeyAgreementAlgorithm":    `{"StringEquals":{"kms:KeyAgreementAlgorithm":"ECDH"}}`,
	"kms:MacAlgorithm":             `{"StringEquals":{"kms:MacAlgorithm":"HMAC_SHA_256"}}`,
	"kms:MessageType":              `{"StringEquals":{"kms:MessageType":"RAW"}}`,
	"kms:SigningAlgorithm":         `{"StringEquals":{"kms:SigningAlgorithm":"ECDSA_SHA_256"}}`,
	"kms:EncryptionContextKeys":    `{"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":"Stage"},"Null":{"kms:EncryptionContextKeys":"false"}}`,
	"kms:ExpirationModel":          `{"StringEquals":{"kms:ExpirationModel":"KEY_MATERIAL_EXPIRES"}}`,
	"kms:GrantConstraintSourceArn": `{"ArnLike":{"kms:GrantConstraintSourceArn":"arn:aws:objects:*:111122223333:*"}}`,
	"kms:GrantConstraintType":      `{"StringEquals":{"kms:GrantConstraintType":"EncryptionContextSubset"}}`,
	"kms:GrantIsForAWSResource":    `{"Bool":{"kms:GrantIsForAWSResource":"true"}}`,
	"kms:GrantOperations":          `{"ForAllValues:StringEquals":{"kms:GrantOperations":["Encrypt","Decrypt"]},"Null":{"kms:GrantOperations":"false"}}`,
	"kms:GranteePrincipal":         `{"StringEquals":{"kms:GranteePrincipal":"arn:aws:iam::111122223333:user/u"}}`,
	"kms:GranteeServicePrincipal":  `{"StringEquals":{"kms:GranteeServicePrincipal":"objects.example.com"}}`,
	"kms:KeyOrigin":                `{"StringEquals":{"kms:KeyOrigin":"AWS_KMS"}}`,
	"kms:KeySpec":                  `{"StringEquals":{"kms:KeySpec":"SYMMETRIC_DEFAULT"}}`,
	"kms:KeyUsage":                 `{"StringEquals":{"kms:KeyUsage":"ENCRYPT_DECRYPT"}}`,
	"kms:MultiRegion":              `{"Bool":{"kms:MultiRegion":"false"}}`,
	"kms:MultiRegionKeyType":       `{"StringEquals":{"kms:MultiRegionKeyType":"PRIMARY"}}`,
	"kms:PrimaryRegion":            `{"StringEquals":{"kms:PrimaryRegion":"eu-west-1"}}`,
	"kms:ReplicaRegion":            `{"StringEquals":{"kms:ReplicaRegion":"eu-west-1"}}`,
	"kms:ReEncryptOnSameKey":       `{"Bool":{"kms:ReEncryptOnSameKey":"true"}}`,
	"kms:RequestAlias":             `{"StringEquals":{"kms:RequestAlias":"alias/used"}}`,
	"kms:ResourceAliases":          `{"ForAnyValue:StringEquals":{"kms:ResourceAliases":"alias/used"}}`,
	"kms:RetiringPrincipal":        `{"StringEquals":{"kms:RetiringPrincipal":"arn:aws:iam::111122223333:user/u"}}`,
	"kms:RetiringServicePrincipal": `{"StringEquals":{"kms:RetiringServicePrincipal":"objects.example.com"}}`,
	"kms:RotationPeriodInDays":     `{"NumericEquals":{"kms:RotationPeriodInDays":"365"}}`,
	"kms:ValidTo":                  `{"DateEquals":{"kms:ValidTo":"2026-01-02T00:00:00Z"}}`,
	"kms:ViaService":               `{"StringEquals":{"kms:ViaService":"objects.us-east-1.example.com"}}`,
	"kms:WrappingAlgorithm":        `{"StringEquals":{"kms:WrappingAlgorithm":"RSAES_OAEP_SHA_256"}}`,
	"kms:WrappingKeySpec":          `{"StringEquals":{"kms:WrappingKeySpec":"RSA_2048"}}`,

	"kms:RecipientAttestation:ImageSha384":    `{"StringEquals":{"kms:RecipientAttestation:ImageSha384":"` + strings.Repeat("a0", 48) + `"}}`,
	"kms:RecipientAttestation:PCR<n>":         `{"StringEquals":{"kms:RecipientAttestation:PCR8":"` + strings.Repeat("a8", 48) + `"}}`,
	"kms:RecipientAttestation:NitroTPMPCR<n>": `{"StringEquals":{"kms:RecipientAttestation:NitroTPMPCR23":"` + strings.Repeat("b7", 48) + `"}}`,

	"kms:BypassPolicyLockoutSafetyCheck":            `{"Bool":{"kms:BypassPolicyLockoutSafetyCheck":"true"}}`,
	"kms:EncryptionContext:${EncryptionContextKey}": `{"StringEquals":{"kms:EncryptionContext:stage":"test"}}`,
	"kms:TrailingDaysWithoutKeyUsage":               `{"NumericEquals":{"kms:TrailingDaysWithoutKeyUsage":"0"}}`,
	"kms:ScheduleKeyDeletionPendingWindowInDays":    `{"NumericEquals":{"kms:ScheduleKeyDeletionPendingWindowInDays":"30"}}`,
}

// keyConditions are what conditions can ask about every key.
var keyConditions = []string{
	"aws:ResourceTag/${TagKey}", "kms:KeyOrigin", "kms:KeySpec", "kms:KeyUsage", "kms:MultiRegion", "kms:ResourceAliases",
	"kms:CustomerMasterKeySpec", "kms:CustomerMasterKeyUsage",
}

// neverThere says why a key of the list has no value; by action, or for all of them.
var neverThere = map[string]string{
	"CreateKey aws:ResourceTag/${TagKey}": "there is no resource yet",
}

// conditionKinds are the specs and usages of the keys of actions that symmetric keys do not have.
var conditionKinds = map[string][2]string{
	"GetPublicKey": {"ECC_NIST_P256", "KEY_AGREEMENT"}, "DeriveSharedSecret": {"ECC_NIST_P256", "KEY_AGREEMENT"},
	"Sign": {"ECC_NIST_P256", "SIGN_VERIFY"}, "Verify": {"ECC_NIST_P256", "SIGN_VERIFY"},
	"GenerateMac": {"HMAC_256", "GENERATE_VERIFY_MAC"}, "VerifyMac": {"HMAC_256", "GENERATE_VERIFY_MAC"},
	"Encapsulate": {"ML_KEM_768", "ENCAPSULATE_DECAPSULATE"}, "Decapsulate": {"ML_KEM_768", "ENCAPSULATE_DECAPSULATE"},
}

// inRegions reports whether an action is about multi-Region keys.
func inRegions(action string) bool {
	return action == "ReplicateKey" || action == "UpdatePrimaryRegion"
}

// conditionRequest prepares a key and returns the operation that needs an action, with an input that has a value for every
// condition key.
func conditionRequest(w *world, action, conditionKey string) (operation string, request in) {
	made := in{"Tags": []in{{"TagKey": "Stage", "TagValue": "test"}}}
	if strings.Contains(action, "Import") {
		made["Origin"] = "EXTERNAL"
	}
	if inRegions(action) {
		made["MultiRegion"] = true
	}
	if kind, ok := conditionKinds[action]; ok {
		made["KeySpec"], made["KeyUsage"] = kind[0], kind[1]
	}
	if action == "ReplicateKey" || action == "UpdatePrimaryRegion" {
		made["MultiRegion"] = true
	}
	id := do[*kmsapi.CreateKeyResponse](w, "CreateKey", made).KeyMetadata.KeyID.V
	other, _ := w.newKey()
	for _, name := range []string{"alias/used", "alias/old"} {
		_, _ = w.try("DeleteAlias", in{"AliasName": name}) // of the case before
	}
	w.done("CreateAlias", in{"AliasName": "alias/used", "TargetKeyId": id})
	context := map[string]string{"Stage": "test"}
	tags := []in{{"TagKey": "team", "TagValue": "red"}}
	grantee := in{"GranteePrincipal": userARN + "u", "RetiringPrincipal": userARN + "u"}
	if strings.Contains(conditionKey, "ServicePrincipal") {
		grantee = in{"GranteeServicePrincipal": "objects.example.com", "RetiringServicePrincipal": "objects.example.com"}
	}
	grant := in{
		"KeyId": id, "Operations": []string{"Encrypt", "Decrypt"},
		"Constraints": in{"EncryptionContextSubset": context, "SourceArn": "arn:aws:objects:us-east-1:111122223333:bucket/b"},
	}
	for k, v := range grantee {
		grant[k] = v
	}
	switch action {
	case "CreateKey":
		return action, in{"Tags": tags, "BypassPolicyLockoutSafetyCheck": true, "MultiRegion": conditionKey == "kms:MultiRegionKeyType"}
	case "ReplicateKey":
		return action, in{"KeyId": id, "ReplicaRegion": "eu-west-1"}
	case "UpdatePrimaryRegion": // whose permission is asked for on both keys
		do[*kmsapi.ReplicateKeyResponse](w, "ReplicateKey", in{"KeyId": id, "ReplicaRegion": "eu-west-1", "Tags": made["Tags"]})
		w.must(w.service.RunDue(w.t.Context()))
		there := w.as(w.account, "eu-west-1")
		_, _ = there.try("DeleteAlias", in{"AliasName": "alias/used"})
		there.done("CreateAlias", in{"AliasName": "alias/used", "TargetKeyId": id})
		return action, in{"KeyId": id, "PrimaryRegion": "eu-west-1"}
	case "Encrypt":
		return action, in{"KeyId": "alias/used", "Plaintext": []byte("x"), "EncryptionContext": context}
	case "Decrypt":
		return action, in{"KeyId": "alias/used", "CiphertextBlob": w.encrypt(id, []byte("x"), context), "EncryptionContext": context}
	case "ReEncryptFrom", "ReEncryptTo":
		return "ReEncrypt", in{
			"SourceKeyId": "alias/used", "DestinationKeyId": "alias/used", "CiphertextBlob": w.encrypt(id, []byte("x"), context),
			"SourceEncryptionContext": context, "DestinationEncryptionContext": context,
		}
	case "GenerateDataKey", "GenerateDataKeyWithoutPlaintext":
		return action, in{"KeyId": "alias/used", "KeySpec": "AES_256", "EncryptionContext": context}
	case "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext":
		return action, in{"KeyId": "alias/used", "KeyPairSpec": "ECC_NIST_P256", "EncryptionContext": context}
	case "Sign", "Verify":
		request = in{"KeyId": id, "Message": []byte("x"), "SigningAlgorithm": "ECDSA_SHA_256"}
		if action == "Verify" {
			request["Signature"] = do[*kmsapi.SignResponse](w, "Sign", request).Signature
		}
	case "GenerateMac", "VerifyMac":
		request = in{"KeyId": id, "Message": []byte("x"), "MacAlgorithm": "HMAC_SHA_256"}
		if action == "VerifyMac" {
			request["Mac"] = do[*kmsapi.GenerateMacResponse](w, "GenerateMac", request).Mac
		}
	case "Encapsulate", "Decapsulate":
		request = in{"KeyId": id, "EncapsulationAlgorithm": "ML_KEM"}
		if action == "Decapsulate" {
			request["SharedSecretCiphertextBlob"] = do[*kmsapi.EncapsulateResponse](w, "Encapsulate", request).SharedSecretCiphertextBlob
		}
	case "DeriveSharedSecret":
		request = in{"KeyId": id, "KeyAgreementAlgorithm": "ECDH", "PublicKey": do[*kmsapi.GetPublicKeyResponse](w, "GetPublicKey", in{"KeyId": id}).PublicKey}
	case "DescribeKey", "GetPublicKey":
		return action, in{"KeyId": "alias/used"}
	case "CreateGrant":
		return action, grant
	case "RetireGrant":
		return action, in{"GrantToken": do[*kmsapi.CreateGrantResponse](w, "CreateGrant", grant).GrantToken.V}
	case "RevokeGrant":
		return action, in{"KeyId": id, "GrantId": do[*kmsapi.CreateGrantResponse](w, "CreateGrant", grant).GrantID.V}
	case "TagResource":
		return action, in{"KeyId": id, "Tags": tags}
	case "UntagResource":
		return action, in{"KeyId": id, "TagKeys": []string{"team"}}
	case "PutKeyPolicy":
		return action, in{"KeyId": id, "Policy": naming("kms:*", userARN+"u"), "BypassPolicyLockoutSafetyCheck": true}
	case "CreateAlias":
		return action, in{"AliasName": "alias/old", "TargetKeyId": id}
	case "DeleteAlias":
		return action, in{"AliasName": "alias/used"}
	case "UpdateAlias":
		w.done("CreateAlias", in{"AliasName": "alias/old", "TargetKeyId": other})
		w.done("TagResource", in{"KeyId": other, "Tags": []in{{"TagKey": "Stage", "TagValue": "test"}}})
		w.done("DeleteAlias", in{"AliasName": "alias/used"})
		w.done("CreateAlias", in{"AliasName": "alias/used", "TargetKeyId": id})
		return action, in{"AliasName": "alias/used", "TargetKeyId": id}
	case "UpdateKeyDescription":
		return action, in{"KeyId": id, "Description": "x"}
	case "GetParametersForImport":
		return action, in{"KeyId": id, "WrappingAlgorithm": oaep256, "WrappingKeySpec": "RSA_2048"}
	case "ImportKeyMaterial":
		return action, w.parameters(id, oaep256, "RSA_2048").request(secretOf(1), until(w.now().Add(day)))
	case "CancelKeyDeletion":
		do[*kmsapi.ScheduleKeyDeletionResponse](w, "ScheduleKeyDeletion", in{"KeyId": id})
	case "GenerateRandom":
		return action, in{"NumberOfBytes": 1}
	case "ListRetirableGrants":
		return action, in{"RetiringPrincipal": userARN + "u"}
	case "ListKeys", "ListAliases":
		return action, in{}
	}
	if request != nil {
		request["KeyId"] = "alias/used"
		return action, request
	}
	return action, in{"KeyId": id}
}

// conditionDocument returns what is special about an attestation document that has a value for a condition key.
func conditionDocument(conditionKey string) map[string]any {
	if strings.Contains(conditionKey, "NitroTPM") {
		return map[string]any{"pcrs": nil, "nitrotpm_pcrs": map[int][]byte{23: bytes.Repeat([]byte{0xb7}, 48)}}
	}
	return nil
}

// Every condition key that the service authorization reference gives an action has its effective value here, too, if the
// action is here. The list of them is condition-keys.json.
func TestConditionKeys(t *testing.T) {
	text, err := os.ReadFile("condition-keys.json")
	if err != nil {
		t.Fatal(err)
	}
	var actions map[string]struct{ Resources, Keys []string }
	if err := json.Unmarshal(text, &actions); err != nil {
		t.Fatal(err)
	}
	w := newAttestedWorld(t)
	u := w.user("u")
	cases := 0
	for action, facts := range actions {
		if _, there := w.operations[action]; !there && !strings.HasPrefix(action, "ReEncrypt") {
			continue
		}
		keys := facts.Keys
		if slices.Equal(facts.Resources, []string{"key"}) {
			keys = append(slices.Clone(keys), keyConditions...)
		}
		for _, k := range keys {
			if neverThere[k] != "" || neverThere[action+" "+k] != "" {
				continue
			}
			condition, ok := conditionValues[k]
			if k == "kms:KeyOrigin" && strings.Contains(action, "Import") {
				condition = `{"StringEquals":{"kms:KeyOrigin":"EXTERNAL"}}`
			}
			if k == "kms:MultiRegion" && inRegions(action) {
				condition = `{"Bool":{"kms:MultiRegion":"true"}}`
			}
			if kind, other := conditionKinds[action]; other {
				condition = strings.NewReplacer("SYMMETRIC_DEFAULT", kind[0], "ENCRYPT_DECRYPT", kind[1]).Replace(condition)
			}
			if !ok {
				t.Errorf("%s of %s has no condition in this test", k, action)
				continue
			}
			cases++
			if testing.Short() && cases%5 != 0 { // as with the race detector, which learns nothing from more of them
				continue
			}
			for _, right := range []bool{true, false} {
				operation, request := conditionRequest(w, action, k)
				if strings.Contains(k, "Attestation") {
					request["Recipient"] = w.recipient(conditionDocument(k))
				}
				rule := condition
				if !right { // what is there is not absent, so this takes the right away
					_, name, _ := strings.Cut(condition, `":{"`)
					name, _, _ = strings.Cut(name, `"`)
					rule = `{"Null":{"` + name + `":"true"}}`
				}
				caller := u.may(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","NotAction":"kms:` + action + `","Resource":"*"},` +
					`{"Effect":"Allow","Action":"kms:` + action + `","Resource":"*","Condition":` + rule + `}]}`)
				if action == "RetireGrant" { // nobody else's to retire but by the issuing account's policies
					caller.caller.UniqueID, caller.caller.ARN = "AIDASOMEBODYELSE0000", userARN+"other"
				}
				caller.forward = &guard.Forward{Service: "objects.example.com", ViaService: "objects.us-east-1.example.com", SourceARN: "arn:aws:objects:us-east-1:111122223333:bucket/b"}
				_, failure := caller.try(operation, request)
				if right && failure != nil || !right && (failure == nil || failure.Code != "AccessDeniedException") {
					t.Errorf("%s with %s: %v", action, rule, failure)
				}
			}
		}
	}
	if cases < 300 {
		t.Errorf("only %d cases", cases)
	}
}
