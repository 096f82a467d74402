// Package turns lets only so many callers at a time do what takes a processor for long, and accounts wait for it side by side:
// one that asks for much waits behind its own requests and holds up another by one turn at a time.
//
// It trusts its callers to end their turns, and to ask for no second one while they have one. It must never give more turns
// than it has.
package turns

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/keywright/keywright/internal/arn"
)

// Turns is a number of turns to be had at a time. It is safe for concurrent use.
type Turns struct {
	mu   sync.Mutex
	free int // none while anybody waits
	// next has the accounts of which somebody waits, in the order in which they get turns, and waiting who does.
	next    []arn.Account
	waiting map[arn.Account][]chan struct{}
}

// New returns n turns.
func New(n int) *Turns { return &Turns{free: n, waiting: map[arn.Account][]chan struct{}{}} }

// Take waits for a turn on behalf of an account, until ctx ends: that is the only error. End must follow.
func (t *Turns) Take(ctx context.Context, a arn.Account) error {
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return nil
	}
	mine := make(chan struct{})
	if len(t.waiting[a]) == 0 {
		t.next = append(t.next, a)
	}
	t.waiting[a] = append(t.waiting[a], mine)
	t.mu.Unlock()
	select {
	case <-mine:
		return nil
	case <-ctx.Done():
	}
	t.leave(a, mine)
	return fmt.Errorf("waiting for a turn: %w", ctx.Err())
}

// leave takes a place out of the queue, or hands on the turn that came while its owner was leaving.
func (t *Turns) leave(a arn.Account, mine chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(t.waiting[a], mine)
	if i < 0 {
		t.hand()
		return
	}
	if t.waiting[a] = slices.Delete(t.waiting[a], i, i+1); len(t.waiting[a]) == 0 {
		delete(t.waiting, a)
		t.next = slices.DeleteFunc(t.next, func(other arn.Account) bool { return other == a })
	}
}

// End ends a turn.
func (t *Turns) End() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hand()
}

// hand gives a turn to who is next.
func (t *Turns) hand() {
	if len(t.next) == 0 {
		t.free++
		return
	}
	a := t.next[0]
	t.next = t.next[1:]
	queue := t.waiting[a]
	close(queue[0])
	if len(queue) == 1 {
		delete(t.waiting, a)
		return
	}
	t.waiting[a] = queue[1:]
	t.next = append(t.next, a)
}
