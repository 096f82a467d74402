// Package metrics counts what the server does and serves it in the text format of Prometheus.
//
// It knows no other room: the pipeline and the server hand it numbers and names. It trusts the names of services, operations
// and error codes to be the server's own, because each of them makes a series that stays in memory: nothing that a client
// chose may become a label, but for the account and Region of quotas that are in use, of which there are at most TopQuotas.
// It must never be told contents, and never cost an answer more than a fraction of a microsecond.
package metrics

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// buckets are the upper bounds of latencies, in seconds: a call without the disk takes some 50 microseconds, one with it a
// few milliseconds, and nobody waits for longer than 10 seconds.
var buckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// Description is what the documentation says of a metric.
type Description struct {
	Name   string
	Type   string // counter, gauge or histogram
	Labels []string
	Help   string
}

// Metrics has everything that is counted. It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	all      []Description

	requests *prometheus.CounterVec
	took     *prometheus.HistogramVec

	records, recordFailures prometheus.Counter
	recordTook              prometheus.Histogram
	readTook, writeTook     prometheus.Histogram
	writeFailures           prometheus.Counter
	refusedReads            *prometheus.CounterVec

	facts facts
}

// New returns a Metrics with a registry of its own.
func New(version string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.requests = m.counters("keywright_requests_total", "Requests that were answered, by error code (OK for none) and the key store of the key (none for no key).",
		"service", "operation", "code", "key_store")
	m.took = m.histograms("keywright_request_duration_seconds", "Time from a whole request to its answer.", "service", "operation")
	m.records = m.counter("keywright_audit_records_total", "Audit records that were written.")
	m.recordFailures = m.counter("keywright_audit_failures_total", "Times that audit records could not be written, or no room was left for them: the calls were refused.")
	m.recordTook = m.histogram("keywright_audit_append_duration_seconds", "Time that a call waited for its audit record.")
	m.readTook = m.histogram("keywright_store_read_duration_seconds", "Time of a query of the store.")
	m.writeTook = m.histogram("keywright_store_write_duration_seconds", "Time from an update of the store to its being on disk.")
	m.writeFailures = m.counter("keywright_store_write_failures_total", "Updates of the store that its engine failed to commit.")
	m.refusedReads = m.counters("keywright_store_refused_reads_total", "Times that a row was read and refused, because it was changed outside Keywright, by the table that it is in.", "table")
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "keywright_build_info", Help: "Always 1: which version runs.",
	}, []string{"version", "go_version"})
	m.add(Description{"keywright_build_info", "gauge", []string{"version", "go_version"}, "Always 1: which version runs."}, info)
	info.WithLabelValues(version, runtime.Version()).Set(1)
	m.facts.describe(m)
	m.registry.MustRegister(&m.facts, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// add describes and registers a metric.
func (m *Metrics) add(d Description, c prometheus.Collector) {
	m.all = append(m.all, d)
	m.registry.MustRegister(c)
}

func (m *Metrics) counters(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	m.add(Description{name, "counter", labels, help}, v)
	return v
}

func (m *Metrics) counter(name, help string) prometheus.Counter {
	return m.counters(name, help).WithLabelValues()
}

func (m *Metrics) histograms(name, help string, labels ...string) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	m.add(Description{name, "histogram", labels, help}, v)
	return v
}

func (m *Metrics) histogram(name, help string) prometheus.Histogram {
	return m.histograms(name, help).WithLabelValues().(prometheus.Histogram) // what a vector of histograms is made of
}

// Handler serves the metrics. One that cannot be told costs none of the others: it is missing, and the server's log says why.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, ErrorHandling: promhttp.ContinueOnError, ErrorLog: errorLog{}})
}

// errorLog writes what is wrong with the metrics to the server's log.
type errorLog struct{}

// Println implements promhttp.Logger.
func (errorLog) Println(v ...any) {
	slog.Error("some metrics could not be told", "err", fmt.Sprint(v...))
}

// Descriptions returns what there is of Keywright's own, in no particular order. Those of the Go runtime and the process
// are not among them.
func (m *Metrics) Descriptions() []Description { return m.all }

// Table returns the descriptions as a table of Markdown.
func (m *Metrics) Table() string {
	var b strings.Builder
	b.WriteString("| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n")
	for _, d := range m.all {
		labels := make([]string, len(d.Labels))
		for i, l := range d.Labels {
			labels[i] = "`" + l + "`"
		}
		b.WriteString("| `" + d.Name + "` | " + d.Type + " | " + strings.Join(labels, ", ") + " | " + d.Help + " |\n")
	}
	return b.String()
}
