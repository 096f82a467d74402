package admin

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/iam"
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
	sessions, err := subject.Sessions()
	if err != nil {
		return nil, err
	}
	list := []Way{}
	err = a.everybody(ctx, sessions, func(who *guard.Caller, name string) error {
		e, err := subject.Explain(q.Action, guard.Question{Caller: who, Time: a.now(), Suppose: true})
		if errors.Is(err, kms.ErrNoAction) {
			return err
		}
		if err != nil { // nobody else's answer depends on it
			list = append(list, Way{Principal: name, Through: "could not be decided: " + err.Error()})
			return nil
		}
		if !e.Allowed {
			return nil
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

// everybody calls f for every principal of the installation, and for the sessions given, with the name to show.
func (a *Admin) everybody(ctx context.Context, sessions []string, f func(who *guard.Caller, name string) error) error {
	accounts, err := a.directory.ListAccounts(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, account := range accounts {
		list, err := a.directory.Principals(ctx, account.ID)
		if err != nil {
			return err
		}
		names = append(names, list...)
	}
	slices.Sort(sessions)
	for _, name := range append(names, slices.Compact(sessions)...) {
		if err := ctx.Err(); err != nil {
			return err
		}
		who, err := a.directory.Caller(ctx, name)
		if errors.Is(err, iam.ErrNoPrincipal) {
			continue // it went in between, or is named and not there
		}
		if err == nil {
			err = f(who, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ComparePolicy asks what a new key policy would change. The answer is a Comparison.
type ComparePolicy struct {
	Key
	Policy string `json:"policy"`
}

// Comparison says what a new key policy would change.
type Comparison struct {
	Changes []Change `json:"changes"`
	// Locked says that nobody could put another key policy then.
	Locked bool `json:"locked"`
}

// Change is what a principal would gain, lose, or keep under other conditions.
type Change struct {
	Principal string `json:"principal"`
	Kind      string `json:"kind"`   // gains, loses or otherwise
	Action    string `json:"action"` // kms:Decrypt
	// Conditions are those of what is gained or kept, and of what is lost; each is one way, which is enough. One without any is
	// "always".
	Conditions []string `json:"conditions"`
}

func (a *Admin) comparePolicy(ctx context.Context, q *ComparePolicy) (*Comparison, error) {
	before, err := a.subject(ctx, q.Key, "")
	if err != nil {
		return nil, err
	}
	after, err := before.With(q.Policy)
	if err != nil {
		return nil, err
	}
	sessions, err := before.Sessions()
	if err != nil {
		return nil, err
	}
	more, err := after.Sessions()
	if err != nil {
		return nil, err
	}
	out := &Comparison{Changes: []Change{}, Locked: true}
	err = a.everybody(ctx, append(sessions, more...), func(who *guard.Caller, name string) error {
		for _, action := range kms.Actions() {
			was, err := before.Explain(action, guard.Question{Caller: who, Time: a.now(), Suppose: true})
			if err != nil {
				return err
			}
			will, err := after.Explain(action, guard.Question{Caller: who, Time: a.now(), Suppose: true})
			if err != nil {
				return err
			}
			if action == "kms:PutKeyPolicy" && will.Allowed {
				out.Locked = false
			}
			switch had, has := conditionsOf(was), conditionsOf(will); {
			case will.Allowed && !was.Allowed:
				out.Changes = append(out.Changes, Change{name, "gains", action, has})
			case was.Allowed && !will.Allowed:
				out.Changes = append(out.Changes, Change{name, "loses", action, had})
			case !slices.Equal(had, has):
				out.Changes = append(out.Changes, Change{name, "otherwise", action, has})
			}
		}
		return nil
	})
	return out, err
}

// conditionsOf returns the conditions of each way, sorted, so that what changes nothing, such as another Sid, makes no difference.
func conditionsOf(e *guard.Explanation) []string {
	if !e.Allowed {
		return nil
	}
	var unless []string
	for _, p := range e.Policies {
		for _, s := range p.Statements {
			if s.Effect == "deny" && len(s.Given) > 0 {
				unless = append(unless, "unless "+strings.Join(s.Given, " and "))
			}
		}
	}
	slices.Sort(unless)
	var list []string
	for _, w := range e.Ways {
		conditions := append(slices.Clone(w.Given), slices.Compact(unless)...)
		if w.Shared {
			conditions = append(conditions, "as identity-based policies allow")
		}
		if w.GrantID != "" {
			conditions = append(conditions, "by grant "+w.GrantID)
		}
		if len(conditions) == 0 {
			conditions = []string{"always"}
		}
		list = append(list, strings.Join(conditions, " and "))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

var errNoKey = errors.New("name a key by its ARN, or by id or alias name with an account")
