package guard_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// Every kind of caller has the userIdentity that CloudTrail gives it.
func TestIdentitiesInRecords(t *testing.T) {
	issued := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	ann := &guard.Caller{
		Type: policy.User, Account: owner, ARN: "arn:aws:iam::111122223333:user/ann", PrincipalID: "AIDAANN", UniqueID: "AIDAANN",
		AccessKeyID: "AKIAANN", Name: "ann",
	}
	session := *ann
	session.AccessKeyID, session.Session = "ASIAANN", &guard.Session{IssuedAt: issued, IssuerType: "User", IssuerName: "ann"}
	for what, c := range map[string]struct {
		who     *guard.Caller
		forward *guard.Forward
		want    string
		source  string
	}{
		"root": {
			root(owner), nil,
			`{"type":"Root","principalId":"111122223333","arn":"arn:aws:iam::111122223333:root","accountId":"111122223333","accessKeyId":"AKIATEST"}`,
			"192.0.2.1",
		},
		"user": {
			ann, nil,
			`{"type":"IAMUser","principalId":"AIDAANN","arn":"arn:aws:iam::111122223333:user/ann","accountId":"111122223333","accessKeyId":"AKIAANN","userName":"ann"}`,
			"192.0.2.1",
		},
		"user with GetSessionToken": {
			&session, nil,
			`{"type":"IAMUser","principalId":"AIDAANN","arn":"arn:aws:iam::111122223333:user/ann","accountId":"111122223333","accessKeyId":"ASIAANN","userName":"ann",` +
				`"sessionContext":{"attributes":{"creationDate":"2026-01-02T03:00:00Z","mfaAuthenticated":"false"}}}`,
			"192.0.2.1",
		},
		"user through a service": {
			ann, &guard.Forward{Service: "objects.amazonaws.com", ViaService: "objects.us-east-1.amazonaws.com"},
			`{"type":"IAMUser","principalId":"AIDAANN","arn":"arn:aws:iam::111122223333:user/ann","accountId":"111122223333","accessKeyId":"AKIAANN","userName":"ann","invokedBy":"objects.amazonaws.com"}`,
			"objects.amazonaws.com",
		},
		"role": {
			&guard.Caller{
				Type: policy.RoleSession, Account: owner, ARN: "arn:aws:sts::111122223333:assumed-role/dev/s", PrincipalID: "AROADEV:s", UniqueID: "AROADEV", AccessKeyID: "ASIADEV",
				RoleARN: "arn:aws:iam::111122223333:role/x/dev",
				Session: &guard.Session{IssuedAt: issued, SourceIdentity: "ann", IssuerType: "Role", IssuerARN: "arn:aws:iam::111122223333:role/x/dev", IssuerID: "AROADEV", IssuerName: "dev"},
			}, nil,
			`{"type":"AssumedRole","principalId":"AROADEV:s","arn":"arn:aws:sts::111122223333:assumed-role/dev/s","accountId":"111122223333","accessKeyId":"ASIADEV",` +
				`"sessionContext":{"sessionIssuer":{"type":"Role","principalId":"AROADEV","arn":"arn:aws:iam::111122223333:role/x/dev","accountId":"111122223333","userName":"dev"},` +
				`"webIdFederationData":{},"attributes":{"creationDate":"2026-01-02T03:00:00Z","mfaAuthenticated":"false"},"sourceIdentity":"ann"}}`,
			"192.0.2.1",
		},
		"role by web identity": {
			&guard.Caller{
				Type: policy.RoleSession, Account: owner, ARN: "arn:aws:sts::111122223333:assumed-role/ci/s", PrincipalID: "AROACI:s", UniqueID: "AROACI",
				Session: &guard.Session{IssuedAt: issued, Provider: "arn:aws:iam::111122223333:oidc-provider/id.example.com", IssuerType: "Role", IssuerID: "AROACI", IssuerName: "ci"},
			}, nil,
			`{"type":"AssumedRole","principalId":"AROACI:s","arn":"arn:aws:sts::111122223333:assumed-role/ci/s","accountId":"111122223333",` +
				`"sessionContext":{"sessionIssuer":{"type":"Role","principalId":"AROACI","accountId":"111122223333","userName":"ci"},` +
				`"webIdFederationData":{"federatedProvider":"arn:aws:iam::111122223333:oidc-provider/id.example.com","attributes":{}},` +
				`"attributes":{"creationDate":"2026-01-02T03:00:00Z","mfaAuthenticated":"false"}}}`,
			"192.0.2.1",
		},
		"federated user": {
			&guard.Caller{
				Type: policy.FederatedUser, Account: owner, ARN: "arn:aws:sts::111122223333:federated-user/bob", PrincipalID: "111122223333:bob", AccessKeyID: "ASIAFED",
				Session: &guard.Session{IssuedAt: issued, IssuerType: "User", IssuerARN: ann.ARN, IssuerID: "AIDAANN", IssuerName: "ann"},
			}, nil,
			`{"type":"FederatedUser","principalId":"111122223333:bob","arn":"arn:aws:sts::111122223333:federated-user/bob","accountId":"111122223333","accessKeyId":"ASIAFED",` +
				`"sessionContext":{"sessionIssuer":{"type":"IAMUser","principalId":"AIDAANN","arn":"arn:aws:iam::111122223333:user/ann","accountId":"111122223333","userName":"ann"},` +
				`"webIdFederationData":{},"attributes":{"creationDate":"2026-01-02T03:00:00Z","mfaAuthenticated":"false"}}}`,
			"192.0.2.1",
		},
		"service": {
			&guard.Caller{Type: policy.Service, Account: owner, Service: "objects.amazonaws.com", AccessKeyID: "AKIASVC"},
			&guard.Forward{Service: "objects.amazonaws.com"},
			`{"type":"AWSService","invokedBy":"objects.amazonaws.com"}`, "objects.amazonaws.com",
		},
		"web identity": {
			&guard.Caller{Type: policy.WebIdentity, Account: owner, PrincipalID: "id.example.com:app:ann", Name: "ann", Session: &guard.Session{Provider: "id.example.com"}}, nil,
			`{"type":"WebIdentityUser","principalId":"id.example.com:app:ann","userName":"ann","identityProvider":"id.example.com"}`, "192.0.2.1",
		},
	} {
		memory := audit.NewMemory(1)
		meta := guard.Meta{SourceIP: "192.0.2.1", UserAgent: "me", TLS: &audit.TLS{Version: "TLSv1.3"}}
		_, failure := guard.New(guard.Config{Recorder: memory, Now: now}).Answer(meta, func(call *guard.Call) (wire.Output, error) {
			call.Identify(c.who, "us-east-1")
			call.Forward = c.forward
			return nil, nil
		})
		if failure != nil {
			t.Fatal(failure)
		}
		var r struct {
			Identity  json.RawMessage `json:"userIdentity"`
			Source    string          `json:"sourceIPAddress"`
			TLS       any             `json:"tlsDetails"`
			Recipient string          `json:"recipientAccountId"`
		}
		if err := json.Unmarshal(memory.Records()[0], &r); err != nil {
			t.Fatal(err)
		}
		if string(r.Identity) != c.want {
			t.Errorf("%s:\n got %s\nwant %s", what, r.Identity, c.want)
		}
		if r.Source != c.source || (r.TLS == nil) != (c.source != meta.SourceIP) || r.Recipient != string(owner) {
			t.Errorf("%s: source %s, TLS %v, recipient %s", what, r.Source, r.TLS, r.Recipient)
		}
	}
}

