package keyspec

import (
	"context"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/turns"
)

// ErrBusy means that an account asks for more keys than can be made for it: it may try again later.
var ErrBusy = turns.ErrBusy

// Pool has RSA keys ready, because making one takes up to seconds. It makes them in the background, one at a time, and is
// safe for concurrent use. Keys of other specs, and of specs that it has run out of, are made on demand.
type Pool struct {
	sizes    map[key.Spec]int
	generate func(key.Spec) (Private, error)

	mu     sync.Mutex
	ready  map[key.Spec][]Private
	closed bool

	wake    chan struct{} // somebody has asked for a key
	done    chan struct{} // closed by Close
	stopped chan struct{} // the worker has gone
	demand  *turns.Turns  // who makes an RSA key on demand has one
}

const (
	// onDemand is how many RSA keys are made on demand at a time; others wait. It leaves processors to the rest of the service.
	onDemand = 2
	// maxWaiting is how many wait for RSA keys on behalf of an account, and patience how long at most. The last of them, with
	// RSA_4096 and an account alone, comes in some twenty seconds, and clients wait for an answer for a minute.
	maxWaiting = 16
	patience   = 40 * time.Second
)

// SlowToMake reports whether making a key of a spec, or waiting for one, can take up to seconds. Others take a millisecond at most.
func SlowToMake(s key.Spec) bool { return modulusSizes[s] != 0 }

// NewPool returns a Pool that keeps up to sizes[s] keys of each spec ready, and starts to make them. Specs that are not RSA
// are ignored: their keys are fast to make.
func NewPool(sizes map[key.Spec]int) *Pool { return newPool(sizes, Generate) }

func newPool(sizes map[key.Spec]int, generate func(key.Spec) (Private, error)) *Pool {
	p := &Pool{
		sizes: map[key.Spec]int{}, generate: generate, ready: map[key.Spec][]Private{},
		wake: make(chan struct{}, 1), done: make(chan struct{}), stopped: make(chan struct{}), demand: turns.New(onDemand, maxWaiting, patience),
	}
	for s, n := range sizes {
		if SlowToMake(s) && n > 0 {
			p.sizes[s] = n
		}
	}
	go p.work()
	return p
}

// Take returns a fresh key for an account, which nobody else gets. While the pool has one, and nobody waits, it does not wait.
// Otherwise accounts take turns: one that asks for much holds up another by one key at a time. The errors are ErrBusy, if too
// much is waited for on behalf of the account or for too long, or if ctx ended meanwhile, and those of Generate. Take works
// after Close, too, on demand.
func (p *Pool) Take(ctx context.Context, a arn.Account, s key.Spec) (Private, error) {
	if !SlowToMake(s) {
		return p.generate(s)
	}
	if !p.demand.Awaited() { // what is ready belongs to those who wait
		if k := p.pop(s); k != nil {
			return k, nil
		}
	}
	if _, err := p.demand.Take(ctx, a); err != nil {
		return nil, err
	}
	defer p.demand.End()
	if k := p.pop(s); k != nil { // the worker was faster than the queue
		return k, nil
	}
	return p.generate(s)
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
