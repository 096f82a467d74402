package iam

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/identity"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/iamapi"
)

// maxTrust is how many characters a trust policy can have ("IAM and AWS STS quotas").
const maxTrust = 2048

// defaultSession is how long sessions of a role last at most if nothing else was said (CreateRole, MaxSessionDuration).
const defaultSession = time.Hour

func roles(v *view) *shelf[*identity.Role] { return &v.roles }

// editRole changes a role.
func (r *request) editRole(name string, f func(*identity.Role) error) error {
	return r.change(func(c *change) error {
		e, err := findNamed(&c.roles, name)
		if err != nil {
			return err
		}
		n := e.noun.Clone()
		if err := f(n); err != nil {
			return err
		}
		return replace(c, &c.roles, n)
	})
}

// showRole returns a role as lists show it.
func (r *request) showRole(n *identity.Role) (iamapi.Role, error) {
	trust, err := r.showTrust(n)
	if err != nil {
		return iamapi.Role{}, err
	}
	out := iamapi.Role{
		Path: wire.Some(n.Path), RoleName: wire.Some(n.Name), RoleID: wire.Some(n.ID), ARN: wire.Some(n.ARN(r.part)),
		CreateDate: wire.Some(n.CreatedAt), AssumeRolePolicyDocument: encoded(trust),
		MaxSessionDuration: wire.Some(int32(n.MaxSession / time.Second)),
	}
	if n.Description != "" {
		out.Description = wire.Some(n.Description)
	}
	return out, nil
}

// showRoleFully is showRole with what lists leave out.
func (r *request) showRoleFully(n *identity.Role) (*iamapi.Role, error) {
	out, err := r.showRole(n)
	out.PermissionsBoundary, out.Tags = r.showBoundary(n.Boundary), showTags(n.Tags)
	return &out, err
}

// showTrust returns a trust policy with the principals that it means now: one that was renamed has its new ARN, and one that
// was deleted its unique id, as AWS shows them.
func (r *request) showTrust(n *identity.Role) (string, error) {
	var pairs []string // all at once: one may have come into the name that another had
	for was, id := range n.Principals {
		now, ok, err := r.ARNOf(r.ctx, id)
		if err != nil {
			return "", err
		}
		ref := parsePrincipal(was)
		switch {
		case !ok:
			now = id
		case ref.form == sessionForm:
			now = was // the session's name is not the role's
		}
		if now != was {
			pairs = append(pairs, `"`+was+`"`, `"`+now+`"`)
		}
	}
	return strings.NewReplacer(pairs...).Replace(n.Trust), nil
}

// checkTrust checks a trust policy and finds the unique ids of whom it names.
func (d *Directory) checkTrust(ctx context.Context, text string) (map[string]string, error) {
	doc, err := parse(policy.TrustPolicy, text)
	if errors.Is(err, errTooLarge) {
		return nil, overQuota("ACLSizePerRole", maxTrust)
	}
	if err != nil {
		return nil, err
	}
	ids := map[string]string{}
	for _, p := range doc.Principals() {
		switch p.Type {
		case "Service", "Federated": // they need not be there
			continue
		case "AWS":
		default:
			return nil, invalidPrincipal(p)
		}
		var ok bool
		var id string
		if _, unique := identity.KindOfID(p.Value); unique {
			_, ok, err = d.ARNOf(ctx, p.Value)
		} else if id, ok, err = d.Lookup(ctx, p.Value); ok && parsePrincipal(p.Value).form > rootForm && id != "" {
			ids[p.Value] = id
		}
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, invalidPrincipal(p)
		}
	}
	return ids, nil
}

func invalidPrincipal(p policy.Named) error {
	return malformedPolicy(`Invalid principal in policy: "` + strings.ToUpper(p.Type) + `":"` + p.Value + `"`)
}

func createRole(r *request, in *iamapi.CreateRoleRequest) (*iamapi.CreateRoleResponse, error) {
	if err := r.mayTag("TagRole", in.Tags); err != nil {
		return nil, err
	}
	m, err := r.meta(identity.KindRole, in.RoleName.V, in.Path, in.Tags)
	if err != nil {
		return nil, err
	}
	n := &identity.Role{Meta: m, Description: in.Description.V, Trust: in.AssumeRolePolicyDocument.V, MaxSession: defaultSession}
	if in.MaxSessionDuration.Set {
		n.MaxSession = time.Duration(in.MaxSessionDuration.V) * time.Second
	}
	if n.Principals, err = r.checkTrust(r.ctx, n.Trust); err != nil {
		return nil, err
	}
	err = r.change(func(c *change) error {
		if err := free(&c.roles, m.Name); err != nil {
			return err
		}
		if len(c.roles.ids) >= maxRoles {
			return overQuota("RolesPerAccount", maxRoles)
		}
		var err error
		if n.Boundary, err = boundaryARN(c.view, in.PermissionsBoundary); err != nil {
			return err
		}
		return put(c, &c.roles, n, secret.Bytes{})
	})
	if err != nil {
		return nil, err
	}
	shown, err := r.showRoleFully(n)
	return &iamapi.CreateRoleResponse{Role: shown}, err
}

