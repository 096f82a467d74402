package oidc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/keywright/keywright/internal/oidc"
	"github.com/keywright/keywright/internal/oidc/oidctest"
)

// world is a verifier beside a provider, with a clock that the test moves.
type world struct {
	t        *testing.T
	now      time.Time
	provider *oidctest.Provider
	verifier *oidc.Verifier
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, now: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)}
	w.provider = oidctest.New(t, w.clock)
	w.verifier = oidc.New(oidc.Config{Now: w.clock, Roots: w.provider.Roots, Loopback: true})
	return w
}

func (w *world) clock() time.Time { return w.now }

func (w *world) registered() oidc.Provider {
	return oidc.Provider{URL: w.provider.URL, ClientIDs: []string{"other", oidctest.Client}}
}

func (w *world) verify(token string) (*oidc.Claims, error) {
	return w.verifier.Verify(context.Background(), w.registered(), token)
}

func (w *world) want(what string, fault oidc.Fault, token string) {
	w.t.Helper()
	claims, err := w.verify(token)
	if oidc.FaultOf(err) != fault || claims != nil {
		w.t.Errorf("%s: %v, %v; want fault %d", what, claims, err, fault)
	}
}

func TestGoodTokens(t *testing.T) {
	w := newWorld(t)
	p := w.provider
	claims, err := w.verify(p.Token(map[string]any{"email": "a@example.com", "amr": []string{"pwd", "otp"}}))
	if err != nil {
		t.Fatal(err)
	}
	if claims.Issuer != p.URL || claims.Subject != oidctest.Subject || claims.Client != oidctest.Client || claims.Party || claims.Email != "a@example.com" ||
		len(claims.AMR) != 2 || !claims.Expires.Equal(w.now.Add(time.Hour)) || !claims.IssuedAt.Equal(w.now) {
		t.Errorf("%+v", claims)
	}
	for what, token := range map[string]string{
		"ES256":                     p.Sign(jose.ES256, "ec", p.EC, p.Claims(nil)),
		"RS384":                     p.Sign(jose.RS384, "rsa", p.RSA, p.Claims(nil)),
		"RS512":                     p.Sign(jose.RS512, "rsa", p.RSA, p.Claims(nil)),
		"a list of audiences":       p.Token(map[string]any{"aud": []string{"stranger", oidctest.Client}}),
		"an authorized party":       p.Token(map[string]any{"aud": "stranger", "azp": oidctest.Client}),
		"a clock a little ahead":    p.Token(map[string]any{"iat": w.now.Add(30 * time.Second).Unix()}),
		"a fraction":                p.Token(map[string]any{"exp": float64(w.now.Unix()) + 0.5}),
		"not before now":            p.Token(map[string]any{"nbf": w.now.Unix()}),
		"claims that nobody knows":  p.Token(map[string]any{"Sub": "mallory", "ISS": "x", "x": []int{1}}),
		"an e-mail that is no text": p.Token(map[string]any{"email": 1, "amr": 2}),
	} {
		claims, err := w.verify(token)
		if err != nil || claims.Subject != oidctest.Subject || claims.Client != oidctest.Client {
			t.Errorf("%s: %+v, %v", what, claims, err)
		}
	}
	if n := p.Fetches.Load(); n != 2 {
		t.Errorf("%d fetches for tokens of one provider", n)
	}
}

func TestTags(t *testing.T) {
	w := newWorld(t)
	const tags = "https://aws.amazon.com/tags"
	claims, err := w.verify(w.provider.Token(map[string]any{
		tags:                                     map[string]any{"principal_tags": map[string]any{"team": []string{"red"}, "stage": "test"}, "transitive_tag_keys": []string{"team"}},
		"https://aws.amazon.com/source_identity": "alice",
	}))
	if err != nil || len(claims.Tags) != 2 || claims.Tags["team"] != "red" || claims.Tags["stage"] != "test" || len(claims.Transitive) != 1 || claims.SourceIdentity != "alice" {
		t.Errorf("%+v, %v", claims, err)
	}
	for _, bad := range []any{1, map[string]any{"principal_tags": 1}, map[string]any{"principal_tags": map[string]any{"a": []string{"b", "c"}}}, map[string]any{"transitive_tag_keys": "team"}} {
		w.want("bad tags", oidc.MissingClaim, w.provider.Token(map[string]any{tags: bad}))
	}
	w.want("a bad source identity", oidc.MissingClaim, w.provider.Token(map[string]any{"https://aws.amazon.com/source_identity": 1}))
}

