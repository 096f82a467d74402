package iam_test

import (
	"testing"

	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/sigv4"
	"github.com/keywright/keywright/internal/wire/stsapi"
)

// FuzzSessionToken brings arbitrary tokens with a genuine access key id: only the genuine token is taken.
func FuzzSessionToken(f *testing.F) {
	w := newWorld(f)
	c, _, err := w.session(w.root(alice), &stsapi.GetSessionTokenRequest{})
	w.must(err)
	f.Add(c.AccessKeyID, c.Token)
	f.Add(c.AccessKeyID, c.Token[:40])
	f.Add("ASIA", "AQAAAAE=")
	f.Add("AKIA", "")
	f.Fuzz(func(t *testing.T, id, token string) {
		w.t = t
		r := sigv4.Request{Method: "POST", Path: "/", Host: "kms.test"}
		r.Header = sigv4.Sign(&r, sigv4.Credential{AccessKeyID: id, Secret: secret.Copy(c.Secret.Expose()), Token: token}, "us-east-1", "kms", w.now)
		auth, refusal := sigv4.Parse(&r)
		if refusal != nil || auth.Check("kms", w.now) != nil {
			return
		}
		who, err := w.directory.Authenticate(t.Context(), &auth, &r)
		if genuine := auth.AccessKeyID == c.AccessKeyID && auth.Token == c.Token; (err == nil) != genuine {
			t.Errorf("%q %q: %v %v", id, token, who, err)
		}
	})
}
