package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/custody"
	"github.com/keywright/keywright/internal/custody/soft"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/iam"
	"github.com/keywright/keywright/internal/kms"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/iamapi"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

const owner arn.Account = "111122223333"

const (
	nobody  = "arn:aws:iam::111122223333:user/nobody"
	allowed = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:Encrypt","Resource":"*"}]}`
	trusted = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"sts:AssumeRole"}]}`
	idp     = "https://idp.example.com"
)

// free are the operations that ask for no permission, and why.
var free = map[string]string{
	"sts:GetCallerIdentity":         "everybody may know who he is",
	"sts:GetSessionToken":           "it gives nobody more than he has",
	"sts:AssumeRoleWithWebIdentity": "it is unsigned: its token speaks for itself, and the trust policy decides",
}

// renamed are the permissions that are not called as their operation is. Where there are more than one, the first is asked for first.
var renamed = map[string][]string{"kms:ReEncrypt": {"kms:ReEncryptFrom", "kms:ReEncryptTo"}, "kms:ReplicateKey": {"kms:ReplicateKey", "kms:CreateKey"}}

// resources says for each operation what its permission is needed on, in words of household.resource.
var resources = map[string]string{
	"user": `iam:AttachUserPolicy iam:CreateAccessKey iam:CreateLoginProfile iam:CreateUser iam:DeleteAccessKey iam:DeleteLoginProfile iam:DeleteUser
		iam:DeleteUserPermissionsBoundary iam:DeleteUserPolicy iam:DetachUserPolicy iam:GetAccessKeyLastUsed iam:GetLoginProfile iam:GetUser
		iam:GetUserPolicy iam:ListAccessKeys iam:ListAttachedUserPolicies iam:ListGroupsForUser iam:ListUserPolicies iam:ListUserTags
		iam:PutUserPermissionsBoundary iam:PutUserPolicy iam:TagUser iam:UntagUser iam:UpdateAccessKey iam:UpdateLoginProfile iam:UpdateUser
		iam:GetContextKeysForPrincipalPolicy iam:SimulatePrincipalPolicy iam:ListMFADevices iam:ListSSHPublicKeys
		iam:ListServiceSpecificCredentials iam:ListSigningCertificates`,
	"caller": `iam:ChangePassword`,
	"group": `iam:AddUserToGroup iam:AttachGroupPolicy iam:CreateGroup iam:DeleteGroup iam:DeleteGroupPolicy iam:DetachGroupPolicy iam:GetGroup
		iam:GetGroupPolicy iam:ListAttachedGroupPolicies iam:ListGroupPolicies iam:PutGroupPolicy iam:RemoveUserFromGroup iam:UpdateGroup`,
	"role": `iam:AttachRolePolicy iam:CreateRole iam:DeleteRole iam:DeleteRolePermissionsBoundary iam:DeleteRolePolicy iam:DetachRolePolicy iam:GetRole
		iam:GetRolePolicy iam:ListAttachedRolePolicies iam:ListInstanceProfilesForRole iam:ListRolePolicies iam:ListRoleTags
		iam:PutRolePermissionsBoundary iam:PutRolePolicy iam:TagRole iam:UntagRole iam:UpdateAssumeRolePolicy iam:UpdateRole
		iam:UpdateRoleDescription sts:AssumeRole`,
	"policy": `iam:CreatePolicy iam:CreatePolicyVersion iam:DeletePolicy iam:DeletePolicyVersion iam:GetPolicy iam:GetPolicyVersion
		iam:ListEntitiesForPolicy iam:ListPolicyTags iam:ListPolicyVersions iam:SetDefaultPolicyVersion iam:TagPolicy iam:UntagPolicy`,
	"provider": `iam:AddClientIDToOpenIDConnectProvider iam:CreateOpenIDConnectProvider iam:DeleteOpenIDConnectProvider iam:GetOpenIDConnectProvider
		iam:ListOpenIDConnectProviderTags iam:RemoveClientIDFromOpenIDConnectProvider iam:TagOpenIDConnectProvider
		iam:UntagOpenIDConnectProvider iam:UpdateOpenIDConnectProviderThumbprint`,
	"users": `iam:ListUsers`, "groups": `iam:ListGroups`, "roles": `iam:ListRoles`, "policies": `iam:ListPolicies`,
	"*": `iam:CreateAccountAlias iam:DeleteAccountAlias iam:GetAccountPasswordPolicy iam:GetAccountSummary iam:ListVirtualMFADevices iam:GetContextKeysForCustomPolicy iam:ListAccountAliases
		iam:ListOpenIDConnectProviders iam:SimulateCustomPolicy sts:DecodeAuthorizationMessage sts:GetAccessKeyInfo
		kms:CreateKey kms:GenerateRandom kms:ListAliases kms:ListKeys kms:ListRetirableGrants`,
	"federated user": `sts:GetFederationToken`,
	"key": `kms:Decapsulate kms:DeriveSharedSecret kms:Encapsulate kms:GenerateMac kms:GetPublicKey kms:Sign kms:Verify kms:VerifyMac
		kms:CancelKeyDeletion kms:CreateGrant kms:Decrypt kms:DescribeKey kms:DisableKey kms:DisableKeyRotation kms:EnableKey kms:EnableKeyRotation
		kms:DeleteImportedKeyMaterial kms:GetParametersForImport kms:ImportKeyMaterial
		kms:Encrypt kms:GenerateDataKey kms:GenerateDataKeyPair kms:GenerateDataKeyPairWithoutPlaintext kms:GenerateDataKeyWithoutPlaintext kms:GetKeyLastUsage kms:GetKeyPolicy kms:GetKeyRotationStatus kms:ListGrants
		kms:ListKeyPolicies kms:ListKeyRotations kms:ListResourceTags kms:PutKeyPolicy kms:ReEncrypt kms:RetireGrant kms:RevokeGrant kms:RotateKeyOnDemand
		kms:ScheduleKeyDeletion
		kms:TagResource kms:UntagResource kms:UpdateKeyDescription`,
	"key and *": `kms:ReplicateKey`, "key and replica": `kms:UpdatePrimaryRegion`,
	"alias and key": `kms:CreateAlias kms:DeleteAlias kms:UpdateAlias`,
}

// optional are members that the model does not require, but what the operation does here does.
var optional = map[string]string{
	"CreateAccessKey": "UserName", "CreateLoginProfile": "UserName Password", "CreateOpenIDConnectProvider": "ThumbprintList",
	"DeleteAccessKey": "UserName", "DeleteLoginProfile": "UserName", "GetLoginProfile": "UserName", "GetUser": "UserName",
	"ListAccessKeys": "UserName", "ListMFADevices": "UserName", "ListSSHPublicKeys": "UserName", "ListServiceSpecificCredentials": "UserName",
	"ListSigningCertificates": "UserName", "UpdateAccessKey": "UserName", "UpdateLoginProfile": "Password",
	"CreateGrant": "GranteePrincipal", "CreateKey": "MultiRegion", "Decrypt": "CiphertextBlob", "GenerateDataKey": "KeySpec", "GenerateDataKeyWithoutPlaintext": "KeySpec",
	"GenerateRandom": "NumberOfBytes", "ListRetirableGrants": "RetiringPrincipal", "ReEncrypt": "CiphertextBlob", "RetireGrant": "KeyId GrantId",
}

// household is an installation's account with one of everything in it, and a user who has at most one permission.
type household struct {
	t          *testing.T
	db         *store.DB
	guard      *guard.Guard
	directory  *iam.Directory
	operations map[string]guard.Operation
	required   map[string][]string
	values     map[string]any    // what there is, by the member that names it
	things     map[string]string // ARNs by the words of the table of resources
}

var moment = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// newHousehold makes a household. Its user has a password only if one is asked for: hashing takes longer than all the rest.
func newHousehold(t *testing.T, password bool) *household {
	t.Helper()
	ctx := context.Background()
	db, err := store.Open(ctx, store.Options{})
	must(t, err)
	t.Cleanup(func() { _ = db.Close() })
	barrier, sealed, err := seal.Initialize(ctx, moment, seal.KeyFile("test", secret.Take(make([]byte, 32))))
	must(t, err)
	must(t, db.Initialize(ctx, sealed))
	s, err := db.Unseal(ctx, barrier)
	must(t, err)
	now := func() time.Time { return moment }
	h := &household{t: t, db: db, operations: map[string]guard.Operation{}, required: requiredMembers(t)}
	h.directory = iam.New(iam.Config{Store: s, Barrier: barrier, Now: now})
	h.guard = guard.New(guard.Config{Recorder: audit.NewMemory(10), Directory: h.directory, Now: now})
	service := kms.New(kms.Config{Store: s, Custody: custody.New(soft.New(barrier)), Barrier: barrier, Guard: h.guard, Now: now, Principals: h.directory})
	for _, op := range slices.Concat(service.Operations(), h.directory.STS(), h.directory.IAM()) {
		h.operations[op.Service+":"+op.Name] = op
	}
	_, _, err = h.directory.CreateAccount(ctx, owner, "")
	must(t, err)
	h.furnish()
	if password {
		h.do("iam:CreateLoginProfile")
	}
	return h
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// requiredMembers reads the required members of all inputs out of the models, by operation.
func requiredMembers(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for _, service := range []string{"kms", "sts", "iam"} {
		text, err := os.ReadFile("../wire/model/" + service + ".json")
		must(t, err)
		var model struct {
			Operations map[string]struct{ Input string }
			Shapes     map[string]struct{ Required []string }
		}
		must(t, json.Unmarshal(text, &model))
		for name, op := range model.Operations {
			all[service+":"+name] = model.Shapes[op.Input].Required
		}
	}
	return all
}

// furnish makes one of everything.
func (h *household) furnish() {
	const account = "arn:aws:iam::111122223333:"
	h.things = map[string]string{
		"user": account + "user/bobby", "caller": nobody, "group": account + "group/team", "role": account + "role/worker", "policy": account + "policy/plan",
		"provider": account + "oidc-provider/idp.example.com", "users": account + "user/", "groups": account + "group/", "roles": account + "role/",
		"policies": account + "policy/", "*": "*", "federated user": "arn:aws:sts::111122223333:federated-user/guest",
		"alias": "arn:aws:kms:us-east-1:111122223333:alias/box",
	}
	h.values = map[string]any{
		"UserName": "bobby", "GroupName": "team", "RoleName": "worker", "PolicyName": "plan", "PolicyArn": h.things["policy"], "RoleArn": h.things["role"],
		"OpenIDConnectProviderArn": h.things["provider"], "Url": idp, "ClientID": "client", "ThumbprintList": []string{strings.Repeat("a1", 20)},
		"PolicyDocument": allowed, "AssumeRolePolicyDocument": trusted, "PermissionsBoundary": h.things["policy"], "VersionId": "v1",
		"PolicyInputList": []string{allowed}, "ActionNames": []string{"kms:Encrypt"}, "PolicySourceArn": h.things["user"], "Status": "Inactive",
		"AccountAlias": "house", "Password": "correct horse 7 Battery", "OldPassword": "correct horse 7 Battery", "NewPassword": "other horse 7 Battery",
		"Description": "new", "Tags": []map[string]string{{"Key": "team", "Value": "red"}}, "TagKeys": []string{"team"}, "RoleSessionName": "session", "EncodedMessage": "AAAA", "Name": "guest",
		"AliasName": "alias/box", "Operations": []string{"Encrypt"}, "GranteePrincipal": h.things["role"], "RetiringPrincipal": h.things["role"],
		"Plaintext": []byte("x"), "KeySpec": "AES_256", "NumberOfBytes": 1, "WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048", "ImportToken": []byte("x"), "EncryptedKeyMaterial": []byte("x"),
		"Message": []byte("x"), "SigningAlgorithm": "ECDSA_SHA_256", "Signature": []byte("x"), "MacAlgorithm": "HMAC_SHA_256", "Mac": []byte("x"),
		"KeyAgreementAlgorithm": "ECDH", "PublicKey": []byte("x"), "EncapsulationAlgorithm": "ML_KEM", "SharedSecretCiphertextBlob": []byte("x"),
		"KeyPairSpec": "ECC_NIST_P256", "MultiRegion": true, "ReplicaRegion": "eu-west-1", "PrimaryRegion": "eu-west-1",
	}
	for _, op := range strings.Fields(`CreateUser CreateGroup CreateRole CreatePolicy CreateOpenIDConnectProvider AddUserToGroup AttachUserPolicy
		AttachGroupPolicy AttachRolePolicy PutUserPolicy PutGroupPolicy PutRolePolicy PutUserPermissionsBoundary PutRolePermissionsBoundary
		CreateAccountAlias TagUser TagRole TagPolicy TagOpenIDConnectProvider AddClientIDToOpenIDConnectProvider`) {
		h.do("iam:" + op)
	}
	h.values["AccessKeyId"] = h.do("iam:CreateAccessKey").(*iamapi.CreateAccessKeyResponse).AccessKey.AccessKeyID.V
	key := h.do("kms:CreateKey").(*kmsapi.CreateKeyResponse).KeyMetadata
	h.things["key"], h.values["KeyId"], h.values["TargetKeyId"], h.values["DestinationKeyId"] = key.ARN.V, key.ARN.V, key.ARN.V, key.ARN.V
	h.values["Policy"] = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"}]}`
	h.things["replica"] = h.do("kms:ReplicateKey").(*kmsapi.ReplicateKeyResponse).ReplicaKeyMetadata.ARN.V
	h.do("kms:CreateAlias")
	h.do("kms:TagResource")
	h.values["GrantId"] = h.do("kms:CreateGrant").(*kmsapi.CreateGrantResponse).GrantID.V
	h.values["CiphertextBlob"] = h.do("kms:Encrypt").(*kmsapi.EncryptResponse).CiphertextBlob
	h.values["UserName"] = "nobody"
	h.do("iam:CreateUser")
	h.values["UserName"] = "bobby"
}

