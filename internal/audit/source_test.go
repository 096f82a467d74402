package audit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
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

// However large the records are, one reading of a Source gives no more than some octets of them, and at least one record.
func TestReadIsBounded(t *testing.T) {
	for name, s := range sources(t) {
		const all = 12
		large := []byte(`{"pad":"` + strings.Repeat("x", audit.MaxRecord-20) + `"}`)
		for range all {
			if err := s.Append(large); err != nil {
				t.Fatal(err)
			}
		}
		at := uint64(0)
		for at < all {
			records, err := s.Read(at, 500)
			if err != nil || len(records) == 0 || len(records) > 4 {
				t.Fatalf("%s: %d records of %d octets at once, %v", name, len(records), len(large), err)
			}
			at += uint64(len(records))
		}
	}
}

// A Memory keeps fewer records than it may when they are large, and as many as it may when they are small again.
func TestMemoryIsBounded(t *testing.T) {
	const limit = 1000
	m := audit.NewMemory(limit)
	large := bytes.Repeat([]byte("x"), audit.MaxRecord)
	for range 3 * limit / 2 {
		if err := m.Append(large); err != nil {
			t.Fatal(err)
		}
		kept := m.Next() - m.First()
		if kept*audit.MaxRecord > limit*8<<10 {
			t.Fatalf("%d large records are kept", kept)
		}
	}
	if kept := m.Next() - m.First(); kept < 20 {
		t.Errorf("only %d large records are kept", kept)
	}
	if _, err := m.Read(m.First()-1, 1); !errors.Is(err, audit.ErrGone) {
		t.Errorf("a record that made room: %v", err)
	}
	if got := m.Records(); uint64(len(got)) != m.Next()-m.First() {
		t.Errorf("%d records, want %d", len(got), m.Next()-m.First())
	}
	for range limit {
		if err := m.Append([]byte("small")); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := m.Read(m.First(), 1); m.Next()-m.First() != limit || err != nil || string(r[0]) != "small" {
		t.Errorf("%d small records are kept; the first is %.10q, %v", m.Next()-m.First(), r, err)
	}
}
