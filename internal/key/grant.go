package key

import (
	"maps"
	"math/bits"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/arn"
)

// GrantOperations is a set of the operations that a grant can allow.
type GrantOperations uint32

// grantOperations are the words of the API for the bits of a set (GrantOperation, KMS API reference), in its order. Stored
// grants have the bits, so that a new word can only come at the end.
var grantOperations = [...]string{
	"Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo", "Sign", "Verify",
	"GetPublicKey", "CreateGrant", "RetireGrant", "DescribeKey", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext",
	"GenerateMac", "VerifyMac", "DeriveSharedSecret", "Encapsulate", "Decapsulate",
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

// Known returns the name by which the grants of a principal are found: the unique id of the user or role, of which a
// session has its role's; the id of an account; a service principal; and the ARN of a federated user, who has no id. It is
// empty for nobody.
func (p *GrantPrincipal) Known() string {
	switch {
	case p.Service != "":
		return p.Service
	case p.ID != "":
		return p.ID
	}
	return p.ARN
}

// Holder is Known, but tells the sessions of a role apart: AROA…:name, which is their aws:userid.
func (p *GrantPrincipal) Holder() string {
	if session := p.Session(); session != "" {
		return p.ID + ":" + session
	}
	return p.Known()
}

// Session returns the name of the session if the principal is one of a role, else nothing.
func (p *GrantPrincipal) Session() string {
	_, name, ok := strings.Cut(p.ARN, ":assumed-role/")
	if !ok {
		return ""
	}
	return name[strings.LastIndexByte(name, '/')+1:]
}

// SameAs reports whether two grants on a key were asked for with the same parameters: they differ in id and date at most.
func (g *Grant) SameAs(other *Grant) bool {
	return g.Name == other.Name && g.Issuer == other.Issuer && g.Grantee == other.Grantee && g.Retiring == other.Retiring &&
		g.Operations == other.Operations && g.Constraints.equal(&other.Constraints)
}

// Covers reports whether a grant may be made through this one: it allows no other operation, and its constraints are the
// same or stricter ("Creating grants", KMS developer guide).
func (g *Grant) Covers(operations GrantOperations, constraints *GrantConstraints) bool {
	return g.Operations.Has(operations) && g.Constraints.bounds(constraints)
}

// GrantOperationsOf returns the operations that grants on a key of this spec and usage can allow ("Grants in AWS KMS", KMS
// developer guide).
func GrantOperationsOf(spec Spec, usage Usage) GrantOperations {
	words := "CreateGrant RetireGrant DescribeKey "
	switch {
	case spec == SymmetricDefault:
		words += "Encrypt Decrypt ReEncryptFrom ReEncryptTo GenerateDataKey GenerateDataKeyWithoutPlaintext GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext"
	case usage == EncryptDecrypt:
		words += "Encrypt Decrypt ReEncryptFrom ReEncryptTo GetPublicKey"
	case usage == SignVerify:
		words += "Sign Verify GetPublicKey"
	case usage == KeyAgreement:
		words += "DeriveSharedSecret GetPublicKey"
	case usage == MACUsage:
		words += "GenerateMac VerifyMac"
	case usage == Encapsulation:
		words += "Encapsulate Decapsulate GetPublicKey"
	}
	var set GrantOperations
	for word := range strings.FieldsSeq(words) {
		set |= GrantOperation(word)
	}
	return set
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

// bounds reports whether every encryption context and caller that inner lets through passes c as well.
func (c *GrantConstraints) bounds(inner *GrantConstraints) bool {
	switch {
	case c.SourceARN != "" && c.SourceARN != inner.SourceARN:
		return false
	case c.Equals != nil:
		return inner.Equals != nil && maps.Equal(c.Equals, inner.Equals)
	}
	return contains(inner.Equals, c.Subset) || contains(inner.Subset, c.Subset)
}

func (c *GrantConstraints) equal(other *GrantConstraints) bool {
	return c.SourceARN == other.SourceARN && (c.Equals == nil) == (other.Equals == nil) && maps.Equal(c.Equals, other.Equals) &&
		maps.Equal(c.Subset, other.Subset)
}
