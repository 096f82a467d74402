package server_test

import (
	"database/sql"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/cluster"
	"github.com/keywright/keywright/internal/server"
	"github.com/keywright/keywright/internal/store/storetest"
)

// newSharedConfig is newConfig with a database that other servers can use as well, and its URL.
func newSharedConfig(t *testing.T, node string) (c server.Config, dir, dsn string) {
	t.Helper()
	c, dir = newConfig(t)
	dsn = storetest.Postgres(t)
	var err error
	if c.Store, err = server.ParseStorage(dsn); err != nil {
		t.Fatal(err)
	}
	c.Node = node
	return c, dir, dsn
}

// silence has every look at what other servers have changed wait until it is ended, while all other queries are answered.
func silence(t *testing.T, dsn string) (end func()) {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := db.BeginTx(t.Context(), nil)
	if err == nil {
		_, err = tx.ExecContext(t.Context(), "LOCK TABLE writers IN ACCESS EXCLUSIVE MODE")
	}
	if err != nil {
		t.Fatal(err)
	}
	ended := false
	end = func() {
		if !ended {
			ended = true
			_, _ = tx.Rollback(), db.Close()
		}
	}
	t.Cleanup(end)
	return end
}

// refused reports whether a request that needs nothing from the database is refused for want of it.
func (r *running) refused() bool {
	c, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_, text := r.call(c, "GenerateRandom", `{"NumberOfBytes":1}`)
	return strings.Contains(text, "DependencyTimeoutException")
}

// A server that refuses every request says that it is not ready, whatever else the database answers; but not before changes that wait
// for the database have given up, because all servers would leave at once.
func TestReadyIsWhatRequestsGet(t *testing.T) {
	c, dir, dsn := newSharedConfig(t, "one")
	c.Store.MaxStaleness, c.Store.Patience = 100*time.Millisecond, 100*time.Millisecond
	impatient := run(t, c, dir)
	other, _ := newConfig(t)
	other.Store, other.Seals, other.Node = c.Store, c.Seals, "two"
	other.Store.Patience = time.Hour
	in, err := server.OpenInstallation(t.Context(), other, nil)
	if err != nil {
		t.Fatal(err)
	}
	patient := start(t, other, in)
	patient.root = impatient.root
	for _, r := range []*running{impatient, patient} {
		waitFor(t, func() bool { status, _ := r.probe("/readyz"); return status == 200 })
	}
	end := silence(t, dsn)
	waitFor(t, patient.refused)
	waitFor(t, func() bool {
		status, text := impatient.probe("/readyz")
		return status == 503 && strings.HasPrefix(text, "the store does not answer: ")
	})
	if !impatient.refused() || !patient.refused() {
		t.Error("requests are answered")
	}
	if status, text := patient.probe("/readyz"); status != 200 {
		t.Errorf("before its patience is over: %d %s", status, text)
	}
	waitFor(t, func() bool {
		_, text := patient.probe("/metrics")
		return strings.Contains(text, "\nkeywright_ready 0\n")
	})
	end()
	waitFor(t, func() bool { status, _ := impatient.probe("/readyz"); return status == 200 })
}

// A server that is told to stop while the database is away stops, and leaves an audit log that is closed, for however long it would else
// wait for the database.
func TestStopsWithoutTheDatabase(t *testing.T) {
	c, dir, dsn := newSharedConfig(t, "one")
	c.Store.Patience = time.Hour
	c.Audit.SegmentSize = 1 // so that there is always something to remember
	r := run(t, c, dir)
	if status, text := r.call(r.dial(), "CreateKey", "{}"); status != 200 { // which is a use of an access key, too
		t.Fatalf("%d %s", status, text)
	}
	end := silence(t, dsn)
	waitFor(t, r.refused)
	r.stop()
	waitFor(t, func() bool { return len(r.done) > 0 })
	if err := <-r.done; err == nil || !strings.Contains(err.Error(), "the database does not answer, and the server ends") {
		t.Error(err)
	}
	r.done <- nil
	end()
	key, err := server.AuditKey(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := audit.NewestCheckpoint(c.AuditDir())
	if err != nil {
		t.Fatal(err)
	}
	if last, err := audit.ParseCheckpoint(text, key); err != nil || !last.Closed {
		t.Errorf("the last checkpoint is %+v, %v", last, err)
	}
}

// Two servers that were given one name do not destroy each other's evidence: while one runs the other does not start, and what one has
// remembered the other does not replace.
func TestOneNameForTwoServers(t *testing.T) {
	c, dir, _ := newSharedConfig(t, "one")
	c.Audit.SegmentSize = 1 // so that there is always something to remember
	r := run(t, c, dir)
	other, _ := newConfig(t)
	other.Store, other.Seals, other.Node = c.Store, c.Seals, c.Node
	in, err := server.OpenInstallation(t.Context(), other, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := server.New(other, in); !errors.Is(err, cluster.ErrNameTaken) {
		t.Fatalf("the second one: %v", err)
	}
	if in, err = server.OpenInstallation(t.Context(), other, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := in.BeginAudit(t.Context()); err != nil { // it is told to forget the other's log
		t.Fatal(err)
	}
	a, err := server.NewAdministration(other, in)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if status, text := r.call(r.dial(), "CreateKey", "{}"); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	r.stop()
	if err := <-r.done; err == nil || !strings.Contains(err.Error(), "another server with this name writes an audit log: one has the newest checkpoint of keywright-audit/") {
		t.Errorf("the first one ends with %v", err)
	}
	r.done <- nil
	if in, err = server.OpenInstallation(t.Context(), other, nil); err != nil {
		t.Fatal(err)
	}
	if a, err = server.NewAdministration(other, in); err != nil {
		t.Fatalf("the second one's log: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

// Of a server that is gone for longer than records are kept nothing is remembered; of others it is.
func TestForgetsLogsOfOldServers(t *testing.T) {
	c, dir, _ := newSharedConfig(t, "gone")
	r := run(t, c, dir)
	r.stop()
	if err := <-r.done; err != nil {
		t.Fatal(err)
	}
	r.done <- nil
	remembered := func(in *server.Installation, node string) bool {
		_, err := in.Store.SmallSecret(t.Context(), "audit state "+node, nil)
		return err == nil
	}
	for _, x := range []struct {
		retention time.Duration
		want      bool
	}{{0, true}, {time.Hour, true}, {time.Nanosecond, false}} {
		other, _ := newConfig(t)
		other.Store, other.Seals, other.Node, other.Audit.Retention = c.Store, c.Seals, "stays"+x.retention.String(), x.retention
		in, err := server.OpenInstallation(t.Context(), other, nil)
		if err != nil {
			t.Fatal(err)
		}
		s := start(t, other, in)
		if err := s.ForgetLogs(t.Context()); err != nil {
			t.Error(err)
		}
		if got := remembered(in, "gone"); got != x.want || !remembered(in, other.Node) {
			t.Errorf("with a retention of %s: remembered %v, itself %v", x.retention, got, remembered(in, other.Node))
		}
	}
}
