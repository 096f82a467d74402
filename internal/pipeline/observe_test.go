package pipeline_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/keywright/keywright/internal/metrics"
	"github.com/keywright/keywright/internal/pipeline"
	"github.com/keywright/keywright/internal/sigv4"
	"github.com/keywright/keywright/internal/tracing"
)

func scrape(m *metrics.Metrics) string {
	rec := httptest.NewRecorder()
	m.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return rec.Body.String()
}

func TestRequestsAreCounted(t *testing.T) {
	w := newWorld(t)
	m := metrics.New("test")
	w.config.Metrics = m
	w.pipeline = pipeline.New(w.config)
	id := w.newKey()
	w.kms("Encrypt", `{"KeyId":"`+id+`","Plaintext":"aGk="}`)
	w.serve(w.sign(jsonRequest("Encrypt", `{"KeyId":"alias/none","Plaintext":"aGk="}`), aliceRoot, "kms"))
	w.serve(jsonRequest("Encrypt", `{}`))                                        // unsigned: whose operation it would be, nobody looks up
	w.serve(w.sign(jsonRequest("Dream", `{}`), aliceRoot, "kms"))                // no operation of the service
	w.serve(w.sign(jsonRequest("Hm\u00e4\"\\", `{}`), aliceRoot, "kms"))         // nor this
	w.serve(w.sign(targetRequest("Fancy.Dream", `{}`), aliceRoot, "kms"))        // nor is there such a service
	w.serve(w.sign(jsonRequest("CreateCustomKeyStore", `{}`), aliceRoot, "kms")) // of the model, and not built
	w.serve(w.sign(formRequest("Action=GetCallerIdentity&Version=2011-06-15"), aliceRoot, "sts"))
	text := scrape(m)
	for _, line := range []string{
		`keywright_requests_total{code="OK",key_store="none",operation="CreateKey",service="kms"} 1`,
		`keywright_requests_total{code="OK",key_store="software",operation="Encrypt",service="kms"} 1`,
		`keywright_requests_total{code="NotFoundException",key_store="none",operation="Encrypt",service="kms"} 1`,
		`keywright_requests_total{code="MissingAuthenticationTokenException",key_store="none",operation="Unknown",service="kms"} 1`,
		`keywright_requests_total{code="UnknownOperationException",key_store="none",operation="Unknown",service="kms"} 3`,
		`keywright_requests_total{code="UnsupportedOperationException",key_store="none",operation="Unknown",service="kms"} 1`,
		`keywright_requests_total{code="OK",key_store="none",operation="GetCallerIdentity",service="sts"} 1`,
		`keywright_request_duration_seconds_count{operation="Unknown",service="kms"} 5`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("there is no line %s", line)
		}
	}
	if strings.Contains(text, "Dream") || strings.Contains(text, "Hm") {
		t.Error("a client made a label")
	}
	if t.Failed() {
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "keywright_requests_total") {
				t.Log(line)
			}
		}
	}
}

// collected is a collector of traces that decodes what comes as OTLP over HTTP.
type collected struct {
	*httptest.Server
	mu    sync.Mutex
	spans []*otlp.Span
	names map[string]string // of the resource
	head  http.Header       // of the last delivery
}

