package audit

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/keywright/keywright/internal/arn"
)

// DamagedError says that a log is not what its last checkpoint says. It is left as it is: it is evidence.
type DamagedError struct {
	Dir string
	Why string
}

// Error implements error.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("the audit log in %s was changed from outside: %s", e.Dir, e.Why)
}

func (l *Log) damaged(format string, args ...any) error {
	return &DamagedError{l.opts.Dir, fmt.Sprintf(format, args...)}
}

// recover reads what is there, takes back what a crash cut off, makes the end of the index again from the records and compares
// it with the last checkpoint, and that with what was remembered elsewhere. Segments before that one are only looked at from
// outside: Verify reads them. A log that is refused stays as it is, to the octet.
func (l *Log) recover() (err error) {
	r := &recovery{Log: l}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.takeBack())
		}
	}()
	if err := r.survey(); err != nil {
		return err
	}
	k := &l.keeper
	k.log, k.fsync = l, (*os.File).Sync
	if l.opts.Seed.Len() > 0 {
		if err := r.openCheckpoints(); err != nil {
			return err
		}
	}
	r.sortOut()
	for i, f := range r.found {
		if i > 0 && f.number != r.found[i-1].number+1 {
			return l.damaged("the segments between %s and %s are missing", filepath.Base(r.found[i-1].path("")), filepath.Base(f.path("")))
		}
	}
	if err := r.load(); err != nil {
		return err
	}
	switch newest := r.newest; {
	case newest == nil:
	case l.next < newest.Size:
		return l.damaged("its last checkpoint covers %d records, and there are %d", newest.Size, l.next)
	case len(l.segments) > 0 && l.segments[0].first > newest.First:
		return l.damaged("its oldest record is number %d, and its last checkpoint says %d", l.segments[0].first, newest.First)
	}
	if err := r.settle(); err != nil {
		return err
	}
	if err := l.openLast(); err != nil {
		return err
	}
	l.durable = l.next
	if k.signer == nil {
		return nil
	}
	if err := k.checkpoint(false); err != nil { // of what came between the last one and a crash
		if r.newest == nil {
			return err
		}
		slog.Error("the audit log has no new checkpoint yet", "err", err)
	}
	return k.remember()
}

// recovery is what is known while a log is opened. Nothing in the directory is changed before settle.
type recovery struct {
	*Log
	found   []files // the segments that have records
	indexes bool    // whether there are any
	parts   []string
	twins   []files // segments that were compressed, and whose other file was not removed yet
	retired []files // segments that the last checkpoint says are removed
	newest  *Checkpoint
	made    []string // indexes that were made again, under the names with madeSuffix
	torn    *segment // it ends with something that is no record
}

// madeSuffix is that of an index that was made again, until the log is found to be whole.
const madeSuffix = ".made" + partSuffix

// survey lists the segments, also those of which only the index is left, and what was not finished when the process ended.
func (r *recovery) survey() (err error) {
	if r.parts, err = filepath.Glob(filepath.Join(r.opts.Dir, "*"+partSuffix)); err != nil {
		return err
	}
	if r.found, err = listFiles(r.opts.Dir); err != nil {
		return err
	}
	for i := range r.found {
		f := &r.found[i]
		r.indexes = r.indexes || f.index
		if !f.plain || !f.packed {
			continue
		}
		// The plain one would have gone next. It has the same records, or somebody else put one of the two there.
		if same, err := r.sameRecords(f.number); err != nil || !same {
			return errors.Join(err, r.damaged("there are two files of the segment %d, with different records", f.number))
		}
		r.twins = append(r.twins, files{number: f.number, plain: true})
		f.plain = false
	}
	return nil
}

