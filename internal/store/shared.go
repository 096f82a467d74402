package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/seal"
)

// What the writer does on an engine that many processes use.

// errRestart says that a transaction must begin again.
var errRestart = errors.New("the transaction has to begin again")

// errCareful says that an update of several has to be undone, for which each needs a savepoint of its own. That is rare, and savepoints
// are two statements for each.
var errCareful = errors.New("an update has to be undone alone")

// marker numbers the transactions of one process, so that the database can say which was its last.
type marker struct {
	names      int    // that the process has had
	mark       int64  // of the last one, whatever became of it
	made       int64  // of the last one that is known to be made
	introduced bool   // the database knows the name
	generation string // for which the barrier has all domain keys
	retired    string // with which version of the domain keys all material has to be wrapped
}

// retiredName is the row of table meta with the version of domain keys before which all others are about to be dropped. All domains have
// the same: they are rotated together.
const retiredName = "newest of retired domain keys"

// retireDomainKeys has every process refuse to write material that is not wrapped with the newest domain key: what was wrapped before
// the key came can be on its way to the store still.
func (s *Store) retireDomainKeys(ctx context.Context) error {
	if !s.db.shared {
		return nil
	}
	return s.db.writeSealed(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, statements[upsertMeta], retiredName, fmt.Sprint(s.verifier.barrier.Newest(seal.Row)))
		return err
	})
}

// current gives ErrConflict if material of a key is wrapped with a domain key that is about to be dropped.
func (w *writer) current(k *key.Key) error {
	b := w.verifier.barrier
	if !w.shared || w.marker.retired != fmt.Sprint(b.Newest(seal.Row)) {
		return nil
	}
	for i := range k.Material {
		if b.OldMaterial(k.Material[i].Wrapped) {
			return fmt.Errorf("%w: its material is wrapped with an old domain key", ErrConflict)
		}
	}
	return nil
}

// forgetWriters is after how long the row of a process is removed that neither writes nor says that it lives: every look of every
// process reads all of them. Who has not looked for half of that cannot know what such a one did.
const forgetWriters = time.Hour

// made is a transaction that this process knows to be made, and said so.
type made struct {
	writer string // the name that the process had
	mark   int64
}

// name returns the name by which the database knows this process now.
func (w *writer) name() string { return w.made.Load().writer }

// rename gives the process a new name. Whatever may come true under the old one, of a transaction whose outcome was not known, is news
// then like that of any other process.
func (w *writer) rename() {
	w.marker.names++
	w.made.Store(&made{writer: w.id + "." + strconv.Itoa(w.marker.names)})
	w.marker.mark, w.marker.made, w.marker.introduced = 0, 0, false
}

// introduce makes the row of this process, if it is not there.
func (w *writer) introduce(ctx context.Context) error {
	if w.marker.introduced {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, w.store.timeout+networkTime)
	defer cancel()
	_, err := w.db.ExecContext(ctx, statements[deleteMarks], forgetWriters.Milliseconds())
	if err == nil {
		_, err = w.db.ExecContext(ctx, statements[insertMark], w.name())
	}
	w.marker.introduced = err == nil
	return doing("introducing a process to the database", err)
}

// errWentBack says that the database has not what it had: not the last transaction of this process that was made.
var errWentBack = errors.New("the database has lost what it had")

// runShared is run for a shared engine: there is no log to fold.
func (w *writer) runShared() {
	for {
		group, end := w.nextGroup()
		for len(group) > 0 {
			w.runSharedGroup(group)
			again := w.aside
			w.aside = nil
			for _, u := range group {
				if !u.parked && !slices.Contains(again, u) {
					close(u.done)
				}
			}
			group = again
		}
		if end && len(w.held.parked) == 0 {
			return
		}
	}
}

// nextGroup waits for updates, and for when it is time for those that are parked. At the end it returns these once more.
func (w *writer) nextGroup() (group []*update, end bool) {
	var look <-chan time.Time
	if len(w.held.parked) > 0 {
		wait := time.Until(w.held.next)
		if wait <= 0 {
			return w.unpark(false), false
		}
		look = time.After(wait)
	}
	select {
	case first, ok := <-w.queue:
		if !ok { // they are tried once more
			return w.unpark(true), true
		}
		return w.gather([]*update{first}), false
	case <-look:
		return w.unpark(false), false
	}
}

// How long the writer waits before it tries a transaction again: twice as long each time, and a random part of it, so that
// processes do not meet again.
const (
	firstRetryDelay = 5 * time.Millisecond
	lastRetryDelay  = time.Second
)

