package metrics_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/metrics"
)

// scrape returns what a scraper gets.
func scrape(t testing.TB, m *metrics.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func has(t testing.TB, text string, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if !strings.Contains(text, l+"\n") {
			t.Errorf("there is no line %s", l)
		}
	}
}

func TestOperation(t *testing.T) {
	m := metrics.New("v1")
	o := m.Operation("kms", "Encrypt")
	if text := scrape(t, m); strings.Contains(text, "Encrypt") {
		t.Error("there is a series before the first request")
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				o.Observe(metrics.Software, "", 300*time.Microsecond)
				o.Observe(metrics.NoKey, "NotFoundException", 20*time.Second)
			}
		})
	}
	all.Wait()
	m.Operation("kms", "Encrypt").Observe(metrics.Software, "", time.Millisecond) // the same series
	has(t, scrape(t, m),
		`keywright_requests_total{code="OK",key_store="software",operation="Encrypt",service="kms"} 801`,
		`keywright_requests_total{code="NotFoundException",key_store="none",operation="Encrypt",service="kms"} 800`,
		`keywright_request_duration_seconds_bucket{operation="Encrypt",service="kms",le="0.00025"} 0`,
		`keywright_request_duration_seconds_bucket{operation="Encrypt",service="kms",le="0.0005"} 800`,
		`keywright_request_duration_seconds_bucket{operation="Encrypt",service="kms",le="10"} 801`,
		`keywright_request_duration_seconds_count{operation="Encrypt",service="kms"} 1601`,
	)
	var nobody *metrics.Operation
	nobody.Observe(metrics.NoKey, "", time.Second) // does not panic
}

func TestCodesAreBounded(t *testing.T) {
	m := metrics.New("v1")
	o := m.Operation("kms", "Encrypt")
	for i := range 1000 {
		o.Observe(metrics.NoKey, fmt.Sprintf("Code%d", i), time.Millisecond)
	}
	text := scrape(t, m)
	if n := strings.Count(text, "keywright_requests_total{"); n > 70 {
		t.Errorf("%d series", n)
	}
	has(t, text, `keywright_requests_total{code="Other",key_store="none",operation="Encrypt",service="kms"} 936`)
}

// disk is a recorder whose disk can be full.
type disk struct{ full bool }

func (d *disk) Append(...[]byte) error         { return d.Reserve() }
func (d *disk) AppendReserved(...[]byte) error { return d.Reserve() }
func (d *disk) Reserve() error {
	if d.full {
		return errors.New("full")
	}
	return nil
}

func TestRooms(t *testing.T) {
	m := metrics.New("v1")
	d := new(disk)
	r := m.Recorder(d)
	if err := errors.Join(r.Append([]byte("a"), []byte("b")), r.Reserve()); err != nil {
		t.Error(err)
	}
	d.full = true
	if r.Append([]byte("c")) == nil || r.Reserve() == nil {
		t.Error("an error was lost")
	}
	s := m.Store()
	s.Read(time.Millisecond)
	s.Wrote(2*time.Millisecond, false)
	s.Wrote(time.Second, true)
	s.Refused("grants")
	s.Refused("grants")
	has(t, scrape(t, m),
		"keywright_audit_records_total 2", "keywright_audit_failures_total 2", "keywright_audit_append_duration_seconds_count 2",
		"keywright_store_read_duration_seconds_count 1", "keywright_store_write_duration_seconds_count 2", "keywright_store_write_failures_total 1", `keywright_store_refused_reads_total{table="grants"} 2`,
	)
}

// everything are facts of all rooms.
func everything(now time.Time) metrics.Facts {
	return metrics.Facts{
		Now: func() time.Time { return now }, Server: func() metrics.Server {
			return metrics.Server{Ready: true, Seals: 2, StoreOctets: 4096, AuditOctets: 5000}
		},
		Certificate: func() time.Time { return now.Add(36 * time.Hour) }, Connections: func() int { return 7 },
		Audit: func() metrics.Audit {
			return metrics.Audit{First: 10, Next: 110, Durable: 100, Checkpointed: 90, Checkpoint: now.Add(-3 * time.Second), Segments: 4, Waiting: 1500 * time.Millisecond, Postponed: 6}
		},
		Sinks: func() []metrics.Sink {
			return []metrics.Sink{{Name: "file", Lag: 3}, {Name: "hook", Lag: 99, Failing: true, Delivered: 12, Missed: 1}}
		},
		Caches: func() []metrics.Cache { return []metrics.Cache{{Name: "keys", Hits: 8, Misses: 2, Entries: 5}} },
		Quotas: func(report metrics.Usage) {
			for i := range 200 {
				report("111122223333", "us-east-1", fmt.Sprintf("bucket%d", i), float64(i), 200)
			}
			report("111122223333", "us-east-1", "none", 0, 0)
		},
		Census: func() (metrics.Census, bool) {
			return metrics.Census{At: now.Add(-time.Minute), States: map[string]int64{"Enabled": 12}, NextDeletion: now.Add(24 * time.Hour), NextExpiry: now.Add(-12 * time.Hour)}, true
		},
		Cluster: func() (metrics.Cluster, bool) {
			return metrics.Cluster{Staleness: 250 * time.Millisecond, Live: 3, Leads: true, ClockOffset: -1500 * time.Millisecond}, true
		},
	}
}

