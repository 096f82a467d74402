package guard

import (
	"log/slog"
	"slices"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/wire"
)

// record writes the record of an answered call and, for an allowed call to keys of other accounts, a copy for each owner. If it did
// something in other Regions, it writes the records of that too. It writes all or none.
func (g *Guard) record(c *Call, out wire.Output, failure *wire.Error) error {
	lines, err := c.compose(out, failure)
	if err != nil {
		// What was done stands, and so must a record of it.
		slog.Error("an audit record is without parameters and answer, because they could not be made",
			"requestId", c.RequestID, "traceId", c.traceID(), "operation", c.known(), "err", err)
		c.bare = true
		if lines, err = c.compose(out, failure); err != nil {
			return err
		}
	}
	if c.reserved {
		c.reserved = false
		return g.config.Recorder.AppendReserved(lines...)
	}
	return g.config.Recorder.Append(lines...)
}

// compose makes the records of a call, in its memory. A panic of what shows an operation's input or output is an error.
func (c *Call) compose(out wire.Output, failure *wire.Error) (lines [][]byte, err error) {
	defer func() { err = caught(err, recover()) }()
	r := &c.record
	c.describe(r, out, failure)
	owners := c.owners
	if failure != nil && failure.Code == wire.CodeAccessDenied {
		owners = nil // they hear of allowed calls only
	}
	there := len(c.elsewhere) > 0 && failure == nil
	if len(owners) > 0 && !there {
		r.SharedEventID = arn.NewUUID()
	}
	c.lines[0] = line(r, c.lines[0])
	if there {
		return c.composeElsewhere(r), nil
	}
	for i, owner := range owners {
		r.EventID, r.Recipient = c.event(i+1), owner
		if c.Caller.belongs() {
			r.Identity = audit.Identity{Type: "AWSAccount", PrincipalID: c.Caller.PrincipalID, AccountID: string(c.Caller.Account)}
		}
		c.lines[i+1] = line(r, c.lines[i+1])
	}
	return c.lines[:1+len(owners)], nil
}

// composeElsewhere makes the records of what the call did in other Regions, behind its own. Such calls are to keys of the caller's
// own account.
func (c *Call) composeElsewhere(r *audit.Record) [][]byte {
	lines := [][]byte{c.lines[0]}
	r.Identity.InvokedBy, r.SourceIP, r.UserAgent, r.TLS = replicator, replicator, replicator, nil
	r.Response = nil
	for _, e := range c.elsewhere {
		r.EventID, r.Region, r.Name, r.Parameters, r.Resources = arn.NewUUID(), e.Region, e.Name, nil, e.Resources
		if r.Additional = nil; c.bare {
			r.Additional = omitted()
		} else {
			r.Parameters = new(audit.Fields)
			e.Show(r.Parameters)
		}
		lines = append(lines, line(r, nil))
	}
	return lines
}

// omitted is the additionalEventData of a record whose making failed.
func omitted() *audit.Fields {
	f := new(audit.Fields)
	f.String("omitted", "requestParameters, responseElements and additionalEventData: they could not be made")
	return f
}

// replicator is who the records of such deeds name.
const replicator = "kms.amazonaws.com"

// touches notes that the call was allowed to use a key of another account. No operation uses more than two keys. What a
// service does is recorded where the key is: the service itself has no account.
func (c *Call) touches(owner arn.Account) {
	if c.Caller.Type == policy.Service && c.served == "" {
		c.served = owner
	}
	if owner == c.Caller.Account && c.Caller.Type != policy.Service || owner == c.served || slices.Contains(c.owners, owner) {
		return
	}
	if c.owners == nil {
		c.owners = c.twoOwners[:0]
	}
	c.owners = append(c.owners, owner)
}

// line returns a record as it is written, in the memory of into. Where parameters or an answer are too large, the record is without them,
// and says so.
func line(r *audit.Record, into []byte) []byte {
	text := r.AppendJSON(into[:0])
	if len(text) <= audit.MaxRecord {
		return text
	}
	if r.Parameters, r.Response = nil, nil; r.Additional == nil {
		r.Additional = new(audit.Fields)
	}
	r.Additional.String("omitted", "requestParameters and responseElements: the record would have more than 256 KB")
	return r.AppendJSON(text[:0])
}

// maxMessage is how much of an error's text goes into a record, and maxHost of a Host header: a caller must not be able to
// fill the log with what he sends ("CloudTrail record contents": errorMessage is cut to 1 KB).
const (
	maxMessage = 1 << 10
	maxHost    = 255
)