// input returns the least input of an operation that is good, made of what there is, as it is decoded from the wire.
func (h *household) input(id string) wire.Input {
	h.t.Helper()
	op := h.operations[id]
	in, given := op.New(), map[string]any{}
	for _, member := range append(strings.Fields(optional[op.Name]), h.required[id]...) {
		v, ok := h.values[member]
		if !ok {
			h.t.Fatalf("%s: nothing is known for %s", id, member)
		}
		given[member] = v
	}
	switch op.Name {
	case "TagResource": // KMS calls the members of a tag otherwise
		given["Tags"] = []map[string]string{{"TagKey": "team", "TagValue": "red"}}
	case "UpdateAssumeRolePolicy":
		given["PolicyDocument"] = trusted
	}
	var failure *wire.Error
	switch to := in.(type) {
	case wire.JSONInput:
		text, err := json.Marshal(given)
		must(h.t, err)
		failure = wire.DecodeJSON(text, to)
	case wire.QueryInput:
		form, wrong := wire.ParseForm(queryOf(given))
		if failure = wrong; wrong == nil {
			failure = wire.DecodeQuery(form, to)
		}
	}
	if failure != nil {
		h.t.Fatalf("%s: %v", id, failure)
	}
	if err := wire.Validate(in); err != nil {
		h.t.Fatalf("%s: %v", id, err)
	}
	return in
}

