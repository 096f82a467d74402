package store_test

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/store"
)

// filling makes tables of a size at which a plan shows what it is.
var filling = []string{
	`INSERT INTO accounts SELECT lpad(i::text, 12, '0'), 'body', 'tag' FROM generate_series(1, 2000) i`,
	`INSERT INTO access_keys SELECT 'AKIA' || i, lpad((i % 2000 + 1)::text, 12, '0'), 'principal', 'Active', 'sealed', 'body', 'tag' FROM generate_series(1, 6000) i`,
	`INSERT INTO identities SELECT lpad((i % 2000 + 1)::text, 12, '0'), 'user', 'u' || i, 'AIDA' || i, 'sealed', 'body', 'tag' FROM generate_series(1, 20000) i`,
	`INSERT INTO keys SELECT lpad((i % 3 + 1)::text, 12, '0'), 'us-east-1', md5(i::text), CASE WHEN i % 10 = 0 THEN i END, convert_to(repeat('b', 300), 'UTF8'), 'tag'
		FROM generate_series(1, 12000) i`,
	`INSERT INTO aliases SELECT account, region, 'alias/' || key_id, key_id, 'body', 'tag' FROM keys`,
	`INSERT INTO grants SELECT account, region, key_id, 'grant', 'AIDA' || (length(account) + due_ms % 50), 'body', 'tag' FROM keys WHERE due_ms IS NOT NULL`,
	`INSERT INTO key_uses SELECT account, region, key_id, 'body', 'tag' FROM keys`,
	`INSERT INTO counters SELECT lpad(i::text, 12, '0'), 'us-east-1', 1, 0 FROM generate_series(1, 2000) i`,
	`INSERT INTO changes SELECT lpad((i % 3 + 1)::text, 12, '0'), 'us-east-1', i, 'key', 'ref', 'writer' || i % 100, i FROM generate_series(1, 20000) i`,
	`INSERT INTO writers SELECT 'writer' || i, 20000, 1, 0 FROM generate_series(1, 2000) i`,
	`INSERT INTO meta SELECT 'm' || i, 'v' FROM generate_series(1, 1000) i`,
	`INSERT INTO quotas SELECT lpad((i % 2000 + 1)::text, 12, '0'), 'us-east-1', 'kind' || i % 10, 'name' || i, 'body', 'tag' FROM generate_series(1, 12000) i`,
	`ANALYZE`,
}

// TestQueryPlansOnPostgres asks PostgreSQL how it runs each query: a list must find its page in an index, whatever comes before it.
func TestQueryPlansOnPostgres(t *testing.T) {
	s := openPostgres(t, postgres(t))
	db := store.SQL(s)
	for _, statement := range filling {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	for _, mode := range []string{"force_custom_plan", "force_generic_plan"} { // for these values, and for any
		c, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }() // it only asked
		if _, err := c.ExecContext(t.Context(), "SET plan_cache_mode = "+mode); err != nil {
			t.Fatal(err)
		}
		for _, q := range append(slices.Clone(store.Queries()), store.Follow) {
			if q == store.Follow || strings.Contains(q, "WHERE") { // and not all of a table, in order
				checkPlan(t, c, mode, q)
			}
		}
	}
}

func checkPlan(t *testing.T, c *sql.Conn, mode, q string) {
	t.Helper()
	if _, err := c.ExecContext(t.Context(), "PREPARE asked AS "+q); err != nil {
		t.Fatalf("%s: %v", q, err)
	}
	var values []string
	for _, v := range planArguments(q) {
		values = append(values, fmt.Sprintf("'%v'", v))
	}
	rows, err := c.QueryContext(t.Context(), "EXPLAIN EXECUTE asked("+strings.Join(values, ", ")+")")
	if err != nil {
		t.Fatalf("%s: %v", q, err)
	}
	var plan []string
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		plan = append(plan, line)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ExecContext(t.Context(), "DEALLOCATE asked"); err != nil {
		t.Fatal(err)
	}
	text := strings.Join(plan, "\n")
	sorts := strings.Contains(text, "Sort") && strings.Contains(q, "LIMIT") && q != store.Follow // those are all that it finds, or nearly
	if !strings.Contains(text, "Index") || strings.Contains(text, "Seq Scan") || sorts {
		t.Errorf("%s\nis run with %s as\n%s", q, mode, text)
	}
	if strings.HasPrefix(q, "SELECT key_id FROM keys") && !strings.Contains(text, "Index Only Scan") {
		t.Errorf("a page of keys reads the rows with %s:\n%s", mode, text)
	}
}

// planArguments returns what a query of a client would have: the middle of a table, and pages of a hundred.
func planArguments(q string) []any {
	args := make([]any, strings.Count(q, "$"))
	for i := range args {
		args[i] = "7"
	}
	args[0] = "000000000002"
	if len(args) > 1 {
		args[1] = "us-east-1"
	}
	if strings.Contains(q, "LIMIT") {
		args[len(args)-1] = 100
	}
	switch {
	case strings.Contains(q, "retiring = "):
		args[0] = "AIDA20"
	case strings.Contains(q, "due_ms <="):
		args[0] = 50
	case strings.Contains(q, "unnest"): // a look that finds what two others did lately
		return []any{"{writer7,writer8}", "{19900,19900}", "{20000,20000}", 5000}
	case strings.Contains(q, "FROM changes"):
		args[2] = 15000
	case strings.Contains(q, "FROM identities") && !strings.Contains(q, "LIMIT"):
		args[len(args)-1] = "000000000002"
	}
	return args
}
