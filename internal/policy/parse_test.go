package policy_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/policy"
)

// The kinds under short names, for the table.
const (
	kmsKey   = policy.KeyPolicy
	idPolicy = policy.IdentityPolicy
	scp      = policy.ServiceControlPolicy
	rcp      = policy.ResourceControlPolicy
)

func TestParseErrors(t *testing.T) {
	const (
		statement = `{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}`
		mine      = `{"Effect":"Allow","Action":"kms:*","Resource":"*"}`
	)
	in := document
	with := func(condition string) string {
		return in(`{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*","Condition":` + condition + `}`)
	}
	tests := []struct {
		name  string
		kind  policy.Kind
		doc   string
		fault policy.Fault
		want  string // the start of the message
	}{
		{"zero kind", 0, in(mine), policy.TooLarge, "the document is larger than 0"},
		{"empty", kmsKey, "", policy.Malformed, "the document is not valid JSON"},
		{"cut short", kmsKey, `{"Statement":[`, policy.Malformed, "Statement: the document is not valid JSON"},
		{"list", kmsKey, `[]`, policy.Malformed, "the document must be a JSON object"},
		{"text after the end", kmsKey, in(statement) + "x", policy.Malformed, "there is something after the end"},
		{"second document", kmsKey, in(statement) + "{}", policy.Malformed, "there is something after the end"},
		{"not UTF-8", kmsKey, "{\"Id\":\"\xff\"}", policy.Malformed, "the document is not UTF-8"},
		{"character beyond U+00FF", kmsKey, `{"Id":"€"}`, policy.Malformed, "character U+20AC is not allowed"},
		{"control character", kmsKey, "{\"Id\":\"\x00\"}", policy.Malformed, "character U+0000 is not allowed"},
		{"escaped control character", kmsKey, `{"Id":"\u0001"}`, policy.Malformed, "Id: control characters are not allowed"},
		{"too deep", kmsKey, strings.Repeat(`{"Id":`, 100) + "1" + strings.Repeat("}", 100), policy.Malformed, "Id.Id.Id.Id.Id.Id.Id.Id.Id.Id.Id: nested too deeply"},
		{"duplicate member", kmsKey, `{"Id":"a","Id":"b"}`, policy.Malformed, "Id: appears twice"},
		{"duplicate in a statement", kmsKey, in(`{"Effect":"Deny","Effect":"Allow"}`), policy.Malformed, "Statement[0].Effect: appears twice"},
		{"duplicate condition key", kmsKey, with(`{"Bool":{"a:b":"true","a:b":"false"}}`), policy.Malformed, "Statement[0].Condition.Bool.a:b: appears twice"},
		{"unknown member", kmsKey, `{"version":"2012-10-17"}`, policy.Malformed, "version: is not an element of a policy"},
		{"unknown version", kmsKey, `{"Version":"2012-10-18"}`, policy.Malformed, "Version: must be 2012-10-17 or 2008-10-17"},
		{"number as version", kmsKey, `{"Version":2012}`, policy.Malformed, "Version: must be"},
		{"number as Id", kmsKey, `{"Id":1}`, policy.Malformed, "Id: must be a string"},
		{"no statement", kmsKey, `{}`, policy.Malformed, "Statement: must be a statement or a list of at least one"},
		{"empty list of statements", kmsKey, `{"Statement":[]}`, policy.Malformed, "Statement: must be"},
		{"null statement", kmsKey, `{"Statement":null}`, policy.Malformed, "Statement: must be"},
		{"string as statement", kmsKey, `{"Statement":["x"]}`, policy.Malformed, "Statement[0]: must be an object"},
		{"unknown element", kmsKey, in(statement, `{"Principals":"*"}`), policy.Malformed, "Statement[1].Principals: is not an element of a statement"},
		{"element of a lone statement", kmsKey, `{"Statement":{"Sid":1}}`, policy.Malformed, "Statement.Sid: must be a string"},
		{"no effect", kmsKey, in(`{"Principal":"*","Action":"kms:*","Resource":"*"}`), policy.Malformed, "Statement[0]: has no Effect"},
		{"lower-case effect", kmsKey, in(`{"Effect":"allow"}`), policy.Malformed, "Statement[0].Effect: must be Allow or Deny"},
		{"list as effect", kmsKey, in(`{"Effect":["Allow"]}`), policy.Malformed, "Statement[0].Effect: must be Allow or Deny"},
		{"no principal", kmsKey, in(mine), policy.Malformed, "Statement[0]: has no Principal"},
		{"principal in an identity policy", idPolicy, in(statement), policy.Malformed, "Statement[0].Principal: is not allowed in this kind of policy"},
		{"both principals", kmsKey, in(`{"Effect":"Deny","Principal":"*","NotPrincipal":"*"}`), policy.Malformed, "Statement[0]: has both Principal and NotPrincipal"},
		{"both actions", idPolicy, in(`{"Effect":"Deny","Action":"*","NotAction":"*","Resource":"*"}`), policy.Malformed, "Statement[0]: has both Action and NotAction"},
		{"both resources", idPolicy, in(`{"Effect":"Deny","Action":"*","NotResource":"*","Resource":"*"}`), policy.Malformed, "Statement[0]: has both Resource and NotResource"},
		{"no action", idPolicy, in(`{"Effect":"Deny","Resource":"*"}`), policy.Malformed, "Statement[0]: has no Action"},
		{"no resource", idPolicy, in(`{"Effect":"Deny","Action":"*"}`), policy.Malformed, "Statement[0]: has no Resource"},
		{"resource in a trust policy", policy.TrustPolicy, in(statement), policy.Malformed, "Statement[0].Resource: is not allowed"},
		{"empty action list", kmsKey, in(`{"Action":[]}`), policy.Malformed, "Statement[0].Action: must not be an empty list"},
		{"number as action", kmsKey, in(`{"Action":["kms:*",1]}`), policy.Malformed, "Statement[0].Action[1]: must be a string"},
		{"object as action", kmsKey, in(`{"Action":{}}`), policy.Malformed, "Statement[0].Action: must be a string or a list of strings"},
		{"action without vendor", kmsKey, in(`{"Action":"Encrypt"}`), policy.Malformed, "Statement[0].Action: 'Encrypt' is not an action"},
		{"wildcard as vendor", idPolicy, in(`{"Action":"k*:Encrypt"}`), policy.Malformed, "Statement[0].Action: 'k*:Encrypt' is not an action"},
		{"resource that is no ARN", idPolicy, in(`{"Resource":"key/1"}`), policy.Malformed, "Statement[0].Resource: 'key/1' is neither * nor an ARN"},
		{"open variable", idPolicy, in(`{"Resource":"arn:aws:kms:*:*:key/${aws:username"}`), policy.Malformed, "Statement[0].Resource: a policy variable is not closed"},
		{"variable without name", idPolicy, in(`{"Resource":"arn:aws:kms:*:*:key/${}"}`), policy.Malformed, "Statement[0].Resource: '${}' is not a policy variable"},
		{"open variable in a string", kmsKey, with(`{"StringLike":{"a:b":["x","${c:d"]}}`), policy.Malformed, "Statement[0].Condition.StringLike.a:b: a policy variable is not closed"},
		{"open variable in an ARN", kmsKey, with(`{"ArnLike":{"a:b":"arn:aws:s3:::${c:d, 'x}"}}`), policy.Malformed, "Statement[0].Condition.ArnLike.a:b: a policy variable is not closed"},
		{"open variable in a part of an ARN", kmsKey, with(`{"ArnLike":{"a:b":"arn:aws:sns:*:${c:d:x:y"}}`), policy.Malformed, "Statement[0].Condition.ArnLike.a:b: a policy variable is not closed"},
		{"variable of a variable", kmsKey, with(`{"StringLike":{"a:b":"${${c:d}}"}}`), policy.Malformed, "Statement[0].Condition.StringLike.a:b: '${${c:d}' is not a policy variable"},
		{"number as a name", kmsKey, `{1:2}`, policy.Malformed, "the document is not valid JSON"},
		{"list that does not end", kmsKey, `{"Statement":[{}`, policy.Malformed, "Statement: the document is not valid JSON"},
		{"object that does not end", kmsKey, `{"Statement":[{"Sid":"a"`, policy.Malformed, "Statement[0]: the document is not valid JSON"},
		{"boolean as resource", idPolicy, in(`{"Resource":true}`), policy.Malformed, "Statement[0].Resource: must be a string or a list of strings"},
		{"number as principal", kmsKey, in(`{"Principal":{"AWS":[1]}}`), policy.Malformed, "Statement[0].Principal.AWS[0]: must be a string"},
		{"list as principal", kmsKey, in(`{"Principal":["*"]}`), policy.Malformed, `Statement[0].Principal: must be "*" or an object`},
		{"wildcard as provider", policy.TrustPolicy, in(`{"Principal":{"Federated":"*.example.com"}}`), policy.BadPrincipal, "Statement[0].Principal.Federated: '*.example.com' is not a principal"},
		{"no statement in a list", kmsKey, `{"Statement":[[]]}`, policy.Malformed, "Statement[0]: must be an object"},
		{"unquoted default", idPolicy, in(`{"Resource":"arn:aws:kms:*:*:key/${a:b, c}"}`), policy.Malformed, "Statement[0].Resource: the default of a policy variable"},
		{"Sid with a space", idPolicy, in(`{"Sid":"a b"}`), policy.Malformed, "Statement[0].Sid: must have letters and digits only"},
		{"Sid twice", idPolicy, in(`{"Sid":"a","Effect":"Allow","Action":"*","Resource":"*"}`, `{"Sid":"a"}`), policy.Malformed, "Statement[1].Sid: appears in another statement"},
		{"string as principal", kmsKey, in(`{"Principal":"arn:aws:iam::111122223333:root"}`), policy.Malformed, `Statement[0].Principal: must be "*" or an object`},
		{"empty principal", kmsKey, in(`{"Principal":{}}`), policy.Malformed, `Statement[0].Principal: must be "*" or an object`},
		{"unknown type of principal", kmsKey, in(`{"Principal":{"aws":"*"}}`), policy.Malformed, "Statement[0].Principal.aws: "},
		{"condition that is a list", kmsKey, with(`[]`), policy.Malformed, "Statement[0].Condition: must be an object"},
		{"operator that is a string", kmsKey, with(`{"Bool":"true"}`), policy.Malformed, "Statement[0].Condition.Bool: must be an object"},
		{"unknown operator", kmsKey, with(`{"StringEqual":{"a:b":"c"}}`), policy.Malformed, "Statement[0].Condition.StringEqual: is not a condition operator"},
		{"NullIfExists", kmsKey, with(`{"NullIfExists":{"a:b":"true"}}`), policy.Malformed, "Statement[0].Condition.NullIfExists: is not"},
		{"set operator on Null", kmsKey, with(`{"ForAllValues:Null":{"a:b":"true"}}`), policy.Malformed, "Statement[0].Condition.ForAllValues:Null: is not"},
		{"unknown set operator", kmsKey, with(`{"ForSomeValues:Bool":{"a:b":"true"}}`), policy.Malformed, "Statement[0].Condition.ForSomeValues:Bool: is not"},
		{"two prefixes", kmsKey, with(`{"ForAllValues:ForAnyValue:Bool":{"a:b":"true"}}`), policy.Malformed, "Statement[0].Condition.ForAllValues:ForAnyValue:Bool: is not"},
		{"key without vendor", kmsKey, with(`{"Bool":{"b":"true"}}`), policy.Malformed, "Statement[0].Condition.Bool.b: is not a condition key"},
		{"variable in a key", kmsKey, with(`{"Bool":{"kms:EncryptionContext:${aws:username}":"true"}}`), policy.Malformed, "Statement[0].Condition.Bool.kms:EncryptionContext:${aws:username}: is not a condition key"},
		{"object as value", kmsKey, with(`{"Bool":{"a:b":{}}}`), policy.Malformed, "Statement[0].Condition.Bool.a:b: must be a string, number or boolean, or a list"},
		{"null in values", kmsKey, with(`{"Bool":{"a:b":["true",null]}}`), policy.Malformed, "Statement[0].Condition.Bool.a:b[1]: must be"},
		{"no boolean", kmsKey, with(`{"Bool":{"a:b":"1"}}`), policy.Malformed, "Statement[0].Condition.Bool.a:b: '1' is not true or false"},
		{"no number", kmsKey, with(`{"NumericEquals":{"a:b":"Inf"}}`), policy.Malformed, "Statement[0].Condition.NumericEquals.a:b: 'Inf' is not a number"},
		{"variable as number", kmsKey, with(`{"NumericEquals":{"a:b":"${c:d}"}}`), policy.Malformed, "Statement[0].Condition.NumericEquals.a:b: '${c:d}' is not a number"},
		{"no date", kmsKey, with(`{"DateEquals":{"a:b":"2026-13-01"}}`), policy.Malformed, "Statement[0].Condition.DateEquals.a:b: '2026-13-01' is not a date"},
		{"no address", kmsKey, with(`{"IpAddress":{"a:b":"1.2.3.4/33"}}`), policy.Malformed, "Statement[0].Condition.IpAddress.a:b: '1.2.3.4/33' is not an IP address"},
		{"no Base64", kmsKey, with(`{"BinaryEquals":{"a:b":"%"}}`), policy.Malformed, "Statement[0].Condition.BinaryEquals.a:b: '%' is not Base64"},
		{"no Null", kmsKey, with(`{"Null":{"a:b":"absent"}}`), policy.Malformed, "Statement[0].Condition.Null.a:b: 'absent' is not true or false"},
		{"ForAllValues on encryption context", kmsKey, with(`{"ForAllValues:StringEquals":{"kms:EncryptionContext:k":"v"}}`), policy.OverlyPermissive, ""},
		{"ForAllValues on a tag", kmsKey, with(`{"ForAllValues:StringLike":{"aws:ResourceTag/k":"v"}}`), policy.OverlyPermissive, ""},
		{"principal in a service control policy", scp, in(statement), policy.Malformed, "Statement[0].Principal: is not allowed in this kind of policy"},
		{"service control policy without resource", scp, in(`{"Effect":"Deny","Action":"*"}`), policy.Malformed, "Statement[0]: has no Resource"},
		{"resource control without principal", rcp, in(`{"Effect":"Deny","Action":"kms:*","Resource":"*"}`), policy.Malformed, "Statement[0]: has no Principal"},
		{"resource control with NotPrincipal", rcp, in(`{"Effect":"Deny","NotPrincipal":"*"}`), policy.Malformed, "Statement[0].NotPrincipal: is not allowed in this kind of policy"},
		{"resource control of an account", rcp, in(`{"Effect":"Deny","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"}`), policy.BadPrincipal, `Statement[0].Principal: must be "*"`},
		{"resource control of two", rcp, in(`{"Effect":"Deny","Principal":{"AWS":["*","111122223333"]},"Action":"kms:*","Resource":"*"}`), policy.BadPrincipal, `Statement[0].Principal: must be "*"`},
		{"resource control with NotAction", rcp, in(`{"Effect":"Deny","Principal":"*","NotAction":"kms:*","Resource":"*"}`), policy.Malformed, "Statement[0].NotAction: is not allowed in this kind of policy"},
		{"resource control of all services", rcp, in(`{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*"}`), policy.Malformed, "Statement[0].Action: must name a service, as in kms:*"},
		{"resource control that allows", rcp, in(statement), policy.Malformed, "Statement[0].Effect: must be Deny, except"},
		{"resource control that allows all under a condition", rcp, in(`{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*","Condition":{"Bool":{"a:b":"true"}}}`), policy.Malformed, "Statement[0].Effect: must be Deny, except"},
		{"resource control that allows all keys", rcp, in(`{"Effect":"Allow","Principal":"*","Action":"*","Resource":"arn:aws:kms"}`), policy.Malformed, "Statement[0].Effect: must be Deny, except"},
		{"resource control that allows NotResource", rcp, in(`{"Effect":"Allow","Principal":"*","Action":"*","NotResource":"*"}`), policy.Malformed, "Statement[0].Effect: must be Deny, except"},
		{"resource control that allows NotAction", rcp, in(`{"Effect":"Allow","Principal":"*","NotAction":"*","Resource":"*"}`), policy.Malformed, "Statement[0].Effect: must be Deny, except"},
		{"key policy too large", kmsKey, in(statement) + strings.Repeat(" ", 32769), policy.TooLarge, "the document is larger than 32768"},
		{"session policy too large", policy.SessionPolicy, in(mine, strings.Repeat("x", 2048)), policy.TooLarge, "the document is larger than 2048"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := policy.Parse(tt.kind, []byte(tt.doc))
			var e *policy.Error
			if !errors.As(err, &e) {
				t.Fatalf("error %v", err)
			}
			if e.Fault != tt.fault || !strings.HasPrefix(e.Error(), tt.want) {
				t.Errorf("fault %d: %v", e.Fault, e)
			}
		})
	}
}

