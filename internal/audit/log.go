package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/keywright/keywright/internal/secret"
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
	Dir             string        // where the segments lie; created with mode 0700 if it is missing
	Durability      Durability    // required
	FlushEvery      time.Duration // Written: the longest time a record waits for the disk; zero means 1 s
	SegmentSize     int64         // a segment that has grown past this many octets is closed; zero means 64 MiB
	SegmentAge      time.Duration // a segment that was begun so long ago is closed; zero means that age does not matter
	CheckpointEvery time.Duration // the shortest time between two checkpoints while records come; zero means 1 s
	Compress        bool          // closed segments are compressed
	Retention       time.Duration // closed segments that are older are deleted; zero means never
	Patience        time.Duration // how long Close waits for the records of changes that are under way; zero means 10 s

	// Seed is the seed of the Ed25519 key that signs checkpoints (RFC 8032, 32 octets). Without it there are none, and
	// nothing can be proved.
	Seed secret.Bytes

	// Remember keeps, where whoever can write to Dir cannot, what the newest checkpoint says; nil for nowhere. It is called with a
	// checkpoint that is on disk: when the log is opened and closed, at the end of each segment, and else once a minute.
	Remember func(checkpoint []byte) error
	// Known is what Remember was given last, nil for nothing yet. A log that is gone, another one, or has less is refused.
	Known []byte
}

// withDefaults checks the options and fills in what is zero.
func (o Options) withDefaults() (Options, error) {
	if o.Durability != Written && o.Durability != Synced {
		return o, errors.New("opening audit log: no durability given")
	}
	for _, d := range []*time.Duration{&o.FlushEvery, &o.CheckpointEvery} {
		if *d == 0 {
			*d = time.Second
		}
	}
	if o.Patience == 0 {
		o.Patience = 10 * time.Second
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = 64 << 20
	}
	if o.SegmentSize < 0 || min(o.FlushEvery, o.SegmentAge, o.CheckpointEvery, o.Retention, o.Patience) < 0 {
		return o, errors.New("opening audit log: a negative setting")
	}
	return o, nil
}

// Log is the append log: segments audit-00000001.jsonl, audit-00000002.jsonl, …, one record a line, in the order in which
// they were acknowledged, each with an index beside it, and signed checkpoints over all of them. It is safe for concurrent use.
type Log struct {
	opts Options

	mu       sync.Mutex
	file     *os.File // of the last segment
	size     int64    // octets of whole records in it
	segments []*segment
	next     uint64 // number of the next record
	durable  uint64 // all records below are on disk
	bell     bell
	broken   bool      // the segment may have octets of a failed write behind size
	dirty    bool      // Written: something waits for the next flush
	dirtyAt  time.Time // and since when
	flushAt  time.Time // since when what the flush takes waits that runs, or failed; zero for none
	aged     bool      // the segment is old enough to be closed
	turnAt   time.Time // the next segment could not be begun, and is not tried again before
	room     int64     // the disk has blocks for the segment up to this size
	ahead    int64     // Synced: zeros were written up to here
	promised int64     // octets that Reserve promised, and that no record has taken yet
	closed   bool      // Append and Reserve are refused
	ended    bool      // and AppendReserved too
	lock     *os.File  // held on the directory
	line     []byte    // Written: the record with its line end, reused
	pending  *batch    // Synced: what the next flush takes
	spare    batch     // Synced: memory for the batch after that
	wake     chan struct{}
	done     chan struct{}
	holds    map[string]func() uint64

	// A failed flush is told to one caller only, and the next one succeeds although records were lost. So only one runs at a time,
	// and its failure is remembered until what it lost is on disk after all.
	syncing sync.Mutex
	fsync   func(*os.File) error
	suspect atomic.Bool

	doubted atomic.Bool // a record was not what the index says, and that was said

	known  *Checkpoint // of Options.Known
	keeper keeper
}

