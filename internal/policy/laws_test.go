package policy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/keywright/keywright/internal/policy"
)

// Small sets, so that random statements and requests often meet.
var (
	someActions    = []string{"kms:Encrypt", "kms:Decrypt", "kms:*", "kms:?ncrypt", "*", "kms:GenerateDataKey*"}
	someResources  = []string{"*", keyARN, "arn:aws:kms:*:*:key/*", "arn:aws:kms:us-east-1:*:key/${x:prefix, '1234'}*"}
	somePrincipals = []string{
		`"*"`, `{"AWS":"111122223333"}`, `{"AWS":"arn:aws:iam::111122223333:user/alice"}`,
		`{"AWS":["arn:aws:iam::111122223333:role/ops","444455556666"]}`, `{"Service":"s3.amazonaws.com"}`,
	}
	someConditions = []string{
		`{}`, `{"StringEquals":{"kms:ViaService":"a"}}`, `{"StringNotLike":{"kms:ViaService":["b*","c"]}}`,
		`{"Null":{"kms:ViaService":"true"}}`, `{"ForAnyValue:StringEquals":{"aws:TagKeys":["a","b"]}}`,
		`{"ForAllValues:StringLikeIfExists":{"aws:TagKeys":"a*"},"Bool":{"aws:SecureTransport":"true"}}`,
	}
)

func drawStatement(t *rapid.T, effect string) string {
	not := func(name string) string {
		if rapid.IntRange(0, 4).Draw(t, "negate") == 0 {
			return "Not" + name
		}
		return name
	}
	pick := func(list []string) string { return rapid.SampledFrom(list).Draw(t, "element") }
	return fmt.Sprintf(`{"Effect":%q,%q:%s,%q:%q,%q:%q,"Condition":%s}`, effect, not("Principal"), pick(somePrincipals),
		not("Action"), pick(someActions), not("Resource"), pick(someResources), pick(someConditions))
}

func drawStatements(t *rapid.T) []string {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
		return drawStatement(t, rapid.SampledFrom([]string{"Allow", "Allow", "Deny"}).Draw(t, "effect"))
	}), 1, 6).Draw(t, "statements")
}

func drawRequest(t *rapid.T) *policy.Request {
	names := []string{"alice", "bob", "ops", "root", "stranger", "s3", "nobody", "otherroot"}
	f := facts{"aws:principalaccount": {account}}
	if v := rapid.SampledFrom([]string{"", "a", "b", "bc", "c"}).Draw(t, "via"); v != "" {
		f["kms:viaservice"] = []string{v}
	}
	if v := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "ab", "b"}), 0, 3).Draw(t, "tags"); len(v) > 0 {
		f["aws:tagkeys"] = v
	}
	f["aws:securetransport"] = []string{rapid.SampledFrom([]string{"true", "false"}).Draw(t, "tls")}
	return &policy.Request{
		Principal: callers[rapid.SampledFrom(names).Draw(t, "caller")], Context: f,
		Action:   rapid.SampledFrom([]string{"kms:Encrypt", "kms:decrypt", "kms:GenerateDataKeyPair"}).Draw(t, "action"),
		Resource: rapid.SampledFrom([]string{keyARN, "*", "arn:aws:kms:us-east-1:444455556666:key/a"}).Draw(t, "resource"),
	}
}

func decide(t *rapid.T, req *policy.Request, statements []string) policy.Decision {
	d, err := policy.Parse(policy.KeyPolicy, []byte(document(statements...)))
	if err != nil {
		t.Fatal(err)
	}
	return d.Evaluate(req)
}

// rank orders effects by how much they give.
func rank(e policy.Effect) int {
	return map[policy.Effect]int{policy.Deny: 0, policy.None: 1, policy.Allow: 2}[e]
}

func TestAddingDenyNeverAllows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		statements, req := drawStatements(t), drawRequest(t)
		before := decide(t, req, statements)
		after := decide(t, req, append(statements, drawStatement(t, "Deny")))
		if rank(after.Effect) > rank(before.Effect) || after.Match&^before.Match != 0 {
			t.Fatalf("%v became %v", before, after)
		}
	})
}

func TestRemovingAllowNeverAllows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		statements, req := drawStatements(t), drawRequest(t)
		with := decide(t, req, append(slices.Clone(statements), drawStatement(t, "Allow")))
		without := decide(t, req, statements)
		if rank(without.Effect) > rank(with.Effect) || without.Match&^with.Match != 0 {
			t.Fatalf("%v became %v", with, without)
		}
	})
}

func TestOrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		statements, req := drawStatements(t), drawRequest(t)
		before := decide(t, req, statements)
		after := decide(t, req, rapid.Permutation(statements).Draw(t, "order"))
		if before.Effect != after.Effect || before.Match != after.Match {
			t.Fatalf("%v became %v", before, after)
		}
	})
}

