package metrics

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// KeyStore says where the material of the key is that a request was about. The zero value is NoKey.
type KeyStore uint8

// The key stores.
const (
	NoKey    KeyStore = iota // the request was about no key, or did not get so far
	Software                 // Keywright's own
	CloudHSM                 // a custom key store of HSMs
	External                 // a custom key store behind a proxy
	keyStores
)

// String returns the value of the label.
func (s KeyStore) String() string {
	return [keyStores]string{"none", "software", "cloudhsm", "external"}[s]
}

// Unknown is the operation of requests that name none which the service has: what they do name is the client's choice.
const Unknown = "Unknown"

// What the label code says of an answer without an error, and of codes beyond the maxCodes-th of an operation.
const (
	codeOK    = "OK"
	codeOther = "Other"
	maxCodes  = 64
)

// Operation counts the requests of one operation. It is safe for concurrent use.
type Operation struct {
	m             *Metrics
	service, name string

	took   atomic.Pointer[prometheus.Observer]
	done   [keyStores]atomic.Pointer[prometheus.Counter]
	failed atomic.Pointer[map[failure]prometheus.Counter] // never changed: replaced
	mu     sync.Mutex                                     // held to replace one of the three
}

type failure struct {
	store KeyStore
	code  string
}

// Operation returns what counts the requests of an operation. It is meant to be called once for each; series are made with
// the first request.
func (m *Metrics) Operation(service, name string) *Operation {
	return &Operation{m: m, service: service, name: name}
}

// Observe counts a request that was answered with an error code, or with an empty one for success. o may be nil: then
// nobody counts.
func (o *Operation) Observe(s KeyStore, code string, took time.Duration) {
	if o == nil {
		return
	}
	h := o.took.Load()
	if h == nil {
		h = o.histogram()
	}
	(*h).Observe(took.Seconds())
	if code != "" {
		o.failure(failure{s, code}).Inc()
		return
	}
	c := o.done[s].Load()
	if c == nil {
		c = o.success(s)
	}
	(*c).Inc()
}

func (o *Operation) histogram() *prometheus.Observer {
	h := o.m.took.WithLabelValues(o.service, o.name) // the same one for everybody
	o.took.Store(&h)
	return &h
}

func (o *Operation) success(s KeyStore) *prometheus.Counter {
	c := o.m.requests.WithLabelValues(o.service, o.name, codeOK, s.String())
	o.done[s].Store(&c)
	return &c
}

func (o *Operation) failure(f failure) prometheus.Counter {
	if all := o.failed.Load(); all != nil {
		if c, ok := (*all)[f]; ok {
			return c
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	all := map[failure]prometheus.Counter{}
	if last := o.failed.Load(); last != nil {
		if c, ok := (*last)[f]; ok {
			return c
		}
		if len(*last) >= maxCodes {
			return o.m.requests.WithLabelValues(o.service, o.name, codeOther, f.store.String())
		}
		all = maps.Clone(*last)
	}
	c := o.m.requests.WithLabelValues(o.service, o.name, f.code, f.store.String())
	all[f] = c
	o.failed.Store(&all)
	return c
}
