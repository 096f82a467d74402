package store_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/store/storetest"
)

// A backup that was made before there were grants and identities is accepted, and brought up to date when it is restored.
func TestBackupOfTheFirstSchema(t *testing.T) {
	ctx, s := t.Context(), open(t, t.TempDir())
	k := storetest.Key()
	if err := s.Update(ctx, func(tx *store.Tx) error { return tx.PutKey(k) }); err != nil {
		t.Fatal(err)
	}
	path, dir := filepath.Join(t.TempDir(), "backup"), t.TempDir()
	if err := s.DB().Backup(ctx, path); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{"DROP TABLE nodes", "DROP TABLE leases", "DROP TABLE writers", "DROP INDEX changes_of_writer", "ALTER TABLE changes DROP COLUMN writer", "ALTER TABLE changes DROP COLUMN mark", "DROP TABLE quotas", "DROP TABLE key_uses", "DROP TABLE grants", "DROP TABLE identities", "DELETE FROM goose_db_version WHERE version_id > 1", "VACUUM"} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := store.CheckBackup(ctx, path); err != nil || info.Schema != 1 || info.Counts.Keys != 1 {
		t.Errorf("%+v, %v", info, err)
	}
	if _, err := store.Restore(ctx, path, dir); err != nil {
		t.Fatal(err)
	}
	restored := open(t, dir)
	if _, err := restored.GetKey(ctx, k.Name); err != nil {
		t.Error(err)
	}
	if list, _, err := restored.ListGrants(ctx, k.Name, "", 1); err != nil || len(list) > 0 {
		t.Errorf("%v, %v", list, err)
	}
}
