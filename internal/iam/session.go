package iam

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/sigv4"
)

// session is what a session token carries. Temporary credentials are stored nowhere: the token holds them, sealed, and
// comes back with every request, so that any server with the same domain keys can read it.
//
// A token says who its bearer is by unique id and what limits the session. What the user or role may do is not in it: that
// is looked up with every request, so that a change holds for sessions, too, and a session dies with its user or role.
//
// The token is standard base64 of a barrier blob (domain token), whose plaintext is
//
//	octet 0        version, 2
//	octets 1–40    secret access key, forty characters
//	octets 41–44   length of the body, big-endian
//	the body       DEFLATE (RFC 1951) of the terms as JSON
//	the rest       zeros, as many as the caller asked for
//
// The secret stays out of the compressed part, whose length a caller can influence. The access key id is not in the token:
// it is bound as associated data, so that a token opens with its own only.
type session struct {
	secret secret.Bytes
	terms  terms
}

// sessionKind is whose session it is.
type sessionKind string

const (
	rootSession      sessionKind = "root"      // of a root user, by GetSessionToken
	userSession      sessionKind = "user"      // of a user, by GetSessionToken
	roleSession      sessionKind = "role"      // of a role
	federatedSession sessionKind = "federated" // by GetFederationToken
)

// terms is the body of a token.
type terms struct {
	Kind     sessionKind `json:"kind"`
	Account  arn.Account `json:"account"`
	ID       string      `json:"id"`             // of the user or role; the account's for a root user; whose session it is or, of a federated user, who sent it
	Name     string      `json:"name,omitempty"` // role session name, or name of the federated user
	IssuedAt int64       `json:"issued"`         // Unix seconds
	Expires  int64       `json:"expires"`        // likewise: the first second in which the session is over

	limits
	Source   string `json:"source,omitempty"`   // source identity
	Provider string `json:"provider,omitempty"` // ARN of the OIDC provider that vouched for the bearer, partition aws
	Chained  bool   `json:"chained,omitempty"`  // made with the credentials of another role's session
}

// limits is what the maker of a session may hand over with it. It is also what has a limited space.
type limits struct {
	Policy     string    `json:"policy,omitempty"`     // session policy
	Managed    []string  `json:"managed,omitempty"`    // ARNs of managed policies that are session policies, partition aws
	ManagedIDs []string  `json:"managedIds,omitempty"` // their unique ids, in the same order: a namesake is another policy
	Tags       []key.Tag `json:"tags,omitempty"`       // session tags
	Transitive []string  `json:"transitive,omitempty"` // keys of those that chained sessions inherit
}

func (l *limits) empty() bool { return l.Policy == "" && len(l.Managed) == 0 && len(l.Tags) == 0 }

const (
	sessionVersion   = 2
	sessionSecretAt  = 1
	sessionSecretLen = 40
	sessionLengthAt  = sessionSecretAt + sessionSecretLen
	sessionBodyAt    = sessionLengthAt + 4
)

// Bounds of a token. packedSpace is what policies and tags may take, compressed; a header with the largest token leaves the
// rest of a request's header enough room. maxTerms bounds what comes out of the compressed part.
const (
	packedSpace = 3 << 10
	maxToken    = 8 << 10
	maxTerms    = 64 << 10
)

// sessionData is the associated data of a session token.
func sessionData(accessKeyID string) []byte {
	return seal.Associate("keywright session token v2", accessKeyID)
}

// packed returns how many octets the limits take of packedSpace.
func (l *limits) packed() (int, error) {
	b, _, err := pack(l)
	return len(b), err
}

// pack returns a text for a token, compressed, and how many octets it had before.
func pack(v any) (packed []byte, size int, err error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, 0, fmt.Errorf("encoding a session: %w", err)
	}
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.BestCompression)
	if err != nil {
		return nil, 0, fmt.Errorf("encoding a session: %w", err)
	}
	if _, err := w.Write(text); err != nil {
		return nil, 0, fmt.Errorf("encoding a session: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, 0, fmt.Errorf("encoding a session: %w", err)
	}
	return out.Bytes(), len(text), nil
}

