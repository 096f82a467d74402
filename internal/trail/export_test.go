package trail

// What tests of the format need.
const (
	BlockSize = blockSize
	HeadSize  = headSize
)

// ParseJSON is what Parse falls back to.
func (e *Event) ParseJSON(record []byte) error { return e.parseJSON(record) }

// BuildBlock returns the block of some records.
func BuildBlock(first uint64, records [][]byte) []byte {
	b := newBuilder(first)
	for _, r := range records {
		if err := b.add(r); err != nil {
			panic(err)
		}
	}
	return b.finish()
}

// AskBlock asks a block; nil for one that is refused.
func AskBlock(raw []byte, q *Query, below uint64, most int) []uint64 {
	b, err := openBlock(raw)
	if err != nil || below <= b.first {
		return nil
	}
	return b.candidates(nil, q, below, most)
}
