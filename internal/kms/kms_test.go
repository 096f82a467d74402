package kms_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/wire/kmsapi"
)

const day = 24 * time.Hour

type in = map[string]any

func TestEncryptAndDecrypt(t *testing.T) {
	w := newWorld(t, "")
	id, keyARN := w.newKey()
	w.done("CreateAlias", in{"AliasName": "alias/app", "TargetKeyId": id})
	plaintext := []byte("attack at dawn")
	for _, name := range []string{id, keyARN, "alias/app", "arn:aws:kms:us-east-1:111122223333:alias/app"} {
		out := do[*kmsapi.EncryptResponse](w, "Encrypt", in{"KeyId": name, "Plaintext": plaintext, "EncryptionContext": in{"stage": "test"}})
		if out.KeyID.V != keyARN || out.EncryptionAlgorithm.V != "SYMMETRIC_DEFAULT" {
			t.Errorf("%s: %+v", name, out)
		}
		w.decrypts(out.CiphertextBlob, plaintext, map[string]string{"stage": "test"})
		got := do[*kmsapi.DecryptResponse](w, "Decrypt", in{"KeyId": name, "CiphertextBlob": out.CiphertextBlob, "EncryptionContext": in{"stage": "test"}})
		if got.KeyID.V != keyARN || len(got.KeyMaterialID.V) != 64 {
			t.Errorf("Decrypt: %+v", got)
		}
	}
	largest := bytes.Repeat([]byte{1}, 4096)
	blob := w.encrypt(id, largest, nil)
	if len(blob) > 6144 {
		t.Errorf("the largest ciphertext has %d octets", len(blob))
	}
	w.decrypts(blob, largest, nil)
}

// Everything that can be wrong with a ciphertext looks the same.
func TestEveryBadCiphertextLooksTheSame(t *testing.T) {
	w := newWorld(t, "")
	id, _ := w.newKey()
	context := map[string]string{"stage": "test"}
	blob := w.encrypt(id, []byte("plaintext"), context)
	const want = "InvalidCiphertextException"
	for i := range blob {
		bad := bytes.Clone(blob)
		bad[i] ^= 0x40
		// A changed account or key id names another key, which is not there; everything else is an invalid ciphertext.
		text := want
		if i >= 4 && i < 28 && (i < 4 || i > 6) {
			text = "AccessDeniedException: The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access."
		}
		w.refused(text, "Decrypt", in{"CiphertextBlob": bad, "EncryptionContext": context})
	}
	w.refused(want, "Decrypt", in{"CiphertextBlob": blob[:len(blob)-1], "EncryptionContext": context})
	w.refused(want, "Decrypt", in{"CiphertextBlob": append(bytes.Clone(blob), 0), "EncryptionContext": context})
	w.refused(want, "Decrypt", in{"CiphertextBlob": []byte("x"), "EncryptionContext": context})
	for _, other := range []in{nil, {}, {"stage": "Test"}, {"Stage": "test"}, {"stage": "test", "more": ""}} {
		w.refused(want, "Decrypt", in{"CiphertextBlob": blob, "EncryptionContext": other})
	}
}

func TestKeysAreKeptApart(t *testing.T) {
	w := newWorld(t, "")
	id, _ := w.newKey()
	other, _ := w.newKey()
	blob := w.encrypt(id, []byte("x"), nil)
	w.refused("IncorrectKeyException: The key ID in the request does not identify a CMK that can perform this operation.", "Decrypt", in{"KeyId": other, "CiphertextBlob": blob})

	const nowhere = "AccessDeniedException: The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access."
	w.as(bob, region).refused(nowhere, "Decrypt", in{"CiphertextBlob": blob})
	w.as(alice, "eu-west-1").refused(nowhere, "Decrypt", in{"CiphertextBlob": blob})
	w.as(alice, "eu-west-1").refused("NotFoundException: Key 'arn:aws:kms:eu-west-1:111122223333:key/"+id+"' does not exist", "DescribeKey", in{"KeyId": id})
	w.as(bob, region).refused("NotFoundException: Key 'arn:aws:kms:us-east-1:444455556666:key/"+id+"' does not exist", "DescribeKey", in{"KeyId": id})
}

func TestReEncrypt(t *testing.T) {
	w := newWorld(t, "")
	from, fromARN := w.newKey()
	to, toARN := w.newKey()
	blob := w.encrypt(from, []byte("moved"), map[string]string{"a": "1"})
	out := do[*kmsapi.ReEncryptResponse](w, "ReEncrypt", in{
		"CiphertextBlob": blob, "SourceEncryptionContext": in{"a": "1"}, "DestinationKeyId": to, "DestinationEncryptionContext": in{"b": "2"},
	})
	if out.SourceKeyID.V != fromARN || out.KeyID.V != toARN || out.SourceKeyMaterialID.V == out.DestinationKeyMaterialID.V {
		t.Errorf("%+v", out)
	}
	w.decrypts(out.CiphertextBlob, []byte("moved"), map[string]string{"b": "2"})
	w.refused("InvalidCiphertextException", "ReEncrypt", in{"CiphertextBlob": blob, "DestinationKeyId": to})
	w.done("DisableKey", in{"KeyId": to})
	w.refused("DisabledException: "+toARN+" is disabled.", "ReEncrypt", in{"CiphertextBlob": blob, "DestinationKeyId": to})
}

