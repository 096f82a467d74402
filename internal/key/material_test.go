package key_test

import (
	"testing"
	"time"

	"github.com/keywright/keywright/internal/key"
)

var midnight = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// generation returns imported material that expires after some hours, or never.
func generation(id string, state key.MaterialState, hours int) key.Material {
	m := key.Material{ID: id, State: state, Wrapped: []byte("x"), Expiration: key.DoesNotExpire}
	if hours > 0 {
		m.Expiration, m.ValidTo = key.Expires, midnight.Add(time.Duration(hours)*time.Hour)
	}
	return m
}

func TestImportAndDrop(t *testing.T) {
	k := &key.Key{Origin: key.OriginExternal, State: key.PendingImport}
	check := func(what string, state key.State, complete bool, materials int) {
		t.Helper()
		if k.State != state || k.Complete() != complete || len(k.Material) != materials {
			t.Errorf("%s: %s, complete %v, %d materials", what, k.State, k.Complete(), len(k.Material))
		}
	}
	check("new", key.PendingImport, false, 0)
	first := generation("a", key.Current, 0)
	first.Description = "first"
	k.Import(first)
	check("imported", key.Enabled, true, 1)
	k.Drop("a")
	check("dropped", key.PendingImport, false, 1)
	if m := k.Current(); m == nil || m.Imported() || m.Expiration != "" || k.RestoredState() != key.PendingImport {
		t.Errorf("what is left of it: %+v", m)
	}
	k.Import(generation("b", key.PendingRotation, 5))
	check("another one first", key.PendingImport, false, 2)
	k.Import(generation("a", key.PendingRotation, 3))
	check("imported again", key.Enabled, true, 2)
	if m := k.Current(); m.ID != "a" || m.State != key.Current || m.Description != "first" || m.ValidTo.IsZero() {
		t.Errorf("imported again: %+v", m)
	}
	if pending := k.Pending(); pending == nil || pending.ID != "b" {
		t.Errorf("pending %+v", pending)
	}
	k.Drop("b")
	check("pending material dropped", key.Enabled, true, 1)
	k.Import(generation("b", key.PendingRotation, 5))
	k.Rotate(*k.Pending(), key.OnDemand, midnight)
	check("rotated", key.Enabled, true, 2)
	if got := k.ExpiresAt((*key.Material).Permanent); !got.Equal(midnight.Add(3 * time.Hour)) {
		t.Errorf("expires at %v", got)
	}
	k.State = key.Disabled
	k.Drop("a")
	check("older material of a disabled key dropped", key.PendingImport, false, 2)
	k.Import(generation("a", key.PendingRotation, 3))
	if ids := k.Expired(midnight.Add(3*time.Hour - 1)); len(ids) != 0 {
		t.Errorf("expired too early: %v", ids)
	}
	if ids := k.Expired(midnight.Add(3 * time.Hour)); len(ids) != 1 || ids[0] != "a" {
		t.Errorf("expired: %v", ids)
	}
	k.State = key.PendingDeletion
	k.Drop("a")
	check("dropped while pending deletion", key.PendingDeletion, false, 2)
	k.State, k.Next = key.Updating, key.PendingImport
	k.Import(generation("a", key.Current, 0))
	if check("imported while updating", key.Updating, true, 2); k.Next != key.Enabled {
		t.Errorf("next %s", k.Next)
	}
	k.Drop("nothing")
	check("an unknown id", key.Updating, true, 2)
}
