package storetest

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/store"
)

// grant returns the n-th grant on a key; ids grow with n.
func grant(k *key.Key, n int) *key.Grant {
	return &key.Grant{
		ID: fmt.Sprintf("%064x", n), Key: k.Name, Name: "name", CreatedAt: moment, Issuer: account,
		Grantee:    key.GrantPrincipal{ARN: "arn:aws:iam::111122223333:user/u", ID: "AIDAU"},
		Retiring:   key.GrantPrincipal{ARN: "arn:aws:sts::111122223333:assumed-role/r/s", ID: "AROAR"},
		Operations: key.GrantOperation("Encrypt"), Constraints: key.GrantConstraints{Subset: map[string]string{"a": "1"}},
	}
}

func testGrants(t *testing.T, h Harness) {
	s := h.Open(t)
	ctx, k, other := t.Context(), Key(), Key()
	put(t, s, k, other)
	g := grant(k, 1)
	update(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.PutGrant(g), tx.PutGrant(grant(k, 2)), tx.PutGrant(grant(other, 1)))
	})
	if got, err := s.GetGrant(ctx, k.Name, g.ID); err != nil || !reflect.DeepEqual(got, g) {
		t.Errorf("got %+v, %v; want %+v", got, err, g)
	}
	changed := *g
	changed.Retiring = key.GrantPrincipal{}
	update(t, s, func(tx *store.Tx) error { return tx.PutGrant(&changed) })
	got, err := in(t, s, func(tx *store.Tx) (*key.Grant, error) { return tx.GetGrant(k.Name, g.ID) })
	if err != nil || !reflect.DeepEqual(got, &changed) {
		t.Errorf("after a change: %+v, %v", got, err)
	}
	update(t, s, func(tx *store.Tx) error { return tx.DeleteGrant(k.Name, g.ID) })
	if _, err := s.GetGrant(ctx, k.Name, g.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after deletion: %v", err)
	}
	if err := s.Update(ctx, func(tx *store.Tx) error { return tx.DeleteGrant(k.Name, g.ID) }); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a second deletion: %v", err)
	}
	if err := s.Update(ctx, func(tx *store.Tx) error { return tx.PutGrant(grant(Key(), 1)) }); err == nil {
		t.Error("a grant on no key")
	}
	nothing := grant(k, 3)
	nothing.Operations = 0
	if err := s.Update(ctx, func(tx *store.Tx) error { return tx.PutGrant(nothing) }); err == nil {
		t.Error("a grant of nothing")
	}
	changes, err := s.ChangesSince(ctx, account, region, 2, 10)
	want := []store.Change{
		{N: 3, Kind: store.ChangedGrant, Ref: string(k.ID) + "/" + g.ID},
		{N: 4, Kind: store.ChangedGrant, Ref: string(k.ID) + "/" + grant(k, 2).ID},
		{N: 5, Kind: store.ChangedGrant, Ref: string(other.ID) + "/" + g.ID},
		{N: 6, Kind: store.ChangedGrant, Ref: string(k.ID) + "/" + g.ID},
		{N: 7, Kind: store.ChangedGrant, Ref: string(k.ID) + "/" + g.ID},
	}
	if err != nil || !slices.Equal(changes, want) {
		t.Errorf("changes %v, %v", changes, err)
	}
	// Grants go with their key, and with no other.
	update(t, s, func(tx *store.Tx) error { return tx.DeleteKey(k.Name) })
	if list, _, err := s.ListGrants(ctx, k.Name, "", 10); err != nil || len(list) > 0 {
		t.Errorf("grants of a deleted key: %v, %v", list, err)
	}
	if list, _, err := s.ListGrants(ctx, other.Name, "", 10); err != nil || len(list) != 1 {
		t.Errorf("grants of another key: %v, %v", list, err)
	}
}

