package kms

import (
	"encoding/base64"
	"errors"
	"strings"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// grantName says which grant is meant.
type grantName struct {
	key key.Name
	id  string
}

// A grant token is base64 of a blob of the barrier over account, Region, key id and grant id, joined with slashes. It
// names a grant and gives nothing by itself: who sends it must be the grantee. Its nonce makes every token of a grant
// another text, and all of them say the same.

// grantTokenData is the associated data of grant tokens.
func grantTokenData() []byte { return seal.Associate("keywright grant token v1") }

// grantToken returns a new token of a grant.
func (s *Service) grantToken(g *key.Grant) (string, error) {
	name := strings.Join([]string{string(g.Key.Account), string(g.Key.Region), string(g.Key.ID), g.ID}, "/")
	blob, err := s.barrier.Encrypt(seal.Token, grantTokenData(), secret.FromString(name))
	return base64.StdEncoding.EncodeToString(blob), err
}

// openToken returns the grant that a token names. What this installation did not make is refused.
func (s *Service) openToken(token string) (grantName, error) {
	bad := wire.Bare(kmsapi.CodeInvalidGrantTokenException)
	blob, err := base64.StdEncoding.Strict().DecodeString(token)
	if err != nil {
		return grantName{}, bad
	}
	name, err := s.barrier.Decrypt(seal.Token, grantTokenData(), blob)
	if err != nil {
		return grantName{}, bad
	}
	parts := strings.Split(string(name.Expose()), "/")
	if len(parts) != 4 {
		return grantName{}, bad
	}
	return grantName{key.Name{Account: arn.Account(parts[0]), Region: arn.Region(parts[1]), ID: arn.KeyID(parts[2])}, parts[3]}, nil
}

// openTokens reads the grant tokens of the request.
func (r *request) openTokens(tokens []string) error {
	for _, t := range tokens {
		name, err := r.openToken(t)
		if err != nil {
			return err
		}
		r.tokens = append(r.tokens, name)
	}
	return nil
}

// useTokens makes sure that the grants on a key that the request's tokens name are known here: a token is good at once,
// wherever its grant was made. Tokens of other keys, and of grants that are gone, change nothing.
func (r *request) useTokens(name key.Name) error {
	for _, t := range r.tokens {
		if t.key != name {
			continue
		}
		set, err := r.grantsOf(r.ctx, name)
		if err != nil {
			return err
		}
		if set.get(t.id) != nil {
			continue
		}
		if err := r.readGrant(t); err != nil {
			return err
		}
	}
	return nil
}

// readGrant takes a grant from the store into memory, if it is there.
func (r *request) readGrant(n grantName) error {
	defer r.grants.lock(n.key)()
	set, err := r.grantsLocked(r.ctx, n.key)
	if err != nil {
		return err
	}
	g, err := r.store.GetGrant(r.ctx, n.key, n.id)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	set.add(g)
	r.grants.grew(1)
	return nil
}
