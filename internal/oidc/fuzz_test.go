package oidc_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/oidc"
	"github.com/keywright/keywright/internal/oidc/oidctest"
)

// FuzzDocuments reads arbitrary documents as a provider's: they must not do more than be refused.
func FuzzDocuments(f *testing.F) {
	p := oidctest.New(f, time.Now)
	set, err := json.Marshal(p.KeySet())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(set)
	f.Add([]byte(`{"issuer":"https://idp.test","jwks_uri":"https://idp.test/keys"}`))
	f.Add([]byte(`{"keys":[{"kty":"RSA","kid":"a","n":"AQAB","e":"AQAB"},{"kty":"oct","kid":"b","k":"AAAA"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if n, err := oidc.ReadKeySet(text); err != nil && n != 0 {
			t.Errorf("%d keys beside %v", n, err)
		}
		if address, err := oidc.ReadDiscovery(text, "https://idp.test"); err == nil && address == "" {
			t.Error("no address and no error")
		}
	})
}
