// Package dev is what keywright dev has and no other server: a clock that can be moved, keys with known material, faults, and
// the way back to an empty server between two tests. A Control stands between requests and operations (pipeline.Meddler) and is
// steered over plain HTTP on a loopback address of its own (door.go).
//
// It trusts everybody who can send it a request that no web page can send and that has its token, and the server that it was given
// to. It must never be reachable from a configuration file: whoever steers it can make a key with material of their own choice
// and a clock of their own. It must never have a call done that the server would refuse, and never hide one from its record.
package dev

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/iam"
	"github.com/keywright/keywright/internal/kms"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
)

// Rooms are what a Control steers. All fields are required but Forget.
type Rooms struct {
	Store     *store.Store
	KMS       *kms.Service
	Directory *iam.Directory
	// Accounts makes the accounts that the server begins with.
	Accounts func(context.Context) error
	// Home is where seeded keys are that name no account or Region.
	Home Home
	// Forget are called with every reset, for rooms that remember something besides.
	Forget []func(context.Context) error
}

// Control is safe for concurrent use. Until Attach it does nothing to any request.
type Control struct {
	clock  Clock
	faults faults
	gate   sync.RWMutex  // held for reading by every request, for writing while time passes and state goes away
	gone   chan struct{} // closed with the next Reset; changed with the gate held for writing
	rooms  Rooms         // set once, before the first request
	acting sync.Mutex    // held while the server is changed
	ended  bool          // and is not any more
	seed   []kms.Seed
}

// New returns a Control whose clock shows the time.
func New() *Control { return &Control{gone: make(chan struct{})} }

// Clock returns the clock that the server is to use.
func (c *Control) Clock() *Clock { return &c.clock }

// Attach gives the Control the server that it steers, before that answers requests, and seeds it. Every Reset seeds it again.
func (c *Control) Attach(ctx context.Context, r Rooms, seed []byte) (err error) {
	c.rooms = r
	if c.seed, err = ParseSeed(seed, r.Home); err != nil {
		return err
	}
	return c.plant(ctx, c.seed)
}

// Begin implements pipeline.Meddler.
func (c *Control) Begin() (end func()) {
	c.gate.RLock()
	return c.gate.RUnlock
}

// Do implements pipeline.Meddler: it has the faults that hit a call happen, in the order in which they were made.
func (c *Control) Do(ctx context.Context, call *guard.Call, again func() error, do func() (wire.Output, error)) (out wire.Output, cut bool, err error) {
	hit := c.faults.hits(call, time.Now(), func(f *Fault) bool { return f.concerns(ctx, c.rooms.KMS, call) })
	lose := false
	for _, f := range hit {
		if f.Latency > 0 {
			if !c.wait(ctx, time.Duration(f.Latency)) {
				return nil, true, wire.Bare(internalCode(call)) // the state that the call was authenticated in is gone
			}
			if err := again(); err != nil {
				return nil, lose, err
			}
		}
		switch {
		case f.Connection == Reset:
			return nil, true, wire.Bare(internalCode(call))
		case f.Connection == Lose:
			lose = true
		case f.Error != "":
			return nil, lose, f.failure(call)
		}
	}
	out, err = do()
	return out, lose, err
}

// wait lets time pass for one request, which holds up neither a reset nor the moving of the clock. It reports false if there was
// a reset meanwhile, or the server ends.
func (c *Control) wait(ctx context.Context, d time.Duration) bool {
	gone := c.gone
	c.gate.RUnlock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-gone:
	case <-ctx.Done():
	}
	c.gate.RLock()
	select { // now that there is no reset before the call ends
	case <-gone:
		return false
	default:
		return ctx.Err() == nil
	}
}

// alone has do work while no request is under way, and to its end: who asked may go away meanwhile, which must not leave a half of it.
// It does nothing if they have gone before.
func (c *Control) alone(ctx context.Context, do func(context.Context) error) error {
	c.acting.Lock()
	defer c.acting.Unlock()
	if c.ended {
		return errors.New("the server ends")
	}
	c.gate.Lock()
	defer c.gate.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	return do(context.WithoutCancel(ctx))
}

// End waits for what changes the server, and has nothing more do it: from then on the server may close what it writes to.
func (c *Control) End() {
	c.acting.Lock()
	defer c.acting.Unlock()
	c.ended = true
}