// sealSession makes the token, at least atLeast octets long. Terms that are too large for a token are refused as the API does it.
func (d *Directory) sealSession(accessKeyID string, s *session, atLeast int) (string, error) {
	if s.secret.Len() != sessionSecretLen {
		return "", errors.New("sealing a session: malformed secret")
	}
	body, size, err := pack(&s.terms)
	if err != nil {
		return "", err
	}
	if size > maxTerms { // openToken would refuse it
		return "", tooLarge(size * 100 / maxTerms)
	}
	plain := make([]byte, sessionBodyAt, max(sessionBodyAt+len(body), base64.StdEncoding.DecodedLen(atLeast)))
	plain[0] = sessionVersion
	copy(plain[sessionSecretAt:], s.secret.Expose())
	binary.BigEndian.PutUint32(plain[sessionLengthAt:], uint32(len(body)))
	plain = append(plain, body...)
	plain = plain[:cap(plain)]
	blob, err := d.barrier.Encrypt(seal.Token, sessionData(accessKeyID), secret.Take(plain))
	clear(plain)
	if err != nil {
		return "", err
	}
	token := base64.StdEncoding.EncodeToString(blob)
	if len(token) > maxToken {
		return "", tooLarge(len(token) * 100 / maxToken)
	}
	return token, nil
}

// openToken returns the credential that a session token carries. The error is a *sigv4.Error.
func (d *Directory) openToken(accessKeyID, token string) (*credential, error) {
	if len(token) > maxToken || len(accessKeyID) > MaxAccessKeyID {
		return nil, sigv4.ErrUnknownCredential()
	}
	name := tokenName(accessKeyID, token)
	t, known := d.tokens.get(name)
	if !known {
		var ok bool
		if t, ok = d.openNew(accessKeyID, token); !ok {
			return nil, sigv4.ErrUnknownCredential()
		}
	}
	if !d.now().Before(t.expires) {
		return nil, sigv4.ErrExpiredToken()
	}
	if !known { // only what is genuine gets here: nobody else can push out what others use
		d.tokens.put(name, t)
	}
	return t.credential, nil
}

// openNew opens a token that is not remembered.
func (d *Directory) openNew(accessKeyID, token string) (*opened, bool) {
	blob, err := base64.StdEncoding.Strict().DecodeString(token)
	if err != nil {
		return nil, false
	}
	plain, err := d.barrier.Decrypt(seal.Token, sessionData(accessKeyID), blob)
	if err != nil {
		return nil, false
	}
	defer plain.Wipe()
	s, ok := parseSession(plain.Expose())
	if !ok {
		return nil, false
	}
	var inline *policy.Document
	if s.terms.Policy != "" {
		if inline, err = policy.Parse(policy.SessionPolicy, []byte(s.terms.Policy)); err != nil {
			return nil, false // it was checked before it was sealed; without it the session would be allowed too much
		}
	}
	return &opened{
		expires:    time.Unix(s.terms.Expires, 0).UTC(),
		credential: &credential{id: accessKeyID, account: s.terms.Account, secret: s.secret, resolve: s.terms.resolver(accessKeyID, inline)},
	}, true
}

// parseSession reads the plaintext of a token.
func parseSession(plain []byte) (s session, ok bool) {
	if len(plain) < sessionBodyAt || plain[0] != sessionVersion {
		return s, false
	}
	n := binary.BigEndian.Uint32(plain[sessionLengthAt:])
	body := plain[sessionBodyAt:]
	if uint64(n) > uint64(len(body)) {
		return s, false
	}
	text, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(body[:n])), maxTerms+1))
	if err != nil || len(text) > maxTerms {
		return s, false
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields() // a newer program's limit must not be overlooked
	if dec.Decode(&s.terms) != nil || !s.terms.valid() {
		return s, false
	}
	s.secret = secret.Copy(plain[sessionSecretAt:sessionLengthAt])
	return s, true
}

// valid reports whether the terms say all that they must.
func (t *terms) valid() bool {
	_, err := arn.ParseAccount(string(t.Account))
	if err != nil || t.ID == "" || t.Expires <= t.IssuedAt || len(t.Managed) != len(t.ManagedIDs) {
		return false
	}
	switch t.Kind {
	case rootSession, userSession:
		return t.Name == "" && t.limits.empty()
	case roleSession, federatedSession:
		return t.Name != ""
	}
	return false
}
