package metrics_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/metrics"
)

var update = flag.Bool("update", false, "write the table of metrics into the documentation")

// TestDocumentation keeps the table in docs/observability.md true.
func TestDocumentation(t *testing.T) {
	const path, begin, end = "../../docs/observability.md", "<!-- metrics -->\n", "<!-- end of metrics -->\n"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	table, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", path)
	}
	want := metrics.New("test").Table()
	if table == want {
		return
	}
	if !*update {
		t.Fatalf("the table in %s is not that of the metrics: run go test ./internal/metrics -update", path)
	}
	if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
