package store_test

import (
	"bufio"
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/store/storetest"
)

// TestQueryPlans asks the engine how it runs each query: a list must find its page in an index, whatever comes before it.
func TestQueryPlans(t *testing.T) {
	db := store.SQL(open(t, ""))
	for _, q := range store.Queries() {
		rows, err := db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+q, make([]any, strings.Count(q, "$"))...)
		if err != nil {
			t.Fatalf("%s: %v", q, err)
		}
		var plan []string
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			plan = append(plan, detail)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Fatal(err)
		}
		text := strings.Join(plan, "; ")
		if strings.Contains(text, "TEMP B-TREE") || strings.Contains(q, "WHERE") && strings.Contains(text, "SCAN") {
			t.Errorf("%s\nis run as %s", q, text)
		}
		if strings.HasPrefix(q, "SELECT key_id FROM keys") && !strings.Contains(text, "COVERING INDEX") {
			t.Errorf("a page of keys reads the rows: %s", text)
		}
	}
}

func TestFileModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "data # % ? dir")
	s := open(t, dir)
	if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.PutKey(storetest.Key()) }); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory: %v, %v", info.Mode(), err)
	}
	names := 0
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names++
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", e.Name(), info.Mode(), err)
		}
	}
	if names < 3 { // the database, its log, the lock
		t.Errorf("%d files", names)
	}
	// Rights that somebody gave to others are taken back.
	if err := s.DB().Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "keywright.db")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("the database: %v", info.Mode())
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := store.Open(t.Context(), store.Options{Dir: dir}); !errors.Is(err, store.ErrLocked) {
		t.Errorf("a second server: %v", err)
	}
	if _, err := store.LockDir(dir); !errors.Is(err, store.ErrLocked) {
		t.Errorf("an offline command: %v", err)
	}
	if err := s.DB().Close(); err != nil {
		t.Fatal(err)
	}
	lock, err := store.LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), store.Options{Dir: dir}); !errors.Is(err, store.ErrLocked) {
		t.Errorf("a server beside an offline command: %v", err)
	}
	if err := errors.Join(lock.Unlock(), lock.Unlock()); err != nil {
		t.Error(err)
	}
	open(t, dir)
}

func TestReadOnly(t *testing.T) {
	dir := t.TempDir()
	if _, err := store.Open(t.Context(), store.Options{Dir: dir, ReadOnly: true}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a store that is not there: %v", err)
	}
	s := open(t, dir)
	k := storetest.Key()
	put := func(k *key.Key) {
		t.Helper()
		if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.PutKey(k) }); err != nil {
			t.Fatal(err)
		}
	}
	put(k)
	db, err := store.Open(t.Context(), store.Options{Dir: dir, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	beside := unseal(t, db)
	if _, err := beside.GetKey(t.Context(), k.Name); err != nil {
		t.Error(err)
	}
	if err := beside.Update(t.Context(), func(tx *store.Tx) error { return tx.PutKey(k) }); err == nil {
		t.Error("a read-only store takes an update")
	}
	if err := db.AddDomainKeys(t.Context(), nil); err == nil {
		t.Error("a read-only store takes domain keys")
	}
	// A row written with a domain key that came later is read all the same.
	err = s.Barrier().RotateDomainKeys(time.Now(), func(keys []seal.DomainKey) error { return s.DB().AddDomainKeys(t.Context(), keys) })
	if err != nil {
		t.Fatal(err)
	}
	k = storetest.Key()
	put(k)
	if _, err := beside.GetKey(t.Context(), k.Name); err != nil || beside.Barrier().Newest(seal.Row) != 2 {
		t.Errorf("a row of the new domain key: %v", err)
	}
}

func TestRefusedRowsAreLogged(t *testing.T) {
	var log bytes.Buffer
	db, err := store.Open(t.Context(), store.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s := unseal(t, db)
	k := storetest.Key()
	k.Description = "description-of-the-key"
	if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.PutKey(k) }); err != nil {
		t.Fatal(err)
	}
	if _, err := store.SQL(s).ExecContext(t.Context(), `UPDATE keys SET body = body || 'x'`); err != nil {
		t.Fatal(err)
	}
	_, err = s.GetKey(t.Context(), k.Name)
	var corrupt *store.CorruptRowError
	if !errors.As(err, &corrupt) || corrupt.Table != "keys" || !strings.HasSuffix(corrupt.Key, string(k.ID)) {
		t.Errorf("got %v", err)
	}
	got := log.String()
	if !strings.Contains(got, "level=ERROR") || !strings.Contains(got, "table=keys") || !strings.Contains(got, string(k.ID)) {
		t.Errorf("the log says %s", got)
	}
	if strings.Contains(got, k.Description) {
		t.Errorf("the log shows content: %s", got)
	}
}

