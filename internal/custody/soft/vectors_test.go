package soft

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/ciphertext"
	"github.com/keywright/keywright/internal/kbkdf"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
	"github.com/keywright/keywright/internal/secret"
)

// Blobs that a second implementation wrote (scripts/blob-vectors.py): a change of the format must change its version and
// keep these opening.
func TestBlobsOfTheSecondImplementation(t *testing.T) {
	text, err := os.ReadFile("testdata/blobs.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Account, KeyID, Material, MaterialID, Plaintext, Blob string
		Context                                               map[string]string
	}
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) != 3 {
		t.Fatalf("%d vectors", len(vectors))
	}
	for _, v := range vectors {
		material, _ := hex.DecodeString(v.Material)
		blob, _ := hex.DecodeString(v.Blob)
		k := &key.Key{Name: key.Name{Account: arn.Account(v.Account), ID: arn.KeyID(v.KeyID)}, Spec: key.SymmetricDefault}
		if got, err := materialID(k, secret.Copy(material)); err != nil || got != v.MaterialID {
			t.Errorf("%s: material id %s, want %s: %v", v.KeyID, got, v.MaterialID, err)
		}
		h, sealed, err := ciphertext.Parse(blob)
		if err != nil || h.Account != k.Account || h.Key != k.ID || h.Material.String() != v.MaterialID {
			t.Errorf("%s: header %+v, %v", v.KeyID, h, err)
			continue
		}
		aad := ciphertext.AppendAssociatedData(nil, blob[:ciphertext.HeaderSize], v.Context)
		m := &symmetric{kbkdf.NewDeriver(material, messageKeyLabel)}
		got, err := m.Open(&h.Nonce, sealed, aad)
		if err != nil || hex.EncodeToString(got.Expose()) != v.Plaintext {
			t.Errorf("%s: %v", v.KeyID, err)
		}
	}
}

// The id of an HMAC key's material, which import tells, is no code that the key makes of something: it is HKDF (RFC 5869) of the
// material as another implementation computes it, in which the material is never the key of an HMAC.
func TestMaterialIDIsNoMAC(t *testing.T) {
	material := make([]byte, 32)
	for i := range material {
		material[i] = byte(i)
	}
	k := &key.Key{Name: key.Name{Account: "111122223333", Region: "us-east-1", ID: "1234abcd-12ab-34cd-56ef-1234567890ab"}, Spec: keyspec.HMACSHA256}
	const want = "e3d72a7fac15993c4d507e1126df8f3d3f80b74e6beb2ab53ee4f28a74883185"
	if got, err := materialID(k, secret.Copy(material)); err != nil || got != want {
		t.Errorf("material id %s, want %s: %v", got, want, err)
	}
	k.Spec = key.SymmetricDefault
	if got, err := materialID(k, secret.Copy(material)); err != nil || got == want {
		t.Errorf("material id %s of SYMMETRIC_DEFAULT, too: %v", got, err)
	}
}
