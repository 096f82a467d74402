// Package pipeline answers requests: it finds the service and the operation that a request addresses, authenticates its
// signer, decodes and checks its input, has the operation done, and renders the answer. It knows no HTTP engine: the door
// hands it a Request and takes back a Response.
//
// It trusts the door for the request's octets and the connection's facts, and nothing in the request before the signature
// was verified. Everything happens inside guard.Answer, so that every request, whatever became of it, has its one audit
// record. The package must never call an operation for an unverified signature, nor without one unless the operation proves its
// caller itself, and never leave a plaintext behind in a buffer that is used again.
package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/iam"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/metrics"
	"github.com/keywright/keywright/internal/sigv4"
	"github.com/keywright/keywright/internal/steps"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/tracing"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// MaxBody is how many octets the body of a request may have. The largest legal one has a policy of 131,072 characters,
// each of which may take twelve octets as an escaped surrogate pair of JSON.
const MaxBody = 2 << 20

// Request is what the door knows of a request. The pipeline keeps nothing of it.
type Request struct {
	Method    string
	Path      string        // as on the request line, percent-encoded, without the query
	RawQuery  string        // without "?"
	Host      string        // the Host header or :authority
	Header    []sigv4.Field // all header lines but Host
	Body      []byte
	Oversized bool       // the body had more than MaxBody octets and is not here
	RemoteIP  string     // without port
	TLS       *audit.TLS // nil on a plain connection
}

// Response is the answer. A Response may be used for many requests, one after the other, and keeps its memory.
type Response struct {
	Status      int
	ContentType string
	RequestID   string // for the header x-amzn-RequestId
	// Authorization is for the header x-keywright-authorization-message; empty for none.
	Authorization string
	Body          []byte
	// Cut says that the connection is to be closed in place of an answer: a Meddler wanted it.
	Cut bool
	// Last says that the connection is to be closed after the answer: another server may reach the store that this one does not, and the
	// client comes there only with a new connection.
	Last bool
}

// keepAtMost bounds the memory that one large answer can leave behind in a Response.
const keepAtMost = 64 << 10

// Reset makes the Response ready for the next request and overwrites the body, which may have held a plaintext.
func (r *Response) Reset() {
	clear(r.Body)
	body := r.Body[:0]
	if cap(body) > keepAtMost {
		body = nil
	}
	*r = Response{Body: body}
}

// Service is an API that the pipeline speaks: the model and those of its operations that are built. The others of the
// model are refused by name.
type Service struct {
	Model      *wire.Service
	Operations []guard.Operation
}

// Meddler stands between requests and what they ask for, in a server that others test their programs with. It has no part in
// who may do what: the requests that it sees are those that any server would have done.
type Meddler interface {
	// Begin is called before anything is looked up for a request, and what it returns once the answer is made.
	Begin() (end func())
	// Do is called in place of the operation, which is do; the caller is authenticated and the input valid. cut has the
	// connection closed in place of an answer. The record of the call is of what Do returned. A Meddler that lets time pass
	// calls again before anything else: the call is of that time then, and its caller authenticated by what is so now. What that
	// refuses must not be done.
	Do(ctx context.Context, call *guard.Call, again func() error, do func() (wire.Output, error)) (out wire.Output, cut bool, err error)
}

// Config is what a Pipeline needs. All fields are required but Wall, Meddler, Fresh, Metrics and Tracer.
type Config struct {
	Guard     *guard.Guard
	Directory *iam.Directory
	Now       func() time.Time
	// Wall is the clock that the times of signatures are compared with. Nil means Now.
	Wall func() time.Time
	// Meddler is nil in every server that is not for tests.
	Meddler Meddler
	// Fresh is asked before anything is looked up for a request: whether what is remembered of the store still holds; and when a key was
	// used, whether what allowed it is too old by now. Nil means that what is remembered always holds.
	Fresh guard.Freshness
	// Regions are those that requests may be for. Nil means every Region of valid form.
	Regions func(arn.Region) bool
	// Services are the APIs. The first one is addressed by what addresses none.
	Services []Service

	Metrics *metrics.Metrics // counts requests; nil for nobody
	Tracer  *tracing.Tracer  // traces them; nil for nobody
}

