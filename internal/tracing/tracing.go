// Package tracing gives requests to an OpenTelemetry collector, over OTLP/HTTP: a span for each request, joined to the trace
// of its caller, with the steps of the request under it.
//
// It trusts the trace ids that callers send for nothing but to put spans together. It must never send contents, and never
// hold up an answer: spans wait in a queue of bounded length, and are dropped when that is full.
package tracing

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/keywright/keywright/internal/steps"
)

// Config describes where spans go.
type Config struct {
	Endpoint string            // URL of the collector; without a path, /v1/traces is meant
	Ratio    float64           // share of the requests that are traced if their caller has not decided, 0 to 1
	Headers  map[string]string // sent along, such as Authorization
	Version  string            // of this program
}

// ErrEndpoint says that an endpoint is no URL of a collector.
var ErrEndpoint = errors.New("the endpoint must be http://HOST:PORT or https://HOST, with or without a path")

// Check looks for what cannot work.
func (c *Config) Check() error {
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return ErrEndpoint // without the URL, which may hold a password
	}
	if !(c.Ratio >= 0 && c.Ratio <= 1) || math.IsNaN(c.Ratio) {
		return errors.New("the ratio must be a number from 0 to 1")
	}
	return nil
}

// Tracer makes spans. It is safe for concurrent use.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

// logErrors has failures of the exporter logged, once for all tracers: the library has one handler for a process.
var logErrors = sync.OnceFunc(func() {
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { slog.Warn("traces could not be delivered", "err", err) }))
})

// New returns a Tracer. It talks to nobody before there are spans.
func New(ctx context.Context, c Config) (*Tracer, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	endpoint := c.Endpoint
	if u, err := url.Parse(endpoint); err == nil && strings.Trim(u.Path, "/") == "" {
		endpoint = strings.TrimRight(endpoint, "/") + "/v1/traces"
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(endpoint), otlptracehttp.WithHeaders(c.Headers), otlptracehttp.WithTimeout(10*time.Second))
	if err != nil {
		return nil, fmt.Errorf("making the exporter of traces: %w", err)
	}
	logErrors()
	p := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(c.Ratio))),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "keywright"), attribute.String("service.version", c.Version))),
	)
	return &Tracer{p, p.Tracer("github.com/keywright/keywright")}, nil
}

// Shutdown delivers what waits, until ctx ends.
func (t *Tracer) Shutdown(ctx context.Context) error { return t.provider.Shutdown(ctx) }

// Request is the span of a request. The zero value is that of a request which is not traced.
type Request struct {
	tracer *Tracer
	ctx    context.Context //nolint:containedctx // only names the span as the parent of its steps
	span   trace.Span
}

// Start begins the span of a request, under the span of its caller if the request has one. It is not traced, and ok is
// false, where the caller says so or the ratio does. t may be nil.
func (t *Tracer) Start(from Parent, at time.Time) (r Request, ok bool) {
	if t == nil {
		return Request{}, false
	}
	ctx := context.Background()
	if from.context.IsValid() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, from.context)
	}
	ctx, span := t.tracer.Start(ctx, "request", trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(at))
	if !span.IsRecording() {
		return Request{}, false
	}
	return Request{t, ctx, span}, true
}

// TraceID returns the id of the request's trace.
func (r Request) TraceID() string { return r.span.SpanContext().TraceID().String() }

// Outcome is what a span says of a request.
type Outcome struct {
	Service, Operation string // the server's own names; Operation is empty if it is unknown
	RequestID          string
	Code               string // of the error; empty for none
	Fault              bool   // the error is the server's
	Status             int    // of HTTP
	KeyARN             string // of the key, if there is one
	Steps              []steps.Step
}

// End ends the span. r must be traced.
func (r Request) End(o Outcome) {
	name := o.Service
	if o.Operation != "" {
		name += "." + o.Operation
	}
	r.span.SetName(name)
	all := make([]attribute.KeyValue, 0, 8)
	all = append(all,
		attribute.String("rpc.system", "aws-api"), attribute.String("rpc.service", o.Service), attribute.String("aws.request_id", o.RequestID),
		attribute.Int("http.response.status_code", o.Status),
	)
	if o.Operation != "" {
		all = append(all, attribute.String("rpc.method", o.Operation))
	}
	if o.Code != "" {
		all = append(all, attribute.String("error.type", o.Code))
	}
	if o.KeyARN != "" {
		all = append(all, attribute.String("aws.kms.key.arn", o.KeyARN))
	}
	r.span.SetAttributes(all...)
	if o.Fault {
		r.span.SetStatus(codes.Error, o.Code) // what a client did wrong is no error of the server's span
	}
	for _, s := range o.Steps {
		_, step := r.tracer.tracer.Start(r.ctx, s.Name, trace.WithTimestamp(s.Began))
		if s.Failed {
			step.SetStatus(codes.Error, "")
		}
		step.End(trace.WithTimestamp(s.Ended))
	}
	r.span.End()
}

// ReadHeaders reads lines "Name: value", as they are in a file of headers that is kept apart from the configuration
// because it may hold a secret. Errors do not say what is in it.
func ReadHeaders(r io.Reader) (map[string]string, error) {
	all := map[string]string{}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); !ok || !isToken(name) || strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
			return nil, fmt.Errorf("line %d is no header: want NAME: VALUE", n)
		}
		all[http.CanonicalHeaderKey(name)] = strings.TrimSpace(value)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading headers: %w", err)
	}
	return all, nil
}

// isToken reports whether a text can be the name of a header (RFC 9110, section 5.6.2).
func isToken(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}
