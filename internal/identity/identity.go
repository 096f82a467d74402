// Package identity has the nouns of an account: users, groups, roles, managed policies, identity providers, the account's
// own settings and its registered services, with the names that clients know them by and the bodies that the store keeps.
//
// It is pure: no I/O, no look-up, no clock. It trusts whoever makes a noun to have checked it against the rules of the IAM
// API, and it trusts no body that it reads. A noun that others can see is never changed: Clone it first. The package must
// never hold a secret: hashes of passwords are sealed apart.
package identity

import (
	"crypto/rand"
	"encoding/base32"
	"slices"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
)

// Kind says what a noun is. The texts are those of the store.
type Kind string

// The kinds of nouns. Names are unique within a kind and an account, whatever their letter case.
const (
	KindUser     Kind = "user"
	KindGroup    Kind = "group"
	KindRole     Kind = "role"
	KindPolicy   Kind = "policy"
	KindProvider Kind = "oidc-provider"
	KindSettings Kind = "settings" // one for each account that has any
	KindService  Kind = "service"
)

// prefixes start the unique ids ("IAM identifiers", IAM user guide). The last three are our own: AWS has no ids there.
var prefixes = map[Kind]string{
	KindUser: "AIDA", KindGroup: "AGPA", KindRole: "AROA", KindPolicy: "ANPA", KindProvider: "AOIP", KindSettings: "ASET", KindService: "ASVC",
}

// idRandom is how many characters of base 32 follow the prefix: 85 bits.
const idRandom = 17

// NewID returns a new unique id for a noun of the kind. No id is ever given twice, so that what was given to one user
// never becomes another's who is called the same.
func NewID(k Kind) string {
	var b [11]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand crashes the program instead
	return prefixes[k] + base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:])[:idRandom]
}

// KindOfID returns the kind of noun that a unique id belongs to, by its prefix; false if it has the form of none.
func KindOfID(id string) (Kind, bool) {
	for k, prefix := range prefixes {
		if len(id) == len(prefix)+idRandom && strings.HasPrefix(id, prefix) && strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == "" {
			return k, true
		}
	}
	return "", false
}

// Fold returns the form of a name in which it is unique.
func Fold(name string) string { return strings.ToLower(name) }

// Meta is what all nouns have.
type Meta struct {
	Account   arn.Account `json:"-"` // with the id, in columns of its own
	ID        string      `json:"-"`
	Name      string      `json:"name"`
	Path      string      `json:"path,omitempty"` // with slashes at both ends; "/" for none; providers and the like have no path
	CreatedAt time.Time   `json:"createdAt"`
	Tags      []key.Tag   `json:"tags,omitempty"` // sorted by key
}

// Of returns the Meta itself, so that code can be written for all nouns.
func (m *Meta) Of() *Meta { return m }

func (m *Meta) arn(p arn.Partition, kind string) string {
	return "arn:" + string(p) + ":iam::" + string(m.Account) + ":" + kind + m.Path + m.Name
}

func (m *Meta) clone() Meta {
	c := *m
	c.Tags = slices.Clone(m.Tags)
	return c
}

// SetTags adds tags; one whose key is there in any letter case replaces it.
func (m *Meta) SetTags(tags []key.Tag) {
	for _, t := range tags {
		m.RemoveTags([]string{t.Key})
		m.Tags = append(m.Tags, t)
	}
	slices.SortFunc(m.Tags, func(a, b key.Tag) int { return strings.Compare(a.Key, b.Key) })
}

// RemoveTags removes the tags with the given keys, in any letter case. Those that are not there do not matter.
func (m *Meta) RemoveTags(keys []string) {
	m.Tags = slices.DeleteFunc(m.Tags, func(t key.Tag) bool {
		return slices.ContainsFunc(keys, func(k string) bool { return strings.EqualFold(k, t.Key) })
	})
}

