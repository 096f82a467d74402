package iam

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/identity"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/sigv4"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
)

// The errors of registering services.
var (
	ErrServiceName   = errors.New("a service's principal is a host name in lower case with two labels or more, such as objects.example.com")
	ErrServiceExists = errors.New("the service is registered already")
	ErrNoService     = errors.New("there is no such service")
)

// Services returns the services that an account has registered, in the order of their names. ErrNoAccount, wrapped, if it
// is not there.
func (d *Directory) Services(ctx context.Context, a arn.Account) ([]*identity.Service, error) {
	v, err := d.account(ctx, a)
	if err != nil {
		return nil, err
	}
	var list []*identity.Service
	for _, e := range v.services.sorted() {
		list = append(list, e.noun)
	}
	return list, nil
}

// CheckService returns the error that RegisterService would return for its arguments, but for those of the store.
func (d *Directory) CheckService(ctx context.Context, a arn.Account, principal string, accounts []arn.Account) error {
	if !validServiceName(principal) {
		return fmt.Errorf("%w, not %q", ErrServiceName, principal)
	}
	for _, x := range append([]arn.Account{a}, accounts...) {
		if _, err := d.account(ctx, x); err != nil {
			return err
		}
	}
	all, err := d.ListAccounts(ctx)
	if err != nil {
		return err
	}
	for _, x := range all { // two services of one name would be the same to policies
		switch _, err := d.store.GetIdentity(ctx, x.ID, string(identity.KindService), identity.Fold(principal)); {
		case err == nil:
			return fmt.Errorf("%w: %s, by account %s", ErrServiceExists, principal, x.ID)
		case !errors.Is(err, store.ErrNotFound):
			return err
		}
	}
	return nil
}

// service returns a registered service of any account by its principal; ErrNoPrincipal, wrapped, if there is none.
func (d *Directory) service(ctx context.Context, principal string) (*guard.Caller, error) {
	all, err := d.ListAccounts(ctx)
	if err != nil {
		return nil, err
	}
	for _, x := range all {
		v, err := d.account(ctx, x.ID)
		if err != nil {
			return nil, err
		}
		if e := v.services.named(principal); e != nil {
			return serviceCaller(e.noun), nil
		}
	}
	return nil, fmt.Errorf("%w: %s", ErrNoPrincipal, principal)
}

// validServiceName reports whether policies can name the service: labels of letters, digits and hyphens, parted by dots.
func validServiceName(s string) bool {
	labels := strings.Split(s, ".")
	if len(s) > 253 || len(labels) < 2 {
		return false
	}
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return true
}

// RegisterService registers a service with a new access key. It may call KMS for itself, and on behalf of principals of the
// given accounts. The secret is shown nowhere again. The error is ErrNoAccount, ErrServiceName or ErrServiceExists, wrapped,
// or the store's.
func (d *Directory) RegisterService(ctx context.Context, a arn.Account, principal string, accounts []arn.Account) (accessKeyID string, s secret.Bytes, err error) {
	accessKeyID, s = newAccessKeyID(longTermPrefix), newSecret()
	err = d.change(ctx, nil, a, func(c *change) error {
		if err := c.giveName(ctx, d.store); err != nil {
			return err
		}
		if err := d.CheckService(ctx, a, principal, accounts); err != nil {
			return err
		}
		n := &identity.Service{
			Meta:     identity.Meta{Account: a, ID: identity.NewID(identity.KindService), Name: principal, CreatedAt: d.now()},
			Accounts: slices.Clone(accounts),
		}
		c.writes = append(c.writes, func(tx *store.Tx) error {
			return tx.PutAccessKey(&store.AccessKey{
				ID: accessKeyID, Account: a, Principal: n.ID, Status: store.AccessKeyActive, CreatedAt: d.now(), Secret: s,
			})
		})
		return put(c, &c.services, n, secret.Bytes{})
	})
	if err != nil {
		return "", secret.Bytes{}, accountError(a, err)
	}
	return accessKeyID, s, nil
}

// RemoveService ends a service and its access key. The error is ErrNoAccount or ErrNoService, wrapped, or the store's.
func (d *Directory) RemoveService(ctx context.Context, a arn.Account, principal string) error {
	err := d.change(ctx, nil, a, func(c *change) error {
		e := c.services.named(principal)
		if e == nil {
			return fmt.Errorf("%w: %s in account %s", ErrNoService, principal, a)
		}
		keys, err := d.store.ListAccessKeys(ctx, a)
		if err != nil {
			return err
		}
		for _, k := range keys {
			if k.Principal == e.noun.ID {
				c.writes = append(c.writes, func(tx *store.Tx) error { return tx.DeleteAccessKey(k.ID) })
				c.after = append(c.after, func() { d.ready.drop(k.ID) })
			}
		}
		remove(c, &c.services, e.noun)
		return nil
	})
	return accountError(a, err)
}

// Behalf is for whom a service says that it calls.
type Behalf struct {
	Principal string // ARN
	// AccessKeyID and Token are the principal's temporary credentials, without the secret; empty if its credentials are
	// long-term ones.
	AccessKeyID, Token string
}

// OnBehalf returns the principal for whom a registered service calls: a user, a root user or a role's session, of an account
// that the service was registered for and that is in partition p. Whom a session belongs to is not enough: what limits it, and
// when it ends, is in its token, so that a role's session is taken with its token only. Everybody else is refused with the same
// AccessDeniedException, whether there is such a principal or not; a session that is over is refused as such.
func (d *Directory) OnBehalf(ctx context.Context, service *guard.Caller, b Behalf, p arn.Partition) (*guard.Caller, error) {
	refused := wire.Errorf(wire.CodeAccessDenied, "The service %s may not call on behalf of %s.", service.Service, b.Principal)
	ref := parsePrincipal(b.Principal)
	if ref.form != rootForm && ref.form != userForm && ref.form != sessionForm || ref.part != p {
		return nil, refused
	}
	v, err := d.view(ctx, service.Account)
	if err != nil {
		return nil, err
	}
	e := v.services.named(service.Service)
	if e == nil || !slices.Contains(e.noun.Accounts, ref.account) {
		return nil, refused
	}
	var who *guard.Caller
	switch {
	case b.Token != "":
		who, err = d.bearer(ctx, b, ref.account)
	case ref.form != sessionForm:
		who, err = d.Caller(ctx, b.Principal)
	default:
		return nil, wire.Errorf(wire.CodeAccessDenied, "The service %s must send the session token of %s.", service.Service, b.Principal)
	}
	var fault *sigv4.Error
	switch {
	case errors.As(err, &fault) && *fault == *sigv4.ErrExpiredToken():
		return nil, wire.Errorf(wire.CodeAccessDenied, "The session of %s is over.", b.Principal)
	case errors.As(err, &fault), errors.Is(err, ErrNoPrincipal):
		return nil, refused
	}
	return who, err
}

// bearer returns who bears the temporary credentials, who must be the principal that is named, of that account.
func (d *Directory) bearer(ctx context.Context, b Behalf, a arn.Account) (*guard.Caller, error) {
	c, err := d.openToken(b.AccessKeyID, b.Token)
	if err != nil {
		return nil, err
	}
	if c.account != a {
		return nil, sigv4.ErrUnknownCredential()
	}
	v, ok, err := d.exists(ctx, a)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, sigv4.ErrUnknownCredential()
	}
	who, err := c.caller(v)
	if err == nil && who.ARN != b.Principal {
		err = sigv4.ErrUnknownCredential()
	}
	if err != nil {
		return nil, err
	}
	return who, nil
}
