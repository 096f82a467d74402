package storetest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/store"
)

const (
	work = "a piece of work"
	long = time.Hour // longer than the test runs
)

// asks asks for a lease and wants an answer.
func asks(t *testing.T, s *store.Store, want bool) {
	t.Helper()
	if held, err := s.Lease(t.Context(), work, long); err != nil || held != want {
		t.Errorf("held %v, %v, want %v", held, err, want)
	}
}

// testLease: one process at a time has a lease, until it gives it back or does not renew it in time.
func testLease(t *testing.T, h Harness) {
	nodes := besides(t, h, 3)
	one, two, three := nodes[0], nodes[1], nodes[2]
	db := h.SQL(t, one)
	asks(t, one, true)
	asks(t, two, false)
	asks(t, one, true) // renewed
	if held, err := two.Lease(t.Context(), "another piece", long); err != nil || !held {
		t.Errorf("another lease: %v, %v", held, err)
	}
	if err := two.EndLease(t.Context(), work); err != nil { // which it has not
		t.Error(err)
	}
	asks(t, three, false)
	if err := one.EndLease(t.Context(), work); err != nil {
		t.Error(err)
	}
	asks(t, two, true)
	asks(t, one, false)
	exec(t, db, `UPDATE leases SET until_ms = until_ms - 3600001`) // time passes
	asks(t, three, true)
	asks(t, two, false)
	for range 20 { // it is over, and all ask at once
		exec(t, db, `UPDATE leases SET until_ms = 0`)
		var held atomic.Int32
		var wg sync.WaitGroup
		for _, s := range nodes {
			wg.Go(func() {
				got, err := s.Lease(t.Context(), work, long)
				if err != nil {
					t.Error(err)
				}
				if got {
					held.Add(1)
				}
			})
		}
		wg.Wait()
		if n := held.Load(); n != 1 {
			t.Fatalf("%d processes have the lease", n)
		}
	}
}

// testLeaseAlone: a process that has the store for itself has every lease.
func testLeaseAlone(t *testing.T, h Harness) {
	s := h.Open(t)
	asks(t, s, true)
	if err := s.EndLease(t.Context(), work); err != nil {
		t.Error(err)
	}
	asks(t, s, true)
	live, _, err := s.Beat(t.Context(), store.Node{Name: "alone"}, long)
	if err != nil || len(live) != 1 || live[0] != (store.Node{Name: "alone", Self: true}) {
		t.Errorf("%+v, %v", live, err)
	}
}

// testNodes: a process is known to the others from its first beat until it leaves or is silent for too long.
func testNodes(t *testing.T, h Harness) {
	nodes := besides(t, h, 3)
	db := h.SQL(t, nodes[0])
	beat := func(i int, want string) {
		t.Helper()
		live, look, err := nodes[i].Beat(t.Context(), store.Node{Name: fmt.Sprint("node", i), Version: "1"}, long)
		got := ""
		for _, n := range live {
			got += n.Name
			if n.Self {
				got += "*"
			}
			got += " "
		}
		if err != nil || got != want {
			t.Errorf("node %d sees %q, %v, want %q", i, got, err, want)
		}
		if off := look.Ahead().Abs(); off > time.Minute || look.Clock.IsZero() { // the database is on this machine
			t.Errorf("%+v is %s ahead", look, off)
		}
	}
	beat(0, "node0* ")
	beat(1, "node0 node1* ")
	beat(2, "node0 node1 node2* ")
	beat(0, "node0* node1 node2 ")
	if err := nodes[2].Leave(t.Context()); err != nil {
		t.Error(err)
	}
	beat(0, "node0* node1 ")
	exec(t, db, `UPDATE nodes SET seen_ms = seen_ms - 3600001`)
	beat(0, "node0* ")
	exec(t, db, `UPDATE nodes SET seen_ms = 0 WHERE name = 'node1'`)
	if err := nodes[0].Leave(t.Context()); err != nil {
		t.Error(err)
	}
	var n int
	if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM nodes`).Scan(&n); err != nil || n != 0 {
		t.Errorf("%d rows stay, %v", n, err)
	}
}
