package trail

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/audit"
)

// Index finds events of an audit log by their attributes. It is safe for concurrent use.
type Index struct {
	src audit.Source
	dir string // empty: blocks stay in memory

	work sync.Mutex // held by who adds records or makes blocks

	mu     sync.RWMutex
	open   *builder           // the newest block
	blocks map[uint64]*stored // finished blocks by number
	whole  uint64             // none of the blocks below this number is missing, but for those that are gone from the log
	next   atomic.Uint64      // number of the first record that is not in it
	bad    atomic.Uint64      // records that are no events, or could not be read

	lost    map[uint64]time.Time // blocks whose records could not be read, and when
	failing bool                 // the last block could not be written to its file
}

// stored is a finished block: its head, and the whole of it once it was asked for.
type stored struct {
	head
	block  *block
	mapped bool // its octets are those of its file
	held   bool // it has no file
}

// maxHeld is how many blocks without a file are kept, a million records in some 40 MB, and retry how long a block is left alone
// whose records could not be read.
const (
	maxHeld = 64
	retry   = time.Minute
)

// step is how many records are read at a time.
const step = 1024

// OpenIndex opens the index of a log in a directory, which is made if it is missing; without one everything stays in memory.
// Blocks that the log does not bear out are removed. It is filled by Run, and by Find as far as Find needs it.
func OpenIndex(src audit.Source, dir string) (*Index, error) {
	ix := &Index{src: src, dir: dir, blocks: map[uint64]*stored{}, lost: map[uint64]time.Time{}}
	if dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("opening the look-up index: %w", err)
		}
		if err := ix.load(); err != nil {
			return nil, fmt.Errorf("opening the look-up index: %w", err)
		}
	}
	start := src.Next() / blockSize * blockSize // the newest block is not on disk: it is read again
	ix.open = newBuilder(max(start, src.First()))
	ix.next.Store(ix.open.first)
	return ix, nil
}

func (ix *Index) path(k uint64) string { return filepath.Join(ix.dir, fmt.Sprintf("%016x.idx", k)) }

// load reads the heads of all blocks.
func (ix *Index) load() error {
	names, err := filepath.Glob(filepath.Join(ix.dir, "*.idx"))
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		var k uint64
		_, err := fmt.Sscanf(filepath.Base(name), "%016x.idx", &k)
		if err != nil || ix.path(k) != name {
			continue // not ours
		}
		h, err := readHead(name)
		if err != nil || h.first/blockSize != k || (h.first+uint64(h.count))%blockSize != 0 || h.first+uint64(h.count) > ix.src.Next() {
			slog.Warn("a block of the look-up index is damaged or not of this log; it is made again", "file", name, "err", err)
			if err := os.Remove(name); err != nil {
				return err
			}
			continue
		}
		ix.blocks[k] = &stored{head: h}
	}
	return ix.compareWithLog()
}

// readHead reads the head of a block's file.
func readHead(path string) (head, error) {
	f, err := os.Open(path)
	if err != nil {
		return head{}, err
	}
	defer func() { _ = f.Close() }() // it was only read
	b := make([]byte, headSize)
	if _, err := f.ReadAt(b, 0); err != nil {
		return head{}, err
	}
	return parseHead(b)
}

// compareWithLog removes the newest blocks while they are not those of the log: a log that was not flushed can have lost
// records in a power cut, and others have their numbers now.
func (ix *Index) compareWithLog() error {
	numbers := make([]uint64, 0, len(ix.blocks))
	for k := range ix.blocks {
		numbers = append(numbers, k)
	}
	slices.Sort(numbers)
	for _, k := range slices.Backward(numbers) {
		h := &ix.blocks[k].head
		last, err := ix.src.Read(h.first+uint64(h.count)-1, 1)
		if err == nil && len(last) == 1 && sha256.Sum256(last[0]) == h.last {
			return nil
		}
		if err != nil && !errors.Is(err, audit.ErrGone) {
			slog.Error("a block of the look-up index cannot be compared with the log", "block", k, "err", err)
			continue // every event is compared before it is shown
		}
		if err := ix.forget(k); err != nil {
			return err
		}
	}
	return nil
}

