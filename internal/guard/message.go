package guard

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"

	"github.com/keywright/keywright/internal/arn"
)

// maxAuthorizationMessage is the most octets of an explanation that is sealed for its caller: the token has to fit into a
// header, and DecodeAuthorizationMessage takes 10,240 characters.
const maxAuthorizationMessage = 7000

// AuthorizationMessage is what the token of a refusal holds. It has no secrets, but the names of policies, so that only
// principals of its Accounts may read it, and not the one who was refused.
type AuthorizationMessage struct {
	Accounts []arn.Account   `json:"accounts"`
	Refused  string          `json:"refused"` // Known of the caller
	Message  json.RawMessage `json:"message"` // what DecodeAuthorizationMessage answers
}

// The form of a decoded message (DecodeAuthorizationMessage, STS API reference).
type (
	items[T any] struct {
		Items []T `json:"items"`
	}
	decodedMessage struct {
		Allowed           bool                    `json:"allowed"`
		ExplicitDeny      bool                    `json:"explicitDeny"`
		MatchedStatements items[matchedStatement] `json:"matchedStatements"`
		Failures          items[failure]          `json:"failures"`
		Context           decodedContext          `json:"context"`
	}
	matchedStatement struct {
		ID     string `json:"statementId"`
		Effect string `json:"effect"` // ALLOW or DENY
		Type   string `json:"policyType"`
		ARN    string `json:"policyArn,omitempty"`
		Name   string `json:"policyName,omitempty"`
	}
	failure struct {
		Missing string `json:"missing"` // the type of policy that does not allow
	}
	decodedContext struct {
		Principal  decodedPrincipal  `json:"principal"`
		Action     string            `json:"action"`
		Resource   string            `json:"resource"`
		Conditions items[decodedKey] `json:"conditions"`
	}
	decodedPrincipal struct {
		ID   string `json:"id"`
		Name string `json:"name,omitempty"`
		ARN  string `json:"arn"`
	}
	decodedKey struct {
		Key    string              `json:"key"`
		Values items[decodedValue] `json:"values"`
	}
	decodedValue struct {
		Value string `json:"value"`
	}
)

// sealed returns the token that explains a refusal to those who may decode it; empty if there is none. That it could not be
// made changes nothing about the refusal.
func (c *Call) sealed(r *Resource) string {
	if c.guard == nil || c.guard.config.Seal == nil {
		return ""
	}
	token, err := c.sealMessage(r)
	if err != nil {
		slog.Error("a refusal goes without its explanation", "requestId", c.RequestID, "err", err)
		return ""
	}
	return token
}

func (c *Call) sealMessage(r *Resource) (string, error) {
	again := &Call{Meta: c.Meta, Caller: c.Caller, Forward: c.Forward, Region: c.Region, guard: c.guard}
	policies := *r
	policies.Grants = nil // a message does not tell of them, and there can be many
	e, err := again.explain(&policies)
	if err != nil {
		return "", err
	}
	text, err := e.message(c.Caller, r)
	if err != nil {
		return "", fmt.Errorf("writing an authorization message: %w", err)
	}
	token, err := c.guard.config.Seal(text)
	if err != nil {
		return "", fmt.Errorf("sealing an authorization message: %w", err)
	}
	return token, nil
}

// message writes the explanation of a denial within an account in at most maxAuthorizationMessage octets; what does not fit
// is left out.
func (e *Explanation) message(who *Caller, r *Resource) ([]byte, error) {
	d := decodedMessage{ExplicitDeny: e.Explicit, Context: decodedContext{
		Principal: decodedPrincipal{ID: who.PrincipalID, Name: who.Name, ARN: who.displayed()}, Action: e.Action, Resource: e.Resource,
	}}
	d.MatchedStatements.Items, d.Failures.Items, d.Context.Conditions.Items = []matchedStatement{}, []failure{}, []decodedKey{}
	for _, p := range e.Policies {
		for _, s := range p.Statements {
			if s.Applies {
				d.MatchedStatements.Items = append(d.MatchedStatements.Items, matchedStatement{
					ID: s.Sid, Effect: strings.ToUpper(s.Effect), Type: p.Type, ARN: p.ARN, Name: p.Name,
				})
			}
		}
	}
	if !e.Explicit {
		d.Failures.Items = append(d.Failures.Items, failure{e.By})
	}
	for _, v := range e.Values {
		k := decodedKey{Key: v.Key, Values: items[decodedValue]{Items: []decodedValue{}}}
		for _, text := range v.Values {
			k.Values.Items = append(k.Values.Items, decodedValue{text})
		}
		d.Context.Conditions.Items = append(d.Context.Conditions.Items, k)
	}
	for {
		text, err := json.Marshal(&d)
		if err != nil {
			return nil, err
		}
		text, err = json.Marshal(AuthorizationMessage{Accounts: []arn.Account{r.owner(who)}, Refused: who.Known(), Message: text})
		if err != nil || len(text) <= maxAuthorizationMessage {
			return text, err
		}
		if !d.shorten() {
			return nil, fmt.Errorf("%d octets", len(text))
		}
	}
}

// shorten leaves half of the conditions out, or else of the statements; it reports false when there is nothing left.
func (d *decodedMessage) shorten() bool {
	if list := &d.Context.Conditions.Items; len(*list) > 0 {
		*list = (*list)[:len(*list)/2]
		return true
	}
	list := &d.MatchedStatements.Items
	if len(*list) == 0 {
		return false
	}
	*list = (*list)[:len(*list)/2]
	return true
}
