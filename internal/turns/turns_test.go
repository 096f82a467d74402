package turns_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/turns"
)

// most is how many wait on behalf of an account.
const most = 5

const busy, other = arn.Account("111122223333"), arn.Account("444455556666")

// An account that came later waits for one turn of an account with many requests, and not for all of them.
func TestAccountsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := turns.New(1, most, time.Minute)
		if _, err := all.Take(t.Context(), busy); err != nil {
			t.Fatal(err)
		}
		var order []arn.Account
		var served sync.WaitGroup
		for _, a := range []arn.Account{busy, busy, busy, other, other} {
			served.Go(func() {
				if _, err := all.Take(t.Context(), a); err != nil {
					t.Error(err)
					return
				}
				order = append(order, a) // only one has the turn
				all.End()
			})
			synctest.Wait() // so that they wait in this order
		}
		all.End()
		served.Wait()
		if want := []arn.Account{busy, other, busy, other, busy}; !slices.Equal(order, want) {
			t.Errorf("%v", order)
		}
	})
}

// Who goes away while it waits leaves its place, and keeps no turn.
func TestWaitingEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := turns.New(1, most, time.Minute)
		if _, err := all.Take(t.Context(), busy); err != nil {
			t.Fatal(err)
		}
		ctx, hangUp := context.WithCancel(t.Context())
		var gone sync.WaitGroup
		for _, a := range []arn.Account{busy, busy, other} {
			gone.Go(func() {
				if _, err := all.Take(ctx, a); !errors.Is(err, context.Canceled) || !errors.Is(err, turns.ErrBusy) {
					t.Errorf("%s: %v", a, err)
				}
			})
		}
		synctest.Wait()
		hangUp()
		gone.Wait()
		all.End()
		if _, err := all.Take(t.Context(), other); err != nil {
			t.Error(err)
		}
	})
}

// Waiting has a bound, in number and in time, which is the account's own.
func TestWaitingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := turns.New(1, most, time.Minute)
		if waited, err := all.Take(t.Context(), busy); waited || err != nil {
			t.Fatal(waited, err)
		}
		var gone sync.WaitGroup
		begun := time.Now()
		for range most {
			gone.Go(func() {
				if _, err := all.Take(t.Context(), busy); !errors.Is(err, turns.ErrBusy) || time.Since(begun) != time.Minute {
					t.Errorf("after %v: %v", time.Since(begun), err)
				}
			})
		}
		synctest.Wait()
		if _, err := all.Take(t.Context(), busy); !errors.Is(err, turns.ErrBusy) || time.Since(begun) != 0 {
			t.Errorf("one too many, after %v: %v", time.Since(begun), err)
		}
		gone.Go(func() {
			time.Sleep(time.Minute - 1)
			if waited, err := all.Take(t.Context(), other); !waited || err != nil {
				t.Error("another account:", waited, err)
			}
		})
		gone.Go(func() {
			time.Sleep(time.Minute + 1)
			all.End()
		})
		gone.Wait()
		all.End()
		if waited, err := all.Take(t.Context(), busy); waited || err != nil {
			t.Error(waited, err)
		}
	})
}

// There are never more turns at a time than there are, whoever comes and goes.
func TestTurnsAreBounded(t *testing.T) {
	const n = 3
	all := turns.New(n, 200, time.Minute)
	held := make(chan struct{}, n)
	var done sync.WaitGroup
	for i := range 200 {
		done.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if i%3 == 0 {
				go cancel()
			}
			if _, err := all.Take(ctx, []arn.Account{busy, other}[i%2]); err != nil {
				return
			}
			defer all.End()
			select {
			case held <- struct{}{}:
				<-held
			default:
				t.Error("a turn too many")
			}
		})
	}
	done.Wait()
	for range n { // and none is lost
		if _, err := all.Take(t.Context(), busy); err != nil {
			t.Fatal(err)
		}
	}
}
