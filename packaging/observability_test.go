// Package packaging_test checks that what is packaged fits the program.
package packaging_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/keywright/keywright/internal/metrics"
	"github.com/keywright/keywright/internal/wire"
)

// rule is one of the rules of alerts.yaml.
type rule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

// alerts reads alerts.yaml.
func alerts(t *testing.T) []rule {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string `yaml:"name"`
			Rules []rule `yaml:"rules"`
		} `yaml:"groups"`
	}
	strict(t, read(t, "alerts.yaml"), &file)
	var all []rule
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("there are no alerts")
	}
	return all
}

func strict(t *testing.T, text []byte, into any) {
	t.Helper()
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(into); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// dashboard returns the expressions of the dashboard by the titles of their panels, in a form that Prometheus
// understands: Grafana's own variables are replaced.
func dashboard(t *testing.T) map[string][]string {
	t.Helper()
	var file struct {
		Panels []struct {
			Type, Title, Description string
			ID                       int
			Targets                  []struct{ Expr string }
		}
		Annotations struct{ List []struct{ Name, Expr string } }
	}
	if err := json.Unmarshal(read(t, "grafana-dashboard.json"), &file); err != nil {
		t.Fatal(err)
	}
	plain := strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*")
	all, ids := map[string][]string{}, map[int]bool{}
	for _, p := range file.Panels {
		if ids[p.ID] || all[p.Title] != nil {
			t.Errorf("the panel %s is there twice", p.Title)
		}
		ids[p.ID] = true
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("the panel %s is empty", p.Title)
		}
		for _, target := range p.Targets {
			all[p.Title] = append(all[p.Title], plain.Replace(target.Expr))
		}
	}
	for _, a := range file.Annotations.List {
		all[a.Name] = append(all[a.Name], plain.Replace(a.Expr))
	}
	if len(all) < 10 {
		t.Errorf("only %d panels", len(all))
	}
	return all
}

var (
	quoted   = regexp.MustCompile(`"[^"]*"`)
	selected = regexp.MustCompile(`\b(keywright_\w+)(?:\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)`)
	grouping = regexp.MustCompile(`\b(?:by|without|on)\s*\(([^)]*)\)`)
)

// TestExpressionsUseWhatThereIs looks for each metric and label of the alerts and the dashboard in what the server serves.
func TestExpressionsUseWhatThereIs(t *testing.T) {
	labels := map[string][]string{}
	everywhere := []string{"instance", "job", "le"}
	known := slices.Clone(everywhere)
	for _, d := range metrics.New("test").Descriptions() {
		names := []string{d.Name}
		if d.Type == "histogram" {
			names = []string{d.Name + "_bucket", d.Name + "_sum", d.Name + "_count"}
		}
		for _, n := range names {
			labels[n] = append(slices.Clone(everywhere), d.Labels...)
		}
		known = append(known, d.Labels...)
	}
	used := map[string]bool{}
	check := func(where, expr string) {
		expr = quoted.ReplaceAllString(expr, `""`)
		for _, m := range selected.FindAllStringSubmatch(expr, -1) {
			used[m[1]] = true
			of, ok := labels[m[1]]
			if !ok {
				t.Errorf("%s: there is no metric %s", where, m[1])
			}
			for _, l := range matcher.FindAllStringSubmatch(m[2], -1) {
				if ok && !slices.Contains(of, l[1]) {
					t.Errorf("%s: %s has no label %s", where, m[1], l[1])
				}
			}
		}
		for _, m := range grouping.FindAllStringSubmatch(expr, -1) {
			for l := range strings.SplitSeq(m[1], ",") {
				if !slices.Contains(known, strings.TrimSpace(l)) {
					t.Errorf("%s: no metric has a label %s", where, l)
				}
			}
		}
	}
	for _, r := range alerts(t) {
		check(r.Alert, r.Expr)
	}
	for title, all := range dashboard(t) {
		for _, expr := range all {
			check(title, expr)
		}
	}
	if len(used) < 20 {
		t.Errorf("only %d metrics are used", len(used))
	}
}

