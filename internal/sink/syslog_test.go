package sink_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/sink"
)

// syslogForm is a message of RFC 5424, section 6, as far as it is used here.
var syslogForm = regexp.MustCompile(`^<(\d{1,3})>1 (-|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ) [!-~]{1,255} keywright [!-~]{1,128} [!-~]{1,32} \[meta sequenceId="[1-9]\d{0,9}"\] [^\x00-\x1f\x7f]*$`)

func TestSyslogMessage(t *testing.T) {
	got := string(sink.SyslogMessage(0, record(3)))
	want := `<110>1 2027-01-15T08:00:03Z host keywright 7 Encrypt [meta sequenceId="1"] ` + string(record(3))
	if got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	failed := strings.Replace(string(record(3)), `"requestParameters"`, `"errorCode":"DisabledException","requestParameters"`, 1)
	if got := string(sink.SyslogMessage(1<<31-2, []byte(failed))); !strings.HasPrefix(got, "<108>1 ") || !strings.Contains(got, `sequenceId="2147483647"`) {
		t.Errorf("a call that failed: %s", got)
	}
	if got := string(sink.SyslogMessage(1<<31-1, record(0))); !strings.Contains(got, `sequenceId="1"`) {
		t.Errorf("after the greatest number: %s", got)
	}
}

// No record makes a message that is two, or none.
func FuzzSyslogMessage(f *testing.F) {
	f.Add(uint64(0), record(1))
	f.Add(uint64(1)<<63, []byte("{\"eventName\":\"a b\\n<1>1 \",\"eventTime\":\"9999-12-31T23:59:59Z\"}\n<13>1 - - - - - - forged"))
	f.Fuzz(func(t *testing.T, number uint64, record []byte) {
		if got := sink.SyslogMessage(number, record); !syslogForm.Match(bytes.ToValidUTF8(got, nil)) {
			t.Errorf("%q", got)
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("120")
	f.Add("Wed, 21 Oct 2026 07:28:00 GMT")
	f.Fuzz(func(t *testing.T, value string) {
		if d, ok := sink.RetryAfter(value, time.Now()); ok && d < 0 || !ok && d != 0 {
			t.Errorf("%q: %v, %v", value, d, ok)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 10, 21, 7, 28, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{"120": 2 * time.Minute, "Wed, 21 Oct 2026 07:28:10 GMT": 10 * time.Second, "Wed, 21 Oct 2026 07:00:00 GMT": 0} {
		if d, ok := sink.RetryAfter(value, now); !ok || d != want {
			t.Errorf("%s: %v, %v", value, d, ok)
		}
	}
	if _, ok := sink.RetryAfter("soon", now); ok {
		t.Error("soon is no time")
	}
}

// Over TLS the server must be who the CA says, and a datagram of UDP is one message.
func TestSyslogTLSAndUDP(t *testing.T) {
	pair, ca := certificate(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	s := &streams{l: l}
	s.readers.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.readers.Go(func() { defer func() { _ = conn.Close() }(); s.read(conn) })
		}
	})
	src := audit.NewMemory(1000)
	appendRecords(t, src, 0, 200)
	c := sink.Config{Kind: sink.KindSyslog, Name: "t", Network: "tls", Address: l.Addr().String(), CA: ca, Settle: 50 * time.Millisecond}
	r := start(t, c, src, t.TempDir())
	r.caughtUp(t)
	c.Name, c.CA = "stranger", ""
	bad := start(t, c, src, t.TempDir())
	for deadline := time.Now().Add(10 * time.Second); bad.Status().LastError == ""; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a certificate of nobody's was not refused")
		}
	}
	if bad.stop(); bad.Status().Delivered != 0 || !strings.Contains(bad.Status().LastError, "certificate") {
		t.Errorf("%+v", bad.Status())
	}
	r.stop()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s.readers.Wait()
	check(t, s.in.records(), 200)

	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = udp.Close() }()
	c = sink.Config{Kind: sink.KindSyslog, Name: "u", Network: "udp", Address: udp.LocalAddr().String(), Settle: 50 * time.Millisecond}
	few := audit.NewMemory(100)
	appendRecords(t, few, 0, 50) // what the system keeps for a reader
	r = start(t, c, few, t.TempDir())
	var got [][]byte
	buf := make([]byte, 1<<16)
	for len(got) < 50 {
		if err := udp.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, _, err := udp.ReadFrom(buf)
		if err != nil {
			t.Fatalf("after %d messages: %v", len(got), err)
		}
		if !syslogForm.Match(buf[:n]) {
			t.Fatalf("%q", buf[:n])
		}
		got = append(got, bytes.Clone(textOf(buf[:n])))
	}
	r.caughtUp(t)
	check(t, got, 50)
}

// certificate makes a certificate for 127.0.0.1, and a file with what it leads to: itself.
func certificate(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, path
}

// What a status or an error says has no secret in it.
func TestSecretsStaySecret(t *testing.T) {
	t.Setenv("KEYWRIGHT_TEST_SECRET", "open sesame")
	dir := t.TempDir()
	c := sink.Config{Kind: sink.KindWebhook, Name: "w", URL: "http://" + freePort(t) + "/in?token=open-sesame", Secret: &sink.Secret{Env: "KEYWRIGHT_TEST_SECRET"}}
	src := audit.NewMemory(10)
	appendRecords(t, src, 0, 1)
	r := start(t, c, src, dir)
	for deadline := time.Now().Add(10 * time.Second); r.Status().LastError == ""; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no error")
		}
	}
	if s := r.Status(); strings.Contains(s.LastError, "sesame") || !strings.Contains(s.LastError, "refused") {
		t.Errorf("%+v", s)
	}
	c.Secret = &sink.Secret{Env: "KEYWRIGHT_TEST_NO_SUCH"}
	if _, err := sink.New(c, src, dir); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("without its secret: %v", err)
	}
}

