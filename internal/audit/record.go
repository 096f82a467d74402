// Package audit writes the record of every call: who asked for what, with which key, and what came of it, in the form of
// a CloudTrail event, into an append log.
//
// It trusts the guard to fill a Record truthfully. It must never hold a secret, a plaintext or a ciphertext (Fields has
// no way to add one), and never report a record as written when it is not: Append returns an error, and then the caller's
// answer must not leave.
package audit

import (
	"strconv"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/arn"
)

// EventVersion is the version of the record format ("CloudTrail record contents", CloudTrail user guide).
const EventVersion = "1.11"

// Identity is the userIdentity of a record: empty members are left out ("CloudTrail userIdentity element").
type Identity struct {
	// Type is Root, IAMUser, AssumedRole, FederatedUser, WebIdentityUser, AWSAccount or AWSService; Unknown when
	// authentication failed.
	Type        string
	PrincipalID string
	ARN         string
	AccountID   string
	AccessKeyID string
	UserName    string
	Session     *SessionContext // of temporary credentials; nil for all others
	InvokedBy   string          // the service that calls, for itself or on behalf of the principal
	Provider    string          // identityProvider of a WebIdentityUser
}

// SessionContext is the sessionContext of a userIdentity. It has no secret of the session.
type SessionContext struct {
	Issuer         Issuer // who the session was made for; zero where it is the principal itself
	Provider       string // the provider that vouched for the bearer; empty if none did
	CreatedAt      time.Time
	SourceIdentity string
}

// Issuer is the sessionIssuer of a session.
type Issuer struct {
	Type        string // Role, IAMUser or Root
	PrincipalID string
	ARN         string
	AccountID   string
	UserName    string // name of the role or user
}

// TLS is the tlsDetails of a record.
type TLS struct {
	Version     string // "TLSv1.3"
	CipherSuite string
	KeyExchange string // "X25519MLKEM768"
	ServerName  string // clientProvidedHostHeader
}

// Resource is one entry of a record's resources. Its type is AWS::KMS::Key, as in CloudTrail also for aliases, except for
// roles.
type Resource struct {
	Account arn.Account
	ARN     string
}

// Record is one event. Empty strings and nil pointers are left out where CloudTrail leaves them out.
type Record struct {
	Identity     Identity
	Time         time.Time
	Source       string // eventSource, kms.amazonaws.com
	Name         string // eventName
	Region       arn.Region
	SourceIP     string
	UserAgent    string
	ErrorCode    string
	ErrorMessage string

	Parameters *Fields // nil or empty prints as null
	Response   *Fields // nil or empty prints as null
	Additional *Fields // nil is left out
	Service    *Fields // serviceEventDetails; nil is left out

	RequestID     string
	EventID       string
	ReadOnly      bool
	Resources     []Resource // nil is left out
	EventType     string     // AwsApiCall or AwsServiceEvent
	Recipient     arn.Account
	SharedEventID string
	TLS           *TLS
}

// The event types.
const (
	APICall      = "AwsApiCall"
	ServiceEvent = "AwsServiceEvent"
)

// AppendJSON appends the record as one JSON object, members in CloudTrail's order.
func (r *Record) AppendJSON(b []byte) []byte {
	b = append(b, `{"eventVersion":"`+EventVersion+`","userIdentity":`...)
	b = r.Identity.appendJSON(b)
	b = append(b, `,"eventTime":"`...)
	b = r.Time.UTC().AppendFormat(b, "2006-01-02T15:04:05Z")
	b = append(b, '"')
	b = member(b, "eventSource", r.Source)
	b = member(b, "eventName", r.Name)
	b = member(b, "awsRegion", string(r.Region))
	b = member(b, "sourceIPAddress", r.SourceIP)
	b = member(b, "userAgent", r.UserAgent)
	b = optional(b, "errorCode", r.ErrorCode)
	b = optional(b, "errorMessage", r.ErrorMessage)
	b = append(b, `,"requestParameters":`...)
	b = nullable(b, r.Parameters)
	b = append(b, `,"responseElements":`...)
	b = nullable(b, r.Response)
	if r.Additional != nil {
		b = append(b, `,"additionalEventData":`...)
		b = nullable(b, r.Additional)
	}
	b = optional(b, "requestID", r.RequestID)
	b = member(b, "eventID", r.EventID)
	b = append(b, `,"readOnly":`...)
	b = strconv.AppendBool(b, r.ReadOnly)
	b = r.appendResources(b)
	b = member(b, "eventType", r.EventType)
	b = append(b, `,"managementEvent":true`...)
	b = member(b, "recipientAccountId", string(r.Recipient))
	if r.Service != nil {
		b = append(b, `,"serviceEventDetails":`...)
		b = nullable(b, r.Service)
	}
	b = optional(b, "sharedEventID", r.SharedEventID)
	b = append(b, `,"eventCategory":"Management"`...)
	if r.TLS != nil {
		b = append(b, `,"tlsDetails":{"tlsVersion":`...)
		b = appendString(b, r.TLS.Version)
		b = member(b, "cipherSuite", r.TLS.CipherSuite)
		b = member(b, "clientProvidedHostHeader", r.TLS.ServerName)
		b = optional(b, "keyExchange", r.TLS.KeyExchange)
		b = append(b, '}')
	}
	return append(b, '}')
}

