package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/seal"
)

// rowData is what the tag of a row covers: the table, then every column but the tag itself in the order of the table's
// definition, each with its length. The version of the row's layout is the first octet of its body.
func rowData(table string, columns ...string) []byte {
	return seal.Associate("keywright row v1", append([]string{table}, columns...)...)
}

// credentialAssociatedData is bound to an access key's encrypted secret.
func credentialAssociatedData(k *AccessKey) []byte {
	return seal.Associate("keywright access key v1", k.ID, string(k.Account))
}

// The rows as they are stored. A column that SQL compares as a number is read as any: whatever an attacker puts there,
// reading it must not fail in another way than verification does.
type (
	keyRow struct {
		account, region, id string
		due                 any
		body, tag           []byte
	}
	aliasRow struct {
		account, region, name, target string
		body, tag                     []byte
	}
	accountRow struct {
		account   string
		body, tag []byte
	}
	accessKeyRow struct {
		id, account, principal, status string
		sealed, body, tag              []byte
	}
)

func scanKeyRow(rows *sql.Rows) (r keyRow, err error) {
	return r, rows.Scan(&r.account, &r.region, &r.id, &r.due, &r.body, &r.tag)
}

func scanAliasRow(rows *sql.Rows) (r aliasRow, err error) {
	return r, rows.Scan(&r.account, &r.region, &r.name, &r.target, &r.body, &r.tag)
}

func scanAccountRow(rows *sql.Rows) (r accountRow, err error) {
	return r, rows.Scan(&r.account, &r.body, &r.tag)
}

func scanAccessKeyRow(rows *sql.Rows) (r accessKeyRow, err error) { return r, r.scan(rows) }

func (r *accessKeyRow) scan(row scanner) error {
	return row.Scan(&r.id, &r.account, &r.principal, &r.status, &r.sealed, &r.body, &r.tag)
}

func (r *keyRow) primaryKey() string       { return r.account + "/" + r.region + "/" + r.id }
func (r *aliasRow) primaryKey() string     { return r.account + "/" + r.region + "/" + r.name }
func (r *accountRow) primaryKey() string   { return r.account }
func (r *accessKeyRow) primaryKey() string { return r.id }

func (r *keyRow) data() []byte {
	return rowData("keys", r.account, r.region, r.id, dueText(r.due), string(r.body))
}

func (r *aliasRow) data() []byte {
	return rowData("aliases", r.account, r.region, r.name, r.target, string(r.body))
}

func (r *accountRow) data() []byte { return rowData("accounts", r.account, string(r.body)) }

func (r *accessKeyRow) data() []byte {
	return rowData("access_keys", r.id, r.account, r.principal, r.status, string(r.sealed), string(r.body))
}

// dueText gives the due_ms column in rowData: decimal, or empty for NULL. What is no number becomes text that no number
// gives.
func dueText(due any) string {
	switch v := due.(type) {
	case nil:
		return ""
	case int64:
		return strconv.FormatInt(v, 10)
	}
	return fmt.Sprintf("not a number: %v", due)
}

// dueColumn is the due_ms column of a key: nil for never.
func dueColumn(k *key.Key) any {
	if due := k.Due(); !due.IsZero() {
		return due.UnixMilli()
	}
	return nil
}

// verifier checks rows and turns them into nouns.
type verifier struct {
	barrier *seal.Barrier
	log     *slog.Logger
	timing  *timing
}

// corrupt logs and tells that a row is refused, and returns the error for it.
func (v *verifier) corrupt(table, primaryKey string) error {
	v.log.Error("a stored row was changed outside Keywright and is refused", "table", table, "row", primaryKey)
	v.timing.refused(table)
	return &CorruptRowError{table, primaryKey}
}

// verify checks the tag of a row. A tag made with a domain key that this process does not have may come from another
// process: the domain keys are read again, through q because a transaction may hold the only connection.
func (v *verifier) verify(ctx context.Context, q querier, table, primaryKey string, data, tag []byte) error {
	err := v.barrier.VerifyTag(seal.Row, data, tag)
	if v.reloaded(ctx, q, err) {
		err = v.barrier.VerifyTag(seal.Row, data, tag)
	}
	if err != nil {
		return v.corrupt(table, primaryKey)
	}
	return nil
}

// reloaded reports whether err was an unknown version of a domain key and the domain keys were read again since.
func (v *verifier) reloaded(ctx context.Context, q querier, err error) bool {
	var unknown *seal.UnknownVersionError
	if !errors.As(err, &unknown) {
		return false
	}
	keys, err := collect(ctx, q, scanDomainKey, selectDomainKeys)
	if err == nil {
		err = v.barrier.Load(keys)
	}
	if err != nil {
		v.log.Error("loading domain keys again", "error", err)
	}
	return err == nil
}

func (v *verifier) key(ctx context.Context, q querier, r keyRow) (*key.Key, error) {
	if err := v.verify(ctx, q, "keys", r.primaryKey(), r.data(), r.tag); err != nil {
		return nil, err
	}
	name := key.Name{Account: arn.Account(r.account), Region: arn.Region(r.region), ID: arn.KeyID(r.id)}
	k, err := decodeKey(name, r.body)
	if err != nil {
		return nil, v.corrupt("keys", r.primaryKey())
	}
	return k, nil
}

func (v *verifier) alias(ctx context.Context, q querier, r aliasRow) (*key.Alias, error) {
	if err := v.verify(ctx, q, "aliases", r.primaryKey(), r.data(), r.tag); err != nil {
		return nil, err
	}
	a, err := decodeAlias(key.Alias{
		Account: arn.Account(r.account), Region: arn.Region(r.region),
		Name: arn.AliasName(r.name), Target: arn.KeyID(r.target),
	}, r.body)
	if err != nil {
		return nil, v.corrupt("aliases", r.primaryKey())
	}
	return a, nil
}

