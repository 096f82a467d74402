package store

import (
	"context"
	"fmt"
	"os"
)

// Octets returns how large the store is on disk, with what lies beside it until it is folded in; 0 in memory.
func (db *DB) Octets() int64 {
	if db.path == "" {
		return 0
	}
	var n int64
	for _, suffix := range []string{"", "-wal"} {
		if info, err := os.Stat(db.path + suffix); err == nil {
			n += info.Size()
		}
	}
	return n
}

// SchemaVersion returns the number of the last migration that ran.
func (db *DB) SchemaVersion(ctx context.Context) (int64, error) {
	n, err := db.schemaVersion(ctx, db.read)
	if err != nil {
		return 0, fmt.Errorf("reading the schema's version: %w", err)
	}
	return n, nil
}
