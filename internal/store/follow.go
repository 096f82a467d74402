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
	seen   map[string]int64 // the last transaction of each writer
	looked time.Time        // when the last look began that ended well
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
	f.seen = map[string]int64{}
	for _, m := range marks {
		f.seen[m.writer] = m.mark
	}
	return f, nil
}

// Next returns what other processes committed since the call before, of each process in the order of its commits. After lost
// anything may have changed: whoever remembers something must forget it. After an error the next call returns the same, and more.
func (f *Follower) Next(ctx context.Context) (news []News, lost bool, err error) {
	if !f.s.db.shared {
		return nil, false, nil
	}
	now := f.s.db.now()
	marks, err := f.marks(ctx)
	if err != nil {
		return nil, false, doing("following changes", err)
	}
	lost = f.away(now) > forgetWriters/2
	seen := make(map[string]int64, len(marks))
	var some span
	for _, m := range marks {
		seen[m.writer] = m.mark
		last, known := f.seen[m.writer]
		switch {
		case f.s.writer != nil && m.writer == f.s.writer.marker.writer || known && m.mark == last:
		case m.mark < last, last < m.trimmed: // a standby that did not have all is the primary now; or we were away for long
			lost = true
		default:
			some.add(m.writer, last, m.mark)
		}
	}
	if len(some.writers) > 0 {
		if news, err = f.changes(ctx, some); err != nil {
			return nil, false, doing("following changes", err)
		}
		lost = lost || len(news) == followPage
	}
	f.seen, f.looked = seen, now
	return news, lost, nil
}

// away returns how long ago the last look was. Of two clocks that differ it believes the one by which more time has passed: the steady
// one stands still while a machine sleeps.
func (f *Follower) away(now time.Time) time.Duration {
	return max(now.Sub(f.looked), time.Duration(now.UnixNano()-f.looked.UnixNano()))
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

func (f *Follower) changes(ctx context.Context, of span) ([]News, error) {
	scan := func(rows *sql.Rows) (n News, err error) {
		return n, rows.Scan(&n.Account, &n.Region, &n.N, &n.Kind, &n.Ref)
	}
	return collect(ctx, f.s.looks, scan, selectChangesOfWriters, of.writers, of.after, of.upTo, followPage)
}
