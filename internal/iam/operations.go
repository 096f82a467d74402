package iam

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/identity"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/iamapi"
)

// operation is a row of the table below. What a caller needs is always the permission of the operation's own name.
type operation struct {
	Name     string
	On       subject // what the permission is needed on
	ReadOnly bool    // readOnly of the audit record

	do func(*request, wire.Input) (wire.Output, error)
}

// subject says what an operation works on, and in which member the input names it.
type subject uint8

const (
	onAccount   subject = iota // nothing in particular: "*"
	onUser                     // UserName
	onSelf                     // UserName, or the caller if it is absent
	onCaller                   // the caller
	onGroup                    // GroupName
	onRole                     // RoleName
	onPolicy                   // PolicyArn
	onNewPolicy                // PolicyName, with Path
	onProvider                 // OpenIDConnectProviderArn
	onUsers                    // all users below PathPrefix; so the following three
	onGroups
	onRoles
	onPolicies
	onSource    // PolicySourceArn
	onKeyHolder // the user whose access key it is
)

// operations is the table of everything that IAM does here. What is not in it is answered by an error that says so.
var operations = []operation{
	{Name: "AddClientIDToOpenIDConnectProvider", On: onProvider, do: guard.Quiet(addClientID)},
	{Name: "AddUserToGroup", On: onGroup, do: guard.Quiet(addUserToGroup)},
	{Name: "AttachGroupPolicy", On: onGroup, do: guard.Quiet(func(r *request, in *iamapi.AttachGroupPolicyRequest) error {
		return attach(r, groups, in.GroupName.V, in.PolicyARN.V)
	})},
	{Name: "AttachRolePolicy", On: onRole, do: guard.Quiet(func(r *request, in *iamapi.AttachRolePolicyRequest) error {
		return attach(r, roles, in.RoleName.V, in.PolicyARN.V)
	})},
	{Name: "AttachUserPolicy", On: onUser, do: guard.Quiet(func(r *request, in *iamapi.AttachUserPolicyRequest) error {
		return attach(r, users, in.UserName.V, in.PolicyARN.V)
	})},
	{Name: "ChangePassword", On: onCaller, do: guard.Quiet(changePassword)},
	{Name: "CreateAccessKey", On: onSelf, do: guard.Answers(createAccessKey)},
	{Name: "CreateAccountAlias", do: guard.Quiet(createAccountAlias)},
	{Name: "CreateGroup", On: onGroup, do: guard.Answers(createGroup)},
	{Name: "CreateLoginProfile", On: onSelf, do: guard.Answers(createLoginProfile)},
	{Name: "CreateOpenIDConnectProvider", On: onProvider, do: guard.Answers(createProvider)},
	{Name: "CreatePolicy", On: onNewPolicy, do: guard.Answers(createPolicy)},
	{Name: "CreatePolicyVersion", On: onPolicy, do: guard.Answers(createPolicyVersion)},
	{Name: "CreateRole", On: onRole, do: guard.Answers(createRole)},
	{Name: "CreateUser", On: onUser, do: guard.Answers(createUser)},
	{Name: "DeleteAccessKey", On: onSelf, do: guard.Quiet(deleteAccessKey)},
	{Name: "DeleteAccountAlias", do: guard.Quiet(deleteAccountAlias)},
	{Name: "DeleteGroup", On: onGroup, do: guard.Quiet(deleteGroup)},
	{Name: "DeleteGroupPolicy", On: onGroup, do: guard.Quiet(func(r *request, in *iamapi.DeleteGroupPolicyRequest) error {
		return deleteInline(r, groups, in.GroupName.V, in.PolicyName.V)
	})},
	{Name: "DeleteLoginProfile", On: onSelf, do: guard.Quiet(deleteLoginProfile)},
	{Name: "DeleteOpenIDConnectProvider", On: onProvider, do: guard.Quiet(deleteProvider)},
	{Name: "DeletePolicy", On: onPolicy, do: guard.Quiet(deletePolicy)},
	{Name: "DeletePolicyVersion", On: onPolicy, do: guard.Quiet(deletePolicyVersion)},
	{Name: "DeleteRole", On: onRole, do: guard.Quiet(deleteRole)},
	{Name: "DeleteRolePermissionsBoundary", On: onRole, do: guard.Quiet(func(r *request, in *iamapi.DeleteRolePermissionsBoundaryRequest) error {
		return r.editRole(in.RoleName.V, func(n *identity.Role) error { n.Boundary = ""; return nil })
	})},
	{Name: "DeleteRolePolicy", On: onRole, do: guard.Quiet(func(r *request, in *iamapi.DeleteRolePolicyRequest) error {
		return deleteInline(r, roles, in.RoleName.V, in.PolicyName.V)
	})},
	{Name: "DeleteUser", On: onUser, do: guard.Quiet(deleteUser)},
	{Name: "DeleteUserPermissionsBoundary", On: onUser, do: guard.Quiet(func(r *request, in *iamapi.DeleteUserPermissionsBoundaryRequest) error {
		return r.editUser(in.UserName.V, func(n *identity.User) error { n.Boundary = ""; return nil })
	})},
	{Name: "DeleteUserPolicy", On: onUser, do: guard.Quiet(func(r *request, in *iamapi.DeleteUserPolicyRequest) error {
		return deleteInline(r, users, in.UserName.V, in.PolicyName.V)
	})},
	{Name: "DetachGroupPolicy", On: onGroup, do: guard.Quiet(func(r *request, in *iamapi.DetachGroupPolicyRequest) error {
		return detach(r, groups, in.GroupName.V, in.PolicyARN.V)
	})},
	{Name: "DetachRolePolicy", On: onRole, do: guard.Quiet(func(r *request, in *iamapi.DetachRolePolicyRequest) error {
		return detach(r, roles, in.RoleName.V, in.PolicyARN.V)
	})},
	{Name: "DetachUserPolicy", On: onUser, do: guard.Quiet(func(r *request, in *iamapi.DetachUserPolicyRequest) error {
		return detach(r, users, in.UserName.V, in.PolicyARN.V)
	})},
	{Name: "GetAccessKeyLastUsed", On: onKeyHolder, ReadOnly: true, do: guard.Answers(getAccessKeyLastUsed)},
	{Name: "GetAccountPasswordPolicy", ReadOnly: true, do: guard.Answers(getAccountPasswordPolicy)},
	{Name: "GetAccountSummary", ReadOnly: true, do: guard.Answers(getAccountSummary)},
	{Name: "GetContextKeysForCustomPolicy", ReadOnly: true, do: guard.Answers(getContextKeysForCustomPolicy)},
	{Name: "GetContextKeysForPrincipalPolicy", On: onSource, ReadOnly: true, do: guard.Answers(getContextKeysForPrincipalPolicy)},
	{Name: "GetGroup", On: onGroup, ReadOnly: true, do: guard.Answers(getGroup)},
	{Name: "GetGroupPolicy", On: onGroup, ReadOnly: true, do: guard.Answers(getGroupPolicy)},
	{Name: "GetLoginProfile", On: onSelf, ReadOnly: true, do: guard.Answers(getLoginProfile)},
	{Name: "GetOpenIDConnectProvider", On: onProvider, ReadOnly: true, do: guard.Answers(getProvider)},
	{Name: "GetPolicy", On: onPolicy, ReadOnly: true, do: guard.Answers(getPolicy)},
	{Name: "GetPolicyVersion", On: onPolicy, ReadOnly: true, do: guard.Answers(getPolicyVersion)},
	{Name: "GetRole", On: onRole, ReadOnly: true, do: guard.Answers(getRole)},
	{Name: "GetRolePolicy", On: onRole, ReadOnly: true, do: guard.Answers(getRolePolicy)},
	{Name: "GetUser", On: onSelf, ReadOnly: true, do: guard.Answers(getUser)},
	{Name: "GetUserPolicy", On: onUser, ReadOnly: true, do: guard.Answers(getUserPolicy)},
	{Name: "ListAccessKeys", On: onSelf, ReadOnly: true, do: guard.Answers(listAccessKeys)},
	{Name: "ListAccountAliases", ReadOnly: true, do: guard.Answers(listAccountAliases)},
	{Name: "ListAttachedGroupPolicies", On: onGroup, ReadOnly: true, do: guard.Answers(listAttachedGroupPolicies)},
	{Name: "ListAttachedRolePolicies", On: onRole, ReadOnly: true, do: guard.Answers(listAttachedRolePolicies)},
	{Name: "ListAttachedUserPolicies", On: onUser, ReadOnly: true, do: guard.Answers(listAttachedUserPolicies)},
	{Name: "ListEntitiesForPolicy", On: onPolicy, ReadOnly: true, do: guard.Answers(listEntitiesForPolicy)},
	{Name: "ListGroupPolicies", On: onGroup, ReadOnly: true, do: guard.Answers(listGroupPolicies)},
	{Name: "ListGroups", On: onGroups, ReadOnly: true, do: guard.Answers(listGroups)},
	{Name: "ListGroupsForUser", On: onUser, ReadOnly: true, do: guard.Answers(listGroupsForUser)},
	{Name: "ListInstanceProfilesForRole", On: onRole, ReadOnly: true, do: guard.Answers(listInstanceProfilesForRole)},
	{Name: "ListMFADevices", On: onSelf, ReadOnly: true, do: guard.Answers(listMFADevices)},
	{Name: "ListOpenIDConnectProviderTags", On: onProvider, ReadOnly: true, do: guard.Answers(listProviderTags)},
	{Name: "ListOpenIDConnectProviders", ReadOnly: true, do: guard.Answers(listProviders)},
	{Name: "ListPolicies", On: onPolicies, ReadOnly: true, do: guard.Answers(listPolicies)},
	{Name: "ListPolicyTags", On: onPolicy, ReadOnly: true, do: guard.Answers(listPolicyTags)},
	{Name: "ListPolicyVersions", On: onPolicy, ReadOnly: true, do: guard.Answers(listPolicyVersions)},
	{Name: "ListRolePolicies", On: onRole, ReadOnly: true, do: guard.Answers(listRolePolicies)},
	{Name: "ListRoleTags", On: onRole, ReadOnly: true, do: guard.Answers(listRoleTags)},
	{Name: "ListRoles", On: onRoles, ReadOnly: true, do: guard.Answers(listRoles)},
	{Name: "ListSSHPublicKeys", On: onSelf, ReadOnly: true, do: guard.Answers(listSSHPublicKeys)},
	{Name: "ListServiceSpecificCredentials", On: onSelf, ReadOnly: true, do: guard.Answers(listServiceSpecificCredentials)},
	{Name: "ListSigningCertificates", On: onSelf, ReadOnly: true, do: guard.Answers(listSigningCertificates)},
	{Name: "ListUserPolicies", On: onUser, ReadOnly: true, do: guard.Answers(listUserPolicies)},
	{Name: "ListUserTags", On: onUser, ReadOnly: true, do: guard.Answers(listUserTags)},
	{Name: "ListUsers", On: onUsers, ReadOnly: true, do: guard.Answers(listUsers)},
	{Name: "ListVirtualMFADevices", ReadOnly: true, do: guard.Answers(listVirtualMFADevices)},
	{Name: "PutGroupPolicy", On: onGroup, do: guard.Quiet(func(r *request, in *iamapi.PutGroupPolicyRequest) error {
		return putInline(r, groups, in.GroupName.V, in.PolicyName.V, in.PolicyDocument.V)
	})},
	{Name: "PutRolePermissionsBoundary", On: onRole, do: guard.Quiet(putRoleBoundary)},
	{Name: "PutRolePolicy", On: onRole, do: guard.Quiet(func(r *request, in *iamapi.PutRolePolicyRequest) error {
		return putInline(r, roles, in.RoleName.V, in.PolicyName.V, in.PolicyDocument.V)
	})},
	{Name: "PutUserPermissionsBoundary", On: onUser, do: guard.Quiet(putUserBoundary)},
	{Name: "PutUserPolicy", On: onUser, do: guard.Quiet(func(r *request, in *iamapi.PutUserPolicyRequest) error {
		return putInline(r, users, in.UserName.V, in.PolicyName.V, in.PolicyDocument.V)
	})},
	{Name: "RemoveClientIDFromOpenIDConnectProvider", On: onProvider, do: guard.Quiet(removeClientID)},
	{Name: "RemoveUserFromGroup", On: onGroup, do: guard.Quiet(removeUserFromGroup)},
	{Name: "SetDefaultPolicyVersion", On: onPolicy, do: guard.Quiet(setDefaultPolicyVersion)},
	{Name: "SimulateCustomPolicy", ReadOnly: true, do: guard.Answers(simulateCustomPolicy)},
	{Name: "SimulatePrincipalPolicy", On: onSource, ReadOnly: true, do: guard.Answers(simulatePrincipalPolicy)},
	{Name: "TagOpenIDConnectProvider", On: onProvider, do: guard.Quiet(tagProvider)},
	{Name: "TagPolicy", On: onPolicy, do: guard.Quiet(tagPolicy)},
	{Name: "TagRole", On: onRole, do: guard.Quiet(tagRole)},
	{Name: "TagUser", On: onUser, do: guard.Quiet(tagUser)},
	{Name: "UntagOpenIDConnectProvider", On: onProvider, do: guard.Quiet(untagProvider)},
	{Name: "UntagPolicy", On: onPolicy, do: guard.Quiet(untagPolicy)},
	{Name: "UntagRole", On: onRole, do: guard.Quiet(untagRole)},
	{Name: "UntagUser", On: onUser, do: guard.Quiet(untagUser)},
	{Name: "UpdateAccessKey", On: onSelf, do: guard.Quiet(updateAccessKey)},
	{Name: "UpdateAssumeRolePolicy", On: onRole, do: guard.Quiet(updateTrust)},
	{Name: "UpdateGroup", On: onGroup, do: guard.Quiet(updateGroup)},
	{Name: "UpdateLoginProfile", On: onUser, do: guard.Quiet(updateLoginProfile)},
	{Name: "UpdateOpenIDConnectProviderThumbprint", On: onProvider, do: guard.Quiet(updateThumbprints)},
	{Name: "UpdateRole", On: onRole, do: guard.Answers(updateRole)},
	{Name: "UpdateRoleDescription", On: onRole, do: guard.Answers(updateRoleDescription)},
	{Name: "UpdateUser", On: onUser, do: guard.Quiet(updateUser)},
}

