package kms_test

import (
	"encoding/json"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/keyspec"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// Opened keys that take much memory leave the cache the sooner: it is bounded by what they take and not by their number.
func TestOpenedKeysAreBounded(t *testing.T) {
	const cached, keys = 100, 30
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

// Memory is bounded whatever is in the policies of keys: it is not said to be less than it is.
func TestLargePoliciesAreBounded(t *testing.T) {
	const few, many, large = 3, 10, 30_000
	for what, filled := range map[string]string{
		"long strings":    `"Sid":"` + strings.Repeat("a", large) + `"`,
		"many actions":    `"Action":["kms:*"` + strings.Repeat(`,"kms:*"`, large/8) + `]`,
		"many principals": `"Principal":{"AWS":["111122223333"` + strings.Repeat(`,"111122223333"`, large/15) + `]}`,
		"many values":     `"Condition":{"StringLike":{"aws:PrincipalArn":["a*"` + strings.Repeat(`,"a*"`, large/5) + `]}}`,
		"many numbers":    `"Condition":{"NumericEquals":{"aws:EpochTime":[1` + strings.Repeat(`,1`, large/2) + `]}}`,
	} {
		w := newWorld(t, "")
		w.cached = 1000
		w.open()
		statement := map[string]any{"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}
		if err := jsonInto([]byte("{"+filled+"}"), &statement); err != nil {
			t.Fatal(err)
		}
		made := func(n int) (octets, heap int) {
			before := inUse()
			for i := range n {
				text, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Id": strconv.Itoa(i), "Statement": []any{statement}})
				w.must(err)
				if _, failure := w.try("CreateKey", in{"Policy": string(text), "BypassPolicyLockoutSafetyCheck": true}); failure != nil {
					t.Fatalf("%s: %v", what, failure)
				}
			}
			_, octets = w.service.CachedKeys()
			return octets, inUse() - before
		}
		// Records have the policies, too.
		if said, taken := made(few); said < (taken-2*few*large)*3/4 || said > 4*taken {
			t.Errorf("%s: %d octets are said to be in memory, and %d are", what, said, taken)
		}
		w.cached = 10
		w.open()
		made(many)
		if n, _ := w.service.CachedKeys(); n > 4 {
			t.Errorf("%s: %d keys stay in memory", what, n)
		}
	}
}

// inUse returns how much of the heap is in use.
func inUse() int {
	for range 3 { // pools keep what they have for one collection
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// BenchmarkCachedKey says how many octets of memory a symmetric key takes that has been used, and what is reckoned for it.
func BenchmarkCachedKey(b *testing.B) {
	const keys = 5000
	w := newWorld(b, "")
	w.cached = 2 * keys
	w.open()
	ids := make([]string, keys)
	for i := range ids {
		ids[i], _ = w.newKey()
	}
	var taken, said, n int
	for b.Loop() {
		w.must(w.service.FlushUses(b.Context()))
		w.service.Heard(nil, true) // it forgets them
		before := inUse()
		for _, id := range ids {
			w.encrypt(id, []byte("x"), nil)
		}
		w.must(w.service.FlushUses(b.Context()))
		taken = inUse() - before
		n, said = w.service.CachedKeys()
	}
	if n != keys {
		b.Fatalf("%d keys are in memory", n)
	}
	b.ReportMetric(float64(taken)/keys, "B/key")
	b.ReportMetric(float64(said)/keys, "reckoned-B/key")
}
