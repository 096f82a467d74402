package audit

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"

	"golang.org/x/mod/sumdb/tlog"
)

// errNoLineEnd says that the last line of a segment has no end.
var errNoLineEnd = errors.New("the last record has no line end")

// lineReader reads a segment and hashes its records, in memory that does not depend on what is read.
type lineReader struct {
	r io.Reader
	// The octet before each line is the reader's own, for the prefix of a leaf: in place of the line end before it, or
	// buf[0]. So a record is hashed where it lies.
	buf      []byte
	from, to int    // what was read and not returned
	end      int64  // offset in the segment behind the last line
	line     []byte // the last line, until the next one; nil if it is longer than buf
	err      error  // of reading; what is in buf comes first
}

// lineBuffer holds hundreds of records, so that moving the rest of it to its beginning costs nothing.
const lineBuffer = 512 << 10

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{r: r, buf: make([]byte, lineBuffer), from: 1, to: 1}
}

// reset begins another segment.
func (l *lineReader) reset(r io.Reader) {
	l.r, l.from, l.to, l.end, l.err = r, 1, 1, 0, nil
}

// next hashes the next record. At the end the error is io.EOF. A last line without an end comes with errNoLineEnd.
func (l *lineReader) next() (entry, error) {
	for searched := l.from; ; {
		if i := bytes.IndexByte(l.buf[searched:l.to], '\n'); i >= 0 {
			e := l.take(searched + i)
			l.from++ // the line end
			l.end++
			e.end++
			return e, nil
		}
		if l.err != nil {
			return l.rest()
		}
		if l.to == len(l.buf) {
			if l.from == 1 {
				return l.long()
			}
			l.to = 1 + copy(l.buf[1:], l.buf[l.from:l.to])
			l.from = 1
		}
		searched = l.to
		l.fill()
	}
}

func (l *lineReader) fill() {
	n, err := l.r.Read(l.buf[l.to:])
	l.to += n
	l.err = err
}

// take hashes what lies before an index of buf.
func (l *lineReader) take(to int) entry {
	l.buf[l.from-1] = 0
	leaf := tlog.Hash(sha256.Sum256(l.buf[l.from-1 : to]))
	l.line = l.buf[l.from:to]
	l.end += int64(to - l.from)
	l.from = to
	return entry{leaf, l.end}
}

// rest returns what is left when no line end comes.
func (l *lineReader) rest() (entry, error) {
	if !errors.Is(l.err, io.EOF) || len(bytes.Trim(l.buf[l.from:l.to], "\x00")) == 0 { // zeros were written ahead
		return entry{}, l.err
	}
	return l.take(l.to), errNoLineEnd
}

// long hashes a line that is longer than the buffer: no record is, but a hostile file may have one.
func (l *lineReader) long() (entry, error) {
	h := sha256.New()
	l.line = nil
	l.buf[0] = 0
	h.Write(l.buf[:1])
	for {
		i := bytes.IndexByte(l.buf[1:l.to], '\n')
		n := i
		if i < 0 {
			n = l.to - 1
		}
		h.Write(l.buf[1 : 1+n])
		l.end += int64(n)
		l.from = 1 + n
		if i >= 0 {
			l.from++
			l.end++
			return entry{tlog.Hash(h.Sum(nil)), l.end}, nil
		}
		if l.err != nil {
			if !errors.Is(l.err, io.EOF) {
				return entry{}, l.err
			}
			return entry{tlog.Hash(h.Sum(nil)), l.end}, errNoLineEnd
		}
		l.from, l.to = 1, 1
		l.fill()
	}
}
