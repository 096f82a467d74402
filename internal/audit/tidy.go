package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"time"
)

// tidyEvery is how often segments are looked at that could be compressed or removed.
const tidyEvery = time.Second

// Tidy begins to compress closed segments and to remove old ones, as the Options say, until the log is closed. It is called once,
// after Hold was called for whoever reads the log: a log that nobody calls it for keeps everything.
func (l *Log) Tidy() {
	if k := &l.keeper; l.opts.Compress || l.opts.Retention > 0 {
		k.wg.Go(func() { l.tidyAlways(k.quit) })
	}
}

// tidyAlways compresses and removes segments until quit is closed.
func (l *Log) tidyAlways(quit <-chan struct{}) {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	said := ""
	for {
		if err := l.tidy(quit); err == nil {
			said = ""
		} else if said != err.Error() {
			said = err.Error()
			slog.Error("old audit segments cannot be compressed or removed; trying again", "err", err)
		}
		select {
		case <-quit:
			return
		case <-tick.C:
		}
	}
}

func (l *Log) tidy(quit <-chan struct{}) error {
	var errs []error
	if l.opts.Retention > 0 {
		errs = append(errs, l.retire(time.Now().Add(-l.opts.Retention)))
	}
	for l.opts.Compress {
		s := l.toPack(time.Now())
		if s == nil {
			break
		}
		if err := l.packSegment(s); err != nil {
			errs = append(errs, fmt.Errorf("compressing %s: %w", s.path(), err))
			l.postpone(s)
		}
		select {
		case <-quit:
			return errors.Join(errs...)
		default:
		}
	}
	return errors.Join(errs...)
}

// toPack returns the oldest segment that can be compressed and is not.
func (l *Log) toPack(now time.Time) *segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.segments {
		if s.complete && !s.packed && !now.Before(s.packAt) {
			return s
		}
	}
	return nil
}

// maxPackAfter is how long a segment that cannot be compressed is left alone at most: each try reads and writes all of it.
const maxPackAfter = time.Hour

// postpone has the other segments compressed before one that could not be.
func (l *Log) postpone(s *segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.packAfter = min(max(2*s.packAfter, time.Minute), maxPackAfter)
	s.packAt = time.Now().Add(s.packAfter)
}

// packSegment puts a compressed file in place of a segment's. It reads back what it wrote before the other one goes, and keeps
// the time of the last record's writing.
func (l *Log) packSegment(s *segment) error {
	plain, packed := segmentPath(s.dir, s.number, plainSuffix), segmentPath(s.dir, s.number, packedSuffix)
	info, err := os.Stat(plain)
	if err != nil {
		return err
	}
	part := packed + partSuffix
	err = packFile(part, plain)
	if err == nil {
		err = s.compare(part)
	}
	if err == nil {
		err = os.Chtimes(part, info.ModTime(), info.ModTime())
	}
	if err == nil {
		err = os.Rename(part, packed)
	}
	if err == nil {
		err = syncDir(s.dir)
	}
	if err != nil {
		return errors.Join(err, removeIfThere(part))
	}
	l.mu.Lock()
	s.packed = true
	l.mu.Unlock()
	return removeIfThere(plain)
}

func packFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // it was only read
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(out, 1<<20)
	err = pack(w, in)
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = out.Sync()
	}
	return errors.Join(err, out.Close())
}

// errDiffers says that a compressed segment does not have the records that the index says.
var errDiffers = errors.New("what was compressed is not what the index says")

// compare reads a compressed file and compares it with the segment's index.
func (s *segment) compare(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	if err := checkDigest(f); err != nil {
		return err
	}
	index, err := os.Open(s.indexPath())
	if err != nil {
		return err
	}
	defer func() { _ = index.Close() }() // it was only read
	entries := bufio.NewReaderSize(io.NewSectionReader(index, s.headSize, math.MaxInt64-s.headSize), 1<<16)
	var want, got [indexEntry]byte
	err = eachLine(path, true, func(e entry, _ []byte) error {
		if _, err := io.ReadFull(entries, want[:]); err != nil || !bytes.Equal(appendEntry(got[:0], e), want[:]) {
			return errDiffers
		}
		return nil
	})
	if _, more := entries.ReadByte(); err == nil && !errors.Is(more, io.EOF) {
		return errDiffers
	}
	return err
}

