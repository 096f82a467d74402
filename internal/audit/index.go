package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math/bits"
	"os"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// The index of a segment says where its records end and what their leaf hashes are. It begins with
//
//	8 octets  "kwaudix1"
//	uint64    number of the segment, big-endian like all others
//	uint64    number of its first record, n
//	uint64    when the segment was begun, milliseconds since 1970
//	32 octets for every 1 in the binary form of n: the Merkle tree of all records before, as its complete subtrees
//	32 octets SHA-256 of the above
//
// and goes on with an entry for each record: 32 octets leaf hash, uint64 offset behind the record's line in the segment. So a
// segment can be verified when all before it are gone. The records rule: what the index lacks after a crash is made again.
const (
	indexMagic   = "kwaudix1"
	indexFixed   = 8 + 8 + 8 + 8
	indexEntry   = sha256.Size + 8
	maxIndexHead = indexFixed + 64*sha256.Size + sha256.Size
)

// errIndexHead says that a file does not begin as an index does.
var errIndexHead = errors.New("the head of the index is damaged")

// indexHead is the beginning of an index.
type indexHead struct {
	number int
	begun  time.Time
	tree   frontier // of all records before
}

// size returns how many octets the head has.
func (h *indexHead) size() int64 {
	return int64(indexFixed + len(h.tree.nodes)*sha256.Size + sha256.Size)
}

func (h *indexHead) marshal() []byte {
	b := append(make([]byte, 0, h.size()), indexMagic...)
	b = binary.BigEndian.AppendUint64(b, uint64(h.number))
	b = binary.BigEndian.AppendUint64(b, h.tree.size)
	b = binary.BigEndian.AppendUint64(b, uint64(h.begun.UnixMilli()))
	for i := range h.tree.nodes {
		b = append(b, h.tree.nodes[i][:]...)
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// readIndexHead reads the head of the index of a segment. The error is errIndexHead, or that of reading.
func readIndexHead(r io.Reader, number int) (*indexHead, error) {
	var fixed [indexFixed]byte
	if err := readHead(r, fixed[:]); err != nil {
		return nil, err
	}
	first := binary.BigEndian.Uint64(fixed[16:])
	if string(fixed[:8]) != indexMagic || binary.BigEndian.Uint64(fixed[8:]) != uint64(number) || first > 1<<62 {
		return nil, errIndexHead
	}
	h := &indexHead{number: number, begun: time.UnixMilli(int64(binary.BigEndian.Uint64(fixed[24:]))), tree: frontier{size: first}}
	sum := sha256.New()
	sum.Write(fixed[:])
	for range bits.OnesCount64(first) {
		var node tlog.Hash
		if err := readHead(r, node[:]); err != nil {
			return nil, err
		}
		sum.Write(node[:])
		h.tree.nodes = append(h.tree.nodes, node)
	}
	var want tlog.Hash
	if err := readHead(r, want[:]); err != nil {
		return nil, err
	}
	if tlog.Hash(sum.Sum(nil)) != want {
		return nil, errIndexHead
	}
	return h, nil
}

func readHead(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errIndexHead
	}
	return err
}

// entry says what a record hashes to, and where its line ends.
type entry struct {
	leaf tlog.Hash
	end  int64
}

func appendEntry(b []byte, e entry) []byte {
	return binary.BigEndian.AppendUint64(append(b, e.leaf[:]...), uint64(e.end))
}

func parseEntry(b []byte) entry {
	return entry{tlog.Hash(b[:sha256.Size]), int64(binary.BigEndian.Uint64(b[sha256.Size:indexEntry]))}
}

// errIndexEntry says that an index does not have what it should.
var errIndexEntry = errors.New("the index is damaged")

// readEntries returns the entries of n records of a segment, from its at-th on, and where the one before them ends. What the entries
// say may be anything but ends that do not grow.
func readEntries(path string, headSize int64, at, n uint64) (before int64, entries []entry, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	from := at
	if at > 0 {
		from--
	}
	b := make([]byte, (at+n-from)*indexEntry)
	if _, err := f.ReadAt(b, headSize+int64(from*indexEntry)); err != nil {
		if errors.Is(err, io.EOF) {
			err = errIndexEntry
		}
		return 0, nil, err
	}
	before, entries, ok := parseEntries(b, at > 0)
	if !ok {
		return 0, nil, errIndexEntry
	}
	return before, entries, nil
}

// parseEntries reads entries, the first of which may be that of the record before.
func parseEntries(b []byte, withBefore bool) (before int64, entries []entry, ok bool) {
	if withBefore {
		if before, b = parseEntry(b).end, b[indexEntry:]; before <= 0 {
			return 0, nil, false
		}
	}
	for last := before; len(b) > 0; b = b[indexEntry:] {
		e := parseEntry(b)
		if e.end <= last {
			return 0, nil, false
		}
		entries, last = append(entries, e), e.end
	}
	return before, entries, true
}
