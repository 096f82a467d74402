package httpapi

import (
	"slices"
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
