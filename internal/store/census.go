package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keywright/keywright/internal/key"
)

// Census is what there is of keys, in all accounts and Regions.
type Census struct {
	States   map[key.State]int64
	Refused  int64     // rows that do not verify, which are not counted
	Deletion time.Time // when the next key goes, of those that are pending deletion; zero for none
	Expiry   time.Time // when the next imported material expires; zero for none
	Rotation time.Time // when the next rotation is due; zero for none
}

// TakeCensus reads every key, in small pages beside others, and counts what it finds. It takes some 10 microseconds a key.
func (s *Store) TakeCensus(ctx context.Context) (Census, error) {
	c := Census{States: map[key.State]int64{}}
	for after := keyTable.first; after != nil; {
		if err := ctx.Err(); err != nil {
			return c, err
		}
		rows, last, err := keyTable.next(ctx, s.reads, after)
		if err != nil {
			return c, fmt.Errorf("counting keys by state: %w", err)
		}
		after = last
		for _, r := range rows {
			k, err := s.verifier.key(ctx, s.reads, r)
			var corrupt *CorruptRowError
			switch {
			case errors.As(err, &corrupt):
				c.Refused++
			case err != nil:
				return c, fmt.Errorf("counting keys by state: %w", err)
			default:
				c.add(k)
			}
		}
	}
	return c, nil
}

func (c *Census) add(k *key.Key) {
	c.States[k.State]++
	first := func(of *time.Time, at time.Time) {
		if !at.IsZero() && (of.IsZero() || at.Before(*of)) {
			*of = at
		}
	}
	if k.State == key.PendingDeletion {
		first(&c.Deletion, k.DeletionAt)
	}
	first(&c.Expiry, k.ExpiresAt(func(*key.Material) bool { return true }))
	if k.State == key.Enabled && k.Rotation.Enabled {
		first(&c.Rotation, k.Rotation.Next)
	}
}