// forget removes a block.
func (ix *Index) forget(k uint64) error {
	ix.mu.Lock()
	if s := ix.blocks[k]; s != nil && s.mapped {
		if err := unmap(s.block.raw); err != nil {
			slog.Warn("a block of the look-up index stays in memory", "err", err)
		}
	}
	delete(ix.blocks, k)
	if (k+1)*blockSize > ix.src.First() {
		ix.whole = min(ix.whole, k)
	}
	ix.mu.Unlock()
	if ix.dir == "" {
		return nil
	}
	if err := os.Remove(ix.path(k)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Lag returns how many records are not in the index yet.
func (ix *Index) Lag() uint64 {
	next := ix.src.Next()
	lag := next - min(next, ix.next.Load())
	missing, _ := ix.missing()
	return lag + missing*blockSize
}

// missing returns how many blocks are not there, and the number of the lowest of them; that of the newest block if none is.
func (ix *Index) missing() (count, lowest uint64) {
	first := ix.src.First() / blockSize
	ix.mu.Lock()
	defer ix.mu.Unlock()
	top := ix.open.first / blockSize
	lowest = top
	floor := max(first, ix.whole)
	if ix.dir == "" || ix.failing {
		floor = max(floor, top-min(top, maxHeld))
	}
	for k := top; k > floor; {
		if k--; ix.blocks[k] == nil && ix.lost[k].IsZero() {
			count++
			lowest = k
		}
	}
	ix.whole = lowest
	return count, lowest
}

// Unreadable returns how many records the index found to be no events, or could not read, since it was opened: nobody finds them.
func (ix *Index) Unreadable() uint64 { return ix.bad.Load() }

// Needs returns the number of the oldest record that the index has not read yet.
func (ix *Index) Needs() uint64 {
	if count, lowest := ix.missing(); count > 0 {
		return lowest * blockSize
	}
	return ix.next.Load()
}

// pause is how long records are left to gather before they are read: what waits costs nothing, and who asks reads at once.
const pause = 100 * time.Millisecond

// Run follows the log until ctx ends or the log is closed.
func (ix *Index) Run(ctx context.Context) {
	for ctx.Err() == nil {
		err := ix.advance(ctx, ix.src.Next())
		if err == nil {
			var made bool
			if made, err = ix.makeMissing(); made && err == nil {
				continue
			}
		}
		if err != nil && ctx.Err() == nil {
			slog.Error("the look-up index could not follow the audit log", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		if err := ix.src.Wait(ctx, ix.next.Load()); errors.Is(err, audit.ErrClosed) {
			return
		}
	}
}

// advance takes in the records below a number.
func (ix *Index) advance(ctx context.Context, to uint64) error {
	if ix.next.Load() >= to {
		return nil
	}
	ix.work.Lock()
	defer ix.work.Unlock()
	for ctx.Err() == nil && ix.next.Load() < to {
		if ix.open.full() {
			if err := ix.seal(); err != nil {
				return err
			}
		}
		at := ix.next.Load()
		records, err := ix.src.Read(at, int(min(step, blockSize-at%blockSize)))
		switch {
		case errors.Is(err, audit.ErrGone): // memory that is too small for what happens, or retention
			ix.restart(max(ix.src.First(), at+1))
			continue
		case err != nil:
			return err
		case len(records) == 0:
			return nil
		}
		ix.mu.Lock()
		for _, r := range records {
			if err := ix.open.add(r); err != nil && ix.bad.Add(1) == 1 {
				slog.Error("an audit record is not in the form of an event and will not be found", "err", err)
			}
		}
		ix.mu.Unlock()
		ix.next.Store(at + uint64(len(records)))
	}
	return ctx.Err()
}

// restart has the newest block begin at a number.
func (ix *Index) restart(at uint64) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.open = newBuilder(at)
	ix.next.Store(at)
}

// seal finishes the newest block and begins another one.
func (ix *Index) seal() error {
	if err := ix.keep(ix.open.finish()); err != nil {
		return err
	}
	ix.restart(ix.open.next())
	return ix.expire()
}

// keep stores a finished block, without a file if that cannot be written. The file needs no flush: what a crash leaves of it has
// no valid checksum.
func (ix *Index) keep(raw []byte) error {
	h, err := parseHead(raw)
	if err != nil {
		return fmt.Errorf("storing what was just made: %w", err)
	}
	k := h.first / blockSize
	s := &stored{head: h, held: ix.dir == ""}
	if !s.held {
		if err := ix.write(k, raw); err != nil {
			s.held = true
			slog.Error("a block of the look-up index could not be written; it stays in memory", "block", k, "err", err)
		}
	}
	if s.held {
		if s.block, err = openBlock(raw); err != nil {
			return fmt.Errorf("storing what was just made: %w", err)
		}
	}
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.failing = s.held && ix.dir != ""
	ix.blocks[k] = s
	delete(ix.lost, k)
	ix.makeRoom(k)
	return nil
}

// write writes the file of a block.
func (ix *Index) write(k uint64, raw []byte) error {
	path := ix.path(k)
	if err := os.WriteFile(path+".new", raw, 0o600); err != nil {
		return errors.Join(err, os.Remove(path+".new"))
	}
	return os.Rename(path+".new", path)
}

// makeRoom removes the oldest block without a file, but for a given one, if there are too many.
func (ix *Index) makeRoom(but uint64) {
	held, oldest := 0, uint64(math.MaxUint64)
	for k, s := range ix.blocks {
		if s.held {
			if held++; k != but {
				oldest = min(oldest, k)
			}
		}
	}
	if held > maxHeld {
		delete(ix.blocks, oldest)
	}
}

// expire forgets the blocks whose records the log does not keep any more.
func (ix *Index) expire() error {
	first := ix.src.First()
	var old []uint64
	ix.mu.RLock()
	for k, s := range ix.blocks {
		if s.first+uint64(s.count) <= first {
			old = append(old, k)
		}
	}
	ix.mu.RUnlock()
	var errs []error
	for _, k := range old {
		errs = append(errs, ix.forget(k))
	}
	return errors.Join(errs...)
}

// makeMissing makes the lowest block that is not there, and reports whether there was one. The newest ones are made by whoever
// looks for something.
func (ix *Index) makeMissing() (bool, error) {
	count, lowest := ix.missing()
	if count == 0 {
		return false, nil
	}
	return true, ix.make(lowest)
}

// make makes a block from its records. One whose records cannot be read stays away, and those who look are told nothing of them:
// the log may be damaged for good, and the rest of it can still be searched.
func (ix *Index) make(k uint64) error {
	ix.work.Lock()
	defer ix.work.Unlock()
	ix.mu.RLock()
	there, lost := ix.blocks[k] != nil, ix.lost[k]
	ix.mu.RUnlock()
	if there || time.Since(lost) < retry {
		return nil
	}
	err := ix.remake(k)
	if err == nil || errors.Is(err, audit.ErrClosed) {
		return err
	}
	slog.Error("records cannot be looked up", "block", k, "err", err)
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if lost.IsZero() {
		ix.bad.Add(blockSize)
	}
	ix.lost[k] = time.Now()
	return nil
}

// remake is the work of make.
func (ix *Index) remake(k uint64) error {
	b := newBuilder(max(k*blockSize, ix.src.First()))
	if b.first >= (k+1)*blockSize {
		return nil // all of it is gone
	}
	for !b.full() {
		records, err := ix.src.Read(b.next(), int(min(step, blockSize-b.next()%blockSize)))
		if errors.Is(err, audit.ErrGone) {
			if b = newBuilder(ix.src.First()); b.first >= (k+1)*blockSize {
				return nil
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("making a block of the look-up index: %w", err)
		}
		if len(records) == 0 {
			return fmt.Errorf("making a block of the look-up index: the log has no record %d", b.next())
		}
		for _, r := range records {
			if b.add(r) != nil {
				ix.bad.Add(1)
			}
		}
	}
	return ix.keep(b.finish())
}
