package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// lines returns records as lines.
func lines(records [][]byte) []byte {
	var b bytes.Buffer
	for _, r := range records {
		b.Write(r)
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// file appends records to a file, one a line. When somebody moves the file away it begins another one, so that the tools that
// rotate files can have it.
type file struct {
	path string
	f    *os.File
	size int64 // of whole records
}

func (*file) lost() <-chan struct{}    { return nil }
func (*file) progress() (int64, int64) { return 0, 0 }

func (t *file) close() error {
	if t.f == nil {
		return nil
	}
	err := t.f.Close()
	t.f = nil
	return err
}

func (t *file) deliver(_ context.Context, _ uint64, records [][]byte) error {
	if err := t.open(); err != nil {
		return fmt.Errorf("opening %s: %w", t.path, err)
	}
	text := lines(records)
	_, err := t.f.WriteAt(text, t.size)
	if err == nil {
		err = t.f.Sync()
	}
	if err != nil {
		// The rest of a record would look like one. If it cannot be taken back, the next open does it.
		return errors.Join(fmt.Errorf("writing %s: %w", t.path, err), t.f.Truncate(t.size), t.close())
	}
	t.size += int64(len(text))
	return nil
}

// open opens the file, unless the one that is open still has its name.
func (t *file) open() error {
	if t.f != nil {
		ours, err := t.f.Stat()
		if err != nil {
			return errors.Join(err, t.close())
		}
		named, err := os.Stat(t.path)
		if err == nil && os.SameFile(ours, named) && ours.Size() == t.size {
			return nil
		}
		if err := t.close(); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(t.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if t.size, err = wholeLines(f); err == nil {
		err = f.Truncate(t.size)
	}
	if err == nil {
		err = syncDir(filepath.Dir(t.path)) // its name must not go in a power cut when its records count as delivered
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	t.f = f
	return nil
}

// wholeLines returns how many octets of a file are whole lines: a crash can have cut the last one.
func wholeLines(f *os.File) (int64, error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	buf := make([]byte, 64<<10)
	for at := end; at > 0; {
		n := min(at, int64(len(buf)))
		if _, err := f.ReadAt(buf[:n], at-n); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			return at - n + int64(i) + 1, nil
		}
		at -= n
	}
	return 0, nil
}

// stream writes records to standard output, one a line.
type stream struct {
	out     io.Writer
	writing chan error // of a write that was given up waiting for; nil for none
	first   uint64     // of its records
	count   int
}

func (*stream) lost() <-chan struct{}    { return nil }
func (*stream) progress() (int64, int64) { return 0, 0 }
func (*stream) close() error             { return nil }

// deliver does not wait for a reader that has stopped longer than ctx lasts. A write that was given up goes on, and the next
// deliver begins with its records.
func (t *stream) deliver(ctx context.Context, first uint64, records [][]byte) error {
	for len(records) > 0 {
		if t.writing == nil {
			t.writing, t.first, t.count = make(chan error, 1), first, len(records)
			text, done := lines(records), t.writing
			go func() {
				_, err := t.out.Write(text)
				done <- err
			}()
		}
		select {
		case err := <-t.writing:
			if t.writing = nil; err != nil {
				return fmt.Errorf("writing to standard output: %w", err)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		if t.first == first {
			n := min(t.count, len(records))
			first, records = first+uint64(n), records[n:]
		}
	}
	return nil
}
