package pipeline_test

import (
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/pipeline"
	"github.com/keywright/keywright/internal/sigv4"
)

// FuzzServe sends arbitrary requests, unsigned, badly signed and well signed: nothing panics, and everything has an answer
// and a record, which serve checks.
func FuzzServe(f *testing.F) {
	w := newWorld(f)
	f.Add("POST", "/", "", "X-Amz-Target: TrentService.ListKeys", "{}", uint8(1))
	f.Add("POST", "/", "", "X-Amz-Target: TrentService.CreateKey", `{"Tags":[{"TagKey":"a","TagValue":"b"}],"Policy":"{}"}`, uint8(1))
	f.Add("POST", "/", "", "X-Amz-Target: TrentService.Decrypt", `{"CiphertextBlob":"S1cBAAAAAA=="}`, uint8(1))
	f.Add("POST", "/", "", "Content-Type: application/x-www-form-urlencoded", "Action=GetSessionToken&Version=2011-06-15&DurationSeconds=900", uint8(2))
	f.Add("GET", "/", "Action=GetCallerIdentity&Version=2011-06-15", "", "", uint8(2))
	f.Add("POST", "/", "X-Amz-Target=TrentService.ListKeys&X-Amz-Algorithm=AWS4-HMAC-SHA256", "", "{}", uint8(0))
	f.Add("POST", "/", "", "Authorization: AWS4-HMAC-SHA256 Credential=AKIAALICEALICEALICE1/20260101/us-east-1/kms/aws4_request, SignedHeaders=host, Signature=0", "{", uint8(0))
	f.Add("GET", "/%zz/../?", "%=&&=", "x-amz-target: .\nx-amz-target: a.b", "\x00", uint8(3))
	f.Fuzz(func(t *testing.T, method, path, query, header, body string, how uint8) {
		w.t = t
		r := &pipeline.Request{Method: method, Path: path, RawQuery: query, Host: host, Body: []byte(body), RemoteIP: "192.0.2.1"}
		for line := range strings.Lines(header) {
			name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
			r.Header = append(r.Header, sigv4.Field{Name: name, Value: strings.TrimSpace(value)})
		}
		switch how % 4 {
		case 1:
			r = w.sign(r, aliceRoot, "kms")
		case 2:
			r = w.sign(r, aliceRoot, "sts")
		case 3:
			r.Oversized, r.Body = true, nil
		}
		a := w.serve(r)
		if how%4 == 0 && a.Status == 200 {
			t.Fatalf("an answer to nobody: %s", a.body)
		}
	})
}
