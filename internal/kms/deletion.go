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
		k.State = key.PendingDeletion
		k.PendingWindowInDays = days
		k.DeletionAt = r.moment().AddDate(0, 0, days)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &kmsapi.ScheduleKeyDeletionResponse{
		KeyID: wire.Some(r.key.arn), DeletionDate: wire.Some(r.key.DeletionAt), KeyState: wire.Some(string(r.key.State)),
		PendingWindowInDays: wire.Some(int32(days)),
	}, nil
}

func cancelKeyDeletion(r *request, _ *kmsapi.CancelKeyDeletionRequest) (*kmsapi.CancelKeyDeletionResponse, error) {
	err := r.change(func(k *key.Key) error {
		k.State, k.PendingWindowInDays, k.DeletionAt = k.RestoredState(), 0, time.Time{}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &kmsapi.CancelKeyDeletionResponse{KeyID: wire.Some(r.key.arn)}, nil
}
