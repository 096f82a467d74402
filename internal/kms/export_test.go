package kms

import "github.com/keywright/keywright/internal/key"

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
