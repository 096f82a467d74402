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
		k := &key.Key{Name: key.Name{Account: arn.Account(v.Account), ID: arn.KeyID(v.KeyID)}}
		if got := materialID(k, secret.Copy(material)); got != v.MaterialID {
			t.Errorf("%s: material id %s, want %s", v.KeyID, got, v.MaterialID)
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