// Reset takes everything away: keys, aliases, grants, identities, faults, and what the clock was moved by. The accounts that
// the server began with are there again, and so are the keys of its seed. Audit records stay. Requests that are under way end first; those that wait for
// a latency to pass are cut off.
func (c *Control) Reset(ctx context.Context) error {
	err := c.alone(ctx, func(ctx context.Context) error {
		h := c.rooms.Home
		return c.rooms.KMS.Rehearse(guard.ResetServer, h.Account, h.Region, nil, func() error { return c.reset(ctx) })
	})
	if err != nil {
		return fmt.Errorf("resetting the server: %w", err)
	}
	return nil
}

func (c *Control) reset(ctx context.Context) error {
	r := &c.rooms
	err := r.Directory.Forget(func() error {
		return r.KMS.Forget(func() error { return r.Store.Wipe(ctx) })
	})
	if err != nil {
		return err
	}
	c.faults.clear()
	close(c.gone)
	c.gone = make(chan struct{})
	c.clock.reset()
	for _, forget := range r.Forget {
		err = errors.Join(err, forget(ctx))
	}
	return errors.Join(err, r.Accounts(ctx), c.plant(ctx, c.seed))
}

// Seed makes the keys that a YAML file describes, or gives those that are there what it says. It returns how many there are. The
// next Reset takes them away.
func (c *Control) Seed(ctx context.Context, text []byte) (int, error) {
	seeds, err := ParseSeed(text, c.rooms.Home)
	if err != nil {
		return 0, err
	}
	return len(seeds), c.alone(ctx, func(ctx context.Context) error { return c.plant(ctx, seeds) })
}

// plant makes keys. The first that cannot be ends it; those before it are there then.
func (c *Control) plant(ctx context.Context, seeds []kms.Seed) error {
	for i := range seeds {
		s := &seeds[i]
		err := c.rooms.Directory.NoAccount(ctx, s.Account)
		switch {
		case err == nil:
			err = fmt.Errorf("there is no account %s", s.Account)
		case errors.Is(err, iam.ErrAccountExists):
			err = c.rooms.KMS.Seed(ctx, s)
		}
		if err != nil {
			return fmt.Errorf("seed: %s: %w", entryName(i, string(s.ID)), err)
		}
	}
	return nil
}

// mostStops bounds how often something may happen while the clock is moved once.
const mostStops = 10_000

// errTooMuch says that the clock was not moved as far as it should have been.
var errTooMuch = errors.New("too much falls due until then: move the clock in smaller steps")

// Move changes the clock and does everything that is due by it before it returns. Time that goes forward passes: what falls due
// on the way happens at its own time, in order, so that a key that rotates every year has rotated three times after three years.
func (c *Control) Move(ctx context.Context, m Movement) (r Reading, err error) {
	err = c.alone(ctx, func(ctx context.Context) (err error) {
		r, err = c.move(ctx, m)
		return err
	})
	return r, err
}

func (c *Control) move(ctx context.Context, m Movement) (r Reading, err error) {
	target, err := c.clock.target(m)
	if err != nil {
		return Reading{}, err
	}
	to := new(audit.Fields)
	to.String("time", target.UTC().Format(time.RFC3339))
	err = c.rooms.KMS.Rehearse(guard.SetClock, c.rooms.Home.Account, c.rooms.Home.Region, to, func() error {
		r, err = c.pass(ctx, m, target)
		return err
	})
	return r, err
}

// pass lets time pass until a target.
func (c *Control) pass(ctx context.Context, m Movement, target time.Time) (Reading, error) {
	frozen := c.clock.hold()
	defer func() { c.clock.let(m.Freeze || frozen && !m.Run) }()
	for range mostStops {
		next, err := c.rooms.Store.NextDue(ctx, c.clock.Now())
		if err != nil {
			return c.clock.Read(), err
		}
		if next.IsZero() || next.After(target) {
			c.clock.set(target)
			return c.read(m, frozen), c.rooms.KMS.RunDue(ctx)
		}
		c.clock.set(next)
		if err := c.rooms.KMS.RunDue(ctx); err != nil {
			return c.clock.Read(), err
		}
	}
	return c.clock.Read(), errTooMuch
}

// read says what the clock will show when Move has ended.
func (c *Control) read(m Movement, frozen bool) Reading {
	r := c.clock.Read()
	r.Frozen = m.Freeze || frozen && !m.Run
	return r
}

// internalCode is the code of an internal failure of the service that was called.
func internalCode(call *guard.Call) wire.Code {
	if op := call.Operation; op != nil && op.Internal != "" {
		return op.Internal
	}
	return wire.CodeInternalFailure
}
