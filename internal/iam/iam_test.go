package iam_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/iam"
	"github.com/keywright/keywright/internal/identity"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/sigv4"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/stsapi"
)

const (
	alice arn.Account = "111122223333"
	bob   arn.Account = "444455556666"
)

// world is a directory on a store in memory, with a clock that the test moves.
type world struct {
	t         testing.TB
	now       time.Time
	store     *store.Store
	db        *store.DB
	barrier   *seal.Barrier
	directory *iam.Directory
	records   *audit.Memory
}

func (w *world) clock() time.Time { return w.now }

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldOn(t, store.Options{})
}

func newWorldOn(t testing.TB, o store.Options) *world {
	t.Helper()
	ctx := context.Background()
	w := &world{t: t, now: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)}
	db, err := store.Open(ctx, o)
	w.must(err)
	t.Cleanup(func() { _ = db.Close() })
	barrier, sealed, err := seal.Initialize(ctx, w.now, seal.KeyFile("test", secret.Take(make([]byte, 32))))
	w.must(err)
	w.must(db.Initialize(ctx, sealed))
	s, err := db.Unseal(ctx, barrier)
	w.must(err)
	w.store, w.db, w.barrier = s, db, barrier
	w.directory = w.newDirectory(0)
	w.records = audit.NewMemory(1000)
	return w
}

