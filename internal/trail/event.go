package trail

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Event is what can be asked about a record: the attributes of LookupEvents, and whose trail it is in. The slices may point
// into the record.
type Event struct {
	ID, Name, Source, AccessKeyID []byte
	// Username is the name of the user, of the role's session or of the federated user, or "root"; empty for callers
	// without a name.
	Username  []byte
	Account   []byte // recipientAccountId, empty where nobody was identified
	Region    []byte // awsRegion, empty likewise
	ErrorCode []byte // empty for a call that did what it was asked to
	ReadOnly  bool
	Time      int64 // eventTime, seconds since 1970
	Resources []Resource

	identity identity
}

// Resource is something that an event was about.
type Resource struct{ Type, Name []byte }

// identity is what Username is made of.
type identity struct{ kind, principal, name []byte }

var (
	errForm  = errors.New("not the form of our records")
	errEvent = errors.New("not the record of an event")
)

// Parse reads a record. The common form, as package audit writes it, is read without a JSON decoder; every other JSON text by
// encoding/json. Memory of the Event is used again.
func (e *Event) Parse(record []byte) error {
	s := scanner{b: record}
	if s.event(e) {
		return nil
	}
	return e.parseJSON(record)
}

// reset forgets everything but memory.
func (e *Event) reset() { *e = Event{Resources: e.Resources[:0]} }

// finish derives the user name ("CloudTrail userIdentity element", and what LookupEvents shows).
func (e *Event) finish() {
	switch id := &e.identity; string(id.kind) {
	case "Root":
		e.Username = []byte("root")
	case "AssumedRole", "FederatedUser":
		if _, name, ok := bytes.Cut(id.principal, []byte(":")); ok {
			e.Username = name
		}
	default:
		e.Username = id.name
	}
}

// scanner reads the form of our records: JSON without white space between its tokens.
type scanner struct {
	b []byte
	i int
}

// next returns the octet at hand, zero at the end.
func (s *scanner) next() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

func (s *scanner) take(c byte) bool {
	if s.next() != c {
		return false
	}
	s.i++
	return true
}

// quoted steps over a string and returns what is between its quotes, as it is written.
func (s *scanner) quoted() ([]byte, bool) {
	if !s.take('"') {
		return nil, false
	}
	rest := s.b[s.i:]
	n := bytes.IndexByte(rest, '"')
	if n < 0 {
		return nil, false
	}
	if n == 0 || rest[n-1] != '\\' {
		s.i += n + 1
		return rest[:n], true
	}
	for i := 0; i < len(rest); i++ {
		switch rest[i] {
		case '\\':
			i++
		case '"':
			s.i += i + 1
			return rest[:i], true
		}
	}
	return nil, false
}

// strange has a 1 for every octet of a string that may not stand for itself.
var strange = func() (t [256]byte) {
	for c := range t {
		if c < 0x20 || c >= 0x80 || c == '\\' {
			t[c] = 1
		}
	}
	return t
}()

// text reads a string, or null as an empty one.
func (s *scanner) text(into *[]byte) bool {
	if s.next() == 'n' {
		*into = nil
		return s.skip()
	}
	begin := s.i
	text, ok := s.quoted()
	if !ok {
		return false
	}
	special := byte(0)
	for _, c := range text {
		special |= strange[c]
	}
	if special != 0 {
		var plain string
		if json.Unmarshal(s.b[begin:s.i], &plain) != nil {
			return false
		}
		text = []byte(plain)
	}
	*into = text
	return true
}

// skip steps over a value.
func (s *scanner) skip() bool {
	for depth := 0; ; {
		switch c := s.next(); c {
		case '"':
			if _, ok := s.quoted(); !ok {
				return false
			}
		case '{', '[':
			depth++
			s.i++
		case '}', ']', ',', 0:
			if depth == 0 {
				return c != 0
			}
			if s.i++; c == 0 {
				return false
			} else if c == ',' {
				continue
			}
			depth--
		default:
			s.i++
			continue
		}
		if depth == 0 {
			return true
		}
	}
}

// member steps to the next member of an object that has begun, and returns its name; ok is false at the object's end. A form
// that is not ours sets bad.
func (s *scanner) member(first bool) (name []byte, ok, bad bool) {
	if s.take('}') {
		return nil, false, false
	}
	if !first && !s.take(',') {
		return nil, false, true
	}
	name, ok = s.quoted()
	if !ok || bytes.IndexByte(name, '\\') >= 0 || !s.take(':') {
		return nil, false, true
	}
	return name, true, false
}

// level is where in a record an object is.
type level uint8

const (
	theRecord level = iota
	theIdentity
	aResource
)

// object reads an object, or null as an empty one.
func (s *scanner) object(e *Event, at level) bool {
	if s.next() == 'n' {
		return s.skip()
	}
	if !s.take('{') {
		return false
	}
	for first := true; ; first = false {
		name, ok, bad := s.member(first)
		if bad {
			return false
		}
		if !ok {
			return true
		}
		switch at {
		case theRecord:
			ok = s.eventMember(e, name)
		case theIdentity:
			ok = s.identityMember(e, name)
		default:
			ok = s.resourceMember(e, name)
		}
		if !ok {
			return false
		}
	}
}

// event reads a whole record, and reports whether it has our form.
func (s *scanner) event(e *Event) bool {
	e.reset()
	if s.next() != '{' || !s.object(e, theRecord) || s.i != len(s.b) {
		return false
	}
	e.finish()
	return true
}

