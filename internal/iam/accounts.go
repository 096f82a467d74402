package iam

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
)

// ErrForeignKey says that an access key id is another account's.
var ErrForeignKey = errors.New("the access key id belongs to another account")

// ErrAccountExists says that the installation has the account already.
var ErrAccountExists = errors.New("the account exists already")

// ErrOtherPartition says that the installation has the account, in another partition. An account stays where it was made.
var ErrOtherPartition = errors.New("the account is in another partition")

// CreateAccount is CreateAccountIn partition aws.
func (d *Directory) CreateAccount(ctx context.Context, id arn.Account, name string) (accessKeyID string, s secret.Bytes, err error) {
	return d.CreateAccountIn(ctx, arn.Commercial, id, name)
}

// CreateAccountIn makes an account of a partition, with an access key of its root user. The secret is shown nowhere again. What
// an account has can be used in the Regions of its partition only. The error is ErrAccountExists, wrapped, or the store's.
func (d *Directory) CreateAccountIn(ctx context.Context, p arn.Partition, id arn.Account, name string) (accessKeyID string, s secret.Bytes, err error) {
	unlock, err := d.changing.lock(ctx, d.store.Patience(), id)
	if err != nil {
		return "", secret.Bytes{}, err
	}
	defer unlock()
	accessKeyID, s = newAccessKeyID(longTermPrefix), newSecret()
	err = store.Retry(ctx, func() error {
		names, err := d.store.Names(ctx)
		if err != nil {
			return err
		}
		n, err := d.store.Position(ctx, id, store.GlobalRegion)
		if err == nil {
			err = d.NoAccount(ctx, id)
		}
		if err != nil {
			return err
		}
		err = d.write(ctx, names, n, &store.Account{ID: id, Name: name, CreatedAt: d.now(), Partition: p}, d.rootKey(id, accessKeyID, s))
		if err != nil {
			err = fmt.Errorf("making an account: %w", err)
		}
		return err
	})
	if err != nil {
		return "", secret.Bytes{}, err
	}
	return accessKeyID, s, nil
}

// EnsureAccount is EnsureAccountIn partition aws.
func (d *Directory) EnsureAccount(ctx context.Context, id arn.Account, accessKeyID string, s secret.Bytes) error {
	return d.EnsureAccountIn(ctx, arn.Commercial, id, accessKeyID, s)
}

// EnsureAccountIn makes sure that there is the account in the partition, and that its root user has the access key with that secret and no
// other that is active: what is missing is made, another secret is replaced, and the root user's other access keys are
// deactivated in the same step. An access key id that belongs to another account, or that could not stand in a signature,
// is refused, and so is an account of another partition, with ErrOtherPartition.
func (d *Directory) EnsureAccountIn(ctx context.Context, p arn.Partition, id arn.Account, accessKeyID string, s secret.Bytes) error {
	if !validAccessKeyID(accessKeyID) {
		return errors.New("an access key id has 1 to 128 printable ASCII characters, without spaces and / , = : ; \"")
	}
	if len(accessKeyID) >= len(temporaryPrefix) && accessKeyID[:len(temporaryPrefix)] == temporaryPrefix {
		return errors.New("an access key id that starts with " + temporaryPrefix + " is a temporary one")
	}
	if s.Len() == 0 {
		return errors.New("the secret access key is empty")
	}
	unlock, err := d.changing.lock(ctx, d.store.Patience(), id)
	if err != nil {
		return err
	}
	defer unlock()
	return store.Retry(ctx, func() error { return d.ensure(ctx, p, id, accessKeyID, s) })
}