// sameRecords compares the two files of a segment.
func (r *recovery) sameRecords(number int) (bool, error) {
	var entries [2]frontier
	var ends [2]int64
	for i, suffix := range []string{plainSuffix, packedSuffix} {
		err := eachLine(segmentPath(r.opts.Dir, number, suffix), suffix == packedSuffix, func(e entry, _ []byte) error {
			entries[i].add(e.leaf)
			ends[i] = e.end
			return nil
		})
		if errors.Is(err, errNoLineEnd) || errors.Is(err, errPacked) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return ends[0] == ends[1] && entries[0].equal(&entries[1]), nil
}

// sortOut finds what a removal that the last checkpoint announced has left, and indexes without records.
func (r *recovery) sortOut() {
	var segments []files
	retired := r.newest != nil
	for i, f := range r.found {
		if retired = retired && i < len(r.found)-1; retired {
			h, size, err := readHeadOf(r.opts.Dir, f.number)
			// Its first record is gone, too: what begins there may have an index without entries yet.
			retired = err == nil && h.tree.size < r.newest.First && h.tree.size+uint64(size-h.size())/indexEntry <= r.newest.First
		}
		if retired {
			r.retired = append(r.retired, f)
		} else if f.plain || f.packed {
			segments = append(segments, f)
		}
	}
	r.found = segments
}

// takeBack removes what was made.
func (r *recovery) takeBack() error {
	var errs []error
	for _, path := range r.made {
		errs = append(errs, removeIfThere(path+madeSuffix))
	}
	return errors.Join(errs...)
}

// settle finishes what the end of the process left unfinished. The log was found to be whole.
func (r *recovery) settle() error {
	for _, path := range r.parts {
		if err := removeIfThere(path); err != nil {
			return err
		}
	}
	for _, f := range r.retired {
		if err := removeSegment(r.opts.Dir, f); err != nil {
			return err
		}
	}
	for _, f := range r.twins {
		if err := removeIfThere(f.path(r.opts.Dir)); err != nil {
			return err
		}
	}
	if r.torn != nil {
		if err := r.keepTorn(); err != nil {
			return err
		}
	}
	if r.keeper.signer != nil { // before there is an index
		if err := r.keeper.beginCheckpoints(); err != nil {
			return err
		}
	}
	for _, path := range r.made {
		if err := os.Rename(path+madeSuffix, path); err != nil {
			return err
		}
	}
	r.made = nil
	return syncDir(r.opts.Dir)
}

// readHeadOf reads the head of a segment's index, and how many octets the index has.
func readHeadOf(dir string, number int) (*indexHead, int64, error) {
	f, err := os.Open(segmentPath(dir, number, indexSuffix))
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	h, err := readIndexHead(f, number)
	return h, info.Size(), err
}

// load finds the records of all segments: of older ones by their indexes, from the last that the checkpoint needs on by reading
// them.
func (r *recovery) load() error {
	l, k, found := r.Log, &r.keeper, r.found
	start := 0
	for i, f := range found {
		head, size, err := readHeadOf(l.opts.Dir, f.number)
		if err != nil || i > 0 && head.tree.size != l.next || r.newest != nil && head.tree.size > r.newest.Size {
			break
		}
		if i > 0 && l.known != nil && head.tree.size > l.known.Size {
			break
		}
		start, k.tree = i, head.tree
		s := &segment{dir: l.opts.Dir, number: f.number, first: head.tree.size, begun: head.begun, packed: !f.plain, headSize: head.size(), complete: true}
		if l.next = s.first; i == len(found)-1 || !s.measure(size) {
			break
		}
		l.segments = append(l.segments, s)
		l.next += s.count
	}
	if len(found) > 0 && k.tree.size == 0 && start == 0 && found[0].number != 1 {
		return l.damaged("the index of its first segment is missing or damaged")
	}
	if start < len(l.segments) {
		l.segments = l.segments[:start]
	}
	l.next = k.tree.size
	for _, f := range found[min(start, len(found)):] {
		if err := r.reload(f, f == found[len(found)-1]); err != nil {
			return err
		}
	}
	return nil
}

// measure counts the records of a segment by its index, and reports whether the index can be that of the file.
func (s *segment) measure(indexSize int64) bool {
	entries := indexSize - s.headSize
	if entries <= 0 || entries%indexEntry != 0 {
		return false
	}
	s.count = uint64(entries / indexEntry)
	s.indexed = s.count
	_, last, err := readEntries(s.indexPath(), s.headSize, s.count-1, 1)
	if err != nil {
		return false
	}
	s.lastEnd = last[0].end
	info, err := os.Stat(s.path())
	return err == nil && (s.packed || info.Size() == s.lastEnd)
}

// errNoRecord says that a line is no record.
var errNoRecord = errors.New("a line is no record")

// reload reads a segment, and makes the index that it should have if it has another one.
func (r *recovery) reload(f files, last bool) error {
	l, k, newest := r.Log, &r.keeper, r.newest
	s := &segment{dir: l.opts.Dir, number: f.number, first: k.tree.size, begun: time.Now(), packed: !f.plain, complete: !last || !f.plain}
	if head, _, err := readHeadOf(l.opts.Dir, f.number); err == nil {
		s.begun = head.begun
	} else if info, err := os.Stat(s.path()); err == nil {
		s.begun = info.ModTime()
	}
	head := indexHead{number: f.number, begun: s.begun, tree: k.tree.clone()}
	s.headSize = head.size()
	index := head.marshal()
	if err := r.checkRoots(); err != nil {
		return err
	}
	err := eachLine(s.path(), s.packed, func(e entry, line []byte) error {
		if (newest == nil || k.tree.size >= newest.Size) && (len(line) == 0 || line[0] != '{' || !json.Valid(line)) {
			return errNoRecord
		}
		index = appendEntry(index, e)
		s.count++
		s.lastEnd = e.end
		k.tree.add(e.leaf)
		return r.checkRoots()
	})
	switch open := last && f.plain; {
	case open && (errors.Is(err, errNoLineEnd) || errors.Is(err, errNoRecord)): // the octets of a flush reach the disk in any order
		r.torn = s
	case err != nil:
		var damaged *DamagedError
		if newest == nil || errors.As(err, &damaged) {
			return err
		}
		return l.damaged("%s: %v", filepath.Base(s.path()), err)
	}
	s.indexed = s.count
	l.segments = append(l.segments, s)
	l.next = k.tree.size
	old, err := os.ReadFile(s.indexPath())
	if err == nil && bytes.Equal(old, index) {
		return nil
	}
	if last && f.plain && err == nil && bytes.HasPrefix(old, index[:s.headSize]) && hasEntryBehind(old[s.headSize:], s) {
		return l.damaged("%s: its index has record %d, which was on disk as a whole and is not", filepath.Base(s.path()), l.next)
	}
	if err == nil && !bytes.HasPrefix(index, old) {
		slog.Warn("the index of an audit segment is not that of its records and is made again", "segment", s.path())
	}
	r.made = append(r.made, s.indexPath())
	return writeSynced(s.indexPath()+madeSuffix, index)
}

// hasEntryBehind reports whether the entries of an old index have one behind the last whole record of a segment. A record gets one when it
// is on disk, so no crash leaves that. What a crash may leave of an entry is none: its end is not that of a record.
func hasEntryBehind(old []byte, s *segment) bool {
	at := int(s.count) * indexEntry
	if len(old) < at+indexEntry {
		return false
	}
	length := parseEntry(old[at:]).end - s.lastEnd
	return length > 1 && length <= MaxRecord+1
}

// keepTorn copies what is behind the last whole record, and will be cut off, to a file beside it: if it is no crash that left it, it is
// evidence.
func (r *recovery) keepTorn() error {
	s := r.torn
	in, err := os.Open(s.path())
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // it was only read
	info, err := in.Stat()
	if err != nil {
		return err
	}
	var out *os.File
	for n := 1; out == nil; n++ {
		out, err = os.OpenFile(segmentPath(s.dir, s.number, fmt.Sprintf("%s.%d", tornSuffix, n)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	if _, err = io.Copy(out, io.NewSectionReader(in, s.lastEnd, info.Size()-s.lastEnd)); err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err == nil {
		err = syncDir(s.dir)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("keeping what is behind the last whole record: %w", err), os.Remove(out.Name()))
	}
	slog.Error("the audit log was not on disk as a whole when the process or the machine stopped; what is behind the last whole record is cut off",
		"segment", s.path(), "record", s.first+s.count, "octets", info.Size()-s.lastEnd, "kept", out.Name())
	return nil
}

// checkRoots compares the tree with the last checkpoint and with the one that was remembered, when it has come so far.
func (r *recovery) checkRoots() error {
	tree := &r.keeper.tree
	for _, c := range []*Checkpoint{r.newest, r.known} {
		if c != nil && tree.size == c.Size && tree.root() != c.Root {
			return r.damaged("its first %d records are not those of checkpoint %d", c.Size, c.Number)
		}
	}
	return nil
}

// eachLine calls f for every whole record of a segment. The octets are there until f returns, and nil for lines that are longer than
// any record.
func eachLine(path string, packed bool, f func(entry, []byte) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // it was only read
	var r io.Reader = file
	if packed {
		p, err := newPackedReader(file)
		if err != nil {
			return err
		}
		defer p.close()
		r = p
	}
	for lines := newLineReader(r); ; {
		e, err := lines.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = f(e, lines.line)
		}
		if err != nil {
			return err
		}
	}
}

// openLast opens the last segment for appending, or a new one.
func (l *Log) openLast() error {
	n := len(l.segments)
	if n == 0 || l.segments[n-1].complete {
		s := &segment{dir: l.opts.Dir, number: 1, first: l.next, begun: time.Now()}
		if n > 0 {
			s.number = l.segments[n-1].number + 1
		}
		l.segments = append(l.segments, s)
	}
	s := l.segments[len(l.segments)-1]
	l.keeper.number = s.number
	file, err := l.openSegment(s.number, s.lastEnd)
	if err == nil {
		l.use(file, s.lastEnd, 0)
	}
	return err
}

// openCheckpoints opens the file of checkpoints and reads the last one. A log that has an index had checkpoints, too.
func (r *recovery) openCheckpoints() error {
	l, k := r.Log, &r.keeper
	file, err := os.OpenFile(checkpointsPath(l.opts.Dir), os.O_RDWR, 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("opening the checkpoints: %w", err)
	}
	var text []byte
	if err == nil {
		k.file = file
		if text, k.end, err = lastNote(file); err != nil {
			return fmt.Errorf("reading the checkpoints: %w", err)
		}
	}
	origin, _, _ := strings.Cut(string(text), "\n")
	if len(text) == 0 {
		if r.indexes {
			return l.damaged("its checkpoints are missing")
		}
		if c := l.known; c != nil {
			return l.damaged("it is gone; checkpoint %d of %s covered %d records", c.Number, c.Time.Format(time.RFC3339), c.Size)
		}
		origin = originPrefix + arn.NewUUID()
		slog.Info("a new audit log begins", "dir", l.opts.Dir, "origin", origin)
	}
	key := ed25519.NewKeyFromSeed(l.opts.Seed.Expose())
	if k.signer, err = newSigner(origin, key); err != nil {
		return l.damaged("its last checkpoint is damaged")
	}
	if len(text) == 0 {
		return nil
	}
	v, err := note.NewVerifier(k.signer.public)
	if err != nil {
		return err
	}
	c, err := openCheckpoint(text, v, true)
	if err != nil {
		return l.damaged("its last checkpoint is damaged, or signed by the key of another installation")
	}
	switch known := l.known; {
	case known == nil:
	case known.Origin != c.Origin:
		return l.damaged("it is another log than that of this installation, %s", known.Origin)
	case known.Number > c.Number || known.Size > c.Size || known.Number == c.Number && known.body() != c.body():
		return l.damaged("its last checkpoint is number %d over %d records, and there was number %d over %d", c.Number, c.Size, known.Number, known.Size)
	}
	r.newest, k.oldest = c, c.Oldest
	k.newest.Store(c)
	return nil
}

// beginCheckpoints begins the file of checkpoints with one over no records, or removes what a crash left behind the last one.
func (k *keeper) beginCheckpoints() (err error) {
	if k.file == nil {
		if k.file, err = os.OpenFile(checkpointsPath(k.log.opts.Dir), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
			return fmt.Errorf("opening the checkpoints: %w", err)
		}
	}
	if err := k.file.Truncate(k.end); err != nil {
		return fmt.Errorf("reading the checkpoints: %w", err)
	}
	if k.newest.Load() == nil {
		all := k.tree
		k.tree = frontier{}
		err := k.checkpoint(false)
		if k.tree = all; err != nil {
			return err
		}
	}
	return k.publishKey()
}

// publishKey writes the verifier key beside the log.
func (k *keeper) publishKey() error {
	path := filepath.Join(k.log.opts.Dir, verifierName)
	text := []byte(k.signer.public + "\n")
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, text) {
		return nil
	}
	if err := writeFile(path, text); err != nil {
		return fmt.Errorf("writing the verifier key: %w", err)
	}
	return nil
}

// lastNote returns the last whole note of a file of checkpoints, nil if there is none, and where it ends. What a crash left
// behind it is not counted.
func lastNote(file *os.File) ([]byte, int64, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, 0, err
	}
	size := min(info.Size(), 4*maxCheckpoint)
	at := info.Size() - size
	tail := make([]byte, size)
	if _, err := file.ReadAt(tail, at); err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, err
	}
	for len(tail) > 0 {
		begin := bytes.LastIndex(tail, []byte("\n\n"+originPrefix))
		if begin >= 0 {
			begin += 2
		} else if begin = 0; at > 0 {
			return nil, 0, errors.New("there is none at the end of the file")
		}
		r := newNoteReader(bytes.NewReader(tail[begin:]))
		text, err := r.next()
		if err == nil {
			return text, at + int64(begin) + r.at, nil
		}
		tail = tail[:begin] // the empty line in front stays with the note before
	}
	return nil, 0, nil
}
