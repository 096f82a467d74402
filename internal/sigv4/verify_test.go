package sigv4_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/sigv4"
)

var (
	now        = time.Date(2026, 11, 23, 4, 0, 30, 0, time.UTC)
	credential = sigv4.Credential{AccessKeyID: "AKIAEXAMPLE", Secret: secret.FromString("a secret access key")}
)

func kmsRequest() *sigv4.Request {
	return &sigv4.Request{Method: "POST", Path: "/", Host: "127.0.0.1:4599", Body: []byte(`{"KeyId":"alias/a"}`), Header: []sigv4.Field{
		{Name: "Content-Type", Value: "application/x-amz-json-1.1"},
		{Name: "X-Amz-Target", Value: "TrentService.DescribeKey"},
		{Name: "User-Agent", Value: "test"},
		{Name: "Accept-Encoding", Value: "identity"},
	}}
}

// signed returns kmsRequest signed for KMS at the time.
func signed(at time.Time) *sigv4.Request {
	r := kmsRequest()
	r.Header = append(r.Header, sigv4.Sign(r, credential, "eu-west-1", "kms", at)...)
	return r
}

// presigned returns kmsRequest presigned at the time.
func presigned(at time.Time, life time.Duration) *sigv4.Request {
	r := kmsRequest()
	r.RawQuery = sigv4.Presign(r, credential, "eu-west-1", "kms", at, life)
	return r
}

func setHeader(r *sigv4.Request, name string, change func(string) string) {
	i := slices.IndexFunc(r.Header, func(f sigv4.Field) bool { return f.Name == name })
	r.Header[i].Value = change(r.Header[i].Value)
}

func dropHeader(r *sigv4.Request, name string) {
	r.Header = slices.DeleteFunc(r.Header, func(f sigv4.Field) bool { return f.Name == name })
}

func replace(old, new string) func(string) string {
	return func(s string) string {
		if !strings.Contains(s, old) {
			panic(old + " is not in " + s)
		}
		return strings.Replace(s, old, new, 1)
	}
}

const mismatch = "InvalidSignatureException: The request signature we calculated does not match the signature you provided. " +
	"Check your AWS Secret Access Key and signing method. Consult the service documentation for details."

// hashTail ends every message about an incomplete header.
const hashTail = " (Hashed with SHA-256 and encoded with Base64) Authorization="

