package kms

import (
	"encoding/base64"
	"strings"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
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

// checkTokens refuses what is no grant token. There is nothing else to do with one: the grants of a key are all known here
// before CreateGrant answers, because this process is the only one that makes them, and they hold without a token.
func (s *Service) checkTokens(tokens []string) error {
	for _, t := range tokens {
		if _, err := s.openToken(t); err != nil {
			return err
		}
	}
	return nil
}