func TestRefusedClaims(t *testing.T) {
	w := newWorld(t)
	token := w.provider.Token
	w.want("expired", oidc.Expired, token(map[string]any{"exp": w.now.Unix()}))
	w.want("not yet valid", oidc.WrongTime, token(map[string]any{"nbf": w.now.Add(2 * time.Minute).Unix()}))
	w.want("issued in the future", oidc.WrongTime, token(map[string]any{"iat": w.now.Add(2 * time.Minute).Unix()}))
	w.want("another audience", oidc.WrongClient, token(map[string]any{"aud": "stranger"}))
	w.want("no audience that is registered", oidc.WrongClient, token(map[string]any{"aud": []string{"stranger", "neighbour"}}))
	w.want("another authorized party", oidc.WrongClient, token(map[string]any{"azp": "stranger"}))
	w.want("another issuer", oidc.WrongIssuer, token(map[string]any{"iss": w.provider.URL + "/"}))
	for _, claim := range []string{"iss", "sub", "aud", "exp", "iat"} {
		for what, value := range map[string]any{"without": nil, "of a wrong type": true, "null": json.RawMessage("null")} {
			_, err := w.verify(token(map[string]any{claim: value}))
			var e *oidc.Error
			if !errors.As(err, &e) || e.Fault != oidc.MissingClaim || e.Claim != claim {
				t.Errorf("%s %s: %v", what, claim, err)
			}
		}
	}
	w.want("a long subject", oidc.MissingClaim, token(map[string]any{"sub": strings.Repeat("a", 256)}))
	w.want("an endless exp", oidc.MissingClaim, token(map[string]any{"exp": 1e300}))
	w.want("a bad nbf", oidc.MissingClaim, token(map[string]any{"nbf": "soon"}))
	w.want("a bad azp", oidc.MissingClaim, token(map[string]any{"azp": 1}))
	if n := w.provider.Fetches.Load(); n != 0 {
		t.Errorf("%d fetches for tokens that no signature could save", n)
	}
}

func TestForgeries(t *testing.T) {
	w := newWorld(t)
	p := w.provider
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	strangeEC, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := p.Token(nil)
	parts := strings.Split(good, ".")
	other := strings.Split(p.Token(map[string]any{"sub": "mallory"}), ".")
	w.want("another's key", oidc.BadSignature, p.Sign(jose.RS256, "rsa", stranger, p.Claims(nil)))
	w.want("another's curve key", oidc.BadSignature, p.Sign(jose.ES256, "ec", strangeEC, p.Claims(nil)))
	w.want("an RSA signature under the id of a curve key", oidc.BadSignature, p.Sign(jose.RS256, "ec", p.RSA, p.Claims(nil)))
	w.want("other claims", oidc.BadSignature, parts[0]+"."+other[1]+"."+parts[2])
	w.want("no signature", oidc.BadSignature, parts[0]+"."+parts[1]+".")
	w.want("an unknown id", oidc.NoKey, p.Sign(jose.RS256, "nobody", p.RSA, p.Claims(nil)))
	w.want("no id", oidc.NotToken, p.Sign(jose.RS256, "", p.RSA, p.Claims(nil)))
	w.want("PSS, which STS does not take", oidc.NotToken, p.Sign(jose.PS256, "rsa", p.RSA, p.Claims(nil)))
	for _, none := range []string{"none", "None", "NONE", ""} {
		w.want("the algorithm "+none, oidc.NotToken, p.Unsigned(map[string]any{"alg": none, "kid": "rsa"}, p.Claims(nil), nil))
	}
	// The public key of the provider as the secret of an HMAC, in the forms that an attacker would try.
	der, err := x509.MarshalPKIXPublicKey(p.RSA.Public())
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range [][]byte{der, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), x509.MarshalPKCS1PublicKey(&p.RSA.PublicKey)} {
		text := p.Unsigned(map[string]any{"alg": "HS256", "kid": "rsa"}, p.Claims(nil), nil)
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(strings.TrimSuffix(text, ".")))
		w.want("an HMAC with the public key", oidc.NotToken, p.Unsigned(map[string]any{"alg": "HS256", "kid": "rsa"}, p.Claims(nil), mac.Sum(nil)))
	}
	// A key that the token brings along.
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{KeyID: "rsa", Key: stranger}}, &jose.SignerOptions{EmbedJWK: true})
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(p.Claims(nil))
	signed, err := signer.Sign(text)
	if err != nil {
		t.Fatal(err)
	}
	embedded, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.verify(embedded); err == nil {
		t.Error("a key that the token brought was taken")
	}
	for _, bad := range []string{"", ".", "..", "a.b.c", parts[0] + "." + parts[1], good + ".x", good[1:], strings.Repeat("a", oidc.MaxToken+1), `{"payload":""}`} {
		w.want("no token: "+bad[:min(len(bad), 20)], oidc.NotToken, bad)
	}
	if issuer, err := oidc.Issuer(good); err != nil || issuer != p.URL {
		t.Errorf("%s, %v", issuer, err)
	}
	if _, err := oidc.Issuer("x"); oidc.FaultOf(err) != oidc.NotToken {
		t.Error(err)
	}
}

