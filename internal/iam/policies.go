package iam

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/keywright/keywright/internal/identity"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/iamapi"
)

// maxManaged is how many characters a managed policy can have, and maxVersions how many versions ("IAM and AWS STS quotas").
const (
	maxManaged  = 6144
	maxVersions = 5
)

// checkManaged checks a document that is to become a version of a managed policy.
func checkManaged(text string) error {
	doc, err := parse(policy.IdentityPolicy, text)
	if errors.Is(err, errTooLarge) || err == nil && doc.Chars() > maxManaged {
		return overQuota("PolicySize", maxManaged)
	}
	return err
}

// findPolicy finds a managed policy, of the account or of AWS.
func findPolicy(v *view, given string) (*entry[*identity.Policy], error) {
	stored, ok := v.stored(given)
	if !ok || !isPolicyARN(stored) {
		return nil, invalidARN(given)
	}
	p := v.managed(stored)
	if p == nil {
		return nil, notFound("Policy %s was not found.", given)
	}
	return p, nil
}

// findOwn finds a managed policy that the account can change.
func findOwn(v *view, given string) (*entry[*identity.Policy], error) {
	p, err := findPolicy(v, given)
	if err == nil && p.noun.AWS {
		return nil, wire.Errorf(wire.CodeAccessDenied, "Policy %s is managed by AWS and cannot be changed.", given)
	}
	return p, err
}

// editPolicy changes a managed policy of the account.
func (r *request) editPolicy(policyARN string, f func(*identity.Policy) error) error {
	return r.change(func(c *change) error {
		e, err := findOwn(c.view, policyARN)
		if err != nil {
			return err
		}
		n := e.noun.Clone()
		if err := f(n); err != nil {
			return err
		}
		return replace(c, &c.policies, n)
	})
}

// usage is who uses a managed policy.
type usage struct {
	users  []*entry[*identity.User]
	groups []*entry[*identity.Group]
	roles  []*entry[*identity.Role]
}

func (u *usage) count() int { return len(u.users) + len(u.groups) + len(u.roles) }

// attachments returns those to whom a policy is attached, and bounded those whose boundary it is.
func (v *view) attachments(policyARN string) *usage {
	has := func(h *identity.Holder) bool { return slices.Contains(h.Attached, policyARN) }
	return v.using(func(u *identity.User) bool { return has(&u.Holder) }, func(g *identity.Group) bool { return has(&g.Holder) },
		func(r *identity.Role) bool { return has(&r.Holder) })
}

func (v *view) bounded(policyARN string) *usage {
	return v.using(func(u *identity.User) bool { return u.Boundary == policyARN }, func(*identity.Group) bool { return false },
		func(r *identity.Role) bool { return r.Boundary == policyARN })
}

func (v *view) using(user func(*identity.User) bool, group func(*identity.Group) bool, role func(*identity.Role) bool) *usage {
	return &usage{some(&v.users, user), some(&v.groups, group), some(&v.roles, role)}
}

func some[N identity.Noun](s *shelf[N], want func(N) bool) (list []*entry[N]) {
	for _, e := range s.ids {
		if want(e.noun) {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b *entry[N]) int { return strings.Compare(nameOf(a), nameOf(b)) })
	return list
}

// policyUses is how often managed policies are attached, and are boundaries, by their ARNs as they are stored.
type policyUses struct{ attached, bounding map[string]int }

// countUses counts all at once, for lists.
func (v *view) countUses() *policyUses {
	u := &policyUses{map[string]int{}, map[string]int{}}
	add := func(attached []string, boundary string) {
		for _, a := range attached {
			u.attached[a]++
		}
		if boundary != "" {
			u.bounding[boundary]++
		}
	}
	for _, e := range v.users.ids {
		add(e.noun.Attached, e.noun.Boundary)
	}
	for _, e := range v.groups.ids {
		add(e.noun.Attached, "")
	}
	for _, e := range v.roles.ids {
		add(e.noun.Attached, e.noun.Boundary)
	}
	return u
}

