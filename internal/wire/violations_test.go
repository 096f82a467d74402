package wire_test

import (
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/iamapi"
	"github.com/keywright/keywright/internal/wire/kmsapi"
	"github.com/keywright/keywright/internal/wire/stsapi"
)

// The wording of these messages is the service's, as recorded from it.
const (
	signingAlgorithms = "RSASSA_PSS_SHA_256, RSASSA_PSS_SHA_384, RSASSA_PSS_SHA_512, RSASSA_PKCS1_V1_5_SHA_256, " +
		"RSASSA_PKCS1_V1_5_SHA_384, RSASSA_PKCS1_V1_5_SHA_512, ECDSA_SHA_256, ECDSA_SHA_384, ECDSA_SHA_512, " +
		"ED25519_SHA_512, ED25519_PH_SHA_512, SM2DSA, ML_DSA_SHAKE_256"
	dataKeySpecs = "RSA_2048, RSA_3072, RSA_4096, ECC_NIST_P256, ECC_NIST_P384, ECC_NIST_P521, ECC_SECG_P256K1, " +
		"ECC_NIST_EDWARDS25519, SYMMETRIC_DEFAULT, HMAC_224, HMAC_256, HMAC_384, HMAC_512, SM2, ML_DSA_44, ML_DSA_65, ML_DSA_87"
)

const failed = "' failed to satisfy constraint: "

