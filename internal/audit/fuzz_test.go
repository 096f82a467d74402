package audit

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A head that is read is written the same.
func FuzzIndexHead(f *testing.F) {
	var tree frontier
	for i := range 12 {
		f.Add((&indexHead{number: i, begun: time.UnixMilli(1), tree: tree.clone()}).marshal(), i)
		tree.add(tlog.Hash{byte(i)})
	}
	f.Fuzz(func(t *testing.T, b []byte, number int) {
		h, err := readIndexHead(bytes.NewReader(b), number)
		if err != nil {
			return
		}
		if !bytes.HasPrefix(b, h.marshal()) {
			t.Errorf("%x is read as %+v", b, h)
		}
		h.tree.root()
		h.tree.add(tlog.Hash{})
	})
}

// Only what the key signed is a checkpoint, and exactly so.
func FuzzCheckpoint(f *testing.F) {
	s, err := newSigner(originPrefix+"log", ed25519.NewKeyFromSeed(make([]byte, 32)))
	if err != nil {
		f.Fatal(err)
	}
	v, err := note.NewVerifier(s.public)
	if err != nil {
		f.Fatal(err)
	}
	for i := range uint64(4) {
		text, err := s.sign(&Checkpoint{Origin: s.origin, Size: i, Number: i, Time: time.Unix(int64(i), 0), Closed: i == 3})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
		f.Add(append(text, text...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := newNoteReader(bytes.NewReader(b))
		for at := int64(0); ; at = r.at {
			if _, err := r.next(); err != nil {
				break
			}
			if r.at <= at || r.at > int64(len(b)) {
				t.Fatalf("a note from %d to %d of %d", at, r.at, len(b))
			}
		}
		body, _, _ := bytes.Cut(b, []byte("\n\n"))
		if c, err := parseBody(string(body) + "\n"); err == nil && c.body() != string(body)+"\n" {
			t.Errorf("%q is read as %+v", body, c)
		}
		c, err := openCheckpoint(b, v, true)
		if err != nil {
			return
		}
		if again, err := s.sign(c); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%q is taken for %q", b, again)
		}
	})
}

// What is not a compressed segment is refused and takes no memory; what was compressed comes back.
func FuzzPacked(f *testing.F) {
	for _, n := range []int{0, 1, packFrame, packFrame + 5} {
		var b bytes.Buffer
		if err := pack(&b, bytes.NewReader(bytes.Repeat([]byte("ab\n"), n)[:n])); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		frames, _, err := parsePackedEnd(bytes.NewReader(b), int64(len(b)))
		if err == nil {
			u, err := newUnpacker()
			if err != nil {
				t.Fatal(err)
			}
			defer u.close()
			for _, fr := range frames {
				if content, err := u.frame(bytes.NewReader(b), fr); err == nil && int64(len(content)) != fr.plain {
					t.Fatalf("%d octets of %d", len(content), fr.plain)
				}
			}
		}
		var packed bytes.Buffer
		if err := pack(&packed, bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
		frames, _, err = parsePackedEnd(bytes.NewReader(packed.Bytes()), int64(packed.Len()))
		if len(b) > 0 && (err != nil || frames[len(frames)-1].plainAt+frames[len(frames)-1].plain != int64(len(b))) {
			t.Errorf("%d octets packed: %v, %v", len(b), frames, err)
		}
	})
}

// Lines are those that a simple splitting gives, whatever their lengths and however they arrive.
func FuzzLines(f *testing.F) {
	f.Add([]byte("a\nbb\n\nc"), uint32(1))
	f.Add(bytes.Repeat([]byte("x"), 100), uint32(600_000))
	f.Add([]byte("a\n\x00\x00"), uint32(1))
	f.Fuzz(func(t *testing.T, b []byte, repeat uint32) {
		if n := uint32(len(b)); n > 0 {
			b = bytes.Repeat(b, int(min(repeat, 2*lineBuffer)/n)+1)
		}
		r := newLineReader(io.MultiReader(bytes.NewReader(b[:len(b)/3]), bytes.NewReader(b[len(b)/3:])))
		end := int64(0)
		for line := range bytes.Lines(b) {
			e, err := r.next()
			record, whole := bytes.CutSuffix(line, []byte("\n"))
			if !whole && len(bytes.Trim(record, "\x00")) == 0 && len(record) < lineBuffer {
				if err != io.EOF { //nolint:errorlint // it must be io.EOF itself
					t.Fatalf("what is written ahead: %+v, %v", e, err)
				}
				return
			}
			end += int64(len(line))
			if (err == nil) != whole || e.end != end || e.leaf != tlog.RecordHash(record) {
				t.Fatalf("a line of %d octets that ends at %d: %+v, %v", len(line), end, e, err)
			}
			if len(b) > 1000 && end > 3*lineBuffer {
				return
			}
		}
		if _, err := r.next(); err != io.EOF { //nolint:errorlint // it must be io.EOF itself
			t.Errorf("at the end: %v", err)
		}
	})
}

// Whatever an index says, reading gives the records as they are or says that the index is damaged.
func FuzzIndexEntries(f *testing.F) {
	records := [][]byte{[]byte(`{"n":0}`), []byte(`{"n":1,"more":"octets"}`), []byte(`{"n":2}`)}
	var lines, index []byte
	for _, r := range records {
		lines = append(append(lines, r...), '\n')
		index = appendEntry(index, entry{leafHash(r), int64(len(lines))})
	}
	f.Add(index, 0, 3)
	f.Add(index, 1, 1)
	f.Add(append(bytes.Repeat([]byte{0xff}, 40), index...), 1, 2)
	dir := f.TempDir()
	segment := filepath.Join(dir, "segment")
	if err := os.WriteFile(segment, lines, 0o600); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte, at, n int) {
		if at < 0 || n < 1 || at+n > 3 || at+n < at {
			return
		}
		path := filepath.Join(dir, "index")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		p := place{path: segment, index: path, at: uint64(at), n: uint64(n)}
		got, err := p.read()
		if err != nil && !errors.Is(err, errIndexEntry) && !errors.Is(err, errNotAsWritten) {
			t.Fatal(err)
		}
		if err != nil {
			if got, err = p.readLines(); err != nil {
				t.Fatal(err)
			}
		}
		// Fewer are right where an entry's end is too far away for one reading: the next one begins with it.
		if len(got) < 1 || len(got) > n || bytes.Equal(b, index) && len(got) < n {
			t.Fatalf("%d records, want 1 to %d", len(got), n)
		}
		for i := range got {
			if !bytes.Equal(got[i], records[at+i]) && bytes.Equal(b, index) {
				t.Errorf("record %d is %q", at+i, got[i])
			}
		}
	})
}
