package keyspec_test

import (
	"crypto/fips140"
	"slices"
	"testing"

	"github.com/keywright/keywright/internal/fipstest"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
)

// outsideModule are the specs whose primitives are not inside the FIPS 140-3 module.
var outsideModule = []key.Spec{keyspec.P256K1, keyspec.SM2, keyspec.MLDSA44, keyspec.MLDSA65, keyspec.MLDSA87, keyspec.MLKEM512}

func TestAllowed(t *testing.T) {
	for _, r := range keyspec.All() {
		want := !fips140.Enabled() || !slices.Contains(outsideModule, r.Spec)
		if keyspec.Allowed(r.Spec) != want || r.FIPS == slices.Contains(outsideModule, r.Spec) {
			t.Errorf("%s: allowed: %v, in the module: %v", r.Spec, keyspec.Allowed(r.Spec), r.FIPS)
		}
	}
	if keyspec.Allowed("OTHER") {
		t.Error("a spec that is none is allowed")
	}
}

// TestFIPSMode runs tests of this package again, in a process in FIPS mode: what is allowed works there too.
func TestFIPSMode(t *testing.T) {
	fipstest.Run(t, "TestAllowed", "TestSigning", "TestEncryption", "TestMAC", "TestAgreement", "TestEncapsulation", "TestKeysKeepTheirEncodings")
}