// request is one call on its way through an operation.
type request struct {
	*Directory
	ctx     context.Context //nolint:containedctx // a request lives no longer than its context
	call    *guard.Call
	op      *operation
	in      wire.Input
	account arn.Account
	part    arn.Partition // of the account
	view    *view         // the caller's account as it was when the call was authorized
	target  target
}

// target is what an operation works on, as the guard sees it.
type target struct {
	arn      string
	tags     []key.Tag
	boundary string
}

// IAM returns the operations of IAM for the pipeline.
func (d *Directory) IAM() []guard.Operation {
	all := make([]guard.Operation, 0, len(operations))
	for i := range operations {
		all = append(all, d.bind(&operations[i]))
	}
	return all
}

// bind makes a row of the table into what the pipeline calls: who may do it is asked before anything else is said.
func (d *Directory) bind(op *operation) guard.Operation {
	model, ok := iamapi.Service.Operation(op.Name)
	if !ok {
		panic("iam: no operation " + op.Name)
	}
	out := guard.Operation{
		Service: "iam", Name: op.Name, ReadOnly: op.ReadOnly, New: model.New, Show: showInput,
		Do: func(ctx context.Context, call *guard.Call, in wire.Input) (wire.Output, error) {
			if err := mayAdminister(call.Caller); err != nil {
				return nil, err
			}
			r := &request{Directory: d, ctx: ctx, call: call, op: op, in: in, account: call.Caller.Account}
			v, err := d.view(ctx, r.account)
			if err != nil {
				return nil, err
			}
			r.part = v.part()
			if err := r.authorize(v); err != nil {
				return nil, err
			}
			return op.do(r, in)
		},
	}
	if !op.ReadOnly {
		out.Reply = showOutput
	}
	return out
}

