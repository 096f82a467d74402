package trail

import (
	"context"
	"errors"
	"log/slog"

	"github.com/keywright/keywright/internal/audit"
)

// Found is an event that was asked for.
type Found struct {
	Number uint64 // of its record in the log
	Record []byte
	Event  Event
}

// Page is a part of an answer.
type Page struct {
	Events []Found // newest first, in the order of the log
	// Next is where the following page begins, to be given as before; More whether there may be one.
	Next uint64
	More bool
	End  uint64 // the number below which was looked, at most that of the next record
}

// How much one page may cost: blocks that are looked at, blocks that are made because they are missing, records that are
// read in vain, and octets of records that are read. A page that would cost more has fewer events, and another page follows.
const (
	maxBlocks = 4096
	maxMade   = 4
	maxVain   = 4096
	maxOctets = 4 << 20
)

// Newest is the before that begins with the newest event.
const Newest = ^uint64(0)

// Find returns up to most events that a query asks for, of those whose number is below before. Everything that was in the log
// when it was called is found.
func (ix *Index) Find(ctx context.Context, q *Query, before uint64, most int) (Page, error) {
	if err := ix.advance(ctx, ix.src.Next()); err != nil {
		return Page{}, err
	}
	before = min(before, ix.next.Load())
	p := Page{Next: before, End: before}
	made, vain, octets, first := 0, 0, 0, ix.src.First()
	for looked := 0; p.Next > first; looked++ {
		if looked == maxBlocks || vain > maxVain {
			p.More = true
			return p, nil
		}
		var numbers []uint64
		missing, err := ix.ask(&numbers, q, p.Next, most+1-len(p.Events))
		if err != nil {
			return Page{}, err
		}
		k := (p.Next - 1) / blockSize
		if missing {
			if made++; made > maxMade {
				p.More = true
				return p, nil
			}
			if err := ix.make(k); err != nil {
				return Page{}, err
			}
			if ix.none(k) {
				p.Next = k * blockSize
			}
			continue
		}
		found, rest, err := ix.read(q, numbers, &octets)
		if err != nil {
			return Page{}, err
		}
		vain += len(numbers) - len(rest) - len(found)
		p.Events = append(p.Events, found...)
		if len(p.Events) > most {
			p.Events = p.Events[:most]
			p.Next, p.More = p.Events[most-1].Number, true
			return p, nil
		}
		if len(rest) > 0 {
			p.Next, p.More = rest[0]+1, true
			return p, nil
		}
		if p.Next = k * blockSize; len(numbers) > 0 && len(found) < len(numbers) {
			p.Next = numbers[len(numbers)-1] // there can be more of them in the block
		}
	}
	return p, nil
}

// none reports whether there is nothing to be had of a block: its records are gone, or cannot be read.
func (ix *Index) none(k uint64) bool {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	return ix.blocks[k] == nil && (!ix.lost[k].IsZero() || (k+1)*blockSize <= ix.src.First())
}

// ask appends to numbers those of the records in the block below a number that may be asked for. It reports whether the block is
// missing, or damaged and forgotten.
func (ix *Index) ask(numbers *[]uint64, q *Query, below uint64, most int) (missing bool, err error) {
	k := (below - 1) / blockSize
	ix.mu.RLock()
	if k == ix.open.first/blockSize {
		*numbers = ix.open.candidates(*numbers, q, below, most)
		ix.mu.RUnlock()
		return false, nil
	}
	s := ix.blocks[k]
	switch {
	case s == nil:
		ix.mu.RUnlock()
		return true, nil
	case below <= s.first || !q.overlaps(s.from, s.to):
		ix.mu.RUnlock()
		return false, nil
	case s.block == nil:
		ix.mu.RUnlock()
		ix.openStored(k)
		ix.mu.RLock()
	}
	s = ix.blocks[k]
	err = errDamaged
	if s != nil && s.block != nil {
		err = guarded(func() error {
			*numbers = s.block.candidates(*numbers, q, below, most)
			return nil
		})
	}
	ix.mu.RUnlock()
	if err == nil {
		return false, nil
	}
	slog.Warn("a block of the look-up index is damaged; it is made again", "block", k, "err", err)
	return true, ix.forget(k)
}

// openStored makes the file of a block ready to be asked. It says nothing if it cannot.
func (ix *Index) openStored(k uint64) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	s := ix.blocks[k]
	if s == nil || s.block != nil {
		return
	}
	b, mapped, err := mapFile(ix.path(k))
	if err == nil {
		err = guarded(func() (err error) {
			s.block, err = openBlock(b)
			return err
		})
	}
	if s.mapped = mapped && err == nil; err != nil {
		s.block = nil
		if mapped {
			err = errors.Join(err, unmap(b))
		}
		slog.Warn("opening a block of the look-up index", "block", k, "err", err)
	}
}

// near is how far apart records may be that are read together, and maxRun how many those are with what lies between them.
const (
	near   = 8
	maxRun = 64
)

// read reads records by their numbers, newest first, and returns those that are what the query asks for; and the numbers that
// are left when more octets than a page may cost were read.
func (ix *Index) read(q *Query, numbers []uint64, octets *int) (all []Found, rest []uint64, err error) {
	for most := maxRun; *octets < maxOctets; {
		for first := ix.src.First(); len(numbers) > 0 && numbers[len(numbers)-1] < first; {
			numbers = numbers[:len(numbers)-1] // gone since the index was made
		}
		if len(numbers) == 0 {
			return all, nil, nil
		}
		n := 1
		for n < len(numbers) && n < most && numbers[n-1]-numbers[n] <= near && numbers[0]-numbers[n] < maxRun {
			n++
		}
		run := numbers[:n]
		records, err := span(ix.src, run[n-1], run[0])
		if errors.Is(err, errLarge) {
			most = n / 2
			continue
		}
		if errors.Is(err, audit.ErrGone) {
			continue // since this loop began
		}
		if err != nil && !errors.Is(err, audit.ErrClosed) {
			if ix.bad.Add(uint64(n)) == uint64(n) {
				slog.Error("records that were looked for cannot be read", "first", run[n-1], "last", run[0], "err", err)
			}
			numbers = numbers[n:]
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		for _, r := range records {
			*octets += len(r)
		}
		numbers = numbers[n:]
		for _, number := range run {
			f := Found{Number: number, Record: records[number-run[n-1]]}
			if f.Event.Parse(f.Record) == nil && q.Admits(&f.Event) {
				all = append(all, f)
			}
		}
	}
	return all, numbers, nil
}

// errLarge says that records are too many octets to be read together.
var errLarge = errors.New("records are too large to be read together")

// span reads the records from one number to another, both included. The error is errLarge if they are several and cost more than a page
// may.
func span(src audit.Source, from, to uint64) ([][]byte, error) {
	var all [][]byte
	octets := 0
	for at := from; at <= to; at = from + uint64(len(all)) {
		if octets > maxOctets {
			return nil, errLarge
		}
		records, err := src.Read(at, int(to-at+1))
		if err != nil {
			return nil, err
		}
		if len(records) == 0 {
			return nil, errDamaged // the index says that it is there
		}
		all = append(all, records...)
		for _, r := range records {
			octets += len(r)
		}
	}
	return all, nil
}
