package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
)

// Tx is what a function given to Update reads and writes with. It sees what earlier updates of the same transaction did.
// It is of one goroutine and ends when the function returns.
type Tx struct {
	g        *group
	saved    bool              // the savepoint is set
	over     bool              // the function has returned
	broken   error             // a statement failed: nothing runs any more
	wiped    bool              // counters of updates before this one are no more
	counters map[scope]counter // those that this update claimed or changed
	wrote    bool              // more than claims
	deleted  bool              // something that must not stay in the files
	onCommit []func()
	changes  []change // for the feed, on a shared engine

	misplaced bool  // it has to begin again, with the scopes that it wants
	wants     scope // which it could not have, if misplaced
	held      bool  // it could not have a scope because another process has it
}

var errTxOver = errors.New("the transaction is over")

// OnCommit has f called after the changes are on disk and before Update returns; not at all if they are undone. Calls
// follow each other in commit order, on the goroutine that writes: f must be quick and must not use the Store.
func (tx *Tx) OnCommit(f func()) { tx.onCommit = append(tx.onCommit, f) }

// Erase sees to it that what the update overwrites goes from all files, as with what it deletes: imported key material that goes from
// a key that stays. Update waits until that was tried, while others go on. Whoever still reads an older state, such as a backup,
// can prevent it: then it is logged, and tried again until it is done.
func (tx *Tx) Erase() { tx.deleted = true }

// usable returns why nothing can run, or nil.
func (tx *Tx) usable() error {
	if tx.over {
		return errTxOver
	}
	return tx.broken
}

