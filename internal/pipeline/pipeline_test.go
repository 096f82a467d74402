package pipeline_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/pipeline"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/sigv4"
)

func TestSignedCall(t *testing.T) {
	w := newWorld(t)
	id := w.newKey()
	a := w.serve(w.sign(jsonRequest("Encrypt", `{"KeyId":"`+id+`","Plaintext":"c2VjcmV0IHdvcmRz"}`), aliceRoot, "kms"))
	if a.Status != 200 || a.ContentType != "application/x-amz-json-1.1" {
		t.Fatalf("%d %s", a.Status, a.body)
	}
	r := w.lastRecord()
	for name, want := range map[string]any{
		"eventSource": "kms.amazonaws.com", "eventName": "Encrypt", "awsRegion": region, "sourceIPAddress": "192.0.2.1", "userAgent": "test",
		"readOnly": true, "recipientAccountId": "111122223333",
	} {
		if r[name] != want {
			t.Errorf("%s is %v, want %v", name, r[name], want)
		}
	}
	who := r["userIdentity"].(map[string]any)
	if who["arn"] != "arn:aws:iam::111122223333:root" || who["accessKeyId"] != aliceRoot.AccessKeyID || who["type"] != "Root" {
		t.Errorf("userIdentity %v", who)
	}
}

// An operation without output has an empty body and still a type and an id.
func TestNoOutput(t *testing.T) {
	w := newWorld(t)
	a := w.serve(w.sign(jsonRequest("DisableKey", `{"KeyId":"`+w.newKey()+`"}`), aliceRoot, "kms"))
	if a.Status != 200 || a.body != "" || a.ContentType != "application/x-amz-json-1.1" {
		t.Errorf("%d %q %s", a.Status, a.body, a.ContentType)
	}
}