func TestMessagesOfKMS(t *testing.T) {
	long := strings.Repeat("v", 257)
	tests := []struct {
		name, op, body, want string
	}{
		{"all well", "Encrypt", `{"KeyId":"alias/a","Plaintext":"AA=="}`, ""},
		{
			"null", "DescribeKey", `{}`,
			"1 validation error detected: Value null at 'keyId" + failed + "Member must not be null",
		},
		{
			"null written out", "DescribeKey", `{"KeyId":null}`,
			"1 validation error detected: Value null at 'keyId" + failed + "Member must not be null",
		},
		{
			"length before pattern", "DescribeKey", `{"KeyId":""}`,
			"2 validation errors detected: Value '' at 'keyId" + failed + "Member must have length greater than or equal to 1; " +
				`Value '' at 'keyId` + failed + `Member must satisfy regular expression pattern: ^\p{ASCII}+$`,
		},
		{
			"pattern", "DescribeKey", `{"KeyId":"sch\u00f6n"}`,
			"1 validation error detected: Value 'schön' at 'keyId" + failed +
				`Member must satisfy regular expression pattern: ^\p{ASCII}+$`,
		},
		{
			"null sensitive blob", "Encrypt", `{"KeyId":"k"}`,
			"1 validation error detected: Value at 'plaintext" + failed + "Member must not be null",
		},
		{
			"null blob", "Decrypt", `{}`,
			"1 validation error detected: Value null at 'ciphertextBlob" + failed + "Member must not be null",
		},
		{"null blob allowed", "Decrypt", `{"DryRun":true,"DryRunModifiers":["IGNORE_CIPHERTEXT"]}`, ""},
		{
			"short blob allowed by no modifier", "ReEncrypt",
			`{"CiphertextBlob":"","DestinationKeyId":"k","DryRunModifiers":["IGNORE_CIPHERTEXT"]}`,
			"1 validation error detected: Value at 'ciphertextBlob" + failed + "Member must have length greater than or equal to 1",
		},
		{
			"null signature and message", "Verify", `{"KeyId":"k","SigningAlgorithm":"ECDSA_SHA_256"}`,
			"2 validation errors detected: Value at 'message" + failed + "Member must not be null; " +
				"Value null at 'signature" + failed + "Member must not be null",
		},
		{
			"empty plaintext", "Encrypt", `{"KeyId":"k","Plaintext":""}`,
			"1 validation error detected: Value at 'plaintext" + failed + "Member must have length greater than or equal to 1",
		},
		{
			"number low", "ListKeys", `{"Limit":0}`,
			"1 validation error detected: Value '0' at 'limit" + failed + "Member must have value greater than or equal to 1",
		},
		{
			"number high", "GenerateRandom", `{"NumberOfBytes":1025}`,
			"1 validation error detected: Value '1025' at 'numberOfBytes" + failed + "Member must have value less than or equal to 1024",
		},
		{
			"enum", "Encrypt", `{"KeyId":"k","Plaintext":"AA==","EncryptionAlgorithm":"ROT13"}`,
			"1 validation error detected: Value 'ROT13' at 'encryptionAlgorithm" + failed +
				"Member must satisfy enum value set: [RSAES_OAEP_SHA_1, RSAES_OAEP_SHA_256, SM2PKE, SYMMETRIC_DEFAULT]",
		},
		{
			"enum of signatures", "Sign", `{"KeyId":"k","Message":"AA==","SigningAlgorithm":"x"}`,
			"1 validation error detected: Value 'x' at 'signingAlgorithm" + failed +
				"Member must satisfy enum value set: [" + signingAlgorithms + "]",
		},
		{"taken though not printed", "Sign", `{"KeyId":"k","Message":"AA==","SigningAlgorithm":"SYMMETRIC_DEFAULT"}`, ""},
		{
			"enum of MACs", "GenerateMac", `{"KeyId":"k","Message":"AA==","MacAlgorithm":"x"}`,
			"1 validation error detected: Value 'x' at 'macAlgorithm" + failed +
				"Member must satisfy enum value set: [HMAC_SHA_384, HMAC_SHA_256, HMAC_SHA_224, HMAC_SHA_512]",
		},
		{
			"enum of data keys", "GenerateDataKey", `{"KeyId":"k","KeySpec":"AES_512"}`,
			"1 validation error detected: Value 'AES_512' at 'keySpec" + failed +
				"Member must satisfy enum value set: [" + dataKeySpecs + "]",
		},
		{"data key taken", "GenerateDataKey", `{"KeyId":"k","KeySpec":"AES_256"}`, ""},
		{
			"list index", "TagResource", `{"KeyId":"k","Tags":[{"TagKey":"a","TagValue":"b"},{"TagKey":"","TagValue":"` + long + `"}]}`,
			"2 validation errors detected: Value '' at 'tags.2.member.tagKey" + failed +
				"Member must have length greater than or equal to 1; Value '" + long + "' at 'tags.2.member.tagValue" + failed +
				"Member must have length less than or equal to 256",
		},
		{
			"null in a list", "TagResource", `{"KeyId":"k","Tags":[{"TagValue":"b"}]}`,
			"1 validation error detected: Value null at 'tags.1.member.tagKey" + failed + "Member must not be null",
		},
		{"length counts characters", "TagResource", `{"KeyId":"k","Tags":[{"TagKey":"a","TagValue":"` + strings.Repeat("ü", 256) + `"}]}`, ""},
		{"empty description", "UpdateKeyDescription", `{"KeyId":"k","Description":""}`, ""},
		{
			"list length", "DescribeKey", `{"KeyId":"k","GrantTokens":["a","b","c","d","e","f","g","h","i","j","k"]}`,
			"1 validation error detected: Value '[a, b, c, d, e, f, g, h, i, j, k]' at 'grantTokens" + failed +
				"Member must have length less than or equal to 10",
		},
		{
			"list element", "DescribeKey", `{"KeyId":"k","GrantTokens":["a",""]}`,
			"1 validation error detected: Value '[a, ]' at 'grantTokens" + failed +
				"Member must satisfy constraint: [Member must have length less than or equal to 8192, " +
				"Member must have length greater than or equal to 1]",
		},
		{
			"nested", "GenerateDataKey", `{"KeyId":"k","KeySpec":"AES_256","Recipient":{"AttestationDocument":""}}`,
			"1 validation error detected: Value at 'recipient.attestationDocument" + failed +
				"Member must have length greater than or equal to 1",
		},
		{
			"secret text not shown", "CreateCustomKeyStore", `{"CustomKeyStoreName":"s","KeyStorePassword":"hush"}`,
			"1 validation error detected: Value at 'keyStorePassword" + failed + "Member must have length greater than or equal to 7",
		},
		{
			"several members in model order", "CreateAlias", `{"TargetKeyId":"","AliasName":"a b"}`,
			`3 validation errors detected: Value 'a b' at 'aliasName` + failed +
				`Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$; Value '' at 'targetKeyId` + failed +
				`Member must have length greater than or equal to 1; Value '' at 'targetKeyId` + failed +
				`Member must satisfy regular expression pattern: ^\p{ASCII}+$`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			op, ok := kmsapi.Service.Operation(test.op)
			if !ok {
				t.Fatal("no such operation")
			}
			in := op.New().(wire.JSONInput)
			if err := wire.DecodeJSON([]byte(test.body), in); err != nil {
				t.Fatal(err)
			}
			checkValidation(t, wire.Validate(in), test.want)
		})
	}
}

