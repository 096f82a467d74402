package oidc

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// MaxToken is how long a token may be, in octets (webIdentityToken of the STS API has 20,000 characters).
const MaxToken = 20_000

// maxSubject is how long sub may be (OpenID Connect Core 1.0, section 2).
const maxSubject = 255

// skew is how far a provider's clock may be ahead. The end of a token is not stretched.
const skew = time.Minute

// Claims are what a verified token says.
type Claims struct {
	Issuer  string
	Subject string
	// Client is the registered client that the token is for: azp where the token has it, else the one of aud that is
	// registered.
	Client   string
	Audience []string // aud as it stands in the token
	Party    bool     // whether the token has azp
	Email    string   // empty if there is none
	AMR      []string // authentication methods references; nil if there are none

	IssuedAt, Expires time.Time

	Tags           map[string]string // principal tags that the provider asks for; nil for none
	Transitive     []string          // those of them that chained sessions inherit
	SourceIdentity string            // empty if the provider asks for none
}

// The claims with which a provider asks for session tags and a source identity ("Pass session tags in AWS STS", IAM user
// guide).
const (
	tagsClaim   = "https://aws.amazon.com/tags"
	sourceClaim = "https://aws.amazon.com/source_identity"
)

// Issuer returns whom a token claims to be from, unverified: to find the provider that can verify it.
func Issuer(token string) (string, error) {
	_, claims, err := split(token)
	if err != nil {
		return "", err
	}
	return claims.text("iss")
}

// Verify checks a token of the provider: its signature by one of the provider's keys, and its claims. The error is an
// *Error.
func (v *Verifier) Verify(ctx context.Context, p Provider, token string) (*Claims, error) {
	signed, unverified, err := split(token)
	if err != nil {
		return nil, err
	}
	// The claims are looked at first, though nothing vouches for them yet: what they refuse needs no fetch.
	if _, err := v.claims(&p, unverified); err != nil {
		return nil, err
	}
	header := signed.Signatures[0].Header
	if header.KeyID == "" {
		return nil, &Error{Fault: NotToken, Detail: "the token names no key"}
	}
	keys, err := v.keys(ctx, &p, header.KeyID)
	if err != nil {
		return nil, err
	}
	for i := range keys {
		if !suits(&keys[i], header.Algorithm) {
			continue
		}
		payload, err := signed.Verify(keys[i].Key)
		if err != nil {
			continue
		}
		claims, err := readClaims(payload) // of what was signed, whatever was read before
		if err != nil {
			return nil, err
		}
		return v.claims(&p, claims)
	}
	return nil, &Error{Fault: BadSignature, Detail: "no key of the provider verifies the signature"}
}

// members are the claims of a token by name.
type members map[string]json.RawMessage

// split reads a token in the compact form. Nothing of what it returns is verified.
func split(token string) (*jose.JSONWebSignature, members, error) {
	if len(token) > MaxToken {
		return nil, nil, &Error{Fault: NotToken, Detail: "the token is too long"}
	}
	signed, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil {
		return nil, nil, &Error{Fault: NotToken, Detail: "reading the token", Err: err}
	}
	_, payload, _ := strings.Cut(token, ".")
	payload, _, _ = strings.Cut(payload, ".")
	text, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return nil, nil, &Error{Fault: NotToken, Detail: "reading the token's claims", Err: err}
	}
	claims, err := readClaims(text)
	return signed, claims, err
}

func readClaims(text []byte) (members, error) {
	claims, err := readObject(text)
	if err != nil {
		return nil, &Error{Fault: NotToken, Detail: "reading the token's claims", Err: err}
	}
	return claims, nil
}

