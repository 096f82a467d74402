package kms_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

const (
	ireland arn.Region = "eu-west-1"
	tokyo   arn.Region = "ap-northeast-1"
)

// newSet makes a multi-Region key with replicas that are ready.
func (w *world) newSet(made in, replicas ...arn.Region) (id string) {
	w.t.Helper()
	made["MultiRegion"] = true
	id = do[*kmsapi.CreateKeyResponse](w, "CreateKey", made).KeyMetadata.KeyID.V
	for _, r := range replicas {
		w.replicate(id, r)
	}
	return id
}

func (w *world) replicate(id string, r arn.Region) {
	w.t.Helper()
	do[*kmsapi.ReplicateKeyResponse](w, "ReplicateKey", in{"KeyId": id, "ReplicaRegion": string(r)})
	w.must(w.service.RunDue(context.Background()))
}

func (w *world) in(r arn.Region) *world { return w.as(w.account, r) }

func TestReplicateKey(t *testing.T) {
	w := newWorld(t, "")
	made := do[*kmsapi.CreateKeyResponse](w, "CreateKey", in{"MultiRegion": true, "Description": "here", "Tags": []in{{"TagKey": "a", "TagValue": "b"}}}).KeyMetadata
	id, there := made.KeyID.V, w.in(ireland)
	if c := made.MultiRegionConfiguration; !arn.KeyID(id).MultiRegion() || c.MultiRegionKeyType.V != "PRIMARY" || c.PrimaryKey.ARN.V != made.ARN.V || c.ReplicaKeys == nil || len(c.ReplicaKeys) != 0 {
		t.Errorf("made %s: %+v", id, c)
	}
	blob := w.encrypt(id, []byte("x"), nil)
	there.refused("NotFoundException: Key '"+arn.KeyID(id).ARN(ireland, alice)+"' does not exist", "DescribeKey", in{"KeyId": id})
	out := do[*kmsapi.ReplicateKeyResponse](w, "ReplicateKey", in{"KeyId": id, "ReplicaRegion": string(ireland)})
	m := out.ReplicaKeyMetadata
	if m.KeyState.V != "Creating" || m.Enabled.V || m.CurrentKeyMaterialID.Set || m.Description.V != "" || out.ReplicaPolicy.V == "" || out.ReplicaTags == nil || len(out.ReplicaTags) != 0 {
		t.Errorf("replica %+v", out)
	}
	if c := m.MultiRegionConfiguration; c.MultiRegionKeyType.V != "REPLICA" || c.PrimaryKey.ARN.V != made.ARN.V || len(c.ReplicaKeys) != 1 || c.ReplicaKeys[0].ARN.V != m.ARN.V || c.ReplicaKeys[0].Region.V != string(ireland) {
		t.Errorf("replica %+v", c)
	}
	there.refused("KMSInvalidStateException: "+m.ARN.V+" is creating.", "Encrypt", in{"KeyId": id, "Plaintext": []byte("x")})
	w.must(w.service.RunDue(context.Background()))
	if state := there.describe(id).KeyState.V; state != "Enabled" {
		t.Errorf("the replica is %s", state)
	}
	if c := w.describe(id).MultiRegionConfiguration; len(c.ReplicaKeys) != 1 || c.MultiRegionKeyType.V != "PRIMARY" {
		t.Errorf("primary %+v", c)
	}
	there.decrypts(blob, []byte("x"), nil)
	w.decrypts(there.encrypt(id, []byte("y"), nil), []byte("y"), nil)
	there.refused("NotFoundException: Invalid arn us-east-1", "DescribeKey", in{"KeyId": made.ARN.V})
	notPrimary := "UnsupportedOperationException: " + m.ARN.V + " is not a multi-region primary key."
	there.refused(notPrimary, "ReplicateKey", in{"KeyId": id, "ReplicaRegion": string(tokyo)})
	there.refused(notPrimary, "EnableKeyRotation", in{"KeyId": id})
	there.refused(notPrimary, "DisableKeyRotation", in{"KeyId": id})
	there.refused(notPrimary, "RotateKeyOnDemand", in{"KeyId": id})
	for _, r := range []arn.Region{region, ireland} {
		w.refused("AlreadyExistsException: The key "+id+" already exists in the Region "+string(r)+".", "ReplicateKey", in{"KeyId": id, "ReplicaRegion": string(r)})
	}
	for _, r := range []string{"cn-north-1", "us-gov-west-1"} {
		w.refused("ValidationException: "+r+" is not a Region of the partition aws.", "ReplicateKey", in{"KeyId": id, "ReplicaRegion": r})
	}
	single, singleARN := w.newKey()
	w.refused("UnsupportedOperationException: "+singleARN+" is not a multi-region primary key.", "ReplicateKey", in{"KeyId": single, "ReplicaRegion": string(tokyo)})
	w.refused("UnsupportedOperationException: "+singleARN+" is not a multi-region primary key.", "UpdatePrimaryRegion", in{"KeyId": single, "PrimaryRegion": string(tokyo)})
}

