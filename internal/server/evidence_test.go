package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/server"
	"github.com/keywright/keywright/internal/sink"
)

// reopen opens the installation of a configuration.
func reopen(t *testing.T, c server.Config) *server.Installation {
	t.Helper()
	in, err := server.OpenInstallation(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// serve runs a server for a while.
func serve(t *testing.T, c server.Config, in *server.Installation, d time.Duration) {
	t.Helper()
	s, err := server.New(c, in)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := s.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

// fill appends records to the log of an installation that nothing runs on.
func fill(t *testing.T, c server.Config) {
	t.Helper()
	in := reopen(t, c)
	if _, err := in.BeginAudit(t.Context()); err != nil { // the log grows without a key, and so without checkpoints
		t.Fatal(err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := audit.Open(audit.Options{Dir: c.AuditDir(), Durability: audit.Written, SegmentSize: 100})
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := l.Append([]byte(`{"eventName":"Encrypt","eventTime":"2026-05-20T20:46:16Z","eventID":"1"}`)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// Records that a dead sink has still to read outlive their retention, over restarts and commands.
func TestRetentionWaitsForADeadSink(t *testing.T) {
	c, _ := newConfig(t)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := dead.Addr().String()
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	c.Audit.Retention = time.Nanosecond
	c.Audit.Sinks = []sink.Config{{Kind: sink.KindSyslog, Name: "dead", Network: "tcp", Address: address}}
	in, err := server.CreateInstallation(t.Context(), c, time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, c, in, time.Millisecond)
	fill(t, c)
	first := filepath.Join(c.AuditDir(), "audit-00000001.jsonl")
	door, err := server.NewAdministration(c, reopen(t, c))
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	if err := door.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(first); err != nil {
		t.Fatalf("after a command: %v", err)
	}
	serve(t, c, reopen(t, c), 300*time.Millisecond)
	if _, err := os.Stat(first); err != nil {
		t.Fatalf("after a restart: %v", err)
	}
	c.Audit.Sinks = nil
	for tries := 0; ; tries++ { // the look-up has to read them first
		serve(t, c, reopen(t, c), time.Second)
		if _, err := os.Stat(first); errors.Is(err, os.ErrNotExist) {
			break
		}
		if tries == 30 {
			t.Fatal("nobody needs the records, and they are still there")
		}
	}
}

// A log that is gone is missed, until an operator says that it is meant.
func TestAuditLogThatIsGone(t *testing.T) {
	c, _ := newConfig(t)
	in, err := server.CreateInstallation(t.Context(), c, time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, c, in, time.Millisecond)
	if err := os.RemoveAll(c.AuditDir()); err != nil {
		t.Fatal(err)
	}
	var damaged *audit.DamagedError
	if s, err := server.New(c, reopen(t, c)); !errors.As(err, &damaged) {
		if err == nil {
			_ = s.Close()
		}
		t.Fatalf("started without its log: %v", err)
	}
	in = reopen(t, c)
	forgotten, err := in.BeginAudit(t.Context())
	if err != nil || forgotten == nil {
		t.Fatalf("forgotten is %v, %v", forgotten, err)
	}
	if again, err := in.BeginAudit(t.Context()); again != nil || err != nil { // which forgets nothing, and not what it forgot before
		t.Errorf("forgotten is %v, %v", again, err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		serve(t, c, reopen(t, c), time.Millisecond)
	}
	text, err := os.ReadFile(filepath.Join(c.AuditDir(), "audit-00000001.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	first, rest, _ := bytes.Cut(text, []byte("\n"))
	var r struct {
		EventName         string
		RequestParameters struct {
			Forgotten struct {
				Origin     string
				Checkpoint uint64
			}
		}
	}
	if err := json.Unmarshal(first, &r); err != nil {
		t.Fatalf("%v: %s", err, first)
	}
	if was := r.RequestParameters.Forgotten; r.EventName != "BeginAudit" || was.Origin != forgotten.Origin || was.Checkpoint != forgotten.Number {
		t.Errorf("the log begins with %s, and forgotten is %+v", first, forgotten)
	}
	if bytes.Contains(rest, []byte("BeginAudit")) {
		t.Errorf("it is recorded more than once: %s", rest)
	}
}
