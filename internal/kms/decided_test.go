package kms_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// changesBy are calls that change something about a key, and need one that is prepared for them: with an alias, a grant, and another key.
func (w *world) changesBy(user *world) map[string]in {
	w.t.Helper()
	id := do[*kmsapi.CreateKeyResponse](w, "CreateKey", in{"MultiRegion": true}).KeyMetadata.KeyID.V
	other := do[*kmsapi.CreateKeyResponse](w, "CreateKey", in{"MultiRegion": true}).KeyMetadata.KeyID.V
	w.done("CreateAlias", in{"AliasName": "alias/there", "TargetKeyId": id})
	grant, _ := w.grant(id, user.caller.ARN, []string{"Encrypt", "RetireGrant"}, nil)
	keyARN := "arn:aws:kms:us-east-1:111122223333:key/" + id
	return map[string]in{
		"PutKeyPolicy":         {"KeyId": id, "Policy": naming("kms:*", user.caller.ARN)},
		"CreateGrant":          grantRequest(id, user.caller.ARN, []string{"Encrypt"}, nil),
		"RevokeGrant":          {"KeyId": id, "GrantId": grant},
		"RetireGrant":          {"KeyId": keyARN, "GrantId": grant},
		"CreateAlias":          {"AliasName": "alias/new", "TargetKeyId": id},
		"UpdateAlias":          {"AliasName": "alias/there", "TargetKeyId": other},
		"DeleteAlias":          {"AliasName": "alias/there"},
		"TagResource":          {"KeyId": id, "Tags": []in{{"TagKey": "k", "TagValue": "v"}}},
		"DisableKey":           {"KeyId": id},
		"UpdateKeyDescription": {"KeyId": id, "Description": "another"},
		"EnableKeyRotation":    {"KeyId": id},
		"RotateKeyOnDemand":    {"KeyId": id},
		"ReplicateKey":         {"KeyId": id, "ReplicaRegion": string(ireland)},
		"ScheduleKeyDeletion":  {"KeyId": id},
	}
}

// changed counts what was ever changed.
func (w *world) changed() (n int64) {
	w.t.Helper()
	position, err := w.store.Position(w.t.Context(), alice, region)
	w.must(err)
	return position
}

// A right that another server took, and this one has not heard of, changes nothing.
func TestRightsTakenOnAnotherServer(t *testing.T) {
	one := newWorld(t, "")
	for name := range one.changesBy(one.user("eve")) {
		one := newWorld(t, "")
		two := one.beside()
		eve := two.user("eve").may(allowing(`"kms:*"`, "*", ""))
		request := one.changesBy(eve)[name]
		for _, a := range do[*kmsapi.ListAliasesResponse](two, "ListAliases", in{}).Aliases { // which it remembers from now on
			if a.TargetKeyID.Set {
				two.encrypt(a.AliasName.V, []byte("x"), nil)
			}
		}
		for _, k := range do[*kmsapi.ListKeysResponse](two, "ListKeys", in{}).Keys {
			two.done("DescribeKey", in{"KeyId": k.KeyID.V})
			one.done("PutKeyPolicy", in{"KeyId": k.KeyID.V, "Policy": without(eve.caller.ARN)})
		}
		before := one.changed()
		if _, failure := eve.try(name, request); failure == nil || failure.Code != "AccessDeniedException" {
			t.Errorf("%s: %v", name, failure)
		}
		if n := one.changed() - before; n != 0 {
			t.Errorf("%s: %d changes", name, n)
		}
	}
}

// held is a Freshness of a server whose changes take too long until its news come, which heard is for.
type held struct {
	checks atomic.Int64
	heard  func()
}

// Check has the news come when a call is decided for the second time.
func (h *held) Check(context.Context) (time.Time, error) {
	if h.checks.Add(1) == 2 {
		h.heard()
	}
	return time.Time{}, nil
}

func (h *held) Late(time.Time) bool { return h.checks.Load() < 2 }

// A change that took long is decided anew by what has been heard meanwhile.
func TestSlowChangesAreDecidedAnew(t *testing.T) {
	w := newWorld(t, "")
	eve := w.user("eve").may(allowing(`"kms:*"`, "*", ""))
	requests := w.changesBy(eve)
	requests["CreateKey"] = in{}
	for name, request := range requests {
		for _, stays := range []bool{false, true} {
			w := newWorld(t, "")
			eve := w.user("eve").may(allowing(`"kms:*"`, "*", ""))
			if name != "CreateKey" {
				request = w.changesBy(eve)[name]
			}
			news := &held{heard: func() {}}
			if !stays {
				refused := w.user("eve").may(strings.Replace(allowing(`"kms:*"`, "*", ""), "Allow", "Deny", 1)).caller
				news.heard = func() { w.people.renew(func(*guard.Caller) *guard.Caller { return refused }) }
			}
			eve.freshness = news
			before := w.changed()
			_, failure := eve.try(name, request)
			if stays && failure != nil || !stays && (failure == nil || failure.Code != "AccessDeniedException") {
				t.Errorf("%s of a user with the right to it %v: %v", name, stays, failure)
			}
			if n := news.checks.Load(); n != 2 {
				t.Errorf("%s was decided %d times", name, n)
			}
			if n := w.changed() - before; stays != (n > 0) {
				t.Errorf("%s: %d changes", name, n)
			}
		}
	}
}
