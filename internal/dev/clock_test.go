package dev_test

import (
	"testing"
	"time"

	"github.com/keywright/keywright/internal/dev"
)

func TestRotationsComeOneByOne(t *testing.T) {
	w := newWorld(t, "")
	id := w.newKey()
	w.ok("EnableKeyRotation", map[string]any{"KeyId": id})
	begin := w.control.Clock().Now()
	w.advance("364d")
	rotations := func() []any { return w.ok("ListKeyRotations", map[string]any{"KeyId": id})["Rotations"].([]any) }
	if n := len(rotations()); n != 0 {
		t.Errorf("%d rotations before a year", n)
	}
	w.advance("732d")
	list := rotations()
	if len(list) != 3 {
		t.Fatalf("%d rotations in three years", len(list))
	}
	for i, r := range list {
		at := time.UnixMilli(int64(r.(map[string]any)["RotationDate"].(float64) * 1000))
		if want := begin.AddDate(0, 0, 365*(i+1)); at.Sub(want).Abs() > time.Minute {
			t.Errorf("rotation %d was at %s, not about %s", i+1, at, want)
		}
	}
}

func TestDeletionAtItsTime(t *testing.T) {
	w := newWorld(t, "")
	id := w.newKey()
	w.ok("ScheduleKeyDeletion", map[string]any{"KeyId": id, "PendingWindowInDays": 7})
	w.advance("6d23h")
	if s := w.state(id); s != "PendingDeletion" {
		t.Error(s)
	}
	w.advance("2h")
	if s := w.state(id); s != "NotFoundException" {
		t.Error(s)
	}
}

func TestFreezeSetAndRun(t *testing.T) {
	w := newWorld(t, "")
	at := time.Date(2031, 5, 1, 12, 0, 0, 0, time.UTC)
	var r dev.Reading
	w.ask("POST", "/v1/clock", dev.Movement{Set: &at, Freeze: true}, &r)
	if !r.Now.Equal(at) || !r.Frozen {
		t.Errorf("%+v", r)
	}
	key := w.ok("CreateKey", map[string]any{})["KeyMetadata"].(map[string]any)
	if created := key["CreationDate"].(float64); created != float64(at.Unix()) {
		t.Errorf("created at %v", created)
	}
	w.advance("1d") // a stopped clock is moved and stands again
	w.ask("GET", "/v1/clock", nil, &r)
	if !r.Now.Equal(at.AddDate(0, 0, 1)) || !r.Frozen {
		t.Errorf("%+v", r)
	}
	w.ask("POST", "/v1/clock", dev.Movement{Run: true}, &r)
	if r.Frozen || r.Now.Before(at) || r.Now.After(at.AddDate(0, 0, 2)) {
		t.Errorf("%+v", r)
	}
	back := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	w.ask("POST", "/v1/clock", dev.Movement{Set: &back}, &r)
	if r.Frozen || r.Now.Year() != 2020 {
		t.Errorf("%+v", r)
	}
	w.ask("POST", "/v1/reset", nil, nil)
	w.ask("GET", "/v1/clock", nil, &r)
	if r.Frozen || time.Until(r.Now).Abs() > time.Minute {
		t.Errorf("after a reset: %+v", r)
	}
}

func TestMovementsThatAreRefused(t *testing.T) {
	w := newWorld(t, "")
	far, now := time.Date(2400, 1, 1, 0, 0, 0, 0, time.UTC), time.Now()
	w.refused("POST", "/v1/clock", dev.Movement{Set: &far}, "too far away")
	w.refused("POST", "/v1/clock", dev.Movement{Set: &now, Advance: 1}, "exclude each other")
	w.refused("POST", "/v1/clock", dev.Movement{Freeze: true, Run: true}, "exclude each other")
	w.refused("POST", "/v1/clock", map[string]string{"advance": "-1h"}, "no duration")
	w.refused("POST", "/v1/clock", map[string]string{"advnace": "1h"}, "unknown field")
}

func TestLongWayForward(t *testing.T) {
	w := newWorld(t, "")
	id := w.newKey()
	w.ok("EnableKeyRotation", map[string]any{"KeyId": id, "RotationPeriodInDays": 90})
	w.advance("9000d")
	if n := len(w.ok("ListKeyRotations", map[string]any{"KeyId": id, "Limit": 1000})["Rotations"].([]any)); n != 100 {
		t.Errorf("a key that rotates for 24 years did so %d times", n)
	}
}

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0s": 0, "250ms": 250 * time.Millisecond, "1d": 24 * time.Hour, "365d": 8760 * time.Hour, "1d12h": 36 * time.Hour,
	} {
		if got, err := dev.ParseDuration(text); err != nil || time.Duration(got) != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "d", "1", "1w", "-1d", "1d-2h", "999999d", "1d1d", "1.5d"} {
		if got, err := dev.ParseDuration(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

func FuzzParseDuration(f *testing.F) {
	f.Add("365d")
	f.Add("1d12h")
	f.Add("99999d2540400h")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := dev.ParseDuration(text)
		if err == nil && d < 0 {
			t.Errorf("%q is %v", text, time.Duration(d))
		}
	})
}
