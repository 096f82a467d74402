package seal_test

import (
	"bytes"
	"crypto/fips140"
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
)

// vectors is an installation made by scripts/seal-vectors.py, an implementation of the formats that is not ours.
type vectors struct {
	RootID      string
	CreatedMs   int64
	Passphrases []string
	KeyFile     []byte
	Seals       []struct {
		ID, Kind, Name  string
		Params, Wrapped []byte
	}
	DomainKeys []struct {
		Domain  string
		Version uint32
		Wrapped []byte
	}
	Blobs []struct {
		Domain               string
		AAD, Plaintext, Blob []byte
	}
	Tags []struct {
		Domain    string
		Data, Tag []byte
	}
}

func readVectors(t testing.TB) (v vectors, sealed seal.Sealed) {
	t.Helper()
	text, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	created := time.UnixMilli(v.CreatedMs).UTC()
	for _, s := range v.Seals {
		sealed.Seals = append(sealed.Seals, seal.Record{
			ID: s.ID, Kind: seal.Kind(s.Kind), Name: s.Name, RootID: v.RootID,
			CreatedAt: created, Params: s.Params, Wrapped: s.Wrapped,
		})
	}
	for _, k := range v.DomainKeys {
		sealed.DomainKeys = append(sealed.DomainKeys, seal.DomainKey{
			Domain: domain(t, k.Domain), Version: k.Version,
			RootID: v.RootID, CreatedAt: created, Wrapped: k.Wrapped,
		})
	}
	return v, sealed
}

func domain(t testing.TB, s string) seal.Domain {
	t.Helper()
	d, err := seal.ParseDomain(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestVectors(t *testing.T) {
	v, sealed := readVectors(t)
	for name, s := range map[string]seal.Seal{
		"argon2id": seal.Passphrase("", secret.FromString(v.Passphrases[0])),
		"pbkdf2":   seal.Passphrase("", secret.FromString(v.Passphrases[1])),
		"key file": seal.KeyFile("", secret.Copy(v.KeyFile)),
	} {
		t.Run(name, func(t *testing.T) {
			if name == "argon2id" && fips140.Enabled() {
				t.Skip("FIPS 140-3 does not approve Argon2id, so the seal refuses it in that mode")
			}
			b, err := seal.Unseal(t.Context(), sealed, s)
			if err != nil {
				t.Fatal(err)
			}
			for i, x := range v.Blobs {
				got, err := b.Decrypt(domain(t, x.Domain), x.AAD, x.Blob)
				if err != nil || !bytes.Equal(got.Expose(), x.Plaintext) {
					t.Errorf("blob %d: %v", i, err)
				}
			}
			for i, x := range v.Tags {
				if err := b.VerifyTag(domain(t, x.Domain), x.Data, x.Tag); err != nil {
					t.Errorf("tag %d: %v", i, err)
				}
				if i%2 == 0 {
					continue // made with the older version
				}
				if got, err := b.Tag(nil, domain(t, x.Domain), x.Data); err != nil || !bytes.Equal(got, x.Tag) {
					t.Errorf("tag %d: got %x, %v; want %x", i, got, err, x.Tag)
				}
			}
			if len(v.Blobs) != 8 || len(v.Tags) != 8 {
				t.Errorf("%d blobs and %d tags, want 8 of each", len(v.Blobs), len(v.Tags))
			}
		})
	}
}
