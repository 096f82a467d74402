package store_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/store/storetest"
)

// faults is a proxy before the database that cuts connections.
type faults struct {
	listener net.Listener
	target   string
	fault    atomic.Pointer[fault]
	hang     atomic.Bool  // what comes is not carried
	delay    atomic.Int64 // nanoseconds that each text of a client takes

	deaf atomic.Bool // nothing of new connections is carried

	mu    sync.Mutex
	conns []net.Conn
	mutes []*atomic.Bool // of connections
}

// fault is what to do when a client sends a text.
type fault struct {
	text    string
	forward bool          // the text reaches the server, whose answer is lost
	silent  bool          // connections stay open, and nothing comes through any more
	late    chan struct{} // the text reaches the server when it is closed, and the client hears nothing any more
	times   atomic.Int32
}

func newFaults(t *testing.T, dsn string) (*faults, string) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &faults{listener: l, target: u.Host}
	u.Host = l.Addr().String()
	go f.serve()
	t.Cleanup(f.stop)
	return f, u.String()
}

func (f *faults) serve() {
	for {
		c, err := f.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", f.target)
		if err != nil {
			_ = c.Close()
			continue
		}
		f.mu.Lock()
		mute := new(atomic.Bool)
		mute.Store(f.deaf.Load())
		f.conns, f.mutes = append(f.conns, c, server), append(f.mutes, mute)
		f.mu.Unlock()
		go f.copy(server, c, mute, true)
		go f.copy(c, server, mute, false)
	}
}

// copy carries what one side says to the other.
func (f *faults) copy(to, from net.Conn, mute *atomic.Bool, fromClient bool) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if mute.Load() || f.hang.Load() {
			continue
		}
		if fromClient {
			time.Sleep(time.Duration(f.delay.Load()))
		}
		if x := f.fault.Load(); fromClient && x != nil && bytes.Contains(bytes.ToLower(buf[:n]), []byte(x.text)) && x.times.Add(-1) >= 0 {
			if x.silent || x.late != nil {
				mute.Store(true)
			}
			if x.late != nil {
				<-x.late
				_, _ = to.Write(buf[:n])
				time.Sleep(50 * time.Millisecond) // for the server to do it
				return
			}
			if x.forward {
				mute.Store(true)
				_, _ = to.Write(buf[:n])
				time.Sleep(50 * time.Millisecond) // for the server to do it
			}
			if !x.silent {
				return
			}
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// stop refuses everything from now on.
func (f *faults) stop() {
	_ = f.listener.Close()
	f.cut()
}

// cut ends all connections.
func (f *faults) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		_ = c.Close()
	}
	f.conns = nil
}

// freeze has nothing be carried any more on the connections that there are: as if the machine at the other end had no power.
func (f *faults) freeze() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, mute := range f.mutes {
		mute.Store(true)
	}
}

// fail has the next text that contains text meet with a fault, once.
func (f *faults) fail(text string, forward, silent bool) {
	x := &fault{text: text, forward: forward, silent: silent}
	x.times.Store(1)
	f.fault.Store(x)
}

func openBehind(t *testing.T) (*faults, *store.Store, *store.Store) {
	t.Helper()
	dsn := postgres(t)
	direct := openPostgres(t, dsn)
	f, through := newFaults(t, dsn)
	db, err := store.Open(t.Context(), store.Options{DSN: through, Timeout: time.Second, Patience: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return f, storetest.Unseal(t, db), direct
}

// TestLostConnections cuts the connection at each statement of an update, before the server has it and before its answer comes
// back: the update is made, once.
func TestLostConnections(t *testing.T) {
	f, s, direct := openBehind(t)
	ctx := t.Context()
	want := int64(0)
	for _, text := range []string{"begin", "for share", "for update", "into keys", "into changes", "update counters", "update writers", "commit"} {
		for _, forward := range []bool{false, true} {
			k := aKey()
			// The driver prepares a statement once for each connection: all of them are new.
			f.cut()
			f.fail(text, forward, false)
			calls := 0
			err := s.Update(ctx, func(tx *store.Tx) error {
				tx.OnCommit(func() { calls++ })
				return tx.ReplaceKey(nil, k)
			})
			left := f.fault.Load().times.Load()
			want++
			if err != nil || calls != 1 || left > 0 {
				t.Errorf("cut at %s, forwarded %v: %v; told %d times, %d faults are left", text, forward, err, calls, left)
			}
			if _, err := direct.GetKey(ctx, k.Name); err != nil {
				t.Error(err)
			}
		}
	}
	// An update that fails after it wrote leaves nothing, and its own error.
	refused := errors.New("refused by the test")
	for _, text := range []string{"into keys", "savepoint one", "rollback to", "release"} {
		for _, forward := range []bool{false, true} {
			f.cut()
			f.fail(text, forward, false)
			err := s.Update(ctx, func(tx *store.Tx) error {
				if err := tx.ReplaceKey(nil, aKey()); err != nil {
					return err
				}
				return refused
			})
			if left := f.fault.Load().times.Load(); !errors.Is(err, refused) || left > 0 {
				t.Errorf("cut at %s, forwarded %v: %v; %d faults are left", text, forward, err, left)
			}
		}
	}
	f.fault.Store(nil)
	if p, err := direct.Position(ctx, account, region); err != nil || p != want {
		t.Errorf("%d changes, %v; want %d", p, err, want)
	}
	if n, err := direct.CountKeys(ctx, account, region); err != nil || n != want {
		t.Errorf("%d keys, %v; want %d", n, err, want)
	}
}

// TestLostAgainAndAgain cuts the connection whenever a key is written, until there is no time left: nothing was changed, and whoever wrote
// is told so.
func TestLostAgainAndAgain(t *testing.T) {
	f, s, direct := openBehind(t)
	f.cut()
	f.fail("into keys", false, false)
	f.fault.Load().times.Store(math.MaxInt32)
	k := aKey()
	err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.PutKey(k) })
	if !errors.Is(err, store.ErrUnavailable) {
		t.Error(err)
	}
	f.fault.Store(nil)
	if _, err := direct.GetKey(t.Context(), k.Name); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
}

