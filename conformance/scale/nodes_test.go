package scale_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/keywright/keywright/conformance/server"
	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/cluster"
	"github.com/keywright/keywright/internal/fresh"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/store/storetest"
)

// manyNodes asks for the measurement of docs/scaling.md, which takes some minutes.
const manyNodes = "KEYWRIGHT_MANY_NODES"

// changeEvery is how often each simulated node changes something: about as often as a server writes last uses down.
const changeEvery = 30 * time.Second

// startedApart is between two nodes that begin, unless they are to begin together.
const startedApart = 60 * time.Millisecond

// simulation is what many servers do to their database besides answering requests: they look what has changed, say that they live,
// ask for the lease, and change something now and then. Their stores are real, and have connections of their own; the machine is one.
type simulation struct {
	t      *testing.T
	n      int
	bound  time.Duration // maxStaleness
	every  time.Duration // between two changes by a node
	url    string
	pid    int // of the database
	stores []*store.Store

	keepers               []*fresh.Keeper
	looks, looking, heard atomic.Int64
	changes               atomic.Int64 // that were tried
	failed, unmade        atomic.Int64 // looks, and changes
	why                   sync.Once    // a change was not made
	counted               atomic.Int64 // nodes, by one of them
}

// measured is what a simulation came to, for each second.
type measured struct {
	database, nodes float64 // processors in use
	looks           float64
	connections     int
}

