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
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
)

// ControlType is the type of a control policy.
type ControlType string

// The types of control policies. The zero value is refused.
const (
	ServiceControl  ControlType = "service"  // what the account's principals may do
	ResourceControl ControlType = "resource" // what anybody may do with the account's resources
)

// FullAccess is the name of the service control policy that every account has from the beginning. It allows everything, so
// that others need only say what is denied; an account from which it is deleted may do only what others allow
// ("SCP evaluation", AWS Organizations user guide).
const FullAccess = "FullAWSAccess"

// Control is a control policy of an account.
type Control struct {
	Type     ControlType
	Name     string
	Document string
}

// maxControls is how many control policies of one type an account can have ("Quotas for AWS Organizations").
const maxControls = 5

// The errors of changes of control policies.
var (
	ErrNoAccount = errors.New("there is no such account")
	ErrNoControl = errors.New("the account has no such control policy")
	ErrControl   = errors.New("a control policy has the type service or resource, and a name of 1 to 128 characters of A–Z, a–z, 0–9 and +=,.@_-")
)

var (
	fullAccess         = mustControl(policy.ServiceControlPolicy, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`)
	fullResourceAccess = mustControl(policy.ResourceControlPolicy,
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}]}`)
)

// fullAccessDocument is what FullAccess says, as it is listed.
const fullAccessDocument = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`

func mustControl(kind policy.Kind, text string) guard.Policy {
	doc, err := policy.Parse(kind, []byte(text))
	if err != nil {
		panic(err) // found by the first test
	}
	return guard.Policy{Name: FullAccess, Document: doc}
}

// ServiceControls implements guard.Directory.
func (d *Directory) ServiceControls(a arn.Account) ([]guard.Policy, error) {
	v, s, err := d.settings(a)
	if s == nil || err != nil {
		return nil, err
	}
	list, err := v.held(nil, a.Root(v.part()), s.documents, nil)
	switch {
	case err != nil || len(list) == 0 && !s.noun.AllowList:
		return nil, err
	case !s.noun.AllowList:
		list = append(list, fullAccess)
	case len(list) == 0:
		list = []guard.Policy{denyNothing} // there is no policy, and so nothing is allowed
	}
	return list, nil
}

// denyNothing stands for the empty list of an account that has given up FullAccess: it allows nothing.
var denyNothing = mustControl(policy.ServiceControlPolicy,
	`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"none:None","Resource":"*"}]}`)

// ResourceControls implements guard.Directory. Nothing is ever missing in it: resource control policies only deny.
func (d *Directory) ResourceControls(a arn.Account) ([]guard.Policy, error) {
	v, s, err := d.settings(a)
	if s == nil || err != nil || len(s.others) == 0 {
		return nil, err
	}
	list, err := v.held(nil, a.Root(v.part()), s.others, nil)
	return append(list, fullResourceAccess), err
}

// settings returns the settings of an account; nil if there are none. An account that is not of this installation has
// nothing to say here.
func (d *Directory) settings(a arn.Account) (*view, *entry[*identity.Settings], error) {
	v, ok, err := d.exists(context.Background(), a)
	if !ok || err != nil {
		return nil, nil, err
	}
	return v, v.settings.named(identity.SettingsName), nil
}

// Controls returns the control policies of an account, those of type service first. ErrNoAccount, wrapped, if it is not
// there.
func (d *Directory) Controls(ctx context.Context, a arn.Account) ([]Control, error) {
	v, err := d.account(ctx, a)
	if err != nil {
		return nil, err
	}
	s := settingsOf(v)
	var list []Control
	if !s.AllowList {
		list = append(list, Control{ServiceControl, FullAccess, fullAccessDocument})
	}
	for _, p := range s.Services {
		list = append(list, Control{ServiceControl, p.Name, p.Document})
	}
	for _, p := range s.Resource {
		list = append(list, Control{ResourceControl, p.Name, p.Document})
	}
	return list, nil
}

// CheckControl returns the error that PutControl would return for its arguments, but for those of the store.
func (d *Directory) CheckControl(ctx context.Context, a arn.Account, t ControlType, name, document string) error {
	v, err := d.account(ctx, a)
	if err != nil {
		return err
	}
	return checkControl(settingsOf(v), t, name, document)
}

func checkControl(s *identity.Settings, t ControlType, name, document string) error {
	if name == "" || len(name) > 128 || strings.Trim(name, controlNameChars) != "" {
		return ErrControl
	}
	var kind policy.Kind
	switch t {
	case ServiceControl:
		kind = policy.ServiceControlPolicy
	case ResourceControl:
		kind = policy.ResourceControlPolicy
	default:
		return ErrControl
	}
	if name == FullAccess {
		if t != ServiceControl || document != fullAccessDocument {
			return fmt.Errorf("%s is a service control policy whose document is %s", FullAccess, fullAccessDocument)
		}
		return nil
	}
	if _, err := policy.Parse(kind, []byte(document)); err != nil {
		return err
	}
	list := *listOf(s, t)
	if len(list) >= maxControls && !slices.ContainsFunc(list, func(p identity.Inline) bool { return p.Name == name }) {
		return fmt.Errorf("an account has at most %d control policies of one type", maxControls)
	}
	return nil
}

const controlNameChars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+=,.@_-"

func listOf(s *identity.Settings, t ControlType) *[]identity.Inline {
	if t == ResourceControl {
		return &s.Resource
	}
	return &s.Services
}

// PutControl puts a control policy on an account, in the place of the one of that name if there is one. It holds for the very
// next call. The error is ErrNoAccount or ErrControl, wrapped, a *policy.Error, or the store's.
func (d *Directory) PutControl(ctx context.Context, a arn.Account, t ControlType, name, document string) error {
	return d.changeSettings(ctx, a, func(s *identity.Settings) error {
		if err := checkControl(s, t, name, document); err != nil {
			return err
		}
		if name == FullAccess {
			s.AllowList = false
			return nil
		}
		h := identity.Holder{Inline: *listOf(s, t)}
		h.PutInline(identity.Inline{Name: name, Document: document})
		*listOf(s, t) = h.Inline
		return nil
	})
}

// DeleteControl takes a control policy from an account. The error is ErrNoAccount, ErrNoControl or ErrControl, wrapped, or
// the store's.
func (d *Directory) DeleteControl(ctx context.Context, a arn.Account, t ControlType, name string) error {
	return d.changeSettings(ctx, a, func(s *identity.Settings) error {
		switch {
		case t != ServiceControl && t != ResourceControl:
			return ErrControl
		case t == ServiceControl && name == FullAccess && !s.AllowList:
			s.AllowList = true
			return nil
		}
		h := identity.Holder{Inline: *listOf(s, t)}
		if !h.RemoveInline(name) {
			return fmt.Errorf("%w: %s", ErrNoControl, name)
		}
		*listOf(s, t) = h.Inline
		return nil
	})
}

// changeSettings edits the settings of an account, which are made if there are none.
func (d *Directory) changeSettings(ctx context.Context, a arn.Account, edit func(*identity.Settings) error) error {
	err := d.change(ctx, nil, a, func(c *change) error {
		s := settingsOf(c.view).Clone()
		if s.ID == "" {
			s.Meta = identity.Meta{Account: a, ID: identity.NewID(identity.KindSettings), Name: identity.SettingsName, CreatedAt: d.now()}
		}
		if err := edit(s); err != nil {
			return err
		}
		return put(c, &c.settings, s, secret.Bytes{})
	})
	return accountError(a, err)
}

// settingsOf returns the account's settings; new ones without an id if there are none.
func settingsOf(v *view) *identity.Settings {
	if e := v.settings.named(identity.SettingsName); e != nil {
		return e.noun
	}
	return new(identity.Settings)
}

// account is view with the error that administrators read.
func (d *Directory) account(ctx context.Context, a arn.Account) (*view, error) {
	v, err := d.view(ctx, a)
	return v, accountError(a, err)
}

func accountError(a arn.Account, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("%w: %s", ErrNoAccount, a)
	}
	return err
}
