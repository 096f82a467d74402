package sink_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/sink"
)

const account = "111122223333"

// record makes record number n, which is about one of seven keys.
func record(n int) []byte {
	r := audit.Record{
		Identity: audit.Identity{Type: "Root", PrincipalID: account, AccountID: account}, Time: time.Unix(1_800_000_000+int64(n), 0), Source: "kms.amazonaws.com",
		Name: "Encrypt", Region: "us-east-1", EventID: fmt.Sprintf("%08d", n), EventType: audit.APICall, Recipient: account,
		Resources: []audit.Resource{{Account: arn.Account(account), ARN: fmt.Sprintf("arn:key/%d", n%7)}},
	}
	return r.AppendJSON(nil)
}

// number returns which record a text is.
func number(t *testing.T, text []byte) int {
	t.Helper()
	var r struct {
		EventID   string
		Resources []struct{ ARN string }
	}
	n := 0
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatalf("%.200q is not a record: %v", text, err)
	}
	if _, err := fmt.Sscanf(r.EventID, "%08d", &n); err != nil || len(r.Resources) != 1 || r.Resources[0].ARN != fmt.Sprintf("arn:key/%d", n%7) {
		t.Fatalf("%.200q is not a record that was sent", text)
	}
	return n
}

// inbox collects what arrives. It is safe for concurrent use.
type inbox struct {
	mu  sync.Mutex
	all [][]byte
}

func (i *inbox) add(records ...[]byte) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, r := range records {
		i.all = append(i.all, bytes.Clone(r))
	}
}

func (i *inbox) records() [][]byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.all[:len(i.all):len(i.all)]
}

// check asserts that all of the first n records arrived, and those of each key in order, but for what came again.
func check(t *testing.T, got [][]byte, n int) {
	t.Helper()
	seen := make([]bool, n)
	last := [7]int{-1, -1, -1, -1, -1, -1, -1}
	for _, text := range got {
		k := number(t, text)
		if k >= n {
			t.Fatalf("record %d was never made", k)
		}
		if seen[k] {
			continue
		}
		if seen[k] = true; last[k%7] > k {
			t.Fatalf("record %d came after record %d of the same key", k, last[k%7])
		}
		last[k%7] = k
	}
	missing := 0
	for _, ok := range seen {
		if !ok {
			missing++
		}
	}
	if missing > 0 {
		t.Fatalf("%d of %d records never arrived", missing, n)
	}
	t.Logf("%d records, %d arrived again", n, len(got)-n)
}

// running is a sink that runs.
type running struct {
	*sink.Sink
	stop func()
}

func start(t *testing.T, c sink.Config, src audit.Source, dir string) *running {
	t.Helper()
	s, err := sink.New(c, src, dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { s.Run(ctx); close(done) }()
	var once sync.Once
	r := &running{s, func() { once.Do(func() { cancel(); <-done }) }}
	t.Cleanup(r.stop)
	return r
}

// caughtUp waits until everything is delivered, as long as something is.
func (r *running) caughtUp(t *testing.T) {
	t.Helper()
	deadline, last := time.Now().Add(30*time.Second), r.Lag()
	for lag := last; lag > 0; lag = r.Lag() {
		if lag < last {
			deadline, last = time.Now().Add(30*time.Second), lag
		}
		if time.Now().After(deadline) {
			t.Fatalf("the sink does not catch up: %+v", r.Status())
		}
		time.Sleep(time.Millisecond)
	}
}

func appendRecords(t *testing.T, m *audit.Memory, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		if err := m.Append(record(n)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFile(t *testing.T) {
	src, dir := audit.NewMemory(10_000), t.TempDir()
	path := filepath.Join(dir, "out.jsonl")
	c := sink.Config{Kind: sink.KindFile, Name: "f", Path: path, Batch: 10}
	appendRecords(t, src, 0, 100) // the first start begins at the beginning
	r := start(t, c, src, dir)
	r.caughtUp(t)
	if s := r.Status(); s.Delivered != 100 || s.LastDelivered.IsZero() || s.LastError != "" {
		t.Errorf("%+v", s)
	}
	if err := os.Rename(path, path+".1"); err != nil { // as logrotate does
		t.Fatal(err)
	}
	appendRecords(t, src, 100, 150)
	r.caughtUp(t)
	r.stop()
	if r.Needs() != 150 {
		t.Errorf("a sink that ended needs %d", r.Needs())
	}
	appendRecords(t, src, 150, 200)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"eventID":"0000`); err != nil { // as a crash leaves it
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	start(t, c, src, dir).caughtUp(t)
	var got [][]byte
	for _, name := range []string{path + ".1", path} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))...)
	}
	if check(t, got, 200); len(got) != 200 {
		t.Errorf("%d lines of 200 records", len(got))
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// pipedStdout has the process write its standard output into a pipe until the test ends.
func pipedStdout(t *testing.T) (read, write *os.File) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	old := os.Stdout
	os.Stdout = write
	t.Cleanup(func() { os.Stdout = old })
	return read, write
}