// newSimulation makes a database and opens it by n nodes.
func newSimulation(t *testing.T, n int, bound, every time.Duration) *simulation {
	t.Helper()
	dir, url := server.Database(t)
	s := &simulation{t: t, n: n, bound: bound, every: every, url: url, stores: make([]*store.Store, n)}
	text, err := os.ReadFile(filepath.Join(dir, "pg/data/postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	if s.pid, err = strconv.Atoi(first); err != nil {
		t.Fatal(err)
	}
	for i := range s.stores {
		db, err := store.Open(t.Context(), store.Options{DSN: s.url, Readers: 1})
		if err != nil {
			t.Fatal(err)
		}
		s.stores[i] = storetest.Unseal(t, db)
		t.Cleanup(func() { _ = db.Close() })
	}
	return s
}

// join has node i be one of those that live, and returns what it does from then on until the context of that ends. Nobody begins before all
// have joined: what those do that are there would be in the way of the others.
func (s *simulation) join(ctx context.Context, i int) []func(context.Context) {
	s.t.Helper()
	st := s.stores[i]
	follower, err := st.Follow(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	keeper := fresh.New(fresh.Config{
		Next: func(ctx context.Context) ([]store.News, bool, error) {
			began := time.Now()
			news, lost, err := follower.Next(ctx)
			s.looks.Add(1)
			s.looking.Add(int64(time.Since(began)))
			if err != nil && ctx.Err() == nil {
				s.failed.Add(1)
			}
			return news, lost, err
		},
		Apply:        func(news []store.News, _ bool) { s.heard.Add(int64(len(news))) },
		MaxStaleness: s.bound,
	})
	s.keepers = append(s.keepers, keeper)
	member, err := cluster.Join(ctx, cluster.Config{Store: st, Name: fmt.Sprintf("node%04d", i), Counted: func(n int) { s.counted.Store(int64(n)) }})
	if err != nil {
		s.t.Fatal(err)
	}
	return []func(context.Context){keeper.Run, member.Run, func(ctx context.Context) { s.change(ctx, i) }}
}

// change has node i change a key of an account of its own again and again: last uses, too, take no lock of what others change.
func (s *simulation) change(ctx context.Context, i int) {
	k := storetest.Key()
	k.Account = arn.Account(fmt.Sprintf("%012d", i+1))
	wait := time.Duration(i) * s.every / time.Duration(s.n) // not all at once
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = s.every
		k.Description = time.Now().String()
		err := s.stores[i].Update(context.WithoutCancel(ctx), func(tx *store.Tx) error { return tx.PutKey(k) })
		if err != nil && ctx.Err() == nil {
			s.unmade.Add(1)
			s.why.Do(func() { s.t.Log("the first change that was not made:", err) })
		}
		s.changes.Add(1)
	}
}

// used returns how much CPU the database has used, and how many processes it has for others.
func (s *simulation) used() (time.Duration, int) {
	s.t.Helper()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", s.pid, s.pid))
	if err != nil {
		s.t.Skipf("the system does not tell what processes use: %v", err)
	}
	own := strconv.Itoa(s.pid)
	var ticks int64
	var sessions int
	for _, pid := range append(strings.Fields(string(children)), own) {
		name, _ := os.ReadFile("/proc/" + pid + "/cmdline")
		if strings.Contains(string(name), "127.0.0.1(") {
			sessions++
		}
		text, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil {
			continue // it has just ended, and its parent has what it used
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest)[11:15] // its own, and that of its children that have ended
		if pid != own {
			fields = fields[:2]
		}
		for _, f := range fields {
			n, _ := strconv.ParseInt(f, 10, 64)
			ticks += n
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond, sessions
}

// own returns how much CPU this process has used.
func own() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // it cannot fail
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// run runs the nodes, which begin so far apart, measures for a while, and ends them. It is a failure if they are to come to rest and do not.
func (s *simulation) run(apart, length time.Duration, rest bool) (m measured) {
	s.t.Helper()
	ctx, stop := context.WithCancel(s.t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	all := make([][]func(context.Context), s.n)
	for i := range all {
		all[i] = s.join(ctx, i)
	}
	for _, node := range all {
		for _, do := range node {
			running.Go(func() { do(ctx) })
		}
		time.Sleep(apart)
	}
	if !s.settle() && rest {
		s.t.Error("they do not come to rest")
	}
	for _, n := range []*atomic.Int64{&s.looks, &s.looking, &s.heard, &s.changes, &s.failed, &s.unmade} {
		n.Store(0)
	}
	began, self := time.Now(), own()
	database, _ := s.used()
	var ages []time.Duration
	for time.Since(began) < length {
		for _, k := range s.keepers {
			ages = append(ages, k.Age())
		}
		time.Sleep(50 * time.Millisecond)
	}
	took, selfAfter := time.Since(began).Seconds(), own()
	after, sessions := s.used()
	looks := float64(s.looks.Load())
	m = measured{(after - database).Seconds() / took, (selfAfter - self).Seconds() / took, looks / took, sessions}
	slices.Sort(ages)
	s.t.Logf("%d nodes, maxStaleness %s: %.0f looks/s of %.0f meant, %.2f ms each; processors in use: database %.3f, nodes %.3f; %d connections; %.1f changes/s, %d in all not made, heard %.0f times/s; %d looks failed; age 50%% %s, 99%% %s, most %s",
		s.n, s.bound, m.looks, s.meant(), float64(s.looking.Load())/max(looks, 1)/1e6, m.database, m.nodes, m.connections, float64(s.changes.Load())/took,
		s.unmade.Load(), float64(s.heard.Load())/took, s.failed.Load(), ms(ages[len(ages)/2]), ms(ages[len(ages)*99/100]), ms(ages[len(ages)-1]))
	return m
}

// settle waits until all know each other and nothing has failed for longer than it takes to: a thousand servers that connect keep the
// database busy for longer than their questions may take. A minute is long enough for what ever comes to rest: settle reports whether they have.
func (s *simulation) settle() bool {
	s.t.Helper()
	began := time.Now()
	calm, failed := began, s.failed.Load()
	for now := began; now.Sub(began) < time.Minute && (s.counted.Load() < int64(s.n) || now.Sub(calm) < store.DefaultTimeout+time.Second); now = time.Now() {
		time.Sleep(50 * time.Millisecond)
		if n := s.failed.Load(); n != failed {
			calm, failed = time.Now(), n
		}
	}
	s.t.Logf("one of %d nodes knows %d after %s; %d looks failed until then", s.n, s.counted.Load(), ms(time.Since(began)), failed)
	return time.Since(began) < time.Minute
}

// meant is how often all nodes look in a second, if the database keeps up.
func (s *simulation) meant() float64 { return float64(s.n) * 4 / s.bound.Seconds() }

func ms(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// TestSimulatedNodes has some simulated nodes run: they count each other and hear of each change once.
func TestSimulatedNodes(t *testing.T) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	s := newSimulation(t, 6, 500*time.Millisecond, 200*time.Millisecond)
	s.run(startedApart, 2*time.Second, true)
	made, heard := s.changes.Load(), s.heard.Load()
	if s.counted.Load() != int64(s.n) || s.failed.Load() > 0 || s.unmade.Load() > 0 || made == 0 || heard < made*int64(s.n-1)/2 || heard > 2*made*int64(s.n-1) {
		t.Errorf("%d nodes are counted; of %d changes %d were heard; %d looks failed, %d changes", s.counted.Load(), made, heard, s.failed.Load(), s.unmade.Load())
	}
}

// model says how many seconds of a processor a look takes with so many nodes, and what a node does besides in a second.
type model struct {
	look, each float64
	rests      [2]float64 // with few and with more nodes
}

// newModel makes a model of what two numbers of nodes cost that look often and seldom.
func newModel(n1, n2 int, often, seldom [2]measured, cost func(measured) float64) model {
	split := func(i, n int) (look, rest float64) {
		look = (cost(often[i]) - cost(seldom[i])) / (often[i].looks - seldom[i].looks)
		return look, (cost(seldom[i]) - look*seldom[i].looks) / float64(n)
	}
	look1, rest1 := split(0, n1)
	look2, rest2 := split(1, n2)
	each := (look2 - look1) / float64(n2-n1)
	return model{look1 - each*float64(n1), each, [2]float64{rest1, rest2}}
}

func (m model) rest() float64 { return (m.rests[0] + m.rests[1]) / 2 }

// processors returns how many of them n nodes keep busy.
func (m model) processors(n int, bound time.Duration) float64 {
	return float64(n) * ((m.look+m.each*float64(n))*4/bound.Seconds() + m.rest())
}

// TestManyNodes measures what nodes cost the database, tells from that what more of them would, and tries.
func TestManyNodes(t *testing.T) {
	if os.Getenv(manyNodes) == "" {
		t.Skipf("it takes minutes: set %s", manyNodes)
	}
	t.Setenv("KEYWRIGHT_POSTGRES_OPTIONS", "-c max_connections=5000")
	slog.SetDefault(slog.New(slog.DiscardHandler))
	const few, more = 60, 240
	simulate := func(n int, bound time.Duration, rest bool) (m measured) {
		t.Run(fmt.Sprintf("%d/%s", n, bound), func(t *testing.T) {
			m = newSimulation(t, n, bound, changeEvery).run(max(startedApart, bound/4/time.Duration(n)), 25*time.Second, rest)
		})
		return m
	}
	// What a thousand servers do that come back together, as after the database was away: all open their connections at once.
	t.Run("Together", func(t *testing.T) { newSimulation(t, 1000, 20*time.Second, changeEvery).run(0, 25*time.Second, false) })
	var often, seldom [2]measured
	for i, n := range []int{few, more} {
		often[i], seldom[i] = simulate(n, 500*time.Millisecond, true), simulate(n, 5*time.Second, true)
	}
	if often[0].looks == 0 {
		return // another part was asked for
	}
	database := newModel(few, more, often, seldom, func(m measured) float64 { return m.database })
	nodes := newModel(few, more, often, seldom, func(m measured) float64 { return m.nodes })
	for name, m := range map[string]model{"database": database, "nodes": nodes} {
		t.Logf("%s: a look takes %.0f µs of CPU and %.2f for each node; the rest %.0f µs a second and node: %.0f and %.0f", name, m.look*1e6, m.each*1e6, m.rest()*1e6, m.rests[0]*1e6, m.rests[1]*1e6)
		if !(m.look > 0 && m.each > 0 && m.rest() > 0) {
			t.Errorf("that is no model of the %s: measure where nothing else is done", name)
		}
	}
	for _, p := range []struct {
		n     int
		bound time.Duration
	}{{100, time.Second}, {300, 5 * time.Second}, {400, time.Second}, {1000, 20 * time.Second}} {
		want, besides := database.processors(p.n, p.bound), nodes.processors(p.n, p.bound)
		got := simulate(p.n, p.bound, want+besides < 0.8*float64(runtime.NumCPU()))
		t.Logf("%d nodes, maxStaleness %s: the model says database %.3f, nodes %.3f, together %.2f of %d processors; the database took %.2f times that",
			p.n, p.bound, want, besides, want+besides, runtime.NumCPU(), got.database/want)
		if is := got.database / want; is > 0 && (is < 0.5 || is > 2) {
			t.Errorf("the model is of no use at %d nodes", p.n)
		}
	}
	for _, n := range []int{10, 100, 1000} {
		t.Logf("%d nodes, by the model: the database has %.2f processors busy with maxStaleness 1s, %.2f with 5s, %.2f with 20s",
			n, database.processors(n, time.Second), database.processors(n, 5*time.Second), database.processors(n, 20*time.Second))
	}
}
