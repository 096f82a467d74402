package kms_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// grant makes a grant and returns its id and token. more adds to and overrides the parameters.
func (w *world) grant(keyID, grantee string, operations []string, more in) (id, token string) {
	w.t.Helper()
	out := do[*kmsapi.CreateGrantResponse](w, "CreateGrant", grantRequest(keyID, grantee, operations, more))
	return out.GrantID.V, out.GrantToken.V
}

func grantRequest(keyID, grantee string, operations []string, more in) in {
	request := in{"KeyId": keyID, "GranteePrincipal": grantee, "Operations": operations}
	maps.Copy(request, more)
	for name, v := range more {
		if v == nil {
			delete(request, name)
		}
	}
	return request
}

// grants returns the ids of the grants on a key, page by page.
func (w *world) grants(request in) (list []kmsapi.GrantListEntry) {
	w.t.Helper()
	request = maps.Clone(request)
	for {
		out := do[*kmsapi.ListGrantsResponse](w, "ListGrants", request)
		list = append(list, out.Grants...)
		if !out.Truncated.V {
			return list
		}
		request["Marker"] = out.NextMarker.V
	}
}

const userARN = "arn:aws:iam::111122223333:user/"

// denied is the refusal of a user or role of alice's account that has no policies, for a key with the default policy.
func denied(who, action, keyARN string) string {
	return "AccessDeniedException: User: " + who + " is not authorized to perform: " + action + " on resource: " + keyARN +
		" because no identity-based policy allows the " + action + " action"
}

func TestGrantHoldsAtOnce(t *testing.T) {
	w := newWorld(t, "")
	id, keyARN := w.newKey()
	u := w.user("u")
	request := in{"KeyId": keyARN, "Plaintext": []byte("x")}
	u.refused(denied(userARN+"u", "kms:Encrypt", keyARN), "Encrypt", request)
	grantID, token := w.grant(id, userARN+"u", []string{"Encrypt", "DescribeKey"}, nil)
	if len(grantID) != 64 || strings.Trim(grantID, "0123456789abcdef") != "" || token == "" || len(token) > 8192 {
		t.Errorf("id %q, token of %d octets", grantID, len(token))
	}
	u.encrypt(keyARN, []byte("x"), nil)
	do[*kmsapi.DescribeKeyResponse](u, "DescribeKey", in{"KeyId": keyARN})
	u.refused(denied(userARN+"u", "kms:GenerateDataKey", keyARN), "GenerateDataKey", in{"KeyId": keyARN, "KeySpec": "AES_256"})
	w.user("v").refused(denied(userARN+"v", "kms:Encrypt", keyARN), "Encrypt", request)
	w.done("RevokeGrant", in{"KeyId": id, "GrantId": grantID})
	u.refused(denied(userARN+"u", "kms:Encrypt", keyARN), "Encrypt", request)
	request["GrantTokens"] = []string{token} // of a grant that is gone: it gives nothing
	u.refused(denied(userARN+"u", "kms:Encrypt", keyARN), "Encrypt", request)
	w.refused("NotFoundException: Grant ID "+grantID+" not found", "RevokeGrant", in{"KeyId": id, "GrantId": grantID})
	w.refused("InvalidGrantIdException", "RevokeGrant", in{"KeyId": id, "GrantId": "x"})
}

func TestGrantOfASession(t *testing.T) {
	w := newWorld(t, "")
	id, keyARN := w.newKey()
	one, two := w.session("one"), w.session("two")
	request := in{"KeyId": keyARN, "Plaintext": []byte("x")}
	w.grant(id, one.caller.ARN, []string{"Encrypt"}, nil)
	one.encrypt(keyARN, []byte("x"), nil)
	two.refused(denied(two.caller.ARN, "kms:Encrypt", keyARN), "Encrypt", request)
	w.grant(id, one.caller.RoleARN, []string{"Encrypt"}, nil)
	two.encrypt(keyARN, []byte("x"), nil)
}

