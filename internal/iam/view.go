package iam

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/identity"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
)

// view is an account with everything in it, at one moment. Once others can see it, it is immutable: a change makes another
// view. Whoever remembers what he learned from a view compares its generation with that of the view now.
type view struct {
	generation uint64 // no two views in a process have the same
	position   int64  // of the account's change feed, of which the view has everything

	account   *store.Account
	users     shelf[*identity.User]
	groups    shelf[*identity.Group]
	roles     shelf[*identity.Role]
	policies  shelf[*identity.Policy]
	providers shelf[*identity.Provider]
	services  shelf[*identity.Service]
	settings  shelf[*identity.Settings] // one at most

	policyUses func() *policyUses // counted once, when somebody first asks; not to be asked while the view is being changed
}

// shelf has the nouns of one kind.
type shelf[N identity.Noun] struct {
	kind   identity.Kind
	names  map[string]*entry[N] // by identity.Fold of the name
	ids    map[string]*entry[N]
	shared bool // with another view: to be cloned before it is changed
}

// entry is a noun with its compiled documents. It is immutable.
type entry[N identity.Noun] struct {
	noun   N
	secret secret.Bytes

	// What there is depends on the kind: inline policies of users, groups and roles, the default version of a managed
	// policy, the service control policies of an account.
	documents []document
	others    []document // the trust policy of a role; the resource control policies of an account
}

// document is a policy that is compiled when it is first needed.
type document struct {
	name    string
	compile func() (*policy.Document, error)
}

func newDocument(kind policy.Kind, name, text string) document {
	return document{name, sync.OnceValues(func() (*policy.Document, error) {
		d, err := policy.Parse(kind, []byte(text))
		if err != nil { // it was checked before it was stored
			return nil, fmt.Errorf("compiling the stored policy %s: %w", name, err)
		}
		return d, nil
	})}
}

func newEntry[N identity.Noun](n N, s secret.Bytes) *entry[N] {
	e := &entry[N]{noun: n, secret: s}
	switch n := any(n).(type) {
	case *identity.User:
		e.documents = inlineDocuments(policy.IdentityPolicy, n.Inline)
	case *identity.Group:
		e.documents = inlineDocuments(policy.IdentityPolicy, n.Inline)
	case *identity.Role:
		e.documents = inlineDocuments(policy.IdentityPolicy, n.Inline)
		e.others = []document{trustDocument(n)}
	case *identity.Policy:
		e.documents = []document{newDocument(policy.IdentityPolicy, n.Name, n.Find(n.Default).Document)}
	case *identity.Settings:
		e.documents = inlineDocuments(policy.ServiceControlPolicy, n.Services)
		e.others = inlineDocuments(policy.ResourceControlPolicy, n.Resource)
	}
	return e
}

func inlineDocuments(kind policy.Kind, inline []identity.Inline) []document {
	list := make([]document, len(inline))
	for i, p := range inline {
		list[i] = newDocument(kind, p.Name, p.Document)
	}
	return list
}

// trustDocument compiles a trust policy with its principals bound to the ids that they had when it was saved.
func trustDocument(r *identity.Role) document {
	plain := newDocument(policy.TrustPolicy, r.Name, r.Trust)
	return document{r.Name, sync.OnceValues(func() (*policy.Document, error) {
		d, err := plain.compile()
		if err != nil {
			return nil, err
		}
		return d.Bind(func(principal string) (string, bool) {
			id, ok := r.Principals[principal]
			return id, ok
		}), nil
	})}
}

func newView(a *store.Account) *view {
	v := &view{account: a}
	v.users.kind, v.groups.kind, v.roles.kind, v.policies.kind = identity.KindUser, identity.KindGroup, identity.KindRole, identity.KindPolicy
	v.providers.kind, v.services.kind, v.settings.kind = identity.KindProvider, identity.KindService, identity.KindSettings
	return v
}

