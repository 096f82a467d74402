package trail

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/keywright/keywright/internal/audit"
)

// Source returns the log that the index follows.
func (ix *Index) Source() audit.Source { return ix.src }

// Follow returns the events among the next records of a log, up to most of them, in its order; from may be Newest for those that
// are still to come. It waits for a record if there is none, and returns an empty page when ctx ends first.
func Follow(ctx context.Context, src audit.Source, q *Query, from uint64, most int) (Page, error) {
	p := Page{Next: min(from, src.Next())}
	if err := src.Wait(ctx, p.Next); err != nil {
		if ctx.Err() != nil {
			err = nil
		}
		return p, err
	}
	records, err := src.Read(p.Next, most)
	if errors.Is(err, audit.ErrGone) {
		p.Next = src.First()
		return p, nil
	}
	if err != nil {
		return p, err
	}
	p.Events = admitted(q, p.Next, records)
	p.Next += uint64(len(records))
	return p, nil
}

// Scan is Find by a look at every record, for a log that nobody serves.
func Scan(ctx context.Context, src audit.Source, q *Query, before uint64, most int) (Page, error) {
	p := Page{Next: min(before, src.Next())}
	p.End = p.Next
	octets, together := 0, uint64(step)
	for first := src.First(); p.Next > first; {
		if err := ctx.Err(); err != nil {
			return p, err
		}
		from := max(first, p.Next-min(p.Next, together))
		records, err := span(src, from, p.Next-1)
		if errors.Is(err, errLarge) {
			together = (p.Next - from) / 2
			continue
		}
		if err != nil {
			return p, err
		}
		together = min(2*together, step)
		for _, f := range slices.Backward(admitted(q, from, records)) {
			if n := len(p.Events); n == most || octets > maxOctets {
				p.Next, p.More = p.Events[n-1].Number, true
				return p, nil
			}
			f.Record = bytes.Clone(f.Record) // the others that were read with it are not kept
			p.Events = append(p.Events, f)
			octets += len(f.Record)
		}
		p.Next = from
	}
	return p, nil
}

// admitted returns the events among records, the first of which has a number.
func admitted(q *Query, number uint64, records [][]byte) []Found {
	var all []Found
	for i, r := range records {
		f := Found{Number: number + uint64(i), Record: r}
		if f.Event.Parse(r) == nil && q.Admits(&f.Event) {
			all = append(all, f)
		}
	}
	return all
}