// queryOf writes members as a form.
func queryOf(given map[string]any) string {
	form := url.Values{}
	for name, v := range given {
		switch v := v.(type) {
		case []string:
			for i, s := range v {
				form.Set(fmt.Sprintf("%s.member.%d", name, i+1), s)
			}
		case []map[string]string:
			for i, pairs := range v {
				for k, s := range pairs {
					form.Set(fmt.Sprintf("%s.member.%d.%s", name, i+1, k), s)
				}
			}
		default:
			form.Set(name, fmt.Sprint(v))
		}
	}
	return form.Encode()
}

// try makes a call as a principal of the account, with all that the guard does around it.
func (h *household) try(principal, id string) (wire.Output, *wire.Error) {
	h.t.Helper()
	op, in := h.operations[id], h.input(id)
	who, err := h.directory.Caller(context.Background(), principal)
	must(h.t, err)
	return h.guard.Answer(guard.Meta{RequestID: "r", Time: moment}, func(c *guard.Call) (wire.Output, error) {
		c.Service, c.Name, c.Operation, c.Input = op.Service, op.Name, &op, in
		c.Identify(who, "us-east-1")
		return op.Do(context.Background(), c, in)
	})
}

// do makes a call as the root user that must succeed.
func (h *household) do(id string) wire.Output {
	h.t.Helper()
	out, failure := h.try(owner.Root("aws"), id)
	if failure != nil {
		h.t.Fatalf("%s: %v", id, failure)
	}
	return out
}

