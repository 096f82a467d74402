package kms_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/attest"
	"github.com/keywright/keywright/internal/attest/attesttest"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/custody"
	"github.com/keywright/keywright/internal/custody/soft"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
	"github.com/keywright/keywright/internal/kms"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/quota"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

const (
	alice  arn.Account = "111122223333"
	bob    arn.Account = "444455556666"
	carol  arn.Account = "777788889999"
	region arn.Region  = "us-east-1"
)

// recorder is a log whose disk can be full.
type recorder struct {
	*audit.Memory
	full     atomic.Bool
	reserved atomic.Int64 // how often
	// meanwhile happens once, before the next record: within the transaction, for what the service does on its own.
	meanwhile atomic.Pointer[func()]
}

var errFull = errors.New("disk full")

func (r *recorder) Append(records ...[]byte) error {
	if event := r.meanwhile.Swap(nil); event != nil {
		(*event)()
	}
	if r.full.Load() {
		return errFull
	}
	return r.Memory.Append(records...)
}

func (r *recorder) AppendReserved(records ...[]byte) error { return r.Append(records...) }

func (r *recorder) Reserve() error {
	r.reserved.Add(1)
	if r.full.Load() {
		return errFull
	}
	return nil
}

// world is a service on a real store, with a clock that the test moves.
type world struct {
	t          testing.TB
	dir        string
	dsn        string // of a database in place of dir
	db         *store.DB
	store      *store.Store
	service    *kms.Service
	custody    *custody.Custody
	guard      *guard.Guard
	audit      *recorder
	operations map[string]guard.Operation
	clock      *atomic.Int64 // Unix milliseconds
	step       *atomic.Int64 // milliseconds that pass with each look at the clock
	account    arn.Account
	region     arn.Region
	people     *people
	caller     *guard.Caller // nil for the root user of the account
	forward    *guard.Forward
	freshness  guard.Freshness // nil: nobody else changes the store
	// verifier is what attestation documents are verified with, enclave whose roots it trusts; nil for none.
	verifier *attest.Verifier
	enclave  *attesttest.Enclave
	quotas   quota.Settings
	book     *quota.Book // what they are counted in
	making   *making
	cached   int // CachedKeys
}

// making is what happens once while the next material or key pair is being made, which can take seconds.
type making struct {
	event atomic.Pointer[func()]
	busy  atomic.Bool // too much is being made
}

func (m *making) meanwhile(event func()) { m.event.Store(&event) }

// engine is the software engine, in which making something takes as long as what happens meanwhile.
type engine struct {
	*soft.Engine
	making *making
}

func (e engine) happen() {
	if event := e.making.event.Swap(nil); event != nil {
		(*event)()
	}
}

// Pair implements custody.Engine.
func (e engine) Pair(ctx context.Context, a arn.Account, s key.Spec) (keyspec.Private, error) {
	if e.making.busy.Load() {
		return nil, custody.ErrBusy
	}
	defer e.happen()
	return e.Engine.Pair(ctx, a, s)
}

// Generate implements custody.Engine.
func (e engine) Generate(ctx context.Context, k *key.Key) (id string, wrapped, public []byte, err error) {
	if e.making.busy.Load() {
		return "", nil, nil, custody.ErrBusy
	}
	defer e.happen()
	return e.Engine.Generate(ctx, k)
}

// OpenImport implements custody.Importer.
func (e engine) OpenImport(k *key.Key, token, encrypted []byte, now time.Time) (id string, wrapped, public []byte, err error) {
	defer e.happen()
	return e.Engine.OpenImport(k, token, encrypted, now)
}

// WrappingKey implements custody.Importer.
func (e engine) WrappingKey(ctx context.Context, k *key.Key, w custody.Wrapping, until time.Time) (public, token []byte, err error) {
	if e.making.busy.Load() {
		return nil, nil, custody.ErrBusy
	}
	return e.Engine.WrappingKey(ctx, k, w, until)
}

// people are the users, roles and accounts that there are: ARNs by unique id, which is what the service asks a directory.
type people struct {
	mu   sync.Mutex
	arns map[string]string
	// meanwhile happens once, when the next principal is looked up: a call that does so has been authorized before.
	meanwhile func()
	now       func(*guard.Caller) *guard.Caller // what has become of callers; nil for nothing
}

// renew says what becomes of callers.
func (p *people) renew(now func(*guard.Caller) *guard.Caller) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = now
}

// born makes a user or role.
func (p *people) born(id, name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.arns[id] = name
}

func (p *people) gone(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.arns, id)
}