func getRole(r *request, in *iamapi.GetRoleRequest) (*iamapi.GetRoleResponse, error) {
	e, err := findNamed(&r.view.roles, in.RoleName.V)
	if err != nil {
		return nil, err
	}
	shown, err := r.showRoleFully(e.noun)
	shown.RoleLastUsed = new(iamapi.RoleLastUsed)
	return &iamapi.GetRoleResponse{Role: shown}, err
}

func listRoles(r *request, in *iamapi.ListRolesRequest) (*iamapi.ListRolesResponse, error) {
	out := new(iamapi.ListRolesResponse)
	var failed error
	var err error
	out.Roles, out.IsTruncated, out.Marker, err = listed(r, below(&r.view.roles, in.PathPrefix), nameOf, in.Marker, in.MaxItems,
		func(e *entry[*identity.Role]) iamapi.Role {
			shown, err := r.showRole(e.noun)
			failed = cmp.Or(failed, err)
			return shown
		})
	return out, cmp.Or(err, failed)
}

func updateRole(r *request, in *iamapi.UpdateRoleRequest) (*iamapi.UpdateRoleResponse, error) {
	err := r.editRole(in.RoleName.V, func(n *identity.Role) error {
		n.Description = in.Description.Or(n.Description)
		if in.MaxSessionDuration.Set {
			n.MaxSession = time.Duration(in.MaxSessionDuration.V) * time.Second
		}
		return nil
	})
	return new(iamapi.UpdateRoleResponse), err
}

func updateRoleDescription(r *request, in *iamapi.UpdateRoleDescriptionRequest) (*iamapi.UpdateRoleDescriptionResponse, error) {
	var n *identity.Role
	err := r.editRole(in.RoleName.V, func(edited *identity.Role) error {
		edited.Description, n = in.Description.V, edited
		return nil
	})
	if err != nil {
		return nil, err
	}
	shown, err := r.showRoleFully(n)
	return &iamapi.UpdateRoleDescriptionResponse{Role: shown}, err
}

func updateTrust(r *request, in *iamapi.UpdateAssumeRolePolicyRequest) error {
	if _, err := findNamed(&r.view.roles, in.RoleName.V); err != nil {
		return err
	}
	ids, err := r.checkTrust(r.ctx, in.PolicyDocument.V)
	if err != nil {
		return err
	}
	return r.editRole(in.RoleName.V, func(n *identity.Role) error {
		n.Trust, n.Principals = in.PolicyDocument.V, ids
		return nil
	})
}

func deleteRole(r *request, in *iamapi.DeleteRoleRequest) error {
	return r.change(func(c *change) error {
		e, err := findNamed(&c.roles, in.RoleName.V)
		switch {
		case err != nil:
			return err
		case len(e.noun.Attached) > 0:
			return conflict("Cannot delete entity, must detach all policies first.")
		case len(e.noun.Inline) > 0:
			return conflict("Cannot delete entity, must delete policies first.")
		}
		remove(c, &c.roles, e.noun)
		return nil
	})
}

// listInstanceProfilesForRole tells the truth: there are no instance profiles here. Terraform asks before it deletes a role.
func listInstanceProfilesForRole(r *request, in *iamapi.ListInstanceProfilesForRoleRequest) (*iamapi.ListInstanceProfilesForRoleResponse, error) {
	_, err := findNamed(&r.view.roles, in.RoleName.V)
	return &iamapi.ListInstanceProfilesForRoleResponse{InstanceProfiles: []iamapi.InstanceProfile{}, IsTruncated: wire.Some(false)}, err
}

func putRoleBoundary(r *request, in *iamapi.PutRolePermissionsBoundaryRequest) error {
	return r.change(func(c *change) error {
		e, err := findNamed(&c.roles, in.RoleName.V)
		if err != nil {
			return err
		}
		n := e.noun.Clone()
		if n.Boundary, err = boundaryARN(c.view, in.PermissionsBoundary); err != nil {
			return err
		}
		return replace(c, &c.roles, n)
	})
}