// Each kind has its limit and its unit: octets, characters, or characters that are not white space.
func TestSizes(t *testing.T) {
	plain := document(on("Allow", any2, star))
	principal := `{"Effect":"Allow","Principal":"*","Action":"sts:*"`
	for _, tt := range []struct {
		kind   policy.Kind
		doc    string
		limit  int
		blanks bool // blanks count
		wide   int  // what é counts
	}{
		{policy.KeyPolicy, document(principal + `,"Resource":"*"}`), 32768, true, 2},
		{policy.IdentityPolicy, plain, 10240, false, 1},
		{policy.TrustPolicy, document(principal + "}"), 2048, false, 1},
		{policy.SessionPolicy, plain, 2048, true, 1},
		{policy.BoundaryPolicy, plain, 6144, false, 1},
		{policy.ServiceControlPolicy, plain, 5120, true, 1},
		{policy.ResourceControlPolicy, document(`{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}`), 5120, true, 1},
	} {
		parse := func(text string) error {
			_, err := policy.Parse(tt.kind, []byte(text))
			return err
		}
		// An Id fills the document up to its limit.
		with := func(id string) string { return `{"Id":"` + id + `",` + tt.doc[1:] }
		room := tt.limit - len(with(""))
		if err := parse(with(strings.Repeat("x", room))); err != nil {
			t.Errorf("kind %d: %v", tt.kind, err)
		}
		var e *policy.Error
		if err := parse(with(strings.Repeat("x", room+1))); !errors.As(err, &e) || e.Fault != policy.TooLarge {
			t.Errorf("kind %d, one more: %v", tt.kind, err)
		}
		if err := parse(with(strings.Repeat("é", room/tt.wide))); err != nil {
			t.Errorf("kind %d, wide letters: %v", tt.kind, err)
		}
		if err := parse(with(strings.Repeat("é", room/tt.wide+1))); err == nil {
			t.Errorf("kind %d, one wide letter more: accepted", tt.kind)
		}
		if err := parse(tt.doc + strings.Repeat(" \n", tt.limit)); (err != nil) != tt.blanks {
			t.Errorf("kind %d, blanks: %v", tt.kind, err)
		}
		if err := parse(tt.doc + strings.Repeat(" ", 131073)); err == nil {
			t.Errorf("kind %d: endless blanks were accepted", tt.kind)
		}
	}
	d, err := policy.Parse(policy.IdentityPolicy, []byte(plain+strings.Repeat(" \n", 5000)))
	if err != nil {
		t.Fatal(err)
	}
	if d.Chars() != len(plain) {
		t.Errorf("%d characters, want %d", d.Chars(), len(plain))
	}
}

