package audit_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/audit"
)

// sources are all kinds of Source, empty, each with how it is appended to.
func sources(t *testing.T) map[string]interface {
	audit.Source
	Append(records ...[]byte) error
} {
	t.Helper()
	return map[string]interface {
		audit.Source
		Append(records ...[]byte) error
	}{
		"memory":  audit.NewMemory(1000),
		"written": open(t, audit.Options{Dir: t.TempDir(), Durability: audit.Written, SegmentSize: 700}),
		"synced":  open(t, audit.Options{Dir: t.TempDir(), Durability: audit.Synced, SegmentSize: 700}),
	}
}

// A follower that reads while records are appended gets each once, in order, and ends with the log.
func TestSourceIsFollowed(t *testing.T) {
	for name, s := range sources(t) {
		t.Run(name, func(t *testing.T) {
			const all = 400
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var wg sync.WaitGroup
			wg.Go(func() {
				for i := range all / 2 {
					if err := s.Append(fmt.Append(nil, 2*i), fmt.Append(nil, 2*i+1)); err != nil {
						t.Error(err)
					}
				}
			})
			for at := uint64(0); at < all; {
				if err := s.Wait(ctx, at); err != nil {
					t.Fatal(err)
				}
				records, err := s.Read(at, 7)
				if err != nil || len(records) == 0 || len(records) > 7 {
					t.Fatalf("at %d of %d: %d records, %v", at, s.Next(), len(records), err)
				}
				for _, r := range records {
					if string(r) != fmt.Sprint(at) {
						t.Fatalf("record %d is %q", at, r)
					}
					at++
				}
			}
			wg.Wait()
			if records, err := s.Read(all, 1); len(records) > 0 || err != nil {
				t.Errorf("behind the end: %q, %v", records, err)
			}
			if s.First() != 0 || s.Next() != all {
				t.Errorf("records %d to %d", s.First(), s.Next())
			}
			short, stop := context.WithTimeout(ctx, time.Millisecond)
			defer stop()
			if err := s.Wait(short, all); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("waiting for what does not come: %v", err)
			}
			if c, ok := s.(*audit.Log); ok {
				wg.Go(func() {
					time.Sleep(10 * time.Millisecond)
					if err := c.Close(); err != nil {
						t.Error(err)
					}
				})
				if err := s.Wait(ctx, all); !errors.Is(err, audit.ErrClosed) {
					t.Errorf("waiting on a closed log: %v", err)
				}
				wg.Wait() // it rings before it has ended
			}
		})
	}
}

func TestMemoryForgets(t *testing.T) {
	m := audit.NewMemory(3)
	for i := range 5 {
		if err := m.Append(fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.Read(1, 1); !errors.Is(err, audit.ErrGone) {
		t.Errorf("a record that made room: %v", err)
	}
	if r, err := m.Read(2, 2); err != nil || len(r) != 2 || string(r[0]) != "2" {
		t.Errorf("records %q, %v", r, err)
	}
}
