package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/steps"
)

// maxGroup bounds how many updates share a transaction, and with it how long the first of them waits for the others.
const maxGroup = 256

// Update runs f in a transaction and returns when its changes are on disk. If f returns an error, nothing that it did
// stays and Update returns that error; updates that happen to share the transaction are not touched. f may run more than
// once, so it must not have effects of its own but through its Tx (OnCommit is for those), and it must not keep the Tx,
// call Update or a read of the Store, or wait for anything slow: it holds up all other updates. What may wait, once, is
// the audit log's record of something that the service does on its own.
//
// If ctx ends before f starts, f does not run and Update returns the context's error. From then on ctx has no say: Update
// returns what happened. After an error of the commit itself the changes are not visible, and are not on disk as far
// as the engine knows; but after ErrUnknown, which only PostgreSQL gives, they may be. ErrUnavailable is of PostgreSQL too: nothing
// was changed, because the database could not be reached for as long as Options say, or because f could not start for as long.
//
// A panic of f is passed on to the caller of Update.
func (s *Store) Update(ctx context.Context, f func(*Tx) error) error {
	if s.writer == nil {
		return errReadOnly
	}
	began, noted := time.Now(), steps.From(ctx).Begin(steps.StoreWrite)
	if s.db.shared { // a database that is slow is waited for by no more than can be served in time
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.db.patience, errCrowd)
		defer cancel()
	}
	u := &update{ctx: ctx, f: f, until: began.Add(s.db.patience), done: make(chan struct{})}
	err := s.writer.enqueue(u)
	if err == nil {
		err = s.await(ctx, u)
	}
	u.failed = u.failed || errors.Is(err, errCrowd)
	noted.EndWith(err)
	s.timing.wrote(time.Since(began), u)
	return err
}

// errCrowd says that others that wait for the database as well were not done in time.
var errCrowd = fmt.Errorf("%w: too many wait for it", ErrUnavailable)

// await returns what became of an update.
func (s *Store) await(ctx context.Context, u *update) error {
	select {
	case <-u.done:
	case <-ctx.Done():
		if u.state.CompareAndSwap(updateWaits, updateAbandoned) {
			return context.Cause(ctx)
		}
		<-u.done
	}
	if u.panicked != "" {
		panic(u.panicked)
	}
	return u.err
}

// update is one call of Update on its way through the writer.
type update struct {
	ctx      context.Context
	f        func(*Tx) error
	state    atomic.Int32
	until    time.Time // for how long it is tried, on a shared engine
	scopes   []scope   // that a run before wanted, in order; nil for a first run
	parked   bool      // one of them is held by another process
	onCommit []func()
	deleted  bool          // it deleted what must not stay in the files
	erases   bool          // and that is on disk: the log is to be folded before the caller is told
	err      error         // valid once done is closed
	panicked string        // likewise
	failed   bool          // likewise: the engine could not commit it
	done     chan struct{} // closed by the writer
}

// The states of an update. Both changes are made from updateWaits, by whoever comes first.
const (
	updateWaits int32 = iota
	updateStarted
	updateAbandoned
)

// start claims an update for running; false if its caller has gone.
func (u *update) start() bool {
	if u.ctx.Err() != nil {
		u.state.CompareAndSwap(updateWaits, updateAbandoned)
		u.err = context.Cause(u.ctx)
		return false
	}
	return u.state.CompareAndSwap(updateWaits, updateStarted)
}

// writer is the one goroutine that writes. It takes all updates that wait, up to maxGroup, runs them one after the other
// in one transaction, each in a savepoint of its own once it writes, and commits: one fsync for all of them.
type writer struct {
	store    *DB
	id       string  // of the process
	db       *sql.DB // the pool that writes
	shared   bool
	verifier verifier
	stmts    *prepared
	stopped  chan struct{} // closed when the goroutine has ended
	closing  chan struct{} // closed when it is to end
	marker   marker
	made     atomic.Pointer[made]
	wentBack atomic.Bool // and the Follower has not heard of it yet
	aside    []*update   // they need locks that can only be had at the beginning of a transaction
	held     held

	mu     sync.RWMutex // held for reading while queue is sent to, for writing while it is closed
	closed bool
	queue  chan *update
}

func newWriter(ctx context.Context, db *DB, v verifier) (*writer, error) {
	stmts, err := db.prepare(ctx, db.write, statementCount)
	if err != nil {
		return nil, err
	}
	w := &writer{
		store: db, id: arn.NewUUID(), db: db.write, shared: db.shared, verifier: v, stmts: stmts,
		stopped: make(chan struct{}), closing: make(chan struct{}), queue: make(chan *update, 4*maxGroup),
	}
	if w.shared {
		w.rename()
		if err := w.introduce(ctx); err != nil {
			return nil, err
		}
	}
	go w.run()
	return w, nil
}

