package flip_test

import (
	"context"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keywright/keywright/conformance/server"
)

// person is a user or role and what it may do: decrypt under the open key, whose policy leaves it to the account; and encrypt
// under it in the encryption context of its grant.
type person struct {
	arn               string
	decrypts, granted bool
}

const (
	mayDecrypt = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:Decrypt","Resource":"*"}]}`
	noBody     = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}`
	trust      = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + server.Account + `"},"Action":"sts:AssumeRole"}]}`
)

// grantContext is what the grant asks for.
var grantContext = map[string]string{"flip": "yes"}

// populate makes people who have rights in every way that rows can give or take one.
func (in *installation) populate(t *testing.T, s *server.Server) {
	t.Helper()
	c, ctx := s.IAM(), server.Context(t)
	user := func(name string) *string {
		out, err := c.CreateUser(ctx, &iam.CreateUserInput{UserName: &name})
		check(t, err)
		return out.User.Arn
	}
	add := func(arn *string, decrypts, granted bool) {
		in.people = append(in.people, person{*arn, decrypts, granted})
	}
	inline := func(name, document string) {
		_, err := c.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: &name, PolicyName: aws.String("p"), PolicyDocument: &document})
		check(t, err)
	}
	add(user("inline"), true, false)
	inline("inline", mayDecrypt)
	add(user("member"), true, false)
	_, err := c.CreateGroup(ctx, &iam.CreateGroupInput{GroupName: aws.String("readers")})
	check(t, err)
	_, err = c.PutGroupPolicy(ctx, &iam.PutGroupPolicyInput{GroupName: aws.String("readers"), PolicyName: aws.String("p"), PolicyDocument: aws.String(mayDecrypt)})
	check(t, err)
	_, err = c.AddUserToGroup(ctx, &iam.AddUserToGroupInput{GroupName: aws.String("readers"), UserName: aws.String("member")})
	check(t, err)
	managed := func(name, document string) *string {
		out, err := c.CreatePolicy(ctx, &iam.CreatePolicyInput{PolicyName: &name, PolicyDocument: &document})
		check(t, err)
		return out.Policy.Arn
	}
	attach := func(name string, policy *string) {
		_, err := c.AttachUserPolicy(ctx, &iam.AttachUserPolicyInput{UserName: &name, PolicyArn: policy})
		check(t, err)
	}
	allow, deny := managed("allow", mayDecrypt), managed("deny", noBody)
	add(user("attached"), true, false)
	attach("attached", allow)
	add(user("denied"), false, false)
	attach("denied", allow)
	attach("denied", deny)
	out, err := c.CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("bounded"), PermissionsBoundary: aws.String("arn:aws:iam::aws:policy/IAMFullAccess")})
	check(t, err)
	add(out.User.Arn, false, false)
	inline("bounded", mayDecrypt)
	role, err := c.CreateRole(ctx, &iam.CreateRoleInput{RoleName: aws.String("reader"), AssumeRolePolicyDocument: aws.String(trust)})
	check(t, err)
	add(role.Role.Arn, true, false)
	_, err = c.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: aws.String("reader"), PolicyName: aws.String("p"), PolicyDocument: aws.String(mayDecrypt)})
	check(t, err)
	grantee := user("grantee")
	add(grantee, false, true)
	_, err = s.KMS().CreateGrant(ctx, &kms.CreateGrantInput{
		KeyId: &in.open.id, GranteePrincipal: grantee, Operations: []types.GrantOperation{types.GrantOperationEncrypt},
		Constraints: &types.GrantConstraints{EncryptionContextEquals: grantContext},
	})
	check(t, err)
}

// asPeople tries what people may and may not do.
func (w *world) asPeople(in *installation, say func(string, ...any)) (asBefore int) {
	for _, p := range in.people {
		who, err := w.directory.Caller(context.Background(), p.arn)
		if err != nil {
			continue // refused
		}
		try := func(what string, allowed bool, operation string, input map[string]any) {
			_, err := w.callAs(who, operation, input)
			switch {
			case err == nil && !allowed:
				say("%s %s", p.arn, what)
			case (err == nil) == allowed:
				asBefore++
			}
		}
		encrypt := func(context map[string]string) map[string]any {
			return map[string]any{"KeyId": in.open.arn, "Plaintext": []byte("x"), "EncryptionContext": context}
		}
		try("decrypted", p.decrypts, "Decrypt", map[string]any{"CiphertextBlob": in.open.blob})
		try("encrypted", p.granted, "Encrypt", encrypt(grantContext))
		try("encrypted outside of its grant", false, "Encrypt", encrypt(map[string]string{"flip": "no"}))
		try("disabled a key", false, "DisableKey", map[string]any{"KeyId": in.open.arn})
	}
	return asBefore
}
