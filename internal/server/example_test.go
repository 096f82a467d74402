package server_test

import (
	"bytes"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/keywright/keywright/internal/server"
	"github.com/keywright/keywright/internal/sink"
)

const example = "../../packaging/keywright.yaml"

// off finds the settings that are switched off: a # with nothing between it and the line.
var off = regexp.MustCompile(`(?m)^#(\S|  )`)

// named returns the paths of all settings that a text names, those of list elements without a number.
func named(t *testing.T, text []byte) map[string]*yaml.Node {
	t.Helper()
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	found := map[string]*yaml.Node{}
	var walk func(prefix string, n *yaml.Node)
	walk = func(prefix string, n *yaml.Node) {
		switch n.Kind {
		case yaml.MappingNode:
			for i := 0; i < len(n.Content); i += 2 {
				path := prefix + n.Content[i].Value
				found[path] = n.Content[i+1]
				walk(path+".", n.Content[i+1])
			}
		case yaml.SequenceNode, yaml.DocumentNode:
			for _, e := range n.Content {
				walk(prefix, e)
			}
		}
	}
	walk("", &root)
	return found
}

// settings returns the paths of everything that a configuration can have.
func settings(prefix string, of reflect.Type) (all []string) {
	for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
		of = of.Elem()
	}
	if of.Kind() != reflect.Struct {
		return nil
	}
	for i := range of.NumField() {
		f := of.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if !f.IsExported() || name == "-" {
			continue
		}
		if name == "" {
			name = strings.ToLower(f.Name) // as yaml has it
		}
		all = append(append(all, prefix+name), settings(prefix+name+".", f.Type)...)
	}
	return all
}

// derived are the settings whose default follows from the data directory; noDefault those that have none, or nothing.
var (
	derived   = []string{"adminSocket", "audit.dir", "data", "seals"}
	noDefault = []string{
		"admin", "node", "store.dsn", "store.passwordFile", "store.passwordEnv", "store.serveStaleFor", "attestation.roots", "loopbackProviders", "audit.segmentAge", "audit.compress", "audit.retention", "audit.sinks", "quotas.values",
		"traces.endpoint", "traces.ratio", "traces.headersFile",
	}
)

// TestExampleConfiguration holds packaging/keywright.yaml to the code: no setting is missing, none is shown that is not, and
// what it shows is the default.
func TestExampleConfiguration(t *testing.T) {
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	all := off.ReplaceAll(text, []byte("$1"))
	for name, text := range map[string][]byte{"as it is": text, "with everything switched on": all} {
		if _, err := server.ParseConfig(text); err != nil {
			t.Errorf("the example, %s: %v", name, err)
		}
	}
	shown, want := named(t, all), settings("", reflect.TypeFor[server.Config]())
	for _, path := range want {
		alternative := strings.HasSuffix(path, ".env") || strings.HasSuffix(path, ".file") // of which a secret has one
		if path == "store.passwordEnv" {
			alternative = bytes.Contains(all, []byte("or passwordEnv: "))
		}
		if shown[path] == nil && (!alternative || !bytes.Contains(all, []byte("or env: ")) || !bytes.Contains(all, []byte("or file: "))) {
			t.Errorf("the example does not show %s", path)
		}
	}
	for path := range shown {
		if !slices.Contains(want, path) {
			t.Errorf("the example shows %s, which is no setting", path)
		}
	}
	c, err := server.ParseConfig(text)
	if err != nil {
		t.Fatal(err)
	}
	least := server.Config{Data: c.Data, Seals: c.Seals}
	compareDefaults(t, "", reflect.ValueOf(c), reflect.ValueOf(least.Filled()))
	if c.AdminSocket != least.Socket() || c.Audit.Dir != c.Data+"/audit" || c.Seals[0].Name != string(c.Seals[0].Kind) {
		t.Errorf("the example has another default than %s, %s/audit", least.Socket(), c.Data)
	}
	on, err := server.ParseConfig(all)
	if err != nil {
		t.Fatal(err)
	}
	if filled := (server.Config{TLS: &server.TLS{}}).Filled(); on.TLS == nil || on.TLS.Reload != filled.TLS.Reload {
		t.Errorf("the example shows the wrong tls.reload")
	}
	if len(on.Audit.Sinks) == 0 || len(on.Quotas.Values) == 0 {
		t.Errorf("the example shows no sinks or no quotas")
	}
	defaults := sink.Defaults()
	for _, s := range on.Audit.Sinks {
		for name, v := range map[string][2]int64{
			"batch": {int64(s.Batch), int64(defaults.Batch)}, "timeout": {int64(s.Timeout), int64(defaults.Timeout)}, "maxBackoff": {int64(s.MaxBackoff), int64(defaults.MaxBackoff)},
			"settle": {int64(s.Settle), int64(defaults.Settle)}, "facility": {int64(s.Facility), int64(defaults.Facility)},
		} {
			if v[0] != 0 && v[0] != v[1] {
				t.Errorf("the example shows %s of the sink %s as %d, not %d", name, s.Name, v[0], v[1])
			}
		}
	}
}

// compareDefaults compares every setting but those that have no default of their own. A default that is zero and yet not listed is
// one that Filled forgot.
func compareDefaults(t *testing.T, prefix string, shown, real reflect.Value) {
	t.Helper()
	for i := range shown.NumField() {
		f := shown.Type().Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		path, a, b := prefix+name, shown.Field(i), real.Field(i)
		switch {
		case name == "-" || slices.Contains(derived, path):
		case !a.CanInterface():
		case a.Kind() == reflect.Struct:
			compareDefaults(t, path+".", a, b)
		case !reflect.DeepEqual(a.Interface(), b.Interface()):
			t.Errorf("the example shows %s: %v; the default is %v", path, a, b)
		case b.IsZero() && a.Kind() != reflect.Pointer && !slices.Contains(noDefault, path):
			t.Errorf("%s has no default: give it one in Filled, or list it", path)
		}
	}
}
