package kms_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/quota"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// counted names what is counted to a rate in a Region.
type counted struct {
	region arn.Region
	bucket quota.ID
}

// counting returns what was counted lately: how much of it in a second.
func (w *world) counting() map[counted]float64 {
	found := map[counted]float64{}
	w.book.Usage(func(_, region, bucket string, used, _ float64) {
		found[counted{arn.Region(region), quota.Find(bucket).ID}] = used
	})
	return found
}

// allow sets a rate in the Region of the world.
func (w *world) allow(bucket quota.ID, value float64) {
	w.book.Apply(quota.Applied{Place: quota.Place{Account: w.account, Region: w.region}, ID: bucket, Value: value})
}

// ratedKind is a kind of key for a rate that several operations share, with the algorithms of its operations.
type ratedKind struct{ spec, encrypts, signs string }

var ratedKinds = map[quota.ID]ratedKind{
	quota.RSA:   {"RSA_2048", "RSAES_OAEP_SHA_256", "RSASSA_PSS_SHA_256"},
	quota.ECC:   {"SM2", "SM2PKE", "SM2DSA"},
	quota.MLDSA: {spec: "ML_DSA_44", signs: "ML_DSA_SHAKE_256"},
}

// ratedKeys makes the keys of those kinds, each once.
type ratedKeys struct {
	*world
	made map[[2]string]string
}

func (k ratedKeys) of(spec, usage string) string {
	kind := [2]string{spec, usage}
	if k.made[kind] == "" {
		k.made[kind] = do[*kmsapi.CreateKeyResponse](k.world, "CreateKey", in{"KeySpec": spec, "KeyUsage": usage}).KeyMetadata.KeyID.V
	}
	return k.made[kind]
}

// request prepares an input of an operation that counts to a rate.
func (k ratedKeys) request(bucket quota.ID, operation string) in {
	kind := ratedKinds[bucket]
	switch {
	case strings.HasPrefix(operation, "GenerateDataKeyPair"):
		spec := strings.TrimSuffix(strings.TrimPrefix(quota.Of(bucket).Name, "GenerateDataKeyPair ("), ") request rate")
		return in{"KeyId": k.of("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT"), "KeyPairSpec": spec, "DryRun": strings.HasPrefix(spec, "RSA_")} // which take long to make
	case kind.spec == "" || operation == "DeriveSharedSecret":
		if operation == "DeleteImportedKeyMaterial" {
			_, request := conditionRequest(k.world, "ImportKeyMaterial", "")
			do[*kmsapi.ImportKeyMaterialResponse](k.world, "ImportKeyMaterial", request)
			return in{"KeyId": request["KeyId"]}
		}
		_, request := conditionRequest(k.world, strings.Replace(operation, "ReEncrypt", "ReEncryptTo", 1), "")
		return request
	case operation == "Sign", operation == "Verify":
		request := in{"KeyId": k.of(kind.spec, "SIGN_VERIFY"), "Message": []byte("x"), "SigningAlgorithm": kind.signs}
		if operation == "Verify" {
			request["Signature"] = do[*kmsapi.SignResponse](k.world, "Sign", request).Signature
		}
		return request
	}
	id := k.of(kind.spec, "ENCRYPT_DECRYPT")
	request := in{"KeyId": id, "Plaintext": []byte("x"), "EncryptionAlgorithm": kind.encrypts}
	if operation == "Encrypt" {
		return request
	}
	blob := do[*kmsapi.EncryptResponse](k.world, "Encrypt", request).CiphertextBlob
	if operation == "Decrypt" {
		return in{"KeyId": id, "CiphertextBlob": blob, "EncryptionAlgorithm": kind.encrypts}
	}
	return in{
		"SourceKeyId": id, "SourceEncryptionAlgorithm": kind.encrypts, "CiphertextBlob": blob, "DestinationKeyId": id, "DestinationEncryptionAlgorithm": kind.encrypts,
	}
}

// elsewhere is what operations count to in the other Region that they change.
func elsewhere(operation string) map[counted]float64 {
	switch operation {
	case "ReplicateKey":
		return map[counted]float64{{ireland, quota.Own("kms", "CreateKey")}: 2}
	case "UpdatePrimaryRegion":
		return map[counted]float64{{ireland, quota.Own("kms", operation)}: 1}
	}
	return nil
}

// Every operation counts once to every rate that the table of quotas names it for, by the kind of its key, and to nothing else; and
// it does nothing where the rate has no room. What it has counted to is asked of the book, so that no handler can forget to count.
func TestEveryRowCountsOnce(t *testing.T) {
	w := newWorld(t, "")
	w.quotas = quota.Settings{}
	for i := range quota.All() {
		q, most := &quota.All()[i], 100_000.0
		if q.Rate {
			w.quotas.Values = append(w.quotas.Values, quota.Value{Name: q.Name, Value: &most})
		}
	}
	w.open()
	w.user("u")
	keys := ratedKeys{w, map[[2]string]string{}}
	tried := map[string]bool{}
	for i := range quota.All() {
		q := &quota.All()[i]
		for _, operation := range q.Operations {
			if _, there := w.operations[operation]; !there || q.Service != "kms" {
				continue
			}
			tried[operation] = true
			t.Run(q.Name+"/"+operation, func(t *testing.T) {
				w.t, keys.t = t, t
				served := func(request in) {
					_, failure := w.try(operation, request)
					if dry, _ := request["DryRun"].(bool); dry && failure != nil && failure.Code == kmsapi.CodeDryRunOperationException {
						failure = nil
					}
					if failure != nil {
						t.Fatalf("%s(%v): %v", operation, request, failure)
					}
				}
				request := keys.request(q.ID, operation)
				w.pass(5 * time.Second)
				served(request)
				want := map[counted]float64{{w.region, q.ID}: 1}
				maps.Copy(want, elsewhere(operation))
				if got := w.counting(); !maps.Equal(got, want) {
					t.Errorf("counted to %v, want %v", got, want)
				}
				request = keys.request(q.ID, operation)
				w.allow(q.ID, 0)
				w.refused(throttled, operation, request)
				if record := w.lastRecord(); record["errorCode"] != string(wire.CodeThrottling) || record["eventName"] != operation {
					t.Errorf("record of the refusal: %v", record)
				}
				w.allow(q.ID, 100_000)
				served(request) // nothing of it was done
			})
		}
	}
	for name := range w.operations {
		if !tried[name] {
			t.Errorf("%s counts to no rate of the table", name)
		}
	}
}
