package httpapi

import (
	"bytes"
	"net/url"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/keywright/keywright/internal/pipeline"
	"github.com/keywright/keywright/internal/sigv4"
)

// rawHead is the head of a request as it stood on the wire.
type rawHead struct {
	method, target, protocol []byte
	lines                    []byte // each with its CR LF, and the empty one
}

// headOf returns the head that the engine has read. It lies in the engine's buffers.
func headOf(h *fasthttp.RequestHeader) rawHead {
	return rawHead{h.Method(), h.RequestURI(), h.Protocol(), h.RawHeaders()}
}

// copied returns a head that stays.
func (h rawHead) copied() rawHead {
	return rawHead{bytes.Clone(h.method), bytes.Clone(h.target), bytes.Clone(h.protocol), bytes.Clone(h.lines)}
}

// parse fills r from the head. All strings of r are parts of one copy. The result is the status of a refusal, or zero: a head
// that another reader could understand differently, or divide differently into requests, is not answered.
func (h rawHead) parse(r *pipeline.Request, v *visit) (refusal int) {
	var copied strings.Builder
	copied.Grow(len(h.target) + len(h.lines) + len(h.method))
	copied.Write(h.target)
	copied.Write(h.lines)
	var methodText string
	switch string(h.method) {
	case "POST":
		methodText = "POST"
	case "GET":
		methodText = "GET"
	default:
		copied.Write(h.method)
	}
	all := copied.String()
	target, lines := all[:len(h.target)], all[len(h.target):len(h.target)+len(h.lines)]
	if r.Method = methodText; methodText == "" {
		r.Method = all[len(h.target)+len(h.lines):]
	}
	eleven := string(h.protocol) == "HTTP/1.1"
	if !eleven && string(h.protocol) != "HTTP/1.0" {
		return fasthttp.StatusHTTPVersionNotSupported
	}
	var ok bool
	if v.header, r.Host, ok = appendLines(v.header[:0], lines, eleven); !ok {
		return fasthttp.StatusBadRequest
	}
	r.Header = v.header
	if r.Path, r.RawQuery, _ = strings.Cut(target, "?"); !strings.HasPrefix(target, "/") {
		if !elsewhere(r, target) {
			return fasthttp.StatusBadRequest
		}
	}
	return 0
}

// elsewhere reads a target that is no path: the absolute form, as proxies are asked, whose host counts; the authority of
// CONNECT; the asterisk of OPTIONS.
func elsewhere(r *pipeline.Request, target string) bool {
	if r.Method == fasthttp.MethodConnect {
		r.Path, r.RawQuery, r.Host = "", "", target
		return true
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return false
	}
	r.Path, r.RawQuery = u.EscapedPath(), u.RawQuery
	if u.Host != "" {
		r.Host = u.Host
	}
	return true
}

// appendLines appends the header lines but Host to dst, in their order, with the white space around values cut off. It
// reports false for what RFC 9112 forbids and some readers let pass: a line that does not end with CR LF, that goes on
// on the next line, or whose name is no token; a control character in a value; more than one Host or none; and a length of
// the body that is said twice or in two ways.
func appendLines(dst []sigv4.Field, lines string, hostRequired bool) (_ []sigv4.Field, host string, ok bool) {
	hosts, lengths, codings := 0, 0, 0
	for lines != "" && lines != "\r\n" {
		end := strings.IndexByte(lines, '\n')
		if end < 1 || lines[end-1] != '\r' {
			return dst, "", false
		}
		line := lines[:end-1]
		lines = lines[end+1:]
		colon := 0
		for colon < len(line) && token[line[colon]] {
			colon++
		}
		if colon == 0 || colon == len(line) || line[colon] != ':' {
			return dst, "", false
		}
		name, value := line[:colon], line[colon+1:]
		for value != "" && (value[0] == ' ' || value[0] == '\t') {
			value = value[1:]
		}
		for value != "" && (value[len(value)-1] == ' ' || value[len(value)-1] == '\t') {
			value = value[:len(value)-1]
		}
		for i := 0; i < len(value); i++ {
			if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
				return dst, "", false
			}
		}
		switch len(name) {
		case len("host"):
			if strings.EqualFold(name, "host") {
				hosts++
				host = value
				continue
			}
		case len("content-length"):
			if strings.EqualFold(name, "content-length") {
				lengths++
				if !decimal(value) {
					return dst, "", false
				}
			}
		case len("transfer-encoding"):
			if strings.EqualFold(name, "transfer-encoding") {
				codings++
				if !hostRequired || !strings.EqualFold(value, "chunked") {
					return dst, "", false
				}
			}
		}
		dst = append(dst, sigv4.Field{Name: name, Value: value})
	}
	return dst, host, hosts <= 1 && (hosts == 1 || !hostRequired) && lengths+codings <= 1
}

// decimal reports whether s is a plain number.
func decimal(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// token tells the octets of a header name (RFC 9110 section 5.6.2).
var token = func() (t [256]bool) {
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		t[c] = true
	}
	return t
}()
