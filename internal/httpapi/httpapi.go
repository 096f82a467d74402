// Package httpapi is the door: it reads a request within limits of size and time, hands it to the pipeline as a plain
// value, and writes the answer. Nobody else sees the HTTP engine, which is fasthttp.
//
// It trusts fasthttp to find where a request's head and body end, and to write answers. It does not trust it with more: the
// header lines are taken from the octets of the wire by a stricter reader of its own (head.go), whatever two readers could
// understand differently is refused and its connection closed, connections are accepted, counted and closed here (conn.go),
// and a panic of the engine costs one connection. No string that leaves the package points into a buffer of the engine.
//
// The package must know nothing of operations, signatures or errors of the API: even the refusal of a body that is too
// large is the pipeline's.
package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/keywright/keywright/internal/pipeline"
	"github.com/keywright/keywright/internal/sigv4"
)

// Config describes a door.
type Config struct {
	Pipeline *pipeline.Pipeline // required

	ReadTimeout   time.Duration // for a whole request; zero means 20 s
	HeaderTimeout time.Duration // for all header lines of a request, the rest of ReadTimeout is the body's; zero means ReadTimeout
	WriteTimeout  time.Duration // for an answer; zero means 60 s
	IdleTimeout   time.Duration // between the requests of a connection; zero means 5 min, more than clients keep one
	MaxHeader     int           // octets of the request line and header, and of a connection's buffer; zero means 16 KiB
	MaxConns      int           // connections at a time, more are closed unread; zero means 4,096
}

// Server is an HTTP/1.1 server, over TLS or not. HTTP/2 stays off: the service that is imitated speaks HTTP/1.1, and no
// client needs more.
type Server struct {
	pipeline *pipeline.Pipeline
	engine   fasthttp.Server
	visits   sync.Pool          // of *visit
	ctx      context.Context    //nolint:containedctx // ends with Close; requests have no context of their own
	cancel   context.CancelFunc // of ctx
	stopping atomic.Bool        // no request begins any more
	maxConns int

	// heads keeps the head of a chunked request while its body is read: the engine forgets it when the body is too large.
	// Every way out of a request takes it away again.
	heads sync.Map // *fasthttp.RequestHeader → *rawHead

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
}

// visit is the memory of one request, used again.
type visit struct {
	request  pipeline.Request
	response pipeline.Response
	header   []sigv4.Field
}

// keepAtMost bounds the memory that one large request can leave behind in a connection; keepFields that of its header.
const (
	keepAtMost = 64 << 10
	keepFields = 256
)

// noCache keeps answers out of every cache. The service sends Expires and Pragma, too, for caches of HTTP/1.0: each header
// line costs as much as checking a policy.
var (
	nameRequestID    = []byte("x-amzn-RequestId")
	nameExplanation  = []byte("x-keywright-authorization-message")
	nameCacheControl = []byte("Cache-Control")
	noCache          = []byte("no-cache, no-store, must-revalidate, private")
)

// NewServer returns a Server for the caller to run.
func NewServer(c Config) *Server {
	def := func(d *time.Duration, zero time.Duration) {
		if *d == 0 {
			*d = zero
		}
	}
	def(&c.ReadTimeout, 20*time.Second)
	def(&c.WriteTimeout, 60*time.Second)
	def(&c.IdleTimeout, 5*time.Minute)
	if c.MaxHeader == 0 {
		c.MaxHeader = 16 << 10
	}
	if c.MaxConns == 0 {
		c.MaxConns = 4 << 10
	}
	s := &Server{pipeline: c.Pipeline, maxConns: c.MaxConns, listeners: map[net.Listener]struct{}{}, conns: map[*conn]struct{}{}}
	s.visits.New = func() any { return new(visit) }
	s.ctx, s.cancel = context.WithCancel(context.Background())
	body := time.Duration(0) // zero: one limit for header and body
	if c.HeaderTimeout != 0 && c.HeaderTimeout < c.ReadTimeout {
		body, c.ReadTimeout = c.ReadTimeout-c.HeaderTimeout, c.HeaderTimeout
	}
	s.engine = fasthttp.Server{
		Handler:      s.handle,
		ErrorHandler: s.refuse,
		ExpectHandler: func(ctx *fasthttp.RequestCtx) int {
			if kept, ok := s.heads.LoadAndDelete(&ctx.Request.Header); ok {
				ctx.Conn().(*conn).head = kept.(*rawHead)
			}
			if ctx.Request.Header.ContentLength() <= pipeline.MaxBody {
				return fasthttp.StatusContinue
			}
			s.answer(ctx, headOf(&ctx.Request.Header), true)
			return ctx.Response.StatusCode()
		},
		HeaderReceived: func(h *fasthttp.RequestHeader) fasthttp.RequestConfig {
			if h.ContentLength() == chunked {
				head := headOf(h).copied()
				s.heads.Store(h, &head)
			}
			return fasthttp.RequestConfig{ReadTimeout: body}
		},
		ConnState:                     func(c net.Conn, state fasthttp.ConnState) { c.(*conn).enter(state) },
		ReadTimeout:                   c.ReadTimeout,
		WriteTimeout:                  c.WriteTimeout,
		IdleTimeout:                   c.IdleTimeout,
		ReadBufferSize:                c.MaxHeader,
		WriteBufferSize:               8 << 10, // an answer about 4 KiB in base64 is one write
		MaxRequestBodySize:            pipeline.MaxBody,
		Concurrency:                   c.MaxConns + 1, // never reached: maxConns is counted before
		DisableHeaderNamesNormalizing: true,
		DisablePreParseMultipartForm:  true,
		NoDefaultServerHeader:         true,
		NoDefaultContentType:          true,
		SecureErrorLogMessage:         true,
		LazyRequestTime:               true,
		Logger:                        quiet{},
	}
	return s
}

