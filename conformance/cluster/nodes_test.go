// Package cluster_test runs three real servers on a PostgreSQL that it starts, and takes things away from them: rights, connections,
// primaries and processes.
//
// It trusts scripts/postgres and its own clock, which is one for all servers as they run on one machine. It judges by what clients
// were told, and must never take an answer that did not come for one that said no.
package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/smithy-go"

	"github.com/keywright/keywright/conformance/server"
)

// maxStaleness is that of servers here of which many trials are made, shorter than the default.
const maxStaleness = 200 * time.Millisecond

// patience is for how long the servers here try to make a change while there is no primary.
const patience = 10 * time.Second

// cluster is three servers, each of which reaches every host of the database through a relay of its own.
type cluster struct {
	t             *testing.T
	dir           string
	maxStaleness  time.Duration
	hosts         []string // where the databases listen, the first primary first
	password      string
	keyID, secret string // of the account's root user
	nodes         []*node
}

// node is one of the servers. Its clients change when it is started again.
type node struct {
	*server.Server
	config, log string
	relays      []*relay // one for each host
}

// newCluster starts three servers of a new installation on a database of its own.
func newCluster(t *testing.T, maxStaleness time.Duration) *cluster {
	t.Helper()
	dir, url := server.Database(t)
	c := plan(t, dir, maxStaleness, url)
	c.keyID, c.secret = server.Init(t, c.nodes[0].config)
	c.startAll()
	return c
}

// plan prepares three servers on the databases of URLs, of which the first takes writing. They need an installation to start.
func plan(t *testing.T, dir string, maxStaleness time.Duration, urls ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: dir, maxStaleness: maxStaleness}
	for _, text := range urls {
		u := parse(t, text)
		c.hosts = append(c.hosts, u.Host)
		c.password, _ = u.User.Password()
	}
	for i := range 3 {
		c.nodes = append(c.nodes, c.prepare(i))
	}
	return c
}

func (c *cluster) startAll() {
	c.t.Helper()
	for _, n := range c.nodes {
		c.start(n)
	}
	c.t.Cleanup(func() {
		for _, n := range c.nodes {
			n.Kill()
		}
	})
}

// parse reads the URL of a database, which has a password.
func parse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal("the URL of a database cannot be read")
	}
	return u
}

// prepare writes the configuration of a server and opens its relays.
func (c *cluster) prepare(i int) *node {
	c.t.Helper()
	n := &node{config: filepath.Join(c.dir, fmt.Sprintf("node%d.yaml", i)), log: filepath.Join(c.dir, fmt.Sprintf("node%d.log", i))}
	var through []string
	for _, host := range c.hosts {
		r := newRelay(c.t, host)
		n.relays = append(n.relays, r)
		through = append(through, r.addr())
	}
	files := map[string]string{
		filepath.Join(c.dir, "password"): c.password + "\n",
		n.config: fmt.Sprintf(`
listen: 127.0.0.1:0
adminSocket: none
data: %[1]s/data%[2]d
node: node%[2]d
store:
  dsn: postgres://keywright@%[3]s/keywright?sslmode=disable&target_session_attrs=read-write
  passwordFile: %[1]s/password
  timeout: 2s
  patience: %[5]s
  maxStaleness: %[4]s
seals: [{kind: key-file, file: %[1]s/seal.key}]
audit: {durability: written}
quotas: {enforce: unlimited}
`, c.dir, i, strings.Join(through, ","), c.maxStaleness, patience),
	}
	for path, text := range files {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
	return n
}

// start starts a server, again if it was ended.
func (c *cluster) start(n *node) {
	c.t.Helper()
	s, err := server.Serve(n.config, n.log, c.keyID, c.secret)
	if err != nil {
		c.t.Fatal(err)
	}
	n.Server = s
}

// code returns the code of a refusal, "" for a success, and noAnswer for what is no answer.
func code(err error) string {
	var refusal smithy.APIError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &refusal) && refusal.ErrorCode() == "ServiceUnavailable": // how IAM says it
		return unavailable
	case errors.As(err, &refusal):
		return refusal.ErrorCode()
	}
	return noAnswer
}

const noAnswer = "no answer"

// unavailable is the code with which a server says that its database does not answer and nothing has changed.
const unavailable = "DependencyTimeoutException"

// soon is how long to wait at most for what must become so; far longer than it takes.
const soon = 30 * time.Second

// until waits until something is so.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	for began := time.Now(); !so(); time.Sleep(2 * time.Millisecond) {
		if time.Since(began) > soon {
			t.Fatalf("%s: not within %s", what, soon)
		}
	}
}

var background = context.Background()
