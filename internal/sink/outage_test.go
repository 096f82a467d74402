package sink_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/sink"
)

// receiver is the other side of a sink: the real protocol, and everything that arrived. It can be away for a while.
type receiver interface {
	up(t *testing.T)
	down(t *testing.T)
	received(t *testing.T) [][]byte
}

// outage is how long the other side is away: short, unless KEYWRIGHT_SINK_OUTAGE says otherwise.
func outage(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("KEYWRIGHT_SINK_OUTAGE")
	if text == "" {
		return 300 * time.Millisecond
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// The other side goes away under load, comes back, the sink is restarted, and the other side goes away and comes back once
// more: nothing is lost, and the order of each key is kept.
func TestOutage(t *testing.T) {
	const key = "hook secret"
	for name, c := range map[string]struct {
		config   sink.Config
		receiver receiver
	}{
		"syslog over TCP":    {sink.Config{Kind: sink.KindSyslog, Network: "tcp", Address: freePort(t), Settle: 200 * time.Millisecond}, nil},
		"syslog over Unix":   {sink.Config{Kind: sink.KindSyslog, Network: "unix", Address: filepath.Join(t.TempDir(), "s"), Settle: 200 * time.Millisecond}, nil},
		"syslog to /dev/log": {sink.Config{Kind: sink.KindSyslog, Network: "unixgram", Address: filepath.Join(t.TempDir(), "s"), Settle: 200 * time.Millisecond}, nil},
		"webhook":            {sink.Config{Kind: sink.KindWebhook, URL: "http://" + freePort(t) + "/in", Secret: &sink.Secret{File: secretFile(t, key)}}, nil},
		"Kafka":              {sink.Config{Kind: sink.KindKafka, Brokers: []string{freePort(t)}, Topic: "audit"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := c.config
			config.Name, config.Batch, config.MaxBackoff, config.Timeout = "s", 200, 200*time.Millisecond, 0
			r := receiverOf(t, &config, key)
			r.up(t)
			src, dir := audit.NewMemory(1_000_000), t.TempDir()
			var made atomic.Int64
			stop := make(chan struct{})
			var load sync.WaitGroup
			load.Go(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(time.Millisecond):
						for range 2 {
							n := int(made.Load())
							if err := src.Append(record(n)); err != nil {
								t.Error(err)
							}
							made.Add(1)
						}
					}
				}
			})
			s := start(t, config, src, dir)
			away := func() {
				time.Sleep(200 * time.Millisecond)
				r.down(t)
				time.Sleep(outage(t))
			}
			away()
			if s.Lag() == 0 {
				t.Error("no lag while the other side is away")
			}
			r.up(t)
			time.Sleep(100 * time.Millisecond)
			s.stop()
			s = start(t, config, src, dir)
			away()
			s.stop()
			s = start(t, config, src, dir)
			r.up(t)
			close(stop)
			load.Wait()
			s.caughtUp(t)
			check(t, r.received(t), int(made.Load()))
		})
	}
}

func receiverOf(t *testing.T, c *sink.Config, key string) receiver {
	t.Helper()
	switch {
	case c.Network == "unixgram":
		return &datagrams{path: c.Address}
	case c.Kind == sink.KindSyslog:
		return &streams{network: c.Network, address: c.Address}
	case c.Kind == sink.KindWebhook:
		return &hook{address: strings.TrimSuffix(strings.TrimPrefix(c.URL, "http://"), "/in"), key: key}
	}
	return &broker{dir: t.TempDir(), address: c.Brokers[0]}
}

// freePort returns an address that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func secretFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// streams is a syslog server for streams with octet counting. What it did not read when it goes down is lost, as with any
// program that is killed.
type streams struct {
	network, address string
	in               inbox
	l                net.Listener
	mu               sync.Mutex
	conns            []net.Conn
	readers          sync.WaitGroup
}

func (s *streams) up(t *testing.T) {
	t.Helper()
	var err error
	if s.l, err = net.Listen(s.network, s.address); err != nil {
		t.Fatal(err)
	}
	s.readers.Go(func() {
		for {
			conn, err := s.l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, conn)
			s.mu.Unlock()
			s.readers.Go(func() { s.read(conn) })
		}
	})
}

