// Package arn parses the identifiers of the API once, at the edge: accounts, Regions, key ids, alias names, and the
// ARNs made of them. Inside Keywright there are no bare strings for these.
//
// It is pure and trusts nothing: a value of one of its types came through a constructor that checked it. It must never
// look anything up; whether a well-formed key exists is not its business.
package arn

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	mathrand "math/rand/v2"
	"strings"
)

// Account is a 12-digit account id.
type Account string

// ParseAccount checks that s has exactly twelve decimal digits.
func ParseAccount(s string) (Account, error) {
	if len(s) != 12 || strings.Trim(s, "0123456789") != "" {
		return "", errors.New("an account id has exactly 12 digits")
	}
	return Account(s), nil
}

// Root returns the ARN of the account's root principal, arn:<partition>:iam::<account>:root.
func (a Account) Root(p Partition) string { return "arn:" + string(p) + ":iam::" + string(a) + ":root" }

// Region is a Region name such as us-east-1: lower-case letters, digits and dashes, at most 32 octets, at least one
// dash. The scope of the caller's signature names the one it works in.
type Region string

// ParseRegion checks the form of a Region name.
func ParseRegion(s string) (Region, error) {
	ok := len(s) >= 3 && len(s) <= 32 && strings.Contains(s, "-") && s[0] >= 'a' && s[0] <= 'z' && s[len(s)-1] != '-'
	for i := 0; ok && i < len(s); i++ {
		c := s[i]
		ok = c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-'
	}
	if !ok {
		return "", errors.New("a Region name has lower-case letters, digits and dashes, as in us-east-1")
	}
	return Region(s), nil
}

// Partition is the second part of an ARN: a group of Regions with principals of its own.
type Partition string

// The partitions that Region names lead to ("Amazon Resource Names", AWS general reference).
const (
	Commercial Partition = "aws"
	China      Partition = "aws-cn"
	Government Partition = "aws-us-gov"
)

// ParsePartition checks that s is a partition.
func ParsePartition(s string) (Partition, error) {
	switch p := Partition(s); p {
	case Commercial, China, Government:
		return p, nil
	}
	return "", errors.New("a partition is one of aws, aws-cn and aws-us-gov")
}

// GlobalRegion returns the Region in which a partition keeps what belongs to no Region, such as IAM ("IAM endpoints and quotas",
// AWS general reference).
func (p Partition) GlobalRegion() Region {
	switch p {
	case China:
		return "cn-north-1"
	case Government:
		return "us-gov-west-1"
	}
	return "us-east-1"
}

// Partition returns the partition of the Region by its prefix: aws-cn for cn-, aws-us-gov for us-gov-, else aws.
func (r Region) Partition() Partition {
	switch {
	case strings.HasPrefix(string(r), "cn-"):
		return China
	case strings.HasPrefix(string(r), "us-gov-"):
		return Government
	}
	return Commercial
}

// KeyID is the id of a KMS key: a UUID in lower or upper case with dashes, or "mrk-" and 32 hexadecimal digits for a
// multi-Region key.
type KeyID string

// mrkPrefix starts the id of every multi-Region key (KMS developer guide, "Multi-Region keys").
const mrkPrefix = "mrk-"

// NewKeyID returns a random id: a version 4 UUID (RFC 9562), or the multi-Region form of one.
func NewKeyID(multiRegion bool) KeyID {
	u := uuid4()
	if multiRegion {
		return KeyID(mrkPrefix + hex.EncodeToString(u[:]))
	}
	return KeyID(formatUUID(u))
}

// NewUUID returns a random version 4 UUID (RFC 9562) in its lower-case text form, as used for request and event ids. They
// name things and protect nothing, so that they come from the runtime's own generator, which needs no system call.
func NewUUID() string {
	var u [16]byte
	binary.LittleEndian.PutUint64(u[:8], mathrand.Uint64())
	binary.LittleEndian.PutUint64(u[8:], mathrand.Uint64())
	return formatUUID(version4(u))
}

func uuid4() (u [16]byte) {
	_, _ = rand.Read(u[:]) // never fails: crypto/rand crashes the program instead
	return version4(u)
}

// version4 sets the bits that say what kind of UUID it is.
func version4(u [16]byte) [16]byte {
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return u
}

