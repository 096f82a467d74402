package iam_test

import (
	"context"
	"errors"
	"testing"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/iam"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/sigv4"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/iamapi"
	"github.com/keywright/keywright/internal/wire/stsapi"
)

// rootIn makes an account of a partition and returns the credential of its root user.
func (w *world) rootIn(p arn.Partition, id arn.Account) sigv4.Credential {
	w.t.Helper()
	accessKeyID, s, err := w.directory.CreateAccountIn(context.Background(), p, id, "")
	w.must(err)
	return sigv4.Credential{AccessKeyID: accessKeyID, Secret: s}
}

// An account is in one partition, whatever its principals sign for: the ARNs of policies that deny could be gone round
// otherwise.
func TestPartitions(t *testing.T) {
	regions := map[arn.Partition]string{"aws": "us-east-1", "aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1"}
	for p := range regions {
		w := newWorld(t)
		root := w.rootIn(p, alice)
		iam.Forget(w.directory, alice)
		_, user := w.newUser(alice, "ann")
		role := w.newRole("deploy", trustAlice, nil)
		ann, err := w.as(user, regions[p])
		w.must(err)
		session := w.sessionIn(regions[p], user, &stsapi.AssumeRoleRequest{RoleARN: wire.Some(role.ARN(p)), RoleSessionName: wire.Some("job")})
		for _, tt := range []struct {
			c    sigv4.Credential
			want string
		}{
			{root, "iam::111122223333:root"}, {user, "iam::111122223333:user/ann"}, {session, "sts::111122223333:assumed-role/deploy/job"},
		} {
			for other, region := range regions {
				who, err := w.as(tt.c, region)
				var refused *sigv4.Error
				switch {
				case other != p && (!errors.As(err, &refused) || *refused != *sigv4.ErrRegion() || who != nil):
					t.Errorf("%s in %s: %v, %v", tt.want, region, who, err)
				case other == p && (err != nil || who.ARN != "arn:"+string(p)+":"+tt.want):
					t.Errorf("%s in %s: %v, %v", tt.want, region, who, err)
				}
			}
		}
		for _, policy := range ann.Rights.Identity {
			if policy.Holder != ann.ARN {
				t.Errorf("a policy of %s", policy.Holder)
			}
		}
		for other := range regions {
			if id, ok, err := w.directory.Lookup(context.Background(), role.ARN(other)); ok != (other == p) || (id != "") != ok || err != nil {
				t.Errorf("%s in %s: %s, %v, %v", role.ARN(other), p, id, ok, err)
			}
		}
		if now, ok, err := w.directory.ARNOf(context.Background(), role.ID); now != role.ARN(p) || !ok || err != nil {
			t.Errorf("%s, %v, %v", now, ok, err)
		}
	}
}

// sessionIn assumes a role in a Region.
func (w *world) sessionIn(region string, c sigv4.Credential, in *stsapi.AssumeRoleRequest) sigv4.Credential {
	w.t.Helper()
	out, _, err := w.callIn(region, c, in)
	w.must(err)
	return credentialOf(out.(*stsapi.AssumeRoleResponse).Credentials)
}

func TestAccountsStayInTheirPartition(t *testing.T) {
	w, ctx := newWorld(t), context.Background()
	w.must(w.directory.EnsureAccountIn(ctx, arn.China, alice, "AKIAALICE", secret.FromString("s")))
	if err := w.directory.EnsureAccount(ctx, alice, "AKIAALICE", secret.FromString("s")); !errors.Is(err, iam.ErrOtherPartition) {
		t.Error(err)
	}
	w.must(w.directory.EnsureAccountIn(ctx, arn.China, alice, "AKIAALICE2", secret.FromString("s")))
	if a, err := w.store.GetAccount(ctx, alice); err != nil || a.Partition != arn.China {
		t.Errorf("%+v, %v", a, err)
	}
}

