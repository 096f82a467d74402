package tracing_test

import (
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/tracing"
)

func TestJoin(t *testing.T) {
	const id, amzn = "4bf92f3577b34da6a3ce929d0e0e4736", "5759e988bd862e3fe1be46a994272793"
	const w3c, xray = "00-" + id + "-00f067aa0ba902b7-01", "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
	for _, c := range []struct{ traceparent, amzn, want string }{
		{w3c, "", id},
		{"", xray, amzn},
		{w3c, xray, id},
		{"nonsense", xray, amzn},
		{"00-" + id + "-00f067aa0ba902b7-00", "", id},
		{"cc-" + id + "-00f067aa0ba902b7-01-what-comes-later", "", id},
		{"", "Self=1-67891234-12456789abcdef012345678;" + xray, amzn},
		{"", "Sampled=?; Parent=53995c3f42cd8ad8 ;Root=1-5759e988-bd862e3fe1be46a994272793", amzn},

		{"", "", ""},
		{"ff-" + id + "-00f067aa0ba902b7-01", "", ""},
		{w3c + "-more", "", ""},
		{"cc-" + id + "-00f067aa0ba902b7-01more", "", ""},
		{strings.ToUpper(w3c), "", ""},
		{"00-" + strings.Repeat("0", 32) + "-00f067aa0ba902b7-01", "", ""},
		{"00-" + id + "-0000000000000000-01", "", ""},
		{"00-" + id + "-00f067aa0ba902bg-01", "", ""},
		{"00-" + id + "-00f067aa0ba902b7-0g", "", ""},
		{"00-" + id + "_00f067aa0ba902b7-01", "", ""},
		{"", "Root=1-5759e988-bd862e3fe1be46a994272793", ""},
		{"", "Root=2-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8", ""},
		{"", "Root=1-5759e988-bd862e3fe1be46a99427279;Parent=53995c3f42cd8ad8", ""},
		{"", "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad80", ""},
	} {
		if p := tracing.Join(c.traceparent, c.amzn); p.TraceID() != c.want || p.Valid() != (c.want != "") {
			t.Errorf("%q, %q: %q, want %q", c.traceparent, c.amzn, p.TraceID(), c.want)
		}
	}
}

func TestReadHeaders(t *testing.T) {
	got, err := tracing.ReadHeaders(strings.NewReader("# a comment\nAuthorization: Bearer a:b \n\nx-scope:tenant\n"))
	if err != nil || len(got) != 2 || got["Authorization"] != "Bearer a:b" || got["X-Scope"] != "tenant" {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"hushhush", ": hushhush", "a b: hushhush", "a: hush\x00hush", "ä: hushhush"} {
		if _, err := tracing.ReadHeaders(strings.NewReader("A: b\n" + bad)); err == nil || strings.Contains(err.Error(), "hush") || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestConfigCheck(t *testing.T) {
	for _, c := range []tracing.Config{
		{Endpoint: ""},
		{Endpoint: "collector:4318"},
		{Endpoint: "ftp://collector"},
		{Endpoint: "http://"},
		{Endpoint: "http://a:hushhush@b"},
		{Endpoint: "http://b?token=hushhush"},
		{Endpoint: "http://b", Ratio: 1.1},
		{Endpoint: "http://b", Ratio: -0.1},
	} {
		if err := c.Check(); err == nil || strings.Contains(err.Error(), "hushhush") {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if err := (&tracing.Config{Endpoint: "https://collector.example.com/otlp/v1/traces", Ratio: 1}).Check(); err != nil {
		t.Error(err)
	}
}

func FuzzJoin(f *testing.F) {
	f.Add("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1")
	f.Fuzz(func(t *testing.T, traceparent, amzn string) {
		p := tracing.Join(traceparent, amzn)
		id := p.TraceID()
		if !p.Valid() {
			if id != "" {
				t.Errorf("the id %q of no trace", id)
			}
			return
		}
		digits := strings.ToLower(strings.ReplaceAll(amzn, "-", ""))
		if len(id) != 32 || !strings.Contains(traceparent, id) && !strings.Contains(digits, id) {
			t.Errorf("%q is the trace of neither %q nor %q", id, traceparent, amzn)
		}
	})
}

func FuzzReadHeaders(f *testing.F) {
	f.Add("Authorization: Bearer x\n# no\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := tracing.ReadHeaders(strings.NewReader(text))
		if err != nil {
			return
		}
		for name, value := range all {
			if name == "" || strings.ContainsAny(name+value, "\r\n\x00") {
				t.Errorf("%q: %q", name, value)
			}
		}
	})
}