func TestMessagesOfQueryServices(t *testing.T) {
	checkValidation(t, wire.Validate(&stsapi.AssumeRoleRequest{RoleARN: wire.Some("arn:aws:iam::111122223333:role/r")}),
		"1 validation error detected: Value null at 'roleSessionName"+failed+"Member must not be null")
	for name, want := range map[string]bool{"team-a": true, "ab": false, "a--b": false, "-ab": false, "ab-": false, "a-b": true} {
		err := wire.Validate(&iamapi.CreateAccountAliasRequest{AccountAlias: wire.Some(name)})
		if (err == nil) != want {
			t.Errorf("account alias %s: got %v", name, err)
		}
	}
}

func checkValidation(t *testing.T, err *wire.Error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("got %v, want no error", err)
	case want != "" && err == nil:
		t.Errorf("got no error, want %s", want)
	case want != "" && (err.Code != wire.CodeValidation || err.Message != want || err.NoMessage):
		t.Errorf("got  %s\nwant ValidationException: %s", err.Error(), want)
	}
}

// mapInput has a constrained map, which no operation of today has.
type mapInput struct{ m map[string]string }

func (mapInput) ShapeName() string { return "mapInput" }

func (in mapInput) Validate(v *wire.Violations) {
	short := wire.Rule{Min: 1, HasMin: true, Max: 2, HasMax: true}
	v.StringMap("context", in.m, true, &wire.Rule{Max: 1, HasMax: true, Key: &short, Value: &short})
}

func TestMapMessages(t *testing.T) {
	const bounds = "[Member must have length less than or equal to 2, Member must have length greater than or equal to 1]"
	tests := []struct {
		m    map[string]string
		want string
	}{
		{map[string]string{"a": "b"}, ""},
		{nil, "1 validation error detected: Value null at 'context" + failed + "Member must not be null"},
		{
			map[string]string{"a": "b", "c": "d"},
			"1 validation error detected: Value at 'context" + failed + "Member must have length less than or equal to 1",
		},
		{map[string]string{"": "b"}, "1 validation error detected: Value at 'context" + failed + "Map keys must satisfy constraint: " + bounds},
		{map[string]string{"a": "bcd"}, "1 validation error detected: Value at 'context" + failed + "Map value must satisfy constraint: " + bounds},
	}
	for _, test := range tests {
		checkValidation(t, wire.Validate(mapInput{test.m}), test.want)
	}
}

func TestViolationsAreBounded(t *testing.T) {
	err := wire.Validate(&kmsapi.TagResourceRequest{Tags: make([]kmsapi.Tag, 10000)})
	if err == nil || !strings.HasPrefix(err.Message, "64 validation errors detected: ") || len(err.Message) > 10000 {
		t.Errorf("got %.100v", err)
	}
}

func TestValidInputAllocatesNothing(t *testing.T) {
	in := encryptRequest(t, 64)
	if n := testing.AllocsPerRun(100, func() {
		if err := wire.Validate(in); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("validation of a valid input allocates %v times", n)
	}
}