func TestUpdatePrimaryRegion(t *testing.T) {
	w := newWorld(t, "")
	id := w.newSet(in{}, ireland, tokyo)
	there := w.in(ireland)
	w.done("EnableKeyRotation", in{"KeyId": id, "RotationPeriodInDays": 100})
	w.refused("NotFoundException: Key '"+arn.KeyID(id).ARN("us-west-2", alice)+"' does not exist", "UpdatePrimaryRegion", in{"KeyId": id, "PrimaryRegion": "us-west-2"})
	there.done("DisableKey", in{"KeyId": id})
	w.refused("DisabledException: "+arn.KeyID(id).ARN(ireland, alice)+" is disabled.", "UpdatePrimaryRegion", in{"KeyId": id, "PrimaryRegion": string(ireland)})
	there.done("EnableKey", in{"KeyId": id})
	w.done("UpdatePrimaryRegion", in{"KeyId": id, "PrimaryRegion": string(ireland)})
	for _, in1 := range []*world{w, there} {
		if state := in1.describe(id).KeyState.V; state != "Updating" {
			t.Errorf("%s: %s", in1.region, state)
		}
		in1.decrypts(w.encrypt(id, []byte("x"), nil), []byte("x"), nil)
		in1.refused("KMSInvalidStateException: "+arn.KeyID(id).ARN(in1.region, alice)+" is updating.", "DisableKey", in{"KeyId": id})
	}
	w.must(w.service.RunDue(context.Background()))
	for _, r := range []arn.Region{region, ireland, tokyo} {
		m := w.in(r).describe(id)
		c := m.MultiRegionConfiguration
		if m.KeyState.V != "Enabled" || c.PrimaryKey.Region.V != string(ireland) || len(c.ReplicaKeys) != 2 || c.ReplicaKeys[0].Region.V != string(tokyo) || c.ReplicaKeys[1].Region.V != string(region) {
			t.Errorf("%s: %s %+v", r, m.KeyState.V, c)
		}
	}
	w.refused("UnsupportedOperationException: "+arn.KeyID(id).ARN(region, alice)+" is not a multi-region primary key.", "UpdatePrimaryRegion", in{"KeyId": id, "PrimaryRegion": string(tokyo)})
	before := w.describe(id).CurrentKeyMaterialID.V
	w.pass(101 * day)
	after := w.describe(id).CurrentKeyMaterialID.V
	if after == before {
		t.Error("no rotation")
	}
	for _, r := range []arn.Region{ireland, tokyo} {
		if got := w.in(r).describe(id).CurrentKeyMaterialID.V; got != after {
			t.Errorf("%s: %s", r, got)
		}
		status := do[*kmsapi.GetKeyRotationStatusResponse](w.in(r), "GetKeyRotationStatus", in{"KeyId": id})
		if !status.KeyRotationEnabled.V || status.RotationPeriodInDays.V != 100 || !status.NextRotationDate.V.Equal(w.now().Add(99*day)) {
			t.Errorf("%s: %+v", r, status)
		}
	}
}