func TestDataKeysAndRandom(t *testing.T) {
	w := newWorld(t, "")
	id, keyARN := w.newKey()
	for want, request := range map[int]in{32: {"KeySpec": "AES_256"}, 16: {"KeySpec": "AES_128"}, 77: {"NumberOfBytes": 77}} {
		request["KeyId"] = id
		out := do[*kmsapi.GenerateDataKeyResponse](w, "GenerateDataKey", request)
		if out.Plaintext.Len() != want || out.KeyID.V != keyARN || len(out.KeyMaterialID.V) != 64 {
			t.Errorf("%v: %+v", request, out)
		}
		w.decrypts(out.CiphertextBlob, out.Plaintext.Expose(), nil)
		bare := do[*kmsapi.GenerateDataKeyWithoutPlaintextResponse](w, "GenerateDataKeyWithoutPlaintext", request)
		if got := do[*kmsapi.DecryptResponse](w, "Decrypt", in{"CiphertextBlob": bare.CiphertextBlob}); got.Plaintext.Len() != want || bytes.Equal(got.Plaintext.Expose(), make([]byte, want)) {
			t.Errorf("%v without plaintext: %d octets", request, got.Plaintext.Len())
		}
	}
	const one = "ValidationException: Please specify either number of bytes or key spec."
	w.refused(one, "GenerateDataKey", in{"KeyId": id})
	w.refused(one, "GenerateDataKey", in{"KeyId": id, "KeySpec": "AES_256", "NumberOfBytes": 32})
	w.refused("ValidationException: NumberOfBytes is required.", "GenerateRandom", in{})
	w.refused("CustomKeyStoreNotFoundException", "GenerateRandom", in{"NumberOfBytes": 1, "CustomKeyStoreId": "cks-1234567890abcdef0"})
	a := do[*kmsapi.GenerateRandomResponse](w, "GenerateRandom", in{"NumberOfBytes": 1024}).Plaintext
	b := do[*kmsapi.GenerateRandomResponse](w, "GenerateRandom", in{"NumberOfBytes": 1024}).Plaintext
	if a.Len() != 1024 || a.Equal(b) {
		t.Error("not random")
	}
}

func TestDryRun(t *testing.T) {
	w := newWorld(t, "")
	id, keyARN := w.newKey()
	blob := w.encrypt(id, []byte("x"), nil)
	const ok = "DryRunOperationException: The request would have succeeded, but the DryRun option is set."
	w.refused(ok, "Encrypt", in{"KeyId": id, "Plaintext": []byte("x"), "DryRun": true})
	w.refused(ok, "Decrypt", in{"CiphertextBlob": blob, "DryRun": true})
	w.refused(ok, "Decrypt", in{"KeyId": id, "DryRun": true, "DryRunModifiers": []string{"IGNORE_CIPHERTEXT"}})
	w.refused(ok, "ReEncrypt", in{"CiphertextBlob": blob, "DestinationKeyId": id, "DryRun": true})
	w.refused(ok, "ReEncrypt", in{"SourceKeyId": id, "DestinationKeyId": id, "DryRun": true, "DryRunModifiers": []string{"IGNORE_CIPHERTEXT"}})
	w.refused(ok, "GenerateDataKey", in{"KeyId": id, "KeySpec": "AES_256", "DryRun": true})
	w.refused(ok, "GenerateDataKeyWithoutPlaintext", in{"KeyId": id, "KeySpec": "AES_256", "DryRun": true})
	if r := w.lastRecord(); r["errorCode"] != "DryRunOperationException" || r["requestParameters"].(in)["dryRun"] != true {
		t.Errorf("record %v", r)
	}
	w.refused("ValidationException: 1 validation error detected: Value null at 'ciphertextBlob' failed to satisfy constraint: Member must not be null", "Decrypt", in{"KeyId": id})
	w.done("DisableKey", in{"KeyId": id})
	w.refused("DisabledException: "+keyARN+" is disabled.", "Encrypt", in{"KeyId": id, "Plaintext": []byte("x"), "DryRun": true})
}

func TestMetadata(t *testing.T) {
	w := newWorld(t, "")
	made := do[*kmsapi.CreateKeyResponse](w, "CreateKey", in{"Description": "d", "Tags": []in{{"TagKey": "b", "TagValue": "2"}, {"TagKey": "a", "TagValue": "1"}}}).KeyMetadata
	got := do[*kmsapi.DescribeKeyResponse](w, "DescribeKey", in{"KeyId": made.KeyID.V}).KeyMetadata
	material := got.CurrentKeyMaterialID.V
	want := fmt.Sprintf(`{"AWSAccountId":"111122223333","KeyId":"%[1]s","Arn":"arn:aws:kms:us-east-1:111122223333:key/%[1]s","CreationDate":1767225600,"Enabled":true,"Description":"d",`+
		`"KeyUsage":"ENCRYPT_DECRYPT","KeyState":"Enabled","Origin":"AWS_KMS","KeyManager":"CUSTOMER","CustomerMasterKeySpec":"SYMMETRIC_DEFAULT","KeySpec":"SYMMETRIC_DEFAULT",`+
		`"EncryptionAlgorithms":["SYMMETRIC_DEFAULT"],"MultiRegion":false,"CurrentKeyMaterialId":"%[2]s"}`, made.KeyID.V, material)
	if text := string(got.AppendJSON(nil)); text != want || len(material) != 64 {
		t.Errorf("\n got %s\nwant %s", text, want)
	}
	if a, b := string(made.AppendJSON(nil)), string(got.AppendJSON(nil)); a != b {
		t.Errorf("CreateKey and DescribeKey differ:\n%s\n%s", a, b)
	}
	w.done("UpdateKeyDescription", in{"KeyId": made.KeyID.V, "Description": "new"})
	if d := do[*kmsapi.DescribeKeyResponse](w, "DescribeKey", in{"KeyId": made.KeyID.V}).KeyMetadata.Description.V; d != "new" {
		t.Errorf("description %q", d)
	}
}

