package keyspec

import (
	"sync"

	"github.com/keywright/keywright/internal/key"
)

// Pool has RSA keys ready, because making one takes up to seconds. It makes them in the background, one at a time, and is
// safe for concurrent use. Keys of other specs, and of specs that it has run out of, are made on demand.
type Pool struct {
	sizes map[key.Spec]int

	mu     sync.Mutex
	ready  map[key.Spec][]Private
	closed bool

	wake    chan struct{} // something was taken
	done    chan struct{} // closed by Close
	stopped chan struct{} // the worker has gone
	demand  chan struct{} // who makes an RSA key on demand holds a place
}

// onDemand is how many RSA keys are made on demand at a time; others wait. It leaves processors to the rest of the service.
const onDemand = 2

// NewPool returns a Pool that keeps up to sizes[s] keys of each spec ready, and starts to make them. Specs that are not RSA
// are ignored: their keys are fast to make.
func NewPool(sizes map[key.Spec]int) *Pool {
	p := &Pool{
		sizes: map[key.Spec]int{}, ready: map[key.Spec][]Private{},
		wake: make(chan struct{}, 1), done: make(chan struct{}), stopped: make(chan struct{}), demand: make(chan struct{}, onDemand),
	}
	for s, n := range sizes {
		if modulusSizes[s] != 0 && n > 0 {
			p.sizes[s] = n
		}
	}
	go p.work()
	return p
}

// Take returns a fresh key, which nobody else gets. While the pool has one it does not wait. The errors are those of
// Generate. It works after Close, too, on demand.
func (p *Pool) Take(s key.Spec) (Private, error) {
	if k := p.pop(s); k != nil {
		return k, nil
	}
	if modulusSizes[s] == 0 {
		return Generate(s)
	}
	p.demand <- struct{}{}
	defer func() { <-p.demand }()
	if k := p.pop(s); k != nil { // the worker was faster than the queue
		return k, nil
	}
	return Generate(s)
}

func (p *Pool) pop(s key.Spec) Private {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.ready[s]) - 1
	if last < 0 {
		return nil
	}
	k := p.ready[s][last]
	p.ready[s][last] = nil
	p.ready[s] = p.ready[s][:last]
	select {
	case p.wake <- struct{}{}:
	default: // the worker knows already
	}
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
	for {
		s, wanted := p.emptiest()
		if !wanted {
			select {
			case <-p.done:
				return
			case <-p.wake:
			}
			continue
		}
		k, err := Generate(s)
		select {
		case <-p.done:
			if err == nil {
				k.(*rsaKey).wipe()
			}
			return
		default:
		}
		if err != nil { // the caller who needs a key gets the error from Generate; here nobody would
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
