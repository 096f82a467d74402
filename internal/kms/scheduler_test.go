package kms_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/wire"
)

// runDue lets the service do what is due while the clock goes on by a millisecond whenever somebody looks at it.
func (w *world) runDue() {
	w.t.Helper()
	w.step.Store(1)
	defer w.step.Store(0)
	done := make(chan error, 1)
	go func() { done <- w.service.RunDue(w.t.Context()) }()
	select {
	case err := <-done:
		w.must(err)
	case <-time.After(30 * time.Second):
		w.t.Fatal("the scheduler does not end")
	}
}

// Material that expires while the scheduler is at work on its key is no reason to do anything but let it go: whatever the
// distance of its end from what the scheduler came for, the key is not deleted or rotated before its time.
func TestTimePassesWhileWorkIsDone(t *testing.T) {
	w := newWorld(t, "")
	for _, state := range []key.State{key.PendingDeletion, key.Enabled, key.Disabled} {
		for gap := range 12 {
			id, _ := w.external(in{})
			i := w.parameters(id, oaep256, "RSA_2048")
			end := w.now().Add(time.Hour)
			i.imports(secretOf(1), until(end))
			later := until(end.Add(time.Duration(gap) * time.Millisecond))
			later["ImportType"] = "NEW_KEY_MATERIAL"
			i.imports(secretOf(2), later)
			switch state {
			case key.PendingDeletion:
				do[wire.Output](w, "ScheduleKeyDeletion", in{"KeyId": id, "PendingWindowInDays": 30})
			case key.Disabled:
				w.done("DisableKey", in{"KeyId": id})
			}
			w.clock.Store(end.UnixMilli() - 1)
			w.runDue()
			w.pass(time.Minute)
			want := string(state)
			if state != key.PendingDeletion {
				want = string(key.PendingImport)
			}
			m := w.describe(id)
			if m.KeyState.V != want || m.DeletionDate.Set && m.DeletionDate.V.Before(end.Add(29*day)) {
				t.Errorf("%s, %d ms: the key is %s, deletion date %v", state, gap, m.KeyState.V, m.DeletionDate.V)
			}
			if k := w.stored(id); len(k.Material) != 1 || k.Material[0].Imported() || len(k.Material[0].RotatedBy) > 0 {
				t.Errorf("%s, %d ms: %+v", state, gap, k.Material)
			}
		}
	}
}

// With time passing at every look at the clock, a deletion and rotations are done once, and at their time.
func TestDueWhileTimePasses(t *testing.T) {
	w := newWorld(t, "")
	id, _ := w.newKey()
	w.done("EnableKeyRotation", in{"KeyId": id, "RotationPeriodInDays": 90})
	doomed, doomedARN := w.newKey()
	do[wire.Output](w, "ScheduleKeyDeletion", in{"KeyId": doomed, "PendingWindowInDays": 7})
	start := w.now()
	w.clock.Store(start.Add(7*day).UnixMilli() - 10)
	w.runDue()
	w.clock.Store(start.Add(7*day).UnixMilli() - 1)
	w.runDue()
	w.pass(time.Second)
	w.refused(fmt.Sprintf("NotFoundException: Key '%s' does not exist", doomedARN), "DescribeKey", in{"KeyId": doomed})
	for n := range 3 {
		w.clock.Store(start.Add(time.Duration(n+1)*90*day).UnixMilli() - 1)
		w.runDue()
		w.pass(time.Second)
		if k := w.stored(id); len(k.Material) != n+2 || !k.Rotation.Next.Equal(start.Add(time.Duration(n+2)*90*day)) {
			t.Errorf("%d generations after %d rotations, the next at %v", len(k.Material), n+1, k.Rotation.Next)
		}
	}
}

// Automatic rotation makes material while the key can be changed, and looks again at the key before it gives it any.
func TestChangesWhileAKeyIsRotated(t *testing.T) {
	for what, c := range map[string]struct {
		meanwhile func(w *world, id string)
		rotates   bool
	}{
		"nothing":            {func(*world, string) {}, true},
		"a change":           {func(w *world, id string) { w.done("UpdateKeyDescription", in{"KeyId": id, "Description": "x"}) }, true},
		"DisableKey":         {func(w *world, id string) { w.done("DisableKey", in{"KeyId": id}) }, false},
		"DisableKeyRotation": {func(w *world, id string) { w.done("DisableKeyRotation", in{"KeyId": id}) }, false},
		"another period": {func(w *world, id string) {
			w.done("EnableKeyRotation", in{"KeyId": id, "RotationPeriodInDays": 100})
		}, false},
		"deletion": {func(w *world, id string) { do[wire.Output](w, "ScheduleKeyDeletion", in{"KeyId": id}) }, false},
	} {
		w := newWorld(t, "")
		id, _ := w.newKey()
		w.done("EnableKeyRotation", in{"KeyId": id, "RotationPeriodInDays": 90})
		w.making.meanwhile(func() { c.meanwhile(w, id) })
		w.pass(90 * day)
		if k := w.stored(id); (len(k.Material) == 2) != c.rotates {
			t.Errorf("%s: %d generations", what, len(k.Material))
		}
		rotations := 0
		for _, text := range w.audit.Records() {
			if bytes.Contains(text, []byte(`"eventName":"RotateKey"`)) {
				rotations++
			}
		}
		if (rotations == 1) != c.rotates {
			t.Errorf("%s: %d records of rotations", what, rotations)
		}
	}
}
