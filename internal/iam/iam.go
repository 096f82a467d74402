// Package iam holds who there is and who may sign: accounts with their users, groups, roles, policies, identity providers, control
// policies and registered services; access keys, passwords and temporary credentials. It answers the operations of IAM and
// STS.
//
// It trusts the store for authenticated rows and decrypted secrets, the barrier for session tokens, and package oidc for the
// tokens of identity providers. Every operation asks the guard before it looks at what it is about. A guard.Caller
// leaves this package only for a signature that was verified. The package must never show a secret access key but in the
// answer that creates it, and never tell an unknown access key from a session token that is not genuine.
package iam

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/oidc"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/sigv4"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
)

// The prefixes of access key ids ("IAM identifiers", IAM user guide): of long-term and of temporary credentials.
const (
	longTermPrefix  = "AKIA"
	temporaryPrefix = "ASIA"
)

// MaxAccessKeyID is the longest access key id (AccessKeyId of the IAM API, in characters).
const MaxAccessKeyID = 128

// Config is what a Directory needs. All fields are required but those whose zero value is given.
type Config struct {
	Store   *store.Store
	Barrier *seal.Barrier // seals session tokens
	Now     func() time.Time

	// CachedKeys is how many access keys, how many opened session tokens, and how many signing keys derived from either, stay
	// ready in memory; zero means 10,000.
	CachedKeys int
	// CachedAccounts is how many accounts stay in memory with everything in them; zero means 1,000.
	CachedAccounts int
	// Tokens verifies tokens of identity providers. Nil means a verifier that trusts the certificate authorities of the system.
	Tokens *oidc.Verifier
}

// Directory knows accounts and credentials. It is the only one in the process that writes them, so what it remembers is
// what is stored. It is safe for concurrent use.
type Directory struct {
	store   *store.Store
	barrier *seal.Barrier
	now     func() time.Time
	ready   *credentials
	signing *sigv4.SigningKeys
	tokens  openedTokens
	oidc    *oidc.Verifier

	passwords *passwords
	realm     realm
	uses      uses
	flushing  sync.Mutex   // held while uses are written, and while all is forgotten
	changing  accountLocks // held by changes of accounts, which look before they write
	loads     loads
}

// New returns a Directory.
func New(c Config) *Directory {
	if c.CachedKeys == 0 {
		c.CachedKeys = 10_000
	}
	if c.CachedAccounts == 0 {
		c.CachedAccounts = 1000
	}
	if c.Tokens == nil {
		c.Tokens = oidc.New(oidc.Config{Now: c.Now})
	}
	return &Directory{
		store: c.Store, barrier: c.Barrier, now: c.Now,
		ready: newCredentials(c.CachedKeys), signing: sigv4.NewSigningKeys(c.CachedKeys), realm: newRealm(c.CachedAccounts),
		tokens: openedTokens{limit: c.CachedKeys}, oidc: c.Tokens, passwords: newPasswords(),
	}
}

// credential is an access key that can be signed with.
type credential struct {
	id      string
	account arn.Account
	secret  secret.Bytes
	// resolve says who it is in an account as it is now; a *sigv4.Error if nobody.
	resolve  func(*view) (*guard.Caller, error)
	last     atomic.Pointer[resolved]
	longTerm bool         // an access key in the store
	used     atomic.Int64 // when its use was last noted, in useGrain since 1970
}

// resolved is who a credential was in a view.
type resolved struct {
	in     uint64 // the view's generation: the view itself would stay in memory with it
	caller *guard.Caller
}

// caller returns who the credential is. A change in the account is seen by the very next request, because it makes another
// view.
func (c *credential) caller(v *view) (*guard.Caller, error) {
	if r := c.last.Load(); r != nil && r.in == v.generation {
		return r.caller, nil
	}
	who, err := c.resolve(v)
	if err != nil {
		return nil, err
	}
	who.Credential = c
	c.last.Store(&resolved{v.generation, who})
	return who, nil
}

// Renew returns the caller as it is now. A change that waited for others to end asks for it before it asks the guard again:
// rights, or the caller itself, can have gone since the signature was verified. Then the error is a *wire.Error.
func (d *Directory) Renew(ctx context.Context, who *guard.Caller) (*guard.Caller, error) {
	v, err := d.view(ctx, who.Account)
	if err != nil {
		return nil, err
	}
	return d.renew(ctx, who, v)
}

