package iam_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/iam"
	"github.com/keywright/keywright/internal/identity"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/sigv4"
	"github.com/keywright/keywright/internal/store"
)

func TestLookup(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.root(alice)
	u, r := w.user(alice, "Bobby"), w.role(alice, "ci")
	for principal, want := range map[string]string{
		"111122223333":                                "111122223333",
		"arn:aws:iam::111122223333:root":              "111122223333",
		"arn:aws:iam::111122223333:user/team/Bobby":   u.ID,
		"arn:aws:iam::111122223333:role/x/ci":         r.ID,
		"arn:aws:sts::111122223333:assumed-role/ci/s": r.ID,
		"arn:aws:sts::111122223333:federated-user/f":  "",
	} {
		if id, ok, err := w.directory.Lookup(ctx, principal); id != want || !ok || err != nil {
			t.Errorf("%s: %q %v %v", principal, id, ok, err)
		}
		who, err := w.directory.Caller(ctx, principal)
		if err != nil || who.UniqueID != want || who.Account != alice {
			t.Errorf("%s would be %+v, %v", principal, who, err)
		}
	}
	for _, principal := range []string{
		"", "*", "444455556666", "arn:aws:iam::444455556666:root", "arn:aws:iam::111122223333:user/Bobby", "arn:aws:iam::111122223333:user/team/bobby",
		"arn:aws:iam::111122223333:role/ci", "arn:aws:iam::111122223333:role/x/", "arn:aws:sts::111122223333:assumed-role/ci",
		"arn:aws:sts::111122223333:assumed-role/x/ci/s", "arn:aws:sts::444455556666:federated-user/f", "arn:aws:iam::111122223333:group/g",
		"arn:x:iam::111122223333:root", u.ID, "arn:aws-cn:iam::111122223333:root", "arn:aws-us-gov:iam::111122223333:user/team/Bobby",
	} {
		if id, ok, err := w.directory.Lookup(ctx, principal); id != "" || ok || err != nil {
			t.Errorf("%s: %q %v %v", principal, id, ok, err)
		}
		if _, err := w.directory.Caller(ctx, principal); !errors.Is(err, iam.ErrNoPrincipal) {
			t.Errorf("%s: %v", principal, err)
		}
	}
	for id, want := range map[string]string{
		u.ID: "arn:aws:iam::111122223333:user/team/Bobby", r.ID: "arn:aws:iam::111122223333:role/x/ci", "AIDAAAAAAAAAAAAAAAAAA": "", "111122223333": "", "": "",
	} {
		if got, ok, err := w.directory.ARNOf(ctx, id); got != want || ok != (want != "") || err != nil {
			t.Errorf("%s: %q %v %v", id, got, ok, err)
		}
	}
	if p, err := w.directory.ServiceControls(alice); p != nil || err != nil {
		t.Errorf("service control policies %v, %v", p, err)
	}
	if p, err := w.directory.ResourceControls(bob); p != nil || err != nil {
		t.Errorf("resource control policies %v, %v", p, err)
	}
}

func TestUsersSign(t *testing.T) {
	w := newWorld(t)
	w.root(alice)
	u := w.user(alice, "bobby")
	k := &store.AccessKey{ID: "AKIAUSER", Account: alice, Principal: u.ID, Status: store.AccessKeyActive, CreatedAt: w.now, Secret: secret.FromString("s")}
	w.must(w.store.Update(context.Background(), func(tx *store.Tx) error { return tx.PutAccessKey(k) }))
	who, err := w.as(sigv4.Credential{AccessKeyID: k.ID, Secret: k.Secret}, "us-east-1")
	w.must(err)
	if who.Type != policy.User || who.ARN != "arn:aws:iam::111122223333:user/team/bobby" || who.UniqueID != u.ID || who.PrincipalID != u.ID ||
		who.Name != "bobby" || who.AccessKeyID != k.ID || len(who.Tags) != 1 {
		t.Errorf("caller %+v", *who)
	}
	r := who.Rights
	if len(r.Identity) != 2 || r.Identity[0].Name != "p" || r.Identity[1].ARN != "arn:aws:iam::aws:policy/IAMFullAccess" || r.Boundary == nil ||
		r.Boundary.Name != "AdministratorAccess" || r.Boundary.Holder != "arn:aws:iam::111122223333:user/team/bobby" {
		t.Errorf("rights %+v", *r)
	}
}

func TestAWSManagedPoliciesCompile(t *testing.T) {
	for name, err := range iam.CompileManaged() {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A stored policy that cannot be read ends the call: to leave it out could leave out a Deny.
func TestUnreadablePolicy(t *testing.T) {
	w := newWorld(t)
	w.root(alice)
	u := w.user(alice, "bobby")
	c := sigv4.Credential{AccessKeyID: "AKIAUSER", Secret: secret.FromString("s")}
	k := &store.AccessKey{ID: c.AccessKeyID, Account: alice, Principal: u.ID, Status: store.AccessKeyActive, CreatedAt: w.now, Secret: c.Secret}
	w.must(w.store.Update(context.Background(), func(tx *store.Tx) error { return tx.PutAccessKey(k) }))
	for what, spoil := range map[string]func(*identity.User){
		"an inline policy that is none": func(u *identity.User) { u.Inline[0].Document = "{" },
		"an attached one that is gone":  func(u *identity.User) { u.Attached[0] = "arn:aws:iam::111122223333:policy/gone" },
		"a boundary that is gone":       func(u *identity.User) { u.Boundary = "arn:aws:iam::111122223333:policy/gone" },
		"a group that is gone":          func(u *identity.User) { u.Groups = []string{"AGPAGONE"} },
	} {
		n := u.Clone()
		spoil(n)
		w.identity(identity.KindUser, n.Meta, ok(identity.Encode(n)))
		var refusal *sigv4.Error
		if who, err := w.as(c, "us-east-1"); err == nil || errors.As(err, &refusal) {
			t.Errorf("%s: %v, %v", what, who, err)
		}
		if _, err := w.directory.Caller(context.Background(), u.ARN("aws")); err == nil {
			t.Errorf("%s: there is a caller", what)
		}
	}
	// A body that is none makes the whole account unusable rather than smaller.
	w.identity(identity.KindUser, u.Meta, []byte{9, '{', '}'})
	if who, err := w.as(c, "us-east-1"); err == nil {
		t.Errorf("an unreadable user is %v", who)
	}
}

func FuzzLookup(f *testing.F) {
	w := newWorld(f)
	w.root(alice)
	u, r := w.user(alice, "Bobby"), w.role(alice, "ci")
	for _, s := range []string{"111122223333", "arn:aws:iam::111122223333:user/team/Bobby", "arn:aws:sts::111122223333:assumed-role/ci/s", "arn:aws:iam::111122223333:role//ci", "arn:::::"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, principal string) {
		id, ok, err := w.directory.Lookup(context.Background(), principal)
		if err != nil || !ok && id != "" {
			t.Errorf("%q: %q %v %v", principal, id, ok, err)
		}
		if id == u.ID && !strings.HasSuffix(principal, ":iam::111122223333:user/team/Bobby") ||
			id == r.ID && !strings.HasSuffix(principal, ":iam::111122223333:role/x/ci") && !strings.Contains(principal, ":sts::111122223333:assumed-role/ci/") {
			t.Errorf("%q is %s", principal, id)
		}
	})
}
