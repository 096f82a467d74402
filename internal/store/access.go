package store

import (
	"context"

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

// PutAccessKeyUse writes when an access key was used last. It is no change of the key: it is not in the feed. ErrNotFound if the
// key is not there.
func (tx *Tx) PutAccessKeyUse(id string, use AccessKeyUse) error {
	k, err := tx.GetAccessKey(id)
	if err == nil {
		k.LastUsed = use
		err = tx.writeAccessKey(k)
	}
	return doing("writing the last use of an access key", err)
}

// GetAccessKey is Store.GetAccessKey inside the transaction.
func (tx *Tx) GetAccessKey(id string) (*AccessKey, error) {
	if err := tx.touchAccessKey(id); err != nil {
		return nil, doing("reading an access key", err)
	}
	k, err := verified(context.Background(), &tx.g.w.verifier, tx.g, "access_keys", scanAccessKeyRow, tx.g.w.verifier.accessKey,
		selectAccessKey, id)
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