func formatUUID(u [16]byte) string {
	var b [36]byte
	hex.Encode(b[:8], u[:4])
	hex.Encode(b[9:13], u[4:6])
	hex.Encode(b[14:18], u[6:8])
	hex.Encode(b[19:23], u[8:10])
	hex.Encode(b[24:], u[10:])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// KeyIDFromBytes is the inverse of KeyID.Bytes.
func KeyIDFromBytes(u [16]byte, multiRegion bool) KeyID {
	if multiRegion {
		return KeyID(mrkPrefix + hex.EncodeToString(u[:]))
	}
	return KeyID(formatUUID(u))
}

// ParseKeyID checks the form of a key id. It keeps the letter case it was given, as the service does.
func ParseKeyID(s string) (KeyID, bool) {
	if rest, ok := strings.CutPrefix(s, mrkPrefix); ok {
		return KeyID(s), len(rest) == 32 && isHex(rest)
	}
	ok := len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' &&
		isHex(s[:8]) && isHex(s[9:13]) && isHex(s[14:18]) && isHex(s[19:23]) && isHex(s[24:])
	return KeyID(s), ok
}

func isHex(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F') {
			return false
		}
	}
	return true
}

// MultiRegion reports whether the id is that of a multi-Region key.
func (id KeyID) MultiRegion() bool { return strings.HasPrefix(string(id), mrkPrefix) }

// Bytes returns the sixteen octets of the id. It is meant for ids that went through a constructor.
func (id KeyID) Bytes() (u [16]byte) {
	s := strings.TrimPrefix(string(id), mrkPrefix)
	s = strings.ReplaceAll(s, "-", "")
	_, _ = hex.Decode(u[:], []byte(s))
	return u
}

// AliasName is the full name of an alias, with its "alias/" prefix.
type AliasName string

// AliasPrefix starts every alias name, ReservedAliasPrefix those that only the service makes.
const (
	AliasPrefix         = "alias/"
	ReservedAliasPrefix = "alias/aws/"
)

// Reserved reports whether the name belongs to AWS managed keys.
func (n AliasName) Reserved() bool { return strings.HasPrefix(string(n), ReservedAliasPrefix) }

// ARN returns the alias ARN in an account and Region.
func (n AliasName) ARN(r Region, a Account) string { return kms(r, a) + string(n) }

// ARN returns the key ARN in an account and Region.
func (id KeyID) ARN(r Region, a Account) string { return kms(r, a) + "key/" + string(id) }

func kms(r Region, a Account) string {
	return "arn:" + string(r.Partition()) + ":kms:" + string(r) + ":" + string(a) + ":"
}

// Form is the shape in which a client named a key.
type Form uint8

// The identifier forms of the API. The zero value is invalid.
const (
	FormKeyID    Form = iota + 1 // 1234abcd-…
	FormKeyARN                   // arn:aws:kms:us-east-1:111122223333:key/1234abcd-…
	FormAlias                    // alias/name
	FormAliasARN                 // arn:aws:kms:us-east-1:111122223333:alias/name
	FormBadID                    // neither: the text of a malformed id is in Ref.Given
	FormBadARN                   // an ARN whose key id is malformed: that id is in Ref.Given
	FormNotKMS                   // an ARN of something that is no KMS key or alias
)

// Ref is a key identifier as a client gave it. Region and Account are set for the two ARN forms only.
type Ref struct {
	Form    Form
	Region  Region
	Account Account
	Key     KeyID     // FormKeyID, FormKeyARN
	Alias   AliasName // FormAlias, FormAliasARN
	Given   string    // the text, or the malformed part of it
}

// ParseRef sorts an identifier into its form. It never fails: what is malformed has a form of its own, because the
// service answers each kind with another error.
func ParseRef(s string) Ref {
	if strings.HasPrefix(s, AliasPrefix) {
		return Ref{Form: FormAlias, Alias: AliasName(s), Given: s}
	}
	if !strings.HasPrefix(s, "arn:") {
		if id, ok := ParseKeyID(s); ok {
			return Ref{Form: FormKeyID, Key: id, Given: s}
		}
		return Ref{Form: FormBadID, Given: s}
	}
	part, rest, _ := strings.Cut(s[len("arn:"):], ":")
	service, rest, _ := strings.Cut(rest, ":")
	regionText, rest, _ := strings.Cut(rest, ":")
	accountText, resource, ok := strings.Cut(rest, ":")
	region, errRegion := ParseRegion(regionText)
	account, errAccount := ParseAccount(accountText)
	if !ok || service != "kms" || errRegion != nil || errAccount != nil || Partition(part) != region.Partition() {
		return Ref{Form: FormNotKMS, Given: s}
	}
	ref := Ref{Region: region, Account: account, Given: s}
	if strings.HasPrefix(resource, AliasPrefix) {
		ref.Form, ref.Alias = FormAliasARN, AliasName(resource)
		return ref
	}
	idText, isKey := strings.CutPrefix(resource, "key/")
	id, ok := ParseKeyID(idText)
	switch {
	case !isKey:
		return Ref{Form: FormNotKMS, Given: s}
	case !ok:
		ref.Form, ref.Given = FormBadARN, idText
	default:
		ref.Form, ref.Key = FormKeyARN, id
	}
	return ref
}
