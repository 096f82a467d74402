package kms_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/store/storetest"
	"github.com/keywright/keywright/internal/wire"
)

// twoServers returns two services that share what is stored and their audit log: on one store, and on two of one database.
var twoServers = map[string]func(*testing.T) (one, two *world){
	"one store": func(t *testing.T) (one, two *world) {
		one = newWorld(t, "")
		two = one.beside()
		return one, two
	},
	"PostgreSQL": func(t *testing.T) (one, two *world) {
		one = newWorldAt(t, storetest.Postgres(t))
		c := *one
		two = &c
		two.making = new(making)
		two.open()
		return one, two
	},
}

// newWorldAt makes a service on a store in a database.
func newWorldAt(t testing.TB, dsn string) *world {
	t.Helper()
	w := blankWorld(t)
	w.dsn, w.audit = dsn, &recorder{Memory: audit.NewMemory(10_000)}
	w.open()
	return w
}

// ahead gives a world a clock of its own, which is ahead of the other.
func (w *world) ahead(d time.Duration) {
	now := w.clock.Load()
	w.clock, w.step = new(atomic.Int64), new(atomic.Int64)
	w.clock.Store(now + d.Milliseconds())
}

// deed is what the service did on its own to a key, as the audit log has it.
type deed struct{ name, key, failure string }

// deeds counts what is in the audit log.
func (w *world) deeds() map[deed]int {
	w.t.Helper()
	all := map[deed]int{}
	for _, text := range w.audit.Records() {
		var r struct {
			EventType, EventName, ErrorCode string
			Resources                       []struct{ ARN string }
		}
		w.must(json.Unmarshal(text, &r))
		if r.EventType == "AwsServiceEvent" {
			all[deed{r.EventName, r.Resources[0].ARN[strings.LastIndex(r.Resources[0].ARN, "/")+1:], r.ErrorCode}]++
		}
	}
	return all
}

// Two servers whose clocks differ by minutes both do what is due, at the same moment, as when one of them does not know yet that the
// other has the lease: each rotation, deletion and expiry happens once and has one record.
func TestDueOnTwoServers(t *testing.T) {
	const each = 8
	for name, make := range twoServers {
		t.Run(name, func(t *testing.T) {
			one, two := make(t)
			want := map[deed]int{}
			var rotated, gone, emptied []string
			for range each {
				id, _ := one.newKey()
				one.done("EnableKeyRotation", in{"KeyId": id, "RotationPeriodInDays": 90})
				rotated, want[deed{"RotateKey", id, ""}] = append(rotated, id), 1
				id, _ = one.newKey()
				do[wire.Output](one, "ScheduleKeyDeletion", in{"KeyId": id, "PendingWindowInDays": 30})
				gone, want[deed{"DeleteKey", id, ""}] = append(gone, id), 1
				id, _ = one.external(in{})
				one.parameters(id, oaep256, "RSA_2048").imports(secretOf(1), until(one.now().Add(day)))
				emptied = append(emptied, id)
			}
			two.ahead(5 * time.Minute)
			one.clock.Add((90*day + time.Minute).Milliseconds())
			two.clock.Add((90*day + time.Minute).Milliseconds())
			var wg sync.WaitGroup
			for _, w := range []*world{one, two, one, two} {
				wg.Go(func() { w.must(w.service.RunDue(t.Context())) })
			}
			wg.Wait()
			for what, n := range one.deeds() {
				if what.name == "DeleteExpiredKeyMaterial" && n == 1 && what.failure == "" && slices.Contains(emptied, what.key) {
					emptied = slices.DeleteFunc(emptied, func(id string) bool { return id == what.key })
				} else if want[what] != n {
					t.Errorf("%+v is recorded %d times, want %d", what, n, want[what])
				}
				delete(want, what)
			}
			if len(want) > 0 || len(emptied) > 0 {
				t.Errorf("not recorded: %v, %v", want, emptied)
			}
			for _, id := range rotated {
				if k := two.stored(id); len(k.Material) != 2 {
					t.Errorf("%d generations", len(k.Material))
				}
			}
			for _, id := range gone {
				if _, err := two.try("DescribeKey", in{"KeyId": id}); err == nil || err.Code != "NotFoundException" {
					t.Errorf("a key is there still: %v", err)
				}
			}
		})
	}
}