// ensure is EnsureAccountIn for who has the account locked; store.ErrConflict if somebody else came in between.
func (d *Directory) ensure(ctx context.Context, p arn.Partition, id arn.Account, accessKeyID string, s secret.Bytes) error {
	names, err := d.store.Names(ctx)
	if err != nil {
		return err
	}
	n, err := d.store.Position(ctx, id, store.GlobalRegion)
	if err != nil {
		return err
	}
	account, err := d.store.GetAccount(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		account, err = nil, nil
	}
	if err != nil {
		return fmt.Errorf("looking the account %s up: %w", id, err)
	}
	if account != nil && account.Partition != p {
		return fmt.Errorf("%w, %s", ErrOtherPartition, account.Partition)
	}
	var changed []*store.AccessKey
	key, err := d.store.GetAccessKey(ctx, accessKeyID)
	switch {
	case err == nil && key.Account != id:
		return fmt.Errorf("%w, %s", ErrForeignKey, key.Account)
	case err == nil && key.Status == store.AccessKeyActive && key.Secret.Equal(s):
	case err == nil || errors.Is(err, store.ErrNotFound):
		changed = append(changed, d.rootKey(id, accessKeyID, s))
	default:
		return fmt.Errorf("looking the access key of account %s up: %w", id, err)
	}
	others, err := d.otherRootKeys(ctx, id, accessKeyID)
	if err != nil {
		return err
	}
	for _, k := range others {
		k.Status = store.AccessKeyInactive
		changed = append(changed, k)
	}
	if account != nil && len(changed) == 0 {
		return nil
	}
	if account == nil {
		account = &store.Account{ID: id, CreatedAt: d.now(), Partition: p}
	}
	if err := d.write(ctx, names, n, account, changed...); err != nil {
		return fmt.Errorf("making the account %s: %w", id, err)
	}
	return nil
}

// otherRootKeys returns the active access keys of an account's root user but the one of that id.
func (d *Directory) otherRootKeys(ctx context.Context, id arn.Account, accessKeyID string) ([]*store.AccessKey, error) {
	keys, err := d.store.ListAccessKeys(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("looking the access keys of account %s up: %w", id, err)
	}
	return slices.DeleteFunc(keys, func(k *store.AccessKey) bool {
		return k.ID == accessKeyID || k.Status != store.AccessKeyActive || k.Principal != id.Root(home)
	}), nil
}

func (d *Directory) rootKey(id arn.Account, accessKeyID string, s secret.Bytes) *store.AccessKey {
	return &store.AccessKey{
		ID: accessKeyID, Account: id, Principal: id.Root(home), Status: store.AccessKeyActive, CreatedAt: d.now(), Secret: s,
	}
}

// write stores an account with access keys, in one transaction. Ids of accounts and of access keys that somebody chose are unique in the
// installation: names is what store.Names said before it was looked whether they are free, and n how far the account's changes had come.
func (d *Directory) write(ctx context.Context, names, n int64, a *store.Account, keys ...*store.AccessKey) error {
	defer func() { // whatever came of it: the store knows
		d.realm.drop(a.ID)
		for _, k := range keys {
			d.ready.drop(k.ID)
		}
	}()
	return d.store.Update(ctx, func(tx *store.Tx) error {
		if err := tx.ExpectNames(names); err != nil {
			return err
		}
		if err := tx.Expect(a.ID, store.GlobalRegion, n); err != nil {
			return err
		}
		if err := tx.PutAccount(a); err != nil {
			return err
		}
		for _, k := range keys {
			if err := tx.PutAccessKey(k); err != nil {
				return err
			}
		}
		return nil
	})
}

// ListAccounts returns all accounts in the order of their ids.
func (d *Directory) ListAccounts(ctx context.Context) ([]*store.Account, error) {
	return d.store.ListAccounts(ctx)
}

// NoAccount returns nil if the installation does not have the account, and ErrAccountExists, wrapped, if it does.
func (d *Directory) NoAccount(ctx context.Context, id arn.Account) error {
	switch _, err := d.store.GetAccount(ctx, id); {
	case err == nil:
		return fmt.Errorf("%w: %s", ErrAccountExists, id)
	case !errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("looking the account %s up: %w", id, err)
	}
	return nil
}
