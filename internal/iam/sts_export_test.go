package iam

import (
	"context"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/identity"
	"github.com/keywright/keywright/internal/secret"
)

// PutUser stores a user, PutRole a role, PutPolicy a managed policy and PutProvider an identity provider, unchecked.
func PutUser(d *Directory, n *identity.User) error {
	return d.change(context.Background(), nil, n.Account, func(c *change) error { return put(c, &c.users, n, secret.Bytes{}) })
}

// PutRole is described at PutUser.
func PutRole(d *Directory, n *identity.Role) error {
	return d.change(context.Background(), nil, n.Account, func(c *change) error { return put(c, &c.roles, n, secret.Bytes{}) })
}

// PutPolicy is described at PutUser.
func PutPolicy(d *Directory, n *identity.Policy) error {
	return d.change(context.Background(), nil, n.Account, func(c *change) error { return put(c, &c.policies, n, secret.Bytes{}) })
}

// PutProvider is described at PutUser.
func PutProvider(d *Directory, n *identity.Provider) error {
	return d.change(context.Background(), nil, n.Account, func(c *change) error { return put(c, &c.providers, n, secret.Bytes{}) })
}

// Remove deletes a user, role or managed policy.
func Remove[N identity.Noun](d *Directory, n N) error {
	return d.change(context.Background(), nil, n.Of().Account, func(c *change) error {
		switch n := any(n).(type) {
		case *identity.User:
			remove(c, &c.users, n)
		case *identity.Role:
			remove(c, &c.roles, n)
		case *identity.Policy:
			remove(c, &c.policies, n)
		}
		return nil
	})
}

// Forget has an account read from the store again.
func Forget(d *Directory, a arn.Account) { d.realm.drop(a) }

// ParseSession shows the reader of a session token's plaintext: what it says again when it is written again.
func ParseSession(plain []byte) (account string, ok bool) {
	s, ok := parseSession(plain)
	return string(s.terms.Account), ok
}

// Encoded is how answers show a policy document.
func Encoded(document string) string { return encoded(document).V }

// OpenedTokens is how many opened tokens a directory remembers.
func OpenedTokens(d *Directory) int {
	d.tokens.mu.RLock()
	defer d.tokens.mu.RUnlock()
	return len(d.tokens.list)
}