// eventSource returns the eventSource of a service's records.
func eventSource(service string) string {
	switch service { // the two common ones without an allocation
	case "kms":
		return "kms.amazonaws.com"
	case "sts":
		return "sts.amazonaws.com"
	}
	return service + ".amazonaws.com"
}

// describe fills the record as CloudTrail does. A denied call shows neither its parameters nor a resource.
func (c *Call) describe(r *audit.Record, out wire.Output, failure *wire.Error) {
	*r = audit.Record{
		Time: c.Time, Source: eventSource(c.Service), Name: c.Name, Region: c.Region, SourceIP: c.SourceIP, UserAgent: c.UserAgent,
		RequestID: c.RequestID, EventID: c.event(0), EventType: audit.APICall, TLS: c.TLS,
	}
	if c.TLS != nil && len(c.TLS.ServerName) > maxHost {
		cut := *c.TLS
		cut.ServerName = cut.ServerName[:maxHost]
		r.TLS = &cut
	}
	if who := c.Caller; who != nil {
		c.identify(r, who)
	} else {
		r.Identity = audit.Identity{Type: "Unknown", AccessKeyID: c.claimed}
	}
	if c.Operation != nil {
		r.ReadOnly = c.Operation.ReadOnly
	}
	if failure != nil {
		r.ErrorCode, r.ErrorMessage = string(failure.Code), failure.Message[:min(len(failure.Message), maxMessage)]
		if failure.Code == wire.CodeAccessDenied {
			r.ErrorCode = "AccessDenied" // the record's word for it
			return
		}
	}
	if c.bare {
		if r.Resources, r.Additional = c.resources, omitted(); c.doubtful {
			showDoubt(r.Additional)
		}
		return
	}
	if c.doubtful {
		showDoubt(&c.additional)
	}
	if c.Input != nil && c.Operation.Show != nil {
		r.Parameters = &c.parameters
		c.Operation.Show(r.Parameters, c.Input)
	}
	if failure == nil && c.Operation != nil && c.Operation.Reply != nil {
		r.Response = &c.response
		c.Operation.Reply(r.Response, c, out)
	}
	r.Resources = c.resources
	if !c.additional.Empty() {
		r.Additional = &c.additional
	}
}

// showDoubt says in additionalEventData that what failed may have been done all the same.
func showDoubt(f *audit.Fields) { f.String("outcome", "unknown") }

// callerTypes are the types of userIdentity.
var callerTypes = map[policy.PrincipalType]string{
	policy.AccountRoot: "Root", policy.User: "IAMUser", policy.RoleSession: "AssumedRole", policy.FederatedUser: "FederatedUser",
	policy.Service: "AWSService", policy.WebIdentity: "WebIdentityUser",
}

// identify writes who called, and for whom the record is ("CloudTrail userIdentity element").
func (c *Call) identify(r *audit.Record, who *Caller) {
	id := &r.Identity
	*id = audit.Identity{Type: callerTypes[who.Type]}
	r.Recipient = who.Account
	switch who.Type {
	case policy.Service:
		if c.served != "" {
			r.Recipient = c.served
		}
		c.invokedBy(r, who.Service)
		return
	case policy.WebIdentity:
		id.PrincipalID, id.UserName = who.PrincipalID, who.Name
		if who.Session != nil {
			id.Provider = who.Session.Provider
		}
		return
	}
	id.PrincipalID, id.ARN, id.AccountID, id.AccessKeyID = who.PrincipalID, who.ARN, string(who.Account), who.AccessKeyID
	if who.Type == policy.User {
		id.UserName = who.Name
	}
	if s := who.Session; s != nil {
		c.session = audit.SessionContext{CreatedAt: s.IssuedAt, SourceIdentity: s.SourceIdentity, Provider: s.Provider}
		if who.Type == policy.RoleSession || who.Type == policy.FederatedUser {
			c.session.Issuer = issuer(who)
		}
		id.Session = &c.session
	}
	if c.Forward != nil && c.Forward.ViaService != "" {
		c.invokedBy(r, c.Forward.Service)
	}
}

// invokedBy makes the record that of a service's call: where it came from is the service, whatever its machine.
func (c *Call) invokedBy(r *audit.Record, service string) {
	r.Identity.InvokedBy, r.SourceIP, r.UserAgent, r.TLS = service, service, service, nil
}

// issuer returns the sessionIssuer of a session.
func issuer(who *Caller) audit.Issuer {
	s := who.Session
	i := audit.Issuer{Type: s.IssuerType, PrincipalID: s.IssuerID, ARN: s.IssuerARN, AccountID: string(who.Account), UserName: s.IssuerName}
	if i.Type == "User" {
		i.Type = "IAMUser"
	}
	return i
}
