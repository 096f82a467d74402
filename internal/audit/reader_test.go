package audit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/audit"
)

// A Reader sees what a Log has, in all its segments and while more is written, and changes nothing.
func TestReader(t *testing.T) {
	dir := t.TempDir()
	l := open(t, audit.Options{Dir: dir, Durability: audit.Written, SegmentSize: 300})
	write := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			if err := l.Append(fmt.Appendf(nil, `{"n":%d}`, i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	check := func(r *audit.Reader, n int) {
		t.Helper()
		if r.First() != 0 || r.Next() != uint64(n) {
			t.Fatalf("records %d to before %d, want %d", r.First(), r.Next(), n)
		}
		for at := 0; at < n; {
			records, err := r.Read(uint64(at), 7)
			if err != nil || len(records) == 0 {
				t.Fatalf("record %d: %d records, %v", at, len(records), err)
			}
			for _, got := range records {
				if string(got) != fmt.Sprintf(`{"n":%d}`, at) {
					t.Fatalf("record %d is %s", at, got)
				}
				at++
			}
		}
		if records, err := r.Read(uint64(n), 1); err != nil || records != nil {
			t.Errorf("behind the end: %q, %v", records, err)
		}
	}
	write(0, 100)
	r, err := audit.OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	check(r, 100)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := r.Wait(ctx, 100); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for what does not come: %v", err)
	}
	write(100, 250)
	if err := r.Wait(context.Background(), 100); err != nil {
		t.Fatal(err)
	}
	check(r, 250)
	if _, err := audit.OpenReader(dir + "/none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

// A segment that was read in part is compressed before the rest of it is read: no record is missed.
func TestReaderWhileASegmentIsCompressed(t *testing.T) {
	o := evident(t.TempDir())
	o.Compress = true
	l := open(t, o)
	appendRecords(t, l, 3)
	r, err := audit.OpenReader(o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	fillSegments(t, l, o.Dir, 3, 3)
	waitFor(t, func() bool { return len(plainSegments(t, o.Dir)) == 1 })
	if err := r.Wait(t.Context(), l.Next()-1); err != nil {
		t.Fatal(err)
	}
	for n := range l.Next() {
		if got, err := r.Read(n, 1); err != nil || len(got) != 1 || !bytes.HasPrefix(got[0], fmt.Appendf(nil, `{"n":%d,`, n)) {
			t.Fatalf("record %d is %q, %v", n, got, err)
		}
	}
}
