// Package policydiff_test compares our reading of the IAM policy language with that of an independent engine, on generated
// policies and requests. The engine is a program of others that runs beside the test (engine.mjs, package.json); nothing of
// it is linked or shipped.
package policydiff_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/policy"
)

// question is a policy and a request.
type question struct {
	identity   bool // else a key policy
	version    string
	statements []statement
	caller     string // of callers; identity policies do not look at it
	action     string
	resource   string
	context    map[string][]string
}

// statement is a statement in pieces, so that it can be made smaller piece by piece.
type statement struct {
	effect       string
	principals   []principal
	notPrincipal bool
	actions      []string
	notAction    bool
	resources    []string
	notResource  bool
	conditions   []condition
}

// principal is a value and its type; "*" has none.
type principal struct{ kind, value string }

type condition struct {
	operator, key string
	values        []string
}

// multivalued are the keys that have lists of values, even of one.
var multivalued = []string{"aws:TagKeys", "kms:EncryptionContextKeys", "kms:GrantOperations", "app:Arns", "app:Numbers"}

// document returns the policy as JSON.
func (q *question) document() []byte {
	type object = map[string]any
	list := []object{}
	not := func(negated bool, name string) string {
		if negated {
			return "Not" + name
		}
		return name
	}
	for _, s := range q.statements {
		o := object{"Effect": s.effect, not(s.notAction, "Action"): s.actions, not(s.notResource, "Resource"): s.resources}
		conditions := map[string]map[string][]string{}
		for _, c := range s.conditions {
			if conditions[c.operator] == nil {
				conditions[c.operator] = map[string][]string{}
			}
			conditions[c.operator][c.key] = c.values
		}
		if len(conditions) > 0 {
			o["Condition"] = conditions
		}
		if !q.identity {
			named := map[string][]string{}
			for _, p := range s.principals {
				named[p.kind] = append(named[p.kind], p.value)
			}
			o[not(s.notPrincipal, "Principal")] = named
			if _, all := named[""]; all {
				o[not(s.notPrincipal, "Principal")] = "*"
			}
		}
		list = append(list, o)
	}
	return mustJSON(object{"Version": q.version, "Statement": list})
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps, slices and strings only
	}
	return b
}

// values returns the context as the engine takes it: strings, and lists for keys that are multivalued.
func (q *question) values() map[string]any {
	m := map[string]any{}
	for k, v := range q.context {
		if m[k] = v[0]; slices.Contains(multivalued, k) {
			m[k] = v
		}
	}
	return m
}

// String returns the question as somebody can read it who has to find out who is right.
func (q *question) String() string {
	return string(q.document()) + "\n" + strings.Join([]string{q.caller, q.action, q.resource, string(mustJSON(q.values()))}, " ")
}

// clone returns a copy that shares nothing with q.
func (q *question) clone() *question {
	c := *q
	c.context = maps.Clone(q.context)
	for k, v := range c.context {
		c.context[k] = slices.Clone(v)
	}
	c.statements = slices.Clone(q.statements)
	for i := range c.statements {
		s := &c.statements[i]
		s.principals, s.actions, s.resources = slices.Clone(s.principals), slices.Clone(s.actions), slices.Clone(s.resources)
		s.conditions = slices.Clone(s.conditions)
		for j := range s.conditions {
			s.conditions[j].values = slices.Clone(s.conditions[j].values)
		}
	}
	return &c
}

// smaller yields questions that lack one thing each.
func (q *question) smaller(yield func(*question) bool) {
	try := func(change func(*question)) bool {
		c := q.clone()
		change(c)
		return yield(c)
	}
	for i := range q.statements {
		if len(q.statements) > 1 && !try(func(c *question) { c.statements = slices.Delete(c.statements, i, i+1) }) {
			return
		}
	}
	for i := range q.statements {
		s := &q.statements[i]
		for j := range s.conditions {
			if !try(func(c *question) { c.statements[i].conditions = slices.Delete(c.statements[i].conditions, j, j+1) }) {
				return
			}
			for k := range s.conditions[j].values {
				if len(s.conditions[j].values) > 1 && !try(func(c *question) {
					v := &c.statements[i].conditions[j].values
					*v = slices.Delete(*v, k, k+1)
				}) {
					return
				}
			}
		}
		for j := range s.actions {
			if len(s.actions) > 1 && !try(func(c *question) { c.statements[i].actions = slices.Delete(c.statements[i].actions, j, j+1) }) {
				return
			}
		}
		for j := range s.resources {
			if len(s.resources) > 1 && !try(func(c *question) { c.statements[i].resources = slices.Delete(c.statements[i].resources, j, j+1) }) {
				return
			}
		}
		for j := range s.principals {
			if len(s.principals) > 1 && !try(func(c *question) { c.statements[i].principals = slices.Delete(c.statements[i].principals, j, j+1) }) {
				return
			}
		}
	}
	for _, k := range slices.Sorted(maps.Keys(q.context)) {
		if !try(func(c *question) { delete(c.context, k) }) {
			return
		}
		for j := range q.context[k] {
			if len(q.context[k]) > 1 && !try(func(c *question) { c.context[k] = slices.Delete(c.context[k], j, j+1) }) {
				return
			}
		}
	}
}

// facts is the context as our engine asks for it.
type facts map[string][]string

func (f facts) Lookup(k policy.Key) policy.Values {
	v := f[k.String()]
	if len(v) != 1 || slices.ContainsFunc(multivalued, func(m string) bool { return policy.ParseKey(m) == k }) {
		return policy.Many(v)
	}
	return policy.One(v[0])
}

// ours returns our verdict in the other engine's words.
func (q *question) ours() (string, error) {
	kind := policy.KeyPolicy
	if q.identity {
		kind = policy.IdentityPolicy
	}
	d, err := policy.Parse(kind, q.document())
	if err != nil {
		return "", err
	}
	f := facts{}
	for k, v := range q.context {
		f[policy.ParseKey(k).String()] = v
	}
	got := d.Evaluate(&policy.Request{Principal: callers[q.caller], Action: q.action, Resource: q.resource, Context: f})
	switch {
	case got.Effect != policy.Allow:
		return got.Effect.String(), nil
	case got.Match&policy.MatchAccount != 0 && got.Match&(policy.MatchRole|policy.MatchAnyone) == 0 &&
		(got.Match&policy.MatchExact == 0 || q.caller == "root"): // the root user is its account, and to the engine nothing else
		return "allow-account", nil
	}
	return "allow", nil
}

const account = "111122223333"

// callers are who asks key policies.
var callers = map[string]*policy.Principal{
	"":     nil,
	"root": {Type: policy.AccountRoot, Account: account, ARN: "arn:aws:iam::111122223333:root"},
	"user": {Type: policy.User, Account: account, ARN: "arn:aws:iam::111122223333:user/team/alice"},
	"session": {
		Type: policy.RoleSession, Account: account, ARN: "arn:aws:sts::111122223333:assumed-role/ops/monday",
		RoleARN: "arn:aws:iam::111122223333:role/ops",
	},
	"federated": {Type: policy.FederatedUser, Account: account, ARN: "arn:aws:sts::111122223333:federated-user/fay"},
	"stranger":  {Type: policy.User, Account: "444455556666", ARN: "arn:aws:iam::444455556666:user/alice"},
	"service":   {Type: policy.Service, ARN: "s3.amazonaws.com", Service: "s3.amazonaws.com"},
}
