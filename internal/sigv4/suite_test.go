package sigv4_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/sigv4"
)

// vector is one test of the published suite in one form; scripts/sigv4-vectors writes them.
type vector struct {
	Name, Form             string
	Complete, Normalize    bool
	TokenAddedAfterSigning bool `json:"token_added_after_signing"`
	Time, Region, Service  string
	AccessKeyID            string `json:"access_key_id"`
	Secret, Token          string
	Request                struct {
		Method, Path, Query, Host, Body string
		Headers                         [][2]string
	}
	CanonicalRequest string `json:"canonical_request"`
	StringToSign     string `json:"string_to_sign"`
	Signature        string
}

func (v *vector) request() *sigv4.Request {
	r := &sigv4.Request{
		Method: v.Request.Method, Path: v.Request.Path, RawQuery: v.Request.Query, Host: v.Request.Host,
		Body: []byte(v.Request.Body),
	}
	for _, h := range v.Request.Headers {
		r.Header = append(r.Header, sigv4.Field{Name: h[0], Value: h[1]})
	}
	if !v.Normalize {
		sigv4.KeepPath(r)
	}
	return r
}

// withoutToken undoes what a client did to the request after it had signed it.
func withoutToken(r *sigv4.Request) *sigv4.Request {
	c := *r
	c.Header = nil
	for _, f := range r.Header {
		if !strings.EqualFold(f.Name, "X-Amz-Security-Token") {
			c.Header = append(c.Header, f)
		}
	}
	var parts []string
	for _, p := range strings.Split(r.RawQuery, "&") {
		if !strings.HasPrefix(p, "X-Amz-Security-Token=") {
			parts = append(parts, p)
		}
	}
	c.RawQuery = strings.Join(parts, "&")
	return &c
}

func loadSuite(t testing.TB) []vector {
	t.Helper()
	data, err := os.ReadFile("testdata/aws-suite.json")
	if err != nil {
		t.Fatal(err)
	}
	var suite struct {
		Source string
		Cases  []vector
	}
	if err := json.Unmarshal(data, &suite); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d vectors", suite.Source, len(suite.Cases))
	return suite.Cases
}

// The suite has 38 complete tests in two forms each, and two tests in header form that stop at the canonical request.
const (
	completeVectors  = 2 * 38
	canonicalVectors = 2
)

func TestPublishedSuite(t *testing.T) {
	var complete, canonical int
	for _, v := range loadSuite(t) {
		ok := t.Run(v.Name+"/"+v.Form, func(t *testing.T) {
			if !v.Complete {
				checkCanonicalOnly(t, &v)
				return
			}
			req := v.request()
			if v.TokenAddedAfterSigning {
				if err := verify(t, &v, req); err == nil {
					t.Error("a token that nobody signed was accepted")
				}
				req = withoutToken(req)
			}
			auth, err := sigv4.Parse(req)
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := sigv4.CanonicalRequest(req, &auth); got != v.CanonicalRequest {
				t.Errorf("canonical request:\n%s\nwant:\n%s", got, v.CanonicalRequest)
			}
			if got := sigv4.StringToSign(req, &auth); got != v.StringToSign {
				t.Errorf("string to sign:\n%s\nwant:\n%s", got, v.StringToSign)
			}
			if auth.Signature() != v.Signature {
				t.Errorf("signature read: %s, want %s", auth.Signature(), v.Signature)
			}
			if err := verify(t, &v, req); err != nil {
				t.Error(err)
			}
		})
		switch {
		case ok && v.Complete:
			complete++
		case ok:
			canonical++
		}
	}
	t.Logf("%d complete and %d canonical-only vectors hold", complete, canonical)
	if complete != completeVectors || canonical != canonicalVectors {
		t.Errorf("want %d and %d", completeVectors, canonicalVectors)
	}
}

// checkCanonicalOnly compares method and path, which are all that such a vector is about: its dates contradict each other.
func checkCanonicalOnly(t *testing.T, v *vector) {
	req := v.request()
	auth, err := sigv4.Parse(req)
	if err != nil {
		t.Fatal(err)
	}
	got, ok := sigv4.CanonicalRequest(req, &auth)
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(v.CanonicalRequest, "\n")
	if !ok || strings.Join(gotLines[:3], "\n") != strings.Join(wantLines[:3], "\n") {
		t.Errorf("canonical request:\n%s\nwant:\n%s", got, v.CanonicalRequest)
	}
	if v.StringToSign != "" && sigv4.StringToSign(req, &auth) != v.StringToSign {
		t.Errorf("string to sign: %s, want %s", sigv4.StringToSign(req, &auth), v.StringToSign)
	}
}

// verify takes all steps with the clock at the time of signing.
func verify(t *testing.T, v *vector, req *sigv4.Request) error {
	t.Helper()
	now, errTime := time.Parse(time.RFC3339, v.Time)
	if errTime != nil {
		t.Fatal(errTime)
	}
	return verifyAt(req, v.Service, now, secret.FromString(v.Secret))
}

// verifyAt parses, checks and verifies a request, and returns a plain error so that nil is nil.
func verifyAt(req *sigv4.Request, service string, now time.Time, s secret.Bytes) error {
	auth, err := sigv4.Parse(req)
	if err == nil {
		err = auth.Check(service, now)
	}
	if err == nil {
		err = auth.Verify(req, sigv4.Derive(s, auth.Scope))
	}
	if err != nil {
		return err
	}
	return nil
}
