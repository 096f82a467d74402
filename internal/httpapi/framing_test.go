package httpapi_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/httpapi"
	"github.com/keywright/keywright/internal/pipeline"
)

// exchange sends octets, ends sending, and returns the statuses of all answers and what came.
func exchange(t *testing.T, addr, sent string) (statuses []int, text string) {
	t.Helper()
	c, _ := dial(t, addr)
	go func() {
		_, _ = io.WriteString(c, sent)
		time.Sleep(50 * time.Millisecond)
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	all, err := io.ReadAll(c)
	if err != nil {
		t.Errorf("%.80q: %v", sent, err)
	}
	for r := bufio.NewReader(strings.NewReader(string(all))); ; {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return statuses, string(all)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		statuses = append(statuses, resp.StatusCode)
	}
}

// What two readers could divide differently into requests is refused, and nothing after it is read as a request.
func TestAmbiguousFraming(t *testing.T) {
	p, records := newPipeline(t)
	addr := serve(t, httpapi.Config{Pipeline: p})
	const next = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, sent := range map[string]string{
		"length and coding":         "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"coding and length":         "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
		"coding and a large length": "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 9999999\r\n\r\n0\r\n\r\n",
		"two lengths":               "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 35\r\n\r\n",
		"the same length twice":     "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
		"a list of lengths":         "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0, 0\r\n\r\n",
		"a negative length":         "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
		"a length with a plus":      "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +0\r\n\r\n",
		"a hexadecimal length":      "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x0\r\n\r\n",
		"an empty length":           "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: \r\n\r\n",
		"a huge length":             "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999999\r\n\r\n",
		"identity":                  "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n",
		"identity and length":       "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\nContent-Length: 0\r\n\r\n",
		"two codings":               "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"a list of codings":         "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"xchunked":                  "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"vertical tab chunked":      "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
		"chunked in HTTP/1.0":       "POST / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"a space before the colon":  "POST / HTTP/1.1\r\nHost: x\r\nContent-Length : 0\r\n\r\n",
		"a tab before the colon":    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
		"a space before the name":   "POST / HTTP/1.1\r\n Host: x\r\nHost: x\r\n\r\n",
		"a folded line":             "POST / HTTP/1.1\r\nHost: x\r\nX-A: b\r\n c\r\n\r\n",
		"a folded coding":           "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
		"bare LF":                   "POST / HTTP/1.1\r\nHost: x\nX-A: b\r\n\r\n",
		"bare LF at the end":        "POST / HTTP/1.1\r\nHost: x\r\nX-A: b\n\n",
		"bare CR":                   "POST / HTTP/1.1\r\nHost: x\r\nX-A: b\rContent-Length: 35\r\n\r\n",
		"NUL":                       "POST / HTTP/1.1\r\nHost: x\r\nX-A: b\x00\r\n\r\n",
		"no name":                   "POST / HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n",
		"a name with a space":       "POST / HTTP/1.1\r\nHost: x\r\nX A: b\r\n\r\n",
		"a name with an umlaut":     "POST / HTTP/1.1\r\nHost: x\r\nX-\xe4: b\r\n\r\n",
		"no colon":                  "POST / HTTP/1.1\r\nHost: x\r\nX-A\r\n\r\n",
		"two hosts":                 "POST / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
		"no host":                   "POST / HTTP/1.1\r\nX-A: b\r\n\r\n",
		"a broken chunk size":       "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n0\r\n\r\n",
		"a huge chunk size":         "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n\r\n0\r\n\r\n",
		"a chunk that is longer":    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
		"a chunk size with LF":      "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
		"a chunk extension, LF":     "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;x\na\r\n0\r\n\r\n",
		"no version":                "POST /\r\nHost: x\r\n\r\n",
		"two spaces":                "POST /  HTTP/1.1\r\nHost: x\r\n\r\n",
		"a target without a slash":  "POST x HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		before := len(records.Records())
		statuses, text := exchange(t, addr, sent+next)
		if len(statuses) != 1 || statuses[0] != 400 || strings.Contains(text, "Server:") || !strings.Contains(text, "Connection: close\r\n") {
			t.Errorf("%s: %v %q", name, statuses, text)
		}
		if n := len(records.Records()) - before; n != 0 {
			t.Errorf("%s: %d records", name, n)
		}
	}
	for _, version := range []string{"HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "HTTP/3.1"} {
		if statuses, text := exchange(t, addr, "POST / "+version+"\r\nHost: x\r\n\r\n"+next); len(statuses) > 1 || !strings.Contains(text, " 505 ") {
			t.Errorf("%s: %v %q", version, statuses, text)
		}
	}
	// And what is not ambiguous is divided right.
	sent := "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n2;a=b\r\nab\r\n0\r\nX-Trailer: Content-Length\r\n\r\n" +
		"POST / HTTP/1.1\r\nhOST:x\r\ncontent-length:\t3 \r\n\r\nabcOPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n" +
		"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + next
	before := len(records.Records())
	_, text := exchange(t, addr, sent)
	if n := len(records.Records()) - before; n != 5 || strings.Count(text, "HTTP/1.1 ") != 5 {
		t.Errorf("%d records, %q", n, text)
	}
}

// A body that is too large is the pipeline's to refuse, with its record, however it is announced; and it is not asked for.
func TestOversizedExpect(t *testing.T) {
	p, records := newPipeline(t)
	addr := serve(t, httpapi.Config{Pipeline: p})
	head := "POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: TrentService.ListKeys\r\nExpect: 100-continue\r\n"
	_, text := exchange(t, addr, head+fmt.Sprintf("Content-Length: %d\r\n\r\n", pipeline.MaxBody+1))
	if !strings.HasPrefix(text, "HTTP/1.1 413 ") || !strings.Contains(text, "RequestEntityTooLargeException") {
		t.Error(text)
	}
	_, text = exchange(t, addr, head+fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n", pipeline.MaxBody+1))
	if !strings.HasPrefix(text, "HTTP/1.1 100 ") || !strings.Contains(text, "HTTP/1.1 413 ") {
		t.Error(text)
	}
	_, text = exchange(t, addr, head+"Content-Length: 2\r\n\r\n{}")
	if !strings.HasPrefix(text, "HTTP/1.1 100 ") || !strings.Contains(text, "MissingAuthenticationToken") {
		t.Error(text)
	}
	all := records.Records()
	if len(all) != 3 || !strings.Contains(string(all[0]), `"ListKeys"`) || !strings.Contains(string(all[1]), `"ListKeys"`) {
		t.Errorf("%s", all)
	}
}

// A panic costs its connection only.
func TestPanic(t *testing.T) {
	addr := serve(t, httpapi.Config{}) // there is no pipeline to call
	for range 2 {
		if statuses, text := exchange(t, addr, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"); text != "" {
			t.Error(statuses, text)
		}
	}
}

// Connections without a request end at once, and later ones are not accepted.
func TestShutdown(t *testing.T) {
	p, _ := newPipeline(t)
	s := httpapi.NewServer(httpapi.Config{Pipeline: p})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	addr := l.Addr().String()
	_, fresh := dial(t, addr)
	idle, idleIn := dial(t, addr)
	_, _ = idle.Write(whoami(addr, 0))
	read(t, idleIn)
	busy, busyIn := dial(t, addr)
	request := whoami(addr, 0)
	_, _ = busy.Write(request[:len(request)-1])
	time.Sleep(100 * time.Millisecond)
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(context.Background()) }()
	if _, err := fresh.ReadByte(); err == nil {
		t.Error("a fresh connection stays")
	}
	if _, err := idleIn.ReadByte(); err == nil {
		t.Error("an idle connection stays")
	}
	if err := <-served; !errors.Is(err, httpapi.ErrClosed) {
		t.Error(err)
	}
	select {
	case err := <-ended:
		t.Fatal("it did not wait", err)
	case <-time.After(100 * time.Millisecond):
	}
	_, _ = busy.Write(request[len(request)-1:])
	if resp, body := read(t, busyIn); resp.status != 200 || !resp.closes {
		t.Errorf("%d %s close %v", resp.status, body, resp.closes)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		_ = c.Close()
		t.Error("it still accepts")
	}
}

// More connections than there may be are closed, and nothing else suffers.
func TestTooManyConnections(t *testing.T) {
	p, _ := newPipeline(t)
	addr := serve(t, httpapi.Config{Pipeline: p, MaxConns: 1})
	c, r := dial(t, addr)
	_, _ = c.Write(whoami(addr, 0))
	read(t, r)
	_, more := dial(t, addr)
	if _, err := more.ReadByte(); err == nil {
		t.Error("a second connection is served")
	}
	_, _ = c.Write(whoami(addr, 0))
	if resp, body := read(t, r); resp.status != 200 {
		t.Error(body)
	}
}
