package kms

import (
	"time"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// defaultRotationPeriod is the period in days where EnableKeyRotation names none (API_EnableKeyRotation).
const defaultRotationPeriod = 365

func enableKeyRotation(r *request, in *kmsapi.EnableKeyRotationRequest) error {
	days := int(in.RotationPeriodInDays.Or(defaultRotationPeriod))
	return r.change(func(k *key.Key) error {
		if k.Rotation.Enabled && k.Rotation.PeriodInDays == days {
			return nil // the clock goes on
		}
		k.Rotation.Enabled, k.Rotation.PeriodInDays = true, days
		k.Rotation.Next = r.now().UTC().Truncate(time.Millisecond).AddDate(0, 0, days)
		return nil
	})
}

func disableKeyRotation(r *request, _ *kmsapi.DisableKeyRotationRequest) error {
	return r.change(func(k *key.Key) error {
		k.Rotation.Enabled, k.Rotation.PeriodInDays, k.Rotation.Next = false, 0, time.Time{}
		return nil
	})
}

func getKeyRotationStatus(r *request, _ *kmsapi.GetKeyRotationStatusRequest) (*kmsapi.GetKeyRotationStatusResponse, error) {
	k := r.key
	on := k.Rotation.Enabled && k.State != key.PendingDeletion && k.State != key.PendingReplicaDeletion
	out := &kmsapi.GetKeyRotationStatusResponse{KeyID: wire.Some(k.arn), KeyRotationEnabled: wire.Some(on)}
	if on {
		out.RotationPeriodInDays = wire.Some(int32(k.Rotation.PeriodInDays))
		out.NextRotationDate = wire.Some(k.Rotation.Next)
	}
	return out, nil
}
