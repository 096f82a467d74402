package kms_test

import (
	"testing"

	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// Who has no right to an AWS managed key cannot have it made, in whatever Region, and no call makes it for nothing.
func TestManagedKeysAreMadeForThoseWhoMayUseThem(t *testing.T) {
	w := newWorld(t, "")
	id, _ := w.newKey()
	blob := w.encrypt(id, []byte("x"), nil)
	u := w.user("u")
	const aliasARN = "arn:aws:kms:us-east-1:111122223333:alias/aws/s3"
	before := len(w.audit.Records())
	calls := 0
	for who, reason := range map[*world]string{u: "identity", w: "resource"} {
		for name, request := range map[string]in{
			"DescribeKey": {"KeyId": "alias/aws/s3"}, "Encrypt": {"KeyId": aliasARN, "Plaintext": []byte("x")},
			"GenerateDataKey": {"KeyId": "alias/aws/s3", "KeySpec": "AES_256"},
			"Decrypt":         {"KeyId": "alias/aws/s3", "CiphertextBlob": blob},
		} {
			if name == "DescribeKey" && who == w {
				continue // which the account may
			}
			why := reason
			if name != "DescribeKey" {
				why = "resource"
			}
			calls++
			who.refused("AccessDeniedException: User: "+who.who().ARN+" is not authorized to perform: kms:"+name+" on resource: "+aliasARN+
				" because no "+why+"-based policy allows the kms:"+name+" action", name, request)
		}
	}
	request := in{
		"SourceKeyId": "alias/aws/s3", "DestinationKeyId": "alias/aws/s3", "DryRun": true, "DryRunModifiers": []string{"IGNORE_CIPHERTEXT"},
	}
	if _, failure := w.try("ReEncrypt", request); failure == nil || failure.Code != "AccessDeniedException" {
		t.Errorf("ReEncrypt: %v", failure)
	}
	request = in{"CiphertextBlob": blob, "DestinationKeyId": "alias/aws/s3"}
	if _, failure := w.try("ReEncrypt", request); failure == nil || failure.Code != "AccessDeniedException" {
		t.Errorf("ReEncrypt: %v", failure)
	}
	if n := len(w.audit.Records()) - before; n != calls+2 {
		t.Errorf("%d records of %d calls", n, calls+2)
	}
	if list := do[*kmsapi.ListKeysResponse](w, "ListKeys", in{}).Keys; len(list) != 1 {
		t.Errorf("keys: %+v", list)
	}
	if list := do[*kmsapi.ListAliasesResponse](w, "ListAliases", in{}).Aliases; len(list) > 0 {
		t.Errorf("aliases: %+v", list)
	}
	do[*kmsapi.DescribeKeyResponse](u.may(allowing(`"kms:DescribeKey"`, "*", `{"StringEquals":{"kms:RequestAlias":"alias/aws/s3"}}`)), "DescribeKey", in{"KeyId": "alias/aws/s3"})
}

// Through its service a principal of the account uses the key, the first time too.
func TestManagedKeysThroughTheirService(t *testing.T) {
	w := newWorld(t, "")
	via := w.user("u").may(allowing(`"kms:*"`, "*", ""))
	via.forward = &guard.Forward{Service: "s3.amazonaws.com", ViaService: "s3.us-east-1.amazonaws.com"}
	blob := via.encrypt("alias/aws/s3", []byte("x"), nil)
	again := do[*kmsapi.ReEncryptResponse](via, "ReEncrypt", in{"CiphertextBlob": blob, "DestinationKeyId": "alias/aws/s3"})
	if again.KeyID.V != again.SourceKeyID.V {
		t.Errorf("another key: %+v", again)
	}
	via.decrypts(again.CiphertextBlob, []byte("x"), nil)
}
