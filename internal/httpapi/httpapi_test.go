package httpapi_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/httpapi"
	"github.com/keywright/keywright/internal/iam"
	"github.com/keywright/keywright/internal/pipeline"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/sigv4"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
	"github.com/keywright/keywright/internal/wire/stsapi"
)

var root = sigv4.Credential{AccessKeyID: "AKIAROOT", Secret: secret.FromString("root's secret")}

// newPipeline returns a pipeline over real rooms that answers STS.
func newPipeline(t *testing.T) (*pipeline.Pipeline, *audit.Memory) {
	t.Helper()
	ctx := context.Background()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	db, err := store.Open(ctx, store.Options{})
	must(err)
	t.Cleanup(func() { _ = db.Close() })
	barrier, sealed, err := seal.Initialize(ctx, time.Now(), seal.KeyFile("test", secret.Take(make([]byte, 32))))
	must(err)
	must(db.Initialize(ctx, sealed))
	s, err := db.Unseal(ctx, barrier)
	must(err)
	records := audit.NewMemory(100)
	directory := iam.New(iam.Config{Store: s, Barrier: barrier, Now: time.Now})
	must(directory.EnsureAccount(ctx, "111122223333", root.AccessKeyID, root.Secret))
	return pipeline.New(pipeline.Config{
		Guard: guard.New(guard.Config{Recorder: records, Now: time.Now}), Directory: directory, Now: time.Now,
		Services: []pipeline.Service{{Model: &kmsapi.Service, Operations: []guard.Operation{refusing, unavailable}}, {Model: &stsapi.Service, Operations: directory.STS()}},
	}), records
}

// refusing is an operation whose refusals have an explanation for those who may decode it.
var refusing = guard.Operation{
	Service: "kms", Name: "ListKeys", New: func() wire.Input { return new(kmsapi.ListKeysRequest) },
	Do: func(context.Context, *guard.Call, wire.Input) (wire.Output, error) {
		return nil, &wire.Error{Code: wire.CodeAccessDenied, Message: "no", Authorization: "token"}
	},
}

// unavailable is an operation that needs a store which does not answer.
var unavailable = guard.Operation{
	Service: "kms", Name: "ListAliases", New: func() wire.Input { return new(kmsapi.ListAliasesRequest) },
	Do: func(context.Context, *guard.Call, wire.Input) (wire.Output, error) { return nil, store.ErrUnavailable },
}

// call returns the octets of a signed request to KMS without members.
func call(addr, operation string) []byte {
	r := sigv4.Request{Method: "POST", Path: "/", Host: addr, Body: []byte("{}"), Header: []sigv4.Field{
		{Name: "Content-Type", Value: "application/x-amz-json-1.1"}, {Name: "X-Amz-Target", Value: "TrentService." + operation}, {Name: "Content-Length", Value: "2"},
	}}
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST / HTTP/1.1\r\nHost: %s\r\n", addr)
	for _, f := range append(r.Header, sigv4.Sign(&r, root, "us-east-1", "kms", time.Now())...) {
		fmt.Fprintf(&b, "%s: %s\r\n", f.Name, f.Value)
	}
	return append(b.Bytes(), "\r\n{}"...)
}

// The explanation of a refusal is in a header of its own, and in no other answer.
func TestExplanationOfARefusal(t *testing.T) {
	p, _ := newPipeline(t)
	addr := serve(t, httpapi.Config{Pipeline: p})
	c, answers := dial(t, addr)
	for request, want := range map[string]string{string(call(addr, "ListKeys")): "token", string(whoami(addr, 0)): ""} {
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		resp, body := read(t, answers)
		if got := resp.header.Get("x-keywright-authorization-message"); got != want || strings.Contains(body, "token") {
			t.Errorf("%d: header %q, want %q; body %s", resp.status, got, want, body)
		}
	}
}

// Who is refused because the store does not answer is sent away, so that a load balancer can take him to another server; who is refused
// for another reason stays.
func TestRefusedForTheStore(t *testing.T) {
	p, _ := newPipeline(t)
	addr := serve(t, httpapi.Config{Pipeline: p})
	c, answers := dial(t, addr)
	for _, x := range []struct {
		operation, code string
		last            bool
	}{{"ListKeys", "AccessDeniedException", false}, {"ListAliases", "DependencyTimeoutException", true}} {
		if _, err := c.Write(call(addr, x.operation)); err != nil {
			t.Fatal(err)
		}
		if resp, body := read(t, answers); resp.closes != x.last || !strings.Contains(body, x.code) {
			t.Fatalf("%s: %d %s, closed %v", x.operation, resp.status, body, resp.closes)
		}
	}
	if n, err := answers.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("%d octets more, %v", n, err)
	}
}

