package kms_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// changesBy are calls that change something about a key, and need one that is prepared for them: with an alias, a grant, and another key.
func (w *world) changesBy(user *world) map[string]in {
	w.t.Helper()
	newKey := in{"MultiRegion": true, "Tags": []in{{"TagKey": "team", "TagValue": "a"}}}
	id := do[*kmsapi.CreateKeyResponse](w, "CreateKey", newKey).KeyMetadata.KeyID.V
	other := do[*kmsapi.CreateKeyResponse](w, "CreateKey", newKey).KeyMetadata.KeyID.V
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
	names := one.changesBy(one.user("eve"))
	for about, take := range map[string]func(w *world, id, user string){
		"policy": func(w *world, id, user string) { w.done("PutKeyPolicy", in{"KeyId": id, "Policy": without(user)}) },
		"tags": func(w *world, id, _ string) {
			w.done("TagResource", in{"KeyId": id, "Tags": []in{{"TagKey": "team", "TagValue": "b"}}})
		},
	} {
		for name := range names {
			one := newWorld(t, "")
			two := one.beside()
			eve := two.user("eve").may(allowing(`"kms:*"`, "*", `{"StringEqualsIfExists":{"aws:ResourceTag/team":"a"}}`))
			request := one.changesBy(eve)[name]
			two.encrypt("alias/there", []byte("x"), nil) // an alias and keys that it remembers from now on
			for _, k := range do[*kmsapi.ListKeysResponse](two, "ListKeys", in{}).Keys {
				two.done("DescribeKey", in{"KeyId": k.KeyID.V})
				take(one, k.KeyID.V, eve.caller.ARN)
			}
			before := one.changed()
			_, failure := eve.try(name, request)
			if name == "RetireGrant" && about == "tags" { // a right by a grant
				continue
			}
			if failure == nil || failure.Code != "AccessDeniedException" {
				t.Errorf("%s, when another server changed %s: %v", name, about, failure)
			}
			if n := one.changed() - before; n != 0 {
				t.Errorf("%s, when another server changed %s: %d changes", name, about, n)
			}
		}
	}
}

// held is a Freshness of a server whose changes take too long, whatever is asked for, and whose news heard is for.
type held struct {
	checks atomic.Int64
	fails  int64 // how often nothing is heard
	heard  func()
}

// Check has the news come.
func (h *held) Check(context.Context) (time.Time, error) {
	if h.checks.Add(1) <= h.fails {
		return time.Time{}, store.ErrUnavailable
	}
	h.heard()
	return time.Time{}, nil
}

// Late implements guard.Freshness.
func (*held) Late(time.Time) bool { return true }

// A change that took long is decided anew, once, by what has been heard meanwhile, however long that takes.
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
			news := &held{fails: 1, heard: func() {}}
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
				t.Errorf("%s asked %d times for what others changed", name, n)
			}
			if n := w.changed() - before; stays != (n > 0) {
				t.Errorf("%s: %d changes", name, n)
			}
		}
	}
}
