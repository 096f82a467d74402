package server

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/store"
)

// How often the keys are counted: not before lookEvery has passed, and so that counting takes a hundredth of the time at most.
// If nothing has changed it is still done after recountAfter: what was changed outside Keywright is in no feed of changes.
const (
	lookEvery    = 15 * time.Second
	countingGap  = 100
	recountAfter = time.Hour
)

// quickCount is how long a count may take that somebody waits for.
const quickCount = time.Second

// noCensusEvery is how often a server that does not lead looks whether it does.
const noCensusEvery = time.Second

// counted is a census and when it was taken.
type counted struct {
	store.Census
	At time.Time
}

// census counts keys now and then. Of several servers on a store the one that leads does, because counting reads every key. It is safe
// for concurrent use.
type census struct {
	store *store.Store
	now   func() time.Time
	leads func() bool // whether this server is the one that counts

	mu        sync.Mutex // held while keys are counted
	positions []store.Position
	took      time.Duration
	counted   time.Time // when, by the clock of the machine

	shown sync.Mutex // held for a moment
	last  *counted
}

// latest returns the last census, or nil if none was taken yet.
func (c *census) latest() *counted {
	c.shown.Lock()
	defer c.shown.Unlock()
	return c.last
}

// run counts until ctx ends.
func (c *census) run(ctx context.Context) {
	for {
		wait, err := noCensusEvery, error(nil)
		c.mu.Lock()
		if c.leads() {
			err = c.count(ctx)
			wait = max(lookEvery, countingGap*c.took)
		}
		c.mu.Unlock()
		if err != nil && ctx.Err() == nil {
			slog.Warn("the keys could not be counted", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// fresh returns a census that is up to date, or the last one if it would take long to take another; nil if that is another server's.
func (c *census) fresh(ctx context.Context) (*counted, error) {
	if !c.leads() {
		return c.once(ctx)
	}
	if last := c.latest(); last != nil && !c.mu.TryLock() {
		return last, nil // somebody counts
	} else if last == nil {
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	if c.took < quickCount {
		if err := c.count(ctx); err != nil {
			return nil, err
		}
	}
	return c.latest(), nil
}

// once takes a census for somebody who asks a server that does not count, if it does not take long.
func (c *census) once(ctx context.Context) (*counted, error) {
	quick, cancel := context.WithTimeout(ctx, quickCount)
	defer cancel()
	at := c.now()
	taken, err := c.store.TakeCensus(quick)
	if err != nil {
		if quick.Err() != nil && ctx.Err() == nil {
			err = nil
		}
		return nil, err
	}
	return &counted{taken, at}, nil
}

// count counts if something has changed since the last time. The caller holds mu.
func (c *census) count(ctx context.Context) error {
	positions, err := c.store.Positions(ctx)
	if err != nil {
		return err
	}
	at, began := c.now(), time.Now()
	if c.latest() != nil && slices.Equal(positions, c.positions) && began.Sub(c.counted) < recountAfter {
		return nil
	}
	taken, err := c.store.TakeCensus(ctx)
	if err != nil {
		return err
	}
	c.positions, c.took, c.counted = positions, time.Since(began), began
	c.shown.Lock()
	defer c.shown.Unlock()
	c.last = &counted{taken, at}
	return nil
}