func TestGrantConstraints(t *testing.T) {
	w := newWorld(t, "")
	id, keyARN := w.newKey()
	u := w.user("u")
	operations := []string{"Encrypt", "Decrypt", "ReEncryptFrom", "ReEncryptTo", "GenerateDataKey", "DescribeKey"}
	blob := w.encrypt(id, []byte("x"), map[string]string{"a": "1", "b": "2"})
	grantID, _ := w.grant(id, userARN+"u", operations, in{"Constraints": in{"EncryptionContextSubset": in{"a": "1"}}})
	u.encrypt(keyARN, []byte("x"), map[string]string{"a": "1"})
	u.decrypts(blob, []byte("x"), map[string]string{"a": "1", "b": "2"})
	do[*kmsapi.DescribeKeyResponse](u, "DescribeKey", in{"KeyId": keyARN})
	do[*kmsapi.GenerateDataKeyResponse](u, "GenerateDataKey", in{"KeyId": keyARN, "KeySpec": "AES_256", "EncryptionContext": in{"a": "1"}})
	for _, context := range []in{nil, {"a": "2"}, {"A": "1"}} {
		u.refused(denied(userARN+"u", "kms:Encrypt", keyARN), "Encrypt", in{"KeyId": keyARN, "Plaintext": []byte("x"), "EncryptionContext": context})
	}
	do[*kmsapi.ReEncryptResponse](u, "ReEncrypt", in{
		"CiphertextBlob": blob, "SourceEncryptionContext": in{"a": "1", "b": "2"}, "DestinationKeyId": keyARN, "DestinationEncryptionContext": in{"a": "1"},
	})
	u.refused(denied(userARN+"u", "kms:ReEncryptTo", keyARN), "ReEncrypt", in{
		"CiphertextBlob": blob, "SourceEncryptionContext": in{"a": "1", "b": "2"}, "DestinationKeyId": keyARN, "DestinationEncryptionContext": in{"b": "2"},
	})
	w.done("RevokeGrant", in{"KeyId": id, "GrantId": grantID})
	w.grant(id, userARN+"u", operations, in{"Constraints": in{"EncryptionContextEquals": in{"a": "1"}}})
	u.encrypt(keyARN, []byte("x"), map[string]string{"a": "1"})
	u.refused(denied(userARN+"u", "kms:Encrypt", keyARN), "Encrypt", in{"KeyId": keyARN, "Plaintext": []byte("x"), "EncryptionContext": in{"a": "1", "b": "2"}})
	v := w.user("v")
	w.grant(id, userARN+"v", operations, in{"Constraints": in{"SourceArn": "arn:aws:s3:us-east-1:111122223333:bucket"}})
	v.refused(denied(userARN+"v", "kms:Encrypt", keyARN), "Encrypt", in{"KeyId": keyARN, "Plaintext": []byte("x")}) // no service calls for v
}

func TestCreateGrantErrors(t *testing.T) {
	w := newWorld(t, "")
	id, keyARN := w.newKey()
	w.user("u")
	pairs := in{}
	for i := range 9 {
		pairs[fmt.Sprint(i)] = "x"
	}
	const validation = "ValidationException: "
	for _, c := range []struct {
		more in
		want string
	}{
		{in{"GranteePrincipal": nil}, validation + "Specify either GranteePrincipal or GranteeServicePrincipal."},
		{in{"GranteeServicePrincipal": "objects.example.com"}, validation + "Specify either GranteePrincipal or GranteeServicePrincipal."},
		{in{"GranteePrincipal": nil, "GranteeServicePrincipal": "objects.example.com"}, validation + "A grant to a GranteeServicePrincipal needs a SourceArn constraint."},
		{
			in{"GranteePrincipal": nil, "GranteeServicePrincipal": "objects.example.com", "Constraints": in{"SourceArn": "arn:aws:s3:us-east-1:111122223333:bucket"}},
			validation + "A grant to a GranteeServicePrincipal needs a RetiringPrincipal or RetiringServicePrincipal.",
		},
		{
			in{"RetiringPrincipal": userARN + "u", "RetiringServicePrincipal": "objects.example.com"},
			validation + "Specify either RetiringPrincipal or RetiringServicePrincipal, not both.",
		},
		{in{"Operations": []string{}}, validation + "A grant needs at least one operation."},
		{in{"Operations": []string{"Encrypt", "Sign"}}, validation + "Operation Sign is not supported by grants on " + keyARN + "."},
		{in{"Operations": []string{"Encapsulate"}}, validation + "Operation Encapsulate is not supported by grants on " + keyARN + "."},
		{in{"Constraints": in{"EncryptionContextSubset": pairs}}, validation + "An encryption context in grant constraints can have at most 8 pairs."},
		{
			in{"Constraints": in{"EncryptionContextEquals": in{"a": strings.Repeat("x", 385)}}},
			validation + "A value of an encryption context in grant constraints can have at most 384 characters.",
		},
		{
			in{"Constraints": in{"EncryptionContextEquals": in{"a": "1"}, "EncryptionContextSubset": in{"a": "1"}}},
			validation + "Specify either EncryptionContextEquals or EncryptionContextSubset, not both.",
		},
		{in{"GranteePrincipal": userARN + "nobody"}, "InvalidArnException: ARN does not refer to a valid principal: " + userARN + "nobody"},
		{in{"GranteePrincipal": "111122223333"}, "InvalidArnException: ARN does not refer to a valid principal: 111122223333"},
		{in{"GranteePrincipal": "arn:aws:iam::999999999999:root"}, "InvalidArnException: ARN does not refer to a valid principal: arn:aws:iam::999999999999:root"},
		{in{"GranteePrincipal": "arn:aws-cn:iam::111122223333:root"}, "InvalidArnException: ARN does not refer to a valid principal: arn:aws-cn:iam::111122223333:root"},
		{in{"RetiringPrincipal": userARN + "nobody"}, "InvalidArnException: ARN does not refer to a valid principal: " + userARN + "nobody"},
		{in{"DryRun": true}, "DryRunOperationException: The request would have succeeded, but the DryRun option is set."},
		{in{"GrantTokens": []string{"dG9rZW4="}}, "InvalidGrantTokenException"},
		{in{"KeyId": "alias/a"}, "InvalidArnException: Key Aliases are not supported for this operation."},
	} {
		w.refused(c.want, "CreateGrant", grantRequest(id, userARN+"u", []string{"Encrypt"}, c.more))
	}
	if list := w.grants(in{"KeyId": id}); len(list) > 0 {
		t.Errorf("refused calls made %+v", list)
	}
	request := grantRequest(id, userARN+"u", []string{"Encrypt"}, nil)
	w.done("DisableKey", in{"KeyId": id})
	w.refused("DisabledException: "+keyARN+" is disabled.", "CreateGrant", request)
	do[*kmsapi.ScheduleKeyDeletionResponse](w, "ScheduleKeyDeletion", in{"KeyId": id, "PendingWindowInDays": 7})
	w.refused("KMSInvalidStateException: "+keyARN+" is pending deletion.", "CreateGrant", request)
}