func TestRotation(t *testing.T) {
	w := newWorld(t, t.TempDir())
	id, keyARN := w.newKey()
	material := func() string {
		return do[*kmsapi.DescribeKeyResponse](w, "DescribeKey", in{"KeyId": id}).KeyMetadata.CurrentKeyMaterialID.V
	}
	status := func() *kmsapi.GetKeyRotationStatusResponse {
		return do[*kmsapi.GetKeyRotationStatusResponse](w, "GetKeyRotationStatus", in{"KeyId": id})
	}
	if s := status(); s.KeyRotationEnabled.V || s.NextRotationDate.Set || s.KeyID.V != keyARN {
		t.Errorf("before: %+v", s)
	}
	w.done("EnableKeyRotation", in{"KeyId": id, "RotationPeriodInDays": 90})
	start := w.now()
	if s := status(); !s.KeyRotationEnabled.V || s.RotationPeriodInDays.V != 90 || !s.NextRotationDate.V.Equal(start.AddDate(0, 0, 90)) {
		t.Errorf("enabled: %+v", s)
	}
	blobs := map[string][]byte{material(): w.encrypt(id, []byte("x"), nil)}
	w.pass(90*day - time.Second)
	if len(blobs) != 1 || blobs[material()] == nil {
		t.Fatal("rotated too early")
	}
	w.restart()
	w.pass(time.Second)
	blobs[material()] = w.encrypt(id, []byte("x"), nil)
	if len(blobs) != 2 {
		t.Fatal("not rotated when due")
	}
	if r := w.lastRecordNamed("RotateKey"); r["eventType"] != "AwsServiceEvent" || r["serviceEventDetails"].(in)["currentKeyMaterialId"] != material() {
		t.Errorf("record %v", r)
	}
	w.pass(400 * day) // late: one rotation, and the next one in the future
	blobs[material()] = w.encrypt(id, []byte("x"), nil)
	if next := status().NextRotationDate.V; len(blobs) != 3 || !next.Equal(start.AddDate(0, 0, 540)) {
		t.Errorf("%d materials, next rotation %v", len(blobs), next)
	}
	w.done("DisableKey", in{"KeyId": id})
	w.pass(90 * day)
	w.refused("DisabledException: "+keyARN+" is disabled.", "EnableKeyRotation", in{"KeyId": id})
	w.done("EnableKey", in{"KeyId": id})
	if blobs[material()] == nil {
		t.Error("a disabled key was rotated")
	}
	w.pass(0) // overdue: rotated as soon as it is enabled again
	blobs[material()] = w.encrypt(id, []byte("x"), nil)
	if len(blobs) != 4 {
		t.Error("not rotated after it was enabled again")
	}
	w.done("DisableKeyRotation", in{"KeyId": id})
	w.pass(1000 * day)
	w.restart()
	if blobs[material()] == nil || status().KeyRotationEnabled.V {
		t.Error("rotated although rotation is off")
	}
	for m, blob := range blobs {
		out := do[*kmsapi.DecryptResponse](w, "Decrypt", in{"CiphertextBlob": blob})
		if string(out.Plaintext.Expose()) != "x" || out.KeyMaterialID.V != m {
			t.Errorf("old ciphertext: material %s, want %s", out.KeyMaterialID.V, m)
		}
	}
}

func TestDeletion(t *testing.T) {
	w := newWorld(t, t.TempDir())
	id, keyARN := w.newKey()
	kept, keptARN := w.newKey()
	w.done("CreateAlias", in{"AliasName": "alias/gone", "TargetKeyId": id})
	w.done("EnableKeyRotation", in{"KeyId": id})
	blob := w.encrypt(id, []byte("x"), nil)
	const window = "ValidationException: PendingWindowInDays must be between 7 and 30."
	w.refused(window, "ScheduleKeyDeletion", in{"KeyId": id, "PendingWindowInDays": 6})
	w.refused(window, "ScheduleKeyDeletion", in{"KeyId": id, "PendingWindowInDays": 31})
	out := do[*kmsapi.ScheduleKeyDeletionResponse](w, "ScheduleKeyDeletion", in{"KeyId": id, "PendingWindowInDays": 7})
	if out.KeyID.V != keyARN || out.KeyState.V != "PendingDeletion" || out.PendingWindowInDays.V != 7 || !out.DeletionDate.V.Equal(w.now().Add(7*day)) {
		t.Errorf("%+v", out)
	}
	if s := do[*kmsapi.GetKeyRotationStatusResponse](w, "GetKeyRotationStatus", in{"KeyId": id}); s.KeyRotationEnabled.V {
		t.Error("rotation shows as on while the key is pending deletion")
	}
	if got := do[*kmsapi.ScheduleKeyDeletionResponse](w, "ScheduleKeyDeletion", in{"KeyId": kept}); got.PendingWindowInDays.V != 30 {
		t.Errorf("default window %+v", got)
	}
	if got := do[*kmsapi.CancelKeyDeletionResponse](w, "CancelKeyDeletion", in{"KeyId": kept}); got.KeyID.V != keptARN {
		t.Errorf("%+v", got)
	}
	w.refused("DisabledException: "+keptARN+" is disabled.", "Encrypt", in{"KeyId": kept, "Plaintext": []byte("x")})
	w.refused("KMSInvalidStateException: "+keptARN+" is not pending deletion.", "CancelKeyDeletion", in{"KeyId": kept})
	pending := "KMSInvalidStateException: " + keyARN + " is pending deletion."
	for name, request := range map[string]in{
		"ScheduleKeyDeletion": {}, "Encrypt": {"Plaintext": []byte("x")}, "EnableKey": {}, "DisableKey": {}, "EnableKeyRotation": {}, "DisableKeyRotation": {},
		"TagResource": {"Tags": []in{}}, "UntagResource": {"TagKeys": []string{}}, "UpdateKeyDescription": {"Description": "x"}, "GenerateDataKey": {"KeySpec": "AES_256"},
	} {
		request["KeyId"] = id
		w.refused(pending, name, request)
	}
	w.refused(pending, "CreateAlias", in{"AliasName": "alias/new", "TargetKeyId": id})
	w.refused(pending, "Decrypt", in{"CiphertextBlob": blob})
	w.done("UpdateAlias", in{"AliasName": "alias/gone", "TargetKeyId": kept})
	w.refused(pending, "UpdateAlias", in{"AliasName": "alias/gone", "TargetKeyId": id})
	w.pass(7*day - time.Second)
	do[*kmsapi.DescribeKeyResponse](w, "DescribeKey", in{"KeyId": id})
	w.restart()
	w.pass(time.Second)
	w.refused("NotFoundException: Key '"+keyARN+"' does not exist", "DescribeKey", in{"KeyId": id})
	w.refused("AccessDeniedException: The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access.", "Decrypt", in{"CiphertextBlob": blob})
	if r := w.lastRecordNamed("DeleteKey"); r["eventType"] != "AwsServiceEvent" {
		t.Errorf("record %v", r)
	}
	w.pass(100 * day)
	do[*kmsapi.DescribeKeyResponse](w, "DescribeKey", in{"KeyId": "alias/gone"})
}

func (w *world) lastRecordNamed(event string) in {
	w.t.Helper()
	for _, r := range slices.Backward(w.audit.Records()) {
		if bytes.Contains(r, []byte(`"eventName":"`+event+`"`)) {
			var m in
			w.must(jsonInto(r, &m))
			return m
		}
	}
	w.t.Fatalf("no record of %s", event)
	return nil
}