func TestDeleteRegions(t *testing.T) {
	w := newWorld(t, t.TempDir())
	id := w.newSet(in{}, ireland, tokyo)
	out := do[*kmsapi.ScheduleKeyDeletionResponse](w, "ScheduleKeyDeletion", in{"KeyId": id, "PendingWindowInDays": 10})
	if out.KeyState.V != "PendingReplicaDeletion" || out.DeletionDate.Set || out.PendingWindowInDays.V != 10 {
		t.Errorf("%+v", out)
	}
	w.pass(100 * day)
	if m := w.describe(id); m.KeyState.V != "PendingReplicaDeletion" || m.PendingDeletionWindowInDays.V != 10 || m.DeletionDate.Set {
		t.Errorf("%+v", m)
	}
	w.refused("KMSInvalidStateException: "+arn.KeyID(id).ARN(region, alice)+" is pending deletion.", "EnableKey", in{"KeyId": id})
	do[*kmsapi.CancelKeyDeletionResponse](w, "CancelKeyDeletion", in{"KeyId": id})
	if m := w.describe(id); m.KeyState.V != "Disabled" || m.PendingDeletionWindowInDays.Set {
		t.Errorf("%+v", m)
	}
	do[*kmsapi.ScheduleKeyDeletionResponse](w, "ScheduleKeyDeletion", in{"KeyId": id, "PendingWindowInDays": 10})
	blob := w.in(tokyo).encrypt(id, []byte("x"), nil)
	do[*kmsapi.ScheduleKeyDeletionResponse](w.in(ireland), "ScheduleKeyDeletion", in{"KeyId": id, "PendingWindowInDays": 7})
	w.pass(7 * day)
	w.in(ireland).refused("NotFoundException: Key '"+arn.KeyID(id).ARN(ireland, alice)+"' does not exist", "DescribeKey", in{"KeyId": id})
	if c := w.describe(id).MultiRegionConfiguration; len(c.ReplicaKeys) != 1 || c.ReplicaKeys[0].Region.V != string(tokyo) {
		t.Errorf("%+v", c)
	}
	w.restart()
	w.in(tokyo).decrypts(blob, []byte("x"), nil)
	do[*kmsapi.ScheduleKeyDeletionResponse](w.in(tokyo), "ScheduleKeyDeletion", in{"KeyId": id, "PendingWindowInDays": 30})
	w.pass(30 * day)
	if m := w.describe(id); m.KeyState.V != "PendingDeletion" || !m.DeletionDate.V.Equal(w.now().Add(10*day)) || m.PendingDeletionWindowInDays.Set {
		t.Errorf("%+v", m)
	}
	w.pass(10 * day)
	w.refused("NotFoundException: Key '"+arn.KeyID(id).ARN(region, alice)+"' does not exist", "DescribeKey", in{"KeyId": id})
}

