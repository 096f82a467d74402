package iam

import (
	"slices"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/identity"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/iamapi"
)

// How many there can be ("IAM and AWS STS quotas", IAM user guide; the largest that can be asked for where that is little
// more than the default).
const (
	maxUsers         = 5000
	maxGroups        = 300
	maxRoles         = 1000
	maxPolicies      = 1500
	maxProviders     = 100
	maxGroupsPerUser = 10
)

// now is the moment of the call, in the whole seconds that IAM shows.
func (r *request) now() time.Time { return r.call.Time.UTC().Truncate(time.Second) }

// meta makes the Meta of a new noun.
func (r *request) meta(kind identity.Kind, name string, path wire.Opt[string], tags []iamapi.Tag) (identity.Meta, error) {
	m := identity.Meta{Account: r.account, ID: identity.NewID(kind), Name: name, Path: path.Or("/"), CreatedAt: r.now()}
	if err := checkTags(tags); err != nil {
		return m, err
	}
	m.SetTags(toTags(tags))
	return m, nil
}

// mayTag asks for the permission that tags of something new need besides that to make it.
func (r *request) mayTag(name string, tags []iamapi.Tag) error {
	if len(tags) == 0 {
		return nil
	}
	return r.ask(name, r.target)
}

// boundaryARN checks a permissions boundary and returns it as it is stored.
func boundaryARN(v *view, given wire.Opt[string]) (string, error) {
	if !given.Set {
		return "", nil
	}
	p, err := attachable(v, given.V)
	if err != nil {
		return "", err
	}
	return p.noun.ARN(home), nil
}

func users(v *view) *shelf[*identity.User] { return &v.users }

// editUser changes a user.
func (r *request) editUser(name string, f func(*identity.User) error) error {
	return r.change(func(c *change) error {
		e, err := findNamed(&c.users, name)
		if err != nil {
			return err
		}
		n := e.noun.Clone()
		if err := f(n); err != nil {
			return err
		}
		return replace(c, &c.users, n)
	})
}

func (r *request) showUser(u *identity.User) iamapi.User {
	return iamapi.User{
		Path: wire.Some(u.Path), UserName: wire.Some(u.Name), UserID: wire.Some(u.ID), ARN: wire.Some(u.ARN(r.part)),
		CreateDate: wire.Some(u.CreatedAt),
	}
}

// showUserFully is showUser with what lists leave out.
func (r *request) showUserFully(u *identity.User) *iamapi.User {
	out := r.showUser(u)
	out.PermissionsBoundary, out.Tags = r.showBoundary(u.Boundary), showTags(u.Tags)
	return &out
}

func (r *request) showBoundary(policyARN string) *iamapi.AttachedPermissionsBoundary {
	if policyARN == "" {
		return nil
	}
	return &iamapi.AttachedPermissionsBoundary{
		PermissionsBoundaryType: wire.Some("Policy"), PermissionsBoundaryARN: wire.Some(r.view.shown(policyARN)),
	}
}

func createUser(r *request, in *iamapi.CreateUserRequest) (*iamapi.CreateUserResponse, error) {
	if err := r.mayTag("TagUser", in.Tags); err != nil {
		return nil, err
	}
	m, err := r.meta(identity.KindUser, in.UserName.V, in.Path, in.Tags)
	if err != nil {
		return nil, err
	}
	u := &identity.User{Meta: m}
	err = r.change(func(c *change) error {
		if err := free(&c.users, m.Name); err != nil {
			return err
		}
		if len(c.users.ids) >= maxUsers {
			return overQuota("UsersPerAccount", maxUsers)
		}
		var err error
		if u.Boundary, err = boundaryARN(c.view, in.PermissionsBoundary); err != nil {
			return err
		}
		return put(c, &c.users, u, secret.Bytes{})
	})
	if err != nil {
		return nil, err
	}
	return &iamapi.CreateUserResponse{User: r.showUserFully(u)}, nil
}

func getUser(r *request, in *iamapi.GetUserRequest) (*iamapi.GetUserResponse, error) {
	name := r.selfName(in.UserName)
	if name == "" { // the root user
		return &iamapi.GetUserResponse{User: &iamapi.User{
			Path: wire.Some("/"), UserName: wire.Some("root"), UserID: wire.Some(string(r.account)), ARN: wire.Some(r.account.Root(r.part)),
			CreateDate: wire.Some(r.view.account.CreatedAt),
		}}, nil
	}
	u, err := findNamed(&r.view.users, name)
	if err != nil {
		return nil, err
	}
	return &iamapi.GetUserResponse{User: r.showUserFully(u.noun)}, nil
}