// What the database's index calls due, the key itself may not: an index that was changed must not keep the service busy.
func TestForgedDueDate(t *testing.T) {
	w := newWorld(t, t.TempDir())
	id, _ := w.newKey()
	do[*kmsapi.DescribeKeyResponse](w, "DescribeKey", in{"KeyId": id})
	db, err := sql.Open("sqlite", filepath.Join(w.dir, "keywright.db"))
	w.must(err)
	_, err = db.Exec("UPDATE keys SET due_ms = 1")
	w.must(err)
	w.must(db.Close())
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	w.must(w.service.RunDue(ctx))
	do[*kmsapi.DescribeKeyResponse](w, "DescribeKey", in{"KeyId": id})
}

func TestDeletedKeyTakesItsAliases(t *testing.T) {
	w := newWorld(t, "")
	id, _ := w.newKey()
	w.done("CreateAlias", in{"AliasName": "alias/a", "TargetKeyId": id})
	do[*kmsapi.DescribeKeyResponse](w, "DescribeKey", in{"KeyId": "alias/a"})
	do[*kmsapi.ScheduleKeyDeletionResponse](w, "ScheduleKeyDeletion", in{"KeyId": id, "PendingWindowInDays": 7})
	w.pass(8 * day)
	w.refused("NotFoundException: Alias arn:aws:kms:us-east-1:111122223333:alias/a is not found.", "DescribeKey", in{"KeyId": "alias/a"})
	other, _ := w.newKey()
	w.done("CreateAlias", in{"AliasName": "alias/a", "TargetKeyId": other})
	if got := do[*kmsapi.DescribeKeyResponse](w, "DescribeKey", in{"KeyId": "alias/a"}); got.KeyMetadata.KeyID.V != other {
		t.Errorf("%+v", got.KeyMetadata)
	}
}

func TestPages(t *testing.T) {
	w := newWorld(t, "")
	want := map[string]bool{}
	first := ""
	for i := range 23 {
		id, _ := w.newKey()
		want[id] = true
		if first == "" {
			first = id
		}
		w.done("CreateAlias", in{"AliasName": fmt.Sprintf("alias/%02d", i), "TargetKeyId": first})
	}
	got, marker, pages := map[string]bool{}, any(nil), 0
	for {
		out := do[*kmsapi.ListKeysResponse](w, "ListKeys", in{"Limit": 5, "Marker": marker})
		for _, k := range out.Keys {
			got[k.KeyID.V] = true
			if k.KeyARN.V != "arn:aws:kms:us-east-1:111122223333:key/"+k.KeyID.V {
				t.Errorf("ARN %s", k.KeyARN.V)
			}
		}
		pages++
		if !out.Truncated.V {
			if out.NextMarker.Set {
				t.Error("a marker behind the last page")
			}
			break
		}
		marker = out.NextMarker.V
	}
	if pages != 5 || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%d pages, %d keys", pages, len(got))
	}
	aliases := do[*kmsapi.ListAliasesResponse](w, "ListAliases", in{"KeyId": first, "Limit": 20})
	rest := do[*kmsapi.ListAliasesResponse](w, "ListAliases", in{"KeyId": first, "Limit": 20, "Marker": aliases.NextMarker.V})
	if len(aliases.Aliases) != 20 || len(rest.Aliases) != 3 || rest.Truncated.V {
		t.Errorf("aliases of a key: %d and %d", len(aliases.Aliases), len(rest.Aliases))
	}
	w.refused("InvalidMarkerException", "ListKeys", in{"Marker": aliases.NextMarker.V}) // another operation's
	w.refused("InvalidMarkerException", "ListKeys", in{"Marker": "x"})
	w.as(bob, region).refused("InvalidMarkerException", "ListAliases", in{"Marker": aliases.NextMarker.V})
	if out := do[*kmsapi.ListKeysResponse](w.as(bob, region), "ListKeys", in{}); len(out.Keys) != 0 {
		t.Errorf("bob sees %d keys", len(out.Keys))
	}
}

func TestTags(t *testing.T) {
	w := newWorld(t, "")
	id, _ := w.newKey()
	w.done("TagResource", in{"KeyId": id, "Tags": []in{{"TagKey": "c", "TagValue": "3"}, {"TagKey": "a", "TagValue": ""}, {"TagKey": "b", "TagValue": "2"}}})
	w.done("TagResource", in{"KeyId": id, "Tags": []in{{"TagKey": "b", "TagValue": "two"}}})
	w.done("UntagResource", in{"KeyId": id, "TagKeys": []string{"c", "nothing"}})
	out := do[*kmsapi.ListResourceTagsResponse](w, "ListResourceTags", in{"KeyId": id, "Limit": 1})
	next := do[*kmsapi.ListResourceTagsResponse](w, "ListResourceTags", in{"KeyId": id, "Limit": 1, "Marker": out.NextMarker.V})
	if got := string(out.AppendJSON(nil)); !strings.HasPrefix(got, `{"Tags":[{"TagKey":"a","TagValue":""}],"NextMarker":"`) || !out.Truncated.V {
		t.Error(got)
	}
	if got := string(next.AppendJSON(nil)); got != `{"Tags":[{"TagKey":"b","TagValue":"two"}],"Truncated":false}` {
		t.Error(got)
	}
	w.refused("TagException: Duplicate tag keys", "TagResource", in{"KeyId": id, "Tags": []in{{"TagKey": "x", "TagValue": ""}, {"TagKey": "x", "TagValue": ""}}})
	w.refused("TagException: Tags beginning with aws: are reserved", "TagResource", in{"KeyId": id, "Tags": []in{{"TagKey": "AWS:x", "TagValue": ""}}})
	var many []in
	for i := range 49 {
		many = append(many, in{"TagKey": fmt.Sprint(i), "TagValue": ""})
	}
	w.refused("TagException: Too many tags", "TagResource", in{"KeyId": id, "Tags": many})
	w.done("TagResource", in{"KeyId": id, "Tags": many[1:]})
}

