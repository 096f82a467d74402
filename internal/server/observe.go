package server

import (
	"time"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/metrics"
)

// observe has everything watched that there is to watch. It is called when the rooms are there, before anything runs.
func (s *Server) observe() {
	s.in.Store.Tell(s.metrics.Store())
	s.census = &census{store: s.in.Store, now: s.config.Now, leads: s.leads}
	f := metrics.Facts{
		Now:         s.config.Now,
		Server:      s.condition,
		Certificate: s.certificateExpiry,
		Connections: s.api.Connections,
		Audit:       s.auditState,
		Sinks:       s.sinkState,
		Quotas:      s.quotas.Usage,
		Caches:      s.caches,
		Census:      s.lastCensus,
		Cluster:     s.clusterState,
	}
	s.metrics.Watch(f)
}

// watched returns a recorder whose records are counted, if there is a server that counts.
func (s *Server) watched(r guard.Recorder) guard.Recorder {
	if s.metrics == nil {
		return r
	}
	return s.metrics.Recorder(r)
}

// scrapeWait is how long somebody who asks for the metrics may have to wait for a probe, far less than a scraper's patience.
const scrapeWait = time.Second

// condition says what the last probe found.
func (s *Server) condition() metrics.Server {
	f := s.health.look(scrapeWait)
	return metrics.Server{Ready: f.err == nil, Seals: f.seals, StoreOctets: f.storeOctets, AuditOctets: f.auditOctets}
}

// certificateExpiry returns until when the certificate is valid that is served now; the zero time if none is.
func (s *Server) certificateExpiry() time.Time {
	if s.certs == nil {
		return time.Time{}
	}
	c := s.certs.current.Load()
	if c == nil || c.Leaf == nil {
		return time.Time{}
	}
	return c.Leaf.NotAfter
}

// auditState says how the audit log stands.
func (s *Server) auditState() metrics.Audit {
	log, ok := s.records.(*audit.Log)
	if !ok {
		return metrics.Audit{First: s.records.First(), Next: s.records.Next(), Durable: s.records.Next(), Checkpointed: s.records.Next()}
	}
	stats := log.Stats()
	return metrics.Audit{
		First: stats.First, Next: stats.Next, Durable: stats.Durable, Checkpointed: stats.Checkpointed, Checkpoint: stats.Checkpoint, Segments: stats.Segments,
		Waiting: stats.Waiting, Postponed: stats.Postponed,
	}
}

// sinkState says how far those who follow the audit log are.
func (s *Server) sinkState() []metrics.Sink {
	var all []metrics.Sink
	for _, f := range s.followers() {
		all = append(all, metrics.Sink{Name: f.Name, Lag: f.Lag, Failing: f.LastError != "", Delivered: f.Delivered, Missed: f.Missed})
	}
	return all
}

func (s *Server) caches() []metrics.Cache {
	all := s.kms.Caches()
	list := make([]metrics.Cache, len(all))
	for i, c := range all {
		list[i] = metrics.Cache{Name: c.Name, Hits: c.Hits, Misses: c.Misses, Entries: c.Entries}
	}
	return list
}

func (s *Server) lastCensus() (metrics.Census, bool) {
	c := s.census.latest()
	if c == nil || !s.census.leads() { // an old one beside another server's would be counted twice
		return metrics.Census{}, false
	}
	m := metrics.Census{At: c.At, States: map[string]int64{}, NextDeletion: c.Deletion, NextExpiry: c.Expiry, Refused: c.Refused}
	for state, n := range c.States {
		m.States[string(state)] = n
	}
	return m, true
}
