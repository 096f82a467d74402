package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/store"
)

// health answers the probes of whoever watches the server.
type health struct {
	store    *store.Store
	auditDir string // "" if records stay in memory
	draining atomic.Bool

	mu      sync.Mutex // held during a probe of the audit directory
	probed  time.Time
	verdict error
}

// probeEvery bounds how often probes from outside can make the server write to its disk.
const probeEvery = time.Second

// handler serves the probes, and the metrics beside them.
func (h *health) handler(metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, nil) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { say(w, h.ready(r.Context())) })
	mux.Handle("GET /metrics", metrics)
	return mux
}

// say answers "ok", or 503 and why not.
func say(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = fmt.Fprintln(w, err)
		return
	}
	_, _ = fmt.Fprintln(w, "ok")
}

// ready returns nil if a request could be answered now. That the store is unsealed needs no question: a server that is
// not does not start.
func (h *health) ready(ctx context.Context) error {
	if h.draining.Load() {
		return errors.New("draining: the server is stopping")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if _, err := h.store.CountKeys(ctx, "000000000000", "us-east-1"); err != nil {
		return fmt.Errorf("the store does not answer: %w", err)
	}
	if err := h.auditWritable(); err != nil {
		return fmt.Errorf("the audit log cannot be written: %w", err)
	}
	return nil
}

// auditWritable writes a few octets to the disk of the audit log: a full or read-only disk refuses them as it would
// refuse a record.
func (h *health) auditWritable() error {
	if h.auditDir == "" {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.probed) >= probeEvery {
		h.verdict, h.probed = writeProbe(h.auditDir), time.Now()
	}
	return h.verdict
}

func writeProbe(dir string) error {
	f, err := os.CreateTemp(dir, "probe-*")
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 4096))
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}
