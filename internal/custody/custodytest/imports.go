package custodytest

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/custody"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
	"github.com/keywright/keywright/internal/keywrap"
)

// wrapAES256 is the WrappingAlgorithm for private keys of any length.
const wrapAES256 = "RSA_AES_KEY_WRAP_SHA_256"

// waiting returns a key of a spec that waits for its material.
func waiting(s key.Spec) *key.Key {
	return &key.Key{
		Name: key.Name{Account: "111122223333", Region: "us-east-1", ID: arn.NewKeyID(false)},
		Spec: s, Origin: key.OriginExternal, State: key.PendingImport,
	}
}

// parameters makes a wrapping key for material of k.
func parameters(t *testing.T, c *custody.Custody, k *key.Key, w custody.Wrapping, until time.Time) (keyspec.Public, []byte) {
	t.Helper()
	public, token, err := c.WrappingKey(t.Context(), permit(t, k.Name, guard.UseImport), k, w, until)
	if err != nil {
		t.Fatal(err)
	}
	if len(token) > custody.MaxToken {
		t.Errorf("a token of %d octets for %v", len(token), w)
	}
	pair, err := keyspec.ParsePublic(w.Spec, public)
	if err != nil {
		t.Fatal(err)
	}
	return pair, token
}

func wrap(t *testing.T, algorithm string, to keyspec.Public, octets []byte) []byte {
	t.Helper()
	blob, err := keywrap.Wrap(algorithm, to, octets)
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

// imports takes in material of every spec under one wrapping, and one material under every wrapping.
func imports(t *testing.T, open func(*testing.T) custody.Engine) {
	c, now := custody.New(open(t)), time.Now()
	cases := map[key.Spec]custody.Wrapping{}
	for _, r := range keyspec.All() {
		if r.Importable && r.Spec != keyspec.RSA3072 && r.Spec != keyspec.RSA4096 { // which take seconds to make
			cases[r.Spec] = custody.Wrapping{Algorithm: wrapAES256, Spec: keyspec.RSA2048}
		}
	}
	cases[key.SymmetricDefault] = custody.Wrapping{Algorithm: "RSAES_OAEP_SHA_1", Spec: keyspec.RSA4096}
	cases[keyspec.P521] = custody.Wrapping{Algorithm: "RSAES_OAEP_SHA_256", Spec: keyspec.RSA3072}
	cases[keyspec.P256] = custody.Wrapping{Algorithm: "RSA_AES_KEY_WRAP_SHA_1", Spec: keyspec.RSA2048}
	if keyspec.Of(keyspec.SM2) != nil && keyspec.Allowed(keyspec.SM2) {
		cases[keyspec.SM2] = custody.Wrapping{Algorithm: "SM2PKE", Spec: keyspec.SM2}
	}
	for spec, w := range cases {
		made, err := keyspec.Generate(spec)
		if err != nil {
			t.Fatal(err)
		}
		k := waiting(spec)
		to, token := parameters(t, c, k, w, now.Add(time.Hour))
		blob := wrap(t, w.Algorithm, to, made.Octets().Expose())
		p := permit(t, k.Name, guard.UseTakeIn)
		m, err := c.Import(t.Context(), p, k, token, blob, now)
		if err != nil {
			t.Errorf("%s by %v: %v", spec, w, err)
			continue
		}
		if made.Public() != nil && !bytes.Equal(m.Public, made.Public().SPKI()) || made.Public() == nil && m.Public != nil {
			t.Errorf("%s has another public key", spec)
		}
		again, err := c.Import(t.Context(), p, k, token, wrap(t, w.Algorithm, to, made.Octets().Expose()), now)
		if err != nil || again.ID != m.ID || len(m.ID) != 64 || len(m.Wrapped) == 0 || m.State != key.Current || !m.CreatedAt.Equal(now) {
			t.Errorf("%s again: %v, ids %s and %s", spec, err, m.ID, again.ID)
		}
		if _, err := c.Import(t.Context(), p, k, token, wrap(t, w.Algorithm, to, []byte("no key")), now); !errors.Is(err, custody.ErrImportMaterial) {
			t.Errorf("%s: what is no key: %v", spec, err)
		}
	}
}

// importTokens are for one key and one wrapping, and for a time.
func importTokens(t *testing.T, open func(*testing.T) custody.Engine) {
	c, now := custody.New(open(t)), time.Now()
	w := custody.Wrapping{Algorithm: "RSAES_OAEP_SHA_256", Spec: keyspec.RSA2048}
	k, other := waiting(key.SymmetricDefault), waiting(key.SymmetricDefault)
	to, token := parameters(t, c, k, w, now.Add(time.Hour))
	blob := wrap(t, w.Algorithm, to, bytes.Repeat([]byte{1}, 32))
	use := func(k *key.Key, token, blob []byte, at time.Time) error {
		_, err := c.Import(t.Context(), permit(t, k.Name, guard.UseTakeIn), k, token, blob, at)
		return err
	}
	if err := use(k, token, blob, now.Add(time.Hour-time.Millisecond)); err != nil {
		t.Error(err)
	}
	if err := use(k, token, blob, now.Add(time.Hour)); !errors.Is(err, custody.ErrImportTokenExpired) {
		t.Errorf("too late: %v", err)
	}
	elsewhere := k.Clone()
	elsewhere.Region = "eu-west-1"
	hmac := k.Clone()
	hmac.Spec = "HMAC_256"
	for what, bad := range map[string]*key.Key{"another key": other, "another Region": elsewhere, "another spec": hmac} {
		if err := use(bad, token, blob, now); !errors.Is(err, custody.ErrImportToken) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := range token {
		bad := bytes.Clone(token)
		bad[i] ^= 1
		if err := use(k, bad, blob, now); !errors.Is(err, custody.ErrImportToken) {
			t.Fatalf("octet %d of the token changed: %v", i, err)
		}
	}
	for n := range blob {
		if err := use(k, token, blob[:n], now); !errors.Is(err, custody.ErrImportSize) {
			t.Fatalf("%d octets: %v", n, err)
		}
	}
	if err := use(k, token, make([]byte, len(blob)), now); !errors.Is(err, custody.ErrImportUnwrap) {
		t.Errorf("noise: %v", err)
	}
	for what, p := range map[string]guard.Permit{
		"no permit": {}, "another key's": permit(t, other.Name, guard.UseTakeIn), "one for a wrapping key": permit(t, k.Name, guard.UseImport),
		"one to make material": permit(t, k.Name, guard.UseCreate),
	} {
		if _, err := c.Import(t.Context(), p, k, token, blob, now); !errors.Is(err, custody.ErrNoPermit) {
			t.Errorf("Import with %s: %v", what, err)
		}
	}
	for what, p := range map[string]guard.Permit{"no permit": {}, "another key's": permit(t, other.Name, guard.UseImport), "one to import": permit(t, k.Name, guard.UseTakeIn)} {
		if _, _, err := c.WrappingKey(t.Context(), p, k, w, now); !errors.Is(err, custody.ErrNoPermit) {
			t.Errorf("WrappingKey with %s: %v", what, err)
		}
	}
	if _, _, err := c.WrappingKey(t.Context(), permit(t, k.Name, guard.UseImport), k, custody.Wrapping{Algorithm: w.Algorithm, Spec: "ECC_NIST_P256"}, now); err == nil {
		t.Error("made a wrapping key of a spec that wraps nothing")
	}
}