// needs returns the permissions of an operation and the ARNs that they are needed on, first those that are asked for first.
func (h *household) needs(id string) (permissions, arns []string) {
	h.t.Helper()
	permissions = []string{id}
	if other := renamed[id]; other != nil {
		permissions = other
	}
	for words, list := range resources {
		if slices.Contains(strings.Fields(list), id) {
			for _, word := range strings.Split(words, " and ") {
				arns = append(arns, h.things[word])
			}
		}
	}
	if len(arns) == 0 {
		h.t.Errorf("%s is not in the table of resources", id)
	}
	return permissions, arns
}

// allow gives the user who has nothing permissions, instead of those that he was given before.
func (h *household) allow(permissions, arns []string) {
	h.t.Helper()
	document, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": []any{
		map[string]any{"Effect": "Allow", "Action": permissions, "Resource": arns},
	}})
	must(h.t, err)
	h.values["UserName"], h.values["PolicyDocument"] = "nobody", string(document)
	h.do("iam:PutUserPolicy")
	h.values["UserName"], h.values["PolicyDocument"] = "bobby", allowed
}

// contents returns all octets of the store.
func (h *household) contents() []byte {
	h.t.Helper()
	path := filepath.Join(h.t.TempDir(), "copy")
	must(h.t, h.db.Backup(context.Background(), path))
	b, err := os.ReadFile(path)
	must(h.t, err)
	return b
}

