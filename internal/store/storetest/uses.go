package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/store"
)

func use(k *key.Key) *store.KeyUse {
	return &store.KeyUse{Key: k.Name, At: moment, Operation: "Encrypt", EventID: "an event", RequestID: "a request"}
}

func testKeyUses(t *testing.T, h Harness) {
	s := h.Open(t)
	ctx := t.Context()
	k, gone := Key(), Key()
	put(t, s, k)
	if _, err := s.GetKeyUse(ctx, k.Name); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("never used: %v", err)
	}
	if since, err := s.UsesSince(ctx); err != nil || !since.IsZero() {
		t.Errorf("uses of a new store are known since %v, %v", since, err)
	}
	before, err := s.Positions(ctx)
	if err != nil {
		t.Fatal(err)
	}
	last := use(k)
	last.At, last.Operation = moment.Add(time.Millisecond), "Decrypt"
	update(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.PutKeyUse(use(k)), tx.PutKeyUse(last), tx.PutKeyUse(use(gone)))
	})
	if h.Reopen != nil {
		s = h.Reopen(t, s)
	}
	if got, err := s.GetKeyUse(ctx, k.Name); err != nil || *got != *last {
		t.Errorf("got %+v, %v, want %+v", got, err, last)
	}
	update(t, s, func(tx *store.Tx) error { return tx.PutKeyUse(use(k)) })
	if got, err := s.GetKeyUse(ctx, k.Name); err != nil || *got != *last {
		t.Errorf("an earlier use leaves %+v, %v, want %+v", got, err, last)
	}
	if _, err := s.GetKeyUse(ctx, gone.Name); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("of a key that is not there: %v", err)
	}
	if err := s.Update(ctx, func(tx *store.Tx) error { return tx.PutKeyUse(&store.KeyUse{Key: k.Name, At: moment}) }); err == nil {
		t.Error("a use without an operation is taken")
	}
	if after, err := s.Positions(ctx); err != nil || len(after) != len(before) || after[0] != before[0] {
		t.Errorf("a use is in the change feed: %v, then %v, %v", before, after, err)
	}
	update(t, s, func(tx *store.Tx) error { return tx.DeleteKey(k.Name) })
	if _, err := s.GetKeyUse(ctx, k.Name); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("of a deleted key: %v", err)
	}
}

// testManyUses writes uses of many keys and access keys at once: of each the latest stays, whoever writes it.
func testManyUses(t *testing.T, h Harness) {
	s := h.Open(t)
	ctx := t.Context()
	const many = 150 // several transactions
	var uses []store.KeyUse
	access := map[string]store.AccessKeyUse{"AKIAGONE": {At: moment, Region: region, Service: "kms"}}
	update(t, s, func(tx *store.Tx) error {
		err := tx.PutAccount(anAccount())
		for i := range many {
			k, a := Key(), anAccessKey(fmt.Sprint("AKIA", i))
			uses = append(uses, *use(k))
			access[a.ID] = store.AccessKeyUse{At: a.LastUsed.At.Add(time.Minute), Region: region, Service: "kms"}
			err = errors.Join(err, tx.PutKey(k), tx.PutAccessKey(a))
		}
		return err
	})
	before, err := s.Positions(ctx)
	if err != nil {
		t.Fatal(err)
	}
	write := func() {
		t.Helper()
		if err := errors.Join(s.PutKeyUses(ctx, append(uses, *use(Key()))), s.PutAccessKeyUses(ctx, access)); err != nil {
			t.Fatal(err)
		}
	}
	check := func(what string) {
		t.Helper()
		for i, u := range uses {
			id := fmt.Sprint("AKIA", i)
			got, err := s.GetKeyUse(ctx, u.Key)
			k, err2 := s.GetAccessKey(ctx, id)
			if err := errors.Join(err, err2); err != nil || *got != u || k.LastUsed != access[id] {
				t.Fatalf("%s: %+v and %+v, %v; want %+v and %+v", what, got, k, err, u, access[id])
			}
		}
	}
	later := func(d time.Duration) {
		for i := range uses {
			id := fmt.Sprint("AKIA", i)
			a := access[id]
			a.At, uses[i].At = a.At.Add(d), uses[i].At.Add(d)
			access[id] = a
		}
	}
	write()
	check("first uses")
	later(time.Minute)
	write()
	check("later ones")
	later(-time.Hour)
	write()
	later(time.Hour)
	check("earlier ones, in vain")
	if after, err := s.Positions(ctx); err != nil || !slices.Equal(after, before) {
		t.Errorf("uses are in the change feed: %v, then %v, %v", before, after, err)
	}
	if _, err := s.Verify(ctx, nil); err != nil {
		t.Error(err)
	}
}