// add reads a stored identity into the view, which nobody else has yet.
func (v *view) add(n *store.Identity) error {
	switch identity.Kind(n.Kind) {
	case identity.KindUser:
		return v.users.read(n, new(identity.User))
	case identity.KindGroup:
		return v.groups.read(n, new(identity.Group))
	case identity.KindRole:
		return v.roles.read(n, new(identity.Role))
	case identity.KindPolicy:
		p := new(identity.Policy)
		err := identity.Decode(p, n.Account, n.ID, n.Body)
		if err == nil && p.Find(p.Default) == nil {
			err = errors.New("it has no default version")
		}
		if err != nil {
			return err
		}
		v.policies.put(newEntry(p, n.Secret))
		return nil
	case identity.KindProvider:
		return v.providers.read(n, new(identity.Provider))
	case identity.KindService:
		return v.services.read(n, new(identity.Service))
	case identity.KindSettings:
		return v.settings.read(n, new(identity.Settings))
	}
	return fmt.Errorf("nothing is of the kind %q", n.Kind)
}

func (s *shelf[N]) read(n *store.Identity, into N) error {
	if err := identity.Decode(into, n.Account, n.ID, n.Body); err != nil {
		return err
	}
	s.put(newEntry(into, n.Secret))
	return nil
}

// clone returns a view that can be changed.
func (v *view) clone() *view {
	c := *v
	c.users.shared, c.groups.shared, c.roles.shared, c.policies.shared = true, true, true, true
	c.providers.shared, c.services.shared, c.settings.shared = true, true, true
	return &c
}

// own makes the shelf one that may be changed.
func (s *shelf[N]) own() {
	switch {
	case s.names == nil:
		s.names, s.ids = map[string]*entry[N]{}, map[string]*entry[N]{}
	case s.shared:
		s.names, s.ids = maps.Clone(s.names), maps.Clone(s.ids)
	}
	s.shared = false
}

// put adds an entry, or puts it in the place of the one with its id.
func (s *shelf[N]) put(e *entry[N]) {
	s.own()
	m := e.noun.Of()
	if old := s.ids[m.ID]; old != nil {
		delete(s.names, identity.Fold(old.noun.Of().Name))
	}
	s.names[identity.Fold(m.Name)], s.ids[m.ID] = e, e
}

func (s *shelf[N]) remove(id string) {
	s.own()
	if old := s.ids[id]; old != nil {
		delete(s.names, identity.Fold(old.noun.Of().Name))
		delete(s.ids, id)
	}
}

// named finds by name, in any letter case; nil if there is none.
func (s *shelf[N]) named(name string) *entry[N] { return s.names[identity.Fold(name)] }

// sorted returns all entries in the order of their names.
func (s *shelf[N]) sorted() []*entry[N] {
	return slices.SortedFunc(maps.Values(s.names), func(a, b *entry[N]) int {
		x, y := a.noun.Of().Name, b.noun.Of().Name
		if c := strings.Compare(identity.Fold(x), identity.Fold(y)); c != 0 {
			return c
		}
		return strings.Compare(x, y)
	})
}

// managed finds a managed policy that the account can attach, by its ARN as it is stored: its own, or one of AWS's.
func (v *view) managed(policyARN string) *entry[*identity.Policy] {
	if e := awsManaged[policyARN]; e != nil {
		return e
	}
	e := v.policies.named(policyARN[strings.LastIndexByte(policyARN, '/')+1:])
	if e == nil || e.noun.ARN(home) != policyARN {
		return nil
	}
	return e
}

// home is the partition in which ARNs of what an account has are stored, whatever partition the account is in: within an
// account they are no more than names. Everybody else sees the account's own partition.
const home = arn.Commercial

// part is the partition of the account.
func (v *view) part() arn.Partition { return v.account.Partition }

// shown returns a stored ARN as everybody sees it. What is no ARN stays what it is.
func (v *view) shown(stored string) string {
	if rest, ok := strings.CutPrefix(stored, "arn:"+string(home)+":"); ok && v.part() != home {
		return "arn:" + string(v.part()) + ":" + rest
	}
	return stored
}

// stored returns an ARN that somebody gave as it is stored. Not ok means that it is not one of the account's partition, and so
// names nothing that the account could have.
func (v *view) stored(given string) (string, bool) {
	rest, ok := strings.CutPrefix(given, "arn:"+string(v.part())+":")
	if !ok || v.part() == home {
		return given, ok
	}
	return "arn:" + string(home) + ":" + rest, true
}

// errNoPolicy says that something refers to a managed policy that is not there, which no operation lets happen.
var errNoPolicy = errors.New("a managed policy that is in use is missing")

