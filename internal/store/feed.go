package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
)

// ChangesSince returns the changes of an account and Region with a number above n, in their order, limit at most. ErrTrimmed if
// the first of them are not in the feed any more.
func (s *Store) ChangesSince(ctx context.Context, a arn.Account, r arn.Region, n int64, limit int) ([]Change, error) {
	return changesSince(ctx, s.reads, scope{a, r}, n, limit)
}

// ChangesSince is Store.ChangesSince inside the transaction. Nobody else adds changes to that account and Region before its end: so
// who remembers what was there at n can tell whether it still holds.
func (tx *Tx) ChangesSince(a arn.Account, r arn.Region, n int64, limit int) ([]Change, error) {
	if err := tx.touch(scope{a, r}); err != nil {
		return nil, err
	}
	found, err := changesSince(context.Background(), tx.g, scope{a, r}, n, limit)
	if err != nil {
		return nil, err
	}
	for _, c := range slices.Concat(tx.g.changes, tx.changes) { // they are not written yet
		if c.scope == (scope{a, r}) && c.N > n && len(found) < limit {
			found = append(found, c.Change)
		}
	}
	return found, nil
}

// change is a Change and where it is.
type change struct {
	scope
	Change
}

// AliasRef says in the change feed of its account and Region which alias has changed, and for which keys that matters.
type AliasRef struct {
	Name   arn.AliasName
	Target arn.KeyID // that it points at, or did if it is gone
	Last   arn.KeyID // that it pointed at before; empty if it is new, or points where it did
}

// String returns the text in the feed: the three with a space between them. No name of an alias has one.
func (r AliasRef) String() string {
	return strings.TrimSuffix(string(r.Name)+" "+string(r.Target)+" "+string(r.Last), " ")
}

// ParseAliasRef reads what String returns.
func ParseAliasRef(text string) (r AliasRef) {
	name, targets, _ := strings.Cut(text, " ")
	target, last, _ := strings.Cut(targets, " ")
	return AliasRef{arn.AliasName(name), arn.KeyID(target), arn.KeyID(last)}
}

func changesSince(ctx context.Context, q querier, s scope, n int64, limit int) ([]Change, error) {
	v, err := collect(ctx, q, scanChange, selectChanges, string(s.account), string(s.region), n, limit)
	if err == nil && len(v) > 0 && v[0].N != n+1 { // numbers are gapless, and the last change is never trimmed
		v, err = nil, ErrTrimmed
	}
	return v, doing("reading changes", err)
}

func scanChange(rows *sql.Rows) (c Change, err error) { return c, rows.Scan(&c.N, &c.Kind, &c.Ref) }

// Positions returns how far the change feed of every account and Region has come that has one.
func (s *Store) Positions(ctx context.Context) ([]Position, error) {
	scan := func(rows *sql.Rows) (p Position, err error) { return p, rows.Scan(&p.Account, &p.Region, &p.N) }
	v, err := collect(ctx, s.reads, scan, selectPositions)
	return slices.DeleteFunc(v, func(p Position) bool { return p.N == 0 }), doing("reading positions", err)
}

// Position returns how far the change feed of an account and Region has come: 0 if nothing ever changed there. What is read after
// it is as new as that, or newer.
func (s *Store) Position(ctx context.Context, a arn.Account, r arn.Region) (int64, error) {
	n, err := one(ctx, s.reads, scanNumber, selectPosition, string(a), string(r))
	if errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	return n, doing("reading a position", err)
}

// TrimChanges removes the changes of every account and Region but the last keep, one at least. It returns how many went. Followers that
// had not read them get ErrTrimmed.
func (s *Store) TrimChanges(ctx context.Context, keep int64) (int64, error) {
	positions, err := s.Positions(ctx)
	if err != nil {
		return 0, doing("trimming changes", err)
	}
	var total int64
	for _, p := range positions {
		upTo := p.N - max(keep, 1)
		if upTo <= 0 {
			continue
		}
		first, err := one(ctx, s.reads, scanChange, selectChanges, string(p.Account), string(p.Region), 0, 1)
		for err == nil && first.N <= upTo {
			var n int64
			n, err = s.trim(ctx, p, min(first.N+trimBatch-1, upTo))
			total, first.N = total+n, first.N+trimBatch
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return total, doing("trimming changes", err)
		}
	}
	return total, nil
}

