package audit

import (
	"context"
	"errors"
)

// Source gives records by sequence number: 0 is the first record that was ever appended, and there are no gaps. It is safe
// for concurrent use, while records are appended too. *Log and *Memory are Sources.
type Source interface {
	// First returns the number of the oldest record that is still there.
	First() uint64
	// Next returns the number that the next record gets. All below are as durable as the log's Durability says.
	Next() uint64
	// Read returns up to most records from number from on, and fewer at the end of a segment or where they are many octets; nil
	// at the end of the log. The slices belong to the caller. The error is ErrGone below First.
	Read(from uint64, most int) ([][]byte, error)
	// Wait returns nil when Next is above from, the error of ctx when that ends before, and ErrClosed when the log is closed
	// and no further record will come.
	Wait(ctx context.Context, from uint64) error
}

// ErrGone is returned by Read for records that retention has removed.
var ErrGone = errors.New("the audit record is not kept any more")

// readOctets and maxRead bound what one Read returns, but for a single record that is larger.
const (
	readOctets = 1 << 20
	maxRead    = 16 << 10
)

// bell wakes whoever waits for records. Its methods are called with the lock of its log.
type bell struct{ waiting chan struct{} }

// listen returns a channel that is closed by the next ring.
func (b *bell) listen() <-chan struct{} {
	if b.waiting == nil {
		b.waiting = make(chan struct{})
	}
	return b.waiting
}

func (b *bell) ring() {
	if b.waiting != nil {
		close(b.waiting)
		b.waiting = nil
	}
}
