package audit_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/keywright/keywright/internal/audit"
)

// A synced segment does not grow with each record. What is written ahead is no record to anybody: not to who reads the log while it is
// written, not after a kill, and not to who verifies what the kill left. It goes with the end of the segment.
func TestWrittenAhead(t *testing.T) {
	o := evident(t.TempDir())
	o.SegmentSize = 1 << 20
	l := open(t, o)
	appendRecords(t, l, 5)
	path := filepath.Join(o.Dir, "audit-00000001.jsonl")
	before := len(readFile(t, path))
	appendRecords(t, l, 20)
	octets := readFile(t, path)
	if len(octets) != before {
		t.Errorf("the file has grown from %d octets to %d", before, len(octets))
	}
	if tail := octets[bytes.LastIndexByte(octets, '\n')+1:]; len(tail) < 100_000 || len(bytes.Trim(tail, "\x00")) > 0 {
		t.Errorf("behind the records there are %d octets, and not zeros only", len(tail))
	}
	r, err := audit.OpenReader(o.Dir)
	if err != nil || r.Next() != 25 {
		t.Fatalf("a reader sees %d records, %v", r.Next(), err)
	}
	if records, err := r.Read(24, 10); err != nil || len(records) != 1 {
		t.Errorf("%q, %v", records, err)
	}
	for name, spoil := range map[string]func([]byte) []byte{
		"as it was":            func(b []byte) []byte { return b },
		"with half a record":   func(b []byte) []byte { copy(b[bytes.LastIndexByte(b, '\n')+1:], `{"half":`); return b },
		"with a hole":          func(b []byte) []byte { return append(b, "of a record\"}\n"...) },
		"with less of it":      func(b []byte) []byte { return b[:len(b)-1000] },
		"without any of it":    func(b []byte) []byte { return b[:bytes.LastIndexByte(b, '\n')+1] },
		"with text at its end": func(b []byte) []byte { b[len(b)-1] = 'x'; return b },
	} {
		t.Run(name, func(t *testing.T) {
			killed := o
			killed.Dir = t.TempDir()
			if err := os.CopyFS(killed.Dir, os.DirFS(o.Dir)); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(killed.Dir, "audit-00000001.jsonl")
			if err := os.WriteFile(path, spoil(bytes.Clone(octets)), 0o600); err != nil {
				t.Fatal(err)
			}
			if name != "with a hole" { // which is a record that nobody wrote, until the server has looked
				mustVerify(t, audit.VerifyOptions{Dir: killed.Dir})
			}
			again := open(t, killed)
			if again.Next() != 25 {
				t.Errorf("%d records", again.Next())
			}
			appendRecords(t, again, 3)
			wantRecords(t, again, 0, 28)
			if err := again.Close(); err != nil {
				t.Fatal(err)
			}
			mustVerify(t, audit.VerifyOptions{Dir: killed.Dir})
		})
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if octets := readFile(t, path); octets[len(octets)-1] != '\n' {
		t.Error("zeros are left behind the last record")
	}
}

// What is written ahead goes also when the next segment begins.
func TestNothingIsLeftOfWhatWasWrittenAhead(t *testing.T) {
	o := evident(t.TempDir())
	l := open(t, o)
	appendRecords(t, l, 200)
	all := mustSegments(t, o.Dir)
	if len(all) < 3 {
		t.Fatalf("%d segments", len(all))
	}
	for _, path := range all[:len(all)-1] {
		if octets := readFile(t, path); bytes.Contains(octets, []byte{0}) {
			t.Errorf("%s has zeros among its %d octets", filepath.Base(path), len(octets))
		}
	}
}
