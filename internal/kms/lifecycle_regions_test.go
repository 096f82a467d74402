package kms_test

import (
	"slices"
	"time"

	"github.com/keywright/keywright/internal/arn"
)

// modelRegions are where the model's multi-Region key can be. It is made in the first.
var modelRegions = []arn.Region{region, "ap-northeast-1", "eu-west-1"}

// modelSet is the model of a multi-Region key: a lifecycle for each Region, gone where the key is not.
type modelSet struct {
	keys    []*lifecycle
	primary *lifecycle
}

func newModelSet(first *lifecycle) *modelSet {
	s := &modelSet{primary: first}
	for _, r := range modelRegions {
		k := first
		if r != region {
			k = &lifecycle{id: first.id, external: first.external, gone: true}
		}
		k.set, k.where, k.arn = s, r, arn.KeyID(first.id).ARN(r, alice)
		s.keys = append(s.keys, k)
	}
	return s
}

// in returns the key in a Region; it can be gone.
func (s *modelSet) in(r arn.Region) *lifecycle { return s.keys[slices.Index(modelRegions, r)] }

// replicas returns those that are there, in the order of their Regions.
func (s *modelSet) replicas() (list []*lifecycle) {
	if s == nil {
		return nil
	}
	for _, k := range s.keys {
		if !k.gone && k != s.primary {
			list = append(list, k)
		}
	}
	slices.SortFunc(list, func(a, b *lifecycle) int {
		if a.where < b.where {
			return -1
		}
		return 1
	})
	return list
}

// left is told of a key that is deleted.
func (s *modelSet) left(_ *lifecycle, now time.Time) {
	if s != nil && s.replicas() == nil && s.primary.state == "PendingReplicaDeletion" {
		s.primary.state, s.primary.deletion = "PendingDeletion", now.Add(time.Duration(s.primary.days)*modelDay)
	}
}

// leads reports whether the key has what its set shares: replicas follow it.
func (m *lifecycle) leads() bool { return m.set == nil || m.set.primary == m }

// follows is the error of what only primary keys do.
func (m *lifecycle) follows() string {
	if m.gone || m.leads() {
		return ""
	}
	return "UnsupportedOperationException: " + m.arn + " is not a multi-region primary key."
}

func (m *lifecycle) replicate(to arn.Region) string {
	if refusal := firstOf(m.forbidden("Disabled", "PendingDeletion", "PendingImport", "Creating", "Updating"), m.follows()); refusal != "" {
		return refusal
	}
	replica := m.set.in(to)
	if !replica.gone {
		return "AlreadyExistsException: The key " + m.id + " already exists in the Region " + string(to) + "."
	}
	*replica = lifecycle{id: m.id, arn: replica.arn, external: m.external, set: m.set, where: to, state: "Creating", ready: "Enabled"}
	if m.external {
		replica.ready = "PendingImport"
	}
	return ""
}

func (m *lifecycle) handOver(to arn.Region) string {
	states := []string{"Disabled", "PendingDeletion", "PendingImport", "Creating"}
	if refusal := firstOf(m.forbidden(states...), m.follows()); refusal != "" {
		return refusal
	}
	next := m.set.in(to)
	if next == m {
		return "ValidationException: " + m.arn + " is the primary key of its multi-Region keys already."
	}
	if refusal := next.forbidden(states...); refusal != "" {
		return refusal
	}
	m.set.primary = next
	for _, k := range []*lifecycle{m, next} {
		k.state, k.ready = "Updating", "Enabled"
	}
	return ""
}

// share gives the replicas what they have from the primary key.
func (s *modelSet) share() {
	if s == nil {
		return
	}
	from := s.primary
	pending := "PENDING_ROTATION"
	for _, k := range s.replicas() {
		k.rotates, k.period, k.next, k.onDemand = from.rotates, from.period, from.next, from.onDemand
		list := slices.Clone(from.generations)
		for i, g := range list {
			if !from.external {
				break
			}
			own := modelMaterial{}
			if has := k.find(func(h *modelMaterial) bool { return h.id == g.id }); has != nil {
				own = *has
			}
			list[i] = &modelMaterial{id: g.id, secret: g.secret, state: g.state, by: g.by, at: g.at, there: own.there, until: own.until}
			if !g.permanent() && !own.there {
				pending = "PENDING_MULTI_REGION_IMPORT_AND_ROTATION"
			}
		}
		k.generations = list
	}
	if g := from.pending(); g != nil && !g.there {
		pending = "PENDING_MULTI_REGION_IMPORT_AND_ROTATION"
	}
	for _, k := range append(s.replicas(), from) {
		if g := k.pending(); g != nil {
			g.state = pending
		}
	}
}
