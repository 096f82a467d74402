package audit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sort"
)

// Source gives records by sequence number: 0 is the first record that was ever appended, and there are no gaps. It is safe
// for concurrent use, while records are appended too. *Log and *Memory are Sources.
type Source interface {
	// First returns the number of the oldest record that is still there.
	First() uint64
	// Next returns the number that the next record gets. All below are as durable as the log's Durability says.
	Next() uint64
	// Read returns up to most records from number from on, and fewer at the end of a segment or where they are many octets; nil
	// at the end of the log. The slices belong to the caller. The error is ErrGone below First.
	Read(from uint64, most int) ([][]byte, error)
	// Wait returns nil when Next is above from, the error of ctx when that ends before, and ErrClosed when the log is closed
	// and no further record will come.
	Wait(ctx context.Context, from uint64) error
}

// ErrGone is returned by Read for records that retention has removed.
var ErrGone = errors.New("the audit record is not kept any more")

// readOctets bounds what one Read returns, but for a single record that is larger.
const readOctets = 1 << 20

// bell wakes whoever waits for records. Its methods are called with the lock of its log.
type bell struct{ waiting chan struct{} }

// listen returns a channel that is closed by the next ring.
func (b *bell) listen() <-chan struct{} {
	if b.waiting == nil {
		b.waiting = make(chan struct{})
	}
	return b.waiting
}

func (b *bell) ring() {
	if b.waiting != nil {
		close(b.waiting)
		b.waiting = nil
	}
}

// span says where the records of a segment end.
type span struct {
	path  string
	first uint64  // number of its first record
	ends  []int64 // octet offset behind each record
}

// scan finds the records of a segment that was there before.
func scan(path string, first uint64) (*span, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	s := &span{path: path, first: first}
	r := bufio.NewReaderSize(f, 1<<20)
	for at := int64(0); ; {
		part, err := r.ReadSlice('\n')
		at += int64(len(part))
		switch {
		case err == nil:
			s.ends = append(s.ends, at)
		case errors.Is(err, io.EOF):
			return s, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// published notes records that the segment has got, and tells whoever waits. The caller holds mu.
func (l *Log) published(before int64, sizes []int) {
	s := l.spans[len(l.spans)-1]
	for _, n := range sizes {
		before += int64(n)
		s.ends = append(s.ends, before)
	}
	l.next += uint64(len(sizes))
	l.bell.ring()
}

// First returns the number of the oldest record that is still there.
func (l *Log) First() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.spans[0].first
}

// Next returns the number that the next record gets: all below were acknowledged.
func (l *Log) Next() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next
}

// Read implements Source.
func (l *Log) Read(from uint64, most int) ([][]byte, error) {
	l.mu.Lock()
	if from < l.spans[0].first {
		l.mu.Unlock()
		return nil, ErrGone
	}
	if from >= l.next || most <= 0 {
		l.mu.Unlock()
		return nil, nil
	}
	i := sort.Search(len(l.spans), func(i int) bool { return l.spans[i].first > from }) - 1
	s := l.spans[i]
	at := int(from - s.first)
	begin := int64(0)
	if at > 0 {
		begin = s.ends[at-1]
	}
	to := at + 1
	for to < len(s.ends) && to-at < most && s.ends[to]-begin <= readOctets {
		to++
	}
	ends := slices.Clone(s.ends[at:to])
	l.mu.Unlock()
	f, err := os.Open(s.path)
	if err != nil {
		return nil, fmt.Errorf("reading audit records: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	buf := make([]byte, ends[len(ends)-1]-begin)
	if _, err := f.ReadAt(buf, begin); err != nil {
		return nil, fmt.Errorf("reading audit records: %w", err)
	}
	return cut(buf, begin, ends), nil
}

// cut returns the lines of buf, which begins at an offset of its segment, without their ends.
func cut(buf []byte, begin int64, ends []int64) [][]byte {
	records := make([][]byte, len(ends))
	start := int64(0)
	for i, e := range ends {
		records[i] = buf[start : e-begin-1 : e-begin-1]
		start = e - begin
	}
	return records
}

// Wait implements Source.
func (l *Log) Wait(ctx context.Context, from uint64) error {
	for {
		l.mu.Lock()
		ready, closed, rung := l.next > from, l.closed, l.bell.listen()
		l.mu.Unlock()
		switch {
		case ready:
			return nil
		case closed:
			return ErrClosed
		}
		select {
		case <-rung:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