// runSharedGroup runs updates in one transaction, or in several until one ends in a way that is known, and sets their results. Those that
// have to be put aside are in w.aside, or are parked.
func (w *writer) runSharedGroup(updates []*update) {
	ran := started(updates)
	var until time.Time
	for _, u := range ran {
		if u.until.After(until) {
			until = u.until
		}
	}
	careful := false
	for delay := firstRetryDelay; ; delay = min(2*delay, lastRetryDelay) {
		w.aside = nil
		known := len(w.held.scopes)
		if ran = w.held.park(ran); len(ran) == 0 {
			return
		}
		v, err := w.attempt(ran, careful, until)
		if errors.Is(err, errCareful) {
			careful = true
			continue
		}
		if v == unknown {
			v, err = w.inquire(err, until)
		}
		if v == again && (len(w.held.scopes) > known || time.Now().Before(until) && w.pause(delay)) {
			continue
		}
		switch {
		case err == nil:
		case v == again, v == slow:
			err = unavailable(err)
		case v == unknown:
			w.rename() // before anybody forgets what may be about to change
			err = fmt.Errorf("%w: %w", ErrUnknown, err)
		}
		if err != nil && v != refused {
			for _, u := range ran { // what each was told is of a transaction that may not be made: that its connection was lost, or what others of it wrote
				u.err = nil
			}
		}
		if err != nil && v != unknown { // those end with the others; after a commit they did nothing in it, and begin again
			for _, u := range w.aside {
				u.err = nil
			}
			w.aside = nil
		}
		settle(slices.DeleteFunc(ran, func(u *update) bool { return slices.Contains(w.aside, u) }), err)
		return
	}
}

// pause waits; false if the writer is to end.
func (w *writer) pause(d time.Duration) bool {
	t := time.NewTimer(d/2 + rand.N(d/2))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-w.closing:
		return false
	}
}

// within runs f, and cancels its context if it takes longer than a statement may.
func (w *writer) within(cancel context.CancelFunc, f func() error) error {
	t := time.AfterFunc(w.store.timeout+networkTime, cancel)
	defer t.Stop()
	return f()
}

// attempt runs the updates in one transaction, which ends soon after until. Without an error it has ended well.
func (w *writer) attempt(ran []*update, careful bool, until time.Time) (verdict, error) {
	ctx, cancel := context.WithDeadline(context.Background(), until.Add(w.store.timeout+networkTime))
	defer cancel()
	var g *group
	err := w.introduce(ctx)
	if err == nil {
		err = w.within(cancel, func() (err error) { g, err = w.begin(ctx); return err })
	}
	if err == nil {
		g.careful = careful
		err = g.prepareShared(ran)
	}
	for _, u := range ran {
		if err == nil {
			err = g.run(u)
		}
	}
	if err == nil && g.wrote {
		err = g.finishShared()
	}
	if err != nil {
		if g != nil {
			g.rollback()
		}
		v := judge(err)
		if errors.Is(err, errWentBack) {
			w.wentBack.Store(true)
			w.rename()
		}
		if connectionLost(err) {
			w.store.renew()
		}
		return v, err
	}
	if !g.wrote {
		g.rollback()
		return 0, nil
	}
	err = w.store.commit(func() error { return w.within(cancel, g.tx.Commit) })
	_ = g.conn.Close() // to its pool, which knows whether it is good
	if err != nil {
		w.store.renew()
		return judgeCommit(err), err
	}
	w.done()
	return 0, nil
}

// done notes that the last transaction was made.
func (w *writer) done() {
	w.marker.made = w.marker.mark
	w.made.Store(&made{w.name(), w.marker.made})
}

// prepareShared makes sure that the domain keys are the newest, and takes the scopes that runs before wanted.
func (g *group) prepareShared(ran []*update) error {
	asked := 0
	generation, err := one(g.ctx, g, func(rows *sql.Rows) (s string, err error) { return s, rows.Scan(&s, &asked) }, lockGeneration)
	if err == nil && asked > 0 {
		err = fmt.Errorf("%w: seals are about to change", errRestart)
	}
	if err != nil {
		return fmt.Errorf("looking whether domain keys are new: %w", err)
	}
	if m := &g.w.marker; m.generation != generation {
		keys, err := collect(g.ctx, g, scanDomainKey, selectDomainKeys)
		if err == nil {
			err = g.w.verifier.barrier.Load(keys)
		}
		var retired string
		if err == nil {
			retired, err = one(g.ctx, g, scanText, selectMeta, retiredName)
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return fmt.Errorf("loading new domain keys: %w", err)
		}
		m.generation, m.retired = generation, retired
	}
	var all []scope
	for _, u := range ran {
		all = append(all, u.scopes...)
	}
	slices.SortFunc(all, compareScopes)
	tx := &Tx{g: g, saved: true} // these are no part of any update
	for _, s := range slices.Compact(all) {
		c, err := tx.counter(s)
		if err != nil {
			return err
		}
		g.counters[s] = c
	}
	return nil
}

