// Package fipstest runs tests in FIPS 140-3 mode, which a process is in from its start or never. It is for tests only, and trusts nothing
// but what their processes print.
package fipstest

import (
	"bytes"
	"crypto/fips140"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// again tells a process that it was started by Run.
const again = "KEYWRIGHT_FIPSTEST"

// Run has the test that calls it, and those it names, run and pass in a process of their own in FIPS 140-3 mode, and reports whether this
// process is in that mode. Then it has started none: the tests are those of this process. It fails if the mode was not switched on.
func Run(t *testing.T, names ...string) (inMode bool) {
	t.Helper()
	if fips140.Enabled() {
		return true
	}
	if os.Getenv(again) != "" {
		t.Fatal("GODEBUG=fips140=on does not switch the mode on")
	}
	names = append(names, t.Name())
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.run", "^("+strings.Join(names, "|")+")$")
	cmd.Env = append(os.Environ(), "GODEBUG=fips140=on", again+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	for _, name := range names {
		if !bytes.Contains(append([]byte("\n"), out...), []byte("\n--- PASS: "+name+" (")) {
			t.Errorf("%s did not pass: %s", name, out)
		}
	}
	return false
}