// Hold makes retention keep records: needs returns the number of the oldest record that somebody still has to read, and is asked
// before anything is removed. A later Hold with the same name takes its place; needs nil ends it.
func (l *Log) Hold(name string, needs func() uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if needs == nil {
		delete(l.holds, name)
		return
	}
	l.holds[name] = needs
}

// retire removes the segments whose last record was written before a time, and that nobody needs. First a checkpoint says which
// record is the oldest from now on: a segment that is missing without one was not removed by the log.
func (l *Log) retire(before time.Time) error {
	l.mu.Lock()
	segments := append([]*segment(nil), l.segments...)
	var holds []func() uint64
	for _, h := range l.holds {
		holds = append(holds, h)
	}
	l.mu.Unlock()
	needed := uint64(math.MaxUint64)
	for _, needs := range holds { // without the lock, so that they may ask the log
		needed = min(needed, needs())
	}
	n := 0
	for ; n < len(segments)-1; n++ {
		l.mu.Lock()
		s := segments[n]
		complete, end, path := s.complete, s.first+s.count, s.path()
		l.mu.Unlock()
		info, err := os.Stat(path)
		if !complete || end > needed || err != nil || info.ModTime().After(before) {
			break
		}
	}
	if n == 0 {
		return nil
	}
	err := l.keeper.announce(segments[n].first, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.segments = l.segments[n:]
	})
	if err != nil {
		return fmt.Errorf("announcing what is removed: %w", err)
	}
	for _, s := range segments[:n] {
		if err := removeSegment(s.dir, files{number: s.number}); err != nil {
			return err
		}
	}
	return syncDir(l.opts.Dir)
}

// announce has a checkpoint say what the oldest record will be, and calls removed before there can be another checkpoint: that would say
// that all records are there still, when they go.
func (k *keeper) announce(first uint64, removed func()) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.signer != nil {
		if err := k.replaceCheckpoints(first); err != nil {
			return err
		}
	}
	removed()
	return nil
}

// replaceCheckpoints puts a new file of checkpoints in place: without those that speak of removed records only, and with one that says
// what the oldest record is. The caller holds mu.
func (k *keeper) replaceCheckpoints(first uint64) error {
	from, oldest, err := k.firstAbove(first)
	if err != nil {
		return err
	}
	c, text, err := k.makeCheckpoint(first, oldest, false)
	if err != nil {
		return err
	}
	path := checkpointsPath(k.log.opts.Dir)
	part, err := os.OpenFile(path+partSuffix, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	kept, err := io.Copy(part, io.NewSectionReader(k.file, from, k.end-from))
	if err == nil {
		_, err = part.Write(text)
	}
	if err == nil {
		err = part.Sync()
	}
	if err == nil {
		err = os.Rename(path+partSuffix, path)
	}
	if err != nil {
		return errors.Join(err, part.Close(), removeIfThere(path+partSuffix))
	}
	_ = k.file.Close() // it has no name any more
	k.file, k.end, k.oldest, k.rememberAt = part, kept+int64(len(text)), oldest, time.Time{}
	k.newest.Store(c)
	return syncDir(k.log.opts.Dir)
}

// firstAbove returns where the first checkpoint begins that covers more records than first, and its number; what comes next if
// there is none.
func (k *keeper) firstAbove(first uint64) (int64, uint64, error) {
	r := newNoteReader(io.NewSectionReader(k.file, 0, k.end))
	for {
		at := r.at
		text, err := r.next()
		if errors.Is(err, io.EOF) {
			return k.end, k.newest.Load().Number + 1, nil
		}
		if err != nil {
			return 0, 0, err
		}
		body, _, _ := bytes.Cut(text, []byte("\n\n"))
		c, err := parseBody(string(body) + "\n")
		if err != nil {
			return 0, 0, err
		}
		if c.Size > first {
			return at, c.Number, nil
		}
	}
}

// removeSegment removes the files of a segment, the index last: as long as it is there, the rest is known.
func removeSegment(dir string, f files) error {
	torn, err := filepath.Glob(segmentPath(dir, f.number, tornSuffix+".*"))
	if err != nil {
		return err
	}
	for _, path := range torn {
		if err := removeIfThere(path); err != nil {
			return err
		}
	}
	for _, suffix := range []string{plainSuffix, packedSuffix, indexSuffix} {
		if err := removeIfThere(segmentPath(dir, f.number, suffix)); err != nil {
			return err
		}
	}
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