func compareScopes(a, b scope) int {
	return cmp.Or(cmp.Compare(a.account, b.account), cmp.Compare(a.region, b.region))
}

// finishShared writes what is written once for all updates, and asks for it all at once.
func (g *group) finishShared() error {
	m, writer := &g.w.marker, g.w.name()
	m.mark++
	var batch pgx.Batch
	for _, c := range g.changes {
		batch.Queue(statements[insertNews], string(c.account), string(c.region), c.N, string(c.Kind), c.Ref, writer, m.mark)
	}
	for s, c := range g.counters {
		if c.changed {
			batch.Queue(statements[updateCounter], c.n, c.keys, string(s.account), string(s.region))
		}
	}
	batch.Queue(statements[moveMark], writer, m.mark, m.made).Exec(func(tag pgconn.CommandTag) error {
		if tag.RowsAffected() != 1 {
			return errWentBack
		}
		return nil
	})
	return g.send(&batch)
}

// inquire asks the database what became of the transaction with the last mark, whose commit ended with an error. The row of marks
// is locked by that transaction for as long as it has not ended, so that what the row says is final. The question commits something
// itself: when that is on a standby that has to be waited for, so is everything before it.
func (w *writer) inquire(why error, until time.Time) (verdict, error) {
	if errors.Is(why, errUnreplicated) {
		return unknown, why
	}
	w.verifier.log.Warn("asking the database whether a commit was made", "error", why)
	for delay := firstRetryDelay; ; delay = min(2*delay, lastRetryDelay) {
		mark, err := w.lastMark()
		switch {
		case err == nil && mark == w.marker.mark:
			w.done()
			return 0, nil
		case err == nil && mark == w.marker.made:
			return again, why
		case err == nil || errors.Is(err, ErrNotFound): // it went back to before, or further
			w.wentBack.Store(true)
			return unknown, errors.Join(why, errWentBack)
		case judge(err) != again && !errors.Is(err, errAskAgain) || !time.Now().Before(until) || !w.pause(delay):
			return unknown, errors.Join(why, err)
		}
	}
}

func (w *writer) lastMark() (int64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), w.store.timeout+networkTime)
	defer cancel()
	tx, err := w.db.BeginTx(ctx, &sql.TxOptions{})
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback() }() // unless it was committed
	mark, err := one(ctx, unprepared{tx}, scanNumber, lockMark, w.name())
	if err != nil {
		return 0, err
	}
	if _, err := tx.ExecContext(ctx, statements[moveMark], w.name(), mark, mark); err != nil {
		return 0, err
	}
	switch err := w.store.commit(tx.Commit); {
	case errors.Is(err, errUnreplicated):
		return 0, err
	case err != nil:
		return 0, errors.Join(errAskAgain, err)
	}
	return mark, nil
}

// errAskAgain says that a question did not end, whatever became of it.
var errAskAgain = errors.New("the question has to be asked again")

// claim locks the row of a counter, which it makes if it is not there.
func (tx *Tx) claim(s scope) (counter, error) {
	account, region := string(s.account), string(s.region)
	if !tx.g.w.shared {
		return one(tx.g.ctx, tx.g, scanCounter, claimCounter, account, region)
	}
	h, inOrder, first := &tx.g.w.held, tx.inOrder(s), lockCounter
	wait := inOrder && h.mayWait(s)
	if !wait {
		first = tryCounter
	}
	var c counter
	err := errHeld
	if !h.has(s) {
		c, err = one(tx.g.ctx, tx.g, scanCounter, first, account, region)
		if errors.Is(err, ErrNotFound) && inOrder {
			c, err = one(tx.g.ctx, tx.g, scanCounter, claimCounter, account, region)
		}
		if inOrder && isLocked(err) {
			h.add(s, wait)
			tx.held = true
		}
	}
	if !wait && (errors.Is(err, ErrNotFound) || isLocked(err) || errors.Is(err, errHeld)) {
		tx.misplaced, tx.wants = true, s
		err = fmt.Errorf("%w: %w", errRestart, err)
	}
	return c, err
}

func scanCounter(rows *sql.Rows) (c counter, err error) { return c, rows.Scan(&c.n, &c.keys) }

// inOrder reports whether the transaction has no scope that comes after s: only then may it wait for s.
func (tx *Tx) inOrder(s scope) bool {
	for _, claimed := range []map[scope]counter{tx.counters, tx.g.counters} {
		for c := range claimed {
			if s.before(c) {
				return false
			}
		}
	}
	return true
}

// scopes returns what the update claimed and wanted, in order.
func (tx *Tx) scopes() []scope {
	all := []scope{tx.wants}
	for s := range tx.counters {
		all = append(all, s)
	}
	slices.SortFunc(all, compareScopes)
	return slices.Compact(all)
}
