// Package sink carries the records of the audit log to where people keep such things: files, standard output, syslog, a
// webhook, Kafka.
//
// Each sink reads the log on its own, as far as it has come, and remembers that on disk after the other side has what it was
// given: every record is delivered at least once and in the order of the log, over restarts of either side. It trusts the log
// and its own file of the position, which it compares with the log. It must never be in the way of a call: nothing is handed
// to it, it keeps no more than one batch in memory, and while the other side is away records wait in the log. It must never
// print a secret of its configuration.
package sink

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/audit"
)

// How much is delivered at a time when nothing else is said, and the bounds of it.
const (
	defaultBatch   = 500
	maxBatch       = 10_000
	defaultTimeout = 10 * time.Second
	defaultSettle  = 5 * time.Second
	firstBackoff   = 100 * time.Millisecond
	maxBackoff     = 30 * time.Second
	maxRetryAfter  = time.Hour
)

// linger is how long records gather after a sink had none: to wake it for each one would cost those who call.
const linger = 20 * time.Millisecond

// saveEvery is how often the position is written while records are delivered: what is delivered in between comes twice after a
// crash.
const saveEvery = 250 * time.Millisecond

// target is the other side of a sink. One goroutine uses it.
type target interface {
	// deliver returns nil when the other side has the records, the first of which has the given number, or, where nothing
	// confirms that, when they were sent. It may have delivered some of them when it fails.
	deliver(ctx context.Context, first uint64, records [][]byte) error
	// lost returns a channel that is closed when what was sent, and not confirmed, may not have arrived; nil for never.
	lost() <-chan struct{}
	// progress returns how many octets were sent over the connection, and how many of them the other side surely has. Where nothing
	// counts them both are 0.
	progress() (sent, arrived int64)
	close() error
}

// retryLater is the error of a target that says when to try again.
type retryLater struct {
	error
	after time.Duration
}

func (r *retryLater) Unwrap() error { return r.error }

// Status is how a sink is doing.
type Status struct {
	Name, Kind    string
	Delivered     uint64    // records since the start; some may have been delivered twice
	Lag           uint64    // records that were not delivered yet
	Failures      uint64    // tries that failed since the start
	Missed        uint64    // records that were gone before they could be delivered, since the start
	LastError     string    // of the last try; empty after one that succeeded
	LastErrorAt   time.Time // zero if there was none
	LastDelivered time.Time // zero before the first
}

// Sink delivers records to one target. It is safe for concurrent use.
type Sink struct {
	config   Config
	src      audit.Source
	target   target
	settle   time.Duration // zero: a delivery is confirmed
	position *position

	mu      sync.Mutex
	settled uint64 // all records below are delivered
	saved   uint64 // likewise, and that is on disk
	status  Status
}

// New makes a sink that follows a log and keeps its position in a directory, which is made if it is missing. Secrets and
// certificates are read; nothing is connected to before Run.
func New(c Config, src audit.Source, dir string) (*Sink, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("sink %s: %w", c.Name, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("sink %s: %w", c.Name, err)
	}
	s := &Sink{config: c, src: src, status: Status{Name: c.Name, Kind: c.Kind}, position: &position{path: filepath.Join(dir, c.Name+".json")}}
	var err error
	switch c.Kind {
	case KindFile:
		s.target = &file{path: c.Path}
	case KindStdout:
		s.target = &stream{out: os.Stdout}
	case KindSyslog:
		s.settle = orDefault(c.Settle, defaultSettle)
		s.target, err = newSyslog(&c)
	case KindWebhook:
		s.target, err = newWebhook(&c)
	case KindKafka:
		s.target, err = newKafka(&c, s.troubled)
	}
	if err != nil {
		return nil, fmt.Errorf("sink %s: %w", c.Name, err)
	}
	if s.settled, err = s.position.load(src); err != nil {
		return nil, errors.Join(fmt.Errorf("sink %s: %w", c.Name, err), s.target.close())
	}
	s.saved = s.settled
	return s, nil
}

func orDefault[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}

// Needs returns the number of the oldest record that the sink still needs. What is below may be removed from the log.
func (s *Sink) Needs() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saved
}

// Lag returns how many records were not delivered yet.
func (s *Sink) Lag() uint64 {
	next := s.src.Next()
	s.mu.Lock()
	defer s.mu.Unlock()
	return next - min(next, s.settled)
}

// Status returns how the sink is doing.
func (s *Sink) Status() Status {
	lag := s.Lag()
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.status
	now.Lag = lag
	return now
}

// run is what one Run knows.
type run struct {
	*Sink
	next    uint64 // record to deliver next
	marks   []mark // deliveries that have not settled
	saveAt  time.Time
	backoff time.Duration
}

// mark is a delivery.
type mark struct {
	next   uint64            // number behind its last record
	digest [sha256.Size]byte // of that record
	at     time.Time
	sent   int64 // octets over the connection until then
}

// Run delivers until ctx ends or the log is closed, and then for a moment what is left. A sink runs once.
func (s *Sink) Run(ctx context.Context) {
	r := &run{Sink: s, next: s.settled, backoff: firstBackoff}
	for ctx.Err() == nil {
		records, err := s.src.Read(r.next, orDefault(s.config.Batch, defaultBatch))
		switch {
		case errors.Is(err, audit.ErrGone):
			r.missed()
			continue
		case err != nil:
			r.failed(ctx, fmt.Errorf("reading the audit log: %w", err))
			continue
		case len(records) == 0:
			if !r.wait(ctx) {
				r.end()
				return
			}
			continue
		}
		if err := s.target.deliver(ctx, r.next, records); err != nil {
			r.failed(ctx, err)
			continue
		}
		r.delivered(records)
	}
	r.finish(ctx)
	r.end()
}