var actions sync.Map // from operation name to guard.Action

func action(name string) guard.Action {
	if a, ok := actions.Load(name); ok {
		return a.(guard.Action)
	}
	a := guard.NewAction("iam:" + name)
	actions.Store(name, a)
	return a
}

// authorize finds what the operation works on and asks the guard. ARNs of other partitions are refused before: policies know
// what there is by the names that it has in its own partition.
func (r *request) authorize(v *view) error {
	r.view = v
	for _, m := range [...]string{"PolicyARN", "PermissionsBoundary", "OpenIDConnectProviderARN", "PolicySourceARN", "CallerARN", "ResourceOwner"} {
		if given, _ := member(r.in, m); r.elsewhere(given) {
			return invalidARN(given)
		}
	}
	t, err := r.find()
	if err != nil {
		return err
	}
	r.target = t
	return r.ask(r.op.Name, t)
}

// elsewhere reports whether a text is the ARN of something in another partition than the account's.
func (r *request) elsewhere(given string) bool {
	return strings.HasPrefix(given, "arn:") && !strings.HasPrefix(given, "arn:"+string(r.part)+":")
}

// policyARN returns the ARN of the managed policy that somebody named, as the policy itself has it; what was given, if it is
// not there.
func (r *request) policyARN(given string) string {
	if p, err := findPolicy(r.view, given); err == nil {
		return p.noun.ARN(r.part)
	}
	return given
}

