// Package fresh bounds how old what a server remembers of a shared store can be. It looks again and again what other servers
// changed, has it forgotten here, and knows since when that holds: whoever is about to rely on what is remembered asks for it.
//
// It trusts the store to tell of every change that was committed before a look began, and whoever drops what has changed to do so
// before Apply returns. It must never call something fresh because nothing was heard: only a look that ended well says so.
package fresh

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/store"
)

// DefaultMaxStaleness is the bound of a Config that names none.
const DefaultMaxStaleness = time.Second

// ErrStale says that nobody knows whether what is remembered still holds: the store did not answer in time. It is a
// store.ErrUnavailable.
var ErrStale = fmt.Errorf("%w: it did not say in time whether anything has changed", store.ErrUnavailable)

// Config is what a Keeper needs.
type Config struct {
	// Next is that of a store.Follower. A Keeper calls it from one goroutine.
	Next func(context.Context) (news []store.News, lost bool, err error)
	// Apply has everything forgotten that the news are about; everything at all if some were lost.
	Apply func(news []store.News, lost bool)
	// MaxStaleness bounds for how long something that another server has changed is relied on here. Zero means a second.
	MaxStaleness time.Duration
	// ServeStaleFor is how old what is remembered may be while the store does not answer. Up to MaxStaleness it changes nothing.
	ServeStaleFor time.Duration
}

// Keeper keeps what a server remembers fresh. It is safe for concurrent use.
type Keeper struct {
	c Config
	// confirmed is up to when every change is known here: when the last look began that ended well.
	confirmed atomic.Pointer[time.Time]
	failing   atomic.Bool   // the last look did not
	kick      chan struct{} // somebody waits for a look

	mu    sync.Mutex
	ended chan struct{} // closed at the end of the next look
}

// New returns a Keeper for what is remembered from now on. It looks once Run is called.
func New(c Config) *Keeper {
	if c.MaxStaleness <= 0 {
		c.MaxStaleness = DefaultMaxStaleness
	}
	k := &Keeper{c: c, kick: make(chan struct{}, 1), ended: make(chan struct{})}
	now := time.Now()
	k.confirmed.Store(&now)
	return k
}

// looksPerBound is how many looks fit into MaxStaleness, so that one may be late without anybody waiting for it.
const looksPerBound = 4

// shortestPause is between two looks even if somebody waits, for a store that refuses at once.
const shortestPause = 5 * time.Millisecond

// Run looks until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.kick:
			if d := time.Until(last.Add(shortestPause)); d > 0 {
				time.Sleep(d)
			}
		case <-pause.C:
		}
		k.look(ctx)
		last = time.Now()
		pause.Reset(k.c.MaxStaleness / looksPerBound)
	}
}

// look asks once what has changed, and tells those who wait for it. An answer that takes longer than the bound is of no use; who waits for it
// as long as that hears before that there is none.
func (k *Keeper) look(ctx context.Context) {
	began := time.Now()
	asking, cancel := context.WithTimeout(ctx, k.c.MaxStaleness*9/10)
	defer cancel()
	news, lost, err := k.c.Next(asking)
	if err == nil {
		if lost {
			slog.Warn("changes by other servers were missed: everything that was remembered is forgotten")
		}
		if lost || len(news) > 0 {
			k.c.Apply(news, lost)
		}
		k.confirmed.Store(&began)
	}
	if was := k.failing.Swap(err != nil); was != (err != nil) && ctx.Err() == nil {
		if err != nil {
			slog.Warn("the store does not say what has changed", "err", err)
		} else {
			slog.Info("the store says again what has changed")
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	close(k.ended)
	k.ended = make(chan struct{})
}

// Age returns how old what is remembered can be: all that others had changed before is known.
func (k *Keeper) Age() time.Duration { return store.Passed(*k.confirmed.Load(), time.Now()) }

// Failing reports whether the last look failed.
func (k *Keeper) Failing() bool { return k.failing.Load() }

// Check returns up to when every change is known here, if what is remembered may be relied on. Where it is too old it has the store
// asked, and waits for the answer for MaxStaleness at most; without one, ErrStale.
func (k *Keeper) Check(ctx context.Context) (since time.Time, err error) {
	if since = *k.confirmed.Load(); store.Passed(since, time.Now()) <= k.c.MaxStaleness {
		return since, nil
	}
	if err := k.wait(ctx); err != nil {
		return time.Time{}, err
	}
	return *k.confirmed.Load(), nil
}

// Late reports whether what was relied on with an answer of Check has become too old since, whatever has been heard meanwhile.
func (k *Keeper) Late(since time.Time) bool {
	return k.tooOld(store.Passed(since, time.Now()))
}

// tooOld reports whether what is of an age may not be relied on. It may be older while the store does not answer.
func (k *Keeper) tooOld(age time.Duration) bool {
	return age > k.c.MaxStaleness && !(k.failing.Load() && age <= k.c.ServeStaleFor)
}

func (k *Keeper) wait(ctx context.Context) error {
	patience := time.NewTimer(k.c.MaxStaleness)
	defer patience.Stop()
	for {
		k.mu.Lock()
		ended := k.ended
		k.mu.Unlock()
		if !k.tooOld(k.Age()) {
			return nil
		}
		select {
		case k.kick <- struct{}{}:
		default: // somebody else has asked
		}
		select {
		case <-ended:
			if !k.failing.Load() {
				continue
			}
		case <-patience.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrStale, context.Cause(ctx))
		}
		if age := k.Age(); k.tooOld(age) {
			return fmt.Errorf("%w: nothing heard for %s", ErrStale, age.Round(time.Millisecond))
		}
		return nil
	}
}
