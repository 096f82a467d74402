package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// VerifyOptions say what Verify is to verify, and against what.
type VerifyOptions struct {
	Dir        string
	Checkpoint []byte // one that was kept elsewhere; nil for none
	Key        string // the verifier key, kept elsewhere; "" for the one in the directory
}

// Kind says what happened to something.
type Kind string

// The kinds of findings.
const (
	Changed  Kind = "changed"
	Removed  Kind = "removed"
	Inserted Kind = "inserted"
	Moved    Kind = "moved"
	CutOff   Kind = "cut off"
	Missing  Kind = "missing"
	Damaged  Kind = "damaged"
)

// Finding is one place where the log is not what it was.
type Finding struct {
	File   string // name in the directory
	Record uint64 // number that the record has, or should have
	Offset int64  // octets from the beginning of the file; of the uncompressed one for records of a compressed segment
	Kind   Kind
	Detail string

	gone, come []tlog.Hash // leaf hashes that are not there and should be, and the other way round; the first few
	index      string      // the index that says so, if it is not known yet which of the two is right
	indexAt    int64
}

// String returns the finding in one line.
func (f *Finding) String() string {
	return fmt.Sprintf("%s: record %d, octet %d: %s: %s", f.File, f.Record, f.Offset, f.Kind, f.Detail)
}

// Report is what Verify found.
type Report struct {
	Findings    []Finding // the first ones; none if all is as it was
	More        int       // how many further findings there are
	First, Next uint64    // the records that are there: from First to before Next
	Octets      int64     // of these records
	Checkpoints int       // in the directory, verified
	Newest      *Checkpoint
	Kept        *Checkpoint // the one from elsewhere; nil if there was none
	KeptFits    bool        // the records up to Kept were read, and are those of it
	KeyKept     bool        // the key is from elsewhere
	Beyond      uint64      // records behind the newest checkpoint: nothing is said about them
}

// maxFindings bounds the memory of a Report.
const maxFindings = 200

// Verify reads a whole log and compares it with its checkpoints, and with one that was kept elsewhere. It needs nothing else, its
// memory does not depend on the size of the log, and a server may write to the log meanwhile. The error says that it could not
// be done; what is wrong with the log is in the Report.
func Verify(ctx context.Context, o VerifyOptions) (*Report, error) {
	v := &verifier{ctx: ctx, dir: o.Dir, report: &Report{}}
	if ok, err := v.readKey(o.Key); err != nil || !ok {
		return v.report, err
	}
	if o.Checkpoint != nil {
		c, err := openCheckpoint(o.Checkpoint, v.key, false)
		if err != nil {
			return nil, fmt.Errorf("reading the checkpoint that was kept: %w", err)
		}
		v.report.Kept, v.kept = c, c
	}
	file, err := os.Open(checkpointsPath(o.Dir)) // before the segments are read: what it covers is there then
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("reading the checkpoints: %w", err)
	}
	if err == nil {
		defer func() { _ = file.Close() }() // it was only read
	}
	if v.chain, err = v.readChain(file); err != nil {
		return nil, fmt.Errorf("reading the checkpoints: %w", err)
	}
	if err := v.segments(); err != nil {
		return nil, err
	}
	v.end()
	v.explain()
	return v.report, nil
}

// verifier is one run of Verify. The tree is that of the records as they are. Where a record is not what the index says, it
// cannot be said which of the two was changed before the next checkpoint comes: until then there are two trees.
type verifier struct {
	ctx    context.Context
	dir    string
	key    note.Verifier
	kept   *Checkpoint // until its turn comes
	chain  *chain
	report *Report

	tree   frontier
	says   frontier // what the index says, while forked
	forked bool
	since  int  // number of findings before the fork
	join   side // which of the two proved right; the other one is dropped as soon as both stand at the same record
	lost   bool // neither is right: said already, until a checkpoint fits again
	proved uint64

	marks          []mark // checkpoints that one of the trees has not passed yet
	treeAt, saysAt int    // the next one of each
	next           uint64 // its size, for the tree
}

// side is one of the two trees.
type side int8

const (
	neither side = iota
	records
	index
)

// mark is a checkpoint on its way.
type mark struct {
	*Checkpoint
	kept       bool
	tree, says verdict
}

// verdict says whether a tree has the root of a checkpoint.
type verdict int8

