// Package policy is the IAM policy language (IAM user guide, "IAM JSON policy element reference"): it parses and checks
// documents, compiles them once, and decides requests against them.
//
// It is pure: no I/O, no clock, no look-up of anything. Everything that a decision may depend on comes in with the
// Request; whether a named principal exists is the caller's business, which Principals and Bind serve. It trusts the facts
// in a Request and nothing in a document. One Document decides only for itself: how key policy, identity policies, grants
// and boundaries add up is decided in package guard.
//
// The package must never accept an element that it does not understand, must never let a malformed document allow
// anything, and must take time at most proportional to the sizes of document and request multiplied.
package policy

import (
	"strings"
	"unicode/utf8"
)

// Kind is what a document is used for. It decides which elements are allowed in it.
type Kind uint8

// The kinds of documents. The zero value is invalid.
const (
	KeyPolicy             Kind = iota + 1 // the policy of a KMS key
	IdentityPolicy                        // inline or managed policy of a user, group or role
	TrustPolicy                           // who may assume a role
	SessionPolicy                         // handed over with AssumeRole
	BoundaryPolicy                        // permissions boundary of a user or role
	ServiceControlPolicy                  // bounds what the principals of an account may do
	ResourceControlPolicy                 // bounds what anybody may do with the resources of an account
)

// maxOctets bounds every document, since white space is free in some kinds (IAM API reference, PolicyDocument).
const maxOctets = 131072

// limit returns the greatest size of a document, in the unit that size counts (quotas of KMS, IAM, STS and Organizations).
// For an identity policy this is the largest of several quotas; Document.Chars lets IAM apply its own.
func (k Kind) limit() int {
	switch k {
	case KeyPolicy:
		return 32768
	case IdentityPolicy:
		return 10240
	case BoundaryPolicy:
		return 6144
	case ServiceControlPolicy, ResourceControlPolicy:
		return 5120
	case TrustPolicy, SessionPolicy:
		return 2048
	}
	return 0
}

// size returns how large a document counts: a key policy in octets, what is kept or handed over as it was written in
// characters, the others in characters that are not white space.
func (k Kind) size(doc []byte) int {
	switch k {
	case KeyPolicy:
		return len(doc)
	case SessionPolicy, ServiceControlPolicy, ResourceControlPolicy:
		return utf8.RuneCount(doc)
	}
	return countChars(doc)
}

// principals reports whether statements name principals.
func (k Kind) principals() bool {
	return k == KeyPolicy || k == TrustPolicy || k == ResourceControlPolicy
}

// Versions of the language. Policy variables exist only in the newer one; a document that names none has the older one.
const (
	Version2012 = "2012-10-17"
	Version2008 = "2008-10-17"
)

// Document is a parsed and compiled policy. It is immutable and safe for concurrent use.
type Document struct {
	kind       Kind
	root       node
	chars      int
	statements []statement
	order      []int // in which Evaluate looks at the statements
}

// statement is one compiled statement. All of its parts have to match.
type statement struct {
	sid          string
	deny         bool
	inert        bool // key policies: no Action or no Resource, so it has no effect
	principals   []principal
	notPrincipal bool
	actions      []pattern
	notAction    bool
	resources    []arnPattern
	notResource  bool
	conditions   []condition
}

// Kind returns the kind that the document was parsed as.
func (d *Document) Kind() Kind { return d.kind }

// Chars returns the number of characters that are not white space, which is what IAM's size quotas count.
func (d *Document) Chars() int { return d.chars }

// Fault is the class of a document's error; the service answers each with other words or another code.
type Fault uint8

// The faults. The zero value is invalid.
const (
	Malformed           Fault = iota + 1 // broken JSON, unknown or misplaced elements, values of the wrong type
	TooLarge                             // over the size limit of its kind
	BadPrincipal                         // a principal of a form that cannot be named here
	BadServicePrincipal                  // a service principal that is none
	OverlyPermissive                     // ForAllValues on a single-valued key, refused in key policies
)

// Error says what is wrong with a document, and where.
type Error struct {
	Fault  Fault
	Place  string // such as Statement[1].Condition.StringEquals; "" for the document as a whole
	Detail string
}

// Error implements error. It may show parts of the document, which its author knows.
func (e *Error) Error() string {
	if e.Place == "" {
		return e.Detail
	}
	return e.Place + ": " + e.Detail
}

// Message returns the text that the API gives with MalformedPolicyDocumentException.
func (e *Error) Message() string {
	switch e.Fault {
	case BadPrincipal:
		return "Policy contains a statement with one or more invalid principals."
	case BadServicePrincipal:
		return "Policy contains a statement with one or more invalid service principals."
	case OverlyPermissive:
		return e.Detail
	}
	return e.Error()
}

func malformed(place, detail string) *Error { return &Error{Malformed, place, detail} }

// Key is a condition key, in lower case because case does not count. Keys with a free part are split:
// kms:EncryptionContext:k is {kms:encryptioncontext, k}, aws:ResourceTag/k is {aws:resourcetag, k}.
type Key struct{ Name, Sub string }

// ParseKey returns the Key for a name as it is written in documents.
func ParseKey(s string) Key {
	s = strings.ToLower(s)
	for _, prefix := range [...]string{"kms:encryptioncontext:", "kms:recipientattestation:"} {
		if sub, ok := strings.CutPrefix(s, prefix); ok {
			return Key{strings.TrimSuffix(prefix, ":"), sub}
		}
	}
	// The slash of an OpenID Connect key (oidc.example.com/id/x:sub) comes before its colon and splits nothing.
	if name, sub, ok := strings.Cut(s, "/"); ok && strings.Contains(name, ":") {
		return Key{name, sub}
	}
	return Key{Name: s}
}

// String returns the key in lower case, as one name.
func (k Key) String() string {
	switch {
	case k.Sub == "":
		return k.Name
	case k.Name == "kms:encryptioncontext" || k.Name == "kms:recipientattestation":
		return k.Name + ":" + k.Sub
	}
	return k.Name + "/" + k.Sub
}
