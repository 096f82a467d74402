// Package steps notes when the steps of one request began and ended: who was asked, what was decided, what was written.
// The rooms below the pipeline note them without knowing what becomes of them.
//
// A *Log that is nil notes nothing and costs a comparison. The package must never be given what a caller sent: a step has
// a name of ours, two times, and whether it failed.
package steps

import (
	"context"
	"time"
)

// The names of the steps.
const (
	Authorize   = "authorize"    // all policies and grants were heard
	Custody     = "custody"      // key material was opened or used
	StoreWrite  = "store write"  // a change was written to disk
	AuditAppend = "audit append" // the record of the call was written
)

// Step is one of them.
type Step struct {
	Name         string
	Began, Ended time.Time
	Failed       bool
}

// most bounds the steps of one request: one that lists many things asks for each of them.
const most = 64

// Log has the steps of one request, in the order of their ends. It belongs to the goroutine of the request.
type Log struct{ all []Step }

// Steps returns what was noted. The list is valid until the next Reset.
func (l *Log) Steps() []Step { return l.all }

// Reset forgets the steps and keeps the memory.
func (l *Log) Reset() { l.all = l.all[:0] }

// Timer is a step that has begun.
type Timer struct {
	log   *Log // nil: nothing is noted
	name  string
	began time.Time
}

// Begin begins a step. l may be nil.
func (l *Log) Begin(name string) Timer {
	if l == nil {
		return Timer{}
	}
	return Timer{l, name, time.Now()}
}

// End ends the step.
func (t Timer) End() { t.EndWith(nil) }

// EndWith ends the step, which failed if err is not nil. The error itself is not noted.
func (t Timer) EndWith(err error) {
	if t.log == nil || len(t.log.all) >= most {
		return
	}
	t.log.all = append(t.log.all, Step{t.name, t.began, time.Now(), err != nil})
}

// place is where a context has a *Log.
type place struct{}

// With returns a context with a log, for rooms that see nothing else of the request.
func With(ctx context.Context, l *Log) context.Context { return context.WithValue(ctx, place{}, l) }

// From returns the log of a context, or nil.
func From(ctx context.Context) *Log {
	l, _ := ctx.Value(place{}).(*Log)
	return l
}
