package kms

import (
	_ "embed"
	"encoding/json"
	"strings"
	"sync"

	"github.com/keywright/keywright/internal/policy"
)

//go:embed condition-keys.json
var conditionKeysText []byte

// conditionKeys has the condition keys that a call of each action can have, by the action's permission ("Actions, resources, and
// condition keys for AWS KMS", Service Authorization Reference). Those of the key itself and of every request are not in it.
var conditionKeys = sync.OnceValue(func() map[string][]policy.Key {
	var actions map[string]struct{ Keys []string }
	if err := json.Unmarshal(conditionKeysText, &actions); err != nil {
		panic("kms: condition-keys.json: " + err.Error()) // the first test finds it
	}
	all := make(map[string][]policy.Key, len(actions))
	for action, a := range actions {
		keys := make([]policy.Key, 0, len(a.Keys))
		for _, k := range a.Keys {
			keys = append(keys, policy.ParseKey(strings.ReplaceAll(k, "${", "")))
		}
		all["kms:"+action] = keys
	}
	return all
})
