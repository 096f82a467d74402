// Package guard stands between every caller and everything that can be done: it decides whether a call is authorized,
// is the sole maker of the Permit without which key material stays closed, and writes the audit record of the call
// before its answer leaves.
//
// It trusts the pipeline to say truthfully who calls (Call.Identify after a verified signature) and the services to name
// the action and resource they are about to use. It must never return an answer whose record was not written, and never
// make a Permit without a decision.
package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/steps"
	"github.com/keywright/keywright/internal/wire"
)

// Recorder takes the records of calls and returns when they are written. audit.Log and audit.Memory are Recorders.
type Recorder interface {
	// Append writes records, all or none. After an error nothing of them may remain.
	Append(records ...[]byte) error
	// Reserve sees to it that there is room for the records of a call that is about to change something. After an error nothing
	// may be changed, because its record could fail.
	Reserve() error
	// AppendReserved is Append with the room of one Reserve, which is given back, also with an error and without a record.
	AppendReserved(records ...[]byte) error
}

// Operation is one row of a service's table.
type Operation struct {
	Service  string // the service's signing name, "kms"
	Name     string // "Encrypt"
	ReadOnly bool   // readOnly of its audit record
	// Perishable says that an answer that comes late is dropped: it uses key material, or gives out credentials, by a right that can be gone
	// by then. It changes nothing, so that a call that is made again does no harm.
	Perishable bool
	Internal   wire.Code // error of an internal failure; empty means InternalFailure

	// New returns an empty input to decode the request into.
	New func() wire.Input
	// Do answers a decoded and validated input. A *wire.Error goes to the client; any other error is an internal failure
	// whose detail stays in the server's log. A nil output is an empty body.
	Do func(context.Context, *Call, wire.Input) (wire.Output, error)
	// Show adds to requestParameters what the record may show of the input; nil leaves them null.
	Show func(*audit.Fields, wire.Input)
	// Reply adds to responseElements what the record may show of a successful output; nil leaves them null.
	Reply func(*audit.Fields, *Call, wire.Output)
}

// Answers adapts a handler with an output to a service's table, whose requests are R. The pipeline decodes each request into
// what the model says is the operation's input, so the assertion holds; a row with another operation's handler fails its first
// test.
func Answers[R any, In wire.Input, Out wire.Output](f func(R, In) (Out, error)) func(R, wire.Input) (wire.Output, error) {
	return func(r R, in wire.Input) (wire.Output, error) {
		out, err := f(r, in.(In))
		if err != nil {
			return nil, err
		}
		return out, nil
	}
}

// Quiet adapts a handler of an operation without output, as Answers does.
func Quiet[R any, In wire.Input](f func(R, In) error) func(R, wire.Input) (wire.Output, error) {
	return func(r R, in wire.Input) (wire.Output, error) { return nil, f(r, in.(In)) }
}

// Meta is what is known of a request before anybody looks into it.
type Meta struct {
	RequestID string // UUID, x-amzn-RequestId of the answer
	Time      time.Time
	SourceIP  string
	UserAgent string
	TLS       *audit.TLS
	Steps     *steps.Log    // where the steps of the call are noted; nil for nowhere
	TraceID   func() string // id of the caller's trace, for lines of the server's log; nil for none
}

// Call is one request on its way. It belongs to one goroutine and must not be kept after its answer.
type Call struct {
	Meta
	Service   string     // signing name of the service that was addressed
	Name      string     // operation as the client wrote it; Operation.Name once it is known
	Operation *Operation // nil until the operation is found
	Input     wire.Input // nil until the request was decoded
	Caller    *Caller    // nil until the signature was verified
	Forward   *Forward   // what a registered service says of the call; nil for all others
	Region    arn.Region // of the signature's scope; empty before
	Freshness Freshness  // of what is remembered; nil where nobody else changes it

	guard     *Guard
	since     time.Time     // up to when every change was known when it was last looked whether the call may be
	claimed   string        // access key id of a signature that did not verify
	owners    []arn.Account // other accounts whose keys the call was allowed to use
	twoOwners [2]arn.Account
	served    arn.Account // the caller is a service: whose key it used first
	resources []audit.Resource
	two       [2]audit.Resource
	events    [3]string   // ids of the call's records: its own, and those of owners
	elsewhere []Elsewhere // what it did in other Regions
	ender     Ender       // nil for nobody
	reserved  bool        // there is room for its records, which they have to give back
	doubtful  bool        // it failed, and nobody knows whether what it was to change is changed
	bare      bool        // its records show nothing of what the operation's own functions make

	// The record and what it points at, used again for other calls.
	record                           audit.Record
	session                          audit.SessionContext
	parameters, response, additional audit.Fields
	lines                            [3][]byte

	origin key.Origin // of the key that it asked about first

	// What decide works with. A trace collects what was heard, when somebody wants to know.
	trace         *trace
	principal     policy.Principal
	circumstances circumstances
	question      policy.Request
}

