package kms_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keywright/keywright/internal/quota"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// without is a key policy that leaves a key to its account and denies it to a user.
func without(user string) string {
	return strings.Replace(naming("kms:*", user), `{"Effect":"Allow","Principal":{"AWS":["`, `{"Effect":"Deny","Principal":{"AWS":["`, 1)
}

// A right that was taken, and whose taking was answered, changes nothing any more: not in a call either that was authorized
// before.
func TestRightsTakenMeanwhile(t *testing.T) {
	w := newWorld(t, "")
	eve, v := w.user("eve"), w.user("v")
	for _, c := range []struct {
		about string
		call  string
		in    in
		take  func(id, grant string)
	}{
		{
			"PutKeyPolicy by a policy", "PutKeyPolicy",
			in{"Policy": naming("kms:*", eve.caller.ARN, v.caller.ARN)},
			func(id, _ string) { w.done("PutKeyPolicy", in{"KeyId": id, "Policy": without(eve.caller.ARN)}) },
		},
		{
			"CreateGrant by a policy", "CreateGrant", grantRequest("", v.caller.ARN, []string{"Encrypt"}, nil),
			func(id, _ string) { w.done("PutKeyPolicy", in{"KeyId": id, "Policy": without(eve.caller.ARN)}) },
		},
		{
			"CreateGrant by a grant", "CreateGrant", grantRequest("", v.caller.ARN, []string{"Encrypt"}, nil),
			func(id, grant string) { w.done("RevokeGrant", in{"KeyId": id, "GrantId": grant}) },
		},
	} {
		id, keyARN := w.newKey()
		grant, token := "", ""
		if strings.HasSuffix(c.about, "a grant") {
			grant, token = w.grant(id, eve.caller.ARN, []string{"Encrypt", "CreateGrant"}, nil)
			c.in["GrantTokens"] = []string{token}
		} else {
			w.done("PutKeyPolicy", in{"KeyId": id, "Policy": naming("kms:*", eve.caller.ARN)})
		}
		c.in["KeyId"] = keyARN
		var policy string
		w.people.meanwhile = func() {
			c.take(id, grant)
			policy = do[*kmsapi.GetKeyPolicyResponse](w, "GetKeyPolicy", in{"KeyId": id}).Policy.V
		}
		_, failure := eve.try(c.call, c.in)
		if failure == nil || failure.Code != "AccessDeniedException" {
			t.Errorf("%s: %v", c.about, failure)
		}
		if now := do[*kmsapi.GetKeyPolicyResponse](w, "GetKeyPolicy", in{"KeyId": id}).Policy.V; now != policy {
			t.Errorf("%s: the policy became %s", c.about, now)
		}
		if list := w.grants(in{"KeyId": id}); len(list) > 0 {
			t.Errorf("%s: %+v", c.about, list)
		}
	}
}

