package admin

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/kms"
)

// Key names a key: by its ARN or that of an alias; or by id or alias name, with account and Region.
type Key struct {
	ID      string      `json:"key"`
	Account arn.Account `json:"account,omitempty"` // of an id or alias name
	Region  arn.Region  `json:"region,omitempty"`
}

// Why asks whether a principal may do something with a key, and why. The answer is an Explanation.
type Why struct {
	Key
	Principal string `json:"principal"` // ARN of a user, role, role's session or root user; or a registered service's principal
	Action    string `json:"action"`    // kms:Decrypt
	// Context is what a call would bring: condition keys by their names, which have a colon, and pairs of the encryption
	// context.
	Context map[string][]string `json:"context,omitempty"`
}

// Explanation is the answer, for programs and for people.
type Explanation struct {
	*guard.Explanation
	Text string `json:"text"`
}

func (a *Admin) why(ctx context.Context, q *Why) (Explanation, error) {
	who, err := a.directory.Caller(ctx, q.Principal)
	if err != nil {
		return Explanation{}, err
	}
	subject, err := a.subject(ctx, q.Key, who.Account)
	if err != nil {
		return Explanation{}, err
	}
	question := guard.Question{Caller: who, Time: a.now(), Values: map[string][]string{}}
	for name, values := range q.Context {
		if !strings.Contains(name, ":") { // condition keys have a service's prefix
			name = "kms:EncryptionContext:" + name
		}
		question.Values[name] = values
	}
	question.Forward = forwardOf(who, q.Context)
	e, err := subject.Explain(q.Action, question)
	if err != nil {
		return Explanation{}, err
	}
	return Explanation{e, e.String()}, nil
}

// forwardOf returns what a service's call would say of itself; nil for a caller that is no service and names none.
func forwardOf(who *guard.Caller, values map[string][]string) *guard.Forward {
	f := guard.Forward{Service: who.Service}
	for name, list := range values {
		if len(list) != 1 {
			continue
		}
		switch {
		case strings.EqualFold(name, "kms:ViaService"):
			f.ViaService = list[0]
		case strings.EqualFold(name, "aws:SourceArn"):
			f.SourceARN = list[0]
		case strings.EqualFold(name, "aws:SourceAccount"):
			f.SourceAccount = arn.Account(list[0])
		}
	}
	if f == (guard.Forward{}) {
		return nil
	}
	return &f
}

// subject finds a key; home is the account of an id or alias name if the question has none.
func (a *Admin) subject(ctx context.Context, k Key, home arn.Account) (*kms.Subject, error) {
	if k.Account == "" {
		k.Account = home
	}
	if k.Account == "" && !strings.HasPrefix(k.ID, "arn:") {
		return nil, errNoKey
	}
	return a.kms.Subject(ctx, k.ID, k.Account, k.Region)
}

// WhoCan asks for everybody who may do something with a key. The answer is a list of Way.
type WhoCan struct {
	Key
	Action string `json:"action"`
}

// Way is one path by which one principal may do it.
type Way struct {
	Principal  string   `json:"principal"`
	Through    string   `json:"through"`              // the statement or grant, in words
	Conditions []string `json:"conditions,omitempty"` // what a call must bring or, after "unless", must not
}

func (a *Admin) whoCan(ctx context.Context, q *WhoCan) ([]Way, error) {
	subject, err := a.subject(ctx, q.Key, "")
	if err != nil {
		return nil, err
	}
	list := []Way{}
	err = a.everybody(ctx, func(who *guard.Caller, name string) error {
		e, err := subject.Explain(q.Action, guard.Question{Caller: who, Time: a.now(), Suppose: true})
		if err != nil || !e.Allowed {
			return err
		}
		for _, w := range e.Ways {
			way := Way{Principal: name, Through: w.Path, Conditions: w.Given}
			if w.GrantID != "" {
				way.Through += " " + w.GrantID
			}
			for _, u := range e.Unless {
				way.Conditions = append(way.Conditions, "unless "+u)
			}
			list = append(list, way)
		}
		return nil
	})
	return list, err
}

// everybody calls f for every principal of the installation, with the name to show.
func (a *Admin) everybody(ctx context.Context, f func(who *guard.Caller, name string) error) error {
	accounts, err := a.directory.ListAccounts(ctx)
	if err != nil {
		return err
	}
	for _, account := range accounts {
		names, err := a.directory.Principals(ctx, account.ID)
		if err != nil {
			return err
		}
		for _, name := range names {
			who, err := a.directory.Caller(ctx, name)
			if err == nil {
				err = f(who, name)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// ComparePolicy asks what a new key policy would change. The answer is a list of Change.
type ComparePolicy struct {
	Key
	Policy string `json:"policy"`
}

// Change says what a principal would gain and lose: permissions by their names.
type Change struct {
	Principal string   `json:"principal"`
	Gains     []string `json:"gains,omitempty"`
	Loses     []string `json:"loses,omitempty"`
	Otherwise []string `json:"otherwise,omitempty"` // kept, in other ways or under other conditions
}

func (a *Admin) comparePolicy(ctx context.Context, q *ComparePolicy) ([]Change, error) {
	before, err := a.subject(ctx, q.Key, "")
	if err != nil {
		return nil, err
	}
	after, err := before.With(q.Policy)
	if err != nil {
		return nil, err
	}
	list := []Change{}
	err = a.everybody(ctx, func(who *guard.Caller, name string) error {
		change := Change{Principal: name}
		for _, action := range kms.Actions() {
			was, err := before.Explain(action, guard.Question{Caller: who, Time: a.now(), Suppose: true})
			if err != nil {
				return err
			}
			will, err := after.Explain(action, guard.Question{Caller: who, Time: a.now(), Suppose: true})
			if err != nil {
				return err
			}
			switch {
			case will.Allowed && !was.Allowed:
				change.Gains = append(change.Gains, action)
			case was.Allowed && !will.Allowed:
				change.Loses = append(change.Loses, action)
			case was.Allowed && !slices.Equal(waysOf(was), waysOf(will)):
				change.Otherwise = append(change.Otherwise, action)
			}
		}
		if len(change.Gains)+len(change.Loses)+len(change.Otherwise) > 0 {
			list = append(list, change)
		}
		return nil
	})
	return list, err
}

// waysOf returns the ways and their conditions as texts that can be compared.
func waysOf(e *guard.Explanation) []string {
	var list []string
	for _, w := range e.Ways {
		list = append(list, w.Path+" "+w.GrantID+" "+strings.Join(w.Given, "; "))
	}
	list = append(list, e.Unless...)
	slices.Sort(list)
	return list
}

var errNoKey = errors.New("name a key by its ARN, or by id or alias name with an account")