// Lookup implements kms.Principals.
func (p *people) Lookup(_ context.Context, name string) (string, bool, error) {
	p.mu.Lock()
	if event := p.meanwhile; event != nil {
		p.meanwhile = nil
		p.mu.Unlock()
		event()
		p.mu.Lock()
	}
	defer p.mu.Unlock()
	for _, a := range []arn.Account{alice, bob, carol} {
		if name == string(a) || name == a.Root("aws") {
			return string(a), true, nil
		}
	}
	if strings.Contains(name, ":federated-user/") {
		return "", true, nil
	}
	if account, rest, ok := strings.Cut(strings.TrimPrefix(name, "arn:aws:sts::"), ":assumed-role/"); ok {
		role, _, _ := strings.Cut(rest, "/")
		name = "arn:aws:iam::" + account + ":role/" + role
	}
	for id, has := range p.arns {
		if has == name {
			return id, true, nil
		}
	}
	return "", false, nil
}

// ARNOf implements kms.Principals.
func (p *people) ARNOf(_ context.Context, id string) (string, bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	name, ok := p.arns[id]
	return name, ok, nil
}

// Renew implements kms.Principals.
func (p *people) Renew(_ context.Context, who *guard.Caller) (*guard.Caller, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now != nil {
		who = p.now(who)
	}
	return who, nil
}

// newWorld makes a service on a store in memory, or in dir.
func newWorld(t testing.TB, dir string) *world {
	t.Helper()
	w := blankWorld(t)
	w.dir = dir
	w.open()
	return w
}

// blankWorld is a world without a store.
func blankWorld(t testing.TB) *world {
	w := &world{
		t: t, account: alice, region: region, audit: &recorder{Memory: audit.NewMemory(1000)}, clock: new(atomic.Int64), step: new(atomic.Int64),
		people: &people{arns: map[string]string{}}, making: new(making), quotas: quota.Settings{Enforce: quota.EnforceUnlimited},
	}
	w.clock.Store(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli())
	return w
}

func (w *world) now() time.Time { return time.UnixMilli(w.clock.Add(w.step.Load())).UTC() }

// pass moves the clock and lets the service do what is due.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	w.clock.Add(d.Milliseconds())
	w.must(w.service.RunDue(context.Background()))
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) open() {
	w.t.Helper()
	ctx := context.Background()
	db, err := store.Open(ctx, store.Options{Dir: w.dir, DSN: w.dsn, Now: w.now})
	w.must(err)
	w.db = db
	w.t.Cleanup(func() { _ = db.Close() })
	keyFile := seal.KeyFile("test", secret.Copy(bytes.Repeat([]byte{7}, 32)))
	var barrier *seal.Barrier
	sealed, err := db.Sealed(ctx)
	if err == nil {
		barrier, err = seal.Unseal(ctx, sealed, keyFile)
		w.must(err)
	} else if errors.Is(err, store.ErrNotInitialized) {
		barrier, sealed, err = seal.Initialize(ctx, w.now(), keyFile)
		w.must(err)
		w.must(db.Initialize(ctx, sealed))
	}
	w.must(err)
	w.store, err = db.Unseal(ctx, barrier)
	w.must(err)
	w.guard = guard.New(guard.Config{Recorder: w.audit, Now: w.now})
	w.custody = custody.New(engine{soft.New(barrier), w.making})
	w.book = quota.New(w.quotas, w.now)
	w.service = kms.New(kms.Config{
		Store: w.store, Custody: w.custody, Barrier: barrier, Guard: w.guard, Now: w.now,
		Principals: w.people, Attestation: w.verifier, Quotas: w.book, CachedKeys: w.cached,
	})
	w.operations = map[string]guard.Operation{}
	for _, op := range w.service.Operations() {
		w.operations[op.Name] = op
	}
	w.must(w.store.Update(ctx, func(tx *store.Tx) error {
		for _, a := range []arn.Account{alice, bob} {
			if err := tx.PutAccount(&store.Account{ID: a, CreatedAt: w.now()}); err != nil {
				return err
			}
		}
		return nil
	}))
}

// restart closes the store and opens it again, as after a crash of the process.
func (w *world) restart() {
	w.t.Helper()
	w.must(w.db.Close())
	w.open()
}

// as returns the same world seen by the root user of another account or in another Region.
func (w *world) as(a arn.Account, r arn.Region) *world {
	c := *w
	c.account, c.region, c.caller = a, r, nil
	return &c
}

// who returns who sees the world.
func (w *world) who() *guard.Caller {
	if w.caller != nil {
		return w.caller
	}
	return &guard.Caller{
		Type: policy.AccountRoot, Account: w.account, ARN: w.account.Root("aws"), PrincipalID: string(w.account), UniqueID: string(w.account),
		AccessKeyID: "AKIATEST",
	}
}

// user returns the world seen by a user, who is born with it, in the account that w is seen from. A user has no policies.
func (w *world) user(name string) *world {
	c := *w
	id := "AIDA" + strings.ToUpper(name) + "0000000000000"
	c.caller = &guard.Caller{
		Type: policy.User, Account: w.account, ARN: "arn:aws:iam::" + string(w.account) + ":user/" + name, PrincipalID: id, UniqueID: id, Name: name,
		AccessKeyID: "AKIAUSER", Rights: &guard.Rights{},
	}
	w.people.born(id, c.caller.ARN)
	return &c
}