// Freshness says how old what a server remembers can be. A fresh.Keeper is one.
type Freshness interface {
	// Check returns up to when every change is known, once that is recent enough, or an error.
	Check(context.Context) (since time.Time, err error)
	// Late reports whether what was known up to since is too old by now.
	Late(since time.Time) bool
}

// Refresh sees to it that what is remembered is recent enough for the call to be decided by. Whatever takes its time asks again before
// it decides anew.
func (c *Call) Refresh(ctx context.Context) (err error) {
	if c.Freshness != nil {
		c.since, err = c.Freshness.Check(ctx)
	}
	return err
}

// Late reports whether so much time has passed since the call was decided that something older than others may rely on decided it.
func (c *Call) Late() bool { return c.Freshness != nil && c.Freshness.Late(c.since) }

// KeyARN returns the ARN of the key that the call concerns; where it concerns an alias and a key, the key's. It is empty
// where there is none.
func (c *Call) KeyARN() string {
	for _, r := range c.resources {
		if arn.ParseRef(r.ARN).Form == arn.FormKeyARN {
			return r.ARN
		}
	}
	return ""
}

// Origin returns where the material of the key comes from that the call asked to use; empty if it asked about none.
func (c *Call) Origin() key.Origin { return c.origin }

// traceID returns the id of the caller's trace, for lines of the server's log.
func (c *Call) traceID() string {
	if c.TraceID == nil {
		return ""
	}
	return c.TraceID()
}

// EventOf returns the id of the call's record in the trail of an account: of the one that owns a key which the call was allowed to
// use, or the caller's.
func (c *Call) EventOf(a arn.Account) string {
	if i := slices.Index(c.owners, a); i >= 0 {
		return c.event(i + 1)
	}
	return c.event(0)
}

// event returns the id of the caller's record, which is number 0, or of an owner's.
func (c *Call) event(i int) string {
	if c.events[i] == "" {
		c.events[i] = arn.NewUUID()
	}
	return c.events[i]
}

// Identify sets who calls, after the signature was verified, and the Region that it is scoped to.
func (c *Call) Identify(who *Caller, region arn.Region) { c.Caller, c.Region = who, region }

// Claim notes the access key id that an unverified signature names, for the record of the refusal.
func (c *Call) Claim(accessKeyID string) { c.claimed = accessKeyID }

// Reserve is to be called before a call changes anything. It fails while the change's record could not be written, and
// then nothing may be changed.
func (c *Call) Reserve() error {
	if c.reserved {
		return nil
	}
	if err := c.guard.config.Recorder.Reserve(); err != nil {
		return fmt.Errorf("no room for the audit record of a change: %w", err)
	}
	c.reserved = true
	return nil
}

// ConcernsNothing makes the record say that there are no resources, where it would else not speak of them.
func (c *Call) ConcernsNothing() { c.resources = c.two[:0] }

// Concerns adds a key or alias to the resources of the call's record.
func (c *Call) Concerns(account arn.Account, arn string) {
	if c.resources == nil {
		c.resources = c.two[:0]
	}
	for _, r := range c.resources {
		if r.ARN == arn {
			return
		}
	}
	c.resources = append(c.resources, audit.Resource{Account: account, ARN: arn})
}

// In has the call be one in another Region while f runs: what is authorized there is asked of policies as a request to that
// Region.
func (c *Call) In(r arn.Region, f func() error) error {
	own := c.Region
	defer func() { c.Region = own }()
	c.Region = r
	return f()
}

// Elsewhere is what a call does in another Region besides: it has a record there.
type Elsewhere struct {
	Region    arn.Region
	Name      string              // of the operation there
	Show      func(*audit.Fields) // requestParameters
	Resources []audit.Resource
}

// Does notes what the call does in another Region. If the call succeeds, the record of that follows the call's own, and names the
// service as the one that did it.
func (c *Call) Does(e Elsewhere) { c.elsewhere = append(c.elsewhere, e) }

// Ender hears of the end of a call.
type Ender interface {
	// End is called once, before the answer leaves: with true if the call succeeded and its record is written.
	End(done bool)
}

// AtEnd has e hear of the end of the call.
func (c *Call) AtEnd(e Ender) { c.ender = e }

