package audit_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/audit"
)

// tampers returns how many changes to try: KEYWRIGHT_TAMPER, or the default.
func tampers(t *testing.T, otherwise int) int {
	text := os.Getenv("KEYWRIGHT_TAMPER")
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// original is a log as it was written, in memory.
type original struct {
	files  map[string][]byte
	names  []string
	kept   []byte // its last checkpoint
	key    string
	bases  map[string]uint64   // number of the first record of each segment, by the name of the index and of the segment
	lines  map[string][][]byte // of each segment that is not compressed, and of checkpoints: each with what ends it
	packed bool
}

// write makes a log of several segments and many checkpoints.
func write(t *testing.T, compress bool, retention bool) *original {
	t.Helper()
	dir := t.TempDir()
	o := evident(dir)
	o.SegmentSize, o.CheckpointEvery = 4000, 10*time.Millisecond
	o.Compress = compress
	l := open(t, o)
	for len(mustSegments(t, dir)) < 7 {
		appendRecords(t, l, 1+rand.IntN(8))
		time.Sleep(2 * time.Millisecond)
	}
	appendRecords(t, l, 5)
	if retention {
		if err := audit.Retire(l, time.Now().Add(time.Hour), l.Next()/3); err != nil {
			t.Fatal(err)
		}
	}
	if compress {
		waitFor(t, func() bool {
			plain, _ := filepath.Glob(filepath.Join(dir, "*.jsonl"))
			return len(plain) == 1
		})
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	out := &original{files: map[string][]byte{}, bases: map[string]uint64{}, lines: map[string][][]byte{}, packed: compress}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	first := l.First()
	for _, e := range entries {
		b := readFile(t, dir, e.Name())
		out.files[e.Name()] = b
		out.names = append(out.names, e.Name())
		switch filepath.Ext(e.Name()) {
		case ".index":
			stem := strings.TrimSuffix(e.Name(), ".index")
			head := audit.IndexHeadSize(b)
			for _, n := range []string{".index", ".jsonl", ".jsonl.zst"} {
				out.bases[stem+n] = first
			}
			first += uint64(len(b)-head) / 40
		case ".jsonl":
			out.lines[e.Name()] = slices.Collect(bytes.Lines(b))
		}
	}
	for _, n := range bytes.SplitAfter(out.files["checkpoints"], []byte("=\n\n")) {
		if len(n) > 0 {
			out.lines["checkpoints"] = append(out.lines["checkpoints"], n)
		}
	}
	_, out.kept = newest(t, dir)
	out.key = string(out.files["verifier.pub"])
	if c, _ := newest(t, dir); c.Size != first {
		t.Fatalf("the last checkpoint covers %d of %d records", c.Size, first)
	}
	return out
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not happen in time")
		}
	}
}

