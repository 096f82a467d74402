package kms_test

import (
	"testing"
	"time"

	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// rotations returns a page of a key's rotations.
func (w *world) rotations(request in) *kmsapi.ListKeyRotationsResponse {
	w.t.Helper()
	return do[*kmsapi.ListKeyRotationsResponse](w, "ListKeyRotations", request)
}

func (w *world) describe(id string) *kmsapi.KeyMetadata {
	w.t.Helper()
	return do[*kmsapi.DescribeKeyResponse](w, "DescribeKey", in{"KeyId": id}).KeyMetadata
}

func TestRotateKeyOnDemand(t *testing.T) {
	w := newWorld(t, t.TempDir())
	id, keyARN := w.newKey()
	w.done("EnableKeyRotation", in{"KeyId": id, "RotationPeriodInDays": 90})
	start := w.now()
	var materials []string
	var blobs [][]byte
	for n := range 26 {
		blobs = append(blobs, w.encrypt(id, []byte("x"), nil))
		materials = append(materials, w.describe(id).CurrentKeyMaterialID.V)
		if n == 25 {
			break
		}
		w.pass(time.Hour)
		if out := do[*kmsapi.RotateKeyOnDemandResponse](w, "RotateKeyOnDemand", in{"KeyId": id}); out.KeyID.V != keyARN {
			t.Errorf("%+v", out)
		}
		if n == 12 {
			w.restart()
		}
		details := w.lastRecordNamed("RotateKey")["serviceEventDetails"].(in)
		if details["rotationType"] != "ON_DEMAND" || details["keyOrigin"] != "AWS_KMS" || details["previousKeyMaterialId"] != materials[n] ||
			details["currentKeyMaterialId"] != w.describe(id).CurrentKeyMaterialID.V || details["keyId"] != id {
			t.Errorf("record of the rotation: %v", details)
		}
		if r := w.lastRecordNamed("RotateKeyOnDemand"); r["requestParameters"].(in)["keyId"] != id || r["responseElements"].(in)["keyId"] != keyARN {
			t.Errorf("record of the call: %v", r)
		}
	}
	w.refused("LimitExceededException: The on-demand rotations limit has been reached for the given keyId. No more on-demand rotations can be performed for this key: "+keyARN,
		"RotateKeyOnDemand", in{"KeyId": id})
	for i, blob := range blobs {
		out := do[*kmsapi.DecryptResponse](w, "Decrypt", in{"CiphertextBlob": blob})
		if string(out.Plaintext.Expose()) != "x" || out.KeyMaterialID.V != materials[i] {
			t.Errorf("generation %d decrypts under %s, want %s", i, out.KeyMaterialID.V, materials[i])
		}
	}
	s := do[*kmsapi.GetKeyRotationStatusResponse](w, "GetKeyRotationStatus", in{"KeyId": id})
	if !s.NextRotationDate.V.Equal(start.AddDate(0, 0, 90)) || s.OnDemandRotationStartDate.Set {
		t.Errorf("the automatic schedule moved: %+v", s)
	}
	w.pass(90 * day) // automatic rotations are not limited
	if got := w.describe(id).CurrentKeyMaterialID.V; got == materials[25] {
		t.Error("no automatic rotation")
	}
}

func TestRotateKeyOnDemandErrors(t *testing.T) {
	w := newWorld(t, "")
	id, keyARN := w.newKey()
	w.done("EnableKeyRotation", in{"KeyId": id, "RotationPeriodInDays": 90})
	w.pass(90*day - 20*time.Minute)
	w.refused("ConflictException: An automatic rotation of "+keyARN+" is in progress or begins within 20 minutes.", "RotateKeyOnDemand", in{"KeyId": id})
	w.clock.Add(-1)
	do[*kmsapi.RotateKeyOnDemandResponse](w, "RotateKeyOnDemand", in{"KeyId": id})
	w.done("DisableKey", in{"KeyId": id})
	w.refused("DisabledException: "+keyARN+" is disabled.", "RotateKeyOnDemand", in{"KeyId": id})
	do[*kmsapi.ScheduleKeyDeletionResponse](w, "ScheduleKeyDeletion", in{"KeyId": id})
	w.refused("KMSInvalidStateException: "+keyARN+" is pending deletion.", "RotateKeyOnDemand", in{"KeyId": id})
	if got := w.rotations(in{"KeyId": id}).Rotations; len(got) != 1 {
		t.Errorf("a key that is pending deletion: %+v", got)
	}
	w.done("CreateAlias", in{"AliasName": "alias/a", "TargetKeyId": w.newest()})
	for _, name := range []string{"RotateKeyOnDemand", "ListKeyRotations"} {
		w.refused("InvalidArnException: Key Aliases are not supported for this operation.", name, in{"KeyId": "alias/a"})
	}
}

// newest makes a key and returns its id.
func (w *world) newest() string {
	id, _ := w.newKey()
	return id
}

func TestListKeyRotations(t *testing.T) {
	w := newWorld(t, "")
	id, _ := w.newKey()
	if out := w.rotations(in{"KeyId": id}); len(out.Rotations) != 0 || out.Truncated.V || out.NextMarker.Set {
		t.Errorf("before any: %+v", out)
	}
	first := w.describe(id).CurrentKeyMaterialID.V
	w.done("EnableKeyRotation", in{"KeyId": id, "RotationPeriodInDays": 90})
	w.pass(90 * day)
	due := w.now()
	w.pass(day)
	do[*kmsapi.RotateKeyOnDemandResponse](w, "RotateKeyOnDemand", in{"KeyId": id})
	out := w.rotations(in{"KeyId": id})
	if len(out.Rotations) != 2 {
		t.Fatalf("%+v", out)
	}
	automatic, onDemand := out.Rotations[0], out.Rotations[1]
	if automatic.RotationType.V != "AUTOMATIC" || !automatic.RotationDate.V.Equal(due) || automatic.KeyMaterialState.V != "NON_CURRENT" || automatic.KeyID.V != id ||
		automatic.ImportState.Set || automatic.ExpirationModel.Set || automatic.ValidTo.Set || automatic.KeyMaterialDescription.Set {
		t.Errorf("%+v", automatic)
	}
	if onDemand.RotationType.V != "ON_DEMAND" || !onDemand.RotationDate.V.Equal(w.now()) || onDemand.KeyMaterialState.V != "CURRENT" ||
		onDemand.KeyMaterialID.V != w.describe(id).CurrentKeyMaterialID.V {
		t.Errorf("%+v", onDemand)
	}
	all := w.rotations(in{"KeyId": id, "IncludeKeyMaterial": "ALL_KEY_MATERIAL"}).Rotations
	if len(all) != 3 || all[0].KeyMaterialID.V != first || all[0].RotationType.Set || all[0].RotationDate.Set || all[0].KeyMaterialState.V != "NON_CURRENT" {
		t.Errorf("%+v", all)
	}

	var paged []string
	request := in{"KeyId": id, "IncludeKeyMaterial": "ALL_KEY_MATERIAL", "Limit": 1}
	for {
		page := w.rotations(request)
		if len(page.Rotations) != 1 || page.Truncated.V != page.NextMarker.Set {
			t.Fatalf("%+v", page)
		}
		paged = append(paged, page.Rotations[0].KeyMaterialID.V)
		if !page.Truncated.V {
			break
		}
		request["Marker"] = page.NextMarker.V
	}
	if len(paged) != 3 || paged[0] != first || paged[2] != onDemand.KeyMaterialID.V {
		t.Errorf("pages: %v", paged)
	}
	w.refused("InvalidMarkerException", "ListKeyRotations", in{"KeyId": w.newest(), "Marker": request["Marker"]})
	w.refused("InvalidMarkerException", "ListKeyRotations", in{"KeyId": id, "Marker": "x"})
}