// batch is a set of records that one flush takes.
type batch struct {
	buf     []byte
	entries []entry       // their ends count from the beginning of buf
	probe   bool          // somebody wants to know whether the disk works
	done    chan struct{} // closed when err is final
	err     error
}

// keepAtMost bounds the memory that a large batch can leave behind.
const keepAtMost = 1 << 20

func newBatch() *batch { return &batch{done: make(chan struct{})} }

func (b *batch) add(record []byte, leaf tlog.Hash) {
	b.buf = append(append(b.buf, record...), '\n')
	b.entries = append(b.entries, entry{leaf, int64(len(b.buf))})
}

// The errors that callers tell apart.
var (
	// ErrClosed is returned by Append and Reserve after Close, and by AppendReserved when Close has waited long enough for it.
	ErrClosed = errors.New("the audit log is closed")
	// ErrLocked is returned by Open while another Log, of this or another process, writes to the directory.
	ErrLocked = errors.New("the audit directory is in use by another process")
)

// Open opens the log for appending. A last line that was cut off by a crash is removed: its call was never answered. The error
// is a *DamagedError if records below the last checkpoint are not what they were.
func Open(o Options) (*Log, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	var known *Checkpoint
	if o.Known != nil {
		if known, err = parseBody(string(o.Known)); err != nil {
			return nil, fmt.Errorf("opening audit log: what is known of it: %w", err)
		}
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening audit log: %w", err)
	}
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("opening audit log: %w", err)
	}
	l := &Log{
		opts: o, lock: lock, pending: newBatch(), wake: make(chan struct{}, 1), done: make(chan struct{}), holds: map[string]func() uint64{},
		fsync: datasync, known: known,
	}
	if err := l.recover(); err != nil {
		if l.file != nil {
			err = errors.Join(err, l.file.Close())
		}
		return nil, errors.Join(fmt.Errorf("opening audit log: %w", err), l.keeper.closeFiles(), lock.Close())
	}
	go l.flusher()
	l.keeper.start()
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

// openSegment opens the file of a segment for appending at size, and has it cut off there.
func (l *Log) openSegment(number int, size int64) (*os.File, error) {
	file, err := os.OpenFile(segmentPath(l.opts.Dir, number, plainSuffix), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening audit segment: %w", err)
	}
	err = file.Truncate(size)
	if err == nil {
		err = syncDir(l.opts.Dir)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening audit segment: %w", err), file.Close())
	}
	return file, nil
}

// use takes the file of a segment for appending. The caller holds mu, or nobody else has the log yet.
func (l *Log) use(file *os.File, size, room int64) {
	l.file, l.size, l.room, l.ahead, l.broken, l.aged, l.turnAt = file, size, room, size, false, false, time.Time{}
}

// Append adds records, JSON objects without line breaks, all of them or none, and returns when they are as durable as the
// log's Durability says. On an error nothing of them stays in the log, and the call they speak of must not be answered. A
// later Append tries again, so that a disk with room again is enough to recover.
func (l *Log) Append(records ...[]byte) error { return l.add(0, records) }

// add is Append with room for so many octets.
func (l *Log) add(room int64, records [][]byte) error {
	if len(records) == 0 {
		return nil
	}
	var few [4]tlog.Hash
	leaves := few[:0]
	beyond := -room
	for _, r := range records { // before the lock, so that callers hash beside each other
		leaves = append(leaves, leafHash(r))
		beyond += int64(len(r)) + 1
	}
	l.mu.Lock()
	if l.ended || l.closed && room == 0 {
		l.mu.Unlock()
		return ErrClosed
	}
	if l.promised > 0 && beyond > 0 { // not into the room of others
		if err := l.keepRoom(beyond); err != nil {
			l.mu.Unlock()
			return err
		}
	}
	if l.opts.Durability == Written {
		defer l.mu.Unlock()
		return l.appendNow(records, leaves)
	}
	b := l.pending
	for i, r := range records {
		b.add(r, leaves[i])
	}
	l.callFlusher()
	l.mu.Unlock()
	<-b.done
	return b.err
}

