package quota

import (
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/arn"
)

// The two ways to have quotas.
const (
	EnforceAWS       = "aws"       // every quota holds
	EnforceUnlimited = "unlimited" // no rate, and nothing that an account has too many of as a whole; what holds for one key holds still
)

// Settings say which quotas hold. The zero value is that of AWS KMS.
type Settings struct {
	// Enforce is "aws" or "unlimited". Empty means aws.
	Enforce string `yaml:"enforce"`
	// Values are instead of the defaults of AWS KMS.
	Values []Value `yaml:"values"`
}

// Value is what an operator gives instead of a default: to all accounts in all Regions, or to some. Of several that fit, the one
// that names the account goes before the one that names the Region, and a later one before an earlier.
type Value struct {
	Name    string      `yaml:"name"`    // of a quota, or its code. Required
	Account arn.Account `yaml:"account"` // empty: all
	Region  arn.Region  `yaml:"region"`  // empty: all
	Value   *float64    `yaml:"value"`   // a number, or requests in a second. Required
}

// check says what is wrong with a value.
func (v *Value) check() error {
	if Find(v.Name) == nil {
		return fmt.Errorf("there is no quota %q", v.Name)
	}
	if v.Account != "" {
		if _, err := arn.ParseAccount(string(v.Account)); err != nil {
			return err
		}
	}
	if v.Region != "" {
		if _, err := arn.ParseRegion(string(v.Region)); err != nil {
			return err
		}
	}
	if v.Value == nil {
		return errors.New("no value is given")
	}
	return Find(v.Name).Check(*v.Value)
}

// Check finds what is wrong with settings.
func (s *Settings) Check() error {
	if s.Enforce != "" && s.Enforce != EnforceAWS && s.Enforce != EnforceUnlimited {
		return fmt.Errorf("enforce is %s or %s", EnforceAWS, EnforceUnlimited)
	}
	for i := range s.Values {
		if err := s.Values[i].check(); err != nil {
			return fmt.Errorf("values: number %d: %w", i+1, err)
		}
	}
	return nil
}

// Place is where a quota holds.
type Place struct {
	Account arn.Account
	Region  arn.Region
}

// applied names a value that holds in one place.
type applied struct {
	Place
	id ID
}

// Book has the values of all quotas everywhere, and counts requests. It is safe for concurrent use: a request takes no lock,
// and allocates nothing unless it is the first of its account in the Region.
type Book struct {
	unlimited bool
	given     map[ID][]Value // from the configuration, by the quota
	applied   atomic.Pointer[map[applied]float64]
	applying  sync.Mutex // held while applied is replaced
	now       func() time.Time
	origin    time.Time // where the milliseconds of windows begin
	seed      maphash.Seed
	shards    [64]shard
	throttled atomic.Uint64
	servers   atomic.Int64 // that count an account's requests, this one included
}

// shard has some of the meters.
type shard struct {
	meters  atomic.Pointer[map[Place]*meter] // never changed, only replaced
	changes sync.Mutex                       // held while it is replaced
}

// maxMeters is how many meters a shard keeps. One is about 1.5 KB.
const maxMeters = 64

// meter counts the requests of an account in a Region. Index 0 is unused.
type meter struct {
	limits  atomic.Pointer[[]limit]
	windows []window
}

// New returns a book with the given settings, which must have passed their Check.
func New(s Settings, now func() time.Time) *Book {
	b := &Book{unlimited: s.Enforce == EnforceUnlimited, given: map[ID][]Value{}, now: now, origin: now().Add(-before), seed: maphash.MakeSeed()}
	for _, v := range s.Values {
		id := Find(v.Name).ID
		b.given[id] = append(b.given[id], v)
	}
	b.applied.Store(&map[applied]float64{})
	b.servers.Store(1)
	for i := range b.shards {
		b.shards[i].meters.Store(&map[Place]*meter{})
	}
	return b
}

// Unlimited reports whether requests are not limited.
func (b *Book) Unlimited() bool { return b.unlimited }

// Default returns the value that holds in a place unless another is applied: the configuration's, or that of AWS KMS.
func (b *Book) Default(p Place, id ID) float64 {
	best, value := -1, Of(id).In(p.Region)
	for _, v := range b.given[id] {
		rank := 0
		if v.Account != "" {
			rank += 2
		}
		if v.Region != "" {
			rank++
		}
		if (v.Account == "" || v.Account == p.Account) && (v.Region == "" || v.Region == p.Region) && rank >= best {
			best, value = rank, *v.Value
		}
	}
	return value
}

// Value returns the value that holds in a place, whether it is enforced or not.
func (b *Book) Value(p Place, id ID) float64 {
	if v, ok := (*b.applied.Load())[applied{p, id}]; ok {
		return v
	}
	return b.Default(p, id)
}

// Most returns how many there may be, for a quota that is no rate.
func (b *Book) Most(p Place, id ID) int64 {
	if b.unlimited && (id == Keys || id == CustomKeyStores) {
		return math.MaxInt64
	}
	return int64(b.Value(p, id))
}

// Applied is a value that is to hold in a place, in place of the default.
type Applied struct {
	Place
	ID    ID
	Value float64
}

// Apply has values hold from now on.
func (b *Book) Apply(values ...Applied) {
	b.applying.Lock()
	defer b.applying.Unlock()
	next := maps.Clone(*b.applied.Load())
	for _, v := range values {
		next[applied{v.Place, v.ID}] = v.Value
	}
	b.applied.Store(&next)
	for _, v := range values {
		b.refresh(v.Place)
	}
}