func TestStdout(t *testing.T) {
	read, write := pipedStdout(t)
	src := audit.NewMemory(1000)
	r := start(t, sink.Config{Kind: sink.KindStdout, Name: "s"}, src, t.TempDir())
	var in inbox
	done := make(chan struct{})
	go func() {
		defer close(done)
		text := make([]byte, 0, 1<<20)
		buf := make([]byte, 4096)
		for {
			n, err := read.Read(buf)
			text = append(text, buf[:n]...)
			if err != nil {
				in.add(bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))...)
				return
			}
		}
	}()
	appendRecords(t, src, 0, 300)
	r.caughtUp(t)
	r.stop()
	if err := write.Close(); err != nil {
		t.Fatal(err)
	}
	<-done
	check(t, in.records(), 300)
}

// A reader who has stopped holds nobody up, and a sink that cannot get rid of its records still ends.
func TestStdoutThatNobodyReads(t *testing.T) {
	read, _ := pipedStdout(t)
	defer func() { _ = read.Close() }()
	src := audit.NewMemory(10_000)
	r := start(t, sink.Config{Kind: sink.KindStdout, Name: "s"}, src, t.TempDir())
	appendRecords(t, src, 0, 5000)
	r.stop()
	if r.Lag() == 0 {
		t.Error("records that nobody read count as delivered")
	}
}

// What came while a write was stuck is not taken for a part of it when the write ends after all.
func TestStdoutThatIsReadAtTheEnd(t *testing.T) {
	read, write := pipedStdout(t)
	src, dir := audit.NewMemory(10_000), t.TempDir()
	c := sink.Config{Kind: sink.KindStdout, Name: "s"}
	appendRecords(t, src, 0, 400) // more than a pipe takes
	r := start(t, c, src, dir)
	first := make([]byte, 1)
	if _, err := read.Read(first); err != nil {
		t.Fatal(err)
	}
	appendRecords(t, src, 400, 450)
	ended := make(chan struct{})
	go func() { r.stop(); close(ended) }()
	time.Sleep(100 * time.Millisecond) // it is told to end, and goes on for a moment
	text := make(chan []byte)
	go func() {
		b, err := io.ReadAll(read)
		if err != nil {
			t.Error(err)
		}
		text <- append(first, b...)
	}()
	<-ended
	start(t, c, src, dir).caughtUp(t)
	if err := write.Close(); err != nil {
		t.Fatal(err)
	}
	check(t, bytes.Split(bytes.TrimSuffix(<-text, []byte("\n")), []byte("\n")), 450)
}

// A log that was not flushed can lose its end in a power cut, and other records get the numbers: they are delivered.
func TestLogThatLostItsEnd(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out.jsonl")
	c := sink.Config{Kind: sink.KindFile, Name: "f", Path: path}
	before := audit.NewMemory(1000)
	appendRecords(t, before, 0, 100)
	r := start(t, c, before, dir)
	r.caughtUp(t)
	r.stop()
	after := audit.NewMemory(1000)
	appendRecords(t, after, 0, 90)
	for n := 100; n < 150; n++ {
		if err := after.Append(record(n)); err != nil {
			t.Fatal(err)
		}
	}
	start(t, c, after, dir).caughtUp(t)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got := map[int]bool{}
	for line := range bytes.Lines(text) {
		got[number(t, line)] = true
	}
	if len(got) != 150 {
		t.Errorf("%d of 150 records arrived", len(got))
	}
}

