package store

import (
	"context"
	"errors"
)

// wipes empties every table but those of the root of trust, in an order that leaves no row without what it refers to.
var wipes = []statement{
	wipeKeyUses, wipeGrants, wipeAliases, wipeKeys, wipeQuotas, wipeIdentities, wipeAccessKeys, wipeAccounts, wipeChanges, wipeCounters,
}

// Wipe deletes everything but the root of trust: keys, aliases, grants, accounts with all that they have, and the change feed,
// which begins at 1 again. Nothing of it is in any file when Wipe returns. It is for servers that others test with; whoever
// remembers what was stored must forget it. A database that other processes use, which would not forget, is not wiped.
func (s *Store) Wipe(ctx context.Context) error {
	if s.db.shared {
		return errors.New("a database that several servers may use is not wiped")
	}
	return doing("wiping the store", s.Update(ctx, func(tx *Tx) error {
		for _, w := range wipes {
			if _, err := tx.exec(w); err != nil {
				return err
			}
		}
		tx.Erase()
		tx.wiped, tx.counters = true, nil
		return nil
	}))
}