// Pipeline answers requests. It is safe for concurrent use.
type Pipeline struct {
	guard     *guard.Guard
	directory *iam.Directory
	now, wall func() time.Time
	meddler   Meddler         // nil for none
	fresh     guard.Freshness // nil: always
	regions   func(arn.Region) bool
	services  []*service
	tracer    *tracing.Tracer
	exchanges sync.Pool // of *exchange
}

// service is a Service made ready for look-ups.
type service struct {
	*wire.Service
	operations map[string]*operation
	unknown    *metrics.Operation // counts what is for none of them
}

// operation is a row with what the model says of it.
type operation struct {
	guard.Operation
	model  *wire.Operation
	counts *metrics.Operation // nil: nobody counts
}

// New returns a Pipeline. It panics if a row names an operation that its model does not have, which the first test finds.
func New(c Config) *Pipeline {
	p := &Pipeline{guard: c.Guard, directory: c.Directory, now: c.Now, wall: c.Wall, meddler: c.Meddler, fresh: c.Fresh, regions: c.Regions, tracer: c.Tracer}
	count := func(service, operation string) *metrics.Operation {
		if c.Metrics == nil {
			return nil
		}
		return c.Metrics.Operation(service, operation)
	}
	for _, s := range c.Services {
		ready := &service{Service: s.Model, operations: make(map[string]*operation, len(s.Operations)), unknown: count(s.Model.SigningName, metrics.Unknown)}
		for _, row := range s.Operations {
			model, ok := s.Model.Operation(row.Name)
			if !ok {
				panic("pipeline: " + s.Model.SigningName + " has no operation " + row.Name)
			}
			ready.operations[row.Name] = &operation{row, model, count(s.Model.SigningName, row.Name)}
		}
		p.services = append(p.services, ready)
	}
	p.exchanges.New = func() any {
		x := &exchange{pipeline: p}
		x.answer, x.traceID = x.attempt, x.callersTrace // one closure for all requests of this exchange
		return x
	}
	return p
}

// exchange is one request on its way. It is used again.
type exchange struct {
	pipeline *Pipeline
	answer   func(*guard.Call) (wire.Output, error)

	ctx     context.Context //nolint:containedctx // an exchange lives no longer than its request
	req     *Request
	signed  sigv4.Request
	auth    sigv4.Auth
	address address
	op      *operation // nil until it is found
	now     time.Time  // of the pipeline's clock
	wall    time.Time  // of the clock of signatures
	cut     bool
	last    bool

	origin  key.Origin      // of the key that it is about; empty for none
	keyARN  string          // of that key, if the request is traced
	traced  bool            // the request has a span
	span    tracing.Request // that, if it is traced
	steps   steps.Log       // what goes under it
	traceID func() string
}

// maxUserAgent is how much of a User-Agent goes into the record ("CloudTrail record contents": truncated to 1 KB).
const maxUserAgent = 1 << 10

// Serve answers req. resp gets the answer; its body is valid until its Reset.
func (p *Pipeline) Serve(ctx context.Context, req *Request, resp *Response) {
	resp.Reset()
	x := p.exchanges.Get().(*exchange)
	if p.meddler != nil {
		defer p.meddler.Begin()()
	}
	x.ctx, x.req, x.now = ctx, req, p.now()
	if x.wall = x.now; p.wall != nil {
		x.wall = p.wall()
	}
	x.address = address{service: p.services[0]}
	resp.RequestID = arn.NewUUID()
	began := time.Now() // not the server's clock, which a test may move
	noted := x.trace(began)
	agent, _ := sigv4.First(req.Header, "user-agent")
	out, failure := p.guard.Answer(guard.Meta{
		RequestID: resp.RequestID, Time: x.now, SourceIP: req.RemoteIP, UserAgent: agent[:min(len(agent), maxUserAgent)], TLS: req.TLS,
		Steps: noted, TraceID: x.traceID,
	}, x.answer)
	x.render(resp, out, failure)
	resp.Cut, resp.Last = x.cut, x.last
	x.observe(resp, failure, time.Since(began))
	kept := x.steps
	kept.Reset()
	*x = exchange{pipeline: p, answer: x.answer, traceID: x.traceID, steps: kept}
	p.exchanges.Put(x)
}

