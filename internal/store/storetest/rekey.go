package storetest

import (
	"errors"
	"slices"
	"testing"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
)

// wrapping stands where the custody will: it wraps material for a key.
type wrapping struct{ b *seal.Barrier }

func (w wrapping) aad(n key.Name, id string) []byte {
	return seal.Associate("storetest material v1", n.ARN(), id)
}

func (w wrapping) wrap(n key.Name, m *key.Material, content string) (err error) {
	m.Wrapped, err = w.b.Encrypt(seal.Material, w.aad(n, m.ID), secret.FromString(content))
	return err
}

func (w wrapping) open(n key.Name, m key.Material) string {
	content, err := w.b.Decrypt(seal.Material, w.aad(n, m.ID), m.Wrapped)
	if err != nil {
		return err.Error()
	}
	return string(content.Expose())
}

// rewrap is a store.Rewrap.
func (w wrapping) rewrap(k *key.Key, m *key.Material) ([]byte, error) {
	n := k.Name
	if !w.b.Stale(seal.Material, m.Wrapped) {
		return m.Wrapped, nil
	}
	content, err := w.b.Decrypt(seal.Material, w.aad(n, m.ID), m.Wrapped)
	if err != nil {
		return nil, err
	}
	return w.b.Encrypt(seal.Material, w.aad(n, m.ID), content)
}

// old is a store of many rows, written before a rotation of the domain keys.
func old(t *testing.T, h Harness) (*store.Store, []*key.Key) {
	t.Helper()
	s := h.Open(t)
	w := wrapping{s.Barrier()}
	var keys []*key.Key
	update(t, s, func(tx *store.Tx) error {
		err := errors.Join(tx.PutAccount(anAccount()), tx.PutAccessKey(anAccessKey("AKIA1")), tx.PutAccessKey(anAccessKey("AKIA2")),
			tx.PutIdentity(anIdentity("bob")), tx.PutQuota(aQuota("value", "a")))
		for range 300 { // several pages
			k := Key()
			keys = append(keys, k)
			err = errors.Join(err, w.wrap(k.Name, &k.Material[0], "material of "+string(k.ID)), tx.PutKey(k),
				tx.InsertAlias(alias(k, string(k.ID))), tx.PutGrant(grant(k, 1)), tx.PutKeyUse(use(k)))
		}
		return err
	})
	rotate(t, s)
	return s, keys
}

func rotate(t *testing.T, s *store.Store) {
	t.Helper()
	err := s.Barrier().RotateDomainKeys(moment, func(keys []seal.DomainKey) error { return s.DB().AddDomainKeys(t.Context(), keys) })
	if err != nil {
		t.Fatal(err)
	}
}

func testRekey(t *testing.T, h Harness) {
	s, keys := old(t, h)
	ctx, w := t.Context(), wrapping{s.Barrier()}
	position, err := s.Positions(ctx)
	if err != nil {
		t.Fatal(err)
	}
	fresh := Key() // written after the rotation: nothing to do
	if err := w.wrap(fresh.Name, &fresh.Material[0], "material of "+string(fresh.ID)); err != nil {
		t.Fatal(err)
	}
	if err := s.DropOldDomainKeys(ctx, w.rewrap); !errors.Is(err, store.ErrStale) {
		t.Errorf("dropping keys in use: %v", err)
	}
	// Interrupted half-way, it goes on where it was.
	calls := 0
	done, err := s.Rekey(ctx, func(k *key.Key, m *key.Material) ([]byte, error) {
		if calls++; calls > 200 {
			return nil, errRefused
		}
		return w.rewrap(k, m)
	})
	if !errors.Is(err, errRefused) || done == 0 {
		t.Errorf("interrupted: %d rows, %v", done, err)
	}
	put(t, s, fresh)
	more, err := s.Rekey(ctx, w.rewrap)
	if err != nil || done+more != 1+2+1+1+300+300+300+300+1 {
		t.Errorf("%d and %d rows, %v", done, more, err)
	}
	if again, err := s.Rekey(ctx, w.rewrap); err != nil || again != 0 {
		t.Errorf("a second time: %d rows, %v", again, err)
	}
	if err := s.DropOldDomainKeys(ctx, w.rewrap); err != nil {
		t.Error(err)
	}
	after, err := s.Positions(ctx)
	position[1].N++ // the fresh key
	if err != nil || !slices.Equal(after, position) {
		t.Errorf("re-keying is in the change feed: %v, then %v", position, after)
	}
	if h.Reopen != nil {
		s = h.Reopen(t, s)
		w = wrapping{s.Barrier()}
	}
	sealed, err := s.DB().Sealed(ctx)
	if err != nil || len(sealed.DomainKeys) != 4 || sealed.DomainKeys[0].Version != 2 {
		t.Errorf("domain keys %+v, %v", sealed.DomainKeys, err)
	}
	counts, err := s.Verify(ctx, nil)
	if want := (store.Counts{Seals: 1, DomainKeys: 4, Accounts: 1, AccessKeys: 2, Identities: 1, Keys: 301, Aliases: 300, Grants: 300, KeyUses: 300, Quotas: 1}); err != nil || counts != want {
		t.Errorf("%+v, %v", counts, err)
	}
	sameAccessKey(t, s, anAccessKey("AKIA2"))
	sameIdentity(t, s, anIdentity("bob"))
	for _, k := range append(keys, fresh) {
		got, err := s.GetKey(ctx, k.Name)
		if err != nil {
			t.Fatal(err)
		}
		if content := w.open(k.Name, got.Material[0]); content != "material of "+string(k.ID) {
			t.Errorf("%s: %s", k.ID, content)
		}
	}
}

// testRotateRoot goes through what `seal rotate` does, and then with the old seal records against the new store.
func testRotateRoot(t *testing.T, h Harness) {
	if h.Reopen == nil {
		t.Skip("a store in memory cannot be opened again with the old seal records")
	}
	s, keys := old(t, h)
	ctx, w := t.Context(), wrapping{s.Barrier()}
	before, err := s.DB().Sealed(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Rekey(ctx, w.rewrap); err != nil {
		t.Fatal(err)
	}
	if err := s.DropOldDomainKeys(ctx, w.rewrap); err != nil {
		t.Fatal(err)
	}
	sealed, err := s.DB().Sealed(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_, rotated, err := s.Barrier().RotateRoot(ctx, moment, sealed, []seal.Seal{Seal()}, nil)
	if err == nil {
		err = s.DB().ReplaceSealed(ctx, rotated)
	}
	if err != nil {
		t.Fatal(err)
	}
	s = h.Reopen(t, s)
	if got, err := s.GetKey(ctx, keys[0].Name); err != nil || (wrapping{s.Barrier()}).open(got.Name, got.Material[0]) != "material of "+string(got.ID) {
		t.Errorf("after the rotation: %v", err)
	}
	oldBarrier, err := seal.Unseal(ctx, before, Seal())
	if err != nil {
		t.Fatal(err)
	}
	if err := oldBarrier.Load(rotated.DomainKeys); err != nil {
		t.Errorf("loading what it has: %v", err)
	}
	if _, err := seal.Unseal(ctx, seal.Sealed{Seals: before.Seals, DomainKeys: rotated.DomainKeys}, Seal()); !errors.Is(err, seal.ErrRootChanged) {
		t.Errorf("an old seal record opens the new domain keys: %v", err)
	}
}
