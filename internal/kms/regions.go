package kms

import (
	"slices"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/quota"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// regionsOf describes where the keys of a multi-Region key's set are.
func regionsOf(k *key.Key) *kmsapi.MultiRegionConfiguration {
	in := func(r arn.Region) kmsapi.MultiRegionKey {
		return kmsapi.MultiRegionKey{ARN: wire.Some(k.ID.ARN(r, k.Account)), Region: wire.Some(string(r))}
	}
	primary := in(k.Primary)
	c := &kmsapi.MultiRegionConfiguration{
		MultiRegionKeyType: wire.Some(kmsapi.MultiRegionKeyTypePrimary), PrimaryKey: &primary, ReplicaKeys: make([]kmsapi.MultiRegionKey, len(k.Replicas)),
	}
	if k.IsReplica() {
		c.MultiRegionKeyType = wire.Some(kmsapi.MultiRegionKeyTypeReplica)
	}
	for i, r := range k.Replicas {
		c.ReplicaKeys[i] = in(r)
	}
	return c
}

// otherRegion checks the Region that a multi-Region key is to come to or be led from: its form, and that it is one of the
// Regions that there are in the partition of the request.
func (r *request) otherRegion(name string) (arn.Region, error) {
	region, err := arn.ParseRegion(name)
	if err != nil || region.Partition() != r.call.Region.Partition() || !r.regions(region) {
		return "", wire.Errorf(wire.CodeValidation, "%s is not a Region of the partition %s.", name, r.call.Region.Partition())
	}
	return region, nil
}

// actionCreateKey is what ReplicateKey needs in the replica's Region.
var actionCreateKey = guard.NewAction("kms:CreateKey")

// replicaFacts are what conditions on kms:CreateKey and kms:TagResource may ask of a replica that is to be made.
func replicaFacts(k *key.Key) guard.FactSource {
	return facts(func(f *guard.Facts, in *kmsapi.ReplicateKeyRequest) {
		f.String("kms:KeySpec", string(k.Spec))
		f.String("kms:CustomerMasterKeySpec", string(k.Spec))
		f.String("kms:KeyUsage", string(k.Usage))
		f.String("kms:CustomerMasterKeyUsage", string(k.Usage))
		f.String("kms:KeyOrigin", string(k.Origin))
		f.Bool("kms:MultiRegion", true)
		f.String("kms:MultiRegionKeyType", kmsapi.MultiRegionKeyTypeReplica)
		replicateFacts(f, in)
	})
}

func replicateFacts(f *guard.Facts, in *kmsapi.ReplicateKeyRequest) {
	f.String("kms:ReplicaRegion", in.ReplicaRegion.V)
	f.Bool("kms:BypassPolicyLockoutSafetyCheck", in.BypassPolicyLockoutSafetyCheck.V)
	tagFacts(f, in.Tags)
}

// mayReplicate asks whether the caller may make a key like k in k's Region, with the tags of the input.
func (r *request) mayReplicate(k *key.Key, in *kmsapi.ReplicateKeyRequest) error {
	about := replicaFacts(k)
	return r.call.In(k.Region, func() error {
		_, err := r.call.Authorize(guard.Resource{Action: actionCreateKey, ARN: "*", Facts: about, Input: in})
		return firstFailure(err, func() error { return r.mayTag(k, in.Tags, about, in) })
	})
}

// firstFailure returns err or, without it, what next returns.
func firstFailure(err error, next func() error) error {
	if err != nil {
		return err
	}
	return next()
}

// newReplica returns the replica that a request asks for, without what it is to share with its primary key.
func (r *request) newReplica(region arn.Region, in *kmsapi.ReplicateKeyRequest) (*key.Key, error) {
	from := r.key.Key
	k := &key.Key{
		Name: key.Name{Account: from.Account, Region: region, ID: from.ID}, CreatedAt: r.moment(), Description: in.Description.V,
		Spec: from.Spec, Usage: from.Usage, Origin: from.Origin, Manager: from.Manager, MultiRegion: true, Primary: from.Region,
		State: key.Creating, Next: key.Enabled,
		Policy: in.Policy.Or(policy.DefaultKeyPolicy(from.Account, region.Partition())),
	}
	k.ReadyAt = k.CreatedAt
	if k.Origin == key.OriginExternal {
		k.Next = key.PendingImport
	}
	k.SetTags(toTags(in.Tags))
	if err := firstError(checkTags(in.Tags), r.mayReplicate(k, in)); err != nil {
		return nil, err
	}
	doc, bindings, err := r.readPolicy(k.Policy)
	if err != nil {
		return nil, err
	}
	k.Principals = bindings
	return k, r.call.In(region, func() error { return r.lockout(k, doc, nil, in.BypassPolicyLockoutSafetyCheck.V) })
}

func replicateKey(r *request, in *kmsapi.ReplicateKeyRequest) (*kmsapi.ReplicateKeyResponse, error) {
	if err := isPrimary(r.key.Key); err != nil {
		return nil, err
	}
	region, err := r.otherRegion(in.ReplicaRegion.V)
	if err != nil {
		return nil, err
	}
	replica, err := r.newReplica(region, in)
	if err != nil {
		return nil, err
	}
	// The second of the two is a dry run at AWS ("Request quotas", KMS developer guide).
	if err := r.chargeIn(region, quota.Own("kms", "CreateKey"), 2); err != nil {
		return nil, err
	}
	if err := r.addReplica(replica, in); err != nil {
		return nil, err
	}
	r.call.Does(guard.Elsewhere{
		Region: region, Name: "CreateKey", Show: func(f *audit.Fields) { showReplica(f, replica, in) },
		Resources: []audit.Resource{{Account: replica.Account, ARN: replica.ARN()}},
	})
	out := &kmsapi.ReplicateKeyResponse{
		ReplicaKeyMetadata: metadata(replica), ReplicaPolicy: wire.Some(replica.Policy), ReplicaTags: make([]kmsapi.Tag, len(replica.Tags)),
	}
	for i, t := range replica.Tags {
		out.ReplicaTags[i] = kmsapi.Tag{TagKey: wire.Some(t.Key), TagValue: wire.Some(t.Value)}
	}
	return out, nil
}

// addReplica stores a replica and tells all keys of its set of it, unless something has come to forbid that.
func (r *request) addReplica(replica *key.Key, in *kmsapi.ReplicateKeyRequest) error {
	return r.retry(func() error { return r.tryAddReplica(replica, in) })
}

func (r *request) tryAddReplica(replica *key.Key, in *kmsapi.ReplicateKeyRequest) error {
	set, unlock, err := r.lockRegions(r.ctx, r.key.Name, replica.Region)
	if err != nil {
		return gone(r.key.Name, err)
	}
	defer unlock()
	primary := set.own()
	err = firstError(r.stillAllowed(set.now[0]), r.op.States.blocks(primary), isPrimary(primary))
	if err := firstFailure(err, func() error { return r.mayReplicate(replica, in) }); err != nil {
		return err
	}
	if slices.Contains(related(primary), replica.Name) {
		return wire.Errorf(kmsapi.CodeAlreadyExistsException, "The key %s already exists in the Region %s.", primary.ID, replica.Region)
	}
	primary.Replicas = append(primary.Replicas, replica.Region)
	slices.Sort(primary.Replicas)
	set.next = append(set.next, replica)
	set.share()
	return r.commitRegions(r.ctx, set, r.inTime, func(tx *store.Tx) error { return r.keyQuota(tx, replica.Name) }, noRecord)
}

func updatePrimaryRegion(r *request, in *kmsapi.UpdatePrimaryRegionRequest) error {
	if err := isPrimary(r.key.Key); err != nil {
		return err
	}
	region, err := r.otherRegion(in.PrimaryRegion.V)
	if err != nil {
		return err
	}
	if err := r.chargeIn(region, r.op.rate(), 1); err != nil {
		return err
	}
	err = r.changeRegions(func(set *regionSet) error { return r.lead(set, region, in) })
	if err != nil {
		return err
	}
	there := r.key.ID.ARN(region, r.key.Account)
	r.call.Does(guard.Elsewhere{Region: region, Name: r.op.Name, Show: func(f *audit.Fields) {
		f.String("keyId", there)
		f.String("primaryRegion", in.PrimaryRegion.V)
	}})
	return nil
}

// lead makes the replica in a Region the primary key of a set. The caller needs the permission on it, too.
func (r *request) lead(set *regionSet, region arn.Region, in *kmsapi.UpdatePrimaryRegionRequest) error {
	was, is := set.own(), set.replica(region)
	switch {
	case region == was.Region:
		return wire.Errorf(wire.CodeValidation, "%s is the primary key of its multi-Region keys already.", was.ARN())
	case was.IsReplica():
		return notPrimary(was)
	case is == nil:
		return wire.Errorf(kmsapi.CodeNotFoundException, "Key '%s' does not exist", was.ID.ARN(region, was.Account))
	}
	there := set.now[slices.Index(set.next, is)]
	err := r.call.In(region, func() error {
		_, err := r.authorize(there, "", r.ask(in))
		return err
	})
	if err := firstFailure(err, func() error { return r.op.States.blocks(is) }); err != nil {
		return err
	}
	replicas := slices.DeleteFunc(slices.Clone(was.Replicas), func(other arn.Region) bool { return other == region })
	replicas = append(replicas, was.Region)
	slices.Sort(replicas)
	for _, k := range []*key.Key{was, is} {
		k.Primary, k.Replicas = region, replicas
		k.State, k.Next, k.ReadyAt = key.Updating, key.Enabled, r.moment()
	}
	return nil
}

func showReplicate(f *audit.Fields, in *kmsapi.ReplicateKeyRequest) {
	f.String("keyId", in.KeyID.V)
	f.String("replicaRegion", in.ReplicaRegion.V)
	f.Bool("bypassPolicyLockoutSafetyCheck", in.BypassPolicyLockoutSafetyCheck.V)
	f.String("description", in.Description.V)
	text(f, "policy", in.Policy)
	if in.Tags != nil {
		showTags(f, in.Tags)
	}
}

// showReplica shows the making of a replica as the record of a CreateKey does.
func showReplica(f *audit.Fields, k *key.Key, in *kmsapi.ReplicateKeyRequest) {
	f.String("description", k.Description)
	f.String("keyUsage", string(k.Usage))
	f.String("origin", string(k.Origin))
	f.String("keySpec", string(k.Spec))
	f.String("customerMasterKeySpec", string(k.Spec))
	f.Bool("bypassPolicyLockoutSafetyCheck", in.BypassPolicyLockoutSafetyCheck.V)
	f.Bool("multiRegion", true)
	text(f, "policy", in.Policy)
	if in.Tags != nil {
		showTags(f, in.Tags)
	}
}

func replyReplicate(f *audit.Fields, _ *guard.Call, out wire.Output) {
	o := out.(*kmsapi.ReplicateKeyResponse)
	f.Object("replicaKeyMetadata", func(f *audit.Fields) { showMetadata(f, o.ReplicaKeyMetadata) })
	f.String("replicaPolicy", o.ReplicaPolicy.V)
}