// appendNow writes records. The caller holds mu.
func (l *Log) appendNow(records [][]byte, leaves []tlog.Hash) error {
	l.line = l.line[:0]
	for _, r := range records {
		l.line = append(append(l.line, r...), '\n')
	}
	before, err := l.write(l.line)
	if err != nil {
		return err
	}
	s := l.segments[len(l.segments)-1]
	for i, r := range records {
		before += int64(len(r)) + 1
		s.tail = append(s.tail, entry{leaves[i], before})
	}
	l.published(s, len(records))
	if !l.dirty {
		l.dirty, l.dirtyAt = true, time.Now()
	}
	return nil
}

// published counts records that were acknowledged, and tells whoever waits. The caller holds mu.
func (l *Log) published(s *segment, n int) {
	s.count += uint64(n)
	l.next += uint64(n)
	l.bell.ring()
	if len(s.tail) >= keepAhead && len(s.tail)-n < keepAhead {
		l.keeper.call()
	}
}

// callFlusher has the flusher take what waits. The caller holds mu, so that Close cannot close the channel in between.
func (l *Log) callFlusher() {
	select {
	case l.wake <- struct{}{}:
	default: // it has been called already
	}
}

// mend makes the segment writable again after a failure: it takes back what a failed write left. The caller holds mu.
func (l *Log) mend() error {
	if !l.broken {
		return nil
	}
	if err := l.file.Truncate(l.size); err != nil {
		return fmt.Errorf("mending audit segment: %w", err)
	}
	l.broken, l.room, l.ahead = false, 0, l.size
	if l.promised > 0 { // the blocks went with what was taken back
		if err := l.keepRoom(0); err != nil {
			slog.Error("the room of audit records of changes that are under way was lost", "err", err)
		}
	}
	return nil
}

// mendAll makes the segment writable again after a failure, also of a flush. The caller holds mu.
func (l *Log) mendAll() error {
	if err := l.mend(); err != nil {
		return err
	}
	if l.opts.Durability == Written && l.suspect.Load() {
		return l.repair()
	}
	return nil
}

// repair writes the records again that a failed flush may have lost. The kernel still has them, but does not take them for
// anything that is to be written. The caller holds mu.
func (l *Log) repair() error {
	s := l.segments[len(l.segments)-1]
	at := s.lastEnd
	for i, e := range s.tail {
		if s.first+s.indexed+uint64(i) >= l.durable {
			b := make([]byte, e.end-at)
			if _, err := l.file.ReadAt(b, at); err != nil {
				return fmt.Errorf("repairing audit segment: %w", err)
			}
			if b[len(b)-1] != '\n' || leafHash(b[:len(b)-1]) != e.leaf {
				return fmt.Errorf("repairing audit segment: record %d is lost", s.first+s.indexed+uint64(i))
			}
			if _, err := l.file.WriteAt(b, at); err != nil {
				return fmt.Errorf("repairing audit segment: %w", err)
			}
		}
		at = e.end
	}
	if err := l.sync(l.file); err != nil {
		return fmt.Errorf("repairing audit segment: %w", err)
	}
	l.suspect.Store(false)
	l.flushed()
	return nil
}

// flushed notes that all records are on disk. The caller holds mu.
func (l *Log) flushed() { l.durable, l.dirty, l.flushAt = l.next, false, time.Time{} }

// sync flushes a segment to disk.
func (l *Log) sync(file *os.File) error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	err := l.fsync(file)
	if err != nil && !errors.Is(err, os.ErrClosed) {
		l.suspect.Store(true)
	}
	return err
}

// turnAgain is how long a log goes on with a segment when the next one could not be begun.
const turnAgain = time.Second

