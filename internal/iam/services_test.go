package iam_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/iam"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/sigv4"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/stsapi"
)

func TestServices(t *testing.T) {
	w, ctx := newWorld(t), context.Background()
	w.root(alice)
	w.root(bob)
	shopper, own := w.user(bob, "shopper").ARN("aws"), w.user(alice, "owner").ARN("aws")
	id, s, err := w.directory.RegisterService(ctx, alice, "objects.example.com", []arn.Account{bob})
	w.must(err)
	key := sigv4.Credential{AccessKeyID: id, Secret: s}
	service, err := w.as(key, "us-east-1")
	w.must(err)
	if service.Type != policy.Service || service.Service != "objects.example.com" || service.Account != alice || service.Rights != nil {
		t.Errorf("%+v", service)
	}
	for principal, good := range map[string]bool{
		shopper: true, bob.Root("aws"): true, own: false, alice.Root("aws"): false, "arn:aws:iam::444455556666:user/team/nobody": false,
		"444455556666": false, "objects.example.com": false, "*": false, "": false, "arn:aws:iam::444455556666:user/shopper": false,
		"arn:aws:sts::444455556666:federated-user/x": false, "arn:aws:iam::999999999999:root": false,
	} {
		who, err := w.directory.OnBehalf(ctx, service, iam.Behalf{Principal: principal}, "aws")
		var refused *wire.Error
		switch {
		case good && (err != nil || who.ARN != principal || who.AccessKeyID != ""):
			t.Errorf("%s: %+v, %v", principal, who, err)
		case !good && (!errors.As(err, &refused) || refused.Code != wire.CodeAccessDenied || who != nil):
			t.Errorf("%s: %+v, %v", principal, who, err)
		}
	}
	list, err := w.directory.Services(ctx, alice)
	if err != nil || len(list) != 1 || list[0].Name != "objects.example.com" || len(list[0].Accounts) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	who, err := w.directory.Caller(ctx, "objects.example.com")
	if err != nil || who.Service != "objects.example.com" {
		t.Errorf("%+v, %v", who, err)
	}
	w.must(w.directory.RemoveService(ctx, alice, "objects.example.com"))
	w.refused(sigv4.ErrUnknownCredential(), key)
	if _, err := w.directory.OnBehalf(ctx, service, iam.Behalf{Principal: shopper}, "aws"); err == nil {
		t.Error("a service that is gone speaks for somebody")
	}
	if err := w.directory.RemoveService(ctx, alice, "objects.example.com"); !errors.Is(err, iam.ErrNoService) {
		t.Error(err)
	}
}

// A service speaks for a session with all that limits the session, and no longer than it lasts.
func TestOnBehalfOfSessions(t *testing.T) {
	w, ctx := newWorld(t), context.Background()
	root := w.root(alice)
	w.root(bob)
	_, ann := w.newUser(alice, "ann")
	_, stranger := w.newUser(bob, "stranger")
	role := w.newRole("deploy", trustAlice, nil)
	id, s, err := w.directory.RegisterService(ctx, alice, "objects.example.com", []arn.Account{alice})
	w.must(err)
	service, err := w.as(sigv4.Credential{AccessKeyID: id, Secret: s}, "us-east-1")
	w.must(err)
	in := into(role, "job")
	in.Policy, in.SourceIdentity = str(encryptOnly), str("ann@example")
	limited, _ := w.assume(ann, in)
	own := func(c sigv4.Credential) sigv4.Credential {
		out, err := w.ask(c, &stsapi.GetSessionTokenRequest{})
		w.must(err)
		return credentialOf(out.(*stsapi.GetSessionTokenResponse).Credentials)
	}
	annSession, rootSession, strange := own(ann), own(root), own(stranger)
	const job, user = "arn:aws:sts::111122223333:assumed-role/deploy/job", "arn:aws:iam::111122223333:user/ann"
	behalf := func(principal string, c sigv4.Credential) iam.Behalf {
		return iam.Behalf{Principal: principal, AccessKeyID: c.AccessKeyID, Token: c.Token}
	}
	for _, tt := range []struct {
		principal string
		c         sigv4.Credential
	}{{job, limited}, {user, annSession}, {"arn:aws:iam::111122223333:root", rootSession}} {
		signed, err := w.as(tt.c, "us-east-1")
		w.must(err)
		if who, err := w.directory.OnBehalf(ctx, service, behalf(tt.principal, tt.c), "aws"); err != nil || who != signed {
			t.Errorf("%s: %+v, %v", tt.principal, who, err)
		}
	}
	refused := func(want string, b iam.Behalf) {
		t.Helper()
		if who, err := w.directory.OnBehalf(ctx, service, b, "aws"); who != nil || err == nil || err.Error() != "AccessDeniedException: "+want {
			t.Errorf("%s: %+v, %v", b.Principal, who, err)
		}
	}
	may := func(principal string) string {
		return "The service objects.example.com may not call on behalf of " + principal + "."
	}
	refused("The service objects.example.com must send the session token of "+job+".", iam.Behalf{Principal: job})
	refused(may(user), behalf(user, limited))
	refused(may(job), behalf(job, annSession))
	refused(may("arn:aws:sts::111122223333:assumed-role/deploy/other"), behalf("arn:aws:sts::111122223333:assumed-role/deploy/other", limited))
	refused(may(user), behalf(user, strange))
	refused(may("arn:aws:iam::444455556666:user/stranger"), behalf("arn:aws:iam::444455556666:user/stranger", strange))
	refused(may(job), iam.Behalf{Principal: job, AccessKeyID: annSession.AccessKeyID, Token: limited.Token})
	refused(may(job), iam.Behalf{Principal: job, AccessKeyID: limited.AccessKeyID, Token: "x"})
	w.now = w.now.Add(time.Hour)
	refused("The session of "+job+" is over.", behalf(job, limited))
	w.must(iam.Remove(w.directory, role))
	w.now = w.now.Add(-time.Hour)
	refused(may(job), behalf(job, limited))
}

func TestWrongServices(t *testing.T) {
	w, ctx := newWorld(t), context.Background()
	w.root(alice)
	w.root(bob)
	_, _, err := w.directory.RegisterService(ctx, alice, "objects.example.com", nil)
	w.must(err)
	for _, c := range []struct {
		account   arn.Account
		principal string
		accounts  []arn.Account
		want      error
	}{
		{bob, "objects.example.com", nil, iam.ErrServiceExists},
		{bob, "objects", nil, iam.ErrServiceName},
		{bob, "Objects.example.com", nil, iam.ErrServiceName},
		{bob, "objects..com", nil, iam.ErrServiceName},
		{bob, "-objects.com", nil, iam.ErrServiceName},
		{bob, "*.example.com", nil, iam.ErrServiceName},
		{"999999999999", "queue.example.com", nil, iam.ErrNoAccount},
		{bob, "queue.example.com", []arn.Account{"999999999999"}, iam.ErrNoAccount},
	} {
		if _, _, err := w.directory.RegisterService(ctx, c.account, c.principal, c.accounts); !errors.Is(err, c.want) {
			t.Errorf("%s %s: %v", c.account, c.principal, err)
		}
	}
}
