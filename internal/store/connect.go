package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// How connections to a database are made that other processes use, too.

// connectionLife bounds how long a connection is used, so that after a fail-over or a change of addresses all are on the
// right server sooner or later.
const connectionLife = 10 * time.Minute

// idleConnection is how long a connection is kept that nobody uses: a database has fewer for all processes together than they may take
// when they are busy.
const idleConnection = time.Minute

// hostDelay is after how long the next host is tried beside one that says nothing: one without power refuses no connection.
const hostDelay = 250 * time.Millisecond

// maxDials bounds how many connections are being made at once by a pool: callers that wait no more leave them behind.
const maxDials = 16

// connecting marks the context of a dial that is for a connection, and not for a request to cancel a statement. Such a request,
// which the driver makes when it gives a connection up, could come while the server waits for its standby to have a commit:
// it would then call the commit done.
type connecting struct{}

var errNoCancel = errors.New("statements are not cancelled from outside")

// errDialing says that enough connections are being made already.
var errDialing = fmt.Errorf("connections are being made: %w", context.DeadlineExceeded)

// setting is one of a session.
type setting struct{ name, value string }

// sharedPool returns a pool of connections with these settings, and some statements prepared. Settings are made when a session has begun,
// and not part of its beginning: what stands between this process and the server, PgBouncer for one, knows few that are.
func (db *DB) sharedPool(config *pgx.ConnConfig, conns int, settings []setting, first ...statement) *sql.DB {
	var set strings.Builder
	for _, s := range settings {
		if _, given := config.RuntimeParams[s.name]; !given { // the URL has the last word
			fmt.Fprintf(&set, "SET %s = '%s';", s.name, s.value)
		}
	}
	begin := stdlib.OptionAfterConnect(func(ctx context.Context, c *pgx.Conn) error {
		ctx, cancel := context.WithTimeout(ctx, db.timeout+networkTime)
		defer cancel()
		if _, err := c.PgConn().Exec(ctx, set.String()).ReadAll(); err != nil {
			return fmt.Errorf("beginning a session: %w", err)
		}
		var unknown *pgconn.PgError // not every engine has these
		if _, err := c.PgConn().Exec(ctx, keepAlive).ReadAll(); err != nil && !errors.As(err, &unknown) {
			return fmt.Errorf("beginning a session: %w", err)
		}
		for _, s := range first { // where it cannot, because tables are yet to be made, they will be when they are used
			if _, err := c.Prepare(ctx, statements[s], statements[s]); err != nil && !errors.As(err, &unknown) {
				return err
			}
		}
		return nil
	})
	made := &connector{ready: make(chan readyConn, conns)}
	for _, host := range perHost(config) {
		dial := host.DialFunc
		host.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			if ctx.Value(connecting{}) == nil {
				return nil, errNoCancel
			}
			return dial(ctx, network, address)
		}
		made.hosts = append(made.hosts, stdlib.GetConnector(*host, begin))
	}
	db.connectors = append(db.connectors, made)
	pool := sql.OpenDB(made)
	pool.SetMaxOpenConns(conns)
	pool.SetMaxIdleConns(conns)
	pool.SetConnMaxLifetime(connectionLife)
	pool.SetConnMaxIdleTime(idleConnection)
	return pool
}

// keepAlive has the server notice within half a minute that nobody is at the other end. Where a process vanished between the statements
// of a batch no time-out of statements or transactions counts, and what it had locked would stay so for hours.
const keepAlive = `SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; SET tcp_user_timeout = 25000`

// perHost returns what a URL says of each host, in its order.
func perHost(config *pgx.ConnConfig) (hosts []*pgx.ConnConfig) {
	all := append([]*pgconn.FallbackConfig{{Host: config.Host, Port: config.Port, TLSConfig: config.TLSConfig}}, config.Fallbacks...)
	for i, f := range all {
		if i > 0 && f.Host == all[i-1].Host && f.Port == all[i-1].Port { // with TLS and without
			last := hosts[len(hosts)-1]
			last.Fallbacks = append(last.Fallbacks, f)
			continue
		}
		host := config.Copy()
		host.Host, host.Port, host.TLSConfig, host.Fallbacks = f.Host, f.Port, f.TLSConfig, nil
		hosts = append(hosts, host)
	}
	return hosts
}

