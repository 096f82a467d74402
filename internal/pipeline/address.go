package pipeline

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/keywright/keywright/internal/sigv4"
	"github.com/keywright/keywright/internal/wire"
)

// address is the service and operation that a request is for, as far as that can be told from the outside.
type address struct {
	service *service
	name    string      // the operation as the client wrote it, cut to maxName; "" if there is none
	form    *wire.Form  // a Query request's parameters
	refusal *wire.Error // why no operation can be found; answered after authentication
	nowhere bool        // the request names no operation at all
}

// maxName bounds what a client can make the record repeat as the operation's name.
const maxName = 128

const targetHeader = "x-amz-target"

// locate reads the address of a request. In JSON services it is the X-Amz-Target header, which presigned requests may
// have in their query; in Query services the parameter Action, in the body or in the query.
func (p *Pipeline) locate(req *Request) address {
	target, n := sigv4.First(req.Header, targetHeader)
	if n == 0 && req.RawQuery != "" {
		target, n = queryValue(req.RawQuery, targetHeader)
	}
	if n > 0 {
		return p.locateTarget(req, target, n)
	}
	if text, ok := formOf(req); ok {
		return p.locateForm(text)
	}
	return address{service: p.services[0], nowhere: true, refusal: wire.Bare(wire.CodeUnknownOperation)}
}

// locateTarget reads <prefix>.<Operation>.
func (p *Pipeline) locateTarget(req *Request, target string, n int) address {
	a := address{service: p.services[0]}
	prefix, name, ok := wire.ParseTarget(target)
	if ok {
		a.name = name[:min(len(name), maxName)]
	}
	found := false
	for _, s := range p.services {
		if ok && s.Protocol == wire.JSON11 && s.TargetPrefix == prefix {
			a.service, found = s, true
			break
		}
	}
	if !found || n > 1 || req.Method != http.MethodPost || req.Path != "/" && req.Path != "" {
		a.refusal = wire.Bare(wire.CodeUnknownOperation)
	}
	return a
}

// formOf returns the form of a Query request.
func formOf(req *Request) (text string, ok bool) {
	if req.Method == http.MethodGet || len(req.Body) == 0 && !req.Oversized { // an oversized body is not here
		_, n := queryValue(req.RawQuery, "action")
		return req.RawQuery, n > 0
	}
	if kind, _ := sigv4.First(req.Header, "content-type"); req.Method != http.MethodPost ||
		!strings.HasPrefix(strings.ToLower(kind), "application/x-www-form-urlencoded") {
		return "", false
	}
	return string(req.Body), true
}

// locateForm reads Action and Version. A form that cannot be read, or names no version, is taken for one of the first
// Query service, and refused once its signer is known.
func (p *Pipeline) locateForm(text string) address {
	var a address
	for _, s := range p.services {
		if s.Protocol == wire.Query {
			a.service = s
			break
		}
	}
	if a.service == nil {
		return address{service: p.services[0], nowhere: true, refusal: wire.Bare(wire.CodeUnknownOperation)}
	}
	form, failure := wire.ParseForm(text)
	if failure != nil {
		a.refusal = failure
		return a
	}
	a.form, a.name = form, form.Action()[:min(len(form.Action()), maxName)]
	for _, s := range p.services {
		if s.Protocol == wire.Query && s.APIVersion == form.Version() {
			a.service = s
			return a
		}
	}
	a.refusal = wire.Errorf(wire.CodeUnknownOperation, "Could not find operation %s for version %s", a.name,
		form.Version()[:min(len(form.Version()), maxName)])
	return a
}

// queryValue returns the first value of a parameter, whose lower-case name is given, and how many there are.
func queryValue(raw, name string) (value string, n int) {
	for raw != "" {
		var part string
		part, raw, _ = strings.Cut(raw, "&")
		k, v, _ := strings.Cut(part, "=")
		if !sigv4.EqualFold(name, k) {
			continue
		}
		if n == 0 {
			value, _ = url.QueryUnescape(v) // a bad escape leaves "", which addresses nothing
		}
		n++
	}
	return value, n
}