func (r *Record) appendResources(b []byte) []byte {
	if r.Resources == nil {
		return b
	}
	b = append(b, `,"resources":[`...)
	for i, res := range r.Resources {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"accountId":`...)
		b = appendString(b, string(res.Account))
		if strings.Contains(res.ARN, ":role/") {
			b = append(b, `,"type":"AWS::IAM::Role"`...)
		} else {
			b = append(b, `,"type":"AWS::KMS::Key"`...)
		}
		b = member(b, "ARN", res.ARN)
		b = append(b, '}')
	}
	return append(b, ']')
}

func (id *Identity) appendJSON(b []byte) []byte {
	b = append(b, '{')
	b = list(b, "type", id.Type)
	b = list(b, "principalId", id.PrincipalID)
	b = list(b, "arn", id.ARN)
	b = list(b, "accountId", id.AccountID)
	b = list(b, "accessKeyId", id.AccessKeyID)
	b = list(b, "userName", id.UserName)
	if id.Session != nil {
		b = append(separate(b), `"sessionContext":`...)
		b = id.Session.appendJSON(b)
	}
	b = list(b, "invokedBy", id.InvokedBy)
	b = list(b, "identityProvider", id.Provider)
	return append(b, '}')
}

// appendJSON writes the members that apply. CloudTrail prints webIdFederationData for roles even when there are none, and
// mfaAuthenticated as a string; nobody shows an MFA device here.
func (s *SessionContext) appendJSON(b []byte) []byte {
	b = append(b, '{')
	if s.Issuer.Type != "" {
		b = append(b, `"sessionIssuer":{`...)
		b = list(b, "type", s.Issuer.Type)
		b = list(b, "principalId", s.Issuer.PrincipalID)
		b = list(b, "arn", s.Issuer.ARN)
		b = list(b, "accountId", s.Issuer.AccountID)
		b = list(b, "userName", s.Issuer.UserName)
		b = append(b, `},"webIdFederationData":{`...)
		if s.Provider != "" {
			b = list(b, "federatedProvider", s.Provider)
			b = append(b, `,"attributes":{}`...)
		}
		b = append(b, `},`...)
	}
	b = append(b, `"attributes":{"creationDate":"`...)
	b = s.CreatedAt.UTC().AppendFormat(b, "2006-01-02T15:04:05Z")
	b = append(b, `","mfaAuthenticated":"false"}`...)
	b = list(b, "sourceIdentity", s.SourceIdentity)
	return append(b, '}')
}

// separate appends a comma unless a member is the first of its object.
func separate(b []byte) []byte {
	if b[len(b)-1] == '{' {
		return b
	}
	return append(b, ',')
}

// list appends a member of an object unless it is empty.
func list(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(separate(b), '"')
	b = append(b, name...)
	b = append(b, `":`...)
	return appendString(b, value)
}

func member(b []byte, name, value string) []byte {
	b = append(b, `,"`...)
	b = append(b, name...)
	b = append(b, `":`...)
	return appendString(b, value)
}

func optional(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return member(b, name, value)
}

func nullable(b []byte, f *Fields) []byte {
	if f == nil || f.Empty() {
		return append(b, "null"...)
	}
	return f.appendObject(b)
}
