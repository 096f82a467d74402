// Package house_test holds the rules of the house that no compiler knows.
package house_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/keywright/keywright"

// stair lists the packages from the top of the house to its ground. A package may import only packages that stand
// further down; packages on one line are siblings and do not see each other.
var stair = []string{
	"cmd/keywright",
	"internal/server",
	"internal/httpapi",
	"internal/pipeline",
	"internal/metrics internal/tracing",
	"internal/admin internal/dev",
	"internal/kms",
	"internal/fresh internal/cluster",
	"internal/sink",
	"internal/trail",
	"internal/iam",
	"internal/servicequotas",
	"internal/custody/soft",
	"internal/custody/custodytest",
	"internal/custody",
	"internal/store/storetest",
	"internal/store",
	"internal/seal",
	"internal/guard",
	"internal/policy",
	"internal/audit",
	"internal/quota",
	"internal/ciphertext",
	"internal/kbkdf",
	"internal/identity",
	"internal/keywrap",
	"internal/attest/attesttest",
	"internal/attest",
	"internal/keyspec",
	"internal/key",
	"internal/wire/kmsapi internal/wire/stsapi internal/wire/iamapi internal/wire/trailapi internal/wire/quotaapi internal/wire/gen",
	"internal/wire",
	"internal/oidc/oidctest",
	"internal/oidc",
	"internal/sigv4",
	"internal/turns",
	"internal/arn",
	"internal/steps internal/fipstest",
	"internal/secret",
}

// outside lists packages that stand beside the stair: tools and tests, which may import what they like and which nothing
// imports.
var outside = []string{"bench", "internal/house", "conformance", "packaging"}

// pure lists packages that must not reach the network, the file system, a database or the clock's ticking.
var pure = []string{"internal/attest", "internal/policy", "internal/ciphertext", "internal/kbkdf", "internal/identity", "internal/key", "internal/keyspec", "internal/keywrap", "internal/sigv4", "internal/turns", "internal/arn", "internal/secret"}

// ticking is what a package that must not look at the clock, or wait for it, does not say.
var ticking = []string{"time.Now(", "time.After(", "time.NewTimer(", "time.Sleep("}

var impureImports = []string{"net", "net/http", "os", "io/fs", "database/sql", "os/exec", "log", "log/slog"}

// engineUser is the one package that may choose an engine of custody; all others know the interface. Tests may too.
const engineUser, engine = "internal/server", "internal/custody/soft"

type pkg struct {
	ImportPath string
	Dir        string
	GoFiles    []string // without tests
	Imports    []string // likewise
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p pkg
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

func TestImportsRunDownTheStair(t *testing.T) {
	floor := map[string]int{}
	for i, line := range stair {
		for _, name := range strings.Fields(line) {
			floor[module+"/"+name] = i + 1
		}
	}
	seen := 0
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		if beside(name) {
			continue
		}
		at := floor[p.ImportPath]
		if at == 0 {
			t.Errorf("%s has no place on the stair", name)
			continue
		}
		seen++
		for _, imp := range p.Imports {
			if !strings.HasPrefix(imp, module) {
				continue
			}
			if to := floor[imp]; to <= at {
				t.Errorf("%s imports %s, which does not stand further down", name, strings.TrimPrefix(imp, module+"/"))
			}
		}
	}
	if seen == 0 {
		t.Errorf("no package was checked")
	}
}

func beside(name string) bool {
	for _, o := range outside {
		if name == o || strings.HasPrefix(name, o+"/") {
			return true
		}
	}
	return false
}

func TestPurePackagesTouchNothing(t *testing.T) {
	checked := 0
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		if !slices.Contains(pure, name) {
			continue
		}
		checked++
		for _, imp := range p.Imports {
			if slices.Contains(impureImports, imp) && !(name == "internal/secret" && imp == "log/slog") { // slog.LogValuer is a redaction
				t.Errorf("%s imports %s", name, imp)
			}
		}
		for _, file := range p.GoFiles {
			text, err := os.ReadFile(filepath.Join(p.Dir, file))
			if err != nil {
				t.Fatal(err)
			}
			for _, bad := range ticking {
				if bytes.Contains(text, []byte(bad)) {
					t.Errorf("%s/%s says %s", name, file, bad)
				}
			}
		}
	}
	if checked != len(pure) {
		t.Errorf("%d packages were checked, not %d", checked, len(pure))
	}
}

func TestOneRoomChoosesTheEngine(t *testing.T) {
	found := false
	for _, p := range packages(t) {
		if !slices.Contains(p.Imports, module+"/"+engine) {
			continue
		}
		if name := strings.TrimPrefix(p.ImportPath, module+"/"); name != engineUser {
			t.Errorf("%s imports %s", name, engine)
		}
		found = true
	}
	if !found {
		t.Errorf("not even %s imports %s", engineUser, engine)
	}
}

// domainRooms says which rooms may name a domain key of the barrier. Material is opened by the custody engine alone: another
// room that names its domain would go around the permit.
var domainRooms = map[string][]string{
	"seal.Material":   {"internal/custody/soft", "internal/store/storetest"},
	"seal.Credential": {"internal/store"},
	"seal.Row":        {"internal/store"},
	"seal.Token":      {"internal/kms", "internal/trail", "internal/iam", "internal/servicequotas", "internal/custody/soft"},
}

// everyDomain is the one line outside those rooms that names domains: it lists all of them to drop old versions.
const everyDomain = "[]seal.Domain{seal.Material, seal.Credential, seal.Row, seal.Token}"

func TestDomainKeysStayInTheirRooms(t *testing.T) {
	uses := map[string]int{}
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		for _, file := range p.GoFiles {
			text, err := os.ReadFile(filepath.Join(p.Dir, file))
			if err != nil {
				t.Fatal(err)
			}
			text = bytes.ReplaceAll(text, []byte(everyDomain), nil)
			for domain, rooms := range domainRooms {
				n := bytes.Count(text, []byte(domain))
				uses[domain] += n
				if n > 0 && !slices.Contains(rooms, name) {
					t.Errorf("%s/%s names %s, which is for %v", name, file, domain, rooms)
				}
			}
		}
	}
	for domain := range domainRooms {
		if uses[domain] == 0 {
			t.Errorf("nothing names %s", domain)
		}
	}
}
