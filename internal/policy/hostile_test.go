package policy_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/policy"
)

// patience is how long a document may take at worst, many times what the product of the sizes needs, also on a busy machine
// that looks for races. Anything that grows faster takes hours.
const patience = 30 * time.Second

// within fails the test if what f does takes too long.
func within(t *testing.T, f func()) {
	t.Helper()
	start := time.Now()
	f()
	if took := time.Since(start); took > patience {
		t.Errorf("took %v", took)
	}
}

// Documents that are built to be slow to read are refused, and quickly.
func TestHostileDocuments(t *testing.T) {
	const many = 100_000
	statement := `{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"},`
	blanks := strings.Repeat(" ", 60_000)
	for name, doc := range map[string]string{
		"nested objects":              strings.Repeat(`{"a":`, many) + "1" + strings.Repeat("}", many),
		"nested objects, short":       strings.Repeat(`{"a":`, 6000),
		"nested lists":                `{"Statement":` + strings.Repeat("[", many) + strings.Repeat("]", many) + "}",
		"nested lists, short":         `{"Statement":` + strings.Repeat("[", 10_000),
		"nested statements":           strings.Repeat(`{"Statement":[`, many),
		"nested statements, short":    strings.Repeat(`{"Statement":[`, 700),
		"statements":                  `{"Statement":[` + strings.Repeat(statement, many) + "]}",
		"the same member":             "{" + strings.Repeat(`"a":1,`, 1600) + `"a":1}`,
		"members of a long name":      `{"` + blanks + `":{` + numbered(1000, `"%d":1`) + "}}",
		"deep places of a long name":  strings.Repeat(`{"`+strings.Repeat(" ", 10_000)+`":`, 12),
		"blanks":                      blanks + blanks + blanks,
		"digits":                      `{"Version":` + strings.Repeat("9", 10_000) + "}",
		"an exponent":                 document(when(`"NumericEquals":{"a:b":1e999999999}`)),
		"open variables":              document(when(`"StringEquals":{"a:b":"` + strings.Repeat("${", 4000) + `"}`)),
		"quotes in an open variable":  document(when(`"StringEquals":{"a:b":"${` + strings.Repeat("'}", 4000) + `"}`)),
		"variables that do not close": document(on("Allow", any2, `"Resource":"arn:aws:s3:::`+strings.Repeat("${a:b,'", 1000)+`"`)),
	} {
		t.Run(name, func(t *testing.T) {
			within(t, func() {
				for kind := policy.KeyPolicy; kind <= policy.ResourceControlPolicy; kind++ {
					if _, err := policy.Parse(kind, []byte(doc)); err == nil {
						t.Errorf("kind %d: accepted", kind)
					}
				}
			})
		})
	}
}

func numbered(n int, format string) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(format, i)
	}
	return strings.Join(list, ",")
}

