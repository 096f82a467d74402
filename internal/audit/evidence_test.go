package audit_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/secret"
)

var seed = secret.Take(bytes.Repeat([]byte{7}, 32))

// evident are options of a small log with checkpoints.
func evident(dir string) audit.Options {
	return audit.Options{Dir: dir, Durability: audit.Synced, SegmentSize: 2000, CheckpointEvery: time.Millisecond, Seed: seed}
}

func appendRecords(t *testing.T, l *audit.Log, n int) {
	t.Helper()
	for i := range n {
		if err := l.Append(fmt.Appendf(nil, `{"n":%d,"of":%d,"pad":%q}`, l.Next(), i, strings.Repeat("x", i%90))); err != nil {
			t.Fatal(err)
		}
	}
}

// fillSegments appends n records at a time until a log has so many segments.
func fillSegments(t *testing.T, l *audit.Log, dir string, segments, n int) {
	t.Helper()
	for len(mustSegments(t, dir)) < segments {
		appendRecords(t, l, n)
	}
}

func readFile(t *testing.T, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// newest returns the last checkpoint of a log, verified with its own key, and its text.
func newest(t *testing.T, dir string) (*audit.Checkpoint, []byte) {
	t.Helper()
	text, err := audit.NewestCheckpoint(dir)
	if err != nil {
		t.Fatal(err)
	}
	c, err := audit.ParseCheckpoint(text, string(readFile(t, dir, "verifier.pub")))
	if err != nil {
		t.Fatal(err)
	}
	return c, text
}

// The root is that of another implementation of RFC 6962, for every size, also when the log is closed and opened again.
func TestCheckpointsAreOfTheMerkleTree(t *testing.T) {
	dir := t.TempDir()
	var stored []tlog.Hash
	read := tlog.HashReaderFunc(func(at []int64) (out []tlog.Hash, err error) {
		for _, i := range at {
			out = append(out, stored[i])
		}
		return out, nil
	})
	for size := range int64(35) {
		l := open(t, evident(dir))
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		want, err := tlog.TreeHash(size, read)
		if err != nil {
			t.Fatal(err)
		}
		c, _ := newest(t, dir)
		if c.Size != uint64(size) || c.Root != want || !c.Closed {
			t.Fatalf("checkpoint %+v, want root %v of %d records", c, want, size)
		}
		l = open(t, evident(dir))
		record := fmt.Appendf(nil, `{"n":%d,"pad":%q}`, size, strings.Repeat("y", 100))
		if err := l.Append(record); err != nil {
			t.Fatal(err)
		}
		hashes, err := tlog.StoredHashes(size, record, read)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hashes...)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if segments, _ := audit.Segments(dir); len(segments) < 2 {
		t.Errorf("%d segments, want several", len(segments))
	}
}

// What lost or changed records below its last checkpoint is refused; what a crash leaves is mended.
func TestOpenLooksAtTheLastCheckpoint(t *testing.T) {
	cut := func(n int64) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			t.Helper()
			info, err := os.Stat(path)
			if err == nil {
				err = os.Truncate(path, info.Size()-n)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(t *testing.T, path string) {
		t.Helper()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	flip := func(t *testing.T, path string) {
		t.Helper()
		b := readFile(t, path)
		b[len(b)-5] ^= 1
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		what, file string
		do         func(*testing.T, string)
		damaged    bool
	}{
		{"nothing", "verifier.pub", func(*testing.T, string) {}, false},
		{"a record cut off", "audit-00000003.jsonl", cut(20), true},
		{"the last segment gone", "audit-00000003.jsonl", remove, true},
		{"a middle segment gone", "audit-00000002.jsonl", remove, true},
		{"the first segment gone", "audit-00000001.jsonl", remove, true},
		{"an older segment cut off", "audit-00000001.jsonl", cut(20), true},
		{"a record changed", "audit-00000003.jsonl", flip, true},
		{"checkpoints gone", "checkpoints", remove, true},
		{"checkpoint changed", "checkpoints", flip, true},
		{"checkpoint torn", "checkpoints", cut(30), false},
		{"index torn", "audit-00000003.index", cut(50), false},
		{"index gone", "audit-00000003.index", remove, false},
		{"older index gone", "audit-00000002.index", remove, false},
		{"older index torn", "audit-00000002.index", cut(41), false},
		{"first index gone", "audit-00000001.index", remove, false},
		{"key gone", "verifier.pub", remove, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			dir := t.TempDir()
			l := open(t, evident(dir))
			for len(mustSegments(t, dir)) < 3 {
				appendRecords(t, l, 3)
			}
			appendRecords(t, l, 5)
			all := l.Next()
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			c.do(t, filepath.Join(dir, c.file))
			before := content(t, dir)
			l, err := audit.Open(evident(dir))
			var damaged *audit.DamagedError
			if errors.As(err, &damaged) != c.damaged || !c.damaged && err != nil {
				t.Fatalf("opened: %v", err)
			}
			if err != nil {
				if after := content(t, dir); after != before {
					t.Error("a log that is refused must stay as it is")
				}
				return
			}
			appendRecords(t, l, 40)
			for n := uint64(0); n < all+40; n++ {
				if r, err := l.Read(n, 1); err != nil || !bytes.HasPrefix(r[0], fmt.Appendf(nil, `{"n":%d,`, n)) {
					t.Fatalf("record %d is %q, %v", n, r, err)
				}
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if l, err = audit.Open(evident(dir)); err != nil {
				t.Fatal(err)
			}
			_ = l.Close()
		})
	}
}

// content returns what is in a directory.
func content(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, e := range entries {
		fmt.Fprintf(&all, "%s %q\n", e.Name(), readFile(t, dir, e.Name()))
	}
	return all.String()
}

func mustSegments(t *testing.T, dir string) []string {
	t.Helper()
	s, err := audit.Segments(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A log that was written before there were checkpoints gets them, over all of its records.
func TestOldLogGetsAnIndex(t *testing.T) {
	dir := t.TempDir()
	for i, n := range []int{3, 4, 2} {
		var text []byte
		for j := range n {
			text = fmt.Appendf(text, "{\"segment\":%d,\"record\":%d}\n", i, j)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("audit-%08d.jsonl", i+1)), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l := open(t, evident(dir))
	if r, err := l.Read(6, 1); err != nil || string(r[0]) != `{"segment":1,"record":3}` {
		t.Errorf("record 6 is %q, %v", r, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if c, _ := newest(t, dir); c.Size != 9 || c.First != 0 {
		t.Errorf("checkpoint %+v", c)
	}
}

// What was remembered elsewhere shows what whoever writes to the directory can hide from it: that the log was longer, or another one.
func TestOpenLooksAtWhatIsRemembered(t *testing.T) {
	for what, c := range map[string]struct {
		do      func(t *testing.T, dir string)
		damaged bool
	}{
		"nothing": {func(*testing.T, string) {}, false},
		"history rewritten from checkpoint 0 on": {func(t *testing.T, dir string) {
			t.Helper()
			all := readFile(t, dir, "checkpoints")
			end := bytes.Index(all, []byte("\n\nkeywright-audit/"))
			if err := os.WriteFile(filepath.Join(dir, "checkpoints"), all[:end+2], 0o600); err != nil {
				t.Fatal(err)
			}
			for _, pattern := range []string{"*.index", "audit-0000000[2-9].*"} {
				paths, _ := filepath.Glob(filepath.Join(dir, pattern))
				for _, p := range paths {
					if err := os.Remove(p); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := os.WriteFile(filepath.Join(dir, "audit-00000001.jsonl"), []byte("{\"n\":0,\"forged\":true}\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, true},
		"emptied": {func(t *testing.T, dir string) {
			t.Helper()
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}, true},
		"another log of the same key": {func(t *testing.T, dir string) {
			t.Helper()
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			l := open(t, evident(dir))
			appendRecords(t, l, 100)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}, true},
	} {
		t.Run(what, func(t *testing.T) {
			o := evident(filepath.Join(t.TempDir(), "audit"))
			o.Remember = func(text []byte) error { o.Known = bytes.Clone(text); return nil }
			l := open(t, o)
			fillSegments(t, l, o.Dir, 3, 3)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			c.do(t, o.Dir)
			before := content(t, o.Dir)
			l, err := audit.Open(o)
			var damaged *audit.DamagedError
			if errors.As(err, &damaged) != c.damaged || !c.damaged && err != nil {
				t.Fatalf("opened: %v", err)
			}
			if !c.damaged {
				_ = l.Close()
				return
			}
			if after := content(t, o.Dir); after != before {
				t.Error("a log that is refused must stay as it is")
			}
			o.Known = nil
			if l, err = audit.Open(o); err != nil {
				t.Fatalf("when it is forgotten: %v", err)
			}
			_ = l.Close()
		})
	}
}

// What is remembered is on disk before, so that a process that ends at any moment, also between the two, is not taken for a thief.
func TestWhatIsRememberedIsOnDisk(t *testing.T) {
	o := evident(t.TempDir())
	var copies []string
	var known [][]byte
	o.Remember = func(text []byte) error {
		dir := t.TempDir() // what a kill at this moment would leave
		if err := os.CopyFS(dir, os.DirFS(o.Dir)); err != nil {
			t.Error(err)
		}
		copies, known = append(copies, dir), append(known, bytes.Clone(text))
		return nil
	}
	l := open(t, o)
	for len(mustSegments(t, o.Dir)) < 5 {
		appendRecords(t, l, 3)
		waitFor(t, func() bool { return l.Stats().Checkpointed >= l.Next() }) // each is remembered then
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if len(copies) < 4 {
		t.Fatalf("remembered %d times", len(copies))
	}
	for i, dir := range copies {
		for _, text := range known[max(0, i-1) : i+1] { // the store has this one, or only the one before
			o := evident(dir)
			o.Known = text
			l, err := audit.Open(o)
			if err != nil {
				t.Fatalf("%d: %v", i, err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// What is refused stays as it is, also what a crash left or somebody put beside it.
func TestRefusedLogStaysAsItIs(t *testing.T) {
	o := evident(t.TempDir())
	o.Compress = true
	l := open(t, o)
	fillSegments(t, l, o.Dir, 4, 3)
	waitFor(t, func() bool { return len(plainSegments(t, o.Dir)) == 1 })
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	packed := readFile(t, o.Dir, "audit-00000002.jsonl.zst")
	dec, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	twin, err := dec.DecodeAll(packed, nil)
	if err != nil {
		t.Fatal(err)
	}
	twin[10] ^= 1
	torn := append(readFile(t, o.Dir, "checkpoints"), "keywright-audit/torn"...)
	for name, b := range map[string][]byte{"audit-00000002.jsonl": twin, "checkpoints": torn, "audit-00000003.index.part": twin} {
		if err := os.WriteFile(filepath.Join(o.Dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(o.Dir, "verifier.pub")); err != nil {
		t.Fatal(err)
	}
	before := content(t, o.Dir)
	var damaged *audit.DamagedError
	if _, err := audit.Open(o); !errors.As(err, &damaged) || content(t, o.Dir) != before {
		t.Fatalf("%v; the directory is the same: %v", err, content(t, o.Dir) == before)
	}
	twin[10] ^= 1 // what a crash leaves
	if err := os.WriteFile(filepath.Join(o.Dir, "audit-00000002.jsonl"), twin, 0o600); err != nil {
		t.Fatal(err)
	}
	l = open(t, o)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	mustVerify(t, audit.VerifyOptions{Dir: o.Dir})
}

// A damaged index neither ends the process nor hides records: they are read without it.
func TestReadWithADamagedIndex(t *testing.T) {
	for _, compress := range []bool{false, true} {
		o := evident(t.TempDir())
		o.Compress = compress
		l := open(t, o)
		fillSegments(t, l, o.Dir, 3, 5)
		all := l.Next()
		waitFor(t, func() bool { return !compress || len(plainSegments(t, o.Dir)) == 1 })
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(o.Dir, "audit-00000001.index")
		index := readFile(t, path)
		head := audit.IndexHeadSize(index)
		for _, flip := range []struct {
			at  int
			bit byte
		}{{head + 5*40 + 32, 0x40}, {head + 5*40 + 39, 1}, {head + 5*40 + 32, 0x80}, {head + 5*40, 1}, {len(index) - 8, 0x40}} {
			bad := bytes.Clone(index)
			bad[flip.at] ^= flip.bit
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			l, err := audit.Open(o)
			if err != nil {
				t.Fatal(err)
			}
			for n := range all {
				if r, err := l.Read(n, 1); err != nil || !bytes.HasPrefix(r[0], fmt.Appendf(nil, `{"n":%d,`, n)) {
					t.Fatalf("record %d with octet %d flipped: %q, %v", n, flip.at, r, err)
				}
			}
			wantRecords(t, l, 0, all)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A process that is killed when its second segment has begun, and the index of the first one has no entries yet, has lost nothing.
func TestKilledBeforeTheFirstIndex(t *testing.T) {
	o := evident(t.TempDir())
	o.CheckpointEvery = time.Hour
	l := open(t, o)
	checkpoints := filepath.Join(o.Dir, "checkpoints")
	first := readFile(t, checkpoints)
	fillSegments(t, l, o.Dir, 2, 1)
	appendRecords(t, l, 1)
	next := l.Next()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	index := filepath.Join(o.Dir, "audit-00000001.index")
	if err := errors.Join(
		os.WriteFile(checkpoints, first, 0o600), os.Truncate(index, int64(audit.IndexHeadSize(readFile(t, index)))), os.Remove(filepath.Join(o.Dir, "audit-00000002.index")),
	); err != nil {
		t.Fatal(err)
	}
	if l = open(t, o); l.First() != 0 || l.Next() != next {
		t.Errorf("records %d to %d, want 0 to %d", l.First(), l.Next(), next)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	mustVerify(t, audit.VerifyOptions{Dir: o.Dir})
}
