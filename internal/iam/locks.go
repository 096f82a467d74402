package iam

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/store"
)

// accountLocks lets one at a time change an account. The zero value is ready.
type accountLocks struct {
	mu    sync.Mutex
	locks map[arn.Account]*accountLock
}

type accountLock struct {
	held   chan struct{} // has room while nobody holds the lock
	wanted int           // how many hold it or wait for it
}

// lock waits for the lock of an account: for as long as ctx and patience allow, which is how long an update may wait for the database, as
// the one before it may. The error is store.ErrUnavailable.
func (l *accountLocks) lock(ctx context.Context, patience time.Duration, a arn.Account) (unlock func(), err error) {
	l.mu.Lock()
	k := l.locks[a]
	if k == nil {
		if l.locks == nil {
			l.locks = map[arn.Account]*accountLock{}
		}
		k = &accountLock{held: make(chan struct{}, 1)}
		l.locks[a] = k
	}
	k.wanted++
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case k.held <- struct{}{}:
		return func() {
			<-k.held
			l.leave(a, k)
		}, nil
	case <-ctx.Done():
		l.leave(a, k)
		return nil, fmt.Errorf("%w: others change the account %s", store.ErrUnavailable, a)
	}
}

func (l *accountLocks) leave(a arn.Account, k *accountLock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k.wanted--; k.wanted == 0 {
		delete(l.locks, a)
	}
}

// loads has accounts read from the store: each by one at a time, on behalf of all who asked before it began. The zero value is ready.
type loads struct {
	mu       sync.Mutex
	accounts map[arn.Account]*reading
}

// reading is the load of an account that runs, and the one that begins after it.
type reading struct{ now, next *load }

type load struct {
	done chan struct{} // closed when the others are valid
	v    *view
	err  error
}

var errInterrupted = errors.New("reading an account was interrupted")

// do returns what read returns, which begins after the call of do.
func (l *loads) do(ctx context.Context, a arn.Account, read func() (*view, error)) (*view, error) {
	one, before := l.join(a)
	if before == one { // somebody else will run it
		select {
		case <-one.done:
			return one.v, one.err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	if before != nil {
		<-before.done // whoever asks meanwhile counts on this one
		l.begin(a, one)
	}
	defer l.end(a, one)
	one.err = errInterrupted // for the others, if this one panics
	one.v, one.err = read()
	return one.v, one.err
}

// join returns the load of an account to wait for, and the same again if somebody else runs it; otherwise the one that has to end before
// the caller runs it, nil for none.
func (l *loads) join(a arn.Account) (one, before *load) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.accounts[a]
	switch {
	case r == nil:
		if l.accounts == nil {
			l.accounts = map[arn.Account]*reading{}
		}
		one = &load{done: make(chan struct{})}
		l.accounts[a] = &reading{now: one}
		return one, nil
	case r.next != nil:
		return r.next, r.next
	}
	r.next = &load{done: make(chan struct{})}
	return r.next, r.now
}

func (l *loads) begin(a arn.Account, one *load) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*l.accounts[a] = reading{now: one}
}

func (l *loads) end(a arn.Account, one *load) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(one.done)
	if l.accounts[a].next == nil {
		delete(l.accounts, a)
	}
}