// showPolicy returns a policy as lists show it.
func (r *request) showPolicy(p *identity.Policy) iamapi.Policy {
	policyARN, uses := p.ARN(home), r.view.policyUses()
	return iamapi.Policy{
		PolicyName: wire.Some(p.Name), PolicyID: wire.Some(p.ID), ARN: wire.Some(p.ARN(r.part)), Path: wire.Some(p.Path),
		DefaultVersionID: versionID(p.Default), AttachmentCount: wire.Some(int32(uses.attached[policyARN])),
		PermissionsBoundaryUsageCount: wire.Some(int32(uses.bounding[policyARN])), IsAttachable: wire.Some(true),
		CreateDate: wire.Some(p.CreatedAt), UpdateDate: wire.Some(p.UpdatedAt),
	}
}

func versionID(n int) wire.Opt[string] { return wire.Some("v" + strconv.Itoa(n)) }

func (r *request) showVersion(p *identity.Policy, v *identity.Version, document bool) iamapi.PolicyVersion {
	out := iamapi.PolicyVersion{VersionID: versionID(v.N), IsDefaultVersion: wire.Some(v.N == p.Default), CreateDate: wire.Some(v.CreatedAt)}
	if document {
		out.Document = encoded(v.Document)
	}
	return out
}

// findVersion finds a version by its id, v1.
func findVersion(p *identity.Policy, id, policyARN string) (*identity.Version, error) {
	for i := range p.Versions {
		if versionID(p.Versions[i].N).V == id {
			return &p.Versions[i], nil
		}
	}
	return nil, notFound("Policy %s version %s does not exist or is not attachable.", policyARN, id)
}

func createPolicy(r *request, in *iamapi.CreatePolicyRequest) (*iamapi.CreatePolicyResponse, error) {
	if err := r.mayTag("TagPolicy", in.Tags); err != nil {
		return nil, err
	}
	m, err := r.meta(identity.KindPolicy, in.PolicyName.V, in.Path, in.Tags)
	if err == nil {
		err = checkManaged(in.PolicyDocument.V)
	}
	if err != nil {
		return nil, err
	}
	p := &identity.Policy{
		Meta: m, Description: in.Description.V, UpdatedAt: m.CreatedAt, Default: 1, Next: 2,
		Versions: []identity.Version{{N: 1, Document: in.PolicyDocument.V, CreatedAt: m.CreatedAt}},
	}
	err = r.change(func(c *change) error {
		if c.policies.named(m.Name) != nil {
			return alreadyExists("A policy called %s already exists. Duplicate names are not allowed.", m.Name)
		}
		if len(c.policies.ids) >= maxPolicies {
			return overQuota("PoliciesPerAccount", maxPolicies)
		}
		return put(c, &c.policies, p, secret.Bytes{})
	})
	if err != nil {
		return nil, err
	}
	shown := r.showPolicy(p)
	shown.Tags = showTags(p.Tags)
	return &iamapi.CreatePolicyResponse{Policy: &shown}, nil
}

func getPolicy(r *request, in *iamapi.GetPolicyRequest) (*iamapi.GetPolicyResponse, error) {
	p, err := findPolicy(r.view, in.PolicyARN.V)
	if err != nil {
		return nil, err
	}
	shown := r.showPolicy(p.noun)
	if shown.Tags = showTags(p.noun.Tags); p.noun.Description != "" {
		shown.Description = wire.Some(p.noun.Description)
	}
	return &iamapi.GetPolicyResponse{Policy: &shown}, nil
}

