package kms

import (
	"context"
	"time"

	"github.com/keywright/keywright/internal/key"
)

// RunDueWhile is RunDue of a server that leads for so long.
func (s *Service) RunDueWhile(ctx context.Context, leads func() bool) error {
	return s.runDue(ctx, leads)
}

// CachedKeys returns how many keys are in memory, and how many octets they take about.
func (s *Service) CachedKeys() (n, octets int) {
	s.keys.mu.RLock()
	defer s.keys.mu.RUnlock()
	for _, generation := range []map[key.Name]*snapshot{s.keys.young, s.keys.old} {
		for _, snap := range generation {
			n, octets = n+1, octets+snap.memory()
		}
	}
	return n, octets
}

// CountUses has the uses of keys by an operation counted, as they are, or not. Nothing may run meanwhile.
func CountUses(operation string, on bool) {
	for i := range operations {
		if op := &operations[i]; op.Name == operation {
			if op.Usage = ""; on {
				op.Usage = key.EncryptDecrypt
			}
		}
	}
}

// GrantSet is the index of the grants of a key.
type GrantSet = grantSet

// Add, Remove, Under and All are what the index is for.
func (s *grantSet) Add(g *key.Grant)                { s.add(g) }
func (s *grantSet) Remove(id string)                { s.remove(id) }
func (s *grantSet) Size() int                       { return s.size() }
func (s *grantSet) All(grantee string) []*key.Grant { return s.of(grantee) }
func (s *grantSet) Under(grantee string, context map[string]string) []*key.Grant {
	return s.under(grantee, context)
}

// WaitingUses returns how many last uses are in memory only, and MostWaitingUses how many may be.
func (s *Service) WaitingUses() int64 { return s.uses.count.Load() }

// WaitForRoom has requests wait for so long for the last uses of others to be written.
func (s *Service) WaitForRoom(d time.Duration) { s.uses.patience = d }

// MostWaitingUses is in WaitingUses' comment.
func (s *Service) MostWaitingUses() int64 { return s.uses.most() }
