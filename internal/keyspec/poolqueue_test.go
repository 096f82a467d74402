package keyspec_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
)

const otherAccount = arn.Account("444455556666")

// slowPool returns a pool without keys, whose keys are each made when the test says so.
func slowPool() (p *keyspec.Pool, one chan struct{}) {
	one = make(chan struct{})
	return keyspec.NewPoolOf(nil, func(key.Spec) (keyspec.Private, error) {
		<-one
		return keyspec.Generate(keyspec.P256) // any key will do
	}), one
}

// An account that asks for more than can be made is told so, and another one waits for one of its keys and not for all of them.
func TestPoolIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, one := slowPool()
		defer p.Close()
		var all, others sync.WaitGroup
		ask := func(a arn.Account) {
			if _, err := p.Take(t.Context(), a, keyspec.RSA4096); err != nil {
				t.Errorf("%s: %v", a, err)
			}
		}
		for range keyspec.OnDemand + keyspec.MaxWaiting {
			all.Go(func() { ask(account) })
		}
		synctest.Wait()
		for range 3 {
			if _, err := p.Take(t.Context(), account, keyspec.RSA2048); !errors.Is(err, keyspec.ErrBusy) {
				t.Errorf("one more: %v", err)
			}
		}
		others.Go(func() { ask(otherAccount) })
		synctest.Wait()
		for range keyspec.OnDemand + 2 { // those that are being made, one of those that wait, and the other account's
			one <- struct{}{}
			synctest.Wait()
		}
		others.Wait()
		for range keyspec.MaxWaiting + 1 - 2 {
			one <- struct{}{}
		}
		all.Wait()
		all.Go(func() { ask(account) }) // and there is room again
		one <- struct{}{}
		all.Wait()
	})
}

// Keys that are ready do not pass by those who wait, and least of all to an account that may not even wait.
func TestReadyKeysAreForThoseWhoWait(t *testing.T) {
	made, err := keyspec.Generate(keyspec.RSA2048) // for all: making them takes long
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		one := make(chan struct{})
		p := keyspec.NewPoolOf(map[key.Spec]int{keyspec.RSA2048: 1}, func(key.Spec) (keyspec.Private, error) {
			<-one
			return made, nil
		})
		var all, others sync.WaitGroup
		ask := func(a arn.Account) {
			if _, err := p.Take(t.Context(), a, keyspec.RSA2048); err != nil {
				t.Errorf("%s: %v", a, err)
			}
		}
		for range keyspec.OnDemand + keyspec.MaxWaiting {
			all.Go(func() { ask(account) })
		}
		synctest.Wait()
		others.Go(func() { ask(otherAccount) })
		synctest.Wait()
		for { // until the worker has made a key: which of those who make keys goes on is chance
			one <- struct{}{}
			synctest.Wait()
			if p.Ready(keyspec.RSA2048) > 0 {
				break
			}
			all.Go(func() { // so that the queue stays full, if it was this account's turn
				if _, err := p.Take(t.Context(), account, keyspec.RSA2048); err != nil && !errors.Is(err, keyspec.ErrBusy) {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		if _, err := p.Take(t.Context(), account, keyspec.RSA2048); !errors.Is(err, keyspec.ErrBusy) {
			t.Errorf("an account with a full queue, and a key that others wait for: %v", err)
		}
		close(one)
		all.Wait()
		others.Wait()
		p.Close()
	})
}

// Nobody waits for ever.
func TestPoolHasPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, one := slowPool()
		defer p.Close()
		var all sync.WaitGroup
		for range keyspec.OnDemand {
			all.Go(func() {
				if _, err := p.Take(t.Context(), account, keyspec.RSA4096); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		begun := time.Now()
		if _, err := p.Take(t.Context(), otherAccount, keyspec.RSA4096); !errors.Is(err, keyspec.ErrBusy) || time.Since(begun) != keyspec.Patience {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
		close(one)
		all.Wait()
	})
}

// Who stops waiting leaves its place.
func TestPoolEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, one := slowPool()
		defer p.Close()
		ctx, hangUp := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for i := range keyspec.OnDemand + keyspec.MaxWaiting {
			all.Go(func() {
				_, err := p.Take(ctx, account, keyspec.RSA4096)
				if begun := i < keyspec.OnDemand; begun != (err == nil) || !begun && !errors.Is(err, context.Canceled) {
					t.Errorf("caller %d: %v", i, err)
				}
			})
			synctest.Wait() // so that they wait in this order
		}
		hangUp()
		synctest.Wait()
		for range keyspec.OnDemand {
			one <- struct{}{}
		}
		all.Wait()
		all.Go(func() {
			if _, err := p.Take(t.Context(), account, keyspec.RSA4096); err != nil {
				t.Error(err)
			}
		})
		one <- struct{}{}
		all.Wait()
	})
}

// What cannot be made is not tried without end: only when somebody asks.
func TestPoolThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		errBroken := errors.New("broken")
		var mu sync.Mutex
		tried := 0
		p := keyspec.NewPoolOf(map[key.Spec]int{keyspec.RSA2048: 3}, func(key.Spec) (keyspec.Private, error) {
			mu.Lock()
			defer mu.Unlock()
			if tried++; tried > 100 {
				t.Fatal("it is tried again and again")
			}
			return nil, errBroken
		})
		defer p.Close()
		synctest.Wait() // which a worker that tries without end never lets happen
		for range 3 {
			if _, err := p.Take(t.Context(), account, keyspec.RSA2048); !errors.Is(err, errBroken) {
				t.Error(err)
			}
			synctest.Wait()
		}
		if tried > 1+3*3 { // by the worker at first, and each time by who asked, and by the worker before and after
			t.Errorf("tried %d times", tried)
		}
	})
}
