package trail_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/trail"
)

const (
	account = "111122223333"
	region  = "us-east-1"
)

// started is the time of record 0; every record is a second later than the one before.
var started = time.Date(2026, 5, 20, 20, 0, 0, 0, time.UTC)

// record makes a record as the guard does.
func record(edit func(*audit.Record)) []byte {
	var p audit.Fields
	p.String("keyId", "alias/x")
	p.String("encryptionAlgorithm", "SYMMETRIC_DEFAULT")
	p.Map("encryptionContext", map[string]string{"readOnly": "false,\"eventID\":\"x\"", "b": "}]"})
	r := audit.Record{
		Identity: audit.Identity{Type: "IAMUser", PrincipalID: "AIDA1", ARN: "arn:aws:iam::" + account + ":user/ann", AccountID: account, AccessKeyID: "AKIA1", UserName: "ann"},
		Time:     started, Source: "kms.amazonaws.com", Name: "Encrypt", Region: region, SourceIP: "192.0.2.1", UserAgent: "Boto3/1.40 md/Botocore#1.40 lang/python#3.13",
		Parameters: &p, RequestID: arn.NewUUID(), EventID: arn.NewUUID(), ReadOnly: true, EventType: audit.APICall, Recipient: account,
		Resources: []audit.Resource{{Account: account, ARN: "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"}},
		TLS:       &audit.TLS{Version: "TLSv1.3", CipherSuite: "TLS_AES_128_GCM_SHA256", ServerName: "kms.us-east-1.example.com", KeyExchange: "X25519MLKEM768"},
	}
	if edit != nil {
		edit(&r)
	}
	return r.AppendJSON(nil)
}

// shown prints what an Event says.
func shown(e *trail.Event) string {
	s := fmt.Sprintf("%s %s %s %s user=%q key=%q %s/%s %v", e.ID, e.Name, e.Source, time.Unix(e.Time, 0).UTC().Format(time.RFC3339), e.Username, e.AccessKeyID, e.Account, e.Region, e.ReadOnly)
	if e.ErrorCode != nil {
		s += " " + string(e.ErrorCode)
	}
	for _, r := range e.Resources {
		s += fmt.Sprintf(" [%s %s]", r.Type, r.Name)
	}
	return s
}

func TestParse(t *testing.T) {
	const frame = "e Encrypt kms.amazonaws.com 2026-05-20T20:00:00Z "
	const key = " [AWS::KMS::Key arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab]"
	for name, c := range map[string]struct {
		edit func(*audit.Record)
		want string
	}{
		"a user": {func(*audit.Record) {}, `user="ann" key="AKIA1" 111122223333/us-east-1 true` + key},
		"a root user": {
			func(r *audit.Record) {
				r.Identity = audit.Identity{Type: "Root", PrincipalID: account, AccessKeyID: "AKIA2"}
			},
			`user="root" key="AKIA2" 111122223333/us-east-1 true` + key,
		},
		"a role": {func(r *audit.Record) {
			r.Identity = audit.Identity{Type: "AssumedRole", PrincipalID: "AROA1:bob", AccessKeyID: "ASIA1", Session: &audit.SessionContext{Issuer: audit.Issuer{Type: "Role", UserName: "builder"}}}
		}, `user="bob" key="ASIA1" 111122223333/us-east-1 true` + key},
		"a federated user": {
			func(r *audit.Record) {
				r.Identity = audit.Identity{Type: "FederatedUser", PrincipalID: account + ":fed"}
			},
			`user="fed" key="" 111122223333/us-east-1 true` + key,
		},
		"a web identity": {func(r *audit.Record) {
			r.Identity = audit.Identity{Type: "WebIdentityUser", PrincipalID: "https://idp.example.com:aud:sub", UserName: "sub"}
		}, `user="sub" key="" 111122223333/us-east-1 true` + key},
		"another account": {
			func(r *audit.Record) { r.Identity = audit.Identity{Type: "AWSAccount", PrincipalID: "444455556666"} },
			`user="" key="" 111122223333/us-east-1 true` + key,
		},
		"nobody": {func(r *audit.Record) {
			r.Identity, r.Recipient, r.Region, r.Resources = audit.Identity{Type: "Unknown"}, "", "", nil
		}, `user="" key="" / true`},
		"escapes": {func(r *audit.Record) {
			r.ErrorCode = "DisabledException"
			r.Identity.UserName, r.UserAgent, r.ReadOnly = `"é\`, "}\n\"\\", false
			r.Resources = []audit.Resource{{ARN: `arn:"1"`}, {ARN: "arn:aws:iam::1:role/r"}}
		}, `user="\"é\\" key="AKIA1" 111122223333/us-east-1 false DisabledException [AWS::KMS::Key arn:"1"] [AWS::IAM::Role arn:aws:iam::1:role/r]`},
	} {
		line := record(func(r *audit.Record) { r.EventID = "e"; c.edit(r) })
		var e trail.Event
		if err := e.Parse(line); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := shown(&e); got != frame+c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, frame+c.want)
		}
		spaced := strings.ReplaceAll(string(line), `,"event`, ` , "event`)
		if err := e.Parse([]byte(spaced)); err != nil || shown(&e) != frame+c.want {
			t.Errorf("%s with white space: %v\n got %s\nwant %s", name, err, shown(&e), frame+c.want)
		}
	}
	for _, bad := range []string{"", "null", "[]", "{", `{"eventName":1}`, `{"eventTime":"2026-02-30T00:00:00Z"}`, `{"resources":[null]}`, `{"readOnly":null}`, `{"a":{}`, `{"eventID":"x"}}`} {
		if err := new(trail.Event).Parse([]byte(bad)); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
}

// What the scanner reads, a JSON decoder reads the same way.
func FuzzParse(f *testing.F) {
	f.Add(string(record(nil)))
	f.Add(string(record(func(r *audit.Record) { r.Identity.UserName = "\u2028\"" })))
	f.Add(`{"userIdentity":null,"resources":[{"type":null,"ARN":"x"},{}],"readOnly":false,"eventID":"a","eventID":"b","userIdentity":{"a":[{"b":"]"}]}}`)
	f.Add(`{ "eventName" : "\ud800", "eventTime":"2026-01-01T00:00:60Z"}`)
	f.Fuzz(func(t *testing.T, text string) {
		var e, again trail.Event
		err := e.Parse([]byte(text))
		if !json.Valid([]byte(text)) {
			return
		}
		slow := again.ParseJSON([]byte(text))
		if (err == nil) != (slow == nil) {
			t.Fatalf("scanner %v, decoder %v", err, slow)
		}
		if err == nil && shown(&e) != shown(&again) {
			t.Errorf("\nscanner %s\ndecoder %s", shown(&e), shown(&again))
		}
	})
}

func BenchmarkParse(b *testing.B) {
	line := record(nil)
	var e trail.Event
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		if err := e.Parse(line); err != nil {
			b.Fatal(err)
		}
	}
	if !reflect.DeepEqual(e.Username, []byte("ann")) {
		b.Error("not read")
	}
}
