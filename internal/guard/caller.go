package guard

import (
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
)

// Caller is an authenticated principal, with everything that limits it. It is immutable and shared by calls.
type Caller struct {
	Type        policy.PrincipalType
	Account     arn.Account // of a service: the account that registered it
	ARN         string      // as GetCallerIdentity shows it: arn:aws:iam::111122223333:root, …:user/x, arn:aws:sts::…:assumed-role/r/s
	PrincipalID string      // as aws:userid: the account id, AIDA…, or AROA…:session
	AccessKeyID string
	UniqueID    string // unique id of the user or role; the account id for a root user
	Name        string // the user's name, aws:username; empty for all others
	RoleARN     string // of a role's session: the role, with its path
	Service     string // of a service: its principal, such as objects.amazonaws.com
	// Serves are the accounts, besides its own, whose keys a service may use if their policies name it. Accounts register
	// services, so that two of them can have one of the same name: to others a name alone proves nothing.
	Serves []arn.Account
	Tags   []key.Tag // aws:PrincipalTag: the principal's tags, and over them those of its session

	// Credential is what the directory finds the caller by once more, as it is then; nil for one without a credential.
	Credential any

	Rights  *Rights  // nil for a root user: it has no policies of its own
	Session *Session // nil for long-term credentials
}

// Known returns what tells the caller from all others of its account: the unique id of a user, whatever credentials it uses; for all
// others, who are sessions or have one identity only, aws:userid.
func (who *Caller) Known() string {
	if who.Type == policy.User {
		return who.UniqueID
	}
	return who.PrincipalID
}

// Rights are the policies that give to a principal and take from it. They are immutable and shared.
type Rights struct {
	Identity []Policy // inline and managed ones of the user and its groups, or of the role
	Boundary *Policy  // permissions boundary; nil if there is none
}

// Policy is a compiled document and where it comes from.
type Policy struct {
	ARN      string // of a managed policy; empty for an inline one
	Name     string // of the policy
	Holder   string // ARN of the user, group, role or account that has it
	Document *policy.Document
}

// Session is what is particular to temporary credentials.
type Session struct {
	IssuedAt time.Time // aws:TokenIssueTime
	Policies []Policy  // session policies: each right must be in one of them too; nil if the session has none
	Tags     []key.Tag // the session's own tags, which are among the caller's
	// Transitive are the keys of those tags that a chained session inherits.
	Transitive     []string
	SourceIdentity string // aws:SourceIdentity
	Provider       string // aws:FederatedProvider: ARN of the OIDC provider that vouched for the bearer
	Chained        bool   // made with the credentials of another role's session

	// The issuer, as the record's sessionContext shows it.
	IssuerType string // Root, User or Role
	IssuerARN  string
	IssuerID   string
	IssuerName string
}

// Directory tells the guard what binds accounts as a whole.
type Directory interface {
	// ServiceControls returns the service control policies of an account, and ResourceControls its resource control
	// policies. None means that nothing is restricted.
	ServiceControls(arn.Account) ([]Policy, error)
	ResourceControls(arn.Account) ([]Policy, error)
}

// Forward is what a registered service says of a call that it makes on behalf of somebody, or of a resource of its own. It
// comes from signed headers of the service alone.
type Forward struct {
	Service       string      // principal of the service: objects.amazonaws.com
	ViaService    string      // kms:ViaService: objects.us-east-1.amazonaws.com; empty if the service calls for itself
	SourceARN     string      // aws:SourceArn
	SourceAccount arn.Account // aws:SourceAccount
}
