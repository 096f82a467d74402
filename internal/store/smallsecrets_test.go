package store_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
)

func TestSmallSecrets(t *testing.T) {
	ctx := t.Context()
	s := open(t, t.TempDir())
	if _, err := s.SmallSecret(ctx, "one", nil); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("one that was never made: %v", err)
	}
	make := func(b byte) func() secret.Bytes {
		return func() secret.Bytes { return secret.Take(bytes.Repeat([]byte{b}, 32)) }
	}
	is := func(name string, b byte) {
		t.Helper()
		got, err := s.SmallSecret(ctx, name, make(99))
		if err != nil || !got.Equal(make(b)()) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i, name := range []string{"one", "two"} {
		if _, err := s.SmallSecret(ctx, name, make(byte(i))); err != nil {
			t.Fatal(err)
		}
	}
	is("one", 0)
	is("two", 1)

	// One that was replaced since somebody looked stays.
	if err := s.PutSmallSecret(ctx, "three", make(3)()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		was  byte
		want error
	}{{2, store.ErrConflict}, {3, nil}, {3, store.ErrNotFound}} {
		if err := s.DropSameSmallSecret(ctx, "three", make(c.was)()); !errors.Is(err, c.want) {
			t.Errorf("dropping what was %d: %v, want %v", c.was, err, c.want)
		}
	}

	// They are wrapped anew with everything else.
	db := s.DB()
	if err := s.Barrier().RotateDomainKeys(time.Now(), func(keys []seal.DomainKey) error { return db.AddDomainKeys(ctx, keys) }); err != nil {
		t.Fatal(err)
	}
	rewrap := func(_ *key.Key, m *key.Material) ([]byte, error) { return m.Wrapped, nil }
	if err := s.DropOldDomainKeys(ctx, rewrap); !errors.Is(err, store.ErrStale) {
		t.Errorf("dropping the keys that they need: %v", err)
	}
	if n, err := s.Rekey(ctx, rewrap); err != nil || n != 3 { // both, and since when uses are counted
		t.Errorf("%d rows were written again, %v", n, err)
	}
	if err := s.DropOldDomainKeys(ctx, rewrap); err != nil {
		t.Error(err)
	}
	is("two", 1)

	// One that stands in the place of another is refused.
	if _, err := store.SQL(s).ExecContext(ctx, `UPDATE meta SET value = (SELECT value FROM meta WHERE name = 'secret one') WHERE name = 'secret two'`); err != nil {
		t.Fatal(err)
	}
	var corrupt *store.CorruptRowError
	if _, err := s.SmallSecret(ctx, "two", make(5)); !errors.As(err, &corrupt) {
		t.Errorf("a moved secret: %v", err)
	}
	if _, err := s.Verify(ctx, nil); !errors.As(err, &corrupt) {
		t.Errorf("verifying a moved secret: %v", err)
	}
}
