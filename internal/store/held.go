package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"
)

// What the writer does about scopes that another process does not give back: one that hangs inside a transaction must not hold up what
// has nothing to do with it.

// How often the writer looks whether held scopes are free again, and how many of them it asks for each time.
const (
	heldLook  = 50 * time.Millisecond
	heldLooks = 16
)

// held is what the writer knows of scopes that others hold.
type held struct {
	scopes []scope   // each was waited for in vain; the next to be asked for is the first
	turn   scope     // is waited for once more although others are held
	waited time.Time // when a wait was in vain last
	parked []*update // want one of them
	next   time.Time // when to look again, if there are any
	ended  bool      // they were tried for the last time
}

// errHeld says that another process has had a scope for too long.
var errHeld = fmt.Errorf("%w: another process does not finish what it changes", ErrUnavailable)

// has reports whether a scope is held.
func (h *held) has(s scope) bool { return slices.Contains(h.scopes, s) }

// mayWait reports whether the writer waits for a scope that somebody has. While there are held scopes it does so for one at a time, lest it
// find them out one by one while everybody waits.
func (h *held) mayWait(s scope) bool { return len(h.scopes) == 0 || s == h.turn }

// add notes that a scope could not be had, although it was waited for or without that.
func (h *held) add(s scope, waited bool) {
	if !h.has(s) {
		h.scopes = append(h.scopes, s)
	}
	if s == h.turn {
		h.turn = scope{}
	}
	if waited {
		h.waited = time.Now()
	}
}

// park takes from updates those that want what is held, and returns the others.
func (h *held) park(updates []*update) (others []*update) {
	for _, u := range updates {
		if slices.ContainsFunc(u.scopes, h.has) {
			if len(h.parked) == 0 {
				h.next = time.Now().Add(heldLook)
			}
			u.parked = true
			h.parked = append(h.parked, u)
		} else {
			others = append(others, u)
		}
	}
	return others
}

// unpark answers the parked updates that have waited for too long, looks which scopes are free again, and returns the updates that
// want no other. At the end, when no more come, it returns all, once.
func (w *writer) unpark(end bool) (ready []*update) {
	h := &w.held
	h.look(w.locked, end)
	keep := h.parked[:0]
	for _, u := range h.parked {
		switch {
		case u.ctx.Err() != nil || h.ended:
			if u.err = context.Cause(u.ctx); u.err == nil || errors.Is(u.err, errCrowd) {
				u.err = errHeld
			}
			u.failed, u.parked = true, false
			close(u.done)
		case len(ready) < maxGroup && !slices.ContainsFunc(u.scopes, h.has) || end:
			u.parked = false
			ready = append(ready, u)
		default:
			keep = append(keep, u)
		}
	}
	clear(h.parked[len(keep):])
	h.parked, h.next, h.ended = keep, time.Now().Add(heldLook), end
	return ready
}

// look takes from the held scopes those that are free, or one whose turn it is to be waited for, or all.
func (h *held) look(locked func(scope) (bool, error), all bool) {
	for range min(len(h.scopes), heldLooks) {
		s := h.scopes[0]
		h.scopes = h.scopes[1:]
		is, err := locked(s)
		if err != nil {
			all = true // the next transaction finds out what is the matter
			break
		}
		if is {
			h.scopes = append(h.scopes, s)
		}
	}
	switch {
	case all:
		h.scopes = nil
	case len(h.scopes) > 0 && time.Since(h.waited) > 2*lockPatience:
		// Processes that are merely busy take a scope from each other between two looks: whoever waits gets it in the end.
		h.turn, h.scopes = h.scopes[0], h.scopes[1:]
	}
}

// locked reports whether another process has a scope.
func (w *writer) locked(s scope) (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), w.store.timeout+networkTime)
	defer cancel()
	var n, keys int64
	err := w.db.QueryRowContext(ctx, statements[tryCounter], string(s.account), string(s.region)).Scan(&n, &keys)
	switch {
	case isLocked(err):
		return true, nil
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	}
	return false, err
}
