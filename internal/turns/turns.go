// Package turns lets only so many callers at a time do what takes a processor for long, and accounts wait for it side by side:
// one that asks for much waits behind its own requests and holds up another by one turn at a time. Waiting has a bound in number
// and in time, because nobody can tell whether the client who asked is still there.
//
// It trusts its callers to end their turns, and to ask for no second one while they have one. It must never give more turns
// than it has.
package turns

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/arn"
)

// ErrBusy means that an account asks for more than can be done for it: it may try again later.
var ErrBusy = errors.New("too much is asked for on behalf of this account")

// Turns is a number of turns to be had at a time. It is safe for concurrent use.
type Turns struct {
	most     int           // who may wait on behalf of an account
	patience time.Duration // how long
	mu       sync.Mutex
	free     int // none while anybody waits
	// next has the accounts of which somebody waits, in the order in which they get turns, and waiting who does.
	next    []arn.Account
	waiting map[arn.Account][]chan struct{}
}

// New returns n turns. Up to most callers wait on behalf of each account, each for the time given.
func New(n, most int, patience time.Duration) *Turns {
	return &Turns{most: most, patience: patience, free: n, waiting: map[arn.Account][]chan struct{}{}}
}

// Take takes a turn on behalf of an account, and reports whether it had to wait for it. The error is ErrBusy, if too many wait
// already, if it takes too long, or if ctx ends before: there is no turn then. Otherwise End must follow.
func (t *Turns) Take(ctx context.Context, a arn.Account) (waited bool, err error) {
	mine, err := t.enter(a)
	if mine == nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, t.patience)
	defer cancel()
	select {
	case <-mine:
		return true, nil
	case <-ctx.Done():
		t.leave(a, mine)
		return true, fmt.Errorf("%w: %w", ErrBusy, ctx.Err())
	}
}

// enter takes a free turn, or else a place in the queue of an account: what is closed when its turn comes.
func (t *Turns) enter(a arn.Account) (mine chan struct{}, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.free > 0 {
		t.free--
		return nil, nil
	}
	queue := t.waiting[a]
	if len(queue) >= t.most {
		return nil, ErrBusy
	}
	if len(queue) == 0 {
		t.next = append(t.next, a)
	}
	mine = make(chan struct{})
	t.waiting[a] = append(queue, mine)
	return mine, nil
}

// Awaited reports whether anybody waits.
func (t *Turns) Awaited() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.next) > 0
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