func TestAliasErrors(t *testing.T) {
	w := newWorld(t, "")
	id, keyARN := w.newKey()
	w.done("CreateAlias", in{"AliasName": "alias/a", "TargetKeyId": keyARN})
	for _, c := range []struct {
		op   string
		in   in
		want string
	}{
		{"CreateAlias", in{"AliasName": "alias/a", "TargetKeyId": id}, "AlreadyExistsException: An alias with the name arn:aws:kms:us-east-1:111122223333:alias/a already exists"},
		{"CreateAlias", in{"AliasName": "a", "TargetKeyId": id}, `ValidationException: Alias must start with the prefix "alias/". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html`},
		{"CreateAlias", in{"AliasName": "alias/a:b", "TargetKeyId": id}, "ValidationException: alias/a:b contains invalid characters for an alias"},
		{"CreateAlias", in{"AliasName": "alias/aws/mine", "TargetKeyId": id}, "NotAuthorizedException"},
		{"CreateAlias", in{"AliasName": "alias/b", "TargetKeyId": "alias/a"}, "ValidationException: Aliases must refer to keys. Not aliases"},
		{"UpdateAlias", in{"AliasName": "alias/none", "TargetKeyId": id}, "NotFoundException: Alias arn:aws:kms:us-east-1:111122223333:alias/none is not found."},
		{"DeleteAlias", in{"AliasName": "alias/none"}, "NotFoundException: Alias arn:aws:kms:us-east-1:111122223333:alias/none is not found."},
		{"DescribeKey", in{"KeyId": "alias/none"}, "NotFoundException: Alias arn:aws:kms:us-east-1:111122223333:alias/none is not found."},
		{"EnableKey", in{"KeyId": "alias/a"}, "InvalidArnException: Key Aliases are not supported for this operation."},
		{"EnableKey", in{"KeyId": "alias/none"}, "InvalidArnException: Key Aliases are not supported for this operation."},
		{"DescribeKey", in{"KeyId": "foo"}, "NotFoundException: Invalid keyId 'foo'"},
		{"DescribeKey", in{"KeyId": "arn:aws:kms:us-east-1:111122223333:key/foo"}, "NotFoundException: Invalid keyId foo"},
		{"DescribeKey", in{"KeyId": "arn:aws:kms:eu-west-1:111122223333:key/" + id}, "NotFoundException: Invalid arn eu-west-1"},
		{"DescribeKey", in{"KeyId": "arn:aws:kms:eu-west-1:111122223333:alias/a"}, "NotFoundException: Invalid arn eu-west-1"},
		{"DescribeKey", in{"KeyId": "mrk-1234abcd12ab34cd56ef1234567890ab"}, "NotFoundException: Key 'arn:aws:kms:us-east-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab' does not exist"},
		{"DescribeKey", in{"KeyId": "arn:aws:s3:::bucket"}, "InvalidArnException: Invalid arn arn:aws:s3:::bucket"},
	} {
		w.refused(c.want, c.op, c.in)
	}
	w.done("DeleteAlias", in{"AliasName": "alias/a"})
	w.refused("NotFoundException: Alias arn:aws:kms:us-east-1:111122223333:alias/a is not found.", "DescribeKey", in{"KeyId": "alias/a"})
}

func TestKeyPolicies(t *testing.T) {
	w := newWorld(t, "")
	id, keyARN := w.newKey()
	allow := func(principal, action string) string {
		return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":` + principal + `},"Action":` + action + `,"Resource":"*"}]}`
	}
	const lockout = "MalformedPolicyDocumentException: The new key policy will not allow you to update the key policy in the future."
	const principals = "MalformedPolicyDocumentException: Policy contains a statement with one or more invalid principals."
	w.refused(lockout, "PutKeyPolicy", in{"KeyId": id, "Policy": allow(`"111122223333"`, `"kms:Encrypt"`)})
	w.refused(lockout, "CreateKey", in{"Policy": allow(`"444455556666"`, `"kms:*"`)})
	w.refused(principals, "PutKeyPolicy", in{"KeyId": id, "Policy": allow(`["111122223333","arn:aws:iam::999999999999:root"]`, `"kms:*"`)})
	w.refused(principals, "PutKeyPolicy", in{"KeyId": id, "Policy": allow(`["111122223333","arn:aws:iam::111122223333:user/nobody"]`, `"kms:*"`)})
	w.refused("NotFoundException: No such policy exists", "GetKeyPolicy", in{"KeyId": id, "PolicyName": "other"})
	if _, failure := w.try("PutKeyPolicy", in{"KeyId": id, "Policy": "{"}); failure == nil || failure.Code != "MalformedPolicyDocumentException" {
		t.Errorf("broken policy: %v", failure)
	}
	if _, failure := w.try("PutKeyPolicy", in{"KeyId": id, "Policy": allow(`"111122223333"`, `"kms:*"`) + strings.Repeat(" ", 32768)}); failure == nil || failure.Code != "LimitExceededException" {
		t.Errorf("long policy: %v", failure)
	}
	got := do[*kmsapi.GetKeyPolicyResponse](w, "GetKeyPolicy", in{"KeyId": id})
	if !strings.Contains(got.Policy.V, `"Sid" : "Enable IAM User Permissions"`) || got.PolicyName.V != "default" {
		t.Errorf("default policy %+v", got)
	}
	if names := do[*kmsapi.ListKeyPoliciesResponse](w, "ListKeyPolicies", in{"KeyId": id}); len(names.PolicyNames) != 1 || names.PolicyNames[0] != "default" {
		t.Errorf("%+v", names)
	}
	// The next request already sees what was put.
	w.done("PutKeyPolicy", in{"KeyId": id, "Policy": allow(`"111122223333"`, `["kms:PutKeyPolicy","kms:Decrypt"]`)})
	w.refused("AccessDeniedException: User: arn:aws:iam::111122223333:root is not authorized to perform: kms:Encrypt on resource: "+keyARN+" because no resource-based policy allows the kms:Encrypt action",
		"Encrypt", in{"KeyId": id, "Plaintext": []byte("x")})
	if r := w.lastRecord(); r["errorCode"] != "AccessDenied" || r["requestParameters"] != nil || r["resources"] != nil {
		t.Errorf("record of a denial: %v", r)
	}
	deny := `{"Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"},{"Effect":"Deny","Principal":"*","Action":"kms:Encrypt","Resource":"*","Condition":{"StringEquals":{"kms:EncryptionContext:stage":"prod"}}}]}`
	w.done("PutKeyPolicy", in{"KeyId": id, "Policy": deny})
	w.encrypt(id, []byte("x"), map[string]string{"stage": "test"})
	w.refused("AccessDeniedException: User: arn:aws:iam::111122223333:root is not authorized to perform: kms:Encrypt on resource: "+keyARN+" with an explicit deny in a resource-based policy",
		"Encrypt", in{"KeyId": id, "Plaintext": []byte("x"), "EncryptionContext": in{"stage": "prod"}})
}

