package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

// database is the variable with the URL of a PostgreSQL for the servers that share one: see scripts/postgres.
const database = "KEYWRIGHT_POSTGRES"

// shared is a case of which one server is compared with three that share a database.
type shared struct {
	name        string
	connections int
	requests    func(*target) ([]request, error)
	ceiling     float64 // of three servers' CPU per request to one's; 0 for none
}

func (k shared) chosen(only string) bool { return strings.Contains(k.name, only) }

var sharedKinds = []shared{
	{"Encrypt64", 48, encryptRequests(64), 1.10},
	{"Decrypt64", 48, decryptRequests(64), 1.10},
	{"UpdateKeyDescription", 48, changeRequests, 0},
	{"CreateKey", 48, createRequests, 0},
}

// sharedResult is what the rounds of a case came to: medians.
type sharedResult struct {
	shared
	one, three       float64 // requests per second
	oneCPU, threeCPU float64 // microseconds of all servers' CPU per request
	ratio            float64 // of the rounds' own ratios
	database         float64 // microseconds of the database's CPU per request, with three servers
}

// idle is what servers cost while nobody asks them for anything, for each server and second.
type idle struct{ cpu, database time.Duration }

// changeRequests changes keys, each of which is one change of the store.
func changeRequests(t *target) ([]request, error) {
	arn, err := t.newKey()
	if err != nil {
		return nil, err
	}
	all, err := t.build("UpdateKeyDescription", func() (object, func(object) error, error) {
		return object{"KeyId": arn, "Description": fmt.Sprintf("%x", plaintext(16))}, nil, nil
	})
	for i := range all {
		all[i].verify = func(text []byte) error {
			if len(text) > 0 {
				return fmt.Errorf("an answer that should be empty")
			}
			return nil
		}
	}
	return all, err
}

// group is servers on one database.
type group struct {
	servers []*target
	db      *sql.DB
	schema  string // which they share, and which ends with them
	pid     int    // of the database
}

// startGroup starts servers in a schema of their own. Its name is none that is there already: the database need not be empty.
func startGroup(binary, dir, base, name string, n int) (_ *group, err error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, errors.New("the URL of the database cannot be read")
	}
	g := &group{schema: fmt.Sprintf("bench_%s_%x", name, plaintext(8))}
	if g.db, err = sql.Open("pgx", base); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			g.stop()
		}
	}()
	if _, err := g.db.ExecContext(context.Background(), "CREATE SCHEMA "+g.schema); err != nil {
		return nil, err
	}
	var backend int
	if err := g.db.QueryRowContext(context.Background(), "SELECT pg_backend_pid()").Scan(&backend); err != nil {
		return nil, err
	}
	if g.pid, err = parent(backend); err != nil {
		return nil, err
	}
	q := u.Query()
	q.Set("search_path", g.schema)
	u.RawQuery = q.Encode()
	for i := range n {
		node := name + strconv.Itoa(i)
		t, err := start(exec.Command(binary, "dev", "--control", "none", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, node), "--node", node,
			"--store", u.String(), "--root-access-key-id", accessKey, "--root-secret-access-key", secretKey))
		if err != nil {
			return nil, err
		}
		g.servers = append(g.servers, t)
	}
	return g, nil
}

// stop ends the servers and drops their schema.
func (g *group) stop() {
	for _, t := range g.servers {
		t.stop()
	}
	if _, err := g.db.ExecContext(context.Background(), "DROP SCHEMA IF EXISTS "+g.schema+" CASCADE"); err != nil {
		log.Printf("the schema %s stays: %v", g.schema, err)
	}
	_ = g.db.Close()
}

// settle waits until no server has anything left to do in the background. Several share the processors, so that one that makes keys gets
// little of them for a long while.
func (g *group) settle() error {
	const busy = 50 * time.Millisecond
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); {
		at, err := g.rest(2 * time.Second)
		if err != nil || at.cpu <= busy {
			return err
		}
	}
	return errors.New("the servers are busy though nobody asks them for anything")
}

// load drives all servers at once, with the connections spread over them. cpu is of all servers together.
func (g *group) load(k shared, length time.Duration) (all outcome, err error) {
	outcomes, errs := make([]outcome, len(g.servers)), make([]error, len(g.servers))
	var ready, running sync.WaitGroup
	ready.Add(len(g.servers))
	for i, t := range g.servers {
		running.Go(func() {
			requests, err := k.requests(t)
			ready.Done()
			ready.Wait()
			if err == nil {
				outcomes[i], err = load(t, requests, k.connections/len(g.servers), length, true)
			}
			errs[i] = err
		})
	}
	running.Wait()
	for _, o := range outcomes {
		all.rate += o.rate
		all.cpu += o.cpu * float64(o.answers)
		all.answers += o.answers
		all.inspected += o.inspected
	}
	all.cpu /= float64(max(all.answers, 1))
	return all, errors.Join(errs...)
}

