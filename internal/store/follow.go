package store

import (
	"context"
	"database/sql"

	"github.com/keywright/keywright/internal/arn"
)

// followPage is how many changes of one other process a Follower reads at a time. Where there are more, forgetting everything costs
// less than hearing of each.
const followPage = 5000

// Follower learns what other processes changed in a store that they share. A look costs one short query however many accounts and
// Regions there are, as long as nobody changed anything: each process numbers its transactions, and the follower compares numbers.
// It is for one goroutine.
type Follower struct {
	s    *Store
	seen map[string]int64 // the last transaction of each writer
}

// News is a change by another process.
type News struct {
	Account arn.Account
	Region  arn.Region
	Change
}

// Follow returns a Follower of what is changed from now on. A store that only this process writes to has no news.
func (s *Store) Follow(ctx context.Context) (*Follower, error) {
	f := &Follower{s: s}
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
	marks, err := f.marks(ctx)
	if err != nil {
		return nil, false, doing("following changes", err)
	}
	seen := make(map[string]int64, len(marks))
	for _, m := range marks {
		seen[m.writer] = m.mark
		last, known := f.seen[m.writer]
		switch {
		case f.s.writer != nil && m.writer == f.s.writer.marker.writer || known && m.mark == last:
			continue
		case m.mark < last, last < m.trimmed: // a standby that did not have all is the primary now; or we were away for long
			lost = true
			continue
		}
		some, err := f.changesOf(ctx, m.writer, last, m.mark)
		if err != nil {
			return nil, false, doing("following changes", err)
		}
		lost = lost || len(some) == followPage
		news = append(news, some...)
	}
	f.seen = seen
	return news, lost, nil
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

func (f *Follower) changesOf(ctx context.Context, writer string, after, upTo int64) ([]News, error) {
	scan := func(rows *sql.Rows) (n News, err error) {
		return n, rows.Scan(&n.Account, &n.Region, &n.N, &n.Kind, &n.Ref)
	}
	return collect(ctx, f.s.looks, scan, selectChangesOfWriter, writer, after, upTo, followPage)
}
