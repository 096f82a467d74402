package iam_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/keywright/keywright/internal/iam"
	"github.com/keywright/keywright/internal/identity"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/iamapi"
)

// Lists of policies tell who uses them, also among thousands.
func TestListPoliciesOfManyUsers(t *testing.T) {
	w := newWorld(t)
	c := w.client(w.root(alice))
	meta := func(kind identity.Kind, name string) identity.Meta {
		return identity.Meta{Account: alice, ID: identity.NewID(kind), Name: name, Path: "/", CreatedAt: w.now}
	}
	var all []string
	w.must(w.store.Update(context.Background(), func(tx *store.Tx) error {
		put := func(kind identity.Kind, m identity.Meta, body []byte) {
			w.must(tx.PutIdentity(&store.Identity{Account: alice, Kind: string(kind), Name: m.Name, ID: m.ID, Body: body}))
		}
		for i := range 1000 {
			p := &identity.Policy{
				Meta: meta(identity.KindPolicy, fmt.Sprintf("p%04d", i)), UpdatedAt: w.now, Default: 1, Next: 2,
				Versions: []identity.Version{{N: 1, Document: allowAll, CreatedAt: w.now}},
			}
			all = append(all, p.ARN("aws"))
			put(identity.KindPolicy, p.Meta, ok(identity.Encode(p)))
		}
		for i := range 3000 {
			u := &identity.User{Meta: meta(identity.KindUser, fmt.Sprintf("u%04d", i))}
			u.Attached, u.Boundary = all[i%99*10:][:10], all[999]
			put(identity.KindUser, u.Meta, ok(identity.Encode(u)))
		}
		return nil
	}))
	iam.Forget(w.directory, alice)
	c.do(&iamapi.ListUsersRequest{}) // reads the account
	list := func(in iamapi.ListPoliciesRequest) []iamapi.Policy {
		in.Scope, in.MaxItems = str("Local"), wire.Some[int32](1000)
		return c.do(&in).(*iamapi.ListPoliciesResponse).Policies
	}
	for range 3 {
		if n := len(list(iamapi.ListPoliciesRequest{OnlyAttached: wire.Some(true)})); n != 990 {
			t.Errorf("%d are attached", n)
		}
	}
	if got := list(iamapi.ListPoliciesRequest{PolicyUsageFilter: str("PermissionsBoundary")}); len(got) != 1 || got[0].PermissionsBoundaryUsageCount.V != 3000 || got[0].AttachmentCount.V != 0 {
		t.Errorf("%+v", got)
	}
	// A change counts at once.
	c.do(&iamapi.DetachUserPolicyRequest{UserName: str("u0000"), PolicyARN: str(all[0])})
	if got := list(iamapi.ListPoliciesRequest{})[0]; got.ARN.V != all[0] || got.AttachmentCount.V != 30 {
		t.Errorf("%+v", got)
	}
}