// turn begins the next segment, to which so many octets will be written, if it is time. If that fails, this one goes on: it has the
// room that calls reserved. The caller holds mu, and nothing that was written waits for a flush of its own.
func (l *Log) turn(octets int) error {
	if err := l.mendAll(); err != nil {
		return err
	}
	if l.size < l.opts.SegmentSize && (!l.aged || l.size == 0) || time.Now().Before(l.turnAt) {
		return nil
	}
	if err := l.sync(l.file); err != nil {
		return fmt.Errorf("closing audit segment: %w", err)
	}
	if err := l.mendAll(); err != nil { // a flush beside this one failed
		return err
	}
	l.flushed()
	if err := l.nextSegment(octets); err != nil {
		slog.Error("the next audit segment could not be begun; going on with this one and trying again", "err", err)
		l.turnAt = time.Now().Add(turnAgain)
	}
	return nil
}

// write appends octets to the segment and returns the size it had before. The caller holds mu.
func (l *Log) write(p []byte) (before int64, err error) {
	if err := l.turn(len(p)); err != nil {
		return 0, err
	}
	before = l.size
	if _, err := l.file.WriteAt(p, before); err != nil {
		l.broken = true
		if l.opts.Durability == Synced {
			l.suspect.Store(true) // Reserve is to try before it says yes
		}
		return before, fmt.Errorf("writing audit record: %w", err)
	}
	l.size += int64(len(p))
	if l.opts.Durability == Synced && l.size > l.ahead {
		l.writeAhead()
	}
	return before, nil
}

// nextSegment opens the next segment, with room for what was promised and so many octets, before it closes the current one, which is
// on disk. So a failure leaves the log usable.
func (l *Log) nextSegment(octets int) error {
	number := l.segments[len(l.segments)-1].number + 1
	file, err := l.openSegment(number, 0)
	room := int64(0)
	if err == nil && l.promised > 0 {
		if room, err = makeRoom(file, 0, l.promised+int64(octets)); err != nil {
			err = errors.Join(err, file.Close())
		}
	}
	if err != nil {
		return errors.Join(err, removeIfThere(segmentPath(l.opts.Dir, number, plainSuffix)))
	}
	full := l.file
	if err := errors.Join(full.Truncate(l.size), full.Sync(), full.Close()); err != nil { // what was reserved and not used
		slog.Warn("closing a full audit segment", "err", err) // it is synced: nothing is lost
	}
	l.use(file, 0, room)
	l.segments = append(l.segments, &segment{dir: l.opts.Dir, number: number, first: l.next, begun: time.Now()})
	l.keeper.call()
	return nil
}

// flusher writes and syncs batches (Synced), or flushes what was written (Written), on a goroutine of its own.
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
	file, dirty, next := l.file, l.dirty, l.next
	if l.dirty = false; dirty && l.flushAt.IsZero() {
		l.flushAt = l.dirtyAt
	}
	l.mu.Unlock()
	if !dirty {
		return nil
	}
	// Without the lock, so that records are written meanwhile. A segment that was closed in between was synced then.
	err := l.sync(file)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.suspect.Load() { // by this flush or by another one: what is durable is known after the repair only
		l.dirty = true
		if err == nil || errors.Is(err, os.ErrClosed) {
			err = l.mendAll()
		}
		if err != nil {
			return fmt.Errorf("flushing %s: %w", file.Name(), err)
		}
	}
	l.durable, l.flushAt = max(l.durable, next), time.Time{}
	return nil
}

// probeText is written to find out whether the disk works, and taken back. After a crash it is a record without its end.
var probeText = bytes.Repeat([]byte{' '}, 4096)

