package sigv4

import (
	"encoding/hex"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/secret"
)

// Credential is what a client signs with.
type Credential struct {
	AccessKeyID string
	Secret      secret.Bytes
	Token       string // session token; "" for long-term credentials
}

// unsignable are headers that programs between client and server may change or add.
var unsignable = []string{
	"authorization", "connection", "expect", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding",
	"upgrade", "user-agent", "x-amzn-trace-id",
}

// Sign returns the header lines that sign req at time t: X-Amz-Date, X-Amz-Security-Token if the credential has a token,
// and Authorization. It signs every header of req that survives the way to the server; req must not already have any of
// the returned ones.
func Sign(req *Request, c Credential, region, service string, t time.Time) []Field {
	stamp := t.UTC().Format(TimeFormat)
	extra := []Field{{"X-Amz-Date", stamp}}
	if c.Token != "" {
		extra = append(extra, Field{"X-Amz-Security-Token", c.Token})
	}
	r := *req
	r.Header = append(slices.Clone(req.Header), extra...)
	sc := Scope{stamp[:len(dayFormat)], region, service}
	names := signedNames(r.Header)
	signature := signature(&r, names, stamp, sc, c, false)
	return append(extra, Field{"Authorization", Algorithm + " Credential=" + c.AccessKeyID + "/" + sc.text() +
		", SignedHeaders=" + names + ", Signature=" + signature})
}

// Presign returns the raw query that makes req a presigned request, valid for the time given from t on: 1 second to
// MaxExpires. The headers of req have to be sent as they are.
func Presign(req *Request, c Credential, region, service string, t time.Time, expires time.Duration) string {
	stamp := t.UTC().Format(TimeFormat)
	sc := Scope{stamp[:len(dayFormat)], region, service}
	names := signedNames(req.Header)
	q := req.RawQuery
	add := func(name, value string) {
		if q != "" {
			q += "&"
		}
		q += name + "=" + url.QueryEscape(value)
	}
	add(queryAlgorithm, Algorithm)
	add(queryCredential, c.AccessKeyID+"/"+sc.text())
	add(queryDate, stamp)
	add(queryExpires, strconv.Itoa(int(expires/time.Second)))
	if c.Token != "" {
		add(querySecurityToken, c.Token)
	}
	add(querySignedHeaders, names)
	r := *req
	r.RawQuery = q
	add(querySignature, signature(&r, names, stamp, sc, c, true))
	return q
}

func (sc Scope) text() string {
	return sc.Date + "/" + sc.Region + "/" + sc.Service + "/" + Terminator
}

// signedNames lists the headers to sign, host always among them.
func signedNames(header []Field) string {
	names := []string{"host"}
	for _, f := range header {
		name := strings.ToLower(f.Name)
		if !slices.Contains(unsignable, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ";")
}

func signature(req *Request, names, stamp string, sc Scope, c Credential, presigned bool) string {
	s := scratches.Get().(*scratch)
	defer s.release()
	s.canonicalRequest(req, names, presigned) // what it refuses, the server will refuse as well
	s.stringToSign(stamp, sc)
	return hex.EncodeToString(Derive(c.Secret, sc).sum(nil, s.buf))
}
