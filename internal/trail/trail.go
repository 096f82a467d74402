// Package trail finds events: it answers CloudTrail LookupEvents, and the searches of administrators, from an index that
// follows the audit log.
//
// It trusts the log's records to be what the guard wrote, and nothing in its own files: every block of the index has a
// checksum, every event that a block points to is compared with what was asked, and a block that is missing, damaged or
// older than the log is made again from the records. It must never answer an account with an event of another account's
// trail, never hold up a call that is being recorded, and never be needed to prove anything: the log is the evidence.
package trail

// Attribute is a key of LookupAttributes ("LookupAttribute", CloudTrail API reference).
type Attribute uint8

// The attributes. The zero value stands for none.
const (
	EventID Attribute = iota + 1
	EventName
	ReadOnly
	Username
	ResourceType
	ResourceName
	EventSource
	AccessKeyID
)

// attributes has the names that the API uses.
var attributes = map[string]Attribute{
	"EventId": EventID, "EventName": EventName, "ReadOnly": ReadOnly, "Username": Username, "ResourceType": ResourceType,
	"ResourceName": ResourceName, "EventSource": EventSource, "AccessKeyId": AccessKeyID,
}

// ParseAttribute finds an attribute by its name in the API, such as EventName. It is case-sensitive.
func ParseAttribute(name string) (Attribute, bool) {
	a, ok := attributes[name]
	return a, ok
}

// Condition asks for events whose attribute has a value, exactly.
type Condition struct {
	Attribute Attribute
	Value     string
}

// Query asks for the events that meet all of its members.
type Query struct {
	Account, Region string // of the trail; empty for any
	Conditions      []Condition
	Since, Until    int64 // eventTime, seconds since 1970, both included; zero Until for no end
}

// has reports whether one of the event's values of an attribute is the given one.
func (e *Event) has(c *Condition) bool {
	switch c.Attribute {
	case EventID:
		return string(e.ID) == c.Value
	case EventName:
		return string(e.Name) == c.Value
	case ReadOnly:
		return readOnlyText(e.ReadOnly) == c.Value
	case Username:
		return string(e.Username) == c.Value
	case EventSource:
		return string(e.Source) == c.Value
	case AccessKeyID:
		return string(e.AccessKeyID) == c.Value
	case ResourceType, ResourceName:
		for _, r := range e.Resources {
			if c.Attribute == ResourceType && string(r.Type) == c.Value || c.Attribute == ResourceName && string(r.Name) == c.Value {
				return true
			}
		}
	}
	return false
}

// Admits reports whether an event is one that the query asks for.
func (q *Query) Admits(e *Event) bool {
	if q.Account != "" && string(e.Account) != q.Account || q.Region != "" && string(e.Region) != q.Region || !q.at(e.Time) {
		return false
	}
	for i := range q.Conditions {
		if !e.has(&q.Conditions[i]) {
			return false
		}
	}
	return true
}

func (q *Query) at(t int64) bool { return t >= q.Since && (q.Until == 0 || t <= q.Until) }

// overlaps reports whether events between two times, both included, can be wanted.
func (q *Query) overlaps(from, to int64) bool {
	return to >= q.Since && (q.Until == 0 || from <= q.Until)
}

// readOnlyText is how the API writes the attribute ReadOnly.
func readOnlyText(v bool) string {
	if v {
		return "true"
	}
	return "false"
}
