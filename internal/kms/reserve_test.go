package kms_test

import (
	"testing"

	"github.com/keywright/keywright/internal/quota"
)

// Room for the record of a change is kept once it is clear that there will be one: who is denied or throttled takes none from others.
func TestRoomIsKeptForChangesOnly(t *testing.T) {
	w := newWorld(t, "")
	id, _ := w.newKey()
	arn := "arn:aws:kms:us-east-1:111122223333:key/" + id
	for _, c := range []struct {
		what   string
		caller *world
		name   string
		in     in
		fails  bool
		want   int64
	}{
		{"a change", w, "DisableKey", in{"KeyId": id}, false, 1},
		{"a call that changes nothing", w, "DescribeKey", in{"KeyId": id}, false, 0},
		{"a denied change", w.as(bob, region), "EnableKey", in{"KeyId": arn}, true, 0},
		{"a change of what is not there", w, "EnableKey", in{"KeyId": "00000000-0000-0000-0000-000000000000"}, true, 0},
		{"a change that the key's state forbids", w, "EnableKeyRotation", in{"KeyId": id}, true, 0},
		{"a new key", w, "CreateKey", in{}, false, 1},
	} {
		before := w.audit.reserved.Load()
		if _, err := c.caller.try(c.name, c.in); (err != nil) != c.fails {
			t.Errorf("%s: %v", c.what, err)
		}
		if n := w.audit.reserved.Load() - before; n != c.want {
			t.Errorf("%s keeps room %d times, want %d", c.what, n, c.want)
		}
	}
	w = newWorld(t, "")
	w.quotas = quotas(map[quota.ID]float64{quota.Own("kms", "CreateKey"): 1})
	w.restart()
	for range 5 {
		_, _ = w.try("CreateKey", in{}) // one of them is in time
	}
	if n := w.audit.reserved.Load(); n != 1 {
		t.Errorf("five calls of which one is allowed keep room %d times", n)
	}
}
