package httpapi

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/keywright/keywright/internal/audit"
)

// ErrClosed is what Serve returns after Shutdown or Close.
var ErrClosed = errors.New("httpapi: the server was closed")

// lingering is for how long and for how many octets a connection that is closed in the middle of a request is still read:
// a TCP stack that closes with octets unread resets the connection, and the client may never see its answer.
const (
	lingerTime   = 500 * time.Millisecond
	lingerOctets = 4 << 20
)

// conn is a connection with what stays the same for all its requests. All but state belongs to its goroutine.
type conn struct {
	net.Conn
	server *Server
	ip     string
	tls    *audit.TLS  // nil on a plain connection and before the first request, whose host it has
	visit  *visit      // of the request that is being answered
	head   *rawHead    // of a chunked request that asked whether to go on
	dead   bool        // nothing is answered any more
	linger bool        // the client may still be sending when the connection closes
	state  atomic.Bool // a request is on its way
}

// Serve accepts connections until Shutdown, Close or a failure of the listener, which it closes.
func (s *Server) Serve(l net.Listener) error {
	defer func() { _ = l.Close() }()
	s.mu.Lock()
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	var pause time.Duration
	for !s.stopping.Load() {
		nc, err := l.Accept()
		if err != nil {
			// Out of files, for example: what the net package calls temporary.
			if temporary, ok := err.(interface{ Temporary() bool }); ok && temporary.Temporary() && !s.stopping.Load() {
				pause = min(max(2*pause, 5*time.Millisecond), time.Second)
				slog.Warn("accepting a connection", "err", err)
				time.Sleep(pause)
				continue
			}
			if s.stopping.Load() {
				break
			}
			return err
		}
		pause = 0
		if c := s.admit(nc); c != nil {
			go c.serve()
		}
	}
	return ErrClosed
}

// admit makes a conn, or closes the connection and returns nil if there are too many or the server ends.
func (s *Server) admit(nc net.Conn) *conn {
	host, _, err := net.SplitHostPort(nc.RemoteAddr().String())
	if err != nil {
		host = nc.RemoteAddr().String()
	}
	c := &conn{Conn: nc, server: s, ip: host}
	s.mu.Lock()
	full := len(s.conns) >= s.maxConns || s.stopping.Load()
	if !full {
		s.conns[c] = struct{}{}
	}
	s.mu.Unlock()
	if full {
		_ = nc.Close()
		return nil
	}
	return c
}

// serve answers all requests of a connection.
func (c *conn) serve() {
	s := c.server
	defer func() {
		if p := recover(); p != nil { // of the engine: requests have their own
			slog.Error("a connection panicked", "panic", p, "stack", string(debug.Stack()))
			c.abort()
		}
		c.done()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
	if !c.handshake() {
		c.abort()
		return
	}
	if err := s.engine.ServeConn(c); err != nil {
		slog.Debug("a connection ended", "why", why(err))
	}
}

// why says why a connection ended, without anything that the client sent: the engine's errors quote lines that they cannot read, and
// in those there may be credentials and plaintexts.
func why(err error) string {
	var network net.Error
	switch {
	case errors.As(err, &network):
		return network.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the client closed it"
	}
	return "what was sent is not the head of a request"
}

// handshake does that of TLS, within the time of a header.
func (c *conn) handshake() bool {
	t, ok := c.Conn.(*tls.Conn)
	if !ok {
		return true
	}
	_ = t.SetDeadline(time.Now().Add(c.server.engine.ReadTimeout))
	err := t.Handshake()
	if err == nil {
		return t.SetDeadline(time.Time{}) == nil
	}
	var no tls.RecordHeaderError
	if errors.As(err, &no) && no.Conn != nil && looksLikeHTTP(no.RecordHeader) {
		_, _ = io.WriteString(no.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
	}
	slog.Debug("no TLS", "err", err)
	return false
}

// looksLikeHTTP reports whether a client seems to have sent a request where TLS was expected.
func looksLikeHTTP(first [5]byte) bool {
	switch string(first[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO":
		return true
	}
	return false
}

// enter follows the engine from state to state.
func (c *conn) enter(state fasthttp.ConnState) {
	switch state {
	case fasthttp.StateActive:
		// In this order, and stop's is the opposite: no request runs on a connection that stop closes.
		if c.state.Store(true); c.server.stopping.Load() {
			c.abort()
		}
	case fasthttp.StateIdle:
		c.done()
		if c.state.Store(false); c.server.stopping.Load() {
			c.abort()
		}
	}
}

// done takes back the memory of a request whose answer is written.
func (c *conn) done() {
	c.head = nil
	if v := c.visit; v != nil {
		c.visit = nil
		v.clear()
		c.server.visits.Put(v)
	}
}

// abort closes the connection at once.
func (c *conn) abort() {
	c.dead, c.linger = true, false
	_ = c.Conn.Close()
}

// reset closes the connection so that the client sees it broken, and no orderly end.
func (c *conn) reset() {
	under := c.Conn
	if t, ok := under.(*tls.Conn); ok {
		under = t.NetConn()
	}
	if t, ok := under.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // what is left unsent is thrown away, and the peer told so
		_ = t.Close()      // before TLS could say farewell
	}
	c.abort()
}

// Read implements io.Reader. An end in the middle of a request is no orderly one; the engine would tell nobody of it.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err == io.EOF && c.state.Load() { //nolint:errorlint // readers return io.EOF itself
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Close closes the connection as the engine does at its end.
func (c *conn) Close() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && c.linger && half.CloseWrite() == nil {
		_ = c.SetReadDeadline(time.Now().Add(lingerTime))
		_, _ = io.CopyN(io.Discard, c.Conn, lingerOctets)
	}
	return c.Conn.Close()
}

// facts returns the client's address and the connection's TLS details for a request with that host.
func (c *conn) facts(host string) (ip string, details *audit.TLS) {
	if c.tls == nil {
		t, ok := c.Conn.(*tls.Conn)
		if !ok {
			return c.ip, nil
		}
		state := t.ConnectionState()
		c.tls = describe(&state, host)
	}
	if c.tls.ServerName == host {
		return c.ip, c.tls
	}
	other := *c.tls
	other.ServerName = host
	return c.ip, &other
}

// stop ends the listeners, and the connections without a request or all of them.
func (s *Server) stop(all bool) {
	s.stopping.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.listeners {
		_ = l.Close()
	}
	clear(s.listeners)
	for c := range s.conns {
		if all || !c.state.Load() {
			go func() { _ = c.Conn.Close() }() // that of TLS may have to wait
		}
	}
}

// Connections returns how many connections clients have open.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Shutdown accepts no more, closes the connections that have no request at once, and waits until the others have their
// answers or ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		s.stop(false)
		s.mu.Lock()
		left := len(s.conns)
		s.mu.Unlock()
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// Close ends everything, running requests too. What it would have to say of single connections helps nobody.
func (s *Server) Close() error {
	s.cancel()
	s.stop(true)
	return nil
}
