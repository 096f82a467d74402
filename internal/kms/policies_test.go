package kms_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// naming returns a key policy that leaves the key to its account and names others for some actions.
func naming(actions string, principals ...string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:*","Resource":"*"},` +
		`{"Effect":"Allow","Principal":{"AWS":["` + strings.Join(principals, `","`) + `"]},"Action":"` + actions + `","Resource":"*"}]}`
}

// may gives a user or role of the test an identity policy and returns the world as it sees it.
func (w *world) may(text string) *world {
	w.t.Helper()
	doc, err := policy.Parse(policy.IdentityPolicy, []byte(text))
	w.must(err)
	who := *w.caller
	who.Rights = &guard.Rights{Identity: []guard.Policy{{Name: "test", Holder: who.ARN, Document: doc}}}
	return w.seenBy(&who)
}

// allowing is an identity policy of one statement.
func allowing(action, resource, condition string) string {
	if condition != "" {
		condition = `,"Condition":` + condition
	}
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":` + action + `,"Resource":"` + resource + `"` + condition + `}]}`
}

// A user that is made again under an old name is somebody else, and a policy says whom it meant.
func TestPoliciesNameUniqueIDs(t *testing.T) {
	w := newWorld(t, t.TempDir())
	id, keyARN := w.newKey()
	u, s := w.user("u"), w.session("one")
	text := naming("kms:Encrypt", userARN+"u", s.caller.RoleARN)
	w.done("PutKeyPolicy", in{"KeyId": id, "Policy": text})
	request := in{"KeyId": keyARN, "Plaintext": []byte("x")}
	u.encrypt(keyARN, []byte("x"), nil)
	s.encrypt(keyARN, []byte("x"), nil)

	w.people.gone(u.caller.UniqueID)
	namesake := *u.caller
	namesake.UniqueID, namesake.PrincipalID = "AIDANAMESAKE00000000", "AIDANAMESAKE00000000"
	w.people.born(namesake.UniqueID, namesake.ARN)
	again := w.seenBy(&namesake)
	again.refused(denied(userARN+"u", "kms:Encrypt", keyARN), "Encrypt", request)
	shown := func(what, want string) string {
		t.Helper()
		got := do[*kmsapi.GetKeyPolicyResponse](w, "GetKeyPolicy", in{"KeyId": id}).Policy.V
		if !strings.Contains(got, `"AWS" : [ `+want+` ]`) {
			t.Errorf("%s: %s", what, got)
		}
		return got
	}
	was := shown("deleted", `"`+u.caller.UniqueID+`", "`+s.caller.RoleARN+`"`)
	w.refused("MalformedPolicyDocumentException: Policy contains a statement with one or more invalid principals.", "PutKeyPolicy", in{"KeyId": id, "Policy": was})

	// Another key has the same text, put when the name already meant somebody else.
	other := do[*kmsapi.CreateKeyResponse](w, "CreateKey", in{"Policy": text}).KeyMetadata.ARN.V
	again.encrypt(other, []byte("x"), nil)
	u.refused(denied(userARN+"u", "kms:Encrypt", other), "Encrypt", in{"KeyId": other, "Plaintext": []byte("x")})
	again.refused(denied(userARN+"u", "kms:Encrypt", keyARN), "Encrypt", request)
	w.restart()
	again = w.seenBy(&namesake)
	again.refused(denied(userARN+"u", "kms:Encrypt", keyARN), "Encrypt", request)
	again.encrypt(other, []byte("x"), nil)

	// A change of something else keeps whom the policy names; putting the policy again names anew.
	w.done("UpdateKeyDescription", in{"KeyId": id, "Description": "changed"})
	again.refused(denied(userARN+"u", "kms:Encrypt", keyARN), "Encrypt", request)
	w.done("PutKeyPolicy", in{"KeyId": id, "Policy": text})
	again.encrypt(keyARN, []byte("x"), nil)

	renamed := namesake
	renamed.ARN = userARN + "elsewhere/renamed"
	w.people.born(renamed.UniqueID, renamed.ARN)
	w.seenBy(&renamed).encrypt(keyARN, []byte("x"), nil)
	now := shown("renamed", `"`+renamed.ARN+`", "`+s.caller.RoleARN+`"`)
	w.done("PutKeyPolicy", in{"KeyId": id, "Policy": now})
	w.seenBy(&renamed).encrypt(keyARN, []byte("x"), nil)
}

