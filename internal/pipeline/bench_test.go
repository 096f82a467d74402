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

// statements collects a key policy.
type statements []string

func (s *statements) add(effect, principal, action, condition string) {
	if condition != "" {
		condition = `,"Condition":` + condition
	}
	*s = append(*s, fmt.Sprintf(`{"Sid":"%d","Effect":"%s","Principal":%s,"Action":%s,"Resource":"*"%s}`, len(*s), effect, principal, action, condition))
}

func (s *statements) text() string {
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(*s, ",") + `]}`
}

// twentyStatements is a key policy of twenty statements. The last one allows the root user of alice's account what last says. The
// others are about somebody else or, if mixed, about services, tenants by their encryption context, and prohibitions, too:
// of these more than half get as far as their conditions.
func twentyStatements(mixed bool, last string) string {
	const use = `["kms:Encrypt","kms:Decrypt","kms:ReEncrypt*","kms:GenerateDataKey*","kms:DescribeKey"]`
	var s statements
	tenant := func(i int) string { return fmt.Sprintf(`{"StringEquals":{"kms:EncryptionContext:tenant":"%d"}}`, i) }
	for i := range 19 {
		switch {
		case !mixed || i < 7:
			s.add("Allow", `{"AWS":"444455556666"}`, use, tenant(i))
		case i < 11:
			s.add("Allow", `{"Service":"objects.example.com"}`, use, `{"StringEquals":{"aws:SourceAccount":"111122223333"}}`)
		case i < 14:
			s.add("Allow", `{"AWS":"111122223333"}`, use, tenant(i))
		case i < 17:
			s.add("Allow", `{"AWS":"111122223333"}`, use, `{"StringEquals":{"kms:ViaService":"objects.us-east-1.example.com","kms:CallerAccount":"111122223333"}}`)
		case i < 18:
			s.add("Deny", `"*"`, `"kms:*"`, `{"StringNotEquals":{"aws:PrincipalAccount":["111122223333","444455556666"]}}`)
		default:
			s.add("Deny", `"*"`, `["kms:ScheduleKeyDeletion","kms:DisableKey"]`, `{"StringNotEquals":{"kms:CallerAccount":"111122223333"}}`)
		}
	}
	s.add("Allow", `{"AWS":"111122223333"}`, last, "")
	return s.text()
}

// BenchmarkPolicies measures an Encrypt under the default policy against one under twenty statements and a thousand grants,
// in turn. The metrics are ratios of medians: with statements about others, with mixed ones, and where no statement allows
// it but one of the grants.
func BenchmarkPolicies(b *testing.B) {
	w := newWorld(b)
	_, _, err := w.directory.CreateAccount(context.Background(), "444455556666", "")
	w.must(err)
	body := func(v map[string]any) string {
		text, err := json.Marshal(v)
		w.must(err)
		return string(text)
	}
	const all, noUse = `"kms:*"`, `["kms:CreateGrant","kms:PutKeyPolicy"]`
	cases := []struct {
		name, policy string
		request      *pipeline.Request
		times        []time.Duration
	}{
		{name: "default"},
		{name: "statements", policy: twentyStatements(false, all)},
		{name: "mixed", policy: twentyStatements(true, all)},
		{name: "grant", policy: twentyStatements(false, noUse)},
	}
	for i := range cases {
		c := &cases[i]
		id := w.newKey()
		if c.policy != "" {
			w.kms("PutKeyPolicy", body(map[string]any{"KeyId": id, "Policy": c.policy}))
			for n := range 1000 {
				w.kms("CreateGrant", body(map[string]any{
					"KeyId": id, "GranteePrincipal": "arn:aws:iam::111122223333:root", "Operations": []string{"Encrypt"},
					"Constraints": map[string]any{"EncryptionContextSubset": map[string]string{"volume": fmt.Sprint(n)}},
				}))
			}
		}
		c.request = w.sign(jsonRequest("Encrypt", body(map[string]any{
			"KeyId": id, "Plaintext": make([]byte, 64), "EncryptionContext": map[string]string{"volume": "777"},
		})), aliceRoot, "kms")
	}
	const batch = 100
	var resp pipeline.Response
	for b.Loop() {
		for i := range cases {
			c := &cases[i]
			start := time.Now()
			for range batch {
				w.pipeline.Serve(context.Background(), c.request, &resp)
			}
			c.times = append(c.times, time.Since(start)/batch)
			if resp.Status != 200 {
				b.Fatal(string(resp.Body))
			}
		}
	}
	var first float64
	for i := range cases {
		slices.Sort(cases[i].times)
		median := float64(cases[i].times[len(cases[i].times)/2])
		if i == 0 {
			first = median
			b.ReportMetric(median, "ns/default")
			continue
		}
		b.ReportMetric(median/first, "x-"+cases[i].name)
	}
}