func TestDamagedPosition(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out.jsonl")
	src := audit.NewMemory(1000)
	appendRecords(t, src, 0, 50)
	if err := os.WriteFile(filepath.Join(dir, "f.json"), []byte("[{}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, sink.Config{Kind: sink.KindFile, Name: "f", Path: path}, src, dir).caughtUp(t)
	text, err := os.ReadFile(path)
	if err != nil || bytes.Count(text, []byte("\n")) != 50 {
		t.Errorf("%d lines, %v", bytes.Count(text, []byte("\n")), err)
	}
}

// Records that are gone before a sink had them are counted, and it goes on.
func TestMissed(t *testing.T) {
	dir := t.TempDir()
	src := audit.NewMemory(100)
	appendRecords(t, src, 0, 10)
	c := sink.Config{Kind: sink.KindFile, Name: "f", Path: filepath.Join(dir, "out.jsonl")}
	r := start(t, c, src, dir)
	r.caughtUp(t)
	r.stop()
	appendRecords(t, src, 10, 500)
	again := start(t, c, src, dir)
	again.caughtUp(t)
	if s := again.Status(); s.Missed != 390 || s.Delivered != 100 {
		t.Errorf("%+v", s)
	}
}

func TestCheck(t *testing.T) {
	file := sink.Config{Kind: "file", Name: "f", Path: "/x"}
	secret := &sink.Secret{Env: "X"}
	hook := sink.Config{Kind: "webhook", Name: "w", URL: "https://siem.example.com/in", Secret: secret}
	kafka := sink.Config{Kind: "kafka", Name: "k", Brokers: []string{"b:9092"}, Topic: "t"}
	syslog := sink.Config{Kind: "syslog", Name: "s", Network: "tcp", Address: "h:601"}
	for _, c := range []sink.Config{file, hook, kafka, syslog, {Kind: "stdout", Name: "o"}} {
		if err := c.Check(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
	with := func(c sink.Config, edit func(*sink.Config)) sink.Config { edit(&c); return c }
	for want, c := range map[string]sink.Config{
		"kind":                      {Kind: "s3", Name: "x"},
		"name":                      with(file, func(c *sink.Config) { c.Name = "../f" }),
		"path: must be given":       {Kind: "file", Name: "f"},
		"url: a file sink has none": with(file, func(c *sink.Config) { c.URL = "https://x" }),
		"settle: a file sink":       with(file, func(c *sink.Config) { c.Settle = 1 }),
		"batch":                     with(file, func(c *sink.Config) { c.Batch = 10_001 }),
		"network":                   with(syslog, func(c *sink.Config) { c.Network = "sctp" }),
		"address: must be given":    with(syslog, func(c *sink.Config) { c.Address = "" }),
		"for the network tls only":  with(syslog, func(c *sink.Config) { c.CA = "ca.pem" }),
		"facility":                  with(syslog, func(c *sink.Config) { c.Facility = 24 }),
		"url: want https":           with(hook, func(c *sink.Config) { c.URL = "http://siem.example.com" }),
		"without user and password": with(hook, func(c *sink.Config) { c.URL = "https://u:p@siem.example.com" }),
		"secret: want either":       with(hook, func(c *sink.Config) { c.Secret = &sink.Secret{File: "a", Env: "b"} }),
		"want both or none":         with(hook, func(c *sink.Config) { c.Key = "k.pem" }),
		"brokers":                   with(kafka, func(c *sink.Config) { c.Brokers = nil }),
		"topic":                     with(kafka, func(c *sink.Config) { c.Topic = "" }),
		"mechanism":                 with(kafka, func(c *sink.Config) { c.SASL = &sink.SASL{Mechanism: "GSSAPI", User: "u", Password: secret} }),
		"would show the password":   with(kafka, func(c *sink.Config) { c.SASL = &sink.SASL{Mechanism: "PLAIN", User: "u", Password: secret} }),
		"sasl: password":            with(kafka, func(c *sink.Config) { c.SASL = &sink.SASL{Mechanism: "SCRAM-SHA-256", User: "u"} }),
	} {
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", c, err, want)
		}
	}
	for _, all := range [][]sink.Config{{file, file}, {{Kind: "stdout", Name: "a"}, {Kind: "stdout", Name: "b"}}} {
		if sink.CheckAll(all) == nil {
			t.Errorf("%+v: accepted", all)
		}
	}
}

func FuzzPosition(f *testing.F) {
	f.Add([]byte(`[{"next":1,"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}]`))
	f.Add([]byte(`[{"next":0}]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if sink.ParsePosition(text) == nil && !json.Valid(text) {
			t.Errorf("%q was accepted", text)
		}
	})
}
