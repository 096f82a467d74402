package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// chain is the sequence of a log's checkpoints while it is verified: they are read twice, the second time beside the records.
type chain struct {
	file   *os.File // nil: there is none
	end    int64    // how far it is read: a server may append to it
	skip   []extent // what is not a checkpoint in its place
	r      *noteReader
	base   int64 // offset of what r reads
	peeked *Checkpoint

	segment string // the last segment that was begun
	offset  int64  // and where its last record ends
	torn    bool   // and whether it ends within a record
}

type extent struct{ from, to int64 }

// halfWritten is how long a checkpoint may be there in part only: it is one small write.
const halfWritten = 20 * time.Millisecond

// readChain verifies the checkpoints of the directory: their signatures, and that none is missing or out of its place.
func (v *verifier) readChain(file *os.File) (*chain, error) {
	c := &chain{file: file}
	if file == nil {
		v.find(Finding{File: checkpointsName, Kind: Missing, Detail: "there are no checkpoints"})
		return c, nil
	}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	c.end = info.Size()
	var first, last *Checkpoint
	bad := uint64(0) // since the last one that is right
	for at := int64(0); at < c.end; {
		if err := v.ctx.Err(); err != nil {
			return nil, err
		}
		cp, next, err := v.readNote(c, at)
		if err != nil {
			return nil, err
		}
		if cp == nil && next == c.end { // the last one may just be written
			time.Sleep(halfWritten)
			if info, err = file.Stat(); err != nil {
				return nil, err
			}
			if info.Size() > c.end {
				c.end, c.r = info.Size(), nil
				continue
			}
		}
		if cp == nil {
			v.find(Finding{File: checkpointsName, Record: v.covered(), Offset: at, Kind: Changed, Detail: "this is not a checkpoint signed by the log's key"})
			bad++
		} else if last != nil && cp.Number <= last.Number {
			v.find(Finding{File: checkpointsName, Record: cp.Size, Offset: at, Kind: Moved, Detail: fmt.Sprintf(
				"checkpoint %d stands behind checkpoint %d", cp.Number, last.Number)})
			cp = nil
		}
		if cp == nil {
			c.skip = append(c.skip, extent{at, next})
			at = next
			continue
		}
		if last != nil && (cp.Number > last.Number+1+bad || cp.Size < last.Size) {
			v.find(Finding{File: checkpointsName, Record: last.Size, Offset: at, Kind: Removed, Detail: fmt.Sprintf(
				"checkpoint %d follows on checkpoint %d", cp.Number, last.Number)})
		}
		if first == nil {
			first = cp
			first.Number -= min(bad, first.Number)
		}
		last, bad = cp, 0
		v.report.Newest = cp
		v.report.Checkpoints++
		at = next
	}
	v.checkEnds(c, first)
	return c, nil
}

// covered returns how many records the checkpoints cover that have been read.
func (v *verifier) covered() uint64 {
	if v.report.Newest == nil {
		return 0
	}
	return v.report.Newest.Size
}

// checkEnds looks whether checkpoints are missing at the beginning or at the end.
func (v *verifier) checkEnds(c *chain, first *Checkpoint) {
	newest, kept := v.report.Newest, v.report.Kept
	if newest == nil {
		v.find(Finding{File: checkpointsName, Kind: CutOff, Detail: "there is no checkpoint"})
		return
	}
	if first.Number != newest.Oldest {
		v.find(Finding{File: checkpointsName, Record: first.Size, Kind: Removed, Detail: fmt.Sprintf(
			"the first checkpoint is number %d, and that should be %d", first.Number, newest.Oldest)})
	}
	if kept != nil && (kept.Number > newest.Number || kept.Size > newest.Size) {
		v.find(Finding{File: checkpointsName, Record: newest.Size, Offset: c.end, Kind: CutOff, Detail: fmt.Sprintf(
			"the last checkpoint is number %d, and the one that was kept is number %d", newest.Number, kept.Number)})
	}
}

// readNote reads the checkpoint at an offset, nil if there is none, and returns where the next one begins.
func (v *verifier) readNote(c *chain, at int64) (*Checkpoint, int64, error) {
	if c.r == nil || c.base+c.r.at != at {
		c.r, c.base = newNoteReader(io.NewSectionReader(c.file, at, c.end-at)), at
	}
	text, err := c.r.next()
	if err == nil {
		var cp *Checkpoint
		if cp, err = openCheckpoint(text, v.key, true); err == nil {
			return cp, c.base + c.r.at, nil
		}
	}
	if !errors.Is(err, errTorn) && !errors.Is(err, ErrCheckpoint) {
		return nil, 0, err
	}
	next, err := c.nextOrigin(at + 1)
	return nil, next, err
}

// nextOrigin finds where a checkpoint may begin, from an offset on.
func (c *chain) nextOrigin(from int64) (int64, error) {
	want := []byte("\n" + originPrefix)
	buf := make([]byte, 32<<10)
	for at := max(0, from-1); at < c.end; {
		n, err := c.file.ReadAt(buf[:min(int64(len(buf)), c.end-at)], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if i := bytes.Index(buf[:n], want); i >= 0 {
			return at + int64(i) + 1, nil
		}
		if n < len(buf) {
			break
		}
		at += int64(n - len(want))
	}
	return c.end, nil
}

// rewind has the checkpoints read again, by next.
func (c *chain) rewind() { c.r, c.base = nil, 0 }

// next returns the next checkpoint, nil at the end. They were verified before.
func (c *chain) next() *Checkpoint {
	if cp := c.peeked; cp != nil {
		c.peeked = nil
		return cp
	}
	if c.file == nil {
		return nil
	}
	if c.r == nil {
		c.r = newNoteReader(io.NewSectionReader(c.file, c.base, c.end-c.base))
	}
	for len(c.skip) > 0 && c.skip[0].from == c.base+c.r.at {
		c.base, c.skip = c.skip[0].to, c.skip[1:]
		c.r = newNoteReader(io.NewSectionReader(c.file, c.base, c.end-c.base))
	}
	text, err := c.r.next()
	if err != nil {
		return nil
	}
	body, _, _ := bytes.Cut(text, []byte("\n\n"))
	cp, err := parseBody(string(body) + "\n")
	if err != nil {
		return nil
	}
	return cp
}

// unread has next return a checkpoint again.
func (c *chain) unread(cp *Checkpoint) { c.peeked = cp }