// TestPromtool has Prometheus's own tool read the rules, run their cases, and read the expressions of the dashboard.
func TestPromtool(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		promtool, err = exec.LookPath("../.tools/promtool")
	}
	if err != nil {
		t.Fatal("promtool is missing: scripts/setup installs it")
	}
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	run("check", "rules", "alerts.yaml")
	run("test", "rules", "alerts_test.yaml")
	type record struct {
		Record string `yaml:"record"`
		Expr   string `yaml:"expr"`
	}
	var rules []record
	for _, all := range dashboard(t) {
		for _, expr := range all {
			rules = append(rules, record{fmt.Sprintf("panel:%d", len(rules)), expr})
		}
	}
	text, err := yaml.Marshal(map[string]any{"groups": []map[string]any{{"name": "dashboard", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "dashboard.yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	run("check", "rules", path)
}

// TestEveryAlertHasACase looks for both cases of each alert in alerts_test.yaml: that it fires, and that it does not.
func TestEveryAlertHasACase(t *testing.T) {
	var file struct {
		Tests []struct {
			AlertRuleTest []struct {
				Alertname string           `yaml:"alertname"`
				Expected  []map[string]any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		} `yaml:"tests"`
	}
	if err := yaml.Unmarshal(read(t, "alerts_test.yaml"), &file); err != nil {
		t.Fatal(err)
	}
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, c := range file.Tests {
		for _, a := range c.AlertRuleTest {
			if len(a.Expected) > 0 {
				fires[a.Alertname] = true
			} else {
				quiet[a.Alertname] = true
			}
		}
	}
	for _, r := range alerts(t) {
		if !fires[r.Alert] || !quiet[r.Alert] {
			t.Errorf("%s: fires in a case: %v; stays quiet in one: %v", r.Alert, fires[r.Alert], quiet[r.Alert])
		}
	}
}

// headings are what every runbook answers.
var headings = []string{"## Symptom", "## Meaning", "## What to look at", "## What to do"}

// TestEveryAlertHasARunbook looks in both directions, and into the runbooks.
func TestEveryAlertHasARunbook(t *testing.T) {
	files, err := filepath.Glob("../docs/runbooks/*.md")
	if err != nil {
		t.Fatal(err)
	}
	left := map[string]bool{}
	for _, f := range files {
		left[filepath.Base(f)] = true
	}
	for _, r := range alerts(t) {
		name := r.Alert + ".md"
		if r.Annotations["runbook_url"] != "docs/runbooks/"+name || r.Annotations["summary"] == "" {
			t.Errorf("%s: annotations %v", r.Alert, r.Annotations)
		}
		if s := r.Labels["severity"]; s != "critical" && s != "warning" && s != "info" {
			t.Errorf("%s: severity %q", r.Alert, s)
		}
		if !left[name] {
			t.Errorf("%s has no runbook", r.Alert)
			continue
		}
		delete(left, name)
		checkRunbook(t, r, string(read(t, "../docs/runbooks/"+name)))
	}
	for f := range left {
		t.Errorf("%s is for no alert", f)
	}
}

func checkRunbook(t *testing.T, r rule, text string) {
	t.Helper()
	if !strings.HasPrefix(text, "# "+r.Alert+"\n") {
		t.Errorf("the runbook of %s has another title", r.Alert)
	}
	at := 0
	for _, h := range headings {
		i := strings.Index(text[at:], "\n"+h+"\n")
		if i < 0 {
			t.Errorf("the runbook of %s has no %q, or in another order", r.Alert, h)
			continue
		}
		at += i + len(h)
		body, _, _ := strings.Cut(text[at+2:], "\n## ")
		if len(strings.TrimSpace(body)) < 40 {
			t.Errorf("the runbook of %s says nothing under %q", r.Alert, h)
		}
	}
	for _, m := range selected.FindAllStringSubmatch(text, -1) {
		if !slices.ContainsFunc(metrics.New("test").Descriptions(), func(d metrics.Description) bool { return strings.HasPrefix(m[1], d.Name) }) {
			t.Errorf("the runbook of %s speaks of %s", r.Alert, m[1])
		}
	}
}

// Every fault of the server raises the alert for them.
func TestFaultsRaiseAnAlert(t *testing.T) {
	all := alerts(t)
	i := slices.IndexFunc(all, func(r rule) bool { return r.Alert == "KeywrightInternalErrors" })
	found := 0
	for _, m := range regexp.MustCompile(`\bCode\w+\s+(?:Code\s+)?= "(\w+)"`).FindAllSubmatch(read(t, "../internal/wire/errors.go"), -1) {
		e := wire.Error{Code: wire.Code(m[1])}
		if e.Status() < 500 {
			continue
		}
		found++
		if !regexp.MustCompile(`["|]` + string(e.Code) + `["|]`).MatchString(all[i].Expr) {
			t.Errorf("KeywrightInternalErrors leaves out %s", e.Code)
		}
	}
	if found < 6 {
		t.Errorf("%d faults found", found)
	}
}
