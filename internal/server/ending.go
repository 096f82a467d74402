package server

import (
	"bytes"
	"errors"
	"time"
)

// Closing is how long a server takes at most after Drain, where it shares its store with others: a database that is away must not keep
// it until somebody kills it. What is given up can be lost with any kill: when keys were last used, since the last minute, and that the
// store knows the newest checkpoint of the audit log. A store of its own is waited for.
const Closing = 10 * time.Second

// The parts of Closing. Some more goes to traces and to the disk of the audit log.
const (
	workWithin  = 3 * time.Second // what runs beside requests, and last uses
	logWithin   = 3 * time.Second // records of requests that were cut off, and remembering the last checkpoint
	keyWithin   = time.Second     // a key that is being made for later
	storeWithin = time.Second
)

// atMost returns d where the store is shared, and else zero.
func (s *Server) atMost(d time.Duration) time.Duration {
	if !s.in.Store.Shared() {
		return 0
	}
	return d
}

// within runs f and waits for it, but for a shared store no longer than d. It reports whether f has ended; otherwise f ends with the process.
func (s *Server) within(d time.Duration, f func()) bool {
	d = s.atMost(d)
	if d == 0 {
		f()
		return true
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f()
	}()
	late := time.NewTimer(d)
	defer late.Stop()
	select {
	case <-ended:
		return true
	case <-late.C:
		return false
	}
}

// remember has the store remember a checkpoint of the audit log, unless it does not answer while the server ends.
func (s *Server) remember(text []byte) error {
	done := make(chan error, 1)
	kept := bytes.Clone(text) // the caller may be gone before the store has it
	go func() { done <- s.in.rememberCheckpoint(kept) }()
	select {
	case err := <-done:
		return err
	case <-s.hurry:
		return errors.New("the database does not answer, and the server ends")
	}
}
