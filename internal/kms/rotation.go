package kms

import (
	"context"
	"time"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/quota"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

const (
	// defaultRotationPeriod is the period in days where EnableKeyRotation names none (API_EnableKeyRotation).
	defaultRotationPeriod = 365
	// beforeAutomatic is how long before an automatic rotation a key cannot be rotated on demand (API_RotateKeyOnDemand,
	// ConflictException).
	beforeAutomatic = 20 * time.Minute
)

// hasRotations returns the error for a key whose material never rotates: whatever is asked about it, there is no message.
func hasRotations(k *key.Key) error {
	if k.Spec != key.SymmetricDefault {
		return wire.Bare(kmsapi.CodeUnsupportedOperationException)
	}
	return nil
}

// ownMaterial returns the error for a key whose material was not made here.
func ownMaterial(k *key.Key) error {
	if k.Origin != key.OriginAWSKMS {
		return wrongOrigin(k)
	}
	return nil
}

func enableKeyRotation(r *request, in *kmsapi.EnableKeyRotationRequest) error {
	days := int(in.RotationPeriodInDays.Or(defaultRotationPeriod))
	if err := firstError(ownMaterial(r.key.Key), hasRotations(r.key.Key), leads(r.key.Key)); err != nil {
		return err
	}
	return r.changeShared(func(k *key.Key) error {
		if err := leads(k); err != nil {
			return err
		}
		if k.Rotation.Enabled && k.Rotation.PeriodInDays == days {
			return nil // the clock goes on
		}
		k.Rotation.Enabled, k.Rotation.PeriodInDays = true, days
		k.Rotation.Next = r.moment().AddDate(0, 0, days)
		return nil
	})
}

// disableKeyRotation does nothing, successfully, to keys that have no rotation because of their spec.
func disableKeyRotation(r *request, _ *kmsapi.DisableKeyRotationRequest) error {
	if err := firstError(ownMaterial(r.key.Key), leads(r.key.Key)); err != nil {
		return err
	}
	return r.changeShared(func(k *key.Key) error {
		if err := leads(k); err != nil {
			return err
		}
		k.Rotation.Enabled, k.Rotation.PeriodInDays, k.Rotation.Next = false, 0, time.Time{}
		return nil
	})
}

func getKeyRotationStatus(r *request, _ *kmsapi.GetKeyRotationStatusRequest) (*kmsapi.GetKeyRotationStatusResponse, error) {
	k := r.key
	if err := ownMaterial(k.Key); err != nil {
		return nil, err
	}
	on := k.Rotation.Enabled && k.State != key.PendingDeletion && k.State != key.PendingReplicaDeletion
	out := &kmsapi.GetKeyRotationStatusResponse{KeyID: wire.Some(k.arn), KeyRotationEnabled: wire.Some(on)}
	if on {
		out.RotationPeriodInDays = wire.Some(int32(k.Rotation.PeriodInDays))
		out.NextRotationDate = wire.Some(k.Rotation.Next)
	}
	return out, nil
}

// mayRotate checks whether a key can be rotated on demand now, which it may so many times in its life. What material it gets is not asked here.
func mayRotate(k *key.Key, most int64, now time.Time) error {
	switch {
	case int64(k.Rotation.OnDemand) >= most:
		return wire.Errorf(kmsapi.CodeLimitExceededException,
			"The on-demand rotations limit has been reached for the given keyId. No more on-demand rotations can be performed for this key: %s", k.ARN())
	case k.Rotation.Enabled && !k.Rotation.Next.After(now.Add(beforeAutomatic)):
		return wire.Errorf(kmsapi.CodeConflictException, "An automatic rotation of %s is in progress or begins within %d minutes.", k.ARN(), int(beforeAutomatic.Minutes()))
	}
	return nil
}

// awaited returns the imported material to which a key can rotate.
func awaited(k *key.Key) (key.Material, error) {
	if m := k.Pending(); m != nil && m.State == key.PendingRotation && m.Imported() {
		return *m, nil
	}
	return key.Material{}, wire.Errorf(kmsapi.CodeKMSInvalidStateException, "No available key material pending rotation for the key: %s.", k.ARN())
}

// rotateKeyOnDemand rotates at once. Besides the record of the call there is one of the rotation, as of one that was due.
func rotateKeyOnDemand(r *request, _ *kmsapi.RotateKeyOnDemandRequest) (*kmsapi.RotateKeyOnDemandResponse, error) {
	if err := firstError(hasRotations(r.key.Key), leads(r.key.Key)); err != nil {
		return nil, err
	}
	var fresh key.Material
	if r.key.Origin == key.OriginAWSKMS { // made before the key is locked
		var err error
		if fresh, err = r.custody.Generate(r.ctx, r.permit, r.key.Key, r.moment()); err != nil {
			return nil, err
		}
	}
	err := r.retry(func() error { return r.rotateOnDemand(fresh) })
	if err != nil {
		return nil, err
	}
	return &kmsapi.RotateKeyOnDemandResponse{KeyID: wire.Some(r.key.arn)}, nil
}

// rotateOnDemand gives the request's key the material fresh, or what waits of imported material, if that is still allowed.
func (r *request) rotateOnDemand(fresh key.Material) error {
	name := r.key.Name
	set, unlock, err := r.lockRegions(r.ctx, name)
	if err != nil {
		return gone(name, err)
	}
	defer unlock()
	now, next := set.now[0], set.own()
	set.share() // material of a replica may have expired since
	err = firstError(r.stillAllowed(now), r.op.States.blocks(now.Key), leads(next))
	if err == nil && next.Origin == key.OriginExternal {
		fresh, err = awaited(next)
	}
	if err := firstError(err, mayRotate(next, r.most(next.Name, quota.OnDemandRotations), r.now())); err != nil {
		return err
	}
	next.Rotation.OnDemand++
	turn := func(guard.Permit) (*audit.Fields, error) { return r.rotate(set, key.OnDemand, fresh), nil }
	return r.guard.Act(guard.RotateKey, name, turn, func(record func() error) error {
		return r.commitRegions(context.WithoutCancel(r.ctx), set, r.inTime, nil, record)
	})
}

// moment is now as it is stored.
func (s *Service) moment() time.Time { return s.now().UTC().Truncate(time.Millisecond) }

// rotate makes m the current material of a key in all its Regions, for the caller to commit, and returns what the record of the
// rotation says. The key that the set was locked for is not a replica. by is the type of the rotation.
func (s *Service) rotate(set *regionSet, by string, m key.Material) *audit.Fields {
	next := set.own()
	details := new(audit.Fields)
	details.String("rotationType", by)
	details.String("keyOrigin", string(next.Origin))
	details.String("previousKeyMaterialId", next.Current().ID)
	details.String("currentKeyMaterialId", m.ID)
	details.String("keyId", string(next.ID))
	next.Rotate(m, by, s.moment())
	set.share()
	return details
}

// listKeyRotations lists generations of material, oldest first: those that rotations brought, or all of them.
func listKeyRotations(r *request, in *kmsapi.ListKeyRotationsRequest) (*kmsapi.ListKeyRotationsResponse, error) {
	if err := hasRotations(r.key.Key); err != nil {
		return nil, err
	}
	after, err := r.readMarker(in.Marker)
	if err != nil {
		return nil, err
	}
	all := in.IncludeKeyMaterial.V == kmsapi.IncludeKeyMaterialAllKeyMaterial
	out := &kmsapi.ListKeyRotationsResponse{Rotations: []kmsapi.RotationsListEntry{}, Truncated: wire.Some(false)}
	var last string
	begun := after == ""
	for i := range r.key.Material {
		m := &r.key.Material[i]
		switch {
		case !begun:
			begun = m.ID == after
		case !all && m.RotatedBy == "":
		case len(out.Rotations) == int(in.Limit.Or(defaultRotations)):
			out.Truncated = wire.Some(true)
			out.NextMarker, err = r.marker(last)
			return out, err
		default:
			out.Rotations = append(out.Rotations, rotationEntry(r.key.Key, m))
			last = m.ID
		}
	}
	if !begun { // of another key, or of material that is gone
		return nil, wire.Bare(kmsapi.CodeInvalidMarkerException)
	}
	return out, nil
}

// defaultRotations is the length of a page of ListKeyRotations (API_ListKeyRotations).
const defaultRotations = 100

// rotationEntry describes a generation of material. The first one and one that is pending have no rotation; what an import
// brings, only imported material has.
func rotationEntry(k *key.Key, m *key.Material) kmsapi.RotationsListEntry {
	e := kmsapi.RotationsListEntry{KeyID: wire.Some(string(k.ID)), KeyMaterialID: wire.Some(m.ID), KeyMaterialState: wire.Some(string(m.State))}
	if m.RotatedBy != "" {
		e.RotationType, e.RotationDate = wire.Some(m.RotatedBy), wire.Some(m.RotatedAt)
	}
	if k.Origin != key.OriginExternal {
		return e
	}
	e.ImportState = wire.Some(kmsapi.ImportStatePendingImport)
	if m.Imported() {
		e.ImportState, e.ExpirationModel = wire.Some(kmsapi.ImportStateImported), wire.Some(string(m.Expiration))
	}
	if m.Description != "" {
		e.KeyMaterialDescription = wire.Some(m.Description)
	}
	if !m.ValidTo.IsZero() {
		e.ValidTo = wire.Some(m.ValidTo)
	}
	return e
}
