package dev

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"sync/atomic"
	"time"
)

// Clock is a clock that can be moved and stopped. The zero value shows the time. It is safe for concurrent use.
type Clock struct{ state atomic.Pointer[clockState] }

type clockState struct {
	offset time.Duration // from the real time, while it runs
	frozen time.Time     // what it shows while it stands; zero while it runs
}

// Now returns what the clock shows.
func (c *Clock) Now() time.Time {
	s := c.state.Load()
	switch {
	case s == nil:
		return time.Now()
	case !s.frozen.IsZero():
		return s.frozen
	}
	return time.Now().Add(s.offset)
}

// Reading is what a clock shows.
type Reading struct {
	Now    time.Time `json:"now"`
	Offset string    `json:"offset"` // from the real time, as of now
	Frozen bool      `json:"frozen"`
}

// Read returns what the clock shows, and whether it stands.
func (c *Clock) Read() Reading {
	s, now := c.state.Load(), c.Now()
	return Reading{Now: now.UTC(), Offset: time.Until(now).Round(time.Second).String(), Frozen: s != nil && !s.frozen.IsZero()}
}

func (c *Clock) reset() { c.state.Store(nil) }

// hold stops the clock where it is and reports whether it stood already.
func (c *Clock) hold() (stood bool) {
	s := c.state.Load()
	if stood = s != nil && !s.frozen.IsZero(); !stood {
		c.set(c.Now())
	}
	return stood
}

// set has a clock that stands show another time.
func (c *Clock) set(at time.Time) { c.state.Store(&clockState{frozen: at.Round(0).UTC()}) } // without the monotonic reading

// let has the clock go on from what it shows, or leaves it standing.
func (c *Clock) let(stand bool) {
	if now := c.Now(); !stand {
		c.state.Store(&clockState{offset: now.Sub(time.Now().Round(0))})
	}
}

// Movement is what is to become of a clock. Advance and Set exclude each other, and so do Freeze and Run; without either the clock
// goes on as it did.
type Movement struct {
	Advance Duration   `json:"advance,omitzero"` // forward
	Set     *time.Time `json:"set,omitempty"`    // from the year 2000 to 290 years from now; on the way back nothing happens
	Freeze  bool       `json:"freeze,omitempty"`
	Run     bool       `json:"run,omitempty"`
}

// target returns where a movement leads.
func (c *Clock) target(m Movement) (time.Time, error) {
	at := c.Now()
	switch {
	case m.Advance != 0 && m.Set != nil:
		return at, errors.New("the clock: advance and set exclude each other")
	case m.Freeze && m.Run:
		return at, errors.New("the clock: freeze and run exclude each other")
	case m.Advance < 0:
		return at, errors.New("the clock: it is advanced forward; to go back, set it")
	case m.Set != nil:
		at = *m.Set
	default:
		at = at.Add(time.Duration(m.Advance))
	}
	if y := at.UTC().Year(); y < 2000 || y > 9999 || tooFar(at) {
		return at, fmt.Errorf("the clock: %s is too far away", at.UTC().Format(time.RFC3339))
	}
	return at, nil
}

// tooFar reports whether the distance of a time from now is more than a Duration can be.
func tooFar(at time.Time) bool {
	now := time.Now()
	return !now.Add(at.Sub(now)).Equal(at)
}

// Duration is a time.Duration that is written with days, too: "365d", "1d12h", "250ms".
type Duration time.Duration

var days = regexp.MustCompile(`^([0-9]{1,5})d(.*)$`)

// ParseDuration reads a Duration. It is not negative.
func ParseDuration(text string) (Duration, error) {
	var d time.Duration
	rest := text
	if m := days.FindStringSubmatch(text); m != nil {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			return 0, err
		}
		d, rest = time.Duration(n)*24*time.Hour, m[2]
	}
	if rest != "" || text == "" {
		more, err := time.ParseDuration(rest)
		if err != nil || more < 0 || d+more < d {
			return 0, fmt.Errorf("%.40q is no duration such as 365d, 1d12h or 250ms", text)
		}
		d += more
	}
	return Duration(d), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDuration(string(text))
	return err
}

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }
