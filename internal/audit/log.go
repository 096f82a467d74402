package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Durability says what Append waits for.
type Durability uint8

// The durabilities. The zero value is invalid.
const (
	// Written: the record has been handed to the operating system, so it survives the end of the process but not a
	// power cut; the log is flushed to disk within Options.FlushEvery.
	Written Durability = iota + 1
	// Synced: the record is on disk. Records that arrive while a flush runs share the next one (group commit).
	Synced
)

// ParseDurability reads the words of the configuration, "written" and "synced".
func ParseDurability(s string) (Durability, error) {
	switch s {
	case "written":
		return Written, nil
	case "synced":
		return Synced, nil
	}
	return 0, fmt.Errorf("audit durability %q: want written or synced", s)
}

// Options describe a Log.
type Options struct {
	Dir         string        // where the segments lie; created with mode 0700 if it is missing
	Durability  Durability    // required
	FlushEvery  time.Duration // Written: the longest time a record waits for the disk; zero means 1 s
	SegmentSize int64         // a segment that has grown past this many octets is closed; zero means 64 MiB
}

// Log is the append log: segments audit-00000001.jsonl, audit-00000002.jsonl, …, one record a line, in the order in which
// they were acknowledged. It is safe for concurrent use.
type Log struct {
	opts Options

	mu      sync.Mutex
	file    *os.File
	number  int
	size    int64 // octets of whole records in the segment
	broken  bool  // the segment may have octets of a failed write behind size
	dirty   bool  // Written: something waits for the disk
	suspect bool  // Written: a flush failed, so that the segment may miss records; it is left behind
	room    int64 // the disk has blocks for the segment up to this size
	closed  bool
	lock    *os.File // held on the directory
	line    []byte   // Written: the record with its line end, reused
	pending *batch   // Synced: what the next flush takes
	wake    chan struct{}
	done    chan struct{}
	next    uint64  // number of the next record
	spans   []*span // of all segments, oldest first
	sizes   []int   // Written: octets of each record of an Append, reused
	bell    bell
}

// batch is a set of records that one flush takes.
type batch struct {
	buf   []byte
	sizes []int         // octets of each record
	done  chan struct{} // closed when err is final
	err   error
}

// The errors that callers tell apart.
var (
	// ErrClosed is returned by Append and Reserve after Close.
	ErrClosed = errors.New("the audit log is closed")
	// ErrLocked is returned by Open while another Log, of this or another process, writes to the directory.
	ErrLocked = errors.New("the audit directory is in use by another process")
)

const segmentPattern = "audit-%08d.jsonl"

// Open opens the log for appending. A last line that was cut off by a crash is removed: its call was never answered.
func Open(o Options) (*Log, error) {
	if o.Durability != Written && o.Durability != Synced {
		return nil, errors.New("opening audit log: no durability given")
	}
	if o.FlushEvery == 0 {
		o.FlushEvery = time.Second
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = 64 << 20
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening audit log: %w", err)
	}
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("opening audit log: %w", err)
	}
	l, err := open(o, lock)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	go l.flusher()
	return l, nil
}

// lockDir keeps two logs from writing over each other. The lock goes with the process.
func lockDir(dir string) (*os.File, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func open(o Options, lock *os.File) (*Log, error) {
	segments, err := Segments(o.Dir)
	if err != nil {
		return nil, err
	}
	l := &Log{opts: o, lock: lock, number: 1, pending: newBatch(), wake: make(chan struct{}, 1), done: make(chan struct{})}
	for _, path := range segments {
		s, err := scan(path, l.next)
		if err != nil {
			return nil, fmt.Errorf("opening audit log: %w", err)
		}
		l.spans = append(l.spans, s)
		l.next += uint64(len(s.ends))
	}
	if len(segments) > 0 {
		last := segments[len(segments)-1]
		if l.number, err = segmentNumber(last); err != nil {
			return nil, err
		}
	}
	return l, l.openSegment()
}

// Segments lists the log's segment files in order, oldest first, with dir in front.
func Segments(dir string) ([]string, error) {
	names, err := filepath.Glob(filepath.Join(dir, "audit-*.jsonl"))
	if err != nil {
		return nil, fmt.Errorf("listing audit segments: %w", err)
	}
	slices.Sort(names)
	return names, nil
}

func segmentNumber(path string) (int, error) {
	text := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "audit-"), ".jsonl")
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("opening audit log: %s is no segment name", filepath.Base(path))
	}
	return n, nil
}

func newBatch() *batch { return &batch{done: make(chan struct{})} }

// openSegment opens the segment with the current number, new or existing, and finds its last whole record.
func (l *Log) openSegment() error {
	path := filepath.Join(l.opts.Dir, fmt.Sprintf(segmentPattern, l.number))
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("opening audit segment: %w", err)
	}
	size, torn, err := wholeRecords(file)
	if err == nil && torn > 0 {
		slog.Warn("the audit log ended within a record; the call had no answer and the rest is removed", "segment", path, "octets", torn)
		err = file.Truncate(size)
	}
	if err == nil {
		_, err = file.Seek(size, io.SeekStart)
	}
	if err == nil {
		err = syncDir(l.opts.Dir)
	}
	if err != nil {
		_ = file.Close()
		return fmt.Errorf("opening audit segment: %w", err)
	}
	l.file, l.size, l.room, l.broken, l.suspect = file, size, 0, false, false
	if n := len(l.spans); n == 0 || l.spans[n-1].path != path {
		l.spans = append(l.spans, &span{path: path, first: l.next})
	}
	return nil
}

// wholeRecords returns how many octets of the file are whole lines and how many follow behind.
func wholeRecords(file *os.File) (size, torn int64, err error) {
	info, err := file.Stat()
	if err != nil {
		return 0, 0, err
	}
	end := info.Size()
	buf := make([]byte, 64<<10)
	for at := end; at > 0; {
		n := min(at, int64(len(buf)))
		if _, err := file.ReadAt(buf[:n], at-n); err != nil {
			return 0, 0, err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			size = at - n + int64(i) + 1
			return size, end - size, nil
		}
		at -= n
	}
	return 0, end, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Append adds records, JSON objects without line breaks, all of them or none, and returns when they are as durable as the
// log's Durability says. On an error nothing of them stays in the log, and the call they speak of must not be answered. A
// later Append tries again, so that a disk with room again is enough to recover.
func (l *Log) Append(records ...[]byte) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	if l.opts.Durability == Written {
		defer l.mu.Unlock()
		l.line, l.sizes = appendLines(l.line[:0], l.sizes[:0], records)
		before, err := l.write(l.line)
		if err != nil {
			return err
		}
		l.published(before, l.sizes)
		l.dirty = true
		return nil
	}
	b := l.pending
	b.buf, b.sizes = appendLines(b.buf, b.sizes, records)
	select { // under mu, so that Close cannot close the channel in between
	case l.wake <- struct{}{}:
	default: // the flusher has been called already
	}
	l.mu.Unlock()
	<-b.done
	return b.err
}

func appendLines(b []byte, sizes []int, records [][]byte) ([]byte, []int) {
	for _, r := range records {
		b = append(append(b, r...), '\n')
		sizes = append(sizes, len(r)+1)
	}
	return b, sizes
}

// How much room Reserve sees to: more than the records of all calls that can be under way at once, and how much it takes
// from the disk at a time.
const (
	reserve      = 1 << 20
	reserveChunk = 4 << 20
)

// Reserve sees to it that the disk has room for the records of calls that are under way. Whoever is about to change
// something calls it before, because the record comes after: so a full disk refuses a change and cannot hide it.
func (l *Log) Reserve() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	if err := l.mend(); err != nil {
		return err
	}
	if l.size+reserve <= l.room {
		return nil
	}
	const keepSize = 1 // FALLOC_FL_KEEP_SIZE of fallocate(2)
	switch err := syscall.Fallocate(int(l.file.Fd()), keepSize, l.size, reserveChunk); {
	case errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.ENOSYS):
		l.room = math.MaxInt64 // a file system without reservations: Append alone can tell
	case err != nil:
		return fmt.Errorf("reserving room for audit records: %w", err)
	default:
		l.room = l.size + reserveChunk
	}
	return nil
}

