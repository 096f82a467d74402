package sigv4

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"sync"
)

// scratch is the working memory of one verification.
type scratch struct {
	buf   []byte   // the canonical request, then the string to sign
	query []byte   // encoded query names and values, before they are sorted
	pairs []pair   // where they lie in query
	parts []string // path segments
	mac   [sha256.Size]byte
}

// pair says where one query parameter lies in scratch.query: its name is [from:mid], its value [mid:to].
type pair struct{ from, mid, to int }

var scratches = sync.Pool{New: func() any { return &scratch{buf: make([]byte, 0, 2048)} }}

// keepAtMost bounds the memory that a single huge request can leave behind in the pool.
const keepAtMost = 64 << 10

func (s *scratch) release() {
	if cap(s.buf)+cap(s.query) <= keepAtMost && cap(s.pairs) <= keepAtMost/32 && cap(s.parts) <= keepAtMost/32 {
		clear(s.parts[:cap(s.parts)]) // they point into the request
		scratches.Put(s)
	}
}

// canonicalRequest puts the canonical request of req into s.buf: method, path, query, signed headers, their list and the
// hash of the body, a line each. It reports false if a signed header is not there, if the query is not well encoded, or
// if x-amz-content-sha256 is anything but the hash of the body: UNSIGNED-PAYLOAD would leave the body open to change.
func (s *scratch) canonicalRequest(req *Request, signedHeaders string, presigned bool) bool {
	b := append(s.buf[:0], req.Method...)
	b = append(b, '\n')
	b = s.appendPath(b, req.Path, req.keepPath)
	b = append(b, '\n')
	ok := true
	if req.RawQuery != "" {
		b, ok = s.appendQuery(b, req.RawQuery, presigned)
	}
	b = append(b, '\n')
	for rest, more := signedHeaders, ok; more; {
		var name string
		name, rest, more = strings.Cut(rest, ";")
		var found bool
		b, found = appendHeader(b, req, name)
		ok = ok && found
	}
	b = append(b, '\n')
	b = append(b, signedHeaders...)
	b = append(b, '\n')
	sum := sha256.Sum256(req.Body)
	b = hex.AppendEncode(b, sum[:])
	s.buf = b
	if claimed, n := First(req.Header, "x-amz-content-sha256"); n > 0 {
		ok = ok && n == 1 && claimed == string(b[len(b)-2*sha256.Size:])
	}
	return ok
}

// stringToSign replaces the canonical request in s.buf by the string to sign.
func (s *scratch) stringToSign(stamp string, sc Scope) {
	sum := sha256.Sum256(s.buf)
	b := append(s.buf[:0], Algorithm+"\n"...)
	b = append(b, stamp...)
	b = append(b, '\n')
	b = append(b, sc.Date...)
	b = append(b, '/')
	b = append(b, sc.Region...)
	b = append(b, '/')
	b = append(b, sc.Service...)
	b = append(b, "/"+Terminator+"\n"...)
	s.buf = hex.AppendEncode(b, sum[:])
}

// appendHeader appends "name:value\n": values of repeated lines joined by commas, outer spaces cut, runs of white space
// within folded to one space.
func appendHeader(b []byte, req *Request, name string) ([]byte, bool) {
	b = append(b, name...)
	b = append(b, ':')
	found := name == "host" || name == ":authority"
	if found {
		b = appendFolded(b, req.Host)
	} else {
		for i := range req.Header {
			if !EqualFold(name, req.Header[i].Name) {
				continue
			}
			if found {
				b = append(b, ',')
			}
			found = true
			b = appendFolded(b, req.Header[i].Value)
		}
	}
	return append(b, '\n'), found
}

func appendFolded(b []byte, v string) []byte {
	gap, start := false, len(b)
	for i := 0; i < len(v); i++ {
		switch c := v[i]; c {
		case ' ', '\t', '\r', '\n':
			gap = true
		default:
			if gap && len(b) > start {
				b = append(b, ' ')
			}
			gap = false
			b = append(b, c)
		}
	}
	return b
}

