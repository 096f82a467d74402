package audit_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/audit"
)

// A segment that cannot be begun refuses nothing: the one before goes on, with the room that was reserved in it.
func TestNextSegmentThatCannotBeBegun(t *testing.T) {
	for _, d := range []audit.Durability{audit.Written, audit.Synced} {
		o := evident(t.TempDir())
		o.Durability = d
		l := open(t, o)
		inTheWay := filepath.Join(o.Dir, "audit-00000002.jsonl", "x")
		if err := os.MkdirAll(inTheWay, 0o700); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			if err := l.Reserve(); err != nil {
				t.Fatal(err)
			}
			appendRecords(t, l, 20)
		}
		for range 10 {
			if err := l.AppendReserved([]byte(`{"n":"change"}`)); err != nil {
				t.Fatal(err)
			}
		}
		if n := l.Stats().Segments; n != 1 {
			t.Fatalf("%d segments", n)
		}
		if err := os.RemoveAll(filepath.Dir(inTheWay)); err != nil {
			t.Fatal(err)
		}
		waitFor(t, func() bool { appendRecords(t, l, 1); return l.Stats().Segments > 1 })
		all := l.Next()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if r := mustVerify(t, audit.VerifyOptions{Dir: o.Dir}); r.Next != all {
			t.Errorf("%d records, want %d", r.Next, all)
		}
	}
}

// failingDisk fails to flush while it is told to, and says so once of what was lost, as Linux does.
type failingDisk struct{ fails atomic.Bool }

func (d *failingDisk) sync(f *os.File) error {
	if d.fails.Load() {
		return syscall.EIO
	}
	return f.Sync()
}

// A disk that does not flush refuses the changes too, and not only their answers.
func TestReserveWhileFlushesFail(t *testing.T) {
	for _, d := range []audit.Durability{audit.Written, audit.Synced} {
		o := evident(t.TempDir())
		o.Durability, o.FlushEvery = d, time.Millisecond
		l := open(t, o)
		appendRecords(t, l, 3)
		var disk failingDisk
		audit.SyncWith(l, disk.sync)
		disk.fails.Store(true)
		waitFor(t, func() bool { return l.Append([]byte(`{"refused":"some time"}`)) != nil })
		for range 3 {
			if l.Reserve() == nil {
				t.Errorf("durability %v: a change was let through whose record would be refused", d)
			}
		}
		disk.fails.Store(false)
		if err := l.Reserve(); err != nil {
			t.Errorf("a disk that works again: %v", err)
		}
		if err := l.AppendReserved([]byte(`{"n":"change"}`)); err != nil {
			t.Errorf("the record of a change on a disk that works again: %v", err)
		}
		appendRecords(t, l, 3)
		next := l.Next()
		waitFor(t, func() bool { return l.Stats().Durable == next })
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if r := mustVerify(t, audit.VerifyOptions{Dir: o.Dir}); r.Next != next || r.Beyond != 0 {
			t.Errorf("%+v, want %d records", r, next)
		}
	}
}

