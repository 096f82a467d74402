// Package oidctest runs a real OpenID Connect provider on this machine for tests: HTTPS with a certificate authority of its
// own, a discovery document, a key set and tokens signed in whatever way a test wants them.
//
// It is for tests only and trusts them. It must never be linked into the program.
package oidctest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" // thumbprints of the IAM API are SHA-1
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"log"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Client is the audience of the tokens of a Provider.
const Client = "keywright-test"

// Subject is whom the tokens of a Provider are about.
const Subject = "somebody"

// Provider is a running identity provider.
type Provider struct {
	URL     string // the issuer
	Roots   *x509.CertPool
	CA      *x509.Certificate
	Leaf    *x509.Certificate
	Fetches atomic.Int64 // requests answered

	// Discovery and Keys are what the provider serves. A test may replace them; nil serves the truth.
	Discovery, Keys http.HandlerFunc

	RSA *rsa.PrivateKey   // its id is "rsa"
	EC  *ecdsa.PrivateKey // P-256; its id is "ec"

	t      testing.TB
	now    func() time.Time
	server *httptest.Server
}

// New starts a provider that ends with the test. The certificates are valid for a day around now.
func New(t testing.TB, now func() time.Time) *Provider {
	t.Helper()
	return Start(t, now, now().Add(-12*time.Hour), now().Add(12*time.Hour))
}

// Start is New with another validity of the server's certificate.
func Start(t testing.TB, now func() time.Time, from, until time.Time) *Provider {
	t.Helper()
	p := &Provider{t: t, now: now, Roots: x509.NewCertPool()}
	var err error
	if p.RSA, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	p.EC = p.newEC()
	caKey, leafKey := p.newEC(), p.newEC()
	p.CA = p.issue(&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "oidctest CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: now().Add(-24 * time.Hour), NotAfter: now().Add(24 * time.Hour),
	}, nil, caKey, caKey)
	p.Leaf = p.issue(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "oidctest"}, NotBefore: from, NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, p.CA, leafKey, caKey)
	p.Roots.AddCert(p.CA)
	p.server = httptest.NewUnstartedServer(http.HandlerFunc(p.serve))
	p.server.Config.ErrorLog = log.New(io.Discard, "", 0) // tests break handshakes on purpose
	p.server.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{p.Leaf.Raw, p.CA.Raw}, PrivateKey: leafKey}}}
	p.server.StartTLS()
	t.Cleanup(p.server.Close)
	p.URL = p.server.URL
	return p
}

func (p *Provider) newEC() *ecdsa.PrivateKey {
	p.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	return k
}

func (p *Provider) issue(template, parent *x509.Certificate, subject, issuer *ecdsa.PrivateKey) *x509.Certificate {
	p.t.Helper()
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, subject.Public(), issuer)
	if err != nil {
		p.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

// Thumbprint returns the SHA-1 of a certificate, as CreateOpenIDConnectProvider wants it.
func Thumbprint(c *x509.Certificate) string {
	sum := sha1.Sum(c.Raw) // as above
	return hex.EncodeToString(sum[:])
}

func (p *Provider) serve(w http.ResponseWriter, r *http.Request) {
	p.Fetches.Add(1)
	switch {
	case r.URL.Path == "/.well-known/openid-configuration" && p.Discovery != nil:
		p.Discovery(w, r)
	case r.URL.Path == "/.well-known/openid-configuration":
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": p.URL, "jwks_uri": p.URL + "/keys"})
	case r.URL.Path == "/keys" && p.Keys != nil:
		p.Keys(w, r)
	case r.URL.Path == "/keys":
		_ = json.NewEncoder(w).Encode(p.KeySet())
	default:
		http.NotFound(w, r)
	}
}

// KeySet returns the public keys.
func (p *Provider) KeySet() jose.JSONWebKeySet {
	return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
		{KeyID: "rsa", Key: p.RSA.Public(), Use: "sig"}, {KeyID: "ec", Key: p.EC.Public(), Use: "sig", Algorithm: "ES256"},
	}}
}

// Claims returns good claims with changes laid over them; a nil value removes a claim.
func (p *Provider) Claims(changes map[string]any) map[string]any {
	now := p.now()
	claims := map[string]any{
		"iss": p.URL, "sub": Subject, "aud": Client, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	}
	maps.Copy(claims, changes)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	return claims
}

// Token returns a token with Claims(changes), signed with the RSA key.
func (p *Provider) Token(changes map[string]any) string {
	p.t.Helper()
	return p.Sign(jose.RS256, "rsa", p.RSA, p.Claims(changes))
}

// Sign returns a token signed by a key of the test's choice, under a key id of its choice.
func (p *Provider) Sign(algorithm jose.SignatureAlgorithm, id string, key any, claims map[string]any) string {
	p.t.Helper()
	options := (&jose.SignerOptions{}).WithType("JWT")
	if id != "" {
		options = options.WithHeader("kid", id)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, options)
	if err != nil {
		p.t.Fatal(err)
	}
	text, err := json.Marshal(claims)
	if err != nil {
		p.t.Fatal(err)
	}
	signed, err := signer.Sign(text)
	if err != nil {
		p.t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		p.t.Fatal(err)
	}
	return token
}

// Unsigned returns a token with the header of a test's choice and whatever it wants for a signature.
func (p *Provider) Unsigned(header, claims map[string]any, signature []byte) string {
	p.t.Helper()
	part := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			p.t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	return part(header) + "." + part(claims) + "." + base64.RawURLEncoding.EncodeToString(signature)
}