// appendPath appends the canonical path: dot segments resolved (RFC 3986 section 5.2.4), repeated slashes merged, and every
// octet but the unreserved ones and '/' encoded once more, which is the rule of every service but S3.
func (s *scratch) appendPath(b []byte, path string, keep bool) []byte {
	if path == "" || path == "/" {
		return append(b, '/')
	}
	if keep || !strings.Contains(path, "//") && !strings.Contains(path, "/.") {
		return appendEncoded(b, path, true)
	}
	s.parts = s.parts[:0]
	tail := false // the path ends in a slash
	for rest, more := path, true; more; {
		var part string
		part, rest, more = strings.Cut(rest, "/")
		tail = part == "" || part == "." || part == ".."
		switch {
		case part == ".." && len(s.parts) > 0:
			s.parts = s.parts[:len(s.parts)-1]
		case !tail:
			s.parts = append(s.parts, part)
		}
	}
	for _, part := range s.parts {
		b = append(b, '/')
		b = appendEncoded(b, part, true)
	}
	if tail || len(s.parts) == 0 {
		b = append(b, '/')
	}
	return b
}

// appendQuery appends the canonical query: names and values decoded, encoded in the one normal form, sorted by encoded name
// and then value. A '+' is a space, as it is for whoever reads the parameters afterwards; the signature itself is left out of
// what is signed. It reports false for a broken percent escape.
func (s *scratch) appendQuery(b []byte, raw string, presigned bool) ([]byte, bool) {
	s.query, s.pairs = s.query[:0], s.pairs[:0]
	for raw != "" {
		var part string
		part, raw, _ = strings.Cut(raw, "&")
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		p := pair{from: len(s.query)}
		var okName, okValue bool
		s.query, okName = appendRecoded(s.query, name)
		p.mid = len(s.query)
		s.query, okValue = appendRecoded(s.query, value)
		if !okName || !okValue {
			return b, false
		}
		p.to = len(s.query)
		if presigned && string(s.query[p.from:p.mid]) == querySignature {
			continue
		}
		s.pairs = append(s.pairs, p)
	}
	slices.SortFunc(s.pairs, func(x, y pair) int {
		if c := bytes.Compare(s.query[x.from:x.mid], s.query[y.from:y.mid]); c != 0 {
			return c
		}
		return bytes.Compare(s.query[x.mid:x.to], s.query[y.mid:y.to])
	})
	for i, p := range s.pairs {
		if i > 0 {
			b = append(b, '&')
		}
		b = append(b, s.query[p.from:p.mid]...)
		b = append(b, '=')
		b = append(b, s.query[p.mid:p.to]...)
	}
	return b, true
}

// appendRecoded decodes a query name or value and encodes it again in normal form.
func appendRecoded(b []byte, s string) ([]byte, bool) {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch c {
		case '+':
			c = ' '
		case '%':
			if i+2 >= len(s) || unhex[s[i+1]] < 0 || unhex[s[i+2]] < 0 {
				return b, false
			}
			c = byte(unhex[s[i+1]]<<4 | unhex[s[i+2]])
			i += 2
		}
		b = appendOctet(b, c, false)
	}
	return b, true
}

func appendEncoded(b []byte, s string, slash bool) []byte {
	for i := 0; i < len(s); i++ {
		b = appendOctet(b, s[i], slash)
	}
	return b
}

const upperHex = "0123456789ABCDEF"

func appendOctet(b []byte, c byte, slash bool) []byte {
	if unreserved[c] || slash && c == '/' {
		return append(b, c)
	}
	return append(b, '%', upperHex[c>>4], upperHex[c&15])
}

// unreserved are the octets that RFC 3986 section 2.3 leaves plain; unhex maps hexadecimal digits to their value, all else
// to -1.
var (
	unreserved [256]bool
	unhex      [256]int16
)

func init() {
	for c := range 256 {
		lower := byte(c) | 0x20
		digit := c >= '0' && c <= '9'
		letter := lower >= 'a' && lower <= 'z' && c < 0x80
		unreserved[c] = digit || letter || c == '-' || c == '.' || c == '_' || c == '~'
		switch {
		case digit:
			unhex[c] = int16(c - '0')
		case letter && lower <= 'f':
			unhex[c] = int16(lower-'a') + 10
		default:
			unhex[c] = -1
		}
	}
}