// session is user for a session of the role dev.
func (w *world) session(name string) *world {
	const role = "dev"
	c := *w
	id := "AROA" + strings.ToUpper(role) + "0000000000000"
	c.caller = &guard.Caller{
		Type: policy.RoleSession, Account: w.account, ARN: "arn:aws:sts::" + string(w.account) + ":assumed-role/" + role + "/" + name,
		RoleARN: "arn:aws:iam::" + string(w.account) + ":role/" + role, PrincipalID: id + ":" + name, UniqueID: id, AccessKeyID: "ASIAROLE",
		Rights: &guard.Rights{}, Session: &guard.Session{IssuedAt: w.now(), IssuerType: "Role", IssuerID: id, IssuerName: role},
	}
	w.people.born(id, c.caller.RoleARN)
	return &c
}

// serviceCaller is user for a service with a credential of its own.
func (w *world) serviceCaller(name string) *world {
	c := *w
	c.caller = &guard.Caller{Type: policy.Service, Account: w.account, ARN: name, PrincipalID: name, Service: name, AccessKeyID: "AKIASERVICE", Rights: &guard.Rights{}}
	return &c
}

// try makes one call: the input goes through JSON, so that it is decoded and validated as from the wire.
func (w *world) try(name string, in map[string]any) (wire.Output, *wire.Error) {
	w.t.Helper()
	op, ok := w.operations[name]
	if !ok {
		w.t.Fatalf("no operation %s", name)
	}
	input := op.New()
	if err := decodeInto(in, input.(wire.JSONInput)); err != nil {
		return nil, err
	}
	if err := wire.Validate(input); err != nil {
		return nil, err
	}
	return w.answer(context.Background(), &op, input)
}

// answer passes a checked input through the guard.
func (w *world) answer(ctx context.Context, op *guard.Operation, input wire.Input) (wire.Output, *wire.Error) {
	meta := guard.Meta{RequestID: arn.NewUUID(), Time: w.now(), SourceIP: "127.0.0.1", UserAgent: "test"}
	return w.guard.Answer(meta, func(c *guard.Call) (wire.Output, error) {
		c.Service, c.Name, c.Operation, c.Input = op.Service, op.Name, op, input
		c.Identify(w.who(), w.region)
		c.Forward, c.Freshness = w.forward, w.freshness
		return op.Do(ctx, c, input)
	})
}

// decodeInto fills an input as from the wire.
func decodeInto(from map[string]any, input wire.JSONInput) *wire.Error {
	text, err := json.Marshal(from)
	if err != nil {
		panic(err)
	}
	return wire.DecodeJSON(text, input)
}

func jsonInto(text []byte, to any) error { return json.Unmarshal(text, to) }

// do makes a call that must succeed and returns its output.
func do[Out wire.Output](w *world, name string, in map[string]any) Out {
	w.t.Helper()
	out, failure := w.try(name, in)
	if failure != nil {
		w.t.Fatalf("%s(%v): %v", name, in, failure)
	}
	typed, ok := out.(Out)
	if !ok {
		w.t.Fatalf("%s answered %T", name, out)
	}
	return typed
}

// done makes a call without output that must succeed.
func (w *world) done(name string, in map[string]any) {
	w.t.Helper()
	if _, failure := w.try(name, in); failure != nil {
		w.t.Fatalf("%s(%v): %v", name, in, failure)
	}
}

// refused makes a call that must fail with the error "Code: message", or "Code" where there is no message.
func (w *world) refused(want, name string, in map[string]any) {
	w.t.Helper()
	_, failure := w.try(name, in)
	if failure == nil {
		w.t.Errorf("%s(%v) succeeded, want %s", name, in, want)
	} else if failure.Error() != want {
		w.t.Errorf("%s(%v)\n got %s\nwant %s", name, in, failure, want)
	}
}

// lastRecord returns the newest audit record.
func (w *world) lastRecord() map[string]any {
	w.t.Helper()
	all := w.audit.Records()
	var r map[string]any
	w.must(json.Unmarshal(all[len(all)-1], &r))
	return r
}

// newKey makes a key and returns its id and ARN.
func (w *world) newKey() (id, keyARN string) {
	w.t.Helper()
	m := do[*kmsapi.CreateKeyResponse](w, "CreateKey", map[string]any{}).KeyMetadata
	return m.KeyID.V, m.ARN.V
}

func (w *world) encrypt(keyID string, plaintext []byte, context map[string]string) []byte {
	w.t.Helper()
	return do[*kmsapi.EncryptResponse](w, "Encrypt", map[string]any{"KeyId": keyID, "Plaintext": plaintext, "EncryptionContext": context}).CiphertextBlob
}

func (w *world) decrypts(blob, want []byte, context map[string]string) {
	w.t.Helper()
	got := do[*kmsapi.DecryptResponse](w, "Decrypt", map[string]any{"CiphertextBlob": blob, "EncryptionContext": context}).Plaintext
	if !got.Equal(secret.Copy(want)) || !bytes.Equal(got.Expose(), want) {
		w.t.Errorf("decrypted to something else")
	}
}
