package sink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keywright/keywright/internal/trail"
)

// Facility and severities of RFC 5424, section 6.2.1.
const (
	logAudit      = 13
	warning       = 4
	informational = 6
)

// maxDatagram is what a message over a datagram socket may have; a longer one is cut, as RFC 5426, section 3.2, allows.
const maxDatagram = 60_000

// syslog sends messages of RFC 5424: over streams with octet counting (RFC 6587, section 3.4.1, and RFC 5425), else one a
// datagram. Nothing confirms them: what was sent within the time to settle is sent again when a connection breaks.
type syslog struct {
	config   Config
	tls      *tls.Config // nil but for the network tls
	host     string
	pid      string
	facility int

	conn   net.Conn // nil for none
	sent   *counted // what conn sends over: conn itself, or what TLS is over
	broken chan struct{}
	event  trail.Event
	buf    []byte
}

func newSyslog(c *Config) (*syslog, error) {
	t := &syslog{config: *c, pid: strconv.Itoa(os.Getpid()), facility: orDefault(c.Facility, logAudit)}
	if host, err := os.Hostname(); err == nil {
		t.host = host
	}
	if c.Network == "tls" {
		var err error
		if t.tls, err = clientTLS(c); err != nil {
			return nil, err
		}
		if t.tls.ServerName, _, err = net.SplitHostPort(c.Address); err != nil {
			return nil, fmt.Errorf("address: %w", err)
		}
	}
	return t, nil
}

func (t *syslog) datagrams() bool { return t.config.Network == "udp" || t.config.Network == "unixgram" }

// counted counts the octets that are sent.
type counted struct {
	net.Conn
	octets atomic.Int64 // what reads a connection of TLS may write, too
}

// Write implements io.Writer.
func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.octets.Add(int64(n))
	return n, err
}

// errBroken says that what was sent may not have arrived.
var errBroken = errors.New("the connection broke")

// connect dials. When a connection broke it says so first, so that what was sent over it is sent again. A goroutine reads what never comes, and so learns of the connection's end.
func (t *syslog) connect(ctx context.Context) error {
	if t.conn != nil {
		select {
		case <-t.broken:
			return errors.Join(errBroken, t.close())
		default:
			return nil
		}
	}
	network := t.config.Network
	if t.tls != nil {
		network = "tcp"
	}
	timeout := orDefault(t.config.Timeout, defaultTimeout)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, network, t.config.Address)
	if err != nil {
		return err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		if err := deadPeer(tcp, timeout); err != nil {
			return errors.Join(err, conn.Close())
		}
	}
	sent := &counted{Conn: conn}
	conn = sent
	if t.tls != nil {
		secure := tls.Client(conn, t.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			return errors.Join(err, conn.Close())
		}
		conn = secure
	}
	t.conn, t.sent = conn, sent
	broken := make(chan struct{})
	t.broken = broken
	go func() {
		_, _ = io.Copy(io.Discard, conn) // until it is closed, by either side
		close(broken)
	}()
	return nil
}

// deadPeer has the system give the connection up when nothing that was sent is confirmed for so long.
func deadPeer(c *net.TCPConn, after time.Duration) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(after.Milliseconds()))
	})
	return errors.Join(err, failed)
}

func (t *syslog) lost() <-chan struct{} {
	if t.conn == nil {
		return nil
	}
	return t.broken
}

// progress takes off what was sent what the other machine has not confirmed (SIOCOUTQ of tcp(7) and unix(7); other sockets than
// those of TCP count some more than octets, which is no harm).
func (t *syslog) progress() (sent, arrived int64) {
	if t.conn == nil {
		return 0, -1
	}
	sent, arrived = t.sent.octets.Load(), -1
	c, ok := t.sent.Conn.(syscall.Conn)
	if !ok {
		return sent, arrived
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return sent, arrived
	}
	err = raw.Control(func(fd uintptr) {
		if n, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err == nil {
			arrived = sent - int64(n)
		}
	})
	if err != nil {
		arrived = -1
	}
	return sent, arrived
}

func (t *syslog) close() error {
	if t.conn == nil {
		return nil
	}
	err := t.conn.Close()
	t.conn = nil
	return err
}

func (t *syslog) deliver(ctx context.Context, first uint64, records [][]byte) error {
	if err := t.connect(ctx); err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	// A write ends with ctx, or when the other side takes nothing for too long.
	if err := t.conn.SetWriteDeadline(time.Now().Add(orDefault(t.config.Timeout, defaultTimeout))); err != nil {
		return errors.Join(err, t.close())
	}
	conn := t.conn
	defer context.AfterFunc(ctx, func() { _ = conn.SetWriteDeadline(time.Unix(1, 0)) })()
	t.buf = t.buf[:0]
	for i, r := range records {
		if !t.datagrams() {
			t.buf = t.frame(t.buf, first+uint64(i), r)
			continue
		}
		t.buf = t.message(t.buf[:0], first+uint64(i), r)
		if _, err := t.conn.Write(t.buf[:min(len(t.buf), maxDatagram)]); err != nil {
			return errors.Join(fmt.Errorf("sending: %w", err), t.close())
		}
	}
	if t.datagrams() {
		return nil
	}
	if _, err := t.conn.Write(t.buf); err != nil {
		return errors.Join(fmt.Errorf("sending: %w", err), t.close())
	}
	return nil
}

// frame appends a message with its length before it.
func (t *syslog) frame(b []byte, number uint64, record []byte) []byte {
	message := t.message(nil, number, record)
	b = strconv.AppendInt(b, int64(len(message)), 10)
	return append(append(b, ' '), message...)
}

// message appends the message of a record: its text is the record, its MSGID the event's name.
func (t *syslog) message(b []byte, number uint64, record []byte) []byte {
	e := &t.event
	severity, at := informational, "-"
	if e.Parse(record) != nil {
		*e = trail.Event{}
	} else {
		at = time.Unix(e.Time, 0).UTC().Format(time.RFC3339)
		if len(e.ErrorCode) > 0 {
			severity = warning
		}
	}
	b = append(b, '<')
	b = strconv.AppendInt(b, int64(t.facility*8+severity), 10)
	b = append(b, ">1 "...)
	b = append(b, at...)
	b = header(b, t.host, 255)
	b = append(b, " keywright"...)
	b = header(b, t.pid, 128)
	b = header(b, string(e.Name), 32)
	b = append(b, ` [meta sequenceId="`...)
	b = strconv.AppendUint(b, number%(1<<31-1)+1, 10) // section 7.3.1
	b = append(b, `"] `...)
	for _, c := range record {
		if c < ' ' || c == 0x7f { // none is in a record
			c = ' '
		}
		b = append(b, c)
	}
	return b
}

// header appends a space and a value of the header: printable US-ASCII, or a hyphen.
func header(b []byte, value string, most int) []byte {
	b = append(b, ' ')
	begin := len(b)
	for i := 0; i < len(value) && len(b)-begin < most; i++ {
		if c := value[i]; c > ' ' && c < 0x7f {
			b = append(b, c)
		}
	}
	if len(b) == begin {
		b = append(b, '-')
	}
	return b
}
