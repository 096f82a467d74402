package dev_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/admin"
	"github.com/keywright/keywright/internal/dev"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/sigv4"
)

// Neither a page in a browser on this machine must get through, whatever it was made to do, nor whoever does not know the token.
func TestNobodyElse(t *testing.T) {
	w := newWorld(t, "")
	id := w.newKey()
	for name, edit := range map[string]func(*http.Request){
		"no header":              func(r *http.Request) { r.Header.Del(dev.Header) },
		"an empty header":        func(r *http.Request) { r.Header.Set(dev.Header, "") },
		"another token":          func(r *http.Request) { r.Header.Set(dev.Header, "1") },
		"a page's origin":        func(r *http.Request) { r.Header.Set("Origin", "https://example.test") },
		"no page's origin":       func(r *http.Request) { r.Header.Set("Origin", "null") },
		"another site":           func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"a name that leads here": func(r *http.Request) { r.Host = "example.test" },
		"the same with a port":   func(r *http.Request) { r.Host = "example.test:4598" },
		"an address elsewhere":   func(r *http.Request) { r.Host = "192.0.2.1" },
		"a preflight": func(r *http.Request) {
			r.Method = http.MethodOptions
			r.Header.Set("Origin", "https://example.test")
			r.Header.Set("Access-Control-Request-Headers", dev.Header)
			r.Header.Del(dev.Header)
		},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.door.URL+"/v1/reset", nil)
		w.must(err)
		r.Header.Set(dev.Header, token)
		edit(r)
		resp, err := http.DefaultClient.Do(r)
		w.must(err)
		body, err := io.ReadAll(resp.Body)
		w.must(err)
		w.must(resp.Body.Close())
		if resp.StatusCode != http.StatusForbidden || !strings.Contains(string(body), "control endpoint") {
			t.Errorf("%s: %d %s", name, resp.StatusCode, body)
		}
		for h := range resp.Header {
			if strings.HasPrefix(h, "Access-Control-") {
				t.Errorf("%s: %s", name, h)
			}
		}
	}
	if s := w.state(id); s != "Enabled" {
		t.Errorf("something was reset: %s", s)
	}
}

func TestReset(t *testing.T) {
	w := newWorld(t, "")
	id := w.newKey()
	w.ok("CreateAlias", map[string]any{"AliasName": "alias/a", "TargetKeyId": id})
	w.ok("CreateGrant", map[string]any{"KeyId": id, "GranteePrincipal": "arn:aws:iam::111122223333:root", "Operations": []string{"Decrypt"}})
	w.fault(dev.Fault{Operation: "Sign", Error: "X"})
	w.advance("10d")
	for range 3 {
		w.ask("POST", "/v1/reset", nil, nil)
	}
	if s := w.state(id); s != "NotFoundException" {
		t.Error(s)
	}
	if s := w.state("alias/a"); s != "NotFoundException" {
		t.Error(s)
	}
	if n := len(w.ok("ListKeys", nil)["Keys"].([]any)); n != 0 {
		t.Errorf("%d keys", n)
	}
	var list struct{ Faults []dev.Fault }
	if w.ask("GET", "/v1/faults", nil, &list); len(list.Faults) != 0 {
		t.Errorf("%v", list)
	}
	w.newKey()
}

// Nobody remembers anything over a reset: identities, their sessions, and when what has its name again was last used.
func TestResetForgets(t *testing.T) {
	w := newWorld(t, "keys: [{id: "+keyID+"}]")
	w.query("iam", "Version=2010-05-08&Action=CreateUser&UserName=ann")
	w.query("iam", "Version=2010-05-08&Action=AttachUserPolicy&UserName=ann&PolicyArn=arn:aws:iam::aws:policy/AdministratorAccess")
	credential := func(text string) sigv4.Credential {
		element := func(name string) string {
			_, rest, _ := strings.Cut(text, "<"+name+">")
			value, _, _ := strings.Cut(rest, "</")
			return value
		}
		return sigv4.Credential{AccessKeyID: element("AccessKeyId"), Secret: secret.FromString(element("SecretAccessKey")), Token: element("SessionToken")}
	}
	ann := credential(w.query("iam", "Version=2010-05-08&Action=CreateAccessKey&UserName=ann"))
	_, text := w.post(ann, "sts", []byte("Version=2011-06-15&Action=GetSessionToken&DurationSeconds=129600"), sigv4.Field{Name: "Content-Type", Value: "application/x-www-form-urlencoded"})
	session := credential(string(text))
	for _, c := range []sigv4.Credential{ann, session} {
		if a := w.send(c, "ListKeys", nil); a.status != 200 {
			t.Fatalf("%+v", a)
		}
	}
	w.advance("1d")
	w.ok("Encrypt", map[string]any{"KeyId": keyID, "Plaintext": "eA=="})
	last := func() map[string]any {
		return w.ok("GetKeyLastUsage", map[string]any{"KeyId": keyID})["KeyLastUsage"].(map[string]any)
	}
	if len(last()) == 0 {
		t.Fatal("a use is not known")
	}
	w.ask("POST", "/v1/reset", nil, nil)
	w.must(w.server.KMS().FlushUses(t.Context()))
	w.must(w.server.Directory().FlushUses(t.Context()))
	if got := last(); len(got) > 0 {
		t.Errorf("the key that was made anew was used: %v", got)
	}
	if users := w.query("iam", "Version=2010-05-08&Action=ListUsers"); strings.Contains(users, "ann") {
		t.Error(users)
	}
	for _, c := range []sigv4.Credential{ann, session} {
		if a := w.send(c, "ListKeys", nil); a.status == 200 {
			t.Errorf("%s of the time before is good", c.AccessKeyID)
		}
	}
}