func testGrantPages(t *testing.T, h Harness) {
	s := h.Open(t)
	ctx, one, two, elsewhere := t.Context(), Key(), Key(), Key()
	elsewhere.Region = "eu-west-1"
	two.Account = "444455556666"
	put(t, s, one, two, elsewhere)
	update(t, s, func(tx *store.Tx) error {
		nobody := grant(one, 99)
		nobody.Retiring = key.GrantPrincipal{}
		err := errors.Join(tx.PutGrant(grant(elsewhere, 1)), tx.PutGrant(nobody))
		for i := range 10 {
			err = errors.Join(err, tx.PutGrant(grant(one, i+1)), tx.PutGrant(grant(two, i+1)))
		}
		return err
	})
	for _, limit := range []int{1, 3, 10, 11, 100} {
		var ids []string
		for more, after := true, ""; more; {
			var list []*key.Grant
			var err error
			if list, more, err = s.ListGrants(ctx, one.Name, after, limit); err != nil || len(list) == 0 || len(list) > limit {
				t.Fatalf("limit %d: %d grants, %v", limit, len(list), err)
			}
			for _, g := range list {
				ids, after = append(ids, g.ID), g.ID
			}
		}
		retirable := 0
		for more, after := true, (store.GrantRef{}); more; {
			var list []*key.Grant
			var err error
			if list, more, err = s.ListRetirableGrants(ctx, "AROAR:s", region, after, limit); err != nil || len(list) == 0 || len(list) > limit {
				t.Fatalf("limit %d: %d retirable grants, %v", limit, len(list), err)
			}
			for _, g := range list {
				next := store.GrantRef{Account: g.Key.Account, Key: g.Key.ID, ID: g.ID}
				if next == after {
					t.Fatal("a grant twice")
				}
				after = next
			}
			retirable += len(list)
		}
		if len(ids) != 11 || !slices.IsSorted(ids) || retirable != 20 {
			t.Errorf("limit %d: pages give %d grants and %d retirable ones", limit, len(ids), retirable)
		}
	}
	for _, holder := range []string{"", "AROAR", "AIDAU"} {
		if list, more, err := s.ListRetirableGrants(ctx, holder, region, store.GrantRef{}, 10); err != nil || len(list) > 0 || more {
			t.Errorf("%q may retire %v, %v", holder, list, err)
		}
	}
}

// testMovedGrants copies a genuine grant to another key and to another who may retire it.
func testMovedGrants(t *testing.T, h Harness) {
	s := h.Open(t)
	ctx, one, two := t.Context(), Key(), Key()
	put(t, s, one, two)
	g := grant(one, 1)
	update(t, s, func(tx *store.Tx) error { return tx.PutGrant(g) })
	db := h.SQL(t, s)
	exec(t, db, `INSERT INTO grants SELECT account, region, $1, grant_id, retiring, body, tag FROM grants`, string(two.ID))
	if _, err := s.GetGrant(ctx, two.Name, g.ID); !isCorrupt(err) {
		t.Errorf("a copy on another key: %v", err)
	}
	if _, _, err := s.ListGrants(ctx, two.Name, "", 10); !isCorrupt(err) {
		t.Errorf("the list with it: %v", err)
	}
	exec(t, db, `DELETE FROM grants WHERE key_id = $1`, string(two.ID))
	exec(t, db, `UPDATE grants SET retiring = 'AIDAEVE'`)
	if _, _, err := s.ListRetirableGrants(ctx, "AIDAEVE", region, store.GrantRef{}, 10); !isCorrupt(err) {
		t.Errorf("what another may retire: %v", err)
	}
	if _, err := s.Verify(ctx, nil); !isCorrupt(err) {
		t.Errorf("Verify: %v", err)
	}
}

// testExpectGrants: who remembers the grants of a key hears of it when another process has changed them, however many there are now.
func testExpectGrants(t *testing.T, h Harness) {
	nodes := besides(t, h, 2)
	one, two := nodes[0], nodes[1]
	k, other := Key(), Key()
	put(t, one, k, other)
	update(t, one, func(tx *store.Tx) error { return errors.Join(tx.PutGrant(grant(k, 1)), tx.PutGrant(grant(other, 1))) })
	expect := func(n int64) error {
		return one.Update(t.Context(), func(tx *store.Tx) error { return tx.ExpectGrants(k.Name, n) })
	}
	update(t, two, func(tx *store.Tx) error { return errors.Join(tx.PutGrant(grant(other, 2)), tx.PutKey(k)) }) // 5 and 6
	if err := expect(4); err != nil {
		t.Errorf("nothing has changed: %v", err)
	}
	if err := expect(2); !errors.Is(err, store.ErrConflict) {
		t.Errorf("one was made: %v", err)
	}
	update(t, two, func(tx *store.Tx) error {
		return errors.Join(tx.DeleteGrant(k.Name, grant(k, 1).ID), tx.PutGrant(grant(k, 2)))
	})
	if err := expect(4); !errors.Is(err, store.ErrConflict) {
		t.Errorf("one went and one came: %v", err)
	}
	if err := expect(8); err != nil {
		t.Errorf("read again: %v", err)
	}
	if _, err := one.TrimChanges(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := expect(6); !errors.Is(err, store.ErrConflict) {
		t.Errorf("the feed begins later: %v", err)
	}
	if err := one.Update(t.Context(), func(tx *store.Tx) error {
		return errors.Join(tx.PutGrant(grant(k, 3)), tx.ExpectGrants(k.Name, 8))
	}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("one was made before in the transaction: %v", err)
	}
}