// managedPolicy returns a managed policy, by its ARN as it is stored, as the guard takes it.
func (v *view) managedPolicy(policyARN, holder string) (guard.Policy, error) {
	e := v.managed(policyARN)
	if e == nil {
		return guard.Policy{}, fmt.Errorf("%w: %s", errNoPolicy, policyARN)
	}
	d, err := e.documents[0].compile()
	return guard.Policy{ARN: v.shown(policyARN), Name: e.noun.Name, Holder: holder, Document: d}, err
}

// held appends the policies of one holder.
func (v *view) held(list []guard.Policy, holder string, documents []document, attached []string) ([]guard.Policy, error) {
	for _, in := range documents {
		d, err := in.compile()
		if err != nil {
			return nil, err
		}
		list = append(list, guard.Policy{Name: in.name, Holder: holder, Document: d})
	}
	for _, a := range attached {
		p, err := v.managedPolicy(a, holder)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

// boundary returns a permissions boundary, nil for none.
func (v *view) boundary(policyARN, holder string) (*guard.Policy, error) {
	if policyARN == "" {
		return nil, nil //nolint:nilnil // no boundary is no error
	}
	p, err := v.managedPolicy(policyARN, holder)
	return &p, err
}

// userRights gathers the policies of a user and of its groups. It fails rather than leave out one, which could deny.
func (v *view) userRights(u *entry[*identity.User]) (*guard.Rights, error) {
	holder := u.noun.ARN(v.part())
	list, err := v.held(nil, holder, u.documents, u.noun.Attached)
	for _, id := range u.noun.Groups {
		g := v.groups.ids[id]
		if g == nil {
			return nil, fmt.Errorf("the group %s of %s is missing", id, holder)
		}
		if err == nil {
			list, err = v.held(list, g.noun.ARN(v.part()), g.documents, g.noun.Attached)
		}
	}
	if err != nil {
		return nil, err
	}
	b, err := v.boundary(u.noun.Boundary, holder)
	return &guard.Rights{Identity: list, Boundary: b}, err
}

// roleRights gathers the policies of a role.
func (v *view) roleRights(r *entry[*identity.Role]) (*guard.Rights, error) {
	holder := r.noun.ARN(v.part())
	list, err := v.held(nil, holder, r.documents, r.noun.Attached)
	if err != nil {
		return nil, err
	}
	b, err := v.boundary(r.noun.Boundary, holder)
	return &guard.Rights{Identity: list, Boundary: b}, err
}

// rootCaller returns the root user of the account.
func (v *view) rootCaller() *guard.Caller {
	a := v.account.ID
	return &guard.Caller{Type: policy.AccountRoot, Account: a, ARN: a.Root(v.part()), PrincipalID: string(a), UniqueID: string(a)}
}

// userCaller returns a user as it is now, without credentials.
func (v *view) userCaller(u *entry[*identity.User]) (*guard.Caller, error) {
	rights, err := v.userRights(u)
	if err != nil {
		return nil, err
	}
	n := u.noun
	return &guard.Caller{
		Type: policy.User, Account: n.Account, ARN: n.ARN(v.part()), PrincipalID: n.ID, UniqueID: n.ID, Name: n.Name,
		Tags: n.Tags, Rights: rights,
	}, nil
}

// roleCaller returns a session of a role as the role is now, without credentials and without anything that is peculiar to
// the session.
func (v *view) roleCaller(r *entry[*identity.Role], session string) (*guard.Caller, error) {
	rights, err := v.roleRights(r)
	if err != nil {
		return nil, err
	}
	n := r.noun
	return &guard.Caller{
		Type: policy.RoleSession, Account: n.Account, ARN: n.SessionARN(v.part(), session), RoleARN: n.ARN(v.part()),
		PrincipalID: n.ID + ":" + session, UniqueID: n.ID, Tags: n.Tags, Rights: rights,
	}, nil
}

// serviceCaller returns a registered service.
func serviceCaller(s *identity.Service) *guard.Caller {
	return &guard.Caller{Type: policy.Service, Account: s.Account, ARN: s.Name, PrincipalID: s.ID, UniqueID: s.ID, Service: s.Name, Serves: s.Accounts, Tags: s.Tags}
}
