package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sync"
	"time"
)

// Reader is a Source over a log's directory that takes no lock and changes nothing: for people who look into a log, also
// while a server writes to it. It sees records before the server has acknowledged them. It is safe for concurrent use.
type Reader struct {
	dir string

	mu       sync.Mutex
	segments []*readSegment
}

// readSegment is a segment as far as it was read.
type readSegment struct {
	files
	first uint64
	ends  []int64 // offset behind each record
	whole bool    // there are no more
}

// OpenReader opens the log in a directory. All of it is read once, to find where its records are.
func OpenReader(dir string) (*Reader, error) {
	r := &Reader{dir: dir}
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("reading the audit log: %w", err)
	}
	return r, r.refresh()
}

// refresh takes in what the log has got.
func (r *Reader) refresh() error {
	all, err := listFiles(r.dir)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range all {
		if !f.plain && !f.packed {
			continue
		}
		n := len(r.segments)
		if n == 0 || r.segments[n-1].number < f.number {
			s := &readSegment{files: f, first: r.next()}
			if n == 0 {
				if s.first, err = firstOf(r.dir, f); err != nil {
					return fmt.Errorf("reading the audit log: %w", err)
				}
			}
			r.segments = append(r.segments, s)
			n++
		}
		s := r.segments[n-1]
		if s.number != f.number {
			continue
		}
		if s.files = f; f.plain || !s.whole {
			err := s.grow(r.dir)
			if errors.Is(err, os.ErrNotExist) { // compressed in between: the next segment's numbers depend on it
				if s.files, err = listFile(r.dir, s.number); err == nil && (s.plain || s.packed) {
					err = s.grow(r.dir)
				}
			}
			if err != nil {
				return fmt.Errorf("reading the audit log: %w", err)
			}
		}
	}
	return nil
}

// firstOf returns the number of the first record of the oldest segment that is there.
func firstOf(dir string, f files) (uint64, error) {
	if !f.index {
		return 0, nil
	}
	index, err := os.Open(segmentPath(dir, f.number, indexSuffix))
	if err != nil {
		return 0, err
	}
	defer func() { _ = index.Close() }() // it was only read
	head, err := readIndexHead(index, f.number)
	if err != nil {
		return 0, err
	}
	return head.tree.size, nil
}

// grow finds the records behind those that are known.
func (s *readSegment) grow(dir string) error {
	if !s.plain {
		skip := len(s.ends) // of what was read before it was compressed
		err := eachLine(s.path(dir), true, func(e entry, _ []byte) error {
			if skip--; skip < 0 {
				s.ends = append(s.ends, e.end)
			}
			return nil
		})
		s.whole = err == nil
		return err
	}
	file, err := os.Open(s.path(dir))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // it was only read
	from := int64(0)
	if n := len(s.ends); n > 0 {
		from = s.ends[n-1]
	}
	for lines := newLineReader(io.NewSectionReader(file, from, math.MaxInt64-from)); ; {
		e, err := lines.next()
		if errors.Is(err, io.EOF) || errors.Is(err, errNoLineEnd) { // a record that is being written
			return nil
		}
		if err != nil {
			return err
		}
		s.ends = append(s.ends, from+e.end)
	}
}

// next is Next for who holds mu.
func (r *Reader) next() uint64 {
	if len(r.segments) == 0 {
		return 0
	}
	s := r.segments[len(r.segments)-1]
	return s.first + uint64(len(s.ends))
}

// First implements Source.
func (r *Reader) First() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.segments) == 0 {
		return 0
	}
	return r.segments[0].first
}

// Next implements Source, as of when the Reader was opened or waited for records.
func (r *Reader) Next() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next()
}

// Read implements Source.
func (r *Reader) Read(from uint64, most int) ([][]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.segments) > 0 && from < r.segments[0].first {
		return nil, ErrGone
	}
	for _, s := range r.segments {
		if from-s.first >= uint64(len(s.ends)) || most <= 0 {
			continue
		}
		at := from - s.first
		p := place{path: s.path(r.dir), packed: !s.plain}
		for _, end := range s.ends[at:min(uint64(len(s.ends)), at+uint64(min(most, maxRead)))] {
			p.entries = append(p.entries, entry{end: end})
		}
		if at > 0 {
			p.before = s.ends[at-1]
		}
		records, err := p.read()
		if errors.Is(err, os.ErrNotExist) && s.plain { // compressed since
			s.plain, p.path, p.packed = false, segmentPath(r.dir, s.number, packedSuffix), true
			records, err = p.read()
		}
		if errors.Is(err, os.ErrNotExist) {
			return nil, ErrGone
		}
		if err != nil {
			return nil, fmt.Errorf("reading audit records: %w", err)
		}
		return records, nil
	}
	return nil, nil
}

// lookEvery is how often a Reader that waits looks at the directory.
const lookEvery = 250 * time.Millisecond

// Wait implements Source.
func (r *Reader) Wait(ctx context.Context, from uint64) error {
	for r.Next() <= from {
		if err := r.refresh(); err != nil {
			return err
		}
		if r.Next() > from {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookEvery):
		}
	}
	return nil
}
