package kms

import (
	"strings"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/store"
)

// Heard forgets what other servers on the same store have changed, and everything if some of it was lost. What is being read or
// written meanwhile is not remembered, so that nothing older than the news is left when it returns. It waits for nobody.
func (s *Service) Heard(news []store.News, lost bool) {
	if lost {
		s.keys.allChanged()
		s.aliases.allChanged()
		s.grants.allChanged()
		s.aliasLists.allChanged()
		return
	}
	for _, n := range news {
		name := key.Name{Account: n.Account, Region: n.Region, ID: arn.KeyID(n.Ref)}
		switch n.Kind {
		case store.ChangedKey:
			s.keys.changed(name)
			s.grants.changed(name) // they go with a key that is deleted
		case store.ChangedGrant:
			id, _, _ := strings.Cut(n.Ref, "/")
			name.ID = arn.KeyID(id)
			s.grants.changed(name)
		case store.ChangedAlias:
			ref := store.ParseAliasRef(n.Ref)
			s.aliases.changed(aliasName{n.Account, n.Region, ref.Name})
			for _, name.ID = range []arn.KeyID{ref.Target, ref.Last} {
				s.aliasLists.changed(name)
			}
		}
	}
}
