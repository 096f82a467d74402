package store

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/keywright/keywright/internal/arn"
)

// global is the scope of what an account has in no Region.
func global(a arn.Account) scope { return scope{a, GlobalRegion} }

// installation is the scope of what belongs to no account.
var installation = global("")

// Names returns a number to hand to ExpectNames. Whoever is about to give a name that is unique in the whole installation asks for it
// before it looks in the store whether the name is free.
func (s *Store) Names(ctx context.Context) (int64, error) {
	return s.Position(ctx, installation.account, installation.region)
}

// ExpectNames gives ErrConflict if somebody has given a name that is unique in the whole installation since Names returned n, and
// says that this update gives one.
func (tx *Tx) ExpectNames(n int64) error {
	err := tx.Expect(installation.account, installation.region, n)
	if err == nil {
		err = tx.changed(installation, ChangedNames, "", 0)
	}
	return doing("giving a name", err)
}

// PutAccount writes an account, new or in place of what is there.
func (tx *Tx) PutAccount(a *Account) error {
	r, err := tx.g.w.verifier.accountRow(a)
	if err == nil {
		err = tx.touch(global(a.ID))
	}
	if err == nil {
		_, err = tx.exec(upsertAccount, r.account, r.body, r.tag)
	}
	if err == nil {
		err = tx.changed(global(a.ID), ChangedAccount, r.account, 0)
	}
	return doing("writing an account", err)
}

// PutAccessKey writes an access key, new or in place of what is there. Its account must be there.
func (tx *Tx) PutAccessKey(k *AccessKey) error {
	err := tx.writeAccessKey(k)
	if err == nil {
		err = tx.changed(global(k.Account), ChangedAccessKey, k.ID, 0)
	}
	return doing("writing an access key", err)
}

func (tx *Tx) writeAccessKey(k *AccessKey) error {
	r, err := tx.g.w.verifier.accessKeyRow(k)
	if err == nil {
		err = tx.touch(global(k.Account))
	}
	if err == nil {
		_, err = tx.exec(upsertAccessKey, r.id, r.account, r.principal, r.status, r.sealed, r.body, r.tag)
	}
	return err
}

// PutAccessKeyUse writes when an access key was used last, unless a later use is known. It is no change of the key: it is not in the
// feed. It does nothing if the key is not there.
func (tx *Tx) PutAccessKeyUse(id string, use AccessKeyUse) error {
	k, err := tx.GetAccessKey(id)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err == nil && use.At.After(k.LastUsed.At) {
		k.LastUsed = use
		err = tx.writeAccessKey(k)
	}
	return doing("writing the last use of an access key", err)
}

// PutAccessKeyUses is PutAccessKeyUse for many, by their ids. It keeps no account from others but for a key that somebody changes at the
// same moment. What was refused because it was changed outside Keywright is left as it is. After an error it can be called again.
func (s *Store) PutAccessKeyUses(ctx context.Context, uses map[string]AccessKeyUse) error {
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(uses)), usesAtOnce) {
		var rest []string
		err := s.Update(ctx, func(tx *Tx) (err error) {
			rest, err = tx.replaceAccessKeyUses(ids, uses)
			return err
		})
		for i := 0; i < len(rest) && err == nil; i++ {
			err = s.Update(ctx, func(tx *Tx) error { return tx.PutAccessKeyUse(rest[i], uses[rest[i]]) })
		}
		if err != nil {
			return doing("writing last uses of access keys", err)
		}
	}
	return nil
}

// replaceAccessKeyUses writes the uses of access keys that are what they were when they were read a moment ago, and returns the others.
func (tx *Tx) replaceAccessKeyUses(ids []string, uses map[string]AccessKeyUse) (rest []string, err error) {
	asked := make([][]any, len(ids))
	rows := make([]accessKeyRow, len(ids))
	for i, id := range ids {
		asked[i] = []any{id}
	}
	err = tx.queryAll(selectAccessKey, asked, func(i int, row scanner) error { return rows[i].scan(row) })
	if err != nil {
		return nil, err
	}
	v := &tx.g.w.verifier
	var written []string
	var writes [][]any
	for i, r := range rows {
		if r.id != ids[i] { // it was deleted
			continue
		}
		k, err := v.accessKey(context.Background(), tx.g, r)
		var corrupt *CorruptRowError
		switch {
		case errors.As(err, &corrupt):
			continue
		case err != nil:
			return nil, err
		case !uses[r.id].At.After(k.LastUsed.At):
			continue
		}
		was := r.tag
		k.LastUsed = uses[r.id]
		r.body = encodeAccessKey(k)
		if r.tag, err = v.tag(r.data()); err != nil {
			return nil, err
		}
		written = append(written, r.id)
		writes = append(writes, []any{r.body, r.tag, r.id, was})
	}
	counts, err := tx.execAll(updateAccessKeyUse, writes)
	for i, n := range counts {
		if n == 0 {
			rest = append(rest, written[i])
		}
	}
	return rest, err
}

// GetAccessKey is Store.GetAccessKey inside the transaction. Until its end nobody else writes a use of the key.
func (tx *Tx) GetAccessKey(id string) (*AccessKey, error) {
	if err := tx.touchAccessKey(id); err != nil {
		return nil, doing("reading an access key", err)
	}
	read := selectAccessKey
	if tx.g.w.shared {
		read = lockAccessKey
	}
	k, err := verified(context.Background(), &tx.g.w.verifier, tx.g, "access_keys", scanAccessKeyRow, tx.g.w.verifier.accessKey, read, id)
	return k, doing("reading an access key", err)
}

// touchAccessKey is touch for the account of an access key. An id stays with its account; where it is forged, its row is refused.
func (tx *Tx) touchAccessKey(id string) error {
	if err := tx.usable(); err != nil || !tx.g.w.shared {
		return err
	}
	if err := tx.save(); err != nil { // so that an error of the query is one of this update
		return err
	}
	r, err := one(context.Background(), tx.g, scanAccessKeyRow, selectAccessKey, id)
	if err != nil {
		return err
	}
	return tx.touch(global(arn.Account(r.account)))
}

// DeleteAccessKey removes an access key; ErrNotFound if it is not there.
func (tx *Tx) DeleteAccessKey(id string) error {
	r, err := tx.accessKeyRow(id)
	var n int64
	if err == nil {
		n, err = tx.exec(deleteAccessKey, id)
	}
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	if err == nil {
		err = tx.changed(global(arn.Account(r.account)), ChangedAccessKey, id, 0)
	}
	return doing("deleting an access key", err)
}

func (tx *Tx) accessKeyRow(id string) (accessKeyRow, error) {
	if err := tx.touchAccessKey(id); err != nil {
		return accessKeyRow{}, err
	}
	return one(context.Background(), tx.g, scanAccessKeyRow, selectAccessKey, id)
}