func TestKeySets(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		about string
		want  oidc.Fault
		serve func(w *world) (discovery, keys http.HandlerFunc)
	}{
		{"no discovery document", oidc.NoKey, func(*world) (http.HandlerFunc, http.HandlerFunc) { return http.NotFound, nil }},
		{"a server that is down", oidc.Unreachable, func(*world) (http.HandlerFunc, http.HandlerFunc) { return status(503), nil }},
		{"a redirect", oidc.Unreachable, func(w *world) (http.HandlerFunc, http.HandlerFunc) {
			return func(rw http.ResponseWriter, r *http.Request) {
				http.Redirect(rw, r, w.provider.URL+"/elsewhere", http.StatusFound)
			}, nil
		}},
		{"no JSON", oidc.NoKey, func(*world) (http.HandlerFunc, http.HandlerFunc) { return text("<html>"), nil }},
		{"null", oidc.NoKey, func(*world) (http.HandlerFunc, http.HandlerFunc) { return text("null"), nil }},
		{"another issuer's document", oidc.NoKey, func(w *world) (http.HandlerFunc, http.HandlerFunc) {
			return text(`{"issuer":"https://example.com","jwks_uri":"` + w.provider.URL + `/keys"}`), nil
		}},
		{"no address of keys", oidc.NoKey, func(w *world) (http.HandlerFunc, http.HandlerFunc) {
			return text(`{"issuer":"` + w.provider.URL + `"}`), nil
		}},
		{"keys over plain HTTP", oidc.NoKey, func(w *world) (http.HandlerFunc, http.HandlerFunc) {
			return text(`{"issuer":"` + w.provider.URL + `","jwks_uri":"http` + strings.TrimPrefix(w.provider.URL, "https") + `/keys"}`), nil
		}},
		{"keys from a file", oidc.NoKey, func(w *world) (http.HandlerFunc, http.HandlerFunc) {
			return text(`{"issuer":"` + w.provider.URL + `","jwks_uri":"file:///etc/passwd"}`), nil
		}},
		{"keys from the metadata of a machine", oidc.Unreachable, func(w *world) (http.HandlerFunc, http.HandlerFunc) {
			return text(`{"issuer":"` + w.provider.URL + `","jwks_uri":"https://169.254.169.254/keys"}`), nil
		}},
		{"a document without end", oidc.NoKey, func(*world) (http.HandlerFunc, http.HandlerFunc) { return endless, nil }},
		{"keys without end", oidc.NoKey, func(*world) (http.HandlerFunc, http.HandlerFunc) { return nil, endless }},
		{"no list of keys", oidc.NoKey, func(*world) (http.HandlerFunc, http.HandlerFunc) { return nil, text(`{}`) }},
		{"no keys", oidc.NoKey, func(*world) (http.HandlerFunc, http.HandlerFunc) { return nil, text(`{"keys":[]}`) }},
		{"too many keys", oidc.NoKey, func(*world) (http.HandlerFunc, http.HandlerFunc) {
			return nil, text(`{"keys":[` + strings.TrimSuffix(strings.Repeat(`{},`, 201), ",") + `]}`)
		}},
		{"a key for encryption", oidc.BadSignature, func(w *world) (http.HandlerFunc, http.HandlerFunc) {
			return nil, keys(jose.JSONWebKey{KeyID: "rsa", Key: w.provider.RSA.Public(), Use: "enc"})
		}},
		{"a key for another algorithm", oidc.BadSignature, func(w *world) (http.HandlerFunc, http.HandlerFunc) {
			return nil, keys(jose.JSONWebKey{KeyID: "rsa", Key: w.provider.RSA.Public(), Algorithm: "RS512"})
		}},
		{"a secret key", oidc.NoKey, func(*world) (http.HandlerFunc, http.HandlerFunc) {
			return nil, keys(jose.JSONWebKey{KeyID: "rsa", Key: []byte("0123456789abcdef0123456789abcdef")})
		}},
		{"a small key", oidc.BadSignature, func(*world) (http.HandlerFunc, http.HandlerFunc) {
			return nil, keys(jose.JSONWebKey{KeyID: "rsa", Key: small.Public()})
		}},
		{"a private key is not for showing", oidc.NoKey, func(w *world) (http.HandlerFunc, http.HandlerFunc) {
			return nil, keys(jose.JSONWebKey{KeyID: "rsa", Key: w.provider.RSA})
		}},
	} {
		t.Run(c.about, func(t *testing.T) {
			w := newWorld(t)
			w.provider.Discovery, w.provider.Keys = c.serve(w)
			w.want(c.about, c.want, w.provider.Token(nil))
		})
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func text(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(s)) }
}