// chunked is the content length that the engine gives such requests.
const chunked = -1

// quiet logs which kind of thing the engine says: what clients do wrong is no event, and what they sent, which may be among the
// arguments, is for no log.
type quiet struct{}

// Printf implements fasthttp.Logger.
func (quiet) Printf(format string, _ ...any) { slog.Debug("of the HTTP engine", "message", format) }

// handle answers a request whose body was read.
func (s *Server) handle(ctx *fasthttp.RequestCtx) {
	if ctx.Request.Header.ContentLength() == chunked {
		s.heads.Delete(&ctx.Request.Header)
	}
	s.answer(ctx, headOf(&ctx.Request.Header), false)
}

// refuse answers what the engine could not read.
func (s *Server) refuse(ctx *fasthttp.RequestCtx, err error) {
	c := ctx.Conn().(*conn)
	c.linger = true
	if kept, ok := s.heads.LoadAndDelete(&ctx.Request.Header); ok {
		c.head = kept.(*rawHead)
	}
	var small *fasthttp.ErrSmallBuffer
	var network net.Error
	switch {
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		head := headOf(&ctx.Request.Header)
		if c.head != nil {
			head = *c.head
		}
		s.answer(ctx, head, true)
	case errors.As(err, &small):
		plain(ctx, fasthttp.StatusRequestHeaderFieldsTooLarge)
	case errors.As(err, &network), errors.Is(err, io.ErrUnexpectedEOF):
		c.abort() // the client went away or was too slow: there is nobody to answer
	default:
		plain(ctx, fasthttp.StatusBadRequest)
	}
}

// plain answers what is no request at all, and closes the connection.
func plain(ctx *fasthttp.RequestCtx, status int) {
	ctx.Response.Reset()
	ctx.Response.Header.DisableNormalizing()
	ctx.Response.SetStatusCode(status)
	ctx.Response.Header.SetContentType("text/plain; charset=utf-8")
	ctx.Response.SetBodyString(fmt.Sprintf("%d %s", status, fasthttp.StatusMessage(status)))
	ctx.SetConnectionClose()
}

// answer has the pipeline answer a request.
func (s *Server) answer(ctx *fasthttp.RequestCtx, head rawHead, oversized bool) {
	c := ctx.Conn().(*conn)
	defer func() {
		body := ctx.Request.Body()
		clear(body) // it may have held a plaintext
		if cap(body) > keepAtMost {
			ctx.Request.SwapBody(nil)
		}
		if p := recover(); p != nil {
			slog.Error("a request panicked", "panic", p, "stack", string(debug.Stack()))
			c.visit = nil // nobody knows what still points to it
			ctx.Response.Reset()
			c.abort()
		}
	}()
	if c.dead {
		return // it was idle when the server began to end
	}
	v := s.visits.Get().(*visit)
	c.visit = v // until the answer is written
	r := &v.request
	status := head.parse(r, v)
	if status != 0 {
		c.linger = true
		plain(ctx, status)
		return
	}
	r.RemoteIP, r.TLS = c.facts(r.Host)
	if r.Oversized = oversized; !oversized {
		r.Body = ctx.Request.Body()
	}
	s.pipeline.Serve(s.ctx, r, &v.response)
	if v.response.Cut {
		c.reset()
		return
	}
	resp := &ctx.Response
	resp.SetStatusCode(v.response.Status)
	resp.Header.SetContentType(v.response.ContentType)
	resp.Header.SetBytesK(nameRequestID, v.response.RequestID)
	if v.response.Authorization != "" {
		resp.Header.SetBytesK(nameExplanation, v.response.Authorization)
	}
	resp.Header.SetCanonical(nameCacheControl, noCache)
	resp.SetBodyRaw(v.response.Body)
	if oversized {
		c.linger = true // the rest of the body is not read
		ctx.SetConnectionClose()
	} else if v.response.Last || s.stopping.Load() {
		ctx.SetConnectionClose()
	}
}

// clear forgets the request and overwrites what may have held a plaintext.
func (v *visit) clear() {
	clear(v.header)
	if v.header = v.header[:0]; cap(v.header) > keepFields {
		v.header = nil
	}
	v.request = pipeline.Request{}
	v.response.Reset()
}
