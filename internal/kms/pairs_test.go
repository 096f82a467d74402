package kms_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// Making a key pair takes up to seconds. What is taken from the key or the caller in that time is taken from the call, too.
func TestChangesWhileAPairIsMade(t *testing.T) {
	for _, operation := range []string{"GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext"} {
		for what, c := range map[string]struct {
			take func(w *world, id, grant string)
			want string // ARN stands for the key's
		}{
			"DisableKey": {
				func(w *world, id, _ string) { w.done("DisableKey", in{"KeyId": id}) }, "DisabledException: ARN is disabled.",
			},
			"ScheduleKeyDeletion": {
				func(w *world, id, _ string) { do[wire.Output](w, "ScheduleKeyDeletion", in{"KeyId": id}) },
				"KMSInvalidStateException: ARN is pending deletion.",
			},
			"DeleteImportedKeyMaterial": {
				func(w *world, id, _ string) { do[wire.Output](w, "DeleteImportedKeyMaterial", in{"KeyId": id}) },
				"KMSInvalidStateException: ARN is pending import.",
			},
			"expiry": {
				func(w *world, _, _ string) { w.clock.Add(time.Hour.Milliseconds()) }, "KMSInvalidStateException: ARN is pending import.",
			},
			"RevokeGrant": {
				func(w *world, id, grant string) { w.done("RevokeGrant", in{"KeyId": id, "GrantId": grant}) }, "AccessDeniedException",
			},
			"PutKeyPolicy": {
				func(w *world, id, _ string) {
					w.done("PutKeyPolicy", in{"KeyId": id, "Policy": without(w.user("eve").caller.ARN)})
				},
				"AccessDeniedException",
			},
		} {
			w := newWorld(t, "")
			eve := w.user("eve")
			id, keyARN := w.external(in{})
			w.parameters(id, oaep256, "RSA_2048").imports(secretOf(1), until(w.now().Add(time.Hour)))
			grant, token := w.grant(id, eve.caller.ARN, []string{operation}, nil)
			request := in{"KeyId": keyARN, "KeyPairSpec": "ECC_NIST_P256", "GrantTokens": []string{token}}
			if _, failure := eve.try(operation, request); failure != nil {
				t.Fatal(failure)
			}
			w.making.meanwhile(func() { c.take(w, id, grant) })
			_, failure := eve.try(operation, request)
			if failure == nil || failure.Error() != strings.ReplaceAll(c.want, "ARN", keyARN) && string(failure.Code) != c.want {
				t.Errorf("%s during %s: %v", what, operation, failure)
			}
		}
	}
}

// The private key comes encrypted under the material that is current when it is ready.
func TestRotationWhileAPairIsMade(t *testing.T) {
	w := newWorld(t, "")
	id, _ := w.newKey()
	w.making.meanwhile(func() { do[wire.Output](w, "RotateKeyOnDemand", in{"KeyId": id}) })
	out := do[*kmsapi.GenerateDataKeyPairResponse](w, "GenerateDataKeyPair", in{"KeyId": id, "KeyPairSpec": "ECC_NIST_P256"})
	if k := w.stored(id); len(k.Material) != 2 || out.KeyMaterialID.V != k.Current().ID {
		t.Errorf("encrypted under %s of %d generations", out.KeyMaterialID.V, len(k.Material))
	}
	w.decrypts(out.PrivateKeyCiphertextBlob, out.PrivateKeyPlaintext.Expose(), nil)
}

// Who asks for more than can be made at a time is told to ask less.
func TestThrottling(t *testing.T) {
	w := newWorld(t, "")
	id, _ := w.newKey()
	w.making.busy.Store(true)
	const throttled = "ThrottlingException: You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls."
	w.refused(throttled, "CreateKey", in{"KeySpec": "RSA_4096", "KeyUsage": "SIGN_VERIFY"})
	if r := w.lastRecord(); r["errorCode"] != "ThrottlingException" {
		t.Errorf("record %v", r)
	}
	w.refused(throttled, "GenerateDataKeyPair", in{"KeyId": id, "KeyPairSpec": "RSA_4096"})
	w.making.busy.Store(false)
	do[wire.Output](w, "CreateKey", in{"KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY"})
}
