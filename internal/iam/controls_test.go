package iam_test

import (
	"context"
	"errors"
	"testing"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/iam"
	"github.com/keywright/keywright/internal/policy"
)

const (
	denyDecrypt         = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"kms:Decrypt","Resource":"*"}]}`
	denyDecryptResource = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"kms:Decrypt","Resource":"*"}]}`
	allowEncrypt        = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:Encrypt","Resource":"*"}]}`
)

// verdict is what control policies say together.
func verdict(list []guard.Policy, action string) policy.Effect {
	effect := policy.None
	for _, p := range list {
		q := policy.Request{Principal: &policy.Principal{Type: policy.User, Account: string(bob)}, Action: action, Resource: "arn:aws:kms:us-east-1:111122223333:key/x"}
		effect = max(effect, p.Document.Evaluate(&q).Effect)
	}
	return effect
}

func TestControls(t *testing.T) {
	w, ctx := newWorld(t), context.Background()
	w.root(alice)
	steps := []struct {
		what             string
		do               func() error
		encrypt, decrypt policy.Effect // by service control policies; None where none applies
		bound            bool          // whether there is any service control policy to hear
	}{
		{"at first", func() error { return nil }, policy.None, policy.None, false},
		{"a deny", func() error { return w.directory.PutControl(ctx, alice, iam.ServiceControl, "no-decrypt", denyDecrypt) }, policy.Allow, policy.Deny, true},
		{"without full access", func() error { return w.directory.DeleteControl(ctx, alice, iam.ServiceControl, iam.FullAccess) }, policy.None, policy.Deny, true},
		{"an allow", func() error { return w.directory.PutControl(ctx, alice, iam.ServiceControl, "encrypt", allowEncrypt) }, policy.Allow, policy.Deny, true},
		{"replaced", func() error {
			return w.directory.PutControl(ctx, alice, iam.ServiceControl, "no-decrypt", allowEncrypt)
		}, policy.Allow, policy.None, true},
		{"one gone", func() error { return w.directory.DeleteControl(ctx, alice, iam.ServiceControl, "encrypt") }, policy.Allow, policy.None, true},
		{"all gone", func() error { return w.directory.DeleteControl(ctx, alice, iam.ServiceControl, "no-decrypt") }, policy.None, policy.None, true},
		{"full access again", func() error {
			full := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
			return w.directory.PutControl(ctx, alice, iam.ServiceControl, iam.FullAccess, full)
		}, policy.None, policy.None, false},
	}
	for _, s := range steps {
		w.must(s.do())
		for _, d := range []*iam.Directory{w.directory, w.newDirectory(0)} { // what holds is on disk
			list, err := d.ServiceControls(alice)
			w.must(err)
			if e, c := verdict(list, "kms:Encrypt"), verdict(list, "kms:Decrypt"); e != s.encrypt || c != s.decrypt || len(list) > 0 != s.bound {
				t.Errorf("%s: encrypt %s, decrypt %s, %d policies", s.what, e, c, len(list))
			}
		}
	}
	w.must(w.directory.PutControl(ctx, alice, iam.ResourceControl, "rcp", denyDecryptResource))
	list, err := w.directory.ResourceControls(alice)
	w.must(err)
	if verdict(list, "kms:Decrypt") != policy.Deny || verdict(list, "kms:Encrypt") != policy.Allow {
		t.Error("a resource control policy takes what it does not deny")
	}
	all, err := w.directory.Controls(ctx, alice)
	w.must(err)
	if len(all) != 2 || all[0].Name != iam.FullAccess || all[1] != (iam.Control{Type: iam.ResourceControl, Name: "rcp", Document: denyDecryptResource}) {
		t.Errorf("%+v", all)
	}
	for _, of := range []func(arn.Account) ([]guard.Policy, error){w.directory.ServiceControls, w.directory.ResourceControls} {
		if list, err := of(bob); list != nil || err != nil {
			t.Errorf("an account that is not there: %v, %v", list, err)
		}
	}
}

func TestWrongControls(t *testing.T) {
	w, ctx := newWorld(t), context.Background()
	w.root(alice)
	put := func(kind, name, doc string) error {
		return w.directory.PutControl(ctx, "111122223333", iam.ControlType(kind), name, doc)
	}
	var fault *policy.Error
	for what, err := range map[string]error{
		"type": put("other", "n", denyDecrypt), "no name": put("service", "", denyDecrypt), "name": put("service", "a b", denyDecrypt),
	} {
		if !errors.Is(err, iam.ErrControl) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := put("service", "n", "{"); !errors.As(err, &fault) {
		t.Error(err)
	}
	if err := put("service", iam.FullAccess, denyDecrypt); err == nil {
		t.Error("full access was replaced by less")
	}
	if err := w.directory.DeleteControl(ctx, alice, iam.ServiceControl, "none"); !errors.Is(err, iam.ErrNoControl) {
		t.Error(err)
	}
	if err := w.directory.PutControl(ctx, bob, iam.ServiceControl, "n", denyDecrypt); !errors.Is(err, iam.ErrNoAccount) {
		t.Error(err)
	}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		w.must(put("service", name, denyDecrypt))
	}
	if err := put("service", "f", denyDecrypt); err == nil {
		t.Error("a sixth policy")
	}
	w.must(put("service", "e", allowEncrypt))
}