// A server stands still while it rotates a key, long enough for another one to take its lease and do the work. When it goes on it does
// nothing more, and says nothing.
func TestPausedServer(t *testing.T) {
	for name, make := range twoServers {
		t.Run(name, func(t *testing.T) {
			one, two := make(t)
			var ids []string
			for range 3 {
				id, _ := one.newKey()
				one.done("EnableKeyRotation", in{"KeyId": id, "RotationPeriodInDays": 90})
				ids = append(ids, id)
			}
			two.making = new(making)
			two.ahead(0)
			one.clock.Add((90 * day).Milliseconds())
			two.clock.Add((90 * day).Milliseconds())
			var other atomic.Bool // the other one leads now
			one.making.meanwhile(func() {
				other.Store(true)
				two.must(two.service.RunDue(t.Context()))
			})
			one.must(one.service.RunDueWhile(t.Context(), func() bool { return !other.Load() }))
			got := one.deeds()
			for _, id := range ids {
				if k := two.stored(id); len(k.Material) != 2 || got[deed{"RotateKey", id, ""}] != 1 {
					t.Errorf("%d generations and %d records", len(k.Material), got[deed{"RotateKey", id, ""}])
				}
			}
			if len(got) != len(ids) {
				t.Errorf("records %v", got)
			}
		})
	}
}

// Who does not lead does nothing of what is due; who ceases to ends what it has begun.
func TestWhoLeadsWorks(t *testing.T) {
	w := newWorld(t, "")
	for range 3 {
		id, _ := w.newKey()
		do[wire.Output](w, "ScheduleKeyDeletion", in{"KeyId": id, "PendingWindowInDays": 7})
	}
	w.clock.Add((8 * day).Milliseconds())
	left := func() (n int) {
		names, err := w.store.DueKeys(t.Context(), w.now(), 10)
		w.must(err)
		return len(names)
	}
	w.must(w.service.RunDueWhile(t.Context(), func() bool { return false }))
	if n := left(); n != 3 {
		t.Errorf("%d keys left, want 3", n)
	}
	looks := 0
	w.must(w.service.RunDueWhile(t.Context(), func() bool { looks++; return looks <= 2 }))
	if n := left(); n != 2 {
		t.Errorf("%d keys left, want 2", n)
	}
}

// lease is one that a test gives and counts the questions for.
type lease struct {
	asked atomic.Int64
	held  bool
	taken chan struct{}
}

func (l *lease) Leads() bool            { l.asked.Add(1); return l.held }
func (l *lease) Taken() <-chan struct{} { return l.taken }

// The schedule looks for what is due when it begins, when it is time, and when the server takes the lease; not when it writes down when
// keys were used.
func TestWhenTheScheduleLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "")
		l := &lease{taken: make(chan struct{})}
		ctx, end := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { w.service.RunSchedule(ctx, time.Hour, l) })
		for _, c := range []struct {
			what string
			do   func()
			want int64
		}{
			{"at the start", func() {}, 1},
			{"before it is time", func() { time.Sleep(59 * time.Minute) }, 1},
			{"when it is time", func() { time.Sleep(time.Minute) }, 2},
			{"with the lease", func() { l.taken <- struct{}{} }, 3},
			{"later", func() { time.Sleep(time.Hour) }, 4},
		} {
			c.do()
			synctest.Wait()
			if n := l.asked.Load(); n != c.want {
				t.Errorf("%s: it has looked %d times, want %d", c.what, n, c.want)
			}
		}
		end()
		running.Wait()
	})
}

// An AWS managed key that two servers make at the same time has one record.
func TestManagedKeyOnTwoServers(t *testing.T) {
	for name, make := range twoServers {
		t.Run(name, func(t *testing.T) {
			one, two := make(t)
			var wg sync.WaitGroup
			for _, w := range []*world{one, two, one, two} {
				wg.Go(func() { _, _ = w.try("DescribeKey", in{"KeyId": "alias/aws/s3"}) })
			}
			wg.Wait()
			made := 0
			for what, n := range one.deeds() {
				if what.name == "CreateKey" {
					made += n
				}
			}
			if made != 1 {
				t.Errorf("%d records: %v", made, one.deeds())
			}
		})
	}
}
