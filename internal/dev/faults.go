package dev

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/kms"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/iamapi"
	"github.com/keywright/keywright/internal/wire/kmsapi"
	"github.com/keywright/keywright/internal/wire/quotaapi"
	"github.com/keywright/keywright/internal/wire/stsapi"
	"github.com/keywright/keywright/internal/wire/trailapi"
)

// services are those whose operations a fault can hit, the default one first.
var services = []*wire.Service{&kmsapi.Service, &stsapi.Service, &iamapi.Service, &trailapi.Service, &quotaapi.Service}

// Fault is something that is to go wrong. It hits calls whose signer is known and whose input is valid, before anything is
// asked of rights, the state of keys or quotas. All conditions must hold; of several faults that hit a call the latencies add up, and the first that ends it does.
type Fault struct {
	ID string `json:"id,omitempty"` // given by the server

	Service   string      `json:"service,omitempty"`   // signing name: kms, sts, iam, cloudtrail or servicequotas; empty for kms
	Operation string      `json:"operation,omitempty"` // such as Decrypt; empty for all
	Key       string      `json:"key,omitempty"`       // id, ARN or alias of a key that the call is about; empty for any
	Account   arn.Account `json:"account,omitempty"`   // the caller's; empty for any

	Error      string   `json:"error,omitempty"`      // code that the call is answered with, such as ThrottlingException
	Message    string   `json:"message,omitempty"`    // its message; empty for what the service says, or for none
	Latency    Duration `json:"latency,omitzero"`     // before the call is done or refused, real time
	Connection string   `json:"connection,omitempty"` // Reset or Lose

	Times       int     `json:"times,omitempty"`       // how often it hits, then it goes; zero for always
	Probability float64 `json:"probability,omitempty"` // between 0 and 1; zero for always
	Rate        float64 `json:"rate,omitempty"`        // calls a second, real time, that it spares in each account and Region; zero for none
	Hits        uint64  `json:"hits"`                  // how often it has hit
}

// The ways in which a fault breaks a connection.
const (
	Reset = "reset" // in place of the operation, which is not done
	Lose  = "lose"  // in place of the answer: the operation is done
)

// Bounds of what can be asked for.
const (
	maxFaults  = 1000
	maxLatency = Duration(10 * time.Minute)
	maxMessage = 1024
)