func TestHeaderForm(t *testing.T) {
	const incomplete = "IncompleteSignatureException: "
	const invalid = "InvalidSignatureException: "
	auth := func(change func(string) string) func(*sigv4.Request) {
		return func(r *sigv4.Request) { setHeader(r, "Authorization", change) }
	}
	add := func(name, value string) func(*sigv4.Request) {
		return func(r *sigv4.Request) { r.Header = append(r.Header, sigv4.Field{Name: name, Value: value}) }
	}
	tests := []struct {
		name   string
		change func(*sigv4.Request)
		want   string // the start of the error; "" for accepted
	}{
		{"as signed", func(*sigv4.Request) {}, ""},
		{"lower-case header names", func(r *sigv4.Request) {
			for i := range r.Header {
				r.Header[i].Name = strings.ToLower(r.Header[i].Name)
			}
		}, ""},
		{"no blanks after commas", auth(func(s string) string { return strings.ReplaceAll(s, ", ", ",") }), ""},
		{"other user agent", func(r *sigv4.Request) { setHeader(r, "User-Agent", replace("test", "x")) }, ""},
		{"trace header of a proxy", add("X-Amzn-Trace-Id", "Root=1"), ""},
		{"blanks around a value", func(r *sigv4.Request) { setHeader(r, "X-Amz-Target", func(s string) string { return " \t" + s + " " }) }, ""},
		{"nothing", func(r *sigv4.Request) { dropHeader(r, "Authorization") }, "MissingAuthenticationTokenException: Missing Authentication Token"},
		{"basic", auth(func(string) string { return "Basic dGVzdDp0ZXN0" }), "MissingAuthenticationTokenException: Missing Authentication Token"},
		{"asymmetric", auth(replace("HMAC", "ECDSA-P256")), incomplete + "Unsupported AWS 'algorithm': 'AWS4-ECDSA-P256-SHA256'."},
		{
			"algorithm only", auth(func(string) string { return sigv4.Algorithm }),
			incomplete + "Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' parameter. " +
				"Authorization header requires 'SignedHeaders' parameter." + hashTail,
		},
		{"no credential", auth(replace("Credential", "Cred")), incomplete + "Authorization header requires 'Credential' parameter." + hashTail},
		{"no signature", auth(replace(", Signature", ", Sig")), incomplete + "Authorization header requires 'Signature' parameter." + hashTail},
		{"no signed headers", auth(replace("SignedHeaders", "Signed")), incomplete + "Authorization header requires 'SignedHeaders' parameter." + hashTail},
		{
			"no date", func(r *sigv4.Request) { dropHeader(r, "X-Amz-Date") },
			incomplete + "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header." + hashTail,
		},
		{"two credentials", auth(func(s string) string { return s + ", Credential=x" }), incomplete + "Authorization header requires exactly one 'Credential' parameter."},
		{"two headers", add("authorization", sigv4.Algorithm), incomplete + "The request has more than one Authorization header."},
		{"two dates", add("x-amz-date", "20261123T040030Z"), incomplete + "The request repeats its date"},
		{
			"bad date", func(r *sigv4.Request) { setHeader(r, "X-Amz-Date", func(string) string { return "yesterday" }) },
			incomplete + "Date must be in ISO-8601 'basic format'. Got 'yesterday'. See http://en.wikipedia.org/wiki/ISO_8601",
		},
		{
			"impossible date", func(r *sigv4.Request) { setHeader(r, "X-Amz-Date", func(string) string { return "20260231T000000Z" }) },
			incomplete + "Date must be in ISO-8601 'basic format'.",
		},
		{"four elements", auth(replace("/aws4_request", "")), incomplete + "Credential must have exactly 5 slash-delimited elements, e.g. " +
			"keyid/date/region/service/term, got 'AKIAEXAMPLE/20261123/eu-west-1/kms'"},
		{"six elements", auth(replace("/kms/", "/kms/x/")), incomplete + "Credential must have exactly 5"},
		{"empty key id", auth(replace("AKIAEXAMPLE", "")), incomplete + "Credential must have exactly 5"},
		{"no Region", auth(replace("eu-west-1", "")), invalid + "Credential should be scoped to a valid region. "},
		{"other Region", auth(replace("eu-west-1", "eu-west-2")), mismatch},
		{"other service", auth(replace("/kms/", "/sts/")), invalid + "Credential should be scoped to correct service: 'kms'. "},
		{
			"other terminator", auth(replace("aws4_request", "aws5")),
			invalid + "Credential should be scoped with a valid terminator: 'aws4_request', not 'aws5'.",
		},
		{"other day", auth(replace("/20261123/", "/20261122/")), invalid + "Date in Credential scope does not match YYYYMMDD " +
			"from ISO-8601 version of date from HTTP: '20261122' != '20261123', from '20261123T040030Z'."},
		{
			"all of the scope", auth(replace("20261123/eu-west-1/kms/aws4_request", "1/-/s/t")),
			invalid + "Credential should be scoped to a valid region. Credential should be scoped to correct service: 'kms'. " +
				"Credential should be scoped with a valid terminator: 'aws4_request', not 't'. Date in Credential scope",
		},
		{"host not signed", auth(replace("host;", "")), invalid + "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."},
		{"date not signed", auth(replace("x-amz-date;", "")), invalid + "'x-amz-date' must be a 'SignedHeader'"},
		{"target not signed", auth(replace(";x-amz-target", "")), invalid + "'x-amz-target' must be a 'SignedHeader'"},
		{"header added", add("X-Amz-Foo", "1"), invalid + "'x-amz-foo' must be a 'SignedHeader'"},
		{"token added", add("X-Amz-Security-Token", "t"), invalid + "'x-amz-security-token' must be a 'SignedHeader'"},
		{"unordered list", auth(replace("x-amz-date;x-amz-target", "x-amz-target;x-amz-date")), mismatch},
		{"repeated name", auth(replace("host;", "host;host;")), mismatch},
		{"upper-case name", auth(replace("host;", "Host;")), mismatch},
		{"empty name", auth(replace("host;", "host;;")), mismatch},
		{"signed header missing", func(r *sigv4.Request) { dropHeader(r, "Content-Type") }, mismatch},
		{"signed header repeated", add("content-type", "text/plain"), mismatch},
		{"target changed", func(r *sigv4.Request) { setHeader(r, "X-Amz-Target", replace("DescribeKey", "Decrypt")) }, mismatch},
		{"target repeated", add("x-amz-target", "TrentService.Decrypt"), mismatch},
		{"time changed", func(r *sigv4.Request) { setHeader(r, "X-Amz-Date", replace("30Z", "31Z")) }, mismatch},
		{"body changed", func(r *sigv4.Request) { r.Body[3] ^= 1 }, mismatch},
		{"method changed", func(r *sigv4.Request) { r.Method = "GET" }, mismatch},
		{"path changed", func(r *sigv4.Request) { r.Path = "/x" }, mismatch},
		{"query added", func(r *sigv4.Request) { r.RawQuery = "a=b" }, mismatch},
		{"broken escape", func(r *sigv4.Request) { r.RawQuery = "a=%zz" }, mismatch},
		{"host changed", func(r *sigv4.Request) { r.Host = "127.0.0.2:4599" }, mismatch},
		{"short signature", auth(func(s string) string { return s[:len(s)-1] }), mismatch},
		{"long signature", auth(func(s string) string { return s + "0" }), mismatch},
		{"upper-case signature", auth(func(s string) string {
			i := strings.Index(s, "Signature=") + len("Signature=")
			return s[:i] + strings.ToUpper(s[i:])
		}), mismatch},
		{
			"both forms", func(r *sigv4.Request) { r.RawQuery = "X-Amz-Signature=x" },
			incomplete + "Only one of the Authorization header and the query string may carry a signature.",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := signed(now)
			tt.change(r)
			checkError(t, verifyAt(r, "kms", now, credential.Secret), tt.want)
		})
	}
	checkError(t, verifyAt(signed(now), "kms", now, secret.FromString("another")), mismatch)
}