// Each operation of each service asks for its permission before it does or tells anything.
func TestEveryOperationNeedsItsPermission(t *testing.T) {
	h := newHousehold(t, true)
	before := h.contents()
	for id := range h.operations {
		if free[id] != "" {
			continue
		}
		permissions, arns := h.needs(id)
		if len(arns) == 0 {
			continue
		}
		_, failure := h.try(nobody, id)
		want := "User: " + nobody + " is not authorized to perform: " + permissions[0] + " on resource: " + arns[0]
		switch {
		case failure == nil:
			t.Errorf("%s was done for somebody without rights", id)
		case failure.Code != wire.CodeAccessDenied || failure.Message != want && !strings.HasPrefix(failure.Message, want+" because no "):
			t.Errorf("%s\n got %v\nwant %s", id, failure, want)
		}
		if after := h.contents(); !bytes.Equal(before, after) {
			t.Errorf("%s changed the store for somebody without rights", id)
			before = after
		}
	}
}

// And it asks for nothing else: the one permission, on the one resource, is enough.
func TestEveryPermissionIsEnough(t *testing.T) {
	ids := newHousehold(t, false).operations
	for id := range ids {
		if free[id] != "" {
			continue
		}
		t.Run(id, func(t *testing.T) {
			h := newHousehold(t, strings.HasSuffix(id, "LoginProfile"))
			permissions, arns := h.needs(id)
			if len(permissions) > 1 || len(arns) > 1 { // half of what it takes is not enough
				h.allow(permissions[:1], arns[:1])
				second, on := permissions[len(permissions)-1], arns[len(arns)-1]
				want := "User: " + nobody + " is not authorized to perform: " + second + " on resource: " + on + " because no "
				if _, failure := h.try(nobody, id); failure == nil || failure.Code != wire.CodeAccessDenied || !strings.HasPrefix(failure.Message, want) {
					t.Errorf("with %s on %s only:\n got %v\nwant %s", permissions[0], arns[0], failure, want)
				}
			}
			h.allow(permissions, arns)
			if _, failure := h.try(nobody, id); failure != nil && failure.Code == wire.CodeAccessDenied {
				t.Errorf("with %v on %v: %v", permissions, arns, failure)
			}
		})
	}
}
