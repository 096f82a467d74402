package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/keywright/keywright/internal/tracing"
)

// Traces says where OpenTelemetry traces go.
type Traces struct {
	// Endpoint is the URL of a collector that takes OTLP over HTTP, such as http://127.0.0.1:4318. Empty means that nothing
	// is traced.
	Endpoint string `yaml:"endpoint"`
	// Ratio is the share of requests that are traced of those whose callers have not decided, from 0 to 1. Zero means that
	// only what callers trace is traced.
	Ratio float64 `yaml:"ratio"`
	// HeadersFile has lines NAME: VALUE that are sent to the collector, such as Authorization. Empty means none.
	HeadersFile string `yaml:"headersFile"`
}

func (t *Traces) check() error {
	if t.Endpoint == "" {
		if t.Ratio != 0 || t.HeadersFile != "" {
			return errors.New("traces: there is no endpoint to send them to")
		}
		return nil
	}
	if err := (&tracing.Config{Endpoint: t.Endpoint, Ratio: t.Ratio}).Check(); err != nil {
		return fmt.Errorf("traces: %w", err)
	}
	u, err := url.Parse(t.Endpoint)
	if err != nil || t.HeadersFile != "" && u.Scheme != "https" && !Loopback(net.JoinHostPort(u.Hostname(), "0")) {
		return errors.New("traces: headers are sent over https, or to a loopback address")
	}
	return nil
}

// openTraces makes the tracer, if there is to be one.
func (s *Server) openTraces() error {
	c := &s.config.Traces
	if c.Endpoint == "" {
		return nil
	}
	to := tracing.Config{Endpoint: c.Endpoint, Ratio: c.Ratio, Version: s.config.Version}
	if c.HeadersFile != "" {
		f, err := os.Open(c.HeadersFile)
		if err != nil {
			return fmt.Errorf("traces: %w", err)
		}
		defer func() { _ = f.Close() }() // it was only read
		if to.Headers, err = tracing.ReadHeaders(f); err != nil {
			return fmt.Errorf("traces: %s: %w", c.HeadersFile, err)
		}
	}
	var err error
	if s.tracer, err = tracing.New(context.Background(), to); err != nil {
		return fmt.Errorf("traces: %w", err)
	}
	return nil
}

// closeTraces delivers the last spans, but does not wait for long: nothing depends on them.
func (s *Server) closeTraces() {
	if s.tracer == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = s.tracer.Shutdown(ctx) // it was logged
}
