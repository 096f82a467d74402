package turns_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/turns"
)

const busy, other = arn.Account("111122223333"), arn.Account("444455556666")

// An account that came later waits for one turn of an account with many requests, and not for all of them.
func TestAccountsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := turns.New(1)
		if err := all.Take(t.Context(), busy); err != nil {
			t.Fatal(err)
		}
		var order []arn.Account
		var served sync.WaitGroup
		for _, a := range []arn.Account{busy, busy, busy, other, other} {
			served.Go(func() {
				if err := all.Take(t.Context(), a); err != nil {
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
		all := turns.New(1)
		if err := all.Take(t.Context(), busy); err != nil {
			t.Fatal(err)
		}
		ctx, hangUp := context.WithCancel(t.Context())
		var gone sync.WaitGroup
		for _, a := range []arn.Account{busy, busy, other} {
			gone.Go(func() {
				if err := all.Take(ctx, a); !errors.Is(err, context.Canceled) {
					t.Errorf("%s: %v", a, err)
				}
			})
		}
		synctest.Wait()
		hangUp()
		gone.Wait()
		all.End()
		if err := all.Take(t.Context(), other); err != nil {
			t.Error(err)
		}
	})
}

// There are never more turns at a time than there are, whoever comes and goes.
func TestTurnsAreBounded(t *testing.T) {
	const most = 3
	all := turns.New(most)
	held := make(chan struct{}, most)
	var done sync.WaitGroup
	for i := range 200 {
		done.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if i%3 == 0 {
				go cancel()
			}
			if all.Take(ctx, []arn.Account{busy, other}[i%2]) != nil {
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
	for range most { // and none is lost
		if err := all.Take(t.Context(), busy); err != nil {
			t.Fatal(err)
		}
	}
}
