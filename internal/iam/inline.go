package iam

import (
	"errors"
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/identity"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/iamapi"
)

// holding is what has policies of its own: a user, a group or a role.
type holding[N any] interface {
	*identity.User | *identity.Group | *identity.Role
	Of() *identity.Meta
	Policies() *identity.Holder
	Clone() N
}

// maxInline is how many characters all inline policies of one holder can have together, and maxAttached how many managed
// policies one can have ("IAM and AWS STS quotas").
var maxInline = map[identity.Kind]int{identity.KindUser: 2048, identity.KindGroup: 5120, identity.KindRole: 10240}

const maxAttached = 10

// attachedQuota are the names of the quota in messages.
var attachedQuota = map[identity.Kind]string{
	identity.KindUser: "PoliciesPerUser", identity.KindGroup: "PoliciesPerGroup", identity.KindRole: "PoliciesPerRole",
}

// editHolder changes the policies of a user, group or role.
func editHolder[N holding[N]](r *request, of func(*view) *shelf[N], name string, f func(*change, *identity.Holder) error) error {
	return r.change(func(c *change) error {
		e, err := findNamed(of(c.view), name)
		if err != nil {
			return err
		}
		n := e.noun.Clone()
		if err := f(c, n.Policies()); err != nil {
			return err
		}
		return replace(c, of(c.view), n)
	})
}

func putInline[N holding[N]](r *request, of func(*view) *shelf[N], name, policyName, document string) error {
	kind := of(r.view).kind
	if _, err := findNamed(of(r.view), name); err != nil {
		return err
	}
	tooLarge := wire.Errorf(iamapi.CodeLimitExceededException, "Maximum policy size of %d bytes exceeded for %s %s", maxInline[kind], kind, name)
	doc, err := parse(policy.IdentityPolicy, document)
	if errors.Is(err, errTooLarge) {
		return tooLarge
	}
	if err != nil {
		return err
	}
	return editHolder(r, of, name, func(c *change, h *identity.Holder) error {
		size := doc.Chars()
		for _, other := range of(c.view).named(name).documents {
			if other.name == policyName {
				continue
			}
			d, err := other.compile()
			if err != nil {
				return err
			}
			size += d.Chars()
		}
		if size > maxInline[kind] {
			return tooLarge
		}
		h.PutInline(identity.Inline{Name: policyName, Document: document})
		return nil
	})
}

func deleteInline[N holding[N]](r *request, of func(*view) *shelf[N], name, policyName string) error {
	return editHolder(r, of, name, func(c *change, h *identity.Holder) error {
		if !h.RemoveInline(policyName) {
			return missingInline(of(c.view).kind, policyName)
		}
		return nil
	})
}

func missingInline(kind identity.Kind, name string) error {
	return notFound("The %s policy with name %s cannot be found.", kind, name)
}

func getInline[N holding[N]](s *shelf[N], name, policyName string) (string, error) {
	e, err := findNamed(s, name)
	if err != nil {
		return "", err
	}
	p, ok := e.noun.Policies().FindInline(policyName)
	if !ok {
		return "", missingInline(s.kind, policyName)
	}
	return p.Document, nil
}

func getUserPolicy(r *request, in *iamapi.GetUserPolicyRequest) (*iamapi.GetUserPolicyResponse, error) {
	text, err := getInline(&r.view.users, in.UserName.V, in.PolicyName.V)
	return &iamapi.GetUserPolicyResponse{UserName: in.UserName, PolicyName: in.PolicyName, PolicyDocument: encoded(text)}, err
}

func getGroupPolicy(r *request, in *iamapi.GetGroupPolicyRequest) (*iamapi.GetGroupPolicyResponse, error) {
	text, err := getInline(&r.view.groups, in.GroupName.V, in.PolicyName.V)
	return &iamapi.GetGroupPolicyResponse{GroupName: in.GroupName, PolicyName: in.PolicyName, PolicyDocument: encoded(text)}, err
}

func getRolePolicy(r *request, in *iamapi.GetRolePolicyRequest) (*iamapi.GetRolePolicyResponse, error) {
	text, err := getInline(&r.view.roles, in.RoleName.V, in.PolicyName.V)
	return &iamapi.GetRolePolicyResponse{RoleName: in.RoleName, PolicyName: in.PolicyName, PolicyDocument: encoded(text)}, err
}

func listInline[N holding[N]](r *request, s *shelf[N], name string, marker wire.Opt[string], limit wire.Opt[int32]) (
	names []string, truncated wire.Opt[bool], next wire.Opt[string], err error,
) {
	e, err := findNamed(s, name)
	if err != nil {
		return nil, truncated, next, err
	}
	for _, p := range e.noun.Policies().Inline {
		names = append(names, p.Name)
	}
	return listed(r, names, itself, marker, limit, itself)
}

