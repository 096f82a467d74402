package audit_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/audit"
)

// The blocks of a flush reach the disk in any order: what a power cut left behind the last whole record is no record. It is kept beside,
// and nobody takes it for a segment.
func TestHoleInTheTail(t *testing.T) {
	o := evident(t.TempDir())
	o.SegmentSize = 1 << 20
	l := open(t, o)
	appendRecords(t, l, 10)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(o.Dir, "audit-00000001.jsonl")
	for i, torn := range []string{string(make([]byte, 500)) + "of a record\"}\n{\"n\":12}\n", "{\"n\":11"} {
		tail := append(readFile(t, path), "{\"n\":10,\"tail\":true}\n"+torn...)
		if err := os.WriteFile(path, tail, 0o600); err != nil {
			t.Fatal(err)
		}
		want := uint64(11 + 6*i)
		l = open(t, o)
		if l.Next() != want {
			t.Errorf("the log has %d records, want %d", l.Next(), want)
		}
		if kept := readFile(t, o.Dir, "audit-00000001.torn."+string(rune('1'+i))); string(kept) != torn {
			t.Errorf("%q was kept of %q", kept, torn)
		}
		appendRecords(t, l, 5)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if segments := mustSegments(t, o.Dir); len(segments) != 1 {
			t.Errorf("segments %q", segments)
		}
		if r := mustVerify(t, audit.VerifyOptions{Dir: o.Dir}); r.Next != want+5 {
			t.Errorf("%d records verified, want %d", r.Next, want+5)
		}
	}
	o.SegmentSize = 100
	l = open(t, o) // what was kept goes with its segment
	appendRecords(t, l, 3)
	waitFor(t, func() bool {
		if err := audit.Retire(l, time.Now().Add(time.Hour), l.Next()); err != nil {
			t.Fatal(err)
		}
		return l.First() > 0
	})
	if left, _ := filepath.Glob(filepath.Join(o.Dir, "audit-00000001.*")); len(left) > 0 {
		t.Errorf("%q are left", left)
	}
}

// Records come into the index when they are on disk: a log that has fewer whole ones than its index was not left so by a crash, although
// no checkpoint covers them. An index that is not there as a whole says nothing.
func TestIndexBehindTheCheckpoint(t *testing.T) {
	const all, at = 10, 5
	type spoil func(before, record, behind []byte) []byte
	hole := func(before, record, behind []byte) []byte {
		return bytes.Join([][]byte{before, make([]byte, len(record)-1), []byte("\n"), behind}, nil)
	}
	for what, c := range map[string]struct {
		segment spoil
		index   func(index []byte, head int) []byte
		damaged bool
	}{
		"a hole":        {hole, nil, true},
		"cut off":       {func(before, _, _ []byte) []byte { return before }, nil, true},
		"half a record": {func(before, record, _ []byte) []byte { return append(before, record[:len(record)/2]...) }, nil, true},
		"a hole, and an index that knows nothing of it": {hole, func(index []byte, head int) []byte { return index[:head+at*40] }, false},
		"a hole, and a torn index":                      {hole, func(index []byte, head int) []byte { return index[:head+at*40+39] }, false},
		"a hole, and an index with one": {hole, func(index []byte, head int) []byte {
			return append(index[:head+at*40], make([]byte, (all-at)*40)...)
		}, false},
		"a hole, and an index of something else": {hole, func(index []byte, head int) []byte {
			for i := range index[head+at*40:] {
				index[head+at*40+i] = 'x'
			}
			return index
		}, false},
		"a hole, and no head of the index": {hole, func(index []byte, head int) []byte {
			index[head-1] ^= 1
			return index
		}, false},
	} {
		t.Run(what, func(t *testing.T) {
			o := evident(t.TempDir())
			o.SegmentSize, o.CheckpointEvery = 1<<20, time.Hour
			l := open(t, o)
			first := readFile(t, o.Dir, "checkpoints")
			appendRecords(t, l, all)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			path, index := filepath.Join(o.Dir, "audit-00000001.jsonl"), filepath.Join(o.Dir, "audit-00000001.index")
			lines := bytes.SplitAfter(readFile(t, path), []byte("\n"))
			before, behind := bytes.Join(lines[:at], nil), bytes.Join(lines[at+1:], nil)
			entries := readFile(t, index)
			if c.index != nil {
				entries = c.index(entries, audit.IndexHeadSize(entries))
			}
			if err := errors.Join(
				os.WriteFile(filepath.Join(o.Dir, "checkpoints"), first, 0o600), // as if the machine had stopped before the next one
				os.WriteFile(path, c.segment(before, lines[at], behind), 0o600), os.WriteFile(index, entries, 0o600),
			); err != nil {
				t.Fatal(err)
			}
			was := content(t, o.Dir)
			l, err := audit.Open(o)
			if c.damaged {
				var damaged *audit.DamagedError
				if !errors.As(err, &damaged) || content(t, o.Dir) != was {
					t.Errorf("opened: %v; the directory is the same: %v", err, content(t, o.Dir) == was)
				}
				if r, err := audit.Verify(t.Context(), audit.VerifyOptions{Dir: o.Dir}); err != nil || len(r.Findings) == 0 {
					t.Errorf("verify finds nothing: %+v, %v", r, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if l.Next() != at {
				t.Errorf("%d records, want %d", l.Next(), at)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			mustVerify(t, audit.VerifyOptions{Dir: o.Dir})
		})
	}
}
