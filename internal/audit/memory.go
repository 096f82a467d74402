package audit

import (
	"bytes"
	"sync"
)

// Memory keeps the newest records of a server that has no data directory. It is safe for concurrent use.
type Memory struct {
	mu      sync.Mutex
	records [][]byte
	next    int
}

// NewMemory returns a Memory that keeps up to limit records.
func NewMemory(limit int) *Memory { return &Memory{records: make([][]byte, limit)} }

// Append adds records; the oldest ones go when there are too many. It never fails.
func (m *Memory) Append(records ...[]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range records {
		slot := &m.records[m.next%len(m.records)]
		*slot = append((*slot)[:0], r...)
		m.next++
	}
	return nil
}

// Reserve never fails: memory is there already.
func (m *Memory) Reserve() error { return nil }

// Records returns copies of the records that are kept, oldest first.
func (m *Memory) Records() [][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all [][]byte
	for i := max(0, m.next-len(m.records)); i < m.next; i++ {
		all = append(all, bytes.Clone(m.records[i%len(m.records)]))
	}
	return all
}