func listPolicies(r *request, in *iamapi.ListPoliciesRequest) (out *iamapi.ListPoliciesResponse, err error) {
	var all []*entry[*identity.Policy]
	if in.Scope.V != "AWS" {
		all = r.view.policies.sorted()
	}
	if in.Scope.V != "Local" {
		all = slices.AppendSeq(all, maps.Values(awsManaged))
	}
	uses := r.view.policyUses()
	all = slices.DeleteFunc(all, func(e *entry[*identity.Policy]) bool {
		if !strings.HasPrefix(e.noun.Path, cmp.Or(in.PathPrefix.V, "/")) {
			return true
		}
		policyARN := e.noun.ARN(home)
		bounded := in.PolicyUsageFilter.V == "PermissionsBoundary"
		return bounded && uses.bounding[policyARN] == 0 || in.OnlyAttached.V && !bounded && uses.attached[policyARN] == 0
	})
	at := func(e *entry[*identity.Policy]) string { return e.noun.ARN(home) }
	slices.SortFunc(all, func(a, b *entry[*identity.Policy]) int { return strings.Compare(at(a), at(b)) })
	out = new(iamapi.ListPoliciesResponse)
	out.Policies, out.IsTruncated, out.Marker, err = listed(r, all, at, in.Marker, in.MaxItems,
		func(e *entry[*identity.Policy]) iamapi.Policy { return r.showPolicy(e.noun) })
	return out, err
}

func deletePolicy(r *request, in *iamapi.DeletePolicyRequest) error {
	return r.change(func(c *change) error {
		p, err := findOwn(c.view, in.PolicyARN.V)
		if err != nil {
			return err
		}
		policyARN := p.noun.ARN(home)
		if c.attachments(policyARN).count()+c.bounded(policyARN).count() > 0 {
			return conflict("Cannot delete a policy attached to entities.")
		}
		if len(p.noun.Versions) > 1 {
			return conflict("This policy has more than one version. Before you delete a policy, you must delete the policy's versions. " +
				"The default version is deleted with the policy.")
		}
		remove(c, &c.policies, p.noun)
		return nil
	})
}

