package oidc

import (
	"context"
	"crypto/fips140"
	"crypto/sha1" // the thumbprints of the IAM API are SHA-1; see pinned
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Limits of what is read from a provider. STS takes a hundred keys of each of the two kinds.
const (
	maxDocument  = 64 << 10  // octets of the discovery document
	maxKeySet    = 512 << 10 // octets of the key set
	maxKeys      = 200
	fetchTimeout = 5 * time.Second // for both documents
)

// wellKnown is where a discovery document lies below the issuer (OpenID Connect Discovery 1.0, section 4).
const wellKnown = "/.well-known/openid-configuration"

// fetch reads the provider's discovery document and the keys that it points at.
func (v *Verifier) fetch(ctx context.Context, p *Provider) ([]jose.JSONWebKey, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	text, err := v.get(ctx, p, strings.TrimSuffix(p.URL, "/")+wellKnown, maxDocument)
	if err != nil {
		return nil, err
	}
	address, err := readDiscovery(text, p.URL)
	if err != nil {
		return nil, &Error{Fault: NoKey, Detail: "reading the provider's discovery document", Err: err}
	}
	if text, err = v.get(ctx, p, address, maxKeySet); err != nil {
		return nil, err
	}
	keys, err := readKeySet(text)
	if err != nil {
		return nil, &Error{Fault: NoKey, Detail: "reading the provider's keys", Err: err}
	}
	return keys, nil
}

// readDiscovery returns the address of the keys. The document must be the issuer's own.
func readDiscovery(text []byte, issuer string) (string, error) {
	members, err := readObject(text)
	if err != nil {
		return "", err
	}
	var named, address string
	if json.Unmarshal(members["issuer"], &named) != nil || named != issuer {
		return "", errors.New("it is about another issuer")
	}
	if json.Unmarshal(members["jwks_uri"], &address) != nil || address == "" {
		return "", errors.New("it has no jwks_uri")
	}
	return address, nil
}

// readKeySet reads a JWK set (RFC 7517, section 5). What is no public RSA or ECDSA key is passed over: sets may hold keys
// for other purposes.
func readKeySet(text []byte) ([]jose.JSONWebKey, error) {
	members, err := readObject(text)
	if err != nil {
		return nil, err
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(members["keys"], &raw); err != nil {
		return nil, errors.New("it has no list of keys")
	}
	if len(raw) > maxKeys {
		return nil, fmt.Errorf("it has %d keys, and %d are taken", len(raw), maxKeys)
	}
	var keys []jose.JSONWebKey
	for _, r := range raw {
		var k jose.JSONWebKey
		if k.UnmarshalJSON(r) == nil && k.KeyID != "" && k.IsPublic() && k.Valid() {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

// readObject reads a JSON object without the leniency of struct decoding: names count with their letter case.
func readObject(text []byte) (map[string]json.RawMessage, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil || members == nil {
		return nil, errors.New("it is no JSON object")
	}
	return members, nil
}

var errRedirect = errors.New("a redirect, which is not followed")

// get reads one document of at most limit octets.
func (v *Verifier) get(ctx context.Context, p *Provider, address string, limit int64) ([]byte, error) {
	at, err := url.Parse(address)
	if err != nil || at.Scheme != "https" || at.Hostname() == "" || at.User != nil {
		return nil, &Error{Fault: NoKey, Detail: "the provider names an address that is not HTTPS"}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, &Error{Fault: NoKey, Detail: "asking the provider", Err: err}
	}
	req.Header.Set("Accept", "application/json")
	transport := v.transport(p, at.Hostname())
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return errRedirect }}
	resp, err := client.Do(req)
	if err != nil {
		var untrusted *untrustedError
		if errors.As(err, &untrusted) {
			return nil, &Error{Fault: Untrusted, Detail: "asking the provider", Err: err}
		}
		return nil, &Error{Fault: Unreachable, Detail: "asking the provider", Err: err}
	}
	defer func() { _ = resp.Body.Close() }() // all that matters was read
	if resp.StatusCode != http.StatusOK {
		fault := NoKey
		if resp.StatusCode >= 500 {
			fault = Unreachable
		}
		return nil, &Error{Fault: fault, Detail: fmt.Sprintf("the provider answers with status %d", resp.StatusCode)}
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return nil, &Error{Fault: Unreachable, Detail: "reading the provider's answer", Err: err}
	case int64(len(text)) > limit:
		return nil, &Error{Fault: NoKey, Detail: fmt.Sprintf("the provider answers with more than %d octets", limit)}
	}
	return text, nil
}

// transport makes connections for one fetch from the host. Proxies of the environment are not used.
func (v *Verifier) transport(p *Provider, host string) *http.Transport {
	dialer := net.Dialer{Control: func(_, address string, _ syscall.RawConn) error { return v.reachable(address) }}
	return &http.Transport{
		DialContext: dialer.DialContext, DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10,
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS12, Time: v.now,
			// Nothing goes unverified: VerifyConnection does it, because it may take a pinned certificate where no authority
			// of the system vouches for the server.
			InsecureSkipVerify: true, // see above
			VerifyConnection: func(state tls.ConnectionState) error {
				return v.trust(p, host, state.PeerCertificates)
			},
		},
	}
}

// reachable refuses addresses that no provider can have: those of this machine (unless allowed) and of its link, where
// clouds keep the credentials of machines. It sees what was resolved, so that no name gets around it.
func (v *Verifier) reachable(address string) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("the address %s: %w", address, err)
	}
	ip := at.Addr().Unmap()
	switch {
	case ip.IsLoopback():
		if v.loopback {
			return nil
		}
	case !ip.IsUnspecified() && !ip.IsLinkLocalUnicast() && !ip.IsMulticast():
		return nil
	}
	return fmt.Errorf("the address %s is none that a provider may have", ip)
}

// untrustedError marks a server whose certificate nothing vouches for.
type untrustedError struct{ err error }

func (e *untrustedError) Error() string { return e.err.Error() }

// trust verifies the chain of a provider's server, as STS does: an authority of the system vouches for it, or else a
// certificate of the chain that the registration names by its thumbprint. Name and validity count in either case.
func (v *Verifier) trust(p *Provider, host string, chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return &untrustedError{errors.New("the server has no certificate")}
	}
	options := x509.VerifyOptions{DNSName: host, Roots: v.roots, Intermediates: x509.NewCertPool(), CurrentTime: v.now()}
	for _, c := range chain[1:] {
		options.Intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(options)
	if err == nil {
		return nil
	}
	for _, c := range chain {
		if !pinned(c, p.Thumbprints) {
			continue
		}
		// It stands in for a root: the chain up to it must hold, and an end entity's certificate vouches for itself only.
		options.Roots = x509.NewCertPool()
		options.Roots.AddCert(c)
		if _, err = chain[0].Verify(options); err == nil {
			return nil
		}
	}
	return &untrustedError{fmt.Errorf("verifying the server's certificate: %w", err)}
}

// pinned reports whether a thumbprint is the certificate's. That SHA-1 has collisions does not help anybody: a stranger
// would have to meet a given hash, and the certificate must still sign the chain.
func pinned(c *x509.Certificate, thumbprints []string) bool {
	if fips140.Enforced() { // where SHA-1 is forbidden, only authorities of the system vouch
		return false
	}
	sum := sha1.Sum(c.Raw) // see above
	text := hex.EncodeToString(sum[:])
	return slices.ContainsFunc(thumbprints, func(t string) bool { return strings.EqualFold(t, text) })
}