// The Region of the scope is the Region of the call.
func TestRegionOfTheScope(t *testing.T) {
	w := newWorld(t)
	a := w.serve(signAt(jsonRequest("CreateKey", "{}"), aliceRoot, "eu-central-1", "kms", w.now()))
	if !strings.Contains(a.body, "arn:aws:kms:eu-central-1:111122223333:key/") {
		t.Error(a.body)
	}
	a = w.serve(signAt(jsonRequest("ListKeys", "{}"), aliceRoot, "us-west-2", "kms", w.now()))
	if !strings.Contains(a.body, `"Keys":[]`) {
		t.Error(a.body)
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	const mismatch = `{"__type":"InvalidSignatureException","message":"The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."}`
	sign := func(r *pipeline.Request) *pipeline.Request { return w.sign(r, aliceRoot, "kms") }
	list := func() *pipeline.Request { return jsonRequest("ListKeys", "{}") }
	with := func(r *pipeline.Request, edit func(*pipeline.Request)) *pipeline.Request { edit(r); return r }
	for _, test := range []struct {
		name    string
		request *pipeline.Request
		status  int
		want    string // the body, or its beginning if it ends in …
	}{
		{"unsigned", list(), 400, `{"__type":"MissingAuthenticationTokenException","message":"Missing Authentication Token"}`},
		{
			"unknown key", w.sign(list(), sigv4.Credential{AccessKeyID: "AKIANOBODY", Secret: aliceRoot.Secret}, "kms"), 400,
			`{"__type":"UnrecognizedClientException","message":"The security token included in the request is invalid."}`,
		},
		{
			"impossible key", w.sign(list(), sigv4.Credential{AccessKeyID: strings.Repeat("A", 200), Secret: aliceRoot.Secret}, "kms"), 400,
			`{"__type":"UnrecognizedClientException","message":"The security token included in the request is invalid."}`,
		},
		{"wrong secret", w.sign(list(), sigv4.Credential{AccessKeyID: aliceRoot.AccessKeyID, Secret: secret.FromString("x")}, "kms"), 400, mismatch},
		{"other body", with(sign(list()), func(r *pipeline.Request) { r.Body = []byte("{} ") }), 400, mismatch},
		{"other target", with(sign(list()), func(r *pipeline.Request) { r.Header[1].Value = "TrentService.ListAliases" }), 400, mismatch},
		{
			"token of a long-term key", w.sign(list(), sigv4.Credential{AccessKeyID: aliceRoot.AccessKeyID, Secret: aliceRoot.Secret, Token: "x"}, "kms"), 400,
			`{"__type":"UnrecognizedClientException","message":"The security token included in the request is invalid."}`,
		},
		{
			"old", signAt(list(), aliceRoot, region, "kms", w.now().Add(-6*time.Minute)), 400,
			`{"__type":"InvalidSignatureException","message":"Signature expired: 20260101T115400Z is now earlier than 20260101T115500Z (20260101T120000Z - 5 min.)"}`,
		},
		{
			"scope of another service", w.sign(list(), aliceRoot, "sts"), 400,
			`{"__type":"InvalidSignatureException","message":"Credential should be scoped to correct service: 'kms'. "}`,
		},
		{"unknown operation", sign(jsonRequest("Frobnicate", "{}")), 400, `{"__type":"UnknownOperationException"}`},
		{"unknown service", sign(targetRequest("Nonesuch.ListKeys", "{}")), 400, `{"__type":"UnknownOperationException"}`},
		{"no target", sign(with(list(), func(r *pipeline.Request) { r.Header = r.Header[:1] })), 400, `{"__type":"UnknownOperationException"}`},
		{"two targets", sign(with(list(), func(r *pipeline.Request) { r.Header = append(r.Header, r.Header[1]) })), 400, `{"__type":"UnknownOperationException"}`},
		{"other method", sign(with(list(), func(r *pipeline.Request) { r.Method = "PUT" })), 400, `{"__type":"UnknownOperationException"}`},
		{"other path", sign(with(list(), func(r *pipeline.Request) { r.Path = "/keys" })), 400, `{"__type":"UnknownOperationException"}`},
		{
			"not built", sign(jsonRequest("ConnectCustomKeyStore", `{"CustomKeyStoreId":"cks-1"}`)), 400,
			`{"__type":"UnsupportedOperationException","message":"The operation ConnectCustomKeyStore is not supported by this server."}`,
		},
		{
			"not built, other service", w.sign(targetRequest("com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.LookupEvents", "{}"), aliceRoot, "cloudtrail"), 400,
			`{"__type":"UnsupportedOperationException","message":"The operation LookupEvents is not supported by this server."}`,
		},
		{"broken JSON", sign(jsonRequest("ListKeys", "{")), 400, `{"__type":"SerializationException"…`},
		{"broken constraint", sign(jsonRequest("ListKeys", `{"Limit":0}`)), 400, `{"__type":"ValidationException","message":"1 validation error detected: Value '0' at 'limit'…`},
		{"unsigned and broken", jsonRequest("ListKeys", "{"), 400, `{"__type":"MissingAuthenticationTokenException"…`},
		{"too large", &pipeline.Request{Method: "POST", Path: "/", Host: host, Oversized: true, Header: list().Header}, 413, `{"__type":"RequestEntityTooLargeException"…`},
		{
			"a browser", &pipeline.Request{Method: "GET", Path: "/", Host: host}, 400,
			"<MissingAuthenticationTokenException>\n  <Message>Missing Authentication Token</Message>\n</MissingAuthenticationTokenException>\n",
		},
	} {
		a := w.serve(test.request)
		want, prefix := strings.CutSuffix(test.want, "…")
		if a.Status != test.status || a.body != want && (!prefix || !strings.HasPrefix(a.body, want)) {
			t.Errorf("%s: %d %s", test.name, a.Status, a.body)
		}
		if r := w.lastRecord(); r["errorCode"] == nil {
			t.Errorf("%s: record without error: %v", test.name, r)
		}
	}
}

// The record of a refused signature says which access key it claimed, but not that it was that key.
func TestRecordOfARefusedSignature(t *testing.T) {
	w := newWorld(t)
	w.serve(w.sign(jsonRequest("ListKeys", "{}"), sigv4.Credential{AccessKeyID: aliceRoot.AccessKeyID, Secret: secret.FromString("x")}, "kms"))
	who := w.lastRecord()["userIdentity"].(map[string]any)
	if who["type"] != "Unknown" || who["accessKeyId"] != aliceRoot.AccessKeyID || who["arn"] != nil {
		t.Errorf("userIdentity %v", who)
	}
	w.serve(w.sign(jsonRequest("ConnectCustomKeyStore", "{}"), aliceRoot, "kms"))
	if r := w.lastRecord(); r["eventName"] != "ConnectCustomKeyStore" || r["errorCode"] != "UnsupportedOperationException" {
		t.Errorf("record %v", r)
	}
}

// What a client can make a record repeat is bounded.
func TestRecordsAreBounded(t *testing.T) {
	w := newWorld(t)
	r := jsonRequest(strings.Repeat("A", 100_000), "{}")
	r.Header = append(r.Header, sigv4.Field{Name: "X-Other", Value: strings.Repeat("x", 100_000)})
	r.Header[2].Value = strings.Repeat("u", 100_000)
	w.serve(r)
	all := w.audit.Records()
	if n := len(all[len(all)-1]); n > 4096 {
		t.Errorf("a record of %d octets", n)
	}
}

func TestPresigned(t *testing.T) {
	w := newWorld(t)
	presign := func(r *pipeline.Request, service string, life time.Duration) *pipeline.Request {
		signed := sigv4.Request{Method: r.Method, Path: r.Path, RawQuery: r.RawQuery, Host: r.Host, Header: r.Header, Body: r.Body}
		r.RawQuery = sigv4.Presign(&signed, aliceRoot, region, service, w.now(), life)
		return r
	}
	if a := w.serve(presign(jsonRequest("ListKeys", "{}"), "kms", time.Hour)); a.Status != 200 {
		t.Error(a.body)
	}
	// As the SDK for Go does it: the target in the query.
	moved := jsonRequest("ListKeys", "{}")
	moved.Header, moved.RawQuery = moved.Header[:1], "X-Amz-Target=TrentService.ListKeys"
	if a := w.serve(presign(moved, "kms", time.Hour)); a.Status != 200 {
		t.Error(a.body)
	}
	// As services that check who somebody is do it.
	get := &pipeline.Request{Method: "GET", Path: "/", Host: host, RawQuery: "Action=GetCallerIdentity&Version=2011-06-15"}
	get = presign(get, "sts", time.Minute)
	if a := w.serve(get); a.Status != 200 || element(a.body, "Account") != "111122223333" {
		t.Error(a.body)
	}
	w.clock.Add(61_000)
	if a := w.serve(get); a.Status != 403 || element(a.body, "Code") != "SignatureDoesNotMatch" {
		t.Errorf("%d %s", a.Status, a.body)
	}
}

func TestSTS(t *testing.T) {
	w := newWorld(t)
	sts := func(c sigv4.Credential, form string) answer {
		return w.serve(w.sign(formRequest(form+"&Version=2011-06-15"), c, "sts"))
	}
	a := sts(aliceRoot, "Action=GetCallerIdentity")
	want := `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult><UserId>111122223333</UserId>` +
		`<Account>111122223333</Account><Arn>arn:aws:iam::111122223333:root</Arn></GetCallerIdentityResult><ResponseMetadata><RequestId>` +
		a.RequestID + `</RequestId></ResponseMetadata></GetCallerIdentityResponse>`
	if a.Status != 200 || a.ContentType != "text/xml" || a.body != want {
		t.Errorf("%d %s %s", a.Status, a.ContentType, a.body)
	}
	a = sts(aliceRoot, "Action=GetSessionToken&DurationSeconds=900")
	session := sigv4.Credential{
		AccessKeyID: element(a.body, "AccessKeyId"), Secret: secret.FromString(element(a.body, "SecretAccessKey")), Token: element(a.body, "SessionToken"),
	}
	record := string(w.audit.Records()[len(w.audit.Records())-1])
	if strings.Contains(record, session.Token) || strings.Contains(record, element(a.body, "SecretAccessKey")) ||
		!strings.Contains(record, `"requestParameters":{"durationSeconds":900},"responseElements":{"credentials":{"accessKeyId":"`+session.AccessKeyID+`","expiration":"Jan 1, 2026, 12:15:00 PM"}}`) {
		t.Error(record)
	}
	if a := w.serve(w.sign(jsonRequest("ListKeys", "{}"), session, "kms")); a.Status != 200 {
		t.Error(a.body)
	}
	if who := w.lastRecord()["userIdentity"].(map[string]any); who["accessKeyId"] != session.AccessKeyID {
		t.Errorf("userIdentity %v", who)
	}
	for _, test := range []struct {
		name         string
		after        time.Duration
		credential   sigv4.Credential
		form         string
		status       int
		code, detail string
	}{
		{"a role for root", 0, aliceRoot, "Action=AssumeRole&RoleArn=arn:aws:iam::111122223333:role/r&RoleSessionName=s1", 403, "AccessDenied", "Roles may not be assumed by root accounts."},
		{"unknown", 0, aliceRoot, "Action=Nonesuch", 400, "InvalidAction", "Could not find operation Nonesuch for version 2011-06-15"},
		{"broken form", 0, aliceRoot, "Action=GetCallerIdentity&%zz", 400, "MalformedInput", "The request is not well-formed form data."},
		{"too short", 0, aliceRoot, "Action=GetSessionToken&DurationSeconds=899", 400, "ValidationError", "1 validation error detected: Value '899' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 900"},
		{"MFA", 0, aliceRoot, "Action=GetSessionToken&SerialNumber=GAHT12345678&TokenCode=123456", 403, "AccessDenied", "MultiFactorAuthentication failed with invalid MFA one time pass code. "},
		{"a session of a session", 0, session, "Action=GetSessionToken", 403, "AccessDenied", "Cannot call GetSessionToken with session credentials"},
		{"expired", 900 * time.Second, session, "Action=GetCallerIdentity", 403, "ExpiredToken", "The security token included in the request is expired"},
	} {
		w.clock.Add(test.after.Milliseconds())
		a := sts(test.credential, test.form)
		if a.Status != test.status || element(a.body, "Code") != test.code || element(a.body, "Message") != test.detail {
			t.Errorf("%s: %d %s", test.name, a.Status, a.body)
		}
	}
	if a := w.serve(w.sign(jsonRequest("ListKeys", "{}"), session, "kms")); a.body != `{"__type":"ExpiredTokenException","message":"The security token included in the request is expired"}` {
		t.Error(a.body)
	}
	a = w.serve(w.sign(targetRequest("com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.LookupEvents", "{}"), aliceRoot, "cloudtrail"))
	if a.Status != 400 || !strings.Contains(a.body, "The operation LookupEvents is not supported by this server.") {
		t.Errorf("%d %s", a.Status, a.body)
	}
}

// Exactly one operation takes unsigned requests, and only those: a signature that is there must be good.
func TestUnsignedRequests(t *testing.T) {
	w := newWorld(t)
	const role = "&RoleArn=arn:aws:iam::111122223333:role/r&RoleSessionName=s1"
	form := func(action, version string) *pipeline.Request {
		return formRequest("Action=" + action + "&Version=" + version)
	}
	bearer := form("GetCallerIdentity", "2011-06-15")
	bearer.Header = append(bearer.Header, sigv4.Field{Name: "Authorization", Value: "Bearer x"})
	web := "AssumeRoleWithWebIdentity" + role + "&WebIdentityToken=none"
	forged := w.sign(form(web, "2011-06-15"), sigv4.Credential{AccessKeyID: aliceRoot.AccessKeyID, Secret: secret.FromString("guessed")}, "sts")
	for what, c := range map[string]struct {
		request *pipeline.Request
		status  int
		code    string
	}{
		"the one that takes them":        {form(web, "2011-06-15"), 400, "InvalidIdentityToken"},
		"signed all the same":            {w.sign(form(web, "2011-06-15"), aliceRoot, "sts"), 400, "InvalidIdentityToken"},
		"badly signed":                   {forged, 403, "SignatureDoesNotMatch"},
		"with its input incomplete":      {form("AssumeRoleWithWebIdentity", "2011-06-15"), 400, "ValidationError"},
		"of another API":                 {form(web, "2010-05-08"), 403, "MissingAuthenticationToken"},
		"AssumeRole":                     {form("AssumeRole"+role, "2011-06-15"), 403, "MissingAuthenticationToken"},
		"GetCallerIdentity":              {form("GetCallerIdentity", "2011-06-15"), 403, "MissingAuthenticationToken"},
		"GetSessionToken":                {form("GetSessionToken", "2011-06-15"), 403, "MissingAuthenticationToken"},
		"something unknown":              {form("AssumeRoleWithNothing", "2011-06-15"), 403, "MissingAuthenticationToken"},
		"with a token that signs naught": {bearer, 403, "MissingAuthenticationToken"},
	} {
		if a := w.serve(c.request); a.Status != c.status || element(a.body, "Code") != c.code {
			t.Errorf("%s: %d %s", what, a.Status, a.body)
		}
	}
	a := w.serve(targetRequest("TrentService.AssumeRoleWithWebIdentity", "{}"))
	if a.Status != 400 || !strings.Contains(a.body, "MissingAuthenticationTokenException") {
		t.Errorf("as JSON: %d %s", a.Status, a.body)
	}
	w.serve(form(web, "2011-06-15"))
	if who := w.lastRecord()["userIdentity"].(map[string]any); who["type"] != "Unknown" {
		t.Errorf("userIdentity %v", who)
	}
}

// No answer without a record: a full disk yields errors and no plaintext, and room again is enough to recover.
func TestNoAnswerWithoutRecord(t *testing.T) {
	w := newWorld(t)
	id := w.newKey()
	data := func() answer {
		return w.serve(w.sign(jsonRequest("GenerateDataKey", `{"KeyId":"`+id+`","KeySpec":"AES_256"}`), aliceRoot, "kms"))
	}
	w.audit.full.Store(true)
	if a := data(); a.Status != 500 || a.body != `{"__type":"KMSInternalException"}` {
		t.Errorf("%d %s", a.Status, a.body)
	}
	if a := w.serve(jsonRequest("ListKeys", "{}")); a.Status != 500 {
		t.Errorf("%d %s", a.Status, a.body)
	}
	w.audit.full.Store(false)
	if a := data(); a.Status != 200 || !strings.Contains(a.body, `"Plaintext":"`) {
		t.Errorf("%d %s", a.Status, a.body)
	}
}

// A Response that is used again shows nothing of the answer before.
func TestResponsesAreWiped(t *testing.T) {
	w := newWorld(t)
	var resp pipeline.Response
	req := w.sign(jsonRequest("GenerateRandom", `{"NumberOfBytes":64}`), aliceRoot, "kms")
	w.pipeline.Serve(context.Background(), req, &resp)
	body := resp.Body
	if resp.Status != 200 || len(body) < 80 {
		t.Fatal(string(body))
	}
	resp.Reset()
	if !bytes.Equal(body, make([]byte, len(body))) {
		t.Error("the body is still there")
	}
}

func TestTLSDetails(t *testing.T) {
	w := newWorld(t)
	r := w.sign(jsonRequest("ListKeys", "{}"), aliceRoot, "kms")
	r.TLS = &audit.TLS{Version: "TLSv1.3", CipherSuite: "TLS_AES_128_GCM_SHA256", KeyExchange: "X25519MLKEM768", ServerName: host}
	w.serve(r)
	details := w.lastRecord()["tlsDetails"].(map[string]any)
	if details["tlsVersion"] != "TLSv1.3" || details["keyExchange"] != "X25519MLKEM768" || details["clientProvidedHostHeader"] != host {
		t.Errorf("tlsDetails %v", details)
	}
}
