package store

import (
	"context"
	"database/sql"
	"time"
)

// Lease asks that this process may do what only one process at a time may: what name says. It holds from the database's clock for
// so long, or, if the process has it already, is renewed. A process that counts the time from before the call never thinks that it
// has what another one got. It is no lock: what a process began before it was stopped may end after another one has the lease, so that
// whoever works under it says in each update what it expects to find. Where no other process uses the store it is always had.
func (s *Store) Lease(ctx context.Context, name string, length time.Duration) (held bool, err error) {
	if !s.db.shared {
		return true, nil
	}
	if s.writer == nil {
		return false, errReadOnly
	}
	n, err := s.execShared(ctx, takeLease, name, s.writer.id, length.Milliseconds())
	return n > 0, doing("asking for a lease", err)
}

// EndLease gives back a lease, if this process has it.
func (s *Store) EndLease(ctx context.Context, name string) error {
	if !s.db.shared || s.writer == nil {
		return nil
	}
	_, err := s.execShared(ctx, endLease, name, s.writer.id)
	return doing("giving back a lease", err)
}

// Node is a process that uses the store.
type Node struct {
	Name    string // what its operator calls it
	Version string // of the program
	Self    bool   // it is this one
}

// LiveFor is for how long a process is taken to live after it said so.
const LiveFor = 5 * time.Second

// nodesGoneAfter is after how long without a word a row of table nodes is removed, in milliseconds.
const nodesGoneAfter = 24 * 60 * 60 * 1000

// Look is a look at the database's clock.
type Look struct {
	Clock         time.Time // what it said; zero if there is none
	Before, After time.Time // what this machine's said before and after
}

// Ahead returns how far this machine's clock was ahead, at least; negative if it was behind. That the question took a while is not
// held against it.
func (l Look) Ahead() time.Duration {
	if d := l.Before.Sub(l.Clock); d > 0 {
		return d
	}
	return min(0, l.After.Sub(l.Clock))
}

// Beat says that this process lives, and returns those that have said so within the last while, this one among them, by name, with a look at
// the database's clock. Without others that use the store there is only this one, and no clock.
func (s *Store) Beat(ctx context.Context, self Node, within time.Duration) (live []Node, look Look, err error) {
	self.Self = true
	if !s.db.shared {
		return []Node{self}, Look{}, nil
	}
	if s.writer == nil {
		return nil, look, errReadOnly
	}
	me := s.writer.id
	if _, err := s.execShared(ctx, putNode, me, self.Name, self.Version); err != nil {
		return nil, look, doing("saying that this process lives", err)
	}
	var ms int64
	scan := func(rows *sql.Rows) (n Node, err error) {
		var id string
		err = rows.Scan(&id, &n.Name, &n.Version, &ms)
		n.Self = id == me
		return n, err
	}
	look.Before = time.Now()
	live, err = collect(ctx, s.looks, scan, selectNodes, within.Milliseconds())
	look.After = time.Now()
	if len(live) > 0 {
		look.Clock = time.UnixMilli(ms).UTC()
	}
	return live, look, doing("looking which processes live", err)
}

// Leave says that this process lives no more.
func (s *Store) Leave(ctx context.Context) error {
	if !s.db.shared || s.writer == nil {
		return nil
	}
	_, err := s.execShared(ctx, deleteNode, s.writer.id, int64(nodesGoneAfter))
	return doing("saying that this process ends", err)
}

// execShared runs a statement on its own, once, on a connection that writes.
func (s *Store) execShared(ctx context.Context, statement statement, args ...any) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.db.timeout+networkTime)
	defer cancel()
	result, err := s.db.write.ExecContext(ctx, statements[statement], args...)
	if err != nil {
		if judge(err) == again {
			err = unavailable(err)
		}
		return 0, err
	}
	return result.RowsAffected()
}