func (s *scanner) eventMember(e *Event, name []byte) bool {
	switch string(name) {
	case "userIdentity":
		e.identity = identity{}
		return s.object(e, theIdentity)
	case "eventTime":
		var text []byte
		ok := s.text(&text)
		e.Time = 0
		if ok && text != nil {
			e.Time, ok = parseTime(text)
		}
		return ok
	case "eventSource":
		return s.text(&e.Source)
	case "eventName":
		return s.text(&e.Name)
	case "awsRegion":
		return s.text(&e.Region)
	case "errorCode":
		return s.text(&e.ErrorCode)
	case "eventID":
		return s.text(&e.ID)
	case "recipientAccountId":
		return s.text(&e.Account)
	case "readOnly":
		begin := s.i
		ok := s.skip()
		e.ReadOnly = string(s.b[begin:s.i]) == "true"
		return ok && (e.ReadOnly || string(s.b[begin:s.i]) == "false")
	case "resources":
		return s.resources(e)
	}
	return s.skip()
}

func (s *scanner) identityMember(e *Event, name []byte) bool {
	switch string(name) {
	case "type":
		return s.text(&e.identity.kind)
	case "principalId":
		return s.text(&e.identity.principal)
	case "userName":
		return s.text(&e.identity.name)
	case "accessKeyId":
		return s.text(&e.AccessKeyID)
	}
	return s.skip()
}

func (s *scanner) resources(e *Event) bool {
	e.Resources = e.Resources[:0]
	if s.next() == 'n' {
		return s.skip()
	}
	if !s.take('[') {
		return false
	}
	for first := true; !s.take(']'); first = false {
		if !first && !s.take(',') || s.next() != '{' {
			return false
		}
		e.Resources = append(e.Resources, Resource{})
		if !s.object(e, aResource) {
			return false
		}
	}
	return true
}

func (s *scanner) resourceMember(e *Event, name []byte) bool {
	r := &e.Resources[len(e.Resources)-1]
	switch string(name) {
	case "type":
		return s.text(&r.Type)
	case "ARN":
		return s.text(&r.Name)
	}
	return s.skip()
}

// parseTime reads 2006-01-02T15:04:05Z.
func parseTime(b []byte) (int64, bool) {
	const form = "0000-00-00T00:00:00Z"
	if len(b) != len(form) {
		return 0, false
	}
	for i := range b {
		digit := b[i] >= '0' && b[i] <= '9'
		if wants := form[i] == '0'; wants && !digit || !wants && b[i] != form[i] {
			return 0, false
		}
	}
	n := func(i int) int { return int(b[i]-'0')*10 + int(b[i+1]-'0') }
	year, month, day, hour, minute, second := n(0)*100+n(2), n(5), n(8), n(11), n(14), n(17)
	t := time.Date(year, time.Month(month), day, hour, minute, second, 0, time.UTC)
	if month < 1 || month > 12 || t.Day() != day || hour > 23 || minute > 59 || second > 59 {
		return 0, false
	}
	return t.Unix(), true
}

// parseJSON reads any JSON object. Names of members are case-sensitive and the last of two counts, as in the scanner.
func (e *Event) parseJSON(record []byte) error {
	e.reset()
	var all map[string]json.RawMessage
	if err := json.Unmarshal(record, &all); err != nil || all == nil {
		return fmt.Errorf("%w: %w", errEvent, errors.Join(err, errForm))
	}
	var who map[string]json.RawMessage
	var resources []map[string]json.RawMessage
	var readOnly *bool
	var at []byte
	bad := unmarshal(all, "userIdentity", &who) != nil || unmarshal(all, "resources", &resources) != nil || unmarshal(all, "readOnly", &readOnly) != nil
	if _, there := all["readOnly"]; there && readOnly == nil {
		bad = true
	}
	for _, f := range []struct {
		from map[string]json.RawMessage
		name string
		into *[]byte
	}{
		{all, "eventTime", &at},
		{all, "eventSource", &e.Source},
		{all, "eventName", &e.Name},
		{all, "awsRegion", &e.Region},
		{all, "eventID", &e.ID},
		{all, "recipientAccountId", &e.Account},
		{all, "errorCode", &e.ErrorCode},
		{who, "type", &e.identity.kind},
		{who, "principalId", &e.identity.principal},
		{who, "userName", &e.identity.name},
		{who, "accessKeyId", &e.AccessKeyID},
	} {
		bad = bad || !textOf(f.from, f.name, f.into)
	}
	for _, m := range resources {
		var r Resource
		bad = bad || m == nil || !textOf(m, "type", &r.Type) || !textOf(m, "ARN", &r.Name)
		e.Resources = append(e.Resources, r)
	}
	if at != nil {
		ok := false
		e.Time, ok = parseTime(at)
		bad = bad || !ok
	}
	if bad {
		return errEvent
	}
	e.ReadOnly = readOnly != nil && *readOnly
	e.finish()
	return nil
}

// unmarshal reads a member; one that is not there leaves the value as it is.
func unmarshal(m map[string]json.RawMessage, name string, into any) error {
	raw, ok := m[name]
	if !ok {
		return nil
	}
	return json.Unmarshal(raw, into)
}

// textOf reads a text member; null and a missing one are empty.
func textOf(m map[string]json.RawMessage, name string, into *[]byte) bool {
	var text *string
	if unmarshal(m, name, &text) != nil {
		return false
	}
	if *into = nil; text != nil {
		*into = []byte(*text)
	}
	return true
}
