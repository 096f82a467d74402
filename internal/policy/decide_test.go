package policy_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/policy"
)

// facts is a Context made of a map from lower-case key names to values.
type facts map[string][]string

func (f facts) Lookup(k policy.Key) policy.Values {
	v, ok := f[k.String()]
	switch {
	case !ok:
		return policy.Values{}
	case len(v) == 1:
		return policy.One(v[0])
	}
	return policy.Many(v)
}

const (
	account = "111122223333"
	keyARN  = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
)

// callers are the principals that the lines speak of.
var callers = map[string]*policy.Principal{
	"nobody": nil,
	"root":   {Type: policy.AccountRoot, Account: account, ARN: "arn:aws:iam::111122223333:root"},
	"alice":  {Type: policy.User, Account: account, ARN: "arn:aws:iam::111122223333:user/alice", ID: "AIDAALICE00000000001"},
	"bob":    {Type: policy.User, Account: account, ARN: "arn:aws:iam::111122223333:user/team/bob", ID: "AIDABOB0000000000001"},
	"ops": {
		Type: policy.RoleSession, Account: account, ARN: "arn:aws:sts::111122223333:assumed-role/ops/monday",
		RoleARN: "arn:aws:iam::111122223333:role/ops", ID: "AROAOPS0000000000001",
	},
	"ops2": {
		Type: policy.RoleSession, Account: account, ARN: "arn:aws:sts::111122223333:assumed-role/ops/tuesday",
		RoleARN: "arn:aws:iam::111122223333:role/ops", ID: "AROAOPS0000000000001",
	},
	"fed":       {Type: policy.FederatedUser, Account: account, ARN: "arn:aws:sts::111122223333:federated-user/fay"},
	"stranger":  {Type: policy.User, Account: "444455556666", ARN: "arn:aws:iam::444455556666:user/alice", ID: "AIDASTRANGER00000001"},
	"otherroot": {Type: policy.AccountRoot, Account: "444455556666", ARN: "arn:aws:iam::444455556666:root"},
	"s3":        {Type: policy.Service, ARN: "s3.amazonaws.com", Service: "s3.amazonaws.com"},
	"web":       {Type: policy.WebIdentity, Federated: "token.example.com"},
}

var matchNames = map[string]policy.Match{
	"exact": policy.MatchExact, "role": policy.MatchRole, "account": policy.MatchAccount, "anyone": policy.MatchAnyone,
}

// group is a document and what it says about requests, a line each:
//
//	effect[:match,…] caller action [resource=…] [key=value,…]…
//
// Values may be percent-encoded. The resource is a key ARN unless given.
type group struct {
	name  string
	kind  policy.Kind
	doc   string
	lines string
}

func (g *group) run(t *testing.T) (count int) {
	doc, err := policy.Parse(g.kind, []byte(g.doc))
	if err != nil {
		t.Fatal(err)
	}
	again, err := policy.Parse(g.kind, []byte(doc.Text()))
	if err != nil {
		t.Fatalf("own text: %v", err)
	}
	for _, line := range strings.Split(strings.TrimSpace(g.lines), "\n") {
		line = strings.TrimSpace(line)
		want, wantMatch, req := readLine(t, line)
		got := doc.Evaluate(req)
		if got.Effect.String() != want || wantMatch != 0 && got.Match != wantMatch {
			t.Errorf("%s: got %v, match %04b", line, got.Effect, got.Match)
		}
		req.Explain = true
		if e := doc.Evaluate(req); e.Effect != got.Effect || e.Match != got.Match {
			t.Errorf("%s: explained as %v, match %04b", line, e.Effect, e.Match)
		}
		if e := again.Evaluate(req); e.Effect != got.Effect || e.Match != got.Match {
			t.Errorf("%s: printed and read again it says %v, match %04b", line, e.Effect, e.Match)
		}
		count++
	}
	return count
}

func readLine(t *testing.T, line string) (effect string, match policy.Match, req *policy.Request) {
	t.Helper()
	words := strings.Fields(line)
	effect, matches, _ := strings.Cut(words[0], ":")
	for _, m := range strings.Split(matches, ",") {
		match |= matchNames[m]
	}
	caller, ok := callers[words[1]]
	if !ok {
		t.Fatalf("%s: no such caller", line)
	}
	ctx := facts{}
	req = &policy.Request{Principal: caller, Action: words[2], Resource: keyARN, Context: ctx}
	for _, w := range words[3:] {
		name, value, _ := strings.Cut(w, "=")
		var list []string
		for _, v := range strings.Split(value, ",") {
			plain, err := url.PathUnescape(v)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, plain)
		}
		if name == "resource" {
			req.Resource = list[0]
			continue
		}
		ctx[policy.ParseKey(name).String()] = list
	}
	return effect, match, req
}

// key wraps statements in a key policy, identity in an identity policy.
func key(name, lines string, statements ...string) group {
	return group{name, policy.KeyPolicy, document(statements...), lines}
}

func identity(name, lines string, statements ...string) group {
	return group{name, policy.IdentityPolicy, document(statements...), lines}
}

func document(statements ...string) string {
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
}

// when is a statement that allows everything under a condition.
func when(condition string) string {
	return `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{` + condition + `}}`
}

// to is a statement of a key policy about all actions.
func to(effect, principal string) string {
	return fmt.Sprintf(`{"Effect":%q,%s,"Action":"kms:*","Resource":"*"}`, effect, principal)
}

// on is a statement of an identity policy.
func on(effect, action, resource string) string {
	return fmt.Sprintf(`{"Effect":%q,%s,%s}`, effect, action, resource)
}

// minimumCases keeps the table from shrinking unnoticed.
const minimumCases = 375

func TestDecisions(t *testing.T) {
	total := 0
	for _, g := range slicesConcat(principalGroups, actionGroups, operatorGroups, variableGroups) {
		t.Run(g.name, func(t *testing.T) { total += g.run(t) })
	}
	t.Logf("%d cases", total)
	if total < minimumCases {
		t.Errorf("want at least %d", minimumCases)
	}
}

func slicesConcat(lists ...[]group) (all []group) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}