// Explaining, printing and reading again change no decision.
func TestExplainAgrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		statements, req := drawStatements(t), drawRequest(t)
		d, err := policy.Parse(policy.KeyPolicy, []byte(document(statements...)))
		if err != nil {
			t.Fatal(err)
		}
		again, err := policy.Parse(policy.KeyPolicy, []byte(d.Text()))
		if err != nil {
			t.Fatal(err)
		}
		plain := d.Evaluate(req)
		req.Explain = true
		for _, other := range []policy.Decision{d.Evaluate(req), again.Evaluate(req)} {
			if other.Effect != plain.Effect || other.Match != plain.Match {
				t.Fatalf("%v explained as %v", plain, other)
			}
		}
	})
}

// FuzzParse: whatever Parse accepts must print as a document that is accepted again and decides the same, and must be JSON.
func FuzzParse(f *testing.F) {
	for _, groups := range [][]group{principalGroups, actionGroups, operatorGroups, variableGroups} {
		for _, g := range groups {
			f.Add(uint8(g.kind), g.doc)
		}
	}
	for kind := policy.KeyPolicy; kind <= policy.ResourceControlPolicy; kind++ {
		f.Add(uint8(kind), `{"Statement":{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}}`)
	}
	f.Add(uint8(policy.KeyPolicy), policy.AWSManagedKeyPolicy("s3", account, "cn-north-1"))
	f.Fuzz(func(t *testing.T, kind uint8, doc string) {
		d, err := policy.Parse(policy.Kind(kind), []byte(doc))
		if err != nil {
			return
		}
		text := d.Text()
		if !json.Valid([]byte(text)) {
			t.Fatalf("printed as\n%s", text)
		}
		again, err := policy.Parse(policy.Kind(kind), []byte(text))
		if err != nil {
			var e *policy.Error
			if errors.As(err, &e) && e.Fault == policy.TooLarge {
				return // printing adds blanks
			}
			t.Fatalf("%v\n%s", err, text)
		}
		if again.Text() != text {
			t.Fatalf("printed as\n%s\nand then as\n%s", text, again.Text())
		}
		who := callers[[]string{"alice", "ops", "root", "s3", "stranger"}[len(doc)%5]]
		req := &policy.Request{Principal: who, Action: "kms:Encrypt", Resource: keyARN, Context: facts{"aws:username": {"*"}}}
		a, b := d.Evaluate(req), again.Evaluate(req)
		req.Explain = true
		if e := d.Evaluate(req); a.Effect != b.Effect || a.Effect != e.Effect || a.Match != e.Match {
			t.Fatalf("%v, %v, %v", a, b, e)
		}
		// Supposing all that is not known may turn a refusal into an Allow, and never the other way round.
		req.Suppose = true
		if s := d.Evaluate(req); a.Effect == policy.Allow && s.Effect != policy.Allow {
			t.Fatalf("%v, supposed to be %v", a, s)
		}
		for name := range d.Bind(func(string) (string, bool) { return who.ID, who.ID != "" }).Bound() {
			if !strings.HasPrefix(name, "arn:") {
				t.Fatalf("%s was bound", name)
			}
		}
		for _, key := range d.ContextKeys() {
			if policy.ParseKey(key).Name == "" {
				t.Fatalf("key %q", key)
			}
		}
	})
}

// benchmarkFacts answers as the guard will: by a switch, without a map.
type benchmarkFacts struct{}

func (benchmarkFacts) Lookup(k policy.Key) policy.Values {
	switch k.Name {
	case "kms:calleraccount", "aws:principalaccount":
		return policy.One(account)
	case "kms:viaservice":
		return policy.One("s3.us-east-1.amazonaws.com")
	}
	return policy.Values{}
}

func BenchmarkDefaultKeyPolicy(b *testing.B) {
	benchmark(b, policy.DefaultKeyPolicy(account, "aws"))
}

func BenchmarkAWSManagedKeyPolicy(b *testing.B) {
	benchmark(b, policy.AWSManagedKeyPolicy("s3", account, "us-east-1"))
}

func Benchmark20Statements(b *testing.B) {
	var list []string
	for i := range 19 {
		list = append(list, fmt.Sprintf(`{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:role/r%d"},"Action":["kms:Encrypt","kms:Decrypt"],`+
			`"Resource":"*","Condition":{"StringEquals":{"kms:EncryptionContext:app":"a%d"}}}`, i, i))
	}
	benchmark(b, document(append(list, to("Allow", `"Principal":{"AWS":"111122223333"}`))...))
}

func BenchmarkVariables(b *testing.B) {
	benchmark(b, document(`{"Effect":"Allow","Principal":"*","Action":"kms:Enc*","Resource":"arn:aws:kms:*:*:key/*",`+
		`"Condition":{"StringLike":{"kms:ViaService":"s3.*","kms:CallerAccount":"${aws:PrincipalAccount}*"}}}`))
}

func benchmark(b *testing.B, doc string) {
	d, err := policy.Parse(policy.KeyPolicy, []byte(doc))
	if err != nil {
		b.Fatal(err)
	}
	req := &policy.Request{Principal: callers["alice"], Action: "kms:Encrypt", Resource: keyARN, Context: benchmarkFacts{}}
	b.ReportAllocs()
	for b.Loop() {
		if d.Evaluate(req).Effect != policy.Allow {
			b.Fatal("not allowed")
		}
	}
}
