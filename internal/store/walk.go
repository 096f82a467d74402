package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/seal"
)

// walkPage is how many rows a walk takes at once. A walk that writes holds up other updates for that long.
const walkPage = 128

// table is how to walk an authenticated table in the order of its primary key.
type table[R any] struct {
	page  statement
	scan  func(*sql.Rows) (R, error)
	first []any         // what comes before every primary key
	at    func(R) []any // the primary key
	in    func(R) scope // whose change would change the row
}

var (
	accountTable = table[accountRow]{walkAccounts, scanAccountRow, []any{""}, func(r accountRow) []any { return []any{r.account} }, func(r accountRow) scope { return global(arn.Account(r.account)) }}
	accessTable  = table[accessKeyRow]{walkAccessKeys, scanAccessKeyRow, []any{""}, func(r accessKeyRow) []any { return []any{r.id} }, func(r accessKeyRow) scope { return global(arn.Account(r.account)) }}
	keyTable     = table[keyRow]{walkKeys, scanKeyRow, []any{"", "", ""}, func(r keyRow) []any { return []any{r.account, r.region, r.id} }, func(r keyRow) scope { return within(r.account, r.region) }}
	aliasTable   = table[aliasRow]{walkAliases, scanAliasRow, []any{"", "", ""}, func(r aliasRow) []any { return []any{r.account, r.region, r.name} }, func(r aliasRow) scope { return within(r.account, r.region) }}
)

func within(account, region string) scope { return scope{arn.Account(account), arn.Region(region)} }

// nextTouched is next for rows that are to be written: no other process changes them any more.
func (t table[R]) nextTouched(tx *Tx, after []any) ([]R, []any, error) {
	for {
		claimed := len(tx.counters)
		rows, at, err := t.next(context.Background(), tx.g, after)
		for i := 0; i < len(rows) && err == nil; i++ {
			err = tx.touch(t.in(rows[i]))
		}
		if err != nil || len(tx.counters) == claimed {
			return rows, at, err
		}
	}
}

// next reads the page after a primary key, and the primary key of its last row: nil if there are no more pages.
func (t table[R]) next(ctx context.Context, q querier, after []any) ([]R, []any, error) {
	rows, err := collect(ctx, q, t.scan, t.page, append(append([]any(nil), after...), walkPage)...)
	if err != nil || len(rows) < walkPage {
		return rows, nil, err
	}
	return rows, t.at(rows[len(rows)-1]), nil
}

// Counts says how many rows there are.
type Counts struct {
	Seals, DomainKeys, Accounts, AccessKeys, Identities, Keys, Aliases, Grants, KeyUses, Quotas int64
}

// Verify reads every row and verifies it. It calls refused, if not nil, for every one that does not verify, and goes on;
// the error then is the first of them. It counts the rows that verify.
func (s *Store) Verify(ctx context.Context, refused func(*CorruptRowError)) (Counts, error) {
	sealed, err := s.db.Sealed(ctx)
	if err != nil {
		return Counts{}, err
	}
	n := Counts{Seals: int64(len(sealed.Seals)), DomainKeys: int64(len(sealed.DomainKeys))}
	w := verification{ctx, s, refused, nil}
	v := s.verifier
	err = errors.Join(
		verifyTable(&w, accountTable, &n.Accounts, func(r accountRow) error { _, err := v.account(ctx, s.reads, r); return err }),
		verifyTable(&w, accessTable, &n.AccessKeys, func(r accessKeyRow) error { _, err := v.accessKey(ctx, s.reads, r); return err }),
		verifyTable(&w, identityTable, &n.Identities, func(r identityRow) error { _, err := v.identity(ctx, s.reads, r); return err }),
		verifyTable(&w, keyTable, &n.Keys, func(r keyRow) error { _, err := v.key(ctx, s.reads, r); return err }),
		verifyTable(&w, aliasTable, &n.Aliases, func(r aliasRow) error { _, err := v.alias(ctx, s.reads, r); return err }),
		verifyTable(&w, grantTable, &n.Grants, func(r grantRow) error { _, err := v.grant(ctx, s.reads, r); return err }),
		verifyTable(&w, quotaTable, &n.Quotas, func(r quotaRow) error { _, err := v.quota(ctx, s.reads, r); return err }),
		verifyTable(&w, keyUseTable, &n.KeyUses, func(r keyUseRow) error { _, err := v.keyUse(ctx, s.reads, r); return err }),
		verifyTable(&w, smallSecretTable, new(int64), func(r smallSecretRow) error { _, err := v.smallSecret(ctx, s.reads, r); return err }),
	)
	var since *CorruptRowError
	if _, _, bad := v.usesSince(ctx, s.reads); errors.As(bad, &since) {
		w.refuse(bad, since)
	} else if !errors.Is(bad, ErrNotFound) { // as in older backups
		err = errors.Join(err, bad)
	}
	if err == nil && w.first != nil {
		err = w.first
	}
	return n, doing("verifying rows", err)
}

