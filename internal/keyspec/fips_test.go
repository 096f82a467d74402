package keyspec_test

import (
	"bytes"
	"crypto/fips140"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

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
	if fips140.Enabled() {
		t.Skip("this is FIPS mode")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	tests := []string{
		"TestAllowed", "TestModeIsOn", "TestSigning", "TestEncryption", "TestMAC", "TestAgreement", "TestEncapsulation", "TestKeysKeepTheirEncodings",
	}
	cmd := exec.Command(exe, "-test.v", "-test.run", "^("+strings.Join(tests, "|")+")$")
	cmd.Env = append(os.Environ(), "GODEBUG=fips140=on")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	for _, name := range tests {
		if !bytes.Contains(out, []byte("\n--- PASS: "+name+" (")) {
			t.Errorf("%s did not run: %s", name, out)
		}
	}
}

// TestModeIsOn tells the test above that the mode was on.
func TestModeIsOn(t *testing.T) {
	if !fips140.Enabled() {
		t.Skip("for FIPS mode")
	}
}
