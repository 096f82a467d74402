package iam

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/identity"
	"github.com/keywright/keywright/internal/store"
)

// principalForm is how a policy can name somebody.
type principalForm uint8

const (
	noPrincipal principalForm = iota
	rootForm
	userForm
	roleForm
	sessionForm   // arn:aws:sts::111122223333:assumed-role/name/session
	federatedForm // arn:aws:sts::111122223333:federated-user/name
)

// principalRef is a principal's ARN taken apart.
type principalRef struct {
	form    principalForm
	part    arn.Partition // empty for an account id
	account arn.Account
	path    string // of a user or role
	name    string
	session string
}

// parsePrincipal takes apart an account id or the ARN of an account, user, role or session, in any partition. A form that it
// does not know is noPrincipal.
func parsePrincipal(s string) principalRef {
	if a, err := arn.ParseAccount(s); err == nil {
		return principalRef{form: rootForm, account: a}
	}
	p := strings.SplitN(s, ":", 6)
	if len(p) != 6 || p[0] != "arn" || p[1] != "aws" && !strings.HasPrefix(p[1], "aws-") || p[3] != "" {
		return principalRef{}
	}
	a, err := arn.ParseAccount(p[4])
	if err != nil {
		return principalRef{}
	}
	kind, rest, _ := strings.Cut(p[5], "/")
	slash := strings.LastIndexByte(rest, '/')
	ref := principalRef{part: arn.Partition(p[1]), account: a, path: "/" + rest[:slash+1], name: rest[slash+1:]}
	switch {
	case p[2] == "iam" && p[5] == "root":
		return principalRef{form: rootForm, part: ref.part, account: a}
	case ref.name == "":
		return principalRef{}
	case p[2] == "iam" && kind == "user":
		ref.form = userForm
	case p[2] == "iam" && kind == "role":
		ref.form = roleForm
	case p[2] == "sts" && kind == "federated-user" && slash < 0:
		ref.form = federatedForm
	case p[2] == "sts" && kind == "assumed-role" && strings.Count(rest, "/") == 1:
		ref.form, ref.name, ref.session, ref.path = sessionForm, rest[:slash], ref.name, ""
	}
	return ref
}

// Lookup returns the unique id behind a principal that a policy or grant names: of an account (by its id or the ARN of its
// root) the account id, of a user or role its AIDA… or AROA… id, of a session of a role the role's id, and of a federated user
// the empty id, because its name is all there is. Any account of the installation counts. Not ok means that there is no such
// principal now; none is in another partition than its account.
func (d *Directory) Lookup(ctx context.Context, principal string) (id string, ok bool, err error) {
	ref := parsePrincipal(principal)
	if ref.form == noPrincipal {
		return "", false, nil
	}
	v, ok, err := d.exists(ctx, ref.account)
	if !ok || err != nil || ref.part != "" && ref.part != v.part() {
		return "", false, err
	}
	switch ref.form {
	case rootForm:
		return string(ref.account), true, nil
	case federatedForm:
		return "", true, nil
	case userForm:
		if u := exact(&v.users, ref.name, ref.path); u != nil {
			return u.noun.ID, true, nil
		}
	case roleForm:
		if r := exact(&v.roles, ref.name, ref.path); r != nil {
			return r.noun.ID, true, nil
		}
	case sessionForm: // which does not show the role's path
		if r := v.roles.named(ref.name); r != nil && r.noun.Name == ref.name {
			return r.noun.ID, true, nil
		}
	}
	return "", false, nil
}

// exact finds what an ARN names: letter case and path count.
func exact[N identity.Noun](s *shelf[N], name, path string) *entry[N] {
	e := s.named(name)
	if e == nil || e.noun.Of().Name != name || e.noun.Of().Path != path {
		return nil
	}
	return e
}

// ARNOf returns the ARN of the user or role with a unique id as it is now. Not ok means that it was deleted
// or never was.
func (d *Directory) ARNOf(ctx context.Context, id string) (principal string, ok bool, err error) {
	kind, _ := identity.KindOfID(id)
	if kind != identity.KindUser && kind != identity.KindRole {
		return "", false, nil
	}
	n, err := d.store.IdentityByID(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	v, ok, err := d.exists(ctx, n.Account)
	if !ok || err != nil {
		return "", false, err
	}
	if u := v.users.ids[id]; u != nil {
		return u.noun.ARN(v.part()), true, nil
	}
	if r := v.roles.ids[id]; r != nil {
		return r.noun.ARN(v.part()), true, nil
	}
	return "", false, nil
}

// ErrNoPrincipal says that an ARN is that of no principal of the installation.
var ErrNoPrincipal = errors.New("there is no such principal")

// explained is the name of the session that a role gets when it is asked what its sessions could do.
const explained = "keywright-explain"

// Caller returns the caller that a principal would be, for explanations and simulations: the root user of an account, a user,
// a role or a role's session, without session policies; or a registered service, by its principal. ErrNoPrincipal, wrapped, if there is none.
func (d *Directory) Caller(ctx context.Context, principal string) (*guard.Caller, error) {
	if validServiceName(principal) {
		return d.service(ctx, principal)
	}
	ref := parsePrincipal(principal)
	id, ok, err := d.Lookup(ctx, principal)
	if err != nil {
		return nil, fmt.Errorf("looking %s up: %w", principal, err)
	}
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrNoPrincipal, principal)
	}
	v, err := d.view(ctx, ref.account)
	if err != nil {
		return nil, fmt.Errorf("looking %s up: %w", principal, err)
	}
	switch {
	case ref.form == rootForm:
		return v.rootCaller(), nil
	case ref.form == userForm && v.users.ids[id] != nil:
		return v.userCaller(v.users.ids[id])
	case ref.form == roleForm && v.roles.ids[id] != nil:
		return v.roleCaller(v.roles.ids[id], explained)
	case ref.form == sessionForm && v.roles.ids[id] != nil:
		return v.roleCaller(v.roles.ids[id], ref.session)
	case ref.form == federatedForm:
		return v.federatedCaller(ref.name, &guard.Rights{}), nil
	}
	return nil, fmt.Errorf("%w: %s", ErrNoPrincipal, principal) // it went between the two looks
}

// Principals returns the ARNs of all principals of an account that can have rights: the root user, users, roles and registered
// services, these by their principals. Caller knows them all.
func (d *Directory) Principals(ctx context.Context, a arn.Account) ([]string, error) {
	v, err := d.account(ctx, a)
	if err != nil {
		return nil, err
	}
	list := []string{a.Root(v.part())}
	for _, u := range v.users.sorted() {
		list = append(list, u.noun.ARN(v.part()))
	}
	for _, r := range v.roles.sorted() {
		list = append(list, r.noun.ARN(v.part()))
	}
	for _, s := range v.services.sorted() {
		list = append(list, s.noun.Name)
	}
	return list, nil
}
