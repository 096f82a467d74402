package guard

import (
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/steps"
)

// Use is a set of things that may be done with key material.
type Use uint16

// The uses. The zero set permits nothing.
const (
	UseEncrypt     Use = 1 << iota // encrypt under the key
	UseDecrypt                     // decrypt what the key encrypted
	UseCreate                      // make new material for the key
	UseRandom                      // draw random octets, or make a key pair, for a caller
	UseSign                        // sign
	UseVerify                      // verify a signature
	UseMAC                         // compute a MAC
	UseVerifyMAC                   // verify one
	UseAgree                       // derive a shared secret
	UseEncapsulate                 // make a shared secret for the key
	UseDecapsulate                 // recover one
	UseImport                      // make a wrapping key for material of the key
	UseTakeIn                      // take in material for the key
)

// actionUses lists every action that touches key material, and how. An action that is not here gives a Permit that opens
// nothing.
var actionUses = map[string]Use{
	"kms:CreateKey":                           UseCreate,
	"kms:RotateKeyOnDemand":                   UseCreate,
	"kms:ImportKeyMaterial":                   UseTakeIn,
	"kms:GetParametersForImport":              UseImport,
	"kms:Encrypt":                             UseEncrypt,
	"kms:Decrypt":                             UseDecrypt,
	"kms:ReEncryptFrom":                       UseDecrypt,
	"kms:ReEncryptTo":                         UseEncrypt,
	"kms:GenerateDataKey":                     UseEncrypt | UseRandom,
	"kms:GenerateDataKeyWithoutPlaintext":     UseEncrypt | UseRandom,
	"kms:GenerateDataKeyPair":                 UseEncrypt | UseRandom,
	"kms:GenerateDataKeyPairWithoutPlaintext": UseEncrypt | UseRandom,
	"kms:GenerateRandom":                      UseRandom,
	"kms:Sign":                                UseSign,
	"kms:Verify":                              UseVerify,
	"kms:GenerateMac":                         UseMAC,
	"kms:VerifyMac":                           UseVerifyMAC,
	"kms:DeriveSharedSecret":                  UseAgree,
	"kms:Encapsulate":                         UseEncapsulate,
	"kms:Decapsulate":                         UseDecapsulate,
}

// Action is the name of a permission, with what it lets its holder do to key material.
type Action struct {
	name string
	uses Use
}

// NewAction returns the Action of a permission such as "kms:Encrypt".
func NewAction(name string) Action { return Action{name: name, uses: actionUses[name]} }

// Name returns the permission, "kms:Encrypt".
func (a Action) Name() string { return a.name }

// Permit says that one call was authorized to use one key in certain ways. Only this package makes one that permits
// anything; the zero value permits nothing. It is a value to be passed on, never to be stored beyond its call.
type Permit struct {
	name  key.Name
	uses  Use
	grant *key.Grant
	steps *steps.Log // nil: nobody notes them
}

// Grant returns the grant that allowed the call; nil if policies did. CreateGrant must not give more than it has.
func (p Permit) Grant() *key.Grant { return p.grant }

// Step begins a step of the call that the permit is for.
func (p Permit) Step(name string) steps.Timer { return p.steps.Begin(name) }

// Allows reports whether the permit covers the use on the key. Permits for no particular key (GenerateRandom, CreateKey)
// have the zero Name.
func (p Permit) Allows(use Use, name key.Name) bool {
	return use != 0 && p.uses&use == use && p.name == name
}
