package iam_test

import (
	"context"
	"errors"
	"testing"

	"github.com/keywright/keywright/internal/sigv4"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/iamapi"
)

// A call that was authenticated before rights were taken, and waited, changes nothing with them afterwards.
func TestWaitingCallsLoseTheirRights(t *testing.T) {
	const admin = "arn:aws:iam::aws:policy/AdministratorAccess"
	for name, c := range map[string]struct {
		take func(*client, string) // from eve, with that access key
		want string
	}{
		"policy": {func(root *client, _ string) {
			root.do(&iamapi.DetachUserPolicyRequest{UserName: str("eve"), PolicyARN: str(admin)})
		}, "AccessDeniedException"},
		"boundary": {func(root *client, _ string) {
			root.do(&iamapi.PutUserPermissionsBoundaryRequest{UserName: str("eve"), PermissionsBoundary: str("arn:aws:iam::aws:policy/IAMReadOnlyAccess")})
		}, "AccessDeniedException"},
		"access key": {func(root *client, id string) {
			root.do(&iamapi.UpdateAccessKeyRequest{UserName: str("eve"), AccessKeyID: str(id), Status: str("Inactive")})
		}, "UnrecognizedClientException"},
		"user": {func(root *client, id string) {
			root.do(&iamapi.DetachUserPolicyRequest{UserName: str("eve"), PolicyARN: str(admin)})
			root.do(&iamapi.DeleteAccessKeyRequest{UserName: str("eve"), AccessKeyID: str(id)})
			root.do(&iamapi.DeleteUserRequest{UserName: str("eve")})
		}, "UnrecognizedClientException"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			root := w.client(w.root(alice))
			root.do(&iamapi.CreateUserRequest{UserName: str("eve")})
			root.do(&iamapi.AttachUserPolicyRequest{UserName: str("eve"), PolicyARN: str(admin)})
			k := root.do(&iamapi.CreateAccessKeyRequest{UserName: str("eve")}).(*iamapi.CreateAccessKeyResponse).AccessKey
			eve := w.client(sigv4.Credential{AccessKeyID: k.AccessKeyID.V, Secret: k.SecretAccessKey}) // authenticated here
			eve.do(&iamapi.CreateUserRequest{UserName: str("before")})
			c.take(root, k.AccessKeyID.V)
			eve.refuses(c.want, &iamapi.CreateUserRequest{UserName: str("backdoor")})
			root.refuses("NoSuchEntityException", &iamapi.GetUserRequest{UserName: str("backdoor")})
			_, err := w.directory.Renew(context.Background(), eve.who)
			var refused *wire.Error
			if gone := errors.As(err, &refused); gone != (c.want == "UnrecognizedClientException") {
				t.Errorf("renewed: %v", err)
			}
		})
	}
}
