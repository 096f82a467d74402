package server_test

import (
	"testing"

	"github.com/keywright/keywright/internal/server"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/store/storetest"
)

// Of several servers the one that leads counts and shows what it found; the others tell who asks, and show nothing.
func TestOneServerCounts(t *testing.T) {
	db, err := store.Open(t.Context(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	s := storetest.Unseal(t, db)
	if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.PutKey(storetest.Key()) }); err != nil {
		t.Fatal(err)
	}
	for leads, want := range map[bool]int64{true: 1, false: -1} {
		shown, told, err := server.Counted(t.Context(), s, leads)
		if err != nil || shown != want || told != 1 {
			t.Errorf("leads %v: shows %d, tells %d, %v", leads, shown, told, err)
		}
	}
}
