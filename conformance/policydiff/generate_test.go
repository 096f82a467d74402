package policydiff_test

import (
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/policy"
)

// keyFamily is a condition key with values that policies want and requests have. The sets are small, so that they meet.
type keyFamily struct {
	name      string
	operators []string
	want      []string
	have      []string
}

var (
	stringOperators = []string{
		"StringEquals", "StringNotEquals", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "StringLike", "StringNotLike",
	}
	numberOperators = []string{
		"NumericEquals", "NumericNotEquals", "NumericLessThan", "NumericLessThanEquals", "NumericGreaterThan", "NumericGreaterThanEquals",
	}
	dateOperators = []string{
		"DateEquals", "DateNotEquals", "DateLessThan", "DateLessThanEquals", "DateGreaterThan", "DateGreaterThanEquals",
	}
	arnOperators     = []string{"ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike"}
	addressOperators = []string{"IpAddress", "NotIpAddress"}

	strs = []string{
		"a", "A", "b", "ab", "a*", "*b", "?", "a?", "*", "", "a.b", "a+", "[ab]", "(a|b)", "^a$", `a\b`, "é", "É", "ab/cd", "a b",
		"${aws:username}", "${AWS:UserName}-*", "*${aws:PrincipalTag/team}", "a${aws:PrincipalTag/team}", "b${aws:PrincipalTag/team}", "${aws:PrincipalTag/team, 'a'}", "x${app:Missing}", "${app:Missing, 'b'}",
		"${*}", "a${?}", "${$}", "a${*}b", "${aws:TagKeys}", "$", "$a", "{a}", "a}b",
	}
	haveStrs = []string{
		"a", "A", "b", "ab", "aab", "a*", "*", "?", "a?", "a*b", "axb", "a.b", "a+", "aa", "[ab]", "(a|b)", `a\b`, "é", "É", "ab/cd", "a b", "$", "alice",
		"alice-1", "${aws:username}", "{a}", "a}b", "",
	}
	numbers     = []string{"0", "1", "-1", "7", "7.0", "07", "365", "1e2", "100", "0.5"}
	haveNumbers = append(slices.Clone(numbers), "seven", "", "7 ")
	dates       = []string{
		"2026-11-23", "2026-11-23T00:00:00Z", "2026-11-23T04:00:00+01:00", "2026-11-23T04:00:00.5Z", "2026-11-23T04:00Z", "2030-01-01T00:00:00Z", "1795406400",
	}
	haveDates = append(slices.Clone(dates), "tomorrow", "2026-11-23T04:00:00Z")
	arns      = []string{
		"arn:aws:iam::111122223333:user/team/alice", "arn:aws:iam::111122223333:user/*", "arn:aws:iam::*:role/ops", "arn:aws:s3:::bucket", "arn:aws:s3:::b*",
		"arn:*:s3:::bucket", "arn:aws:sns:*:*:t?", "arn:aws:iam::${aws:PrincipalAccount}:user/*", "arn:aws:logs:*:*:log-group:a:*", "*", "arn:aws:*",
		"arn:aws:iam::111122223333:*", "arn:aws:s3:::a.b", "arn:aws:iam::${aws:PrincipalAccount}:*/alice", "arn:aws:s3:::${aws:username}", "arn:*:*:*:${app:Missing, '1111*'}:*",
	}
	haveARNs = []string{
		"arn:aws:iam::111122223333:user/team/alice", "arn:aws:iam::444455556666:user/team/alice", "arn:aws:iam::444455556666:role/ops", "arn:aws:s3:::bucket",
		"arn:aws-cn:s3:::bucket", "arn:aws:sns:eu-west-1:111122223333:t1", "arn:aws:logs:eu-west-1:111122223333:log-group:a:b",
		"arn:aws:logs:eu-west-1:111122223333:log-group:a", "arn:aws:s3:::axb", "bucket", "arn:aws:s3",
	}
	addresses = []string{
		"203.0.113.0/24", "203.0.113.77", "203.0.113.5/16", "10.0.0.0/8", "0.0.0.0/0", "2001:db8::/32", "2001:DB8:1234::1", "2001:db8:1234::/48", "::/0",
		"192.168.0.0/25",
	}
	haveAddresses = []string{
		"203.0.113.77", "203.0.112.1", "10.255.255.255", "11.0.0.0", "2001:db8:1234::1", "2001:0db8:1234:0000:0000:0000:0000:0001", "2001:db9::1", "192.168.0.127",
		"192.168.0.128", "AWS Internal",
	}
)

