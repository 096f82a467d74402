package cluster_test

import (
	"math"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// What is done to a key, in a history.
const (
	enable   = "EnableKey"
	disable  = "DisableKey"
	describe = "UpdateKeyDescription"
	schedule = "ScheduleKeyDeletion"
	cancel   = "CancelKeyDeletion"
	look     = "DescribeKey"
)

// keyState is what a history knows of a key.
type keyState struct{ state, description string }

const (
	enabled  = "Enabled"
	disabled = "Disabled"
	pending  = "PendingDeletion"
)

// newKeyState is that of a key that was just made.
var newKeyState = keyState{state: enabled}

// input is a call about a key.
type input struct{ key, call, description string }

// output is the answer: a code, or what a look showed.
type output struct {
	code string // "" for success
	saw  keyState
}

// outcomes of calls.
const (
	wrongState = "KMSInvalidStateException"
	unknown    = "unknown" // it happened, or will, or not
)

// after returns the state of a key after a call; allowed is false where the state refuses it.
func after(s keyState, in input) (next keyState, allowed bool) {
	next = s
	switch in.call {
	case enable:
		next.state = enabled
	case disable:
		next.state = disabled
	case describe:
		next.description = in.description
	case schedule:
		next.state = pending
	case cancel:
		next.state = disabled
		return next, s.state == pending
	case look:
		return s, true
	}
	return next, s.state != pending
}

// keys is the model of keys, each of which is new at first.
var keys = porcupine.Model{
	Partition: func(all []porcupine.Operation) (parts [][]porcupine.Operation) {
		at := map[string]int{}
		for _, o := range all {
			id := o.Input.(input).key
			i, known := at[id]
			if !known {
				i = len(parts)
				at[id], parts = i, append(parts, nil)
			}
			parts[i] = append(parts[i], o)
		}
		return parts
	},
	Init: func() any { return newKeyState },
	Step: func(state, in, out any) (bool, any) {
		s, call, answer := state.(keyState), in.(input), out.(output)
		next, allowed := after(s, call)
		switch {
		case answer.code == unknown && !allowed:
			return true, s
		case answer.code == unknown:
			return true, next
		case answer.code == wrongState:
			return !allowed, s
		case call.call == look:
			return answer.saw == s, s
		}
		return allowed, next
	},
}

// history is what clients did and were told, in the order of a clock that they share. It is safe for concurrent use.
type history struct {
	maxStaleness time.Duration

	mu    sync.Mutex
	began time.Time
	all   []porcupine.Operation
	count map[string]int // by outcome
}

func newHistory(maxStaleness time.Duration) *history {
	return &history{maxStaleness: maxStaleness, began: time.Now(), count: map[string]int{}}
}

// add notes a call that began then and is over. What a server says without a change, it may say by what was so maxStaleness before
// the call: looks and refusals. A change that was made is one between call and answer.
func (h *history) add(in input, began time.Time, out output) {
	h.mu.Lock()
	defer h.mu.Unlock()
	call, answered := began.Sub(h.began), time.Since(h.began)
	switch {
	case out.code == unknown:
		answered = math.MaxInt64
	case out.code == wrongState, in.call == look:
		call -= h.maxStaleness
	}
	h.all = append(h.all, porcupine.Operation{Input: in, Call: int64(call), Output: out, Return: int64(answered)})
	h.count[out.code]++
}

// check reports whether there is an order of the calls that explains all answers.
func (h *history) check(within time.Duration) porcupine.CheckResult {
	return porcupine.CheckOperationsTimeout(keys, h.all, within)
}

// TestHistory has the checker find what no order explains, and nothing else.
func TestHistory(t *testing.T) {
	ms := func(n int) int64 { return int64(n) * int64(time.Millisecond) }
	do := func(from, to int, call string, out output) porcupine.Operation {
		o := porcupine.Operation{Input: input{"k", call, ""}, Call: ms(from), Output: out, Return: ms(to)}
		if out.code == unknown {
			o.Return = math.MaxInt64
		}
		return o
	}
	ok, lost, refused := output{}, output{code: unknown}, output{code: wrongState}
	saw := func(state string) output { return output{saw: keyState{state: state}} }
	other := do(0, 1, schedule, ok)
	other.Input = input{"another", schedule, ""}
	for _, c := range []struct {
		name string
		all  []porcupine.Operation
		want porcupine.CheckResult
	}{
		{"one after the other", []porcupine.Operation{do(0, 1, disable, ok), do(2, 3, enable, ok), do(4, 5, look, saw(enabled))}, porcupine.Ok},
		{"a lost change", []porcupine.Operation{do(0, 1, disable, ok), do(2, 3, enable, ok), do(4, 5, look, saw(disabled))}, porcupine.Illegal},
		{"at the same time, in either order", []porcupine.Operation{do(0, 5, disable, ok), do(1, 4, enable, ok), do(6, 7, look, saw(disabled))}, porcupine.Ok},
		{"an unknown outcome that happened later", []porcupine.Operation{do(0, 1, disable, lost), do(2, 3, look, saw(enabled)), do(4, 5, look, saw(disabled))}, porcupine.Ok},
		{"an unknown outcome that did not happen", []porcupine.Operation{do(0, 1, disable, lost), do(2, 3, look, saw(enabled))}, porcupine.Ok},
		{"one that was undone", []porcupine.Operation{do(0, 1, disable, lost), do(2, 3, look, saw(disabled)), do(4, 5, look, saw(enabled))}, porcupine.Illegal},
		{"a change of a key that refuses it", []porcupine.Operation{do(0, 1, schedule, ok), do(2, 3, enable, ok)}, porcupine.Illegal},
		{"a refusal without a reason", []porcupine.Operation{do(0, 1, disable, ok), do(2, 3, enable, refused)}, porcupine.Illegal},
		{"a deletion taken back twice", []porcupine.Operation{do(0, 1, schedule, ok), do(2, 6, cancel, ok), do(3, 7, cancel, ok)}, porcupine.Illegal},
		{"two keys", []porcupine.Operation{other, do(2, 3, enable, ok)}, porcupine.Ok},
	} {
		if got := (&history{all: c.all}).check(time.Minute); got != c.want {
			t.Errorf("%s: %s", c.name, got)
		}
	}
	// What does not change anything may be old, and no older than the bound.
	for _, c := range []struct {
		age  time.Duration
		want porcupine.CheckResult
	}{{maxStaleness / 2, porcupine.Ok}, {2 * maxStaleness, porcupine.Illegal}} {
		h := newHistory(maxStaleness)
		h.began = time.Now().Add(-time.Minute)
		h.add(input{"k", disable, ""}, h.began, ok)
		h.all[0].Return = int64(time.Minute - c.age) // and then a look that does not know of it
		h.add(input{"k", look, ""}, h.began.Add(time.Minute), saw(enabled))
		if got := h.check(time.Minute); got != c.want {
			t.Errorf("a look that did not know what was so for %s: %s", c.age, got)
		}
	}
}
