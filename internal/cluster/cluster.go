// Package cluster has a server be one of several on a database: it says again and again that this server lives, knows how many do,
// asks for the lease of the work that one server does for all, and watches how far this machine's clock is from the database's.
//
// It trusts the database's clock to go on, and nobody else's. It must never say that this server has the lease for longer than the
// database keeps it for it, and never forget other servers because the database does not answer.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/store"
)

// The times of a cluster. A server whose process was killed is not counted any more after store.LiveFor, and its work is taken over after
// leaseFor and leaseEvery at most.
const (
	beatEvery  = time.Second
	leaseFor   = 15 * time.Second
	leaseEvery = 5 * time.Second
	// leaseMargin is how much earlier than the database a server thinks its lease over. What it began before is likely to have ended
	// by then.
	leaseMargin = 5 * time.Second
	// After the database was away every row is old, and each server that is back first would find itself alone. So there are fewer servers
	// only for one whose beats were no further apart than steadyGap for steadyFor: longer than others can take to find the database again.
	steadyGap = store.LiveFor / 2
	steadyFor = 2 * store.LiveFor
)

// A server that lives has said so within nameWithin. For twice as long Join waits for the name of one that was killed.
const (
	nameWithin = 3 * time.Second
	nameEvery  = 250 * time.Millisecond
)

// ErrNameTaken says that a server that lives has the name already.
var ErrNameTaken = errors.New("another server that shares the database has this name")

// MaxOffset is how far the clocks of servers may be from the database's, and so twice that from each other, without a warning.
const MaxOffset = 2 * time.Second

// schedule is the name of the lease of the work that one server does for all.
const schedule = "schedule"

// Config is what a Member needs.
type Config struct {
	Store         *store.Store // required
	Name, Version string       // of this server
	// Counted is told how many servers live, this one included, whenever there are more, or fewer of which the database is sure. Nil for
	// nobody.
	Counted func(n int)
	// Now is the machine's clock, with its monotonic reading. Nil means time.Now.
	Now func() time.Time
}

// Member is this server among the others. It is safe for concurrent use.
type Member struct {
	c      Config
	live   atomic.Pointer[[]store.Node]
	offset atomic.Int64              // nanoseconds that this machine's clock is ahead, as far as is known
	asked  atomic.Pointer[time.Time] // when the lease was asked for that this server has; nil if it has none
	taken  chan struct{}             // it leads since then

	mu      sync.Mutex // held while the database is asked
	next    time.Time  // when the lease is asked for again
	failing bool       // the last beat
	apart   bool       // the clocks are
	twins   bool       // another server has this one's name
	counted int        // what Counted was told last
	steady  time.Time  // since when every beat was in time
	beaten  time.Time  // when the last one began that ended well
	gone    bool       // it has left
}

// Join has this server be one of those that live, and returns when all that live are known. The error is ErrNameTaken if one of them has
// its name: each writes down in the store, under its name, how far its audit log is.
func Join(ctx context.Context, c Config) (*Member, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Counted == nil {
		c.Counted = func(int) {}
	}
	m := &Member{c: c, taken: make(chan struct{}, 1)}
	m.live.Store(new([]store.Node))
	if err := m.claim(ctx); err != nil {
		return nil, err
	}
	return m, m.beat(ctx)
}