// renew is Renew with the account's view at hand.
func (d *Directory) renew(ctx context.Context, who *guard.Caller, v *view) (*guard.Caller, error) {
	c, ok := who.Credential.(*credential)
	if !ok || c.account != v.account.ID {
		return who, nil
	}
	var err error
	if c.longTerm { // it may be inactive
		c, err = d.find(ctx, c.id, "")
	}
	if err == nil {
		who, err = c.caller(v)
	}
	var refused *sigv4.Error
	if errors.As(err, &refused) {
		return nil, &wire.Error{Code: wire.Code(refused.Code), Message: refused.Message, Auth: true}
	}
	return who, err
}

// Authenticate returns who signed the request: auth is its claim, which has passed Check. The error is a *sigv4.Error
// for what the client must answer for, and internal otherwise.
func (d *Directory) Authenticate(ctx context.Context, auth *sigv4.Auth, req *sigv4.Request) (*guard.Caller, error) {
	c, err := d.find(ctx, auth.AccessKeyID, auth.Token)
	if err != nil {
		return nil, err
	}
	key, found := d.signing.Get(auth.AccessKeyID, c.secret, auth.Scope)
	if !found {
		key = sigv4.Derive(c.secret, auth.Scope)
	}
	if err := auth.Verify(req, key); err != nil {
		return nil, err
	}
	if !found { // only now: who cannot sign must not push out the keys of those who can
		d.signing.Put(auth.AccessKeyID, c.secret, auth.Scope, key)
	}
	v, err := d.view(ctx, c.account)
	if errors.Is(err, store.ErrNotFound) {
		return nil, sigv4.ErrUnknownCredential()
	}
	if err != nil {
		return nil, fmt.Errorf("looking an account up: %w", err)
	}
	if arn.Region(auth.Scope.Region).Partition() != v.part() {
		return nil, sigv4.ErrRegion() // as if it were another world, which does not know the access key at all
	}
	who, err := c.caller(v)
	if err != nil {
		return nil, err
	}
	d.uses.note(c, auth.Scope, d.now())
	return who, nil
}

// find returns the credential of an access key id. Temporary ones come with a token, long-term ones without.
func (d *Directory) find(ctx context.Context, accessKeyID, token string) (*credential, error) {
	temporary := strings.HasPrefix(accessKeyID, temporaryPrefix)
	if temporary != (token != "") {
		return nil, sigv4.ErrUnknownCredential()
	}
	if temporary {
		return d.openToken(accessKeyID, token)
	}
	if c, ok := d.ready.get(accessKeyID); ok {
		return c, nil
	}
	if !validAccessKeyID(accessKeyID) {
		return nil, sigv4.ErrUnknownCredential()
	}
	epoch := d.ready.now()
	k, err := d.store.GetAccessKey(ctx, accessKeyID)
	if errors.Is(err, store.ErrNotFound) || err == nil && k.Status != store.AccessKeyActive {
		return nil, sigv4.ErrUnknownCredential()
	}
	if err != nil {
		return nil, fmt.Errorf("looking an access key up: %w", err)
	}
	c := &credential{id: k.ID, account: k.Account, secret: k.Secret, longTerm: true, resolve: func(v *view) (*guard.Caller, error) {
		return v.holder(k.Principal, k.ID)
	}}
	d.ready.put(epoch, k.ID, c)
	return c, nil
}

// holder returns who signs with a long-term access key: principal is the ARN of the account's root, or the unique id of a user
// or service.
func (v *view) holder(principal, accessKeyID string) (*guard.Caller, error) {
	var who *guard.Caller
	var err error
	switch u, s := v.users.ids[principal], v.services.ids[principal]; {
	case principal == v.account.ID.Root(home):
		who = v.rootCaller()
	case u != nil:
		who, err = v.userCaller(u)
	case s != nil:
		who = serviceCaller(s.noun)
	default:
		return nil, sigv4.ErrUnknownCredential()
	}
	if err != nil {
		return nil, err
	}
	who.AccessKeyID = accessKeyID
	return who, nil
}

// validAccessKeyID reports whether s can be an access key id at all: characters that leave a credential scope and an
// Authorization header readable.
func validAccessKeyID(s string) bool {
	if s == "" || len(s) > MaxAccessKeyID {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`/,=:;"`, c) >= 0 {
			return false
		}
	}
	return true
}

// newAccessKeyID returns a random id in the form of AWS: prefix and sixteen characters of base 32.
func newAccessKeyID(prefix string) string {
	var b [10]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand crashes the program instead
	return prefix + base32.StdEncoding.EncodeToString(b[:])
}

// newSecret returns a random secret access key in the form of AWS: forty characters of base 64, 240 bits.
func newSecret() secret.Bytes {
	var b [30]byte
	_, _ = rand.Read(b[:]) // as above
	text := make([]byte, base64.StdEncoding.EncodedLen(len(b)))
	base64.StdEncoding.Encode(text, b[:])
	clear(b[:])
	return secret.Take(text)
}