// When the server ends, what is under way is done to its end, and nothing more is begun.
func TestEnd(t *testing.T) {
	w := newWorld(t, "")
	begun, done := make(chan struct{}), make(chan struct{})
	var forgotten atomic.Bool
	w.forget = func() {
		close(begun)
		time.Sleep(30 * time.Millisecond)
		forgotten.Store(true)
	}
	go func() {
		defer close(done)
		w.ask("POST", "/v1/reset", nil, nil)
	}()
	<-begun
	if w.control.End(); !forgotten.Load() {
		t.Error("the server may close while it is reset")
	}
	<-done
	for _, path := range []string{"reset", "clock", "seed"} {
		w.refused("POST", "/v1/"+path, nil, "the server ends")
	}
}

// A seed goes nowhere but to the door that it was meant for, and no door is open to everybody.
func TestNoRedirects(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the question was passed on") }))
	defer elsewhere.Close()
	here := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer here.Close()
	c, err := dev.Dial(here.URL)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Ask(t.Context(), "POST", "/v1/seed", []byte("keys: []"), nil); err == nil || !strings.Contains(err.Error(), "no control endpoint") {
		t.Error(err)
	}
	open := httptest.NewServer(dev.New().Handler(""))
	defer open.Close()
	if c, err = dev.Dial(open.URL); err != nil {
		t.Fatal(err)
	}
	if err := c.Ask(t.Context(), "GET", "/v1/clock", nil, nil); err == nil || !strings.Contains(err.Error(), "with its token") {
		t.Error(err)
	}
}

// Who asks for something and goes away leaves no half of it.
func TestAskedByWhoIsGone(t *testing.T) {
	w := newWorld(t, "")
	id := w.newKey()
	w.fault(dev.Fault{Operation: "Sign", Error: "X"})
	w.advance("10d")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	at := time.Now()
	_, moved := w.control.Move(gone, dev.Movement{Set: &at})
	_, seeded := w.control.Seed(gone, []byte(seedOf("material: "+material)))
	for _, err := range []error{w.control.Reset(gone), moved, seeded} {
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	var list struct{ Faults []dev.Fault }
	if w.ask("GET", "/v1/faults", nil, &list); len(list.Faults) != 1 || w.state(id) != "Enabled" || time.Until(w.control.Clock().Now()) < 9*24*time.Hour {
		t.Error("something was reset")
	}
	// From the moment on at which it begins everything is done.
	midway, cancel := context.WithCancel(t.Context())
	w.forget = cancel
	w.must(w.control.Reset(midway))
	if midway.Err() == nil || w.state(id) != "NotFoundException" {
		t.Error("nothing was reset")
	}
	w.newKey()
}

// What administrators ask for has ended before a reset begins, or begins when that has ended, as with clients.
func TestNoAdministratorDuringAReset(t *testing.T) {
	w := newWorld(t, "")
	answered := make(chan error, 1)
	w.forget = func() {
		go func() {
			answered <- admin.Dial(w.socket).Ask(context.Background(), admin.MethodListAccounts, admin.Nothing{}, nil)
		}()
		select {
		case err := <-answered:
			t.Error("an administrator was answered in the middle of a reset")
			answered <- err
		case <-time.After(200 * time.Millisecond):
		}
	}
	w.ask("POST", "/v1/reset", nil, nil)
	w.must(<-answered)
}

func TestDial(t *testing.T) {
	for _, bad := range []string{"", "127.0.0.1:4598", "https://127.0.0.1:4598", "http://", "http://127.0.0.1:1/path", "http://example.test:4598", "http://192.0.2.1:4598", "http://127.0.0.1@example.test"} {
		if _, err := dev.Dial(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	w := newWorld(t, "")
	// The API is no control endpoint, whatever is asked.
	c, err := dev.Dial("http://" + w.server.Addr().String())
	w.must(err)
	for _, path := range []string{"/v1/clock", "/v1/reset", "/v1/faults", "/v1/seed"} {
		if err := c.Ask(t.Context(), "POST", path, nil, nil); err == nil || !strings.Contains(err.Error(), "is no control endpoint") {
			t.Errorf("%s: %v", path, err)
		}
	}
}
