package server

import (
	"context"
	"net/http"
	"time"
)

// Probed returns what serves the probes of a server whose disk is probed by a function, and what the metrics tell of it.
func Probed(probe func() error) (handler http.Handler, ready func(time.Duration) error) {
	h := &health{probe: func() finding { return finding{err: probe()} }}
	return h.handler(http.NotFoundHandler()), func(wait time.Duration) error { return h.look(wait).err }
}

// ForgetLogs does what who leads does every hour.
func (s *Server) ForgetLogs(ctx context.Context) error { return s.forgetLogs(ctx) }
