package admin_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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
	synctest.Test(t, func(t *testing.T) {
		stale, asked, began := errors.New("nothing was heard of other servers"), 0, time.Now()
		a := admin.New(admin.Config{
			Status: func(context.Context) (admin.Status, error) { return admin.Status{Version: "v1"}, nil },
			Fresh:  func(context.Context) error { asked++; return stale },
		})
		for _, method := range []string{admin.MethodWhy, admin.MethodWhoCan, admin.MethodComparePolicy, admin.MethodListServices, admin.MethodSetQuota, admin.MethodRegisterService} {
			if err := admin.Local(a).Ask(t.Context(), method, admin.Nothing{}, nil); err == nil || !strings.Contains(err.Error(), stale.Error()) {
				t.Errorf("%s: %v", method, err)
			}
		}
		if each := time.Since(began) / 6; asked < 6*4 || each < 5*time.Second || each > 6*time.Second {
			t.Errorf("it was asked %d times, for %s each", asked, each)
		}
		var status admin.Status
		if err := admin.Local(a).Ask(t.Context(), admin.MethodStatus, admin.Nothing{}, &status); err != nil || status.Version != "v1" {
			t.Errorf("%+v, %v", status, err)
		}
	})
}

// A look at the store that took too long is no reason to fail a command: the door asks again before it does anything, unless who asked has gone.
func TestAsksAgainWhetherItIsFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, enough := 0, 3
		ctx, cancel := context.WithCancel(t.Context())
		door := admin.Local(admin.New(admin.Config{
			Fresh: func(context.Context) error {
				if asked++; asked == enough {
					return nil
				}
				if enough == 0 {
					cancel()
				}
				return errors.New("nothing was heard of other servers")
			},
		}))
		err := door.Ask(ctx, admin.MethodWhy, []string{}, nil)
		if asked != enough || err == nil || !strings.Contains(err.Error(), "reading the question") {
			t.Errorf("asked %d times: %v", asked, err)
		}
		asked, enough = 0, 0
		if err := door.Ask(ctx, admin.MethodWhy, admin.Nothing{}, nil); asked != 1 || err == nil {
			t.Errorf("asked %d times for somebody who has gone: %v", asked, err)
		}
	})
}