// Additional returns the fields of additionalEventData, for a handler to add to.
func (c *Call) Additional() *audit.Fields { return &c.additional }

// maxKept is how large a record was whose memory is used again.
const maxKept = 32 << 10

// reset makes the Call ready for the next request. It keeps nothing of the last one but memory.
func (c *Call) reset() {
	parameters, response, additional, lines, inputs := c.parameters, c.response, c.additional, c.lines, c.circumstances.inputs
	if cap(lines[0]) > maxKept {
		parameters, response, additional, lines = audit.Fields{}, audit.Fields{}, audit.Fields{}, [3][]byte{}
	}
	*c = Call{}
	parameters.Reset()
	response.Reset()
	additional.Reset()
	inputs.reset()
	c.parameters, c.response, c.additional, c.lines, c.circumstances.inputs = parameters, response, additional, lines, inputs
}

// Guard authorizes and records. It is safe for concurrent use.
type Guard struct {
	config Config
	calls  sync.Pool // of *Call
}

// Config is what a Guard works with.
type Config struct {
	Recorder  Recorder         // required
	Now       func() time.Time // required
	Directory Directory        // nil: no account has control policies
	// Seal turns the explanation of a refusal into a token that the caller cannot read: whoever may decode it learns
	// why the call was refused. nil: there are no such tokens. The explanation has at most 7,000 octets.
	Seal func([]byte) (string, error)
	// Unknown reports whether nobody knows if what ended with an error was done after all: the record says so then. nil: it was not done.
	Unknown func(error) bool
}

// New returns a Guard.
func New(c Config) *Guard {
	if c.Recorder == nil || c.Now == nil {
		panic("guard: no recorder or no clock")
	}
	return &Guard{config: c, calls: sync.Pool{New: func() any { return new(Call) }}}
}

// directory returns what knows the controls of accounts; nil for nothing.
func (c *Call) directory() Directory {
	if c.guard == nil {
		return nil
	}
	return c.guard.config.Directory
}

// Answer runs f, writes the call's audit record and only then returns the answer. Exactly one of the results is not nil,
// or both are for an answer without a body. If the record cannot be written there is no output, only an error.
func (g *Guard) Answer(m Meta, f func(*Call) (wire.Output, error)) (wire.Output, *wire.Error) {
	c := g.calls.Get().(*Call)
	done := false
	defer func() {
		if c.reserved { // it has no record
			_ = g.config.Recorder.AppendReserved()
		}
		if c.ender != nil {
			c.ender.End(done)
		}
		c.reset()
		g.calls.Put(c)
	}()
	c.Meta, c.guard = m, g
	out, err := g.run(c, f)
	c.doubtful = g.unknown(err)
	failure := c.public(err)
	noted := c.Steps.Begin(steps.AuditAppend)
	err = g.record(c, out, failure)
	if noted.EndWith(err); err != nil {
		slog.Error("an answer was withheld because its audit record could not be written",
			"requestId", c.RequestID, "traceId", c.traceID(), "operation", c.known(), "err", err)
		return nil, c.internal()
	}
	if failure != nil {
		return nil, failure
	}
	done = true
	return out, nil
}

// run calls f and turns a panic into an internal failure, so that even then there is a record.
func (g *Guard) run(c *Call, f func(*Call) (wire.Output, error)) (out wire.Output, err error) {
	defer func() {
		if p := recover(); p != nil {
			out, err = nil, caught(nil, p)
		}
	}()
	return f(c)
}

// unknown reports whether what ended with an error may have been done after all.
func (g *Guard) unknown(err error) bool {
	return err != nil && g.config.Unknown != nil && g.config.Unknown(err)
}

// failed makes the record of something that was to be done the record of its failure.
func (g *Guard) failed(r *audit.Record, err error) {
	r.EventID, r.ErrorCode = arn.NewUUID(), string(wire.CodeInternalFailure)
	if g.unknown(err) {
		r.Additional = new(audit.Fields)
		showDoubt(r.Additional)
	}
}

// caught returns the error of a function, which is another one if it has panicked.
func caught(err error, p any) error {
	if p == nil {
		return err
	}
	// Not the panic's value: it could hold what the caller sent.
	return fmt.Errorf("panic of type %T\n%s", p, debug.Stack())
}

// public returns the error that the client may see. What is no *wire.Error is logged here and goes no further.
func (c *Call) public(err error) *wire.Error {
	if err == nil {
		return nil
	}
	var e *wire.Error
	if errors.As(err, &e) {
		return e
	}
	slog.Error("internal failure", "requestId", c.RequestID, "traceId", c.traceID(), "operation", c.known(), "err", err)
	return c.internal()
}

