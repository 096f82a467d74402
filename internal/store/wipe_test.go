package store_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/store/storetest"
)

// rootOfTrust are the tables that outlive a wipe.
var rootOfTrust = []string{"meta", "seals", "domain_keys", "goose_db_version", "sqlite_sequence"}

// fillTables writes a row into every table and returns the key.
func fillTables(t *testing.T, s *store.Store) *key.Key {
	t.Helper()
	k, now := storetest.Key(), time.Now()
	err := s.Update(t.Context(), func(tx *store.Tx) error {
		return errors.Join(
			tx.PutKey(k),
			tx.InsertAlias(&key.Alias{Account: k.Account, Region: k.Region, Name: "alias/x", Target: k.ID, CreatedAt: now, UpdatedAt: now}),
			tx.PutGrant(&key.Grant{Key: k.Name, ID: "0a", Grantee: key.GrantPrincipal{ARN: k.Account.Root("aws"), ID: string(k.Account)}, Operations: key.GrantOperation("Decrypt"), Issuer: k.Account, CreatedAt: now}),
			tx.PutKeyUse(&store.KeyUse{Key: k.Name, At: now, Operation: "Encrypt"}),
			tx.PutAccount(&store.Account{ID: k.Account, CreatedAt: now, Partition: arn.Commercial}),
			tx.PutAccessKey(&store.AccessKey{ID: "AKIA", Account: k.Account, Principal: "p", Status: store.AccessKeyActive, CreatedAt: now, Secret: secret.FromString("s")}),
			tx.PutQuota(&store.Quota{Account: k.Account, Region: k.Region, Kind: "value", Name: "x", Body: []byte("{}")}),
			tx.PutIdentity(&store.Identity{Account: k.Account, Kind: "user", Name: "ann", ID: "AIDA", Body: []byte("{}")}),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestWipe looks at every table there is: a new one must be wiped, or named as one that stays.
func TestWipe(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		s, ctx := open(t, dir), t.Context()
		k := fillTables(t, s)
		count := func() map[string]int {
			counts := map[string]int{}
			rows, err := store.SQL(s).QueryContext(ctx, `SELECT name FROM sqlite_master WHERE type = 'table'`)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for rows.Next() {
				var name string
				if err := rows.Scan(&name); err != nil {
					t.Fatal(err)
				}
				names = append(names, name)
			}
			if err := errors.Join(rows.Err(), rows.Close()); err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				var n int
				if err := store.SQL(s).QueryRowContext(ctx, `SELECT count(*) FROM `+name).Scan(&n); err != nil {
					t.Fatal(err)
				}
				counts[name] = n
			}
			return counts
		}
		before := count()
		for name, n := range before {
			if n == 0 && !slices.Contains([]string{"writers", "leases", "nodes"}, name) { // which are for databases that are not wiped
				t.Errorf("the test does not fill %s", name)
			}
		}
		if err := s.Wipe(ctx); err != nil {
			t.Fatal(err)
		}
		for name, n := range count() {
			stays := slices.Contains(rootOfTrust, name)
			if stays && n != before[name] || !stays && n != 0 {
				t.Errorf("%s: %d rows before, %d after", name, before[name], n)
			}
		}
		if err := s.Update(ctx, func(tx *store.Tx) error { return tx.PutKey(k) }); err != nil {
			t.Fatal(err)
		}
		if n, err := s.CountKeys(ctx, k.Account, k.Region); n != 1 || err != nil {
			t.Errorf("%d keys, %v", n, err)
		}
	}
}

// What shares its transaction with a wipe, before and behind it, is counted right.
func TestWipeInAGroup(t *testing.T) {
	s, ctx := open(t, ""), t.Context()
	hold := make(chan struct{})
	errs := make(chan error, 4)
	go func() {
		errs <- s.Update(ctx, func(*store.Tx) error {
			<-hold
			return nil
		})
	}()
	first, second := storetest.Key(), storetest.Key()
	put := func(k *key.Key) func(*store.Tx) error {
		return func(tx *store.Tx) error { return tx.PutKey(k) }
	}
	for _, f := range []func(){
		func() { errs <- s.Update(ctx, put(first)) }, func() { errs <- s.Wipe(ctx) }, func() { errs <- s.Update(ctx, put(second)) },
	} {
		go f()
		time.Sleep(20 * time.Millisecond) // so that they queue in this order
	}
	close(hold)
	for range 4 {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.CountKeys(ctx, second.Account, second.Region); n != 1 || err != nil {
		t.Errorf("%d keys, %v", n, err)
	}
	if list, err := s.ChangesSince(ctx, second.Account, second.Region, 0, 10); err != nil || len(list) != 1 || list[0].N != 1 {
		t.Errorf("%v, %v", list, err)
	}
}

func TestNextDue(t *testing.T) {
	s, ctx := open(t, ""), t.Context()
	base := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	if at, err := s.NextDue(ctx, base); !at.IsZero() || err != nil {
		t.Errorf("nothing is due: %v, %v", at, err)
	}
	err := s.Update(ctx, func(tx *store.Tx) error {
		var all []error
		for _, days := range []int{30, 7} {
			k := storetest.Key()
			k.State, k.DeletionAt = key.PendingDeletion, base.AddDate(0, 0, days)
			all = append(all, tx.PutKey(k))
		}
		return errors.Join(all...)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ after, want int }{{-1, 7}, {6, 7}, {7, 30}, {30, 0}} {
		at, err := s.NextDue(ctx, base.AddDate(0, 0, c.after))
		want := base.AddDate(0, 0, c.want)
		if c.want == 0 {
			want = time.Time{}
		}
		if !at.Equal(want) || err != nil {
			t.Errorf("after day %d: %v, %v", c.after, at, err)
		}
	}
}
