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
	SignVerify       Usage   = "SIGN_VERIFY"
	MACUsage         Usage   = "GENERATE_VERIFY_MAC"
	KeyAgreement     Usage   = "KEY_AGREEMENT"
	Encapsulation    Usage   = "ENCAPSULATE_DECAPSULATE"
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
	// ReadyAt is when a key that is Creating or Updating becomes what Next says: Enabled, Disabled or PendingImport. Of a key
	// that is PendingImport, Next is Disabled if it is to be that when its material is there.
	ReadyAt time.Time
	Next    State

	MultiRegion bool
	Primary     arn.Region   // multi-Region: the Region of the set's primary key, the key's own if it is the primary
	Replicas    []arn.Region // multi-Region: the Regions of the set's replicas, sorted; the same in all keys of the set

	DeletionAt          time.Time // PendingDeletion: when the key goes
	PendingWindowInDays int       // PendingDeletion, PendingReplicaDeletion: the window that was asked for

	Rotation Rotation
	Policy   string // the key policy document, JSON text
	// Principals says whom the policy names: who had an ARN when the policy was put keeps what it gives, and nobody else
	// who gets the ARN later.
	Principals []Binding
	Tags       []Tag      // sorted by tag key
	Material   []Material // oldest first; the one that is Current encrypts
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

// MaterialState is a KeyMaterialState of the API: what a generation of material is to its key.
type MaterialState string

// The states of material. The zero value is invalid.
const (
	Current                             MaterialState = "CURRENT"
	NonCurrent                          MaterialState = "NON_CURRENT"
	PendingRotation                     MaterialState = "PENDING_ROTATION"
	PendingMultiRegionImportAndRotation MaterialState = "PENDING_MULTI_REGION_IMPORT_AND_ROTATION"
)

// Expiration is an ExpirationModelType: whether imported material goes by itself. It is empty for material made here.
type Expiration string

// The expiration models.
const (
	Expires       Expiration = "KEY_MATERIAL_EXPIRES"
	DoesNotExpire Expiration = "KEY_MATERIAL_DOES_NOT_EXPIRE"
)

// Material is one generation of key material: an id that clients see, and the bytes, wrapped by the installation's
// domain key for material.
type Material struct {
	ID        string // 64 lower-case hexadecimal digits
	CreatedAt time.Time
	State     MaterialState
	Wrapped   []byte    // nil for imported material that was deleted or expired, and can be imported again
	Public    []byte    // asymmetric keys: the public key, a DER SubjectPublicKeyInfo (RFC 5280)
	RotatedBy string    // how it became current: "", for the first, AUTOMATIC or ON_DEMAND
	RotatedAt time.Time // when it became so; zero for the first

	// Imported material only.
	Description string
	Expiration  Expiration
	ValidTo     time.Time // Expires: when it goes
}

// Permanent reports whether the key has encrypted under the material: such material must be there for the key to be usable.
func (m *Material) Permanent() bool { return m.State == Current || m.State == NonCurrent }

// Current returns the material that encrypts, or nil if there is none (a key that waits for its first import). It may be
// missing its octets, while the key is pending import.
func (k *Key) Current() *Material {
	for i := len(k.Material) - 1; i >= 0; i-- {
		if k.Material[i].State == Current {
			return &k.Material[i]
		}
	}
	return nil
}

// Rotate makes m the current material. RotatedBy says how: AUTOMATIC or ON_DEMAND.
func (k *Key) Rotate(m Material, by string, at time.Time) {
	k.Material = slices.DeleteFunc(k.Material, func(has Material) bool { return has.ID == m.ID })
	if last := k.Current(); last != nil {
		last.State = NonCurrent
	}
	m.State, m.RotatedBy, m.RotatedAt = Current, by, at
	k.Material = append(k.Material, m)
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
	c.Replicas = slices.Clone(k.Replicas)
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

// IsReplica reports whether the key is a replica of a multi-Region key: what all keys of the set share, its primary key has.
func (k *Key) IsReplica() bool { return k.MultiRegion && k.Primary != k.Region }

// Due returns when the scheduler must next look at the key: its deletion, the end of its creation or update, the expiry of
// its material and, while it is enabled and no replica, its rotation. The zero time means never.
func (k *Key) Due() time.Time {
	var due time.Time
	at := func(t time.Time) {
		if !t.IsZero() && (due.IsZero() || t.Before(due)) {
			due = t
		}
	}
	switch k.State {
	case PendingDeletion:
		at(k.DeletionAt)
	case Creating, Updating:
		at(k.ReadyAt)
	case Enabled:
		if k.Rotation.Enabled && !k.IsReplica() {
			at(k.Rotation.Next)
		}
	}
	for i := range k.Material {
		if m := &k.Material[i]; m.Expiration == Expires && len(m.Wrapped) > 0 {
			at(m.ValidTo)
		}
	}
	return due
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
