package server_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/server"
)

// No text of a configuration reaches a clock, a meddler or a certificate in memory.
func TestNoFileSteersAServer(t *testing.T) {
	const least = "data: d\nseals: [{kind: key-file, file: k}]\n"
	for _, name := range []string{"Now", "now", "Wall", "wall", "Meddler", "meddler", "control", "seed", "dev", "faults", "clock"} {
		if _, err := server.ParseConfig([]byte(least + name + ": x\n")); err == nil || !strings.Contains(err.Error(), "not found") {
			t.Errorf("%s: %v", name, err)
		}
	}
	c, err := server.ParseConfig([]byte(least))
	if err != nil {
		t.Fatal(err)
	}
	v, hidden := reflect.ValueOf(c), 0
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("yaml") == "-" {
			if hidden++; !v.Field(i).IsZero() {
				t.Errorf("%s is set by a file", v.Type().Field(i).Name)
			}
		}
	}
	if hidden < 4 {
		t.Errorf("%d fields are hidden from files", hidden)
	}
}