// used returns how much CPU the database has used.
func (g *group) used() (time.Duration, error) {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", g.pid, g.pid))
	if err != nil {
		return 0, err
	}
	total, err := ticks(g.pid, 4) // and its children that have ended
	for _, text := range strings.Fields(string(children)) {
		pid, err := strconv.Atoi(text)
		if err != nil {
			return 0, err
		}
		if n, err := ticks(pid, 2); err == nil { // otherwise it has just ended, and its parent has what it used
			total += n
		}
	}
	return total, err
}

// rest measures servers that have nothing to do.
func (g *group) rest(length time.Duration) (idle, error) {
	sum := func() (total time.Duration, err error) {
		for _, t := range g.servers {
			cpu, err1 := t.cpu()
			total, err = total+cpu, errors.Join(err, err1)
		}
		return total, err
	}
	before, err1 := sum()
	db, err2 := g.used()
	time.Sleep(length)
	after, err3 := sum()
	dbAfter, err4 := g.used()
	each := float64(len(g.servers)) * length.Seconds()
	return idle{time.Duration(float64(after-before) / each), time.Duration(float64(dbAfter-db) / each)}, errors.Join(err1, err2, err3, err4)
}

// compareServers measures one server beside three that share a database, in turn.
func compareServers(binary, dir, base, only string, rounds int, length time.Duration) (results []sharedResult, at idle, err error) {
	one, err := startGroup(binary, dir, base, "one", 1)
	if err != nil {
		return nil, at, err
	}
	defer one.stop()
	three, err := startGroup(binary, dir, base, "three", 3)
	if err != nil {
		return nil, at, err
	}
	defer three.stop()
	if err := errors.Join(one.settle(), three.settle()); err != nil {
		return nil, at, err
	}
	if at, err = three.rest(5 * time.Second); err != nil {
		return nil, at, err
	}
	for _, k := range sharedKinds {
		if !k.chosen(only) {
			continue
		}
		r, err := compare(k, one, three, rounds, length)
		if err != nil {
			return nil, at, fmt.Errorf("%s: %w", k.name, err)
		}
		log.Printf("%-20s with three servers: CPU %.2f of one's", r.name, r.ratio)
		results = append(results, r)
	}
	return results, at, nil
}

func compare(k shared, one, three *group, rounds int, length time.Duration) (sharedResult, error) {
	r := sharedResult{shared: k}
	var rate1, rate3, cpu1, cpu3, ratios, databases []float64
	for round := range rounds + 1 {
		a, err := one.load(k, length)
		if err != nil {
			return r, err
		}
		before, err := three.used()
		if err != nil {
			return r, err
		}
		b, err := three.load(k, length)
		if err != nil {
			return r, err
		}
		after, err := three.used()
		if err != nil {
			return r, err
		}
		if round == 0 { // warm-up, not counted
			continue
		}
		rate1, rate3 = append(rate1, a.rate), append(rate3, b.rate)
		cpu1, cpu3, ratios = append(cpu1, a.cpu), append(cpu3, b.cpu), append(ratios, b.cpu/a.cpu)
		databases = append(databases, float64((after-before).Microseconds())/float64(b.answers))
	}
	r.one, r.three, r.oneCPU, r.threeCPU = median(rate1), median(rate3), median(cpu1), median(cpu3)
	r.ratio, r.database = median(ratios), median(databases)
	return r, nil
}

// reportServers writes what one and three servers cost.
func reportServers(results []sharedResult, at idle) string {
	var b strings.Builder
	b.WriteString("\nOne server on PostgreSQL beside three that share a database, in turn, with the same number of connections in all, spread evenly\n" +
		"over the servers. CPU is that of all servers together for each request, and the database's, with three servers.\n" +
		fmt.Sprintf("A server that nobody asks takes %.2f ms of CPU each second, and %.2f ms of the database's.\n\n```\n", at.cpu.Seconds()*1000, at.database.Seconds()*1000))
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = io.WriteString(w, "case\tconnections\tone req/s\tthree req/s\tone µs CPU\tthree µs CPU\tratio\tceiling\tdatabase µs CPU\t\n")
	for _, r := range results {
		_, _ = fmt.Fprintf(w, "%s\t%d\t%.0f\t%.0f\t%.1f\t%.1f\t%.2f\t%.2f\t%.1f\t\n", r.name, r.connections, r.one, r.three, r.oneCPU, r.threeCPU, r.ratio, r.ceiling, r.database)
	}
	_ = w.Flush()
	b.WriteString("```\n")
	return b.String()
}
