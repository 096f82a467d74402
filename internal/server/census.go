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

// counted is a census and when it was taken.
type counted struct {
	store.Census
	At time.Time
}

// census counts keys now and then. It is safe for concurrent use.
type census struct {
	store *store.Store
	now   func() time.Time

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
		c.mu.Lock()
		err := c.count(ctx)
		wait := max(lookEvery, countingGap*c.took)
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

// fresh returns a census that is up to date, or the last one if it would take long to take another.
func (c *census) fresh(ctx context.Context) (*counted, error) {
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