func checkError(t *testing.T, err error, want string) {
	t.Helper()
	got := ""
	if err != nil {
		got = err.Error()
	}
	if want == "" && got != "" || !strings.HasPrefix(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// The content hash is optional, but what it says has to be true, even when it is signed.
func TestContentHash(t *testing.T) {
	const ofNothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" // FIPS 180-4 examples
	for _, hash := range []string{"UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "", ofNothing} {
		r := kmsRequest()
		r.Header = append(r.Header, sigv4.Field{Name: "X-Amz-Content-Sha256", Value: hash})
		r.Header = append(r.Header, sigv4.Sign(r, credential, "eu-west-1", "kms", now)...)
		checkError(t, verifyAt(r, "kms", now, credential.Secret), mismatch)
	}
	r := kmsRequest()
	r.Body = nil
	r.Header = append(r.Header, sigv4.Field{Name: "X-Amz-Content-Sha256", Value: ofNothing})
	r.Header = append(r.Header, sigv4.Sign(r, credential, "eu-west-1", "kms", now)...)
	checkError(t, verifyAt(r, "kms", now, credential.Secret), "")
}

func TestWindow(t *testing.T) {
	tests := []struct {
		name string
		req  *sigv4.Request
		want string
	}{
		{"5 min old", signed(now.Add(-5 * time.Minute)), ""},
		{"5 min ahead", signed(now.Add(5 * time.Minute)), ""},
		{
			"older", signed(now.Add(-301 * time.Second)),
			"InvalidSignatureException: Signature expired: 20261123T035529Z is now earlier than 20261123T035530Z (20261123T040030Z - 5 min.)",
		},
		{
			"further ahead", signed(now.Add(301 * time.Second)),
			"InvalidSignatureException: Signature not yet current: 20261123T040531Z is still later than 20261123T040530Z (20261123T040030Z + 5 min.)",
		},
		{"presigned, last second", presigned(now.Add(-time.Hour), time.Hour), ""},
		{
			"presigned, over", presigned(now.Add(-3601*time.Second), time.Hour),
			"InvalidSignatureException: Signature expired: 20261123T030029Z is now earlier than 20261123T030030Z (20261123T040030Z - 60 min.)",
		},
		{
			"presigned, short and over", presigned(now.Add(-2*time.Second), time.Second),
			"InvalidSignatureException: Signature expired: 20261123T040028Z is now earlier than 20261123T040029Z (20261123T040030Z - 1 sec.)",
		},
		{"presigned, too early", presigned(now.Add(6*time.Minute), time.Hour), "InvalidSignatureException: Signature not yet current: "},
		{"presigned, longest", presigned(now.Add(-sigv4.MaxExpires), sigv4.MaxExpires), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { checkError(t, verifyAt(tt.req, "kms", now, credential.Secret), tt.want) })
	}
}

func TestQueryForm(t *testing.T) {
	query := func(old, new string) func(*sigv4.Request) {
		return func(r *sigv4.Request) { r.RawQuery = replace(old, new)(r.RawQuery) }
	}
	const incomplete = "IncompleteSignatureException: "
	tests := []struct {
		name   string
		change func(*sigv4.Request)
		want   string
	}{
		{"as signed", func(*sigv4.Request) {}, ""},
		{"other order", func(r *sigv4.Request) {
			p := strings.Split(r.RawQuery, "&")
			slices.Reverse(p)
			r.RawQuery = strings.Join(p, "&")
		}, ""},
		{"escapes in lower case", query("%2F", "%2f"), ""},
		{"empty parameters", func(r *sigv4.Request) { r.RawQuery = "&&" + r.RawQuery + "&" }, ""},
		{"parameter added", func(r *sigv4.Request) { r.RawQuery += "&a=b" }, mismatch},
		{"life changed", query("Expires=60", "Expires=61"), mismatch},
		{"target changed", func(r *sigv4.Request) { setHeader(r, "X-Amz-Target", replace("DescribeKey", "Decrypt")) }, mismatch},
		{"body changed", func(r *sigv4.Request) { r.Body = nil }, mismatch},
		{"life of nothing", query("Expires=60", "Expires=0"), incomplete + "X-Amz-Expires must be a number of seconds from 1 to 604800."},
		{"life too long", query("Expires=60", "Expires=604801"), incomplete + "X-Amz-Expires"},
		{"life below nothing", query("Expires=60", "Expires=-1"), incomplete + "X-Amz-Expires"},
		{"no life", query("X-Amz-Expires=60&", ""), incomplete + "AWS query-string parameters must include: 'X-Amz-Expires'. Re-examine the query-string parameters."},
		{
			"only a signature", func(r *sigv4.Request) { r.RawQuery = "X%2DAmz-Signature=x" },
			incomplete + "AWS query-string parameters must include: 'X-Amz-Algorithm'. AWS query-string parameters must include: 'X-Amz-Credential'.",
		},
		{"parameter twice", func(r *sigv4.Request) { r.RawQuery += "&X-Amz-Date=20261123T040030Z" }, incomplete + "AWS query-string parameter 'X-Amz-Date' must appear once"},
		{"other algorithm", query("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"), incomplete + "Unsupported AWS 'algorithm': 'AWS4-HMAC-SHA1'."},
		{"bad date", query("X-Amz-Date=2026", "X-Amz-Date=x026"), incomplete + "Date must be in ISO-8601 'basic format'."},
		{"host not signed", query("host%3B", ""), "InvalidSignatureException: 'Host' or ':authority' must be"},
		{"target not signed", query("%3Bx-amz-target", ""), "InvalidSignatureException: 'x-amz-target' must be"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := presigned(now, time.Minute)
			tt.change(r)
			checkError(t, verifyAt(r, "kms", now, credential.Secret), tt.want)
		})
	}
}

// A presigning client may put X-Amz-Target into the signed query; the header then has to say the same.
func TestHeaderInQuery(t *testing.T) {
	for query, want := range map[string]string{
		"X-Amz-Target=TrentService.DescribeKey":                                   "",
		"x-amz-target=TrentService%2EDescribeKey":                                 "",
		"X-Amz-Target=TrentService.Decrypt":                                       "InvalidSignatureException: 'x-amz-target' must be",
		"X-Amz-Target=TrentService.DescribeKey&X-Amz-Target=TrentService.Decrypt": "InvalidSignatureException: 'x-amz-target' must be",
		"X-Amz-Target=%zz": "InvalidSignatureException: 'x-amz-target' must be",
	} {
		r := kmsRequest()
		unsigned := *r
		unsigned.Header = nil
		unsigned.RawQuery = query
		r.RawQuery = sigv4.Presign(&unsigned, credential, "eu-west-1", "kms", now, time.Minute)
		checkError(t, verifyAt(r, "kms", now, credential.Secret), want)
	}
}

// A token travels in either form, and is signed in both.
func TestSessionToken(t *testing.T) {
	c := credential
	c.Token = "to/ken+=="
	r := kmsRequest()
	r.Header = append(r.Header, sigv4.Sign(r, c, "eu-west-1", "kms", now)...)
	checkToken := func(r *sigv4.Request) {
		t.Helper()
		auth, err := sigv4.Parse(r)
		if err != nil || auth.Token != c.Token {
			t.Errorf("token %q, error %v", auth.Token, err)
		}
		checkError(t, verifyAt(r, "kms", now, c.Secret), "")
	}
	checkToken(r)
	setHeader(r, "X-Amz-Security-Token", replace("to", "tx"))
	checkError(t, verifyAt(r, "kms", now, c.Secret), mismatch)

	r = kmsRequest()
	r.RawQuery = sigv4.Presign(r, c, "eu-west-1", "kms", now, time.Minute)
	checkToken(r)
	r.RawQuery = replace("to%2Fken", "tx%2Fken")(r.RawQuery)
	checkError(t, verifyAt(r, "kms", now, c.Secret), mismatch)
}

// A Date header stands in for X-Amz-Date, in both of its forms.
func TestDateHeader(t *testing.T) {
	for _, value := range []string{"20261123T040030Z", "Mon, 23 Nov 2026 04:00:30 GMT"} {
		r := kmsRequest()
		r.Header = append(r.Header, sigv4.Field{Name: "Date", Value: value})
		claim := func(names, signature string) sigv4.Auth {
			dropHeader(r, "Authorization")
			r.Header = append(r.Header, sigv4.Field{Name: "Authorization", Value: sigv4.Algorithm +
				" Credential=AKIAEXAMPLE/20261123/eu-west-1/kms/aws4_request, SignedHeaders=" + names + ", Signature=" + signature})
			auth, err := sigv4.Parse(r)
			if err != nil || !auth.Time.Equal(now) {
				t.Errorf("%s: time %v, error %v", value, auth.Time, err)
			}
			return auth
		}
		sign := func(names string) { // Sign itself always sends X-Amz-Date
			auth := claim(names, "x")
			k := []byte("AWS4" + string(credential.Secret.Expose()))
			for _, part := range []string{"20261123", "eu-west-1", "kms", "aws4_request", sigv4.StringToSign(r, &auth)} {
				h := hmac.New(sha256.New, k)
				h.Write([]byte(part))
				k = h.Sum(nil)
			}
			claim(names, hex.EncodeToString(k))
		}
		sign("date;host;x-amz-target")
		checkError(t, verifyAt(r, "kms", now, credential.Secret), "")
		sign("host;x-amz-target")
		checkError(t, verifyAt(r, "kms", now, credential.Secret), "InvalidSignatureException: 'date' must be a 'SignedHeader'")
	}
}

// Verify does not replace Check: a claim whose time nobody has looked at proves nothing.
func TestVerifyWithoutCheck(t *testing.T) {
	var zero sigv4.Auth
	if err := zero.Check("kms", now); err == nil {
		t.Error("the zero Auth passes")
	}
	r := signed(now)
	auth, err := sigv4.Parse(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := auth.Verify(r, sigv4.Derive(credential.Secret, auth.Scope)); err == nil {
		t.Error("accepted")
	}
	if err := auth.Check("kms", now); err != nil {
		t.Fatal(err)
	}
	if err := auth.Verify(r, nil); err == nil {
		t.Error("accepted without a key")
	}
	if err := auth.Verify(r, sigv4.Derive(credential.Secret, auth.Scope)); err != nil {
		t.Error(err)
	}
}

func TestAppendFields(t *testing.T) {
	h := http.Header{"A": {"1", "2"}, "B": {"3"}}
	got := sigv4.AppendFields(nil, h)
	slices.SortStableFunc(got, func(x, y sigv4.Field) int { return strings.Compare(x.Name, y.Name) })
	if want := []sigv4.Field{{Name: "A", Value: "1"}, {Name: "A", Value: "2"}, {Name: "B", Value: "3"}}; !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestFirst(t *testing.T) {
	header := []sigv4.Field{{Name: "X-Amz-Target", Value: " a b\t"}, {Name: "x-amz-targeT", Value: "second"}, {Name: "x-amz-\u212aey", Value: "Kelvin"}}
	for name, want := range map[string]struct {
		value string
		n     int
	}{"x-amz-target": {"a b", 2}, "x-amz-key": {"", 0}, "x-amz-targe": {"", 0}, "": {"", 0}} {
		if value, n := sigv4.First(header, name); value != want.value || n != want.n {
			t.Errorf("%q: %q, %d lines", name, value, n)
		}
	}
	for s, want := range map[string]bool{"kms": true, "KMS": true, "kMs": true, "\u212ams": false, "km": false, "kmss": false, "": false} {
		if sigv4.EqualFold("kms", s) != want {
			t.Errorf("%q", s)
		}
	}
}

// keyOf returns the signing key as a server does: the remembered one, or a new one, which is remembered.
func keyOf(keys *sigv4.SigningKeys, accessKeyID string, s secret.Bytes, sc sigv4.Scope) *sigv4.SigningKey {
	key, found := keys.Get(accessKeyID, s, sc)
	if !found {
		key = sigv4.Derive(s, sc)
		keys.Put(accessKeyID, s, sc, key)
	}
	return key
}

func TestSigningKeys(t *testing.T) {
	keys := sigv4.NewSigningKeys(8)
	sc := sigv4.Scope{Date: "20261123", Region: "eu-west-1", Service: "kms"}
	old, fresh := secret.FromString("old"), secret.FromString("new")
	if _, found := keys.Get("AKIA1", old, sc); found || keys.Len() != 0 {
		t.Error("a look-up fills the cache")
	}
	k := keyOf(keys, "AKIA1", old, sc)
	if got, found := keys.Get("AKIA1", secret.FromString("old"), sc); !found || got != k {
		t.Error("a key was not remembered")
	}
	if _, found := keys.Get("AKIA1", fresh, sc); found {
		t.Error("the key of a replaced secret is still found")
	}
	replaced := keyOf(keys, "AKIA1", fresh, sc)
	if got, found := keys.Get("AKIA1", fresh, sc); !found || got != replaced || keys.Len() != 1 {
		t.Error("the key of the new secret did not take the place of the old one")
	}
	if _, found := keys.Get("AKIA1", old, sc); found {
		t.Error("the key of a replaced secret is found again")
	}
	wiped := secret.Copy(credential.Secret.Expose())
	keyOf(keys, "AKIAWIPED", wiped, sc)
	wiped.Wipe()
	if _, found := keys.Get("AKIAWIPED", wiped, sc); found {
		t.Error("a key survives the wiping of its secret")
	}
	r := signed(now)
	auth, _ := sigv4.Parse(r)
	if err := auth.Check("kms", now); err != nil {
		t.Fatal(err)
	}
	for range 2 { // derived, then remembered
		if err := auth.Verify(r, keyOf(keys, "AKIAEXAMPLE", credential.Secret, auth.Scope)); err != nil {
			t.Error(err)
		}
	}
}

// A full cache loses one key for each new one, whatever date a scope names.
func TestSigningKeysAreBounded(t *testing.T) {
	keys := sigv4.NewSigningKeys(8)
	s := secret.FromString("secret")
	for i := range 100 {
		sc := sigv4.Scope{Date: fmt.Sprintf("202611%02d", i%28+1), Region: "eu-west-1", Service: "kms"}
		id := fmt.Sprint("AKIA", i)
		keyOf(keys, id, s, sc)
		if _, found := keys.Get(id, s, sc); !found || keys.Len() != min(i+1, 8) {
			t.Fatalf("after %d keys: %d remembered, the last one among them: %v", i+1, keys.Len(), found)
		}
	}
}

// Many goroutines share keys and working memory; run with the race detector this proves that they may.
func TestConcurrentUse(t *testing.T) {
	keys := sigv4.NewSigningKeys(3)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 50 {
				c := sigv4.Credential{AccessKeyID: fmt.Sprint(i % 5), Secret: secret.FromString(fmt.Sprint(g % 2))}
				r := kmsRequest()
				r.Header = append(r.Header, sigv4.Sign(r, c, "eu-west-1", "kms", now)...)
				auth, _ := sigv4.Parse(r)
				if err := auth.Check("kms", now); err != nil {
					t.Error(err)
				}
				if err := auth.Verify(r, keyOf(keys, c.AccessKeyID, c.Secret, auth.Scope)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// FuzzVerify feeds hostile requests to Parse, Check and Verify: nothing may panic, and nothing may verify, because nobody
// signed with the key.
func FuzzVerify(f *testing.F) {
	add := func(r *sigv4.Request) {
		var authorization, date, extra string
		for _, h := range r.Header {
			switch h.Name {
			case "Authorization":
				authorization = h.Value
			case "X-Amz-Date":
				date = h.Value
			default:
				extra = h.Value
			}
		}
		f.Add(r.Method, r.Path, r.RawQuery, r.Host, authorization, date, extra, r.Body)
	}
	add(signed(now))
	add(presigned(now, time.Minute))
	f.Add("POST", "/a/../b//%2e/", "a=%zz&+&=&X%2DAmz-Date=", "", "AWS4-HMAC-SHA256 Credential=/////", "20261123T040030Z", "", []byte{})
	unknown := sigv4.NewSigningKeys(4)
	f.Fuzz(func(t *testing.T, method, path, query, host, authorization, date, extra string, body []byte) {
		r := &sigv4.Request{Method: method, Path: path, RawQuery: query, Host: host, Body: body, Header: []sigv4.Field{
			{Name: "X-Amz-Target", Value: extra}, {Name: "Content-Type", Value: extra},
		}}
		if authorization != "" {
			r.Header = append(r.Header, sigv4.Field{Name: "Authorization", Value: authorization})
		}
		if date != "" {
			r.Header = append(r.Header, sigv4.Field{Name: "X-Amz-Date", Value: date})
		}
		auth, err := sigv4.Parse(r)
		if err != nil {
			return
		}
		if err := auth.Check("kms", auth.Time); err != nil {
			return
		}
		if err := auth.Verify(r, keyOf(unknown, auth.AccessKeyID, secret.FromString("nobody's"), auth.Scope)); err == nil {
			t.Fatalf("verified: %+v", r)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	r := signed(now)
	header := make(http.Header)
	for _, f := range r.Header {
		header.Set(f.Name, f.Value)
	}
	r.Body = make([]byte, 150)
	dropHeader(r, "Authorization")
	dropHeader(r, "X-Amz-Date")
	fields := sigv4.Sign(r, credential, "eu-west-1", "kms", now)
	for _, f := range fields {
		header.Set(f.Name, f.Value)
	}
	keys := sigv4.NewSigningKeys(16)
	var buf [32]sigv4.Field
	b.ReportAllocs()
	for b.Loop() {
		r.Header = sigv4.AppendFields(buf[:0], header)
		auth, err := sigv4.Parse(r)
		if err == nil {
			err = auth.Check("kms", now)
		}
		if err == nil {
			err = auth.Verify(r, keyOf(keys, auth.AccessKeyID, credential.Secret, auth.Scope))
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
