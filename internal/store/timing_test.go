package store_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/store/storetest"
)

// counted is a store.Observer.
type counted struct {
	reads, writes, failures atomic.Int64
	refused                 sync.Map // how often, by table
}

func (c *counted) Refused(table string) {
	n, _ := c.refused.LoadOrStore(table, new(atomic.Int64))
	n.(*atomic.Int64).Add(1)
}

func (c *counted) Read(took time.Duration) {
	if took > 0 {
		c.reads.Add(1)
	}
}

func (c *counted) Wrote(took time.Duration, failed bool) {
	if took > 0 {
		c.writes.Add(1)
	}
	if failed {
		c.failures.Add(1)
	}
}

func TestTiming(t *testing.T) {
	s := dirs{}.open(t, t.TempDir())
	c := new(counted)
	s.Tell(c)
	k := storetest.Key()
	if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.PutKey(k) }); err != nil {
		t.Fatal(err)
	}
	if _, err := s.GetKey(t.Context(), k.Name); err != nil {
		t.Fatal(err)
	}
	if _, err := s.GetKey(t.Context(), storetest.Key().Name); !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	refused := errors.New("refused")
	if err := s.Update(t.Context(), func(*store.Tx) error { return refused }); !errors.Is(err, refused) {
		t.Fatal(err)
	}
	if c.reads.Load() != 2 || c.writes.Load() != 2 || c.failures.Load() != 0 {
		t.Errorf("%d reads, %d writes, %d failures", c.reads.Load(), c.writes.Load(), c.failures.Load())
	}
	if s.DB().Octets() == 0 {
		t.Error("the store has no size")
	}
	if v, err := s.DB().SchemaVersion(t.Context()); err != nil || v < 4 {
		t.Errorf("schema %d, %v", v, err)
	}
}

func TestCensus(t *testing.T) {
	s := dirs{}.open(t, "")
	c, err := s.TakeCensus(t.Context())
	if err != nil || len(c.States) != 0 || !c.Deletion.IsZero() || !c.Expiry.IsZero() || !c.Rotation.IsZero() {
		t.Errorf("of an empty store: %+v, %v", c, err)
	}
	day := func(n int) time.Time { return time.Date(2027, 1, n, 0, 0, 0, 0, time.UTC) }
	var last *key.Key
	err = s.Update(t.Context(), func(tx *store.Tx) error {
		for i := range 300 { // more than a page
			k := storetest.Key()
			k.State = key.Enabled
			switch i % 3 {
			case 0:
				k.State, k.DeletionAt, k.PendingWindowInDays = key.PendingDeletion, day(20+i%7), 7
			case 1:
				k.Rotation = key.Rotation{Enabled: true, PeriodInDays: 90, Next: day(10 + i%5)}
			default:
				m := &k.Material[len(k.Material)-1]
				m.Expiration, m.ValidTo = key.Expires, day(3+i%9)
				k.DeletionAt = day(1) // of a deletion that was cancelled
			}
			if err := tx.PutKey(k); err != nil {
				return err
			}
			last = k
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err = s.TakeCensus(t.Context())
	if err != nil || c.States[key.Enabled] != 200 || c.States[key.PendingDeletion] != 100 || len(c.States) != 2 || c.Refused != 0 {
		t.Errorf("%+v, %v", c, err)
	}
	if !c.Deletion.Equal(day(20)) || !c.Rotation.Equal(day(10)) || !c.Expiry.Equal(day(5)) {
		t.Errorf("deletion %v, rotation %v, expiry %v", c.Deletion, c.Rotation, c.Expiry)
	}
	if _, err := store.SQL(s).ExecContext(t.Context(), "UPDATE keys SET tag = x'00' WHERE key_id = $1", string(last.ID)); err != nil {
		t.Fatal(err)
	}
	told := new(counted)
	s.Tell(told)
	if c, err = s.TakeCensus(t.Context()); err != nil || c.Refused != 1 {
		t.Errorf("with a forged row: %+v, %v", c, err)
	}
	if n, ok := told.refused.Load("keys"); !ok || n.(*atomic.Int64).Load() != 1 {
		t.Error("nobody was told of the forged row")
	}
}