func TestGrantNames(t *testing.T) {
	w := newWorld(t, t.TempDir())
	id, _ := w.newKey()
	w.user("u")
	more := in{"Name": "mine", "Constraints": in{"EncryptionContextEquals": in{"a": "1"}}, "RetiringPrincipal": userARN + "u"}
	first, token := w.grant(id, userARN+"u", []string{"Encrypt", "Decrypt"}, more)
	again, fresh := w.grant(id, userARN+"u", []string{"Decrypt", "Encrypt"}, more)
	if first != again || token == fresh {
		t.Errorf("the same grant: %s and %s, tokens equal %v", first, again, token == fresh)
	}
	for _, other := range []in{
		{"Name": "yours"},
		{"Name": nil},
		{"Constraints": nil},
		{"RetiringPrincipal": nil},
		{"Operations": []string{"Encrypt"}},
		{"GranteePrincipal": alice.Root("aws")},
		{"Constraints": in{"EncryptionContextSubset": in{"a": "1"}}},
	} {
		request := maps.Clone(more)
		maps.Copy(request, other)
		if got, _ := w.grant(id, userARN+"u", []string{"Encrypt", "Decrypt"}, request); got == first {
			t.Errorf("%v: the same grant", other)
		}
	}
	w.restart()
	if got, _ := w.grant(id, userARN+"u", []string{"Encrypt", "Decrypt"}, more); got != first {
		t.Error("another grant after a restart")
	}
	if n := len(w.grants(in{"KeyId": id, "Limit": 3})); n != 8 {
		t.Errorf("%d grants", n)
	}
}