// Everything of IAM works in another partition, with the names that things have there.
func TestAnotherPartition(t *testing.T) {
	w := newWorld(t)
	who, err := w.as(w.rootIn(arn.China, alice), "cn-north-1")
	w.must(err)
	c := &client{w, who, "cn-north-1"}
	p := c.do(&iamapi.CreatePolicyRequest{PolicyName: str("p"), PolicyDocument: str(allowAll)}).(*iamapi.CreatePolicyResponse).Policy.ARN
	if p.V != "arn:aws-cn:iam::111122223333:policy/p" {
		t.Error(p.V)
	}
	user := c.do(&iamapi.CreateUserRequest{UserName: str("ann"), PermissionsBoundary: p}).(*iamapi.CreateUserResponse).User
	if user.ARN.V != "arn:aws-cn:iam::111122223333:user/ann" || user.PermissionsBoundary.PermissionsBoundaryARN != p {
		t.Errorf("%+v", *user)
	}
	c.do(&iamapi.AttachUserPolicyRequest{UserName: str("ann"), PolicyARN: p})
	c.do(&iamapi.AttachUserPolicyRequest{UserName: str("ann"), PolicyARN: str("arn:aws-cn:iam::aws:policy/IAMFullAccess")})
	attached := c.do(&iamapi.ListAttachedUserPoliciesRequest{UserName: str("ann")}).(*iamapi.ListAttachedUserPoliciesResponse).AttachedPolicies
	if len(attached) != 2 || attached[0].PolicyARN != p || attached[1].PolicyARN.V != "arn:aws-cn:iam::aws:policy/IAMFullAccess" {
		t.Errorf("%v", attached)
	}
	ann, err := w.directory.Caller(context.Background(), user.ARN.V)
	w.must(err)
	if len(ann.Rights.Identity) != 2 || ann.Rights.Boundary.ARN != p.V {
		t.Errorf("%+v", *ann.Rights)
	}
	for _, policy := range ann.Rights.Identity {
		if policy.ARN != p.V && policy.ARN != "arn:aws-cn:iam::aws:policy/IAMFullAccess" {
			t.Errorf("%+v", policy)
		}
	}
	ask := &iamapi.SimulatePrincipalPolicyRequest{PolicySourceARN: user.ARN, ActionNames: []string{"kms:Decrypt"}}
	if got, want := told(c.do(ask)), "kms:Decrypt * allowed user-managed:p"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	role := c.do(&iamapi.CreateRoleRequest{RoleName: str("r"), AssumeRolePolicyDocument: str(trust(user.ARN.V))}).(*iamapi.CreateRoleResponse).Role
	if role.AssumeRolePolicyDocument.V != iam.Encoded(trust(user.ARN.V)) {
		t.Error(role.AssumeRolePolicyDocument.V)
	}
	c.do(&iamapi.DetachUserPolicyRequest{UserName: str("ann"), PolicyARN: p})
}