func TestNewerSchema(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := store.SQL(s).ExecContext(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)`); err != nil {
		t.Fatal(err)
	}
	if err := s.DB().Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), store.Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "newer Keywright") {
		t.Errorf("got %v", err)
	}
}

func TestOtherInstallationsBarrier(t *testing.T) {
	db, err := store.Open(t.Context(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	_, sealed, err := seal.Initialize(t.Context(), time.Now(), testSeal())
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := seal.Initialize(t.Context(), time.Now(), testSeal())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Unseal(t.Context(), other); !errors.Is(err, store.ErrNotInitialized) {
		t.Errorf("before: %v", err)
	}
	if err := db.Initialize(t.Context(), sealed); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Unseal(t.Context(), other); !errors.Is(err, seal.ErrRootChanged) {
		t.Errorf("got %v", err)
	}
}

// TestDiskFull lets the engine give up a transaction and looks whether the store goes on.
func TestDiskFull(t *testing.T) {
	s := open(t, t.TempDir())
	db := store.SQL(s)
	k := storetest.Key()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(s.Update(t.Context(), func(tx *store.Tx) error { return tx.PutKey(k) }))
	var pages int
	must(db.QueryRowContext(t.Context(), `PRAGMA page_count`).Scan(&pages))
	_, err := db.ExecContext(t.Context(), fmt.Sprintf(`PRAGMA max_page_count = %d`, pages+20))
	must(err)
	big := func() *key.Key {
		k := storetest.Key()
		k.Policy = strings.Repeat("p", 20000)
		return k
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	written := map[key.Name]bool{}
	for range 40 {
		wg.Go(func() {
			one, two := big(), big()
			err := s.Update(t.Context(), func(tx *store.Tx) error {
				_ = tx.PutKey(one) // an error that is swallowed must not get half of it written
				return tx.PutKey(two)
			})
			mu.Lock()
			defer mu.Unlock()
			written[one.Name], written[two.Name] = err == nil, err == nil
		})
	}
	wg.Wait()
	full := false
	for n, ok := range written {
		_, err := s.GetKey(t.Context(), n)
		if ok != (err == nil) || !ok && !errors.Is(err, store.ErrNotFound) {
			t.Errorf("written: %v, read: %v", ok, err)
		}
		full = full || !ok
	}
	if !full {
		t.Error("the disk was never full")
	}
	_, err = db.ExecContext(t.Context(), `PRAGMA max_page_count = 1000000`)
	must(err)
	must(s.Update(t.Context(), func(tx *store.Tx) error { return tx.PutKey(big()) }))
	if _, err := s.Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

// TestKill kills a process that writes and looks whether everything that it acknowledged is there.
func TestKill(t *testing.T) {
	const env = "KEYWRIGHT_STORE_TEST_DIR"
	if dir := os.Getenv(env); dir != "" {
		writeForEver(t, dir)
	}
	dir := t.TempDir()
	open(t, dir).DB().Close()
	for round := range 3 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKill$")
		cmd.Env = append(os.Environ(), env+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var acknowledged []arn.KeyID
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if id, ok := arn.ParseKeyID(lines.Text()); ok {
				acknowledged = append(acknowledged, id)
			}
			if len(acknowledged) == 300 {
				if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // it was killed
		if len(acknowledged) < 300 {
			t.Fatalf("round %d: %d keys acknowledged", round, len(acknowledged))
		}
		s := open(t, dir)
		for _, id := range acknowledged {
			if _, err := s.GetKey(t.Context(), key.Name{Account: account, Region: region, ID: id}); err != nil {
				t.Fatalf("round %d: %s was acknowledged: %v", round, id, err)
			}
		}
		keys, err := s.CountKeys(t.Context(), account, region)
		counts, err2 := s.Verify(t.Context(), nil)
		positions, err3 := s.Positions(t.Context())
		if err := errors.Join(err, err2, err3); err != nil || keys != counts.Keys || positions[0].N != 2*keys || counts.Aliases != keys {
			t.Errorf("round %d: %d keys, %+v, %v, %v", round, keys, counts, positions, err)
		}
		if err := s.DB().Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// writeForEver puts keys, each with an alias, and prints the id of each when it is acknowledged.
func writeForEver(t *testing.T, dir string) {
	s := open(t, dir)
	for range 16 {
		go func() {
			for {
				k := aKey()
				err := s.Update(t.Context(), func(tx *store.Tx) error {
					return errors.Join(tx.PutKey(k), tx.InsertAlias(&key.Alias{
						Account: k.Account, Region: k.Region,
						Name: arn.AliasName("alias/" + string(k.ID)), Target: k.ID,
					}))
				})
				if err != nil {
					fmt.Println(err)
					os.Exit(1)
				}
				fmt.Println(k.ID)
			}
		}()
	}
	select {}
}

func TestBackup(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	s := open(t, dir)
	first := storetest.Key()
	if err := s.Update(ctx, func(tx *store.Tx) error { return tx.PutKey(first) }); err != nil {
		t.Fatal(err)
	}
	// Another process backs up while this one writes.
	beside, err := store.Open(ctx, store.Options{Dir: dir, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer beside.Close()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	halt := sync.OnceFunc(func() { close(stop); wg.Wait() })
	defer halt()
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := s.Update(ctx, func(tx *store.Tx) error { return tx.PutKey(aKey()) }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	path := filepath.Join(t.TempDir(), "backup.db")
	for i, db := range []*store.DB{beside, s.DB()} {
		p := fmt.Sprintf("%s.%d", path, i)
		if err := db.Backup(ctx, p); err != nil {
			t.Fatal(err)
		}
		if err := db.Backup(ctx, p); !errors.Is(err, os.ErrExist) {
			t.Errorf("overwriting: %v", err)
		}
		if info, _ := os.Stat(p); info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v", info.Mode())
		}
		info, err := store.CheckBackup(ctx, p)
		verified, err2 := store.CheckBackupSealed(ctx, p, testSeal())
		if err != nil || err2 != nil || info != verified || info.Installation != s.DB().Installation() || info.Schema != 7 || info.Counts.Keys < 1 {
			t.Errorf("%+v, %v; sealed: %+v, %v", info, err, verified, err2)
		}
	}
	halt()
	left, err := filepath.Glob(path + "*")
	if err != nil || len(left) != 2 {
		t.Errorf("beside the backups: %v, %v", left, err)
	}

	path += ".0"
	restored := filepath.Join(t.TempDir(), "restored")
	info, err := store.Restore(ctx, path, restored)
	if err != nil || info.Counts.Keys < 1 {
		t.Fatalf("%+v, %v", info, err)
	}
	if _, err := store.Restore(ctx, path, restored); !errors.Is(err, os.ErrExist) {
		t.Errorf("restoring over a store: %v", err)
	}
	if _, err := store.Restore(ctx, path, dir); !errors.Is(err, store.ErrLocked) {
		t.Errorf("restoring under a server: %v", err)
	}
	again := open(t, restored)
	if _, err := again.GetKey(ctx, first.Name); err != nil {
		t.Error(err)
	}
	if counts, err := again.Verify(ctx, nil); err != nil || counts != info.Counts {
		t.Errorf("%+v, %v; want %+v", counts, err, info.Counts)
	}
	if info, _ := os.Stat(filepath.Join(restored, "keywright.db")); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
}

func TestBadBackups(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	s := open(t, filepath.Join(dir, "store"))
	for range 20 {
		if err := s.Update(ctx, func(tx *store.Tx) error { return tx.PutKey(aKey()) }); err != nil {
			t.Fatal(err)
		}
	}
	good := filepath.Join(dir, "good")
	if err := s.DB().Backup(ctx, good); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, b []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for what, p := range map[string]string{
		"no file":    filepath.Join(dir, "none"),
		"empty file": write("empty", nil),
		"text":       write("text", bytes.Repeat([]byte("text"), 2000)),
		"cut":        write("cut", content[:len(content)/2]),
	} {
		target := filepath.Join(dir, "target of "+what)
		if _, err := store.Restore(ctx, p, target); err == nil {
			t.Errorf("%s: restored", what)
		}
		if _, err := os.Stat(target); err == nil {
			t.Errorf("%s: something is in %s", what, target)
		}
	}
	// A forged row passes the check that has no secret, and fails the one that has.
	db, err := sql.Open("sqlite", "file:"+good)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(ctx, `UPDATE keys SET body = replace(body, 'Allow', 'Blond') WHERE rowid = 7`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := store.CheckBackup(ctx, good); err != nil {
		t.Error(err)
	}
	var corrupt *store.CorruptRowError
	if _, err := store.CheckBackupSealed(ctx, good, testSeal()); !errors.As(err, &corrupt) || corrupt.Table != "keys" {
		t.Errorf("a forged row: %v", err)
	}
	if _, err := store.CheckBackupSealed(ctx, good, seal.Passphrase("", secret.FromString("x"))); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("a wrong seal: %v", err)
	}
	// A log beside the target belongs to another database.
	odd := filepath.Join(dir, "odd")
	if err := os.Mkdir(odd, 0o700); err != nil {
		t.Fatal(err)
	}
	write("odd/keywright.db-wal", []byte("x"))
	if _, err := store.Restore(ctx, good, odd); !errors.Is(err, os.ErrExist) {
		t.Errorf("a left-over log: %v", err)
	}
}

// A row that is genuine, but not the one that was asked for, is refused and named.
func TestAnotherGenuineRowIsRefused(t *testing.T) {
	s := open(t, "")
	if err := s.Update(t.Context(), func(tx *store.Tx) error {
		return tx.PutAccount(&store.Account{ID: "111122223333", CreatedAt: time.Now()})
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.GetAccount(t.Context(), "111122223333"); err != nil {
		t.Fatal(err)
	}
	got, err := store.AccountAfter(t.Context(), s, "000000000000")
	var corrupt *store.CorruptRowError
	if got != nil || !errors.As(err, &corrupt) || corrupt.Table != "accounts" {
		t.Errorf("the next account was served: %v, %v", got, err)
	}
}

// An index that was changed leads to a row that is genuine, but another one than was asked for. It must be refused, not
// served under the wrong name.
func TestIndexThatLeadsElsewhere(t *testing.T) {
	const file = "keywright.db"
	dir := t.TempDir()
	s := open(t, dir)
	names := map[string]func(*store.Store) (string, error){} // what stands in an index, and what a look-up serves
	for i := range 5 {
		k := storetest.Key()
		a := &key.Alias{Account: k.Account, Region: k.Region, Name: arn.AliasName(fmt.Sprintf("alias/number-%d", i)), Target: k.ID, CreatedAt: k.CreatedAt, UpdatedAt: k.CreatedAt}
		if err := s.Update(t.Context(), func(tx *store.Tx) error { return errors.Join(tx.PutKey(k), tx.InsertAlias(a)) }); err != nil {
			t.Fatal(err)
		}
		names[string(k.ID)] = func(s *store.Store) (string, error) {
			got, err := s.GetKey(t.Context(), k.Name)
			if err != nil {
				return "", err
			}
			return string(got.ID), nil
		}
		names[string(a.Name)] = func(s *store.Store) (string, error) {
			got, err := s.GetAlias(t.Context(), a.Account, a.Region, a.Name)
			if err != nil {
				return "", err
			}
			return string(got.Name), nil
		}
	}
	if err := s.DB().Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for name, get := range names {
		for from := 0; ; {
			next := bytes.Index(text[from:], []byte(name))
			if next < 0 {
				break
			}
			from += next + len(name) // in an index, the number of the row follows: one octet
			if from >= len(text) || text[from] < 2 || text[from] > 5 {
				continue
			}
			changed := bytes.Clone(text)
			changed[from] ^= 1 // the row before or behind
			copied := t.TempDir()
			if err := os.WriteFile(filepath.Join(copied, file), changed, 0o600); err != nil {
				t.Fatal(err)
			}
			var corrupt *store.CorruptRowError
			if got, err := get(open(t, copied)); err == nil && got != name {
				t.Errorf("octet %d: %s is served as %s", from, got, name)
			} else if errors.As(err, &corrupt) {
				refused++
			}
		}
	}
	if refused == 0 {
		t.Error("no change led to another row: the test tests nothing")
	}
}