func TestPoliciesNameSessions(t *testing.T) {
	w := newWorld(t, "")
	one, two := w.session("one"), w.session("two")
	m := do[*kmsapi.CreateKeyResponse](w, "CreateKey", in{"Policy": naming("kms:Encrypt", one.caller.ARN)}).KeyMetadata
	one.encrypt(m.ARN.V, []byte("x"), nil)
	two.refused(denied(two.caller.ARN, "kms:Encrypt", m.ARN.V), "Encrypt", in{"KeyId": m.ARN.V, "Plaintext": []byte("x")})
	anew := *one.caller
	anew.UniqueID, anew.PrincipalID = "AROAANEW000000000000", "AROAANEW000000000000:one"
	w.people.gone(one.caller.UniqueID)
	w.people.born(anew.UniqueID, anew.RoleARN)
	w.seenBy(&anew).refused(denied(anew.ARN, "kms:Encrypt", m.ARN.V), "Encrypt", in{"KeyId": m.ARN.V, "Plaintext": []byte("x")})
}

func TestPrincipalsThatCannotBeNamed(t *testing.T) {
	w := newWorld(t, "")
	id, _ := w.newKey()
	u := w.user("u")
	const refusal = "MalformedPolicyDocumentException: Policy contains a statement with one or more invalid principals."
	for _, principal := range []string{
		userARN + "nobody", userARN + "U", "arn:aws:iam::111122223333:role/u", "arn:aws:iam::444455556666:user/u", "arn:aws:iam::999999999999:root",
		"999999999999", "arn:aws-cn:iam::111122223333:user/u", u.caller.UniqueID, "AROANOBODY0000000000", "arn:aws:sts::111122223333:assumed-role/none/x",
	} {
		w.refused(refusal, "PutKeyPolicy", in{"KeyId": id, "Policy": naming("kms:Encrypt", principal)})
		w.refused(refusal, "CreateKey", in{"Policy": naming("kms:Encrypt", principal)})
	}
	for kind, value := range map[string]string{"Federated": "accounts.example.com", "CanonicalUser": "111122223333"} {
		text := strings.ReplaceAll(naming("kms:Encrypt", value), `"AWS":[`, `"`+kind+`":[`)
		w.refused(refusal, "PutKeyPolicy", in{"KeyId": id, "Policy": text})
	}
}

// Who puts a policy must be able to put the next one: the check goes by the caller's own policies too.
func TestLockout(t *testing.T) {
	w := newWorld(t, "")
	const lockout = "MalformedPolicyDocumentException: The new key policy will not allow you to update the key policy in the future."
	manager := w.user("manager").may(allowing(`["kms:CreateKey","kms:PutKeyPolicy"]`, "*", ""))
	maker := w.user("maker").may(allowing(`"kms:CreateKey"`, "*", ""))
	delegated := `{"Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"}]}`
	do[*kmsapi.CreateKeyResponse](manager, "CreateKey", in{"Policy": delegated})
	maker.refused(lockout, "CreateKey", in{"Policy": delegated})
	maker.refused(lockout, "CreateKey", in{})
	do[*kmsapi.CreateKeyResponse](maker, "CreateKey", in{"Policy": delegated, "BypassPolicyLockoutSafetyCheck": true})
	named := do[*kmsapi.CreateKeyResponse](maker, "CreateKey", in{"Policy": naming("kms:PutKeyPolicy", userARN+"maker")}).KeyMetadata.KeyID.V
	maker.done("PutKeyPolicy", in{"KeyId": named, "Policy": naming("kms:*", userARN+"maker")})
	maker.refused(lockout, "PutKeyPolicy", in{"KeyId": named, "Policy": naming("kms:Encrypt", userARN+"maker")})
	maker.done("PutKeyPolicy", in{"KeyId": named, "Policy": naming("kms:Encrypt", userARN+"maker"), "BypassPolicyLockoutSafetyCheck": true})
}

