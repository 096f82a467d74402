package kms_test

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// Every permission is asked for in the Region that it is about.
func TestRightsInTwoRegions(t *testing.T) {
	w := newWorld(t, "")
	u := w.user("u")
	id := w.newSet(in{})
	keyARN, replicaARN := arn.KeyID(id).ARN(region, alice), arn.KeyID(id).ARN(ireland, alice)
	may := func(statements ...string) *world {
		return u.may(`{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`)
	}
	allow := func(action, resource, condition string) string {
		return `{"Effect":"Allow","Action":"kms:` + action + `","Resource":"` + resource + `","Condition":{"StringEquals":{` + condition + `}}}`
	}
	replicate := allow("ReplicateKey", keyARN, `"kms:ReplicaRegion":"eu-west-1","aws:RequestedRegion":"us-east-1","kms:MultiRegionKeyType":"PRIMARY"`)
	create := allow("CreateKey", "*", `"aws:RequestedRegion":"eu-west-1","kms:MultiRegionKeyType":"REPLICA","kms:KeySpec":"SYMMETRIC_DEFAULT"`)
	createHere := allow("CreateKey", "*", `"aws:RequestedRegion":"us-east-1"`)
	tag := allow("TagResource", replicaARN, `"aws:RequestTag/a":"b"`)
	put := allow("PutKeyPolicy", replicaARN, `"aws:RequestedRegion":"eu-west-1"`)
	request := in{"KeyId": id, "ReplicaRegion": ireland, "Tags": []in{{"TagKey": "a", "TagValue": "b"}}}
	for _, c := range []struct {
		who  *world
		want string
	}{
		{may(create, tag, put), denied(userARN+"u", "kms:ReplicateKey", keyARN)},
		{may(replicate, tag, put), denied(userARN+"u", "kms:CreateKey", "*")},
		{may(replicate, createHere, tag, put), denied(userARN+"u", "kms:CreateKey", "*")},
		{may(replicate, create, put), denied(userARN+"u", "kms:TagResource", replicaARN)},
		{may(replicate, create, tag), "MalformedPolicyDocumentException: The new key policy will not allow you to update the key policy in the future."},
	} {
		c.who.refused(c.want, "ReplicateKey", request)
	}
	if c := w.describe(id).MultiRegionConfiguration; len(c.ReplicaKeys) != 0 {
		t.Errorf("refused, and yet there are %v", c.ReplicaKeys)
	}
	may(replicate, create, tag, put).done("ReplicateKey", request)
	w.pass(0)

	here := allow("UpdatePrimaryRegion", keyARN, `"kms:PrimaryRegion":"eu-west-1","aws:RequestedRegion":"us-east-1"`)
	there := allow("UpdatePrimaryRegion", replicaARN, `"kms:MultiRegionKeyType":"REPLICA","aws:RequestedRegion":"eu-west-1"`)
	move := in{"KeyId": id, "PrimaryRegion": ireland}
	may(there).refused(denied(userARN+"u", "kms:UpdatePrimaryRegion", keyARN), "UpdatePrimaryRegion", move)
	may(here).refused(denied(userARN+"u", "kms:UpdatePrimaryRegion", replicaARN), "UpdatePrimaryRegion", move)
	if c := w.describe(id); c.KeyState.V != "Enabled" {
		t.Errorf("refused, and yet it is %s", c.KeyState.V)
	}
	may(here, there).done("UpdatePrimaryRegion", move)
}

// recordsIn returns the names of the records of a Region behind the first n of all.
func (w *world) recordsIn(r arn.Region, n int) (names []string) {
	w.t.Helper()
	for _, line := range w.audit.Records()[n:] {
		var record struct{ AwsRegion, EventName string }
		w.must(json.Unmarshal(line, &record))
		if record.AwsRegion == string(r) {
			names = append(names, record.EventName)
		}
	}
	return names
}

