package kms_test

import (
	"context"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/quota"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

const throttled = "ThrottlingException: You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls."

// rated is a world in which every rate is high but those of the given buckets, which are what is said.
func rated(t *testing.T, values map[quota.ID]float64) *world {
	t.Helper()
	w := newWorld(t, "")
	for _, q := range quota.All() {
		if _, given := values[q.ID]; q.Rate && !given {
			values[q.ID] = 100_000
		}
	}
	w.quotas = quotas(values)
	w.open()
	return w
}

// The first call is served, the second in the same second is not, and the second after is again.
func TestRates(t *testing.T) {
	w := rated(t, map[quota.ID]float64{quota.Symmetric: 1})
	id, _ := w.newKey()
	for range 3 {
		do[wire.Output](w, "Encrypt", in{"KeyId": id, "Plaintext": []byte("message")})
		w.refused(throttled, "GenerateRandom", in{"NumberOfBytes": 4})
		w.clock.Add(1000)
	}
}

// made makes a key and lets a second pass, so that its making counts for nothing in what follows.
func (w *world) made(input in) string {
	w.t.Helper()
	id := do[*kmsapi.CreateKeyResponse](w, "CreateKey", input).KeyMetadata.KeyID.V
	w.clock.Add(2000)
	return id
}

// The caller's account is charged, in the Region of the call, and whoever shares its rate shares it for all keys.
func TestWhoIsCharged(t *testing.T) {
	w := rated(t, map[quota.ID]float64{quota.Symmetric: 2})
	one, _ := w.newKey()
	two, _ := w.newKey()
	w.done("PutKeyPolicy", in{"KeyId": one, "Policy": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":["111122223333","444455556666"]},"Action":"kms:*","Resource":"*"}]}`})
	encrypt := func(id string) in { return in{"KeyId": id, "Plaintext": []byte("x")} }
	do[wire.Output](w, "Encrypt", encrypt(one))
	do[wire.Output](w, "GenerateRandom", in{"NumberOfBytes": 1})
	w.refused(throttled, "Encrypt", encrypt(two))
	other := w.as(bob, region)
	foreign := encrypt(arn.KeyID(one).ARN(region, alice))
	do[wire.Output](other, "Encrypt", foreign)
	do[wire.Output](other, "Encrypt", foreign)
	other.refused(throttled, "Encrypt", foreign)
	do[wire.Output](w.as(alice, "eu-west-1"), "GenerateRandom", in{"NumberOfBytes": 1})
}

// What is refused for another reason is not counted, a dry run is, and so is what custody refuses.
func TestWhatCounts(t *testing.T) {
	w := rated(t, map[quota.ID]float64{quota.Symmetric: 1})
	id, _ := w.newKey()
	eve := w.user("eve")
	encrypt := in{"KeyId": id, "Plaintext": []byte("x")}
	blob := do[*kmsapi.EncryptResponse](w, "Encrypt", encrypt).CiphertextBlob
	w.clock.Add(1000)
	for range 3 {
		if _, failure := eve.try("Encrypt", encrypt); failure == nil || failure.Code != wire.CodeAccessDenied {
			t.Fatalf("%v", failure)
		}
		if _, failure := w.try("GenerateMac", in{"KeyId": id, "Message": []byte("x"), "MacAlgorithm": "HMAC_SHA_256"}); failure == nil || failure.Code != kmsapi.CodeInvalidKeyUsageException {
			t.Fatalf("%v", failure)
		}
	}
	dry := in{"KeyId": id, "Plaintext": []byte("x"), "DryRun": true}
	w.refused("DryRunOperationException: The request would have succeeded, but the DryRun option is set.", "Encrypt", dry)
	w.refused(throttled, "Encrypt", dry)
	w.clock.Add(1000)
	blob[len(blob)-1] ^= 1
	w.refused("InvalidCiphertextException", "Decrypt", in{"CiphertextBlob": blob})
	w.refused(throttled, "Decrypt", in{"CiphertextBlob": blob})
}

func TestRatesOfReEncrypt(t *testing.T) {
	w := rated(t, map[quota.ID]float64{quota.Symmetric: 1, quota.RSA: 1})
	id, _ := w.newKey()
	other := w.made(in{"KeySpec": "RSA_2048", "KeyUsage": "ENCRYPT_DECRYPT"})
	blob := do[*kmsapi.EncryptResponse](w, "Encrypt", in{"KeyId": id, "Plaintext": []byte("x")}).CiphertextBlob
	w.clock.Add(1000)
	do[wire.Output](w, "ReEncrypt", in{"CiphertextBlob": blob, "DestinationKeyId": id})
	w.refused(throttled, "ReEncrypt", in{"CiphertextBlob": blob, "DestinationKeyId": id})
	w.clock.Add(1000)
	do[wire.Output](w, "ReEncrypt", in{"CiphertextBlob": blob, "DestinationKeyId": other, "DestinationEncryptionAlgorithm": "RSAES_OAEP_SHA_256"})
	w.refused(throttled, "GenerateRandom", in{"NumberOfBytes": 1})
	w.refused(throttled, "Encrypt", in{"KeyId": other, "Plaintext": []byte("x"), "EncryptionAlgorithm": "RSAES_OAEP_SHA_256"})
}

// ReplicateKey is one of its own in the primary Region and two of CreateKey in the other; UpdatePrimaryRegion one in each.
func TestRatesOfRegions(t *testing.T) {
	w := rated(t, map[quota.ID]float64{quota.Own("kms", "CreateKey"): 2, quota.Own("kms", "UpdatePrimaryRegion"): 1})
	id := do[*kmsapi.CreateKeyResponse](w, "CreateKey", in{"MultiRegion": true}).KeyMetadata.KeyID.V
	do[wire.Output](w, "ReplicateKey", in{"KeyId": id, "ReplicaRegion": string(tokyo)})
	w.in(tokyo).refused(throttled, "CreateKey", in{})
	do[wire.Output](w.in(ireland), "CreateKey", in{})
	w.refused(throttled, "ReplicateKey", in{"KeyId": id, "ReplicaRegion": string(ireland)})
	w.pass(time.Minute)
	w.done("UpdatePrimaryRegion", in{"KeyId": id, "PrimaryRegion": string(tokyo)})
	w.pass(500 * time.Millisecond)
	w.in(tokyo).refused(throttled, "UpdatePrimaryRegion", in{"KeyId": id, "PrimaryRegion": string(region)})
}

// A call that begins again because an alias moved is counted once.
func TestRatesOfAliases(t *testing.T) {
	w := rated(t, map[quota.ID]float64{quota.Own("kms", "UpdateAlias"): 1, quota.Own("kms", "CreateAlias"): 1, quota.Own("kms", "DeleteAlias"): 1})
	id, _ := w.newKey()
	other, _ := w.newKey()
	w.done("CreateAlias", in{"AliasName": "alias/a", "TargetKeyId": id})
	w.refused(throttled, "CreateAlias", in{"AliasName": "alias/b", "TargetKeyId": id})
	w.done("UpdateAlias", in{"AliasName": "alias/a", "TargetKeyId": other})
	w.refused(throttled, "UpdateAlias", in{"AliasName": "alias/a", "TargetKeyId": id})
	w.done("DeleteAlias", in{"AliasName": "alias/a"})
	w.clock.Add(1000)
	w.done("CreateAlias", in{"AliasName": "alias/a", "TargetKeyId": id})
}

// A call that was held up on its way is counted when it goes on: there is nothing to be had by being slow.
func TestRateOfWhoWaited(t *testing.T) {
	w := rated(t, map[quota.ID]float64{quota.Symmetric: 1})
	op := w.operations["GenerateRandom"]
	for range 3 {
		_, failure := w.guard.Answer(guard.Meta{RequestID: "r", Time: w.now()}, func(c *guard.Call) (wire.Output, error) {
			c.Service, c.Name, c.Operation = op.Service, op.Name, &op
			c.Identify(w.who(), w.region)
			w.clock.Add(20_000)
			do[wire.Output](w, "GenerateRandom", in{"NumberOfBytes": 1})
			return op.Do(context.Background(), c, &kmsapi.GenerateRandomRequest{NumberOfBytes: wire.Some[int32](1)})
		})
		if failure == nil || failure.Error() != throttled {
			t.Errorf("%v", failure)
		}
	}
}
