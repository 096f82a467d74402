// Package kms is the KMS service: what each operation does, in the order of checks that clients of AWS KMS can see.
//
// It trusts the pipeline for decoded, model-checked inputs and verified callers, and asks the guard before everything
// else: without the guard's Permit, custody opens nothing for it. It must never hold key material, and never answer
// success for what was not done.
package kms

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/attest"
	"github.com/keywright/keywright/internal/custody"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/quota"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
)

// Config is what a Service needs. All fields are required but CachedKeys, Quotas, Regions, Attestation and Wall.
type Config struct {
	Store   *store.Store
	Custody *custody.Custody
	Barrier *seal.Barrier // seals pagination markers
	Guard   *guard.Guard
	Now     func() time.Time

	Principals Principals // who can be named in key policies and grants

	// Attestation verifies the attestation documents of enclaves. Nil means that no roots are trusted: answers for enclaves are
	// refused.
	Attestation *attest.Verifier
	// Wall is the clock that the times of attestation documents are compared with. Nil means Now.
	Wall func() time.Time

	// CachedKeys is how many symmetric keys and how many aliases stay ready in memory; zero means 10,000. Of keys whose policy,
	// tags or opened material take more memory it is fewer, of grants eight times as many.
	CachedKeys int

	// Regions are those that multi-Region keys may be copied to. Nil means every Region of valid form.
	Regions func(arn.Region) bool

	Quotas *quota.Book // what an account may have, and how often it may call; nil: only what holds for one key is limited
}

// Service answers the operations of KMS. It is safe for concurrent use.
type Service struct {
	store   *store.Store
	custody *custody.Custody
	barrier *seal.Barrier
	guard   *guard.Guard
	now     func() time.Time
	wall    func() time.Time
	regions func(arn.Region) bool
	keys    *cache[key.Name, *snapshot]
	aliases *cache[aliasName, arn.KeyID]
	grants  *cache[key.Name, *grantSet]
	// The names of a key's aliases, for those keys about which a policy asks.
	aliasLists *cache[key.Name, []string]
	// Compiled policies by their text and whom it names: most keys of an account have the same one.
	policies    *cache[policyKey, compiled]
	principals  Principals
	attestation *attest.Verifier // nil for no roots

	book     *quota.Book
	uses     *uses      // last uses of keys that are not yet in the store
	flushing sync.Mutex // held while uses are written, and while all is forgotten

	due    sync.Mutex             // held by RunDue
	failed map[key.Name]time.Time // RunDue's own: keys whose work failed, and when
}

// defaultCachedKeys holds memory under 400 MiB whatever the number and kind of keys, their policies and tags: a symmetric one with
// the default policy is reckoned at some 6 KiB opened, there are two generations of them, and the collector lets the heap double.
const defaultCachedKeys = 10_000

// cachedPolicies bounds the memory of compiled policies, in octets; one takes some 3 MB at most.
const cachedPolicies = 8 << 20

// cachedGrantsPerKey is how many grants may stay in memory for each key that may.
const cachedGrantsPerKey = 8

// New returns a Service.
func New(c Config) *Service {
	if c.CachedKeys == 0 {
		c.CachedKeys = defaultCachedKeys
	}
	if c.Regions == nil {
		c.Regions = func(arn.Region) bool { return true }
	}
	if c.Wall == nil {
		c.Wall = c.Now
	}
	if c.Quotas == nil {
		c.Quotas = quota.New(quota.Settings{Enforce: quota.EnforceUnlimited}, c.Now)
	}
	return &Service{
		store: c.Store, custody: c.Custody, barrier: c.Barrier, guard: c.Guard, now: c.Now, wall: c.Wall, regions: c.Regions,
		keys:        newWeighedCache[key.Name](c.CachedKeys*typicalMemory(), (*snapshot).memory),
		aliases:     newCache[aliasName, arn.KeyID](c.CachedKeys),
		grants:      newWeighedCache[key.Name](cachedGrantsPerKey*c.CachedKeys, func(s *grantSet) int { return 1 + s.size() }),
		aliasLists:  newCache[key.Name, []string](c.CachedKeys),
		policies:    newWeighedCache[policyKey](cachedPolicies, func(p compiled) int { return p.memory }),
		principals:  c.Principals,
		attestation: c.Attestation,
		book:        c.Quotas,
		uses:        newUses(usesPerCachedKey * c.CachedKeys),
		failed:      map[key.Name]time.Time{},
	}
}