// testUsesHoldNobodyUp has one process write uses while another one changes the account, and both write later and later ones.
func testUsesHoldNobodyUp(t *testing.T, h Harness) {
	nodes := besides(t, h, 2)
	one, two := nodes[0], nodes[1]
	k, a := Key(), anAccessKey("AKIA1")
	put(t, one, k)
	update(t, one, func(tx *store.Tx) error {
		return errors.Join(tx.PutAccount(anAccount()), tx.PutAccessKey(a), tx.PutKeyUse(use(k)))
	})
	write := func(s *store.Store, n int) error {
		u := *use(k)
		u.At = u.At.Add(time.Duration(n) * time.Second)
		return errors.Join(s.PutKeyUses(t.Context(), []store.KeyUse{u}), s.PutAccessKeyUses(t.Context(), map[string]store.AccessKeyUse{
			a.ID: {At: a.LastUsed.At.Add(time.Duration(n) * time.Second), Region: region, Service: "kms"},
		}))
	}
	runs := 0
	update(t, two, func(tx *store.Tx) error { // which has both from now on
		runs++
		if _, err := tx.Position(account, store.GlobalRegion); err != nil {
			return err
		}
		if err := tx.PutKey(k); err != nil {
			return err
		}
		return write(one, 1)
	})
	if runs > 1 {
		t.Error("uses were not written before the database ended the transaction that had the account")
	}
	const last = 40
	var both sync.WaitGroup
	for i, s := range nodes {
		both.Go(func() {
			for n := 2 + i; n <= last; n += 2 {
				if err := write(s, n); err != nil {
					t.Error(err)
				}
			}
		})
	}
	both.Wait()
	got, err := one.GetKeyUse(t.Context(), k.Name)
	used, err2 := one.GetAccessKey(t.Context(), a.ID)
	if err := errors.Join(err, err2); err != nil || !got.At.Equal(moment.Add(last*time.Second)) || !used.LastUsed.At.Equal(a.LastUsed.At.Add(last*time.Second)) {
		t.Errorf("%+v and %+v, %v", got, used, err)
	}
}

// testUsesSince changes each octet of the note of since when uses are written down, and takes it away: at the next start an
// installation with keys has one from then on.
func testUsesSince(t *testing.T, h Harness) {
	s := h.Open(t)
	ctx, db := t.Context(), h.SQL(t, s)
	put(t, s, Key())
	var value string
	if err := db.QueryRowContext(ctx, "SELECT value FROM meta WHERE name = 'uses since'").Scan(&value); err != nil {
		t.Fatal(err)
	}
	const set = "UPDATE meta SET value = $1 WHERE name = 'uses since'"
	for i := range len(value) {
		changed := []byte(value)
		changed[i] ^= 1
		exec(t, db, set, string(changed))
		if since, err := s.UsesSince(ctx); err == nil {
			t.Errorf("octet %d changed: uses are known since %v", i, since)
		}
	}
	exec(t, db, set, "1"+value)
	var refused []string
	if _, err := s.Verify(ctx, func(e *store.CorruptRowError) { refused = append(refused, e.Table+" "+e.Key) }); !isCorrupt(err) || len(refused) != 1 || refused[0] != "meta uses since" {
		t.Errorf("Verify: %v, %v", refused, err)
	}
	exec(t, db, set, value)
	if since, err := s.UsesSince(ctx); err != nil || !since.IsZero() {
		t.Errorf("%v, %v", since, err)
	}
	if h.Reopen == nil {
		return
	}
	for what, change := range map[string]string{"taken away": "DELETE FROM meta WHERE name = 'uses since'", "without a tag": "UPDATE meta SET value = '0' WHERE name = 'uses since'"} {
		exec(t, h.SQL(t, s), change)
		if _, err := s.Verify(ctx, nil); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		s = h.Reopen(t, s)
		if since, err := s.UsesSince(ctx); err != nil || !since.Equal(moment) {
			t.Errorf("%s: uses are known since %v, %v", what, since, err)
		}
	}
}