func keys(list ...jose.JSONWebKey) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: list})
	}
}

func endless(w http.ResponseWriter, r *http.Request) {
	for r.Context().Err() == nil {
		if _, err := w.Write([]byte(strings.Repeat(" ", 4096))); err != nil {
			return
		}
	}
}

func TestCertificates(t *testing.T) {
	w := newWorld(t)
	ca, leaf := oidctest.Thumbprint(w.provider.CA), oidctest.Thumbprint(w.provider.Leaf)
	neighbour := oidctest.New(t, w.clock)
	for _, c := range []struct {
		about       string
		roots       *x509.CertPool
		thumbprints []string
		want        oidc.Fault
	}{
		{"an authority that is trusted", w.provider.Roots, nil, 0},
		{"an authority that is trusted, whatever is pinned", w.provider.Roots, []string{oidctest.Thumbprint(neighbour.CA)}, 0},
		{"the authority is pinned", neighbour.Roots, []string{ca}, 0},
		{"in capitals", neighbour.Roots, []string{strings.ToUpper(ca)}, 0},
		{"the server's certificate is pinned", neighbour.Roots, []string{strings.Repeat("0", 40), leaf}, 0},
		{"nothing is pinned", neighbour.Roots, nil, oidc.Untrusted},
		{"another's authority is pinned", x509.NewCertPool(), []string{oidctest.Thumbprint(neighbour.CA), oidctest.Thumbprint(neighbour.Leaf)}, oidc.Untrusted},
	} {
		w.verifier = oidc.New(oidc.Config{Now: w.clock, Roots: c.roots, Loopback: true})
		registered := w.registered()
		registered.Thumbprints = c.thumbprints
		if _, err := w.verifier.Verify(context.Background(), registered, w.provider.Token(nil)); oidc.FaultOf(err) != c.want {
			t.Errorf("%s: %v", c.about, err)
		}
	}
	for what, ago := range map[string]time.Duration{"an expired certificate": -48 * time.Hour, "one that is not valid yet": time.Hour} {
		p := oidctest.Start(t, w.clock, w.now.Add(ago), w.now.Add(ago+time.Hour))
		v := oidc.New(oidc.Config{Now: w.clock, Roots: p.Roots, Loopback: true})
		registered := oidc.Provider{URL: p.URL, ClientIDs: []string{oidctest.Client}, Thumbprints: []string{oidctest.Thumbprint(p.Leaf), oidctest.Thumbprint(p.CA)}}
		if _, err := v.Verify(context.Background(), registered, p.Token(nil)); oidc.FaultOf(err) != oidc.Untrusted {
			t.Errorf("%s: %v", what, err)
		}
	}
	// The name counts: a certificate for 127.0.0.1 is none for localhost.
	elsewhere := strings.Replace(w.provider.URL, "127.0.0.1", "localhost", 1)
	v := oidc.New(oidc.Config{Now: w.clock, Roots: w.provider.Roots, Loopback: true})
	registered := oidc.Provider{URL: elsewhere, ClientIDs: []string{oidctest.Client}, Thumbprints: []string{ca, leaf}}
	if _, err := v.Verify(context.Background(), registered, w.provider.Token(map[string]any{"iss": elsewhere})); oidc.FaultOf(err) != oidc.Untrusted {
		t.Errorf("another name: %v", err)
	}
}