// A flush that failed once may have lost records, though the next one succeeds: they are durable when they were written again.
func TestFlushThatLosesRecords(t *testing.T) {
	for _, gone := range []bool{false, true} {
		o := evident(t.TempDir())
		o.Durability, o.FlushEvery, o.SegmentSize = audit.Written, time.Hour, 1000
		l := open(t, o)
		appendRecords(t, l, 3)
		first := l.Next()
		var failed atomic.Bool
		audit.SyncWith(l, func(f *os.File) error {
			if failed.Swap(true) {
				return f.Sync()
			}
			if gone { // from the memory of the kernel, too
				if _, err := f.WriteAt(make([]byte, 20), 0); err != nil {
					t.Error(err)
				}
			}
			return syscall.EIO
		})
		var err error
		for err == nil { // until the segment ends, which flushes it
			err = l.Append(fmt.Appendf(nil, `{"n":%d,"pad":%q}`, l.Next(), strings.Repeat("x", 50)))
		}
		if l.Stats().Durable != 0 {
			t.Errorf("%d records are taken for durable, of %d", l.Stats().Durable, first)
		}
		next := l.Next()
		err = l.Append(fmt.Appendf(nil, `{"n":%d}`, next))
		if gone {
			if err == nil || l.Stats().Durable != 0 {
				t.Errorf("records are lost, and the log goes on over them: %v", err)
			}
			if err := l.Close(); err == nil {
				t.Error("closing the log says nothing of what is lost")
			}
			if c, _ := newest(t, o.Dir); c.Closed || c.Size != 0 {
				t.Errorf("the last checkpoint is %+v, want none over lost records, and none that says that the log ends there", c)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if durable := l.Stats().Durable; durable < next {
			t.Errorf("%d records are durable, want %d", durable, next)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		mustVerify(t, audit.VerifyOptions{Dir: o.Dir})
	}
}

// Nothing is removed before those who need records could say so.
func TestNothingIsRemovedBeforeTidy(t *testing.T) {
	o := evident(t.TempDir())
	l := open(t, o)
	fillSegments(t, l, o.Dir, 4, 5)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	o.Retention, o.Compress = time.Nanosecond, true
	l, err := audit.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	l.Hold("a sink that is behind", func() uint64 { return 1 })
	time.Sleep(50 * time.Millisecond)
	if l.First() != 0 || len(plainSegments(t, o.Dir)) < 4 {
		t.Error("segments went before somebody asked for it")
	}
	l.Tidy()
	waitFor(t, func() bool { return len(plainSegments(t, o.Dir)) == 1 })
	if l.First() != 0 {
		t.Errorf("the first record is %d, and somebody needs number 1", l.First())
	}
	l.Hold("a sink that is behind", nil)
	waitFor(t, func() bool { return l.First() > 0 })
}

// How long a record has waited for the disk counts from when it was written, over flushes that hang or fail, and ends with one that works.
func TestWaiting(t *testing.T) {
	for _, d := range []audit.Durability{audit.Written, audit.Synced} {
		o := evident(t.TempDir())
		o.Durability, o.FlushEvery = d, time.Millisecond
		l := open(t, o)
		if w := l.Stats().Waiting; w != 0 {
			t.Errorf("durability %v: %v without a record", d, w)
		}
		hangs := make(chan struct{})
		audit.SyncWith(l, func(f *os.File) error {
			<-hangs
			return f.Sync()
		})
		done := make(chan struct{})
		began := time.Now()
		go func() {
			defer close(done)
			if err := l.Append([]byte(`{"n":1}`)); err != nil {
				t.Error(err)
			}
		}()
		waitFor(t, func() bool { return l.Stats().Waiting > 30*time.Millisecond })
		if w := l.Stats().Waiting; w > time.Since(began) {
			t.Errorf("durability %v: %v, longer than since the record was made", d, w)
		}
		close(hangs)
		<-done
		waitFor(t, func() bool { return l.Stats().Waiting == 0 })
		if d == audit.Synced {
			continue
		}
		var disk failingDisk
		audit.SyncWith(l, disk.sync)
		disk.fails.Store(true)
		appendRecords(t, l, 1)
		waitFor(t, func() bool { return l.Stats().Waiting > 30*time.Millisecond }) // many flushes later
		disk.fails.Store(false)
		waitFor(t, func() bool { return l.Stats().Waiting == 0 })
	}
}

// A flush of the index that failed once may have lost some of it, though the next one succeeds: it is written again before a checkpoint
// is signed over it, and before the segment is taken for done.
func TestIndexFlushThatLosesEntries(t *testing.T) {
	for _, ends := range []bool{false, true} {
		o := evident(t.TempDir())
		o.CheckpointEvery = time.Hour
		l := open(t, o)
		var syncs atomic.Int32
		audit.SyncIndexWith(l, func(f *os.File) error {
			if syncs.Add(1) > 1 {
				return f.Sync()
			}
			head := int64(audit.IndexHeadSize(readFile(t, f.Name())))
			if _, err := f.WriteAt(make([]byte, 100), head); err != nil {
				t.Error(err)
			}
			return syscall.EIO
		})
		appendRecords(t, l, 5)
		if ends {
			fillSegments(t, l, o.Dir, 2, 1)
			waitFor(t, func() bool { return syncs.Load() > 0 })
		} else if err := audit.Retire(l, time.Time{}, 0); err == nil {
			t.Fatal("a flush that fails says nothing")
		}
		if c := l.Stats().Checkpointed; c != 0 {
			t.Errorf("a checkpoint is signed over %d records of an index that is not on disk", c)
		}
		appendRecords(t, l, 5)
		all := l.Next()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if r := mustVerify(t, audit.VerifyOptions{Dir: o.Dir}); r.Next != all {
			t.Errorf("%d records, want %d", r.Next, all)
		}
		if syncs.Load() < 2 {
			t.Error("the index was not flushed again")
		}
	}
}