// keys are the condition keys of identity policies.
var keys = []keyFamily{
	{"kms:ViaService", stringOperators, strs, haveStrs},
	{"aws:username", stringOperators, strs, haveStrs},
	{"aws:PrincipalTag/team", stringOperators, strs, append(slices.Clone(haveStrs), "", "", "", "")},
	{"kms:EncryptionContext:App", stringOperators, strs, haveStrs},
	{"aws:TagKeys", stringOperators, strs, haveStrs},
	{"kms:GrantOperations", stringOperators, []string{"Encrypt", "Decrypt", "*rypt"}, []string{"Encrypt", "Decrypt", "Sign"}},
	{"kms:RotationPeriodInDays", numberOperators, numbers, haveNumbers},
	{"app:Numbers", numberOperators, numbers, haveNumbers},
	{"aws:CurrentTime", dateOperators, dates, haveDates},
	{"aws:SecureTransport", []string{"Bool"}, []string{"true", "false", "True", "FALSE"}, []string{"true", "false", "TRUE", "yes", ""}},
	{"app:Blob", []string{"BinaryEquals"}, []string{"QUJD", "YWJj", "YQ=="}, []string{"QUJD", "YWJj", "qujd", "YQ=="}},
	{"aws:SourceIp", addressOperators, addresses, haveAddresses},
	{"aws:SourceArn", arnOperators, arns, haveARNs},
	{"app:Arns", arnOperators, arns, haveARNs},
}

// keysOfKeys are condition keys that the engine knows for the operations of key policies below.
var keysOfKeys = []keyFamily{
	{"kms:ViaService", stringOperators, strs, haveStrs},
	{"kms:CallerAccount", stringOperators, []string{account, "1111*", "444455556666"}, []string{account, "444455556666"}},
	{"kms:RequestAlias", stringOperators, strs, haveStrs},
	{"kms:EncryptionContextKeys", stringOperators, []string{"App", "a", "a*"}, []string{"App", "a", "ab"}},
	{"aws:SecureTransport", []string{"Bool"}, []string{"true", "false"}, []string{"true", "false"}},
	{"aws:SourceIp", addressOperators, addresses, haveAddresses},
}

var (
	actionPatterns = []string{
		"sqs:SendMessage", "SQS:sendmessage", "sqs:*", "sqs:Send*", "sqs:?endMessage", "sqs:*Message", "sqs:*e*a*e", "*", "sns:*", "sqs:Send", "sqs:SendMessage?",
	}
	actions          = []string{"sqs:SendMessage", "sqs:ReceiveMessage", "sqs:sendmessage", "sns:Publish"}
	resourcePatterns = []string{
		"*", "arn:aws:sqs:us-east-1:111122223333:queue", "arn:aws:sqs:*:*:*", "arn:aws:sqs:us-east-?:111122223333:q*", "arn:aws:sqs:*:111122223333:q?eue",
		"arn:aws:sqs:*:*:${aws:username}", "arn:aws:sqs:*:*:${aws:PrincipalTag/team, 'queue'}*", "arn:aws:sqs:us-east-1:${aws:PrincipalAccount}:queue", "arn:aws:sqs:*:*:${aws:PrincipalAccount}",
		"arn:aws:sqs:us-east-1:*queue", "arn:*:sqs:*:*:queue", "arn:aws:sqs:us-east-1:111122223333:a.b", "arn:aws:sqs:*:*:a${*}b", "arn:aws:logs:*:*:log-group:a:*",
		"arn:aws:sqs", "arn:aws:sqs:us-east-1", "arn:aws:sns:*:*:*", "arn:aws:sqs:*:*:x${app:Missing}", "arn:aws:sqs:us-east-1:111122223333:*/a",
	}
	resources = []string{
		"arn:aws:sqs:us-east-1:111122223333:queue", "arn:aws:sqs:us-east-2:111122223333:queue", "arn:aws:sqs:us-east-1:444455556666:queue", "arn:aws:sqs:us-east-1:111122223333:alice",
		"arn:aws:sqs:us-east-1:111122223333:a.b", "arn:aws:sqs:us-east-1:111122223333:axb", "arn:aws:logs:us-east-1:111122223333:log-group:a:b",
		"arn:aws-cn:sqs:us-east-1:111122223333:queue", "arn:aws:sqs:us-east-1:111122223333:x/a", "arn:aws:sqs:us-east-1:111122223333:",
	}

	keyActions   = []string{"kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey"}
	keyPatterns  = []string{"kms:Encrypt", "KMS:decrypt", "kms:*", "kms:*crypt", "kms:GenerateDataKey*", "kms:DescribeKey", "kms:?ecrypt"}
	keyResources = []string{
		"*", "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab", "arn:aws:kms:*:*:key/*", "arn:aws:kms:us-east-2:*:key/*",
		"arn:aws:kms:us-east-1:${aws:PrincipalAccount}:key/*", "arn:aws:kms:*:*:key/${app:Missing, '1234'}*", "arn:aws:kms:*:*:alias/*",
	}
	keyPrincipals = []principal{
		{"", "*"},
		{"AWS", "*"},
		{"AWS", account},
		{"AWS", "arn:aws:iam::111122223333:root"},
		{"AWS", "444455556666"},
		{"AWS", "arn:aws:iam::111122223333:user/team/alice"},
		{"AWS", "arn:aws:iam::111122223333:user/alice"},
		{"AWS", "arn:aws:iam::444455556666:user/alice"},
		{"AWS", "arn:aws:iam::111122223333:role/ops"},
		{"AWS", "arn:aws:sts::111122223333:assumed-role/ops/monday"},
		{"AWS", "arn:aws:sts::111122223333:assumed-role/ops/tuesday"},
		{"AWS", "arn:aws:sts::111122223333:federated-user/fay"},
		{"Service", "s3.amazonaws.com"},
		{"Service", "sns.amazonaws.com"},
	}
	callerNames = []string{"", "root", "user", "session", "federated", "stranger", "service"}
)