func TestLoopbackIsForDevelopment(t *testing.T) {
	w := newWorld(t)
	w.verifier = oidc.New(oidc.Config{Now: w.clock, Roots: w.provider.Roots})
	w.want("a provider beside the server", oidc.Unreachable, w.provider.Token(nil))
	if n := w.provider.Fetches.Load(); n != 0 {
		t.Errorf("%d requests went out", n)
	}
}

// Keys are fetched when they are needed, and bad tokens cannot have them fetched all the time.
func TestFetches(t *testing.T) {
	w := newWorld(t)
	p := w.provider
	verify := func(token string, fault oidc.Fault, fetches int64) {
		t.Helper()
		p.Fetches.Store(0)
		if _, err := w.verify(token); oidc.FaultOf(err) != fault || p.Fetches.Load() != fetches {
			t.Errorf("%v after %d requests, want fault %d after %d", err, p.Fetches.Load(), fault, fetches)
		}
	}
	long := map[string]any{"exp": w.now.Add(24 * time.Hour).Unix()}
	verify(p.Token(long), 0, 2)
	verify(p.Token(long), 0, 0)
	verify(p.Sign(jose.RS256, "new", p.RSA, p.Claims(long)), oidc.NoKey, 0) // just fetched
	p.Keys = keys(jose.JSONWebKey{KeyID: "new", Key: p.RSA.Public()})
	w.now = w.now.Add(10 * time.Second)
	verify(p.Sign(jose.RS256, "new", p.RSA, p.Claims(long)), 0, 2) // changed keys are found
	verify(p.Token(long), oidc.NoKey, 0)                           // and the old one is gone
	p.Discovery = status(500)
	w.now = w.now.Add(time.Minute)
	verify(p.Sign(jose.RS256, "new", p.RSA, p.Claims(long)), 0, 0)            // a provider that is down costs nothing at first
	verify(p.Sign(jose.RS256, "newer", p.RSA, p.Claims(long)), oidc.NoKey, 1) // though a new key is not found
	w.now = w.now.Add(time.Hour)
	verify(p.Sign(jose.RS256, "new", p.RSA, p.Claims(long)), oidc.Unreachable, 1) // but then it does
	verify(p.Sign(jose.RS256, "new", p.RSA, p.Claims(long)), oidc.Unreachable, 0)
	p.Discovery = nil
	w.now = w.now.Add(10 * time.Second)
	verify(p.Sign(jose.RS256, "new", p.RSA, p.Claims(long)), 0, 2)
}

func TestOneFetchForMany(t *testing.T) {
	w := newWorld(t)
	token := w.provider.Token(nil)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := w.verify(token); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := w.provider.Fetches.Load(); n != 2 {
		t.Errorf("%d requests", n)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	w.verifier = oidc.New(oidc.Config{Now: w.clock, Roots: w.provider.Roots, Loopback: true})
	if _, err := w.verifier.Verify(ctx, w.registered(), token); err != nil && oidc.FaultOf(err) != oidc.Unreachable {
		t.Errorf("who hung up: %v", err)
	}
	if _, err := w.verify(token); err != nil {
		t.Errorf("after somebody hung up: %v", err)
	}
}

// FuzzVerify brings arbitrary tokens to a provider's keys: what is taken says what the provider signed.
func FuzzVerify(f *testing.F) {
	now := func() time.Time { return time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC) }
	p := oidctest.New(f, now)
	v := oidc.New(oidc.Config{Now: now, Roots: p.Roots, Loopback: true})
	registered := oidc.Provider{URL: p.URL, ClientIDs: []string{oidctest.Client}}
	good := p.Token(nil)
	f.Add(good)
	f.Add(p.Sign(jose.ES256, "ec", p.EC, p.Claims(nil)))
	f.Add(p.Unsigned(map[string]any{"alg": "none", "kid": "rsa"}, p.Claims(nil), nil))
	f.Add(p.Unsigned(map[string]any{"alg": "HS256", "kid": "rsa"}, p.Claims(nil), []byte("x")))
	f.Fuzz(func(t *testing.T, token string) {
		claims, err := v.Verify(t.Context(), registered, token)
		if err == nil && (claims.Subject != oidctest.Subject || claims.Issuer != p.URL || claims.Client != oidctest.Client) {
			t.Errorf("%q: %+v", token, claims)
		}
		if err != nil && (claims != nil || oidc.FaultOf(err) == 0) {
			t.Errorf("%q: %v %v", token, claims, err)
		}
	})
}