// known returns the name of the operation, for lines of the server's log: empty if the client named none that there is.
func (c *Call) known() string {
	if c.Operation == nil {
		return ""
	}
	return c.Operation.Name
}

func (c *Call) internal() *wire.Error {
	if c.Operation != nil && c.Operation.Internal != "" {
		return wire.Bare(c.Operation.Internal)
	}
	return wire.Bare(wire.CodeInternalFailure)
}

// Event is something that the service does to a key on its own. There are those below and no others, so that no caller
// can ask for a permit of its own making.
type Event struct {
	name string
	uses Use
}

// The events, by the names of their records.
var (
	RotateKey  = Event{"RotateKey", UseCreate} // a rotation that is due
	DeleteKey  = Event{"DeleteKey", 0}         // a deletion that is due
	ManagedKey = Event{"CreateKey", UseCreate} // the making of an AWS managed key
	// A replica of a multi-Region key got what its primary key has.
	SynchronizeKey = Event{"SynchronizeMultiRegionKey", 0}
	// The deletion of imported material whose time is over.
	DeleteExpiredMaterial = Event{"DeleteExpiredKeyMaterial", 0}
	// The making of a key with known material, in a server that others test with.
	SeedKey = Event{"SeedKey", UseCreate | UseTakeIn}
	// What whoever tests with such a server does to all of it: everything is deleted, or the clock is set.
	ResetServer = Event{"ResetServer", 0}
	SetClock    = Event{"SetClock", 0}
)

// Act does an event to a key. prepare makes the change ready under a permit for it and returns serviceEventDetails (nil
// for none). Then commit makes the change hold, and has the event's record written by the function that it is given: at a moment at
// which it knows that nothing but a failure of the store can keep the change from being made, so that there is no record of what
// somebody else was first to do. That function writes once, however often it is called; after an error of it nothing may be changed.
// An error of any of them ends the event: a change is never without its record. A record whose change could not be committed is
// followed by one that says so.
func (g *Guard) Act(e Event, name key.Name, prepare func(Permit) (*audit.Fields, error), commit func(record func() error) error) error {
	if e.name == "" {
		return errors.New("no event")
	}
	details, err := prepare(Permit{name: name, uses: e.uses, payer: name.Account})
	if err != nil {
		return fmt.Errorf("preparing %s of %s: %w", e.name, name.ARN(), err)
	}
	return g.recorded(e, name.Account, name.Region, []audit.Resource{{Account: name.Account, ARN: name.ARN()}}, details, commit)
}

// ActOnAll does an event that is about no key, with a record for an account and Region, which is written before commit makes the
// change.
func (g *Guard) ActOnAll(e Event, account arn.Account, region arn.Region, details *audit.Fields, commit func() error) error {
	if e.name == "" {
		return errors.New("no event")
	}
	return g.recorded(e, account, region, nil, details, func(record func() error) error {
		if err := record(); err != nil {
			return err
		}
		return commit()
	})
}

// recorded has an event recorded and committed, and writes another record if the second of the two fails.
func (g *Guard) recorded(e Event, account arn.Account, region arn.Region, about []audit.Resource, details *audit.Fields, commit func(func() error) error) error {
	what := e.name
	for _, r := range about {
		what += " of " + r.ARN
	}
	r := audit.Record{
		Identity: audit.Identity{AccountID: string(account), InvokedBy: internalActor},
		Time:     g.config.Now(), Source: "kms.amazonaws.com", Name: e.name, Region: region, SourceIP: internalActor, UserAgent: internalActor,
		EventID: arn.NewUUID(), Resources: about, EventType: audit.ServiceEvent,
		Recipient: account, Service: details,
	}
	asked, done := false, false
	record := sync.OnceValue(func() error {
		asked = true
		if err := g.config.Recorder.Append(r.AppendJSON(nil)); err != nil {
			return fmt.Errorf("recording %s: %w", what, err)
		}
		done = true
		return nil
	})
	err := commit(record)
	switch {
	case err == nil && !asked:
		return fmt.Errorf("%s was committed without its record", what)
	case err == nil:
		return nil
	case done:
		g.failed(&r, err)
		err = errors.Join(err, g.config.Recorder.Append(r.AppendJSON(nil)))
	}
	return fmt.Errorf("committing %s: %w", what, err)
}

// internalActor is what CloudTrail prints as the source of service events.
const internalActor = "AWS Internal"
