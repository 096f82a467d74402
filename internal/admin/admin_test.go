package admin_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/admin"
)

func TestNoSecretIsPrinted(t *testing.T) {
	c := admin.Credential{AccessKeyID: "AKIAEXAMPLE", Secret: "do not show this"}
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("made", "credential", c, "pointer", &c)
	}
	for _, text := range []string{fmt.Sprint(c, &c), fmt.Sprintf("%v %+v %#v %q", c, c, c, c), fmt.Sprintf("%+v", []admin.Credential{c}), log.String()} {
		if strings.Contains(text, "show") || !strings.Contains(text, c.AccessKeyID) {
			t.Errorf("%s", text)
		}
	}
}

// The door refuses what it does not know, and says so.
func TestWrongQuestions(t *testing.T) {
	door := admin.Local(admin.New(admin.Config{}))
	for method, c := range map[string]struct {
		question any
		want     string
	}{
		"Nothing":                 {admin.Nothing{}, "there is no method Nothing"},
		admin.MethodCreateAccount: {map[string]any{"account": "111122223333", "secret": "x"}, "unknown field"},
		admin.MethodWhy:           {[]string{}, "reading the question"},
		admin.MethodPutControl:    {strings.Repeat("x", 2<<20), "too large"},
	} {
		if err := door.Ask(context.Background(), method, c.question, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", method, err)
		}
	}
	if err := admin.Dial(t.TempDir()+"/none.sock").Ask(context.Background(), admin.MethodListAccounts, admin.Nothing{}, nil); err == nil {
		t.Error("nobody answered")
	}
}

// What is explained is no older than what calls are decided by; how the server is, it says also when it has lost its store.
func TestAnswersAreFresh(t *testing.T) {
	stale := errors.New("nothing was heard of other servers")
	a := admin.New(admin.Config{
		Status: func(context.Context) (admin.Status, error) { return admin.Status{Version: "v1"}, nil },
		Fresh:  func(context.Context) error { return stale },
	})
	for _, method := range []string{admin.MethodWhy, admin.MethodWhoCan, admin.MethodComparePolicy, admin.MethodListServices, admin.MethodSetQuota, admin.MethodRegisterService} {
		if err := admin.Local(a).Ask(t.Context(), method, admin.Nothing{}, nil); err == nil || !strings.Contains(err.Error(), stale.Error()) {
			t.Errorf("%s: %v", method, err)
		}
	}
	var status admin.Status
	if err := admin.Local(a).Ask(t.Context(), admin.MethodStatus, admin.Nothing{}, &status); err != nil || status.Version != "v1" {
		t.Errorf("%+v, %v", status, err)
	}
}
