// Package httpapi is the net/http door: it reads a request within limits of size and time, hands it to the pipeline as a
// plain value, and writes the answer. Another HTTP engine would stand beside it, not in front of it.
//
// It trusts net/http for the framing of requests. It must know nothing of operations, signatures or errors of the API:
// even the refusal of a body that is too large is the pipeline's.
package httpapi

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/pipeline"
	"github.com/keywright/keywright/internal/sigv4"
)

// Config describes a door.
type Config struct {
	Pipeline *pipeline.Pipeline // required

	ReadTimeout   time.Duration // for a whole request; zero means 20 s
	HeaderTimeout time.Duration // for all header lines of a request; zero means ReadTimeout
	WriteTimeout  time.Duration // from the end of the header to the end of the answer; zero means 60 s
	IdleTimeout   time.Duration // between the requests of a connection; zero means 5 min, more than clients keep one
	MaxHeader     int           // octets of the request line and header; zero means 64 KiB
}

// NewServer returns an HTTP/1.1 server for the caller to run, over TLS or not. HTTP/2 stays off: the service that is
// imitated speaks HTTP/1.1, and no client needs more.
func NewServer(c Config) *http.Server {
	def := func(d *time.Duration, zero time.Duration) {
		if *d == 0 {
			*d = zero
		}
	}
	def(&c.ReadTimeout, 20*time.Second)
	def(&c.WriteTimeout, 60*time.Second)
	def(&c.IdleTimeout, 5*time.Minute)
	if c.MaxHeader == 0 {
		c.MaxHeader = 64 << 10
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:           &door{pipeline: c.Pipeline},
		ReadHeaderTimeout: c.HeaderTimeout,
		ReadTimeout:       c.ReadTimeout,
		WriteTimeout:      c.WriteTimeout,
		IdleTimeout:       c.IdleTimeout,
		MaxHeaderBytes:    c.MaxHeader,
		Protocols:         protocols,
		// The pipeline answers OPTIONS *, too: net/http would answer it without a signature and a record.
		DisableGeneralOptionsHandler: true,
		ConnContext:                  withPeer,
		ErrorLog:                     slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug), // what clients do wrong is no event
	}
}

// door is the http.Handler.
type door struct {
	pipeline *pipeline.Pipeline
	visits   sync.Pool // of *visit
}

// visit is the memory of one request, used again.
type visit struct {
	request  pipeline.Request
	response pipeline.Response
	header   []sigv4.Field
	body     []byte
	values   [3]string // of the response's header; net/http copies them before the handler returns
}

// keepAtMost bounds the memory that one large request can leave behind in the pool.
const keepAtMost = 64 << 10

// noCache keeps answers out of every cache. It is shared and must not be changed. The service sends Expires and Pragma,
// too, for caches of HTTP/1.0: each header line costs as much as checking a policy.
var noCache = []string{"no-cache, no-store, must-revalidate, private"}

// ServeHTTP implements http.Handler.
func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v, ok := d.visits.Get().(*visit)
	if !ok {
		v = new(visit)
	}
	defer func() {
		v.clear()
		d.visits.Put(v)
	}()
	if err := v.read(r); err != nil {
		panic(http.ErrAbortHandler) // the client went away or was too slow: there is nobody to answer
	}
	d.pipeline.Serve(r.Context(), &v.request, &v.response)
	h := w.Header()
	v.values = [...]string{v.response.RequestID, v.response.ContentType, strconv.Itoa(len(v.response.Body))}
	h["x-amzn-RequestId"], h["Content-Type"] = v.values[0:1:1], v.values[1:2:2]
	h["Content-Length"] = v.values[2:3:3] // or net/http sends a long body in chunks
	h["Cache-Control"] = noCache
	if v.request.Oversized {
		h["Connection"] = []string{"close"} // the rest of the body is not read
	}
	w.WriteHeader(v.response.Status)
	_, _ = w.Write(v.response.Body) // an error means that the client is gone
}

// read fills the request. The error says that the body could not be read.
func (v *visit) read(r *http.Request) error {
	path, query, _ := strings.Cut(r.RequestURI, "?")
	if !strings.HasPrefix(path, "/") { // the absolute form, as proxies are asked
		path, query = r.URL.EscapedPath(), r.URL.RawQuery
	}
	v.header = sigv4.AppendFields(v.header[:0], r.Header)
	ip, tls := facts(r)
	oversized, err := v.readBody(r)
	v.request = pipeline.Request{
		Method: r.Method, Path: path, RawQuery: query, Host: r.Host, Header: v.header, Body: v.body, Oversized: oversized, RemoteIP: ip, TLS: tls,
	}
	return err
}

// readBody reads the body into v.body, unless it is too large.
func (v *visit) readBody(r *http.Request) (oversized bool, err error) {
	v.body = v.body[:0]
	switch n := r.ContentLength; {
	case n > pipeline.MaxBody:
		return true, nil
	case n >= 0:
		if int64(cap(v.body)) < n {
			v.body = make([]byte, n)
		}
		v.body = v.body[:n]
		_, err = io.ReadFull(r.Body, v.body)
		return false, err
	}
	all, err := io.ReadAll(io.LimitReader(r.Body, pipeline.MaxBody+1)) // chunked
	if len(all) > pipeline.MaxBody {
		clear(all)
		return true, nil
	}
	v.body = all
	return false, err
}

// clear forgets the request and overwrites what may have held a plaintext.
func (v *visit) clear() {
	clear(v.body)
	clear(v.header)
	if cap(v.body) > keepAtMost {
		v.body = nil
	}
	v.request = pipeline.Request{}
	v.response.Reset()
}

// peer is what stays the same for all requests of a connection.
type peer struct {
	ip   string
	once sync.Once
	tls  *audit.TLS // nil on a plain connection; its ServerName is that of the first request
}

type peerKey struct{}

func withPeer(ctx context.Context, c net.Conn) context.Context {
	host, _, err := net.SplitHostPort(c.RemoteAddr().String())
	if err != nil {
		host = c.RemoteAddr().String()
	}
	return context.WithValue(ctx, peerKey{}, &peer{ip: host})
}

// facts returns the client's address and the connection's TLS details.
func facts(r *http.Request) (ip string, tls *audit.TLS) {
	p, ok := r.Context().Value(peerKey{}).(*peer)
	if !ok {
		return "", nil // unreachable behind NewServer
	}
	if r.TLS == nil {
		return p.ip, nil
	}
	p.once.Do(func() { p.tls = describe(r.TLS, r.Host) })
	if p.tls.ServerName == r.Host {
		return p.ip, p.tls
	}
	other := *p.tls
	other.ServerName = r.Host
	return p.ip, &other
}

// IsClosed reports whether an error of a server's Serve says only that it was shut down.
func IsClosed(err error) bool { return err == nil || errors.Is(err, http.ErrServerClosed) }
