package metrics

import "time"

// recorder is what writes audit records: guard.Recorder.
type recorder interface {
	Append(records ...[]byte) error
	AppendReserved(records ...[]byte) error
	Reserve() error
}

// Recorder counts records on their way to what writes them.
type Recorder struct {
	m  *Metrics
	to recorder
}

// Recorder returns a Recorder in front of another.
func (m *Metrics) Recorder(to recorder) *Recorder { return &Recorder{m, to} }

// Append passes records on.
func (r *Recorder) Append(records ...[]byte) error {
	began := time.Now()
	return r.count(began, len(records), r.to.Append(records...))
}

// AppendReserved passes the records of a change on.
func (r *Recorder) AppendReserved(records ...[]byte) error {
	began := time.Now()
	return r.count(began, len(records), r.to.AppendReserved(records...))
}

// count counts records that were passed on.
func (r *Recorder) count(began time.Time, n int, err error) error {
	r.m.recordTook.Observe(time.Since(began).Seconds())
	if err != nil {
		r.m.recordFailures.Inc()
		return err
	}
	r.m.records.Add(float64(n))
	return nil
}

// Reserve passes the question on.
func (r *Recorder) Reserve() error {
	err := r.to.Reserve()
	if err != nil {
		r.m.recordFailures.Inc()
	}
	return err
}

// Store counts the work of the store: it is a store.Observer.
type Store struct{ m *Metrics }

// Store returns what counts the work of the store.
func (m *Metrics) Store() Store { return Store{m} }

// Read counts a query.
func (s Store) Read(took time.Duration) { s.m.readTook.Observe(took.Seconds()) }

// Wrote counts an update, which the engine may have failed to commit.
func (s Store) Wrote(took time.Duration, failed bool) {
	s.m.writeTook.Observe(took.Seconds())
	if failed {
		s.m.writeFailures.Inc()
	}
}

// Refused counts a row that was refused when it was read. Tables are the store's own.
func (s Store) Refused(table string) { s.m.refusedReads.WithLabelValues(table).Inc() }