// verification is one run of Verify.
type verification struct {
	ctx     context.Context
	s       *Store
	refused func(*CorruptRowError)
	first   error // the first refused row
}

// refuse notes a refused row.
func (w *verification) refuse(err error, row *CorruptRowError) {
	if w.first == nil {
		w.first = err
	}
	if w.refused != nil {
		w.refused(row)
	}
}

func verifyTable[R any](w *verification, t table[R], count *int64, check func(R) error) error {
	for after := t.first; after != nil; {
		rows, last, err := t.next(w.ctx, w.s.reads, after)
		if err != nil {
			return err
		}
		after = last
		for _, r := range rows {
			var corrupt *CorruptRowError
			switch err := check(r); {
			case err == nil:
				*count++
			case errors.As(err, &corrupt):
				w.refuse(err, corrupt)
			default:
				return err
			}
		}
	}
	return nil
}

// Rewrap wraps one generation of a key's material with the newest domain key. It returns m.Wrapped itself if that is what
// it is wrapped with. It is the custody's, which alone knows what the wrapping binds.
type Rewrap func(k *key.Key, m *key.Material) ([]byte, error)

// Rekey writes every row again that is tagged, or whose secret or material is wrapped, with an old domain key, and returns
// how many it wrote. It works in small updates beside others; after an interruption call it again. A row that does not
// verify ends it. ErrNewer says that there can be rows that this program does not know.
func (s *Store) Rekey(ctx context.Context, rewrap Rewrap) (n int64, err error) {
	if err = s.db.knowsAll(ctx); err == nil {
		n, err = s.rekey(ctx, rewrap, false)
	}
	return n, doing("re-keying rows", err)
}

