package wire_test

import (
	"encoding/base64"
	"testing"

	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

const benchARN = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"

func encryptBody(size int) []byte {
	return []byte(`{"KeyId":"` + benchARN + `","Plaintext":"` + base64.StdEncoding.EncodeToString(make([]byte, size)) +
		`","EncryptionContext":{"purpose":"benchmark"}}`)
}

func encryptRequest(t testing.TB, size int) *kmsapi.EncryptRequest {
	t.Helper()
	in := new(kmsapi.EncryptRequest)
	if err := wire.DecodeJSON(encryptBody(size), in); err != nil {
		t.Fatal(err)
	}
	return in
}

func benchmarkDecode(b *testing.B, size int) {
	body := encryptBody(size)
	b.ReportAllocs()
	for b.Loop() {
		in := new(kmsapi.EncryptRequest)
		if err := wire.DecodeJSON(body, in); err != nil {
			b.Fatal(err)
		}
		if err := wire.Validate(in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeEncrypt64(b *testing.B)   { benchmarkDecode(b, 64) }
func BenchmarkDecodeEncrypt4096(b *testing.B) { benchmarkDecode(b, 4096) }

func benchmarkEncode(b *testing.B, out wire.Output) {
	buffer := make([]byte, 0, 8192)
	b.ReportAllocs()
	for b.Loop() {
		buffer = wire.AppendOutput(buffer[:0], out)
	}
}

func BenchmarkEncodeEncrypt64(b *testing.B) {
	benchmarkEncode(b, &kmsapi.EncryptResponse{
		CiphertextBlob: make([]byte, 160), KeyID: wire.Some(benchARN),
		EncryptionAlgorithm: wire.Some(kmsapi.EncryptionAlgorithmSpecSymmetricDefault),
	})
}

func BenchmarkEncodeDecrypt4096(b *testing.B) {
	benchmarkEncode(b, &kmsapi.DecryptResponse{
		Plaintext: secret.Take(make([]byte, 4096)), KeyID: wire.Some(benchARN),
		EncryptionAlgorithm: wire.Some(kmsapi.EncryptionAlgorithmSpecSymmetricDefault),
	})
}
