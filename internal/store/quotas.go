package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/seal"
)

// Quota is something that was said of a quota of an account in a Region. The store does not know what is in its body, which the
// row's tag covers like everything else.
type Quota struct {
	Account arn.Account
	Region  arn.Region
	Kind    string // such as "value"
	Name    string // unique within account, Region and kind
	Body    []byte
}

// ChangedQuota is a ChangeKind: Ref is the kind of a quota's row, a slash and its name.
const ChangedQuota ChangeKind = "quota"

type quotaRow struct {
	account, region, kind, name string
	body, tag                   []byte
}

func scanQuotaRow(rows *sql.Rows) (r quotaRow, err error) {
	return r, rows.Scan(&r.account, &r.region, &r.kind, &r.name, &r.body, &r.tag)
}

func (r *quotaRow) primaryKey() string {
	return r.account + "/" + r.region + "/" + r.kind + "/" + r.name
}

func (r *quotaRow) data() []byte {
	return rowData("quotas", r.account, r.region, r.kind, r.name, string(r.body))
}

func (v *verifier) quota(ctx context.Context, q querier, r quotaRow) (*Quota, error) {
	if err := v.verify(ctx, q, "quotas", r.primaryKey(), r.data(), r.tag); err != nil {
		return nil, err
	}
	return &Quota{Account: arn.Account(r.account), Region: arn.Region(r.region), Kind: r.kind, Name: r.name, Body: r.body}, nil
}

func (v *verifier) quotaRow(n *Quota) (r quotaRow, err error) {
	if n.Account == "" || n.Region == "" || n.Kind == "" || n.Name == "" || len(n.Body) == 0 {
		return r, errors.New("what is said of a quota has an account, a Region, a kind, a name and a body")
	}
	r = quotaRow{account: string(n.Account), region: string(n.Region), kind: n.Kind, name: n.Name, body: n.Body}
	r.tag, err = v.tag(r.data())
	return r, err
}

// ListQuotas returns what was said of quotas of an account in a Region under a kind, in the order of names.
func (s *Store) ListQuotas(ctx context.Context, a arn.Account, region arn.Region, kind string) ([]*Quota, error) {
	all, err := verifiedAll(ctx, s.reads, scanQuotaRow, s.verifier.quota, selectQuotas, string(a), string(region), kind)
	if err != nil {
		return nil, doing("listing quotas", err)
	}
	for _, n := range all {
		if n.Account != a || n.Region != region || n.Kind != kind { // an index of the database was changed
			r := quotaRow{account: string(n.Account), region: string(n.Region), kind: n.Kind, name: n.Name}
			return nil, doing("listing quotas", s.verifier.corrupt("quotas", r.primaryKey()))
		}
	}
	return all, nil
}

// ListAllQuotas returns all that was said of quotas, of all accounts in all Regions. Unlike others, the list is to be used without the
// rows that do not verify: the error then is a CorruptRowError, about one of them.
func (s *Store) ListAllQuotas(ctx context.Context) (list []*Quota, err error) {
	rows, err := collect(ctx, s.reads, scanQuotaRow, selectAllQuotas)
	if err != nil {
		return nil, doing("listing all quotas", err)
	}
	for _, r := range rows {
		n, bad := s.verifier.quota(ctx, s.reads, r)
		if bad != nil {
			err = bad
			continue
		}
		list = append(list, n)
	}
	return list, doing("listing all quotas", err)
}

// GetQuota returns what was said of a quota under a primary key, or ErrNotFound.
func (s *Store) GetQuota(ctx context.Context, a arn.Account, r arn.Region, kind, name string) (*Quota, error) {
	n, err := verified(ctx, &s.verifier, s.reads, "quotas", scanQuotaRow, s.verifier.quota, selectQuota, string(a), string(r), kind, name)
	return n, doing("reading a quota", err)
}

// GetQuota is Store.GetQuota inside the transaction.
func (tx *Tx) GetQuota(a arn.Account, r arn.Region, kind, name string) (*Quota, error) {
	if err := tx.touch(scope{a, r}); err != nil {
		return nil, err
	}
	n, err := verified(context.Background(), &tx.g.w.verifier, tx.g, "quotas", scanQuotaRow, tx.g.w.verifier.quota, selectQuota,
		string(a), string(r), kind, name)
	return n, doing("reading a quota", err)
}

// PutQuota writes what is said of a quota, new or in place of what has its primary key. Its account must be there.
func (tx *Tx) PutQuota(n *Quota) error {
	r, err := tx.g.w.verifier.quotaRow(n)
	if err == nil {
		err = tx.touch(scope{n.Account, n.Region})
	}
	if err == nil {
		_, err = tx.exec(upsertQuota, r.account, r.region, r.kind, r.name, r.body, r.tag)
	}
	if err == nil {
		err = tx.changed(scope{n.Account, n.Region}, ChangedQuota, n.Kind+"/"+n.Name, 0)
	}
	return doing("writing a quota", err)
}

// DeleteQuota removes what was said of a quota; ErrNotFound if it is not there.
func (tx *Tx) DeleteQuota(a arn.Account, r arn.Region, kind, name string) error {
	var n int64
	err := tx.touch(scope{a, r})
	if err == nil {
		n, err = tx.exec(deleteQuota, string(a), string(r), kind, name)
	}
	switch {
	case err != nil:
	case n == 0:
		err = ErrNotFound
	default:
		err = tx.changed(scope{a, r}, ChangedQuota, kind+"/"+name, 0)
	}
	return doing("deleting what was said of a quota", err)
}

var quotaTable = table[quotaRow]{
	walkQuotas, scanQuotaRow,
	[]any{"", "", "", ""},
	func(r quotaRow) []any { return []any{r.account, r.region, r.kind, r.name} },
	func(r quotaRow) scope { return within(r.account, r.region) },
}

// rekeyQuota writes past PutQuota: nothing changes that a follower of the feed could see.
func (tx *Tx) rekeyQuota(r quotaRow, checkOnly bool) (bool, error) {
	v := tx.g.w.verifier
	n, err := v.quota(context.Background(), tx.g, r)
	if err != nil || !v.barrier.StaleTag(seal.Row, r.tag) {
		return false, err
	}
	if checkOnly {
		return true, nil
	}
	if r, err = v.quotaRow(n); err != nil {
		return false, err
	}
	_, err = tx.exec(upsertQuota, r.account, r.region, r.kind, r.name, r.body, r.tag)
	return true, err
}