// What a call does in another Region is recorded there, and so is each thing that a replica gets from its primary key.
func TestRecordsOfRegions(t *testing.T) {
	w := newWorld(t, "")
	id := w.newSet(in{})
	seen := 0
	check := func(what string, here, there []string) {
		t.Helper()
		if got := w.recordsIn(region, seen); !slices.Equal(got, here) {
			t.Errorf("%s: here %v, want %v", what, got, here)
		}
		if got := w.recordsIn(ireland, seen); !slices.Equal(got, there) {
			t.Errorf("%s: there %v, want %v", what, got, there)
		}
		seen = len(w.audit.Records())
	}
	seen = len(w.audit.Records())
	do[*kmsapi.ReplicateKeyResponse](w, "ReplicateKey", in{"KeyId": id, "ReplicaRegion": ireland})
	check("replicated", []string{"ReplicateKey"}, []string{"CreateKey"})
	w.pass(0)
	check("ready", nil, []string{"SynchronizeMultiRegionKey"})
	w.done("EnableKeyRotation", in{"KeyId": id, "RotationPeriodInDays": 90})
	check("rotation enabled", []string{"EnableKeyRotation"}, []string{"SynchronizeMultiRegionKey"})
	w.done("DisableKey", in{"KeyId": id})
	w.done("EnableKey", in{"KeyId": id})
	check("disabled and enabled", []string{"DisableKey", "EnableKey"}, nil)
	w.pass(91 * day)
	check("rotated", []string{"RotateKey"}, []string{"SynchronizeMultiRegionKey"})
	do[*kmsapi.RotateKeyOnDemandResponse](w, "RotateKeyOnDemand", in{"KeyId": id})
	check("rotated on demand", []string{"RotateKey", "RotateKeyOnDemand"}, []string{"SynchronizeMultiRegionKey"})
	material := w.describe(id).CurrentKeyMaterialID.V
	seen = len(w.audit.Records())
	w.audit.full.Store(true) // what has no record does not happen, anywhere
	w.pass(91 * day)
	w.audit.full.Store(false)
	if a, b := w.describe(id).CurrentKeyMaterialID.V, w.in(ireland).describe(id).CurrentKeyMaterialID.V; a != material || b != material {
		t.Error("rotated without a record")
	}
	w.pass(day) // the failure is long ago
	seen = len(w.audit.Records())
	w.done("UpdatePrimaryRegion", in{"KeyId": id, "PrimaryRegion": ireland})
	records := w.audit.Records()
	var first, second struct {
		RequestID, EventID string
		UserIdentity       struct{ InvokedBy string }
		RequestParameters  map[string]any
		Resources          []any
	}
	w.must(json.Unmarshal(records[len(records)-2], &first))
	w.must(json.Unmarshal(records[len(records)-1], &second))
	if first.RequestID != second.RequestID || first.EventID == second.EventID || second.UserIdentity.InvokedBy != "kms.amazonaws.com" ||
		second.RequestParameters["keyId"] != arn.KeyID(id).ARN(ireland, alice) || len(first.Resources) != 1 || second.Resources != nil {
		t.Errorf("%s\n%s", records[len(records)-2], records[len(records)-1])
	}
	check("moved", []string{"UpdatePrimaryRegion"}, []string{"UpdatePrimaryRegion"})
}

// Keys of every usage do in one Region what they do in another.
func TestUsesInTwoRegions(t *testing.T) {
	w := newWorld(t, "")
	there := w.in(ireland)
	rsa := w.newSet(in{"KeySpec": "RSA_2048", "KeyUsage": "ENCRYPT_DECRYPT"}, ireland)
	sealed := do[*kmsapi.EncryptResponse](w, "Encrypt", in{"KeyId": rsa, "Plaintext": []byte("x"), "EncryptionAlgorithm": "RSAES_OAEP_SHA_256"}).CiphertextBlob
	do[*kmsapi.DecryptResponse](there, "Decrypt", in{"KeyId": rsa, "CiphertextBlob": sealed, "EncryptionAlgorithm": "RSAES_OAEP_SHA_256"})
	curve := w.newSet(in{"KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY"}, ireland)
	signed := do[*kmsapi.SignResponse](w, "Sign", in{"KeyId": curve, "Message": []byte("x"), "SigningAlgorithm": "ECDSA_SHA_256"}).Signature
	do[*kmsapi.VerifyResponse](there, "Verify", in{"KeyId": curve, "Message": []byte("x"), "SigningAlgorithm": "ECDSA_SHA_256", "Signature": signed})
	mac := w.newSet(in{"KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC"}, ireland)
	made := do[*kmsapi.GenerateMacResponse](w, "GenerateMac", in{"KeyId": mac, "Message": []byte("x"), "MacAlgorithm": "HMAC_SHA_256"}).Mac
	do[*kmsapi.VerifyMacResponse](there, "VerifyMac", in{"KeyId": mac, "Message": []byte("x"), "MacAlgorithm": "HMAC_SHA_256", "Mac": made})

	symmetric, other := w.newSet(in{}, ireland), there.newSet(in{})
	blob := w.encrypt(symmetric, []byte("x"), nil)
	there.decrypts(do[*kmsapi.ReEncryptResponse](there, "ReEncrypt", in{"CiphertextBlob": blob, "DestinationKeyId": other}).CiphertextBlob, []byte("x"), nil)
	there.refused("IncorrectKeyException: The key ID in the request does not identify a CMK that can perform this operation.", "Decrypt", in{"KeyId": other, "CiphertextBlob": blob})
	got := do[*kmsapi.DecryptResponse](there, "Decrypt", in{"KeyId": symmetric, "CiphertextBlob": blob})
	if want := arn.KeyID(symmetric).ARN(ireland, alice); got.KeyID.V != want {
		t.Errorf("decrypted with %s, want %s", got.KeyID.V, want)
	}
	far := w.in(tokyo)
	far.refused("AccessDeniedException: The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access.",
		"Decrypt", in{"CiphertextBlob": blob})
}