// request is one call on its way through an operation.
type request struct {
	*Service
	ctx    context.Context //nolint:containedctx // a request lives no longer than its context
	call   *guard.Call
	op     *operation
	action guard.Action // the row's permission
	key    *snapshot    // the key that the operation works on, if its row says how to find one
	permit guard.Permit
	in     wire.Input
	alias  arn.AliasName // the alias through which the client named the key, if it did
	finder grantFinder   // what the guard finds the grants of the key with
	held   *grantSet     // the grants of the key, while the request has them locked
	// planned is the AWS managed key that the client named, if nobody has made it yet.
	planned *snapshot
	// recipient is the enclave that the answer is for; the zero value for none.
	recipient recipient
	used      [2]*snapshot // the keys that it uses besides its own
	charged   bool         // it was counted to the rate of its operation
	waited    bool         // for a turn: what it knows of its key may be old
	// waitedLong says that the change waited for longer than what it was decided by may be relied on, and is decided anew.
	waitedLong bool
	source     sealed // the ciphertext that it opens, if it does
}

// requests is memory for requests, used again.
var requests = sync.Pool{New: func() any { return new(request) }}

// Operations returns the service's operations for the pipeline.
func (s *Service) Operations() []guard.Operation {
	all := make([]guard.Operation, 0, len(operations))
	for i := range operations {
		all = append(all, s.bind(&operations[i]))
	}
	return all
}

// bind makes a row of the table into what the pipeline calls: the steps that all operations share, in the order that
// clients can see, and then the row's own.
func (s *Service) bind(op *operation) guard.Operation {
	action, rate := guard.NewAction(op.Permission), op.rate()
	if op.Key == inHandler {
		rate = 0 // the handler charges, once it has asked the guard
	}
	return guard.Operation{
		Service: "kms", Name: op.Name, ReadOnly: op.ReadOnly, Perishable: op.Usage != "", Internal: wire.CodeKMSInternal,
		New: op.model().New, Show: op.show, Reply: op.reply,
		Do: func(ctx context.Context, call *guard.Call, in wire.Input) (wire.Output, error) {
			r := requests.Get().(*request)
			r.Service, r.ctx, r.call, r.op, r.action = s, ctx, call, op, action
			call.AtEnd(r)
			out, err := r.run(in, rate)
			if errors.Is(err, custody.ErrBusy) {
				err = errThrottled
			}
			return out, err
		},
	}
}

// run takes the steps of an operation. rate is what the call counts to here; 0 for an operation that says so itself.
func (r *request) run(in wire.Input, rate quota.ID) (wire.Output, error) {
	op := r.op
	if op.tokens != nil {
		if err := r.checkTokens(op.tokens(in)); err != nil {
			return nil, err
		}
	}
	if op.recipient != nil {
		r.recipient.info = op.recipient(in)
	}
	switch {
	case op.named != nil:
		if err := r.open(in); err != nil {
			return nil, err
		}
	case op.Key == noKey:
		if err := r.admitCall(in); err != nil {
			return nil, err
		}
	}
	if rate != 0 {
		if err := r.charge(rate); err != nil {
			return nil, err
		}
	}
	return op.do(r, in)
}

// End implements guard.Ender.
func (r *request) End(done bool) {
	if done {
		r.noteUses()
	}
	*r = request{}
	requests.Put(r)
}

// admitCall asks the guard for an operation that has no key.
func (r *request) admitCall(in wire.Input) (err error) {
	r.permit, err = r.call.Authorize(guard.Resource{Action: r.action, ARN: "*", Facts: r.facts(), Input: in})
	return err
}

// open finds the key that the input names, asks the guard, and checks what is the same for all operations on a key.
func (r *request) open(in wire.Input) error {
	snap, alias, err := r.find(r.op.Key, r.op.named(in), r.action)
	if err != nil {
		return err
	}
	r.alias, r.in = alias, in
	if r.key, r.permit, err = r.admit(snap, alias, r.ask(in)); err != nil {
		return err
	}
	snap = r.key
	r.call.Concerns(snap.Account, snap.arn)
	if r.op.fill != nil {
		r.op.fill(snap.Key, in)
	}
	if r.op.check != nil {
		if err := r.op.check(in); err != nil {
			return err
		}
	}
	if err := r.op.usage(snap.Key); err != nil {
		return err
	}
	return r.op.States.blocks(snap.Key)
}

// question is what an operation wants to do to a key.
type question struct {
	action  guard.Action
	facts   guard.FactSource // what conditions may ask about the input; nil for nothing
	in      wire.Input
	bound   bool              // the operation has an encryption context, which grants may be bound to
	context map[string]string // it
	fits    func(*key.Grant) bool
}