func TestListGrants(t *testing.T) {
	w := newWorld(t, "")
	id, keyARN := w.newKey()
	u := w.user("u")
	s := w.session("one")
	var ids []string
	for range 7 {
		g, _ := w.grant(id, userARN+"u", []string{"Encrypt"}, in{"RetiringPrincipal": s.caller.ARN})
		ids = append(ids, g)
	}
	slices.Sort(ids)
	constrained, _ := w.grant(id, s.caller.ARN, []string{"DescribeKey", "Decrypt"}, in{"Name": "n", "Constraints": in{"EncryptionContextEquals": in{"a": "1"}}})
	service, _ := w.grant(id, "", []string{"Encrypt"}, in{
		"GranteePrincipal": nil, "GranteeServicePrincipal": "objects.example.com", "RetiringServicePrincipal": "objects.example.com",
		"Constraints": in{"SourceArn": "arn:aws:s3:us-east-1:111122223333:bucket"},
	})
	var got []string
	for _, g := range w.grants(in{"KeyId": id, "GranteePrincipal": userARN + "u", "Limit": 2}) {
		got = append(got, g.GrantID.V)
		if g.KeyID.V != keyARN || g.GranteePrincipal.V != userARN+"u" || g.RetiringPrincipal.V != s.caller.ARN || g.IssuingAccount.V != alice.Root("aws") ||
			!g.Name.Set || g.Name.V != "" || g.Constraints != nil || !g.CreationDate.V.Equal(w.now()) || !slices.Equal(g.Operations, []string{"Encrypt"}) {
			t.Errorf("%+v", g)
		}
	}
	if !slices.Equal(got, ids) {
		t.Errorf("by grantee: %v", got)
	}
	for _, c := range []struct {
		about  string
		filter in
		want   []string
	}{
		{"one id", in{"GrantId": constrained}, []string{constrained}},
		{"an id and another grantee", in{"GrantId": constrained, "GranteePrincipal": userARN + "u"}, nil},
		{"a session", in{"GranteePrincipal": s.caller.ARN}, []string{constrained}},
		{"another session", in{"GranteePrincipal": s.caller.RoleARN + "x"}, nil},
		{"its role", in{"GranteePrincipal": s.caller.RoleARN}, nil},
		{"a service", in{"GranteeServicePrincipal": "objects.example.com"}, []string{service}},
		{"an unknown id", in{"GrantId": strings.Repeat("0", 64)}, nil},
	} {
		c.filter["KeyId"] = id
		var got []string
		for _, g := range w.grants(c.filter) {
			got = append(got, g.GrantID.V)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.about, got, c.want)
		}
	}
	w.refused("InvalidGrantIdException", "ListGrants", in{"KeyId": id, "GrantId": "x"})
	if g := w.grants(in{"KeyId": id, "GrantId": service})[0]; g.GranteePrincipal.Set || g.GranteeServicePrincipal.V != "objects.example.com" ||
		g.RetiringServicePrincipal.V != "objects.example.com" || g.Constraints.SourceARN.V == "" {
		t.Errorf("%+v", g)
	}
	// A renamed user shows under the new name, a deleted one by the bare id, by which it is found as well.
	w.people.born(u.caller.UniqueID, userARN+"renamed")
	if g := w.grants(in{"KeyId": id, "GranteePrincipal": userARN + "renamed"}); len(g) != 7 || g[0].GranteePrincipal.V != userARN+"renamed" {
		t.Errorf("renamed: %+v", g)
	}
	w.people.gone(u.caller.UniqueID)
	if g := w.grants(in{"KeyId": id, "GranteePrincipal": u.caller.UniqueID}); len(g) != 7 || g[0].GranteePrincipal.V != u.caller.UniqueID {
		t.Errorf("deleted: %+v", g)
	}
	if text := string(do[*kmsapi.ListGrantsResponse](w, "ListGrants", in{"KeyId": id}).AppendJSON(nil)); strings.Contains(text, "Token") {
		t.Error("a list shows tokens")
	}
}

