package audit

import (
	"bytes"
	"context"
	"sync"
)

// Memory keeps the newest records of a server that has no data directory: some number of them, and fewer if they are large. It is safe
// for concurrent use.
type Memory struct {
	mu          sync.Mutex
	records     [][]byte
	octets      int // of memory in records
	most        int // how many there are to be; a single record may have more
	first, next uint64
	bell        bell
}

// keptRecord is how much memory there is for each record on average, several times what one takes; and at most used again for another.
const keptRecord = 8 << 10

// NewMemory returns a Memory that keeps up to limit records, and fewer if they have more than 8 KiB on average.
func NewMemory(limit int) *Memory {
	return &Memory{records: make([][]byte, limit), most: limit * keptRecord}
}

// Append adds records; the oldest ones go when there are too many. It never fails.
func (m *Memory) Append(records ...[]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range records {
		if m.next-m.first == uint64(len(m.records)) {
			m.first++
		}
		slot := m.slot(m.next)
		m.octets -= cap(*slot)
		if cap(*slot) > keptRecord {
			*slot = nil
		}
		*slot = append((*slot)[:0], r...)
		m.octets += cap(*slot)
		for m.next++; m.octets > m.most && m.first < m.next-1; m.first++ {
			oldest := m.slot(m.first)
			m.octets -= cap(*oldest)
			*oldest = nil
		}
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
	return m.copies(m.first, m.next, m.octets)
}

// copies returns copies of the records from one number to another, fewer if they are more than so many octets.
func (m *Memory) copies(from, to uint64, octets int) [][]byte {
	var all [][]byte
	for n := from; n < to; n++ {
		r := *m.slot(n)
		if octets -= len(r); octets < 0 && len(all) > 0 {
			break
		}
		all = append(all, bytes.Clone(r))
	}
	return all
}

// First implements Source: older records have made room.
func (m *Memory) First() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.first
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
	if from < m.first {
		return nil, ErrGone
	}
	return m.copies(from, min(m.next, from+uint64(max(most, 0))), readOctets), nil
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
