package store_test

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/store/storetest"
)

// cluster runs scripts/postgres and returns what it prints.
func cluster(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("../../scripts/postgres", args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("scripts/postgres %v: %v", args, err)
	}
	return strings.TrimSpace(string(out))
}

// TestFailOver kills a primary under write load and promotes its synchronous standby: what was acknowledged is there, and
// what was not made is not.
func TestFailOver(t *testing.T) {
	if os.Getenv("KEYWRIGHT_POSTGRES") == "" {
		t.Skip("it starts two databases of its own, where there are others")
	}
	dir, err := os.MkdirTemp("", "failover")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()     // what is left is another user's
	if err := os.Chmod(dir, 0o755); err != nil { // another user runs the server
		t.Fatal(err)
	}
	first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	dsn := cluster(t, "start", first)
	defer cluster(t, "stop", first)
	other := cluster(t, "standby", second, first)
	defer cluster(t, "stop", second)
	one, err1 := url.Parse(dsn)
	two, err2 := url.Parse(other)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	one.Host += "," + two.Host

	var nodes []*store.Store
	for range 2 {
		db, err := store.Open(t.Context(), store.Options{DSN: one.String(), Timeout: 2 * time.Second, Patience: 30 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		nodes = append(nodes, storetest.Unseal(t, db))
	}
	var mu sync.Mutex
	var acknowledged []*key.Key
	failed := map[key.Name]error{}
	var count atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				k := aKey()
				err := nodes[i%2].Update(context.Background(), func(tx *store.Tx) error {
					return errors.Join(tx.ReplaceKey(nil, k), tx.InsertAlias(&key.Alias{
						Account: k.Account, Region: k.Region, Name: arn.AliasName("alias/" + string(k.ID)), Target: k.ID,
					}))
				})
				mu.Lock()
				if err == nil {
					acknowledged = append(acknowledged, k)
					count.Add(1)
				} else {
					failed[k.Name] = err
				}
				mu.Unlock()
			}
		})
	}
	reach := func(n int64) {
		for end := time.Now().Add(60 * time.Second); count.Load() < n; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d keys were acknowledged, %d failed", count.Load(), len(failed))
			}
		}
	}
	reach(100)
	before := count.Load()
	began := time.Now()
	cluster(t, "kill", first)
	cluster(t, "promote", second)
	promoted := time.Since(began)
	before = max(before, count.Load())
	reach(before + 1)
	t.Logf("promoted after %v, the next change was acknowledged after %v", promoted, time.Since(began))
	reach(before + 100)
	stop()
	wg.Wait()
	t.Logf("%d keys acknowledged, %d failed: %v", len(acknowledged), len(failed), failed)
	s := nodes[0]
	for _, k := range acknowledged {
		if _, err := s.GetKey(t.Context(), k.Name); err != nil {
			t.Errorf("%s was acknowledged: %v", k.ID, err)
		}
	}
	there := int64(len(acknowledged))
	for name, why := range failed {
		_, err := s.GetKey(t.Context(), name)
		if err == nil {
			there++
		}
		if err == nil && !errors.Is(why, store.ErrUnknown) {
			t.Errorf("%s was refused with %v and is there", name.ID, why)
		}
	}
	counts, err := s.Verify(t.Context(), nil)
	n, err2 := s.CountKeys(t.Context(), account, region)
	p, err3 := s.Position(t.Context(), account, region)
	if err := errors.Join(err, err2, err3); err != nil || counts.Keys != there || counts.Aliases != there || n != there || p != 2*there {
		t.Errorf("%d keys are there, but %+v, counted %d, position %d, %v", there, counts, n, p, err)
	}
	notReplicated(t, s, with(t, other, "synchronous_commit", "local"))
}

// notReplicated has a commit wait for a standby that is not there, and somebody end the wait: the server says that it is done.
func notReplicated(t *testing.T, s *store.Store, dsn string) {
	t.Helper()
	admin, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.Close() }() // it only asked
	for _, statement := range []string{"ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()"} {
		if _, err := admin.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(500 * time.Millisecond) // for the sessions to read it
	k := aKey()
	done := make(chan error, 1)
	go func() {
		done <- s.Update(context.Background(), func(tx *store.Tx) error { return tx.ReplaceKey(nil, k) })
	}()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		var cancelled int
		err := admin.QueryRowContext(t.Context(), "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'").Scan(&cancelled)
		if err != nil || time.Now().After(end) {
			t.Fatalf("nobody waits for a standby: %v", err)
		}
		if cancelled > 0 {
			break
		}
	}
	if err := <-done; !errors.Is(err, store.ErrUnknown) {
		t.Errorf("a commit that may not be on the standby: %v", err)
	}
	for _, statement := range []string{"ALTER SYSTEM SET synchronous_standby_names = ''", "SELECT pg_reload_conf()"} {
		if _, err := admin.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.GetKey(t.Context(), k.Name); err != nil {
		t.Errorf("it is on the primary all the same: %v", err)
	}
}
