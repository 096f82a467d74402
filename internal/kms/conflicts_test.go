package kms_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/custody"
	"github.com/keywright/keywright/internal/custody/soft"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/kms"
	"github.com/keywright/keywright/internal/quota"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// beside returns the same world seen through another service on the same store, which remembers what it saw itself.
func (w *world) beside() *world {
	c := *w
	c.guard = guard.New(guard.Config{Recorder: w.audit, Now: w.now})
	c.custody = custody.New(engine{soft.New(w.store.Barrier()), w.making})
	c.service = kms.New(kms.Config{
		Store: w.store, Custody: c.custody, Barrier: w.store.Barrier(), Guard: c.guard, Now: w.now,
		Principals: w.people, Attestation: w.verifier, Quotas: quota.New(w.quotas, w.now), CachedKeys: w.cached,
	})
	c.operations = map[string]guard.Operation{}
	for _, op := range c.service.Operations() {
		c.operations[op.Name] = op
	}
	return &c
}

// Two servers change the same keys: nothing that either of them answered for is lost.
func TestChangesOnTwoServers(t *testing.T) {
	one := newWorld(t, "")
	two := one.beside()
	id, _ := one.newKey()
	shared := do[*kmsapi.CreateKeyResponse](one, "CreateKey", in{"MultiRegion": true}).KeyMetadata.KeyID.V
	worlds := []*world{one, two}
	for _, w := range worlds { // both remember the keys
		w.done("DescribeKey", in{"KeyId": id})
		w.done("DescribeKey", in{"KeyId": shared})
	}
	one.done("UpdateKeyDescription", in{"KeyId": id, "Description": "from the first"})
	two.done("TagResource", in{"KeyId": id, "Tags": []in{{"TagKey": "from", "TagValue": "the second"}}})
	got := do[*kmsapi.DescribeKeyResponse](two, "DescribeKey", in{"KeyId": id}).KeyMetadata
	if got.Description.V != "from the first" {
		t.Errorf("the description is %q", got.Description.V)
	}
	one.done("DisableKey", in{"KeyId": shared})
	if _, err := two.try("EnableKeyRotation", in{"KeyId": shared}); err == nil || err.Code != kmsapi.CodeDisabledException {
		t.Errorf("a change of a key that another server disabled: %v", err)
	}
	const each = 15
	var wg sync.WaitGroup
	for i, w := range worlds {
		wg.Go(func() {
			for n := range each {
				w.done("TagResource", in{"KeyId": id, "Tags": []in{{"TagKey": fmt.Sprintf("%d-%d", i, n), "TagValue": "v"}}})
			}
		})
	}
	wg.Wait()
	tags := do[*kmsapi.ListResourceTagsResponse](one.beside(), "ListResourceTags", in{"KeyId": id}).Tags
	if len(tags) != 2*each+1 {
		t.Errorf("%d tags, want %d", len(tags), 2*each+1)
	}
}

// Material whose time is over goes on one server; another one that remembers it reads the key all the same.
func TestExpiryOnTwoServers(t *testing.T) {
	one := newWorld(t, "")
	two := one.beside()
	id, _ := one.external(in{})
	one.parameters(id, oaep256, "RSA_2048").imports(secretOf(1), until(one.now().Add(time.Hour)))
	two.done("DescribeKey", in{"KeyId": id})
	one.clock.Add(time.Hour.Milliseconds())
	for _, w := range []*world{one, two} {
		if m := w.describe(id); m.KeyState.V != "PendingImport" || m.ValidTo.Set {
			t.Errorf("%+v", m)
		}
	}
}

// A change that is committed is answered for, also when the key is forgotten at that moment and nothing can be read any more: clients
// would repeat it.
func TestNothingIsReadAfterTheCommit(t *testing.T) {
	w := newWorld(t, "")
	id := do[*kmsapi.CreateKeyResponse](w, "CreateKey", in{"MultiRegion": true}).KeyMetadata.KeyID.V
	w.replicate(id, ireland)
	w.pass(time.Hour)
	op := w.operations["EnableKeyRotation"]
	input := op.New()
	if err := decodeInto(in{"KeyId": id}, input.(wire.JSONInput)); err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	event := func() {
		w.service.Heard(nil, true)
		end()
	}
	w.audit.meanwhile.Store(&event) // when the replica's record of it is written, which is within the transaction
	if _, err := w.answer(ctx, &op, input); err != nil || ctx.Err() == nil {
		t.Errorf("%v, ended %v", err, ctx.Err())
	}
	if k := w.stored(id); !k.Rotation.Enabled {
		t.Error("the key does not rotate")
	}
}