func listUserPolicies(r *request, in *iamapi.ListUserPoliciesRequest) (out *iamapi.ListUserPoliciesResponse, err error) {
	out = new(iamapi.ListUserPoliciesResponse)
	out.PolicyNames, out.IsTruncated, out.Marker, err = listInline(r, &r.view.users, in.UserName.V, in.Marker, in.MaxItems)
	return out, err
}

func listGroupPolicies(r *request, in *iamapi.ListGroupPoliciesRequest) (out *iamapi.ListGroupPoliciesResponse, err error) {
	out = new(iamapi.ListGroupPoliciesResponse)
	out.PolicyNames, out.IsTruncated, out.Marker, err = listInline(r, &r.view.groups, in.GroupName.V, in.Marker, in.MaxItems)
	return out, err
}

func listRolePolicies(r *request, in *iamapi.ListRolePoliciesRequest) (out *iamapi.ListRolePoliciesResponse, err error) {
	out = new(iamapi.ListRolePoliciesResponse)
	out.PolicyNames, out.IsTruncated, out.Marker, err = listInline(r, &r.view.roles, in.RoleName.V, in.Marker, in.MaxItems)
	return out, err
}

// attachable finds a policy that somebody wants to attach.
func attachable(v *view, given string) (*entry[*identity.Policy], error) {
	stored, ok := v.stored(given)
	if !ok || !isPolicyARN(stored) {
		return nil, invalidARN(given)
	}
	p := v.managed(stored)
	if p == nil {
		return nil, notFound("Policy %s does not exist or is not attachable.", given)
	}
	return p, nil
}

func isPolicyARN(s string) bool {
	rest, ok := strings.CutPrefix(s, "arn:"+string(home)+":iam::")
	_, resource, found := strings.Cut(rest, ":")
	return ok && found && strings.HasPrefix(resource, "policy/")
}

func attach[N holding[N]](r *request, of func(*view) *shelf[N], name, policyARN string) error {
	return editHolder(r, of, name, func(c *change, h *identity.Holder) error {
		p, err := attachable(c.view, policyARN)
		if err != nil {
			return err
		}
		stored := p.noun.ARN(home)
		if slices.Contains(h.Attached, stored) {
			return nil
		}
		if len(h.Attached) >= maxAttached {
			return overQuota(attachedQuota[of(c.view).kind], maxAttached)
		}
		h.Attached = append(h.Attached, stored)
		return nil
	})
}

func detach[N holding[N]](r *request, of func(*view) *shelf[N], name, policyARN string) error {
	return editHolder(r, of, name, func(c *change, h *identity.Holder) error {
		stored, ok := c.stored(policyARN)
		i := slices.Index(h.Attached, stored)
		if !ok || i < 0 {
			return notFound("Policy %s was not found.", policyARN)
		}
		h.Attached = slices.Delete(h.Attached, i, i+1)
		return nil
	})
}

func listAttached[N holding[N]](r *request, s *shelf[N], name string, prefix, marker wire.Opt[string], limit wire.Opt[int32]) (
	list []iamapi.AttachedPolicy, truncated wire.Opt[bool], next wire.Opt[string], err error,
) {
	e, err := findNamed(s, name)
	if err != nil {
		return nil, truncated, next, err
	}
	attached := slices.Sorted(slices.Values(e.noun.Policies().Attached))
	attached = slices.DeleteFunc(attached, func(a string) bool {
		p := r.view.managed(a)
		return p == nil || !strings.HasPrefix(p.noun.Path, prefix.V)
	})
	return listed(r, attached, itself, marker, limit, func(a string) iamapi.AttachedPolicy {
		return iamapi.AttachedPolicy{PolicyName: wire.Some(r.view.managed(a).noun.Name), PolicyARN: wire.Some(r.view.shown(a))}
	})
}

func listAttachedUserPolicies(r *request, in *iamapi.ListAttachedUserPoliciesRequest) (out *iamapi.ListAttachedUserPoliciesResponse, err error) {
	out = new(iamapi.ListAttachedUserPoliciesResponse)
	out.AttachedPolicies, out.IsTruncated, out.Marker, err = listAttached(r, &r.view.users, in.UserName.V, in.PathPrefix, in.Marker, in.MaxItems)
	return out, err
}

func listAttachedGroupPolicies(r *request, in *iamapi.ListAttachedGroupPoliciesRequest) (out *iamapi.ListAttachedGroupPoliciesResponse, err error) {
	out = new(iamapi.ListAttachedGroupPoliciesResponse)
	out.AttachedPolicies, out.IsTruncated, out.Marker, err = listAttached(r, &r.view.groups, in.GroupName.V, in.PathPrefix, in.Marker, in.MaxItems)
	return out, err
}

func listAttachedRolePolicies(r *request, in *iamapi.ListAttachedRolePoliciesRequest) (out *iamapi.ListAttachedRolePoliciesResponse, err error) {
	out = new(iamapi.ListAttachedRolePoliciesResponse)
	out.AttachedPolicies, out.IsTruncated, out.Marker, err = listAttached(r, &r.view.roles, in.RoleName.V, in.PathPrefix, in.Marker, in.MaxItems)
	return out, err
}