// put writes the files to a directory, but for those that were changed.
func (o *original) put(t *testing.T, dir string, changed map[string][]byte) {
	t.Helper()
	for name, b := range o.files {
		if c, ok := changed[name]; ok {
			b = c
		}
		path := filepath.Join(dir, name)
		if b == nil {
			if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			continue
		}
		if _, ok := changed[name]; !ok {
			if info, err := os.Stat(path); err == nil && info.Size() == int64(len(b)) {
				continue // it is as it was: put is called with the changes before
			}
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// change is one change, and where it must be found: in one of the files, and there at one of the records or octets.
type change struct {
	what    string
	file    string
	content []byte // nil: the file is removed
	at      func(f audit.Finding) bool
}

// isIn reports whether a finding names the file. Of a segment that is gone nobody knows whether it was compressed.
func (c *change) isIn(file string) bool {
	return file == c.file || c.content == nil && file+".zst" == c.file
}

func records(numbers ...uint64) func(audit.Finding) bool {
	return func(f audit.Finding) bool { return slices.Contains(numbers, f.Record) }
}

// recordAt returns the number of the record that has an octet.
func (o *original) recordAt(file string, at int) uint64 {
	n := o.bases[file]
	for _, line := range o.lines[file] {
		if at -= len(line); at < 0 {
			break
		}
		n++
	}
	return n
}

// tamper changes one file at random.
func (o *original) tamper(r *rand.Rand) change {
	file := o.names[r.IntN(len(o.names))]
	for len(o.files[file]) == 0 {
		file = o.names[r.IntN(len(o.names))]
	}
	b := bytes.Clone(o.files[file])
	c := change{file: file, at: func(audit.Finding) bool { return true }}
	switch r.IntN(8) {
	case 0:
		c.what = "removed"
		return c
	case 1, 2, 3:
		at, bit := r.IntN(len(b)), r.IntN(8)
		b[at] ^= 1 << bit
		c.what, c.content, c.at = fmt.Sprintf("bit %d of octet %d flipped", bit, at), b, o.about(file, at)
		return c
	case 4:
		at := r.IntN(len(b))
		c.what, c.content, c.at = fmt.Sprintf("cut off at octet %d", at), b[:at], o.about(file, at)
		return c
	}
	pieces, base := o.pieces(file)
	if len(pieces) < 2 {
		at := r.IntN(len(b))
		c.what, c.content, c.at = fmt.Sprintf("octet %d twice", at), slices.Insert(b, at, b[at]), o.about(file, at)
		return c
	}
	head := b[:len(b)-len(bytes.Join(pieces, nil))]
	i, j := r.IntN(len(pieces)), r.IntN(len(pieces)-1)
	if j >= i {
		j++
	}
	var at func(audit.Finding) bool
	pieces = slices.Clone(pieces)
	switch r.IntN(3) {
	case 0:
		c.what, at = fmt.Sprintf("piece %d of %d dropped", i, len(pieces)), records(base+uint64(i))
		pieces = slices.Delete(pieces, i, i+1)
	case 1:
		c.what, at = fmt.Sprintf("pieces %d and %d of %d swapped", i, j, len(pieces)), records(base+uint64(i), base+uint64(j))
		pieces[i], pieces[j] = pieces[j], pieces[i]
	default:
		c.what = fmt.Sprintf("piece %d of %d again before %d", i, len(pieces), j)
		at = records(base + uint64(j))
		pieces = slices.Insert(pieces, j, pieces[i])
	}
	if c.content = append(bytes.Clone(head), bytes.Join(pieces, nil)...); file != "checkpoints" {
		c.at = at
	}
	return c
}

// pieces returns the records, entries or checkpoints of a file, and the number of the first.
func (o *original) pieces(file string) ([][]byte, uint64) {
	if filepath.Ext(file) == ".index" {
		b := o.files[file]
		return slices.Collect(slices.Chunk(b[audit.IndexHeadSize(b):], 40)), o.bases[file]
	}
	return o.lines[file], o.bases[file]
}

// about says which findings are about an octet of a file.
func (o *original) about(file string, at int) func(audit.Finding) bool {
	switch filepath.Ext(file) {
	case ".index":
		head := audit.IndexHeadSize(o.files[file])
		if at < head {
			return records(o.bases[file])
		}
		return records(o.bases[file] + uint64(at-head)/40)
	case ".jsonl":
		n := o.recordAt(file, at)
		return records(n)
	case "":
		from := 0
		for _, n := range o.lines[file] {
			if at < from+len(n) {
				break
			}
			from += len(n)
		}
		// A flip that breaks the end of a checkpoint may be seen as the damage of the next one, too.
		return func(f audit.Finding) bool {
			return f.Offset == int64(from) || f.Kind == audit.CutOff || f.Kind == audit.Removed
		}
	}
	return func(audit.Finding) bool { return true }
}

// Every change of a log is found, and found where it was made.
func TestTampering(t *testing.T) {
	logs := []*original{write(t, false, false), write(t, true, false), write(t, false, true), write(t, true, true)}
	r := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	dirs := make([]string, len(logs))
	for i, o := range logs {
		dirs[i] = t.TempDir()
		o.put(t, dirs[i], nil)
		if report := verify(t, dirs[i], o); len(report.Findings) > 0 {
			t.Fatalf("nothing was changed: %v", &report.Findings[0])
		}
	}
	n := 500
	if testing.Short() {
		n = 50
	}
	n = tampers(t, n)
	for i := range n {
		o, dir := logs[i%len(logs)], dirs[i%len(logs)]
		c := o.tamper(r)
		if c.content != nil && bytes.Equal(c.content, o.files[c.file]) {
			continue
		}
		o.put(t, dir, map[string][]byte{c.file: c.content})
		report := verify(t, dir, o)
		if !slices.ContainsFunc(report.Findings, func(f audit.Finding) bool { return c.isIn(f.File) && c.at(f) }) {
			t.Errorf("%s: %s: found", c.file, c.what)
			for _, f := range report.Findings {
				t.Errorf("\t%v", &f)
			}
		}
		o.put(t, dir, map[string][]byte{c.file: o.files[c.file]})
		if t.Failed() {
			break
		}
	}
	t.Logf("%d changes", n)
}

func verify(t *testing.T, dir string, o *original) *audit.Report {
	t.Helper()
	report, err := audit.Verify(t.Context(), audit.VerifyOptions{Dir: dir, Checkpoint: o.kept, Key: o.key})
	if err != nil {
		t.Fatal(err)
	}
	return report
}
