package audit

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// keepAhead is how many records may be in the log and not in its index before the keeper is called, ahead of its time.
const keepAhead = 8192

// keeper writes the index and the checkpoints, behind the records and on a goroutine of its own: no call waits for it. What it
// cannot write, it writes later; meanwhile the index is in memory.
type keeper struct {
	log    *Log
	signer *signer // nil: there are no checkpoints
	calls  chan struct{}
	quit   chan struct{}
	wg     sync.WaitGroup

	mu      sync.Mutex // held by one pass
	tree    frontier   // of all records that are in the index
	number  int        // of the segment whose index is written
	index   *os.File   // nil: not opened yet
	entries []byte     // what is being written to it, reused
	suspect bool       // the last flush of it failed
	fsync   func(*os.File) error
	file    *os.File // of the checkpoints
	end     int64    // octets of whole checkpoints in it
	oldest  uint64   // number of the first checkpoint in it
	failing bool     // the last pass failed, and that was said

	newest atomic.Pointer[Checkpoint] // nil: none yet

	remembered *Checkpoint // the last one that Options.Remember took
	rememberAt time.Time   // when it gets the next one
}

// rememberEvery is how often a checkpoint is remembered elsewhere while a segment grows: what the log got since may be cut off unseen.
const rememberEvery = time.Minute

// remember has the newest checkpoint remembered elsewhere, if that was not done. The caller holds mu.
func (k *keeper) remember() error {
	c, to := k.newest.Load(), k.log.opts.Remember
	if to == nil || c == nil || c == k.remembered {
		return nil
	}
	if err := to([]byte(c.body())); err != nil {
		return fmt.Errorf("remembering the newest audit checkpoint: %w", err)
	}
	k.remembered, k.rememberAt = c, time.Now().Add(rememberEvery)
	return nil
}

// start begins the work on a log that was recovered.
func (k *keeper) start() {
	k.calls, k.quit = make(chan struct{}, 1), make(chan struct{})
	k.wg.Go(k.run)
}

// call asks for a pass, soon.
func (k *keeper) call() {
	select {
	case k.calls <- struct{}{}:
	default: // it was called already
	}
}

func (k *keeper) run() {
	tick := time.NewTicker(k.log.opts.CheckpointEvery)
	defer tick.Stop()
	for {
		select {
		case <-k.quit:
			return
		case <-tick.C:
			k.log.age()
			k.report(k.pass(true))
		case <-k.calls:
			k.report(k.pass(false))
		}
	}
}

// report says once that something fails, and once that it works again.
func (k *keeper) report(err error) {
	switch {
	case err != nil && !k.failing:
		slog.Error("the index or the checkpoints of the audit log cannot be written; trying again", "err", err)
	case err == nil && k.failing:
		slog.Info("the index and the checkpoints of the audit log are written again")
	}
	k.failing = err != nil
}

// age has a segment closed that was begun long ago.
func (l *Log) age() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.opts.SegmentAge == 0 || l.closed || l.size == 0 || time.Since(l.segments[len(l.segments)-1].begun) < l.opts.SegmentAge {
		return
	}
	l.aged = true
	if l.opts.Durability == Written {
		if err := l.turn(0); err != nil {
			slog.Warn("an old audit segment could not be closed yet", "err", err)
		}
		return
	}
	l.callFlusher() // nobody else may
}

// close makes the last pass, and says in the last checkpoint whether the log ends with it.
func (k *keeper) close(ends bool) error {
	close(k.quit)
	k.wg.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.extendAll()
	if err == nil && k.signer != nil {
		// With a flush that failed there are records behind it.
		err = errors.Join(k.checkpoint(ends && k.tree.size == k.log.Next()), k.remember())
	}
	return errors.Join(err, k.closeFiles())
}

