package iam_test

import (
	"bytes"
	"context"
	"errors"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/iam"
	"github.com/keywright/keywright/internal/sigv4"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/iamapi"
)

// client is somebody who calls IAM.
type client struct {
	w      *world
	who    *guard.Caller
	region arn.Region
}

// client returns a client with a credential.
func (w *world) client(c sigv4.Credential) *client {
	w.t.Helper()
	who, err := w.as(c, "us-east-1")
	w.must(err)
	return &client{w, who, "us-east-1"}
}

// call runs an operation with everything that the pipeline and the guard do around it.
func (c *client) call(name string, in wire.Input) (wire.Output, error) {
	c.w.t.Helper()
	for _, op := range c.w.directory.IAM() {
		if op.Name != name {
			continue
		}
		if err := wire.Validate(in); err != nil {
			return nil, err
		}
		g := guard.New(guard.Config{Recorder: c.w.records, Directory: c.w.directory, Now: c.w.clock})
		out, failure := g.Answer(guard.Meta{RequestID: "r", Time: c.w.now}, func(call *guard.Call) (wire.Output, error) {
			call.Service, call.Name, call.Operation, call.Input = "iam", name, &op, in
			call.Identify(c.who, c.region)
			return op.Do(context.Background(), call, in)
		})
		if failure != nil {
			return nil, failure
		}
		return out, nil
	}
	c.w.t.Fatalf("no operation %s", name)
	return nil, nil
}

// do runs an operation that must succeed. The operation is the one whose input it is.
func (c *client) do(in wire.Input) wire.Output {
	c.w.t.Helper()
	out, err := c.call(opOf(in), in)
	if err != nil {
		c.w.t.Fatalf("%s: %v", opOf(in), err)
	}
	return out
}

// refuses runs an operation that must fail with that error.
func (c *client) refuses(want string, in wire.Input) {
	c.w.t.Helper()
	_, err := c.call(opOf(in), in)
	var e *wire.Error
	if !errors.As(err, &e) || !strings.HasPrefix(e.Error(), want) {
		c.w.t.Errorf("%s: got %v, want %s", opOf(in), err, want)
	}
}

func opOf(in wire.Input) string { return strings.TrimSuffix(in.ShapeName(), "Request") }

func str(s string) wire.Opt[string] { return wire.Some(s) }

const allowAll = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"*"}]}`

// trust returns a trust policy for a principal.
func trust(principal string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + principal + `"},"Action":"sts:AssumeRole"}]}`
}

func TestEveryOperationIsBuilt(t *testing.T) {
	w := newWorld(t)
	built := map[string]bool{}
	for _, op := range w.directory.IAM() {
		built[op.Name] = true
	}
	for _, op := range iamapi.Service.Operations {
		if !built[op.Name] {
			t.Errorf("%s is not built", op.Name)
		}
	}
	for name, members := range iam.Subjects() {
		op, ok := iamapi.Service.Operation(name)
		if !ok {
			t.Errorf("%s is no operation", name)
			continue
		}
		in := reflect.TypeOf(op.New()).Elem()
		has := len(members) == 0
		for _, m := range members {
			f, ok := in.FieldByName(m)
			has = has || ok && f.Type == reflect.TypeOf(wire.Opt[string]{})
		}
		if !has {
			t.Errorf("the input of %s has none of %v", name, members)
		}
	}
}

