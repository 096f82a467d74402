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

// Append adds a record; the oldest one goes when there are too many. It never fails.
func (m *Memory) Append(record []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	slot := &m.records[m.next%len(m.records)]
	*slot = append((*slot)[:0], record...)
	m.next++
	return nil
}

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
