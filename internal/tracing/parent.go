package tracing

import (
	"encoding/hex"
	"strings"

	"go.opentelemetry.io/otel/trace"
)

// The headers by which callers say of which trace they are.
const (
	TraceParent = "traceparent"     // W3C Trace Context, section 3.2
	AmznTraceID = "x-amzn-trace-id" // AWS X-Ray, "Tracing header"
)

// maxHeader bounds what is read of either: the longest that is understood has 55 octets, or about a hundred.
const maxHeader = 512

// Parent is the span of whoever sent a request. The zero value is none.
type Parent struct{ context trace.SpanContext }

// Valid reports whether there is one.
func (p Parent) Valid() bool { return p.context.IsValid() }

// TraceID returns the id of its trace, in 32 hexadecimal digits; empty if there is none.
func (p Parent) TraceID() string {
	if !p.Valid() {
		return ""
	}
	return p.context.TraceID().String()
}

// Join reads the parent from the values of the two headers, of which traceparent comes first. What is not understood is as
// if it were not there: a trace is no reason to refuse a request.
func Join(traceparent, amznTraceID string) Parent {
	if p := parseTraceParent(traceparent); p.Valid() {
		return p
	}
	return parseAmzn(amznTraceID)
}

// parseTraceParent reads 00-<32 digits>-<16 digits>-<2 digits>, in lower case. Of later versions, whose values may be
// longer, it takes what they have in common with this one.
func parseTraceParent(s string) Parent {
	const length = 55
	if len(s) < length || len(s) > maxHeader || s[2] != '-' || s[35] != '-' || s[52] != '-' || strings.ToLower(s[:length]) != s[:length] {
		return Parent{}
	}
	version, ok := octets(s[:2])
	if !ok || version[0] == 0xff || version[0] == 0 && len(s) != length || len(s) > length && s[length] != '-' {
		return Parent{}
	}
	flags, ok := octets(s[53:55])
	if !ok {
		return Parent{}
	}
	return parent(s[3:35], s[36:52], trace.FlagsSampled&trace.TraceFlags(flags[0]))
}

// parseAmzn reads Root=1-<8 digits>-<24 digits>;Parent=<16 digits>;Sampled=1. Without a parent, as load balancers send it,
// there is no span to join.
func parseAmzn(s string) Parent {
	if s == "" || len(s) > maxHeader {
		return Parent{}
	}
	var root, span string
	var flags trace.TraceFlags
	for field := range strings.SplitSeq(s, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		switch strings.ToLower(name) {
		case "root":
			root = value
		case "parent":
			span = value
		case "sampled":
			if value == "1" {
				flags = trace.FlagsSampled
			}
		}
	}
	if len(root) != 35 || root[:2] != "1-" || root[10] != '-' {
		return Parent{}
	}
	return parent(root[2:10]+root[11:], span, flags)
}

// parent makes a Parent of hexadecimal digits.
func parent(traceID, spanID string, flags trace.TraceFlags) Parent {
	c := trace.SpanContextConfig{TraceFlags: flags, Remote: true}
	t, ok := octets(traceID)
	if !ok || copy(c.TraceID[:], t) != len(c.TraceID) {
		return Parent{}
	}
	s, ok := octets(spanID)
	if !ok || len(s) != len(c.SpanID) || copy(c.SpanID[:], s) != len(c.SpanID) {
		return Parent{}
	}
	return Parent{trace.NewSpanContext(c)}
}

func octets(digits string) ([]byte, bool) {
	b, err := hex.DecodeString(digits)
	return b, err == nil && len(b) > 0
}
