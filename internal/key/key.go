// Package key holds the nouns of the service, KMS keys, their material, aliases and grants, and the rules of their states.
//
// It is pure: no clock, no store, no cryptography. A *Key is never changed once it is shared; whoever wants another
// state makes a Clone and changes that. Material travels through here wrapped only: this package must never hold the
// bytes of a key.
package key

import (
	"slices"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/arn"
)

// Spec, Usage, Origin and Manager carry the API's own words. The zero values mean nothing and are refused.
type (
	// Spec is a KeySpec, such as SYMMETRIC_DEFAULT or RSA_2048.
	Spec string
	// Usage is a KeyUsage, such as ENCRYPT_DECRYPT.
	Usage string
	// Origin is an OriginType: where the material comes from.
	Origin string
	// Manager is a KeyManagerType: who may change the key.
	Manager string
)

// The words that this package's rules speak of; the wire model has the full sets.
const (
	SymmetricDefault Spec    = "SYMMETRIC_DEFAULT"
	EncryptDecrypt   Usage   = "ENCRYPT_DECRYPT"
	OriginAWSKMS     Origin  = "AWS_KMS"
	OriginExternal   Origin  = "EXTERNAL"
	ManagerCustomer  Manager = "CUSTOMER"
	ManagerAWS       Manager = "AWS"
)

// State is a KeyState of the API.
type State string

// The key states. The zero value is invalid.
const (
	Enabled                State = "Enabled"
	Disabled               State = "Disabled"
	PendingDeletion        State = "PendingDeletion"
	PendingReplicaDeletion State = "PendingReplicaDeletion"
	PendingImport          State = "PendingImport"
	Creating               State = "Creating"
	Updating               State = "Updating"
	Unavailable            State = "Unavailable"
)

// Name says which key is meant: the account that owns it, its Region and its id.
type Name struct {
	Account arn.Account
	Region  arn.Region
	ID      arn.KeyID
}

// ARN returns the key ARN.
func (n Name) ARN() string { return n.ID.ARN(n.Region, n.Account) }

// Key is everything that the service knows of one KMS key, but for its aliases and grants. Times are UTC; a zero time
// means "not set". Values are immutable once shared.
type Key struct {
	Name
	CreatedAt   time.Time
	Description string
	Spec        Spec
	Usage       Usage
	Origin      Origin
	Manager     Manager
	Service     string // AWS managed keys: the service, "s3" for alias/aws/s3
	State       State
	MultiRegion bool

	DeletionAt          time.Time // PendingDeletion: when the key goes
	PendingWindowInDays int       // PendingDeletion: the window that was asked for

	Rotation Rotation
	Policy   string // the key policy document, JSON text
	// Principals says whom the policy names: who had an ARN when the policy was put keeps what it gives, and nobody else
	// who gets the ARN later.
	Principals []Binding
	Tags       []Tag      // sorted by tag key
	Material   []Material // oldest first; the last one that is current encrypts
}

// Rotation is the automatic-rotation setting. PeriodInDays and Next keep their values while the key is disabled or
// pending deletion, so that a cancelled deletion restores them.
type Rotation struct {
	Enabled      bool
	PeriodInDays int       // 90..2560
	Next         time.Time // when the next rotation is due
	OnDemand     int       // on-demand rotations done in the key's life
}

// Binding ties the ARN of a user, role or session in a key policy to the unique id of the user or role.
type Binding struct{ ARN, ID string }

// Tag is one user tag.
type Tag struct{ Key, Value string }

// Material is one generation of key material: an id that clients see, and the bytes, wrapped by the installation's
// domain key for material.
type Material struct {
	ID        string // 64 lower-case hexadecimal digits
	CreatedAt time.Time
	Wrapped   []byte
	RotatedBy string // how it became current: "", for the first, AUTOMATIC or ON_DEMAND
}

// Current returns the material that encrypts, or nil if there is none (a key that waits for import).
func (k *Key) Current() *Material {
	if len(k.Material) == 0 {
		return nil
	}
	return &k.Material[len(k.Material)-1]
}

// FindMaterial returns the material with the id, or nil.
func (k *Key) FindMaterial(id string) *Material {
	for i := len(k.Material) - 1; i >= 0; i-- {
		if k.Material[i].ID == id {
			return &k.Material[i]
		}
	}
	return nil
}

// Clone returns a copy whose slices may be changed without touching k.
func (k *Key) Clone() *Key {
	c := *k
	c.Tags = slices.Clone(k.Tags)
	c.Material = slices.Clone(k.Material)
	c.Principals = slices.Clone(k.Principals)
	return &c
}

// SetTags adds tags, overwriting those of the same key, and keeps the order.
func (k *Key) SetTags(tags []Tag) {
	for _, t := range tags {
		i, found := slices.BinarySearchFunc(k.Tags, t, compareTags)
		if found {
			k.Tags[i] = t
		} else {
			k.Tags = slices.Insert(k.Tags, i, t)
		}
	}
}

// RemoveTags removes the tags with these keys; a key that is not there is ignored.
func (k *Key) RemoveTags(keys []string) {
	k.Tags = slices.DeleteFunc(k.Tags, func(t Tag) bool { return slices.Contains(keys, t.Key) })
}

func compareTags(a, b Tag) int { return strings.Compare(a.Key, b.Key) }

// Due returns when the scheduler must next look at the key: its deletion or, while it is enabled, its rotation. The zero
// time means never.
func (k *Key) Due() time.Time {
	switch {
	case k.State == PendingDeletion:
		return k.DeletionAt
	case k.State == Enabled && k.Rotation.Enabled:
		return k.Rotation.Next
	}
	return time.Time{}
}

// Alias points a name at a key of the same account and Region.
type Alias struct {
	Account   arn.Account
	Region    arn.Region
	Name      arn.AliasName
	Target    arn.KeyID
	CreatedAt time.Time
	UpdatedAt time.Time
}

// ARN returns the alias ARN.
func (a *Alias) ARN() string { return a.Name.ARN(a.Region, a.Account) }
