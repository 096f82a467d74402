package guard_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

var (
	now   = func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }
	owner = arn.Account("111122223333")
	other = arn.Account("444455556666")
	name  = key.Name{Account: owner, Region: "us-east-1", ID: "1234abcd-12ab-34cd-56ef-1234567890ab"}
)

func root(a arn.Account) *guard.Caller {
	return &guard.Caller{Type: policy.AccountRoot, Account: a, UniqueID: string(a), ARN: a.Root("aws"), PrincipalID: string(a), AccessKeyID: "AKIATEST"}
}

// ask authorizes an action on a key with the policy, as the root user of an account, and returns the permit and the
// error's text.
func ask(t *testing.T, who arn.Account, action, document string, change func(*guard.Resource)) (guard.Permit, string) {
	t.Helper()
	k := &key.Key{Name: name, Spec: key.SymmetricDefault, Usage: key.EncryptDecrypt, Origin: key.OriginAWSKMS, Tags: []key.Tag{{Key: "team", Value: "red"}}}
	doc, err := policy.Parse(policy.KeyPolicy, []byte(document))
	if err != nil {
		t.Fatal(err)
	}
	r := guard.Resource{Action: guard.NewAction(action), ARN: name.ARN(), Key: k, Policy: doc, Foreign: true}
	if change != nil {
		change(&r)
	}
	var permit guard.Permit
	_, failure := guard.New(guard.Config{Recorder: audit.NewMemory(1), Now: now}).Answer(guard.Meta{RequestID: "r", Time: now(), SourceIP: "192.0.2.1"}, func(c *guard.Call) (wire.Output, error) {
		c.Identify(root(who), "us-east-1")
		var err error
		permit, err = c.Authorize(r)
		return nil, err
	})
	if failure != nil {
		return permit, failure.Error()
	}
	return permit, ""
}

func statement(effect, principal, action, condition string) string {
	if condition != "" {
		condition = `,"Condition":` + condition
	}
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:Describe*","Resource":"*"},{"Effect":"` +
		effect + `","Principal":{"AWS":"` + principal + `"},"Action":"` + action + `","Resource":"*"` + condition + `}]}`
}

