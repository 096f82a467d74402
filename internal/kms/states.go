package kms

import (
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// stateRule is a row of the matrix of key states: which states keep an operation from a key. It has one field per column
// of "Key states of AWS KMS keys" (KMS developer guide) whose answer differs between operations.
type stateRule struct {
	Disabled        bool // refused while disabled
	PendingDeletion bool // refused while pending deletion
	PendingImport   bool // refused while it waits for material
	Creating        bool
	Updating        bool
	Unavailable     bool
	OnlyPending     bool // refused unless pending deletion
	OnlyExternal    bool // refused, whatever the state, unless the key's material is imported
}

// The rows of the matrix that operations share.
var (
	usable   = stateRule{Disabled: true, PendingDeletion: true, PendingImport: true, Creating: true, Unavailable: true}
	settable = stateRule{PendingDeletion: true, PendingImport: true, Creating: true, Updating: true} // EnableKey, DisableKey
	// The settings of automatic rotation: what waits for import cannot have any, whatever its state.
	rotates = stateRule{Disabled: true, PendingDeletion: true, Creating: true}
	// RotateKeyOnDemand.
	rotatesNow = stateRule{Disabled: true, PendingDeletion: true, PendingImport: true, Creating: true, Updating: true}
	// GetPublicKey: what a disabled key has told everybody, it goes on telling.
	readable = stateRule{PendingDeletion: true, PendingImport: true, Creating: true, Unavailable: true}
	editable = stateRule{PendingDeletion: true}
	// CreateGrant is allowed while the key is unavailable.
	grantable = stateRule{Disabled: true, PendingDeletion: true, PendingImport: true, Creating: true}
	deletes   = stateRule{PendingDeletion: true, Updating: true}
	// ReplicateKey and UpdatePrimaryRegion.
	replicates = stateRule{Disabled: true, PendingDeletion: true, PendingImport: true, Creating: true, Updating: true}
	leadsOff   = stateRule{Disabled: true, PendingDeletion: true, PendingImport: true, Creating: true}
	restores   = stateRule{OnlyPending: true}
	// GetParametersForImport, ImportKeyMaterial and DeleteImportedKeyMaterial.
	asksImport    = stateRule{OnlyExternal: true, PendingDeletion: true, Creating: true, Updating: true}
	imports       = stateRule{OnlyExternal: true, PendingDeletion: true, Creating: true}
	deletesImport = stateRule{OnlyExternal: true, Creating: true, Updating: true}
)

// blocks returns the error with which the key's state keeps the operation from it, or nil.
func (s stateRule) blocks(k *key.Key) error {
	if s.OnlyExternal && k.Origin != key.OriginExternal {
		return wrongOrigin(k)
	}
	pending := k.State == key.PendingDeletion || k.State == key.PendingReplicaDeletion
	if s.OnlyPending && !pending {
		return invalidState(k, "is not pending deletion.")
	}
	switch {
	case s.Disabled && k.State == key.Disabled:
		return wire.Errorf(kmsapi.CodeDisabledException, "%s is disabled.", k.ARN())
	case s.PendingDeletion && pending:
		return invalidState(k, "is pending deletion.")
	case s.PendingImport && (k.State == key.PendingImport || k.State == key.Updating && !k.Complete()):
		return invalidState(k, "is pending import.")
	case s.Unavailable && k.State == key.Unavailable:
		return invalidState(k, "is unavailable.")
	case s.Creating && k.State == key.Creating:
		return invalidState(k, "is creating.")
	case s.Updating && k.State == key.Updating:
		return invalidState(k, "is updating.")
	}
	return nil
}

func invalidState(k *key.Key, is string) error {
	return wire.Errorf(kmsapi.CodeKMSInvalidStateException, "%s %s", k.ARN(), is)
}

// wrongOrigin is the answer to an operation that keys of this origin do not have.
func wrongOrigin(k *key.Key) error {
	return wire.Errorf(kmsapi.CodeUnsupportedOperationException, "%s origin is %s which is not valid for this operation.", k.ARN(), k.Origin)
}
