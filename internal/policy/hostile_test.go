package policy_test

import (
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/policy"
)

// steady fails the test if the work on twice as much takes more than that many times as long. What takes no time to speak of, or
// takes long only while the machine is busy with something else, is well.
func steady(t *testing.T, most time.Duration, once, twice func()) {
	t.Helper()
	const tries, negligible = 5, 100 * time.Millisecond
	short, long := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64)
	least := func(d *time.Duration, f func()) {
		start := time.Now()
		f()
		*d = min(*d, time.Since(start))
	}
	for range tries {
		least(&short, once)
		least(&long, twice)
		if long <= most*short+negligible {
			return
		}
	}
	t.Errorf("took %v, and %v for twice as much", short, long)
}

// Documents that are built to be slow to read are refused, and quickly.
func TestHostileDocuments(t *testing.T) {
	statement := `{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"},`
	blanks := func(n int) string { return strings.Repeat(" ", n) }
	for name, sized := range map[string]func(k int) string{ // of size 1 and 2
		"nested objects":        func(k int) string { return strings.Repeat(`{"a":`, k*50_000) + "1" + strings.Repeat("}", k*50_000) },
		"nested objects, short": func(k int) string { return strings.Repeat(`{"a":`, k*3000) },
		"nested lists": func(k int) string {
			return `{"Statement":` + strings.Repeat("[", k*50_000) + strings.Repeat("]", k*50_000) + "}"
		},
		"nested lists, short":       func(k int) string { return `{"Statement":` + strings.Repeat("[", k*5000) },
		"nested statements":         func(k int) string { return strings.Repeat(`{"Statement":[`, k*50_000) },
		"nested statements, short":  func(k int) string { return strings.Repeat(`{"Statement":[`, k*350) },
		"statements":                func(k int) string { return `{"Statement":[` + strings.Repeat(statement, k*50_000) + "]}" },
		"the same member":           func(k int) string { return "{" + strings.Repeat(`"a":1,`, k*800) + `"a":1}` },
		"members of a long name":    func(k int) string { return `{"` + blanks(k*30_000) + `":{` + numbered(1000, `"%d":1`) + "}}" },
		"many members, long name":   func(k int) string { return `{"` + blanks(30_000) + `":{` + numbered(k*500, `"%d":1`) + "}}" },
		"deep places, longer names": func(k int) string { return strings.Repeat(`{"`+blanks(k*5000)+`":`, 12) },
		"deeper places, long names": func(k int) string { return strings.Repeat(`{"`+blanks(10_000)+`":`, k*6) },
		"blanks":                    func(k int) string { return blanks(k * 90_000) },
		"digits":                    func(k int) string { return `{"Version":` + strings.Repeat("9", k*5000) + "}" },
		"an exponent": func(k int) string {
			return document(when(`"NumericEquals":{"a:b":1e` + strings.Repeat("9", k*4) + `}`))
		},
		"open variables": func(k int) string {
			return document(when(`"StringEquals":{"a:b":"` + strings.Repeat("${", k*2000) + `"}`))
		},
		"quotes in an open variable": func(k int) string {
			return document(when(`"StringEquals":{"a:b":"${` + strings.Repeat("'}", k*2000) + `"}`))
		},
		"variables that do not close": func(k int) string {
			return document(on("Allow", any2, `"Resource":"arn:aws:s3:::`+strings.Repeat("${a:b,'", k*500)+`"`))
		},
	} {
		t.Run(name, func(t *testing.T) {
			refuse := func(doc []byte) func() {
				return func() {
					for kind := policy.KeyPolicy; kind <= policy.ResourceControlPolicy; kind++ {
						if _, err := policy.Parse(kind, doc); err == nil {
							t.Errorf("kind %d: accepted", kind)
						}
					}
				}
			}
			steady(t, 3, refuse([]byte(sized(1))), refuse([]byte(sized(2)))) // in proportion
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
	const size, run = 3000, 10_000
	stars := func(k int) string { return strings.Repeat("*a", k*size/2) + "b" }
	like := func(pattern string) string { return document(when(`"StringLike":{"x:y":"` + pattern + `"}`)) }
	on1 := func(resource string) string {
		return document(on("Allow", any2, `"Resource":"arn:aws:kms:*:*:`+resource+`"`))
	}
	for name, sized := range map[string]func(k int) string{ // of size 1 and 2
		"action":         func(k int) string { return document(on("Allow", `"Action":"kms:`+stars(k)+`"`, star)) },
		"resource":       func(k int) string { return on1(stars(k)) },
		"string":         func(k int) string { return like(stars(k)) },
		"question marks": func(k int) string { return like(strings.Repeat("*?", k*size/2) + "b") },
		"one long piece": func(k int) string { return like("*" + strings.Repeat("a", k*size) + "b*") },
		"many long pieces": func(k int) string {
			return document(when(`"StringLike":{"x:y":[` + strings.Repeat(`"*`+strings.Repeat("a", 1000)+`b*",`, k*2) + `"b"]}`))
		},
		"all of many values": func(k int) string {
			return document(when(`"ForAllValues:StringLike":{"x:many":["` + strings.Repeat(`*a*b","`, k*size/7) + `a*"]}`))
		},
		"ARN":       func(k int) string { return document(when(`"ArnLike":{"x:arn":"arn:aws:kms:*:*:` + stars(k) + `"}`)) },
		"variables": func(k int) string { return like(strings.Repeat("${x:y}", k*size/6)) },
		"variables, any case": func(k int) string {
			return document(when(`"StringEqualsIgnoreCase":{"x:y":"` + strings.Repeat("${x:y}", k*size/6) + `"}`))
		},
		"variables and stars": func(k int) string { return like(strings.Repeat("*${x:y}", k*size/7)) },
		"values in between": func(k int) string {
			return document(when(`"StringLike":{"x:y":[` + strings.Repeat(`"*${x:v}*",`, k*100) + `"b"]}`))
		},
		"variables in resources": func(k int) string { return on1(strings.Repeat("${x:y}*", k*size/7)) },
		"statements": func(k int) string {
			return document(strings.TrimSuffix(strings.Repeat(on("Allow", `"Action":"kms:*a*a*b"`, `"Resource":"arn:aws:kms:*:*:*a*b"`)+",", k*50), ","))
		},
	} {
		t.Run(name, func(t *testing.T) {
			ask := func(document, request int) func() {
				d, err := policy.Parse(policy.IdentityPolicy, []byte(sized(document)))
				if err != nil {
					t.Fatal(err)
				}
				text := strings.Repeat("a", request*run)
				req := policy.Request{
					Action: "kms:" + text, Resource: "arn:aws:kms:a:b:" + text,
					Context: facts{
						"x:y": {text}, "x:v": {text[:len(text)/2] + "b"}, "x:arn": {"arn:aws:kms:a:b:" + text}, "x:many": strings.Split(strings.Repeat("aaaaaaaa ", request*500)+"b", " "),
					},
				}
				return func() {
					req.Explain, req.Suppose = false, false
					if got := d.Evaluate(&req); got.Effect != policy.None {
						t.Errorf("%v", got.Effect)
					}
					req.Explain, req.Suppose = true, true
					if got := d.Evaluate(&req); got.Effect != policy.None {
						t.Errorf("explained: %v", got.Effect)
					}
					d.ContextKeys()
				}
			}
			// In proportion to each, were it not for what a long pattern leaves of a short text: (20 - 6) / (10 - 6).
			steady(t, 5, ask(1, 2), ask(2, 2))
			steady(t, 5, ask(2, 1), ask(2, 2))
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
