package storetest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/store"
)

// authenticated is a table whose rows are authenticated: its columns, primary key first, and how to read a row.
type authenticated struct {
	name    string
	keys    int // how many of the columns are the primary key
	columns []string
	read    func(ctx context.Context, s *store.Store, pk []any) error
	lists   func(ctx context.Context, s *store.Store) []error // every function that would show the row
}

var tables = []authenticated{
	{
		"key_uses", 3,
		[]string{"account", "region", "key_id", "body", "tag"},
		func(ctx context.Context, s *store.Store, pk []any) error {
			n := key.Name{Account: arn.Account(text(pk[0])), Region: arn.Region(text(pk[1])), ID: arn.KeyID(text(pk[2]))}
			_, err := s.GetKeyUse(ctx, n)
			return err
		},
		func(context.Context, *store.Store) []error { return nil },
	},
	{
		"quotas", 4,
		[]string{"account", "region", "kind", "name", "body", "tag"},
		func(ctx context.Context, s *store.Store, pk []any) error {
			_, err := s.GetQuota(ctx, arn.Account(text(pk[0])), arn.Region(text(pk[1])), text(pk[2]), text(pk[3]))
			return err
		},
		func(ctx context.Context, s *store.Store) []error {
			_, all := s.ListAllQuotas(ctx)
			return []error{all}
		},
	},
	{
		"accounts", 1,
		[]string{"account", "body", "tag"},
		func(ctx context.Context, s *store.Store, pk []any) error {
			_, err := s.GetAccount(ctx, arn.Account(text(pk[0])))
			return err
		},
		func(ctx context.Context, s *store.Store) []error {
			_, err := s.ListAccounts(ctx)
			return []error{err}
		},
	},
	{
		"access_keys", 1,
		[]string{"access_key_id", "account", "principal", "status", "sealed", "body", "tag"},
		func(ctx context.Context, s *store.Store, pk []any) error {
			_, err := s.GetAccessKey(ctx, text(pk[0]))
			return err
		},
		func(context.Context, *store.Store) []error { return nil },
	},
	{
		"identities", 3,
		[]string{"account", "kind", "name", "id", "sealed", "body", "tag"},
		func(ctx context.Context, s *store.Store, pk []any) error {
			_, err := s.GetIdentity(ctx, arn.Account(text(pk[0])), text(pk[1]), text(pk[2]))
			var inside error
			if e := s.Update(ctx, func(tx *store.Tx) error {
				_, inside = tx.GetIdentity(arn.Account(text(pk[0])), text(pk[1]), text(pk[2]))
				return nil
			}); e != nil {
				return e
			}
			if (err == nil) != (inside == nil) {
				return fmt.Errorf("outside %w, inside %w", err, inside)
			}
			return err
		},
		func(context.Context, *store.Store) []error { return nil },
	},
	{
		"keys", 3,
		[]string{"account", "region", "key_id", "body", "tag"},
		func(ctx context.Context, s *store.Store, pk []any) error {
			n := key.Name{Account: arn.Account(text(pk[0])), Region: arn.Region(text(pk[1])), ID: arn.KeyID(text(pk[2]))}
			_, err := s.GetKey(ctx, n)
			var inside error
			if e := s.Update(ctx, func(tx *store.Tx) error { _, inside = tx.GetKey(n); return nil }); e != nil {
				return e
			}
			if (err == nil) != (inside == nil) {
				return fmt.Errorf("outside %w, inside %w", err, inside)
			}
			return err
		},
		func(context.Context, *store.Store) []error { return nil },
	},
	{
		"aliases", 3,
		[]string{"account", "region", "name", "target", "body", "tag"},
		func(ctx context.Context, s *store.Store, pk []any) error {
			_, err := s.GetAlias(ctx, arn.Account(text(pk[0])), arn.Region(text(pk[1])), arn.AliasName(text(pk[2])))
			return err
		},
		func(context.Context, *store.Store) []error { return nil },
	},
	{
		"grants", 4,
		[]string{"account", "region", "key_id", "grant_id", "retiring", "body", "tag"},
		func(ctx context.Context, s *store.Store, pk []any) error {
			n := key.Name{Account: arn.Account(text(pk[0])), Region: arn.Region(text(pk[1])), ID: arn.KeyID(text(pk[2]))}
			_, err := s.GetGrant(ctx, n, text(pk[3]))
			return err
		},
		func(context.Context, *store.Store) []error { return nil },
	},
}