const (
	unknown verdict = iota
	fits
	differs
)

// readKey reads the verifier key. It reports whether there is one.
func (v *verifier) readKey(kept string) (bool, error) {
	text, err := os.ReadFile(filepath.Join(v.dir, verifierName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("reading the verifier key: %w", err)
	}
	missing := err != nil
	key := strings.TrimSuffix(string(text), "\n")
	if kept != "" {
		v.report.KeyKept = true
		if kept = strings.TrimSpace(kept); kept+"\n" != string(text) {
			v.find(Finding{File: verifierName, Kind: Changed, Detail: "it is not the key that was kept"})
		}
		key = kept
	}
	v.key, err = note.NewVerifier(key)
	switch {
	case err == nil && (kept != "" || key+"\n" == string(text)):
		return true, nil
	case kept != "":
		return false, fmt.Errorf("reading the verifier key: %w", err)
	case missing:
		v.find(Finding{File: verifierName, Kind: Missing, Detail: "without a key nothing can be verified: name the one that you kept"})
	default:
		v.find(Finding{File: verifierName, Kind: Changed, Detail: "it is no verifier key: name the one that you kept"})
	}
	return false, nil
}

func (v *verifier) find(f Finding) {
	if len(v.report.Findings) < maxFindings {
		v.report.Findings = append(v.report.Findings, f)
		return
	}
	v.report.More++
}

// number returns the number that the next record should have.
func (v *verifier) number() uint64 {
	if v.forked {
		return v.says.size
	}
	return v.tree.size
}

// mark returns the size of a checkpoint on its way: the largest number if there are no more.
func (v *verifier) mark(i int) uint64 {
	for len(v.marks) <= i {
		c := v.chain.next()
		m := mark{Checkpoint: c}
		if k := v.kept; k != nil && (c == nil || k.Size <= c.Size) {
			v.chain.unread(c)
			v.kept, m = nil, mark{Checkpoint: k, kept: true}
		}
		if m.Checkpoint == nil {
			return math.MaxUint64
		}
		v.marks = append(v.marks, m)
	}
	return v.marks[i].Size
}

// begin takes the tree before the first record that is there.
func (v *verifier) begin(tree frontier) {
	v.tree = tree.clone()
	v.report.First = tree.size
	v.skip(tree.size)
}

// skip drops the checkpoints over records that cannot be read, and goes on with the one behind.
func (v *verifier) skip(size uint64) {
	for v.mark(0) < size {
		if m := v.marks[0]; m.kept {
			v.find(Finding{File: checkpointsName, Record: m.Size, Kind: Missing, Detail: fmt.Sprintf(
				"the checkpoint that was kept covers %d records, and the oldest that is left is number %d: keep newer checkpoints", m.Size, size)})
		}
		v.marks = v.marks[1:]
	}
	v.next = v.mark(0)
	v.passed(&v.tree, records)
}

// same adds a record that is what the index says.
func (v *verifier) same(leaf tlog.Hash) {
	v.tree.add(leaf)
	if v.forked {
		v.says.add(leaf)
		v.passed(&v.says, index)
	}
	if v.tree.size == v.next {
		v.passed(&v.tree, records)
	}
}

// differ adds what is there and what the index says.
func (v *verifier) differ(there, said []entry) {
	v.fork(v.tree)
	for i := range said {
		v.says.add(said[i].leaf)
		v.passed(&v.says, index)
	}
	for i := range there {
		v.tree.add(there[i].leaf)
		v.passed(&v.tree, records)
	}
}

// fork begins a second tree, unless there is one already.
func (v *verifier) fork(says frontier) {
	if v.forked {
		return
	}
	v.forked, v.says, v.since, v.saysAt = true, says.clone(), len(v.report.Findings), v.treeAt
	if v.since > 0 && v.report.Findings[v.since-1].index != "" {
		v.since-- // the finding that it is about
	}
}

// passed compares a tree with the checkpoints of its size.
func (v *verifier) passed(tree *frontier, which side) {
	at := &v.treeAt
	if which == index {
		at = &v.saysAt
	}
	for v.mark(*at) == tree.size {
		m := &v.marks[*at]
		result := differs
		if tree.root() == m.Root {
			result = fits
		}
		if which == index {
			m.says = result
		} else {
			m.tree = result
		}
		*at++
		if v.settle(); !v.forked {
			v.saysAt = v.treeAt
		}
	}
	if which == records {
		v.next = v.mark(v.treeAt)
	}
}

// settle judges the checkpoints that have been compared.
func (v *verifier) settle() {
	for len(v.marks) > 0 {
		m := &v.marks[0]
		switch {
		case !v.forked && m.tree == unknown, v.forked && (m.says == unknown || m.says == differs && m.tree == unknown):
			return
		case v.forked && m.says == fits:
			v.proved, v.lost, v.join = m.Size, false, index
		case m.tree == fits:
			v.proved, v.lost = m.Size, false
			v.report.KeptFits = v.report.KeptFits || m.kept
			if v.forked {
				v.blameIndex()
				v.join = records
			}
		case !v.lost:
			v.lost = true
			v.find(Finding{File: v.chain.segment, Record: v.proved, Kind: Changed, Detail: fmt.Sprintf(
				"the records from number %d to before %d are not those of %s", v.proved, m.Size, m.name())})
		}
		v.marks = v.marks[1:]
		v.treeAt, v.saysAt = max(0, v.treeAt-1), max(0, v.saysAt-1)
	}
}

func (m *mark) name() string {
	if m.kept {
		return "the checkpoint that was kept"
	}
	return fmt.Sprintf("checkpoint %d", m.Number)
}

// blameIndex says of what was found since the fork that the index was changed and not the records.
func (v *verifier) blameIndex() {
	for i := min(v.since, len(v.report.Findings)); i < len(v.report.Findings); i++ {
		f := &v.report.Findings[i]
		if f.index == "" {
			continue
		}
		f.File, f.Offset, f.Kind = f.index, f.indexAt, Changed
		f.Detail = "the index is not that of the records, which fit the next checkpoint"
		f.gone, f.come = nil, nil
	}
}

// aligned is called between two records, when both trees stand at the same one.
func (v *verifier) aligned() {
	if !v.forked || v.join == neither {
		return
	}
	if v.join == index {
		v.tree = v.says.clone()
		v.treeAt = v.saysAt
	}
	for i := range v.marks {
		switch {
		case i >= v.treeAt:
			v.marks[i].tree = unknown
		case v.join == index:
			v.marks[i].tree = v.marks[i].says
		}
	}
	v.forked, v.join, v.saysAt = false, neither, v.treeAt
	v.next = v.mark(v.treeAt)
	v.settle()
}

// rebase goes on with the tree that the head of an index has, where what was before cannot be followed any more.
func (v *verifier) rebase(tree frontier) {
	v.tree, v.forked, v.join = tree.clone(), false, neither
	v.marks, v.treeAt, v.saysAt = v.marks[min(v.treeAt, len(v.marks)):], 0, 0
	v.skip(tree.size)
}

// end looks at what no record came for.
func (v *verifier) end() {
	r, newest := v.report, v.report.Newest
	r.Next = v.tree.size
	if v.forked { // one of the two may not come as far as the other
		for i := range v.marks {
			if m := &v.marks[i]; m.Size <= max(v.tree.size, v.says.size) {
				m.says, m.tree = cmp.Or(m.says, differs), cmp.Or(m.tree, differs)
			}
		}
		v.settle()
		v.aligned()
	}
	here := v.number()
	var largest uint64
	for i := range v.marks {
		largest = max(largest, v.marks[i].Size)
	}
	for c := v.chain.next(); c != nil; c = v.chain.next() {
		largest = max(largest, c.Size)
	}
	if v.kept != nil {
		largest = max(largest, v.kept.Size)
	}
	if largest > here {
		v.find(Finding{File: v.chain.segment, Record: here, Offset: v.chain.offset, Kind: CutOff, Detail: fmt.Sprintf(
			"the records from number %d to before %d, which checkpoints cover, are not there", here, largest)})
	}
	if newest == nil {
		return
	}
	if here > newest.Size {
		r.Beyond = here - newest.Size
	}
	if newest.Closed && (r.Beyond > 0 || v.chain.torn) {
		v.find(Finding{
			File: v.chain.segment, Record: newest.Size, Offset: v.chain.offset, Kind: Inserted,
			Detail: "there are records behind the checkpoint with which the log was closed",
		})
	}
}
