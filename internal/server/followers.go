package server

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/sink"
	"github.com/keywright/keywright/internal/trail"
)

// openIndex opens what events are looked up in: in the data directory, because it is no part of the log. If that cannot be used, it
// is in memory: nothing depends on it.
func (s *Server) openIndex() (err error) {
	s.index, err = trail.OpenIndex(s.records, s.below(lookup))
	if err != nil {
		slog.Error("the look-up index is in memory until the next start, for the newest records only", "err", err)
		s.index, err = trail.OpenIndex(s.records, "")
	}
	if err == nil {
		s.hold(lookup, s.index.Needs)
	}
	return err
}

// below returns the path of something in the data directory; empty if there is none.
func (s *Server) below(name string) string {
	if s.config.Data == "" {
		return ""
	}
	return filepath.Join(s.config.Data, name)
}

// hold keeps retention from removing what a follower of the log still needs.
func (s *Server) hold(name string, needs func() uint64) {
	if log, ok := s.records.(*audit.Log); ok {
		log.Hold(name, needs)
	}
}

// tidy lets the log compress and remove segments. Everybody who needs records holds them by now; where nobody does, as in a command
// without a server, nothing is removed.
func (s *Server) tidy() {
	if log, ok := s.records.(*audit.Log); ok {
		log.Tidy()
	}
}

// openSinks makes the sinks. They connect to nothing before they run.
func (s *Server) openSinks() error {
	for _, c := range s.config.Audit.Sinks {
		made, err := sink.New(c, s.records, s.below("sinks"))
		if err != nil {
			return err
		}
		s.sinks = append(s.sinks, made)
		s.hold("sink "+c.Name, made.Needs)
	}
	return nil
}

// follow has the followers of the log run until ctx ends.
func (s *Server) follow(ctx context.Context, running *sync.WaitGroup) {
	running.Go(func() { s.index.Run(ctx) })
	for _, each := range s.sinks {
		running.Go(func() { each.Run(ctx) })
	}
}

// lookup is what the index of LookupEvents is called among what follows the log.
const lookup = "lookup"

// followers returns how those who follow the log are doing: the index first, then the sinks in the order of the configuration.
func (s *Server) followers() []sink.Status {
	all := []sink.Status{{Name: lookup, Kind: lookup, Lag: s.index.Lag(), Missed: s.index.Unreadable()}}
	for _, each := range s.sinks {
		all = append(all, each.Status())
	}
	return all
}