// What the other side has settles while there is always something under way: a network is never empty under load.
func TestSyslogSettlesUnderLoad(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	const all = 40_000
	var got atomic.Int64
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		buf := make([]byte, 64<<10)
		for { // slower than they come
			n, err := conn.Read(buf)
			got.Add(int64(n))
			if err != nil {
				return
			}
			time.Sleep(2 * time.Millisecond)
		}
	}()
	src := audit.NewMemory(all)
	appendRecords(t, src, 0, all)
	r := start(t, sink.Config{Kind: sink.KindSyslog, Name: "s", Network: "tcp", Address: l.Addr().String(), Settle: 10 * time.Millisecond}, src, t.TempDir())
	octets := int64(all * len(record(0)))
	for r.Lag() > all-1000 {
		if got.Load() >= octets {
			t.Fatalf("all was received, and %d records are taken for not delivered", r.Lag())
		}
		time.Sleep(time.Millisecond)
	}
}

// gate is a log that does something before it is read from a record on.
type gate struct {
	*audit.Memory
	from uint64
	once sync.Once
	do   func()
}

func (g *gate) Read(from uint64, most int) ([][]byte, error) {
	if from == g.from {
		g.once.Do(g.do)
	}
	return g.Memory.Read(from, most)
}

// What a broken connection may have lost is sent again also if the sink is told to end before it has noticed.
func TestConnectionThatBreaksAtTheEnd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	to := &streams{network: "tcp", address: l.Addr().String()}
	ctx, cancel := context.WithCancel(t.Context())
	src := &gate{Memory: audit.NewMemory(100), from: 10}
	c := sink.Config{Kind: sink.KindSyslog, Name: "s", Network: to.network, Address: to.address, Settle: 300 * time.Millisecond}
	src.do = func() {
		conn, err := l.Accept() // which takes what was sent to its end
		if err == nil {
			err = errors.Join(conn.Close(), l.Close())
		}
		if err != nil {
			t.Error(err)
		}
		to.up(t)
		time.Sleep(2 * c.Settle) // what was sent looks settled
		appendRecords(t, src.Memory, 10, 30)
		cancel()
	}
	appendRecords(t, src.Memory, 0, 10)
	dir := t.TempDir()
	s, err := sink.New(c, src, dir)
	if err != nil {
		t.Fatal(err)
	}
	s.Run(ctx)
	start(t, c, src, dir).caughtUp(t)
	for end := time.Now().Add(30 * time.Second); len(to.in.records()) < 30 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	check(t, to.received(t), 30)
}