// Inline is a policy that belongs to one user, group or role.
type Inline struct {
	Name     string `json:"name"`
	Document string `json:"document"` // as it was given
}

// Holder is what users, groups and roles have in common: policies.
type Holder struct {
	Inline   []Inline `json:"inline,omitempty"`   // sorted by name
	Attached []string `json:"attached,omitempty"` // ARNs of managed policies, partition aws, in the order of their attachment
}

// Policies returns the Holder itself, so that code can be written for all that hold policies.
func (h *Holder) Policies() *Holder { return h }

func (h *Holder) clone() Holder { return Holder{slices.Clone(h.Inline), slices.Clone(h.Attached)} }

// FindInline returns the inline policy of a name, which is case-sensitive.
func (h *Holder) FindInline(name string) (Inline, bool) {
	i, ok := slices.BinarySearchFunc(h.Inline, name, compareInline)
	if !ok {
		return Inline{}, false
	}
	return h.Inline[i], true
}

// PutInline adds an inline policy or replaces the one of the name.
func (h *Holder) PutInline(p Inline) {
	i, ok := slices.BinarySearchFunc(h.Inline, p.Name, compareInline)
	if ok {
		h.Inline[i] = p
		return
	}
	h.Inline = slices.Insert(h.Inline, i, p)
}

// RemoveInline removes an inline policy and reports whether it was there.
func (h *Holder) RemoveInline(name string) bool {
	i, ok := slices.BinarySearchFunc(h.Inline, name, compareInline)
	if ok {
		h.Inline = slices.Delete(h.Inline, i, i+1)
	}
	return ok
}

func compareInline(p Inline, name string) int { return strings.Compare(p.Name, name) }

// User is an IAM user.
type User struct {
	Meta
	Holder
	Groups   []string `json:"groups,omitempty"`   // unique ids
	Boundary string   `json:"boundary,omitempty"` // ARN of the permissions boundary, partition aws; empty for none
	Login    *Login   `json:"login,omitempty"`    // nil: no password
}

// Login is a user's right to sign in with a password. The password's hash is sealed apart.
type Login struct {
	CreatedAt  time.Time `json:"createdAt"`
	MustChange bool      `json:"mustChange,omitempty"`
}

// ARN returns the user's ARN in a partition.
func (u *User) ARN(p arn.Partition) string { return u.arn(p, "user") }

// Clone returns a copy that shares nothing with u.
func (u *User) Clone() *User {
	c := *u
	c.Meta, c.Holder, c.Groups = u.Meta.clone(), u.Holder.clone(), slices.Clone(u.Groups)
	if u.Login != nil {
		login := *u.Login
		c.Login = &login
	}
	return &c
}

// Group is a group of users. Its members are in the users.
type Group struct {
	Meta
	Holder
}

// ARN returns the group's ARN in a partition.
func (g *Group) ARN(p arn.Partition) string { return g.arn(p, "group") }

// Clone returns a copy that shares nothing with g.
func (g *Group) Clone() *Group {
	return &Group{g.Meta.clone(), g.Holder.clone()}
}

// Role is an IAM role.
type Role struct {
	Meta
	Holder
	Description string `json:"description,omitempty"`
	Trust       string `json:"trust"` // the trust policy, as it was given
	// Principals has the unique id of each user, role or role's session that the trust policy names by ARN, as it was when
	// the policy was saved. A namesake that is made later is somebody else.
	Principals map[string]string `json:"principals,omitempty"`
	MaxSession time.Duration     `json:"maxSession"`
	Boundary   string            `json:"boundary,omitempty"` // as a user's
}

// ARN returns the role's ARN in a partition.
func (r *Role) ARN(p arn.Partition) string { return r.arn(p, "role") }

// SessionARN returns the ARN of one of the role's sessions, which does not show the role's path.
func (r *Role) SessionARN(p arn.Partition, session string) string {
	return "arn:" + string(p) + ":sts::" + string(r.Account) + ":assumed-role/" + r.Name + "/" + session
}