func listUsers(r *request, in *iamapi.ListUsersRequest) (out *iamapi.ListUsersResponse, err error) {
	out = new(iamapi.ListUsersResponse)
	out.Users, out.IsTruncated, out.Marker, err = listed(r, below(&r.view.users, in.PathPrefix), nameOf, in.Marker, in.MaxItems,
		func(e *entry[*identity.User]) iamapi.User { return r.showUser(e.noun) })
	return out, err
}

func updateUser(r *request, in *iamapi.UpdateUserRequest) error {
	return r.change(func(c *change) error {
		e, err := findNamed(&c.users, in.UserName.V)
		if err != nil {
			return err
		}
		n := e.noun.Clone()
		n.Name, n.Path = in.NewUserName.Or(n.Name), in.NewPath.Or(n.Path)
		if !strings.EqualFold(n.Name, e.noun.Name) {
			if err := free(&c.users, n.Name); err != nil {
				return err
			}
		}
		if err := r.ask(r.op.Name, target{n.ARN(r.part), n.Tags, n.Boundary}); err != nil { // what it becomes counts too
			return err
		}
		return replace(c, &c.users, n)
	})
}

func deleteUser(r *request, in *iamapi.DeleteUserRequest) error {
	return r.change(func(c *change) error {
		e, err := findNamed(&c.users, in.UserName.V)
		if err != nil {
			return err
		}
		u := e.noun
		keys, err := r.keysOf(u.ID)
		if err != nil {
			return err
		}
		switch {
		case len(u.Groups) > 0:
			return conflict("Cannot delete entity, must remove users from group first.")
		case len(u.Attached) > 0:
			return conflict("Cannot delete entity, must detach all policies first.")
		case len(u.Inline) > 0:
			return conflict("Cannot delete entity, must delete policies first.")
		case len(keys) > 0:
			return conflict("Cannot delete entity, must delete access keys first.")
		case u.Login != nil:
			return conflict("Cannot delete entity, must delete login profile first.")
		}
		remove(c, &c.users, u)
		return nil
	})
}

func putUserBoundary(r *request, in *iamapi.PutUserPermissionsBoundaryRequest) error {
	return r.change(func(c *change) error {
		e, err := findNamed(&c.users, in.UserName.V)
		if err != nil {
			return err
		}
		n := e.noun.Clone()
		if n.Boundary, err = boundaryARN(c.view, in.PermissionsBoundary); err != nil {
			return err
		}
		return replace(c, &c.users, n)
	})
}

func groups(v *view) *shelf[*identity.Group] { return &v.groups }

func (r *request) showGroup(g *identity.Group) iamapi.Group {
	return iamapi.Group{
		Path: wire.Some(g.Path), GroupName: wire.Some(g.Name), GroupID: wire.Some(g.ID), ARN: wire.Some(g.ARN(r.part)),
		CreateDate: wire.Some(g.CreatedAt),
	}
}

func createGroup(r *request, in *iamapi.CreateGroupRequest) (*iamapi.CreateGroupResponse, error) {
	m, err := r.meta(identity.KindGroup, in.GroupName.V, in.Path, nil)
	if err != nil {
		return nil, err
	}
	g := &identity.Group{Meta: m}
	err = r.change(func(c *change) error {
		if err := free(&c.groups, m.Name); err != nil {
			return err
		}
		if len(c.groups.ids) >= maxGroups {
			return overQuota("GroupsPerAccount", maxGroups)
		}
		return put(c, &c.groups, g, secret.Bytes{})
	})
	if err != nil {
		return nil, err
	}
	shown := r.showGroup(g)
	return &iamapi.CreateGroupResponse{Group: &shown}, nil
}

// members returns the users of a group, in the order of their names.
func (v *view) members(groupID string) []*entry[*identity.User] {
	return slices.DeleteFunc(v.users.sorted(), func(e *entry[*identity.User]) bool { return !slices.Contains(e.noun.Groups, groupID) })
}