func text(v any) string {
	if b, ok := v.([]byte); ok {
		return string(b)
	}
	return v.(string)
}

// where makes the condition for a primary key, with placeholders from number first.
func (a *authenticated) where(first int) string {
	var parts []string
	for i, c := range a.columns[:a.keys] {
		parts = append(parts, fmt.Sprintf("%s = $%d", c, first+i))
	}
	return strings.Join(parts, " AND ")
}

func exec(t testing.TB, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// row reads all columns of a row.
func (a *authenticated) row(t testing.TB, db *sql.DB, pk []any) []any {
	t.Helper()
	values, targets := make([]any, len(a.columns)), make([]any, len(a.columns))
	for i := range values {
		targets[i] = &values[i]
	}
	query := "SELECT " + strings.Join(a.columns, ", ") + " FROM " + a.name + " WHERE " + a.where(1)
	if err := db.QueryRowContext(t.Context(), query, pk...).Scan(targets...); err != nil {
		t.Fatal(err)
	}
	return values
}

func isCorrupt(err error) bool {
	var corrupt *store.CorruptRowError
	return errors.As(err, &corrupt)
}

// filled is a store with one row in every authenticated table, and their primary keys.
func filled(t *testing.T, h Harness) (*store.Store, map[string][]any) {
	t.Helper()
	s := h.Open(t)
	k := Key()
	k.Tags = []key.Tag{{Key: "tag", Value: "value"}}
	a, g := alias(k, "name"), grant(k, 1)
	update(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.PutAccount(anAccount()), tx.PutAccessKey(anAccessKey("AKIA1")),
			tx.PutIdentity(anIdentity("bob")), tx.PutKey(k), tx.InsertAlias(a), tx.PutGrant(g), tx.PutKeyUse(use(k)), tx.PutQuota(aQuota("value", "a")))
	})
	return s, map[string][]any{
		"accounts": {string(account)}, "access_keys": {"AKIA1"},
		"identities": {string(account), "user", "bob"},
		"keys":       {string(account), string(region), string(k.ID)},
		"aliases":    {string(account), string(region), string(a.Name)},
		"key_uses":   {string(account), string(region), string(k.ID)},
		"quotas":     {string(account), string(region), "value", "a"},
		"grants":     {string(account), string(region), string(k.ID), g.ID},
	}
}

// testEveryByteCounts changes each octet of each column, one after the other, and reads the row.
func testEveryByteCounts(t *testing.T, h Harness) {
	s, rows := filled(t, h)
	db := h.SQL(t, s)
	stride := 1
	if testing.Short() {
		stride = 7
	}
	for _, a := range tables {
		t.Run(a.name, func(t *testing.T) {
			pk := rows[a.name]
			original := a.row(t, db, pk)
			if err := a.read(t.Context(), s, pk); err != nil {
				t.Fatal(err)
			}
			for i, column := range a.columns {
				content := []byte(text(original[i]))
				for at := 0; at < len(content); at += stride {
					changed := slices.Clone(content)
					changed[at] ^= 1
					a.change(t, s, db, pk, i, column, content, changed, fmt.Sprintf("octet %d", at))
				}
				a.change(t, s, db, pk, i, column, content, append(slices.Clone(content), '0'), "one octet more")
				a.change(t, s, db, pk, i, column, content, content[:len(content)-1], "one octet less")
			}
			if err := a.read(t.Context(), s, pk); err != nil {
				t.Errorf("at the end: %v", err)
			}
		})
	}
	if _, err := s.Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

// change writes another value into a column, looks whether the row is refused, and puts the value back.
func (a *authenticated) change(t *testing.T, s *store.Store, db *sql.DB, pk []any, i int, column string, from, to []byte, what string) {
	t.Helper()
	value := func(b []byte) any {
		if column == "body" || column == "tag" || column == "sealed" {
			return b
		}
		return string(b)
	}
	set := "UPDATE " + a.name + " SET " + column + " = $1 WHERE " + a.where(2)
	exec(t, db, set, append([]any{value(to)}, pk...)...)
	moved := slices.Clone(pk)
	if i < a.keys {
		moved[i] = string(to)
		if err := a.read(t.Context(), s, pk); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s of %s: the old place gives %v", what, column, err)
		}
	}
	if err := a.read(t.Context(), s, moved); !isCorrupt(err) {
		t.Errorf("%s of %s: got %v, want a refusal", what, column, err)
	}
	for _, err := range a.lists(t.Context(), s) {
		if !isCorrupt(err) {
			t.Errorf("%s of %s: a list gives %v, want a refusal", what, column, err)
		}
	}
	exec(t, db, set, append([]any{value(from)}, moved...)...)
}