// TestReadsSurviveCuts cuts all connections between reads.
func TestReadsSurviveCuts(t *testing.T) {
	f, s, direct := openBehind(t)
	k := aKey()
	if err := direct.Update(t.Context(), func(tx *store.Tx) error { return tx.PutKey(k) }); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		f.cut()
		if _, err := s.GetKey(t.Context(), k.Name); err != nil {
			t.Error(err)
		}
	}
	f.fail("from keys", true, false) // in the middle of one
	if _, err := s.GetKey(t.Context(), k.Name); err != nil {
		t.Error(err)
	}
}

// TestUnreachable stops the proxy: updates and reads end within their time, and nothing was changed.
func TestUnreachable(t *testing.T) {
	f, s, direct := openBehind(t)
	k := aKey()
	f.stop()
	begun := time.Now()
	err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.PutKey(k) })
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("an update: %v", err)
	}
	if _, err := s.GetKey(t.Context(), k.Name); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a read: %v", err)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	if _, err := direct.GetKey(t.Context(), k.Name); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
}

// TestCrowd has more updates and reads wait for a database that says nothing than can be served: each is answered, long before those
// before it have had their time, and what was refused was not done.
func TestCrowd(t *testing.T) {
	f, s, direct := openBehind(t)
	k := aKey()
	if err := direct.Update(t.Context(), func(tx *store.Tx) error { return tx.PutKey(k) }); err != nil {
		t.Fatal(err)
	}
	const updates, reads = 6000, 3000 // 24 transactions, of which each would be tried for three seconds
	f.hang.Store(true)
	var done, refused, unknown, other, readsRefused atomic.Int64
	var all sync.WaitGroup
	began := time.Now()
	for range updates {
		all.Go(func() {
			switch err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.PutKey(aKey()) }); {
			case err == nil:
				done.Add(1)
			case errors.Is(err, store.ErrUnavailable):
				refused.Add(1)
			case errors.Is(err, store.ErrUnknown):
				unknown.Add(1)
			default:
				t.Log(err)
				other.Add(1)
			}
		})
	}
	for range reads {
		all.Go(func() {
			if _, err := s.GetKey(t.Context(), k.Name); errors.Is(err, store.ErrUnavailable) {
				readsRefused.Add(1)
			}
		})
	}
	all.Wait()
	if took := time.Since(began); took > 25*time.Second {
		t.Errorf("the last was answered after %s", took)
	}
	if done.Load()+unknown.Load()+other.Load() > 0 || refused.Load() != updates || readsRefused.Load() != reads {
		t.Errorf("%d updates done, %d refused, %d unknown, %d others; %d reads refused", done.Load(), refused.Load(), unknown.Load(), other.Load(), readsRefused.Load())
	}
	f.hang.Store(false)
	f.cut()
	if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.PutKey(aKey()) }); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if n, err := direct.CountKeys(t.Context(), k.Account, k.Region); err != nil || n != 2 {
		t.Errorf("%d keys, %v", n, err)
	}
}

// TestSlowDatabase has each word to the database take its time, more than there is for a change of many words: what is answered as done is
// there, what is refused is not.
func TestSlowDatabase(t *testing.T) {
	f, s, direct := openBehind(t)
	f.delay.Store(int64(400 * time.Millisecond))
	var mu sync.Mutex
	want := map[key.Name]error{}
	var all sync.WaitGroup
	for range 40 {
		all.Go(func() {
			k := aKey()
			err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.PutKey(k) })
			mu.Lock()
			defer mu.Unlock()
			want[k.Name] = err
		})
	}
	all.Wait()
	f.delay.Store(0)
	f.cut()
	for name, err := range want {
		_, found := direct.GetKey(t.Context(), name)
		switch {
		case errors.Is(err, store.ErrUnknown):
		case err == nil && found != nil, err != nil && !errors.Is(found, store.ErrNotFound):
			t.Errorf("answered %v, and there: %v", err, found)
		case err != nil && !errors.Is(err, store.ErrUnavailable):
			t.Error(err)
		}
	}
}

