package pipeline_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

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

// manyStatements is a key policy of twenty statements. The root user of alice's account is allowed what actions says by the
// last one, and all the others have to be looked at.
func manyStatements(actions string) string {
	var list []string
	for i := range 19 {
		list = append(list, fmt.Sprintf(`{"Sid":"%d","Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":["kms:Encrypt","kms:Decrypt"],"Resource":"*",`+
			`"Condition":{"StringEquals":{"kms:EncryptionContext:tenant":"%d"}}}`, i, i))
	}
	list = append(list, `{"Sid":"last","Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":`+actions+`,"Resource":"*"}`)
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(list, ",") + `]}`
}

// BenchmarkPolicies measures an Encrypt under the default policy against one under twenty statements and a thousand grants,
// in turn: where the last statement allows it, and where no statement does but one of the grants. The metrics are ratios of
// medians.
func BenchmarkPolicies(b *testing.B) {
	w := newWorld(b)
	body := func(v map[string]any) string {
		text, err := json.Marshal(v)
		w.must(err)
		return string(text)
	}
	keys := []string{w.newKey(), "", ""}
	for i, actions := range []string{`"kms:*"`, `["kms:CreateGrant","kms:PutKeyPolicy"]`} {
		made := w.kms("CreateKey", body(map[string]any{"Policy": manyStatements(actions)}))
		keys[i+1] = made["KeyMetadata"].(map[string]any)["KeyId"].(string)
		for n := range 1000 {
			w.kms("CreateGrant", body(map[string]any{
				"KeyId": keys[i+1], "GranteePrincipal": "arn:aws:iam::111122223333:root", "Operations": []string{"Encrypt"},
				"Constraints": map[string]any{"EncryptionContextSubset": map[string]string{"volume": fmt.Sprint(n)}},
			}))
		}
	}
	plaintext := make([]byte, 64)
	var requests [3]pipeline.Request
	for i, id := range keys {
		requests[i] = *w.sign(jsonRequest("Encrypt", body(map[string]any{
			"KeyId": id, "Plaintext": plaintext, "EncryptionContext": map[string]string{"volume": "777"},
		})), aliceRoot, "kms")
	}
	const batch = 100
	var times [3][]time.Duration
	var resp pipeline.Response
	for b.Loop() {
		for i := range requests {
			start := time.Now()
			for range batch {
				w.pipeline.Serve(context.Background(), &requests[i], &resp)
			}
			times[i] = append(times[i], time.Since(start)/batch)
			if resp.Status != 200 {
				b.Fatal(string(resp.Body))
			}
		}
	}
	var median [3]float64
	for i := range times {
		slices.Sort(times[i])
		median[i] = float64(times[i][len(times[i])/2])
	}
	b.ReportMetric(median[0], "ns/default")
	b.ReportMetric(median[1]/median[0], "x-statements")
	b.ReportMetric(median[2]/median[0], "x-grants")
}
