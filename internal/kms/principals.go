package kms

import (
	"context"
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// Principals knows who there is. iam.Directory is the one that serves.
type Principals interface {
	// Lookup returns the unique id behind the ARN of a principal, of any account: of an account's root, or twelve digits,
	// the id of the account; of a user or role its own; of a role's session that of the role; of a federated user none. ok is
	// false if there is no such principal.
	Lookup(ctx context.Context, arn string) (id string, ok bool, err error)
	// ARNOf returns the ARN that a user or role has now, by its unique id; ok is false once it is deleted.
	ARNOf(ctx context.Context, id string) (arn string, ok bool, err error)
	// Renew returns a caller as it is now. The error is a *wire.Error if it is nobody any more.
	Renew(ctx context.Context, who *guard.Caller) (*guard.Caller, error)
}

// renew looks up again who calls. What changes something does so under its lock, before it asks the guard once more.
func (r *request) renew() error {
	who, err := r.principals.Renew(r.ctx, r.call.Caller)
	if err == nil {
		r.call.Caller = who
	}
	return err
}

// bindPrincipals refuses a policy that names a principal that is not there, and returns whom its users, roles and sessions
// are: a namesake that is made later is somebody else.
func (s *Service) bindPrincipals(ctx context.Context, doc *policy.Document, partition arn.Partition) ([]key.Binding, error) {
	var bindings []key.Binding
	for _, p := range doc.Principals() {
		if p.Type == "Service" {
			continue
		}
		id, ok := "", p.Type == "AWS" && here(p.Value, partition)
		if ok {
			var err error
			if id, ok, err = s.principals.Lookup(ctx, p.Value); err != nil {
				return nil, err
			}
		}
		if !ok {
			return nil, malformedPolicy("Policy contains a statement with one or more invalid principals.")
		}
		b := key.Binding{ARN: p.Value, ID: id}
		if uniqueID(id) && !slices.Contains(bindings, b) {
			bindings = append(bindings, b)
		}
	}
	return bindings, nil
}

// here reports whether a principal is named as in a partition: by its ARN there, or as twelve
// digits. A bare unique id is none, even though GetKeyPolicy shows it for a principal that was deleted.
func here(principal string, partition arn.Partition) bool {
	if _, err := arn.ParseAccount(principal); err == nil {
		return true
	}
	return strings.HasPrefix(principal, "arn:"+string(partition)+":")
}

// uniqueID reports whether an id is that of a user or role, and not of an account.
func uniqueID(id string) bool {
	_, err := arn.ParseAccount(id)
	return id != "" && err != nil
}

// joinBindings makes one text of bindings. ARNs and ids have no control characters.
func joinBindings(bindings []key.Binding) string {
	var b strings.Builder
	for _, p := range bindings {
		b.WriteString(p.ARN + "\x00" + p.ID + "\x00")
	}
	return b.String()
}

// bound returns what policy.Document.Bind asks for.
func bound(bindings []key.Binding) func(string) (string, bool) {
	return func(principal string) (string, bool) {
		for _, b := range bindings {
			if b.ARN == principal {
				return b.ID, true
			}
		}
		return "", false
	}
}

// shownPrincipals says under which name each bound principal is shown now.
func (r *request) shownPrincipals(bindings []key.Binding) (map[string]string, error) {
	shown := make(map[string]string, len(bindings))
	for _, b := range bindings {
		now, err := r.shownPrincipal(b.ARN, b.ID)
		if err != nil {
			return nil, err
		}
		shown[b.ARN] = now
	}
	return shown, nil
}

// shownPrincipal returns the ARN that a principal has now, or its bare unique id if it has been deleted. was is the ARN that
// it was given with.
func (r *request) shownPrincipal(was, id string) (string, error) {
	if !uniqueID(id) {
		return was, nil
	}
	now, ok, err := r.principals.ARNOf(r.ctx, id)
	switch {
	case err != nil:
		return "", err
	case !ok:
		return id, nil
	case strings.Contains(was, ":assumed-role/"):
		return was, nil // roles keep their names
	}
	_, rest, _ := strings.Cut(strings.TrimPrefix(now, "arn:"), ":")
	return "arn:" + string(r.call.Region.Partition()) + ":" + rest, nil
}

// grantPrincipal finds who a grant is for, or who may retire it. Accounts, users, roles, sessions of roles and federated
// users can be named, by their ARN alone (API_CreateGrant).
func (r *request) grantPrincipal(given, service wire.Opt[string]) (key.GrantPrincipal, error) {
	if service.Set {
		return key.GrantPrincipal{Service: service.V}, nil
	}
	if !given.Set {
		return key.GrantPrincipal{}, nil
	}
	if strings.HasPrefix(given.V, "arn:") && here(given.V, r.call.Region.Partition()) {
		id, ok, err := r.principals.Lookup(r.ctx, given.V)
		if err != nil {
			return key.GrantPrincipal{}, err
		}
		if ok {
			return key.GrantPrincipal{ARN: given.V, ID: id}, nil
		}
	}
	return key.GrantPrincipal{}, noPrincipal(given.V)
}

func noPrincipal(given string) error {
	return wire.Errorf(kmsapi.CodeInvalidARNException, "ARN does not refer to a valid principal: %s", given)
}