// The check asks what the next PutKeyPolicy will: one that does not bypass it, on a key with the aliases that it has.
func TestLockoutConditions(t *testing.T) {
	w := newWorld(t, "")
	const lockout = "MalformedPolicyDocumentException: The new key policy will not allow you to update the key policy in the future."
	conditional := func(effect, condition string) string {
		text := naming("kms:PutKeyPolicy", alice.Root("aws"))
		if effect == "Allow" {
			text = strings.Replace(text, `"Action":"kms:*"`, `"Action":"kms:Describe*"`, 1)
		}
		i := strings.LastIndex(text, `{"Effect":"Allow"`)
		return text[:i] + strings.Replace(strings.Replace(text[i:], "Allow", effect, 1), `"Resource":"*"`, `"Resource":"*","Condition":`+condition, 1)
	}
	id, _ := w.newKey()
	for _, c := range []struct {
		effect string
		bypass bool
		ok     bool
	}{
		{"Allow", false, true},
		{"Allow", true, false},
		{"Deny", false, false},
		{"Deny", true, true},
	} {
		text := conditional(c.effect, fmt.Sprintf(`{"Bool":{"kms:BypassPolicyLockoutSafetyCheck":"%v"}}`, c.bypass))
		if _, failure := w.try("CreateKey", in{"Policy": text}); (failure == nil) != c.ok || failure != nil && failure.Error() != lockout {
			t.Errorf("CreateKey, %s if bypass is %v: %v", c.effect, c.bypass, failure)
		}
		if _, failure := w.try("PutKeyPolicy", in{"KeyId": id, "Policy": text}); (failure == nil) != c.ok || failure != nil && failure.Error() != lockout {
			t.Errorf("PutKeyPolicy, %s if bypass is %v: %v", c.effect, c.bypass, failure)
		}
	}
	other, _ := w.newKey()
	w.done("CreateAlias", in{"AliasName": "alias/a", "TargetKeyId": other})
	u := w.user("u").may(allowing(`"kms:PutKeyPolicy"`, "*", `{"ForAnyValue:StringEquals":{"kms:ResourceAliases":"alias/a"}}`))
	u.done("PutKeyPolicy", in{"KeyId": other, "Policy": naming("kms:Encrypt", userARN+"u")})
}

// Tags on a new key are a right of their own.
func TestTagsOfNewKeys(t *testing.T) {
	w := newWorld(t, "")
	request := in{"Tags": []in{{"TagKey": "team", "TagValue": "red"}}, "BypassPolicyLockoutSafetyCheck": true}
	u := w.user("u")
	_, failure := u.may(allowing(`"kms:CreateKey"`, "*", "")).try("CreateKey", request)
	if failure == nil || !strings.Contains(failure.Message, "is not authorized to perform: kms:TagResource on resource: arn:aws:kms:us-east-1:111122223333:key/") ||
		!strings.HasSuffix(failure.Message, " because no identity-based policy allows the kms:TagResource action") {
		t.Errorf("without the right to tag: %v", failure)
	}
	create := allowing(`"kms:CreateKey"`, "*", "")
	both := func(condition string) *world {
		return u.may(strings.TrimSuffix(create, "]}") + `,{"Effect":"Allow","Action":"kms:TagResource","Resource":"arn:aws:kms:*:111122223333:key/*","Condition":` + condition + `}]}`)
	}
	do[*kmsapi.CreateKeyResponse](both(`{"StringEquals":{"aws:RequestTag/team":"red"},"ForAllValues:StringEquals":{"aws:TagKeys":["team"]}}`), "CreateKey", request)
	if _, failure := both(`{"StringEquals":{"aws:RequestTag/team":"blue"}}`).try("CreateKey", request); failure == nil || failure.Code != "AccessDeniedException" {
		t.Errorf("another tag than the right covers: %v", failure)
	}
}