func createPolicyVersion(r *request, in *iamapi.CreatePolicyVersionRequest) (*iamapi.CreatePolicyVersionResponse, error) {
	if _, err := findOwn(r.view, in.PolicyARN.V); err != nil {
		return nil, err
	}
	if err := checkManaged(in.PolicyDocument.V); err != nil {
		return nil, err
	}
	var shown iamapi.PolicyVersion
	err := r.editPolicy(in.PolicyARN.V, func(p *identity.Policy) error {
		if len(p.Versions) >= maxVersions {
			return wire.Errorf(iamapi.CodeLimitExceededException, "A managed policy can have up to %d versions. Before you create a new version, "+
				"you must delete an existing version.", maxVersions)
		}
		p.Versions = append(p.Versions, identity.Version{N: p.Next, Document: in.PolicyDocument.V, CreatedAt: r.now()})
		if in.SetAsDefault.V {
			p.Default = p.Next
		}
		p.Next++
		p.UpdatedAt = r.now()
		shown = r.showVersion(p, &p.Versions[len(p.Versions)-1], false)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &iamapi.CreatePolicyVersionResponse{PolicyVersion: &shown}, nil
}

func getPolicyVersion(r *request, in *iamapi.GetPolicyVersionRequest) (*iamapi.GetPolicyVersionResponse, error) {
	p, err := findPolicy(r.view, in.PolicyARN.V)
	if err != nil {
		return nil, err
	}
	v, err := findVersion(p.noun, in.VersionID.V, in.PolicyARN.V)
	if err != nil {
		return nil, err
	}
	shown := r.showVersion(p.noun, v, true)
	return &iamapi.GetPolicyVersionResponse{PolicyVersion: &shown}, nil
}

func listPolicyVersions(r *request, in *iamapi.ListPolicyVersionsRequest) (*iamapi.ListPolicyVersionsResponse, error) {
	p, err := findPolicy(r.view, in.PolicyARN.V)
	if err != nil {
		return nil, err
	}
	// Newest first: the markers count down.
	newest := slices.Clone(p.noun.Versions)
	slices.Reverse(newest)
	at := func(v identity.Version) string { return string(rune(0x10ffff - v.N)) }
	out := new(iamapi.ListPolicyVersionsResponse)
	out.Versions, out.IsTruncated, out.Marker, err = listed(r, newest, at, in.Marker, in.MaxItems,
		func(v identity.Version) iamapi.PolicyVersion { return r.showVersion(p.noun, &v, false) })
	return out, err
}

func setDefaultPolicyVersion(r *request, in *iamapi.SetDefaultPolicyVersionRequest) error {
	return r.editPolicy(in.PolicyARN.V, func(p *identity.Policy) error {
		v, err := findVersion(p, in.VersionID.V, in.PolicyARN.V)
		if err != nil {
			return err
		}
		p.Default, p.UpdatedAt = v.N, r.now()
		return nil
	})
}

func deletePolicyVersion(r *request, in *iamapi.DeletePolicyVersionRequest) error {
	return r.editPolicy(in.PolicyARN.V, func(p *identity.Policy) error {
		v, err := findVersion(p, in.VersionID.V, in.PolicyARN.V)
		if err != nil {
			return err
		}
		if v.N == p.Default {
			return conflict("Cannot delete the default version of a policy.")
		}
		n := v.N
		p.Versions = slices.DeleteFunc(p.Versions, func(v identity.Version) bool { return v.N == n })
		p.UpdatedAt = r.now()
		return nil
	})
}

// listEntitiesForPolicy pages through groups, roles and users together.
func listEntitiesForPolicy(r *request, in *iamapi.ListEntitiesForPolicyRequest) (*iamapi.ListEntitiesForPolicyResponse, error) {
	p, err := findPolicy(r.view, in.PolicyARN.V)
	if err != nil {
		return nil, err
	}
	var all []entity
	gather := func(u *usage) {
		for _, e := range u.groups {
			all = append(all, entity{"Group", &e.noun.Meta})
		}
		for _, e := range u.users {
			all = append(all, entity{"User", &e.noun.Meta})
		}
		for _, e := range u.roles {
			all = append(all, entity{"Role", &e.noun.Meta})
		}
	}
	if in.PolicyUsageFilter.V != "PermissionsBoundary" {
		gather(r.view.attachments(p.noun.ARN(home)))
	}
	if in.PolicyUsageFilter.V != "PermissionsPolicy" {
		gather(r.view.bounded(p.noun.ARN(home)))
	}
	slices.SortFunc(all, func(a, b entity) int { return strings.Compare(a.at(), b.at()) })
	all = slices.CompactFunc(all, func(a, b entity) bool { return a.at() == b.at() }) // attached and a boundary
	all = slices.DeleteFunc(all, func(e entity) bool {
		filter := in.EntityFilter.V
		return filter != "" && filter != e.kind || !strings.HasPrefix(e.meta.Path, in.PathPrefix.V)
	})
	out := new(iamapi.ListEntitiesForPolicyResponse)
	items, truncated, next, err := page(r, all, entity.at, in.Marker, in.MaxItems)
	out.IsTruncated, out.Marker = truncated, next
	for _, e := range items {
		name, id := wire.Some(e.meta.Name), wire.Some(e.meta.ID)
		switch e.kind {
		case "Group":
			out.PolicyGroups = append(out.PolicyGroups, iamapi.PolicyGroup{GroupName: name, GroupID: id})
		case "User":
			out.PolicyUsers = append(out.PolicyUsers, iamapi.PolicyUser{UserName: name, UserID: id})
		default:
			out.PolicyRoles = append(out.PolicyRoles, iamapi.PolicyRole{RoleName: name, RoleID: id})
		}
	}
	return out, err
}

// entity is somebody who uses a managed policy. The kind is one of EntityType of the API.
type entity struct {
	kind string
	meta *identity.Meta
}

// at is its place in lists: groups, then roles and users.
func (e entity) at() string { return e.kind + "/" + identity.Fold(e.meta.Name) }
