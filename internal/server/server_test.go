package server_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/server"
	"github.com/keywright/keywright/internal/sigv4"
)

// running is a server under test.
type running struct {
	*server.Server
	t    *testing.T
	dir  string
	root sigv4.Credential
	stop context.CancelFunc
	done chan error

	region string // that requests are for; empty for us-east-1
}

// newConfig returns the configuration of an installation in a new directory.
func newConfig(t *testing.T) (server.Config, string) {
	dir := t.TempDir()
	return server.Config{
		Listen: "127.0.0.1:0", Admin: "127.0.0.1:0", Data: filepath.Join(dir, "data"),
		Seals: []server.Seal{{Kind: seal.KindKeyFile, File: filepath.Join(dir, "unseal.key")}},
		Drain: 5 * time.Second,
	}, dir
}

// run makes the installation of a configuration and runs a server on it.
func run(t *testing.T, c server.Config, dir string) *running {
	t.Helper()
	in, err := server.CreateInstallation(t.Context(), c, time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, c, in)
	r.dir = dir
	id, secretKey, err := r.Directory().CreateAccount(t.Context(), "111122223333", "")
	if err != nil {
		t.Fatal(err)
	}
	r.root = sigv4.Credential{AccessKeyID: id, Secret: secretKey}
	return r
}

// start runs a server on an installation.
func start(t *testing.T, c server.Config, in *server.Installation) *running {
	t.Helper()
	s, err := server.New(c, in)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Server: s, t: t, stop: cancel, done: make(chan error, 1)}
	go func() { r.done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-r.done; err != nil {
			t.Error(err)
		}
	})
	return r
}

// request returns the octets of a signed request.
func (r *running) request(operation, body string) []byte {
	addr := r.Addr().String()
	q := sigv4.Request{Method: "POST", Path: "/", Host: addr, Body: []byte(body), Header: []sigv4.Field{
		{Name: "X-Amz-Target", Value: "TrentService." + operation}, {Name: "Content-Length", Value: fmt.Sprint(len(body))},
	}}
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST / HTTP/1.1\r\nHost: %s\r\n", addr)
	for _, f := range append(q.Header, sigv4.Sign(&q, r.root, cmp.Or(r.region, "us-east-1"), "kms", time.Now())...) {
		fmt.Fprintf(&b, "%s: %s\r\n", f.Name, f.Value)
	}
	b.WriteString("\r\n" + body)
	return b.Bytes()
}

// call makes a signed call over a connection.
func (r *running) call(c net.Conn, operation, body string) (int, string) {
	r.t.Helper()
	_, _ = c.Write(r.request(operation, body))
	return answer(r.t, c)
}

func answer(t *testing.T, c net.Conn) (int, string) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode, string(text)
}

func (r *running) dial() net.Conn {
	r.t.Helper()
	c, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	return c
}

// probe asks the admin listener.
func (r *running) probe(path string) (int, string) {
	resp, err := http.Get("http://" + r.AdminAddr().String() + path)
	if err != nil {
		return 0, err.Error()
	}
	text, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode, string(text)
}