// enqueue hands an update to the goroutine.
func (w *writer) enqueue(u *update) error {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		return ErrClosed
	}
	select {
	case w.queue <- u:
		return nil
	case <-u.ctx.Done():
		return context.Cause(u.ctx)
	}
}

// stop lets the updates that wait finish and ends the goroutine.
func (w *writer) stop() {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		close(w.closing)
		close(w.queue)
	}
	w.mu.Unlock()
	<-w.stopped
}

func (w *writer) run() {
	defer close(w.stopped)
	defer w.stmts.close()
	if w.shared {
		w.runShared()
		return
	}
	scrub := scrubber{db: w.db, log: w.verifier.log}
	defer scrub.stop()
	scrub.try()               // what a process that was killed could not
	var group, held []*update // held are those on disk whose answers wait for a fold of the log
	fold := func() {
		scrub.try()
		held = answer(held)
	}
	for {
		var first *update
		select {
		case u, ok := <-w.queue:
			if !ok {
				if len(held) > 0 {
					fold()
				}
				return
			}
			first = u
		case <-scrub.again:
			fold()
			continue
		}
		group = w.gather(append(group[:0], first))
		w.runGroup(group)
		done := group[:0]
		for _, u := range group {
			if u.erases {
				held = append(held, u)
			} else {
				done = append(done, u)
			}
		}
		erased := len(done) < len(group)
		answer(done)
		clear(group)
		if erased && scrub.due() {
			fold()
		}
	}
}

// gather adds the updates that wait to a group.
func (w *writer) gather(group []*update) []*update {
	for len(group) < maxGroup {
		select {
		case u, ok := <-w.queue:
			if !ok {
				return group
			}
			group = append(group, u)
		default:
			return group
		}
	}
	return group
}

// answer tells the callers of updates that they have ended, and returns the list without them.
func answer(updates []*update) []*update {
	for _, u := range updates {
		close(u.done)
	}
	clear(updates)
	return updates[:0]
}

// runGroup runs updates in one transaction and sets their results.
func (w *writer) runGroup(updates []*update) {
	ran := started(updates)
	g, err := w.begin(context.Background())
	for _, u := range ran {
		if err == nil {
			err = g.run(u)
		}
	}
	if err == nil {
		err = g.commit()
	} else if g != nil {
		g.rollback()
	}
	settle(ran, err)
}

// started returns the updates whose callers still wait: they run now.
func started(updates []*update) (ran []*update) {
	for _, u := range updates {
		if u.state.Load() == updateStarted || u.start() {
			ran = append(ran, u)
		}
	}
	return ran
}

// settle sets the results of updates whose transaction has ended with err.
func settle(ran []*update, err error) {
	for _, u := range ran {
		switch {
		case err != nil && u.err == nil && u.panicked == "":
			u.err, u.failed = fmt.Errorf("committing: %w", err), true
		case u.err == nil && u.panicked == "":
			u.erases = u.deleted
			for _, f := range u.onCommit {
				f()
			}
		}
	}
}

// group is a transaction that several updates share.
type group struct {
	w        *writer
	ctx      context.Context
	tx       *sql.Tx
	stmts    [statementCount]*sql.Stmt // those of the writer, bound to tx when first used
	counters map[scope]counter         // those that were claimed
	wrote    bool                      // there is something to commit

	// These are for a shared engine.
	conn    *sql.Conn // that tx is on
	careful bool      // each update has a savepoint of its own; if not, the first that has to be undone ends the transaction
	changes []change  // to be written at the end
	failed  error     // the last error of a statement of the update that runs
}

// note takes notice of an error of a statement. On a shared engine it ends what the statement is part of, whether or not the
// update says so.
func (g *group) note(err error) error {
	if err != nil && g.w.shared && g.failed == nil { // what comes after the first is its consequence
		g.failed = err
	}
	return err
}

// scope is what has change numbers of its own.
type scope struct {
	account arn.Account
	region  arn.Region
}

// before orders scopes: a transaction on a shared engine that waits for one has none that comes after it.
func (s scope) before(t scope) bool {
	return s.account < t.account || s.account == t.account && s.region < t.region
}

// counter is a row of counters, as it will be at the commit.
type counter struct {
	n, keys int64
	changed bool
}

