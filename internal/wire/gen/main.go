// Command gen writes the shapes of the API packages, kmsapi, stsapi, iamapi, trailapi and quotaapi, from the files under
// internal/wire/model. Run it with go generate ./internal/wire/...; a test of this package fails when the committed
// files are not what it writes.
//
// It trusts the model files, which are part of the repository, but stops at anything in them that it does not
// understand. The code it writes holds data and moves data: behaviour belongs into package wire.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// packages names the model file of each generated package.
var packages = []string{"kms", "sts", "iam", "cloudtrail", "servicequotas"}

func main() {
	if err := run("."); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// run writes every package; root is the folder of package wire.
func run(root string) error {
	for _, name := range packages {
		pkg, source, err := generate(root, name)
		if err != nil {
			return fmt.Errorf("generating from %s.json: %w", name, err)
		}
		folder := filepath.Join(root, pkg)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, fileName), source, 0o644); err != nil {
			return err
		}
	}
	return nil
}