// testNumbersCount changes the one column of an authenticated row that is a number, and looks at the lists.
func testNumbersCount(t *testing.T, h Harness) {
	s := h.Open(t)
	ctx := t.Context()
	k := Key()
	k.State, k.DeletionAt = key.PendingDeletion, moment
	put(t, s, k)
	update(t, s, func(tx *store.Tx) error { return tx.InsertAlias(alias(k, "name")) })
	db := h.SQL(t, s)
	for _, due := range []any{nil, int64(0), moment.UnixMilli() - 1, moment.UnixMilli() + 1<<40} {
		exec(t, db, "UPDATE keys SET due_ms = $1", due)
		if _, err := s.GetKey(ctx, k.Name); !isCorrupt(err) {
			t.Errorf("due_ms %v: %v", due, err)
		}
	}
	exec(t, db, "UPDATE keys SET due_ms = $1", moment.UnixMilli())
	if _, err := s.GetKey(ctx, k.Name); err != nil {
		t.Error(err)
	}

	// A list with a forged row is refused as a whole, and Verify names it.
	exec(t, db, "UPDATE aliases SET target = $1", string(Key().ID))
	if _, _, err := s.ListAliases(ctx, account, region, "", 10); !isCorrupt(err) {
		t.Errorf("ListAliases: %v", err)
	}
	var refused []string
	counts, err := s.Verify(ctx, func(e *store.CorruptRowError) { refused = append(refused, e.Table+" "+e.Key) })
	want := "aliases " + string(account) + "/" + string(region) + "/alias/name"
	if !isCorrupt(err) || !slices.Equal(refused, []string{want}) || counts.Keys != 1 || counts.Aliases != 0 {
		t.Errorf("Verify: %+v, %v, %v", counts, refused, err)
	}
}

