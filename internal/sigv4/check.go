package sigv4

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/arn"
)

// Check compares the claim with the service that was called and with the clock: the scope must name a Region of valid
// form, the service and the terminator, and the day of the request; the time must lie within Window of now or, for a
// presigned request, not more than Window ahead and not more than Expires behind. It proves nothing about who signed.
func (a *Auth) Check(service string, now time.Time) *Error {
	if a.stamp == "" {
		return ErrMissing() // the zero Auth: Parse has not been there, or has failed
	}
	if err := a.checkScope(service); err != nil {
		return err
	}
	if err := a.checkTime(now); err != nil {
		return err
	}
	a.checked = true
	return nil
}

// wrongRegion is what the service says of a Region that it does not have.
const wrongRegion = "Credential should be scoped to a valid region. "

// ErrRegion is the refusal of a scope whose Region is not one of the signer's partition, or not one that there is.
func ErrRegion() *Error { return &Error{InvalidSignature, wrongRegion} }

// checkScope says everything that is wrong with the scope in one message, as the service does.
func (a *Auth) checkScope(service string) *Error {
	var wrong strings.Builder
	if _, err := arn.ParseRegion(a.Scope.Region); err != nil {
		wrong.WriteString(wrongRegion)
	}
	if a.Scope.Service != service {
		wrong.WriteString("Credential should be scoped to correct service: '" + service + "'. ")
	}
	if a.terminator != Terminator {
		wrong.WriteString("Credential should be scoped with a valid terminator: '" + Terminator + "', not '" + a.terminator + "'.")
	}
	if day := a.stamp[:len(dayFormat)]; a.Scope.Date != day {
		if wrong.Len() > 0 && a.terminator != Terminator {
			wrong.WriteByte(' ')
		}
		wrong.WriteString("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '" +
			a.Scope.Date + "' != '" + day + "', from '" + a.stamp + "'.")
	}
	if wrong.Len() > 0 {
		return &Error{InvalidSignature, wrong.String()}
	}
	return nil
}

func (a *Auth) checkTime(now time.Time) *Error {
	now = now.UTC()
	if latest := now.Add(Window); a.Time.After(latest) {
		return &Error{InvalidSignature, "Signature not yet current: " + a.stamp + " is still later than " +
			latest.Format(TimeFormat) + " (" + now.Format(TimeFormat) + " + 5 min.)"}
	}
	life := Window
	if a.Presigned {
		life = a.Expires
	}
	if earliest := now.Add(-life); a.Time.Before(earliest) {
		return &Error{InvalidSignature, "Signature expired: " + a.stamp + " is now earlier than " +
			earliest.Format(TimeFormat) + " (" + now.Format(TimeFormat) + " - " + minutes(life) + ")"}
	}
	return nil
}

// minutes words a span as the service does: whole minutes where it is some.
func minutes(d time.Duration) string {
	if d%time.Minute == 0 {
		return strconv.Itoa(int(d/time.Minute)) + " min."
	}
	return strconv.Itoa(int(d/time.Second)) + " sec."
}

// checkHeaders applies the rules of signed headers: the list is in order and without repetition; the host is signed,
// and in the header form the date; and so is every x-amz-… header that is there. Without the last rule somebody could
// add X-Amz-Target to a signed request and make another call of it. Other headers may stay unsigned, as clients and
// proxies add some on the way (user-agent, content-type in older browser SDKs, x-amzn-trace-id).
//
// In the query form such a header may instead stand in the query, which is signed, with the same value: the Go SDK moves
// X-Amz-Target there when it presigns.
func (a *Auth) checkHeaders(header []Field, rawQuery string) *Error {
	var host, dated bool
	last := ""
	for rest, more := a.SignedHeaders, true; more; {
		var name string
		name, rest, more = strings.Cut(rest, ";")
		if name <= last || !isLowerToken(name) {
			return ErrMismatch()
		}
		last = name
		host = host || name == "host" || name == ":authority"
		dated = dated || name == a.dated
	}
	if !host {
		return notSigned("'Host' or ':authority'")
	}
	if !a.Presigned && !dated {
		return notSigned("'" + a.dated + "'")
	}
	for i := range header {
		name := header[i].Name
		if len(name) <= len(amzPrefix) || !EqualFold(amzPrefix, name[:len(amzPrefix)]) || listed(a.SignedHeaders, name) {
			continue
		}
		if !a.Presigned || !inQuery(rawQuery, header[i]) {
			return notSigned("'" + strings.ToLower(name) + "'")
		}
	}
	return nil
}

// inQuery reports whether the query has a parameter that says the same as the header line, and none that contradicts it.
func inQuery(raw string, f Field) (found bool) {
	for raw != "" {
		var part string
		part, raw, _ = strings.Cut(raw, "&")
		name, value, _ := strings.Cut(part, "=")
		plainName, err := url.QueryUnescape(name)
		if err != nil || !strings.EqualFold(plainName, f.Name) {
			continue
		}
		plain, err := url.QueryUnescape(value)
		if err != nil || plain != strings.Trim(f.Value, " \t") {
			return false
		}
		found = true
	}
	return found
}

// amzPrefix starts the headers that mean something to the service. "x-amzn-…" is another family, used for tracing.
const amzPrefix = "x-amz-"

func notSigned(name string) *Error {
	return &Error{InvalidSignature, name + " must be a 'SignedHeader' in the AWS Authorization."}
}

// listed reports whether the list of lower-case names joined by ';' has name, whatever its letter case.
func listed(list, name string) bool {
	for more := true; more; {
		var item string
		item, list, more = strings.Cut(list, ";")
		if EqualFold(item, name) {
			return true
		}
	}
	return false
}

// isLowerToken reports whether s can be a lower-case header name (RFC 9110 section 5.1), or the ":authority" of HTTP/2.
func isLowerToken(s string) bool {
	s = strings.TrimPrefix(s, ":")
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c >= 0x7f || c >= 'A' && c <= 'Z' || c == ':' || c == ',' {
			return false
		}
	}
	return s != ""
}
