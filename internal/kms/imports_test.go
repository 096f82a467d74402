package kms_test

import (
	"bytes"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
	"github.com/keywright/keywright/internal/keywrap"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// importer is somebody who has fetched the parameters to import material into a key.
type importer struct {
	*world
	key, arn  string
	algorithm string
	spec      key.Spec
	public    []byte
	token     []byte
}

// external makes a key without material and returns its id and ARN.
func (w *world) external(request in) (id, keyARN string) {
	w.t.Helper()
	request["Origin"] = "EXTERNAL"
	m := do[*kmsapi.CreateKeyResponse](w, "CreateKey", request).KeyMetadata
	if m.KeyState.V != "PendingImport" || m.Enabled.V || m.ExpirationModel.Set || m.ValidTo.Set || m.CurrentKeyMaterialID.Set || m.Origin.V != "EXTERNAL" {
		w.t.Errorf("a key without material: %+v", m)
	}
	return m.KeyID.V, m.ARN.V
}

// parameters fetches a wrapping key for a key.
func (w *world) parameters(id, algorithm, spec string) *importer {
	w.t.Helper()
	out := do[*kmsapi.GetParametersForImportResponse](w, "GetParametersForImport", in{"KeyId": id, "WrappingAlgorithm": algorithm, "WrappingKeySpec": spec})
	if !out.ParametersValidTo.V.Equal(w.now().Add(day)) || !strings.HasSuffix(out.KeyID.V, id) || len(out.ImportToken) > 6144 {
		w.t.Errorf("parameters: valid to %v, of %s, a token of %d octets", out.ParametersValidTo.V, out.KeyID.V, len(out.ImportToken))
	}
	return &importer{world: w, key: id, arn: out.KeyID.V, algorithm: algorithm, spec: key.Spec(spec), public: out.PublicKey.Expose(), token: out.ImportToken}
}

// wrap encrypts material as a client does.
func (i *importer) wrap(material []byte) []byte {
	i.t.Helper()
	public, err := keyspec.ParsePublic(i.spec, i.public)
	i.must(err)
	blob, err := keywrap.Wrap(i.algorithm, public, material)
	i.must(err)
	return blob
}

// request returns the input that imports material which does not expire, with other members added or replaced.
func (i *importer) request(material []byte, more in) in {
	i.t.Helper()
	request := in{"KeyId": i.key, "ImportToken": i.token, "EncryptedKeyMaterial": i.wrap(material), "ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"}
	for k, v := range more {
		request[k] = v
	}
	return request
}

// until are members that let material expire.
func until(t time.Time) in {
	return in{"ExpirationModel": "KEY_MATERIAL_EXPIRES", "ValidTo": float64(t.UnixMilli()) / 1000}
}

// imports imports material and returns its id.
func (i *importer) imports(material []byte, more in) string {
	i.t.Helper()
	out := do[*kmsapi.ImportKeyMaterialResponse](i.world, "ImportKeyMaterial", i.request(material, more))
	if out.KeyID.V != i.arn || len(out.KeyMaterialID.V) != 64 {
		i.t.Errorf("%+v", out)
	}
	return out.KeyMaterialID.V
}

func (i *importer) fails(want string, material []byte, more in) {
	i.t.Helper()
	i.refused(want, "ImportKeyMaterial", i.request(material, more))
}

func (i *importer) state(want string) {
	i.t.Helper()
	if got := i.describe(i.key); got.KeyState.V != want || got.Enabled.V != (want == "Enabled") {
		i.t.Errorf("the key is %s, want %s", got.KeyState.V, want)
	}
}

const (
	oaep256 = "RSAES_OAEP_SHA_256"
	wrap256 = "RSA_AES_KEY_WRAP_SHA_256"
)

func secretOf(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }

func TestImport(t *testing.T) {
	w := newWorld(t, t.TempDir())
	id, keyARN := w.external(in{})
	i := w.parameters(id, oaep256, "RSA_2048")
	pending := "KMSInvalidStateException: " + keyARN + " is pending import."
	for name, request := range map[string]in{
		"Encrypt": {"Plaintext": []byte("x")}, "GenerateDataKey": {"KeySpec": "AES_256"}, "EnableKey": {}, "DisableKey": {}, "RotateKeyOnDemand": {},
		"CreateGrant": {"GranteePrincipal": alice.Root("aws"), "Operations": []string{"Encrypt"}},
	} {
		request["KeyId"] = id
		w.refused(pending, name, request)
	}
	origin := "UnsupportedOperationException: " + keyARN + " origin is EXTERNAL which is not valid for this operation."
	for _, name := range []string{"EnableKeyRotation", "DisableKeyRotation", "GetKeyRotationStatus"} {
		w.refused(origin, name, in{"KeyId": id})
	}
	first := i.imports(secretOf(1), nil)
	if r := w.lastRecordNamed("ImportKeyMaterial"); r["requestParameters"].(in)["importType"] != "NEW_KEY_MATERIAL" || r["requestParameters"].(in)["importToken"] != nil ||
		r["requestParameters"].(in)["expirationModel"] != "KEY_MATERIAL_DOES_NOT_EXPIRE" || r["responseElements"].(in)["keyMaterialId"] != first {
		t.Errorf("record %v", r)
	}
	w.refused(origin, "EnableKeyRotation", in{"KeyId": id})
	if m := w.describe(id); m.KeyState.V != "Enabled" || m.ExpirationModel.V != "KEY_MATERIAL_DOES_NOT_EXPIRE" || m.ValidTo.Set || m.CurrentKeyMaterialID.V != first {
		t.Errorf("%+v", m)
	}
	blob := w.encrypt(id, []byte("x"), nil)
	for range 2 {
		out := do[*kmsapi.DeleteImportedKeyMaterialResponse](w, "DeleteImportedKeyMaterial", in{"KeyId": id})
		if out.KeyID.V != keyARN || out.KeyMaterialID.V != first {
			t.Errorf("%+v", out)
		}
		i.state("PendingImport")
	}
	if m := w.describe(id); m.ExpirationModel.Set || m.ValidTo.Set {
		t.Errorf("%+v", m)
	}
	w.refused(pending, "Decrypt", in{"CiphertextBlob": blob})
	w.refused(pending, "Decrypt", in{"CiphertextBlob": blob, "KeyId": id})
	w.restart()
	w.refused(pending, "Decrypt", in{"CiphertextBlob": blob})
	i.world = w
	i.fails("IncorrectKeyMaterialException", secretOf(2), nil) // another one than before
	i.fails("IncorrectKeyMaterialException", secretOf(1), in{"ImportType": "NEW_KEY_MATERIAL"})
	i.fails("IncorrectKeyMaterialException", secretOf(1), in{"KeyMaterialId": strings.Repeat("0", 64)})
	if again := i.imports(secretOf(1), in{"KeyMaterialId": first, "ImportType": "EXISTING_KEY_MATERIAL"}); again != first {
		t.Errorf("the same material has the ids %s and %s", first, again)
	}
	i.state("Enabled")
	w.decrypts(blob, []byte("x"), nil)

	// A key that is pending deletion keeps that state, and comes back as its material lets it.
	do[*kmsapi.ScheduleKeyDeletionResponse](w, "ScheduleKeyDeletion", in{"KeyId": id})
	w.refused("KMSInvalidStateException: "+keyARN+" is pending deletion.", "GetParametersForImport", in{"KeyId": id, "WrappingAlgorithm": oaep256, "WrappingKeySpec": "RSA_2048"})
	i.fails("KMSInvalidStateException: "+keyARN+" is pending deletion.", secretOf(1), nil)
	do[*kmsapi.CancelKeyDeletionResponse](w, "CancelKeyDeletion", in{"KeyId": id})
	i.state("Disabled")
	i.imports(secretOf(1), nil) // changes nothing
	i.state("Disabled")
	do[*kmsapi.DeleteImportedKeyMaterialResponse](w, "DeleteImportedKeyMaterial", in{"KeyId": id})
	i.state("PendingImport")
	w.restart()
	i.world = w
	i.imports(secretOf(1), nil) // which does not enable what somebody has disabled
	i.state("Disabled")
	do[*kmsapi.ScheduleKeyDeletionResponse](w, "ScheduleKeyDeletion", in{"KeyId": id})
	do[*kmsapi.DeleteImportedKeyMaterialResponse](w, "DeleteImportedKeyMaterial", in{"KeyId": id})
	i.state("PendingDeletion")
	do[*kmsapi.CancelKeyDeletionResponse](w, "CancelKeyDeletion", in{"KeyId": id})
	i.state("PendingImport")
	i.imports(secretOf(1), nil)
	i.state("Disabled")
	w.done("EnableKey", in{"KeyId": id})
	do[*kmsapi.DeleteImportedKeyMaterialResponse](w, "DeleteImportedKeyMaterial", in{"KeyId": id})
	i.imports(secretOf(1), nil)
	i.state("Enabled")
}

// A condition on kms:ValidTo has its say with operators on numbers, which the service documents, and with those on dates.
func TestValidToConditions(t *testing.T) {
	w := newWorld(t, t.TempDir())
	id, _ := w.external(in{})
	i := w.parameters(id, oaep256, "RSA_2048")
	end := w.now().Add(time.Hour).Truncate(time.Second).Add(123 * time.Millisecond)
	seconds := func(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64) }
	date := func(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
	for _, c := range []struct {
		operator, value string
		denied          bool
	}{
		{"NumericGreaterThan", "1000.0", true},
		{"NumericGreaterThan", seconds(end.Add(-time.Millisecond)), true},
		{"NumericGreaterThan", seconds(end), false},
		{"NumericEquals", seconds(end), true},
		{"DateEquals", date(end), true},
		{"DateEquals", seconds(end), true},
		{"DateGreaterThan", date(end.Add(-time.Millisecond)), true},
		{"DateGreaterThan", date(end), false},
		{"DateLessThan", date(end), false},
		{"DateLessThan", date(end.Add(time.Millisecond)), true},
	} {
		w.done("PutKeyPolicy", in{"KeyId": id, "Policy": `{"Version":"2012-10-17","Statement":[
			{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"},
			{"Effect":"Deny","Principal":"*","Action":"kms:ImportKeyMaterial","Resource":"*","Condition":{"` + c.operator + `":{"kms:ValidTo":"` + c.value + `"}}}]}`})
		_, failure := w.try("ImportKeyMaterial", i.request(secretOf(1), until(end)))
		if denied := failure != nil && strings.HasPrefix(failure.Error(), "AccessDenied"); denied != c.denied || !denied && failure != nil {
			t.Errorf("%s %s, valid to %s: %v", c.operator, c.value, date(end), failure)
		}
	}
}

func TestImportErrors(t *testing.T) {
	w := newWorld(t, "")
	id, keyARN := w.external(in{})
	own, ownARN := w.newKey()
	other, _ := w.external(in{})
	i := w.parameters(id, oaep256, "RSA_2048")
	material := secretOf(1)

	origin := "UnsupportedOperationException: " + ownARN + " origin is AWS_KMS which is not valid for this operation."
	do[*kmsapi.ScheduleKeyDeletionResponse](w, "ScheduleKeyDeletion", in{"KeyId": own})
	w.refused(origin, "GetParametersForImport", in{"KeyId": own, "WrappingAlgorithm": oaep256, "WrappingKeySpec": "RSA_2048"})
	i.fails(origin, material, in{"KeyId": own})
	w.refused(origin, "DeleteImportedKeyMaterial", in{"KeyId": own})
	if out := do[*kmsapi.DeleteImportedKeyMaterialResponse](w, "DeleteImportedKeyMaterial", in{"KeyId": id}); out.KeyMaterialID.Set {
		t.Errorf("nothing to delete: %+v", out)
	}
	w.refused("NotFoundException: Key material "+strings.Repeat("0", 64)+" does not exist in KMS key "+keyARN, "DeleteImportedKeyMaterial", in{"KeyId": id, "KeyMaterialId": strings.Repeat("0", 64)})

	i.fails("ValidationException: A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES", material, in{"ExpirationModel": nil})
	i.fails("ValidationException: A validTo date must not be set if the ExpirationModel is KEY_MATERIAL_DOES_NOT_EXPIRE", material, in{"ValidTo": w.now().Add(day).Unix()})
	i.fails("ValidationException: ValidTo must be in the future", material, until(w.now()))
	i.fails("ValidationException: ValidTo must be within 365 days", material, until(w.now().Add(365*day+time.Millisecond)))
	i.fails("ValidationException: KeyMaterialId must not be set if the ImportType is NEW_KEY_MATERIAL.", material, in{"ImportType": "NEW_KEY_MATERIAL", "KeyMaterialId": strings.Repeat("0", 64)})
	i.fails("IncorrectKeyMaterialException", material, in{"ImportType": "EXISTING_KEY_MATERIAL"})

	// The token: of another key, altered, too old.
	i.fails("InvalidImportTokenException", material, in{"KeyId": other})
	for _, at := range []int{0, 5, 30, len(i.token) / 2, len(i.token) - 1} {
		bad := bytes.Clone(i.token)
		bad[at] ^= 1
		i.fails("InvalidImportTokenException", material, in{"ImportToken": bad})
	}
	i.fails("InvalidImportTokenException", material, in{"ImportToken": []byte("x")})
	w.clock.Add(day.Milliseconds())
	i.fails("ExpiredImportTokenException", material, nil)
	w.clock.Add(-1)

	// The blob: its length, another key's, its content.
	blob := i.wrap(material)
	for _, bad := range [][]byte{blob[1:], append(bytes.Clone(blob), 0), {1}} {
		w.refused("ValidationException: Invalid encrypted key size.", "ImportKeyMaterial", i.request(material, in{"EncryptedKeyMaterial": bad}))
	}
	i.fails("InvalidCiphertextException", material, in{"EncryptedKeyMaterial": make([]byte, 256)})
	i.fails("InvalidCiphertextException", material, in{"EncryptedKeyMaterial": w.parameters(id, oaep256, "RSA_2048").wrap(material)})
	for _, size := range []int{1, 16, 31, 33} {
		i.fails("IncorrectKeyMaterialException", make([]byte, size), nil)
	}
	i.state("PendingImport")
	i.imports(material, until(w.now().Add(365*day)))

	w.refused("UnsupportedOperationException: The wrapping algorithm RSAES_PKCS1_V1_5 is no longer supported.", "GetParametersForImport", in{"KeyId": id, "WrappingAlgorithm": "RSAES_PKCS1_V1_5", "WrappingKeySpec": "RSA_2048"})
}

func TestImportedMaterialExpires(t *testing.T) {
	w := newWorld(t, t.TempDir())
	id, keyARN := w.external(in{})
	i := w.parameters(id, oaep256, "RSA_2048")
	end := w.now().Add(time.Hour)
	first := i.imports(secretOf(1), until(end))
	blob := w.encrypt(id, []byte("x"), nil)
	if m := w.describe(id); m.ExpirationModel.V != "KEY_MATERIAL_EXPIRES" || !m.ValidTo.V.Equal(end) {
		t.Errorf("%+v", m)
	}
	i.imports(secretOf(1), until(end.Add(time.Hour))) // the date can be moved at any time
	w.pass(time.Hour)
	i.state("Enabled")
	w.restart()
	i.world = w
	w.pass(time.Hour - time.Millisecond)
	w.decrypts(blob, []byte("x"), nil)

	// The time is over, and the scheduler late: the material is not used all the same.
	w.clock.Add(1)
	pending := "KMSInvalidStateException: " + keyARN + " is pending import."
	w.refused(pending, "Decrypt", in{"CiphertextBlob": blob})
	r := w.lastRecordNamed("DeleteExpiredKeyMaterial")
	if details := r["serviceEventDetails"].(in); r["eventType"] != "AwsServiceEvent" || details["keyId"] != id || details["keyMaterialId"] != first {
		t.Errorf("record %v", r)
	}
	i.state("PendingImport")
	if m := w.describe(id); m.ExpirationModel.Set || m.ValidTo.Set {
		t.Errorf("%+v", m)
	}
	i.imports(secretOf(1), until(w.now().Add(time.Hour)))
	w.decrypts(blob, []byte("x"), nil)

	// Down when the time comes, and the first to look is the scheduler.
	w.must(w.db.Close())
	w.clock.Add(day.Milliseconds())
	w.open()
	w.pass(0)
	if n := w.expiries(); n != 2 {
		t.Errorf("%d records of expiry", n)
	}
	stored, err := w.store.GetKey(t.Context(), key.Name{Account: alice, Region: region, ID: arn.KeyID(id)})
	w.must(err)
	if m := stored.Material; len(m) != 1 || m[0].Wrapped != nil || m[0].ID != first {
		t.Errorf("stored: %+v", m)
	}
	i = w.parameters(id, oaep256, "RSA_2048")
	i.state("PendingImport")

	// A key that is pending deletion stays so.
	i.imports(secretOf(1), until(w.now().Add(time.Hour)))
	do[*kmsapi.ScheduleKeyDeletionResponse](w, "ScheduleKeyDeletion", in{"KeyId": id, "PendingWindowInDays": 7})
	w.pass(time.Hour)
	i.state("PendingDeletion")
	if n := w.expiries(); n != 3 {
		t.Errorf("%d records of expiry", n)
	}
	w.pass(7 * day)
	w.refused("NotFoundException: Key '"+keyARN+"' does not exist", "DescribeKey", in{"KeyId": id})
}

// importType returns the one in the newest record of an import.
func (w *world) importType() any {
	w.t.Helper()
	return w.lastRecordNamed("ImportKeyMaterial")["requestParameters"].(in)["importType"]
}

// The record of an import says of what type it is, also if it fails and if the client did not say it.
func TestImportTypesAreRecorded(t *testing.T) {
	w := newWorld(t, "")
	id, keyARN := w.external(in{})
	i := w.parameters(id, oaep256, "RSA_2048")
	for _, want := range []string{"NEW_KEY_MATERIAL", "EXISTING_KEY_MATERIAL"} {
		for about, c := range map[string]struct {
			refusal string
			more    in
		}{
			"token":   {"InvalidImportTokenException", in{"ImportToken": []byte("x")}},
			"size":    {"ValidationException: Invalid encrypted key size.", in{"EncryptedKeyMaterial": []byte("x")}},
			"members": {"ValidationException: A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES", in{"ExpirationModel": "KEY_MATERIAL_EXPIRES"}},
			"date":    {"ValidationException: ValidTo must be in the future", until(w.now())},
		} {
			if i.fails(c.refusal, secretOf(1), c.more); w.importType() != want {
				t.Errorf("%s: recorded as %v, want %s", about, w.importType(), want)
			}
		}
		if i.fails("IncorrectKeyMaterialException", secretOf(1)[:5], nil); w.importType() != want {
			t.Errorf("material: recorded as %v, want %s", w.importType(), want)
		}
		if i.imports(secretOf(1), nil); w.importType() != want {
			t.Errorf("recorded as %v, want %s", w.importType(), want)
		}
	}
	if i.fails("IncorrectKeyMaterialException", secretOf(1), in{"ImportType": "NEW_KEY_MATERIAL"}); w.importType() != "NEW_KEY_MATERIAL" {
		t.Errorf("recorded as %v", w.importType())
	}
	do[*kmsapi.ScheduleKeyDeletionResponse](w, "ScheduleKeyDeletion", in{"KeyId": id})
	if i.fails("KMSInvalidStateException: "+keyARN+" is pending deletion.", secretOf(1), nil); w.importType() != "EXISTING_KEY_MATERIAL" {
		t.Errorf("state: recorded as %v", w.importType())
	}
}

// expiries counts the records of material that expired.
func (w *world) expiries() (n int) {
	for _, r := range w.audit.Records() {
		if bytes.Contains(r, []byte(`"eventName":"DeleteExpiredKeyMaterial"`)) {
			n++
		}
	}
	return n
}

// While the log has no room, material whose time is over neither goes nor is used.
func TestExpiryNeedsItsRecord(t *testing.T) {
	w := newWorld(t, "")
	id, keyARN := w.external(in{})
	w.parameters(id, oaep256, "RSA_2048").imports(secretOf(1), until(w.now().Add(time.Hour)))
	blob := w.encrypt(id, []byte("x"), nil)
	w.audit.full.Store(true)
	w.clock.Add(time.Hour.Milliseconds())
	w.refused("KMSInternalException", "Decrypt", in{"CiphertextBlob": blob})
	w.audit.full.Store(false)
	w.refused("KMSInvalidStateException: "+keyARN+" is pending import.", "Decrypt", in{"CiphertextBlob": blob})
}

func TestSeveralMaterials(t *testing.T) {
	w := newWorld(t, t.TempDir())
	id, keyARN := w.external(in{})
	i := w.parameters(id, "RSAES_OAEP_SHA_1", "RSA_3072")
	fresh := in{"ImportType": "NEW_KEY_MATERIAL"}
	none := "KMSInvalidStateException: No available key material pending rotation for the key: " + keyARN + "."
	first := i.imports(secretOf(1), in{"KeyMaterialDescription": "the first"})
	w.refused(none, "RotateKeyOnDemand", in{"KeyId": id})
	one := w.encrypt(id, []byte("one"), nil)
	second := i.imports(secretOf(2), fresh)
	if w.describe(id).CurrentKeyMaterialID.V != first {
		t.Error("pending material is current")
	}
	_, failure := w.try("ImportKeyMaterial", i.request(secretOf(3), fresh))
	if failure == nil || !strings.HasPrefix(failure.Error(), "KMSInvalidStateException: New key material (id: ") ||
		!strings.HasSuffix(failure.Error(), ") cannot be imported into KMS key "+id+", because another key material (id: "+second+") is pending rotation.") {
		t.Errorf("a second pending material: %v", failure)
	}
	i.fails("IncorrectKeyMaterialException", secretOf(2), fresh)

	// Pending material can go, without effect on the key, and another one come.
	do[*kmsapi.DeleteImportedKeyMaterialResponse](w, "DeleteImportedKeyMaterial", in{"KeyId": id, "KeyMaterialId": second})
	i.state("Enabled")
	w.refused(none, "RotateKeyOnDemand", in{"KeyId": id})
	third := i.imports(secretOf(3), in{"ImportType": "NEW_KEY_MATERIAL", "ExpirationModel": "KEY_MATERIAL_EXPIRES", "ValidTo": w.now().Add(20 * day).Unix()})
	all := w.rotations(in{"KeyId": id, "IncludeKeyMaterial": "ALL_KEY_MATERIAL"}).Rotations
	if len(all) != 2 || all[0].KeyMaterialDescription.V != "the first" || all[0].ImportState.V != "IMPORTED" || all[0].ExpirationModel.V != "KEY_MATERIAL_DOES_NOT_EXPIRE" ||
		all[1].KeyMaterialState.V != "PENDING_ROTATION" || !all[1].ValidTo.Set || all[1].RotationType.Set || all[1].KeyMaterialID.V != third {
		t.Errorf("%+v", all)
	}
	if got := w.rotations(in{"KeyId": id}).Rotations; len(got) != 0 {
		t.Errorf("rotations before any: %+v", got)
	}
	if m := w.describe(id); m.ValidTo.Set {
		t.Errorf("pending material shows its expiry: %+v", m)
	}

	do[*kmsapi.RotateKeyOnDemandResponse](w, "RotateKeyOnDemand", in{"KeyId": id})
	if details := w.lastRecordNamed("RotateKey")["serviceEventDetails"].(in); details["keyOrigin"] != "EXTERNAL" || details["previousKeyMaterialId"] != first || details["currentKeyMaterialId"] != third {
		t.Errorf("record %v", details)
	}
	w.refused(none, "RotateKeyOnDemand", in{"KeyId": id})
	two := w.encrypt(id, []byte("two"), nil)
	w.restart()
	i.world = w
	for blob, m := range map[string]string{string(one): first, string(two): third} {
		if out := do[*kmsapi.DecryptResponse](w, "Decrypt", in{"CiphertextBlob": []byte(blob)}); out.KeyMaterialID.V != m {
			t.Errorf("decrypted under %s, want %s", out.KeyMaterialID.V, m)
		}
	}
	if m := w.describe(id); m.CurrentKeyMaterialID.V != third || m.ExpirationModel.V != "KEY_MATERIAL_EXPIRES" || !m.ValidTo.Set {
		t.Errorf("%+v", m)
	}
	got := w.rotations(in{"KeyId": id}).Rotations
	if len(got) != 1 || got[0].RotationType.V != "ON_DEMAND" || got[0].KeyMaterialState.V != "CURRENT" || got[0].KeyMaterialID.V != third {
		t.Errorf("%+v", got)
	}

	// One missing generation is enough to keep the key from being used, and the last one that comes back enables it.
	pending := "KMSInvalidStateException: " + keyARN + " is pending import."
	do[*kmsapi.DeleteImportedKeyMaterialResponse](w, "DeleteImportedKeyMaterial", in{"KeyId": id, "KeyMaterialId": first})
	w.refused(pending, "Decrypt", in{"CiphertextBlob": two})
	do[*kmsapi.DeleteImportedKeyMaterialResponse](w, "DeleteImportedKeyMaterial", in{"KeyId": id})
	if all := w.rotations(in{"KeyId": id, "IncludeKeyMaterial": "ALL_KEY_MATERIAL"}).Rotations; len(all) != 2 || all[0].ImportState.V != "PENDING_IMPORT" ||
		all[0].KeyMaterialDescription.V != "the first" || all[0].ExpirationModel.Set || all[1].ImportState.V != "PENDING_IMPORT" || all[1].KeyMaterialState.V != "CURRENT" {
		t.Errorf("%+v", all)
	}
	i.imports(secretOf(3), nil)
	i.state("PendingImport")
	i.imports(secretOf(1), in{"KeyMaterialDescription": "again"})
	i.state("Enabled")
	w.decrypts(one, []byte("one"), nil)
	w.decrypts(two, []byte("two"), nil)
	if all := w.rotations(in{"KeyId": id, "IncludeKeyMaterial": "ALL_KEY_MATERIAL"}).Rotations; all[0].KeyMaterialDescription.V != "again" || all[1].RotationType.V != "ON_DEMAND" {
		t.Errorf("%+v", all)
	}
	// Imported again into another key, the same octets have another id.
	strange, _ := w.external(in{})
	if m := w.parameters(strange, oaep256, "RSA_2048").imports(secretOf(1), nil); m == first {
		t.Error("two keys have material with the same id")
	}
}

// plant stores a key of a spec that waits for its material, and returns its id and ARN.
func (w *world) plant(s key.Spec, u key.Usage) (id, keyARN string) {
	w.t.Helper()
	k := &key.Key{
		Name: key.Name{Account: alice, Region: region, ID: arn.NewKeyID(false)}, CreatedAt: w.now(), Spec: s, Usage: u,
		Origin: key.OriginExternal, Manager: key.ManagerCustomer, State: key.PendingImport, Policy: policy.DefaultKeyPolicy(alice, "aws"),
	}
	w.must(w.store.Update(w.t.Context(), func(tx *store.Tx) error { return tx.PutKey(k) }))
	return string(k.ID), k.ARN()
}

// Keys that are not symmetric have one material in their lives.
func TestImportOtherKeys(t *testing.T) {
	w := newWorld(t, "")
	for _, c := range []struct {
		spec      key.Spec
		usage     key.Usage
		algorithm string
	}{
		{keyspec.RSA2048, key.SignVerify, wrap256},
		{keyspec.P521, key.SignVerify, wrap256},
		{keyspec.P256, key.KeyAgreement, oaep256},
		{keyspec.Ed25519, key.SignVerify, oaep256},
		{keyspec.MLDSA44, key.SignVerify, "RSA_AES_KEY_WRAP_SHA_1"},
		{keyspec.MLKEM768, key.Encapsulation, oaep256},
		{keyspec.HMACSHA512, key.MACUsage, "RSAES_OAEP_SHA_1"},
	} {
		id, keyARN := w.plant(c.spec, c.usage)
		i := w.parameters(id, c.algorithm, "RSA_2048")
		one, err := keyspec.Generate(c.spec)
		w.must(err)
		other, err := keyspec.Generate(c.spec)
		w.must(err)
		const single = "ValidationException: ImportType, KeyMaterialId and KeyMaterialDescription can only be specified for symmetric encryption KMS keys."
		for _, more := range []in{{"ImportType": "NEW_KEY_MATERIAL"}, {"KeyMaterialDescription": "x"}, {"KeyMaterialId": strings.Repeat("0", 64)}} {
			i.fails(single, one.Octets().Expose(), more)
		}
		i.fails("IncorrectKeyMaterialException", secretOf(1)[:20], nil)
		i.imports(one.Octets().Expose(), nil)
		i.state("Enabled")
		if kind := w.importType(); kind != "NEW_KEY_MATERIAL" {
			t.Errorf("recorded as %v", kind)
		}
		i.fails("IncorrectKeyMaterialException", other.Octets().Expose(), nil)
		i.imports(one.Octets().Expose(), until(w.now().Add(time.Hour)))
		do[*kmsapi.DeleteImportedKeyMaterialResponse](w, "DeleteImportedKeyMaterial", in{"KeyId": id})
		i.state("PendingImport")
		i.fails("IncorrectKeyMaterialException", other.Octets().Expose(), nil)
		i.imports(one.Octets().Expose(), until(w.now().Add(time.Hour)))
		w.refused("UnsupportedOperationException", "RotateKeyOnDemand", in{"KeyId": id})
		w.refused("UnsupportedOperationException", "ListKeyRotations", in{"KeyId": id})
		w.refused("UnsupportedOperationException: "+keyARN+" origin is EXTERNAL which is not valid for this operation.", "EnableKeyRotation", in{"KeyId": id})
		w.clock.Add(time.Hour.Milliseconds())
		i.state("PendingImport")
	}
}

func TestWrappingsThatSuit(t *testing.T) {
	w := newWorld(t, "")
	for _, c := range []struct {
		spec               key.Spec
		usage              key.Usage
		algorithm, wrapper string
		suits              bool
	}{
		{key.SymmetricDefault, key.EncryptDecrypt, wrap256, "RSA_2048", false},
		{key.SymmetricDefault, key.EncryptDecrypt, "SM2PKE", "SM2", true},
		{key.SymmetricDefault, key.EncryptDecrypt, "SM2PKE", "RSA_2048", false},
		{key.SymmetricDefault, key.EncryptDecrypt, oaep256, "SM2", false},
		{keyspec.HMACSHA256, key.MACUsage, wrap256, "RSA_2048", false},
		{keyspec.RSA3072, key.SignVerify, oaep256, "RSA_2048", false},
		{keyspec.RSA3072, key.SignVerify, "SM2PKE", "SM2", false},
		{keyspec.P521, key.SignVerify, oaep256, "RSA_2048", false},
		{keyspec.P521, key.SignVerify, "RSAES_OAEP_SHA_1", "RSA_3072", true},
		{keyspec.P256K1, key.SignVerify, "RSAES_OAEP_SHA_1", "RSA_2048", true},
		{keyspec.SM2, key.SignVerify, "SM2PKE", "SM2", true},
	} {
		id, _ := w.plant(c.spec, c.usage)
		request := in{"KeyId": id, "WrappingAlgorithm": c.algorithm, "WrappingKeySpec": c.wrapper}
		if c.suits {
			do[*kmsapi.GetParametersForImportResponse](w, "GetParametersForImport", request)
			continue
		}
		w.refused("UnsupportedOperationException: Key material of key spec "+string(c.spec)+" cannot be imported with wrapping algorithm "+
			c.algorithm+" and wrapping key spec "+c.wrapper+".", "GetParametersForImport", request)
	}
}

func TestImportsAtTheSameTime(t *testing.T) {
	w := newWorld(t, "")
	id, keyARN := w.external(in{})
	i := w.parameters(id, oaep256, "RSA_2048")
	request := i.request(secretOf(1), nil)
	var wait sync.WaitGroup
	for n := range 8 {
		wait.Go(func() {
			if n%2 == 0 {
				_, _ = w.try("DeleteImportedKeyMaterial", in{"KeyId": id})
			} else {
				_, _ = w.try("ImportKeyMaterial", request)
			}
		})
	}
	wait.Wait()
	i.imports(secretOf(1), nil)
	blob := w.encrypt(id, []byte("x"), nil)
	do[*kmsapi.ScheduleKeyDeletionResponse](w, "ScheduleKeyDeletion", in{"KeyId": id})
	w.refused("KMSInvalidStateException: "+keyARN+" is pending deletion.", "ImportKeyMaterial", request)
	do[*kmsapi.CancelKeyDeletionResponse](w, "CancelKeyDeletion", in{"KeyId": id})
	w.done("EnableKey", in{"KeyId": id})
	w.decrypts(blob, []byte("x"), nil)
}