func TestAuthorize(t *testing.T) {
	const user = "AccessDeniedException: User: arn:aws:iam::111122223333:root is not authorized to perform: kms:Encrypt on resource: arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	const foreign = "AccessDeniedException: User: arn:aws:iam::444455556666:root is not authorized to perform: kms:Encrypt on resource: arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	for _, c := range []struct {
		about    string
		who      arn.Account
		document string
		want     string // the error, empty for allow
		change   func(*guard.Resource)
	}{
		{"the account by its id", owner, statement("Allow", "111122223333", "kms:*", ""), "", nil},
		{"the account by its root", owner, statement("Allow", "arn:aws:iam::111122223333:root", "kms:Encrypt", ""), "", nil},
		{"everybody", owner, statement("Allow", "*", "kms:encrypt", ""), "", nil},
		{"another action", owner, statement("Allow", "*", "kms:Decrypt", ""), user + " because no resource-based policy allows the kms:Encrypt action", nil},
		{"another account", owner, statement("Allow", "444455556666", "kms:*", ""), user + " because no resource-based policy allows the kms:Encrypt action", nil},
		{"an explicit deny", owner, statement("Deny", "*", "kms:*", ""), user + " with an explicit deny in a resource-based policy", nil},
		{"a foreign account that is allowed", other, statement("Allow", "444455556666", "kms:Encrypt", ""), "", nil},
		{"a foreign account that is not", other, statement("Allow", "111122223333", "kms:*", ""), foreign, nil},
		{"a foreign account that is denied", other, statement("Deny", "444455556666", "kms:*", ""), foreign, nil},
		{"an operation that is not for foreign accounts", other, statement("Allow", "*", "kms:*", ""), foreign, func(r *guard.Resource) { r.Foreign = false }},
		{"a key fact", owner, statement("Allow", "*", "kms:*", `{"StringEquals":{"kms:KeySpec":"SYMMETRIC_DEFAULT","kms:KeyUsage":"ENCRYPT_DECRYPT","kms:KeyOrigin":"AWS_KMS"},"Bool":{"kms:MultiRegion":"false"}}`), "", nil},
		{"a tag of the key", owner, statement("Allow", "*", "kms:*", `{"StringEquals":{"aws:ResourceTag/team":"red"}}`), "", nil},
		{"another tag", owner, statement("Deny", "*", "kms:*", `{"StringEquals":{"aws:ResourceTag/team":"blue"}}`), user + " because no resource-based policy allows the kms:Encrypt action", nil},
		{"the caller", owner, statement("Allow", "*", "kms:*", `{"StringEquals":{"kms:CallerAccount":"111122223333","aws:PrincipalAccount":"111122223333"},"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::111122223333:root"}}`), "", nil},
		{"the request", owner, statement("Allow", "*", "kms:*", `{"IpAddress":{"aws:SourceIp":"192.0.2.0/24"},"StringEquals":{"aws:RequestedRegion":"us-east-1"},"Bool":{"aws:SecureTransport":"false"},"DateLessThan":{"aws:CurrentTime":"2026-01-02T03:04:06Z"}}`), "", nil},
		{"no service calls for anybody", owner, statement("Allow", "*", "kms:*", `{"Null":{"kms:ViaService":"false"}}`), user + " because no resource-based policy allows the kms:Encrypt action", nil},
		{"the alias of the request", owner, statement("Allow", "*", "kms:*", `{"StringEquals":{"kms:RequestAlias":"alias/x"}}`), "", func(r *guard.Resource) { r.Alias = "alias/x" }},
		{"no alias in the request", owner, statement("Allow", "*", "kms:*", `{"Null":{"kms:RequestAlias":"true"}}`), "", nil},
		{"a name hidden behind another letter case", owner, statement("Deny", "*", "kms:*", `{"StringEquals":{"kms:EncryptionContext:stage":"prod"}}`), user + " with an explicit deny in a resource-based policy", func(r *guard.Resource) {
			r.Input = &kmsapi.EncryptRequest{}
			r.Facts = func(f *guard.Facts, _ wire.Input) {
				f.String("kms:EncryptionContext:Stage", "x")
				f.String("kms:EncryptionContext:stage", "prod")
				f.String("kms:EncryptionContext:STAGE", "y")
			}
		}},
		{"what the operation knows", owner, statement("Allow", "*", "kms:*", `{"StringEquals":{"kms:EncryptionContext:Stage":"test"},"ForAnyValue:StringEquals":{"kms:EncryptionContextKeys":"stage"}}`), "", func(r *guard.Resource) {
			r.Input = &kmsapi.EncryptRequest{}
			r.Facts = func(f *guard.Facts, _ wire.Input) {
				f.String("kms:EncryptionContext:stage", "test")
				f.Strings("kms:EncryptionContextKeys", []string{"stage"})
			}
		}},
	} {
		permit, got := ask(t, c.who, "kms:Encrypt", c.document, c.change)
		if got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.about, got, c.want)
		}
		if permit.Allows(guard.UseEncrypt, name) != (c.want == "") {
			t.Errorf("%s: the permit says otherwise", c.about)
		}
	}
}

func TestPermitCoversOneKeyAndUse(t *testing.T) {
	everything := statement("Allow", "*", "kms:*", "")
	permit, _ := ask(t, owner, "kms:Encrypt", everything, nil)
	elsewhere := name
	elsewhere.Region = "eu-west-1"
	for what, p := range map[string]bool{
		"encrypt":         permit.Allows(guard.UseEncrypt, name) && !guard.Permit{}.Allows(guard.UseEncrypt, name),
		"decrypt":         !permit.Allows(guard.UseDecrypt, name),
		"both":            !permit.Allows(guard.UseEncrypt|guard.UseDecrypt, name),
		"nothing":         !permit.Allows(0, name),
		"another key":     !permit.Allows(guard.UseEncrypt, elsewhere),
		"no key":          !permit.Allows(guard.UseEncrypt, key.Name{}),
		"the zero permit": !guard.Permit{}.Allows(0, key.Name{}) && !guard.Permit{}.Allows(guard.UseRandom, key.Name{}),
	} {
		if !p {
			t.Errorf("%s: wrong", what)
		}
	}
	if p, _ := ask(t, owner, "kms:TagResource", everything, nil); p.Allows(guard.UseEncrypt, name) || p.Allows(guard.UseCreate, name) {
		t.Error("a permit for an action without material opens material")
	}
}

// broken fails to write records.
type broken struct{}

func (broken) Append(...[]byte) error         { return errors.New("disk full") }
func (broken) AppendReserved(...[]byte) error { return errors.New("disk full") }
func (broken) Reserve() error                 { return errors.New("disk full") }

