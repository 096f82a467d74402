package iam_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/keywright/keywright/internal/iam"
	"github.com/keywright/keywright/internal/sigv4"
	"github.com/keywright/keywright/internal/store"
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

// Two servers change one account: each reads again what the other one has changed, and nothing is lost or beyond a quota.
func TestChangesOnTwoServers(t *testing.T) {
	one := newWorld(t)
	two := *one
	two.directory = two.newDirectory(10)
	c := one.root(alice)
	roots := []*client{one.client(c), two.client(c)}
	for _, root := range roots { // both remember the account
		root.do(&iamapi.ListUsersRequest{})
	}
	roots[0].do(&iamapi.CreateUserRequest{UserName: str("ann")})
	if _, err := roots[1].call("CreateUser", &iamapi.CreateUserRequest{UserName: str("ann")}); err == nil {
		t.Error("a user of a name that the other server has given")
	}
	roots[1].do(&iamapi.PutUserPolicyRequest{UserName: str("ann"), PolicyName: str("p"), PolicyDocument: str(allowAll)})
	var wg sync.WaitGroup
	var made [2]int
	for i, root := range roots {
		wg.Go(func() {
			for n := range 10 {
				must(root, &iamapi.CreateUserRequest{UserName: str(fmt.Sprintf("user-%d-%d", i, n))})
			}
			for range 3 {
				if _, err := root.call("CreateAccessKey", &iamapi.CreateAccessKeyRequest{UserName: str("ann")}); err == nil {
					made[i]++
				}
			}
		})
	}
	wg.Wait()
	three := *one
	three.directory = three.newDirectory(10)
	if l := three.client(c).do(&iamapi.ListUsersRequest{}).(*iamapi.ListUsersResponse).Users; len(l) != 21 {
		t.Errorf("%d users, want 21", len(l))
	}
	if made[0]+made[1] != 2 {
		t.Errorf("%v access keys of one user, of whom two are allowed", made)
	}
}

// What another server does with the root user's access keys while EnsureAccount makes sure of one of them stays done.
func TestEnsureAccountBesideAnotherServer(t *testing.T) {
	one := newWorld(t)
	two := *one
	two.directory = two.newDirectory(10)
	c := one.root(alice)
	root := two.client(c)
	for round := range 1000 {
		out, err := root.call("CreateAccessKey", &iamapi.CreateAccessKeyRequest{})
		if err != nil {
			t.Fatal(err)
		}
		id := out.(*iamapi.CreateAccessKeyResponse).AccessKey.AccessKeyID.V
		var both sync.WaitGroup
		both.Go(func() {
			if err := one.directory.EnsureAccount(t.Context(), alice, c.AccessKeyID, c.Secret); err != nil {
				t.Error(err)
			}
		})
		refused := error(nil)
		both.Go(func() {
			if _, err := root.call("DeleteAccessKey", &iamapi.DeleteAccessKeyRequest{AccessKeyID: str(id)}); err != nil {
				refused = err
			}
		})
		both.Wait()
		if refused != nil {
			t.Fatal(refused)
		}
		if k, err := one.store.GetAccessKey(t.Context(), id); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("round %d: the deleted key is there, %s: %v", round, k.Status, err)
		}
	}
}
