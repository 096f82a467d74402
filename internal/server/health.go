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

// health answers the probes of whoever watches the server. A disk that hangs holds up one probe and nobody who asks.
type health struct {
	store    *store.Store
	auditDir string // "" if records stay in memory
	draining atomic.Bool
	probe    func() finding

	mu      sync.Mutex
	last    finding       // of the newest probe that came to an end; zero before the first
	probed  time.Time     // when that was
	running chan struct{} // closed at the end of the probe under way; nil if there is none
	began   time.Time     // when that one began
}

// finding is what a probe found.
type finding struct {
	err         error // why no request could be answered now; nil if one could
	seals       int   // how many seals open the installation; 0 if that could not be read
	auditOctets int64 // of the audit log
	storeOctets int64
}

// probeEvery bounds how often probes from outside can make the server write to its disk; patience is how long a probe may take.
const (
	probeEvery = time.Second
	patience   = 5 * time.Second
)

// handler serves the probes, and the metrics beside them.
func (h *health) handler(metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, nil) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { say(w, h.ready()) })
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

// ready returns nil if a request could be answered now, and waits for that no longer than patience. That the store is unsealed needs
// no question: a server that is not does not start.
func (h *health) ready() error { return h.look(patience).err }

// look returns what a probe found within the last second. If it has to wait for a probe longer than it may, it returns what the
// one before found, unless this one takes too long: then nothing could be answered now.
func (h *health) look(wait time.Duration) finding {
	h.mu.Lock()
	if h.running == nil && time.Since(h.probed) >= probeEvery {
		h.running, h.began = make(chan struct{}), time.Now()
		go h.run(h.running)
	}
	running := h.running
	h.mu.Unlock()
	if running != nil {
		select {
		case <-running:
		case <-time.After(wait):
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.last
	switch {
	case h.draining.Load():
		f.err = errors.New("draining: the server is stopping")
	case h.running != nil && (time.Since(h.began) >= patience || h.probed.IsZero()):
		f.err = fmt.Errorf("the store or the disk of the audit log has not answered for %s", time.Since(h.began).Round(time.Second))
	}
	return f
}

// run makes a probe.
func (h *health) run(done chan struct{}) {
	f := h.probe()
	h.mu.Lock()
	defer h.mu.Unlock()
	if f.seals == 0 {
		f.seals = h.last.seals // as far as is known
	}
	h.last, h.probed, h.running = f, time.Now(), nil
	close(done)
}

// find is the probe of a server.
func (s *Server) find() finding {
	h := &s.health
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	f := finding{storeOctets: s.in.DB.Octets(), auditOctets: octets(h.auditDir)}
	if _, err := h.store.CountKeys(ctx, "000000000000", "us-east-1"); err != nil {
		f.err = fmt.Errorf("the store does not answer: %w", err)
	} else if sealed, err := s.in.DB.Sealed(ctx); err == nil {
		f.seals = len(sealed.Seals)
	}
	if h.auditDir != "" {
		if err := writeProbe(h.auditDir); err != nil && f.err == nil {
			f.err = fmt.Errorf("the audit log cannot be written: %w", err)
		}
	}
	return f
}

// octets returns the size of the files in a directory.
func octets(dir string) (sum int64) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			sum += info.Size()
		}
	}
	return sum
}

// writeProbe writes a few octets to the disk of the audit log: a full or read-only disk refuses them as it would refuse a
// record.
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