// generator makes questions.
type generator struct{ *rand.Rand }

func pick[T any](g generator, list []T) T { return list[g.IntN(len(list))] }

// some returns between one and most of the list's values, each once.
func some[T comparable](g generator, list []T, most int) []T {
	var out []T
	for range 1 + g.IntN(most) {
		if v := pick(g, list); !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

func (g generator) once(in int) bool { return g.IntN(in) == 0 }

func (g generator) question() *question {
	q := &question{identity: !g.once(3), version: policy.Version2012, context: map[string][]string{}}
	if g.once(8) {
		q.version = policy.Version2008
	}
	families := keys
	if q.identity {
		q.action, q.resource = pick(g, actions), pick(g, resources)
	} else {
		families = keysOfKeys
		q.caller, q.action, q.resource = pick(g, callerNames), pick(g, keyActions), keyResources[1]
	}
	for range 1 + g.IntN(3) {
		q.statements = append(q.statements, g.statement(q.identity, families))
	}
	g.fill(q, families)
	return q
}

func (g generator) statement(identity bool, families []keyFamily) statement {
	s := statement{effect: "Allow", notAction: g.once(8), notResource: g.once(8)}
	if g.once(3) {
		s.effect = "Deny"
	}
	if identity {
		s.actions, s.resources = some(g, actionPatterns, 2), some(g, resourcePatterns, 2)
	} else {
		s.actions, s.resources = some(g, keyPatterns, 2), some(g, keyResources, 2)
		s.principals, s.notPrincipal = some(g, keyPrincipals, 3), g.once(6)
		if i := slices.Index(s.principals, principal{"", "*"}); i >= 0 {
			s.principals = s.principals[i : i+1] // the lone "*"
		}
	}
	// Most of a statement's other parts should match, for the conditions to matter.
	if g.once(2) {
		s.actions, s.resources, s.notAction, s.notResource = []string{"*"}, []string{"*"}, false, false
		if !identity {
			s.actions = []string{"kms:*"}
		}
	}
	for range g.IntN(4) {
		c := g.condition(pick(g, families))
		if !slices.ContainsFunc(s.conditions, func(o condition) bool { return o.operator == c.operator && o.key == c.key }) {
			s.conditions = append(s.conditions, c)
		}
	}
	return s
}

func (g generator) condition(k keyFamily) condition {
	c := condition{operator: pick(g, k.operators), key: k.name, values: some(g, k.want, 3)}
	switch g.IntN(4) {
	case 0:
		c.key = strings.ToLower(c.key)
	case 1:
		c.key = strings.ToUpper(c.key)
	}
	if g.once(8) {
		c.operator, c.values = "Null", []string{pick(g, []string{"true", "false"})}
		return c
	}
	if slices.Contains(multivalued, k.name) != g.once(10) {
		c.operator = pick(g, []string{"ForAllValues:", "ForAnyValue:"}) + c.operator
	}
	if g.once(5) {
		c.operator += "IfExists"
	}
	return c
}

// fill makes the context: values for most of the keys that the policy asks for.
func (g generator) fill(q *question, families []keyFamily) {
	for _, k := range families {
		if g.once(4) {
			continue
		}
		q.context[k.name] = []string{pick(g, k.have)}
		if slices.Contains(multivalued, k.name) {
			q.context[k.name] = some(g, k.have, 3)
		}
	}
	if !g.once(4) {
		q.context["aws:PrincipalAccount"] = []string{account}
	}
}