func (k *keeper) closeFiles() error {
	var errs []error
	for _, f := range []*os.File{k.index, k.file} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// pass brings the index up to what is on disk, signs a checkpoint at the end of each segment, and another one if it is time.
func (k *keeper) pass(due bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.extendAll(); err != nil {
		return err
	}
	if newest := k.newest.Load(); due && k.signer != nil && newest.Size < k.tree.size {
		if err := k.checkpoint(false); err != nil {
			return err
		}
	}
	if time.Now().Before(k.rememberAt) {
		return nil
	}
	return k.remember()
}

// extendAll brings the index up to what is on disk, with a checkpoint at the end of each segment. The caller holds mu.
func (k *keeper) extendAll() error {
	for {
		if more, err := k.extend(); err != nil {
			return fmt.Errorf("writing the audit index: %w", err)
		} else if !more {
			return nil
		}
	}
}

// extend writes what the index of a segment lacks. It reports whether there is another segment to do.
func (k *keeper) extend() (bool, error) {
	l := k.log
	l.mu.Lock()
	s := l.segments[k.number-l.segments[0].number]
	last := s == l.segments[len(l.segments)-1]
	n := min(uint64(len(s.tail)), max(l.durable, s.first+s.indexed)-s.first-s.indexed)
	chunk, indexed, headSize := s.tail[:n], s.indexed, s.headSize
	l.mu.Unlock()
	if err := k.openIndex(s, headSize); err != nil {
		return false, err
	}
	if n > 0 {
		k.entries = k.entries[:0]
		for _, e := range chunk {
			k.entries = appendEntry(k.entries, e)
		}
		if _, err := k.index.WriteAt(k.entries, s.headSize+int64(indexed*indexEntry)); err != nil {
			return false, err
		}
		for _, e := range chunk {
			k.tree.add(e.leaf)
		}
		l.mu.Lock()
		s.lastEnd = chunk[n-1].end
		s.indexed += n
		s.tail = append(s.tail[:0], s.tail[n:]...) // in its place, so that it does not grow for ever
		l.mu.Unlock()
	}
	if last || s.indexed < s.count {
		return false, nil
	}
	return true, k.finish(s)
}

// openIndex opens the index of the segment that is being written, or begins it.
func (k *keeper) openIndex(s *segment, headSize int64) error {
	if k.index != nil {
		return nil
	}
	if headSize > 0 {
		f, err := os.OpenFile(s.indexPath(), os.O_RDWR, 0)
		k.index = f
		return err
	}
	head := indexHead{number: s.number, begun: s.begun, tree: k.tree}
	if err := writeFile(s.indexPath(), head.marshal()); err != nil {
		return err
	}
	f, err := os.OpenFile(s.indexPath(), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	k.index = f
	k.log.mu.Lock()
	s.headSize = head.size()
	k.log.mu.Unlock()
	return nil
}

// finish ends the index of a segment that gets no more records, with a checkpoint.
func (k *keeper) finish(s *segment) error {
	if k.signer != nil && k.newest.Load().Size < k.tree.size {
		if err := k.checkpoint(false); err != nil {
			return err
		}
	} else if err := k.syncIndex(); err != nil {
		return err
	}
	if err := k.index.Close(); err != nil {
		slog.Warn("closing a full audit index", "err", err) // it is synced: nothing is lost
	}
	k.index = nil
	k.number++
	k.rememberAt = time.Time{}
	k.log.mu.Lock()
	s.complete, s.tail = true, nil
	k.log.mu.Unlock()
	return nil
}

// syncIndex has the index on disk. A flush that fails is told once, and the next one succeeds although octets were lost: so all of them are
// written again first, as the records say. The caller holds mu.
func (k *keeper) syncIndex() error {
	if k.index == nil {
		return nil
	}
	if k.suspect {
		if err := k.rewriteIndex(); err != nil {
			return fmt.Errorf("writing the audit index again: %w", err)
		}
	}
	err := k.fsync(k.index)
	if k.suspect = err != nil; err != nil {
		return fmt.Errorf("syncing the audit index: %w", err)
	}
	return nil
}

// errEnough ends the reading of a segment.
var errEnough = errors.New("all was read that is wanted")

// rewriteIndex makes the octets of the index again from the records that it has. The caller holds mu.
func (k *keeper) rewriteIndex() error {
	k.log.mu.Lock()
	s := k.log.segments[k.number-k.log.segments[0].number]
	path, left := s.path(), s.indexed
	k.log.mu.Unlock()
	head, _, err := readHeadOf(k.log.opts.Dir, s.number)
	if err != nil {
		return err
	}
	tree, index := head.tree.clone(), head.marshal()
	err = eachLine(path, false, func(e entry, _ []byte) error {
		if left == 0 {
			return errEnough
		}
		left--
		index = appendEntry(index, e)
		tree.add(e.leaf)
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) && !errors.Is(err, errNoLineEnd) { // behind the records there may be what a failed write left
		return err
	}
	if !tree.equal(&k.tree) {
		return errors.New("the records are not those that were written")
	}
	_, err = k.index.WriteAt(index, 0)
	return err
}

// checkpoint signs what the index has, which is on disk. The caller holds mu.
func (k *keeper) checkpoint(closed bool) error {
	if err := k.syncIndex(); err != nil {
		return err
	}
	c, text, err := k.makeCheckpoint(k.first(), k.oldest, closed)
	if err == nil {
		_, err = k.file.WriteAt(text, k.end)
	}
	if err == nil {
		err = k.file.Sync()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing an audit checkpoint: %w", err), k.file.Truncate(k.end))
	}
	k.end += int64(len(text))
	k.newest.Store(c)
	return nil
}

// first returns the number of the oldest record; 0 before the log knows its segments.
func (k *keeper) first() uint64 {
	k.log.mu.Lock()
	defer k.log.mu.Unlock()
	if len(k.log.segments) == 0 {
		return 0
	}
	return k.log.segments[0].first
}

// makeCheckpoint signs the next checkpoint and returns it as it stands in the file.
func (k *keeper) makeCheckpoint(first, oldest uint64, closed bool) (*Checkpoint, []byte, error) {
	c := &Checkpoint{
		Origin: k.signer.origin, Size: k.tree.size, Root: k.tree.root(), First: first, Oldest: oldest,
		Time: time.Now().UTC().Truncate(time.Second), Closed: closed,
	}
	if newest := k.newest.Load(); newest != nil {
		c.Number = newest.Number + 1
	}
	text, err := k.signer.sign(c)
	return c, append(text, '\n'), err
}

// Stats says how a log stands.
type Stats struct {
	First, Next  uint64        // numbers of the oldest record and of the next one
	Durable      uint64        // all records below are on disk
	Waiting      time.Duration // how long the oldest record has waited for the disk that is not there yet; with Synced no call that is answered
	Checkpointed uint64        // all records below are covered by a checkpoint
	Checkpoint   time.Time
	Segments     int
	Postponed    int   // segments that could not be compressed, and wait for the next try
	Octets       int64 // of the segment that is written
}

// Stats returns how the log stands now.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Stats{First: l.segments[0].first, Next: l.next, Durable: l.durable, Segments: len(l.segments), Octets: l.size}
	switch {
	case !l.flushAt.IsZero():
		s.Waiting = time.Since(l.flushAt)
	case l.dirty:
		s.Waiting = time.Since(l.dirtyAt)
	}
	for _, seg := range l.segments {
		if !seg.packed && !seg.packAt.IsZero() {
			s.Postponed++
		}
	}
	if c := l.keeper.newest.Load(); c != nil {
		s.Checkpointed, s.Checkpoint = c.Size, c.Time
	}
	return s
}

func checkpointsPath(dir string) string { return filepath.Join(dir, checkpointsName) }