// TestUnknown has nothing come through any more from the commit on: whether it was made nobody can say.
func TestUnknown(t *testing.T) {
	for _, forward := range []bool{false, true} {
		f, s, direct := openBehind(t)
		k := aKey()
		f.fail("commit", forward, true)
		done := make(chan error, 1)
		go func() {
			done <- s.Update(context.Background(), func(tx *store.Tx) error { return tx.PutKey(k) })
		}()
		time.Sleep(100 * time.Millisecond)
		_ = f.listener.Close() // and nobody can be asked
		err := <-done
		if !errors.Is(err, store.ErrUnknown) || errors.Is(err, store.ErrUnavailable) {
			t.Errorf("forwarded %v: %v", forward, err)
		}
		f.cut() // the server ends what it did not hear of
		_, err = direct.GetKey(t.Context(), k.Name)
		if forward != (err == nil) {
			t.Errorf("forwarded %v: the key: %v", forward, err)
		}
		// The feed has the key or has it not.
		p, err := direct.Position(t.Context(), account, region)
		if err != nil || forward != (p == 1) {
			t.Errorf("forwarded %v: position %d, %v", forward, p, err)
		}
	}
}

// TestTerminated has the server end the connections again and again while several goroutines write.
func TestTerminated(t *testing.T) {
	dsn := postgres(t)
	s, beside := openPostgres(t, with(t, dsn, "application_name", "terminated")), openPostgres(t, dsn)
	stop := make(chan struct{})
	var wg, ender sync.WaitGroup
	var made atomic.Int64
	ender.Go(func() {
		for before := int64(-1); ; {
			select {
			case <-stop:
				return
			case <-time.After(30 * time.Millisecond):
			}
			if now := made.Load(); now != before { // on a slow machine connecting takes longer, and something is to be made
				before = now
			} else {
				continue
			}
			_, err := store.SQL(beside).Exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE application_name = 'terminated' AND query LIKE '%' AND pid <> pg_backend_pid()`)
			if err != nil {
				t.Error(err)
			}
		}
	})
	var mu sync.Mutex
	var keys []*key.Key
	for range 4 {
		wg.Go(func() {
			for range 40 {
				k := aKey()
				if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.ReplaceKey(nil, k) }); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				keys = append(keys, k)
				mu.Unlock()
				made.Add(1)
			}
		})
	}
	wg.Wait()
	close(stop)
	ender.Wait()
	for _, k := range keys {
		if _, err := beside.GetKey(t.Context(), k.Name); err != nil {
			t.Error(err)
		}
	}
	if p, err := beside.Position(t.Context(), account, region); err != nil || p != int64(len(keys)) {
		t.Errorf("%d changes for %d keys, %v", p, len(keys), err)
	}
}

// TestFrozenProcess has a transaction that holds a claim and says nothing any more: others go on after a while.
func TestFrozenProcess(t *testing.T) {
	dsn := postgres(t)
	s := openPostgres(t, dsn)
	k := aKey()
	put := func() error { return s.Update(t.Context(), func(tx *store.Tx) error { return tx.PutKey(k) }) }
	if err := put(); err != nil {
		t.Fatal(err)
	}
	frozen, err := store.SQL(openPostgres(t, with(t, dsn, "idle_in_transaction_session_timeout", "1000"))).BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = frozen.Rollback() }()
	if _, err := frozen.ExecContext(t.Context(), `SELECT n FROM counters FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	if err := put(); err != nil {
		t.Error(err)
	}
}

func TestDSN(t *testing.T) {
	for _, c := range []struct{ dsn, want string }{
		{"mysql://localhost/keywright", "postgres://"},
		{"host=localhost", "postgres://"},
		{"postgres://db.example.com/keywright?sslmode=disable", store.ErrPlainDatabase.Error()},
		{"postgres://db.example.com/keywright?sslmode=prefer", store.ErrPlainDatabase.Error()},
		{"postgres://127.0.0.1,db.example.com/keywright?sslmode=disable", store.ErrPlainDatabase.Error()},
		{"postgres://u:hunter2@db.example.com:x/keywright", "parse"},
		{"postgres://u:hunter2@127.0.0.1:1/keywright?sslmode=disable", "refused"},
	} {
		db, err := store.Open(t.Context(), store.Options{DSN: c.dsn, Password: secret.FromString("hunter3"), Timeout: 500 * time.Millisecond})
		if err == nil {
			_ = db.Close()
			t.Errorf("%s is opened", c.dsn)
			continue
		}
		if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter") {
			t.Errorf("%s: %v", c.dsn, err)
		}
	}
}