// claims checks the claims that every token must have, and picks out the others.
func (v *Verifier) claims(p *Provider, m members) (*Claims, error) {
	var c Claims
	var errs [5]error
	c.Issuer, errs[0] = m.text("iss")
	c.Subject, errs[1] = m.text("sub")
	c.Audience, errs[2] = m.audience()
	c.Expires, errs[3] = m.date("exp")
	c.IssuedAt, errs[4] = m.date("iat")
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	if len(c.Subject) > maxSubject {
		return nil, missing("sub")
	}
	now := v.now()
	if c.Issuer != p.URL {
		return nil, &Error{Fault: WrongIssuer, Detail: "the token is another issuer's"}
	}
	if !now.Before(c.Expires) {
		return nil, &Error{Fault: Expired, Expires: c.Expires, Detail: "the token is expired"}
	}
	start := c.IssuedAt
	if _, has := m["nbf"]; has {
		begin, err := m.date("nbf")
		if err != nil {
			return nil, err
		}
		if begin.After(start) {
			start = begin
		}
	}
	if now.Add(skew).Before(start) {
		return nil, &Error{Fault: WrongTime, Detail: "the token is not valid yet"}
	}
	if err := c.client(p, m); err != nil {
		return nil, err
	}
	if err := c.more(m); err != nil {
		return nil, err
	}
	return &c, nil
}

// client finds the registered client that the token is for.
func (c *Claims) client(p *Provider, m members) error {
	wanted := c.Audience
	if _, has := m["azp"]; has {
		party, err := m.text("azp")
		if err != nil {
			return err
		}
		wanted, c.Party = []string{party}, true
	}
	for _, w := range wanted {
		if slices.Contains(p.ClientIDs, w) {
			c.Client = w
			return nil
		}
	}
	return &Error{Fault: WrongClient, Detail: "the token is for another audience"}
}

// more reads the claims that a token may have.
func (c *Claims) more(m members) error {
	if json.Unmarshal(m["email"], &c.Email) != nil {
		c.Email = ""
	}
	if json.Unmarshal(m["amr"], &c.AMR) != nil {
		c.AMR = nil
	}
	if raw, has := m[sourceClaim]; has && json.Unmarshal(raw, &c.SourceIdentity) != nil {
		return &Error{Fault: MissingClaim, Claim: sourceClaim, Detail: "the source identity is no text"}
	}
	if raw, has := m[tagsClaim]; has {
		return c.readTags(raw)
	}
	return nil
}

// readTags reads {"principal_tags": {"key": ["value"]}, "transitive_tag_keys": ["key"]}. What cannot be read refuses the
// token: a session without a tag that its provider wanted could be allowed more.
func (c *Claims) readTags(raw []byte) error {
	bad := &Error{Fault: MissingClaim, Claim: tagsClaim, Detail: "the tags cannot be read"}
	m, err := readObject(raw)
	if err != nil {
		return bad
	}
	if r, has := m["principal_tags"]; has {
		var tags map[string]json.RawMessage
		if json.Unmarshal(r, &tags) != nil {
			return bad
		}
		c.Tags = make(map[string]string, len(tags))
		for k, value := range tags {
			var one string
			var list []string
			switch {
			case json.Unmarshal(value, &one) == nil:
			case json.Unmarshal(value, &list) == nil && len(list) == 1:
				one = list[0]
			default:
				return bad
			}
			c.Tags[k] = one
		}
	}
	if r, has := m["transitive_tag_keys"]; has && json.Unmarshal(r, &c.Transitive) != nil {
		return bad
	}
	return nil
}

func missing(claim string) *Error {
	return &Error{Fault: MissingClaim, Claim: claim, Detail: "the claim " + claim + " is missing or of a wrong type"}
}

// text returns a claim that must be a text, and not an empty one.
func (m members) text(name string) (string, error) {
	var s string
	if json.Unmarshal(m[name], &s) != nil || s == "" {
		return "", missing(name)
	}
	return s, nil
}

// audience returns aud, a text or a list of texts (RFC 7519, section 4.1.3).
func (m members) audience() ([]string, error) {
	if one, err := m.text("aud"); err == nil {
		return []string{one}, nil
	}
	var list []string
	if json.Unmarshal(m["aud"], &list) != nil || len(list) == 0 {
		return nil, missing("aud")
	}
	return list, nil
}

// date returns a NumericDate (RFC 7519, section 2): seconds, which may have a fraction.
func (m members) date(name string) (time.Time, error) {
	var seconds float64
	raw := m[name]
	if len(raw) == 0 || string(raw) == "null" || json.Unmarshal(raw, &seconds) != nil {
		return time.Time{}, missing(name)
	}
	whole, part := math.Modf(seconds)
	if math.Abs(whole) > 1<<40 {
		return time.Time{}, missing(name)
	}
	return time.Unix(int64(whole), int64(part*1e9)).UTC(), nil
}
