package policy_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/keywright/keywright/internal/policy"
)

// settledFacts are facts that know of some keys that they will never be there.
type settledFacts struct {
	facts
	never []string
}

func (s settledFacts) Absent(k policy.Key) bool { return slices.Contains(s.never, k.String()) }

// What is not known is neither true nor false; what is known is decided.
func TestSuppose(t *testing.T) {
	known := settledFacts{
		facts{"kms:viaservice": {"s3"}, "aws:tagkeys": {"a", "b"}, "aws:username": {"alice"}, "x:empty": {""}, "x:bucket": {"arn:aws:s3:::b"}},
		[]string{"aws:principalorgid"},
	}
	for _, tt := range []struct {
		name, statement string
		effect          policy.Effect
		failed          policy.Part
		given           []string
	}{
		{"nothing to suppose", on("Allow", any2, star), policy.Allow, policy.NoPart, nil},
		{"known and true", when(`"StringEquals":{"kms:ViaService":"s3"}`), policy.Allow, policy.NoPart, nil},
		{"known and false", when(`"StringEquals":{"kms:ViaService":"ec2"}`), policy.None, policy.PartCondition, nil},
		{
			"unknown", when(`"StringEquals":{"kms:EncryptionContext:stage":"prod"}`), policy.Allow, policy.NoPart,
			[]string{"StringEquals kms:EncryptionContext:stage = prod"},
		},
		{
			"several", when(`"StringNotEquals":{"a:b":["x","y"]},"Bool":{"aws:SecureTransport":true}`), policy.Allow, policy.NoPart,
			[]string{"StringNotEquals a:b = x, y", "Bool aws:SecureTransport = true"},
		},
		{"unknown and false", when(`"StringEquals":{"a:b":"x","kms:ViaService":"ec2"}`), policy.None, policy.PartCondition, nil},
		{"unknown IfExists", when(`"StringEqualsIfExists":{"a:b":"x"}`), policy.Allow, policy.NoPart, []string{"StringEqualsIfExists a:b = x"}},
		{"unknown ForAllValues", when(`"ForAllValues:StringEquals":{"a:b":"x"}`), policy.Allow, policy.NoPart, []string{"ForAllValues:StringEquals a:b = x"}},
		{"unknown Null", when(`"Null":{"a:b":"true"}`), policy.Allow, policy.NoPart, []string{"Null a:b = true"}},
		{"known Null", when(`"Null":{"kms:ViaService":"true"}`), policy.None, policy.PartCondition, nil},
		{"known to be empty", when(`"Null":{"x:empty":"true"}`), policy.Allow, policy.NoPart, nil},
		{"known not to be there", when(`"StringEquals":{"aws:PrincipalOrgID":"o-1"}`), policy.None, policy.PartCondition, nil},
		{"known not to be there, negated", when(`"StringNotEquals":{"aws:PrincipalOrgID":"o-1"}`), policy.Allow, policy.NoPart, nil},
		{
			"unknown variable", when(`"StringEquals":{"kms:ViaService":"${a:b}"}`), policy.Allow, policy.NoPart,
			[]string{"StringEquals kms:ViaService = ${a:b}"},
		},
		{"unknown variable, but true", when(`"StringEquals":{"kms:ViaService":["${a:b}","s3"]}`), policy.Allow, policy.NoPart, nil},
		{"unknown variable, but false", when(`"StringNotEquals":{"kms:ViaService":["${a:b}","s3"]}`), policy.None, policy.PartCondition, nil},
		{"known variable", when(`"StringLike":{"aws:username":"${aws:username}"}`), policy.Allow, policy.NoPart, nil},
		{
			"variable, all of several values", when(`"ForAllValues:StringEquals":{"aws:TagKeys":["a","${a:b}"]}`), policy.Allow, policy.NoPart,
			[]string{"ForAllValues:StringEquals aws:TagKeys = a, ${a:b}"},
		},
		{"variable, any of several values", when(`"ForAnyValue:StringEquals":{"aws:TagKeys":["a","${a:b}"]}`), policy.Allow, policy.NoPart, nil},
		{
			"variable of an ARN", when(`"ArnLike":{"x:bucket":"arn:aws:s3:::${a:b}"}`), policy.Allow, policy.NoPart,
			[]string{"ArnLike x:bucket = arn:aws:s3:::${a:b}"},
		},
		{"variable of an ARN, but false", when(`"ArnLike":{"x:bucket":["arn:aws:s3:::${a:b}"],"x:none":"*"}`), policy.Allow, policy.NoPart, []string{
			"ArnLike x:bucket = arn:aws:s3:::${a:b}", "ArnLike x:none = *",
		}},
		{"variable of an ARN of another service", when(`"ArnLike":{"x:bucket":"arn:aws:sns:::${a:b}"}`), policy.None, policy.PartCondition, nil},
		{"no ARN at all", when(`"ArnLike":{"kms:ViaService":"arn:aws:sns:::${a:b}"}`), policy.None, policy.PartCondition, nil},
		{
			"resource", on("Allow", any2, `"Resource":["arn:aws:kms:*:*:alias/x","arn:aws:kms:*:*:key/${a:b}"]`), policy.Allow, policy.NoPart,
			[]string{"Resource = arn:aws:kms:*:*:key/${a:b}"},
		},
		{"resource, but another part differs", on("Allow", any2, `"Resource":"arn:aws:s3:*:*:key/${a:b}"`), policy.None, policy.PartResource, nil},
		{
			"NotResource", on("Allow", any2, `"NotResource":"arn:aws:kms:*:*:key/${a:b}"`), policy.Allow, policy.NoPart,
			[]string{"NotResource = arn:aws:kms:*:*:key/${a:b}"},
		},
		{"action", on("Allow", `"Action":"kms:Decrypt"`, `"Resource":"*"`), policy.None, policy.PartAction, nil},
		{"deny", on("Deny", any2, star), policy.Deny, policy.NoPart, nil},
		{
			"deny, unknown", strings.Replace(when(`"StringNotEquals":{"a:b":"x"}`), "Allow", "Deny", 1), policy.None, policy.PartCondition,
			[]string{"StringNotEquals a:b = x"},
		},
		{
			"deny, resource unknown", on("Deny", any2, `"Resource":"arn:aws:kms:*:*:key/${a:b}"`), policy.None, policy.PartResource,
			[]string{"Resource = arn:aws:kms:*:*:key/${a:b}"},
		},
		{"deny, known", strings.Replace(when(`"StringEquals":{"kms:ViaService":"s3"}`), "Allow", "Deny", 1), policy.Deny, policy.NoPart, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, err := policy.Parse(policy.IdentityPolicy, []byte(document(tt.statement)))
			if err != nil {
				t.Fatal(err)
			}
			req := &policy.Request{Action: "kms:Encrypt", Resource: keyARN, Context: known, Explain: true, Suppose: true}
			got := d.Evaluate(req)
			r := got.Reasons[0]
			if got.Effect != tt.effect || r.Failed != tt.failed || !slices.Equal(r.Given, tt.given) {
				t.Errorf("%v, failed %v, given %q", got.Effect, r.Failed, r.Given)
			}
			if r.Failed == policy.PartCondition && r.Given == nil && (r.Condition == "" || r.Want == nil) {
				t.Errorf("failed without a condition: %+v", r)
			}
		})
	}
}

