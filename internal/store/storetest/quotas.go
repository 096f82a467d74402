package storetest

import (
	"bytes"
	"errors"
	"testing"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/store"
)

func aQuota(kind, name string) *store.Quota {
	return &store.Quota{Account: account, Region: region, Kind: kind, Name: name, Body: []byte("body of " + name)}
}

func sameQuota(t *testing.T, got *store.Quota, err error, want *store.Quota) {
	t.Helper()
	if err != nil {
		t.Error(err)
		return
	}
	a, b := *got, *want
	a.Body, b.Body = nil, nil
	if a.Account != b.Account || a.Region != b.Region || a.Kind != b.Kind || a.Name != b.Name || !bytes.Equal(got.Body, want.Body) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func testQuotas(t *testing.T, h Harness) {
	s := h.Open(t)
	ctx := t.Context()
	const other arn.Region = "eu-west-1"
	if _, err := s.GetQuota(ctx, account, region, "value", "a"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("nothing: %v", err)
	}
	elsewhere := aQuota("value", "a")
	elsewhere.Region = other
	update(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.PutAccount(anAccount()), tx.PutQuota(aQuota("value", "b")), tx.PutQuota(aQuota("value", "a")),
			tx.PutQuota(aQuota("request", "a")), tx.PutQuota(elsewhere))
	})
	changed := aQuota("value", "b")
	changed.Body = []byte("another body")
	update(t, s, func(tx *store.Tx) error {
		got, err := tx.GetQuota(account, region, "value", "b")
		sameQuota(t, got, err, aQuota("value", "b"))
		return tx.PutQuota(changed)
	})
	if h.Reopen != nil {
		s = h.Reopen(t, s)
	}
	got, err := s.GetQuota(ctx, account, region, "value", "b")
	sameQuota(t, got, err, changed)
	list, err := s.ListQuotas(ctx, account, region, "value")
	if err != nil || len(list) != 2 {
		t.Fatalf("%d in the list, %v", len(list), err)
	}
	sameQuota(t, list[0], nil, aQuota("value", "a"))
	sameQuota(t, list[1], nil, changed)
	if all, err := s.ListAllQuotas(ctx); err != nil || len(all) != 4 {
		t.Errorf("%d everywhere, %v", len(all), err)
	}
	for _, bad := range []store.Quota{{}, {Account: account, Region: region, Kind: "value", Name: "a"}, {Account: account, Kind: "value", Name: "a", Body: []byte("b")}} {
		if err := s.Update(ctx, func(tx *store.Tx) error { return tx.PutQuota(&bad) }); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
	changes, err := s.ChangesSince(ctx, account, region, 0, 10)
	if err != nil || len(changes) != 4 || changes[3] != (store.Change{N: 4, Kind: store.ChangedQuota, Ref: "value/b"}) {
		t.Errorf("changes %+v, %v", changes, err)
	}
	update(t, s, func(tx *store.Tx) error { return tx.DeleteQuota(account, region, "value", "a") })
	if err := s.Update(ctx, func(tx *store.Tx) error { return tx.DeleteQuota(account, region, "value", "a") }); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	if _, err := s.GetQuota(ctx, account, region, "value", "a"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
	if _, err := s.GetQuota(ctx, account, other, "value", "a"); err != nil {
		t.Errorf("of another Region: %v", err)
	}
	if changes, err := s.ChangesSince(ctx, account, region, 4, 10); err != nil || len(changes) != 1 || changes[0].Ref != "value/a" {
		t.Errorf("changes %+v, %v", changes, err)
	}
}