// flushBatch writes and syncs what waits. It is called by one goroutine at a time, and with Synced nothing else writes or
// begins a segment.
func (l *Log) flushBatch() {
	l.mu.Lock()
	b := l.pending
	if len(b.buf) == 0 && !b.probe {
		defer l.mu.Unlock()
		if l.aged && l.opts.Durability == Synced {
			if err := l.turn(0); err != nil {
				slog.Warn("an old audit segment could not be closed yet", "err", err)
			}
		}
		return
	}
	l.pending = newBatch()
	l.pending.buf, l.pending.entries = l.spare.buf[:0], l.spare.entries[:0]
	text, probing := b.buf, len(b.buf) == 0
	if probing {
		text = probeText
	}
	l.flushAt = time.Now()
	before, err := l.write(text)
	file, wrote := l.file, err == nil
	l.mu.Unlock()
	if wrote {
		err = l.sync(file)
	}
	l.mu.Lock()
	if l.flushAt = (time.Time{}); err == nil {
		l.suspect.Store(false)
	}
	switch {
	case err == nil && !probing:
		s := l.segments[len(l.segments)-1]
		for _, e := range b.entries {
			e.end += before
			s.tail = append(s.tail, e)
		}
		l.published(s, len(b.entries))
		l.durable = l.next
	case wrote:
		if err != nil {
			err = fmt.Errorf("syncing audit segment: %w", err)
		}
		// What is not durable is not acknowledged: take it back. Only this goroutine writes, so nothing stands behind it.
		l.size, l.broken = before, true
		if err := l.mend(); err != nil {
			slog.Error("records that were refused could not be taken back yet", "err", err)
		}
	}
	if l.spare = (batch{}); cap(b.buf) <= keepAtMost {
		l.spare = batch{buf: b.buf, entries: b.entries}
	}
	l.mu.Unlock()
	b.err = err
	close(b.done)
}

// Close flushes the log, signs a last checkpoint and closes it. Calls of Append that began before are answered, and the records of
// changes that are under way still get in for Options.Patience. The error says if some did not; then the checkpoint does not say
// that the log ends there.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	without := l.awaitChanges()
	l.mu.Unlock()
	if l.opts.Durability == Written {
		l.wake <- struct{}{}
	} else {
		close(l.wake)
	}
	<-l.done
	l.flushBatch() // what came between the last flush and the mark
	err := errors.Join(without, l.flushWritten())
	l.mu.Lock()
	l.bell.ring()
	// What was reserved and not used goes back to the disk.
	err = errors.Join(err, l.mendAll(), l.file.Truncate(l.size), l.sync(l.file))
	l.mu.Unlock()
	return errors.Join(err, l.keeper.close(without == nil), l.file.Close(), l.lock.Close())
}

// First returns the number of the oldest record that is still there.
func (l *Log) First() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.segments[0].first
}

// Next returns the number that the next record gets: all below were acknowledged.
func (l *Log) Next() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next
}

// Read implements Source.
func (l *Log) Read(from uint64, most int) ([][]byte, error) {
	for try := 0; ; try++ {
		l.mu.Lock()
		if from < l.segments[0].first {
			l.mu.Unlock()
			return nil, ErrGone
		}
		if from >= l.next || most <= 0 {
			l.mu.Unlock()
			return nil, nil
		}
		i, found := slices.BinarySearchFunc(l.segments, from, func(s *segment, n uint64) int {
			switch {
			case s.first+s.count <= n:
				return -1
			case s.first > n:
				return 1
			}
			return 0
		})
		if !found {
			l.mu.Unlock()
			return nil, fmt.Errorf("no audit segment has record %d", from)
		}
		p := l.segments[i].locate(from, min(most, maxRead))
		l.mu.Unlock()
		records, err := p.read()
		if errors.Is(err, os.ErrNotExist) && try < 2 {
			continue // compressed or removed since
		}
		if errors.Is(err, errIndexEntry) || errors.Is(err, errNotAsWritten) { // the records rule
			if !l.doubted.Swap(true) {
				slog.Error("an audit segment and its index do not fit each other: find out more with keywright audit verify", "segment", p.path, "record", from)
			}
			records, err = p.readLines()
		}
		if err != nil {
			return nil, fmt.Errorf("reading audit records: %w", err)
		}
		return records, nil
	}
}

// Wait implements Source.
func (l *Log) Wait(ctx context.Context, from uint64) error {
	for {
		l.mu.Lock()
		ready, closed, rung := l.next > from, l.ended, l.bell.listen()
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
