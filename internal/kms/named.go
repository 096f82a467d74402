package kms

import (
	"strings"
)

// Sessions returns the ARNs of roles' sessions and federated users that the key's policy and its grants name. They are principals
// of whom nobody has a list.
func (k *Subject) Sessions() ([]string, error) {
	var list []string
	add := func(principal string) {
		if strings.Contains(principal, ":sts::") {
			list = append(list, principal)
		}
	}
	for _, p := range k.key.policy.Principals() {
		add(p.Value)
	}
	for after, more := "", true; more; {
		grants, next, err := k.s.store.ListGrants(k.ctx, k.key.Name, after, listedGrants)
		if err != nil {
			return nil, err
		}
		for _, g := range grants {
			add(g.Grantee.ARN)
			after = g.ID
		}
		more = next
	}
	return list, nil
}
