package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/seal"
)

// grantBodyVersion is the layout of a grant's body that is written now.
const grantBodyVersion = 1

type grantRow struct {
	account, region, key, id, retiring string
	body, tag                          []byte
}

func scanGrantRow(rows *sql.Rows) (r grantRow, err error) {
	return r, rows.Scan(&r.account, &r.region, &r.key, &r.id, &r.retiring, &r.body, &r.tag)
}

func (r *grantRow) primaryKey() string {
	return strings.Join([]string{r.account, r.region, r.key, r.id}, "/")
}

func (r *grantRow) data() []byte {
	return rowData("grants", r.account, r.region, r.key, r.id, r.retiring, string(r.body))
}

// encodeGrant writes everything of a grant but its key and id.
func encodeGrant(g *key.Grant) []byte {
	w := make(bodyWriter, 0, 256)
	w.octet(grantBodyVersion)
	w.str(g.Name)
	w.time(g.CreatedAt)
	w.str(string(g.Issuer))
	for _, p := range []*key.GrantPrincipal{&g.Grantee, &g.Retiring} {
		w.str(p.ARN)
		w.str(p.ID)
		w.str(p.Service)
	}
	w.num(int64(g.Operations))
	w.pairs(g.Constraints.Equals)
	w.pairs(g.Constraints.Subset)
	w.str(g.Constraints.SourceARN)
	return w
}

// pairs writes a map: whether there is one, and its pairs in the order of their names.
func (w *bodyWriter) pairs(m map[string]string) {
	w.truth(m != nil)
	if m == nil {
		return
	}
	w.count(len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		w.str(k)
		w.str(m[k])
	}
}

// pairs reads what pairs wrote, and nothing else: names in order, each once.
func (r *bodyReader) pairs() map[string]string {
	if !r.truth() {
		return nil
	}
	n := r.count()
	m := make(map[string]string, n)
	last := ""
	for i := range n {
		k := r.str()
		r.bad = r.bad || i > 0 && k <= last
		m[k], last = r.str(), k
	}
	return m
}

func decodeGrant(name key.Name, id string, body []byte) (*key.Grant, error) {
	r := bodyReader{rest: body}
	r.version(grantBodyVersion)
	g := &key.Grant{ID: id, Key: name, Name: r.str(), CreatedAt: r.time(), Issuer: arn.Account(r.str())}
	for _, p := range []*key.GrantPrincipal{&g.Grantee, &g.Retiring} {
		p.ARN, p.ID, p.Service = r.str(), r.str(), r.str()
	}
	operations := r.num()
	r.bad = r.bad || operations < 0 || operations > 1<<32-1
	g.Operations = key.GrantOperations(operations)
	g.Constraints = key.GrantConstraints{Equals: r.pairs(), Subset: r.pairs(), SourceARN: r.str()}
	return g, r.end()
}

func (v *verifier) grant(ctx context.Context, q querier, r grantRow) (*key.Grant, error) {
	if err := v.verify(ctx, q, "grants", r.primaryKey(), r.data(), r.tag); err != nil {
		return nil, err
	}
	g, err := decodeGrant(key.Name{Account: arn.Account(r.account), Region: arn.Region(r.region), ID: arn.KeyID(r.key)}, r.id, r.body)
	if err != nil {
		return nil, v.corrupt("grants", r.primaryKey())
	}
	return g, nil
}

func (v *verifier) grantRow(g *key.Grant) (r grantRow, err error) {
	n := g.Key
	if n.Account == "" || n.Region == "" || n.ID == "" || g.ID == "" || g.Issuer == "" || g.Grantee.Known() == "" || g.Operations == 0 {
		return r, errors.New("a grant has a key, an id, an issuer, a grantee and operations")
	}
	r = grantRow{
		account: string(n.Account), region: string(n.Region), key: string(n.ID), id: g.ID, retiring: g.Retiring.Holder(), body: encodeGrant(g),
	}
	r.tag, err = v.tag(r.data())
	return r, err
}

// GetGrant returns a grant, or ErrNotFound.
func (s *Store) GetGrant(ctx context.Context, n key.Name, id string) (*key.Grant, error) {
	g, err := verified(ctx, &s.verifier, s.reads, "grants", scanGrantRow, s.verifier.grant, selectGrant,
		string(n.Account), string(n.Region), string(n.ID), id)
	return g, doing("reading a grant", err)
}

// ListGrants returns the grants of a key whose ids come after the given one in the order of their octets, limit at most, and
// whether there are more.
func (s *Store) ListGrants(ctx context.Context, n key.Name, after string, limit int) (grants []*key.Grant, more bool, err error) {
	grants, err = verifiedAll(ctx, s.reads, scanGrantRow, s.verifier.grant, selectGrantsOfKey,
		string(n.Account), string(n.Region), string(n.ID), after, limit+1)
	if err == nil {
		err = s.grantsInPlace(grants, func(g *key.Grant) bool { return g.Key == n })
	}
	if err != nil {
		return nil, false, fmt.Errorf("listing the grants of a key: %w", err)
	}
	grants, more = page(grants, limit)
	return grants, more, nil
}

// GrantRef names a grant among those of all keys.
type GrantRef struct {
	Account arn.Account
	Key     arn.KeyID
	ID      string
}

