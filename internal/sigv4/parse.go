package sigv4

import (
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Parse reads the claim of a request: from its Authorization header or from its query. A request with both is refused,
// because two claims leave open which one speaks. Parse looks nothing up and proves nothing.
func Parse(req *Request) (Auth, *Error) {
	header, n := First(req.Header, "authorization")
	presigned := req.RawQuery != "" && isPresigned(req.RawQuery)
	switch {
	case n > 1:
		return Auth{}, &Error{IncompleteSignature, "The request has more than one Authorization header."}
	case n == 1 && presigned:
		return Auth{}, &Error{
			IncompleteSignature,
			"Only one of the Authorization header and the query string may carry a signature.",
		}
	case presigned:
		return parseQuery(req)
	case n == 1:
		return parseHeader(req, header)
	}
	return Auth{}, ErrMissing()
}

// parseHeader reads "AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…".
func parseHeader(req *Request, header string) (Auth, *Error) {
	scheme, rest, _ := strings.Cut(strings.TrimSpace(header), " ")
	if scheme != Algorithm {
		if strings.HasPrefix(scheme, "AWS4-") {
			return Auth{}, &Error{IncompleteSignature, "Unsupported AWS 'algorithm': '" + scheme + "'."}
		}
		return Auth{}, ErrMissing() // Basic, Bearer and their like sign nothing
	}
	var a Auth
	var credential string
	for rest != "" {
		var part string
		part, rest, _ = strings.Cut(rest, ",")
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		var into *string
		switch name {
		case "Credential":
			into = &credential
		case "SignedHeaders":
			into = &a.SignedHeaders
		case "Signature":
			into = &a.signature
		}
		if into == nil {
			continue // an element of another name says nothing about the three that count
		}
		if !ok || *into != "" {
			return Auth{}, incomplete(header, "Authorization header requires exactly one '"+name+"' parameter.")
		}
		*into = value
	}
	stamp, nStamp := First(req.Header, "x-amz-date")
	a.dated = "x-amz-date"
	if nStamp == 0 {
		stamp, nStamp = First(req.Header, "date")
		a.dated = "date"
	}
	if missing := missingParts(credential, a.signature, a.SignedHeaders, nStamp); missing != "" {
		return Auth{}, incomplete(header, missing)
	}
	token, nToken := First(req.Header, "x-amz-security-token")
	if nStamp > 1 || nToken > 1 {
		return Auth{}, &Error{IncompleteSignature, "The request repeats its date or security token header."}
	}
	a.Token = token
	if err := a.setTime(stamp, a.dated == "date"); err != nil {
		return Auth{}, err
	}
	return a, a.setCredential(credential)
}

// missingParts returns the sentences for all the parts that the header form lacks, in the service's order.
func missingParts(credential, signature, signedHeaders string, dates int) string {
	var s []string
	if credential == "" {
		s = append(s, "Authorization header requires 'Credential' parameter.")
	}
	if signature == "" {
		s = append(s, "Authorization header requires 'Signature' parameter.")
	}
	if signedHeaders == "" {
		s = append(s, "Authorization header requires 'SignedHeaders' parameter.")
	}
	if dates == 0 {
		s = append(s, "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
	}
	return strings.Join(s, " ")
}

// incomplete ends the sentences with the header they are about. The service shows its hash, so that a signature in it
// does not get into the logs of whoever prints the error.
func incomplete(header, sentences string) *Error {
	sum := sha256.Sum256([]byte(header))
	return &Error{IncompleteSignature, sentences + " (Hashed with SHA-256 and encoded with Base64) Authorization=" +
		base64.StdEncoding.EncodeToString(sum[:])}
}

// setCredential reads keyid/date/region/service/terminator.
func (a *Auth) setCredential(s string) *Error {
	id, rest, _ := strings.Cut(s, "/")
	date, rest, _ := strings.Cut(rest, "/")
	region, rest, _ := strings.Cut(rest, "/")
	service, term, ok := strings.Cut(rest, "/")
	if !ok || strings.Contains(term, "/") || id == "" {
		return &Error{IncompleteSignature, "Credential must have exactly 5 slash-delimited elements, e.g. " +
			"keyid/date/region/service/term, got '" + s + "'"}
	}
	a.AccessKeyID, a.Scope, a.terminator = id, Scope{date, region, service}, term
	return nil
}

// setTime reads X-Amz-Date, or a Date header, which may also have the form of RFC 9110 section 5.6.7.
func (a *Auth) setTime(s string, httpDate bool) *Error {
	t, ok := parseStamp(s)
	if !ok && httpDate {
		var err error
		t, err = time.Parse("Mon, 02 Jan 2006 15:04:05 GMT", s)
		if ok = err == nil; ok {
			s = t.Format(TimeFormat)
		}
	}
	if !ok {
		return &Error{IncompleteSignature, "Date must be in ISO-8601 'basic format'. Got '" + s +
			"'. See http://en.wikipedia.org/wiki/ISO_8601"}
	}
	a.Time, a.stamp = t, s
	return nil
}

// parseStamp reads TimeFormat. It is time.Parse without its generality, which would cost as much as the body's hash.
func parseStamp(s string) (time.Time, bool) {
	if len(s) != len(TimeFormat) || s[8] != 'T' || s[15] != 'Z' {
		return time.Time{}, false
	}
	ok := true
	number := func(from, to int) (n int) {
		for i := from; i < to; i++ {
			c := s[i] - '0'
			ok = ok && c <= 9
			n = n*10 + int(c)
		}
		return n
	}
	y, mo, d := number(0, 4), number(4, 6), number(6, 8)
	h, mi, sec := number(9, 11), number(11, 13), number(13, 15)
	if !ok || mo < 1 || mo > 12 || h > 23 || mi > 59 || sec > 59 {
		return time.Time{}, false
	}
	t := time.Date(y, time.Month(mo), d, h, mi, sec, 0, time.UTC)
	return t, t.Day() == d
}

// Parameters of the query form.
const (
	queryAlgorithm     = "X-Amz-Algorithm"
	queryCredential    = "X-Amz-Credential"
	queryDate          = "X-Amz-Date"
	queryExpires       = "X-Amz-Expires"
	querySignedHeaders = "X-Amz-SignedHeaders"
	querySignature     = "X-Amz-Signature"
	querySecurityToken = "X-Amz-Security-Token"
)

// isPresigned reports whether the query claims to carry a signature.
func isPresigned(raw string) bool {
	for raw != "" {
		var part string
		part, raw, _ = strings.Cut(raw, "&")
		name, _, _ := strings.Cut(part, "=")
		if name == queryAlgorithm || name == querySignature || name == queryCredential {
			return true
		}
		if strings.Contains(name, "%") { // a name that hides behind escapes is no reason to treat the request as another
			if plain, err := url.QueryUnescape(name); err == nil &&
				(plain == queryAlgorithm || plain == querySignature || plain == queryCredential) {
				return true
			}
		}
	}
	return false
}

// parseQuery reads the presigned form.
func parseQuery(req *Request) (Auth, *Error) {
	var algorithm, credential, stamp, expires string
	a := Auth{Presigned: true}
	wanted := []struct {
		name string
		into *string
	}{
		{queryAlgorithm, &algorithm},
		{queryCredential, &credential},
		{queryDate, &stamp},
		{queryExpires, &expires},
		{querySignedHeaders, &a.SignedHeaders},
		{querySignature, &a.signature},
		{querySecurityToken, &a.Token},
	}
	for raw := req.RawQuery; raw != ""; {
		var part string
		part, raw, _ = strings.Cut(raw, "&")
		name, value, _ := strings.Cut(part, "=")
		plainName, errName := url.QueryUnescape(name)
		plain, errValue := url.QueryUnescape(value)
		for _, w := range wanted {
			if plainName != w.name {
				continue
			}
			if errName != nil || errValue != nil || *w.into != "" {
				return Auth{}, &Error{IncompleteSignature, "AWS query-string parameter '" + w.name + "' must appear once, well encoded."}
			}
			*w.into = plain
		}
	}
	var missing strings.Builder
	for _, w := range wanted[:6] { // all but the session token
		if *w.into == "" {
			missing.WriteString("AWS query-string parameters must include: '" + w.name + "'. ")
		}
	}
	if missing.Len() > 0 {
		return Auth{}, &Error{IncompleteSignature, missing.String() + "Re-examine the query-string parameters."}
	}
	if algorithm != Algorithm {
		return Auth{}, &Error{IncompleteSignature, "Unsupported AWS 'algorithm': '" + algorithm + "'."}
	}
	seconds, err := strconv.ParseUint(expires, 10, 32)
	if a.Expires = time.Duration(seconds) * time.Second; err != nil || seconds < 1 || a.Expires > MaxExpires {
		return Auth{}, &Error{IncompleteSignature, "X-Amz-Expires must be a number of seconds from 1 to 604800."}
	}
	if token, n := First(req.Header, "x-amz-security-token"); n > 1 || n == 1 && a.Token != "" {
		return Auth{}, &Error{IncompleteSignature, "The request repeats its security token."}
	} else if n == 1 {
		a.Token = token
	}
	if err := a.setTime(stamp, false); err != nil {
		return Auth{}, err
	}
	return a, a.setCredential(credential)
}

// First returns the value of the first header line with the lower-case name, without white space around it, and how many
// lines have the name.
func First(header []Field, name string) (value string, n int) {
	for i := range header {
		if EqualFold(name, header[i].Name) {
			if n == 0 {
				value = header[i].Value
			}
			n++
		}
	}
	return strings.Trim(value, " \t"), n
}

// EqualFold compares s with a lower-case name, ignoring the case of ASCII letters. Other letters equal themselves only.
func EqualFold(lower, s string) bool {
	if len(lower) != len(s) {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