// An allowed call over accounts has a record in both; a service has no account, so that its calls are recorded where the key is.
func TestWhoseRecords(t *testing.T) {
	w := readWorld(t)
	for line, want := range map[string][]string{
		"allow olga kms:Encrypt key/shared : account":       {"444455556666 IAMUser", "111122223333 AWSAccount"},
		"deny oleg kms:Encrypt key/shared : short":          {"444455556666 IAMUser"},
		"allow bob kms:Encrypt key/account : account":       {"111122223333 IAMUser"},
		"allow archive kms:Decrypt key/service : principal": {"111122223333 AWSService"},
		"allow objects kms:Decrypt key/service : principal": {"111122223333 AWSService"},
		"deny vault kms:Decrypt key/service : short":        {"444455556666 AWSService"},
		"allow olga sts:AssumeRole role:ops : everybody":    {"444455556666 IAMUser", "111122223333 AWSAccount"},
	} {
		q := w.read(line)
		memory := audit.NewMemory(4)
		_, _ = guard.New(guard.Config{Recorder: memory, Now: now}).Answer(q.meta, func(c *guard.Call) (wire.Output, error) {
			c.Identify(q.caller, q.region)
			_, err := c.Authorize(q.resource)
			return nil, err
		})
		var got []string
		for _, record := range memory.Records() {
			var r struct {
				Identity  struct{ Type string } `json:"userIdentity"`
				Recipient string                `json:"recipientAccountId"`
			}
			if err := json.Unmarshal(record, &r); err != nil {
				t.Fatal(err)
			}
			got = append(got, r.Recipient+" "+r.Identity.Type)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: records of %q, want %q", line, got, want)
		}
	}
}

