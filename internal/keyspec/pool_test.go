package keyspec_test

import (
	"bytes"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
)

const account = arn.Account("111122223333")

// wait waits until the pool has so many RSA_2048 keys ready.
func wait(t testing.TB, p *keyspec.Pool, n int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); p.Ready(keyspec.RSA2048) < n; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d keys are ready, not %d", p.Ready(keyspec.RSA2048), n)
		}
	}
}

func TestPool(t *testing.T) {
	p := keyspec.NewPool(map[key.Spec]int{keyspec.RSA2048: 3, keyspec.P256: 5, keyspec.RSA4096: 0})
	defer p.Close()
	wait(t, p, 3)
	if n := p.Ready(keyspec.P256) + p.Ready(keyspec.RSA4096); n != 0 {
		t.Errorf("%d keys are ready that nobody asked for", n)
	}
	var mu sync.Mutex
	var seen [][]byte
	var group sync.WaitGroup
	for i := range 8 { // more than are ready
		group.Go(func() {
			s := keyspec.RSA2048
			if i%4 == 3 {
				s = keyspec.P256
			}
			k, err := p.Take(t.Context(), account, s)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, k.Public().SPKI())
		})
	}
	group.Wait()
	slices.SortFunc(seen, bytes.Compare)
	if len(slices.CompactFunc(seen, bytes.Equal)) != 8 {
		t.Error("two got the same key")
	}
	wait(t, p, 3)
	if _, err := p.Take(t.Context(), account, "OTHER"); err == nil {
		t.Error("took a key of a spec that is none")
	}
}

// A key that is ready is given at once: none is made.
func TestPoolDoesNotBlockWhileItLasts(t *testing.T) {
	p := keyspec.NewPool(map[key.Spec]int{keyspec.RSA2048: 1})
	defer p.Close()
	wait(t, p, 1)
	ready := keyspec.Peek(p, keyspec.RSA2048)
	if k, err := p.Take(t.Context(), account, keyspec.RSA2048); err != nil || k != ready {
		t.Errorf("another key than the one that was ready, %v", err)
	}
}

func TestClosedPool(t *testing.T) {
	p := keyspec.NewPool(map[key.Spec]int{keyspec.RSA2048: 1})
	wait(t, p, 1)
	kept := keyspec.Peek(p, keyspec.RSA2048)
	p.Close()
	p.Close()
	if !keyspec.Wiped(kept) {
		t.Error("a key that nobody took is not wiped")
	}
	k, err := p.Take(t.Context(), account, keyspec.RSA2048)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keyspec.Parse(keyspec.RSA2048, k.Octets().Expose()); err != nil {
		t.Errorf("a key of a closed pool: %v", err)
	}
}

func BenchmarkTake(b *testing.B) {
	const size = 20
	p := keyspec.NewPool(map[key.Spec]int{keyspec.RSA2048: size})
	defer p.Close()
	var took []time.Duration
	for b.Loop() {
		b.StopTimer()
		wait(b, p, 1)
		b.StartTimer()
		start := time.Now()
		if _, err := p.Take(b.Context(), account, keyspec.RSA2048); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-ns")
}
