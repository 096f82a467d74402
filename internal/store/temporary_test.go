package store_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/store"
)

// What an update overwrites goes to no file beside the store's own, where it would stay and which a container may have no place for.
func TestNoTemporaryFiles(t *testing.T) {
	s := open(t, t.TempDir())
	var keys []*key.Key
	for range 400 {
		k, _ := keyWithMaterial()
		k.Policy = strings.Repeat("p", 1000)
		keys = append(keys, k)
	}
	put := func(tx *store.Tx) error {
		for _, k := range keys {
			if err := tx.PutKey(k); err != nil {
				return err
			}
		}
		return nil
	}
	if err := s.Update(t.Context(), put); err != nil {
		t.Fatal(err)
	}
	err := s.Update(t.Context(), func(tx *store.Tx) error {
		for _, k := range keys {
			k.Policy = strings.Repeat("q", 1000)
		}
		if err := put(tx); err != nil {
			return err
		}
		links, err := filepath.Glob("/proc/self/fd/*")
		if err != nil || len(links) == 0 {
			t.Error("the system does not say which files are open")
		}
		for _, link := range links {
			if path, err := os.Readlink(link); err == nil && strings.HasSuffix(path, " (deleted)") { // SQLite takes their names away at once
				t.Errorf("%s is open", path)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, db := range map[string]*sql.DB{"the writer": store.SQL(s), "a reader": store.Reads(s), "memory": store.SQL(open(t, ""))} {
		const inMemory = 2
		var where int
		if err := db.QueryRowContext(t.Context(), `PRAGMA temp_store`).Scan(&where); err != nil || where != inMemory {
			t.Errorf("%s: temp_store is %d, %v", name, where, err)
		}
	}
}