// ask asks the guard for a permission of IAM.
func (r *request) ask(name string, t target) error {
	_, err := r.call.Authorize(guard.Resource{
		Action: action(name), ARN: t.arn, Owner: r.account, Tags: t.tags, Facts: r.facts, Input: r.in,
	})
	return err
}

// facts are what conditions may ask about a request.
func (r *request) facts(f *guard.Facts, in wire.Input) {
	if p, ok := member(in, "PolicyARN"); ok {
		f.String("iam:PolicyARN", r.policyARN(p))
	}
	if b, ok := member(in, "PermissionsBoundary"); ok {
		f.String("iam:PermissionsBoundary", r.policyARN(b))
	} else if r.target.boundary != "" {
		f.String("iam:PermissionsBoundary", r.view.shown(r.target.boundary))
	}
	tags, keys := requestTags(in)
	for _, t := range tags {
		f.String("aws:RequestTag/"+t.Key, t.Value)
	}
	if len(keys) > 0 {
		f.Strings("aws:TagKeys", keys)
	}
}

// iamARN returns the ARN of something in the caller's account, as it is called in the account's partition.
func (r *request) iamARN(resource string) string {
	return "arn:" + string(r.part) + ":iam::" + string(r.account) + ":" + resource
}

// find returns what the operation works on. What is not there has an ARN all the same: whether it is there is told only to
// those who may know.
func (r *request) find() (target, error) {
	name := func(m string) string { s, _ := member(r.in, m); return s }
	path := name("Path")
	if path == "" {
		path = "/"
	}
	prefix := name("PathPrefix")
	if prefix == "" {
		prefix = "/"
	}
	switch r.op.On {
	case onUser:
		return r.user(name("UserName"), path), nil
	case onSelf:
		if n, ok := member(r.in, "UserName"); ok {
			return r.user(n, path), nil
		}
		return r.self()
	case onCaller:
		return target{arn: r.call.Caller.ARN, tags: r.call.Caller.Tags}, nil
	case onGroup:
		if g := r.view.groups.named(name("GroupName")); g != nil {
			return target{arn: g.noun.ARN(r.part), tags: g.noun.Tags}, nil
		}
		return target{arn: r.iamARN("group" + path + name("GroupName"))}, nil
	case onRole:
		if n := r.view.roles.named(name("RoleName")); n != nil {
			return target{n.noun.ARN(r.part), n.noun.Tags, n.noun.Boundary}, nil
		}
		return target{arn: r.iamARN("role" + path + name("RoleName"))}, nil
	case onPolicy:
		t := target{arn: r.policyARN(name("PolicyARN"))}
		if p, err := findPolicy(r.view, t.arn); err == nil {
			t.tags = p.noun.Tags
		}
		return t, nil
	case onSource:
		return target{arn: name("PolicySourceARN")}, nil
	case onKeyHolder:
		return r.keyHolder(name("AccessKeyID"))
	case onNewPolicy:
		return target{arn: r.iamARN("policy" + path + name("PolicyName"))}, nil
	case onProvider:
		return r.provider(name("OpenIDConnectProviderARN"), name("URL")), nil
	case onUsers:
		return target{arn: r.iamARN("user" + prefix)}, nil
	case onGroups:
		return target{arn: r.iamARN("group" + prefix)}, nil
	case onRoles:
		return target{arn: r.iamARN("role" + prefix)}, nil
	case onPolicies:
		return target{arn: r.iamARN("policy" + prefix)}, nil
	}
	return target{arn: "*"}, nil
}

