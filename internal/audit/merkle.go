package audit

import (
	"crypto/sha256"
	"hash"
	"math/bits"
	"slices"
	"sync"

	"golang.org/x/mod/sumdb/tlog"
)

// The log is a Merkle tree in the form of RFC 6962, section 2.1: every record is a leaf, its line without the line end.
// leafHash is tlog.RecordHash without its allocations, and frontier is the little of a tree that growing it and computing
// its root take.

// hashers make leaf hashes without allocating.
var hashers = sync.Pool{New: func() any { return &hasher{Hash: sha256.New()} }}

type hasher struct {
	hash.Hash
	prefix [1]byte // 0, the prefix of a leaf
	sum    [sha256.Size]byte
}

// leafHash returns the leaf hash of a record.
func leafHash(record []byte) tlog.Hash {
	h := hashers.Get().(*hasher)
	h.Reset()
	h.Write(h.prefix[:])
	h.Write(record)
	out := tlog.Hash(h.Sum(h.sum[:0]))
	hashers.Put(h)
	return out
}

// frontier is a Merkle tree without what is inside: the roots of its complete subtrees, the largest first, one for every 1
// in the binary form of its size. The zero value is the empty tree.
type frontier struct {
	size  uint64
	nodes []tlog.Hash
}

func (f *frontier) clone() frontier { return frontier{f.size, slices.Clone(f.nodes)} }

func (f *frontier) equal(g *frontier) bool {
	return f.size == g.size && slices.Equal(f.nodes, g.nodes)
}

// add appends a leaf.
func (f *frontier) add(leaf tlog.Hash) {
	n := len(f.nodes)
	for range bits.TrailingZeros64(^f.size) { // every 1 at the end of the size is a subtree that the leaf completes
		n--
		leaf = tlog.NodeHash(f.nodes[n], leaf)
	}
	f.nodes = append(f.nodes[:n], leaf)
	f.size++
}

// root returns the Merkle tree hash.
func (f *frontier) root() tlog.Hash {
	if f.size == 0 {
		return sha256.Sum256(nil)
	}
	h := f.nodes[len(f.nodes)-1]
	for i := len(f.nodes) - 2; i >= 0; i-- {
		h = tlog.NodeHash(f.nodes[i], h)
	}
	return h
}
