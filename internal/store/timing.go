package store

import (
	"sync/atomic"
	"time"
)

// Observer is told how long the store's work takes, and what it refuses. Its methods are called from many goroutines and must be quick.
type Observer interface {
	// Read is told of a query, whether it found something or not.
	Read(took time.Duration)
	// Wrote is told of an update, from the call to its being on disk, with all waiting; failed says that the engine could
	// not commit it. An update that was refused by the function given to Update has not failed.
	Wrote(took time.Duration, failed bool)
	// Refused is told of each time that a row of a table was read and refused, because it was changed outside Keywright.
	Refused(table string)
}

// Tell has the store tell an Observer of its work from now on.
func (s *Store) Tell(to Observer) { s.timing.to.Store(&to) }

// timing tells an Observer, if there is one. The zero value tells nobody.
type timing struct{ to atomic.Pointer[Observer] }

// begin returns when a query begins; the zero time if nobody wants to know.
func (t *timing) begin() time.Time {
	if t.to.Load() == nil {
		return time.Time{}
	}
	return time.Now()
}

func (t *timing) read(began time.Time) {
	if to := t.to.Load(); to != nil && !began.IsZero() {
		(*to).Read(time.Since(began))
	}
}

func (t *timing) wrote(took time.Duration, u *update) {
	if to := t.to.Load(); to != nil && (u.state.Load() == updateStarted || u.failed) {
		(*to).Wrote(took, u.failed)
	}
}

func (t *timing) refused(table string) {
	if to := t.to.Load(); to != nil {
		(*to).Refused(table)
	}
}

// reader is the prepared statements of the readers, with who is told how long they take.
type reader struct {
	*prepared
	timing *timing
	busy   atomic.Int64 // queries that run or wait for a connection
}

// maxReads is how many queries may run or wait at once on a database that other processes use: each connection has a hundred that wait
// for it, and what comes then is refused at once.
const maxReads = 1024

// enter counts a query; errCrowd if there are too many. leave has to be called in both cases.
func (r *reader) enter() error {
	if r.busy.Add(1) > maxReads && r.shared {
		return errCrowd
	}
	return nil
}

func (r *reader) leave() { r.busy.Add(-1) }