// Many calls of a user wait for the same key when root takes the user's rights: once root has its answer, the key and
// everything about it stay as they are.
func TestRightsTakenFromManyCalls(t *testing.T) {
	const callers = 30
	w := newWorld(t, t.TempDir())
	w.quotas.Values = quotas(map[quota.ID]float64{quota.AliasesPerKey: 1000}).Values
	w.restart()
	eve := w.user("eve").may(allowing(`"kms:*"`, "arn:aws:kms:*:*:alias/*", ""))
	other, _ := w.newKey()
	description := func(id string) string {
		return string(do[*kmsapi.DescribeKeyResponse](w, "DescribeKey", in{"KeyId": id}).AppendJSON(nil))
	}
	aliases := func(string) string {
		list, _, err := w.store.ListAliases(t.Context(), alice, region, "", 10_000)
		w.must(err)
		var text strings.Builder
		for _, a := range list {
			fmt.Fprintf(&text, "%s %s\n", a.Name, a.Target)
		}
		return text.String()
	}
	grants := func(id string) string { return fmt.Sprint(len(w.grants(in{"KeyId": id, "Limit": 1000}))) }
	pick := func(i int, list ...string) string { return list[i%len(list)] }
	// Some calls need something to work on, made by root for each: it returns what names it.
	prepare := map[string]func(id string, i int) string{
		"DeleteAlias": func(id string, i int) string {
			name := fmt.Sprint("alias/delete-", i)
			w.done("CreateAlias", in{"AliasName": name, "TargetKeyId": id})
			return name
		},
		"RevokeGrant": func(id string, _ int) string {
			g, _ := w.grant(id, eve.caller.ARN, []string{"Encrypt"}, nil)
			return g
		},
	}
	prepare["RetireGrant"] = func(id string, _ int) string {
		g, _ := w.grant(id, eve.caller.ARN, []string{"RetireGrant"}, nil)
		return g
	}
	for _, c := range []struct {
		name  string
		call  func(id, thing string, i int) (string, in)
		state func(id string) string
	}{
		{"PutKeyPolicy", func(id, _ string, _ int) (string, in) {
			return "PutKeyPolicy", in{"KeyId": id, "Policy": naming("kms:*", eve.caller.ARN)}
		}, func(id string) string {
			return do[*kmsapi.GetKeyPolicyResponse](w, "GetKeyPolicy", in{"KeyId": id}).Policy.V
		}},
		{"TagResource", func(id, _ string, i int) (string, in) {
			return "TagResource", in{"KeyId": id, "Tags": []in{{"TagKey": "k", "TagValue": fmt.Sprint(i)}}}
		}, func(id string) string {
			return string(do[*kmsapi.ListResourceTagsResponse](w, "ListResourceTags", in{"KeyId": id}).AppendJSON(nil))
		}},
		{"UpdateKeyDescription", func(id, _ string, i int) (string, in) {
			return "UpdateKeyDescription", in{"KeyId": id, "Description": fmt.Sprint(i)}
		}, description},
		{"EnableKey", func(id, _ string, i int) (string, in) {
			return pick(i, "EnableKey", "DisableKey"), in{"KeyId": id}
		}, description},
		{"ScheduleKeyDeletion", func(id, _ string, i int) (string, in) {
			return pick(i, "ScheduleKeyDeletion", "CancelKeyDeletion"), in{"KeyId": id}
		}, description},
		{"EnableKeyRotation", func(id, _ string, i int) (string, in) {
			return "EnableKeyRotation", in{"KeyId": id, "RotationPeriodInDays": 100 + i}
		}, func(id string) string {
			return string(do[*kmsapi.GetKeyRotationStatusResponse](w, "GetKeyRotationStatus", in{"KeyId": id}).AppendJSON(nil))
		}},
		{"CreateGrant", func(id, _ string, _ int) (string, in) {
			return "CreateGrant", grantRequest(id, eve.caller.ARN, []string{"Encrypt"}, nil)
		}, grants},
		{"RevokeGrant", func(id, thing string, _ int) (string, in) { return "RevokeGrant", in{"KeyId": id, "GrantId": thing} }, grants},
		{"RetireGrant", func(id, thing string, _ int) (string, in) {
			return "RetireGrant", in{"KeyId": "arn:aws:kms:us-east-1:111122223333:key/" + id, "GrantId": thing}
		}, grants},
		{"CreateAlias", func(id, _ string, i int) (string, in) {
			return "CreateAlias", in{"AliasName": fmt.Sprint("alias/", i), "TargetKeyId": id}
		}, aliases},
		{"UpdateAlias", func(id, _ string, i int) (string, in) {
			return "UpdateAlias", in{"AliasName": "alias/moved", "TargetKeyId": pick(i, id, other)}
		}, aliases},
		{"DeleteAlias", func(_, thing string, _ int) (string, in) { return "DeleteAlias", in{"AliasName": thing} }, aliases},
	} {
		t.Run(c.name, func(t *testing.T) {
			id, _ := w.newKey()
			w.done("PutKeyPolicy", in{"KeyId": id, "Policy": naming("kms:*", eve.caller.ARN)})
			w.done("PutKeyPolicy", in{"KeyId": other, "Policy": naming("kms:*", eve.caller.ARN)})
			if c.name == "UpdateAlias" {
				w.done("CreateAlias", in{"AliasName": "alias/moved", "TargetKeyId": id})
			}
			var things [10 * callers]string
			if ready := prepare[c.name]; ready != nil {
				for i := range things {
					things[i] = ready(id, i)
				}
			}
			var next, changed atomic.Int64
			var over atomic.Bool
			enough := make(chan struct{})
			var all sync.WaitGroup
			for range callers {
				all.Go(func() {
					for !over.Load() {
						i := int(next.Add(1) - 1)
						if i >= len(things) && prepare[c.name] != nil {
							return
						}
						name, request := c.call(id, things[i%len(things)], i)
						_, failure := eve.try(name, request)
						if failure != nil && failure.Code == "AccessDeniedException" {
							return
						}
						if failure == nil && changed.Add(1) == callers {
							close(enough)
						}
					}
				})
			}
			<-enough
			w.done("PutKeyPolicy", in{"KeyId": id, "Policy": without(eve.caller.ARN)})
			answered := c.state(id)
			over.Store(true)
			all.Wait()
			if now := c.state(id); now != answered {
				t.Errorf("after the right was taken, and said to be, this\n%s\nbecame\n%s", answered, now)
			}
		})
	}
}
