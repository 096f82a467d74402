package httpapi

import (
	"bufio"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/pipeline"
	"github.com/keywright/keywright/internal/sigv4"
)

// The head is as it stood on the wire, and stays when the engine uses its buffers again.
func TestHead(t *testing.T) {
	lines := "X-b:  two  words\t\r\nHOST: h:1\r\nx-B:\r\nContent-Length: 03\r\nX-a: \xff\r\n\r\n"
	for _, test := range []struct{ method, target, path, query, host string }{
		{"POST", "/", "/", "", "h:1"},
		{"GET", "//a/../%7e%2f?x=%7e+&&y?#z", "//a/../%7e%2f", "x=%7e+&&y?#z", "h:1"},
		{"M-SEARCH", "http://other:2/%2f?a=b", "/%2f", "a=b", "other:2"},
		{"OPTIONS", "*", "*", "", "h:1"},
		{"CONNECT", "other:2", "", "", "other:2"},
	} {
		h := rawHead{[]byte(test.method), []byte(test.target), []byte("HTTP/1.1"), []byte(lines)}
		var r pipeline.Request
		var v visit
		if status := h.parse(&r, &v); status != 0 {
			t.Fatalf("%s %s: %d", test.method, test.target, status)
		}
		for _, b := range [][]byte{h.method, h.target, h.protocol, h.lines} {
			for i := range b {
				b[i] = '!'
			}
		}
		if r.Method != test.method || r.Path != test.path || r.RawQuery != test.query || r.Host != test.host {
			t.Errorf("%+v, want %+v", r, test)
		}
		want := []sigv4.Field{{Name: "X-b", Value: "two  words"}, {Name: "x-B"}, {Name: "Content-Length", Value: "03"}, {Name: "X-a", Value: "\xff"}}
		if !slices.Equal(r.Header, want) {
			t.Errorf("%q", r.Header)
		}
	}
}

// Whatever lines are accepted, net/http reads the same fields from them, if it does not refuse them.
func FuzzHead(f *testing.F) {
	for _, s := range []string{
		"Host: x\r\n\r\n", "Host: x\r\nContent-Length: 3\r\nX: y\r\nx:z\r\n\r\n", "Host: x\r\nTransfer-Encoding: chunked\r\n\r\n",
		"Host: x\r\nA: b\r\n c\r\n\r\n", "Host: x\nA: b\r\n\r\n", "Host : x\r\n\r\n", "\r\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, lines string) {
		fields, host, ok := appendLines(nil, lines, true)
		if !ok || !strings.HasSuffix(lines, "\r\n\r\n") {
			return
		}
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("POST / HTTP/1.1\r\n" + lines)))
		if err != nil {
			return
		}
		if r.Host != host {
			t.Errorf("host %q, not %q", host, r.Host)
		}
		got := http.Header{}
		for _, field := range fields {
			got.Add(field.Name, field.Value)
		}
		for _, name := range []string{"Transfer-Encoding", "Trailer"} { // net/http takes them out
			delete(got, name)
			delete(r.Header, name)
		}
		if !maps.EqualFunc(got, r.Header, slices.Equal) {
			t.Errorf("%q, not %q", got, r.Header)
		}
	})
}
