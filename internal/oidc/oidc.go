// Package oidc verifies the tokens of OpenID Connect providers (OpenID Connect Core 1.0 and Discovery 1.0; RFC 7515,
// 7517, 7519): it fetches a provider's keys over HTTPS, checks a token's signature and claims, and says what a token that
// passed claims.
//
// It trusts the certificate authorities of the system, or certificates that the provider's registration pins, to tell it
// whom it talks to, and the clock it is given. It trusts nothing in a token before its signature was verified, and never a
// key, an algorithm or an address that the token itself brings. It must never follow a redirect, never talk anything but
// HTTPS, and never let the bearer of a token make it fetch more than a little, seldom.
package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Provider is what an account has registered of an identity provider.
type Provider struct {
	URL         string   // the issuer, with https://
	ClientIDs   []string // audiences that its tokens may have here
	Thumbprints []string // SHA-1 of certificates that vouch for its server, forty hexadecimal digits each, in any letter case
}

// Config is what a Verifier needs.
type Config struct {
	Now func() time.Time // required
	// Roots are the certificate authorities that may vouch for providers. Nil means those of the system.
	Roots *x509.CertPool
	// Loopback lets providers be on this machine's loopback addresses, as in a development server. Without it an account's
	// administrator could have the server talk to what listens beside it.
	Loopback bool
}

// Limits of time and number.
const (
	keysLive   = time.Hour        // how long fetched keys are used: a key that its provider withdraws lives no longer
	fetchPause = 10 * time.Second // least time between two fetches from one provider, so that bad tokens cannot cause many
	maxCached  = 1000             // providers whose keys are remembered
)

// Verifier verifies tokens. It is safe for concurrent use.
type Verifier struct {
	now      func() time.Time
	roots    *x509.CertPool
	loopback bool

	mu     sync.Mutex // protects cached
	cached map[string]*source
}

// New returns a Verifier.
func New(c Config) *Verifier {
	return &Verifier{now: c.Now, roots: c.Roots, loopback: c.Loopback, cached: make(map[string]*source)}
}

// source is one provider's keys.
type source struct {
	known atomic.Pointer[keySet] // nil if keys never came

	turn    chan struct{} // holds one element while nobody looks at the fields below
	tried   time.Time     // of the last fetch, whatever became of it
	failure error         // of the last fetch
}

// keySet are keys and when they came. It is immutable.
type keySet struct {
	keys    []jose.JSONWebKey
	fetched time.Time
}

// withID returns the keys with an id, unless they are too old.
func (k *keySet) withID(id string, now time.Time) (found []jose.JSONWebKey, fresh bool) {
	if k == nil || now.Sub(k.fetched) >= keysLive {
		return nil, false
	}
	for _, key := range k.keys {
		if key.KeyID == id {
			found = append(found, key)
		}
	}
	return found, true
}

// source returns the remembered keys of a provider. Registrations that pin other certificates do not share them: what one
// trusts, another need not.
func (v *Verifier) source(p *Provider) *source {
	name := fmt.Sprintf("%q %q", p.URL, p.Thumbprints)
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.cached[name]
	if s != nil {
		return s
	}
	for other := range v.cached { // any: whichever goes is fetched again when it is used
		if len(v.cached) < maxCached {
			break
		}
		delete(v.cached, other)
	}
	s = &source{turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	v.cached[name] = s
	return s
}

// keys returns the provider's keys with that id, fetching them if they are not known or too old. An unknown id has them
// fetched again, because providers change their keys, but not more often than fetchPause allows.
func (v *Verifier) keys(ctx context.Context, p *Provider, id string) ([]jose.JSONWebKey, error) {
	s := v.source(p)
	if found, _ := s.known.Load().withID(id, v.now()); len(found) > 0 {
		return found, nil // without waiting for a fetch that somebody else's token has caused
	}
	select {
	case <-s.turn: // callers wait for one fetch instead of each making its own
	case <-ctx.Done():
		return nil, &Error{Fault: Unreachable, Detail: "waiting for the provider's keys: " + ctx.Err().Error()}
	}
	defer func() { s.turn <- struct{}{} }()
	now := v.now()
	found, fresh := s.known.Load().withID(id, now)
	if len(found) > 0 {
		return found, nil
	}
	if s.tried.IsZero() || now.Sub(s.tried) >= fetchPause {
		// Not ctx: who hangs up must not spoil the fetch for those who wait.
		keys, err := v.fetch(context.WithoutCancel(ctx), p)
		s.tried, s.failure = now, err
		if err == nil {
			s.known.Store(&keySet{keys, now})
			found, fresh = s.known.Load().withID(id, now)
		}
	}
	if s.failure != nil && !fresh {
		return nil, s.failure
	}
	if len(found) == 0 {
		return nil, &Error{Fault: NoKey, Detail: "the provider has no key with the token's id"}
	}
	return found, nil
}

// suits reports whether the key may have made signatures of the algorithm. Only public keys get this far, so that no text
// that everybody knows is ever taken for the secret of an HMAC.
func suits(k *jose.JSONWebKey, algorithm string) bool {
	if k.Use != "" && k.Use != "sig" || k.Algorithm != "" && k.Algorithm != algorithm {
		return false
	}
	switch key := k.Key.(type) {
	case *rsa.PublicKey:
		return algorithm[:2] == "RS" && key.N.BitLen() >= minRSA && key.N.BitLen() <= maxRSA
	case *ecdsa.PublicKey:
		return curves[algorithm] == key.Curve.Params().Name
	}
	return false
}

// The sizes of RSA keys that are taken: smaller ones can be broken, greater ones keep the server busy.
const minRSA, maxRSA = 2048, 8192

// curves has the curve that belongs to each ECDSA algorithm (RFC 7518, section 3.4).
var curves = map[string]string{"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}

// algorithms are those that STS takes ("Create an OpenID Connect identity provider", IAM user guide). Neither "none" nor
// an HMAC is among them.
var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512}