func getGroup(r *request, in *iamapi.GetGroupRequest) (*iamapi.GetGroupResponse, error) {
	g, err := findNamed(&r.view.groups, in.GroupName.V)
	if err != nil {
		return nil, err
	}
	shown := r.showGroup(g.noun)
	out := &iamapi.GetGroupResponse{Group: &shown}
	out.Users, out.IsTruncated, out.Marker, err = listed(r, r.view.members(g.noun.ID), nameOf, in.Marker, in.MaxItems,
		func(e *entry[*identity.User]) iamapi.User { return r.showUser(e.noun) })
	return out, err
}

func listGroups(r *request, in *iamapi.ListGroupsRequest) (out *iamapi.ListGroupsResponse, err error) {
	out = new(iamapi.ListGroupsResponse)
	out.Groups, out.IsTruncated, out.Marker, err = listed(r, below(&r.view.groups, in.PathPrefix), nameOf, in.Marker, in.MaxItems,
		func(e *entry[*identity.Group]) iamapi.Group { return r.showGroup(e.noun) })
	return out, err
}

func listGroupsForUser(r *request, in *iamapi.ListGroupsForUserRequest) (*iamapi.ListGroupsForUserResponse, error) {
	u, err := findNamed(&r.view.users, in.UserName.V)
	if err != nil {
		return nil, err
	}
	all := slices.DeleteFunc(r.view.groups.sorted(), func(e *entry[*identity.Group]) bool { return !slices.Contains(u.noun.Groups, e.noun.ID) })
	out := new(iamapi.ListGroupsForUserResponse)
	out.Groups, out.IsTruncated, out.Marker, err = listed(r, all, nameOf, in.Marker, in.MaxItems,
		func(e *entry[*identity.Group]) iamapi.Group { return r.showGroup(e.noun) })
	return out, err
}

func updateGroup(r *request, in *iamapi.UpdateGroupRequest) error {
	return r.change(func(c *change) error {
		e, err := findNamed(&c.groups, in.GroupName.V)
		if err != nil {
			return err
		}
		n := e.noun.Clone()
		n.Name, n.Path = in.NewGroupName.Or(n.Name), in.NewPath.Or(n.Path)
		if !strings.EqualFold(n.Name, e.noun.Name) {
			if err := free(&c.groups, n.Name); err != nil {
				return err
			}
		}
		if err := r.ask(r.op.Name, target{arn: n.ARN(r.part)}); err != nil {
			return err
		}
		return replace(c, &c.groups, n)
	})
}

func deleteGroup(r *request, in *iamapi.DeleteGroupRequest) error {
	return r.change(func(c *change) error {
		g, err := findNamed(&c.groups, in.GroupName.V)
		switch {
		case err != nil:
			return err
		case len(c.members(g.noun.ID)) > 0:
			return conflict("Cannot delete entity, must remove users from group first.")
		case len(g.noun.Attached) > 0:
			return conflict("Cannot delete entity, must detach all policies first.")
		case len(g.noun.Inline) > 0:
			return conflict("Cannot delete entity, must delete policies first.")
		}
		remove(c, &c.groups, g.noun)
		return nil
	})
}

// membership changes whether a user is in a group.
func (r *request) membership(group, user string, f func(u *identity.User, id string) error) error {
	return r.change(func(c *change) error {
		g, err := findNamed(&c.groups, group)
		if err != nil {
			return err
		}
		u, err := findNamed(&c.users, user)
		if err != nil {
			return err
		}
		n := u.noun.Clone()
		if err := f(n, g.noun.ID); err != nil {
			return err
		}
		return replace(c, &c.users, n)
	})
}

func addUserToGroup(r *request, in *iamapi.AddUserToGroupRequest) error {
	return r.membership(in.GroupName.V, in.UserName.V, func(u *identity.User, id string) error {
		if slices.Contains(u.Groups, id) {
			return nil
		}
		if len(u.Groups) >= maxGroupsPerUser {
			return overQuota("GroupsPerUser", maxGroupsPerUser)
		}
		u.Groups = append(u.Groups, id)
		return nil
	})
}

func removeUserFromGroup(r *request, in *iamapi.RemoveUserFromGroupRequest) error {
	return r.membership(in.GroupName.V, in.UserName.V, func(u *identity.User, id string) error {
		i := slices.Index(u.Groups, id)
		if i < 0 {
			return notFound("User %s not in group %s", in.UserName.V, in.GroupName.V)
		}
		u.Groups = slices.Delete(u.Groups, i, i+1)
		return nil
	})
}
