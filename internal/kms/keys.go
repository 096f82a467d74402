package kms

import (
	"slices"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// createKeyDefaults are the values that the service fills in.
func createKeyDefaults(in *kmsapi.CreateKeyRequest) (spec key.Spec, usage key.Usage, origin key.Origin) {
	text := in.KeySpec.Or(in.CustomerMasterKeySpec.Or(string(key.SymmetricDefault)))
	spec, origin = key.Spec(text), key.Origin(in.Origin.Or(string(key.OriginAWSKMS)))
	if usage = key.Usage(in.KeyUsage.V); usage == "" && spec == key.SymmetricDefault {
		usage = key.EncryptDecrypt
	}
	return spec, usage, origin
}

// checkKeyKind refuses combinations that the service refuses, and honestly those that this Keywright does not have.
func checkKeyKind(in *kmsapi.CreateKeyRequest) error {
	if in.KeySpec.Set && in.CustomerMasterKeySpec.Set {
		return wire.Errorf(wire.CodeValidation, "You cannot specify KeySpec and CustomerMasterKeySpec in the same request. CustomerMasterKeySpec is deprecated.")
	}
	spec, usage, origin := createKeyDefaults(in)
	row := keyspec.Of(spec) // the model has no spec without one
	missing := func(what, value string) error {
		return wire.Errorf(kmsapi.CodeUnsupportedOperationException, "This Keywright does not have keys with %s %s.", what, value)
	}
	switch {
	case usage == "":
		return wire.Errorf(wire.CodeValidation, "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.")
	case !slices.Contains(row.Usages, usage):
		return wire.Errorf(wire.CodeValidation, "KeyUsage %s is not compatible with KeySpec %s", usage, spec)
	case in.CustomKeyStoreID.Set:
		return wire.Bare(kmsapi.CodeCustomKeyStoreNotFoundException) // there are none
	case in.XksKeyID.Set:
		return wire.Errorf(wire.CodeValidation, "XksKeyId can only be specified for KMS keys in an external key store.")
	case origin == key.OriginExternal && !row.Importable:
		return wire.Errorf(kmsapi.CodeUnsupportedOperationException, "Key material cannot be imported into keys with KeySpec %s.", spec)
	case origin != key.OriginAWSKMS && origin != key.OriginExternal:
		return missing("Origin", string(origin))
	}
	return allowedSpec(spec)
}

func createKey(r *request, in *kmsapi.CreateKeyRequest) (*kmsapi.CreateKeyResponse, error) {
	if err := firstError(checkKeyKind(in), checkTags(in.Tags)); err != nil {
		return nil, err
	}
	caller := r.call.Caller
	text := in.Policy.V
	if !in.Policy.Set {
		text = policy.DefaultKeyPolicy(caller.Account, r.call.Region.Partition())
	}
	spec, usage, origin := createKeyDefaults(in)
	k := &key.Key{
		Name:        key.Name{Account: caller.Account, Region: r.call.Region, ID: arn.NewKeyID(in.MultiRegion.V)},
		CreatedAt:   r.moment(),
		Description: in.Description.V,
		Spec:        spec, Usage: usage, Origin: origin, Manager: key.ManagerCustomer,
		State: key.Enabled, MultiRegion: in.MultiRegion.V,
	}
	if k.MultiRegion {
		k.Primary = k.Region
	}
	k.SetTags(toTags(in.Tags))
	if err := r.mayTag(k, in.Tags, r.op.facts, in); err != nil {
		return nil, err
	}
	doc, bindings, err := r.readPolicy(text)
	if err != nil {
		return nil, err
	}
	k.Policy, k.Principals = text, bindings
	if err := r.lockout(k, doc, nil, in.BypassPolicyLockoutSafetyCheck.V); err != nil {
		return nil, err
	}
	if err := r.makeMaterial(k, in); err != nil {
		return nil, err
	}
	var snap *snapshot
	err = r.retry(func() error {
		if r.waitedLong {
			if err := r.mayStillMake(k, in); err != nil {
				return err
			}
		}
		snap, err = r.commit(r.ctx, nil, k, r.inTime, func(tx *store.Tx) error { return r.keyQuota(tx, k.Name) })
		return err
	})
	if err != nil {
		return nil, err
	}
	r.call.Concerns(snap.Account, snap.arn)
	return &kmsapi.CreateKeyResponse{KeyMetadata: metadata(snap.Key)}, nil
}

// actionTagResource is what CreateKey and ReplicateKey need besides their own permission if the new key is to have tags.
var actionTagResource = guard.NewAction("kms:TagResource")

// mayTag asks whether the caller may give a new key its tags. There is no key policy yet: identity policies decide, over the
// key's ARN ("Controlling access to tags", KMS developer guide).
func (r *request) mayTag(k *key.Key, tags []kmsapi.Tag, facts guard.FactSource, in wire.Input) error {
	if len(tags) == 0 {
		return nil
	}
	_, err := r.call.Authorize(guard.Resource{Action: actionTagResource, ARN: k.ARN(), Owner: k.Account, Facts: facts, Input: in})
	return err
}

// makeMaterial gives a new key its first material, unless that is imported later. Making it can take seconds, so that it is not
// begun for a key for which there is no room, and the right to make such a key is asked for again.
func (r *request) makeMaterial(k *key.Key, in *kmsapi.CreateKeyRequest) error {
	if k.Origin == key.OriginExternal {
		k.State = key.PendingImport
		return nil
	}
	if err := r.keyRoom(r.ctx, k.Name); err != nil {
		return err
	}
	m, err := r.custody.Generate(r.ctx, r.permit, k, k.CreatedAt)
	if err != nil {
		return err
	}
	k.Material = []key.Material{m}
	if !keyspec.SlowToMake(k.Spec) {
		return nil
	}
	if err := r.call.Refresh(r.ctx); err != nil {
		return err
	}
	return r.mayStillMake(k, in)
}

// mayStillMake asks again for the right to make a key.
func (r *request) mayStillMake(k *key.Key, in *kmsapi.CreateKeyRequest) error {
	if err := firstFailure(r.renew(), func() error { return r.admitCall(in) }); err != nil {
		return err
	}
	return r.mayTag(k, in.Tags, r.op.facts, in)
}

// metadata describes a key as CreateKey and DescribeKey answer it.
func metadata(k *key.Key) *kmsapi.KeyMetadata {
	m := &kmsapi.KeyMetadata{
		AWSAccountID: wire.Some(string(k.Account)), KeyID: wire.Some(string(k.ID)), ARN: wire.Some(k.ARN()),
		CreationDate: wire.Some(k.CreatedAt), Enabled: wire.Some(k.State == key.Enabled), Description: wire.Some(k.Description),
		KeyUsage: wire.Some(string(k.Usage)), KeyState: wire.Some(string(k.State)), Origin: wire.Some(string(k.Origin)),
		KeyManager: wire.Some(string(k.Manager)), CustomerMasterKeySpec: wire.Some(string(k.Spec)), KeySpec: wire.Some(string(k.Spec)),
		MultiRegion: wire.Some(k.MultiRegion),
	}
	algorithms := keyspec.Of(k.Spec).Algorithms(k.Usage)
	switch k.Usage {
	case key.EncryptDecrypt:
		m.EncryptionAlgorithms = algorithms
	case key.SignVerify:
		m.SigningAlgorithms = algorithms
	case key.MACUsage:
		m.MacAlgorithms = algorithms
	case key.KeyAgreement:
		m.KeyAgreementAlgorithms = algorithms
	case key.Encapsulation:
		m.EncapsulationAlgorithms = algorithms
	}
	if !k.DeletionAt.IsZero() {
		m.DeletionDate = wire.Some(k.DeletionAt)
	}
	if k.State == key.PendingReplicaDeletion {
		m.PendingDeletionWindowInDays = wire.Some(int32(k.PendingWindowInDays))
	}
	if k.MultiRegion {
		m.MultiRegionConfiguration = regionsOf(k)
	}
	showExpiration(m, k)
	if current := k.Current(); current != nil && k.State != key.Creating && k.Spec == key.SymmetricDefault {
		m.CurrentKeyMaterialID = wire.Some(current.ID)
	}
	return m
}

func describeKey(r *request, _ *kmsapi.DescribeKeyRequest) (*kmsapi.DescribeKeyResponse, error) {
	return &kmsapi.DescribeKeyResponse{KeyMetadata: metadata(r.key.Key)}, nil
}

func listKeys(r *request, in *kmsapi.ListKeysRequest) (*kmsapi.ListKeysResponse, error) {
	caller := r.call.Caller
	after, err := r.readMarker(in.Marker)
	if err != nil {
		return nil, err
	}
	ids, more, err := r.store.ListKeys(r.ctx, caller.Account, r.call.Region, arn.KeyID(after), int(in.Limit.Or(100)))
	if err != nil {
		return nil, err
	}
	out := &kmsapi.ListKeysResponse{Keys: make([]kmsapi.KeyListEntry, len(ids)), Truncated: wire.Some(more)}
	for i, id := range ids {
		out.Keys[i] = kmsapi.KeyListEntry{KeyID: wire.Some(string(id)), KeyARN: wire.Some(id.ARN(r.call.Region, caller.Account))}
	}
	if more {
		out.NextMarker, err = r.marker(string(ids[len(ids)-1]))
	}
	return out, err
}

// setState is EnableKey and DisableKey.
func (r *request) setState(state key.State) error {
	return r.change(func(k *key.Key) error {
		k.State = state
		return nil
	})
}

func enableKey(r *request, _ *kmsapi.EnableKeyRequest) error   { return r.setState(key.Enabled) }
func disableKey(r *request, _ *kmsapi.DisableKeyRequest) error { return r.setState(key.Disabled) }

func updateKeyDescription(r *request, in *kmsapi.UpdateKeyDescriptionRequest) error {
	return r.change(func(k *key.Key) error {
		k.Description = in.Description.V
		return nil
	})
}