func TestFacts(t *testing.T) {
	m := metrics.New("v1.2")
	if text := scrape(t, m); strings.Contains(text, "keywright_ready") {
		t.Error("it tells what nobody told it")
	}
	m.Watch(everything(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)))
	text := scrape(t, m)
	has(t, text,
		"keywright_ready 1", "keywright_store_staleness_seconds 0.25", "keywright_cluster_nodes 3", "keywright_cluster_leads 1", "keywright_clock_offset_seconds -1.5", "keywright_sealed 0", "keywright_seals 2", "keywright_certificate_expiry_days 1.5", "keywright_connections 7",
		"keywright_audit_kept_records 100", "keywright_audit_unsynced_records 10", "keywright_audit_unchecked_records 20",
		"keywright_audit_checkpoint_age_seconds 3", "keywright_audit_segments 4", "keywright_audit_unsynced_age_seconds 1.5", "keywright_audit_postponed_segments 6", "keywright_audit_bytes 5000",
		`keywright_sink_lag_records{sink="hook"} 99`, `keywright_sink_failing{sink="hook"} 1`, `keywright_sink_delivered_records_total{sink="hook"} 12`, `keywright_sink_missed_records_total{sink="hook"} 1`, `keywright_sink_failing{sink="file"} 0`,
		"keywright_store_bytes 4096", `keywright_cache_hits_total{cache="keys"} 8`, `keywright_cache_misses_total{cache="keys"} 2`,
		`keywright_quota_used{account="111122223333",bucket="bucket199",region="us-east-1"} 199`,
		`keywright_quota_limit{account="111122223333",bucket="bucket199",region="us-east-1"} 200`,
		`keywright_keys{state="Enabled"} 12`, "keywright_key_deletion_days 1", "keywright_material_expiry_days -0.5", "keywright_keys_counted_age_seconds 60",
	)
	if n := strings.Count(text, "keywright_quota_used{"); n != metrics.TopQuotas || strings.Contains(text, `"bucket3"`) {
		t.Errorf("%d rates", n)
	}
	if !strings.Contains(text, `keywright_build_info{go_version="go`) || !strings.Contains(text, `version="v1.2"} 1`) {
		t.Error("the version is missing")
	}
	if !strings.Contains(text, "go_goroutines ") || !strings.Contains(text, "process_resident_memory_bytes ") {
		t.Error("the runtime is missing")
	}
}

// Two series that cannot be told apart cost none of the others.
func TestOneBadSeries(t *testing.T) {
	m := metrics.New("v1")
	m.Watch(metrics.Facts{
		Now:         time.Now,
		Connections: func() int { return 7 },
		Sinks:       func() []metrics.Sink { return []metrics.Sink{{Name: "twice"}, {Name: "twice"}} },
	})
	has(t, scrape(t, m), "keywright_connections 7")
}

// TestEveryMetricIsDescribed looks at both directions: what is served is described, and what is described is served.
func TestEveryMetricIsDescribed(t *testing.T) {
	m := metrics.New("v1")
	m.Watch(everything(time.Now()))
	m.Operation("kms", "Encrypt").Observe(metrics.Software, "", time.Millisecond)
	m.Store().Refused("grants")
	served := map[string]string{}
	for line := range strings.Lines(scrape(t, m)) {
		if rest, ok := strings.CutPrefix(line, "# TYPE keywright_"); ok {
			name, kind, _ := strings.Cut(strings.TrimSpace(rest), " ")
			served["keywright_"+name] = kind
		}
	}
	for _, d := range m.Descriptions() {
		if served[d.Name] != d.Type || d.Help == "" {
			t.Errorf("%s is described as a %s and served as a %q", d.Name, d.Type, served[d.Name])
		}
		delete(served, d.Name)
	}
	if len(served) > 0 {
		t.Errorf("nobody described %v", served)
	}
}

func TestObservingDoesNotAllocate(t *testing.T) {
	o := metrics.New("v1").Operation("kms", "Encrypt")
	if n := testing.AllocsPerRun(100, func() {
		o.Observe(metrics.Software, "", 50*time.Microsecond)
		o.Observe(metrics.NoKey, "AccessDeniedException", 50*time.Microsecond)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkObserve is what a request pays: an answer, and a refusal.
func BenchmarkObserve(b *testing.B) {
	for name, code := range map[string]string{"answer": "", "refusal": "AccessDeniedException"} {
		b.Run(name, func(b *testing.B) {
			o := metrics.New("v1").Operation("kms", "Encrypt")
			b.ReportAllocs()
			for b.Loop() {
				o.Observe(metrics.Software, code, 50*time.Microsecond)
			}
		})
	}
}

// BenchmarkRecorder is what a record pays.
func BenchmarkRecorder(b *testing.B) {
	r := metrics.New("v1").Recorder(new(disk))
	record := []byte("{}")
	b.ReportAllocs()
	for b.Loop() {
		if err := r.Append(record); err != nil {
			b.Fatal(err)
		}
	}
}