func (v *verifier) account(ctx context.Context, q querier, r accountRow) (*Account, error) {
	if err := v.verify(ctx, q, "accounts", r.primaryKey(), r.data(), r.tag); err != nil {
		return nil, err
	}
	a, err := decodeAccount(Account{ID: arn.Account(r.account)}, r.body)
	if err != nil {
		return nil, v.corrupt("accounts", r.primaryKey())
	}
	return a, nil
}

func (v *verifier) accessKey(ctx context.Context, q querier, r accessKeyRow) (*AccessKey, error) {
	if err := v.verify(ctx, q, "access_keys", r.primaryKey(), r.data(), r.tag); err != nil {
		return nil, err
	}
	k, err := decodeAccessKey(AccessKey{
		ID: r.id, Account: arn.Account(r.account), Principal: r.principal,
		Status: AccessKeyStatus(r.status),
	}, r.body)
	if err != nil {
		return nil, v.corrupt("access_keys", r.primaryKey())
	}
	k.Secret, err = v.barrier.Decrypt(seal.Credential, credentialAssociatedData(k), r.sealed)
	if v.reloaded(ctx, q, err) {
		k.Secret, err = v.barrier.Decrypt(seal.Credential, credentialAssociatedData(k), r.sealed)
	}
	if err != nil {
		return nil, v.corrupt("access_keys", r.primaryKey())
	}
	return k, nil
}

// named is a row that says its primary key.
type named[R any] interface {
	*R
	primaryKey() string
}

// verified reads the row with a primary key, whose columns are args, and makes the noun of it with check. The row must be
// the one that was asked for: an index of the database that was changed can lead to another row, which is genuine and
// somebody else's.
func verified[R, T any, P named[R]](ctx context.Context, v *verifier, q querier, table string, scan func(*sql.Rows) (R, error),
	check func(context.Context, querier, R) (T, error), s statement, args ...string,
) (T, error) {
	var zero T
	values := make([]any, len(args))
	for i, a := range args {
		values[i] = a
	}
	r, err := one(ctx, q, scan, s, values...)
	if err != nil {
		return zero, err
	}
	if want := strings.Join(args, "/"); P(&r).primaryKey() != want {
		return zero, v.corrupt(table, want)
	}
	return check(ctx, q, r)
}

// verifiedAll is verified for many rows. One that does not verify makes the whole list fail: a list without it would be
// a forgery too.
func verifiedAll[R, T any](ctx context.Context, q querier, scan func(*sql.Rows) (R, error),
	check func(context.Context, querier, R) (T, error), s statement, args ...any,
) ([]T, error) {
	rows, err := collect(ctx, q, scan, s, args...)
	if err != nil {
		return nil, err
	}
	out := make([]T, 0, len(rows))
	for _, r := range rows {
		v, err := check(ctx, q, r)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// The rows to write: the inverse of the functions above.

func (v *verifier) tag(data []byte) ([]byte, error) {
	return v.barrier.Tag(make([]byte, 0, seal.TagSize), seal.Row, data)
}

func (v *verifier) keyRow(k *key.Key) (r keyRow, err error) {
	if k.Account == "" || k.Region == "" || k.ID == "" || k.State == "" || k.Spec == "" || k.Usage == "" {
		return r, errors.New("a key has an account, a Region, an id, a state, a spec and a usage")
	}
	r = keyRow{account: string(k.Account), region: string(k.Region), id: string(k.ID), due: dueColumn(k), body: encodeKey(k)}
	r.tag, err = v.tag(r.data())
	return r, err
}

func (v *verifier) aliasRow(a *key.Alias) (r aliasRow, err error) {
	if a.Account == "" || a.Region == "" || a.Name == "" || a.Target == "" {
		return r, errors.New("an alias has an account, a Region, a name and a target")
	}
	r = aliasRow{account: string(a.Account), region: string(a.Region), name: string(a.Name), target: string(a.Target), body: encodeAlias(a)}
	r.tag, err = v.tag(r.data())
	return r, err
}

func (v *verifier) accountRow(a *Account) (r accountRow, err error) {
	if a.ID == "" {
		return r, errors.New("an account has an id")
	}
	r = accountRow{account: string(a.ID), body: encodeAccount(a)}
	r.tag, err = v.tag(r.data())
	return r, err
}

func (v *verifier) accessKeyRow(k *AccessKey) (r accessKeyRow, err error) {
	if k.ID == "" || k.Account == "" || k.Principal == "" || k.Status == "" || k.Secret.Len() == 0 {
		return r, errors.New("an access key has an id, an account, a principal, a status and a secret")
	}
	r = accessKeyRow{id: k.ID, account: string(k.Account), principal: k.Principal, status: string(k.Status), body: encodeAccessKey(k)}
	r.sealed, err = v.barrier.Encrypt(seal.Credential, credentialAssociatedData(k), k.Secret)
	if err != nil {
		return r, err
	}
	r.tag, err = v.tag(r.data())
	return r, err
}

func scanDomainKey(rows *sql.Rows) (k seal.DomainKey, err error) {
	var domain string
	var version, created int64
	if err := rows.Scan(&domain, &version, &k.RootID, &created, &k.Wrapped); err != nil {
		return k, err
	}
	k.Domain, err = seal.ParseDomain(domain)
	if err != nil || version < 1 || version > 1<<32-1 {
		return k, fmt.Errorf("domain key %q version %d: %w", domain, version, seal.ErrOpen)
	}
	k.Version, k.CreatedAt = uint32(version), time.UnixMilli(created).UTC()
	return k, nil
}
