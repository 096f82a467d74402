package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
)

// Identity is a noun of an account, such as a user or a policy. The store does not know what is in its body, which the
// row's tag covers like everything else.
type Identity struct {
	Account arn.Account
	Kind    string // such as "user"
	Name    string // unique within account and kind, in the form in which it is
	ID      string // unique in the installation, and never given again
	Body    []byte
	Secret  secret.Bytes // encrypted in the store; zero for none
}

// GlobalRegion is where the change feed has the changes of what belongs to an account and to no Region of it.
const GlobalRegion arn.Region = "aws-global"

// ChangedIdentity is a ChangeKind: Ref is the kind of an identity, a slash and its name.
const ChangedIdentity ChangeKind = "identity"

type identityRow struct {
	account, kind, name, id string
	sealed, body, tag       []byte
}

func scanIdentityRow(rows *sql.Rows) (r identityRow, err error) {
	return r, rows.Scan(&r.account, &r.kind, &r.name, &r.id, &r.sealed, &r.body, &r.tag)
}

func (r *identityRow) primaryKey() string { return r.account + "/" + r.kind + "/" + r.name }

func (r *identityRow) data() []byte {
	return rowData("identities", r.account, r.kind, r.name, r.id, string(r.sealed), string(r.body))
}

// identityAssociatedData is bound to an identity's encrypted secret.
func identityAssociatedData(r *identityRow) []byte {
	return seal.Associate("keywright identity v1", r.account, r.kind, r.id)
}

func (v *verifier) identity(ctx context.Context, q querier, r identityRow) (*Identity, error) {
	if err := v.verify(ctx, q, "identities", r.primaryKey(), r.data(), r.tag); err != nil {
		return nil, err
	}
	n := &Identity{Account: arn.Account(r.account), Kind: r.kind, Name: r.name, ID: r.id, Body: r.body}
	if len(r.sealed) == 0 {
		return n, nil
	}
	var err error
	n.Secret, err = v.barrier.Decrypt(seal.Credential, identityAssociatedData(&r), r.sealed)
	if v.reloaded(ctx, q, err) {
		n.Secret, err = v.barrier.Decrypt(seal.Credential, identityAssociatedData(&r), r.sealed)
	}
	if err != nil {
		return nil, v.corrupt("identities", r.primaryKey())
	}
	return n, nil
}

func (v *verifier) identityRow(n *Identity) (r identityRow, err error) {
	if n.Account == "" || n.Kind == "" || n.Name == "" || n.ID == "" || len(n.Body) == 0 {
		return r, errors.New("an identity has an account, a kind, a name, an id and a body")
	}
	r = identityRow{account: string(n.Account), kind: n.Kind, name: n.Name, id: n.ID, sealed: []byte{}, body: n.Body}
	if n.Secret.Len() > 0 {
		if r.sealed, err = v.barrier.Encrypt(seal.Credential, identityAssociatedData(&r), n.Secret); err != nil {
			return r, err
		}
	}
	r.tag, err = v.tag(r.data())
	return r, err
}

// WholeAccount is an account with everything that it has, as it was at one moment.
type WholeAccount struct {
	Account    *Account
	Identities []*Identity // in the order of kinds and names
	Position   int64       // of the account's change feed in GlobalRegion
}

// wholeRow is an account beside one of its identities, if it has any.
type wholeRow struct {
	account  accountRow
	position sql.NullInt64
	owner    sql.NullString // of the identity; null if there is none
	identity identityRow
}

func scanWholeRow(rows *sql.Rows) (r wholeRow, err error) {
	var kind, name, id sql.NullString
	err = rows.Scan(&r.account.account, &r.account.body, &r.account.tag, &r.position, &r.owner, &kind, &name, &id, &r.identity.sealed, &r.identity.body, &r.identity.tag)
	r.identity.account, r.identity.kind, r.identity.name, r.identity.id = r.owner.String, kind.String, name.String, id.String
	return r, err
}

// GetWholeAccount returns an account and everything that it has, with one query, or ErrNotFound.
func (s *Store) GetWholeAccount(ctx context.Context, a arn.Account) (*WholeAccount, error) {
	w, err := s.wholeAccount(ctx, a)
	return w, doing("reading a whole account", err)
}

