package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/keywright/keywright/internal/arn"
)

// followPage is how many changes by other processes a Follower reads at a time. Where there are more, forgetting everything costs
// less than hearing of each.
const followPage = 5000

// Follower learns what other processes changed in a store that they share. A look costs one short query however many accounts and
// Regions there are, as long as nobody changed anything: each process numbers its transactions, and the follower compares numbers. It is
// two queries if somebody did, however many.
// It is for one goroutine.
type Follower struct {
	s      *Store
	seen   map[string]seenMark // the last transaction of each writer
	looked time.Time           // when the last look began that ended well
}

// seenMark is a transaction that a Follower saw, and when it did first.
type seenMark struct {
	mark int64
	at   time.Time
}

// News is a change by another process.
type News struct {
	Account arn.Account
	Region  arn.Region
	Change
}

// Follow returns a Follower of what is changed from now on. A store that only this process writes to has no news.
func (s *Store) Follow(ctx context.Context) (*Follower, error) {
	f := &Follower{s: s, looked: s.db.now()}
	marks, err := f.marks(ctx)
	if err != nil {
		return nil, doing("following changes", err)
	}
	f.take(marks, f.looked)
	return f, nil
}

// Next returns what other processes committed since the call before, of each process in the order of its commits. After lost
// anything may have changed: whoever remembers something must forget it. After an error the next call returns the same, and more.
func (f *Follower) Next(ctx context.Context) (news []News, lost bool, err error) {
	if !f.s.db.shared {
		return nil, false, nil
	}
	now, own := f.s.db.now(), f.own()
	marks, err := f.marks(ctx)
	if err != nil {
		return nil, false, doing("following changes", err)
	}
	lost = Passed(f.looked, now) > forgetWriters/2 || f.wentBack(marks, own, now)
	var some span
	for _, m := range marks {
		last, known := f.seen[m.writer]
		switch {
		case own != nil && m.writer == own.writer || known && m.mark == last.mark:
		case last.mark < m.trimmed: // we were away for long
			lost = true
		case m.mark > last.mark:
			some.add(m.writer, last.mark, m.mark)
		}
	}
	if len(some.writers) > 0 {
		var gone bool
		if news, gone, err = f.changes(ctx, some); err != nil {
			return nil, false, doing("following changes", err)
		}
		lost = lost || gone
	}
	f.take(marks, now)
	f.looked = now
	if own != nil { // it has been told
		f.s.writer.wentBack.CompareAndSwap(own.wentBack, false)
		if is := f.seen[own.writer].mark; is < own.mark {
			f.s.writer.made.CompareAndSwap(own.made, &made{own.writer, is})
		}
	}
	return news, lost, nil
}

// ownMark is what this process knows of its own transactions.
type ownMark struct {
	*made
	wentBack bool
}

func (f *Follower) own() *ownMark {
	if f.s.writer == nil {
		return nil
	}
	return &ownMark{f.s.writer.made.Load(), f.s.writer.wentBack.Load()}
}

// wentBack reports whether the database has lost what it had: a standby that did not have all is the primary now, or a backup was restored.
// Every process sees that by what it saw before, and this one by what it did itself before it looked.
func (f *Follower) wentBack(marks []writerMark, own *ownMark, now time.Time) bool {
	there := make(map[string]int64, len(marks))
	for _, m := range marks {
		there[m.writer] = m.mark
	}
	back := own != nil && (own.wentBack || there[own.writer] < own.mark)
	for writer, last := range f.seen {
		// Rows that nobody writes any more are removed after a while.
		if mark, is := there[writer]; mark < last.mark && (is || now.Sub(last.at) < forgetWriters/2) {
			back = true
		}
	}
	return back
}

// take notes what was seen.
func (f *Follower) take(marks []writerMark, now time.Time) {
	seen := make(map[string]seenMark, len(marks))
	for _, m := range marks {
		last, known := f.seen[m.writer]
		if !known || last.mark != m.mark {
			last = seenMark{m.mark, now}
		}
		seen[m.writer] = last
	}
	f.seen = seen
}

// Passed returns how much time has passed between two readings of a clock. Of the two clocks that a reading is of it believes the one by
// which it was more: the steady one stands still while a machine sleeps.
func Passed(since, now time.Time) time.Duration {
	return max(now.Sub(since), time.Duration(now.UnixNano()-since.UnixNano()))
}

// span names transactions: of each writer those with a number above after, up to upTo.
type span struct {
	writers     []string
	after, upTo []int64
}

func (s *span) add(writer string, after, upTo int64) {
	s.writers, s.after, s.upTo = append(s.writers, writer), append(s.after, after), append(s.upTo, upTo)
}

type writerMark struct {
	writer        string
	mark, trimmed int64
}

func (f *Follower) marks(ctx context.Context) ([]writerMark, error) {
	if !f.s.db.shared {
		return nil, nil
	}
	scan := func(rows *sql.Rows) (m writerMark, err error) { return m, rows.Scan(&m.writer, &m.mark, &m.trimmed) }
	return collect(ctx, f.s.looks, scan, selectMarks)
}

// seenChange is a change, or that a transaction made none, and whether the feed has not all of its process any more: null if nobody knows
// that one.
type seenChange struct {
	gone                       sql.NullBool
	account, region, kind, ref sql.NullString
	n                          sql.NullInt64
}

// changes reads those of some transactions. The feed has not all of them any more if some are gone, or there are more than are heard of
// one by one.
func (f *Follower) changes(ctx context.Context, of span) (news []News, gone bool, err error) {
	scan := func(r *sql.Rows) (c seenChange, err error) {
		return c, r.Scan(&c.gone, &c.account, &c.region, &c.n, &c.kind, &c.ref)
	}
	rows, err := collect(ctx, f.s.looks, scan, selectChangesOfWriters, of.writers, of.after, of.upTo, followPage)
	for _, c := range rows {
		gone = gone || !c.gone.Valid || c.gone.Bool
		if c.n.Valid {
			news = append(news, News{arn.Account(c.account.String), arn.Region(c.region.String), Change{c.n.Int64, ChangeKind(c.kind.String), c.ref.String}})
		}
	}
	return news, gone || len(rows) == followPage, err
}
