package house_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// rehearsal is what only keywright dev does. Its package is imported by the files of that command alone, so that no
// configuration of keywright server leads there, and what it asks of other rooms is asked by nobody else.
const rehearsal = "internal/dev"

// rehearsed is what gives a server keys of known material, empties it, or meddles with its requests, and who may say it besides
// the package itself.
var rehearsed = map[string][]string{
	".KMS.Seed(": {}, "kms.Seed(": {}, ".Forget(": {}, ".Wipe": {}, ".Rehearse(": {}, "controlled{": {"cmd/keywright/devcontrol.go"}, ".steer(": {"cmd/keywright/dev.go"}, "control.attach(": {"cmd/keywright/dev.go"},
	"guard.ResetServer": {}, "guard.SetClock": {},
	"guard.SeedKey":          {"internal/kms/seed.go"},
	".custody.Take(":         {"internal/kms/seed.go"},
	"config.Meddler":         {"cmd/keywright/devcontrol.go"},
	"Meddler = ":             {"cmd/keywright/devcontrol.go"},
	"Meddler: ":              {"internal/server/server.go"}, // hands on what the command gave it
	"dev.New(":               {"cmd/keywright/devcontrol.go"},
	"openControl(":           {"cmd/keywright/dev.go", "cmd/keywright/devcontrol.go"},
	"EphemeralInstallation(": {"cmd/keywright/dev.go", "internal/server/installation.go"},
}

func TestOnlyTheDevelopmentServerIsSteered(t *testing.T) {
	importers, said := 0, map[string]int{}
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		if beside(name) {
			continue
		}
		for _, file := range p.GoFiles {
			text, err := os.ReadFile(filepath.Join(p.Dir, file))
			if err != nil {
				t.Fatal(err)
			}
			for _, other := range []string{".Wipe()", "keyspec.Wipe("} { // of secrets
				text = bytes.ReplaceAll(text, []byte(other), nil)
			}
			path := name + "/" + file
			if bytes.Contains(text, []byte(`"`+module+"/"+rehearsal+`"`)) {
				if importers++; name != "cmd/keywright" || !strings.HasPrefix(file, "dev") {
					t.Errorf("%s imports %s", path, rehearsal)
				}
			}
			for words, places := range rehearsed {
				if !bytes.Contains(text, []byte(words)) {
					continue
				}
				if said[words]++; name != rehearsal && !slices.Contains(places, path) {
					t.Errorf("%s says %s", path, words)
				}
			}
		}
	}
	if importers == 0 || said["guard.SeedKey"] == 0 || said["config.Meddler"] == 0 || said[".Wipe"] == 0 || said[".steer("] == 0 || said["control.attach("] == 0 || said["controlled{"] == 0 {
		t.Errorf("the test looks for what is not there: %d, %v", importers, said)
	}
}
