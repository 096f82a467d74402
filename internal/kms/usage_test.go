package kms_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// lastUse asks for the last use of a key.
func (w *world) lastUse(id string) *kmsapi.GetKeyLastUsageResponse {
	w.t.Helper()
	return do[*kmsapi.GetKeyLastUsageResponse](w, "GetKeyLastUsage", map[string]any{"KeyId": id})
}

// lastUsed checks that the newest call was the last use of a key.
func (w *world) lastUsed(operation, id string) {
	w.t.Helper()
	record := w.lastRecord()
	got := w.lastUse(id)
	use := got.KeyLastUsage
	if got.KeyID.V != id || use == nil || use.Operation.V != operation || !use.Timestamp.V.Equal(w.now()) ||
		use.CloudTrailEventID.V != record["eventID"] || use.KmsRequestID.V != record["requestID"] {
		w.t.Errorf("last use %+v of %s, want %s of record %v", use, got.KeyID.V, operation, record)
	}
}

func TestLastUsage(t *testing.T) {
	type in = map[string]any
	w := newWorld(t, t.TempDir())
	w.clock.Store(time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC).UnixMilli())
	id, keyARN := w.newKey()
	none := w.lastUse(keyARN)
	if none.KeyLastUsage == nil || *none.KeyLastUsage != (kmsapi.KeyLastUsageData{}) || !none.KeyCreationDate.V.Equal(w.now()) ||
		!none.TrackingStartDate.V.Equal(time.Date(2026, 4, 23, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("before its first use: %+v", none)
	}
	w.clock.Add((60 * 24 * time.Hour).Milliseconds())
	other, _ := w.newKey()
	if got := w.lastUse(other); !got.TrackingStartDate.V.Equal(w.now()) {
		t.Errorf("a newer key is tracked since %v", got.TrackingStartDate.V)
	}

	blob := w.encrypt(id, []byte("x"), nil)
	w.lastUsed("Encrypt", id)
	w.clock.Add(1000)
	w.decrypts(blob, []byte("x"), nil)
	w.lastUsed("Decrypt", id)
	w.clock.Add(1000)
	do[wire.Output](w, "ReEncrypt", in{"CiphertextBlob": blob, "DestinationKeyId": other})
	record := w.lastRecord()
	w.lastUsed("ReEncrypt", id)
	if use := w.lastUse(other).KeyLastUsage; use.Operation.V != "ReEncrypt" || use.CloudTrailEventID.V != record["eventID"] {
		t.Errorf("the destination of ReEncrypt: %+v", use)
	}
	for _, spec := range []struct {
		in         in
		operations map[string]in
	}{
		{in{}, map[string]in{
			"GenerateDataKey": {"KeySpec": "AES_256"}, "GenerateDataKeyWithoutPlaintext": {"KeySpec": "AES_256"},
			"GenerateDataKeyPair": {"KeyPairSpec": "ECC_NIST_P256"}, "GenerateDataKeyPairWithoutPlaintext": {"KeyPairSpec": "ECC_NIST_P256"},
		}},
		{in{"KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC"}, map[string]in{"GenerateMac": {"MacAlgorithm": "HMAC_SHA_256", "Message": []byte("m")}}},
		{in{"KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY"}, map[string]in{"Sign": {"SigningAlgorithm": "ECDSA_SHA_256", "Message": []byte("m")}}},
		{in{"KeySpec": "ML_KEM_768", "KeyUsage": "ENCAPSULATE_DECAPSULATE"}, map[string]in{"Encapsulate": {"EncapsulationAlgorithm": "ML_KEM"}}},
	} {
		made, failure := w.try("CreateKey", spec.in)
		if failure != nil {
			t.Fatal(failure)
		}
		k := made.(*kmsapi.CreateKeyResponse).KeyMetadata.KeyID.V
		for operation, request := range spec.operations {
			w.clock.Add(1000)
			request["KeyId"] = k
			do[wire.Output](w, operation, request)
			w.lastUsed(operation, k)
		}
	}

	// What fails, what is only tried and what is no use of the material leave it as it is.
	before := *w.lastUse(id).KeyLastUsage
	w.clock.Add(1000)
	for operation, request := range map[string]in{
		"Encrypt":         {"KeyId": id, "Plaintext": []byte("x"), "DryRun": true},
		"Decrypt":         {"KeyId": other, "CiphertextBlob": blob},
		"GenerateDataKey": {"KeyId": id},
		"DescribeKey":     {"KeyId": id},
		"GenerateMac":     {"KeyId": id, "MacAlgorithm": "HMAC_SHA_256", "Message": []byte("m")},
	} {
		_, _ = w.try(operation, request) // which fail, but for the description
	}
	w.audit.full.Store(true)
	if _, failure := w.try("Encrypt", in{"KeyId": id, "Plaintext": []byte("x")}); failure == nil {
		t.Error("answered without a record")
	}
	w.audit.full.Store(false)
	if got := *w.lastUse(id).KeyLastUsage; got != before {
		t.Errorf("last use %+v, want %+v", got, before)
	}
	w.clock.Add(-10_000) // a clock that was put back
	w.encrypt(id, []byte("x"), nil)
	if got := *w.lastUse(id).KeyLastUsage; got != before {
		t.Errorf("an earlier use comes after %+v: %+v", before, got)
	}
	w.clock.Add(10_000)

	// It is written down, and found after a restart; what was not, is forgotten with the process.
	w.must(w.service.FlushUses(context.Background()))
	w.clock.Add(1000)
	w.encrypt(other, []byte("x"), nil)
	w.restart()
	if got := *w.lastUse(id).KeyLastUsage; got != before {
		t.Errorf("after a restart %+v, want %+v", got, before)
	}
	if got := w.lastUse(other).KeyLastUsage; got.Operation.V != "ReEncrypt" {
		t.Errorf("after a crash %+v", got)
	}
	// The end of the schedule writes it down as well.
	w.encrypt(other, []byte("x"), nil)
	ended, end := context.WithCancel(context.Background())
	end()
	w.service.RunSchedule(ended, time.Hour, nil)
	w.restart()
	if got := w.lastUse(other).KeyLastUsage; got.Operation.V != "Encrypt" {
		t.Errorf("after an orderly end %+v", got)
	}

	// A use just before the deletion neither keeps the writing of others nor comes back.
	do[wire.Output](w, "ScheduleKeyDeletion", in{"KeyId": id, "PendingWindowInDays": 7})
	w.pass(8 * 24 * time.Hour)
	w.encrypt(other, []byte("x"), nil)
	w.must(w.service.FlushUses(context.Background()))
	if _, failure := w.try("GetKeyLastUsage", in{"KeyId": id}); failure == nil || failure.Code != kmsapi.CodeNotFoundException {
		t.Errorf("a deleted key: %v", failure)
	}
}

