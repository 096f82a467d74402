package iam

import (
	"context"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/wire"
)

// Bounds of the work with passwords. A hash takes 64 MiB and a good part of a second, so that there is one at a time and few
// who wait for theirs. Some wrong passwords are mistakes; after those each one doubles the pause before the next.
const (
	mostWaiting  = 8
	mistakes     = 5
	firstPause   = time.Second
	longestPause = 15 * time.Minute
	mostCounted  = 10_000
)

// passwords bounds what passwords cost, and how often one can be guessed. It is safe for concurrent use.
type passwords struct {
	queue chan struct{} // one element for everybody who hashes or waits
	turn  chan struct{} // one for who hashes

	mu     sync.Mutex
	counts map[string]attempts // by the user's unique id
}

// attempts counts a user's wrong passwords since the last right one.
type attempts struct {
	wrong int
	until time.Time // when the next may be tried
}

func newPasswords() *passwords {
	return &passwords{queue: make(chan struct{}, 1+mostWaiting), turn: make(chan struct{}, 1), counts: map[string]attempts{}}
}

var errThrottled = wire.Errorf(wire.CodeThrottling, "Rate exceeded")

// work runs f once it is its turn. It refuses when too many wait already, and gives up when ctx ends.
func (p *passwords) work(ctx context.Context, f func() error) error {
	select {
	case p.queue <- struct{}{}:
		defer func() { <-p.queue }()
	default:
		return errThrottled
	}
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return f()
}

// try has a password of a user compared. It counts as wrong until it turns out to be right, so that many at once get no more
// chances than one after the other.
func (p *passwords) try(user string, now time.Time, compare func() (same bool, err error)) (bool, error) {
	if !p.begin(user, now) {
		return false, errThrottled
	}
	same, err := compare()
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.counts[user]
	switch {
	case same:
		delete(p.counts, user)
	case err != nil && a.wrong > 0: // it was not compared
		p.counts[user] = attempts{a.wrong - 1, now}
	}
	return same, err
}

func (p *passwords) begin(user string, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	a, known := p.counts[user]
	if now.Before(a.until) {
		return false
	}
	if !known {
		p.makeRoom(now)
	}
	if a.wrong++; a.wrong >= mistakes {
		a.until = now.Add(min(firstPause<<min(a.wrong-mistakes, 20), longestPause))
	}
	p.counts[user] = a
	return true
}

// forget starts a user's count anew: somebody else has set another password.
func (p *passwords) forget(user string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.counts, user)
}

// clear forgets all counts.
func (p *passwords) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.counts)
}

// makeRoom forgets a count if there are too many: one whose pause is over, if there is one.
func (p *passwords) makeRoom(now time.Time) {
	if len(p.counts) < mostCounted {
		return
	}
	victim := ""
	for user, a := range p.counts {
		victim = user
		if !now.Before(a.until) {
			break
		}
	}
	delete(p.counts, victim)
}
