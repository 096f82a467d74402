package kms_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/kms"
)

// explain asks about an action of who sees the world.
func (w *world) explain(about, action string, suppose bool) *guard.Explanation {
	w.t.Helper()
	subject, err := w.service.Subject(w.t.Context(), about, alice, region)
	w.must(err)
	e, err := subject.Explain(action, guard.Question{Caller: w.who(), Time: w.now(), Suppose: suppose})
	w.must(err)
	return e
}

func TestActions(t *testing.T) {
	list := kms.Actions()
	for _, name := range []string{"kms:ListRetirableGrants", "kms:ListKeys", "kms:CreateKey"} {
		if slices.Contains(list, name) {
			t.Errorf("%s is asked on a key", name)
		}
	}
	for _, name := range []string{"kms:RetireGrant", "kms:ReEncryptTo", "kms:CreateAlias"} {
		if !slices.Contains(list, name) {
			t.Errorf("%s is not asked on a key", name)
		}
	}
}

// For each grant the explanation says what the call gets, whoever makes it.
func TestExplainRetireGrant(t *testing.T) {
	w := newWorld(t, "")
	id, keyARN := w.newKey()
	u, v, x := w.user("u"), w.user("v"), w.user("x")
	if e := w.explain(id, "kms:RetireGrant", false); e.Allowed {
		t.Errorf("without grants: %+v", e)
	}
	w.done("PutKeyPolicy", in{"KeyId": id, "Policy": naming("kms:*", userARN+"x")}) // which does not give this right
	ids := []string{}
	for _, more := range []in{
		{"RetiringPrincipal": userARN + "v"},
		{"RetiringPrincipal": userARN + "v", "Constraints": in{"EncryptionContextSubset": in{"a": "1"}}},
		{"RetiringPrincipal": userARN + "v", "Constraints": in{"EncryptionContextSubset": in{"a": "2"}}},
		{"Operations": []string{"Encrypt", "RetireGrant"}},
		{},
	} {
		g, _ := w.grant(id, userARN+"u", []string{"Encrypt"}, more)
		ids = append(ids, g)
	}
	some := w.user("some").may(allowing(`"kms:RetireGrant"`, keyARN, `{"StringEquals":{"kms:EncryptionContext:a":"1"}}`))
	stranger := w.as(bob, region)
	for _, who := range []*world{w, u, v, x, some, stranger} {
		e := who.explain(id, "kms:RetireGrant", false)
		var can, said []string
		for _, g := range ids {
			if _, failure := who.try("RetireGrant", in{"KeyId": keyARN, "GrantId": g, "DryRun": true}); failure.Code == "DryRunOperationException" {
				can = append(can, g)
			}
		}
		for _, way := range e.Ways {
			said = append(said, way.GrantID)
		}
		slices.Sort(can)
		slices.Sort(said)
		if !slices.Equal(can, said) || e.Allowed != (len(can) > 0) {
			t.Errorf("%s can retire %v, and the explanation is\n%s", who.who().ARN, can, e)
		}
	}
	if e := x.explain(id, "kms:RetireGrant", false); e.By != "identity-based policy" {
		t.Errorf("somebody of the issuing account: %s", e)
	}
	deny := some.may(`{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"kms:*","Resource":"*"}}`)
	if e := deny.explain(id, "kms:RetireGrant", false); !e.Explicit {
		t.Errorf("denied: %s", e)
	}
}

// What is done to an alias needs the right on the key and on the alias.
func TestExplainAliases(t *testing.T) {
	w := newWorld(t, "")
	id, keyARN := w.newKey()
	const a, b = "arn:aws:kms:us-east-1:111122223333:alias/a", "arn:aws:kms:us-east-1:111122223333:alias/b"
	w.done("CreateAlias", in{"AliasName": "alias/a", "TargetKeyId": id})
	w.done("CreateAlias", in{"AliasName": "alias/b", "TargetKeyId": id})
	u := w.user("u")
	on := func(resources ...string) *world {
		return u.may(strings.Replace(allowing(`"kms:*Alias"`, "RESOURCES", ""), `"RESOURCES"`, `["`+strings.Join(resources, `","`)+`"]`, 1))
	}
	any := "arn:aws:kms:*:*:alias/*"
	for _, c := range []struct {
		who      *world
		about    string
		suppose  bool
		resource string // where the right is missing; empty: nowhere
		given    bool
	}{
		{on(keyARN), a, false, a, false},
		{on(keyARN), id, false, strings.Replace(a, "alias/a", "alias/*", 1), false},
		{on(keyARN), id, true, "", true},
		{on(keyARN), a, true, a, false},
		{on(a), a, false, keyARN, false},
		{on(a), id, true, keyARN, false},
		{on(keyARN, a), a, false, "", false},
		{on(keyARN, a), b, false, b, false},
		{on(keyARN, a), id, true, "", true},
		{on(keyARN, any), id, false, "", false},
		{on(keyARN, any), id, true, "", false},
		{w, id, false, "", false},
		{w, a, true, "", false},
		{w.as(bob, region), a, false, a, false},
	} {
		for _, action := range []string{"kms:CreateAlias", "kms:UpdateAlias", "kms:DeleteAlias"} {
			e := c.who.explain(c.about, action, c.suppose)
			if e.Allowed != (c.resource == "") || !e.Allowed && e.Resource != c.resource || e.Allowed && (len(e.Ways[0].Given) > 0) != c.given {
				t.Errorf("%s on %s: %+v", action, c.about, e)
			}
		}
	}
}