func TestListRetirableGrants(t *testing.T) {
	w := newWorld(t, "")
	id, _ := w.newKey()
	other, _ := w.newKey()
	b := w.as(bob, region)
	_, foreign := b.newKey()
	elsewhere := w.as(alice, "eu-west-1")
	far, _ := elsewhere.newKey()
	u := w.user("u")
	w.user("v")
	want := map[string]bool{}
	for range 3 {
		for _, k := range []string{id, other} {
			g, _ := w.grant(k, userARN+"v", []string{"Encrypt"}, in{"RetiringPrincipal": userARN + "u"})
			want[g] = true
		}
	}
	g, _ := b.grant(foreign, userARN+"v", []string{"Encrypt"}, in{"RetiringPrincipal": userARN + "u"})
	want[g] = true
	w.grant(id, userARN+"u", []string{"Encrypt"}, nil)
	elsewhere.grant(far, userARN+"v", []string{"Encrypt"}, in{"RetiringPrincipal": userARN + "u"})
	got := map[string]bool{}
	for marker := any(nil); ; {
		out := do[*kmsapi.ListGrantsResponse](w, "ListRetirableGrants", in{"RetiringPrincipal": userARN + "u", "Limit": 2, "Marker": marker})
		for _, g := range out.Grants {
			got[g.GrantID.V] = true
		}
		if !out.Truncated.V {
			break
		}
		marker = out.NextMarker.V
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	b.refused("InvalidArnException: ARN does not refer to a valid principal: "+userARN+"u", "ListRetirableGrants", in{"RetiringPrincipal": userARN + "u"})
	w.refused("ValidationException: Specify either RetiringPrincipal or RetiringServicePrincipal.", "ListRetirableGrants", in{})
	w.refused("AccessDeniedException: User: "+alice.Root("aws")+" is not authorized to perform: kms:ListRetirableGrants on resource: *",
		"ListRetirableGrants", in{"RetiringServicePrincipal": "objects.example.com"})
	objects := w.serviceCaller("objects.example.com")
	theirs, _ := w.grant(id, userARN+"v", []string{"Encrypt"}, in{"RetiringServicePrincipal": "objects.example.com"})
	if out := do[*kmsapi.ListGrantsResponse](objects, "ListRetirableGrants", in{"RetiringServicePrincipal": "objects.example.com"}); len(out.Grants) != 1 || out.Grants[0].GrantID.V != theirs {
		t.Errorf("a service may retire %+v", out.Grants)
	}
	if _, failure := objects.try("ListRetirableGrants", in{"RetiringServicePrincipal": "other.example.com"}); failure == nil || failure.Code != "AccessDeniedException" {
		t.Errorf("what another service may retire: %v", failure)
	}
	if _, failure := u.try("ListRetirableGrants", in{"RetiringPrincipal": userARN + "u"}); failure == nil || failure.Code != "AccessDeniedException" {
		t.Errorf("a user without policies: %v", failure)
	}
}

// controls are resource control policies of an account.
type controls map[arn.Account][]guard.Policy

func (c controls) ServiceControls(arn.Account) ([]guard.Policy, error)    { return nil, nil }
func (c controls) ResourceControls(a arn.Account) ([]guard.Policy, error) { return c[a], nil }

// A service sees grants of the accounts that it serves and of no others, as far as these accounts let it.
func TestListRetirableGrantsOfServices(t *testing.T) {
	w := newWorld(t, "")
	want := map[arn.Account][]string{}
	ids := map[arn.Account]string{}
	for _, a := range []arn.Account{alice, bob, carol} {
		owner := w.as(a, region)
		ids[a], _ = owner.newKey()
		for range 3 {
			g, _ := owner.grant(ids[a], alice.Root("aws"), []string{"Encrypt"}, in{"RetiringServicePrincipal": "objects.example.com"})
			want[a] = append(want[a], g)
		}
	}
	objects := w.serviceCaller("objects.example.com")
	check := func(about string, accounts ...arn.Account) {
		t.Helper()
		var got, wanted []string
		for _, a := range accounts {
			wanted = append(wanted, want[a]...)
		}
		for marker := any(nil); ; {
			out := do[*kmsapi.ListGrantsResponse](objects, "ListRetirableGrants", in{"RetiringServicePrincipal": "objects.example.com", "Limit": 2, "Marker": marker})
			for _, g := range out.Grants {
				got = append(got, g.GrantID.V)
			}
			if !out.Truncated.V {
				break
			}
			marker = out.NextMarker.V
		}
		slices.Sort(got)
		slices.Sort(wanted)
		if !slices.Equal(got, wanted) {
			t.Errorf("%s: %v, want %v", about, got, wanted)
		}
	}
	check("its own account", alice)
	objects.caller.Serves = []arn.Account{carol}
	check("another account", alice, carol)
	objects.caller.Serves = []arn.Account{carol, bob, alice}
	check("all accounts", alice, bob, carol)
	deny, err := policy.Parse(policy.ResourceControlPolicy, []byte(`{"Version":"2012-10-17","Statement":{"Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"*"}}`))
	w.must(err)
	objects.guard = guard.New(guard.Config{Recorder: w.audit, Now: w.now, Directory: controls{bob: {{Name: "none", Document: deny}}}})
	check("a resource control policy", alice, carol)
	w.done("PutKeyPolicy", in{"KeyId": ids[alice], "Policy": strings.Replace(naming("kms:*", "X"), `{"Effect":"Allow","Principal":{"AWS":["X"]}`, `{"Effect":"Deny","Principal":{"Service":"objects.example.com"}`, 1)})
	check("a key policy", carol)
}

func TestRetireGrant(t *testing.T) {
	w := newWorld(t, "")
	id, keyARN := w.newKey()
	b := w.as(bob, region)
	u, v := w.user("u"), w.user("v")
	foreign := b.user("f")
	retirable := in{"RetiringPrincipal": userARN + "v"}
	refusal := denied(userARN+"u", "kms:RetireGrant", keyARN)
	for _, c := range []struct {
		about      string
		who        *world
		operations []string
		more       in
		want       string
	}{
		{"the retiring principal", v, []string{"Encrypt"}, retirable, ""},
		{"the grantee", u, []string{"Encrypt"}, retirable, refusal},
		{"the grantee with RetireGrant", u, []string{"Encrypt", "RetireGrant"}, retirable, ""},
		{"the grantee with RetireGrant, whatever the context", u, []string{"RetireGrant"}, in{"Constraints": in{"EncryptionContextEquals": in{"a": "1"}}}, ""},
		{"the issuing account", w, []string{"Encrypt"}, retirable, ""},
		{"somebody of the issuing account", w.user("x"), []string{"Encrypt"}, retirable, strings.ReplaceAll(refusal, "user/u", "user/x")},
		{"a foreign retiring principal", foreign, []string{"Encrypt"}, in{"RetiringPrincipal": foreign.caller.ARN}, ""},
		{"a foreign retiring account", b, []string{"Encrypt"}, in{"RetiringPrincipal": bob.Root("aws")}, ""},
		{"a foreign account", b, []string{"Encrypt"}, nil, "AccessDeniedException: User: " + bob.Root("aws") + " is not authorized to perform: kms:RetireGrant on resource: " + keyARN},
	} {
		for how := range 2 {
			grantID, token := w.grant(id, userARN+"u", c.operations, c.more)
			request := in{"GrantToken": token}
			if how == 1 {
				request = in{"KeyId": keyARN, "GrantId": grantID}
			}
			if c.want != "" {
				c.who.refused(c.want, "RetireGrant", request)
				continue
			}
			dry := maps.Clone(request)
			dry["DryRun"] = true
			c.who.refused("DryRunOperationException: The request would have succeeded, but the DryRun option is set.", "RetireGrant", dry)
			if _, failure := c.who.try("RetireGrant", request); failure != nil {
				t.Errorf("%s: %v", c.about, failure)
			}
			w.refused("NotFoundException: Grant ID "+grantID+" not found", "RetireGrant", request)
		}
	}
	grantID, token := w.grant(id, userARN+"u", []string{"Encrypt"}, nil)
	_, other := w.grant(id, userARN+"u", []string{"Encrypt"}, nil)
	for _, c := range []struct {
		in   in
		want string
	}{
		{in{}, "ValidationException: Specify either GrantToken, or KeyId and GrantId."},
		{in{"KeyId": keyARN}, "ValidationException: Specify either GrantToken, or KeyId and GrantId."},
		{in{"GrantId": grantID}, "ValidationException: Specify either GrantToken, or KeyId and GrantId."},
		{in{"GrantToken": other, "GrantId": grantID}, "ValidationException: GrantToken and GrantId name different grants."},
		{in{"GrantToken": "x"}, "InvalidGrantTokenException"},
		{in{"GrantToken": token + "="}, "InvalidGrantTokenException"},
		{in{"KeyId": keyARN, "GrantId": "x"}, "InvalidGrantIdException"},
	} {
		w.refused(c.want, "RetireGrant", c.in)
	}
	w.as(alice, "eu-west-1").refused("InvalidGrantTokenException", "RetireGrant", in{"GrantToken": token})
	// A key policy cannot give the right, but takes it.
	policy := func(effect string) string {
		return `{"Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"},{"Effect":"` + effect +
			`","Principal":{"AWS":["` + userARN + `u","111122223333"]},"Action":"kms:RetireGrant","Resource":"*"}]}`
	}
	w.done("PutKeyPolicy", in{"KeyId": id, "Policy": policy("Allow")})
	u.refused(refusal, "RetireGrant", in{"GrantToken": token})
	w.done("PutKeyPolicy", in{"KeyId": id, "Policy": policy("Deny")})
	w.refused("AccessDeniedException: User: "+alice.Root("aws")+" is not authorized to perform: kms:RetireGrant on resource: "+keyARN+
		" with an explicit deny in a resource-based policy", "RetireGrant", in{"GrantToken": token})
}

// What a grant makes is never wider than the grant itself.
func TestGrantsThroughGrants(t *testing.T) {
	w := newWorld(t, "")
	id, keyARN := w.newKey()
	u := w.user("u")
	w.user("v")
	equals, subset := in{"EncryptionContextEquals": in{"a": "1"}}, in{"EncryptionContextSubset": in{"a": "1"}}
	wider := in{"EncryptionContextSubset": in{"a": "1", "b": "2"}}
	source := in{"SourceArn": "arn:aws:s3:us-east-1:111122223333:bucket"}
	for _, c := range []struct {
		parent, child in
		operations    string
		ok            bool
	}{
		{nil, nil, "Encrypt", true},
		{nil, nil, "Encrypt CreateGrant", true},
		{nil, nil, "Encrypt Decrypt", false},
		{nil, nil, "RetireGrant", false},
		{nil, equals, "Encrypt", true},
		{nil, source, "Encrypt", true},
		{subset, nil, "Encrypt", false},
		{subset, subset, "Encrypt", true},
		{subset, equals, "Encrypt", true},
		{subset, wider, "Encrypt", true},
		{subset, in{"EncryptionContextEquals": in{"a": "1", "c": "3"}}, "Encrypt", true},
		{subset, in{"EncryptionContextSubset": in{"a": "2"}}, "Encrypt", false},
		{wider, subset, "Encrypt", false},
		{equals, equals, "Encrypt", true},
		{equals, subset, "Encrypt", false},
		{equals, nil, "Encrypt", false},
		{equals, in{"EncryptionContextEquals": in{"a": "1", "b": "2"}}, "Encrypt", false},
		{equals, in{"EncryptionContextEquals": in{}}, "Encrypt", false},
	} {
		parent, _ := w.grant(id, userARN+"u", []string{"Encrypt", "CreateGrant"}, in{"Constraints": c.parent})
		request := grantRequest(keyARN, userARN+"v", strings.Fields(c.operations), in{"Constraints": c.child})
		_, failure := u.try("CreateGrant", request)
		if (failure == nil) != c.ok {
			t.Errorf("%v through %v: %v", c.child, c.parent, failure)
		}
		w.done("RevokeGrant", in{"KeyId": id, "GrantId": parent})
		u.refused(denied(userARN+"u", "kms:CreateGrant", keyARN), "CreateGrant", request)
	}
}

func TestGrantTokens(t *testing.T) {
	w := newWorld(t, t.TempDir())
	id, keyARN := w.newKey()
	other, _ := w.newKey()
	u := w.user("u")
	w.user("v")
	_, token := w.grant(id, userARN+"u", []string{"Encrypt"}, nil)
	_, elsewhere := w.grant(other, userARN+"u", []string{"Encrypt"}, nil)
	request := func(tokens ...string) in { return in{"KeyId": keyARN, "Plaintext": []byte("x"), "GrantTokens": tokens} }
	do[*kmsapi.EncryptResponse](u, "Encrypt", request(token))
	do[*kmsapi.EncryptResponse](u, "Encrypt", request(elsewhere)) // says nothing about this key
	w.user("v").refused(denied(userARN+"v", "kms:Encrypt", keyARN), "Encrypt", request(token))
	blob, err := base64.StdEncoding.DecodeString(token)
	w.must(err)
	for i := range blob {
		bad := bytes.Clone(blob)
		bad[i] ^= 1
		u.refused("InvalidGrantTokenException", "Encrypt", request(base64.StdEncoding.EncodeToString(bad)))
	}
	marker := do[*kmsapi.ListKeysResponse](w, "ListKeys", in{"Limit": 1}).NextMarker.V // sealed by the same key for something else
	u.refused("InvalidGrantTokenException", "Encrypt", request(marker))
	stranger := newWorld(t, "")
	foreign, _ := stranger.newKey()
	_, theirs := stranger.grant(foreign, alice.Root("aws"), []string{"Encrypt"}, nil)
	u.refused("InvalidGrantTokenException", "Encrypt", request(theirs))
	w.restart()
	do[*kmsapi.EncryptResponse](w.seenBy(u.caller), "Encrypt", request(token))
	all := bytes.Join(w.audit.Records(), nil)
	if bytes.Contains(all, []byte(token)) {
		t.Error("a record shows a token")
	}
}

// seenBy returns the same world seen by another caller.
func (w *world) seenBy(who *guard.Caller) *world {
	c := *w
	c.caller = who
	return &c
}

// The token of a grant that is gone has nobody ask the store for it.
func TestTokenOfARevokedGrant(t *testing.T) {
	w := newWorld(t, "")
	id, keyARN := w.newKey()
	u := w.user("u")
	grantID, token := w.grant(id, userARN+"u", []string{"Encrypt"}, nil)
	w.done("RevokeGrant", in{"KeyId": id, "GrantId": grantID})
	w.must(w.db.Close())
	request := in{"KeyId": keyARN, "Plaintext": []byte("x"), "GrantTokens": []string{token}}
	u.refused(denied(userARN+"u", "kms:Encrypt", keyARN), "Encrypt", request)
	do[*kmsapi.EncryptResponse](w, "Encrypt", request)
}

func TestGrantRecords(t *testing.T) {
	w := newWorld(t, "")
	id, keyARN := w.newKey()
	w.user("u")
	grantID, token := w.grant(id, userARN+"u", []string{"Encrypt"}, in{
		"Name": "n", "RetiringPrincipal": userARN + "u", "Constraints": in{"EncryptionContextSubset": in{"a": "1"}},
	})
	r := w.lastRecord()
	p := r["requestParameters"].(in)
	if r["readOnly"] != false || fmt.Sprint(r["responseElements"]) != fmt.Sprint(in{"grantId": grantID, "keyId": keyARN}) || p["keyId"] != id ||
		p["granteePrincipal"] != userARN+"u" || p["retiringPrincipal"] != userARN+"u" || p["name"] != "n" || fmt.Sprint(p["operations"]) != "[Encrypt]" ||
		fmt.Sprint(p["constraints"]) != "map[encryptionContextSubset:map[a:1]]" || r["resources"].([]any)[0].(in)["ARN"] != keyARN {
		t.Errorf("CreateGrant: %v", r)
	}
	w.grants(in{"KeyId": id})
	if r := w.lastRecord(); r["readOnly"] != true || r["responseElements"] != nil || r["requestParameters"].(in)["keyId"] != id {
		t.Errorf("ListGrants: %v", r)
	}
	w.done("RetireGrant", in{"GrantToken": token})
	if r := w.lastRecord(); r["requestParameters"] != nil || fmt.Sprint(r["responseElements"]) != fmt.Sprint(in{"keyId": keyARN}) ||
		r["additionalEventData"].(in)["grantId"] != grantID {
		t.Errorf("RetireGrant: %v", r)
	}
	grantID, _ = w.grant(id, userARN+"u", []string{"Encrypt"}, nil)
	w.done("RevokeGrant", in{"KeyId": id, "GrantId": grantID})
	if r := w.lastRecord(); fmt.Sprint(r["requestParameters"]) != fmt.Sprint(in{"keyId": id, "grantId": grantID}) ||
		fmt.Sprint(r["responseElements"]) != fmt.Sprint(in{"keyId": keyARN}) {
		t.Errorf("RevokeGrant: %v", r)
	}
}

func TestDeletedKeyTakesItsGrants(t *testing.T) {
	w := newWorld(t, "")
	id, _ := w.newKey()
	_, token := w.grant(id, alice.Root("aws"), []string{"Encrypt"}, nil)
	do[*kmsapi.ScheduleKeyDeletionResponse](w, "ScheduleKeyDeletion", in{"KeyId": id, "PendingWindowInDays": 7})
	w.pass(8 * day)
	w.refused("NotFoundException: Key 'arn:aws:kms:us-east-1:111122223333:key/"+id+"' does not exist", "RetireGrant", in{"GrantToken": token})
	if counts, err := w.store.Verify(t.Context(), nil); err != nil || counts.Grants != 0 {
		t.Errorf("%+v, %v", counts, err)
	}
}

// Grants come and go while others use them.
func TestGrantsAtTheSameTime(t *testing.T) {
	w := newWorld(t, "")
	id, keyARN := w.newKey()
	u := w.user("u")
	w.grant(id, userARN+"u", []string{"Encrypt"}, nil)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 25 {
				g, _ := w.grant(id, userARN+"u", []string{"Encrypt"}, nil)
				u.encrypt(keyARN, []byte("x"), nil)
				w.done("RevokeGrant", in{"KeyId": id, "GrantId": g})
			}
		})
		all.Go(func() {
			for range 100 {
				u.encrypt(keyARN, []byte("x"), nil)
			}
		})
	}
	all.Wait()
	if n := len(w.grants(in{"KeyId": id, "GranteePrincipal": userARN + "u"})); n != 1 {
		t.Errorf("%d grants left", n)
	}
}

func FuzzGrantToken(f *testing.F) {
	w := newWorld(f, "")
	id, _ := w.newKey()
	grantID, token := w.grant(id, alice.Root("aws"), []string{"Encrypt"}, nil)
	f.Add(token)
	f.Add("")
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, s string) {
		if s == token || len(s) > 8192 {
			return
		}
		w.t = t
		_, failure := w.try("RetireGrant", in{"GrantToken": s, "GrantId": grantID, "DryRun": true})
		if failure == nil || failure.Code != "InvalidGrantTokenException" && failure.Code != "ValidationException" {
			t.Errorf("%q: %v", s, failure)
		}
	})
}
