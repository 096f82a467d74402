package kms_test

import (
	"testing"

	"github.com/keywright/keywright/internal/keyspec"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// Opened keys that take much memory leave the cache the sooner: it is bounded by what they take and not by their number.
func TestOpenedKeysAreBounded(t *testing.T) {
	const cached, keys = 200, 30
	w := newWorld(t, t.TempDir())
	w.cached = cached
	w.restart()
	for range keys {
		id, _ := w.newKey()
		w.encrypt(id, []byte("x"), nil)
	}
	n, symmetric := w.service.CachedKeys()
	if n != keys {
		t.Errorf("%d of %d symmetric keys are in memory", n, keys)
	}
	var most int
	for range keys {
		id := do[*kmsapi.CreateKeyResponse](w, "CreateKey", in{"KeySpec": "ML_DSA_44", "KeyUsage": "SIGN_VERIFY"}).KeyMetadata.KeyID.V
		message := in{"KeyId": id, "Message": []byte("x"), "SigningAlgorithm": "ML_DSA_SHAKE_256"}
		message["Signature"] = do[*kmsapi.SignResponse](w, "Sign", message).Signature
		do[wire.Output](w, "Verify", message)
		_, octets := w.service.CachedKeys()
		most = max(most, octets)
	}
	one := keyspec.PrivateMemory(keyspec.MLDSA44) + keyspec.PublicMemory(keyspec.MLDSA44)
	if bound := 2*(cached*symmetric/keys) + 2*one; most > bound || bound > keys*one/2 {
		t.Errorf("%d octets in memory, of %d that all keys take and %d that are meant", most, keys*one, bound)
	}
	if most < 2*one {
		t.Errorf("%d octets in memory: opened keys are not counted", most)
	}
}
