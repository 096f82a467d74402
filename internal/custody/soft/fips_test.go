package soft_test

import (
	"errors"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/custody"
	"github.com/keywright/keywright/internal/custody/soft"
	"github.com/keywright/keywright/internal/fipstest"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
	"github.com/keywright/keywright/internal/keywrap"
)

// In FIPS mode neither the key nor the wrapping key of an import may be of a spec outside the module, whatever was made
// before.
func TestImportStaysInTheModule(t *testing.T) {
	if !fipstest.Run(t) {
		return
	}
	e, now := soft.New(root(t.Context(), t.Fatal)()), time.Now()
	imports := func(s key.Spec, w custody.Wrapping) error {
		k := &key.Key{Name: key.Name{Account: "111122223333", Region: "us-east-1", ID: "1234abcd-12ab-34cd-56ef-1234567890ab"}, Spec: s}
		wrapping, err := keyspec.Generate(w.Spec)
		if err != nil {
			t.Fatal(err)
		}
		token, err := e.SealImportToken(k, w, now.Add(time.Hour), wrapping)
		if err != nil {
			t.Fatal(err)
		}
		made, err := keyspec.Generate(s)
		if err != nil {
			t.Fatal(err)
		}
		blob, err := keywrap.Wrap(w.Algorithm, wrapping.Public(), made.Octets().Expose())
		if err != nil {
			t.Fatal(err)
		}
		_, _, _, err = e.OpenImport(k, token, blob, now)
		return err
	}
	inside := custody.Wrapping{Algorithm: keywrap.AESWrapSHA256, Spec: keyspec.RSA2048}
	if err := imports(keyspec.P256, inside); err != nil {
		t.Error(err)
	}
	for _, s := range []key.Spec{keyspec.P256K1, keyspec.SM2, keyspec.MLDSA44} {
		if imports(s, inside) == nil {
			t.Errorf("%s was imported", s)
		}
	}
	if err := imports(keyspec.P256, custody.Wrapping{Algorithm: keywrap.SM2PKE, Spec: keyspec.SM2}); !errors.Is(err, custody.ErrImportToken) {
		t.Errorf("a wrapping key outside the module: %v", err)
	}
}