// serve runs a door and returns its address.
func serve(t *testing.T, c httpapi.Config) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := httpapi.NewServer(c)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return l.Addr().String()
}

// whoami returns the octets of a signed GetCallerIdentity request, with a body of that size at least.
func whoami(addr string, size int) []byte {
	form := "Action=GetCallerIdentity&Version=2011-06-15"
	if size > len(form) {
		form += "&Padding=" + strings.Repeat("x", size-len(form)-len("&Padding="))
	}
	r := sigv4.Request{Method: "POST", Path: "/", Host: addr, Body: []byte(form), Header: []sigv4.Field{
		{Name: "Content-Type", Value: "application/x-www-form-urlencoded"}, {Name: "Content-Length", Value: fmt.Sprint(len(form))},
	}}
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST / HTTP/1.1\r\nHost: %s\r\n", addr)
	for _, f := range append(r.Header, sigv4.Sign(&r, root, "us-east-1", "sts", time.Now())...) {
		fmt.Fprintf(&b, "%s: %s\r\n", f.Name, f.Value)
	}
	b.WriteString("\r\n" + form)
	return b.Bytes()
}

func dial(t *testing.T, addr string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c, bufio.NewReader(c)
}

// received is an answer whose body was read.
type received struct {
	status int
	header http.Header
	closes bool
}

func read(t *testing.T, r *bufio.Reader) (received, string) {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return received{resp.StatusCode, resp.Header, resp.Close}, string(body)
}

// Many requests over one connection, with the headers of the real service.
func TestKeepAlive(t *testing.T) {
	p, records := newPipeline(t)
	addr := serve(t, httpapi.Config{Pipeline: p})
	c, r := dial(t, addr)
	for range 3 {
		if _, err := c.Write(whoami(addr, 0)); err != nil {
			t.Fatal(err)
		}
		resp, body := read(t, r)
		if resp.status != 200 || !strings.Contains(body, "<Account>111122223333</Account>") {
			t.Fatalf("%d %s", resp.status, body)
		}
		for name, want := range map[string]string{
			"Content-Type": "text/xml", "Cache-Control": "no-cache, no-store, must-revalidate, private",
			"Content-Length": fmt.Sprint(len(body)),
		} {
			if got := resp.header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if len(resp.header.Get("X-Amzn-Requestid")) != 36 || resp.header.Get("Date") == "" {
			t.Errorf("header %v", resp.header)
		}
	}
	if n := len(records.Records()); n != 3 {
		t.Errorf("%d records", n)
	}
	if r := string(records.Records()[0]); !strings.Contains(r, `"sourceIPAddress":"127.0.0.1"`) || strings.Contains(r, "tlsDetails") {
		t.Error(r)
	}
}

func TestBodyLimit(t *testing.T) {
	p, records := newPipeline(t)
	addr := serve(t, httpapi.Config{Pipeline: p})
	// The largest body that is taken.
	c, r := dial(t, addr)
	go func() { _, _ = c.Write(whoami(addr, pipeline.MaxBody)) }()
	if resp, body := read(t, r); resp.status != 200 {
		t.Errorf("%d %s", resp.status, body)
	}
	// One octet more, announced: refused before it is read.
	c, r = dial(t, addr)
	_, _ = fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: TrentService.ListKeys\r\nContent-Length: %d\r\n\r\n", pipeline.MaxBody+1)
	resp, body := read(t, r)
	if resp.status != 413 || !strings.HasPrefix(body, `{"__type":"RequestEntityTooLargeException"`) || !resp.closes {
		t.Errorf("%d %s close %v", resp.status, body, resp.closes)
	}
	// The same without an announcement.
	c, r = dial(t, addr)
	go func() {
		_, _ = fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: TrentService.ListKeys\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n", pipeline.MaxBody+1)
		_, _ = c.Write(make([]byte, pipeline.MaxBody+1))
	}()
	if resp, _ := read(t, r); resp.status != 413 {
		t.Error(resp.status)
	}
	if n := len(records.Records()); n != 3 {
		t.Errorf("%d records", n)
	}
}

// A chunked body counts as any other.
func TestChunked(t *testing.T) {
	p, _ := newPipeline(t)
	addr := serve(t, httpapi.Config{Pipeline: p})
	head, form, _ := strings.Cut(string(whoami(addr, 0)), "\r\n\r\n")
	var lines []string
	for line := range strings.SplitSeq(head, "\r\n") {
		if !strings.HasPrefix(line, "Content-Length") {
			lines = append(lines, line)
		}
	}
	c, r := dial(t, addr)
	_, _ = fmt.Fprintf(c, "%s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", strings.Join(lines, "\r\n"), len(form), form)
	// Content-Length was signed and is not there: that is a mismatch, and shows that the body has arrived.
	if resp, body := read(t, r); resp.status != 403 || !strings.Contains(body, "SignatureDoesNotMatch") {
		t.Errorf("%d %s", resp.status, body)
	}
}

// Who sends too slowly, or nothing, is cut off.
func TestSlowClients(t *testing.T) {
	p, records := newPipeline(t)
	addr := serve(t, httpapi.Config{
		Pipeline: p, HeaderTimeout: 200 * time.Millisecond, ReadTimeout: 400 * time.Millisecond, IdleTimeout: 200 * time.Millisecond,
	})
	for name, sent := range map[string]string{
		"nothing": "", "half a header": "POST / HTTP/1.1\r\nHost: x\r\nX-", "half a body": "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf",
	} {
		c, r := dial(t, addr)
		_, _ = io.WriteString(c, sent)
		start := time.Now()
		text, _ := io.ReadAll(r)
		if took := time.Since(start); took > 3*time.Second || strings.Contains(string(text), " 200 ") {
			t.Errorf("%s: after %v %q", name, took, text)
		}
	}
	c, r := dial(t, addr)
	_, _ = c.Write(whoami(addr, 0))
	read(t, r)
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("an idle connection: %v", err)
	}
	if n := len(records.Records()); n != 1 {
		t.Errorf("%d records", n)
	}
}