// DropOldDomainKeys removes from the store every domain key but the newest of each domain. Before, it checks that no row
// needs one of the others: ErrStale if one does, which Rekey mends. Opaque tokens that were made with an old key become
// invalid at the next start. From its beginning no process writes material any more that is wrapped with another key than the
// newest: it gets ErrConflict. ErrNewer is that of Rekey.
func (s *Store) DropOldDomainKeys(ctx context.Context, rewrap Rewrap) error {
	err := s.db.knowsAll(ctx)
	if err == nil {
		err = s.retireDomainKeys(ctx)
	}
	var stale int64
	if err == nil {
		stale, err = s.rekey(ctx, rewrap, true)
	}
	if err == nil && stale > 0 {
		err = fmt.Errorf("%w: %d rows", ErrStale, stale)
	}
	if err == nil {
		err = s.Update(ctx, func(tx *Tx) error {
			for _, d := range []seal.Domain{seal.Material, seal.Credential, seal.Row, seal.Token} {
				if _, err := tx.exec(deleteDomainKeys, d.String(), int64(s.verifier.barrier.Newest(d))); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return doing("dropping old domain keys", err)
}

// rekey counts the rows that need writing and, unless checkOnly, writes them.
func (s *Store) rekey(ctx context.Context, rewrap Rewrap, checkOnly bool) (int64, error) {
	var total int64
	for _, f := range []func() (int64, error){
		func() (int64, error) { return rekeyTable(ctx, s, accountTable, checkOnly, (*Tx).rekeyAccount) },
		func() (int64, error) { return rekeyTable(ctx, s, accessTable, checkOnly, (*Tx).rekeyAccessKey) },
		func() (int64, error) { return rekeyTable(ctx, s, identityTable, checkOnly, (*Tx).rekeyIdentity) },
		func() (int64, error) { return rekeyTable(ctx, s, aliasTable, checkOnly, (*Tx).rekeyAlias) },
		func() (int64, error) { return rekeyTable(ctx, s, grantTable, checkOnly, (*Tx).rekeyGrant) },
		func() (int64, error) { return s.rekeyUsesSince(ctx, checkOnly) },
		func() (int64, error) { return rekeyTable(ctx, s, keyUseTable, checkOnly, (*Tx).rekeyKeyUse) },
		func() (int64, error) { return rekeyTable(ctx, s, quotaTable, checkOnly, (*Tx).rekeyQuota) },
		func() (int64, error) {
			return rekeyTable(ctx, s, smallSecretTable, checkOnly, (*Tx).rekeySmallSecret)
		},
		func() (int64, error) {
			return rekeyTable(ctx, s, keyTable, checkOnly, func(tx *Tx, r keyRow, checkOnly bool) (bool, error) {
				return tx.rekeyKey(r, rewrap, checkOnly)
			})
		},
	} {
		n, err := f()
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// rekeyTable calls again for every row of a table. That reports whether the row is stale, and writes it unless checkOnly.
func rekeyTable[R any](ctx context.Context, s *Store, t table[R], checkOnly bool, again func(*Tx, R, bool) (bool, error)) (int64, error) {
	var total int64
	for after := t.first; after != nil; {
		var n int64
		var last []any
		err := s.Update(ctx, func(tx *Tx) error {
			n = 0 // this may be a second run
			rows, at, err := t.nextTouched(tx, after)
			if err != nil {
				return err
			}
			last = at
			for _, r := range rows {
				stale, err := again(tx, r, checkOnly)
				if err != nil {
					return err
				}
				if stale {
					n++
				}
			}
			return nil
		})
		if err != nil {
			return total, err
		}
		total, after = total+n, last
	}
	return total, nil
}

func (tx *Tx) rekeyAccount(r accountRow, checkOnly bool) (bool, error) {
	v := tx.g.w.verifier
	a, err := v.account(context.Background(), tx.g, r)
	if err != nil || !v.barrier.StaleTag(seal.Row, r.tag) {
		return false, err
	}
	if checkOnly {
		return true, nil
	}
	if r, err = v.accountRow(a); err != nil {
		return false, err
	}
	_, err = tx.exec(upsertAccount, r.account, r.body, r.tag)
	return true, err
}

func (tx *Tx) rekeyAccessKey(r accessKeyRow, checkOnly bool) (bool, error) {
	v := tx.g.w.verifier
	k, err := v.accessKey(context.Background(), tx.g, r)
	if err != nil || !v.barrier.StaleTag(seal.Row, r.tag) && !v.barrier.Stale(seal.Credential, r.sealed) {
		return false, err
	}
	if checkOnly {
		return true, nil
	}
	return true, tx.writeAccessKey(k)
}

// rekeyAlias writes past PutAlias, as rekeyKey does past PutKey: nothing changes that a follower of the feed could see.
func (tx *Tx) rekeyAlias(r aliasRow, checkOnly bool) (bool, error) {
	v := tx.g.w.verifier
	a, err := v.alias(context.Background(), tx.g, r)
	if err != nil || !v.barrier.StaleTag(seal.Row, r.tag) {
		return false, err
	}
	if checkOnly {
		return true, nil
	}
	if r, err = v.aliasRow(a); err != nil {
		return false, err
	}
	_, err = tx.exec(updateAlias, r.target, r.body, r.tag, r.account, r.region, r.name)
	return true, err
}

func (tx *Tx) rekeyKey(r keyRow, rewrap Rewrap, checkOnly bool) (bool, error) {
	v := tx.g.w.verifier
	k, err := v.key(context.Background(), tx.g, r)
	if err != nil {
		return false, err
	}
	stale := v.barrier.StaleTag(seal.Row, r.tag)
	for i := range k.Material { // k is ours alone: it was just decoded
		wrapped, err := rewrap(k, &k.Material[i])
		if err != nil {
			return false, fmt.Errorf("re-wrapping material of %s: %w", k.ARN(), err)
		}
		if !bytes.Equal(wrapped, k.Material[i].Wrapped) {
			k.Material[i].Wrapped, stale = wrapped, true
		}
	}
	if !stale || checkOnly {
		return stale, nil
	}
	if r, err = v.keyRow(k); err != nil {
		return false, err
	}
	_, err = tx.exec(updateKey, r.due, r.body, r.tag, r.account, r.region, r.id)
	return true, err
}
