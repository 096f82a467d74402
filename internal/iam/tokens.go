package iam

import (
	"crypto/sha256"
	"strings"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/sigv4"
)

// opened is a session token that was opened. It is immutable but for what the credential remembers.
type opened struct {
	credential *credential
	expires    time.Time
}

// tokenName is what an opened token is remembered by: the hash of the token and of the access key id that it was brought
// with, so that it is not found with another.
func tokenName(accessKeyID, token string) (name [sha256.Size]byte) {
	h := sha256.New()
	_, _ = h.Write([]byte(accessKeyID)) // a hash takes everything
	_, _ = h.Write([]byte{0})           // which is in no access key id
	_, _ = h.Write([]byte(token))
	h.Sum(name[:0])
	return name
}

// openedTokens remembers opened tokens, so that a session does not pay for the opening with every request. It is bounded and
// safe for concurrent use. Nothing in it goes stale but by time: what a session may do is resolved anew whenever its account
// changes.
type openedTokens struct {
	limit int

	mu   sync.RWMutex
	list map[[sha256.Size]byte]*opened
}

func (o *openedTokens) get(name [sha256.Size]byte) (*opened, bool) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	t, ok := o.list[name]
	return t, ok
}

func (o *openedTokens) clear() {
	o.mu.Lock()
	defer o.mu.Unlock()
	clear(o.list)
}

func (o *openedTokens) put(name [sha256.Size]byte, t *opened) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.list == nil {
		o.list = make(map[[sha256.Size]byte]*opened)
	}
	for other := range o.list { // any: whichever goes is opened again when it is used
		if len(o.list) < o.limit {
			break
		}
		delete(o.list, other)
	}
	o.list[name] = t
}

// resolver returns who bears the session in an account as it is now. inline is the compiled session policy; nil for none.
func (t *terms) resolver(accessKeyID string, inline *policy.Document) func(*view) (*guard.Caller, error) {
	return func(v *view) (*guard.Caller, error) {
		who, err := t.bearer(v)
		if err != nil {
			return nil, err
		}
		who.AccessKeyID = accessKeyID
		if who.Session.Policies, err = t.policies(v, inline, who.ARN); err != nil {
			return nil, err
		}
		return who, nil
	}
}

// bearer returns the caller with all but the session policies.
func (t *terms) bearer(v *view) (*guard.Caller, error) {
	s := &guard.Session{
		IssuedAt: time.Unix(t.IssuedAt, 0).UTC(), Tags: t.Tags, Transitive: t.Transitive, SourceIdentity: t.Source, Provider: v.shown(t.Provider), Chained: t.Chained,
	}
	user, role := v.users.ids[t.ID], v.roles.ids[t.ID]
	var who *guard.Caller
	var err error
	switch {
	case t.Kind == rootSession && t.ID == string(v.account.ID):
		who = v.rootCaller()
	case t.Kind == userSession && user != nil:
		who, err = v.userCaller(user)
	case t.Kind == roleSession && role != nil:
		if who, err = v.roleCaller(role, t.Name); err == nil {
			s.IssuerType, s.IssuerARN, s.IssuerID, s.IssuerName = "Role", who.RoleARN, who.UniqueID, role.noun.Name
		}
	case t.Kind == federatedSession && t.ID == string(v.account.ID):
		who = v.federatedCaller(t.Name, &guard.Rights{})
		s.IssuerType, s.IssuerARN, s.IssuerID = "Root", v.account.ID.Root(v.part()), t.ID
	case t.Kind == federatedSession && user != nil:
		var sender *guard.Caller
		if sender, err = v.userCaller(user); err == nil {
			who = v.federatedCaller(t.Name, sender.Rights)
			s.IssuerType, s.IssuerARN, s.IssuerID, s.IssuerName = "User", sender.ARN, sender.UniqueID, sender.Name
		}
	default: // the user or role is gone; a namesake has another id
		return nil, sigv4.ErrUnknownCredential()
	}
	if err != nil {
		return nil, err
	}
	who.Tags, who.Session = overlay(who.Tags, t.Tags), s
	return who, nil
}

// federatedCaller returns a federated user. It has what its sender has, within session policies. That a root user gives
// everything within them the guard knows from the issuer.
func (v *view) federatedCaller(name string, rights *guard.Rights) *guard.Caller {
	a := v.account.ID
	return &guard.Caller{
		Type: policy.FederatedUser, Account: a, ARN: federatedARN(a, name, v.part()), PrincipalID: federatedID(a, name), Rights: rights,
	}
}

// federatedARN and federatedID name a federated user (GetFederationToken, STS API reference).
func federatedARN(a arn.Account, name string, p arn.Partition) string {
	return "arn:" + string(p) + ":sts::" + string(a) + ":federated-user/" + name
}

func federatedID(a arn.Account, name string) string { return string(a) + ":" + name }

// policies returns the session policies; nil if the session has none. A managed one that was deleted ends the session, even if
// there is another of its name: it could have denied something.
func (t *terms) policies(v *view, inline *policy.Document, holder string) ([]guard.Policy, error) {
	var list []guard.Policy
	if inline != nil {
		list = append(list, guard.Policy{Holder: holder, Document: inline})
	}
	for i, a := range t.Managed {
		if e := v.managed(a); e == nil || e.noun.ID != t.ManagedIDs[i] {
			return nil, sigv4.ErrUnknownCredential()
		}
		p, err := v.managedPolicy(a, holder)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

// overlay returns the tags of a principal with those of its session over them. Letter case does not tell keys apart.
func overlay(under, over []key.Tag) []key.Tag {
	if len(over) == 0 {
		return under
	}
	all := make([]key.Tag, 0, len(under)+len(over))
	for _, u := range under {
		if _, hidden := findTag(over, u.Key); !hidden {
			all = append(all, u)
		}
	}
	return append(all, over...)
}

// findTag finds the tag with a key, in any letter case.
func findTag(tags []key.Tag, name string) (key.Tag, bool) {
	for _, t := range tags {
		if strings.EqualFold(t.Key, name) {
			return t, true
		}
	}
	return key.Tag{}, false
}