// mend makes the segment writable again after a failure: it takes back what a failed write left, and leaves a segment
// behind whose records may not have reached the disk. The caller holds mu.
func (l *Log) mend() error {
	if l.broken {
		if err := l.file.Truncate(l.size); err != nil {
			return fmt.Errorf("mending audit segment: %w", err)
		}
		if _, err := l.file.Seek(l.size, io.SeekStart); err != nil {
			return fmt.Errorf("mending audit segment: %w", err)
		}
		l.broken, l.room = false, 0
	}
	if l.suspect || l.size >= l.opts.SegmentSize {
		return l.nextSegment()
	}
	return nil
}

// write appends octets to the segment and returns the size it had before. The caller holds mu.
func (l *Log) write(p []byte) (before int64, err error) {
	if err := l.mend(); err != nil {
		return 0, err
	}
	before = l.size
	if _, err := l.file.Write(p); err != nil {
		l.broken = true
		return before, fmt.Errorf("writing audit record: %w", err)
	}
	l.size += int64(len(p))
	return before, nil
}

// nextSegment opens the next segment before it closes the current one, so that a failure leaves the log usable.
func (l *Log) nextSegment() error {
	if err := l.file.Sync(); err != nil {
		return fmt.Errorf("closing audit segment: %w", err)
	}
	if err := l.file.Truncate(l.size); err != nil { // what was reserved and not used
		return fmt.Errorf("closing audit segment: %w", err)
	}
	full := l.file
	l.number++
	if err := l.openSegment(); err != nil {
		l.number--
		return err
	}
	if err := full.Close(); err != nil {
		slog.Warn("closing a full audit segment", "err", err) // it is synced: nothing is lost
	}
	return nil
}

// flusher is the log's one goroutine: it writes and syncs batches (Synced) or flushes what was written (Written).
func (l *Log) flusher() {
	defer close(l.done)
	if l.opts.Durability == Written {
		tick := time.NewTicker(l.opts.FlushEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if err := l.flushWritten(); err != nil {
					slog.Error("the audit log could not be flushed to disk", "err", err)
				}
			case <-l.wake: // Close
				return
			}
		}
	}
	for range l.wake {
		l.flushBatch()
	}
}

func (l *Log) flushWritten() error {
	l.mu.Lock()
	file, dirty := l.file, l.dirty
	l.dirty = false
	l.mu.Unlock()
	if !dirty {
		return nil
	}
	// Without the lock, so that records are written meanwhile. A segment that was closed in between was synced then.
	if err := file.Sync(); err != nil && !errors.Is(err, os.ErrClosed) {
		// The kernel may have dropped what it could not write, and the next flush would not say so.
		l.mu.Lock()
		l.dirty = true
		l.suspect = l.suspect || l.file == file
		l.mu.Unlock()
		return fmt.Errorf("flushing %s: %w", file.Name(), err)
	}
	return nil
}

func (l *Log) flushBatch() {
	l.mu.Lock()
	b := l.pending
	l.pending = newBatch()
	var before int64
	if len(b.buf) > 0 {
		before, b.err = l.write(b.buf)
	}
	file := l.file
	l.mu.Unlock()
	if len(b.buf) > 0 && b.err == nil {
		if err := file.Sync(); err != nil {
			b.err = fmt.Errorf("syncing audit segment: %w", err)
			l.mu.Lock()
			// What is not durable is not acknowledged: take it back. Only this goroutine writes, so nothing stands behind it.
			l.size, l.broken = before, true
			if err := l.mend(); err != nil {
				slog.Error("records that were refused could not be taken back yet", "err", err)
			}
			l.mu.Unlock()
		}
	}
	if len(b.buf) > 0 && b.err == nil {
		l.mu.Lock()
		l.published(before, b.sizes)
		l.mu.Unlock()
	}
	close(b.done)
}

// Close flushes the log and closes it. Calls of Append that began before are answered.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.mu.Unlock()
	if l.opts.Durability == Written {
		l.wake <- struct{}{}
	} else {
		close(l.wake)
	}
	<-l.done
	l.flushBatch() // what came between the last flush and the mark
	l.mu.Lock()
	l.bell.ring()
	l.mu.Unlock()
	// What was reserved and not used goes back to the disk.
	return errors.Join(l.file.Truncate(l.size), l.file.Sync(), l.file.Close(), l.lock.Close())
}
