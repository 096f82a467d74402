package iam_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/keywright/keywright/internal/iam"
	"github.com/keywright/keywright/internal/sigv4"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/iamapi"
)

// must runs an operation that must succeed, on whatever goroutine.
func must(c *client, in wire.Input) {
	c.w.t.Helper()
	if _, err := c.call(opOf(in), in); err != nil {
		c.w.t.Errorf("%s: %v", opOf(in), err)
	}
}

// Many at once, with room for one account in memory: each sees what it has done itself with its very next request.
func TestManyAtOnce(t *testing.T) {
	w := newWorld(t)
	w.directory = iam.New(iam.Config{Store: w.store, Barrier: w.barrier, Now: w.clock, CachedAccounts: 1})
	roots := []*client{w.client(w.root(alice)), w.client(w.root(bob))}
	var wg sync.WaitGroup
	for i := range 8 {
		root := roots[i%2]
		wg.Go(func() {
			for n := range 5 {
				name := fmt.Sprintf("user-%d-%d", i, n)
				must(root, &iamapi.CreateUserRequest{UserName: str(name)})
				out, err := root.call("CreateAccessKey", &iamapi.CreateAccessKeyRequest{UserName: str(name)})
				if err != nil {
					t.Error(err)
					return
				}
				k := out.(*iamapi.CreateAccessKeyResponse).AccessKey
				c := sigv4.Credential{AccessKeyID: k.AccessKeyID.V, Secret: k.SecretAccessKey}
				must(root, &iamapi.PutUserPolicyRequest{UserName: str(name), PolicyName: str("p"), PolicyDocument: str(allowAll)})
				if who, err := w.as(c, "us-east-1"); err != nil || who.Name != name || len(who.Rights.Identity) != 1 {
					t.Errorf("%s: %v, %v", name, who, err)
				}
				must(root, &iamapi.DeleteUserPolicyRequest{UserName: str(name), PolicyName: str("p")})
				if who, err := w.as(c, "us-east-1"); err != nil || len(who.Rights.Identity) != 0 {
					t.Errorf("%s: %v, %v", name, who, err)
				}
				must(root, &iamapi.DeleteAccessKeyRequest{UserName: str(name), AccessKeyID: k.AccessKeyID})
				if who, err := w.as(c, "us-east-1"); err == nil {
					t.Errorf("a deleted key is %v", who)
				}
				must(root, &iamapi.DeleteUserRequest{UserName: str(name)})
			}
		})
	}
	wg.Wait()
	for _, root := range roots {
		if l := root.do(&iamapi.ListUsersRequest{}).(*iamapi.ListUsersResponse).Users; len(l) != 0 {
			t.Errorf("%d users are left", len(l))
		}
	}
}