// ListRetirableGrants returns the grants of a Region, on keys of any account, whose Retiring.Holder is the given one. They
// come after a grant in the order of account, key and id (the zero GrantRef for the first page), limit at most; more says
// whether there are others.
func (s *Store) ListRetirableGrants(ctx context.Context, holder string, r arn.Region, after GrantRef, limit int) (grants []*key.Grant, more bool, err error) {
	if holder == "" {
		return nil, false, nil // the column of grants that nobody in particular may retire
	}
	grants, err = verifiedAll(ctx, s.reads, scanGrantRow, s.verifier.grant, selectRetirable,
		holder, string(r), string(after.Account), string(after.Key), after.ID, limit+1)
	if err == nil {
		err = s.grantsInPlace(grants, func(g *key.Grant) bool { return g.Retiring.Holder() == holder && g.Key.Region == r })
	}
	if err != nil {
		return nil, false, fmt.Errorf("listing retirable grants: %w", err)
	}
	grants, more = page(grants, limit)
	return grants, more, nil
}

// grantsInPlace is inPlace for grants.
func (s *Store) grantsInPlace(grants []*key.Grant, belongs func(*key.Grant) bool) error {
	for _, g := range grants {
		if !belongs(g) {
			n := g.Key
			return s.verifier.corrupt("grants", strings.Join([]string{string(n.Account), string(n.Region), string(n.ID), g.ID}, "/"))
		}
	}
	return nil
}

// PutGrant writes a grant, new or in place of what is there. Its key must be there. Times are kept to the millisecond.
func (tx *Tx) PutGrant(g *key.Grant) error {
	r, err := tx.g.w.verifier.grantRow(g)
	if err == nil {
		err = tx.touch(scope{g.Key.Account, g.Key.Region})
	}
	if err == nil {
		_, err = tx.exec(upsertGrant, r.account, r.region, r.key, r.id, r.retiring, r.body, r.tag)
	}
	if err == nil {
		err = tx.changed(scope{g.Key.Account, g.Key.Region}, ChangedGrant, grantRef(g.Key, g.ID), 0)
	}
	return doing("writing a grant", err)
}

// ExpectGrants gives ErrConflict unless the grants of a key are those that it had when the change feed of its account and Region stood
// at n, or if that cannot be told any more. It is for who remembers them while other processes change them, and looks at nothing where
// none do.
func (tx *Tx) ExpectGrants(name key.Name, n int64) error {
	if !tx.g.w.shared {
		return nil
	}
	changes, err := tx.ChangesSince(name.Account, name.Region, n, expectPage)
	of := func(c Change) bool { return c.Kind == ChangedGrant && strings.HasPrefix(c.Ref, grantRef(name, "")) }
	if errors.Is(err, ErrTrimmed) || len(changes) == expectPage || slices.ContainsFunc(changes, of) {
		err = ErrConflict
	}
	return doing("looking whether grants have changed", err)
}

// expectPage is how many changes in an account and Region ExpectGrants looks at. Where there are more, reading the grants again costs
// little more.
const expectPage = 1000

// grantRef names a grant in the change feed of its account and Region.
func grantRef(n key.Name, id string) string { return string(n.ID) + "/" + id }

// DeleteGrant removes a grant; ErrNotFound if it is not there.
func (tx *Tx) DeleteGrant(n key.Name, id string) error {
	if err := tx.touch(scope{n.Account, n.Region}); err != nil {
		return doing("deleting a grant", err)
	}
	count, err := tx.exec(deleteGrant, string(n.Account), string(n.Region), string(n.ID), id)
	switch {
	case err != nil:
	case count == 0:
		err = ErrNotFound
	default:
		err = tx.changed(scope{n.Account, n.Region}, ChangedGrant, grantRef(n, id), 0)
	}
	return doing("deleting a grant", err)
}

// GetGrant is Store.GetGrant inside the transaction.
func (tx *Tx) GetGrant(n key.Name, id string) (*key.Grant, error) {
	if err := tx.touch(scope{n.Account, n.Region}); err != nil {
		return nil, err
	}
	g, err := verified(context.Background(), &tx.g.w.verifier, tx.g, "grants", scanGrantRow, tx.g.w.verifier.grant, selectGrant,
		string(n.Account), string(n.Region), string(n.ID), id)
	return g, doing("reading a grant", err)
}

var grantTable = table[grantRow]{
	walkGrants, scanGrantRow,
	[]any{"", "", "", ""},
	func(r grantRow) []any { return []any{r.account, r.region, r.key, r.id} },
	func(r grantRow) scope { return within(r.account, r.region) },
}

// rekeyGrant writes past PutGrant, as rekeyAlias does past PutAlias.
func (tx *Tx) rekeyGrant(r grantRow, checkOnly bool) (bool, error) {
	v := tx.g.w.verifier
	g, err := v.grant(context.Background(), tx.g, r)
	if err != nil || !v.barrier.StaleTag(seal.Row, r.tag) {
		return false, err
	}
	if checkOnly {
		return true, nil
	}
	if r, err = v.grantRow(g); err != nil {
		return false, err
	}
	_, err = tx.exec(upsertGrant, r.account, r.region, r.key, r.id, r.retiring, r.body, r.tag)
	return true, err
}
