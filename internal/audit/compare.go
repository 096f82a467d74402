package audit

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// segments compares all records with the indexes and the checkpoints.
func (v *verifier) segments() error {
	v.chain.rewind()
	found, err := listFiles(v.dir)
	if err != nil {
		return err
	}
	newest := v.report.Newest
	var kept []files
	for _, f := range found {
		if !f.plain && !f.packed && newest != nil { // the rest of a removal that was announced
			if h, size, err := readHeadOf(v.dir, f.number); err == nil && h.tree.size+uint64(size-h.size())/indexEntry <= newest.First {
				continue
			}
		}
		kept = append(kept, f)
	}
	lines := newLineReader(nil)
	begun, gap := false, false // whether a segment was read, and whether the one before this one was not
	for i, f := range kept {
		if gone, err := v.goneSince(f); err != nil {
			return err
		} else if gone {
			gap = true
			continue
		}
		if i > 0 && f.number != kept[i-1].number+1 {
			gap = true
			v.find(Finding{File: segmentPath("", kept[i-1].number+1, plainSuffix), Record: v.number(), Kind: Missing, Detail: fmt.Sprintf(
				"the segments before %s are not there", filepath.Base(f.path("")))})
		}
		s := &comparison{v: v, files: f, lines: lines, first: !begun, last: i == len(kept)-1, gap: gap}
		if err := s.run(); err != nil {
			return err
		}
		begun, gap = true, false
	}
	if !begun {
		v.begin(frontier{})
	}
	return nil
}

// goneSince reports whether retention has removed a segment since the directory was listed.
func (v *verifier) goneSince(f files) (bool, error) {
	now, err := listFile(v.dir, f.number)
	if err != nil || now.plain || now.packed || now.index || !f.plain && !f.packed {
		return false, err
	}
	return v.retired(f.number), nil
}

// retired reports whether the newest checkpoint that is there now, newer perhaps than the one that was read, says that the segment
// after a number is the oldest, or that it is not there any more either.
func (v *verifier) retired(number int) bool {
	newest := v.newestNow()
	if newest == nil {
		return false
	}
	next, _, err := readHeadOf(v.dir, number+1)
	return errors.Is(err, os.ErrNotExist) || err == nil && next.tree.size <= newest.First
}

// newestNow returns the newest checkpoint that is there now, verified; nil if there is none.
func (v *verifier) newestNow() *Checkpoint {
	text, err := NewestCheckpoint(v.dir)
	if err != nil {
		return nil
	}
	c, err := openCheckpoint(text, v.key, true)
	if err != nil {
		return nil
	}
	return c
}

// comparison compares the records of one segment with its index.
type comparison struct {
	v                *verifier
	files            files
	first, last, gap bool
	name             string // of the file with the records
	base             uint64 // number of the first record

	lines    *lineReader
	file     *os.File // nil: there is none, or it cannot be read
	packed   *packedReader
	entries  *bufio.Reader // nil: there is no index
	index    *os.File
	headSize int64

	there, said         []entry // read ahead of the comparison, after a difference
	thereDone, saidDone bool
	unreadable          bool
	end                 int64 // behind the last record that was compared
	shift               int64 // how much further back records are than the index says, because of what was found
	uncovered           bool  // that the index is cut off was said
}

func (c *comparison) run() error {
	v := c.v
	c.name = filepath.Base(c.files.path(""))
	v.chain.segment, v.chain.offset = c.name, 0
	defer c.close()
	if err := c.openIndex(); err != nil {
		return err
	}
	c.base = v.number()
	if err := c.openRecords(); err != nil {
		return err
	}
	for n := 0; ; n++ {
		if n%4096 == 0 && v.ctx.Err() != nil {
			return v.ctx.Err()
		}
		a, okA, err := c.nextThere()
		if err != nil {
			return err
		}
		l, okL, err := c.nextSaid()
		if err != nil {
			return err
		}
		switch {
		case okA && okL && a.leaf == l.leaf:
			if l.end+c.shift != a.end {
				c.wrongEnd(l, a)
			}
			c.end = a.end
			v.same(a.leaf)
			if v.forked {
				v.aligned()
			}
		case !okA && !okL:
			v.report.Octets += c.end
			v.chain.offset = c.end
			return nil
		case okA && !okL && (c.last || c.entries == nil || v.uncovered()):
			c.unindexed()
			c.end = a.end
			v.same(a.leaf)
		default:
			if okA {
				c.there = slices.Insert(c.there, 0, a)
			}
			if okL {
				c.said = slices.Insert(c.said, 0, l)
			}
			if err := c.difference(); err != nil {
				return err
			}
		}
	}
}