func TestNoAnswerWithoutARecord(t *testing.T) {
	silence(t)
	answer := &kmsapi.EncryptResponse{CiphertextBlob: []byte("x")}
	out, failure := guard.New(guard.Config{Recorder: broken{}, Now: now}).Answer(guard.Meta{}, func(*guard.Call) (wire.Output, error) { return answer, nil })
	if out != nil || failure == nil || failure.Status() != 500 {
		t.Errorf("answer %v, %v", out, failure)
	}
	_, failure = guard.New(guard.Config{Recorder: broken{}, Now: now}).Answer(guard.Meta{}, func(*guard.Call) (wire.Output, error) { return nil, wire.Bare(wire.CodeValidation) })
	if failure == nil || failure.Code == wire.CodeValidation {
		t.Errorf("a refusal without a record left: %v", failure)
	}
	committed := false
	err := guard.New(guard.Config{Recorder: broken{}, Now: now}).Act(guard.RotateKey, name, func(guard.Permit) (*audit.Fields, error) { return nil, nil }, func(record func() error) error {
		if err := record(); err != nil {
			return err
		}
		committed = true
		return nil
	})
	if err == nil || committed {
		t.Errorf("the service acted without a record: %v", err)
	}
}

func silence(t *testing.T) *bytes.Buffer {
	var log bytes.Buffer
	old := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	t.Cleanup(func() { slog.SetDefault(old) })
	return &log
}

func TestInternalFailuresStayInside(t *testing.T) {
	log := silence(t)
	memory := audit.NewMemory(10)
	g := guard.New(guard.Config{Recorder: memory, Now: now})
	for what, f := range map[string]func(*guard.Call) (wire.Output, error){
		"error": func(*guard.Call) (wire.Output, error) { return nil, errors.New("the detail") },
		"panic": func(*guard.Call) (wire.Output, error) { panic("what the caller sent") },
	} {
		_, failure := g.Answer(guard.Meta{RequestID: what}, func(c *guard.Call) (wire.Output, error) {
			c.Operation = &guard.Operation{Service: "kms", Name: "Encrypt", Internal: wire.CodeKMSInternal}
			return f(c)
		})
		if failure == nil || failure.Code != wire.CodeKMSInternal || failure.Message != "" {
			t.Errorf("%s: %v", what, failure)
		}
	}
	if len(memory.Records()) != 2 || bytes.Contains(bytes.Join(memory.Records(), nil), []byte("detail")) {
		t.Errorf("records %s", memory.Records())
	}
	if !strings.Contains(log.String(), "the detail") || strings.Contains(log.String(), "what the caller sent") {
		t.Errorf("log %s", log)
	}
}

