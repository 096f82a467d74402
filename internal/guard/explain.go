package guard

import (
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
)

// supposed are the values that somebody who asks about a call gives to condition keys.
type supposed struct {
	values map[policy.Key]policy.Values
}

// trace collects what was heard in a decision.
type trace struct{}

func (t *trace) heard(PolicyType, *Policy, *policy.Decision) {}
func (t *trace) looked(*key.Grant, bool, *ruling)            {}
func (t *trace) asked(policy.Key, policy.Values)             {}