func (s *Store) wholeAccount(ctx context.Context, a arn.Account) (*WholeAccount, error) {
	rows, err := collect(ctx, s.reads, scanWholeRow, selectWholeAccount, string(a))
	switch {
	case err != nil:
		return nil, err
	case len(rows) == 0:
		return nil, ErrNotFound
	case rows[0].account.account != string(a): // an index of the database was changed
		return nil, s.verifier.corrupt("accounts", string(a))
	}
	w := &WholeAccount{Position: rows[0].position.Int64}
	if w.Account, err = s.verifier.account(ctx, s.reads, rows[0].account); err != nil {
		return nil, err
	}
	for _, r := range rows {
		if !r.owner.Valid {
			continue
		}
		if r.owner.String != string(a) { // likewise
			return nil, s.verifier.corrupt("identities", r.identity.primaryKey())
		}
		n, err := s.verifier.identity(ctx, s.reads, r.identity)
		if err != nil {
			return nil, err
		}
		w.Identities = append(w.Identities, n)
	}
	return w, nil
}

// GetIdentity returns the identity with a primary key, or ErrNotFound.
func (s *Store) GetIdentity(ctx context.Context, a arn.Account, kind, name string) (*Identity, error) {
	n, err := verified(ctx, &s.verifier, s.reads, "identities", scanIdentityRow, s.verifier.identity, selectIdentity, string(a), kind, name)
	return n, doing("reading an identity", err)
}

// IdentityByID returns the identity with a unique id, in whatever account, or ErrNotFound.
func (s *Store) IdentityByID(ctx context.Context, id string) (*Identity, error) {
	r, err := one(ctx, s.reads, scanIdentityRow, selectIdentityByID, id)
	if err == nil && r.id != id {
		err = s.verifier.corrupt("identities", r.primaryKey())
	}
	if err != nil {
		return nil, doing("reading an identity", err)
	}
	n, err := s.verifier.identity(ctx, s.reads, r)
	return n, doing("reading an identity", err)
}

// GetIdentity is Store.GetIdentity inside the transaction.
func (tx *Tx) GetIdentity(a arn.Account, kind, name string) (*Identity, error) {
	if err := tx.touch(global(a)); err != nil {
		return nil, err
	}
	n, err := verified(context.Background(), &tx.g.w.verifier, tx.g, "identities", scanIdentityRow, tx.g.w.verifier.identity,
		selectIdentity, string(a), kind, name)
	return n, doing("reading an identity", err)
}

// PutIdentity writes an identity, new or in place of what has its account, kind and name. Its account must be there. To
// give an identity another name, delete it first: two rows cannot have one id.
func (tx *Tx) PutIdentity(n *Identity) error {
	r, err := tx.g.w.verifier.identityRow(n)
	if err == nil {
		err = tx.touch(global(n.Account))
	}
	if err == nil {
		_, err = tx.exec(upsertIdentity, r.account, r.kind, r.name, r.id, r.sealed, r.body, r.tag)
	}
	if err == nil {
		err = tx.changed(global(n.Account), ChangedIdentity, n.Kind+"/"+n.Name, 0)
	}
	return doing("writing an identity", err)
}

// DeleteIdentity removes an identity; ErrNotFound if it is not there.
func (tx *Tx) DeleteIdentity(a arn.Account, kind, name string) error {
	if err := tx.touch(global(a)); err != nil {
		return doing("deleting an identity", err)
	}
	n, err := tx.exec(deleteIdentity, string(a), kind, name)
	switch {
	case err != nil:
	case n == 0:
		err = ErrNotFound
	default:
		err = tx.changed(global(a), ChangedIdentity, kind+"/"+name, 0)
	}
	return doing("deleting an identity", err)
}

var identityTable = table[identityRow]{
	walkIdentities, scanIdentityRow,
	[]any{"", "", ""},
	func(r identityRow) []any { return []any{r.account, r.kind, r.name} },
	func(r identityRow) scope { return global(arn.Account(r.account)) },
}

// rekeyIdentity writes past PutIdentity: nothing changes that a follower of the feed could see.
func (tx *Tx) rekeyIdentity(r identityRow, checkOnly bool) (bool, error) {
	v := tx.g.w.verifier
	n, err := v.identity(context.Background(), tx.g, r)
	if err != nil || !v.barrier.StaleTag(seal.Row, r.tag) && (len(r.sealed) == 0 || !v.barrier.Stale(seal.Credential, r.sealed)) {
		return false, err
	}
	if checkOnly {
		return true, nil
	}
	if r, err = v.identityRow(n); err != nil {
		return false, err
	}
	_, err = tx.exec(upsertIdentity, r.account, r.kind, r.name, r.id, r.sealed, r.body, r.tag)
	return true, err
}