// claim waits until nobody else has the name.
func (m *Member) claim(ctx context.Context) error {
	for end := time.Now().Add(2 * nameWithin); ; {
		live, _, err := m.c.Store.Beat(ctx, m.node(), nameWithin)
		if err != nil || !m.twin(live) {
			return err
		}
		if time.Now().After(end) {
			return errors.Join(fmt.Errorf("%w: %s", ErrNameTaken, m.c.Name), m.c.Store.Leave(ctx))
		}
		select {
		case <-time.After(nameEvery):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (m *Member) node() store.Node { return store.Node{Name: m.c.Name, Version: m.c.Version} }

// twin reports whether another server has this one's name.
func (m *Member) twin(live []store.Node) bool {
	return slices.ContainsFunc(live, func(n store.Node) bool { return n.Name == m.c.Name && !n.Self })
}

// Run says that this server lives, and renews what it has, until ctx ends. Then it gives back the lease and leaves.
func (m *Member) Run(ctx context.Context) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		m.Once(ctx)
		select {
		case <-ctx.Done():
			m.Leave(context.WithoutCancel(ctx))
			return
		case <-tick.C:
		}
	}
}

// Once does what Run does every second.
func (m *Member) Once(ctx context.Context) {
	err := errors.Join(m.beat(ctx), m.ask(ctx))
	m.mu.Lock()
	defer m.mu.Unlock()
	if was := m.failing; was != (err != nil) && ctx.Err() == nil {
		m.failing = err != nil
		if err != nil {
			slog.Warn("the database does not hear that this server lives", "err", err)
		} else {
			slog.Info("the database hears again that this server lives")
		}
	}
}

// beat says that this server lives.
func (m *Member) beat(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	began := m.c.Now()
	live, look, err := m.c.Store.Beat(ctx, m.node(), store.LiveFor)
	if err != nil {
		return err
	}
	m.measure(look)
	m.live.Store(&live)
	if was := m.twins; was != m.twin(live) {
		if m.twins = !was; m.twins {
			slog.Error("another server that shares the database has this one's name: each needs a name of its own", "node", m.c.Name)
		}
	}
	if store.Passed(m.beaten, began) > steadyGap {
		m.steady = began
	}
	m.beaten = began
	if n := max(len(live), 1); n > m.counted || n < m.counted && store.Passed(m.steady, began) >= steadyFor {
		m.counted = n
		m.c.Counted(n)
	}
	return nil
}

// measure compares the clocks. What a look may have taken is not held against them.
func (m *Member) measure(look store.Look) {
	if look.Clock.IsZero() {
		return
	}
	offset := look.Ahead()
	m.offset.Store(int64(offset))
	if apart := offset.Abs() > MaxOffset; apart != m.apart {
		m.apart = apart
		if apart {
			slog.Warn("the clock of this machine is not that of the database", "ahead", offset.Round(time.Millisecond))
		} else {
			slog.Info("the clock of this machine is that of the database again")
		}
	}
}

// ask asks for the lease if it is time.
func (m *Member) ask(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	began := m.c.Now()
	if began.Before(m.next) {
		return nil
	}
	held, err := m.c.Store.Lease(ctx, schedule, leaseFor)
	if err != nil {
		return err // the one that this server has is still its own for its time
	}
	m.next = began.Add(leaseEvery)
	if had := m.asked.Load() != nil; held != had {
		slog.Info("the scheduled work of all servers", "here", held)
	}
	led := m.Leads()
	m.asked.Store(nil)
	if held {
		m.asked.Store(&began)
	}
	if held && !led {
		select {
		case m.taken <- struct{}{}:
		default: // nobody has looked at the last time yet
		}
	}
	return nil
}

// Leave gives back what this server has, and says that it lives no more. Run does it at its end; it is for those that never ran.
func (m *Member) Leave(ctx context.Context) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked.Store(nil)
	if m.gone {
		return
	}
	m.gone = true
	if err := errors.Join(m.c.Store.EndLease(ctx, schedule), m.c.Store.Leave(ctx)); err != nil {
		slog.Warn("the database was not told that this server ends: others wait a little", "err", err)
	}
}

// Leads reports whether this server does the work that one does for all.
func (m *Member) Leads() bool {
	asked := m.asked.Load()
	if asked == nil {
		return false
	}
	return store.Passed(*asked, m.c.Now()) < leaseFor-leaseMargin
}

// Taken tells whoever does the work, once each time, that this server has begun to do it for all: what has come due while nobody did
// is not to wait for the next look.
func (m *Member) Taken() <-chan struct{} { return m.taken }

// Live returns the servers that live, as far as this one knows.
func (m *Member) Live() []store.Node { return *m.live.Load() }

// ClockOffset returns how far this machine's clock is ahead of the database's, at least; negative if it is behind.
func (m *Member) ClockOffset() time.Duration { return time.Duration(m.offset.Load()) }