func (w *world) newDirectory(cached int) *iam.Directory {
	return iam.New(iam.Config{Store: w.store, Barrier: w.barrier, Now: func() time.Time { return w.now }, CachedKeys: cached})
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// as authenticates a request that the credential signed.
func (w *world) as(c sigv4.Credential, region string) (*guard.Caller, error) {
	w.t.Helper()
	r := sigv4.Request{Method: "POST", Path: "/", Host: "kms.test", Body: []byte("{}")}
	r.Header = sigv4.Sign(&r, c, region, "kms", w.now)
	auth, refusal := sigv4.Parse(&r)
	if refusal != nil {
		w.t.Fatal(refusal)
	}
	if refusal := auth.Check("kms", w.now); refusal != nil {
		w.t.Fatal(refusal)
	}
	return w.directory.Authenticate(context.Background(), &auth, &r)
}

func (w *world) refused(want *sigv4.Error, c sigv4.Credential) {
	w.t.Helper()
	who, err := w.as(c, "us-east-1")
	var e *sigv4.Error
	if who != nil || !errors.As(err, &e) || *e != *want {
		w.t.Errorf("%v %v, want %v", who, err, want)
	}
}

// root makes an account and returns the credential of its root user.
func (w *world) root(id arn.Account) sigv4.Credential {
	w.t.Helper()
	accessKeyID, s, err := w.directory.CreateAccount(context.Background(), id, "name")
	w.must(err)
	return sigv4.Credential{AccessKeyID: accessKeyID, Secret: s}
}

// user puts a user into the store, past the directory, which reads it afterwards.
func (w *world) user(a arn.Account, name string) *identity.User {
	w.t.Helper()
	u := &identity.User{Meta: identity.Meta{Account: a, ID: identity.NewID(identity.KindUser), Name: name, Path: "/team/", CreatedAt: w.now}}
	u.Tags = []key.Tag{{Key: "team", Value: "red"}}
	u.Inline = []identity.Inline{{Name: "p", Document: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"*"}]}`}}
	u.Attached = []string{"arn:aws:iam::aws:policy/IAMFullAccess"}
	u.Boundary = "arn:aws:iam::aws:policy/AdministratorAccess"
	w.identity(identity.KindUser, u.Meta, ok(identity.Encode(u)))
	return u
}

func (w *world) role(a arn.Account, name string) *identity.Role {
	w.t.Helper()
	r := &identity.Role{Meta: identity.Meta{Account: a, ID: identity.NewID(identity.KindRole), Name: name, Path: "/x/", CreatedAt: w.now}}
	r.MaxSession, r.Trust = time.Hour, `{"Version":"2012-10-17","Statement":[]}`
	w.identity(identity.KindRole, r.Meta, ok(identity.Encode(r)))
	return r
}

func ok[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (w *world) identity(kind identity.Kind, m identity.Meta, body []byte) {
	w.t.Helper()
	w.must(w.store.Update(context.Background(), func(tx *store.Tx) error {
		return tx.PutIdentity(&store.Identity{Account: m.Account, Kind: string(kind), Name: identity.Fold(m.Name), ID: m.ID, Body: body})
	}))
	w.directory = w.newDirectory(0)
}

func TestCreateAccount(t *testing.T) {
	w := newWorld(t)
	c := w.root(alice)
	if len(c.AccessKeyID) != 20 || !strings.HasPrefix(c.AccessKeyID, "AKIA") || c.Secret.Len() != 40 {
		t.Errorf("access key %s, secret of %d octets", c.AccessKeyID, c.Secret.Len())
	}
	who, err := w.as(c, "us-east-1")
	w.must(err)
	want := guard.Caller{
		Type: policy.AccountRoot, Account: alice, ARN: "arn:aws:iam::111122223333:root", PrincipalID: "111122223333",
		UniqueID: "111122223333", AccessKeyID: c.AccessKeyID,
	}
	want.Credential = who.Credential
	if !reflect.DeepEqual(*who, want) {
		t.Errorf("caller %+v", *who)
	}
	if _, _, err := w.directory.CreateAccount(context.Background(), alice, ""); !errors.Is(err, iam.ErrAccountExists) {
		t.Error(err)
	}
	if other := w.root(bob); other.AccessKeyID == c.AccessKeyID || other.Secret.Equal(c.Secret) {
		t.Error("two accounts with the same access key")
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	c := w.root(alice)
	w.refused(sigv4.ErrUnknownCredential(), sigv4.Credential{AccessKeyID: "AKIANOBODY", Secret: c.Secret})
	w.refused(sigv4.ErrUnknownCredential(), sigv4.Credential{AccessKeyID: c.AccessKeyID, Secret: c.Secret, Token: "x"})
	w.refused(sigv4.ErrUnknownCredential(), sigv4.Credential{AccessKeyID: "ASIANOBODY", Secret: c.Secret})
	w.refused(sigv4.ErrMismatch(), sigv4.Credential{AccessKeyID: c.AccessKeyID, Secret: secret.FromString("x")})
	ctx := context.Background()
	key, err := w.store.GetAccessKey(ctx, c.AccessKeyID)
	w.must(err)
	key.Status = store.AccessKeyInactive
	w.must(w.store.Update(ctx, func(tx *store.Tx) error { return tx.PutAccessKey(key) }))
	w.directory = w.newDirectory(0) // as after a restart: it is the only one that changes keys while it lives
	w.refused(sigv4.ErrUnknownCredential(), c)
}

// Signatures that do not verify leave the remembered signing keys alone, in whatever Regions and for whomever they claim
// to be.
func TestForgedSignaturesLeaveTheCacheAlone(t *testing.T) {
	w := newWorld(t)
	w.directory = w.newDirectory(4)
	a, b := w.root(alice), w.root(bob)
	for _, c := range []sigv4.Credential{a, b} {
		_, err := w.as(c, "us-east-1")
		w.must(err)
	}
	keys := iam.SigningKeys(w.directory)
	scope := sigv4.Scope{Date: w.now.Format("20060102"), Region: "us-east-1", Service: "kms"}
	for i := range 20 {
		forged := sigv4.Credential{AccessKeyID: a.AccessKeyID, Secret: secret.FromString("guessed")}
		if _, err := w.as(forged, fmt.Sprintf("eu-west-%d", i)); err == nil {
			t.Fatal("a forged signature was taken")
		}
	}
	if keys.Len() != 2 {
		t.Errorf("%d keys are remembered, not 2", keys.Len())
	}
	for _, c := range []sigv4.Credential{a, b} {
		if _, found := keys.Get(c.AccessKeyID, c.Secret, scope); !found {
			t.Errorf("the key of %s was pushed out", c.AccessKeyID)
		}
	}
}

func TestEnsureAccount(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	one := sigv4.Credential{AccessKeyID: "test", Secret: secret.FromString("one")}
	two := sigv4.Credential{AccessKeyID: "test", Secret: secret.FromString("two")}
	w.must(w.directory.EnsureAccount(ctx, alice, one.AccessKeyID, one.Secret))
	before, err := w.store.GetAccount(ctx, alice)
	w.must(err)
	w.now = w.now.Add(time.Minute)
	w.must(w.directory.EnsureAccount(ctx, alice, one.AccessKeyID, one.Secret))
	_, err = w.as(one, "us-east-1")
	w.must(err)
	w.must(w.directory.EnsureAccount(ctx, alice, two.AccessKeyID, two.Secret))
	_, err = w.as(two, "us-east-1")
	w.must(err)
	w.refused(sigv4.ErrMismatch(), one) // at once, whatever was cached
	after, err := w.store.GetAccount(ctx, alice)
	w.must(err)
	if !after.CreatedAt.Equal(before.CreatedAt) {
		t.Error("the account was made again")
	}
	if err := w.directory.EnsureAccount(ctx, bob, "test", one.Secret); !errors.Is(err, iam.ErrForeignKey) {
		t.Error(err)
	}
	for _, id := range []string{"", "a b", "a/b", "a,b", "a=b", "a:b", "é", "a\n", strings.Repeat("a", 129), "ASIAX"} {
		if err := w.directory.EnsureAccount(ctx, bob, id, one.Secret); err == nil {
			t.Errorf("%q was taken", id)
		}
	}
	if err := w.directory.EnsureAccount(ctx, bob, "test2", secret.FromString("")); err == nil {
		t.Error("an empty secret was taken")
	}
	if err := w.directory.EnsureAccount(ctx, bob, "test2 ", secret.FromString("hidden")); err == nil || strings.Contains(err.Error(), "hidden") {
		t.Error(err)
	}
}

// A server that starts again with other credentials must not go on answering to the old ones.
func TestEnsureAccountReplacesRootKeys(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	published := sigv4.Credential{AccessKeyID: "published", Secret: secret.FromString("everybody knows")}
	own := sigv4.Credential{AccessKeyID: "own", Secret: secret.FromString("one knows")}
	neighbour := w.root(bob)
	w.must(w.directory.EnsureAccount(ctx, alice, published.AccessKeyID, published.Secret))
	bobby := w.user(alice, "bobby")
	user := &store.AccessKey{
		ID: "AKIAUSER", Account: alice, Principal: bobby.ID, Status: store.AccessKeyActive,
		CreatedAt: w.now, Secret: secret.FromString("a user's"),
	}
	w.must(w.store.Update(ctx, func(tx *store.Tx) error { return tx.PutAccessKey(user) }))
	use := func(good ...sigv4.Credential) {
		t.Helper()
		for _, c := range append(good, neighbour, sigv4.Credential{AccessKeyID: user.ID, Secret: user.Secret}) {
			if _, err := w.as(c, "us-east-1"); err != nil {
				t.Errorf("%s: %v", c.AccessKeyID, err)
			}
		}
	}
	use(published)
	for range 2 {
		w.must(w.directory.EnsureAccount(ctx, alice, own.AccessKeyID, own.Secret))
		use(own)
		w.refused(sigv4.ErrUnknownCredential(), published) // at once, although it was cached
		w.directory = w.newDirectory(0)
		w.refused(sigv4.ErrUnknownCredential(), published)
	}
	// A key that is left over beside the right one goes too.
	left := &store.AccessKey{
		ID: "left", Account: alice, Principal: alice.Root("aws"), Status: store.AccessKeyActive,
		CreatedAt: w.now, Secret: secret.FromString("left over"),
	}
	w.must(w.store.Update(ctx, func(tx *store.Tx) error { return tx.PutAccessKey(left) }))
	w.must(w.directory.EnsureAccount(ctx, alice, own.AccessKeyID, own.Secret))
	w.refused(sigv4.ErrUnknownCredential(), sigv4.Credential{AccessKeyID: left.ID, Secret: left.Secret})
	// And the way back.
	w.must(w.directory.EnsureAccount(ctx, alice, published.AccessKeyID, published.Secret))
	use(published)
	w.refused(sigv4.ErrUnknownCredential(), own)
}

// session has a session token made for the caller with c.
func (w *world) session(c sigv4.Credential, in *stsapi.GetSessionTokenRequest) (sigv4.Credential, *stsapi.GetSessionTokenResponse, error) {
	w.t.Helper()
	who, err := w.as(c, "us-east-1")
	w.must(err)
	for _, op := range w.directory.STS() {
		if op.Name != "GetSessionToken" {
			continue
		}
		call := &guard.Call{Meta: guard.Meta{Time: w.now}}
		call.Identify(who, "us-east-1")
		out, err := op.Do(context.Background(), call, in)
		if err != nil {
			return sigv4.Credential{}, nil, err
		}
		r := out.(*stsapi.GetSessionTokenResponse)
		return sigv4.Credential{AccessKeyID: r.Credentials.AccessKeyID.V, Secret: r.Credentials.SecretAccessKey, Token: r.Credentials.SessionToken.V}, r, nil
	}
	w.t.Fatal("no GetSessionToken")
	return sigv4.Credential{}, nil, nil
}

func TestSessions(t *testing.T) {
	w := newWorld(t)
	root := w.root(alice)
	c, out, err := w.session(root, &stsapi.GetSessionTokenRequest{DurationSeconds: wire.Some[int32](900)})
	w.must(err)
	if !strings.HasPrefix(c.AccessKeyID, "ASIA") || len(c.AccessKeyID) != 20 || c.Secret.Len() != 40 || !out.Credentials.Expiration.V.Equal(w.now.Add(15*time.Minute)) {
		t.Errorf("%s until %v", c.AccessKeyID, out.Credentials.Expiration.V)
	}
	who, err := w.as(c, "us-east-1")
	w.must(err)
	if who.ARN != "arn:aws:iam::111122223333:root" || who.AccessKeyID != c.AccessKeyID || who.Account != alice {
		t.Errorf("caller %+v", *who)
	}
	if bytes.Contains([]byte(c.Token), c.Secret.Expose()) || bytes.Contains(unbase64(t, c.Token), c.Secret.Expose()) {
		t.Error("the token shows the secret")
	}
	other, _, err := w.session(root, &stsapi.GetSessionTokenRequest{})
	w.must(err)
	w.refused(sigv4.ErrUnknownCredential(), sigv4.Credential{AccessKeyID: c.AccessKeyID, Secret: c.Secret})                                   // no token
	w.refused(sigv4.ErrUnknownCredential(), sigv4.Credential{AccessKeyID: c.AccessKeyID, Secret: c.Secret, Token: other.Token})               // another's
	w.refused(sigv4.ErrUnknownCredential(), sigv4.Credential{AccessKeyID: root.AccessKeyID, Secret: root.Secret, Token: c.Token})             // of a long-term key
	w.refused(sigv4.ErrMismatch(), sigv4.Credential{AccessKeyID: c.AccessKeyID, Secret: other.Secret, Token: c.Token})                        // wrong secret
	w.refused(sigv4.ErrUnknownCredential(), sigv4.Credential{AccessKeyID: c.AccessKeyID, Secret: c.Secret, Token: c.Token + c.Token})         // no base64 of one
	w.refused(sigv4.ErrUnknownCredential(), sigv4.Credential{AccessKeyID: c.AccessKeyID, Secret: c.Secret, Token: strings.Repeat("A", 8000)}) // too long
	raw := unbase64(t, c.Token)
	for i := range raw {
		raw[i] ^= 1
		w.refused(sigv4.ErrUnknownCredential(), sigv4.Credential{AccessKeyID: c.AccessKeyID, Secret: c.Secret, Token: base64.StdEncoding.EncodeToString(raw)})
		raw[i] ^= 1
	}
	w.now = w.now.Add(15*time.Minute - time.Second)
	_, err = w.as(c, "us-east-1")
	w.must(err)
	w.now = w.now.Add(time.Second)
	w.refused(sigv4.ErrExpiredToken(), c)
	_, err = w.as(other, "us-east-1") // the default is an hour
	w.must(err)
}

func unbase64(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSessionRules(t *testing.T) {
	w := newWorld(t)
	root := w.root(alice)
	// A root user's session is cut to an hour.
	c, out, err := w.session(root, &stsapi.GetSessionTokenRequest{DurationSeconds: wire.Some[int32](129600)})
	w.must(err)
	if !out.Credentials.Expiration.V.Equal(w.now.Add(time.Hour)) {
		t.Error(out.Credentials.Expiration.V)
	}
	for _, size := range []int32{0, 1, 145, 1000, 4096} {
		_, out, err := w.session(root, &stsapi.GetSessionTokenRequest{MinimumSessionTokenSize: wire.Some(size)})
		w.must(err)
		if n := int32(len(out.Credentials.SessionToken.V)); n < size || n != out.SessionTokenSize.V || n > max(size, 240)+80 {
			t.Errorf("a token of %d octets, said to be %d, for %d", n, out.SessionTokenSize.V, size)
		}
	}
	if _, _, err := w.session(c, &stsapi.GetSessionTokenRequest{}); err == nil || err.Error() != "AccessDeniedException: Cannot call GetSessionToken with session credentials" {
		t.Error(err)
	}
	if _, _, err := w.session(root, &stsapi.GetSessionTokenRequest{TokenCode: wire.Some("123456")}); err == nil {
		t.Error("an MFA code was taken")
	}
	// A token outlives a rotation of the domain keys until the old ones are dropped.
	w.must(w.barrier.RotateDomainKeys(w.now, func(keys []seal.DomainKey) error { return w.db.AddDomainKeys(context.Background(), keys) }))
	_, err = w.as(c, "us-east-1")
	w.must(err)
}

// With fewer places than keys everything still works, and many at once find what was just written.
func TestSmallCacheUnderLoad(t *testing.T) {
	w := newWorld(t)
	w.directory = w.newDirectory(2)
	ctx := context.Background()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			id := "key" + string(rune('a'+i))
			account := arn.Account(fmt.Sprintf("11112222333%d", i)) // whose other root keys nobody else makes
			for n := range 20 {
				c := sigv4.Credential{AccessKeyID: id, Secret: secret.FromString(id + string(rune('a'+n)))}
				if err := w.directory.EnsureAccount(ctx, account, c.AccessKeyID, c.Secret); err != nil {
					t.Error(err)
					return
				}
				for range 3 {
					if _, err := w.as(c, "us-east-1"); err != nil {
						t.Errorf("%s after change %d: %v", id, n, err)
					}
				}
			}
		})
	}
	wg.Wait()
}