// ask returns the question of the operation's row.
func (r *request) ask(in wire.Input) question {
	q := question{action: r.action, facts: r.facts(), in: in}
	if r.op.context != nil {
		q.bound, q.context = true, r.op.context(in)
	}
	if r.op.fits != nil {
		q.fits = r.op.fits(in)
	}
	return q
}

// authorize asks the guard for an action on a key.
func (r *request) authorize(snap *snapshot, alias arn.AliasName, q question) (guard.Permit, error) {
	facts := q.facts
	if r.op.idle {
		var err error
		if facts, err = r.idleFacts(snap, facts); err != nil {
			return guard.Permit{}, err
		}
	}
	about := guard.Resource{
		Action: q.action, ARN: snap.arn, Key: snap.Key, Policy: snap.policy, Foreign: r.op.Foreign, Alias: alias, Facts: facts, Input: q.in,
		GrantFits: q.fits, EncryptionContext: q.context, Aliases: snap.aliases,
	}
	if !snap.isPlan() { // a key that is not made has no grants, and looking for them would remember its name
		r.finder = grantFinder{r, snap.Name, q.bound, q.context} // in the request, so that it costs no memory of its own
		about.Grants = &r.finder
	}
	permit, err := r.call.Authorize(about)
	if err == nil {
		return permit, nil
	}
	var denied *wire.Error // which costs memory, so only here
	if errors.As(err, &denied) && alias != "" && snap.Account != r.call.Caller.Account {
		// Which key another account's alias points at, and whether there is such an alias, stays untold.
		return guard.Permit{}, r.call.Deny(q.action, alias.ARN(snap.Region, snap.Account))
	}
	return permit, err
}

// stillAllowed asks the guard again, about the request's key as it is under the lock: somebody may have taken the right
// while the call waited for it, and has been told since that it is taken.
func (r *request) stillAllowed(now *snapshot) error {
	if err := r.renew(); err != nil {
		return err
	}
	_, err := r.authorize(now, r.alias, r.ask(r.in))
	return err
}

// errLate says that a change was decided by what was known too long ago: whoever took the right to it on another server may have been told
// that it is gone.
var errLate = errors.New("the change was decided too long ago")

// retry is twice for a change that has to be made again while others come in between.
func (r *request) retry(change func() error) error {
	return r.twice(func() error {
		return store.Retry(r.ctx, func() error {
			if err := r.refresh(); err != nil {
				return err
			}
			return change()
		})
	})
}

// twice makes a change, which asks inTime at the beginning of its transaction. If it waited for too long it is made again, and calls refresh
// before it is decided anew; but not more than once, or else whatever waits for longer than the bound each time would never be made.
func (r *request) twice(change func() error) error {
	err := change()
	if !errors.Is(err, errLate) {
		return err
	}
	r.waitedLong = true
	defer func() { r.waitedLong = false }()
	return change()
}

// inTime returns errLate if the change waited for too long.
func (r *request) inTime() error {
	if !r.waitedLong && r.call.Late() {
		return errLate
	}
	return nil
}

// refresh has a change that waited for long decided by what is known now. That is asked for as long as a change may wait for the database.
func (r *request) refresh() error {
	if !r.waitedLong {
		return nil
	}
	for until := time.Now().Add(r.store.Patience()); ; {
		err := r.call.Refresh(r.ctx)
		if !errors.Is(err, store.ErrUnavailable) || r.ctx.Err() != nil || time.Now().After(until) {
			return err
		}
		select {
		case <-r.ctx.Done():
		case <-time.After(refreshPause):
		}
	}
}

// refreshPause is how long a change waits before it asks again what others have changed.
const refreshPause = 50 * time.Millisecond

// change changes the request's key, unless its policy or state has come to forbid the operation since it was looked at.
func (r *request) change(edit func(*key.Key) error) error {
	var snap *snapshot
	err := r.twice(func() (err error) { // and again while others come in between
		if err := r.refresh(); err != nil {
			return err
		}
		snap, err = r.Service.change(r.ctx, r.key.Name, func(now *snapshot, next *key.Key) error {
			if err := r.stillAllowed(now); err != nil {
				return err
			}
			if err := r.op.States.blocks(next); err != nil {
				return err
			}
			return edit(next)
		}, r.inTime)
		return err
	})
	if err != nil {
		return gone(r.key.Name, err)
	}
	r.key = snap
	return nil
}

// logFailure logs what went wrong with a key outside of any request.
func logFailure(what string, name key.Name, err error) {
	slog.Error(what, "key", name.ARN(), "err", err)
}
