package cluster_test

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/cluster"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/store/storetest"
)

// server is a member and its machine.
type server struct {
	*cluster.Member
	t       *testing.T
	store   *store.Store
	clock   atomic.Int64 // Unix nanoseconds
	counted []int
}

func (s *server) pass(d time.Duration) { s.clock.Add(int64(d)) }

// once has the member do what it does every second.
func (s *server) once() { s.Once(s.t.Context()) }

// runs has the member do for so many seconds what it does.
func (s *server) runs(seconds int) {
	for range seconds {
		s.pass(time.Second)
		s.once()
	}
}

func unseal(t *testing.T, dsn string) *store.Store {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return storetest.Unseal(t, db)
}

// join makes a server whose clock is off by so much.
func join(t *testing.T, dsn, name string, off time.Duration) *server {
	t.Helper()
	s := &server{t: t, store: unseal(t, dsn)}
	s.clock.Store(time.Now().Add(off).UnixNano())
	var err error
	s.Member, err = cluster.Join(t.Context(), cluster.Config{
		Store: s.store, Name: name, Version: "v1",
		Counted: func(n int) { s.counted = append(s.counted, n) },
		Now:     func() time.Time { return time.Unix(0, s.clock.Load()) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *server) leads(want bool) {
	s.t.Helper()
	if got := s.Leads(); got != want {
		s.t.Errorf("leads: %v, want %v", got, want)
	}
}

// took checks whether whoever does the work was told to begin with it since the last time.
func (s *server) took(want bool) {
	s.t.Helper()
	got := false
	select {
	case <-s.Taken():
		got = true
	default:
	}
	if got != want {
		s.t.Errorf("took the lease: %v, want %v", got, want)
	}
}

// expire has the lease end by the database's clock.
func expire(t *testing.T, dsn string) {
	t.Helper()
	exec(t, dsn, `UPDATE leases SET until_ms = 0`)
}

// silent has no server have said anything for ten seconds, by the database's clock.
func silent(t *testing.T, dsn string) {
	t.Helper()
	exec(t, dsn, `UPDATE nodes SET seen_ms = seen_ms - 10000`)
}

func exec(t *testing.T, dsn, statement string) {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	if err == nil {
		defer func() { _ = db.Close() }()
		_, err = db.ExecContext(t.Context(), statement)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Servers whose clocks differ by minutes count each other and have one leader, who thinks so for less long than the database keeps the
// lease, however long it stood still.
func TestMembers(t *testing.T) {
	dsn := storetest.Postgres(t)
	one := join(t, dsn, "one", 0)
	two := join(t, dsn, "two", 7*time.Minute)
	if got := two.counted; !slices.Equal(got, []int{2}) {
		t.Errorf("the second server counts %v", got)
	}
	one.leads(false) // nobody has asked for the lease yet
	one.once()
	two.once()
	one.leads(true)
	one.took(true)
	two.leads(false)
	two.took(false)
	if got := one.counted; !slices.Equal(got, []int{1, 2}) {
		t.Errorf("the first server counts %v", got)
	}
	live := one.Live()
	if len(live) != 2 || live[0] != (store.Node{Name: "one", Version: "v1", Self: true}) || live[1] != (store.Node{Name: "two", Version: "v1"}) {
		t.Errorf("%+v live", live)
	}

	one.pass(9 * time.Second)
	one.leads(true)
	one.once() // renews it
	one.took(false)
	one.pass(9 * time.Second)
	one.leads(true)
	one.pass(time.Second) // and stands still
	one.leads(false)
	one.once() // and has it still
	one.leads(true)
	one.took(true)
	one.pass(10 * time.Second)
	expire(t, dsn)
	two.pass(5 * time.Second)
	two.once()
	two.leads(true)
	two.took(true)
	one.once()
	one.leads(false)
}

// A name is that of one server. That of a server that was killed is free again soon.
func TestName(t *testing.T) {
	dsn := storetest.Postgres(t)
	one := join(t, dsn, "one", 0)
	beating, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for beating.Err() == nil {
			one.once()
			time.Sleep(50 * time.Millisecond)
		}
	}()
	two := unseal(t, dsn)
	if _, err := cluster.Join(t.Context(), cluster.Config{Store: two, Name: "one"}); !errors.Is(err, cluster.ErrNameTaken) {
		t.Errorf("a second server of this name: %v", err)
	}
	stop()
	<-ended
	if _, err := cluster.Join(t.Context(), cluster.Config{Store: two, Name: "one"}); err != nil {
		t.Errorf("after the first one: %v", err)
	}
}

// A server that ends gives up what it has, at once.
func TestLeave(t *testing.T) {
	dsn := storetest.Postgres(t)
	one, two := join(t, dsn, "one", 0), join(t, dsn, "two", 0)
	one.once()
	two.once()
	ended, end := context.WithCancel(t.Context())
	end()
	one.Run(ended)
	one.leads(false)
	two.runs(11)
	two.leads(true)
	if n := len(two.Live()); n != 1 || !slices.Equal(two.counted, []int{2, 1}) {
		t.Errorf("%d live, counted %v", n, two.counted)
	}
}

// While the database does not answer, as many servers live as before: otherwise each would take the whole of a rate.
func TestWithoutTheDatabase(t *testing.T) {
	dsn := storetest.Postgres(t)
	one, two := join(t, dsn, "one", 0), join(t, dsn, "two", 0)
	one.once()
	if err := one.store.DB().Close(); err != nil {
		t.Fatal(err)
	}
	one.pass(6 * time.Second)
	one.once()
	one.leads(true) // for as long as it has the lease
	one.pass(4 * time.Second)
	one.once()
	one.leads(false)
	if got := one.counted; !slices.Equal(got, []int{1, 2}) || len(one.Live()) != 2 {
		t.Errorf("counted %v", got)
	}
	_ = two
}

// A server that is the first to reach the database again finds nobody else there, and counts them all the same, until they have had time
// to come back. One that has gone is missed then.
func TestAfterAnOutage(t *testing.T) {
	dsn := storetest.Postgres(t)
	one, two := join(t, dsn, "one", 0), join(t, dsn, "two", 0)
	_ = join(t, dsn, "three", 0)
	one.runs(12)
	two.runs(1)
	outage := func() {
		silent(t, dsn)
		one.pass(10 * time.Second)
		two.pass(10 * time.Second)
	}
	outage()
	one.once()
	if n := len(one.Live()); n != 1 {
		t.Errorf("%d live", n)
	}
	one.runs(5)
	two.once()
	one.runs(1)
	if got := one.counted; !slices.Equal(got, []int{1, 3}) {
		t.Errorf("the first server counts %v", got)
	}
	for range 5 {
		one.runs(1)
		two.runs(1)
	}
	if got := one.counted; !slices.Equal(got, []int{1, 3, 2}) { // the third has not come back
		t.Errorf("the first server counts %v", got)
	}
	if got := two.counted; !slices.Equal(got, []int{2, 3}) { // it has reached the database for less long
		t.Errorf("the second server counts %v", got)
	}
	for range 5 { // the database is slow: nobody's beats are in time
		silent(t, dsn)
		one.pass(4 * time.Second)
		one.once()
	}
	if got := one.counted; !slices.Equal(got, []int{1, 3, 2}) {
		t.Errorf("the first server counts %v", got)
	}
}

// What a question takes is not held against a clock.
func TestAhead(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct{ before, after, want time.Duration }{
		{0, 0, 0},
		{-time.Second, 2 * time.Second, 0},
		{3 * time.Second, 4 * time.Second, 3 * time.Second},
		{-4 * time.Second, -3 * time.Second, -3 * time.Second},
	} {
		look := store.Look{Clock: at, Before: at.Add(c.before), After: at.Add(c.after)}
		if got := look.Ahead(); got != c.want {
			t.Errorf("%s and %s: %s, want %s", c.before, c.after, got, c.want)
		}
	}
}