func TestHeaderLimit(t *testing.T) {
	p, _ := newPipeline(t)
	addr := serve(t, httpapi.Config{Pipeline: p, MaxHeader: 8 << 10})
	c, r := dial(t, addr)
	_, _ = fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nX-Long: %s\r\n\r\n", strings.Repeat("x", 32<<10))
	if resp, _ := read(t, r); resp.status != 431 {
		t.Error(resp.status)
	}
}

// The path and query reach the pipeline as they stood on the wire, or nothing that was signed would fit.
func TestRawPath(t *testing.T) {
	p, _ := newPipeline(t)
	addr := serve(t, httpapi.Config{Pipeline: p})
	r := sigv4.Request{Method: "GET", Path: "/", RawQuery: "Action=GetCallerIdentity&Version=2011-06-15&X=%7e+b%2B", Host: addr}
	query := sigv4.Presign(&r, root, "us-east-1", "sts", time.Now(), time.Minute)
	for _, target := range []string{"/?" + query, "http://" + addr + "/?" + query} {
		c, in := dial(t, addr)
		_, _ = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, addr)
		if resp, body := read(t, in); resp.status != 200 {
			t.Errorf("%s: %d %s", target, resp.status, body)
		}
	}
}

// The record of a call over TLS tells how it was protected, in CloudTrail's words.
func TestTLSDetails(t *testing.T) {
	p, records := newPipeline(t)
	certificate := httptest.NewUnstartedServer(nil)
	certificate.StartTLS()
	defer certificate.Close()
	for _, test := range []struct {
		client *tls.Config
		want   string
	}{
		{&tls.Config{}, `"tlsDetails":{"tlsVersion":"TLSv1.3","cipherSuite":"TLS_AES_128_GCM_SHA256","clientProvidedHostHeader":"HOST","keyExchange":"X25519MLKEM768"}`},
		{&tls.Config{CurvePreferences: []tls.CurveID{tls.CurveP256}}, `"keyExchange":"secp256r1"`},
		{&tls.Config{MaxVersion: tls.VersionTLS12, CurvePreferences: []tls.CurveID{tls.X25519}}, `"tlsVersion":"TLSv1.2","cipherSuite":"ECDHE-RSA-AES128-GCM-SHA256","clientProvidedHostHeader":"HOST","keyExchange":"X25519"`},
	} {
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: certificate.TLS.Certificates})
		if err != nil {
			t.Fatal(err)
		}
		s := httpapi.NewServer(httpapi.Config{Pipeline: p})
		go func() { _ = s.Serve(l) }()
		test.client.InsecureSkipVerify = true
		c, err := tls.Dial("tcp", l.Addr().String(), test.client)
		if err != nil {
			t.Fatal(err)
		}
		for _, host := range []string{l.Addr().String(), "other.test"} { // the header is each request's own
			_, _ = c.Write(whoami(host, 0))
			if resp, body := read(t, bufio.NewReader(c)); resp.status != 200 {
				t.Fatal(body)
			}
			all := records.Records()
			if r := string(all[len(all)-1]); !strings.Contains(r, strings.ReplaceAll(test.want, "HOST", host)) {
				t.Errorf("%s\nwant %s", r, test.want)
			}
		}
		_ = c.Close()
		_ = s.Close()
	}
}
