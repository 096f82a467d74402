package seal

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/secret"
)

func randomKey() secret.Bytes {
	b := make([]byte, keySize)
	_, _ = rand.Read(b) // never fails: crypto/rand crashes the program instead
	return secret.Take(b)
}

// Initialize makes the root of trust of a new installation: a root key, wrapped by every one of the seals, and the first
// version of every domain key. Sealed must be stored before the Barrier is used.
func Initialize(ctx context.Context, now time.Time, seals ...Seal) (*Barrier, Sealed, error) {
	if len(seals) == 0 {
		return nil, Sealed{}, errors.New("initialising needs one seal at least")
	}
	b := &Barrier{rootID: arn.NewUUID(), root: randomKey()}
	b.rootKey = newWrappingKey(b.root.Expose())
	var out Sealed
	for _, s := range seals {
		rec, err := b.AddSeal(ctx, now, out, s)
		if err != nil {
			return nil, Sealed{}, err
		}
		out.Seals = append(out.Seals, rec)
	}
	for d := Material; d <= lastDomain; d++ {
		out.DomainKeys = append(out.DomainKeys, b.makeDomainKey(d, 1, now, randomKey()))
	}
	opened, err := newBarrier(b.rootID, b.root, out.DomainKeys)
	return opened, out, err
}

// wrapWith completes a record that has its ID and Name.
func (b *Barrier) wrapWith(ctx context.Context, now time.Time, s Seal, rec Record) (Record, error) {
	rec.Kind, rec.RootID, rec.CreatedAt = s.Kind(), b.rootID, now.UTC().Truncate(time.Millisecond)
	if err := s.Wrap(ctx, &rec, b.root); err != nil {
		return Record{}, fmt.Errorf("wrapping the root key with the seal %q: %w", rec.Name, err)
	}
	return rec, nil
}

// Unseal opens the root key with one seal, trying every record of its kind and, if it has a name, of its name. If none
// opens, the error wraps ErrOpen; a domain key that does not open under the root key is an error too.
func Unseal(ctx context.Context, sealed Sealed, s Seal) (*Barrier, error) {
	rec, root, err := openOne(ctx, sealed.Seals, s)
	if err != nil {
		return nil, err
	}
	b, err := newBarrier(rec.RootID, root, sealed.DomainKeys)
	if err != nil {
		return nil, fmt.Errorf("opening domain keys: %w", err)
	}
	return b, nil
}

// openOne finds the record that the seal opens.
func openOne(ctx context.Context, records []Record, s Seal) (Record, secret.Bytes, error) {
	var other error
	for _, rec := range records {
		if rec.Kind != s.Kind() || s.Name() != "" && rec.Name != s.Name() {
			continue
		}
		root, err := s.Unwrap(ctx, rec)
		switch {
		case err == nil && root.Len() == keySize:
			return rec, root, nil
		case err != nil && !errors.Is(err, ErrOpen):
			other = err
		}
	}
	if other != nil {
		return Record{}, secret.Bytes{}, fmt.Errorf("opening the root key with a %s: %w", s.Kind(), other)
	}
	return Record{}, secret.Bytes{}, fmt.Errorf("opening the root key with a %s: %w", s.Kind(), ErrOpen)
}

// AddSeal returns a record with the root key wrapped by one more seal, for the caller to store. A seal without a name is
// called after its kind. A name that another seal has is refused.
func (b *Barrier) AddSeal(ctx context.Context, now time.Time, sealed Sealed, s Seal) (Record, error) {
	name := cmp.Or(s.Name(), string(s.Kind()))
	if slices.ContainsFunc(sealed.Seals, func(r Record) bool { return r.Name == name }) {
		return Record{}, fmt.Errorf("there is a seal with the name %q already", name)
	}
	return b.wrapWith(ctx, now, s, Record{ID: arn.NewUUID(), Name: name})
}

// RemoveSeal returns sealed without the seal of that id: ErrNoSuchSeal, or ErrLastSeal if no other would be left. The
// removed seal's secret still opens old copies of the store: see the package comment for what locks its owner out.
func RemoveSeal(sealed Sealed, id string) (Sealed, error) {
	i := slices.IndexFunc(sealed.Seals, func(r Record) bool { return r.ID == id })
	switch {
	case i < 0:
		return Sealed{}, ErrNoSuchSeal
	case len(sealed.Seals) == 1:
		return Sealed{}, ErrLastSeal
	}
	return Sealed{
		Seals:      slices.Delete(slices.Clone(sealed.Seals), i, i+1),
		DomainKeys: sealed.DomainKeys,
	}, nil
}

// RotateDomainKeys makes the next version of every domain key. The save function must store them durably; only if it
// returns nil are they used, so that nothing is ever sealed with a key that a crash could lose.
func (b *Barrier) RotateDomainKeys(now time.Time, save func([]DomainKey) error) error {
	var keys []DomainKey
	for d := Material; d <= lastDomain; d++ {
		keys = append(keys, b.makeDomainKey(d, b.Newest(d)+1, now, randomKey()))
	}
	if err := save(keys); err != nil {
		return fmt.Errorf("storing new domain keys: %w", err)
	}
	return b.Load(keys)
}

// RotateRoot makes a new root key, wraps the domain keys of sealed with it, and the root key with every one of seals.
// Each seal must open one of the present records, whose ID and name its new record keeps. A present record that none of
// seals opens would keep the old root key alive, so it must be named, by its ID, in drop; otherwise the rotation is
// refused. The caller stores the result in place of sealed, as a whole, and then uses the Barrier it got.
func (b *Barrier) RotateRoot(ctx context.Context, now time.Time, sealed Sealed, seals []Seal, drop []string) (*Barrier, Sealed, error) {
	kept := slices.DeleteFunc(slices.Clone(sealed.Seals), func(r Record) bool { return slices.Contains(drop, r.ID) })
	next := &Barrier{rootID: arn.NewUUID(), root: randomKey()}
	next.rootKey = newWrappingKey(next.root.Expose())
	var out Sealed
	for _, s := range seals {
		old, root, err := openOne(ctx, kept, s)
		if err != nil {
			return nil, Sealed{}, err
		}
		if !root.Equal(b.root) {
			return nil, Sealed{}, fmt.Errorf("the seal %q: %w", old.Name, ErrRootChanged)
		}
		rec, err := next.wrapWith(ctx, now, s, Record{ID: old.ID, Name: old.Name})
		if err != nil {
			return nil, Sealed{}, err
		}
		out.Seals = append(out.Seals, rec)
		kept = slices.DeleteFunc(kept, func(r Record) bool { return r.ID == old.ID })
	}
	if len(kept) > 0 {
		return nil, Sealed{}, fmt.Errorf("the seal %q was neither opened nor dropped", kept[0].Name)
	}
	if len(out.Seals) == 0 {
		return nil, Sealed{}, ErrLastSeal
	}
	for _, rec := range sealed.DomainKeys {
		key, err := b.openDomainKey(rec)
		if err != nil {
			return nil, Sealed{}, fmt.Errorf("domain key %q version %d: %w", rec.Domain, rec.Version, err)
		}
		out.DomainKeys = append(out.DomainKeys, next.makeDomainKey(rec.Domain, rec.Version, rec.CreatedAt, key))
	}
	opened, err := newBarrier(next.rootID, next.root, out.DomainKeys)
	return opened, out, err
}
