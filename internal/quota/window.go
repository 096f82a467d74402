package quota

import (
	"math"
	"sync/atomic"
)

// limit is a rate as windows count it: units in every interval of so many milliseconds. A rate of one in a second or more has
// intervals of about a second, as AWS KMS counts ("Request quotas": in one-second intervals); a tenth has one unit in ten
// seconds. Units over interval is the rate exactly, to the millisecond.
type limit struct{ units, interval uint32 }

// maxRate is the largest rate that a window can count. What is beyond it is not limited by it.
const maxRate = countMask / 4

// limitOf returns the limit of a rate in requests per second.
func limitOf(rate float64) limit {
	if rate <= 0 {
		return limit{0, 1000}
	}
	units := math.Ceil(min(rate, maxRate))
	return limit{uint32(units), uint32(min(math.Round(1000*units/min(rate, maxRate)), math.MaxUint32))}
}

// A window's state is one word, so that a change of it is one instruction: when its interval began, in milliseconds, for which
// there is room for 34 years, and how much was counted since.
const (
	countBits = 24
	countMask = 1<<countBits - 1
)

// late is how many milliseconds a request may lie before the current interval, because another one overtook it: it counts there.
// What is earlier still shows that the clock was put back, which a monotonic one never is.
const late = 10_000

// window counts what is charged to one rate of an account in a Region.
//
// The first request begins an interval, and as long as there are requests the next one begins where it ends, not at the clock's
// full second and not at the next request: whoever asks for more all the time gets exactly the rate, from the first moment on.
type window struct {
	state atomic.Uint64
	last  atomic.Uint32 // what was counted in the interval before, if it touched this one
}

// take counts cost if the limit has room for it. What costs more than an interval has room for is taken when nothing else
// is in it, and counts in the next ones, too.
func (w *window) take(l limit, cost uint32, now int64) bool {
	for {
		old := w.state.Load()
		start, used, last := l.at(old, now)
		if l.units == 0 || used > 0 && used+int64(cost) > int64(l.units) {
			return false
		}
		if w.state.CompareAndSwap(old, uint64(start)<<countBits|uint64(used+int64(cost))) {
			if start != int64(old>>countBits) {
				w.last.Store(uint32(last))
			}
			return true
		}
	}
}

// at returns what a state is at another time: the interval that the time is in, what is counted in it already, and what was
// in the interval before.
func (l limit) at(state uint64, now int64) (start, used, last int64) {
	start, used = int64(state>>countBits), int64(state&countMask)
	interval := int64(l.interval)
	passed := now - start
	switch {
	case passed < -late:
		return now, 0, 0
	case passed < interval:
		return start, used, 0
	case passed < 2*interval:
		return start + interval, max(0, used-int64(l.units)), min(used, int64(l.units))
	}
	return now, max(0, used-passed/interval*int64(l.units)), 0
}

// rate returns how much was counted lately, in a second.
func (w *window) rate(l limit, now int64) float64 {
	state := w.state.Load()
	start, used, last := l.at(state, now)
	if start == int64(state>>countBits) {
		last = int64(w.last.Load())
	}
	return float64(max(used, last)) * 1000 / float64(l.interval)
}

// idle reports whether nothing is counted any more at a time.
func (w *window) idle(l limit, now int64) bool {
	_, used, _ := l.at(w.state.Load(), now)
	return used == 0
}