// trimBatch is how many changes go in one update: others wait for it.
const trimBatch = 2000

func (s *Store) trim(ctx context.Context, p Position, upTo int64) (n int64, err error) {
	err = s.Update(ctx, func(tx *Tx) (err error) {
		if err = tx.touch(scope{p.Account, p.Region}); err == nil {
			err = tx.noteTrimmed(p, upTo)
		}
		if err == nil {
			n, err = tx.exec(trimChanges, string(p.Account), string(p.Region), upTo)
		}
		return err
	})
	return n, err
}

// noteTrimmed tells followers whose changes will be missing.
func (tx *Tx) noteTrimmed(p Position, upTo int64) error {
	if !tx.g.w.shared {
		return nil
	}
	scan := func(rows *sql.Rows) (m writerMark, err error) { return m, rows.Scan(&m.writer, &m.trimmed) }
	marks, err := collect(tx.g.ctx, tx.g, scan, selectTrimmed, string(p.Account), string(p.Region), upTo)
	for i := 0; i < len(marks) && err == nil; i++ {
		_, err = tx.exec(markTrimmed, marks[i].trimmed, marks[i].writer)
	}
	return err
}

// Position is Store.Position inside the transaction: as it will be at its end, if the update changes nothing more.
func (tx *Tx) Position(a arn.Account, r arn.Region) (int64, error) {
	if err := tx.usable(); err != nil {
		return 0, err
	}
	c, err := tx.counter(scope{a, r})
	return c.n, err
}

// Expect gives ErrConflict unless the change feed of an account and Region stands at n: unless everything there is as it was then.
func (tx *Tx) Expect(a arn.Account, r arn.Region, n int64) error {
	now, err := tx.Position(a, r)
	if err == nil && now != n {
		err = ErrConflict
	}
	return err
}

// ExpectKey gives ErrConflict unless a key is what it was when the caller read it, in all its columns; ErrNotFound if it is gone.
func (tx *Tx) ExpectKey(was *key.Key) error {
	now, err := tx.GetKey(was.Name)
	if err == nil && !bytes.Equal(encodeKey(now), encodeKey(was)) {
		err = ErrConflict
	}
	return doing("looking whether a key has changed", err)
}

// ReplaceKey writes a key in place of what it was when the caller read it. ErrConflict if it is not that any more, in any of its
// columns; ErrNotFound if it is gone. Without a key that it was, the key is new, and ErrExists says that it is there.
func (tx *Tx) ReplaceKey(was, is *key.Key) error {
	return doing("replacing a key", tx.replaceKey(was, is))
}

func (tx *Tx) replaceKey(was, is *key.Key) error {
	r, err := tx.g.w.verifier.keyRow(is)
	if err == nil {
		err = tx.touch(scope{is.Account, is.Region})
	}
	if err == nil {
		err = tx.g.w.current(is)
	}
	if err != nil {
		return err
	}
	var n, more int64
	missing := ErrExists
	if was == nil {
		more = 1
		n, err = tx.exec(insertKey, r.account, r.region, r.id, r.due, r.body, r.tag)
	} else {
		missing = ErrConflict
		if was.Name != is.Name {
			return errors.New("a key does not change its name")
		}
		n, err = tx.exec(updateKeyOf, r.due, r.body, r.tag, r.account, r.region, r.id, encodeKey(was))
	}
	if err == nil && n == 0 && was != nil {
		n, err = tx.replaceOlder(was, r)
	}
	switch {
	case err != nil:
		return err
	case n == 0:
		return missing
	}
	return tx.changed(scope{is.Account, is.Region}, ChangedKey, r.id, more)
}

// replaceOlder is for a row whose body has another layout than is written now, or that differs. It returns how many rows it wrote.
func (tx *Tx) replaceOlder(was *key.Key, r keyRow) (int64, error) {
	if err := tx.ExpectKey(was); err != nil {
		return 0, err
	}
	return tx.exec(updateKey, r.due, r.body, r.tag, r.account, r.region, r.id)
}
