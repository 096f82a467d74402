package iam_test

import (
	"context"
	"errors"
	"testing"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/iam"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/sigv4"
	"github.com/keywright/keywright/internal/wire"
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
		who, err := w.directory.OnBehalf(ctx, service, principal, "aws")
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
	if _, err := w.directory.OnBehalf(ctx, service, shopper, "aws"); err == nil {
		t.Error("a service that is gone speaks for somebody")
	}
	if err := w.directory.RemoveService(ctx, alice, "objects.example.com"); !errors.Is(err, iam.ErrNoService) {
		t.Error(err)
	}
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