// Documents that are full up to their limit with what takes most time, asked about values that almost match: the time is
// in proportion to the sizes of both, not to powers of them.
func TestHostileMatches(t *testing.T) {
	const size = 9000
	run := strings.Repeat("a", 20_000)
	stars := strings.Repeat("*a", size/2) + "b"
	for name, doc := range map[string]string{
		"action":                 document(on("Allow", `"Action":"kms:`+stars+`"`, star)),
		"resource":               document(on("Allow", any2, `"Resource":"arn:aws:kms:*:*:`+stars+`"`)),
		"string":                 document(when(`"StringLike":{"x:y":"` + stars + `"}`)),
		"question marks":         document(when(`"StringLike":{"x:y":"` + strings.Repeat("*?", size/2) + `b"}`)),
		"one long piece":         document(when(`"StringLike":{"x:y":"*` + strings.Repeat("a", size) + `b*"}`)),
		"many long pieces":       document(when(`"StringLike":{"x:y":[` + strings.Repeat(`"*`+strings.Repeat("a", 1000)+`b*",`, 8) + `"b"]}`)),
		"all of many values":     document(when(`"ForAllValues:StringLike":{"x:many":["` + strings.Repeat(`*a*b","`, size/7) + `a*"]}`)),
		"ARN":                    document(when(`"ArnLike":{"x:arn":"arn:aws:kms:*:*:` + stars + `"}`)),
		"variables":              document(when(`"StringLike":{"x:y":"` + strings.Repeat("${x:y}", size/6) + `"}`)),
		"variables, any case":    document(when(`"StringEqualsIgnoreCase":{"x:y":"` + strings.Repeat("${x:y}", size/6) + `"}`)),
		"variables and stars":    document(when(`"StringLike":{"x:y":"` + strings.Repeat("*${x:y}", size/7) + `"}`)),
		"variables in resources": document(on("Allow", any2, `"Resource":"arn:aws:kms:*:*:`+strings.Repeat("${x:y}*", size/7)+`"`)),
		"statements":             document(strings.TrimSuffix(strings.Repeat(on("Allow", `"Action":"kms:*a*a*b"`, `"Resource":"arn:aws:kms:*:*:*a*b"`)+",", 100), ",")),
	} {
		t.Run(name, func(t *testing.T) {
			d, err := policy.Parse(policy.IdentityPolicy, []byte(doc))
			if err != nil {
				t.Fatal(err)
			}
			req := &policy.Request{
				Action: "kms:" + run, Resource: "arn:aws:kms:a:b:" + run,
				Context: facts{"x:y": {run}, "x:arn": {"arn:aws:kms:a:b:" + run}, "x:many": strings.Split(strings.Repeat("aaaaaaaa ", 1000)+"b", " ")},
			}
			within(t, func() {
				if got := d.Evaluate(req); got.Effect != policy.None {
					t.Errorf("%v", got.Effect)
				}
				req.Explain, req.Suppose = true, true
				if got := d.Evaluate(req); got.Effect != policy.None {
					t.Errorf("explained: %v", got.Effect)
				}
				d.ContextKeys()
			})
		})
	}
}

// What a variable brings in never takes more memory than what it is compared with.
func TestVariablesStayWithinBounds(t *testing.T) {
	long := strings.Repeat("a", 8192)
	d, err := policy.Parse(policy.IdentityPolicy, []byte(document(when(`"StringLike":{"x:y":"`+strings.Repeat("${x:z}", 1500)+`"}`))))
	if err != nil {
		t.Fatal(err)
	}
	req := &policy.Request{Action: "a:b", Resource: "*", Context: facts{"x:y": {long}, "x:z": {long}}}
	var before, after runtime.MemStats
	const rounds = 100
	runtime.ReadMemStats(&before)
	for range rounds {
		d.Evaluate(req)
	}
	runtime.ReadMemStats(&after)
	if got := int(after.TotalAlloc-before.TotalAlloc) / rounds; got > 4*len(long) {
		t.Errorf("%d octets for a value of %d", got, len(long))
	}
}

// On the common path a decision allocates nothing.
func TestEvaluateDoesNotAllocate(t *testing.T) {
	for _, doc := range []string{
		policy.DefaultKeyPolicy(account, "aws"),
		policy.AWSManagedKeyPolicy("s3", account, "us-east-1"),
		document(`{"Effect":"Allow","Principal":"*","Action":"kms:Enc*","Resource":"arn:aws:kms:*:*:key/${x:none,'1'}*",
		  "Condition":{"StringLikeIfExists":{"kms:ViaService":"s3.*"},"ArnNotLike":{"aws:SourceArn":"arn:aws:s3:::*"},"Null":{"x:y":"true"}}}`),
	} {
		d, err := policy.Parse(policy.KeyPolicy, []byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		req := &policy.Request{Principal: callers["alice"], Action: "kms:Encrypt", Resource: keyARN, Context: benchmarkFacts{}}
		if n := testing.AllocsPerRun(100, func() { d.Evaluate(req) }); n != 0 {
			t.Errorf("%v allocations for\n%s", n, doc)
		}
	}
}