// begin begins a transaction, for which ctx is valid until its end.
func (w *writer) begin(ctx context.Context) (*group, error) {
	g := &group{w: w, ctx: ctx, counters: map[scope]counter{}}
	var err error
	if w.shared {
		if g.conn, err = w.db.Conn(ctx); err == nil {
			if g.tx, err = g.conn.BeginTx(ctx, nil); err != nil {
				_ = g.conn.Close() // nothing was begun
			}
		}
	} else {
		g.tx, err = w.db.BeginTx(ctx, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("beginning a transaction: %w", err)
	}
	return g, nil
}

func (g *group) statement(s statement) *sql.Stmt {
	if g.stmts[s] == nil {
		g.stmts[s] = g.tx.StmtContext(g.ctx, g.w.stmts.stmts[s])
	}
	return g.stmts[s]
}

func (g *group) exec(s statement, args ...any) (sql.Result, error) {
	if g.w.shared {
		ctx, cancel, _ := g.bound(g.ctx)
		defer cancel()
		result, err := g.tx.ExecContext(ctx, statements[s], args...)
		return result, g.note(err)
	}
	return g.statement(s).ExecContext(g.ctx, args...)
}

// query implements querier.
func (g *group) query(ctx context.Context, s statement, args ...any) (*sql.Rows, error) {
	if g.w.shared {
		return g.tx.QueryContext(ctx, statements[s], args...)
	}
	return g.statement(s).QueryContext(g.ctx, args...)
}

// bound implements querier.
func (g *group) bound(ctx context.Context) (context.Context, context.CancelFunc, bool) {
	if !g.w.shared {
		return ctx, func() {}, false
	}
	ctx, cancel := context.WithTimeout(g.ctx, g.w.store.timeout+networkTime)
	return ctx, cancel, false
}

// run runs one update. The error is one that makes the transaction unusable; the update's own goes to u.err.
func (g *group) run(u *update) error {
	u.err, u.panicked, u.onCommit, u.deleted = nil, "", nil, false // this may be a second run
	g.failed = nil
	tx := &Tx{g: g}
	if g.careful { // what only reads can have to be undone as well
		if err := tx.save(); err != nil {
			return err
		}
	}
	u.panicked, u.err = call(u.f, tx)
	tx.over = true
	failed := u.err != nil || u.panicked != ""
	if tx.broken != nil && !failed {
		u.err, failed = tx.broken, true // f swallowed it
	}
	if g.failed != nil && !tx.misplaced {
		switch v := judge(g.failed); {
		case isLocked(g.failed) && !tx.held: // one row that somebody else has: the other updates do not need it
			u.err, failed = unavailable(g.failed), true
		case v == again, v == slow: // of the connection or of the other processes, and not of the update
			return g.failed
		case !failed:
			u.err, failed = g.failed, true // likewise
		}
	}
	if g.w.shared && !g.careful && (failed && tx.wrote || g.failed != nil) {
		return errCareful
	}
	if !failed || g.w.shared && !g.careful { // what was claimed stays claimed
		g.takeIn(tx)
	}
	if !failed {
		u.onCommit, u.deleted = tx.onCommit, tx.deleted
	}
	if tx.misplaced {
		u.scopes = append(u.scopes, tx.scopes()...)
		g.w.aside = append(g.w.aside, u)
	}
	if !tx.saved || g.w.shared && !g.careful {
		return nil // there is nothing to undo
	}
	if failed {
		if _, err := g.exec(rollbackToSavepoint); err != nil {
			return fmt.Errorf("undoing an update: %w", err)
		}
	}
	// If the engine gave up the whole transaction, as it does when the disk is full, there is no savepoint any more and
	// this fails.
	if _, err := g.exec(releaseSavepoint); err != nil {
		return fmt.Errorf("ending an update: %w", err)
	}
	return nil
}

// takeIn notes what an update did, if it stays.
func (g *group) takeIn(tx *Tx) {
	if tx.wiped {
		clear(g.counters)
	}
	for s, c := range tx.counters {
		g.counters[s] = c
	}
	g.wrote = g.wrote || tx.wrote
	g.changes = append(g.changes, tx.changes...)
}

// call runs f and catches its panic.
func call(f func(*Tx) error, tx *Tx) (panicked string, err error) {
	defer func() {
		if v := recover(); v != nil {
			panicked = fmt.Sprintf("%v\n\nin a function given to Update:\n%s", v, debug.Stack())
		}
	}()
	return "", f(tx)
}

func (g *group) commit() error {
	if err := g.writeCounters(); err != nil {
		g.rollback()
		return err
	}
	if err := g.tx.Commit(); err != nil {
		// The driver may have left the transaction open. There is one connection: clear it, or the next one fails.
		_, _ = g.w.db.ExecContext(context.Background(), `ROLLBACK`)
		return err
	}
	return nil
}

func (g *group) writeCounters() error {
	for s, c := range g.counters {
		if !c.changed {
			continue
		}
		if _, err := g.exec(updateCounter, c.n, c.keys, string(s.account), string(s.region)); err != nil {
			return err
		}
	}
	return nil
}

func (g *group) rollback() {
	err := g.tx.Rollback()
	if g.w.shared { // a connection that does not roll back is given up by its pool
		_ = g.conn.Close()
		return
	}
	if err != nil && !errors.Is(err, sql.ErrTxDone) {
		g.w.verifier.log.Error("rolling back", "error", err)
		_, _ = g.w.db.ExecContext(context.Background(), `ROLLBACK`) // as in commit
	}
}