// codeForm is how error codes look.
var codeForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9.]{0,63}$`)

// check refuses what could never hit, or means nothing, and fills the service in.
func (f *Fault) check() error {
	if f.Service == "" {
		f.Service = services[0].SigningName
	}
	var model *wire.Service
	for _, s := range services {
		if s.SigningName == f.Service {
			model = s
		}
	}
	if model == nil {
		return fmt.Errorf("there is no service %.40q", f.Service)
	}
	if _, ok := model.Operation(f.Operation); !ok && f.Operation != "" {
		return fmt.Errorf("%s has no operation %.40q", f.Service, f.Operation)
	}
	if f.Account != "" {
		if _, err := arn.ParseAccount(string(f.Account)); err != nil {
			return err
		}
	}
	switch form := arn.ParseRef(f.Key).Form; {
	case f.Key != "" && f.Service != services[0].SigningName:
		return errors.New("only calls of kms are about a key")
	case f.Key != "" && form != arn.FormKeyID && form != arn.FormKeyARN && form != arn.FormAlias && form != arn.FormAliasARN:
		return fmt.Errorf("%.80q is no id, ARN or alias of a key", f.Key)
	case f.Error == "" && f.Latency == 0 && f.Connection == "":
		return errors.New("a fault has an error, a latency or a broken connection")
	case f.Error != "" && !codeForm.MatchString(f.Error):
		return fmt.Errorf("%.40q is no error code", f.Error)
	case f.Error == "" && f.Message != "" || len(f.Message) > maxMessage:
		return fmt.Errorf("a message of at most %d octets goes with an error", maxMessage)
	case f.Connection != "" && f.Connection != Reset && f.Connection != Lose:
		return fmt.Errorf("a connection breaks by %s or %s", Reset, Lose)
	case f.Connection != "" && f.Error != "":
		return errors.New("a broken connection brings no error to the client")
	case f.Latency < 0 || f.Latency > maxLatency:
		return fmt.Errorf("a latency is at most %s", time.Duration(maxLatency))
	case f.Times < 0 || f.Rate < 0 || !(f.Probability >= 0 && f.Probability <= 1):
		return errors.New("times and rate are not negative, and a probability is between 0 and 1")
	}
	return nil
}

// concerns reports whether a call is one of those that the fault can hit.
func (f *Fault) concerns(ctx context.Context, service *kms.Service, call *guard.Call) bool {
	switch {
	case call.Service != f.Service || f.Operation != "" && call.Name != f.Operation:
		return false
	case f.Account != "" && (call.Caller == nil || call.Caller.Account != f.Account):
		return false
	}
	return f.Key == "" || service.Uses(ctx, call, call.Input, f.Key)
}

// messages are what the service says with a code, where that is known and not about a key.
var messages = map[string]string{
	string(wire.CodeThrottling):        "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.",
	string(wire.CodeDependencyTimeout): "The system timed out while trying to fulfill the request. You can retry the request.",
}

// failure returns the error of the fault, as the service of the call renders it.
func (f *Fault) failure(call *guard.Call) error {
	message := f.Message
	if message == "" && f.Service == services[0].SigningName {
		message = messages[f.Error]
	}
	if message == "" && f.Error == string(wire.CodeThrottling) {
		message = "Rate exceeded"
	}
	if f.Key != "" && call.Caller != nil {
		if ref := arn.ParseRef(f.Key); ref.Form == arn.FormKeyARN && ref.Account == call.Caller.Account {
			call.Concerns(ref.Account, f.Key)
		}
	}
	if message == "" {
		return wire.Bare(wire.Code(f.Error))
	}
	return wire.Errorf(wire.Code(f.Error), "%s", message)
}

// rule is a Fault at work.
type rule struct {
	Fault
	buckets map[place]*bucket
}

// place is what has a rate of its own.
type place struct {
	account arn.Account
	region  arn.Region
}

// bucket spares as many calls a second as the rate says, and as many at once.
type bucket struct {
	left float64
	at   time.Time
}

// take reports whether one more call is spared.
func (b *bucket) take(rate float64, now time.Time) bool {
	most := max(rate, 1)
	b.left = min(most, b.left+rate*now.Sub(b.at).Seconds())
	b.at = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// faults are those that there are. It is safe for concurrent use.
type faults struct {
	any atomic.Bool // whether there is one, so that calls without cost nothing

	mu   sync.Mutex
	list []*rule
	last int
}

// add makes a fault and returns it with its id.
func (l *faults) add(f Fault) (Fault, error) {
	if err := f.check(); err != nil {
		return Fault{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.list) >= maxFaults {
		return Fault{}, fmt.Errorf("there are %d faults already", maxFaults)
	}
	l.last++
	f.ID, f.Hits = strconv.Itoa(l.last), 0
	l.list = append(l.list, &rule{Fault: f, buckets: map[place]*bucket{}})
	l.any.Store(true)
	return f, nil
}

// remove takes a fault away and reports whether it was there.
func (l *faults) remove(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, r := range l.list {
		if r.ID == id {
			l.drop(i)
			return true
		}
	}
	return false
}

// drop removes the fault at a place. The caller holds the lock.
func (l *faults) drop(i int) {
	l.list = append(l.list[:i:i], l.list[i+1:]...)
	l.any.Store(len(l.list) > 0)
}

// clear takes all faults away. Who waits for the latency of one goes on waiting.
func (l *faults) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = nil
	l.any.Store(false)
}

// all returns the faults in the order in which they were made.
func (l *faults) all() []Fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]Fault, len(l.list))
	for i, r := range l.list {
		list[i] = r.Fault
	}
	return list
}

// hits returns the faults that hit a call, and counts them: concerns says whether one is about the call at all.
func (l *faults) hits(call *guard.Call, now time.Time, concerns func(*Fault) bool) (hit []Fault) {
	if !l.any.Load() {
		return nil
	}
	l.mu.Lock()
	candidates := append([]*rule(nil), l.list...)
	l.mu.Unlock()
	for _, r := range candidates {
		if !concerns(&r.Fault) { // without the lock: it may look a key up
			continue
		}
		if f, ok := l.strike(r, call, now); ok {
			hit = append(hit, f)
			if f.Error != "" || f.Connection == Reset {
				break // those behind it get no chance
			}
		}
	}
	return hit
}

// strike decides whether a fault hits one of its calls.
func (l *faults) strike(r *rule, call *guard.Call, now time.Time) (Fault, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := -1
	for i, has := range l.list {
		if has == r {
			at = i
		}
	}
	if at < 0 || r.Rate > 0 && r.spares(call, now) || r.Probability > 0 && rand.Float64() >= r.Probability {
		return Fault{}, false // it may have gone meanwhile
	}
	r.Hits++
	if r.Times > 0 && r.Hits >= uint64(r.Times) {
		l.drop(at)
	}
	return r.Fault, true
}

// spares reports whether a call is within the rate.
func (r *rule) spares(call *guard.Call, now time.Time) bool {
	p := place{region: call.Region}
	if call.Caller != nil {
		p.account = call.Caller.Account
	}
	b := r.buckets[p]
	if b == nil {
		b = &bucket{left: max(r.Rate, 1), at: now}
		r.buckets[p] = b
	}
	return b.take(r.Rate, now)
}
