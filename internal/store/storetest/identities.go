package storetest

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
)

func anIdentity(name string) *store.Identity {
	return &store.Identity{
		Account: account, Kind: "user", Name: name, ID: "AIDA" + name, Body: []byte("the body of " + name),
		Secret: secret.FromString("the password of " + name),
	}
}

func equalIdentities(a, b *store.Identity) bool {
	return a != nil && a.Account == b.Account && a.Kind == b.Kind && a.Name == b.Name && a.ID == b.ID && bytes.Equal(a.Body, b.Body) &&
		a.Secret.Equal(b.Secret)
}

// sameIdentity reads an identity in every way and compares it.
func sameIdentity(t *testing.T, s *store.Store, want *store.Identity) {
	t.Helper()
	got, err := s.GetIdentity(t.Context(), want.Account, want.Kind, want.Name)
	if err != nil || !equalIdentities(got, want) {
		t.Errorf("by name: %+v, %v", got, err)
	}
	got, err = s.IdentityByID(t.Context(), want.ID)
	if err != nil || !equalIdentities(got, want) {
		t.Errorf("by id: %+v, %v", got, err)
	}
	got, err = in(t, s, func(tx *store.Tx) (*store.Identity, error) { return tx.GetIdentity(want.Account, want.Kind, want.Name) })
	if err != nil || !equalIdentities(got, want) {
		t.Errorf("in a transaction: %+v, %v", got, err)
	}
}

func testIdentities(t *testing.T, h Harness) {
	s := h.Open(t)
	ctx := t.Context()
	other := arn.Account("444455556666")
	bob, carol, theirs := anIdentity("bob"), anIdentity("carol"), anIdentity("bob")
	carol.Secret = secret.Bytes{}
	theirs.Account, theirs.ID = other, "AIDAtheirs"
	update(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.PutAccount(anAccount()), tx.PutAccount(&store.Account{ID: other, CreatedAt: moment}),
			tx.PutIdentity(carol), tx.PutIdentity(bob), tx.PutIdentity(theirs))
	})
	for _, n := range []*store.Identity{bob, carol, theirs} {
		sameIdentity(t, s, n)
	}
	bob.Body, bob.Secret = []byte("another"), secret.FromString("another")
	update(t, s, func(tx *store.Tx) error { return tx.PutIdentity(bob) })
	sameIdentity(t, s, bob)
	whole, err := s.GetWholeAccount(ctx, account)
	if err != nil || len(whole.Identities) != 2 || !equalIdentities(whole.Identities[0], bob) || !equalIdentities(whole.Identities[1], carol) ||
		*whole.Account != *anAccount() {
		t.Errorf("the account %+v, %v", whole, err)
	}
	if n, err := s.Position(ctx, account, store.GlobalRegion); err != nil || whole.Position != n || n == 0 {
		t.Errorf("the account at %d and not %d, %v", whole.Position, n, err)
	}
	if _, err := s.GetWholeAccount(ctx, "000000000001"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an account that is not there: %v", err)
	}

	for what, n := range map[string]*store.Identity{
		"an id that is taken":        {Account: account, Kind: "user", Name: "dave", ID: bob.ID, Body: []byte("b")},
		"an account that is not one": {Account: "000000000000", Kind: "user", Name: "dave", ID: "AIDAdave", Body: []byte("b")},
		"no body":                    {Account: account, Kind: "user", Name: "dave", ID: "AIDAdave"},
	} {
		if err := s.Update(ctx, func(tx *store.Tx) error { return tx.PutIdentity(n) }); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
	// Another name: out with the old row and in with the new one.
	update(t, s, func(tx *store.Tx) error {
		err := tx.DeleteIdentity(account, "user", "bob")
		bob.Name = "robert"
		return errors.Join(err, tx.PutIdentity(bob))
	})
	sameIdentity(t, s, bob)
	if _, err := s.GetIdentity(ctx, account, "user", "bob"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the old name: %v", err)
	}
	if _, err := s.IdentityByID(ctx, "AIDAnobody"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("nobody: %v", err)
	}
	err = s.Update(ctx, func(tx *store.Tx) error { return tx.DeleteIdentity(account, "user", "bob") })
	if !errors.Is(err, store.ErrNotFound) {
		t.Errorf("deleting nobody: %v", err)
	}
	changes, err := s.ChangesSince(ctx, account, store.GlobalRegion, 0, 10)
	var refs []string
	for _, c := range changes {
		refs = append(refs, string(c.Kind)+" "+c.Ref)
	}
	want := []string{"account 111122223333", "identity user/carol", "identity user/bob", "identity user/bob", "identity user/bob", "identity user/robert"}
	if err != nil || !slices.Equal(refs, want) {
		t.Errorf("changes %q, %v", refs, err)
	}

	// An id that leads to another row is refused by its tag.
	exec(t, h.SQL(t, s), "UPDATE identities SET id = $1 WHERE name = $2", "AIDAforged", "carol")
	if _, err := s.IdentityByID(ctx, "AIDAforged"); !isCorrupt(err) {
		t.Errorf("a forged id: %v", err)
	}
	if _, err := s.GetWholeAccount(ctx, account); !isCorrupt(err) {
		t.Errorf("the account with it: %v", err)
	}
}