// Imported material comes to each Region by itself, and rotates when it is everywhere.
func TestImportIntoRegions(t *testing.T) {
	w := newWorld(t, "")
	id := w.newSet(in{"Origin": "EXTERNAL"})
	ship := func(at *world, secret byte, more in) {
		t.Helper()
		at.parameters(id, oaep256, "RSA_2048").imports(secretOf(secret), more)
	}
	w.refused("KMSInvalidStateException: "+arn.KeyID(id).ARN(region, alice)+" is pending import.", "ReplicateKey", in{"KeyId": id, "ReplicaRegion": string(ireland)})
	ship(w, 1, in{"ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"})
	w.replicate(id, ireland)
	there := w.in(ireland)
	if m := there.describe(id); m.KeyState.V != "PendingImport" {
		t.Errorf("%+v", m)
	}
	p := there.parameters(id, oaep256, "RSA_2048")
	there.refused("IncorrectKeyMaterialException", "ImportKeyMaterial", p.request(secretOf(2), in{"ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"}))
	there.refused("IncorrectKeyMaterialException", "ImportKeyMaterial", p.request(secretOf(2), in{"ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE", "ImportType": "NEW_KEY_MATERIAL"}))
	ship(there, 1, in{"ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"})
	there.decrypts(w.encrypt(id, []byte("x"), nil), []byte("x"), nil)
	states := func(want ...string) {
		t.Helper()
		for _, at := range []*world{w, there} {
			list := do[*kmsapi.ListKeyRotationsResponse](at, "ListKeyRotations", in{"KeyId": id, "IncludeKeyMaterial": "ALL_KEY_MATERIAL"}).Rotations
			if len(list) != len(want) {
				t.Fatalf("%s: %d generations, want %d", at.region, len(list), len(want))
			}
			for i, e := range list {
				if e.KeyMaterialState.V != want[i] {
					t.Errorf("%s: generation %d is %s, want %s", at.region, i, e.KeyMaterialState.V, want[i])
				}
			}
		}
	}
	fresh := in{"ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE", "ImportType": "NEW_KEY_MATERIAL"}
	ship(w, 2, fresh)
	states("CURRENT", "PENDING_MULTI_REGION_IMPORT_AND_ROTATION")
	w.refused("KMSInvalidStateException: No available key material pending rotation for the key: "+arn.KeyID(id).ARN(region, alice)+".", "RotateKeyOnDemand", in{"KeyId": id})
	ship(there, 2, until(w.now().Add(time.Hour)))
	states("CURRENT", "PENDING_ROTATION")
	w.clock.Add(2 * time.Hour.Milliseconds())
	there.describe(id)
	states("CURRENT", "PENDING_MULTI_REGION_IMPORT_AND_ROTATION")
	pending := do[*kmsapi.ListKeyRotationsResponse](w, "ListKeyRotations", in{"KeyId": id, "IncludeKeyMaterial": "ALL_KEY_MATERIAL"}).Rotations[1].KeyMaterialID.V
	do[*kmsapi.DeleteImportedKeyMaterialResponse](w, "DeleteImportedKeyMaterial", in{"KeyId": id, "KeyMaterialId": pending})
	states("CURRENT")
	ship(w, 3, fresh)
	ship(there, 3, in{"ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"})
	do[*kmsapi.RotateKeyOnDemandResponse](w, "RotateKeyOnDemand", in{"KeyId": id})
	states("NON_CURRENT", "CURRENT")
	there.decrypts(w.encrypt(id, []byte("x"), nil), []byte("x"), nil)
}

// inFiles reports whether a text is in a file of the world's directory.
func (w *world) inFiles(text []byte) bool {
	w.t.Helper()
	paths, err := filepath.Glob(filepath.Join(w.dir, "*"))
	w.must(err)
	return slices.ContainsFunc(paths, func(path string) bool {
		content, err := os.ReadFile(path)
		w.must(err)
		return bytes.Contains(content, text)
	})
}

// stored returns a key as the store has it in the world's Region.
func (w *world) stored(id string) *key.Key {
	w.t.Helper()
	k, err := w.store.GetKey(w.t.Context(), key.Name{Account: w.account, Region: w.region, ID: arn.KeyID(id)})
	w.must(err)
	return k
}

