package kms

import (
	"time"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// The waiting period before a key is deleted, in days (API_ScheduleKeyDeletion).
const (
	minWindow     = 7
	maxWindow     = 30
	defaultWindow = 30
)

func checkWindow(in *kmsapi.ScheduleKeyDeletionRequest) error {
	if w := in.PendingWindowInDays.Or(defaultWindow); w < minWindow || w > maxWindow {
		return wire.Errorf(wire.CodeValidation, "PendingWindowInDays must be between %d and %d.", minWindow, maxWindow)
	}
	return nil
}

func scheduleKeyDeletion(r *request, in *kmsapi.ScheduleKeyDeletionRequest) (*kmsapi.ScheduleKeyDeletionResponse, error) {
	days := int(in.PendingWindowInDays.Or(defaultWindow))
	err := r.change(func(k *key.Key) error {
		k.PendingWindowInDays, k.Next, k.ReadyAt = days, "", time.Time{}
		if !k.IsReplica() && len(k.Replicas) > 0 { // the window begins when the last of them has gone
			k.State = key.PendingReplicaDeletion
			return nil
		}
		k.State, k.DeletionAt = key.PendingDeletion, r.moment().AddDate(0, 0, days)
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := &kmsapi.ScheduleKeyDeletionResponse{
		KeyID: wire.Some(r.key.arn), KeyState: wire.Some(string(r.key.State)), PendingWindowInDays: wire.Some(int32(days)),
	}
	if !r.key.DeletionAt.IsZero() {
		out.DeletionDate = wire.Some(r.key.DeletionAt)
	}
	return out, nil
}

func cancelKeyDeletion(r *request, _ *kmsapi.CancelKeyDeletionRequest) (*kmsapi.CancelKeyDeletionResponse, error) {
	err := r.change(func(k *key.Key) error {
		k.Restore()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &kmsapi.CancelKeyDeletionResponse{KeyID: wire.Some(r.key.arn)}, nil
}