// connector makes the connections of a pool, apart from who asks for them: a caller that has little time would else never see the end of it
// where the first of several hosts is silent.
type connector struct {
	hosts   []driver.Connector
	good    atomic.Int32 // which was connected to last
	dialing atomic.Int32
	ready   chan readyConn // made for callers that did not wait

	mu     sync.Mutex // held while ready is sent to, and while closed is set
	closed bool
}

type readyConn struct {
	conn driver.Conn
	made time.Time
}

type dialed struct {
	conn driver.Conn
	host int
	err  error
}

// Driver implements driver.Connector.
func (c *connector) Driver() driver.Driver { return c.hosts[0].Driver() }

// Connect implements driver.Connector.
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	for {
		select {
		case r := <-c.ready:
			if time.Since(r.made) < idleConnection {
				return r.conn, nil
			}
			_ = r.conn.Close() // it may lead to what was a primary
			continue
		default:
		}
		break
	}
	if c.dialing.Add(1) > maxDials {
		c.dialing.Add(-1)
		return nil, errDialing
	}
	made := make(chan dialed, 1)
	go func() {
		defer c.dialing.Add(-1)
		made <- c.dial()
	}()
	select {
	case d := <-made:
		return d.conn, d.err
	case <-ctx.Done():
		go c.keep(made)
		return nil, ctx.Err()
	}
}

// keep keeps a connection for the next caller.
func (c *connector) keep(made <-chan dialed) {
	d := <-made
	if d.err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		select {
		case c.ready <- readyConn{d.conn, time.Now()}:
			return
		default:
		}
	}
	_ = d.conn.Close()
}

// Close implements io.Closer, for the pool that ends.
func (c *connector) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.drain()
	return nil
}

// drain closes what is ready.
func (c *connector) drain() {
	for {
		select {
		case r := <-c.ready:
			_ = r.conn.Close()
		default:
			return
		}
	}
}

// dial connects to the first host that accepts: first to the one that was good last, then to the others in their order, each when the one
// before has failed or said nothing for a while.
func (c *connector) dial() dialed {
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), connecting{}, true))
	defer cancel()
	good := int(c.good.Load())
	made := make(chan dialed, len(c.hosts))
	started, ended := 0, 0
	start := func() {
		host := started
		if started == 0 {
			host = good
		} else if started <= good {
			host = started - 1
		}
		started++
		go func() {
			conn, err := c.hosts[host].Connect(ctx)
			made <- dialed{conn, host, err}
		}()
	}
	start()
	var failed []error
	for {
		var next <-chan time.Time
		if started < len(c.hosts) {
			next = time.After(hostDelay)
		}
		select {
		case <-next:
			start()
		case d := <-made:
			ended++
			if d.err == nil {
				c.good.Store(int32(d.host)) //nolint:gosec // there are few
				go giveUp(made, started-ended)
				return d
			}
			failed = append(failed, d.err)
			if ended == len(c.hosts) {
				return dialed{err: errors.Join(failed...)}
			}
			if started < len(c.hosts) {
				start()
			}
		}
	}
}

// giveUp closes what is connected still when another host was quicker.
func giveUp(made <-chan dialed, n int) {
	for range n {
		if d := <-made; d.err == nil {
			_ = d.conn.Close()
		}
	}
}

// renewEvery is how often connections are given up at most: waiting for one for too long looks the same as one that is dead.
const renewEvery = time.Second

// renew gives up the connections of all pools that nobody uses: where one was lost, or leads to what is a standby now, the others are
// likely to be no better.
func (db *DB) renew() {
	last, now := db.renewed.Load(), time.Now().UnixNano()
	if now-last < int64(renewEvery) || !db.renewed.CompareAndSwap(last, now) {
		return
	}
	for _, c := range db.connectors {
		c.drain()
	}
	for _, pool := range []*sql.DB{db.write, db.read, db.look} {
		if pool != nil {
			pool.SetMaxIdleConns(0)
			pool.SetMaxIdleConns(pool.Stats().MaxOpenConnections)
		}
	}
}
