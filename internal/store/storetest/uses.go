package storetest

import (
	"errors"
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

// testKeyUsesAtOnce writes uses of many keys at once, of which one was used later, one is not there, and one has a row that was changed.
func testKeyUsesAtOnce(t *testing.T, h Harness) {
	s := h.Open(t)
	ctx := t.Context()
	fresh, used, changed, gone := Key(), Key(), Key(), Key()
	used.Region = "eu-west-1"
	put(t, s, fresh)
	put(t, s, used)
	put(t, s, changed)
	later := use(used)
	later.At = moment.Add(time.Hour)
	update(t, s, func(tx *store.Tx) error { return tx.PutKeyUses([]store.KeyUse{*later, *use(changed)}) })
	exec(t, h.SQL(t, s), `UPDATE key_uses SET tag = $1 WHERE key_id = $2`, []byte("another tag"), string(changed.ID))
	update(t, s, func(tx *store.Tx) error {
		return tx.PutKeyUses([]store.KeyUse{*use(fresh), *use(used), *use(changed), *use(gone)})
	})
	for _, want := range []*store.KeyUse{use(fresh), later, use(changed)} {
		if got, err := s.GetKeyUse(ctx, want.Key); err != nil || *got != *want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
	if _, err := s.GetKeyUse(ctx, gone.Name); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("of a key that is not there: %v", err)
	}
	if err := s.Update(ctx, func(tx *store.Tx) error { return tx.PutKeyUses([]store.KeyUse{{Key: fresh.Name, At: moment}}) }); err == nil {
		t.Error("a use without an operation is taken")
	}
}