// testMovedRows swaps what two rows hold, and copies rows to other primary keys and tables.
func testMovedRows(t *testing.T, h Harness) {
	s := h.Open(t)
	ctx, one, two := t.Context(), Key(), Key()
	two.Policy = `{"Version":"2012-10-17","Statement":[]}`
	put(t, s, one, two)
	update(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.InsertAlias(alias(one, "one")), tx.InsertAlias(alias(two, "two")), tx.PutAccount(anAccount()),
			tx.PutAccessKey(anAccessKey("AKIA1")), tx.PutAccessKey(anAccessKey("AKIA2")))
	})
	db := h.SQL(t, s)
	body := func(table, column, pkColumn, pk string) (v []byte) {
		if err := db.QueryRowContext(ctx, "SELECT "+column+" FROM "+table+" WHERE "+pkColumn+" = $1", pk).Scan(&v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	bodyOne, tagOne := body("keys", "body", "key_id", string(one.ID)), body("keys", "tag", "key_id", string(one.ID))
	bodyTwo, tagTwo := body("keys", "body", "key_id", string(two.ID)), body("keys", "tag", "key_id", string(two.ID))
	const setKey = "UPDATE keys SET body = $1, tag = $2 WHERE key_id = $3"
	exec(t, db, setKey, bodyTwo, tagTwo, string(one.ID))
	exec(t, db, setKey, bodyOne, tagOne, string(two.ID))
	for _, n := range []key.Name{one.Name, two.Name} {
		if _, err := s.GetKey(ctx, n); !isCorrupt(err) {
			t.Errorf("a key with another's body: %v", err)
		}
	}
	exec(t, db, setKey, bodyOne, tagOne, string(one.ID))
	exec(t, db, setKey, bodyTwo, tagTwo, string(two.ID))

	const copyKey = "INSERT INTO keys (account, region, key_id, due_ms, body, tag) VALUES ($1, $2, $3, NULL, $4, $5)"
	for _, n := range []key.Name{
		{Account: account, Region: region, ID: arn.NewKeyID(false)},
		{Account: "444455556666", Region: region, ID: one.ID},
		{Account: account, Region: "eu-west-1", ID: one.ID},
	} {
		exec(t, db, copyKey, string(n.Account), string(n.Region), string(n.ID), bodyOne, tagOne)
		if _, err := s.GetKey(ctx, n); !isCorrupt(err) {
			t.Errorf("a copy at %v: %v", n, err)
		}
	}
	exec(t, db, "UPDATE aliases SET target = $1 WHERE name = $2", string(two.ID), "alias/one")
	if _, err := s.GetAlias(ctx, account, region, "alias/one"); !isCorrupt(err) {
		t.Errorf("an alias with another target: %v", err)
	}
	if _, _, err := s.ListAliasesOfKey(ctx, two.Name, "", 10); !isCorrupt(err) {
		t.Errorf("the aliases of that target: %v", err)
	}
	sealed := body("access_keys", "sealed", "access_key_id", "AKIA1")
	exec(t, db, "UPDATE access_keys SET sealed = $1 WHERE access_key_id = $2", sealed, "AKIA2")
	if _, err := s.GetAccessKey(ctx, "AKIA2"); !isCorrupt(err) {
		t.Errorf("an access key with another's secret: %v", err)
	}
	if _, err := s.ListAccessKeys(ctx, account); !isCorrupt(err) {
		t.Errorf("the list with it: %v", err)
	}
}

// testSeals changes stored seals and domain keys: the next start must not unseal.
func testSeals(t *testing.T, h Harness) {
	s := h.Open(t)
	ctx, db := t.Context(), h.SQL(t, s)
	unseals := func() error {
		sealed, err := s.DB().Sealed(ctx)
		if err == nil {
			_, err = seal.Unseal(ctx, sealed, Seal())
		}
		return err
	}
	if err := unseals(); err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{
		{"UPDATE seals SET kind = 'passphrase'", "UPDATE seals SET kind = 'key-file'"},
		{"UPDATE seals SET name = 'tess'", "UPDATE seals SET name = 'test'"},
		{"UPDATE seals SET created_ms = created_ms + 1", "UPDATE seals SET created_ms = created_ms - 1"},
		{"UPDATE domain_keys SET created_ms = created_ms + 1", "UPDATE domain_keys SET created_ms = created_ms - 1"},
		{"UPDATE domain_keys SET version = version + 1", "UPDATE domain_keys SET version = version - 1"},
		{"UPDATE domain_keys SET domain = 'tokem' WHERE domain = 'token'", "UPDATE domain_keys SET domain = 'token' WHERE domain = 'tokem'"},
	} {
		exec(t, db, change[0])
		if err := unseals(); !errors.Is(err, seal.ErrOpen) {
			t.Errorf("%s: %v", change[0], err)
		}
		exec(t, db, change[1])
	}
	if err := unseals(); err != nil {
		t.Fatal(err)
	}
	sealed, err := s.DB().Sealed(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DB().Initialize(ctx, sealed); !errors.Is(err, store.ErrInitialized) {
		t.Errorf("initialising again: %v", err)
	}
	if err := s.DB().ReplaceSealed(ctx, seal.Sealed{DomainKeys: sealed.DomainKeys}); !errors.Is(err, seal.ErrLastSeal) {
		t.Errorf("removing all seals: %v", err)
	}
}