// An alias is made, moved and removed by who may do so to the alias and to every key that it points at.
func TestAliasesNeedBothRights(t *testing.T) {
	w := newWorld(t, "")
	one, oneARN := w.newKey()
	two, twoARN := w.newKey()
	const aliasARN = "arn:aws:kms:us-east-1:111122223333:alias/a"
	u := w.user("u")
	with := func(resources ...string) *world {
		return u.may(strings.Replace(allowing(`["kms:CreateAlias","kms:UpdateAlias","kms:DeleteAlias"]`, "RESOURCES", ""), `"RESOURCES"`, `["`+strings.Join(resources, `","`)+`"]`, 1))
	}
	create, move, remove := in{"AliasName": "alias/a", "TargetKeyId": one}, in{"AliasName": "alias/a", "TargetKeyId": two}, in{"AliasName": "alias/a"}
	with(oneARN).refused(denied(userARN+"u", "kms:CreateAlias", aliasARN), "CreateAlias", create)
	with(aliasARN).refused(denied(userARN+"u", "kms:CreateAlias", oneARN), "CreateAlias", create)
	with(aliasARN, oneARN).done("CreateAlias", create)
	with(oneARN, twoARN).refused(denied(userARN+"u", "kms:UpdateAlias", aliasARN), "UpdateAlias", move)
	with(aliasARN, oneARN).refused(denied(userARN+"u", "kms:UpdateAlias", twoARN), "UpdateAlias", move)
	with(aliasARN, twoARN).refused(denied(userARN+"u", "kms:UpdateAlias", oneARN), "UpdateAlias", move)
	with(aliasARN, oneARN, twoARN).done("UpdateAlias", move)
	with(twoARN).refused(denied(userARN+"u", "kms:DeleteAlias", aliasARN), "DeleteAlias", remove)
	with(aliasARN, oneARN).refused(denied(userARN+"u", "kms:DeleteAlias", twoARN), "DeleteAlias", remove)
	with(aliasARN, twoARN).done("DeleteAlias", remove)
}

// kms:ResourceAliases has the aliases that the key has now.
func TestResourceAliases(t *testing.T) {
	w := newWorld(t, "")
	id, keyARN := w.newKey()
	other, _ := w.newKey()
	u := w.user("u").may(allowing(`"kms:Encrypt"`, "*", `{"ForAnyValue:StringLike":{"kms:ResourceAliases":"alias/prod/*"}}`))
	request := in{"KeyId": keyARN, "Plaintext": []byte("x")}
	no := func() {
		t.Helper()
		u.refused(denied(userARN+"u", "kms:Encrypt", keyARN), "Encrypt", request)
	}
	no()
	w.done("CreateAlias", in{"AliasName": "alias/prod/a", "TargetKeyId": id})
	u.encrypt(keyARN, []byte("x"), nil)
	w.done("UpdateAlias", in{"AliasName": "alias/prod/a", "TargetKeyId": other})
	no()
	w.done("UpdateAlias", in{"AliasName": "alias/prod/a", "TargetKeyId": id})
	u.encrypt(keyARN, []byte("x"), nil)
	w.done("DeleteAlias", in{"AliasName": "alias/prod/a"})
	k, err := w.store.GetKey(t.Context(), key.Name{Account: alice, Region: region, ID: arn.KeyID(id)})
	w.must(err)
	w.must(w.store.Update(t.Context(), func(tx *store.Tx) error { // as before there was a quota
		for i := range 50 {
			if err := tx.InsertAlias(&key.Alias{Account: alice, Region: region, Name: arn.AliasName(fmt.Sprintf("alias/%d", i)), Target: k.ID}); err != nil {
				return err
			}
		}
		return tx.InsertAlias(&key.Alias{Account: alice, Region: region, Name: "alias/prod/a", Target: k.ID})
	}))
	u.refused("AccessDeniedException: "+keyARN+" has more aliases than a condition on kms:ResourceAliases can be about.", "Encrypt", request)
	w.done("DeleteAlias", in{"AliasName": "alias/prod/a"})
	no()
}