// Clone returns a copy that shares nothing with r but Principals, which is replaced and never changed.
func (r *Role) Clone() *Role {
	c := *r
	c.Meta, c.Holder = r.Meta.clone(), r.Holder.clone()
	return &c
}

// Version is one version of a managed policy.
type Version struct {
	N         int       `json:"n"` // 1, 2, 3, …
	Document  string    `json:"document"`
	CreatedAt time.Time `json:"createdAt"`
}

// Policy is a managed policy.
type Policy struct {
	Meta
	Description string    `json:"description,omitempty"`
	UpdatedAt   time.Time `json:"updatedAt"`
	Versions    []Version `json:"versions"` // oldest first; at least one
	Default     int       `json:"default"`  // N of the version in force
	Next        int       `json:"next"`     // N of the next version
	AWS         bool      `json:"-"`        // one of AWS's own, which all accounts share
}

// ARN returns the policy's ARN in a partition.
func (p *Policy) ARN(part arn.Partition) string {
	if p.AWS {
		return "arn:" + string(part) + ":iam::aws:policy" + p.Path + p.Name
	}
	return p.arn(part, "policy")
}

// Clone returns a copy that shares nothing with p.
func (p *Policy) Clone() *Policy {
	c := *p
	c.Meta, c.Versions = p.Meta.clone(), slices.Clone(p.Versions)
	return &c
}

// Find returns the version of a number, or nil.
func (p *Policy) Find(n int) *Version {
	for i := range p.Versions {
		if p.Versions[i].N == n {
			return &p.Versions[i]
		}
	}
	return nil
}

// Provider is an OpenID Connect identity provider. Its Name is the URL without https://.
type Provider struct {
	Meta
	ClientIDs   []string `json:"clientIds,omitempty"`   // audiences that tokens may have
	Thumbprints []string `json:"thumbprints,omitempty"` // SHA-1 of certificates, forty hexadecimal digits each
}

// ARN returns the provider's ARN in a partition.
func (p *Provider) ARN(part arn.Partition) string {
	return "arn:" + string(part) + ":iam::" + string(p.Account) + ":oidc-provider/" + p.Name
}

// URL returns the issuer that tokens of the provider name.
func (p *Provider) URL() string { return "https://" + p.Name }

// Clone returns a copy that shares nothing with p.
func (p *Provider) Clone() *Provider {
	c := *p
	c.Meta, c.ClientIDs, c.Thumbprints = p.Meta.clone(), slices.Clone(p.ClientIDs), slices.Clone(p.Thumbprints)
	return &c
}

// SettingsName is the Name of every account's Settings.
const SettingsName = "settings"

// Settings are what an account has as a whole. An account without any has none stored.
type Settings struct {
	Meta
	Alias    string   `json:"alias,omitempty"`    // account alias; empty for none
	Services []Inline `json:"services,omitempty"` // service control policies, sorted by name
	Resource []Inline `json:"resource,omitempty"` // resource control policies, sorted by name
	// AllowList says that the account does without the service control policy FullAWSAccess, which it has else: what no
	// other one allows is denied then.
	AllowList bool `json:"allowList,omitempty"`
}

// Clone returns a copy that shares nothing with s.
func (s *Settings) Clone() *Settings {
	c := *s
	c.Meta, c.Services, c.Resource = s.Meta.clone(), slices.Clone(s.Services), slices.Clone(s.Resource)
	return &c
}

// Service is a registered integration: a program that authenticates as a service principal, which is its Name, such as
// objects.amazonaws.com. It signs with access keys that name it by its id.
type Service struct {
	Meta
	Accounts []arn.Account `json:"accounts,omitempty"` // on behalf of whose principals it may call
}

// Clone returns a copy that shares nothing with s.
func (s *Service) Clone() *Service {
	c := *s
	c.Meta, c.Accounts = s.Meta.clone(), slices.Clone(s.Accounts)
	return &c
}
