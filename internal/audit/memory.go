package audit

import (
	"bytes"
	"context"
	"sync"
)

// Memory keeps the newest records of a server that has no data directory. It is safe for concurrent use.
type Memory struct {
	mu      sync.Mutex
	records [][]byte
	next    uint64
	bell    bell
}

// NewMemory returns a Memory that keeps up to limit records.
func NewMemory(limit int) *Memory { return &Memory{records: make([][]byte, limit)} }

// Append adds records; the oldest ones go when there are too many. It never fails.
func (m *Memory) Append(records ...[]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range records {
		slot := m.slot(m.next)
		*slot = append((*slot)[:0], r...)
		m.next++
	}
	m.bell.ring()
	return nil
}

// slot is where the record of a number is, or will be.
func (m *Memory) slot(n uint64) *[]byte { return &m.records[n%uint64(len(m.records))] }

// AppendReserved is Append.
func (m *Memory) AppendReserved(records ...[]byte) error { return m.Append(records...) }

// Reserve never fails: memory is there already.
func (m *Memory) Reserve() error { return nil }

// Records returns copies of the records that are kept, oldest first.
func (m *Memory) Records() [][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.copies(m.first(), m.next)
}

func (m *Memory) copies(from, to uint64) [][]byte {
	var all [][]byte
	for n := from; n < to; n++ {
		all = append(all, bytes.Clone(*m.slot(n)))
	}
	return all
}

func (m *Memory) first() uint64 { return max(m.next, uint64(len(m.records))) - uint64(len(m.records)) }

// First implements Source: older records have made room.
func (m *Memory) First() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.first()
}

// Next implements Source.
func (m *Memory) Next() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.next
}

// Read implements Source.
func (m *Memory) Read(from uint64, most int) ([][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if from < m.first() {
		return nil, ErrGone
	}
	return m.copies(from, min(m.next, from+uint64(max(most, 0)))), nil
}

// Wait implements Source. A Memory is never closed.
func (m *Memory) Wait(ctx context.Context, from uint64) error {
	for {
		m.mu.Lock()
		ready, rung := m.next > from, m.bell.listen()
		m.mu.Unlock()
		if ready {
			return nil
		}
		select {
		case <-rung:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