func TestCrossAccount(t *testing.T) {
	w := newWorld(t, "")
	id, keyARN := w.newKey()
	b := w.as(bob, region)
	denied := "AccessDeniedException: User: arn:aws:iam::444455556666:root is not authorized to perform: kms:Encrypt on resource: "
	b.refused(denied+keyARN, "Encrypt", in{"KeyId": keyARN, "Plaintext": []byte("x")})
	nobody := "arn:aws:kms:us-east-1:111122223333:key/00000000-0000-4000-8000-000000000000"
	b.refused(denied+nobody, "Encrypt", in{"KeyId": nobody, "Plaintext": []byte("x")})
	w.done("PutKeyPolicy", in{"KeyId": id, "Policy": `{"Statement":[{"Effect":"Allow","Principal":{"AWS":["111122223333","444455556666"]},"Action":"kms:*","Resource":"*"}]}`})
	blob := b.encrypt(keyARN, []byte("shared"), nil)
	records := w.audit.Records()
	var mine, theirs in
	w.must(jsonInto(records[len(records)-2], &theirs))
	w.must(jsonInto(records[len(records)-1], &mine))
	if mine["recipientAccountId"] != "111122223333" || theirs["recipientAccountId"] != "444455556666" || mine["sharedEventID"] != theirs["sharedEventID"] || mine["sharedEventID"] == nil ||
		mine["eventID"] == theirs["eventID"] || mine["userIdentity"].(in)["type"] != "AWSAccount" {
		t.Errorf("records\n%s\n%s", records[len(records)-2], records[len(records)-1])
	}
	b.decrypts(blob, []byte("shared"), nil)
	w.decrypts(blob, []byte("shared"), nil)
	// What is not for other accounts stays so whatever the policy says.
	b.refused("AccessDeniedException: User: arn:aws:iam::444455556666:root is not authorized to perform: kms:DisableKey on resource: "+keyARN, "DisableKey", in{"KeyId": keyARN})
}

func TestManagedKeys(t *testing.T) {
	w := newWorld(t, "")
	m := do[*kmsapi.DescribeKeyResponse](w, "DescribeKey", in{"KeyId": "alias/aws/s3"}).KeyMetadata
	again := do[*kmsapi.DescribeKeyResponse](w, "DescribeKey", in{"KeyId": "alias/aws/s3"}).KeyMetadata
	if m.KeyManager.V != "AWS" || m.KeyID.V != again.KeyID.V {
		t.Errorf("%+v %+v", m, again)
	}
	if s := do[*kmsapi.GetKeyRotationStatusResponse](w, "GetKeyRotationStatus", in{"KeyId": m.KeyID.V}); !s.KeyRotationEnabled.V {
		t.Error("an AWS managed key does not rotate")
	}
	for name, request := range map[string]in{
		"Encrypt": {"Plaintext": []byte("x")}, "ScheduleKeyDeletion": {}, "DisableKey": {}, "PutKeyPolicy": {"Policy": "{}"}, "DisableKeyRotation": {},
		"TagResource": {"Tags": []in{}}, "UpdateKeyDescription": {"Description": "x"},
	} {
		request["KeyId"] = m.KeyID.V
		w.refused("AccessDeniedException: User: arn:aws:iam::111122223333:root is not authorized to perform: kms:"+name+" on resource: "+m.ARN.V+" because no resource-based policy allows the kms:"+name+" action", name, request)
	}
	w.refused("NotAuthorizedException", "DeleteAlias", in{"AliasName": "alias/aws/s3"})
	w.refused("NotFoundException: Alias arn:aws:kms:us-east-1:111122223333:alias/aws/nothing is not found.", "DescribeKey", in{"KeyId": "alias/aws/nothing"})
	w.pass(366 * day)
	if rotated := do[*kmsapi.DescribeKeyResponse](w, "DescribeKey", in{"KeyId": "alias/aws/s3"}).KeyMetadata; rotated.CurrentKeyMaterialID.V == m.CurrentKeyMaterialID.V {
		t.Error("an AWS managed key was not rotated after a year")
	}
}

func TestWhatIsNotThereIsRefused(t *testing.T) {
	w := newWorld(t, "")
	id, _ := w.newKey()
	w.refused("InvalidGrantTokenException", "Encrypt", in{"KeyId": id, "Plaintext": []byte("x"), "GrantTokens": []string{"dG9rZW4="}})
	w.refused("ValidationException: You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.", "CreateKey", in{"KeySpec": "RSA_2048"})
	w.refused("InvalidKeyUsageException: Algorithm RSAES_OAEP_SHA_256 is incompatible with key spec SYMMETRIC_DEFAULT.", "Encrypt", in{"KeyId": id, "Plaintext": []byte("x"), "EncryptionAlgorithm": "RSAES_OAEP_SHA_256"})
	if _, failure := w.try("GenerateDataKey", in{"KeyId": id, "KeySpec": "AES_256", "Recipient": in{"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": []byte("x")}}); failure == nil || failure.Code != "UnsupportedOperationException" {
		t.Errorf("recipient: %v", failure)
	}
}

// Every call has one record, and nothing in any of them tells a plaintext or a ciphertext.
func TestRecords(t *testing.T) {
	w := newWorld(t, "")
	id, keyARN := w.newKey()
	plaintext := []byte("a plaintext that is in no record")
	before := len(w.audit.Records())
	blob := w.encrypt(id, plaintext, map[string]string{"stage": "test"})
	r := w.lastRecord()
	if n := len(w.audit.Records()) - before; n != 1 {
		t.Errorf("%d records of one call", n)
	}
	parameters := r["requestParameters"].(in)
	if r["eventName"] != "Encrypt" || r["eventSource"] != "kms.amazonaws.com" || r["readOnly"] != true || r["responseElements"] != nil || parameters["keyId"] != id ||
		parameters["encryptionContext"].(in)["stage"] != "test" || parameters["encryptionAlgorithm"] != "SYMMETRIC_DEFAULT" || len(parameters) != 3 ||
		r["resources"].([]any)[0].(in)["ARN"] != keyARN || len(r["additionalEventData"].(in)["keyMaterialId"].(string)) != 64 {
		t.Errorf("record %v", r)
	}
	w.decrypts(blob, plaintext, map[string]string{"stage": "test"})
	w.done("TagResource", in{"KeyId": id, "Tags": []in{{"TagKey": "k", "TagValue": "v"}}})
	if r := w.lastRecord(); r["readOnly"] != false || r["responseElements"].(in)["keyId"] != keyARN {
		t.Errorf("record %v", r)
	}
	all := bytes.Join(w.audit.Records(), []byte("\n"))
	for _, secret := range [][]byte{plaintext, blob, blob[80:]} {
		if bytes.Contains(all, secret) || bytes.Contains(all, []byte(base64.StdEncoding.EncodeToString(secret))) {
			t.Error("a record tells a plaintext or a ciphertext")
		}
	}
}

