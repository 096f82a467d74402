package pipeline_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/custody"
	"github.com/keywright/keywright/internal/custody/soft"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/iam"
	"github.com/keywright/keywright/internal/kms"
	"github.com/keywright/keywright/internal/pipeline"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/sigv4"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire/iamapi"
	"github.com/keywright/keywright/internal/wire/kmsapi"
	"github.com/keywright/keywright/internal/wire/stsapi"
	"github.com/keywright/keywright/internal/wire/trailapi"
)

const (
	alice  arn.Account = "111122223333"
	region string      = "us-east-1"
	host   string      = "kms.test"
)

var aliceRoot = sigv4.Credential{AccessKeyID: "AKIAALICEALICEALICE1", Secret: secret.FromString("alice's secret access key")}

// world is a pipeline over real services, a store in memory and a clock that the test moves.
type world struct {
	t        testing.TB
	pipeline *pipeline.Pipeline
	custody  *custody.Custody
	audit    recorder
	clock    atomic.Int64 // Unix milliseconds

	directory *iam.Directory
	config    pipeline.Config // of pipeline
}

// recorder is a log whose disk can be full.
type recorder struct {
	*audit.Memory
	full    atomic.Bool
	written int
}

func (r *recorder) Append(records ...[]byte) error {
	if r.full.Load() {
		return audit.ErrClosed
	}
	r.written += len(records)
	return r.Memory.Append(records...)
}

func (r *recorder) AppendReserved(records ...[]byte) error { return r.Append(records...) }

func (r *recorder) Reserve() error {
	if r.full.Load() {
		return audit.ErrClosed
	}
	return nil
}

func newWorld(t testing.TB) *world {
	t.Helper()
	ctx := context.Background()
	w := &world{t: t, audit: recorder{Memory: audit.NewMemory(10)}}
	w.clock.Store(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC).UnixMilli())
	db, err := store.Open(ctx, store.Options{})
	w.must(err)
	t.Cleanup(func() { _ = db.Close() })
	barrier, sealed, err := seal.Initialize(ctx, w.now(), seal.KeyFile("test", secret.Take(make([]byte, 32))))
	w.must(err)
	w.must(db.Initialize(ctx, sealed))
	s, err := db.Unseal(ctx, barrier)
	w.must(err)
	g := guard.New(guard.Config{Recorder: &w.audit, Now: w.now})
	directory := iam.New(iam.Config{Store: s, Barrier: barrier, Now: w.now})
	w.must(directory.EnsureAccount(ctx, alice, aliceRoot.AccessKeyID, aliceRoot.Secret))
	w.directory = directory
	w.custody = custody.New(soft.New(barrier))
	service := kms.New(kms.Config{Store: s, Custody: w.custody, Barrier: barrier, Guard: g, Now: w.now, Principals: directory})
	w.config = pipeline.Config{Guard: g, Directory: directory, Now: w.now, Services: []pipeline.Service{
		{Model: &kmsapi.Service, Operations: service.Operations()},
		{Model: &stsapi.Service, Operations: directory.STS()},
		{Model: &iamapi.Service, Operations: directory.IAM()},
		{Model: &trailapi.Service},
	}}
	w.pipeline = pipeline.New(w.config)
	return w
}

func (w *world) now() time.Time { return time.UnixMilli(w.clock.Load()).UTC() }

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// answer is a response that the test may keep.
type answer struct {
	pipeline.Response
	body string
}

// serve has a request answered, and checks what holds for every request: one record with the request's id.
func (w *world) serve(r *pipeline.Request) answer {
	w.t.Helper()
	var resp pipeline.Response
	before := w.audit.written
	w.pipeline.Serve(context.Background(), r, &resp)
	a := answer{resp, string(resp.Body)}
	if a.Status < 200 || a.Status > 599 || a.ContentType == "" || len(a.RequestID) != 36 {
		w.t.Fatalf("answer %+v", a)
	}
	if !w.audit.full.Load() {
		if n := w.audit.written - before; n != 1 {
			w.t.Fatalf("%d records of one request", n)
		}
		if r := w.lastRecord(); r["requestID"] != a.RequestID {
			w.t.Fatalf("record of %v, want %s", r["requestID"], a.RequestID)
		}
	}
	return a
}

func (w *world) lastRecord() map[string]any {
	w.t.Helper()
	all := w.audit.Records()
	var r map[string]any
	w.must(json.Unmarshal(all[len(all)-1], &r))
	return r
}

// jsonRequest is an unsigned request for an operation of KMS.
func jsonRequest(operation, body string) *pipeline.Request {
	return targetRequest("TrentService."+operation, body)
}

func targetRequest(target, body string) *pipeline.Request {
	return &pipeline.Request{Method: "POST", Path: "/", Host: host, Body: []byte(body), RemoteIP: "192.0.2.1", Header: []sigv4.Field{
		{Name: "Content-Type", Value: "application/x-amz-json-1.1"}, {Name: "X-Amz-Target", Value: target}, {Name: "User-Agent", Value: "test"},
	}}
}

// formRequest is an unsigned request of the Query protocol.
func formRequest(form string) *pipeline.Request {
	return &pipeline.Request{Method: "POST", Path: "/", Host: host, Body: []byte(form), RemoteIP: "192.0.2.1", Header: []sigv4.Field{
		{Name: "content-type", Value: "application/x-www-form-urlencoded; charset=utf-8"},
	}}
}

// sign signs a request as of now.
func (w *world) sign(r *pipeline.Request, c sigv4.Credential, service string) *pipeline.Request {
	return signAt(r, c, region, service, w.now())
}

func signAt(r *pipeline.Request, c sigv4.Credential, region, service string, at time.Time) *pipeline.Request {
	signed := sigv4.Request{Method: r.Method, Path: r.Path, RawQuery: r.RawQuery, Host: r.Host, Header: r.Header, Body: r.Body}
	r.Header = append(r.Header, sigv4.Sign(&signed, c, region, service, at)...)
	return r
}

// kms makes a signed call that must succeed and returns its answer's members.
func (w *world) kms(operation, body string) map[string]any {
	w.t.Helper()
	a := w.serve(w.sign(jsonRequest(operation, body), aliceRoot, "kms"))
	if a.Status != 200 {
		w.t.Fatalf("%s: %d %s", operation, a.Status, a.body)
	}
	var out map[string]any
	if a.body != "" {
		w.must(json.Unmarshal([]byte(a.body), &out))
	}
	return out
}

func (w *world) newKey() string {
	w.t.Helper()
	return w.kms("CreateKey", "{}")["KeyMetadata"].(map[string]any)["KeyId"].(string)
}

// element returns the text of the first XML element of that name.
func element(body, name string) string {
	_, rest, _ := strings.Cut(body, "<"+name+">")
	text, _, _ := strings.Cut(rest, "</"+name+">")
	return text
}