func TestMessages(t *testing.T) {
	parse := func(principal, condition string) string {
		_, err := policy.Parse(policy.KeyPolicy, []byte(document(
			`{"Effect":"Allow","Principal":`+principal+`,"Action":"kms:*","Resource":"*","Condition":`+condition+`}`)))
		var e *policy.Error
		if !errors.As(err, &e) {
			t.Fatalf("%s %s: %v", principal, condition, err)
		}
		return e.Message()
	}
	for _, p := range []string{
		"", "*1", "arn:aws:iam::111122223333:group/g", "arn:aws:iam::111122223333:user/*", "arn:aws:iam::1111:root", "11112222333",
		"arn:aws:iam::111122223333:user/", "arn:aws:iam::111122223333:user", "arn:aws:iam:us-east-1:111122223333:root",
		"arn:aws:sts::111122223333:assumed-role/r", "arn:aws:sts::111122223333:assumed-role/r/s/t", "arn:aws:s3:::bucket",
		"arn:aws:sts::111122223333:assumed-role//s", "AKIAIOSFODNN7EXAMPLE", "AIDAshort", "arn:aws:iam::111122223333:*", "arn",
	} {
		if got := parse(fmt.Sprintf(`{"AWS":%q}`, p), "{}"); got != "Policy contains a statement with one or more invalid principals." {
			t.Errorf("%s: %s", p, got)
		}
	}
	for _, p := range []string{"", "s3", "*", "*.amazonaws.com", "s3.amazonaws.com/x"} {
		if got := parse(fmt.Sprintf(`{"Service":[%q]}`, p), "{}"); got != "Policy contains a statement with one or more invalid service principals." {
			t.Errorf("%s: %s", p, got)
		}
	}
	want := "OverlyPermissiveCondition:EncryptionContext: Using the ForAllValues set operator with a single-valued condition key " +
		"matches requests without the specified encryption context or with an unspecified encryption context. To fix, remove ForAllValues."
	if got := parse(`"*"`, `{"ForAllValues:StringEquals":{"kms:EncryptionContext:k":"v"}}`); got != want {
		t.Error(got)
	}
	want = "Statement[0].Condition.X: is not a condition operator"
	if got := parse(`"*"`, `{"X":{}}`); got != want {
		t.Error(got)
	}
}