// While the audit log has no room, nothing changes and nothing is answered; with room again everything works.
func TestNothingChangesWithoutRoomForItsRecord(t *testing.T) {
	w := newWorld(t, "")
	id, keyARN := w.newKey()
	w.done("CreateAlias", in{"AliasName": "alias/a", "TargetKeyId": id})
	grant := do[*kmsapi.CreateGrantResponse](w, "CreateGrant", in{"KeyId": id, "GranteePrincipal": alice.Root("aws"), "Operations": []string{"Encrypt"}})
	describe := func() string {
		out := string(do[*kmsapi.DescribeKeyResponse](w, "DescribeKey", in{"KeyId": "alias/a"}).AppendJSON(nil))
		out += string(do[*kmsapi.GetKeyPolicyResponse](w, "GetKeyPolicy", in{"KeyId": id}).AppendJSON(nil))
		out += string(do[*kmsapi.ListResourceTagsResponse](w, "ListResourceTags", in{"KeyId": id}).AppendJSON(nil))
		out += string(do[*kmsapi.GetKeyRotationStatusResponse](w, "GetKeyRotationStatus", in{"KeyId": id}).AppendJSON(nil))
		out += string(do[*kmsapi.ListAliasesResponse](w, "ListAliases", in{}).AppendJSON(nil))
		out += string(do[*kmsapi.ListGrantsResponse](w, "ListGrants", in{"KeyId": id}).AppendJSON(nil))
		return out + string(do[*kmsapi.ListKeysResponse](w, "ListKeys", in{}).AppendJSON(nil))
	}
	before := describe()
	requests := map[string]in{
		"CreateKey": {}, "CreateAlias": {"AliasName": "alias/b", "TargetKeyId": id}, "UpdateAlias": {"AliasName": "alias/a", "TargetKeyId": id}, "DeleteAlias": {"AliasName": "alias/a"},
		"DisableKey": {"KeyId": id}, "EnableKey": {"KeyId": id}, "EnableKeyRotation": {"KeyId": id}, "DisableKeyRotation": {"KeyId": id},
		"PutKeyPolicy": {"KeyId": id, "Policy": `{"Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}]}`},
		"TagResource":  {"KeyId": id, "Tags": []in{{"TagKey": "k", "TagValue": "v"}}}, "UntagResource": {"KeyId": id, "TagKeys": []string{"k"}},
		"UpdateKeyDescription": {"KeyId": id, "Description": "new"}, "ScheduleKeyDeletion": {"KeyId": id}, "CancelKeyDeletion": {"KeyId": id},
		"CreateGrant":  {"KeyId": id, "GranteePrincipal": alice.Root("aws"), "Operations": []string{"Decrypt"}},
		"ReplicateKey": {"KeyId": id, "ReplicaRegion": "eu-west-1"}, "UpdatePrimaryRegion": {"KeyId": id, "PrimaryRegion": "eu-west-1"},
		"RotateKeyOnDemand": {"KeyId": id}, "DeleteImportedKeyMaterial": {"KeyId": id},
		"ImportKeyMaterial": {"KeyId": id, "ImportToken": []byte("x"), "EncryptedKeyMaterial": []byte("x"), "ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"},
		"RetireGrant":       {"GrantToken": grant.GrantToken.V}, "RevokeGrant": {"KeyId": id, "GrantId": grant.GrantID.V},
	}
	for name, op := range w.operations {
		if _, tried := requests[name]; !op.ReadOnly && !tried {
			t.Errorf("%s changes something and is not tried here", name)
		}
	}
	w.audit.full.Store(true)
	for name, request := range requests {
		w.refused("KMSInternalException", name, request)
	}
	w.refused("KMSInternalException", "Encrypt", in{"KeyId": keyARN, "Plaintext": []byte("x")})
	w.audit.full.Store(false)
	if after := describe(); after != before {
		t.Errorf("something changed:\n got %s\nwant %s", after, before)
	}
	w.done("DisableKey", in{"KeyId": id})
}

// The owners of both keys hear of a ReEncrypt across accounts, and of none that was denied.
func TestReEncryptAcrossAccounts(t *testing.T) {
	w := newWorld(t, "")
	b := w.as(bob, region)
	both := `{"Statement":[{"Effect":"Allow","Principal":{"AWS":["111122223333","444455556666"]},"Action":"kms:*","Resource":"*"}]}`
	source, sourceARN := w.newKey()
	own, _ := b.newKey()
	w.done("PutKeyPolicy", in{"KeyId": source, "Policy": both})
	blob := w.encrypt(source, []byte("x"), nil)
	since := func(n int) string { return string(bytes.Join(w.audit.Records()[n:], []byte("\n"))) }
	n := len(w.audit.Records())
	do[*kmsapi.ReEncryptResponse](b, "ReEncrypt", in{"CiphertextBlob": blob, "SourceKeyId": sourceARN, "DestinationKeyId": own})
	if got := since(n); strings.Count(got, `"eventName":"ReEncrypt"`) != 2 || !strings.Contains(got, `"recipientAccountId":"111122223333"`) {
		t.Errorf("records\n%s", got)
	}
	closed, closedARN := w.newKey()
	n = len(w.audit.Records())
	denied := "AccessDeniedException: User: arn:aws:iam::444455556666:root is not authorized to perform: kms:ReEncryptTo on resource: "
	b.refused(denied+closedARN, "ReEncrypt", in{"CiphertextBlob": blob, "SourceKeyId": sourceARN, "DestinationKeyId": closedARN})
	if got := since(n); strings.Count(got, `"eventName":"ReEncrypt"`) != 1 {
		t.Errorf("records of a denied call\n%s", got)
	}
	// What is not there looks like what denies, by key and by alias.
	missing := strings.Replace(closedARN, closed, "00000000-0000-4000-8000-000000000000", 1)
	b.refused(denied+missing, "ReEncrypt", in{"CiphertextBlob": blob, "SourceKeyId": sourceARN, "DestinationKeyId": missing})
	w.done("CreateAlias", in{"AliasName": "alias/closed", "TargetKeyId": closed})
	for _, alias := range []string{"closed", "missing"} {
		aliasARN := "arn:aws:kms:us-east-1:111122223333:alias/" + alias
		b.refused("AccessDeniedException: User: arn:aws:iam::444455556666:root is not authorized to perform: kms:Encrypt on resource: "+aliasARN,
			"Encrypt", in{"KeyId": aliasARN, "Plaintext": []byte("x")})
	}
}

