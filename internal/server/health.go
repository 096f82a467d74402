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
)

// health answers the probes of whoever watches the server. A disk that hangs holds up one probe and nobody who asks.
type health struct {
	auditDir string // "" if records stay in memory
	draining atomic.Bool
	probe    func() finding

	mu      sync.Mutex
	last    finding       // of the newest probe that came to an end; zero before the first
	probed  time.Time     // when that was
	running chan struct{} // closed at the end of the probe under way; nil if there is none
	began   time.Time     // when that one began
	counted time.Time     // the probe's own: when the seals of a shared store were last counted
}

// finding is what a probe found.
type finding struct {
	err         error // why no request could be answered now; nil if one could
	passing     bool  // it is the database that several servers share, and it has not been away for longer than changes wait for it
	seals       int   // how many seals open the installation; 0 if that could not be read
	auditOctets int64 // of the audit log
	storeOctets int64
}

// probeEvery bounds how often probes from outside can make the server write to its disk.
const probeEvery = time.Second

// ProbePatience is how long /readyz takes at most. Who asks waits for longer.
const ProbePatience = 5 * time.Second

// The seals of a shared store are counted now and then: load balancers ask every server every second or two.
const (
	sealsEvery    = time.Minute
	sealsPatience = time.Second
)

// handler serves the probes, and the metrics beside them.
func (h *health) handler(metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, nil) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { say(w, h.inService()) })
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

// ready returns nil if a request could be answered now, and waits for that no longer than ProbePatience. That the store is unsealed needs
// no question: a server that is not does not start.
func (h *health) ready() error { return h.look(ProbePatience).err }

// inService returns nil if requests should come here: if one could be answered now, or if only the shared database is away, and not for
// longer than changes wait for it. Other servers then miss it as well, and what waits here is answered when it is back; if all of them said at
// once that they are not ready, a load balancer would have nowhere to go.
func (h *health) inService() error {
	if f := h.look(ProbePatience); !f.passing {
		return f.err
	}
	return nil
}

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
		f.passing = false
		f.err = errors.New("draining: the server is stopping")
	case h.running != nil && (time.Since(h.began) >= ProbePatience || h.probed.IsZero()):
		f.passing = false
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
	ctx, cancel := context.WithTimeout(context.Background(), ProbePatience)
	defer cancel()
	f := finding{storeOctets: s.in.DB.Octets(), auditOctets: octets(h.auditDir)}
	f.err, f.passing = s.storeAnswers(ctx)
	if f.err == nil {
		f.seals = s.countSeals(ctx)
	}
	if h.auditDir != "" {
		if err := writeProbe(h.auditDir); err != nil && (f.err == nil || f.passing) {
			f.err, f.passing = fmt.Errorf("the audit log cannot be written: %w", err), false
		}
	}
	return f
}

// storeAnswers returns nil if a request that comes now is not refused for want of the store, and else whether that may pass. Where others
// use the store, too, it asks what every request asks, and no more: a query of its own can be answered while all requests are refused, and
// fail while they are served from memory.
func (s *Server) storeAnswers(ctx context.Context) (err error, passing bool) {
	if s.freshness == nil {
		_, err = s.in.Store.CountKeys(ctx, "000000000000", "us-east-1")
	} else if _, err = s.freshness.keeper.Check(ctx); err != nil {
		passing = s.freshness.keeper.Age() <= s.config.Store.Patience
	}
	if err != nil {
		err = fmt.Errorf("the store does not answer: %w", err)
	}
	return err, passing
}

// countSeals returns how many seals open the installation; 0 if that is not known anew.
func (s *Server) countSeals(ctx context.Context) int {
	if s.freshness != nil {
		if time.Since(s.health.counted) < sealsEvery {
			return 0
		}
		s.health.counted = time.Now()
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, sealsPatience)
		defer cancel()
	}
	sealed, err := s.in.DB.Sealed(ctx)
	if err != nil {
		return 0
	}
	return len(sealed.Seals)
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
