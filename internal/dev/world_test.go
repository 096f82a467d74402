package dev_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/dev"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/server"
	"github.com/keywright/keywright/internal/sigv4"
)

const (
	account arn.Account = "111122223333"
	region  arn.Region  = "us-east-1"
	keyID               = "1234abcd-12ab-34cd-56ef-1234567890ab"
	token               = "TOKENOFTHEDOOR"
)

// world is a real server with a Control, and the door to that.
type world struct {
	t       *testing.T
	server  *server.Server
	socket  string // of the administrators
	control *dev.Control
	door    *httptest.Server
	client  *dev.Client
	forget  func() // called in the middle of a reset
}

var root = sigv4.Credential{AccessKeyID: "AKIAROOT", Secret: secret.FromString("secret")}

// newWorld runs a server that begins with a seed.
func newWorld(t *testing.T, seed string) *world {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &world{t: t, control: dev.New(), forget: func() {}, socket: filepath.Join(t.TempDir(), "admin")}
	in, err := server.EphemeralInstallation(ctx, time.Now())
	w.must(err)
	w.server, err = server.New(server.Config{
		Listen: "127.0.0.1:0", AdminSocket: w.socket, Now: w.control.Clock().Now, Wall: time.Now, Meddler: w.control, Drain: time.Second, LoopbackProviders: true,
	}, in)
	w.must(err)
	ensure := func(ctx context.Context) error {
		return w.server.Directory().EnsureAccount(ctx, account, root.AccessKeyID, root.Secret)
	}
	w.must(ensure(ctx))
	w.must(w.control.Attach(ctx, dev.Rooms{
		Store: w.server.Store(), KMS: w.server.KMS(), Directory: w.server.Directory(), Accounts: ensure, Home: dev.Home{Account: account, Region: region},
		Forget: []func(context.Context) error{func(context.Context) error {
			w.forget()
			return nil
		}},
	}, []byte(seed)))
	done := make(chan error, 1)
	go func() { done <- w.server.Run(ctx) }()
	w.door = httptest.NewServer(w.control.Handler(token))
	w.client, err = dev.Dial(dev.URL(token, w.door.Listener.Addr().String()))
	w.must(err)
	t.Cleanup(func() {
		w.door.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// answer is what a client sees.
type answer struct {
	status int
	body   map[string]any
	broken error // the connection broke
}

func (a answer) code() string {
	code, _ := a.body["__type"].(string)
	return code
}

// send makes a call signed now, by the real clock.
func (w *world) send(as sigv4.Credential, operation string, members map[string]any) answer {
	w.t.Helper()
	if members == nil {
		members = map[string]any{}
	}
	body, err := json.Marshal(members)
	w.must(err)
	a, text := w.post(as, "kms", body, sigv4.Field{Name: "Content-Type", Value: "application/x-amz-json-1.1"}, sigv4.Field{Name: "X-Amz-Target", Value: "TrentService." + operation})
	if len(text) > 0 {
		w.must(json.Unmarshal(text, &a.body))
	}
	return a
}

// query makes a call of IAM or STS that must succeed, as the root user, and returns the answer.
func (w *world) query(service, form string) string {
	w.t.Helper()
	a, text := w.post(root, service, []byte(form), sigv4.Field{Name: "Content-Type", Value: "application/x-www-form-urlencoded"})
	if a.status != 200 {
		w.t.Fatalf("%s: %+v %s", form, a, text)
	}
	return string(text)
}

func (w *world) post(as sigv4.Credential, service string, body []byte, header ...sigv4.Field) (answer, []byte) {
	w.t.Helper()
	at := w.server.Addr().String()
	signed := sigv4.Request{Method: http.MethodPost, Path: "/", Host: at, Body: body, Header: header}
	extra := sigv4.Sign(&signed, as, string(region), service, time.Now())
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+at, bytes.NewReader(body))
	w.must(err)
	req.GetBody = nil // no second try by the transport
	for _, f := range append(signed.Header, extra...) {
		req.Header.Set(f.Name, f.Value)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return answer{broken: err}, nil
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	w.must(err)
	return answer{status: resp.StatusCode}, text
}

func (w *world) call(operation string, members map[string]any) answer {
	w.t.Helper()
	return w.send(root, operation, members)
}

// ok makes a call that must succeed.
func (w *world) ok(operation string, members map[string]any) map[string]any {
	w.t.Helper()
	a := w.call(operation, members)
	if a.status != 200 {
		w.t.Fatalf("%s: %+v", operation, a)
	}
	return a.body
}

// state returns the KeyState of a key, or the code of the error.
func (w *world) state(id string) string {
	w.t.Helper()
	a := w.call("DescribeKey", map[string]any{"KeyId": id})
	if a.status != 200 {
		return a.code()
	}
	return a.body["KeyMetadata"].(map[string]any)["KeyState"].(string)
}

func (w *world) newKey() string {
	w.t.Helper()
	return w.ok("CreateKey", map[string]any{})["KeyMetadata"].(map[string]any)["KeyId"].(string)
}

// ask asks the door something that it must do.
func (w *world) ask(method, path string, body, answer any) {
	w.t.Helper()
	w.must(w.client.Ask(w.t.Context(), method, path, body, answer))
}

// refused asks the door something that it must refuse, with that text in its error.
func (w *world) refused(method, path string, body any, text string) {
	w.t.Helper()
	err := w.client.Ask(w.t.Context(), method, path, body, nil)
	if err == nil || !strings.Contains(err.Error(), text) {
		w.t.Errorf("%s %s %s: %v, want %q", method, path, body, err, text)
	}
}

func (w *world) advance(text string) {
	w.t.Helper()
	d, err := dev.ParseDuration(text)
	w.must(err)
	w.ask("POST", "/v1/clock", dev.Movement{Advance: d}, nil)
}

func (w *world) fault(f dev.Fault) string {
	w.t.Helper()
	w.ask("POST", "/v1/faults", f, &f)
	if f.ID == "" {
		w.t.Fatal(errors.New("a fault without an id"))
	}
	return f.ID
}