func TestHealth(t *testing.T) {
	c, dir := newConfig(t)
	r := run(t, c, dir)
	for _, path := range []string{"/healthz", "/readyz"} {
		if status, text := r.probe(path); status != 200 || text != "ok\n" {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	if status, _ := r.probe("/"); status != 404 {
		t.Error(status)
	}
	time.Sleep(1100 * time.Millisecond) // the last look at the disk counts for a second
	if err := os.Rename(filepath.Join(c.Data, "audit"), filepath.Join(c.Data, "gone")); err != nil {
		t.Fatal(err)
	}
	if status, text := r.probe("/readyz"); status != 503 || !strings.HasPrefix(text, "the audit log cannot be written: ") {
		t.Errorf("%d %s", status, text)
	}
	if status, _ := r.probe("/healthz"); status != 200 {
		t.Error(status)
	}
}

// A request that runs when the server is told to stop is answered; readiness ends at once, new connections are refused,
// and what was answered is on disk.
func TestDrain(t *testing.T) {
	c, dir := newConfig(t)
	r := run(t, c, dir)
	conn := r.dial()
	whole := r.request("CreateKey", `{"Description":"made while draining"}`)
	_, _ = conn.Write(whole[:len(whole)-10])
	time.Sleep(100 * time.Millisecond) // the server is in the middle of it
	r.stop()
	waitFor(t, func() bool {
		status, text := r.probe("/readyz")
		return status == 503 && strings.HasPrefix(text, "draining")
	})
	waitFor(t, func() bool {
		c, err := net.Dial("tcp", r.Addr().String())
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	_, _ = conn.Write(whole[len(whole)-10:])
	if status, text := answer(t, conn); status != 200 {
		t.Errorf("%d %s", status, text)
	}
	if err := <-r.done; err != nil {
		t.Error(err)
	}
	r.done <- nil
	records, err := os.ReadFile(filepath.Join(c.Data, "audit", "audit-00000001.jsonl"))
	if err != nil || !bytes.Contains(records, []byte("made while draining")) {
		t.Errorf("%v %s", err, records)
	}
	in, err := server.OpenInstallation(context.Background(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	if n, err := in.Store.CountKeys(context.Background(), "111122223333", "us-east-1"); n != 1 || err != nil {
		t.Errorf("%d keys, %v", n, err)
	}
}

// A client that never finishes cannot hold the server up for longer than the bound.
func TestDrainIsBounded(t *testing.T) {
	c, dir := newConfig(t)
	c.Drain, c.Limits.ReadTimeout = 300*time.Millisecond, time.Hour // the request would not end by itself
	r := run(t, c, dir)
	_, _ = io.WriteString(r.dial(), "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
	time.Sleep(100 * time.Millisecond)
	r.stop()
	select {
	case err := <-r.done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Minute):
		t.Fatal("the server still waits")
	}
	r.done <- nil
}

func waitFor(t *testing.T, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if cond() {
			return
		}
	}
	t.Fatal("it did not happen")
}

// The scheduler does its work with the clock of the configuration, over a restart too.
func TestScheduleWithAClock(t *testing.T) {
	c, dir := newConfig(t)
	c.Schedule = 20 * time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	r := run(t, c, dir)
	conn := r.dial()
	_, text := r.call(conn, "CreateKey", "{}")
	_, rest, _ := strings.Cut(text, `"KeyId":"`)
	id, _, _ := strings.Cut(rest, `"`)
	if status, text := r.call(conn, "ScheduleKeyDeletion", `{"KeyId":"`+id+`","PendingWindowInDays":7}`); status != 200 {
		t.Fatal(text)
	}
	r.stop()
	if err := <-r.done; err != nil {
		t.Fatal(err)
	}
	r.done <- nil
	c.Now = func() time.Time { return time.Now().Add(7*24*time.Hour + time.Minute) }
	in, err := server.OpenInstallation(ctx, c, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.New(c, in)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	waitFor(t, func() bool {
		n, err := in.Store.CountKeys(ctx, "111122223333", "us-east-1")
		return n == 0 && err == nil
	})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestRefusesToStart(t *testing.T) {
	for name, edit := range map[string]func(*server.Config){
		"plain HTTP":    func(c *server.Config) { c.Listen = "0.0.0.0:0" },
		"a host name":   func(c *server.Config) { c.Listen = "example.test:0" },
		"no such pair":  func(c *server.Config) { c.TLS = &server.TLS{Certificate: "/nonexistent", Key: "/nonexistent"} },
		"half a pair":   func(c *server.Config) { c.TLS = &server.TLS{Certificate: "/nonexistent"} },
		"no durability": func(c *server.Config) { c.Audit.Durability = "none" },
		"no audit log":  func(c *server.Config) { c.Audit.Dir = "/dev/null/audit" },
		"no such port":  func(c *server.Config) { c.Listen = "127.0.0.1:99999" },
		"no headers": func(c *server.Config) {
			c.Traces = server.Traces{Endpoint: "http://127.0.0.1:1", HeadersFile: "/nonexistent"}
		},
		"no admin port": func(c *server.Config) { c.Admin = "127.0.0.1:99999" },
	} {
		c, _ := newConfig(t)
		in, err := server.CreateInstallation(context.Background(), c, time.Now(), nil)
		if err != nil {
			t.Fatal(err)
		}
		edit(&c)
		if _, err := server.New(c, in); err == nil {
			t.Errorf("%s: it started", name)
		}
		if _, err := in.Store.CountKeys(context.Background(), "111122223333", "us-east-1"); err == nil {
			t.Errorf("%s: the store was left open", name)
		}
	}
}

// writePair writes a certificate for localhost with that serial number.
func writePair(t *testing.T, dir string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// HTTPS with the hybrid group first, nothing below TLS 1.2, and a new certificate without a restart. A broken one is not
// taken.
func TestTLS(t *testing.T) {
	c, dir := newConfig(t)
	writePair(t, dir, 1)
	c.TLS = &server.TLS{Certificate: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), Reload: 20 * time.Millisecond}
	r := run(t, c, dir)
	connect := func(c *tls.Config) (tls.ConnectionState, *tls.Conn, error) {
		c.InsecureSkipVerify = true
		conn, err := tls.Dial("tcp", r.Addr().String(), c)
		if err != nil {
			return tls.ConnectionState{}, nil, err
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn.ConnectionState(), conn, nil
	}
	serial := func() int64 {
		s, _, err := connect(&tls.Config{})
		if err != nil {
			t.Fatal(err)
		}
		return s.PeerCertificates[0].SerialNumber.Int64()
	}
	s, conn, err := connect(&tls.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if s.Version != tls.VersionTLS13 || s.CurveID != tls.X25519MLKEM768 || s.PeerCertificates[0].SerialNumber.Int64() != 1 {
		t.Errorf("version %x, group %v", s.Version, s.CurveID)
	}
	if status, text := r.call(conn, "ListKeys", "{}"); status != 200 {
		t.Error(text)
	}
	if _, _, err := connect(&tls.Config{MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 was spoken")
	}
	if s, _, err := connect(&tls.Config{NextProtos: []string{"h2", "http/1.1"}}); err != nil || s.NegotiatedProtocol != "http/1.1" {
		t.Errorf("protocol %q, %v", s.NegotiatedProtocol, err)
	}
	if status, text := answerPlain(t, r); status != 400 {
		t.Errorf("plain HTTP on the TLS port: %d %s", status, text)
	}
	if err := os.WriteFile(c.TLS.Certificate, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	if serial() != 1 {
		t.Error("the old certificate went before there was a new one")
	}
	writePair(t, dir, 22)
	waitFor(t, func() bool { return serial() == 22 })
}

func answerPlain(t *testing.T, r *running) (int, string) {
	t.Helper()
	c := r.dial()
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	return answer(t, c)
}

func TestEphemeral(t *testing.T) {
	probe, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skipf("this machine has no IPv6 loopback: %v", err)
	}
	if err := probe.Close(); err != nil {
		t.Fatal(err)
	}
	in, err := server.EphemeralInstallation(context.Background(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.New(server.Config{Listen: "[::1]:0"}, in)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Directory().EnsureAccount(context.Background(), "111122223333", "x", secret.FromString("y")); err != nil {
		t.Error(err)
	}
	if s.AdminAddr() != nil {
		t.Error("an admin listener that nobody asked for")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error("a second Close:", err)
	}
}

// What nothing depends on keeps no server from starting.
func TestLookupDirectoryThatCannotBeUsed(t *testing.T) {
	c, _ := newConfig(t)
	in, err := server.CreateInstallation(t.Context(), c, time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.Data, "lookup"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := server.New(c, in)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// Whoever makes up Regions would have every quota in each of them.
func TestRegionsThatThereAre(t *testing.T) {
	c, dir := newConfig(t)
	c.Regions = []string{"published", "local-site-1"}
	r := run(t, c, dir)
	for region, want := range map[string]string{
		"us-east-1": "200 {", "local-site-1": "200 {", "aa-1": `400 {"__type":"InvalidSignatureException","message":"Credential should be scoped to a valid region. "}`,
	} {
		r.region = region
		if status, text := r.call(r.dial(), "ListKeys", "{}"); !strings.HasPrefix(fmt.Sprint(status, " ", text), want) {
			t.Errorf("%s: %d %s", region, status, text)
		}
	}
	r.region = ""
	_, text := r.call(r.dial(), "CreateKey", `{"MultiRegion":true}`)
	_, text, _ = strings.Cut(text, `"KeyId":"`)
	id, _, _ := strings.Cut(text, `"`)
	for region, want := range map[string]int{"aa-1": 400, "local-site-1": 200} {
		if status, text := r.call(r.dial(), "ReplicateKey", `{"KeyId":"`+id+`","ReplicaRegion":"`+region+`"}`); status != want {
			t.Errorf("a copy to %s: %d %s", region, status, text)
		}
	}
}
