package server

import (
	"context"
	"net/http"
	"time"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/store"
)

// Probed returns what serves the probes of a server whose disk is probed by a function, and what the metrics tell of it.
func Probed(probe func() error) (handler http.Handler, ready func(time.Duration) error) {
	h := &health{probe: func() finding { return finding{err: probe()} }}
	return h.handler(http.NotFoundHandler()), func(wait time.Duration) error { return h.look(wait).err }
}

// Counted has a server that leads, or does not, count the keys of a store once, and returns what it shows in its metrics and tells
// administrators: how many are enabled, or -1 for nothing.
func Counted(ctx context.Context, st *store.Store, leads bool) (shown, told int64, err error) {
	ended, end := context.WithCancel(ctx)
	end()
	s := &Server{census: &census{store: st, now: time.Now, leads: func() bool { return leads }}}
	c, err := s.census.fresh(ctx)
	told = -1
	if c != nil {
		told = c.States[key.Enabled]
	}
	s.census.run(ended)
	shown = -1
	if m, ok := s.lastCensus(); ok {
		shown = m.States[string(key.Enabled)]
	}
	return shown, told, err
}

// ForgetLogs does what who leads does every hour.
func (s *Server) ForgetLogs(ctx context.Context) error { return s.forgetLogs(ctx) }
