package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/store/storetest"
)

// fill gives a store some of everything, more than a page of keys, and returns one of the keys.
func fill(t *testing.T, s *store.Store) *key.Key {
	t.Helper()
	var some *key.Key
	err := s.Update(t.Context(), func(tx *store.Tx) error {
		err := errors.Join(tx.PutAccount(&store.Account{ID: account, Name: "first"}),
			tx.PutIdentity(&store.Identity{Account: account, Kind: "user", Name: "ü", ID: "AIDAU", Body: []byte{0, 255}}))
		for i := range 700 {
			some = aKey()
			if i%3 == 0 {
				some.State, some.DeletionAt = key.PendingDeletion, storetest.Clock()
			}
			err = errors.Join(err, tx.PutKey(some), tx.InsertAlias(&key.Alias{
				Account: some.Account, Region: some.Region, Name: arn.AliasName(fmt.Sprintf("alias/%d", i)), Target: some.ID,
			}), tx.PutKeyUse(&store.KeyUse{Key: some.Name, At: storetest.Clock(), Operation: "Encrypt"}))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return some
}

func openEmpty(t *testing.T, o store.Options) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// TestTransfer moves a store between files and back and, if there is one, to PostgreSQL and back.
func TestTransfer(t *testing.T) {
	engines := map[string]func(*testing.T) store.Options{
		"SQLite":     func(t *testing.T) store.Options { return store.Options{Dir: t.TempDir()} },
		"PostgreSQL": func(t *testing.T) store.Options { return store.Options{DSN: postgres(t)} },
	}
	for name, options := range engines {
		t.Run(name, func(t *testing.T) {
			ctx, source := t.Context(), open(t, t.TempDir())
			some := fill(t, source)
			want, err := source.Verify(ctx, nil)
			if err != nil {
				t.Fatal(err)
			}
			target := openEmpty(t, options(t))
			// Interrupted at several places, it goes on.
			pages := 0
			for _, stop := range []int{1, 3, 4, 7} {
				ctx, cancel := context.WithCancel(ctx)
				_, err := store.Transfer(ctx, source.DB(), target, "", func(string, int64) {
					if pages++; pages >= stop {
						cancel()
					}
				})
				if err == nil || !errors.Is(err, context.Canceled) && !errors.Is(ctx.Err(), context.Canceled) {
					t.Fatalf("interrupted: %v", err)
				}
				cancel()
			}
			if err := target.Initialize(ctx, mustSealed(t, source.DB())); !errors.Is(err, store.ErrTransferring) {
				t.Errorf("initialising half a store: %v", err)
			}
			done, err := store.Transfer(ctx, source.DB(), target, "", nil)
			if err != nil || done.Rows != want.Accounts+want.Identities+want.Keys+want.Aliases+want.KeyUses+2+2+1400 || len(done.Checksum) != 64 {
				t.Fatalf("%+v, %v; %+v", done, err, want)
			}
			if again, err := store.Transfer(ctx, source.DB(), target, "", nil); err != nil || again != done {
				t.Errorf("a second time: %+v, %v", again, err)
			}
			back := openEmpty(t, store.Options{Dir: t.TempDir()})
			if again, err := store.Transfer(ctx, target, back, "", nil); err != nil || again != done {
				t.Errorf("back: %+v, %v; want %+v", again, err, done)
			}
			for _, db := range []*store.DB{target, back} {
				if db.Installation() != source.DB().Installation() {
					t.Error("the installation has another id")
				}
				s := storetest.Unseal(t, db)
				if got, err := s.Verify(ctx, nil); err != nil || got != want {
					t.Errorf("%+v, %v; want %+v", got, err, want)
				}
				if _, err := s.GetKey(ctx, some.Name); err != nil {
					t.Error(err)
				}
				if since, err := s.UsesSince(ctx); err != nil || !since.IsZero() {
					t.Errorf("uses since %v, %v", since, err)
				}
				if err := s.Update(ctx, func(tx *store.Tx) error { return tx.DeleteKey(some.Name) }); err != nil {
					t.Error(err)
				}
			}
			// Somebody else's, and one that was used since.
			if _, err := store.Transfer(ctx, open(t, t.TempDir()).DB(), target, "", nil); !errors.Is(err, store.ErrOtherInstallation) {
				t.Errorf("over another installation: %v", err)
			}
			if _, err := store.Transfer(ctx, source.DB(), target, "", nil); !errors.Is(err, store.ErrSourceChanged) {
				t.Errorf("over one that was used: %v", err)
			}
		})
	}
}

func mustSealed(t *testing.T, db *store.DB) seal.Sealed {
	t.Helper()
	sealed, err := db.Sealed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// A source that is written to between two parts of a transfer is noticed before the target can be used.
func TestTransferOfAChangingSource(t *testing.T) {
	ctx, source := t.Context(), open(t, t.TempDir())
	some := fill(t, source)
	target := openEmpty(t, store.Options{Dir: t.TempDir()})
	changed := false
	_, err := store.Transfer(ctx, source.DB(), target, "", func(table string, _ int64) {
		if table == "aliases" && !changed {
			changed = true
			some.Description = "another"
			if err := source.Update(ctx, func(tx *store.Tx) error { return tx.PutKey(some) }); err != nil {
				t.Error(err)
			}
		}
	})
	if !errors.Is(err, store.ErrSourceChanged) {
		t.Errorf("got %v", err)
	}
	if _, err := target.Sealed(ctx); !errors.Is(err, store.ErrNotInitialized) {
		t.Errorf("the target is usable: %v", err)
	}
}

// TestEveryTableIsTransferred looks into the schema for tables and columns that a transfer would leave behind without a word.
func TestEveryTableIsTransferred(t *testing.T) {
	apart := map[string]bool{ // what is moved in another way, or is about processes
		"seals": true, "domain_keys": true, "meta": true, "writers": true, "leases": true, "nodes": true, "goose_db_version": true, "sqlite_sequence": true,
	}
	s := open(t, t.TempDir())
	rows, err := store.SQL(s).QueryContext(t.Context(), `SELECT t.name, c.name FROM sqlite_master t JOIN pragma_table_info(t.name) c WHERE t.type = 'table'`)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	copied, tables := store.TransferredTables(), map[string]bool{}
	for rows.Next() {
		var table, column string
		if err := rows.Scan(&table, &column); err != nil {
			t.Fatal(err)
		}
		tables[table] = true
		of := table == "changes" && (column == "writer" || column == "mark") // of processes, too
		if !apart[table] && !of && !slices.Contains(copied[table], column) {
			t.Errorf("column %s of table %s stays behind", column, table)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for table := range copied {
		if !tables[table] {
			t.Errorf("there is no table %s", table)
		}
	}
}

// TestTransferBesideServers: a transfer refuses a database that a server uses.
func TestTransferBesideServers(t *testing.T) {
	dsn := postgres(t)
	s := openPostgres(t, dsn)
	if _, _, err := s.Beat(t.Context(), store.Node{Name: "one"}, time.Minute); err != nil {
		t.Fatal(err)
	}
	to := openEmpty(t, store.Options{Dir: t.TempDir()})
	if _, err := store.Transfer(t.Context(), s.DB(), to, "", nil); !errors.Is(err, store.ErrLocked) {
		t.Errorf("while a server runs: %v", err)
	}
	if err := s.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Transfer(t.Context(), s.DB(), to, "", nil); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestSealsBesideBusyUpdates changes domain keys while several processes write without a pause, and hold together what it wants alone.
func TestSealsBesideBusyUpdates(t *testing.T) {
	dsn := postgres(t)
	s := openPostgres(t, dsn)
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	defer writers.Wait()
	defer stop()
	for i := range 6 {
		other := openPostgres(t, dsn)
		writers.Go(func() {
			for ctx.Err() == nil {
				k := aKey()
				k.Account = arn.Account(fmt.Sprintf("00000000001%d", i))
				err := other.Update(t.Context(), func(tx *store.Tx) error {
					time.Sleep(10 * time.Millisecond)
					return tx.PutKey(k)
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 5 {
		if err := s.DB().AddDomainKeys(t.Context(), nil); err != nil {
			t.Error(err)
		}
	}
}

// TestSealsWaitForACommit has another process hold what a change of seals wants for longer than a lock is waited for.
func TestSealsWaitForACommit(t *testing.T) {
	dsn := postgres(t)
	s := openPostgres(t, dsn)
	other := session(t, dsn, `SELECT value FROM meta WHERE name = 'seals and domain keys' FOR SHARE`)
	ended := make(chan error, 1)
	go func() { ended <- s.DB().AddDomainKeys(t.Context(), nil) }()
	select {
	case err := <-ended:
		t.Fatalf("while another holds it: %v", err)
	case <-time.After(1500 * time.Millisecond):
	}
	if err := other.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