// attempt answers a request, or says that it may be made again where the store did not answer in time and nothing has changed.
func (x *exchange) attempt(call *guard.Call) (wire.Output, error) {
	x.address = x.pipeline.locate(x.req)
	call.Service, call.Name = x.address.service.SigningName, x.address.name
	call.Freshness = x.pipeline.fresh
	if err := call.Refresh(x.ctx); err != nil {
		return nil, x.unanswered(err)
	}
	out, err := x.run(call)
	switch {
	case errors.Is(err, store.ErrUnavailable):
		return nil, x.unanswered(err)
	case err == nil && x.op.Perishable && call.Late(): // the process stood still: somebody may have been told since that the right is gone
		return nil, x.unanswered(errLate)
	}
	return out, err
}

// errLate says that an answer is by a right that was known too long ago.
var errLate = errors.New("it took too long to answer")

// unanswered is the error for a request that nothing came of, because the store did not answer. Every SDK tries those again, and
// with a new connection.
func (x *exchange) unanswered(err error) error {
	slog.Debug("a request was refused because the store did not answer", "operation", x.address.name, "err", err)
	x.last = true
	if x.address.service.SigningName == kmsapi.Service.SigningName {
		return wire.Errorf(wire.CodeDependencyTimeout, "The system timed out while trying to fulfill the request. You can retry the request.")
	}
	return wire.Errorf(wire.CodeServiceUnavailable, "The request has failed due to a temporary failure of the server.")
}

// run takes the steps of a request in the order that clients can see.
func (x *exchange) run(call *guard.Call) (wire.Output, error) {
	if x.req.Oversized {
		return nil, wire.Errorf(wire.CodeRequestEntityTooLarge, "The request body exceeds %d bytes.", MaxBody)
	}
	if err := x.authenticate(call); err != nil {
		return nil, err
	}
	if err := x.find(call); err != nil {
		return nil, err
	}
	in, err := x.decode()
	if err != nil {
		return nil, err
	}
	if err := wire.Validate(in); err != nil {
		return nil, err
	}
	call.Input = in
	out, err := x.do(call, in)
	x.origin = call.Origin()
	if x.traced {
		x.keyARN = call.KeyARN()
	}
	return out, err
}

// do has the operation done, by way of the Meddler if there is one.
func (x *exchange) do(call *guard.Call, in wire.Input) (out wire.Output, err error) {
	m := x.pipeline.meddler
	if m == nil {
		return x.op.Do(x.ctx, call, in)
	}
	out, x.cut, err = m.Do(x.ctx, call, func() error { return x.again(call) }, func() (wire.Output, error) { return x.op.Do(x.ctx, call, in) })
	return out, err
}

// again makes a call one of this moment, after some time has passed. Its signature was in time when it came.
func (x *exchange) again(call *guard.Call) error {
	x.now = x.pipeline.now()
	call.Time = x.now
	if err := call.Refresh(x.ctx); err != nil {
		return err
	}
	return x.authenticate(call)
}