// The owner of a key finds the use by another account under the id of the record that he got.
func TestLastUsageByAnotherAccount(t *testing.T) {
	w := newWorld(t, "")
	id, keyARN := w.newKey()
	w.done("PutKeyPolicy", map[string]any{"KeyId": id, "Policy": strings.Replace(
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":["111122223333","BOB"]},"Action":"kms:*","Resource":"*"}]}`, "BOB", string(bob), 1)})
	w.as(bob, region).encrypt(keyARN, []byte("x"), nil)
	record := w.lastRecord() // the owner's copy comes last
	if got := w.lastUse(id).KeyLastUsage; record["recipientAccountId"] != string(alice) || got.CloudTrailEventID.V != record["eventID"] {
		t.Errorf("last use %+v, record %v", got, record)
	}
	w.as(bob, region).refused("AccessDeniedException: User: arn:aws:iam::444455556666:root is not authorized to perform: kms:GetKeyLastUsage on resource: "+keyARN, "GetKeyLastUsage", map[string]any{"KeyId": keyARN})
}

// Policies can keep keys from being disabled or deleted that are in use.
func TestTrailingDays(t *testing.T) {
	type in = map[string]any
	w := newWorld(t, "")
	w.clock.Store(time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC).UnixMilli())
	day := (24 * time.Hour).Milliseconds()
	const idle = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"},
		{"Effect":"Deny","Principal":"*","Action":["kms:DisableKey","kms:ScheduleKeyDeletion"],"Resource":"*","Condition":{"NumericLessThan":{"kms:TrailingDaysWithoutKeyUsage":"30"}}}]}`
	id, _ := w.newKey()
	w.done("PutKeyPolicy", in{"KeyId": id, "Policy": idle})
	denied := func(when string) {
		t.Helper()
		for _, operation := range []string{"DisableKey", "ScheduleKeyDeletion"} {
			if _, failure := w.try(operation, in{"KeyId": id}); failure == nil || failure.Code != wire.CodeAccessDenied {
				t.Errorf("%s %s: %v", operation, when, failure)
			}
		}
	}
	denied("of a new key")
	w.clock.Add(31 * day)
	w.encrypt(id, []byte("x"), nil)
	denied("just after a use that is not written down yet")
	w.must(w.service.FlushUses(context.Background()))
	w.clock.Add(30*day - 1)
	denied("within thirty days")
	w.clock.Add(1)
	w.done("DisableKey", in{"KeyId": id})
	w.done("EnableKey", in{"KeyId": id})
	do[wire.Output](w, "ScheduleKeyDeletion", in{"KeyId": id})

	never, _ := w.newKey()
	w.done("PutKeyPolicy", in{"KeyId": never, "Policy": idle})
	w.clock.Add(30 * day)
	w.done("DisableKey", in{"KeyId": never})
}

// Uses of more keys than may wait in memory are written down without waiting for the minute.
func TestManyUsesAreWritten(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.cached = 1
	w.restart()
	ctx, end := context.WithCancel(context.Background())
	var schedule sync.WaitGroup
	schedule.Go(func() { w.service.RunSchedule(ctx, time.Hour, nil) })
	defer schedule.Wait()
	defer end()
	id, _ := w.newKey()
	w.encrypt(id, []byte("x"), nil)
	name := key.Name{Account: w.account, Region: w.region, ID: arn.KeyID(id)}
	for last := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := w.store.GetKeyUse(ctx, name); err == nil {
			return
		} else if time.Now().After(last) {
			t.Fatal(err)
		}
	}
}

// However fast new keys are used, no more uses wait in memory than there is room for: who needs another key waits for those to be written.
func TestUsesWaitForRoom(t *testing.T) {
	const clients, each = 8, 100
	w := newWorld(t, t.TempDir())
	w.cached = 1
	w.restart()
	w.service.WaitForRoom(time.Hour)
	ids := make([]string, clients*each)
	for i := range ids {
		ids[i], _ = w.newKey()
	}
	ctx, end := context.WithCancel(context.Background())
	var schedule, using sync.WaitGroup
	schedule.Go(func() { w.service.RunSchedule(ctx, time.Hour, nil) })
	defer schedule.Wait()
	defer end()
	var waiting atomic.Int64
	for i := range clients {
		using.Go(func() {
			for _, id := range ids[i*each : (i+1)*each] {
				w.encrypt(id, []byte("x"), nil)
				waiting.Store(max(waiting.Load(), w.service.WaitingUses()))
			}
		})
	}
	using.Wait()
	if n, most := waiting.Load(), w.service.MostWaitingUses()+clients; n > most {
		t.Errorf("%d uses waited in memory, where %d may", n, most)
	}
}
