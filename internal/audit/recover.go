package audit

import (
	"bytes"
	"crypto/ed25519"
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
// it with the last checkpoint. Segments before that one are only looked at from outside: Verify reads them.
func (l *Log) recover() error {
	found, indexes, err := l.survey()
	if err != nil {
		return err
	}
	k := &l.keeper
	k.log = l
	if l.opts.Seed.Len() > 0 {
		if err := k.openCheckpoints(indexes); err != nil {
			return err
		}
	}
	newest := k.newest.Load()
	if found, err = l.dropRetired(found, newest); err != nil {
		return err
	}
	for i, f := range found {
		if i > 0 && f.number != found[i-1].number+1 {
			return l.damaged("the segments between %s and %s are missing", filepath.Base(found[i-1].path("")), filepath.Base(f.path("")))
		}
	}
	mend, err := l.load(found, newest)
	if err != nil {
		return err
	}
	switch {
	case newest == nil:
	case l.next < newest.Size:
		return l.damaged("its last checkpoint covers %d records, and there are %d", newest.Size, l.next)
	case len(l.segments) > 0 && l.segments[0].first > newest.First:
		return l.damaged("its oldest record is number %d, and its last checkpoint says %d", l.segments[0].first, newest.First)
	}
	for path, index := range mend { // only now: a log that is refused stays as it is
		if err := writeFile(path, index); err != nil {
			return err
		}
	}
	if err := l.openLast(); err != nil {
		return err
	}
	l.durable = l.next
	if k.signer == nil {
		return nil
	}
	if err := k.checkpoint(false); err != nil { // of what came between the last one and a crash
		if newest == nil {
			return err
		}
		slog.Error("the audit log has no new checkpoint yet", "err", err)
	}
	return nil
}

// survey lists the segments, also those of which only the index is left, without what was not finished when the process ended. It says whether there are indexes.
func (l *Log) survey() (segments []files, indexes bool, err error) {
	parts, err := filepath.Glob(filepath.Join(l.opts.Dir, "*"+partSuffix))
	if err != nil {
		return nil, false, err
	}
	for _, p := range parts {
		if err := os.Remove(p); err != nil {
			return nil, false, err
		}
	}
	found, err := listFiles(l.opts.Dir)
	if err != nil {
		return nil, false, err
	}
	for _, f := range found {
		indexes = indexes || f.index
		if f.plain && f.packed { // the plain one would have gone next: it is compressed again
			if err := os.Remove(segmentPath(l.opts.Dir, f.number, packedSuffix)); err != nil {
				return nil, false, err
			}
			f.packed = false
		}
		segments = append(segments, f)
	}
	return segments, indexes, nil
}

// dropRetired finishes a removal that the last checkpoint announced, and returns the segments that have records.
func (l *Log) dropRetired(found []files, newest *Checkpoint) (segments []files, err error) {
	retired := newest != nil
	for i, f := range found {
		if retired && i < len(found)-1 {
			h, size, err := readHeadOf(l.opts.Dir, f.number)
			retired = err == nil && h.tree.size+uint64(size-h.size())/indexEntry <= newest.First
		} else {
			retired = false
		}
		if retired {
			err = errors.Join(err, removeSegment(l.opts.Dir, f))
		} else if f.plain || f.packed {
			segments = append(segments, f)
		}
	}
	return segments, err
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
// them. It returns the indexes that are to be written, by their paths.
func (l *Log) load(found []files, newest *Checkpoint) (map[string][]byte, error) {
	k := &l.keeper
	start := 0
	for i, f := range found {
		head, size, err := readHeadOf(l.opts.Dir, f.number)
		if err != nil || i > 0 && head.tree.size != l.next || newest != nil && head.tree.size > newest.Size {
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
		return nil, l.damaged("the index of its first segment is missing or damaged")
	}
	if start < len(l.segments) {
		l.segments = l.segments[:start]
	}
	l.next = k.tree.size
	mend := map[string][]byte{}
	for _, f := range found[min(start, len(found)):] {
		s, index, err := l.reload(f, f == found[len(found)-1], newest)
		if err != nil {
			return nil, err
		}
		if index == nil {
			continue
		}
		if newest == nil || newest.Size == 0 { // a log from before there were checkpoints: all of its indexes would be too much
			if err := writeFile(s.indexPath(), index); err != nil {
				return nil, err
			}
			continue
		}
		mend[s.indexPath()] = index
	}
	return mend, nil
}

// measure counts the records of a segment by its index, and reports whether the index can be that of the file.
func (s *segment) measure(indexSize int64) bool {
	entries := indexSize - s.headSize
	if entries <= 0 || entries%indexEntry != 0 {
		return false
	}
	s.count = uint64(entries / indexEntry)
	s.indexed = s.count
	_, ends, err := readEnds(s.indexPath(), s.headSize, s.count-1, 1)
	if err != nil {
		return false
	}
	s.lastEnd = ends[0]
	info, err := os.Stat(s.path())
	return err == nil && (s.packed || info.Size() == s.lastEnd)
}

// reload reads a segment, and returns the index that it should have if it has another one.
func (l *Log) reload(f files, last bool, newest *Checkpoint) (*segment, []byte, error) {
	k := &l.keeper
	s := &segment{dir: l.opts.Dir, number: f.number, first: k.tree.size, begun: time.Now(), packed: !f.plain, complete: !last || !f.plain}
	if head, _, err := readHeadOf(l.opts.Dir, f.number); err == nil {
		s.begun = head.begun
	} else if info, err := os.Stat(s.path()); err == nil {
		s.begun = info.ModTime()
	}
	head := indexHead{number: f.number, begun: s.begun, tree: k.tree.clone()}
	s.headSize = head.size()
	index := head.marshal()
	if err := l.checkRoot(newest); err != nil {
		return nil, nil, err
	}
	err := eachLine(s.path(), s.packed, func(e entry) error {
		index = appendEntry(index, e)
		s.count++
		s.lastEnd = e.end
		k.tree.add(e.leaf)
		return l.checkRoot(newest)
	})
	if errors.Is(err, errNoLineEnd) && last && f.plain {
		slog.Warn("the audit log ended within a record; the call had no answer and the rest is removed", "segment", s.path())
		err = nil
	}
	if err != nil {
		var damaged *DamagedError
		if newest == nil || errors.As(err, &damaged) {
			return nil, nil, err
		}
		return nil, nil, l.damaged("%s: %v", filepath.Base(s.path()), err)
	}
	s.indexed = s.count
	l.segments = append(l.segments, s)
	l.next = k.tree.size
	old, err := os.ReadFile(s.indexPath())
	if err == nil && bytes.Equal(old, index) {
		return s, nil, nil
	}
	if err == nil && !bytes.HasPrefix(index, old) {
		slog.Warn("the index of an audit segment is not that of its records and is made again", "segment", s.path())
	}
	return s, index, nil
}

// checkRoot compares the tree with the checkpoint when it has come so far.
func (l *Log) checkRoot(c *Checkpoint) error {
	if c == nil || l.keeper.tree.size != c.Size || l.keeper.tree.root() == c.Root {
		return nil
	}
	return l.damaged("its first %d records are not those of its last checkpoint", c.Size)
}

// eachLine calls f for every whole record of a segment.
func eachLine(path string, packed bool, f func(entry) error) error {
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
			err = f(e)
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
func (k *keeper) openCheckpoints(indexes bool) error {
	l := k.log
	flags := os.O_RDWR
	if !indexes {
		flags |= os.O_CREATE
	}
	file, err := os.OpenFile(checkpointsPath(l.opts.Dir), flags, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		return l.damaged("its checkpoints are missing")
	}
	if err != nil {
		return fmt.Errorf("opening the checkpoints: %w", err)
	}
	k.file = file
	text, end, err := lastNote(file)
	if err != nil {
		return fmt.Errorf("reading the checkpoints: %w", err)
	}
	if err := file.Truncate(end); err != nil {
		return fmt.Errorf("reading the checkpoints: %w", err)
	}
	k.end = end
	origin, _, _ := strings.Cut(string(text), "\n")
	switch {
	case len(text) == 0 && indexes:
		return l.damaged("its checkpoints are missing")
	case len(text) == 0:
		origin = originPrefix + arn.NewUUID()
	}
	key := ed25519.NewKeyFromSeed(l.opts.Seed.Expose())
	if k.signer, err = newSigner(origin, key); err != nil {
		return l.damaged("its last checkpoint is damaged")
	}
	if len(text) == 0 {
		if err := k.checkpoint(false); err != nil { // before there is an index
			return err
		}
	} else {
		v, err := note.NewVerifier(k.signer.public)
		if err != nil {
			return err
		}
		c, err := openCheckpoint(text, v, true)
		if err != nil {
			return l.damaged("its last checkpoint is damaged, or signed by the key of another installation")
		}
		k.newest.Store(c)
		k.oldest = c.Oldest
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