// farewell is how long a sink that is told to end may go on with what is in the log, if it delivers.
const farewell = 2 * time.Second

// finish delivers what is left.
func (r *run) finish(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	for r.Status().LastError == "" && ctx.Err() == nil {
		records, err := r.src.Read(r.next, orDefault(r.config.Batch, defaultBatch))
		if err != nil || len(records) == 0 {
			return // the next run sees to it
		}
		if err := r.target.deliver(ctx, r.next, records); err != nil {
			r.troubled(err)
			r.rewind()
			return
		}
		r.delivered(records)
	}
}

// end saves how far the sink has come and leaves the target.
func (r *run) end() {
	r.saveAt = time.Time{}
	r.advance()
	if err := r.target.close(); err != nil {
		slog.Warn("closing an audit sink", "sink", r.config.Name, "err", err)
	}
}

// missed goes on where the log begins. Retention waits for sinks, so this is a log that somebody else has cut.
func (r *run) missed() {
	first := r.src.First()
	slog.Error("audit records were gone before a sink had them", "sink", r.config.Name, "from", r.next, "to", first)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status.Missed += first - min(first, r.next)
	r.next, r.marks = first, nil
	r.settled = max(r.settled, first)
}

// delivered notes a delivery.
func (r *run) delivered(records [][]byte) {
	r.next += uint64(len(records))
	sent, _ := r.target.progress()
	r.marks = append(r.marks, mark{r.next, sha256.Sum256(records[len(records)-1]), time.Now(), sent})
	r.backoff = firstBackoff
	r.mu.Lock()
	r.status.Delivered += uint64(len(records))
	if r.status.LastError != "" {
		slog.Info("an audit sink delivers again", "sink", r.config.Name, "lag", r.src.Next()-r.next)
	}
	r.status.LastError, r.status.LastDelivered = "", time.Now()
	r.mu.Unlock()
	if r.wasLost() {
		r.rewind()
		return
	}
	r.advance()
}

func (r *run) wasLost() bool {
	select {
	case <-r.target.lost(): // never for nil
		return true
	default:
		return false
	}
}

// rewind goes back to what surely was delivered.
func (r *run) rewind() {
	r.marks = nil
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next = r.settled
}

// advance settles what can be, and saves the position when it is time.
func (r *run) advance() {
	now := time.Now()
	last := -1
	if len(r.marks) > 0 && now.Sub(r.marks[0].at) >= r.settle {
		_, arrived := r.target.progress()
		for last+1 < len(r.marks) && now.Sub(r.marks[last+1].at) >= r.settle && r.marks[last+1].sent <= arrived {
			last++
		}
	}
	if last >= 0 {
		m := r.marks[last]
		r.mu.Lock()
		r.settled = m.next
		r.mu.Unlock()
		r.position.note(m)
		r.marks = append(r.marks[:0], r.marks[last+1:]...)
	}
	if r.Needs() == r.settled || now.Before(r.saveAt) {
		return
	}
	if err := r.position.save(); err != nil {
		slog.Error("the position of an audit sink could not be saved; records will be delivered again after a restart", "sink", r.config.Name, "err", err)
	} else {
		r.mu.Lock()
		r.saved = r.settled
		r.mu.Unlock()
	}
	r.saveAt = time.Now().Add(saveEvery)
}

// wait waits for a record, or for something to settle or be saved. It reports false when no record will come.
func (r *run) wait(ctx context.Context) bool {
	r.advance()
	short, cancel := context.WithCancel(ctx)
	defer cancel()
	if len(r.marks) > 0 || r.Needs() != r.settled {
		until := r.saveAt
		if len(r.marks) > 0 {
			until = r.marks[0].at.Add(r.settle)
		}
		short, cancel = context.WithDeadline(short, later(until, time.Now().Add(linger)))
		defer cancel()
	}
	if lost := r.target.lost(); lost != nil {
		go func() {
			select {
			case <-lost:
				cancel()
			case <-short.Done():
			}
		}()
	}
	err := r.src.Wait(short, r.next)
	if err == nil {
		pause(ctx, linger)
	}
	if r.wasLost() {
		slog.Warn("an audit sink's connection broke; what it may have lost is sent again", "sink", r.config.Name)
		r.rewind()
		return true
	}
	return !errors.Is(err, audit.ErrClosed)
}

func later(x, y time.Time) time.Time {
	if x.After(y) {
		return x
	}
	return y
}

// failed notes a try that failed, and waits for the next one.
func (r *run) failed(ctx context.Context, err error) {
	r.rewind() // also at the end: what goes on is over another connection, which must not confirm what was sent over this one
	if ctx.Err() != nil {
		return
	}
	r.troubled(err)
	delay := r.backoff/2 + rand.N(r.backoff)
	var later *retryLater
	if errors.As(err, &later) {
		delay = max(delay, min(later.after, maxRetryAfter))
	}
	r.backoff = min(2*r.backoff, orDefault(r.config.MaxBackoff, maxBackoff))
	pause(ctx, delay)
}

// troubled notes an error. The first of a row is logged.
func (s *Sink) troubled(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status.LastError == "" {
		slog.Warn("an audit sink cannot deliver; its records wait in the log", "sink", s.config.Name, "err", err)
	}
	s.status.Failures++
	s.status.LastError, s.status.LastErrorAt = err.Error(), time.Now()
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
