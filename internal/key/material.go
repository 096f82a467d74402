package key

import "time"

// The RotationTypes of the API (API_RotationsListEntry): how material became current.
const (
	Automatic = "AUTOMATIC"
	OnDemand  = "ON_DEMAND"
)

// The functions below are the edits of a key's material. Keys that share material, those of a multi-Region set, go through
// the same ones, so that they stay alike.

// Imported reports whether the octets are there: always for material made here, and for imported material until it is deleted
// or expires.
func (m *Material) Imported() bool { return len(m.Wrapped) > 0 }

// Pending returns the material that waits for a rotation, or nil. There is one at most.
func (k *Key) Pending() *Material {
	for i := range k.Material {
		if !k.Material[i].Permanent() {
			return &k.Material[i]
		}
	}
	return nil
}

// Complete reports whether all material that the key has encrypted under is there, and there is any: without it the key is
// pending import.
func (k *Key) Complete() bool {
	for i := range k.Material {
		if m := &k.Material[i]; m.Permanent() && !m.Imported() {
			return false
		}
	}
	return k.Current() != nil
}

// Import takes in material: in place of what has its id, whose place in the key's history and description it keeps if it
// brings none; or else as new material, whose State the caller has chosen. A key that waited for its last missing material is
// what it was before it went, or enabled by its first.
func (k *Key) Import(m Material) {
	if has := k.FindMaterial(m.ID); has != nil {
		if m.Description != "" {
			has.Description = m.Description
		}
		has.Wrapped, has.Public, has.Expiration, has.ValidTo = m.Wrapped, m.Public, m.Expiration, m.ValidTo
	} else {
		k.Material = append(k.Material, m)
	}
	k.settle()
}

// Drop takes the octets of imported material from the key. What the key has encrypted under is remembered, so that the same
// octets can come back, and until then the key is pending import; what it has not is forgotten. An id that the key does not
// have changes nothing.
func (k *Key) Drop(id string) {
	kept := make([]Material, 0, len(k.Material))
	for _, m := range k.Material {
		if m.ID == id {
			if !m.Permanent() {
				continue
			}
			m.Wrapped, m.Expiration, m.ValidTo = nil, "", time.Time{}
		}
		kept = append(kept, m)
	}
	k.Material = kept
	k.settle()
}

// settle makes a key pending import that misses material, and one that has it all again what it was before. A disabled key
// remembers that: whoever may import material may not enable keys by that alone.
func (k *Key) settle() {
	state, complete := k.settled(), k.Complete()
	switch {
	case complete && k.State == PendingImport && k.Next == Disabled:
		k.State, k.Next = Disabled, ""
	case complete && *state == PendingImport:
		*state = Enabled
	case !complete && k.State == Disabled:
		k.State, k.Next = PendingImport, Disabled
	case !complete && *state == Enabled:
		*state = PendingImport
	}
}

// settled returns the state that the key is in, or will be in when it has been created or updated.
func (k *Key) settled() *State {
	if k.State == Creating || k.State == Updating {
		return &k.Next
	}
	return &k.State
}

// Expired returns the ids of the material whose time is over.
func (k *Key) Expired(now time.Time) (ids []string) {
	for i := range k.Material {
		if m := &k.Material[i]; m.expires() && !m.ValidTo.After(now) {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// ExpiresAt returns when the first of the material expires that satisfies the condition; the zero time if none does.
func (k *Key) ExpiresAt(of func(*Material) bool) (first time.Time) {
	for i := range k.Material {
		if m := &k.Material[i]; m.expires() && of(m) && (first.IsZero() || m.ValidTo.Before(first)) {
			first = m.ValidTo
		}
	}
	return first
}

func (m *Material) expires() bool { return m.Imported() && m.Expiration == Expires }

// Restore ends the wait of a key for its deletion: it is disabled, or pending import if material is missing. It comes out of that
// disabled, too, unless it never had any.
func (k *Key) Restore() {
	k.PendingWindowInDays, k.DeletionAt = 0, time.Time{}
	if k.State = Disabled; k.Current() == nil {
		k.State = PendingImport
	}
	k.settle()
}

// Share gives the replicas of a multi-Region key what the primary key's generations of material are: the same ones, in the same
// order and states. Material made here comes with its octets. Imported material does not: each Region imports it and keeps its
// own expiration and description, and pending material waits until all of them have. Who changes the material of one key of
// the set calls Share before the set is stored.
func Share(primary *Key, replicas []*Key) {
	external := primary.Origin == OriginExternal
	if pending := primary.Pending(); pending != nil {
		pending.State = PendingRotation
		for _, r := range append([]*Key{primary}, replicas...) {
			if has := r.FindMaterial(pending.ID); has == nil || !has.Imported() {
				pending.State = PendingMultiRegionImportAndRotation
			}
		}
	}
	for _, r := range replicas {
		shared := make([]Material, len(primary.Material))
		for i, m := range primary.Material {
			if external {
				m.Wrapped, m.Public, m.Description, m.Expiration, m.ValidTo = nil, nil, "", "", time.Time{}
				if has := r.FindMaterial(m.ID); has != nil {
					m.Wrapped, m.Public, m.Description, m.Expiration, m.ValidTo = has.Wrapped, has.Public, has.Description, has.Expiration, has.ValidTo
				}
			}
			shared[i] = m
		}
		r.Material = shared
	}
}
