package storetest

import (
	"database/sql"
	"net/url"
	"os"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/keywright/keywright/internal/arn"
)

// Postgres returns the URL of a new schema, for one test, of the database that KEYWRIGHT_POSTGRES names, and skips the test if it names
// none: see scripts/postgres.
func Postgres(t testing.TB) string {
	t.Helper()
	base := os.Getenv("KEYWRIGHT_POSTGRES")
	if base == "" {
		t.Skip("KEYWRIGHT_POSTGRES names no database: scripts/postgres run go test …")
	}
	schema := "test_" + strings.ReplaceAll(arn.NewUUID(), "-", "")
	admin, err := sql.Open("pgx", base)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.ExecContext(t.Context(), "CREATE SCHEMA "+schema); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, err1 := admin.Exec("DROP SCHEMA " + schema + " CASCADE")
		if err := admin.Close(); err != nil || err1 != nil {
			t.Error(err1, err)
		}
	})
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("search_path", schema)
	u.RawQuery = q.Encode()
	return u.String()
}
