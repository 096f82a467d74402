package keyspec

import (
	"context"
	"errors"
	"sync"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/turns"
)

// ErrBusy means that an account asks for more keys than can be made for it: it may try again later.
var ErrBusy = errors.New("too many keys are being made for this account")

// Pool has RSA keys ready, because making one takes up to seconds. It makes them in the background, one at a time, and is
// safe for concurrent use. Keys of other specs, and of specs that it has run out of, are made on demand.
type Pool struct {
	sizes    map[key.Spec]int
	generate func(key.Spec) (Private, error)

	mu     sync.Mutex
	ready  map[key.Spec][]Private
	asking map[arn.Account]int // how many keys are being made for an account, or waited for
	closed bool

	wake    chan struct{} // somebody has asked for a key
	done    chan struct{} // closed by Close
	stopped chan struct{} // the worker has gone
	demand  *turns.Turns  // who makes an RSA key on demand has one
}

const (
	// onDemand is how many RSA keys are made on demand at a time; others wait. It leaves processors to the rest of the service.
	onDemand = 2
	// maxAsking is how many RSA keys may be made for an account at a time, or waited for. The last of 16 RSA_4096 comes in some
	// twenty seconds, which is less than clients wait for an answer.
	maxAsking = 16
)

// NewPool returns a Pool that keeps up to sizes[s] keys of each spec ready, and starts to make them. Specs that are not RSA
// are ignored: their keys are fast to make.
func NewPool(sizes map[key.Spec]int) *Pool { return newPool(sizes, Generate) }

func newPool(sizes map[key.Spec]int, generate func(key.Spec) (Private, error)) *Pool {
	p := &Pool{
		sizes: map[key.Spec]int{}, generate: generate, ready: map[key.Spec][]Private{}, asking: map[arn.Account]int{},
		wake: make(chan struct{}, 1), done: make(chan struct{}), stopped: make(chan struct{}), demand: turns.New(onDemand),
	}
	for s, n := range sizes {
		if modulusSizes[s] != 0 && n > 0 {
			p.sizes[s] = n
		}
	}
	go p.work()
	return p
}

// Take returns a fresh key for an account, which nobody else gets. While the pool has one it does not wait. Then accounts take
// turns: one that asks for much holds up another by one key at a time. The errors are ErrBusy, if the account waits for too many
// already, that ctx ended while it waited, and those of Generate. Take works after Close, too, on demand.
func (p *Pool) Take(ctx context.Context, a arn.Account, s key.Spec) (Private, error) {
	if modulusSizes[s] == 0 {
		return p.generate(s)
	}
	if k := p.pop(s); k != nil {
		return k, nil
	}
	if err := p.enter(a); err != nil {
		return nil, err
	}
	defer p.leave(a)
	if err := p.demand.Take(ctx, a); err != nil {
		return nil, err
	}
	defer p.demand.End()
	if k := p.pop(s); k != nil { // the worker was faster than the queue
		return k, nil
	}
	return p.generate(s)
}

func (p *Pool) enter(a arn.Account) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asking[a] >= maxAsking {
		return ErrBusy
	}
	p.asking[a]++
	return nil
}

func (p *Pool) leave(a arn.Account) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asking[a]--; p.asking[a] == 0 {
		delete(p.asking, a)
	}
}

// pop takes a key that is ready; nil if none is. The worker looks what is to be made in any case.
func (p *Pool) pop(s key.Spec) Private {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default: // the worker knows already
	}
	last := len(p.ready[s]) - 1
	if last < 0 {
		return nil
	}
	k := p.ready[s][last]
	p.ready[s][last] = nil
	p.ready[s] = p.ready[s][:last]
	return k
}

// Ready returns how many keys of the spec are ready now.
func (p *Pool) Ready(s key.Spec) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.ready[s])
}

// Close stops the worker, waits until it has gone (it finishes the key that it is at), and wipes the keys that nobody took.
func (p *Pool) Close() {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		close(p.done)
	}
	p.mu.Unlock()
	<-p.stopped
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, keys := range p.ready {
		for _, k := range keys {
			k.(*rsaKey).wipe()
		}
	}
	clear(p.ready)
}

// work fills the pool until it is closed.
func (p *Pool) work() {
	defer close(p.stopped)
	failed := false
	for {
		s, wanted := p.emptiest()
		if !wanted || failed { // what fails is tried again when somebody asks for a key, who gets the error, too
			failed = false
			select {
			case <-p.done:
				return
			case <-p.wake:
			}
			continue
		}
		k, err := p.generate(s)
		select {
		case <-p.done:
			if err == nil {
				k.(*rsaKey).wipe()
			}
			return
		default:
		}
		if failed = err != nil; failed {
			continue
		}
		p.mu.Lock()
		p.ready[s] = append(p.ready[s], k)
		p.mu.Unlock()
	}
}

// emptiest returns the spec that lacks the largest part of its keys. Of two it is the one with smaller keys, which take
// less time.
func (p *Pool) emptiest() (emptiest key.Spec, wanted bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var least float64 = 1
	for _, s := range []key.Spec{RSA2048, RSA3072, RSA4096} {
		if size := p.sizes[s]; size > 0 {
			if full := float64(len(p.ready[s])) / float64(size); full < least {
				emptiest, least, wanted = s, full, true
			}
		}
	}
	return emptiest, wanted
}
