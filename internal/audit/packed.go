package audit

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
)

// A compressed segment is a file that every zstd program reads: independent frames (RFC 8878) of up to packFrame octets of
// records each, with their checksums, then two skippable frames. The first has the SHA-256 of all octets before it. The second
// is the seek table of the "zstd seekable format" (contrib/seekable_format of zstd, version 0.1.0), without checksums: how large
// each frame is, compressed and not, so that a record can be read without what is before it.
const (
	packFrame      = 128 << 10
	digestMagic    = 0x184D2A50
	seekMagic      = 0x184D2A5E
	seekFootMagic  = 0x8F92EAB1
	seekFoot       = 4 + 1 + 4
	seekEntry      = 4 + 4
	digestFrame    = 8 + sha256.Size
	maxPackedFrame = packFrame + packFrame/8 + 1024 // more than any frame of packFrame octets takes
)

// errPacked says that a compressed segment is not as it was written.
var errPacked = errors.New("the compressed segment is damaged")

// packedFrame is where a frame lies.
type packedFrame struct {
	at, size       int64 // in the file
	plain, plainAt int64 // uncompressed
}

// pack compresses what it reads.
func pack(w io.Writer, r io.Reader) error {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(true), zstd.WithSingleSegment(true))
	if err != nil {
		return err
	}
	sum := sha256.New()
	both := io.MultiWriter(w, sum)
	plain := make([]byte, packFrame)
	var out, table []byte
	for {
		n, err := io.ReadFull(r, plain)
		if n > 0 {
			out = enc.EncodeAll(plain[:n], out[:0])
			if _, err := both.Write(out); err != nil {
				return err
			}
			table = binary.LittleEndian.AppendUint32(table, uint32(len(out)))
			table = binary.LittleEndian.AppendUint32(table, uint32(n))
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	_, err = w.Write(packedEnd(sum.Sum(nil), table))
	return err
}

// packedEnd returns the two skippable frames. The table counts the one with the digest too, as a frame without content.
func packedEnd(sum, table []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, digestMagic)
	b = binary.LittleEndian.AppendUint32(b, sha256.Size)
	b = append(b, sum...)
	table = binary.LittleEndian.AppendUint32(table, digestFrame)
	table = binary.LittleEndian.AppendUint32(table, 0)
	b = binary.LittleEndian.AppendUint32(b, seekMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(table)+seekFoot))
	b = append(b, table...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(table)/seekEntry))
	b = append(b, 0)
	return binary.LittleEndian.AppendUint32(b, seekFootMagic)
}

// parsePackedEnd reads the seek table at the end of a file of some size, and returns its frames and the digest. Whatever is not
// as packedEnd writes it is errPacked.
func parsePackedEnd(r io.ReaderAt, size int64) ([]packedFrame, [sha256.Size]byte, error) {
	var sum [sha256.Size]byte
	foot := make([]byte, seekFoot)
	if size < seekFoot {
		return nil, sum, errPacked
	}
	if _, err := r.ReadAt(foot, size-seekFoot); err != nil {
		return nil, sum, err
	}
	n := int64(binary.LittleEndian.Uint32(foot))
	length := digestFrame + 8 + n*seekEntry + seekFoot
	if binary.LittleEndian.Uint32(foot[5:]) != seekFootMagic || n < 1 || n > 1<<24 || length > size {
		return nil, sum, errPacked
	}
	end := make([]byte, length)
	if _, err := r.ReadAt(end, size-length); err != nil {
		return nil, sum, err
	}
	copy(sum[:], end[8:])
	table := end[digestFrame+8 : length-seekFoot]
	last := len(table) - seekEntry
	if string(packedEnd(sum[:], append([]byte(nil), table[:last]...))) != string(end) {
		return nil, sum, errPacked
	}
	var frames []packedFrame
	var at, plainAt int64
	for table = table[:last]; len(table) > 0; table = table[seekEntry:] {
		f := packedFrame{at: at, size: int64(binary.LittleEndian.Uint32(table)), plainAt: plainAt, plain: int64(binary.LittleEndian.Uint32(table[4:]))}
		if f.size > maxPackedFrame || f.plain > packFrame || f.plain == 0 {
			return nil, sum, errPacked
		}
		frames = append(frames, f)
		at, plainAt = at+f.size, plainAt+f.plain
	}
	if at != size-length {
		return nil, sum, errPacked
	}
	return frames, sum, nil
}

// unpacker decompresses frames. It is for one goroutine.
type unpacker struct {
	dec     *zstd.Decoder
	in, out []byte
}

func newUnpacker() (*unpacker, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(4*packFrame))
	if err != nil {
		return nil, err
	}
	return &unpacker{dec: dec}, nil
}

func (u *unpacker) close() { u.dec.Close() }

// frame returns what is in a frame, until the next call.
func (u *unpacker) frame(r io.ReaderAt, f packedFrame) ([]byte, error) {
	if int64(cap(u.in)) < f.size {
		u.in = make([]byte, maxPackedFrame)
	}
	u.in = u.in[:f.size]
	if _, err := r.ReadAt(u.in, f.at); err != nil {
		return nil, err
	}
	out, err := u.dec.DecodeAll(u.in, u.out[:0])
	if err != nil || int64(len(out)) != f.plain {
		return nil, fmt.Errorf("the frame at octet %d: %w", f.at, errPacked)
	}
	u.out = out
	return out, nil
}

// readPacked returns the records' octets from an offset to another one. The error is errIndexEntry if there are not so many.
func readPacked(file *os.File, size, at, to int64) ([]byte, error) {
	frames, _, err := parsePackedEnd(file, size)
	if err != nil {
		return nil, err
	}
	if n := len(frames); n == 0 || to > frames[n-1].plainAt+frames[n-1].plain {
		return nil, errIndexEntry
	}
	u, err := newUnpacker()
	if err != nil {
		return nil, err
	}
	defer u.close()
	all := make([]byte, to-at)
	buf := all
	for _, f := range frames {
		if len(buf) == 0 {
			break
		}
		if at >= f.plainAt+f.plain {
			continue
		}
		content, err := u.frame(file, f)
		if err != nil {
			return nil, err
		}
		n := copy(buf, content[at-f.plainAt:])
		buf, at = buf[n:], at+int64(n)
	}
	return all, nil
}

// packedReader reads the records of a compressed segment from the beginning.
type packedReader struct {
	file   *os.File
	u      *unpacker
	frames []packedFrame
	rest   []byte
}

func newPackedReader(file *os.File) (*packedReader, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	frames, _, err := parsePackedEnd(file, info.Size())
	if err != nil {
		return nil, err
	}
	u, err := newUnpacker()
	return &packedReader{file: file, u: u, frames: frames}, err
}

// Read implements io.Reader.
func (p *packedReader) Read(b []byte) (int, error) {
	for len(p.rest) == 0 {
		if len(p.frames) == 0 {
			return 0, io.EOF
		}
		content, err := p.u.frame(p.file, p.frames[0])
		if err != nil {
			return 0, err
		}
		p.rest, p.frames = content, p.frames[1:]
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

func (p *packedReader) close() { p.u.close() }

// checkDigest compares all octets before the digest with it.
func checkDigest(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	frames, want, err := parsePackedEnd(file, info.Size())
	if err != nil {
		return err
	}
	var length int64
	for _, f := range frames {
		length += f.size
	}
	sum := sha256.New()
	if _, err := bufio.NewReaderSize(io.NewSectionReader(file, 0, length), 1<<20).WriteTo(sum); err != nil {
		return err
	}
	if [sha256.Size]byte(sum.Sum(nil)) != want {
		return errPacked
	}
	return nil
}
