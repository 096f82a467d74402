package fresh_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/fresh"
	"github.com/keywright/keywright/internal/store"
)

// database is a store as a Keeper sees it.
type database struct {
	away  atomic.Bool // it refuses at once
	hangs atomic.Bool // it does not answer
	looks atomic.Int64
	news  chan store.News
	heard atomic.Int64
	lost  atomic.Bool
}

var errAway = errors.New("the database is away")

func (d *database) next(ctx context.Context) (news []store.News, lost bool, err error) {
	d.looks.Add(1)
	if d.hangs.Load() {
		<-ctx.Done()
		return nil, false, ctx.Err()
	}
	if d.away.Load() {
		return nil, false, errAway
	}
	for {
		select {
		case n := <-d.news:
			news = append(news, n)
		default:
			return news, d.lost.Swap(false), nil
		}
	}
}

func (d *database) apply(news []store.News, lost bool) {
	d.heard.Add(int64(len(news)))
	if lost {
		d.heard.Store(-1)
	}
}

func keep(t *testing.T, bound, stale time.Duration) (*fresh.Keeper, *database) {
	t.Helper()
	d := &database{news: make(chan store.News, 10)}
	k := fresh.New(fresh.Config{Next: d.next, Apply: d.apply, MaxStaleness: bound, ServeStaleFor: stale})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); k.Run(ctx) }()
	t.Cleanup(func() { stop(); <-ended })
	return k, d
}

func check(t *testing.T, k *fresh.Keeper) error {
	t.Helper()
	_, err := k.Check(t.Context())
	return err
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came to this: %s", what)
		}
	}
}

func TestHears(t *testing.T) {
	k, d := keep(t, time.Second, 0)
	d.news <- store.News{}
	d.news <- store.News{}
	eventually(t, "both are heard", func() bool { return d.heard.Load() == 2 })
	d.lost.Store(true)
	eventually(t, "all is forgotten", func() bool { return d.heard.Load() == -1 })
	if _, err := k.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// A store that is away, or silent, makes everything stale after the bound, and fresh again when it is back.
func TestRefuses(t *testing.T) {
	for name, fault := range map[string]func(*database) *atomic.Bool{
		"away":   func(d *database) *atomic.Bool { return &d.away },
		"silent": func(d *database) *atomic.Bool { return &d.hangs },
	} {
		t.Run(name, func(t *testing.T) {
			k, d := keep(t, 50*time.Millisecond, 0)
			eventually(t, "it looks", func() bool { return d.looks.Load() > 1 })
			fault(d).Store(true)
			eventually(t, "it is stale", func() bool { return errors.Is(check(t, k), fresh.ErrStale) })
			if k.Age() <= 50*time.Millisecond {
				t.Errorf("stale after %s", k.Age())
			}
			d.news <- store.News{}
			fault(d).Store(false)
			eventually(t, "it is fresh", func() bool { return check(t, k) == nil })
			if d.heard.Load() != 1 {
				t.Error("it calls fresh what has changed meanwhile")
			}
		})
	}
}

// While the store is away what is remembered serves for as long as was said, without waiting.
func TestServesStale(t *testing.T) {
	k, d := keep(t, 20*time.Millisecond, time.Hour)
	d.hangs.Store(true)
	eventually(t, "the look has failed", k.Failing)
	eventually(t, "it is older than the bound", func() bool { return k.Age() > 20*time.Millisecond })
	if _, err := k.Check(t.Context()); err != nil {
		t.Error(err)
	}
	short, d := keep(t, 20*time.Millisecond, 100*time.Millisecond)
	d.away.Store(true)
	eventually(t, "it is stale", func() bool { return errors.Is(check(t, short), fresh.ErrStale) })
	if age := short.Age(); age <= 100*time.Millisecond {
		t.Errorf("stale after %s", age)
	}
}

// Nobody looks in time: who asks has it looked, and waits for that.
func TestLooksForWhoAsks(t *testing.T) {
	d := &database{news: make(chan store.News, 10)}
	k := fresh.New(fresh.Config{Next: d.next, Apply: d.apply, MaxStaleness: 10 * time.Millisecond})
	eventually(t, "it is old", func() bool { return k.Age() > 10*time.Millisecond })
	if _, err := k.Check(t.Context()); !errors.Is(err, fresh.ErrStale) {
		t.Errorf("nobody looks: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errAway)
	if _, err := k.Check(ctx); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("who asks has gone: %v", err)
	}
}

// What was known when somebody relied on it is too old after the bound, although more has been heard since; while the store is away,
// after what was said.
func TestLate(t *testing.T) {
	const bound = 50 * time.Millisecond
	k, d := keep(t, bound, 0)
	since, err := k.Check(t.Context())
	if err != nil || time.Since(since) < bound && k.Late(since) {
		t.Errorf("late at once: %v", err)
	}
	looks := d.looks.Load()
	eventually(t, "it is late", func() bool { return k.Late(since) })
	if time.Since(since) <= bound {
		t.Errorf("late after %s", time.Since(since))
	}
	eventually(t, "more is heard", func() bool { return d.looks.Load() > looks+2 })
	if !k.Late(since) {
		t.Error("what was heard later makes it late no more")
	}
	if since, err = k.Check(t.Context()); err != nil || time.Since(since) < bound && k.Late(since) {
		t.Errorf("late after another check: %v", err)
	}

	k, d = keep(t, 20*time.Millisecond, time.Hour)
	d.away.Store(true)
	eventually(t, "the look has failed", k.Failing)
	if since, err = k.Check(t.Context()); err != nil {
		t.Error(err)
	}
	eventually(t, "the bound is over", func() bool { return time.Since(since) > 20*time.Millisecond })
	if k.Late(since) {
		t.Error("late, although older serves")
	}
}

func BenchmarkCheck(b *testing.B) {
	k := fresh.New(fresh.Config{MaxStaleness: time.Hour})
	for b.Loop() {
		if _, err := k.Check(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
