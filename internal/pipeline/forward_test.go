package pipeline_test

import (
	"context"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/sigv4"
)

// What a service says of a session must be whole, and the token is in no record.
func TestForwardedSessions(t *testing.T) {
	w := newWorld(t)
	id, s, err := w.directory.RegisterService(context.Background(), alice, "objects.example.com", []arn.Account{alice})
	w.must(err)
	service := sigv4.Credential{AccessKeyID: id, Secret: s}
	made := w.serve(w.sign(formRequest("Action=GetSessionToken&Version=2011-06-15"), aliceRoot, "sts")).body
	key, token := element(made, "AccessKeyId"), element(made, "SessionToken")
	const root, behalf, keyID, session = "arn:aws:iam::111122223333:root", "X-Keywright-On-Behalf-Of", "X-Keywright-Access-Key-Id", "X-Keywright-Session-Token"
	for _, tt := range []struct {
		about  string
		header []sigv4.Field
		want   string // in the answer; empty for success
	}{
		{"all", []sigv4.Field{{Name: behalf, Value: root}, {Name: keyID, Value: key}, {Name: session, Value: token}}, ""},
		{"a long-term credential", []sigv4.Field{{Name: behalf, Value: root}}, ""},
		{"no token", []sigv4.Field{{Name: behalf, Value: root}, {Name: keyID, Value: key}}, "go together"},
		{"no access key id", []sigv4.Field{{Name: behalf, Value: root}, {Name: session, Value: token}}, "go together"},
		{"nobody", []sigv4.Field{{Name: keyID, Value: key}, {Name: session, Value: token}}, "go together"},
		{"another token", []sigv4.Field{{Name: behalf, Value: root}, {Name: keyID, Value: key}, {Name: session, Value: token[4:]}}, "may not call on behalf of"},
		{"two tokens", []sigv4.Field{{Name: behalf, Value: root}, {Name: keyID, Value: key}, {Name: session, Value: token}, {Name: session, Value: token}}, "is not well-formed"},
		{"a token that is too long", []sigv4.Field{{Name: behalf, Value: root}, {Name: keyID, Value: key}, {Name: session, Value: strings.Repeat("a", 8<<10+1)}}, "is not well-formed"},
		{"a role's session", []sigv4.Field{{Name: behalf, Value: "arn:aws:sts::111122223333:assumed-role/r/s"}}, "must send the session token"},
	} {
		r := jsonRequest("ListKeys", "{}")
		r.Header = append(r.Header, tt.header...)
		a := w.serve(w.sign(r, service, "kms"))
		if (a.Status == 200) != (tt.want == "") || !strings.Contains(a.body, tt.want) {
			t.Errorf("%s: %d %s", tt.about, a.Status, a.body)
		}
		if record := string(w.audit.Records()[len(w.audit.Records())-1]); strings.Contains(record, token) {
			t.Errorf("%s: the token is in the record", tt.about)
		}
	}
}

// An account is known in the Regions of its own partition only.
func TestRegionsOfOtherPartitions(t *testing.T) {
	w := newWorld(t)
	for _, other := range []string{"cn-north-1", "us-gov-west-1"} {
		a := w.serve(signAt(jsonRequest("ListKeys", "{}"), aliceRoot, other, "kms", w.now()))
		if a.Status != 400 || a.body != `{"__type":"InvalidSignatureException","message":"Credential should be scoped to a valid region. "}` {
			t.Errorf("%s: %d %s", other, a.Status, a.body)
		}
	}
}