// The aliases of a key are never there for its own policy, so there is nothing to suppose.
func TestSupposeNever(t *testing.T) {
	d, err := policy.Parse(policy.KeyPolicy, []byte(document(
		`{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"ForAnyValue:StringEquals":{"kms:ResourceAliases":"alias/a"}}}`,
		`{"Effect":"Allow","Principal":"*","Action":"kms:*"}`)))
	if err != nil {
		t.Fatal(err)
	}
	got := d.Evaluate(&policy.Request{Action: "kms:Encrypt", Resource: keyARN, Explain: true, Suppose: true})
	if got.Effect != policy.None || got.Reasons[0].Failed != policy.PartCondition || got.Reasons[1].Failed != policy.PartMissing {
		t.Errorf("%+v", got)
	}
}

// A supposition leaves nothing to suppose when everything is known, and what it finds certain stays so once it is.
func TestSupposeAgrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, err := policy.Parse(policy.KeyPolicy, []byte(document(drawStatements(t)...)))
		if err != nil {
			t.Fatal(err)
		}
		req := drawRequest(t)
		all := req.Context.(facts)
		settled := settledFacts{all, []string{"kms:viaservice", "aws:tagkeys", "x:prefix"}}
		req.Explain, req.Suppose, req.Context = true, true, settled
		certain := d.Evaluate(req)
		if plain := d.Evaluate(&policy.Request{Principal: req.Principal, Action: req.Action, Resource: req.Resource, Context: all}); plain.Effect != certain.Effect || plain.Match != certain.Match {
			t.Fatalf("%v, and supposing nothing %v", plain, certain)
		}
		hidden := facts{}
		for k, v := range all {
			if rapid.Bool().Draw(t, "known") {
				hidden[k] = v
			}
		}
		req.Context = hidden
		for i, r := range d.Evaluate(req).Reasons {
			was := certain.Reasons[i]
			switch applies := was.Failed == policy.NoPart; {
			case r.Given == nil && applies != (r.Failed == policy.NoPart):
				t.Fatalf("statement %d: supposed to be certain:\n%+v\n%+v", i, r, was)
			case r.Effect == policy.Allow && r.Failed != policy.NoPart && applies:
				t.Fatalf("statement %d allows, but not when supposed:\n%+v\n%+v", i, r, was)
			}
		}
	})
}

func TestContextKeys(t *testing.T) {
	d, err := policy.Parse(policy.IdentityPolicy, []byte(document(
		`{"Effect":"Allow","Action":"*","Resource":["arn:aws:s3:::${aws:username}/${*}","arn:aws:kms:*:${x:account}:key/${ aws:PrincipalAccount }"],
		  "Condition":{"StringEquals":{"kms:EncryptionContext:App":"${aws:PrincipalTag/App, 'none'}","AWS:UserName":"a"},"NumericEquals":{"x:n":1}}}`,
		`{"Effect":"Deny","NotAction":"*","Resource":"*","Condition":{"ArnNotLike":{"aws:sourcearn":"arn:aws:s3:::${x:N}-${x:other}"},
		  "ForAnyValue:StringLike":{"KMS:encryptioncontext:app":"*"},"Null":{"aws:TagKeys":"true"}}}`)))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"aws:username", "aws:PrincipalAccount", "kms:EncryptionContext:App", "aws:PrincipalTag/App", "x:n", "aws:sourcearn", "x:other", "aws:TagKeys",
	}
	if got := d.ContextKeys(); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	old, err := policy.Parse(policy.IdentityPolicy, []byte(`{"Statement":`+on("Allow", any2, `"Resource":"arn:aws:s3:::${aws:username}"`)+`}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := old.ContextKeys(); len(got) != 0 {
		t.Errorf("the older version: %q", got)
	}
}