// A record whose parameters or answer are too large is without them, in every trail that it goes to.
func TestLargeRecords(t *testing.T) {
	w := readWorld(t)
	q := w.read("allow olga kms:Encrypt key/shared : account")
	memory := audit.NewMemory(4)
	g := guard.New(guard.Config{Recorder: memory, Now: now})
	show := func(f *audit.Fields, _ wire.Input) { f.String("policy", strings.Repeat("\x01", 100<<10)) } // six octets each
	op := &guard.Operation{Service: "kms", Name: "Encrypt", Show: show}
	for range 2 {
		if _, err := g.Answer(q.meta, func(c *guard.Call) (wire.Output, error) {
			c.Identify(q.caller, q.region)
			c.Operation, c.Input = op, new(kmsapi.EncryptRequest)
			c.Additional().String("keyMaterialId", "m")
			_, err := c.Authorize(q.resource)
			return nil, err
		}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(memory.Records()); n != 4 {
		t.Fatalf("%d records", n)
	}
	for _, record := range memory.Records() {
		if len(record) > 4<<10 || !strings.Contains(string(record), `"requestParameters":null`) ||
			strings.Count(string(record), `"additionalEventData":{"keyMaterialId":"m","omitted":"requestParameters`) != 1 || !json.Valid(record) {
			t.Errorf("%d octets: %.600s", len(record), record)
		}
	}
	small := func(f *audit.Fields, _ wire.Input) { f.String("keyId", "k") }
	if _, err := g.Answer(q.meta, func(c *guard.Call) (wire.Output, error) {
		c.Operation, c.Input = &guard.Operation{Service: "kms", Name: "Encrypt", Show: small}, new(kmsapi.EncryptRequest)
		return nil, nil
	}); err != nil {
		t.Fatal(err)
	}
	if records := memory.Records(); !strings.Contains(string(records[3]), `"requestParameters":{"keyId":"k"}`) {
		t.Errorf("%s", records[3])
	}
}

// rooms is a log that knows how much room was promised and not given back.
type rooms struct {
	*audit.Memory
	promised int
}

func (r *rooms) Reserve() error { r.promised++; return nil }

func (r *rooms) AppendReserved(records ...[]byte) error {
	r.promised--
	return r.Append(records...)
}

// A change has its record, and gives its room back, also when what the record shows of it cannot be made. The answer is that of the
// change.
func TestRecordThatCannotBeMade(t *testing.T) {
	log := silence(t)
	answer := &kmsapi.EncryptResponse{CiphertextBlob: []byte("x")}
	show := func(f *audit.Fields, _ wire.Input) {
		f.Object("half", func(*audit.Fields) { panic("what the caller sent") })
	}
	for what, c := range map[string]struct {
		change  func(*guard.Call)
		records int
	}{
		"parameters": {func(c *guard.Call) { c.Operation.Show = show }, 1},
		"an answer": {func(c *guard.Call) {
			c.Operation.Reply = func(f *audit.Fields, c *guard.Call, _ wire.Output) {
				f.String("half", "x")
				c.Additional().Object("other", func(*audit.Fields) { panic("half of it") })
			}
		}, 1},
		"another Region": {func(c *guard.Call) {
			c.Does(guard.Elsewhere{Region: "eu-west-1", Name: "There", Show: func(f *audit.Fields) { show(f, nil) }})
		}, 2},
	} {
		to := &rooms{Memory: audit.NewMemory(10)}
		g := guard.New(guard.Config{Recorder: to, Now: now})
		for _, reserves := range []bool{true, false} {
			out, failure := g.Answer(guard.Meta{RequestID: "r"}, func(call *guard.Call) (wire.Output, error) {
				call.Operation, call.Name, call.Input = &guard.Operation{Service: "kms", Name: "Encrypt"}, "Encrypt", &kmsapi.EncryptRequest{}
				call.Identify(root(owner), "us-east-1")
				call.Concerns(owner, "arn:aws:kms:us-east-1:111122223333:key/k")
				c.change(call)
				if reserves {
					if err := call.Reserve(); err != nil {
						t.Error(err)
					}
				}
				return answer, nil
			})
			if out != answer || failure != nil {
				t.Errorf("%s: answered %v, %v", what, out, failure)
			}
			if to.promised != 0 {
				t.Errorf("%s: room for %d calls was not given back", what, to.promised)
			}
		}
		records := to.Records()
		if len(records) != 2*c.records {
			t.Errorf("%s: %d records", what, len(records))
		}
		for _, text := range records {
			var r struct {
				RequestID, ErrorCode                string
				RequestParameters, ResponseElements any
				AdditionalEventData                 struct{ Omitted string }
				Resources                           []any
			}
			if err := json.Unmarshal(text, &r); err != nil {
				t.Fatalf("%s: %v: %s", what, err, text)
			}
			if r.RequestID != "r" || r.ErrorCode != "" || r.RequestParameters != nil || r.ResponseElements != nil || r.AdditionalEventData.Omitted == "" {
				t.Errorf("%s: %s", what, text)
			}
		}
		if len(records) > 0 && !strings.Contains(string(records[0]), "key/k") {
			t.Errorf("%s: the record does not name the key: %s", what, records[0])
		}
	}
	if strings.Contains(log.String(), "what the caller sent") {
		t.Errorf("the server's log has what the caller sent: %s", log)
	}
}

// Room is given back also when the call ends in a way in which nothing can be recorded.
func TestRoomOfACallWithoutARecord(t *testing.T) {
	silence(t)
	to := &rooms{Memory: audit.NewMemory(10)}
	g := guard.New(guard.Config{Recorder: to, Now: now})
	defer func() {
		if recover() == nil || to.promised != 0 {
			t.Errorf("room for %d calls was not given back", to.promised)
		}
	}()
	_, _ = g.Answer(guard.Meta{TraceID: func() string { panic("outside of all that is caught") }}, func(call *guard.Call) (wire.Output, error) {
		if err := call.Reserve(); err != nil {
			t.Error(err)
		}
		return nil, errors.New("an internal failure, which is logged")
	})
}
