package key

import (
	"math/bits"
	"time"

	"github.com/keywright/keywright/internal/arn"
)

// GrantOperations is a set of the operations that a grant can allow.
type GrantOperations uint32

// grantOperations are the words of the API for the bits of a set (GrantOperation, KMS API reference), in its order.
var grantOperations = [...]string{
	"Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo", "Sign", "Verify",
	"GetPublicKey", "CreateGrant", "RetireGrant", "DescribeKey", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext",
	"GenerateMac", "VerifyMac", "DeriveSharedSecret",
}

// GrantOperation returns the set of one operation by its name, such as "Decrypt", and the empty set for what a grant
// cannot allow.
func GrantOperation(name string) GrantOperations {
	for i, n := range grantOperations {
		if n == name {
			return 1 << i
		}
	}
	return 0
}

// Has reports whether all of the operations of other are in the set. The empty set is in every set.
func (o GrantOperations) Has(other GrantOperations) bool { return o&other == other }

// Names returns the operations by their names, in the order of the API's list.
func (o GrantOperations) Names() []string {
	list := make([]string, 0, bits.OnesCount32(uint32(o)))
	for i, n := range grantOperations {
		if o&(1<<i) != 0 {
			list = append(list, n)
		}
	}
	return list
}

// Grant allows a principal some operations on one key. It is immutable.
type Grant struct {
	ID        string // 64 lower-case hexadecimal digits
	Key       Name
	Name      string // what makes CreateGrant idempotent; may be empty
	CreatedAt time.Time
	Issuer    arn.Account // account of who created it
	Grantee   GrantPrincipal
	Retiring  GrantPrincipal // who may retire it; zero for nobody in particular

	Operations  GrantOperations
	Constraints GrantConstraints
}

// GrantPrincipal is a grantee or a retiring principal. One of ARN and Service is set, or neither for nobody.
type GrantPrincipal struct {
	ARN     string // root, user, role, session of a role, or federated user, as it was given
	ID      string // unique id of the user or role when the grant was made; the account id for a root
	Service string // a service principal
}

// GrantConstraints limit a grant. The zero value limits nothing.
type GrantConstraints struct {
	Equals    map[string]string // the encryption context must be this; nil for no such limit
	Subset    map[string]string // the encryption context must have these pairs; nil for no such limit
	SourceARN string            // aws:SourceArn of calls that services make; empty for no such limit
}

// Meets reports whether an encryption context is what the constraints ask for.
func (c *GrantConstraints) Meets(context map[string]string) bool {
	if c.Equals != nil && len(c.Equals) != len(context) {
		return false
	}
	return contains(context, c.Equals) && contains(context, c.Subset)
}

// contains reports whether all pairs of part are in whole.
func contains(whole, part map[string]string) bool {
	for k, v := range part {
		if have, ok := whole[k]; !ok || have != v {
			return false
		}
	}
	return true
}