func TestAct(t *testing.T) {
	memory := audit.NewMemory(10)
	g := guard.New(guard.Config{Recorder: memory, Now: now})
	order := ""
	err := g.Act(guard.RotateKey, name, func(p guard.Permit) (*audit.Fields, error) {
		order += "prepare "
		if !p.Allows(guard.UseCreate, name) || p.Allows(guard.UseDecrypt, name) {
			t.Error("wrong permit")
		}
		return nil, nil
	}, func(record func() error) error {
		order += "commit"
		if len(memory.Records()) != 0 {
			t.Error("recorded before it was known that the change is made")
		}
		return errors.Join(record(), record()) // as where a transaction is run again
	})
	if len(memory.Records()) != 1 {
		t.Errorf("records %s", memory.Records())
	}
	if err != nil || order != "prepare commit" {
		t.Errorf("%q, %v", order, err)
	}
	var r map[string]any
	if err := json.Unmarshal(memory.Records()[0], &r); err != nil {
		t.Fatal(err)
	}
	if _, has := r["requestID"]; has || r["eventType"] != "AwsServiceEvent" || r["sourceIPAddress"] != "AWS Internal" || r["userIdentity"].(map[string]any)["invokedBy"] != "AWS Internal" {
		t.Errorf("record %v", r)
	}
	if err := g.Act(guard.RotateKey, name, func(guard.Permit) (*audit.Fields, error) { return nil, context.Canceled }, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// A change whose commit fails has a second record that says so.
func TestFailedCommitIsRecorded(t *testing.T) {
	memory := audit.NewMemory(10)
	err := guard.New(guard.Config{Recorder: memory, Now: now}).Act(guard.DeleteKey, name, func(p guard.Permit) (*audit.Fields, error) {
		if p.Allows(guard.UseDecrypt, name) || p.Allows(guard.UseCreate, name) {
			t.Error("a deletion needs no material")
		}
		return nil, nil
	}, func(record func() error) error { return errors.Join(record(), errors.New("no")) })
	records := memory.Records()
	if err == nil || len(records) != 2 || bytes.Contains(records[0], []byte("errorCode")) || !bytes.Contains(records[1], []byte(`"errorCode":"InternalFailure"`)) {
		t.Errorf("%v, %s", err, records)
	}
	if err := guard.New(guard.Config{Recorder: memory, Now: now}).Act(guard.Event{}, name, nil, nil); err == nil {
		t.Error("an event of somebody's own making")
	}
}

// What was not done because somebody else was first has no record, and nothing is done without one.
func TestWhatIsNotDoneIsNotRecorded(t *testing.T) {
	memory, first := audit.NewMemory(10), errors.New("somebody else was first")
	g := guard.New(guard.Config{Recorder: memory, Now: now})
	nothing := func(guard.Permit) (*audit.Fields, error) { return nil, nil }
	if err := g.Act(guard.RotateKey, name, nothing, func(func() error) error { return first }); !errors.Is(err, first) {
		t.Errorf("%v", err)
	}
	if err := g.Act(guard.RotateKey, name, nothing, func(func() error) error { return nil }); err == nil {
		t.Error("a commit that wrote no record passes")
	}
	if n := len(memory.Records()); n != 0 {
		t.Errorf("%d records", n)
	}
}

// Nothing that a caller sends makes a record long.
func TestRecordsAreBounded(t *testing.T) {
	memory := audit.NewMemory(1)
	long := strings.Repeat("x", 1<<20)
	meta := guard.Meta{TLS: &audit.TLS{ServerName: long}}
	_, _ = guard.New(guard.Config{Recorder: memory, Now: now}).Answer(meta, func(*guard.Call) (wire.Output, error) { return nil, wire.Errorf(wire.CodeValidation, "%s", long) })
	if n := len(memory.Records()[0]); n > 3000 {
		t.Errorf("a record of %d octets", n)
	}
	if len(meta.TLS.ServerName) != len(long) {
		t.Error("the connection's own facts were changed")
	}
}

func TestUnknownCallersHaveARecord(t *testing.T) {
	memory := audit.NewMemory(1)
	_, failure := guard.New(guard.Config{Recorder: memory, Now: now}).Answer(guard.Meta{RequestID: "r", Time: now()}, func(c *guard.Call) (wire.Output, error) {
		c.Service, c.Name = "kms", "Encrypt"
		c.Claim("AKIANOBODY")
		return nil, wire.Errorf(wire.CodeUnrecognizedClient, "no")
	})
	var r map[string]any
	if err := json.Unmarshal(memory.Records()[0], &r); err != nil || failure == nil {
		t.Fatal(err)
	}
	id := r["userIdentity"].(map[string]any)
	if id["type"] != "Unknown" || id["accessKeyId"] != "AKIANOBODY" || r["errorCode"] != "UnrecognizedClientException" || r["requestID"] != "r" {
		t.Errorf("record %v", r)
	}
	if _, err := (&guard.Call{}).Authorize(guard.Resource{ARN: "*"}); err == nil {
		t.Error("nobody was authorized")
	}
}

// Where nobody knows whether a change was made, its record says that, and that of no other failure does.
func TestUnknownOutcomes(t *testing.T) {
	silence(t)
	lost, full := errors.New("the answer of the commit was lost"), errors.New("the disk is full")
	memory := audit.NewMemory(10)
	g := guard.New(guard.Config{Recorder: memory, Now: now, Unknown: func(err error) bool { return errors.Is(err, lost) }})
	for what, do := range map[string]func(error) error{
		"a call": func(failure error) error {
			_, public := g.Answer(guard.Meta{}, func(c *guard.Call) (wire.Output, error) {
				c.Operation = &guard.Operation{Service: "kms", Name: "CreateKey"}
				return nil, failure
			})
			return public
		},
		"an event": func(failure error) error {
			return g.Act(guard.RotateKey, name, func(guard.Permit) (*audit.Fields, error) { return nil, nil },
				func(record func() error) error { return errors.Join(record(), failure) })
		},
		"an administrator": func(failure error) error {
			return g.Administer("CreateAccount", "111122223333", nil, func() error { return failure })
		},
	} {
		for failure, unknown := range map[error]bool{lost: true, full: false} {
			if err := do(fmt.Errorf("committing: %w", failure)); err == nil {
				t.Errorf("%s: no error", what)
			}
			all := memory.Records()
			if last := all[len(all)-1]; bytes.Contains(last, []byte(`"additionalEventData":{"outcome":"unknown"}`)) != unknown || !bytes.Contains(last, []byte(`"errorCode":"InternalFailure"`)) {
				t.Errorf("%s that ends with %v: %s", what, failure, last)
			}
		}
	}
}