// authenticate verifies the signature and tells the call who signed.
func (x *exchange) authenticate(call *guard.Call) error {
	r := x.req
	x.signed = sigv4.Request{Method: r.Method, Path: r.Path, RawQuery: r.RawQuery, Host: r.Host, Header: r.Header, Body: r.Body}
	var refusal *sigv4.Error
	if x.auth, refusal = sigv4.Parse(&x.signed); refusal != nil {
		if refusal.Code == sigv4.MissingAuthenticationToken && x.anonymous() {
			return nil // and the call has no caller
		}
		return refused(refusal)
	}
	auth := &x.auth
	if len(auth.AccessKeyID) <= iam.MaxAccessKeyID {
		call.Claim(auth.AccessKeyID)
	}
	if refusal = auth.Check(x.address.service.SigningName, x.wall); refusal != nil {
		return refused(refusal)
	}
	if serves := x.pipeline.regions; serves != nil && !serves(arn.Region(auth.Scope.Region)) {
		return refused(sigv4.ErrRegion())
	}
	caller, err := x.pipeline.directory.Authenticate(x.ctx, auth, &x.signed)
	if err != nil {
		if errors.As(err, &refusal) {
			return refused(refusal)
		}
		return err
	}
	who, forward, err := x.forward(x.ctx, caller)
	if err != nil {
		call.Identify(caller, arn.Region(auth.Scope.Region)) // the record names who signed
		return err
	}
	call.Identify(who, arn.Region(auth.Scope.Region))
	call.Forward = forward
	return nil
}

// anonymous reports whether the request is for an operation that takes unsigned requests, because its input proves who
// calls. The model says which those are.
func (x *exchange) anonymous() bool {
	a := &x.address
	if a.refusal != nil {
		return false
	}
	op, ok := a.service.operations[a.name]
	return ok && op.model.Anonymous
}

// refused gives a refusal of a signature the form of the API.
func refused(e *sigv4.Error) error {
	return &wire.Error{Code: wire.Code(e.Code), Message: e.Message, Auth: true}
}

// find looks the operation up.
func (x *exchange) find(call *guard.Call) error {
	a := &x.address
	if a.refusal != nil {
		return a.refusal
	}
	op, ok := a.service.operations[a.name]
	if ok {
		x.op, call.Operation = op, &op.Operation
		return nil
	}
	if _, known := a.service.Operation(a.name); known {
		return wire.Errorf("UnsupportedOperationException", "The operation %s is not supported by this server.", a.name)
	}
	if a.service.Protocol == wire.Query {
		return wire.Errorf(wire.CodeUnknownOperation, "Could not find operation %s for version %s", a.name, a.service.APIVersion)
	}
	return wire.Bare(wire.CodeUnknownOperation)
}

// decode reads the input of the operation.
func (x *exchange) decode() (wire.Input, error) {
	in := x.op.New()
	var failure *wire.Error
	if x.address.form != nil {
		failure = wire.DecodeQuery(x.address.form, in.(wire.QueryInput))
	} else {
		failure = wire.DecodeJSON(x.req.Body, in.(wire.JSONInput))
	}
	if failure != nil {
		return nil, failure
	}
	return in, nil
}

// render writes the answer.
func (x *exchange) render(resp *Response, out wire.Output, failure *wire.Error) {
	s := x.address.service
	resp.ContentType = s.ContentType()
	switch {
	case failure == nil:
		resp.Status = 200
		resp.Body = s.AppendAnswer(resp.Body, x.op.model, out, resp.RequestID)
	case x.address.nowhere && failure.Code == wire.CodeMissingAuthentication:
		resp.Status, resp.ContentType = failure.Status(), "text/xml"
		resp.Body = appendGreeting(resp.Body, failure)
	default:
		resp.Status = s.Status(failure)
		resp.Authorization = failure.Authorization
		resp.Body = s.AppendError(resp.Body, failure, resp.RequestID)
	}
}

// appendGreeting is what somebody sees who opens the endpoint in a browser.
func appendGreeting(b []byte, e *wire.Error) []byte {
	b = append(b, '<')
	b = append(b, e.Code...)
	b = append(b, ">\n  "...)
	b = wire.AppendElement(b, "Message", e.Message)
	b = append(b, "\n</"...)
	b = append(b, e.Code...)
	return append(b, ">\n"...)
}