// Reset forgets what was applied and counted, for servers that others test with.
func (b *Book) Reset() {
	b.applying.Lock()
	defer b.applying.Unlock()
	b.applied.Store(&map[applied]float64{})
	for i := range b.shards {
		s := &b.shards[i]
		s.changes.Lock()
		s.meters.Store(&map[Place]*meter{})
		s.changes.Unlock()
	}
}

// Share has the book be one of n, each of which counts the requests to a server of its own: it allows an n-th of every rate from now
// on. What is no rate is counted elsewhere and stays whole.
func (b *Book) Share(n int) {
	b.applying.Lock()
	defer b.applying.Unlock()
	if before := b.servers.Swap(int64(max(n, 1))); before == int64(n) {
		return
	}
	for i := range b.shards {
		s := &b.shards[i]
		s.changes.Lock() // as in refresh
		for p, m := range *s.meters.Load() {
			m.limits.Store(b.limits(p))
		}
		s.changes.Unlock()
	}
}

// rate returns what of a rate is for this book.
func (b *Book) rate(p Place, id ID) float64 { return b.Value(p, id) / float64(b.servers.Load()) }

// refresh gives the meter of a place its limits anew, if there is one.
func (b *Book) refresh(p Place) {
	s := b.shard(p)
	s.changes.Lock() // a meter that is being made has the old values, or sees the new ones
	defer s.changes.Unlock()
	if m := (*s.meters.Load())[p]; m != nil {
		m.limits.Store(b.limits(p))
	}
}

// Request is what is to be counted.
type Request struct {
	Place       // the caller's account, and the Region of the call
	Bucket ID   // a rate; zero for none
	Cost   uint // how many requests it counts as; zero for one
}

// Allow counts a request now, unless that is more than the rate allows: then it counts nothing and returns false. It does not go by
// when the call began: one that had to wait since would look like a clock that was put back.
func (b *Book) Allow(r Request) bool {
	if b.unlimited || r.Bucket == 0 {
		return true
	}
	now := b.millis(b.now())
	m := (*b.shard(r.Place).meters.Load())[r.Place]
	if m == nil {
		m = b.meter(r.Place, now)
	}
	if m.windows[r.Bucket].take((*m.limits.Load())[r.Bucket], uint32(min(max(r.Cost, 1), maxCost)), now) {
		return true
	}
	b.throttled.Add(1)
	return false
}

// maxCost bounds what one request counts as.
const maxCost = 1000

// Throttled returns how many requests were refused since the start.
func (b *Book) Throttled() uint64 { return b.throttled.Load() }

// Usage calls f for every rate that was used within the last seconds: its name, how much of it in a second, and how much
// there is for this book.
func (b *Book) Usage(f func(account, region, bucket string, used, limit float64)) {
	now := b.millis(b.now())
	for i := range b.shards {
		for p, m := range *b.shards[i].meters.Load() {
			limits := *m.limits.Load()
			for id := range m.windows {
				if used := m.windows[id].rate(limits[id], now); used > 0 {
					f(string(p.Account), string(p.Region), Of(ID(id)).Name, used, b.rate(p, ID(id)))
				}
			}
		}
	}
}

// before is how far the origin lies before a book was made, so that a clock that is put back leaves something to count.
const before = 10 * 365 * 24 * time.Hour

// millis returns a time as windows have it. It goes by the monotonic clock where there is one.
func (b *Book) millis(t time.Time) int64 { return max(0, t.Sub(b.origin).Milliseconds()) }

func (b *Book) shard(p Place) *shard {
	h := maphash.String(b.seed, string(p.Account)) ^ bits.RotateLeft64(maphash.String(b.seed, string(p.Region)), 1)
	return &b.shards[h%uint64(len(b.shards))]
}

// limits returns the limits of a place.
func (b *Book) limits(p Place) *[]limit {
	all := make([]limit, len(table)+1)
	all[0] = limitOf(0)
	for i := range table {
		all[i+1] = limitOf(b.rate(p, table[i].ID))
	}
	return &all
}

// meter makes the meter of a place. If the shard is full, those go that count nothing any more; if there are none, the one
// whose last interval began first.
func (b *Book) meter(p Place, now int64) *meter {
	s := b.shard(p)
	s.changes.Lock()
	defer s.changes.Unlock()
	have := *s.meters.Load()
	if m := have[p]; m != nil {
		return m
	}
	next := maps.Clone(have)
	if len(next) >= maxMeters {
		makeRoom(next, now)
	}
	m := &meter{windows: make([]window, len(table)+1)}
	m.limits.Store(b.limits(p))
	next[p] = m
	s.meters.Store(&next)
	return m
}

// makeRoom removes meters.
func makeRoom(meters map[Place]*meter, now int64) {
	var oldest Place
	began := int64(math.MaxInt64)
	for p, m := range meters {
		last, busy := m.state(now)
		if !busy {
			delete(meters, p)
		} else if last < began {
			oldest, began = p, last
		}
	}
	if len(meters) >= maxMeters {
		delete(meters, oldest)
	}
}

// state returns when the last interval began, and whether anything still counts.
func (m *meter) state(now int64) (last int64, busy bool) {
	limits := *m.limits.Load()
	for id := range m.windows {
		w := &m.windows[id]
		last = max(last, int64(w.state.Load()>>countBits))
		busy = busy || !w.idle(limits[id], now)
	}
	return last, busy
}