func TestUsers(t *testing.T) {
	w := newWorld(t)
	c := w.client(w.root(alice))
	out := c.do(&iamapi.CreateUserRequest{
		UserName: str("Bobby"), Path: str("/team/"), Tags: []iamapi.Tag{{Key: str("team"), Value: str("red")}},
		PermissionsBoundary: str("arn:aws:iam::aws:policy/IAMFullAccess"),
	}).(*iamapi.CreateUserResponse).User
	if out.ARN.V != "arn:aws:iam::111122223333:user/team/Bobby" || !strings.HasPrefix(out.UserID.V, "AIDA") || len(out.Tags) != 1 ||
		out.PermissionsBoundary.PermissionsBoundaryARN.V != "arn:aws:iam::aws:policy/IAMFullAccess" || !out.CreateDate.V.Equal(w.now) {
		t.Errorf("%+v", *out)
	}
	if got := c.do(&iamapi.GetUserRequest{UserName: str("bobby")}).(*iamapi.GetUserResponse).User; !reflect.DeepEqual(got, out) {
		t.Errorf("got %+v, want %+v", got, out)
	}
	c.refuses("EntityAlreadyExistsException: User with name BOBBY already exists.", &iamapi.CreateUserRequest{UserName: str("BOBBY")})
	c.refuses("NoSuchEntityException: The user with name nobody cannot be found.", &iamapi.GetUserRequest{UserName: str("nobody")})
	c.refuses("NoSuchEntityException: The user with name nobody cannot be found.", &iamapi.DeleteUserRequest{UserName: str("nobody")})
	c.refuses("InvalidInputException: Duplicate tag keys found.", &iamapi.CreateUserRequest{
		UserName: str("x"), Tags: []iamapi.Tag{{Key: str("a"), Value: str("")}, {Key: str("A"), Value: str("")}},
	})
	c.refuses("NoSuchEntityException: Policy arn:aws:iam::111122223333:policy/none does not exist or is not attachable.", &iamapi.CreateUserRequest{
		UserName: str("x"), PermissionsBoundary: str("arn:aws:iam::111122223333:policy/none"),
	})
	for _, want := range []string{
		`"eventSource":"iam.amazonaws.com","eventName":"CreateUser"`,
		`"requestParameters":{"path":"/team/","userName":"Bobby","permissionsBoundary":"arn:aws:iam::aws:policy/IAMFullAccess","tags":[{"key":"team","value":"red"}]}`,
		`"responseElements":{"user":{"path":"/team/","userName":"Bobby","userId":"` + out.UserID.V + `","arn":"` + out.ARN.V + `","createDate":"Jan 1, 2026, 12:00:00 PM",`,
	} {
		if text := w.everyRecord(); !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	// A new name, and the old one is free; a restart finds the same.
	c.do(&iamapi.UpdateUserRequest{UserName: str("Bobby"), NewUserName: str("Robert"), NewPath: str("/")})
	w.directory = w.newDirectory(0)
	got := c.do(&iamapi.GetUserRequest{UserName: str("Robert")}).(*iamapi.GetUserResponse).User
	if got.ARN.V != "arn:aws:iam::111122223333:user/Robert" || got.UserID != out.UserID || len(got.Tags) != 1 {
		t.Errorf("%+v", *got)
	}
	c.do(&iamapi.CreateUserRequest{UserName: str("Bobby")})
	c.refuses("EntityAlreadyExistsException", &iamapi.UpdateUserRequest{UserName: str("Bobby"), NewUserName: str("ROBERT")})
	if id, _, err := w.directory.Lookup(context.Background(), "arn:aws:iam::111122223333:user/Robert"); id != out.UserID.V || err != nil {
		t.Errorf("%s, %v", id, err)
	}
	// What is deleted has no ARN, and its namesake has another id.
	c.do(&iamapi.DeleteUserRequest{UserName: str("Robert")})
	if _, ok, err := w.directory.ARNOf(context.Background(), out.UserID.V); ok || err != nil {
		t.Errorf("a deleted user has an ARN, %v", err)
	}
	again := c.do(&iamapi.CreateUserRequest{UserName: str("Robert")}).(*iamapi.CreateUserResponse).User
	if again.UserID == out.UserID {
		t.Error("an id was given twice")
	}
	root := c.do(&iamapi.GetUserRequest{}).(*iamapi.GetUserResponse).User
	if root.ARN.V != "arn:aws:iam::111122223333:root" || root.UserID.V != "111122223333" {
		t.Errorf("%+v", *root)
	}
}

func TestPages(t *testing.T) {
	w := newWorld(t)
	c := w.client(w.root(alice))
	for _, n := range []string{"e", "B", "a", "D", "c"} {
		path := "/"
		if n != "a" {
			path = "/x/"
		}
		c.do(&iamapi.CreateUserRequest{UserName: str(n), Path: str(path)})
	}
	in := &iamapi.ListUsersRequest{MaxItems: wire.Some[int32](2), PathPrefix: str("/x/")}
	var names []string
	for {
		out := c.do(in).(*iamapi.ListUsersResponse)
		for _, u := range out.Users {
			names = append(names, u.UserName.V)
		}
		if out.IsTruncated.V != out.Marker.Set {
			t.Error("truncated without a marker, or the other way round")
		}
		if in.Marker = out.Marker; !out.Marker.Set {
			break
		}
	}
	if got := strings.Join(names, ""); got != "BcDe" {
		t.Errorf("names %s", got)
	}
	c.refuses("ValidationException: Invalid Marker", &iamapi.ListUsersRequest{Marker: str("x")})
	marker := c.do(&iamapi.ListUsersRequest{MaxItems: wire.Some[int32](1)}).(*iamapi.ListUsersResponse).Marker
	c.refuses("ValidationException: Invalid Marker", &iamapi.ListGroupsRequest{Marker: marker})
}

func TestAccessKeys(t *testing.T) {
	w := newWorld(t)
	root := w.client(w.root(alice))
	root.do(&iamapi.CreateUserRequest{UserName: str("bobby")})
	root.do(&iamapi.AttachUserPolicyRequest{UserName: str("bobby"), PolicyARN: str("arn:aws:iam::aws:policy/IAMFullAccess")})
	k := root.do(&iamapi.CreateAccessKeyRequest{UserName: str("Bobby")}).(*iamapi.CreateAccessKeyResponse).AccessKey
	credential := sigv4.Credential{AccessKeyID: k.AccessKeyID.V, Secret: k.SecretAccessKey}
	never := root.do(&iamapi.GetAccessKeyLastUsedRequest{AccessKeyID: k.AccessKeyID}).(*iamapi.GetAccessKeyLastUsedResponse)
	if never.UserName.V != "bobby" || never.AccessKeyLastUsed.LastUsedDate.Set || never.AccessKeyLastUsed.Region.V != "N/A" {
		t.Errorf("%+v", *never.AccessKeyLastUsed)
	}
	bobby := w.client(credential)
	if me := bobby.do(&iamapi.GetUserRequest{}).(*iamapi.GetUserResponse).User; me.UserName.V != "bobby" {
		t.Errorf("%+v", *me)
	}
	for range 2 { // before and after it is written down
		used := root.do(&iamapi.GetAccessKeyLastUsedRequest{AccessKeyID: k.AccessKeyID}).(*iamapi.GetAccessKeyLastUsedResponse).AccessKeyLastUsed
		if !used.LastUsedDate.V.Equal(w.now) || used.Region.V != "us-east-1" || used.ServiceName.V != "kms" {
			t.Errorf("%+v", *used)
		}
		w.must(w.directory.FlushUses(context.Background()))
	}
	second := bobby.do(&iamapi.CreateAccessKeyRequest{}).(*iamapi.CreateAccessKeyResponse).AccessKey
	root.refuses("LimitExceededException: Cannot exceed quota for AccessKeysPerUser: 2", &iamapi.CreateAccessKeyRequest{UserName: str("bobby")})
	if l := bobby.do(&iamapi.ListAccessKeysRequest{}).(*iamapi.ListAccessKeysResponse).AccessKeyMetadata; len(l) != 2 || l[0].UserName.V != "bobby" {
		t.Errorf("%+v", l)
	}
	root.do(&iamapi.DetachUserPolicyRequest{UserName: str("bobby"), PolicyARN: str("arn:aws:iam::aws:policy/IAMFullAccess")})
	root.refuses("DeleteConflictException: Cannot delete entity, must delete access keys first.", &iamapi.DeleteUserRequest{UserName: str("bobby")})
	// Switched off and on, each time for the very next request.
	root.do(&iamapi.UpdateAccessKeyRequest{UserName: str("bobby"), AccessKeyID: k.AccessKeyID, Status: str("Inactive")})
	w.refused(sigv4.ErrUnknownCredential(), credential)
	root.do(&iamapi.UpdateAccessKeyRequest{UserName: str("bobby"), AccessKeyID: k.AccessKeyID, Status: str("Active")})
	w.client(credential)
	root.refuses("NoSuchEntityException: The Access Key with id "+k.AccessKeyID.V+" cannot be found.", &iamapi.DeleteAccessKeyRequest{AccessKeyID: k.AccessKeyID})
	root.do(&iamapi.DeleteAccessKeyRequest{UserName: str("bobby"), AccessKeyID: k.AccessKeyID})
	w.refused(sigv4.ErrUnknownCredential(), credential)
	root.do(&iamapi.DeleteAccessKeyRequest{UserName: str("bobby"), AccessKeyID: second.AccessKeyID})
	root.do(&iamapi.DeleteUserRequest{UserName: str("bobby")})
	// The root user's own.
	own := root.do(&iamapi.CreateAccessKeyRequest{}).(*iamapi.CreateAccessKeyResponse).AccessKey
	if who := w.client(sigv4.Credential{AccessKeyID: own.AccessKeyID.V, Secret: own.SecretAccessKey}).who; own.UserName.Set || who.ARN != "arn:aws:iam::111122223333:root" {
		t.Errorf("%+v is %+v", *own, *who)
	}
	root.refuses("LimitExceededException", &iamapi.CreateAccessKeyRequest{})
	other := w.client(w.root(bob))
	other.refuses("NoSuchEntityException", &iamapi.GetAccessKeyLastUsedRequest{AccessKeyID: own.AccessKeyID})
	other.refuses("NoSuchEntityException", &iamapi.DeleteAccessKeyRequest{AccessKeyID: own.AccessKeyID})
	if text := w.everyRecord(); strings.Contains(text, string(own.SecretAccessKey.Expose())) || !strings.Contains(text, own.AccessKeyID.V) {
		t.Error("the records show a secret, or not the id of what was made")
	}
}

// Policies of a user and of its groups reach the very next request.
func TestPoliciesReachCallers(t *testing.T) {
	w := newWorld(t)
	root := w.client(w.root(alice))
	root.do(&iamapi.CreateUserRequest{UserName: str("bobby")})
	k := root.do(&iamapi.CreateAccessKeyRequest{UserName: str("bobby")}).(*iamapi.CreateAccessKeyResponse).AccessKey
	credential := sigv4.Credential{AccessKeyID: k.AccessKeyID.V, Secret: k.SecretAccessKey}
	names := func(want string) {
		t.Helper()
		var got []string
		rights := w.client(credential).who.Rights
		for _, p := range rights.Identity {
			got = append(got, p.Name+"@"+p.Holder[strings.LastIndexByte(p.Holder, ':')+1:])
		}
		if rights.Boundary != nil {
			got = append(got, "^"+rights.Boundary.Name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("policies %q, want %q", got, want)
		}
	}
	names("")
	p := root.do(&iamapi.CreatePolicyRequest{PolicyName: str("use"), PolicyDocument: str(allowAll)}).(*iamapi.CreatePolicyResponse).Policy
	root.do(&iamapi.CreateGroupRequest{GroupName: str("devs")})
	root.do(&iamapi.PutUserPolicyRequest{UserName: str("bobby"), PolicyName: str("in"), PolicyDocument: str(allowAll)})
	names("in@user/bobby")
	root.do(&iamapi.AttachUserPolicyRequest{UserName: str("bobby"), PolicyARN: p.ARN})
	names("in@user/bobby use@user/bobby")
	root.do(&iamapi.AddUserToGroupRequest{UserName: str("bobby"), GroupName: str("devs")})
	root.do(&iamapi.AttachGroupPolicyRequest{GroupName: str("devs"), PolicyARN: str("arn:aws:iam::aws:policy/ReadOnlyAccess")})
	root.do(&iamapi.PutGroupPolicyRequest{GroupName: str("devs"), PolicyName: str("g"), PolicyDocument: str(allowAll)})
	names("in@user/bobby use@user/bobby g@group/devs ReadOnlyAccess@group/devs")
	root.do(&iamapi.PutUserPermissionsBoundaryRequest{UserName: str("bobby"), PermissionsBoundary: p.ARN})
	root.do(&iamapi.DetachUserPolicyRequest{UserName: str("bobby"), PolicyARN: p.ARN})
	root.do(&iamapi.DeleteUserPolicyRequest{UserName: str("bobby"), PolicyName: str("in")})
	names("g@group/devs ReadOnlyAccess@group/devs ^use")
	entities := root.do(&iamapi.ListEntitiesForPolicyRequest{PolicyARN: p.ARN}).(*iamapi.ListEntitiesForPolicyResponse)
	if len(entities.PolicyUsers) != 1 || len(entities.PolicyGroups) != 0 {
		t.Errorf("%+v", *entities)
	}
	root.refuses("DeleteConflictException: Cannot delete a policy attached to entities.", &iamapi.DeletePolicyRequest{PolicyARN: p.ARN})
	root.refuses("DeleteConflictException: Cannot delete entity, must remove users from group first.", &iamapi.DeleteGroupRequest{GroupName: str("devs")})
	root.refuses("DeleteConflictException: Cannot delete entity, must remove users from group first.", &iamapi.DeleteUserRequest{UserName: str("bobby")})
	root.do(&iamapi.RemoveUserFromGroupRequest{UserName: str("bobby"), GroupName: str("devs")})
	root.refuses("NoSuchEntityException: User bobby not in group devs", &iamapi.RemoveUserFromGroupRequest{UserName: str("bobby"), GroupName: str("devs")})
	root.refuses("DeleteConflictException: Cannot delete entity, must detach all policies first.", &iamapi.DeleteGroupRequest{GroupName: str("devs")})
	root.do(&iamapi.DetachGroupPolicyRequest{GroupName: str("devs"), PolicyARN: str("arn:aws:iam::aws:policy/ReadOnlyAccess")})
	root.refuses("DeleteConflictException: Cannot delete entity, must delete policies first.", &iamapi.DeleteGroupRequest{GroupName: str("devs")})
	root.do(&iamapi.DeleteGroupPolicyRequest{GroupName: str("devs"), PolicyName: str("g")})
	root.do(&iamapi.DeleteGroupRequest{GroupName: str("devs")})
	root.do(&iamapi.DeleteUserPermissionsBoundaryRequest{UserName: str("bobby")})
	root.do(&iamapi.DeletePolicyRequest{PolicyARN: p.ARN})
	names("")
}

func TestManagedPolicies(t *testing.T) {
	w := newWorld(t)
	c := w.client(w.root(alice))
	p := c.do(&iamapi.CreatePolicyRequest{PolicyName: str("use"), Path: str("/x/"), PolicyDocument: str(allowAll), Description: str("d")}).(*iamapi.CreatePolicyResponse).Policy
	if p.ARN.V != "arn:aws:iam::111122223333:policy/x/use" || p.DefaultVersionID.V != "v1" || !strings.HasPrefix(p.PolicyID.V, "ANPA") {
		t.Errorf("%+v", *p)
	}
	for range 4 {
		c.do(&iamapi.CreatePolicyVersionRequest{PolicyARN: p.ARN, PolicyDocument: str(allowAll), SetAsDefault: wire.Some(true)})
	}
	c.refuses("LimitExceededException: A managed policy can have up to 5 versions.", &iamapi.CreatePolicyVersionRequest{PolicyARN: p.ARN, PolicyDocument: str(allowAll)})
	c.refuses("DeleteConflictException: This policy has more than one version.", &iamapi.DeletePolicyRequest{PolicyARN: p.ARN})
	c.refuses("DeleteConflictException: Cannot delete the default version of a policy.", &iamapi.DeletePolicyVersionRequest{PolicyARN: p.ARN, VersionID: str("v5")})
	c.do(&iamapi.SetDefaultPolicyVersionRequest{PolicyARN: p.ARN, VersionID: str("v2")})
	c.do(&iamapi.DeletePolicyVersionRequest{PolicyARN: p.ARN, VersionID: str("v5")})
	v := c.do(&iamapi.CreatePolicyVersionRequest{PolicyARN: p.ARN, PolicyDocument: str(allowAll)}).(*iamapi.CreatePolicyVersionResponse).PolicyVersion
	if v.VersionID.V != "v6" || v.IsDefaultVersion.V {
		t.Errorf("%+v", *v)
	}
	versions := c.do(&iamapi.ListPolicyVersionsRequest{PolicyARN: p.ARN}).(*iamapi.ListPolicyVersionsResponse).Versions
	if len(versions) != 5 || versions[0].VersionID.V != "v6" || versions[4].VersionID.V != "v1" {
		t.Errorf("%+v", versions)
	}
	got := c.do(&iamapi.GetPolicyVersionRequest{PolicyARN: p.ARN, VersionID: str("v2")}).(*iamapi.GetPolicyVersionResponse).PolicyVersion
	if text, err := url.PathUnescape(got.Document.V); err != nil || text != allowAll || strings.ContainsAny(got.Document.V, "{ :+") {
		t.Errorf("document %s", got.Document.V)
	}
	c.refuses("NoSuchEntityException: Policy "+p.ARN.V+" version v5 does not exist", &iamapi.GetPolicyVersionRequest{PolicyARN: p.ARN, VersionID: str("v5")})
	c.refuses("NoSuchEntityException: Policy arn:aws:iam::111122223333:policy/use was not found.", &iamapi.GetPolicyRequest{PolicyARN: str("arn:aws:iam::111122223333:policy/use")})
	c.refuses("InvalidInputException: ARN arn:aws:iam::111122223333:user/x is not valid.", &iamapi.GetPolicyRequest{PolicyARN: str("arn:aws:iam::111122223333:user/x")})
	c.refuses("EntityAlreadyExistsException: A policy called USE already exists.", &iamapi.CreatePolicyRequest{PolicyName: str("USE"), PolicyDocument: str(allowAll)})
	c.refuses("LimitExceededException: Cannot exceed quota for PolicySize: 6144", &iamapi.CreatePolicyRequest{
		PolicyName: str("large"), PolicyDocument: str(strings.Replace(allowAll, "kms:*", "kms:"+strings.Repeat("a", 6144), 1)),
	})
	c.refuses("AccessDeniedException: Policy arn:aws:iam::aws:policy/IAMFullAccess is managed by AWS", &iamapi.DeletePolicyRequest{PolicyARN: str("arn:aws:iam::aws:policy/IAMFullAccess")})
	if l := c.do(&iamapi.ListPoliciesRequest{Scope: str("Local")}).(*iamapi.ListPoliciesResponse).Policies; len(l) != 1 {
		t.Errorf("%+v", l)
	}
	if l := c.do(&iamapi.ListPoliciesRequest{Scope: str("AWS"), PathPrefix: str("/")}).(*iamapi.ListPoliciesResponse).Policies; len(l) < 4 {
		t.Errorf("%+v", l)
	}
	c.do(&iamapi.CreateUserRequest{UserName: str("bobby")})
	for i := range 11 {
		name := "p" + strings.Repeat("x", i)
		policyARN := c.do(&iamapi.CreatePolicyRequest{PolicyName: str(name), PolicyDocument: str(allowAll)}).(*iamapi.CreatePolicyResponse).Policy.ARN
		if i == 10 {
			c.refuses("LimitExceededException: Cannot exceed quota for PoliciesPerUser: 10", &iamapi.AttachUserPolicyRequest{UserName: str("bobby"), PolicyARN: policyARN})
			break
		}
		c.do(&iamapi.AttachUserPolicyRequest{UserName: str("bobby"), PolicyARN: policyARN})
		c.do(&iamapi.AttachUserPolicyRequest{UserName: str("bobby"), PolicyARN: policyARN}) // again: nothing happens
	}
	if l := c.do(&iamapi.ListAttachedUserPoliciesRequest{UserName: str("bobby")}).(*iamapi.ListAttachedUserPoliciesResponse).AttachedPolicies; len(l) != 10 || l[0].PolicyName.V != "p" {
		t.Errorf("%+v", l)
	}
}

func TestRoles(t *testing.T) {
	w := newWorld(t)
	c := w.client(w.root(alice))
	user := c.do(&iamapi.CreateUserRequest{UserName: str("bobby")}).(*iamapi.CreateUserResponse).User
	n := c.do(&iamapi.CreateRoleRequest{RoleName: str("ci"), AssumeRolePolicyDocument: str(trust(user.ARN.V)), MaxSessionDuration: wire.Some[int32](7200)}).(*iamapi.CreateRoleResponse).Role
	if n.ARN.V != "arn:aws:iam::111122223333:role/ci" || !strings.HasPrefix(n.RoleID.V, "AROA") || n.MaxSessionDuration.V != 7200 {
		t.Errorf("%+v", *n)
	}
	document := func() string {
		text, err := url.PathUnescape(c.do(&iamapi.GetRoleRequest{RoleName: str("ci")}).(*iamapi.GetRoleResponse).Role.AssumeRolePolicyDocument.V)
		w.must(err)
		return text
	}
	if got := document(); got != trust(user.ARN.V) {
		t.Error(got)
	}
	c.do(&iamapi.UpdateUserRequest{UserName: str("bobby"), NewUserName: str("rob")})
	if got := document(); got != trust("arn:aws:iam::111122223333:user/rob") {
		t.Error(got)
	}
	c.do(&iamapi.DeleteUserRequest{UserName: str("rob")})
	c.do(&iamapi.CreateUserRequest{UserName: str("bobby")}) // a namesake is somebody else
	if got := document(); got != trust(user.UserID.V) {
		t.Error(got)
	}
	for document, want := range map[string]string{
		trust("arn:aws:iam::111122223333:user/nobody"): `MalformedPolicyDocumentException: Invalid principal in policy: "AWS":"arn:aws:iam::111122223333:user/nobody"`,
		trust("444455556666"):                          `MalformedPolicyDocumentException: Invalid principal in policy: "AWS":"444455556666"`,
		trust("nonsense"):                              `MalformedPolicyDocumentException: Invalid principal in policy: "AWS":"nonsense"`,
		trust(user.UserID.V):                           `MalformedPolicyDocumentException: Invalid principal in policy: "AWS":"` + user.UserID.V + `"`,
		allowAll:                                       "MalformedPolicyDocumentException: ",
		"{":                                            "MalformedPolicyDocumentException: This policy contains invalid Json",
		trust("*") + strings.Repeat(" ", 10):           "",
	} {
		if want == "" {
			c.do(&iamapi.UpdateAssumeRolePolicyRequest{RoleName: str("ci"), PolicyDocument: str(document)})
			continue
		}
		c.refuses(want, &iamapi.UpdateAssumeRolePolicyRequest{RoleName: str("ci"), PolicyDocument: str(document)})
	}
	c.do(&iamapi.PutRolePolicyRequest{RoleName: str("ci"), PolicyName: str("p"), PolicyDocument: str(allowAll)})
	if got := c.do(&iamapi.GetRolePolicyRequest{RoleName: str("ci"), PolicyName: str("p")}).(*iamapi.GetRolePolicyResponse); got.RoleName.V != "ci" {
		t.Errorf("%+v", *got)
	}
	c.refuses("NoSuchEntityException: The role policy with name q cannot be found.", &iamapi.GetRolePolicyRequest{RoleName: str("ci"), PolicyName: str("q")})
	c.refuses("DeleteConflictException: Cannot delete entity, must delete policies first.", &iamapi.DeleteRoleRequest{RoleName: str("ci")})
	c.do(&iamapi.DeleteRolePolicyRequest{RoleName: str("ci"), PolicyName: str("p")})
	c.do(&iamapi.UpdateRoleRequest{RoleName: str("ci"), Description: str("new")})
	if l := c.do(&iamapi.ListRolesRequest{}).(*iamapi.ListRolesResponse).Roles; len(l) != 1 || l[0].Description.V != "new" {
		t.Errorf("%+v", l)
	}
	if l := c.do(&iamapi.ListInstanceProfilesForRoleRequest{RoleName: str("ci")}).(*iamapi.ListInstanceProfilesForRoleResponse).InstanceProfiles; len(l) != 0 {
		t.Errorf("%+v", l)
	}
	c.do(&iamapi.DeleteRoleRequest{RoleName: str("ci")})
	c.refuses("NoSuchEntityException: The role with name ci cannot be found.", &iamapi.GetRoleRequest{RoleName: str("ci")})
}

func TestMalformedDocuments(t *testing.T) {
	w := newWorld(t)
	c := w.client(w.root(alice))
	c.do(&iamapi.CreateUserRequest{UserName: str("bobby")})
	statement := func(s string) string { return `{"Version":"2012-10-17","Statement":[` + s + `]}` }
	for document, want := range map[string]string{
		"x": "Syntax errors in policy.",
		statement(`{"Effect":"Allow","Action":"kms:*"}`):                                "Policy statement must contain resources.",
		statement(`{"Effect":"Allow","Resource":"*"}`):                                  "Policy statement must contain actions.",
		statement(`{"Effect":"Allow","Action":"x","Resource":"*"}`):                     "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.",
		statement(`{"Effect":"Allow","Action":"kms:*","Resource":"x"}`):                 `Resource x must be in ARN format or "*".`,
		statement(`{"Effect":"Allow","Action":"kms:*","Resource":"*","Principal":"*"}`): "Policy document should not specify a principal.",
		statement(`{"Sid":"a b","Effect":"Allow","Action":"kms:*","Resource":"*"}`):     "Statement IDs must be alpha-numeric.",
	} {
		c.refuses("MalformedPolicyDocumentException: "+want, &iamapi.PutUserPolicyRequest{UserName: str("bobby"), PolicyName: str("p"), PolicyDocument: str(document)})
	}
	large := strings.Replace(allowAll, "kms:*", "kms:"+strings.Repeat("a", 1500), 1)
	c.do(&iamapi.PutUserPolicyRequest{UserName: str("bobby"), PolicyName: str("p"), PolicyDocument: str(large)})
	c.do(&iamapi.PutUserPolicyRequest{UserName: str("bobby"), PolicyName: str("p"), PolicyDocument: str(large)})
	c.refuses("LimitExceededException: Maximum policy size of 2048 bytes exceeded for user bobby", &iamapi.PutUserPolicyRequest{UserName: str("bobby"), PolicyName: str("q"), PolicyDocument: str(large)})
}

// everyRecord returns all audit records.
func (w *world) everyRecord() string { return string(bytes.Join(w.records.Records(), []byte("\n"))) }
