package iam

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/sigv4"
)

// session is what a session token carries. Temporary credentials are stored nowhere: the token holds them, sealed, and
// comes back with every request.
//
// The token is standard base64 of a barrier blob (domain token), whose plaintext is
//
//	octet 0        version, 1
//	octets 1–8     end of the session, Unix seconds, big-endian
//	octets 9–20    account id
//	octets 21–60   secret access key, forty characters
//	the rest       zeros, as many as the caller asked for
//
// The access key id is not in it: it is bound as associated data, so that a token opens with its own only.
type session struct {
	account arn.Account
	expires time.Time // whole seconds
	secret  secret.Bytes
}

const (
	sessionVersion   = 1
	sessionSecretAt  = 1 + 8 + 12
	sessionSecretLen = 40
	sessionSize      = sessionSecretAt + sessionSecretLen
)

// maxToken bounds what is opened: the largest token that GetSessionToken makes fits.
const maxToken = 6 << 10

// sessionData is the associated data of a session token.
func sessionData(accessKeyID string) []byte {
	return seal.Associate("keywright session token v1", accessKeyID)
}

// sealSession makes the token, at least size octets long.
func (d *Directory) sealSession(accessKeyID string, s session, size int) (string, error) {
	if s.secret.Len() != sessionSecretLen || len(s.account) != 12 {
		return "", errors.New("sealing a session: malformed account or secret")
	}
	plain := make([]byte, 0, max(sessionSize, base64.StdEncoding.DecodedLen(size)))
	plain = append(plain, sessionVersion)
	plain = binary.BigEndian.AppendUint64(plain, uint64(s.expires.Unix()))
	plain = append(plain, s.account...)
	plain = append(plain, s.secret.Expose()...)
	plain = plain[:cap(plain)]
	blob, err := d.barrier.Encrypt(seal.Token, sessionData(accessKeyID), secret.Take(plain))
	clear(plain)
	if err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(blob), nil
}

// openToken returns the credential that a session token carries. The error is a *sigv4.Error.
func (d *Directory) openToken(accessKeyID, token string) (*credential, error) {
	if len(token) > maxToken || len(accessKeyID) > MaxAccessKeyID {
		return nil, sigv4.ErrUnknownCredential()
	}
	blob, err := base64.StdEncoding.Strict().DecodeString(token)
	if err != nil {
		return nil, sigv4.ErrUnknownCredential()
	}
	opened, err := d.barrier.Decrypt(seal.Token, sessionData(accessKeyID), blob)
	if err != nil {
		return nil, sigv4.ErrUnknownCredential()
	}
	defer opened.Wipe()
	s, ok := parseSession(opened.Expose())
	switch {
	case !ok:
		return nil, sigv4.ErrUnknownCredential()
	case !d.now().Before(s.expires):
		return nil, sigv4.ErrExpiredToken()
	}
	return &credential{id: accessKeyID, account: s.account, secret: s.secret, resolve: func(v *view) (*guard.Caller, error) {
		return v.holder(s.account.Root(home), accessKeyID)
	}}, nil
}

// parseSession reads the plaintext of a token.
func parseSession(plain []byte) (s session, ok bool) {
	if len(plain) < sessionSize || plain[0] != sessionVersion {
		return s, false
	}
	s.expires = time.Unix(int64(binary.BigEndian.Uint64(plain[1:])), 0).UTC()
	account, err := arn.ParseAccount(string(plain[9:sessionSecretAt]))
	s.account, s.secret = account, secret.Copy(plain[sessionSecretAt:sessionSize])
	return s, err == nil
}
