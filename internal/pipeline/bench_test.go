package pipeline_test

import (
	"context"
	"encoding/base64"
	"testing"

	"github.com/keywright/keywright/internal/pipeline"
)

// BenchmarkServe measures everything of ours in a call but the door: signature, decoding, decision, cryptography, record,
// rendering.
func BenchmarkServe(b *testing.B) {
	w := newWorld(b)
	id := w.newKey()
	plaintext := base64.StdEncoding.EncodeToString(make([]byte, 64))
	blob := w.kms("Encrypt", `{"KeyId":"`+id+`","Plaintext":"`+plaintext+`"}`)["CiphertextBlob"].(string)
	for _, c := range []struct{ name, operation, body string }{
		{"Encrypt64", "Encrypt", `{"KeyId":"` + id + `","Plaintext":"` + plaintext + `"}`},
		{"Decrypt64", "Decrypt", `{"CiphertextBlob":"` + blob + `"}`},
		{"GenerateDataKey", "GenerateDataKey", `{"KeyId":"` + id + `","KeySpec":"AES_256"}`},
		{"DescribeKey", "DescribeKey", `{"KeyId":"` + id + `"}`},
	} {
		b.Run(c.name, func(b *testing.B) {
			req := w.sign(jsonRequest(c.operation, c.body), aliceRoot, "kms")
			var resp pipeline.Response
			b.ReportAllocs()
			for b.Loop() {
				w.pipeline.Serve(context.Background(), req, &resp)
			}
			if resp.Status != 200 {
				b.Fatal(string(resp.Body))
			}
		})
	}
}
