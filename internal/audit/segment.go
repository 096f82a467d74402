package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// The names of a segment's files.
const (
	plainSuffix  = ".jsonl"
	packedSuffix = ".jsonl.zst"
	indexSuffix  = ".index"
	tornSuffix   = ".torn" // of what was cut off at a start, with a number behind
	partSuffix   = ".part" // of a file that is being written and will have another name
)

func segmentPath(dir string, number int, suffix string) string {
	return filepath.Join(dir, fmt.Sprintf("audit-%08d%s", number, suffix))
}

// segment is one file of records, and where its records are. The lock of its log guards it.
type segment struct {
	dir      string
	number   int
	first    uint64 // number of its first record
	count    uint64 // how many records it has
	begun    time.Time
	packed   bool
	headSize int64 // octets of its index before the entries
	indexed  uint64
	lastEnd  int64   // offset behind the last record that is in the index
	tail     []entry // of the records that are not in the index yet
	complete bool    // nothing is added any more, and all of it is in the index, on disk

	packAt    time.Time // it could not be compressed, and is not tried again before
	packAfter time.Duration
}

func (s *segment) path() string {
	if s.packed {
		return segmentPath(s.dir, s.number, packedSuffix)
	}
	return segmentPath(s.dir, s.number, plainSuffix)
}

func (s *segment) indexPath() string { return segmentPath(s.dir, s.number, indexSuffix) }

// place is where the records lie that one Read returns.
type place struct {
	path     string
	packed   bool
	index    string // "": entries says it
	headSize int64
	at, n    uint64 // records of the segment
	before   int64
	entries  []entry
}

// locate finds up to most records from one on. Reading the index is left to who has no lock.
func (s *segment) locate(from uint64, most int) place {
	at := from - s.first
	p := place{path: s.path(), packed: s.packed, at: at, n: min(uint64(most), s.count-at)}
	if at < s.indexed {
		p.index, p.headSize, p.n = s.indexPath(), s.headSize, min(p.n, s.indexed-at)
		return p
	}
	at -= s.indexed
	p.before = s.lastEnd
	if at > 0 {
		p.before = s.tail[at-1].end
	}
	p.entries = append(p.entries, s.tail[at:at+p.n]...)
	return p
}

// errNotAsWritten says that records do not hash to what their index says.
var errNotAsWritten = errors.New("records are not what the index says")

// read returns the records of a place, fewer if they are many octets. The error is errIndexEntry or errNotAsWritten if the records
// may be elsewhere than the index says.
func (p *place) read() (records [][]byte, err error) {
	if p.index != "" {
		if p.before, p.entries, err = readEntries(p.index, p.headSize, p.at, p.n); err != nil {
			return nil, err
		}
	}
	n := 1
	for n < len(p.entries) && p.entries[n].end-p.before <= readOctets {
		n++
	}
	p.entries = p.entries[:n]
	buf, err := readAt(p.path, p.packed, p.before, p.entries[n-1].end)
	if err != nil {
		return nil, err
	}
	start := int64(0)
	for _, e := range p.entries {
		end := e.end - p.before
		record := buf[start : end-1 : end-1]
		if (p.index != "" || e.leaf != (tlog.Hash{})) && leafHash(record) != e.leaf {
			return nil, errNotAsWritten
		}
		records = append(records, record)
		start = end
	}
	return records, nil
}

// readLines returns the records of a place without its index: by reading the segment.
func (p *place) readLines() (records [][]byte, err error) {
	at, octets := uint64(0), 0
	err = eachLine(p.path, p.packed, func(_ entry, line []byte) error {
		if at >= p.at {
			records = append(records, bytes.Clone(line))
			octets += len(line)
		}
		if at++; uint64(len(records)) == p.n || octets > readOctets {
			return io.EOF
		}
		return nil
	})
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return nil, err
	case len(records) == 0:
		return nil, fmt.Errorf("%s: %w", p.path, io.ErrUnexpectedEOF)
	}
	return records, nil
}

// readAt returns the octets of a segment from an offset to another one, which may be anything.
func readAt(path string, packed bool, at, to int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if packed {
		return readPacked(f, info.Size(), at, to)
	}
	if to > info.Size() {
		return nil, errIndexEntry
	}
	buf := make([]byte, to-at)
	_, err = f.ReadAt(buf, at)
	return buf, err
}

// files says which files of a segment are there.
type files struct {
	number               int
	plain, packed, index bool
}

func (f files) path(dir string) string {
	if f.plain {
		return segmentPath(dir, f.number, plainSuffix)
	}
	return segmentPath(dir, f.number, packedSuffix)
}

// listFiles returns what is in the directory, in the order of the numbers.
func listFiles(dir string) ([]files, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("listing audit segments: %w", err)
	}
	byNumber := map[int]*files{}
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), "audit-")
		digits, suffix, _ := strings.Cut(rest, ".")
		n, err := strconv.Atoi(digits)
		if !ok || err != nil || n < 1 || segmentPath("", n, "."+suffix) != e.Name() {
			continue
		}
		f := byNumber[n]
		if f == nil {
			f = &files{number: n}
		}
		switch "." + suffix {
		case plainSuffix:
			f.plain = true
		case packedSuffix:
			f.packed = true
		case indexSuffix:
			f.index = true
		default:
			continue
		}
		byNumber[n] = f
	}
	all := make([]files, 0, len(byNumber))
	for _, f := range byNumber {
		all = append(all, *f)
	}
	slices.SortFunc(all, func(a, b files) int { return a.number - b.number })
	return all, nil
}

// listFile returns which files of a segment are there.
func listFile(dir string, number int) (files, error) {
	f := files{number: number}
	for suffix, there := range map[string]*bool{plainSuffix: &f.plain, packedSuffix: &f.packed, indexSuffix: &f.index} {
		_, err := os.Stat(segmentPath(dir, number, suffix))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return f, err
		}
		*there = err == nil
	}
	return f, nil
}

// Segments lists the log's segment files in order, oldest first, with dir in front. Those whose name ends with .zst are compressed.
func Segments(dir string) ([]string, error) {
	all, err := listFiles(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var paths []string
	for _, f := range all {
		if f.plain || f.packed {
			paths = append(paths, f.path(dir))
		}
	}
	return paths, err
}

// writeSynced writes a file that is on disk then.
func writeSynced(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// writeFile writes a file that is on disk, whole, when it has its name.
func writeFile(path string, content []byte) error {
	err := writeSynced(path+partSuffix, content)
	if err == nil {
		err = os.Rename(path+partSuffix, path)
	}
	if err == nil {
		return syncDir(filepath.Dir(path))
	}
	return errors.Join(err, removeIfThere(path+partSuffix))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
