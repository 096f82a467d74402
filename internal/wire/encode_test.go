package wire_test

import (
	"encoding/base64"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

func TestAppendOutput(t *testing.T) {
	tests := []struct {
		name string
		out  wire.Output
		want string
	}{
		{"no output shape", nil, ``},
		{"empty output shape", &kmsapi.ConnectCustomKeyStoreResponse{}, `{}`},
		{"nothing set", &kmsapi.EncryptResponse{}, `{}`},
		{
			"blob, text and enum", &kmsapi.EncryptResponse{
				CiphertextBlob: []byte{0xfb, 0xff}, KeyID: wire.Some("k,\"\\\n\x01é"),
				EncryptionAlgorithm: wire.Some(kmsapi.EncryptionAlgorithmSpecSymmetricDefault),
			},
			`{"CiphertextBlob":"+/8=","KeyId":"k,\"\\\n\u0001é","EncryptionAlgorithm":"SYMMETRIC_DEFAULT"}`,
		},
		{
			"empty text and blob are there", &kmsapi.EncryptResponse{CiphertextBlob: []byte{}, KeyID: wire.Some("")},
			`{"CiphertextBlob":"","KeyId":""}`,
		},
		{"secret", &kmsapi.DecryptResponse{Plaintext: secret.FromString("hi")}, `{"Plaintext":"aGk="}`},
		{
			"false and zero are there", &kmsapi.ListKeysResponse{Truncated: wire.Some(false), Keys: []kmsapi.KeyListEntry{}},
			`{"Keys":[],"Truncated":false}`,
		},
		{
			"lists", &kmsapi.ListKeysResponse{Keys: []kmsapi.KeyListEntry{{KeyID: wire.Some("a")}, {KeyARN: wire.Some("b")}, {}}},
			`{"Keys":[{"KeyId":"a"},{"KeyArn":"b"},{}]}`,
		},
		{"list of texts", &kmsapi.ListKeyPoliciesResponse{PolicyNames: []string{"default", "x"}}, `{"PolicyNames":["default","x"]}`},
		{
			"nested, number and time", &kmsapi.DescribeKeyResponse{KeyMetadata: &kmsapi.KeyMetadata{
				CreationDate: wire.Some(time.UnixMilli(1732320000123)), PendingDeletionWindowInDays: wire.Some(int32(7)),
			}},
			`{"KeyMetadata":{"CreationDate":1732320000.123,"PendingDeletionWindowInDays":7}}`,
		},
		{
			"map", &kmsapi.ListGrantsResponse{Grants: []kmsapi.GrantListEntry{{Constraints: &kmsapi.GrantConstraints{
				EncryptionContextSubset: map[string]string{"a": "b"},
			}}}},
			`{"Grants":[{"Constraints":{"EncryptionContextSubset":{"a":"b"}}}]}`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := string(wire.AppendOutput(nil, test.out)); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestAppendTime(t *testing.T) {
	for ms, want := range map[int64]string{
		0: "0", 1: "0.001", 10: "0.01", 100: "0.1", 1500: "1.5", 1732320000000: "1732320000", 1732320000120: "1732320000.12",
		-1: "-0.001", -1500: "-1.5", 253402300799999: "253402300799.999",
	} {
		if got := string(wire.AppendTime(nil, time.UnixMilli(ms))); got != want {
			t.Errorf("%d ms: got %s, want %s", ms, got, want)
		}
	}
}

func TestAppendStringAgreesWithStandardLibrary(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		b := make([]byte, random.IntN(20))
		for i := range b {
			b[i] = byte(random.Uint32() >> (random.Uint32() & 1)) // more ASCII
		}
		var got string
		text := wire.AppendString(nil, string(b))
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		standard, _ := json.Marshal(string(b))
		var want string
		_ = json.Unmarshal(standard, &want)
		if got != want {
			t.Fatalf("%x: got %q, want %q", b, got, want)
		}
	}
}

func TestAppendBlobAgreesWithStandardLibrary(t *testing.T) {
	random := rand.NewChaCha8([32]byte{2})
	for size := range 300 {
		blob := make([]byte, size)
		_, _ = random.Read(blob)
		if got, want := string(wire.AppendBlob([]byte("x"), blob)), `x"`+base64.StdEncoding.EncodeToString(blob)+`"`; got != want {
			t.Fatalf("size %d: got %s, want %s", size, got, want)
		}
	}
}

// TestOutputsAreReadable fills every output with something and lets the standard library read it.
func TestOutputsAreReadable(t *testing.T) {
	for _, out := range outputs() {
		v := reflect.ValueOf(out)
		fill(v.Elem(), 0)
		j, ok := v.Interface().(wire.JSONOutput)
		if !ok {
			continue
		}
		var m map[string]any
		text := j.AppendJSON(nil)
		if err := json.Unmarshal(text, &m); err != nil {
			t.Errorf("%s: %v in %s", j.ShapeName(), err, text)
		}
		if len(m) != v.Elem().NumField() {
			t.Errorf("%s: %d of %d members in %s", j.ShapeName(), len(m), v.Elem().NumField(), text)
		}
	}
}
