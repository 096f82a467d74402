package audit_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/keywright/keywright/internal/audit"
)

// wantRecords reads all records from a number on in pieces of random length.
func wantRecords(t *testing.T, l *audit.Log, from, to uint64) {
	t.Helper()
	for n := from; n < to; {
		records, err := l.Read(n, 1+rand.IntN(50))
		if err != nil || len(records) == 0 {
			t.Fatalf("reading from %d of %d: %d records, %v", n, to, len(records), err)
		}
		for _, r := range records {
			if !bytes.HasPrefix(r, fmt.Appendf(nil, `{"n":%d,`, n)) {
				t.Fatalf("record %d is %q", n, r)
			}
			n++
		}
	}
}

func mustVerify(t *testing.T, o audit.VerifyOptions) *audit.Report {
	t.Helper()
	report, err := audit.Verify(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range report.Findings {
		t.Error(&report.Findings[i])
	}
	return report
}

func plainSegments(t *testing.T, dir string) []string {
	t.Helper()
	plain, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

// Compressed segments are read like others, by zstd programs too, and a crash at any moment of compressing one loses nothing.
func TestCompression(t *testing.T) {
	dir := t.TempDir()
	o := evident(dir)
	o.Compress, o.SegmentSize = true, 300_000 // several frames
	l := open(t, o)
	for len(mustSegments(t, dir)) < 3 {
		appendMany(t, l, 500)
	}
	waitFor(t, func() bool { return len(plainSegments(t, dir)) == 1 })
	all := l.Next()
	wantRecords(t, l, 0, all)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	mustVerify(t, audit.VerifyOptions{Dir: dir})

	packed := filepath.Join(dir, "audit-00000001.jsonl.zst")
	dec, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	plain, err := dec.DecodeAll(readFile(t, packed), nil)
	if err != nil || len(plain) < 300_000 || !bytes.HasPrefix(plain, []byte(`{"n":0,`)) {
		t.Fatalf("%d octets decompressed, %v", len(plain), err)
	}
	// After the renaming and before the removal; and within the writing of another.
	for path, b := range map[string][]byte{filepath.Join(dir, "audit-00000001.jsonl"): plain, filepath.Join(dir, "audit-00000002.jsonl.zst.part"): plain[:99]} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l = open(t, o)
	waitFor(t, func() bool { return len(plainSegments(t, dir)) == 1 })
	wantRecords(t, l, 0, all)
	if left, _ := filepath.Glob(filepath.Join(dir, "*.part")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	mustVerify(t, audit.VerifyOptions{Dir: dir})
}

// appendMany appends records in one go.
func appendMany(t *testing.T, l *audit.Log, n int) {
	t.Helper()
	var records [][]byte
	for i := range n {
		records = append(records, fmt.Appendf(nil, `{"n":%d,"pad":%q}`, l.Next()+uint64(i), strings.Repeat("z", i%200)))
	}
	if err := l.Append(records...); err != nil {
		t.Fatal(err)
	}
}

// Retention removes what is old and nobody needs, and what is left can be verified.
func TestRetention(t *testing.T) {
	dir := t.TempDir()
	l := open(t, evident(dir))
	for len(mustSegments(t, dir)) < 3 {
		appendRecords(t, l, 5)
	}
	_, early := newest(t, dir)
	for len(mustSegments(t, dir)) < 6 {
		appendRecords(t, l, 5)
	}
	before := map[string][]byte{}
	for _, s := range mustSegments(t, dir)[:2] {
		for _, path := range []string{s, strings.TrimSuffix(s, "jsonl") + "index"} {
			before[path] = readFile(t, path)
		}
	}
	if err := audit.Retire(l, time.Now().Add(-time.Hour), l.Next()); err != nil || l.First() != 0 {
		t.Fatalf("young records were removed: the first is %d, %v", l.First(), err)
	}
	if err := audit.Retire(l, time.Now().Add(time.Hour), 3); err != nil || l.First() != 0 {
		t.Fatalf("records were removed that somebody needs: the first is %d, %v", l.First(), err)
	}
	all := l.Next()
	if err := audit.Retire(l, time.Now().Add(time.Hour), all-1); err != nil {
		t.Fatal(err)
	}
	first := l.First()
	if left := mustSegments(t, dir); first == 0 || len(left) != 1 {
		t.Fatalf("the first record is %d, in %v", first, left)
	}
	if _, err := l.Read(first-1, 1); !errors.Is(err, audit.ErrGone) {
		t.Errorf("a record that was removed: %v", err)
	}
	wantRecords(t, l, first, all)
	appendRecords(t, l, 50)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, late := newest(t, dir)
	if report := mustVerify(t, audit.VerifyOptions{Dir: dir, Checkpoint: late}); !report.KeptFits || report.First != first || report.Next != all+50 {
		t.Errorf("verified %d to %d, want %d to %d", report.First, report.Next, first, all+50)
	}
	report, err := audit.Verify(t.Context(), audit.VerifyOptions{Dir: dir, Checkpoint: early})
	if err != nil || report.KeptFits || len(report.Findings) != 1 || !strings.Contains(report.Findings[0].Detail, "keep newer checkpoints") {
		t.Errorf("a checkpoint over removed records only: %+v, %v", report, err)
	}

	// A crash within the removal: it is finished by the next start.
	for path, b := range before {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "audit-00000001.jsonl")); err != nil {
		t.Fatal(err)
	}
	l = open(t, evident(dir))
	if left, _ := filepath.Glob(filepath.Join(dir, "audit-0000000[12].*")); len(left) > 0 || l.First() != first {
		t.Errorf("the first record is %d, want %d; left: %v", l.First(), first, left)
	}
	wantRecords(t, l, first, all+50)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	mustVerify(t, audit.VerifyOptions{Dir: dir, Checkpoint: late})
}

// A segment ends by its age too, also when no more records come.
func TestSegmentAge(t *testing.T) {
	for _, d := range []audit.Durability{audit.Written, audit.Synced} {
		o := evident(t.TempDir())
		o.Durability, o.SegmentAge, o.FlushEvery = d, 20*time.Millisecond, time.Millisecond
		l := open(t, o)
		appendRecords(t, l, 2)
		waitFor(t, func() bool { return len(mustSegments(t, o.Dir)) == 2 })
		appendRecords(t, l, 2)
		wantRecords(t, l, 0, 4)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		mustVerify(t, audit.VerifyOptions{Dir: o.Dir})
	}
}

// A log is verified while it is written, compressed and shortened, and nothing is found.
func TestVerifyBesideTheWriter(t *testing.T) {
	o := evident(t.TempDir())
	o.Compress, o.SegmentSize, o.Durability, o.FlushEvery = true, 3000, audit.Written, 2*time.Millisecond
	l := open(t, o)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(200 * time.Microsecond):
				}
				if err := l.Append(fmt.Appendf(nil, `{"i":%d,"pad":%q}`, i, strings.Repeat("p", i%100))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	var kept []byte
	for i := range 25 {
		if i%5 == 4 {
			if err := audit.Retire(l, time.Now().Add(time.Hour), l.Next()-100); err != nil {
				t.Error(err)
			}
			kept = nil
		}
		report := mustVerify(t, audit.VerifyOptions{Dir: o.Dir, Checkpoint: kept})
		if kept == nil {
			_, kept = newest(t, o.Dir)
		}
		if t.Failed() {
			t.Logf("%+v", report)
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	close(stop)
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	mustVerify(t, audit.VerifyOptions{Dir: o.Dir})
	if l.First() == 0 || l.Next() < 100 {
		t.Errorf("records %d to %d are too few to show anything", l.First(), l.Next())
	}
}

// A segment that cannot be compressed, because it is not what its index says, keeps no other one from it.
func TestSegmentThatCannotBeCompressed(t *testing.T) {
	o := evident(t.TempDir())
	l := open(t, o)
	fillSegments(t, l, o.Dir, 5, 5)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(o.Dir, "audit-00000001.jsonl")
	b := readFile(t, path)
	b[10] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	o.Compress = true
	l = open(t, o)
	waitFor(t, func() bool { return len(plainSegments(t, o.Dir)) == 2 })
	if s := l.Stats(); s.Postponed != 1 {
		t.Errorf("%d segments are postponed", s.Postponed)
	}
	if got := readFile(t, path); !bytes.Equal(got, b) {
		t.Error("the segment was touched")
	}
}
