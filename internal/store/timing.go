package store

import (
	"sync/atomic"
	"time"
)

// Timing is told how long the store's work takes. Its methods are called from many goroutines and must be quick.
type Timing interface {
	// Read is told of a query, whether it found something or not.
	Read(took time.Duration)
	// Wrote is told of an update, from the call to its being on disk, with all waiting; failed says that the engine could
	// not commit it. An update that was refused by the function given to Update has not failed.
	Wrote(took time.Duration, failed bool)
}

// TellTiming has the store tell how long its work takes from now on.
func (s *Store) TellTiming(to Timing) { s.timing.to.Store(&to) }

// timing tells a Timing, if there is one. The zero value tells nobody.
type timing struct{ to atomic.Pointer[Timing] }

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
	if to := t.to.Load(); to != nil && u.state.Load() == updateStarted {
		(*to).Wrote(took, u.failed)
	}
}

// reader is the prepared statements of the readers, with who is told how long they take.
type reader struct {
	*prepared
	timing *timing
}