// Whoever may not touch a policy or provider may not touch it under a name of another partition either.
func TestNamesOfOtherPartitions(t *testing.T) {
	w := newWorld(t)
	root := w.client(w.root(alice))
	root.do(&iamapi.CreatePolicyRequest{PolicyName: str("p"), PolicyDocument: str(allowAll)})
	root.do(&iamapi.CreateOpenIDConnectProviderRequest{URL: str("https://id.example.com")})
	root.do(&iamapi.CreateUserRequest{UserName: str("ann")})
	root.do(&iamapi.CreateGroupRequest{GroupName: str("g")})
	root.do(&iamapi.PutUserPolicyRequest{UserName: str("ann"), PolicyName: str("admin"), PolicyDocument: str(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"*","Resource":"*"},
		{"Effect":"Deny","Action":"iam:*","Resource":["arn:aws:iam::*:policy/*","arn:aws:iam::*:oidc-provider/*"]},
		{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"ArnLike":{"iam:PolicyARN":"arn:aws:iam::*:policy/*"}}},
		{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"ArnLike":{"iam:PermissionsBoundary":"arn:aws:iam::*:policy/*"}}}]}`)})
	k := root.do(&iamapi.CreateAccessKeyRequest{UserName: str("ann")}).(*iamapi.CreateAccessKeyResponse).AccessKey
	ann := w.client(sigv4.Credential{AccessKeyID: k.AccessKeyID.V, Secret: k.SecretAccessKey})
	for p, refusal := range map[string]func(arn string) string{
		"aws":        func(string) string { return "AccessDeniedException: " },
		"aws-cn":     func(arn string) string { return "InvalidInputException: ARN " + arn + " is not valid." },
		"aws-us-gov": func(arn string) string { return "InvalidInputException: ARN " + arn + " is not valid." },
	} {
		policy, provider, all := "arn:"+p+":iam::111122223333:policy/p", "arn:"+p+":iam::111122223333:oidc-provider/id.example.com", "arn:"+p+":iam::aws:policy/AdministratorAccess"
		for arn, in := range map[string][]wire.Input{
			policy: {
				&iamapi.GetPolicyRequest{PolicyARN: str(policy)}, &iamapi.DeletePolicyRequest{PolicyARN: str(policy)},
				&iamapi.CreatePolicyVersionRequest{PolicyARN: str(policy), PolicyDocument: str(everything), SetAsDefault: wire.Some(true)},
				&iamapi.CreateUserRequest{UserName: str("x"), PermissionsBoundary: str(policy)}, &iamapi.PutUserPermissionsBoundaryRequest{UserName: str("ann"), PermissionsBoundary: str(policy)},
				&iamapi.DetachUserPolicyRequest{UserName: str("ann"), PolicyARN: str(policy)},
			},
			provider: {
				&iamapi.GetOpenIDConnectProviderRequest{OpenIDConnectProviderARN: str(provider)}, &iamapi.DeleteOpenIDConnectProviderRequest{OpenIDConnectProviderARN: str(provider)},
				&iamapi.AddClientIDToOpenIDConnectProviderRequest{OpenIDConnectProviderARN: str(provider), ClientID: str("c")},
			},
			all: {&iamapi.AttachUserPolicyRequest{UserName: str("ann"), PolicyARN: str(all)}, &iamapi.AttachGroupPolicyRequest{GroupName: str("g"), PolicyARN: str(all)}},
		} {
			for _, in := range in {
				ann.refuses(refusal(arn), in)
			}
		}
	}
	root.refuses("InvalidInputException: ARN arn:aws-cn:iam::111122223333:user/ann is not valid.",
		&iamapi.SimulatePrincipalPolicyRequest{PolicySourceARN: str("arn:aws-cn:iam::111122223333:user/ann"), ActionNames: []string{"kms:Decrypt"}})
	root.refuses("InvalidInputException: ARN arn:aws-cn:iam::aws:policy/IAMFullAccess is not valid.", &iamapi.SimulatePrincipalPolicyRequest{
		PolicySourceARN: str("arn:aws:iam::111122223333:user/ann"), ActionNames: []string{"kms:Decrypt"},
		PolicyExclusionList: []iamapi.PolicyIdentifier{{PolicyType: str("aws-managed"), PolicyARN: str("arn:aws-cn:iam::aws:policy/IAMFullAccess")}},
	})
}

func TestSessionPoliciesOfOtherPartitions(t *testing.T) {
	w := newWorld(t)
	w.root(alice)
	_, ann := w.newUser(alice, "ann")
	in := into(w.newRole("deploy", trustAlice, nil), "job")
	for _, given := range []string{"arn:aws-cn:iam::aws:policy/ReadOnlyAccess", "arn:aws-:iam::aws:policy/ReadOnlyAccess", "iam::aws:policy/ReadOnlyAccess"} {
		in.PolicyARNs = []stsapi.PolicyDescriptorType{{ARN: str(given)}}
		w.fails("ValidationException: ARN "+given+" is not valid.", ann, in)
	}
}
