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
	if m := k.Current(); m == nil || m.Imported() || m.Expiration != "" {
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
	check("older material of a disabled key imported again", key.Disabled, true, 2)
	k.State = key.PendingDeletion
	k.Drop("a")
	check("dropped while pending deletion", key.PendingDeletion, false, 2)
	k.Restore()
	check("restored without material", key.PendingImport, false, 2)
	k.Drop("b")
	k.Import(generation("a", key.PendingRotation, 3))
	check("restored and imported in part", key.PendingImport, false, 2)
	k.Import(generation("b", key.PendingRotation, 3))
	check("restored and imported", key.Disabled, true, 2)
	k.State = key.PendingDeletion
	k.Restore()
	check("restored", key.Disabled, true, 2)
	never := &key.Key{Origin: key.OriginExternal, State: key.PendingDeletion, DeletionAt: midnight, PendingWindowInDays: 7}
	never.Restore()
	if never.State != key.PendingImport || !never.DeletionAt.IsZero() || never.PendingWindowInDays != 0 {
		t.Errorf("restored before its first material: %+v", never)
	}
	never.Import(generation("a", key.Current, 0))
	if never.State != key.Enabled || never.Next != "" {
		t.Errorf("the first material after that: %s, %s", never.State, never.Next)
	}
	k.Drop("a")
	k.State, k.Next = key.Updating, key.PendingImport
	k.Import(generation("a", key.Current, 0))
	if check("imported while updating", key.Updating, true, 2); k.Next != key.Enabled {
		t.Errorf("next %s", k.Next)
	}
	k.Drop("nothing")
	check("an unknown id", key.Updating, true, 2)
}

func TestShare(t *testing.T) {
	primary := &key.Key{Origin: key.OriginExternal, State: key.PendingImport}
	replica := &key.Key{Origin: key.OriginExternal, State: key.PendingImport}
	share := func(what string, state key.MaterialState, states ...key.State) {
		t.Helper()
		key.Share(primary, []*key.Key{replica})
		if len(replica.Material) != len(primary.Material) {
			t.Fatalf("%s: %d and %d materials", what, len(primary.Material), len(replica.Material))
		}
		for i, m := range replica.Material {
			if p := primary.Material[i]; m.ID != p.ID || m.State != p.State || m.RotatedBy != p.RotatedBy || !m.RotatedAt.Equal(p.RotatedAt) {
				t.Errorf("%s: %+v and %+v", what, p, m)
			}
		}
		if n := len(primary.Material); n > 0 && primary.Material[n-1].State != state {
			t.Errorf("%s: the newest material is %s", what, primary.Material[n-1].State)
		}
		if primary.State != states[0] || replica.State != states[1] {
			t.Errorf("%s: %s and %s", what, primary.State, replica.State)
		}
	}
	first := generation("a", key.Current, 3)
	first.Description = "mine"
	primary.Import(first)
	share("imported here", key.Current, key.Enabled, key.PendingImport)
	if m := replica.Current(); m.Imported() || m.Description != "" || m.Expiration != "" || !m.ValidTo.IsZero() {
		t.Errorf("the replica has %+v", m)
	}
	replica.Import(generation("a", key.Current, 0))
	share("imported there", key.Current, key.Enabled, key.Enabled)
	primary.Import(generation("b", key.PendingRotation, 0))
	share("new material", key.PendingMultiRegionImportAndRotation, key.Enabled, key.Enabled)
	replica.Import(generation("b", key.PendingRotation, 0))
	share("everywhere", key.PendingRotation, key.Enabled, key.Enabled)
	replica.Drop("b")
	share("dropped there", key.PendingMultiRegionImportAndRotation, key.Enabled, key.Enabled)
	replica.Import(generation("b", key.PendingRotation, 0))
	share("and back", key.PendingRotation, key.Enabled, key.Enabled)
	primary.Drop("b")
	share("dropped here", key.Current, key.Enabled, key.Enabled)
	primary.Import(generation("c", key.PendingRotation, 0))
	share("another one", key.PendingMultiRegionImportAndRotation, key.Enabled, key.Enabled)
	replica.Import(generation("c", key.PendingRotation, 0))
	share("everywhere again", key.PendingRotation, key.Enabled, key.Enabled)
	primary.Rotate(*primary.Pending(), key.OnDemand, midnight)
	share("rotated", key.Current, key.Enabled, key.Enabled)
	if m := replica.FindMaterial("c"); m.State != key.Current || !m.Imported() || replica.Current() != m {
		t.Errorf("rotated: %+v", m)
	}

	own := &key.Key{Origin: key.OriginAWSKMS, Material: []key.Material{{ID: "a", State: key.Current, Wrapped: []byte("x")}}}
	own.Rotate(key.Material{ID: "b", Wrapped: []byte("y")}, key.Automatic, midnight)
	other := new(key.Key)
	key.Share(own, []*key.Key{other})
	if len(other.Material) != 2 || string(other.Material[0].Wrapped) != "x" || string(other.Current().Wrapped) != "y" {
		t.Errorf("material made here: %+v", other.Material)
	}
}