// States that end by themselves do so after a restart, too, and what a Region has of its own it keeps.
func TestRegionsAfterRestarts(t *testing.T) {
	w := newWorld(t, t.TempDir())
	id := w.newSet(in{"Description": "mine"})
	do[*kmsapi.ReplicateKeyResponse](w, "ReplicateKey", in{"KeyId": id, "ReplicaRegion": ireland, "Description": "its own", "Tags": []in{{"TagKey": "a", "TagValue": "b"}}})
	w.restart()
	if m := w.in(ireland).describe(id); m.KeyState.V != "Creating" || m.Description.V != "its own" {
		t.Errorf("%+v", m)
	}
	w.pass(0)
	w.done("UpdatePrimaryRegion", in{"KeyId": id, "PrimaryRegion": ireland})
	w.restart()
	if state := w.describe(id).KeyState.V; state != "Updating" {
		t.Error(state)
	}
	w.pass(0)
	w.done("DisableKey", in{"KeyId": id})
	w.restart()
	a, b := w.describe(id), w.in(ireland).describe(id)
	if a.KeyState.V != "Disabled" || b.KeyState.V != "Enabled" || a.Description.V != "mine" || b.MultiRegionConfiguration.MultiRegionKeyType.V != "PRIMARY" {
		t.Errorf("%+v and %+v", a, b)
	}
	for r, want := range map[arn.Region]int{region: 0, ireland: 1} {
		if tags := do[*kmsapi.ListResourceTagsResponse](w.in(r), "ListResourceTags", in{"KeyId": id}).Tags; len(tags) != want {
			t.Errorf("%s has tags %v", r, tags)
		}
		if keys := do[*kmsapi.ListKeysResponse](w.in(r), "ListKeys", in{}).Keys; len(keys) != 1 {
			t.Errorf("%s has keys %v", r, keys)
		}
	}
}

// Calls that change sets in several Regions at the same time end, and leave their keys alike.
func TestRegionsAtTheSameTime(t *testing.T) {
	w := newWorld(t, "")
	id, other := w.newSet(in{}, ireland), w.in(ireland).newSet(in{}, region)
	calls := []func(n int){
		func(n int) { _, _ = w.try("EnableKeyRotation", in{"KeyId": id, "RotationPeriodInDays": 90 + n}) },
		func(int) {
			_, _ = w.in(ireland).try("UpdatePrimaryRegion", in{"KeyId": other, "PrimaryRegion": region})
		},
		func(int) { _, _ = w.try("UpdatePrimaryRegion", in{"KeyId": other, "PrimaryRegion": ireland}) },
		func(int) { _, _ = w.try("RotateKeyOnDemand", in{"KeyId": id}) },
		func(n int) {
			_, _ = w.try("ReplicateKey", in{"KeyId": id, "ReplicaRegion": []arn.Region{tokyo, "us-west-2"}[n%2]})
		},
		func(int) { _, _ = w.in(ireland).try("Encrypt", in{"KeyId": id, "Plaintext": []byte("x")}) },
		func(int) { _ = w.service.RunDue(t.Context()) },
		func(int) { _, _ = w.in(ireland).try("UpdateKeyDescription", in{"KeyId": other, "Description": "x"}) },
	}
	var all sync.WaitGroup
	for _, call := range calls {
		all.Go(func() {
			for n := range 20 {
				call(n)
			}
		})
	}
	all.Wait()
	w.pass(0)
	for _, k := range []string{id, other} {
		want := w.describe(k)
		regions := []arn.Region{region}
		for _, r := range append(want.MultiRegionConfiguration.ReplicaKeys, *want.MultiRegionConfiguration.PrimaryKey) {
			regions = append(regions, arn.Region(r.Region.V))
		}
		rotation := do[*kmsapi.GetKeyRotationStatusResponse](w, "GetKeyRotationStatus", in{"KeyId": k}).RotationPeriodInDays
		for _, r := range regions {
			got := w.in(r).describe(k)
			if got.KeyState.V != "Enabled" || got.CurrentKeyMaterialID != want.CurrentKeyMaterialID || len(got.MultiRegionConfiguration.ReplicaKeys) != len(want.MultiRegionConfiguration.ReplicaKeys) ||
				do[*kmsapi.GetKeyRotationStatusResponse](w.in(r), "GetKeyRotationStatus", in{"KeyId": k}).RotationPeriodInDays != rotation {
				t.Errorf("%s in %s: %+v", k, r, got)
			}
		}
	}
}