// exec runs a statement that writes, and returns how many rows it touched. After an error the transaction is unusable:
// some engines have undone it then, and further statements would run on their own.
func (tx *Tx) exec(s statement, args ...any) (int64, error) {
	if err := tx.save(); err != nil {
		return 0, err
	}
	result, err := tx.g.exec(s, args...)
	if err := tx.did(s, err); err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// did notes what became of a statement that writes.
func (tx *Tx) did(s statement, err error) error {
	if err != nil {
		tx.broken = err
		return err
	}
	tx.wrote = true
	tx.deleted = tx.deleted || s == deleteKey || s == deleteDomainKeys
	return nil
}

// save sets the savepoint before the first write: what only reads needs none.
func (tx *Tx) save() error {
	if err := tx.usable(); err != nil || tx.saved {
		return err
	}
	if !tx.g.w.shared || tx.g.careful {
		if _, err := tx.g.exec(savepoint); err != nil {
			tx.broken = err
			return err
		}
	}
	tx.saved = true
	return nil
}

// touch has to come before whatever an update reads or writes in an account and Region. On a shared engine it claims them: from then
// on until the end of the transaction no other process changes anything there, and every statement sees what was there when it
// began. So an update can rely on what it read. It is one statement for all updates of a transaction.
func (tx *Tx) touch(s scope) error {
	if err := tx.usable(); err != nil || !tx.g.w.shared {
		return err
	}
	_, err := tx.counter(s)
	return err
}

// counter returns the counter of an account and Region as this update sees it, and claims it.
func (tx *Tx) counter(s scope) (counter, error) {
	if c, ok := tx.counters[s]; ok {
		return c, nil
	}
	if c, ok := tx.g.counters[s]; ok {
		return c, nil
	}
	if err := tx.save(); err != nil {
		return counter{}, err
	}
	c, err := tx.claim(s)
	if err != nil {
		tx.broken = fmt.Errorf("claiming a change number: %w", err)
		return c, tx.broken
	}
	tx.setCounter(s, c)
	return c, nil
}

func (tx *Tx) setCounter(s scope, c counter) {
	if tx.counters == nil {
		tx.counters = map[scope]counter{}
	}
	tx.counters[s] = c
}

// changed gives a change its number and writes it to the feed. more is how many keys there are more than before.
func (tx *Tx) changed(s scope, kind ChangeKind, ref string, more int64) error {
	c, err := tx.counter(s)
	if err != nil {
		return err
	}
	c.n++
	c.keys += more
	c.changed = true
	tx.setCounter(s, c)
	if tx.g.w.shared {
		tx.changes = append(tx.changes, change{s, Change{c.n, kind, ref}})
		return nil
	}
	_, err = tx.exec(insertChange, string(s.account), string(s.region), c.n, string(kind), ref)
	return err
}

// GetKey is Store.GetKey inside the transaction.
func (tx *Tx) GetKey(n key.Name) (*key.Key, error) {
	if err := tx.touch(scope{n.Account, n.Region}); err != nil {
		return nil, err
	}
	k, err := verified(context.Background(), &tx.g.w.verifier, tx.g, "keys", scanKeyRow, tx.g.w.verifier.key, selectKey,
		string(n.Account), string(n.Region), string(n.ID))
	return k, doing("reading a key", err)
}

// CountKeys is Store.CountKeys inside the transaction.
func (tx *Tx) CountKeys(a arn.Account, r arn.Region) (int64, error) {
	if err := tx.touch(scope{a, r}); err != nil {
		return 0, err
	}
	c, err := tx.counter(scope{a, r})
	return c.keys, err
}

// GetAlias is Store.GetAlias inside the transaction.
func (tx *Tx) GetAlias(a arn.Account, r arn.Region, name arn.AliasName) (*key.Alias, error) {
	if err := tx.touch(scope{a, r}); err != nil {
		return nil, err
	}
	alias, err := verified(context.Background(), &tx.g.w.verifier, tx.g, "aliases", scanAliasRow, tx.g.w.verifier.alias, selectAlias,
		string(a), string(r), string(name))
	return alias, doing("reading an alias", err)
}

// CountAliasesOfKey returns how many aliases point at a key.
func (tx *Tx) CountAliasesOfKey(n key.Name) (int64, error) {
	if err := tx.touch(scope{n.Account, n.Region}); err != nil {
		return 0, err
	}
	count, err := one(context.Background(), tx.g, scanNumber, selectAliasCount, string(n.Account), string(n.Region), string(n.ID))
	return count, doing("counting aliases", err)
}

// CountReservedAliases is Store.CountReservedAliases inside the transaction.
func (tx *Tx) CountReservedAliases(a arn.Account, r arn.Region) (int64, error) {
	if err := tx.touch(scope{a, r}); err != nil {
		return 0, err
	}
	return countReservedAliases(context.Background(), tx.g, a, r)
}

// PutKey writes a key, new or in place of what is there. Times are kept to the millisecond.
func (tx *Tx) PutKey(k *key.Key) error {
	r, err := tx.g.w.verifier.keyRow(k)
	if err == nil {
		err = tx.touch(scope{k.Account, k.Region})
	}
	if err == nil {
		err = tx.g.w.current(k)
	}
	if err != nil {
		return doing("writing a key", err)
	}
	n, err := tx.exec(insertKey, r.account, r.region, r.id, r.due, r.body, r.tag)
	if err == nil && n == 0 {
		_, err = tx.exec(updateKey, r.due, r.body, r.tag, r.account, r.region, r.id)
	}
	if err == nil {
		err = tx.changed(scope{k.Account, k.Region}, ChangedKey, r.id, n)
	}
	return doing("writing a key", err)
}

// DeleteKey removes a key, its aliases, its grants and its last use; ErrNotFound if it is not there.
func (tx *Tx) DeleteKey(n key.Name) error {
	if err := tx.touch(scope{n.Account, n.Region}); err != nil {
		return err
	}
	aliases, err := collect(context.Background(), tx.g, scanAliasRow, selectAliasesOfKey,
		string(n.Account), string(n.Region), string(n.ID), "", everything)
	if err != nil {
		return doing("deleting a key", err)
	}
	for _, a := range aliases {
		if err := tx.deleteAlias(a); err != nil {
			return doing("deleting a key", err)
		}
	}
	if _, err := tx.exec(deleteGrantsOfKey, string(n.Account), string(n.Region), string(n.ID)); err != nil {
		return doing("deleting a key", err)
	}
	if _, err := tx.exec(deleteKeyUse, string(n.Account), string(n.Region), string(n.ID)); err != nil {
		return doing("deleting a key", err)
	}
	count, err := tx.exec(deleteKey, string(n.Account), string(n.Region), string(n.ID))
	switch {
	case err != nil:
	case count == 0:
		err = ErrNotFound
	default:
		err = tx.changed(scope{n.Account, n.Region}, ChangedKey, string(n.ID), -1)
	}
	return doing("deleting a key", err)
}

// InsertAlias writes a new alias; ErrExists if the name is taken. The key must be there.
func (tx *Tx) InsertAlias(a *key.Alias) error {
	r, err := tx.g.w.verifier.aliasRow(a)
	if err == nil {
		err = tx.touch(scope{a.Account, a.Region})
	}
	if err != nil {
		return doing("writing an alias", err)
	}
	n, err := tx.exec(insertAlias, r.account, r.region, r.name, r.target, r.body, r.tag)
	switch {
	case err != nil:
	case n == 0:
		err = ErrExists
	default:
		err = tx.changedAlias(r, "")
	}
	return doing("writing an alias", err)
}

// PutAlias writes an alias, new or in place of what is there. The key must be there.
func (tx *Tx) PutAlias(a *key.Alias) error {
	err := tx.InsertAlias(a)
	if !errors.Is(err, ErrExists) {
		return err
	}
	was, err := one(context.Background(), tx.g, scanAliasRow, selectAlias, string(a.Account), string(a.Region), string(a.Name))
	var r aliasRow
	if err == nil {
		r, err = tx.g.w.verifier.aliasRow(a)
	}
	if err == nil {
		_, err = tx.exec(updateAlias, r.target, r.body, r.tag, r.account, r.region, r.name)
	}
	if err == nil {
		err = tx.changedAlias(r, was.target)
	}
	return doing("writing an alias", err)
}

// DeleteAlias removes an alias; ErrNotFound if it is not there.
func (tx *Tx) DeleteAlias(a arn.Account, r arn.Region, name arn.AliasName) error {
	if err := tx.touch(scope{a, r}); err != nil {
		return doing("deleting an alias", err)
	}
	was, err := one(context.Background(), tx.g, scanAliasRow, selectAlias, string(a), string(r), string(name))
	if err == nil {
		err = tx.deleteAlias(was)
	}
	return doing("deleting an alias", err)
}

// deleteAlias removes an alias that was read since its account and Region were touched.
func (tx *Tx) deleteAlias(r aliasRow) error {
	_, err := tx.exec(deleteAlias, r.account, r.region, r.name)
	if err == nil {
		err = tx.changedAlias(r, "")
	}
	return err
}

// changedAlias is changed for an alias, which pointed at another key before if last is not empty.
func (tx *Tx) changedAlias(r aliasRow, last string) error {
	ref := AliasRef{Name: arn.AliasName(r.name), Target: arn.KeyID(r.target)}
	if last != r.target {
		ref.Last = arn.KeyID(last)
	}
	return tx.changed(within(r.account, r.region), ChangedAlias, ref.String(), 0)
}
