package cluster_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// relay stands between a server and a host of its database, and can be made to treat them badly.
type relay struct {
	l net.Listener

	mu     sync.Mutex
	target string
	change chan struct{} // closed when how it behaves changes
	links  map[*link]struct{}
	refuse bool          // new connections
	silent bool          // nothing comes through
	delay  time.Duration // before every piece
	traffic
}

// traffic is what came through a relay.
type traffic struct {
	count  int // of statements
	trips  int // of those who ask for them
	octets int // both ways
}

func (t traffic) minus(before traffic) traffic {
	return traffic{t.count - before.count, t.trips - before.trips, t.octets - before.octets}
}

// per says how much that is for each of n.
func (t traffic) per(n float64) string {
	return fmt.Sprintf("%.1f statements, %.1f round trips, %.0f octets", float64(t.count)/n, float64(t.trips)/n, float64(t.octets)/n)
}

// link is a connection through a relay.
type link struct{ client, database *net.TCPConn }

func (l *link) close() {
	_ = l.client.Close()
	_ = l.database.Close()
}

func newRelay(t *testing.T, target string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{l: l, target: target, change: make(chan struct{}), links: map[*link]struct{}{}}
	go r.accept()
	t.Cleanup(func() {
		_ = l.Close()
		r.drop(true)
	})
	return r
}

func (r *relay) addr() string { return r.l.Addr().String() }

func (r *relay) accept() {
	for {
		client, err := r.l.Accept()
		if err != nil {
			return
		}
		go r.serve(client.(*net.TCPConn))
	}
}

func (r *relay) serve(client *net.TCPConn) {
	r.mu.Lock()
	refuse, target := r.refuse, r.target
	r.mu.Unlock()
	database, err := net.Dial("tcp", target)
	if err != nil || refuse {
		_ = client.SetLinger(0)
		_ = client.Close()
		if err == nil {
			_ = database.Close()
		}
		return
	}
	l := &link{client, database.(*net.TCPConn)}
	r.mu.Lock()
	r.links[l] = struct{}{}
	r.mu.Unlock()
	var both sync.WaitGroup
	var seen statements
	both.Go(func() {
		r.pump(l.client, l.database, func(piece []byte) {
			before := seen
			seen.add(piece)
			r.mu.Lock()
			defer r.mu.Unlock()
			r.count += seen.count - before.count
			r.trips += seen.trips - before.trips
			r.octets += len(piece)
		})
	})
	both.Go(func() {
		r.pump(l.database, l.client, func(piece []byte) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.octets += len(piece)
		})
	})
	both.Wait()
	l.close()
	r.mu.Lock()
	delete(r.links, l)
	r.mu.Unlock()
}

// carried returns what came through so far.
func (r *relay) carried() traffic {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.traffic
}

// pump carries one direction of a link to its end, and shows every piece before.
func (r *relay) pump(from, to *net.TCPConn, show func([]byte)) {
	piece := make([]byte, 32<<10)
	for {
		n, err := from.Read(piece)
		show(piece[:n])
		for n > 0 {
			r.mu.Lock()
			change, silent, delay := r.change, r.silent, r.delay
			r.mu.Unlock()
			if silent {
				<-change
				continue
			}
			time.Sleep(delay)
			if _, err := to.Write(piece[:n]); err != nil {
				return
			}
			n = 0
		}
		if errors.Is(err, io.EOF) {
			_ = to.CloseWrite()
			return
		}
		if err != nil {
			_ = to.Close()
			return
		}
	}
}

// set changes how the relay behaves.
func (r *relay) set(behave func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	behave()
	close(r.change)
	r.change = make(chan struct{})
}

// drop breaks all connections. Those that come are refused from then on if refuse says so.
func (r *relay) drop(refuse bool) {
	r.set(func() {
		r.refuse = refuse
		for l := range r.links {
			_ = l.client.SetLinger(0)
			_ = l.database.SetLinger(0)
			l.close()
		}
	})
}

// halfClose ends one direction of all connections: what the server sends to the database, or what it hears from it.
func (r *relay) halfClose(sends bool) {
	r.set(func() {
		for l := range r.links {
			if sends {
				_ = l.database.CloseWrite()
			} else {
				_ = l.client.CloseWrite()
			}
		}
	})
}

// hush lets nothing through, and later everything that was held up, as a network does that loses its way for a while.
func (r *relay) hush(silent bool) { r.set(func() { r.silent = silent }) }

// heal has the relay be as it was at first.
func (r *relay) heal() { r.set(func() { r.refuse, r.silent, r.delay = false, false, 0 }) }

// slow has every piece wait.
func (r *relay) slow(delay time.Duration) { r.set(func() { r.delay = delay }) }

// lead has new connections go to another host.
func (r *relay) lead(target string) { r.set(func() { r.target = target }) }
