package audit_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/audit"
)

// A change that is under way when the log is closed gets its record in, and nothing else does.
func TestCloseWaitsForRecordsOfChanges(t *testing.T) {
	for _, d := range []audit.Durability{audit.Written, audit.Synced} {
		o := evident(t.TempDir())
		o.Durability, o.Patience = d, time.Hour
		l := open(t, o)
		for range 2 {
			if err := l.Reserve(); err != nil {
				t.Fatal(err)
			}
		}
		closed := make(chan error, 1)
		go func() { closed <- l.Close() }()
		waitFor(t, func() bool { return errors.Is(l.Append([]byte(`{"n":"other"}`)), audit.ErrClosed) })
		if err := l.Reserve(); !errors.Is(err, audit.ErrClosed) {
			t.Errorf("durability %v: a change may begin while the log is closed: %v", d, err)
		}
		before := l.Next()
		for range 2 {
			select {
			case err := <-closed:
				t.Fatalf("durability %v: closed beside a change: %v", d, err)
			default:
			}
			if err := l.AppendReserved([]byte(`{"n":"change"}`)); err != nil {
				t.Errorf("durability %v: a change has no record: %v", d, err)
			}
		}
		if err := <-closed; err != nil {
			t.Fatal(err)
		}
		r := mustVerify(t, audit.VerifyOptions{Dir: o.Dir})
		if c, _ := newest(t, o.Dir); r.Next != before+2 || !c.Closed || c.Size != r.Next {
			t.Errorf("durability %v: %d records, want %d; the last checkpoint is %+v", d, r.Next, before+2, c)
		}
	}
}

// A change that does not end keeps no log open for ever. That its record may be missing is said, and no checkpoint says that all is there.
func TestCloseDoesNotWaitForEver(t *testing.T) {
	for _, d := range []audit.Durability{audit.Written, audit.Synced} {
		o := evident(t.TempDir())
		o.Durability, o.Patience = d, time.Millisecond
		l := open(t, o)
		appendRecords(t, l, 3)
		if err := l.Reserve(); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err == nil || !strings.Contains(err.Error(), "1 calls were still under way") {
			t.Errorf("durability %v: closing says %v", d, err)
		}
		if err := l.AppendReserved([]byte(`{"n":"change"}`)); !errors.Is(err, audit.ErrClosed) {
			t.Errorf("durability %v: a record after the end: %v", d, err)
		}
		if c, _ := newest(t, o.Dir); c.Closed || c.Size != 3 {
			t.Errorf("durability %v: the last checkpoint is %+v", d, c)
		}
		mustVerify(t, audit.VerifyOptions{Dir: o.Dir})
	}
}

// Where what has to be remembered elsewhere cannot be, the log is closed all the same: the next start need not recover it.
func TestCloseWithoutWhoRemembers(t *testing.T) {
	var away atomic.Pointer[error]
	o := evident(t.TempDir())
	o.Remember = func([]byte) error {
		if err := away.Load(); err != nil {
			return *err
		}
		return nil
	}
	l := open(t, o)
	errAway := errors.New("away")
	away.Store(&errAway)
	fillSegments(t, l, o.Dir, 2, 3) // what ends a segment is remembered at once, and again and again
	if err := l.Close(); !errors.Is(err, errAway) {
		t.Errorf("closed: %v", err)
	}
	if c, _ := newest(t, o.Dir); !c.Closed || c.Size != l.Next() {
		t.Errorf("the last checkpoint is %+v", c)
	}
}