func (s *streams) read(conn net.Conn) {
	r := bufio.NewReader(conn)
	for {
		length, err := r.ReadString(' ')
		if err != nil {
			return
		}
		n, err := strconv.Atoi(strings.TrimSuffix(length, " "))
		if err != nil {
			s.in.add([]byte("no length: " + length))
			return
		}
		message := make([]byte, n)
		if _, err := io.ReadFull(r, message); err != nil {
			return
		}
		s.in.add(textOf(message))
	}
}

// textOf returns the text of a syslog message.
func textOf(message []byte) []byte {
	_, text, _ := bytes.Cut(message, []byte(`"] `))
	return text
}

func (s *streams) down(*testing.T) {
	_ = s.l.Close()
	s.mu.Lock()
	for _, c := range s.conns {
		_ = c.Close()
	}
	s.conns = nil
	s.mu.Unlock()
	s.readers.Wait()
}

func (s *streams) received(t *testing.T) [][]byte {
	t.Cleanup(func() { s.down(t) })
	return s.in.records()
}

// datagrams is a syslog server on a Unix datagram socket, such as /dev/log.
type datagrams struct {
	path   string
	in     inbox
	conn   *net.UnixConn
	reader sync.WaitGroup
}

func (d *datagrams) up(t *testing.T) {
	t.Helper()
	var err error
	if d.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: d.path, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	d.reader.Go(func() {
		buf := make([]byte, 1<<16)
		for {
			n, err := d.conn.Read(buf)
			if err != nil {
				return
			}
			d.in.add(textOf(buf[:n]))
		}
	})
}

func (d *datagrams) down(t *testing.T) {
	t.Helper()
	if err := errors.Join(d.conn.Close(), os.Remove(d.path)); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	d.reader.Wait()
}

func (d *datagrams) received(t *testing.T) [][]byte {
	t.Cleanup(func() { d.down(t) })
	return d.in.records()
}

// hook is a webhook that believes signed requests only. Now and then it is busy, and it may have a batch although its answer
// did not arrive.
type hook struct {
	address, key string
	in           inbox
	server       *http.Server
	asked        atomic.Int64
}

func (h *hook) up(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", h.address)
	if err != nil {
		t.Fatal(err)
	}
	h.server = &http.Server{Handler: h, ReadHeaderTimeout: time.Second}
	go func() { _ = h.server.Serve(l) }()
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var at, signature string
	if _, err := fmt.Sscanf(strings.Replace(r.Header.Get(sink.HeaderSignature), ",v1=", " ", 1), "t=%s %s", &at, &signature); err != nil {
		h.in.add([]byte("no signature"))
		return
	}
	mac := hmac.New(sha256.New, []byte(h.key))
	mac.Write([]byte(at + "." + string(body)))
	if hex.EncodeToString(mac.Sum(nil)) != signature || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
		h.in.add([]byte("not signed with the key"))
		return
	}
	var batch struct{ Records []json.RawMessage }
	if err := json.Unmarshal(body, &batch); err != nil || len(batch.Records) == 0 {
		h.in.add(body)
		return
	}
	n := h.asked.Add(1)
	if n%10 == 3 {
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	for _, r := range batch.Records {
		h.in.add(r)
	}
	if n%10 == 6 {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(http.StatusAccepted)
}

func (h *hook) down(*testing.T) { _ = h.server.Close() }

func (h *hook) received(t *testing.T) [][]byte {
	t.Cleanup(func() { h.down(t) })
	return h.in.records()
}

// broker is a Kafka broker with its partitions on disk.
type broker struct {
	dir, address string
	cluster      *kfake.Cluster
}

func (b *broker) up(t *testing.T) {
	t.Helper()
	_, text, _ := net.SplitHostPort(b.address)
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	if b.cluster, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.DataDir(b.dir), kfake.SyncWrites(), kfake.SeedTopics(3, "audit")); err != nil {
		t.Fatal(err)
	}
}

func (b *broker) down(*testing.T) { b.cluster.Close() }

func (b *broker) received(t *testing.T) [][]byte {
	t.Helper()
	t.Cleanup(b.cluster.Close)
	client, err := kgo.NewClient(kgo.SeedBrokers(b.address), kgo.ConsumeTopics("audit"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	want := int64(0)
	for _, p := range b.cluster.PartitionInfos("audit") {
		want += p.HighWatermark
	}
	var all [][]byte
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for int64(len(all)) < want {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if string(r.Key) != fmt.Sprintf("arn:key/%d", number(t, r.Value)%7) {
				t.Errorf("key %q of %s", r.Key, r.Value)
			}
			all = append(all, r.Value)
		})
	}
	return all
}