// Whatever is done to a multi-Region key first after its material has expired, the material goes from all files and from the keys
// that share it, and there is a record of that.
func TestMaterialExpiresBeforeAnotherChange(t *testing.T) {
	for name, request := range map[string]in{
		"TagResource":          {"Tags": []in{{"TagKey": "a", "TagValue": "b"}}},
		"UpdateKeyDescription": {"Description": "x"},
		"PutKeyPolicy":         {"Policy": naming("kms:*", alice.Root("aws"))},
		"ScheduleKeyDeletion":  {},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, t.TempDir())
			id := w.newSet(in{"Origin": "EXTERNAL"})
			request["KeyId"] = id
			end := w.now().Add(time.Hour)
			w.parameters(id, oaep256, "RSA_2048").imports(secretOf(1), in{"ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"})
			w.replicate(id, ireland)
			w.in(ireland).parameters(id, oaep256, "RSA_2048").imports(secretOf(1), until(end))
			w.parameters(id, oaep256, "RSA_2048").imports(secretOf(2), in{"ExpirationModel": "KEY_MATERIAL_EXPIRES", "ValidTo": until(end)["ValidTo"], "ImportType": "NEW_KEY_MATERIAL"})
			lost := [][]byte{w.stored(id).Pending().Wrapped, w.in(ireland).stored(id).Current().Wrapped}
			for _, octets := range lost {
				if !w.inFiles(octets) {
					t.Fatal("material is not found in the files: the search is wrong")
				}
			}
			w.restart() // nothing is in memory
			w.clock.Store(end.UnixMilli())
			w.done(name, request)
			if k := w.stored(id); k.Pending() != nil || k.Current() == nil {
				t.Errorf("the primary key has %+v", k.Material)
			}
			if k := w.in(ireland).stored(id); k.Pending() != nil || k.Complete() || k.State != key.PendingImport {
				t.Errorf("the replica is %s and has %+v", k.State, k.Material)
			}
			for _, octets := range lost {
				if w.inFiles(octets) {
					t.Error("expired material is still in the files")
				}
			}
			if n := w.expiries(); n != 2 {
				t.Errorf("%d records of expiry", n)
			}
			w.pass(0)
			if n := w.expiries(); n != 2 {
				t.Errorf("%d records of expiry after the scheduler", n)
			}
		})
	}
}

// Every replica that gets something has a record of it, also the one because of whose use or work the set was looked at; a key that
// has another record of the same change has no second one.
func TestSynchronizeRecords(t *testing.T) {
	w := newWorld(t, "")
	id := w.newSet(in{"Origin": "EXTERNAL"})
	w.parameters(id, oaep256, "RSA_2048").imports(secretOf(1), nil)
	w.replicate(id, ireland)
	w.replicate(id, tokyo)
	records := func(what func()) (list []string) {
		t.Helper()
		before := len(w.audit.Records())
		what()
		for _, text := range w.audit.Records()[before:] {
			var r in
			w.must(jsonInto(text, &r))
			if name := r["eventName"].(string); name == "SynchronizeMultiRegionKey" || name == "DeleteExpiredKeyMaterial" || name == "UpdatePrimaryRegion" {
				list = append(list, fmt.Sprint(name, " ", r["awsRegion"]))
			}
		}
		slices.Sort(list)
		return slices.Compact(list)
	}
	end := w.now().Add(time.Hour)
	w.parameters(id, oaep256, "RSA_2048").imports(secretOf(2), in{"ExpirationModel": "KEY_MATERIAL_EXPIRES", "ValidTo": until(end)["ValidTo"], "ImportType": "NEW_KEY_MATERIAL"})
	w.clock.Store(end.UnixMilli())
	want := []string{"DeleteExpiredKeyMaterial us-east-1", "SynchronizeMultiRegionKey ap-northeast-1", "SynchronizeMultiRegionKey eu-west-1"}
	if got := records(func() { w.in(ireland).done("UpdateKeyDescription", in{"KeyId": id, "Description": "x"}); w.pass(0) }); !slices.Equal(got, want) {
		t.Errorf("expiry of the primary key's: %q", got)
	}
	w.in(ireland).parameters(id, oaep256, "RSA_2048").imports(secretOf(1), nil)
	want = []string{"SynchronizeMultiRegionKey ap-northeast-1", "UpdatePrimaryRegion eu-west-1", "UpdatePrimaryRegion us-east-1"}
	if got := records(func() { w.done("UpdatePrimaryRegion", in{"KeyId": id, "PrimaryRegion": string(ireland)}) }); !slices.Equal(got, want) {
		t.Errorf("another primary key: %q", got)
	}
}