func TestReEncryptOnSameKeyCondition(t *testing.T) {
	w := newWorld(t, "")
	id, keyARN := w.newKey()
	other, _ := w.newKey()
	blob := w.encrypt(id, []byte("x"), nil)
	w.done("PutKeyPolicy", in{"KeyId": id, "Policy": `{"Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"},` +
		`{"Effect":"Deny","Principal":"*","Action":"kms:ReEncrypt*","Resource":"*","Condition":{"Bool":{"kms:ReEncryptOnSameKey":"false"}}}]}`})
	do[*kmsapi.ReEncryptResponse](w, "ReEncrypt", in{"CiphertextBlob": blob, "DestinationKeyId": id})
	w.refused("AccessDeniedException: User: arn:aws:iam::111122223333:root is not authorized to perform: kms:ReEncryptFrom on resource: "+keyARN+" with an explicit deny in a resource-based policy",
		"ReEncrypt", in{"CiphertextBlob": blob, "DestinationKeyId": other})
}

// A permission on an alias operation is needed on the key that the alias points at when it is changed, not on the one it
// pointed at before.
func TestAliasMovedMeanwhile(t *testing.T) {
	w := newWorld(t, "")
	open, _ := w.newKey()
	closed, closedARN := w.newKey()
	w.done("PutKeyPolicy", in{"KeyId": closed, "Policy": `{"Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"},` +
		`{"Effect":"Deny","Principal":{"AWS":"111122223333"},"Action":"kms:DeleteAlias","Resource":"*"}]}`})
	w.done("CreateAlias", in{"AliasName": "alias/a", "TargetKeyId": open})
	var stop atomic.Bool
	var movers sync.WaitGroup
	movers.Go(func() {
		for i := 0; !stop.Load(); i++ {
			_, _ = w.try("UpdateAlias", in{"AliasName": "alias/a", "TargetKeyId": []string{open, closed}[i%2]})
		}
	})
	for range 200 {
		before := len(w.audit.Records())
		if _, failure := w.try("DeleteAlias", in{"AliasName": "alias/a"}); failure == nil {
			for _, r := range w.audit.Records()[before:] {
				if bytes.Contains(r, []byte(`"DeleteAlias"`)) && bytes.Contains(r, []byte(closedARN)) {
					t.Errorf("an alias of the closed key was deleted: %s", r)
				}
			}
			w.done("CreateAlias", in{"AliasName": "alias/a", "TargetKeyId": open})
		}
	}
	stop.Store(true)
	movers.Wait()
}

// The records of alias operations name the alias and the key it points at now.
func TestAliasRecords(t *testing.T) {
	w := newWorld(t, "")
	first, firstARN := w.newKey()
	second, secondARN := w.newKey()
	const alias = "arn:aws:kms:us-east-1:111122223333:alias/a"
	check := func(name string, request in, reply string, resources ...string) {
		t.Helper()
		w.done(name, request)
		r := w.lastRecord()
		var got []string
		for _, x := range r["resources"].([]any) {
			got = append(got, x.(in)["ARN"].(string))
		}
		if r["responseElements"].(in)["keyId"] != reply || !slices.Equal(got, resources) {
			t.Errorf("record of %s: %v", name, r)
		}
	}
	check("CreateAlias", in{"AliasName": "alias/a", "TargetKeyId": first}, firstARN, firstARN, alias)
	check("UpdateAlias", in{"AliasName": "alias/a", "TargetKeyId": second}, secondARN, alias, secondARN)
	check("DeleteAlias", in{"AliasName": "alias/a"}, secondARN, alias, secondARN)
	do[*kmsapi.ListKeysResponse](w, "ListKeys", in{})
	if r := w.lastRecord(); r["requestParameters"] != nil {
		t.Errorf("record of ListKeys %v", r)
	}
}

func TestRestartKeepsEverything(t *testing.T) {
	w := newWorld(t, t.TempDir())
	id, _ := w.newKey()
	w.done("CreateAlias", in{"AliasName": "alias/a", "TargetKeyId": id})
	w.done("TagResource", in{"KeyId": id, "Tags": []in{{"TagKey": "k", "TagValue": "v"}}})
	blob := w.encrypt(id, []byte("kept"), nil)
	before := string(do[*kmsapi.DescribeKeyResponse](w, "DescribeKey", in{"KeyId": "alias/a"}).AppendJSON(nil))
	w.restart()
	if after := string(do[*kmsapi.DescribeKeyResponse](w, "DescribeKey", in{"KeyId": "alias/a"}).AppendJSON(nil)); after != before {
		t.Errorf("\n got %s\nwant %s", after, before)
	}
	w.decrypts(blob, []byte("kept"), nil)
	if tags := do[*kmsapi.ListResourceTagsResponse](w, "ListResourceTags", in{"KeyId": id}); len(tags.Tags) != 1 {
		t.Errorf("%+v", tags)
	}
}

// BenchmarkEncrypt is an Encrypt of 64 octets below the pipeline.
func BenchmarkEncrypt(b *testing.B) {
	w := newWorld(b, "")
	id, _ := w.newKey()
	op := w.operations["Encrypt"]
	input := &kmsapi.EncryptRequest{}
	if err := decodeInto(in{"KeyId": id, "Plaintext": make([]byte, 64)}, input); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		_, failure := w.answer(context.Background(), &op, input)
		if failure != nil {
			b.Fatal(failure)
		}
	}
}

// BenchmarkCreateKey is a CreateKey below the pipeline, fsynced, from 64 callers at a time.
func BenchmarkCreateKey(b *testing.B) {
	w := newWorld(b, b.TempDir())
	op := w.operations["CreateKey"]
	b.SetParallelism(32)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, failure := w.answer(context.Background(), &op, &kmsapi.CreateKeyRequest{}); failure != nil {
				b.Error(failure)
			}
		}
	})
}