func TestText(t *testing.T) {
	const doc = `{"Id":"i\u2028\ud83d\udd11\r\t","Version":"2012-10-17","Statement":[{"Sid":"q\"\\é\u20ac\n","Effect":"Allow","Principal":"*",` +
		`"Resource":"*","Action":["kms:Encrypt","kms:Decrypt"],"Condition":{"StringEquals":{},"Bool":{"a:b":true},"NumericEquals":{"c:d":[1.50,"2"],"e:f":[]}}},` +
		`{"Effect":"Deny","NotPrincipal":{"AWS":["arn:aws:iam::111122223333:user/a","*"],"Service":"s3.amazonaws.com"},"Action":"kms:*","Resource":"*"}]}`
	const want = `{
  "Id" : "i\u2028\uD83D\uDD11\r\t",
  "Version" : "2012-10-17",
  "Statement" : [ {
    "Sid" : "q\"\\é\u20AC\n",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "*"
    },
    "Resource" : "*",
    "Action" : [ "kms:Encrypt", "kms:Decrypt" ],
    "Condition" : {
      "StringEquals" : { },
      "Bool" : {
        "a:b" : true
      },
      "NumericEquals" : {
        "c:d" : [ 1.50, "2" ],
        "e:f" : [ ]
      }
    }
  }, {
    "Effect" : "Deny",
    "NotPrincipal" : {
      "AWS" : [ "AIDAX", "*" ],
      "Service" : "s3.amazonaws.com"
    },
    "Action" : "kms:*",
    "Resource" : "*"
  } ]
}`
	d, err := policy.Parse(policy.KeyPolicy, []byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	got := d.TextWith(func(p string) string {
		if strings.HasSuffix(p, "user/a") {
			return "AIDAX"
		}
		return p
	})
	if got != want {
		t.Errorf("got\n%s", got)
	}
	lone, err := policy.Parse(policy.KeyPolicy, []byte(`{"Statement":{"Effect":"Allow","Principal":"*"}}`))
	if err != nil {
		t.Fatal(err)
	}
	const wantLone = "{\n  \"Statement\" : {\n    \"Effect\" : \"Allow\",\n    \"Principal\" : {\n      \"AWS\" : \"*\"\n    }\n  }\n}"
	if got := lone.Text(); got != wantLone {
		t.Errorf("got\n%s", got)
	}
}

func TestPrincipals(t *testing.T) {
	d, err := policy.Parse(policy.KeyPolicy, []byte(document(
		to("Allow", `"Principal":{"AWS":["111122223333","arn:aws:iam::111122223333:user/a","*"]}`),
		to("Deny", `"NotPrincipal":{"Service":"s3.amazonaws.com","Federated":"f","CanonicalUser":"c"}`))))
	if err != nil {
		t.Fatal(err)
	}
	want := []policy.Named{
		{0, "AWS", "111122223333"},
		{0, "AWS", "arn:aws:iam::111122223333:user/a"},
		{1, "Service", "s3.amazonaws.com"},
		{1, "Federated", "f"},
		{1, "CanonicalUser", "c"},
	}
	if got := d.Principals(); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

// A user who is made again under the same name is another one.
func TestBind(t *testing.T) {
	d, err := policy.Parse(policy.KeyPolicy, []byte(document(to("Allow", `"Principal":{"AWS":["arn:aws:iam::111122223333:user/alice",`+
		`"arn:aws:iam::111122223333:role/ops","arn:aws:sts::111122223333:assumed-role/ops/monday"]}`))))
	if err != nil {
		t.Fatal(err)
	}
	for _, same := range []bool{true, false} {
		bound := d.Bind(func(a string) (string, bool) {
			switch {
			case !same:
				return "AIDAOLD0000000000001", true
			case strings.HasSuffix(a, "alice"):
				return callers["alice"].ID, true
			}
			return callers["ops"].ID, true
		})
		for _, who := range []string{"alice", "ops", "ops2"} {
			req := &policy.Request{Principal: callers[who], Action: "kms:Encrypt", Resource: keyARN}
			if got := bound.Evaluate(req).Effect == policy.Allow; got != same {
				t.Errorf("%s, same id %v: allowed %v", who, same, got)
			}
			if d.Evaluate(req).Effect != policy.Allow {
				t.Errorf("%s: Bind changed the original", who)
			}
		}
	}
}

// Bound entries follow a principal through changes of its name and path.
func TestBindFollowsRenames(t *testing.T) {
	ids := map[string]string{
		"arn:aws:iam::111122223333:user/alice":              callers["alice"].ID,
		"arn:aws:iam::111122223333:role/ops":                callers["ops"].ID,
		"arn:aws:sts::111122223333:assumed-role/ops/monday": callers["ops"].ID,
	}
	renamed := func(name, arn, role string) *policy.Principal {
		p := *callers[name]
		p.ARN, p.RoleARN = arn, role
		return &p
	}
	const role = "arn:aws:iam::111122223333:role/dept/operations"
	later := []*policy.Principal{
		renamed("alice", "arn:aws:iam::111122223333:user/dept/alicia", ""),
		renamed("ops", "arn:aws:sts::111122223333:assumed-role/operations/monday", role),
		renamed("ops2", "arn:aws:sts::111122223333:assumed-role/operations/tuesday", role),
	}
	thief := *callers["bob"]
	thief.ARN = callers["alice"].ARN
	otherRole := *callers["ops"]
	otherRole.ID = "AROAOTHER00000000001"
	noID := *callers["alice"]
	noID.ID = ""
	for _, kind := range []policy.Kind{policy.KeyPolicy, policy.TrustPolicy} {
		for entry, want := range map[string][]policy.Match{ // of each of those
			"arn:aws:iam::111122223333:user/alice":              {policy.MatchExact, 0, 0},
			"arn:aws:iam::111122223333:role/ops":                {0, policy.MatchRole, policy.MatchRole},
			"arn:aws:sts::111122223333:assumed-role/ops/monday": {0, policy.MatchExact, 0},
		} {
			resource := `,"Resource":"*"`
			if kind == policy.TrustPolicy {
				resource = ""
			}
			doc := document(`{"Effect":"Allow","Principal":{"AWS":"` + entry + `"},"Action":"*"` + resource + `}`)
			d, err := policy.Parse(kind, []byte(doc))
			if err != nil {
				t.Fatal(err)
			}
			bound := d.Bind(func(arn string) (string, bool) { id, ok := ids[arn]; return id, ok })
			if got := bound.Bound(); len(got) != 1 || got[entry] != ids[entry] || len(d.Bound()) != 0 {
				t.Errorf("%s: bound as %v", entry, got)
			}
			for i, p := range later {
				got := bound.Evaluate(&policy.Request{Principal: p, Action: "kms:Encrypt", Resource: keyARN})
				if got.Match != want[i] {
					t.Errorf("%s, %s: match %04b, want %04b", entry, p.ARN, got.Match, want[i])
				}
			}
			for _, p := range []*policy.Principal{&thief, &otherRole, &noID} {
				if got := bound.Evaluate(&policy.Request{Principal: p, Action: "kms:Encrypt", Resource: keyARN}); got.Effect != policy.None {
					t.Errorf("%s matches %s with id %q", entry, p.ARN, p.ID)
				}
			}
		}
	}
	// A federated user has no id of its own; nor has a name that nobody has.
	d, err := policy.Parse(policy.KeyPolicy, []byte(document(to("Allow", `"Principal":{"AWS":"arn:aws:sts::111122223333:federated-user/fay"}`))))
	if err != nil {
		t.Fatal(err)
	}
	bound := d.Bind(func(string) (string, bool) { return "", true })
	if got := bound.Evaluate(&policy.Request{Principal: callers["fed"], Action: "kms:Encrypt", Resource: keyARN}); got.Match != policy.MatchExact || len(bound.Bound()) != 0 {
		t.Errorf("federated user: %+v", got)
	}
}

func TestExplain(t *testing.T) {
	d, err := policy.Parse(policy.KeyPolicy, []byte(document(
		`{"Sid":"p","Effect":"Allow","Principal":{"AWS":"444455556666"},"Action":"kms:*","Resource":"*"}`,
		`{"Sid":"a","Effect":"Allow","Principal":"*","Action":"kms:Decrypt","Resource":"*"}`,
		`{"Sid":"r","Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"arn:aws:kms:*:*:alias/x"}`,
		`{"Sid":"c","Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"Bool":{"a:b":"false"},"StringEquals":{"kms:ViaService":["x","y"]}}}`,
		`{"Sid":"n","Effect":"Allow","Principal":"*","Action":"kms:*"}`,
		`{"Sid":"ok","Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"}`)))
	if err != nil {
		t.Fatal(err)
	}
	got := d.Evaluate(&policy.Request{
		Principal: callers["alice"], Action: "kms:Encrypt", Resource: keyARN, Explain: true,
		Context: facts{"a:b": {"false"}, "kms:viaservice": {"z"}},
	})
	if got.Effect != policy.Allow || got.Match != policy.MatchAccount || len(got.Reasons) != 6 {
		t.Fatalf("got %+v", got)
	}
	for i, want := range []policy.Part{policy.PartPrincipal, policy.PartAction, policy.PartResource, policy.PartCondition, policy.PartMissing, policy.NoPart} {
		if r := got.Reasons[i]; r.Failed != want || r.Statement != i {
			t.Errorf("statement %d failed at %v, want %v", i, r.Failed, want)
		}
	}
	c := got.Reasons[3]
	if c.Sid != "c" || c.Effect != policy.Deny || c.Condition != "StringEquals kms:ViaService" ||
		!slices.Equal(c.Want, []string{"x", "y"}) || !slices.Equal(c.Have, []string{"z"}) {
		t.Errorf("condition: %+v", c)
	}
}

func TestParseKey(t *testing.T) {
	for in, want := range map[string]policy.Key{
		"kms:ViaService":                            {Name: "kms:viaservice"},
		"kms:EncryptionContext:App:Name/x":          {Name: "kms:encryptioncontext", Sub: "app:name/x"},
		"kms:EncryptionContext:AppName":             {Name: "kms:encryptioncontext", Sub: "appname"},
		"kms:EncryptionContextKeys":                 {Name: "kms:encryptioncontextkeys"},
		"aws:ResourceTag/Cost/Center":               {Name: "aws:resourcetag", Sub: "cost/center"},
		"oidc.eks.eu-west-1.amazonaws.com/id/X:sub": {Name: "oidc.eks.eu-west-1.amazonaws.com/id/x:sub"},
		"kms:RecipientAttestation:PCR0":             {Name: "kms:recipientattestation", Sub: "pcr0"},
		"plain":                                     {Name: "plain"},
	} {
		if got := policy.ParseKey(in); got != want {
			t.Errorf("%s: %+v", in, got)
		}
		if got := policy.ParseKey(in).String(); got != strings.ToLower(in) {
			t.Errorf("%s: printed as %s", in, got)
		}
	}
}

// The built-in policies are valid, printed in the service's style, and say what they are for.
func TestBuiltInPolicies(t *testing.T) {
	const region arn.Region = "us-east-1"
	for _, text := range []string{
		policy.DefaultKeyPolicy(account, "aws"), policy.DefaultKeyPolicy(account, "aws-us-gov"), policy.AWSManagedKeyPolicy("s3", account, region),
	} {
		d, err := policy.Parse(policy.KeyPolicy, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if d.Text() != text {
			t.Errorf("printed as\n%s\nnot\n%s", d.Text(), text)
		}
	}
	g := group{"AWS managed key", policy.KeyPolicy, policy.AWSManagedKeyPolicy("s3", account, region), `
		allow:anyone alice kms:Decrypt kms:CallerAccount=111122223333 kms:ViaService=s3.us-east-1.amazonaws.com
		none alice kms:Decrypt kms:CallerAccount=111122223333
		none stranger kms:Decrypt kms:CallerAccount=444455556666 kms:ViaService=s3.us-east-1.amazonaws.com
		allow:account alice kms:DescribeKey kms:CallerAccount=111122223333
		allow:account,exact root kms:GetKeyPolicy
		none root kms:PutKeyPolicy
		none root kms:ScheduleKeyDeletion`}
	g.run(t)
}