func (c *comparison) close() {
	if c.packed != nil {
		c.packed.close()
	}
	for _, f := range []*os.File{c.file, c.index} {
		if f != nil {
			_ = f.Close() // it was only read
		}
	}
}

// openIndex opens the index as far as it goes now, before the records are read, and compares its head with the records so far.
func (c *comparison) openIndex() error {
	v := c.v
	name := segmentPath("", c.files.number, indexSuffix)
	f, err := os.Open(filepath.Join(v.dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return c.noIndex(name)
	}
	if err != nil {
		return err
	}
	c.index = f
	info, err := f.Stat()
	if err != nil {
		return err
	}
	head, err := readIndexHead(f, c.files.number)
	switch {
	case err == nil:
		c.headSize = head.size()
		c.compareHead(name, head)
	case errors.Is(err, errIndexHead):
		if err := c.noHead(Finding{File: name, Kind: Changed, Detail: "the head of the index is damaged"}); err != nil {
			return err
		}
		c.headSize = int64(indexFixed + bits.OnesCount64(v.number())*sha256.Size + sha256.Size)
	default:
		return err
	}
	entries := max(0, info.Size()-c.headSize)
	if rest := entries % indexEntry; rest != 0 {
		if newest := v.report.Newest; newest == nil || v.number()+uint64(entries/indexEntry) < newest.Size { // else it is being written
			v.find(Finding{File: name, Record: v.number() + uint64(entries/indexEntry), Offset: info.Size() - rest, Kind: CutOff, Detail: "the index ends within an entry"})
			c.uncovered = true
		}
		entries -= rest
	}
	c.entries = bufio.NewReaderSize(io.NewSectionReader(f, c.headSize, entries), 64<<10)
	return nil
}

// noIndex goes on without an index: only records that no checkpoint covers have none.
func (c *comparison) noIndex(name string) error {
	newest := c.v.report.Newest
	if newest == nil || !c.first && newest.Size <= c.v.number() || newest.Size == 0 {
		if c.first {
			c.v.begin(frontier{})
		}
		return nil
	}
	return c.noHead(Finding{File: name, Kind: Missing, Detail: "the segment has no index"})
}

// noHead goes on without a head: with the tree of the records so far, if there is one.
func (c *comparison) noHead(f Finding) error {
	v := c.v
	f.Record = v.number()
	if c.first {
		first := uint64(0)
		if v.report.Newest != nil && c.files.number > 1 {
			first = v.report.Newest.First
		}
		f.Record = first
		v.lost = first > 0 // nothing fits before the next head
		v.begin(frontier{first, make([]tlog.Hash, bits.OnesCount64(first))})
	}
	v.find(f)
	return nil
}

// compareHead compares the tree in the head of an index with that of the records before.
func (c *comparison) compareHead(name string, head *indexHead) {
	v := c.v
	newest := v.report.Newest
	before := &v.tree
	if v.forked {
		before = &v.says
	}
	switch {
	case c.first:
		v.begin(head.tree)
		if now := v.newestNow(); newest != nil && head.tree.size > newest.First && (now == nil || head.tree.size > now.First) {
			v.find(Finding{File: c.name, Record: newest.First, Kind: Missing, Detail: fmt.Sprintf(
				"the records from number %d to before %d are not there", newest.First, head.tree.size)})
		}
	case head.tree.equal(before):
	case v.forked && head.tree.equal(&v.tree): // the next index bears the records out
		v.blameIndex()
		v.join = records
		v.aligned()
	case c.gap || v.lost:
		v.rebase(head.tree)
	default:
		v.find(Finding{
			File: name, Record: before.size, Kind: Changed, Detail: fmt.Sprintf(
				"the index begins with a tree of %d records that is not the one of the %d records before", head.tree.size, before.size),
			index: name,
		})
		v.fork(v.tree)
		v.says = head.tree.clone()
		for v.saysAt = 0; v.mark(v.saysAt) < v.says.size; v.saysAt++ {
			if m := &v.marks[v.saysAt]; m.says == unknown {
				m.says = differs
			}
		}
		v.settle()
		v.passed(&v.says, index)
	}
}

// openRecords opens the file with the records.
func (c *comparison) openRecords() error {
	v := c.v
	var err error
	for range 2 { // it may be compressed meanwhile
		path := filepath.Join(v.dir, c.name)
		if c.file, err = os.Open(path); !errors.Is(err, os.ErrNotExist) {
			break
		}
		c.file = nil
		if c.files.plain {
			c.files.plain, c.files.packed = false, true
			c.name = filepath.Base(c.files.path(""))
		}
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
		c.name = segmentPath("", c.files.number, plainSuffix)
		v.find(Finding{File: c.name, Record: v.number(), Kind: Missing, Detail: "the segment is not there"})
		c.thereDone, c.unreadable = true, true
		return nil
	case err != nil:
		return err
	case c.files.plain:
		info, err := c.file.Stat()
		if err != nil {
			return err
		}
		c.lines.reset(io.NewSectionReader(c.file, 0, info.Size())) // and not after a server that writes faster
		return nil
	}
	c.packed, err = newPackedReader(c.file)
	if err == nil {
		c.lines.reset(c.packed)
		err = checkDigest(c.file)
	} else {
		c.thereDone, c.unreadable = true, true
	}
	if errors.Is(err, errPacked) {
		v.find(Finding{File: c.name, Record: v.number(), Kind: Changed, Detail: err.Error()})
		err = nil
	}
	return err
}

// nextThere returns the next record that is there.
func (c *comparison) nextThere() (entry, bool, error) {
	if len(c.there) > 0 {
		e := c.there[0]
		c.there = c.there[1:]
		return e, true, nil
	}
	return c.readThere()
}

func (c *comparison) readThere() (entry, bool, error) {
	if c.thereDone {
		return entry{}, false, nil
	}
	e, err := c.lines.next()
	if err == nil {
		return e, true, nil
	}
	c.thereDone = true
	switch {
	case errors.Is(err, io.EOF):
		return entry{}, false, nil
	case errors.Is(err, errNoLineEnd) && c.last:
		c.v.chain.torn = true
		return entry{}, false, nil
	case errors.Is(err, errNoLineEnd):
		c.v.find(Finding{File: c.name, Record: c.v.number() + uint64(len(c.there)), Offset: c.lines.end, Kind: CutOff, Detail: "the last record has no line end"})
		return e, true, nil
	case errors.Is(err, errPacked):
		c.unreadable = true
		c.v.find(Finding{File: c.name, Record: c.v.number() + uint64(len(c.there)), Offset: c.lines.end, Kind: Changed, Detail: err.Error()})
		return entry{}, false, nil
	}
	return entry{}, false, err
}

// nextSaid returns what the index says of the next record.
func (c *comparison) nextSaid() (entry, bool, error) {
	if len(c.said) > 0 {
		e := c.said[0]
		c.said = c.said[1:]
		return e, true, nil
	}
	return c.readSaid()
}

func (c *comparison) readSaid() (entry, bool, error) {
	if c.entries == nil || c.saidDone {
		return entry{}, false, nil
	}
	b, err := c.entries.Peek(indexEntry)
	if errors.Is(err, io.EOF) {
		c.saidDone = true
		return entry{}, false, nil
	}
	if err != nil {
		return entry{}, false, err
	}
	e := parseEntry(b)
	_, err = c.entries.Discard(indexEntry)
	return e, true, err
}

// wrongEnd reports an index entry whose hash is right and whose offset is not.
func (c *comparison) wrongEnd(said, there entry) {
	n := c.v.number()
	c.v.find(Finding{File: segmentPath("", c.files.number, indexSuffix), Record: n, Offset: c.headSize + int64(n-c.base)*indexEntry, Kind: Changed, Detail: fmt.Sprintf(
		"the index says that the record ends at octet %d, and it ends at %d", said.end, there.end-c.shift)})
}

// uncovered reports whether no checkpoint covers the next record: its index entry may still be written.
func (v *verifier) uncovered() bool {
	return v.report.Newest != nil && v.number() >= v.report.Newest.Size
}

// unindexed reports a record that the index should have, because a checkpoint covers it.
func (c *comparison) unindexed() {
	newest := c.v.report.Newest
	if c.uncovered || c.entries == nil || newest == nil || c.v.number() >= newest.Size {
		return
	}
	c.uncovered = true
	n := c.v.number()
	c.v.find(Finding{
		File: segmentPath("", c.files.number, indexSuffix), Record: n, Offset: c.headSize + int64(n-c.base)*indexEntry, Kind: CutOff,
		Detail: "the index ends before the last checkpoint",
	})
}

// lookAhead is how far records and index are read to find where they agree again.
const lookAhead = 512

// difference handles records that are not what the index says, up to where both agree again.
func (c *comparison) difference() error {
	v := c.v
	for len(c.there) < lookAhead {
		e, ok, err := c.readThere()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		c.there = append(c.there, e)
	}
	for len(c.said) < lookAhead {
		e, ok, err := c.readSaid()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		c.said = append(c.said, e)
	}
	a, b := resync(c.there, c.said)
	there, said := c.there[:a], c.said[:b]
	c.there, c.said = c.there[a:], c.said[b:]
	if !c.unreadable {
		v.find(c.describe(there, said))
	}
	if len(there) > 0 {
		c.end = there[len(there)-1].end
	}
	v.differ(there, said)
	if len(c.there) > 0 && len(c.said) > 0 {
		c.shift = c.there[0].end - c.said[0].end
		v.aligned()
	}
	return nil
}

// resync returns how many records of each side come before the first that both have, such that the sum is smallest.
func resync(there, said []entry) (int, int) {
	at := make(map[tlog.Hash]int, len(said))
	for i := len(said) - 1; i >= 0; i-- {
		at[said[i].leaf] = i
	}
	a, b := len(there), len(said)
	for i := range there {
		if i >= a+b {
			break
		}
		if j, ok := at[there[i].leaf]; ok && i+j < a+b {
			a, b = i, j
		}
	}
	if a > 0 && b > 0 {
		return a, b
	}
	for k := 2; k <= len(there) && k <= len(said); k++ { // the same records in another order are not some removed and some inserted
		if (k == len(there) && k == len(said) || k < len(there) && k < len(said) && there[k].leaf == said[k].leaf) && permuted(there[:k], said[:k]) {
			return k, k
		}
	}
	return a, b
}

// permuted reports whether two lists have the same records.
func permuted(a, b []entry) bool {
	count := map[tlog.Hash]int{}
	for i := range a {
		count[a[i].leaf]++
		count[b[i].leaf]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}

// few bounds how many hashes a finding remembers.
const few = 16

// describe says what a difference is.
func (c *comparison) describe(there, said []entry) Finding {
	n := c.v.number()
	f := Finding{File: c.name, Record: n, Offset: c.end, index: segmentPath("", c.files.number, indexSuffix), indexAt: c.headSize + int64(n-c.base)*indexEntry}
	for _, e := range said[:min(few, len(said))] {
		f.gone = append(f.gone, e.leaf)
	}
	for _, e := range there[:min(few, len(there))] {
		f.come = append(f.come, e.leaf)
	}
	switch {
	case len(there) == 0 && c.thereDone && len(c.there) == 0 && len(c.said) == 0:
		f.Kind, f.Detail = CutOff, fmt.Sprintf("%d records at the end of the segment are not there", len(said))
	case len(there) == 0:
		f.Kind, f.Detail = Removed, fmt.Sprintf("%d records are not there", len(said))
	case len(said) == 0:
		f.Kind, f.Detail = Inserted, fmt.Sprintf("%d records were not there", len(there))
	case len(there) == len(said) && permuted(there, said):
		f.Kind, f.Detail = Moved, fmt.Sprintf("%d records are in another order", len(there))
	case len(there) == 1 && len(said) == 1:
		f.Kind, f.Detail = Changed, "this is not the record that was written"
	default:
		f.Kind, f.Detail = Changed, fmt.Sprintf("in place of %d records there are %d others", len(said), len(there))
	}
	return f
}

// explain finds out which records were moved or copied.
func (v *verifier) explain() {
	all := v.report.Findings
	for i := range all {
		f := &all[i]
		if f.Kind == Moved || len(f.come) == 0 {
			continue
		}
		for j := range all {
			g := &all[j]
			if i != j && len(g.gone) == len(f.come) && slices.Equal(f.come, g.gone) {
				f.Detail = fmt.Sprintf("here are the %d records from number %d on", len(f.come), g.Record)
				g.Detail += fmt.Sprintf("; they are in the place of number %d", f.Record)
				f.Kind, g.Kind = Moved, Moved
				break
			}
		}
	}
	for i := range all[:min(len(all), few)] {
		if f := &all[i]; f.Kind == Inserted && len(f.come) > 0 {
			if n, ok := v.search(f.come[0]); ok {
				f.Detail += fmt.Sprintf("; the first is a copy of record %d", n)
			}
		}
	}
}

// search looks for a record by its leaf hash in all indexes.
func (v *verifier) search(leaf tlog.Hash) (uint64, bool) {
	found, err := listFiles(v.dir)
	if err != nil {
		return 0, false
	}
	for _, f := range found {
		if n, ok := searchIndex(segmentPath(v.dir, f.number, indexSuffix), f.number, leaf); ok {
			return n, true
		}
	}
	return 0, false
}

func searchIndex(path string, number int, leaf tlog.Hash) (uint64, bool) {
	f, err := os.Open(path)
	if err != nil {
		return 0, false
	}
	defer func() { _ = f.Close() }() // it was only read
	r := bufio.NewReaderSize(f, 64<<10)
	head, err := readIndexHead(r, number)
	if err != nil {
		return 0, false
	}
	var b [indexEntry]byte
	for n := head.tree.size; ; n++ {
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return 0, false
		}
		if parseEntry(b[:]).leaf == leaf {
			return n, true
		}
	}
}
