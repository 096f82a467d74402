package iam

import (
	"strings"

	"github.com/keywright/keywright/internal/identity"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/iamapi"
)

// maxTags is how many tags anything can have ("IAM and AWS STS quotas").
const maxTags = 50

func toTags(in []iamapi.Tag) []key.Tag {
	tags := make([]key.Tag, len(in))
	for i, t := range in {
		tags[i] = key.Tag{Key: t.Key.V, Value: t.Value.V}
	}
	return tags
}

func showTags(tags []key.Tag) []iamapi.Tag {
	if len(tags) == 0 {
		return nil
	}
	out := make([]iamapi.Tag, len(tags))
	for i, t := range tags {
		out[i] = showTag(t)
	}
	return out
}

func showTag(t key.Tag) iamapi.Tag {
	return iamapi.Tag{Key: wire.Some(t.Key), Value: wire.Some(t.Value)}
}

// checkTags refuses tags that nothing can have.
func checkTags(tags []iamapi.Tag) error {
	seen := make(map[string]bool, len(tags))
	for _, t := range tags {
		folded := strings.ToLower(t.Key.V)
		if strings.HasPrefix(folded, "aws:") {
			return invalidInput("Tag keys beginning with aws: are reserved.")
		}
		if seen[folded] {
			return invalidInput("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
		}
		seen[folded] = true
	}
	if len(tags) > maxTags {
		return errTooManyTags
	}
	return nil
}

var errTooManyTags = wire.Errorf(iamapi.CodeLimitExceededException, "The number of tags has reached the maximum limit.")

// addTags adds tags to what is there.
func addTags(m *identity.Meta, tags []iamapi.Tag) error {
	if err := checkTags(tags); err != nil {
		return err
	}
	m.SetTags(toTags(tags))
	if len(m.Tags) > maxTags {
		return errTooManyTags
	}
	return nil
}

func tagUser(r *request, in *iamapi.TagUserRequest) error {
	return r.editUser(in.UserName.V, func(n *identity.User) error { return addTags(&n.Meta, in.Tags) })
}

func untagUser(r *request, in *iamapi.UntagUserRequest) error {
	return r.editUser(in.UserName.V, func(n *identity.User) error { n.RemoveTags(in.TagKeys); return nil })
}

func tagRole(r *request, in *iamapi.TagRoleRequest) error {
	return r.editRole(in.RoleName.V, func(n *identity.Role) error { return addTags(&n.Meta, in.Tags) })
}

func untagRole(r *request, in *iamapi.UntagRoleRequest) error {
	return r.editRole(in.RoleName.V, func(n *identity.Role) error { n.RemoveTags(in.TagKeys); return nil })
}

func tagPolicy(r *request, in *iamapi.TagPolicyRequest) error {
	return r.editPolicy(in.PolicyARN.V, func(n *identity.Policy) error { return addTags(&n.Meta, in.Tags) })
}

func untagPolicy(r *request, in *iamapi.UntagPolicyRequest) error {
	return r.editPolicy(in.PolicyARN.V, func(n *identity.Policy) error { n.RemoveTags(in.TagKeys); return nil })
}

func tagProvider(r *request, in *iamapi.TagOpenIDConnectProviderRequest) error {
	return r.editProvider(in.OpenIDConnectProviderARN.V, func(n *identity.Provider) error { return addTags(&n.Meta, in.Tags) })
}

func untagProvider(r *request, in *iamapi.UntagOpenIDConnectProviderRequest) error {
	return r.editProvider(in.OpenIDConnectProviderARN.V, func(n *identity.Provider) error { n.RemoveTags(in.TagKeys); return nil })
}

func (r *request) listTags(tags []key.Tag, marker wire.Opt[string], limit wire.Opt[int32]) (
	[]iamapi.Tag, wire.Opt[bool], wire.Opt[string], error,
) {
	return listed(r, tags, func(t key.Tag) string { return t.Key }, marker, limit, showTag)
}

func listUserTags(r *request, in *iamapi.ListUserTagsRequest) (*iamapi.ListUserTagsResponse, error) {
	e, err := findNamed(&r.view.users, in.UserName.V)
	if err != nil {
		return nil, err
	}
	out := new(iamapi.ListUserTagsResponse)
	out.Tags, out.IsTruncated, out.Marker, err = r.listTags(e.noun.Tags, in.Marker, in.MaxItems)
	return out, err
}

func listRoleTags(r *request, in *iamapi.ListRoleTagsRequest) (*iamapi.ListRoleTagsResponse, error) {
	e, err := findNamed(&r.view.roles, in.RoleName.V)
	if err != nil {
		return nil, err
	}
	out := new(iamapi.ListRoleTagsResponse)
	out.Tags, out.IsTruncated, out.Marker, err = r.listTags(e.noun.Tags, in.Marker, in.MaxItems)
	return out, err
}

func listPolicyTags(r *request, in *iamapi.ListPolicyTagsRequest) (*iamapi.ListPolicyTagsResponse, error) {
	e, err := findPolicy(r.view, in.PolicyARN.V)
	if err != nil {
		return nil, err
	}
	out := new(iamapi.ListPolicyTagsResponse)
	out.Tags, out.IsTruncated, out.Marker, err = r.listTags(e.noun.Tags, in.Marker, in.MaxItems)
	return out, err
}

func listProviderTags(r *request, in *iamapi.ListOpenIDConnectProviderTagsRequest) (*iamapi.ListOpenIDConnectProviderTagsResponse, error) {
	e, err := needProvider(r.view, in.OpenIDConnectProviderARN.V)
	if err != nil {
		return nil, err
	}
	out := new(iamapi.ListOpenIDConnectProviderTagsResponse)
	out.Tags, out.IsTruncated, out.Marker, err = r.listTags(e.noun.Tags, in.Marker, in.MaxItems)
	return out, err
}