func newCollector(t testing.TB) *collected {
	c := &collected{names: map[string]string{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var sent collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &sent)
		}
		if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
			t.Errorf("%s %s: %v", r.URL.Path, r.Header.Get("Content-Type"), err)
			rw.WriteHeader(http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.head = r.Header
		for _, rs := range sent.GetResourceSpans() {
			for _, a := range rs.GetResource().GetAttributes() {
				c.names[a.GetKey()] = a.GetValue().GetStringValue()
			}
			for _, s := range rs.GetScopeSpans() {
				c.spans = append(c.spans, s.GetSpans()...)
			}
		}
		rw.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(c.Close)
	return c
}

// attributes returns those of a span as text.
func attributes(s *otlp.Span) map[string]string {
	all := map[string]string{}
	for _, a := range s.GetAttributes() {
		all[a.GetKey()] = a.GetValue().GetStringValue()
	}
	return all
}

func TestTraces(t *testing.T) {
	w := newWorld(t)
	c := newCollector(t)
	tracer, err := tracing.New(context.Background(), tracing.Config{Endpoint: c.URL, Ratio: 0, Headers: map[string]string{"Authorization": "Bearer of traces"}, Version: "v9"})
	w.must(err)
	w.config.Tracer = tracer
	w.pipeline = pipeline.New(w.config)
	with := func(r *pipeline.Request, name, value string) *pipeline.Request {
		r.Header = append(r.Header, sigv4.Field{Name: name, Value: value})
		return r
	}
	const w3c, xray = "4bf92f3577b34da6a3ce929d0e0e4736", "5759e988bd862e3fe1be46a994272793"
	const secretText = "dGhpcyBpcyBhIHNlY3JldCE=" // "this is a secret!"
	made := w.serve(with(w.sign(jsonRequest("CreateKey", `{"Description":"described"}`), aliceRoot, "kms"), "Traceparent", "00-"+w3c+"-00f067aa0ba902b7-01"))
	var key struct{ KeyMetadata struct{ Arn string } }
	w.must(json.Unmarshal([]byte(made.body), &key))
	arn := key.KeyMetadata.Arn
	used := w.serve(with(w.sign(jsonRequest("Encrypt", `{"KeyId":"`+arn+`","Plaintext":"`+secretText+`","EncryptionContext":{"context":"context"}}`), aliceRoot, "kms"),
		"X-Amzn-Trace-Id", "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"))
	refused := w.serve(with(jsonRequest("Encrypt", `{}`), "traceparent", "00-"+w3c+"-00f067aa0ba902b7-01"))
	w.serve(w.sign(jsonRequest("ListKeys", `{}`), aliceRoot, "kms")) // nobody wants that traced
	w.serve(with(w.sign(jsonRequest("ListAliases", `{}`), aliceRoot, "kms"), "traceparent", "00-"+w3c+"-00f067aa0ba902b7-00"))
	w.must(tracer.Shutdown(context.Background()))

	if c.names["service.name"] != "keywright" || c.names["service.version"] != "v9" || c.head.Get("Authorization") != "Bearer of traces" {
		t.Errorf("%v %v", c.names, c.head)
	}
	for _, want := range []struct {
		name, trace, parent string
		attributes          map[string]string
		steps               []string
	}{
		{
			"kms.CreateKey", w3c, "00f067aa0ba902b7",
			map[string]string{"rpc.system": "aws-api", "rpc.service": "kms", "rpc.method": "CreateKey", "aws.request_id": made.RequestID},
			[]string{"audit append", "authorize", "custody", "store write"},
		},
		{
			"kms.Encrypt", xray, "53995c3f42cd8ad8",
			map[string]string{"rpc.system": "aws-api", "rpc.service": "kms", "rpc.method": "Encrypt", "aws.request_id": used.RequestID, "aws.kms.key.arn": arn},
			[]string{"audit append", "authorize", "custody"},
		},
		{
			"kms", w3c, "00f067aa0ba902b7",
			map[string]string{"rpc.system": "aws-api", "rpc.service": "kms", "aws.request_id": refused.RequestID, "error.type": "MissingAuthenticationTokenException"},
			[]string{"audit append"},
		},
	} {
		i := slices.IndexFunc(c.spans, func(s *otlp.Span) bool { return s.GetName() == want.name })
		if i < 0 {
			t.Errorf("there is no span %s", want.name)
			continue
		}
		s := c.spans[i]
		if hex.EncodeToString(s.GetTraceId()) != want.trace || hex.EncodeToString(s.GetParentSpanId()) != want.parent || s.GetKind() != otlp.Span_SPAN_KIND_SERVER {
			t.Errorf("%s: %v", want.name, s)
		}
		got := attributes(s)
		for name, value := range want.attributes {
			if got[name] != value {
				t.Errorf("%s: %s is %q, want %q", want.name, name, got[name], value)
			}
		}
		var steps []string
		for _, step := range c.spans {
			if bytes.Equal(step.GetParentSpanId(), s.GetSpanId()) {
				steps = append(steps, step.GetName())
				if step.GetStartTimeUnixNano() < s.GetStartTimeUnixNano() || step.GetEndTimeUnixNano() > s.GetEndTimeUnixNano() || len(step.GetAttributes()) > 0 {
					t.Errorf("%s is not within %s: %v", step.GetName(), want.name, step)
				}
			}
		}
		slices.Sort(steps)
		if steps = slices.Compact(steps); !slices.Equal(steps, want.steps) {
			t.Errorf("%s has the steps %q, want %q", want.name, steps, want.steps)
		}
	}
	for _, s := range c.spans {
		if name := s.GetName(); strings.Contains(name, "List") {
			t.Errorf("%s was traced", name)
		}
		text := s.String()
		for _, bad := range []string{secretText, "this is a secret", "described", "context"} {
			if strings.Contains(text, bad) {
				t.Errorf("a span says %q: %s", bad, text)
			}
		}
	}
}

func TestRatio(t *testing.T) {
	w := newWorld(t)
	c := newCollector(t)
	tracer, err := tracing.New(context.Background(), tracing.Config{Endpoint: c.URL + "/", Ratio: 1})
	w.must(err)
	w.config.Tracer = tracer
	w.pipeline = pipeline.New(w.config)
	w.kms("ListKeys", "{}")
	w.must(tracer.Shutdown(context.Background()))
	if !slices.ContainsFunc(c.spans, func(s *otlp.Span) bool { return s.GetName() == "kms.ListKeys" && len(s.GetParentSpanId()) == 0 }) {
		t.Errorf("%v", c.spans)
	}
}

// TestDeadCollector has requests answered while spans go nowhere.
func TestDeadCollector(t *testing.T) {
	w := newWorld(t)
	tracer, err := tracing.New(context.Background(), tracing.Config{Endpoint: "http://127.0.0.1:1", Ratio: 1})
	w.must(err)
	w.config.Tracer = tracer
	w.pipeline = pipeline.New(w.config)
	for range 3000 { // more than wait
		w.kms("ListKeys", "{}")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	_ = tracer.Shutdown(ctx) // it cannot
}

// TestLogOfFailedCalls looks for the ids by which a failed call is found in logs and traces.
func TestLogOfFailedCalls(t *testing.T) {
	w := newWorld(t)
	var log bytes.Buffer
	last := slog.Default()
	defer slog.SetDefault(last)
	slog.SetDefault(slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	traced := func(r *pipeline.Request) *pipeline.Request {
		r.Header = append(r.Header, sigv4.Field{Name: "traceparent", Value: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"})
		return r
	}
	line := func() (l map[string]any) {
		w.must(json.Unmarshal([]byte(strings.SplitN(log.String(), "\n", 2)[0]), &l))
		log.Reset()
		return l
	}
	a := w.serve(traced(w.sign(jsonRequest("DescribeKey", `{"KeyId":"alias/whatever"}`), aliceRoot, "kms")))
	l := line()
	if l["level"] != "DEBUG" || l["requestId"] != a.RequestID || l["traceId"] != "4bf92f3577b34da6a3ce929d0e0e4736" || l["operation"] != "DescribeKey" || l["code"] != "NotFoundException" {
		t.Errorf("%v", l)
	}
	w.audit.full.Store(true)
	a = w.serve(traced(w.sign(jsonRequest("ListKeys", `{}`), aliceRoot, "kms")))
	l = line()
	if l["level"] != "ERROR" || l["requestId"] != a.RequestID || l["traceId"] != "4bf92f3577b34da6a3ce929d0e0e4736" || l["operation"] != "ListKeys" {
		t.Errorf("%v", l)
	}
	w.audit.full.Store(false)
	w.serve(w.sign(jsonRequest("hushhush", `{}`), aliceRoot, "kms"))
	if strings.Contains(log.String(), "hushhush") {
		t.Errorf("what a client sent is in the log: %s", log.String())
	}
}

// BenchmarkObserved measures an Encrypt of 64 octets unobserved, counted, with a tracer that traces nothing of it, and
// traced, in turn. The metrics are ratios of medians.
func BenchmarkObserved(b *testing.B) {
	w := newWorld(b)
	discard := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer discard.Close()
	tracer := func(ratio float64) *tracing.Tracer {
		tr, err := tracing.New(context.Background(), tracing.Config{Endpoint: discard.URL, Ratio: ratio})
		w.must(err)
		b.Cleanup(func() { w.must(tr.Shutdown(context.Background())) })
		return tr
	}
	cases := []struct {
		name  string
		edit  func(*pipeline.Config)
		p     *pipeline.Pipeline
		times []time.Duration
	}{
		{name: "plain", edit: func(*pipeline.Config) {}},
		{name: "counted", edit: func(c *pipeline.Config) { c.Metrics = metrics.New("bench") }},
		{name: "counted-ratio-0", edit: func(c *pipeline.Config) { c.Metrics, c.Tracer = metrics.New("bench"), tracer(0) }},
		{name: "counted-ratio-1", edit: func(c *pipeline.Config) { c.Metrics, c.Tracer = metrics.New("bench"), tracer(1) }},
	}
	for i := range cases {
		config := w.config
		cases[i].edit(&config)
		cases[i].p = pipeline.New(config)
	}
	request := w.sign(jsonRequest("Encrypt", `{"KeyId":"`+w.newKey()+`","Plaintext":"`+strings.Repeat("A", 84)+`AA=="}`), aliceRoot, "kms")
	const batch = 100
	var resp pipeline.Response
	for turn := 0; b.Loop(); turn++ {
		for i := range cases {
			c := &cases[(i+turn)%len(cases)] // each in every place
			start := time.Now()
			for range batch {
				c.p.Serve(context.Background(), request, &resp)
			}
			c.times = append(c.times, time.Since(start)/batch)
			if resp.Status != 200 {
				b.Fatal(string(resp.Body))
			}
		}
	}
	var plain float64
	for i := range cases {
		c := &cases[i]
		slices.Sort(c.times)
		median := float64(c.times[len(c.times)/2])
		if i == 0 {
			plain = median
			b.ReportMetric(median, "ns/plain")
		} else {
			b.ReportMetric(median/plain, "x-"+c.name)
		}
		n := testing.AllocsPerRun(100, func() { c.p.Serve(context.Background(), request, &resp) })
		b.ReportMetric(n, "allocs-"+c.name)
	}
}