func (r *request) user(name, path string) target {
	if u := r.view.users.named(name); u != nil {
		return target{u.noun.ARN(r.part), u.noun.Tags, u.noun.Boundary}
	}
	return target{arn: r.iamARN("user" + path + name)}
}

// keyHolder returns the user of an access key; all users, if it is none of the account.
func (r *request) keyHolder(id string) (target, error) {
	k, err := r.store.GetAccessKey(r.ctx, id)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return target{}, err
	}
	if err == nil && k.Account == r.account {
		if u := r.view.users.ids[k.Principal]; u != nil {
			return r.user(u.noun.Name, "/"), nil
		}
	}
	return target{arn: r.iamARN("user/*")}, nil
}

func (r *request) provider(given, url string) target {
	if given == "" {
		return target{arn: r.iamARN("oidc-provider/" + providerName(url))}
	}
	if p := findProvider(r.view, given); p != nil {
		return target{arn: p.noun.ARN(r.part), tags: p.noun.Tags}
	}
	return target{arn: given}
}

// errNotUser answers those who leave the user's name out and are no user.
var errNotUser = wire.Errorf(wire.CodeValidation, "Must specify userName when calling with non-User credentials")

// self returns the caller, who must be a user or a root user.
func (r *request) self() (target, error) {
	switch who := r.call.Caller; who.Type {
	case policy.User:
		return r.user(who.Name, "/"), nil
	case policy.AccountRoot:
		return target{arn: r.account.Root(r.part)}, nil
	}
	return target{}, errNotUser
}

// selfName returns the name of the user that a request without one means; empty for the root user.
func (r *request) selfName(given wire.Opt[string]) string { return given.Or(r.call.Caller.Name) }

// change changes the caller's account. If the account or the caller is not any more what it was when the guard was asked, it is
// asked again: rights may have gone, and what is changed must not be another's who came into the same name.
func (r *request) change(f func(*change) error) error {
	return r.Directory.change(r.ctx, r.call, r.account, func(c *change) error {
		who, err := r.renew(r.ctx, r.call.Caller, c.base)
		if err != nil {
			return err
		}
		if who != r.call.Caller || c.base != r.view {
			r.call.Caller = who
			if err := r.authorize(c.base); err != nil {
				return err
			}
		}
		err = f(c)
		r.view = c.view
		return err
	})
}
