package server_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/server"
)

func TestMetrics(t *testing.T) {
	c, dir := newConfig(t)
	writePair(t, dir, 1)
	c.TLS, c.Version = &server.TLS{Certificate: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}, "v1.2.3"
	r := run(t, c, dir)
	waitFor(t, func() bool {
		_, text := r.probe("/metrics")
		return strings.Contains(text, "\nkeywright_keys_counted_age_seconds ")
	})
	status, text := r.probe("/metrics")
	if status != 200 {
		t.Fatal(status)
	}
	for _, want := range []string{
		"\nkeywright_ready 1\n", "\nkeywright_sealed 0\n", "\nkeywright_seals 1\n", "\nkeywright_certificate_expiry_days 0.04", "\nkeywright_connections 0\n",
		"\nkeywright_audit_segments 1\n", "\nkeywright_audit_unsynced_records 0\n", "\nkeywright_store_bytes ", `version="v1.2.3"} 1`,
		"\n" + `keywright_cache_hits_total{cache="keys"} 0` + "\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q", want)
		}
	}
	if strings.Contains(text, "keywright_store_write_duration_seconds_count 0\n") {
		t.Error("nobody counts the writes of the store")
	}
	resp, err := http.Post("http://"+r.AdminAddr().String()+"/metrics", "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d, %v", resp.StatusCode, err)
	}
}

// TestTracesAreDelivered looks for the delivery that Close waits for.
func TestTracesAreDelivered(t *testing.T) {
	got := make(chan http.Header, 16)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		got <- r.Header
	}))
	defer collector.Close()
	c, dir := newConfig(t)
	c.Traces = server.Traces{Endpoint: collector.URL, Ratio: 1, HeadersFile: filepath.Join(dir, "headers")}
	if err := os.WriteFile(c.Traces.HeadersFile, []byte("Authorization: Bearer of traces\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := run(t, c, dir)
	if status, text := r.call(r.dial(), "ListKeys", "{}"); status != 200 {
		t.Fatal(text)
	}
	r.stop()
	if err := <-r.done; err != nil {
		t.Error(err)
	}
	r.done <- nil
	select {
	case h := <-got:
		if h.Get("Authorization") != "Bearer of traces" {
			t.Errorf("%v", h)
		}
	default:
		t.Error("no span came")
	}
}

func TestLogger(t *testing.T) {
	for _, c := range []struct {
		log   server.Log
		debug bool
		warn  string
	}{
		{server.Log{}, false, "level=WARN msg=careful"},
		{server.Log{Format: "text", Level: "debug"}, true, "level=WARN msg=careful"},
		{server.Log{Format: "json"}, false, `"level":"WARN","msg":"careful"`},
		{server.Log{Format: "json", Level: "error"}, false, ""},
	} {
		var b bytes.Buffer
		l := c.log.Logger(&b)
		if l.Enabled(t.Context(), slog.LevelDebug) != c.debug {
			t.Errorf("%+v: debug lines", c.log)
		}
		l.Warn("careful")
		if !strings.Contains(b.String(), c.warn) || (c.warn == "") != (b.Len() == 0) {
			t.Errorf("%+v: %s", c.log, b.String())
		}
	}
}

// A disk that hangs holds up one probe. Who asks for metrics hears what the one before found, and after a while that it hangs.
func TestProbeThatHangs(t *testing.T) {
	hang, calls := make(chan struct{}), atomic.Int64{}
	handler, ready := server.Probed(func() error {
		if calls.Add(1) > 1 {
			<-hang
		}
		return nil
	})
	if err := ready(time.Minute); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond) // then it is to be probed again
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := ready(0); err != nil {
				t.Errorf("at once: %v", err)
			}
		})
	}
	all.Wait()
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "has not answered for ") || ready(0) == nil {
		t.Errorf("%d %s, %v", w.Code, w.Body, ready(0))
	}
	if n := calls.Load(); n != 2 {
		t.Errorf("%d probes", n)
	}
	close(hang)
	if err := ready(time.Minute); err != nil {
		t.Error(err)
	}
}
