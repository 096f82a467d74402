package trail

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/trailapi"
)

// Config is what a Service needs.
type Config struct {
	Index   *Index           // required
	Barrier *seal.Barrier    // required: it seals the tokens of pages
	Now     func() time.Time // required
	// Allow counts a LookupEvents and reports whether the account may ask again in the Region so soon; nil for always. The
	// service allows two in a second ("LookupEvents", CloudTrail API reference).
	Allow func(account arn.Account, region arn.Region) bool
}

// errThrottled is the answer to who asks too often.
var errThrottled = wire.Errorf(wire.CodeThrottling, "Rate exceeded")

// Service is CloudTrail as far as it is here.
type Service struct{ config Config }

// New returns a Service.
func New(c Config) *Service { return &Service{c} }

// How far back LookupEvents looks, and how much a page has ("LookupEvents", CloudTrail API reference).
const (
	lookBack       = 90 * 24 * time.Hour
	maxPage        = 50
	maxValue       = 2000
	maxWord        = 64 // characters of a wrong key or category in the record: longer than any right one
	signingName    = "cloudtrail"
	lookupEvents   = "LookupEvents"
	listPublicKeys = "ListPublicKeys"
)

// Operations returns the rows of the service.
func (s *Service) Operations() []guard.Operation {
	return []guard.Operation{
		{
			Service: signingName, Name: lookupEvents, ReadOnly: true, New: func() wire.Input { return new(lookupInput) }, Show: showLookup,
			Do: func(ctx context.Context, call *guard.Call, in wire.Input) (wire.Output, error) {
				if err := s.admit(call, lookupEvents); err != nil {
					return nil, err
				}
				out, err := s.lookup(ctx, call, &in.(*lookupInput).LookupEventsRequest)
				if err != nil {
					return nil, err
				}
				return out, nil
			},
		},
		{
			Service: signingName, Name: listPublicKeys, ReadOnly: true, New: func() wire.Input { return new(trailapi.ListPublicKeysRequest) }, Show: showPublicKeys,
			Do: func(_ context.Context, call *guard.Call, in wire.Input) (wire.Output, error) {
				if err := s.admit(call, listPublicKeys); err != nil {
					return nil, err
				}
				out, err := publicKeys(in.(*trailapi.ListPublicKeysRequest))
				if err != nil {
					return nil, err
				}
				return out, nil
			},
		},
	}
}

// lookupInput is the input of LookupEvents. Its constraints have error codes of their own, so that they are checked in lookup.
type lookupInput struct{ trailapi.LookupEventsRequest }

// Validate finds nothing.
func (*lookupInput) Validate(*wire.Violations) {}

// admit asks the policies of the caller: there is no resource.
func (s *Service) admit(call *guard.Call, operation string) error {
	if call.Caller.Type == policy.Service {
		return call.Deny(guard.NewAction(signingName+":"+operation), "*")
	}
	_, err := call.Authorize(guard.Resource{Action: guard.NewAction(signingName + ":" + operation), ARN: "*"})
	return err
}

// showLookup shows no more than a request can have that is not refused: nothing was checked yet.
func showLookup(f *audit.Fields, in wire.Input) {
	r := &in.(*lookupInput).LookupEventsRequest
	if n := min(len(r.LookupAttributes), 1); n > 0 {
		f.Objects("lookupAttributes", n, func(i int, f *audit.Fields) {
			f.String("attributeKey", cut(r.LookupAttributes[i].AttributeKey.V, maxWord))
			f.String("attributeValue", cut(r.LookupAttributes[i].AttributeValue.V, maxValue))
		})
	}
	showTimes(f, r.StartTime, r.EndTime)
	if r.EventCategory.Set {
		f.String("eventCategory", cut(r.EventCategory.V, maxWord))
	}
	if r.MaxResults.Set {
		f.Int("maxResults", int64(r.MaxResults.V))
	}
}

// cut returns the first n characters of a text, at most.
func cut(s string, n int) string {
	for at := range s {
		if n--; n < 0 {
			return s[:at]
		}
	}
	return s
}

func showPublicKeys(f *audit.Fields, in wire.Input) {
	r := in.(*trailapi.ListPublicKeysRequest)
	showTimes(f, r.StartTime, r.EndTime)
}

func showTimes(f *audit.Fields, begin, end wire.Opt[time.Time]) {
	if begin.Set {
		f.Date("startTime", begin.V)
	}
	if end.Set {
		f.Date("endTime", end.V)
	}
}

// publicKeys answers with none: they would be those of digest files, which are not made here. What proves the log has a key
// of another kind (docs/audit.md).
func publicKeys(in *trailapi.ListPublicKeysRequest) (*trailapi.ListPublicKeysResponse, error) {
	if in.StartTime.Set && in.EndTime.Set && in.EndTime.V.Before(in.StartTime.V) {
		return nil, timeRange()
	}
	if in.NextToken.Set { // there never is a second page
		return nil, wire.Errorf(trailapi.CodeInvalidTokenException, "Reserved for future use.")
	}
	return &trailapi.ListPublicKeysResponse{PublicKeyList: []trailapi.PublicKey{}}, nil
}

func timeRange() error {
	return wire.Errorf(trailapi.CodeInvalidTimeRangeException, "The start time must not be after the end time, and the end time must not lie before the last 90 days.")
}

// lookup is LookupEvents.
func (s *Service) lookup(ctx context.Context, call *guard.Call, in *trailapi.LookupEventsRequest) (*trailapi.LookupEventsResponse, error) {
	// What is refused counts, too: each such call has its record.
	if allow := s.config.Allow; allow != nil && !allow(call.Caller.Account, call.Region) {
		return nil, errThrottled
	}
	q, err := s.query(call, in)
	if err != nil {
		return nil, err
	}
	before, err := s.before(q, in)
	if err != nil {
		return nil, err
	}
	out := &trailapi.LookupEventsResponse{Events: []trailapi.Event{}}
	if in.EventCategory.Set { // there are no Insights events
		return out, nil
	}
	page, err := s.config.Index.Find(ctx, q, before, int(in.MaxResults.Or(maxPage)))
	if err != nil {
		return nil, err
	}
	// The log is in the order in which calls ended.
	slices.SortStableFunc(page.Events, func(x, y Found) int { return int(y.Event.Time - x.Event.Time) })
	for i := range page.Events {
		out.Events = append(out.Events, page.Events[i].shape())
	}
	if page.More {
		if out.NextToken, err = s.token(q, in, page.Next); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// query reads what the caller wants from its own trail. A Query without an account would be one for everybody's.
func (s *Service) query(call *guard.Call, in *trailapi.LookupEventsRequest) (*Query, error) {
	if call.Caller.Account == "" || call.Region == "" {
		return nil, errors.New("a caller without an account, or a call without a Region")
	}
	q := &Query{Account: string(call.Caller.Account), Region: string(call.Region)}
	if n := in.MaxResults; n.Set && (n.V < 1 || n.V > maxPage) {
		return nil, wire.Errorf(trailapi.CodeInvalidMaxResultsException, "A maxResults value of %d is invalid. Specify a value between 1 and %d.", n.V, maxPage)
	}
	if c := in.EventCategory; c.Set && c.V != trailapi.EventCategoryInsight {
		return nil, wire.Errorf(trailapi.CodeInvalidEventCategoryException, "The event category %s is not valid. Valid values: %s.", c.V, trailapi.EventCategoryInsight)
	}
	if len(in.LookupAttributes) > 1 {
		return nil, wire.Errorf(trailapi.CodeInvalidLookupAttributesException, "You can specify only one lookup attribute.")
	}
	for _, a := range in.LookupAttributes {
		c, err := condition(a)
		if err != nil {
			return nil, err
		}
		q.Conditions = append(q.Conditions, c)
	}
	oldest := s.config.Now().Add(-lookBack)
	if in.StartTime.Set && in.EndTime.Set && in.EndTime.V.Before(in.StartTime.V) || in.EndTime.Set && in.EndTime.V.Before(oldest) {
		return nil, timeRange()
	}
	if q.Since = oldest.Unix(); in.StartTime.Set {
		begin := in.StartTime.V.Unix()
		if in.StartTime.V.Nanosecond() > 0 {
			begin++ // events have whole seconds
		}
		q.Since = max(q.Since, begin)
	}
	if in.EndTime.Set {
		q.Until = max(in.EndTime.V.Unix(), 1)
	}
	return q, nil
}

// condition reads a lookup attribute. Words and lengths are those of the model.
func condition(a trailapi.LookupAttribute) (Condition, error) {
	key, ok := ParseAttribute(a.AttributeKey.V)
	if !ok {
		return Condition{}, wire.Errorf(trailapi.CodeInvalidLookupAttributesException, "The attribute key is not valid. Valid values: %s.", strings.Join(names(), ", "))
	}
	if n := len([]rune(a.AttributeValue.V)); n < 1 || n > maxValue {
		return Condition{}, wire.Errorf(trailapi.CodeInvalidLookupAttributesException, "The attribute value must have 1 to %d characters.", maxValue)
	}
	if key == ReadOnly && a.AttributeValue.V != "true" && a.AttributeValue.V != "false" {
		return Condition{}, wire.Errorf(trailapi.CodeInvalidLookupAttributesException, "The value of the attribute ReadOnly must be true or false.")
	}
	return Condition{key, a.AttributeValue.V}, nil
}

// names returns the attributes as the API writes them, in its order.
func names() []string {
	list := make([]string, len(attributes))
	for name, a := range attributes {
		list[a-1] = name
	}
	return list
}

// shape returns the event as LookupEvents shows it.
func (f *Found) shape() trailapi.Event {
	e := &f.Event
	out := trailapi.Event{
		EventID: wire.Some(string(e.ID)), EventName: wire.Some(string(e.Name)), ReadOnly: wire.Some(readOnlyText(e.ReadOnly)),
		AccessKeyID: some(e.AccessKeyID), EventTime: wire.Some(time.Unix(e.Time, 0).UTC()), EventSource: wire.Some(string(e.Source)), Username: some(e.Username),
		Resources: []trailapi.Resource{}, CloudTrailEvent: wire.Some(string(f.Record)),
	}
	for _, r := range e.Resources {
		out.Resources = append(out.Resources, trailapi.Resource{ResourceType: some(r.Type), ResourceName: some(r.Name)})
	}
	return out
}

func some(v []byte) wire.Opt[string] {
	if len(v) == 0 {
		return wire.Opt[string]{}
	}
	return wire.Some(string(v))
}

// tokenData is the associated data of a page's token: it holds for who asked, and for the same question. The page's size may
// change on the way.
func tokenData(q *Query, in *trailapi.LookupEventsRequest) []byte {
	var begin, end string
	if in.StartTime.Set {
		begin = in.StartTime.V.UTC().Format(time.RFC3339Nano)
	}
	if in.EndTime.Set {
		end = in.EndTime.V.UTC().Format(time.RFC3339Nano)
	}
	asked, err := json.Marshal([]any{q.Conditions, begin, end, in.EventCategory.V})
	if err != nil {
		panic(err) // texts and numbers always encode
	}
	digest := sha256.Sum256(asked)
	return seal.Associate("keywright lookup token v1", q.Account, q.Region, string(digest[:]))
}

// token returns the opaque token of the page that begins below a record's number. It is encrypted, so that a caller neither
// learns how much is recorded for others nor asks for what no page had.
func (s *Service) token(q *Query, in *trailapi.LookupEventsRequest, next uint64) (wire.Opt[string], error) {
	blob, err := s.config.Barrier.Encrypt(seal.Token, tokenData(q, in), secret.FromString(string(binary.BigEndian.AppendUint64(nil, next))))
	if err != nil {
		return wire.Opt[string]{}, err
	}
	return wire.Some(base64.RawURLEncoding.EncodeToString(blob)), nil
}

// before reads the token of a page.
func (s *Service) before(q *Query, in *trailapi.LookupEventsRequest) (uint64, error) {
	if !in.NextToken.Set {
		return Newest, nil
	}
	invalid := wire.Errorf(trailapi.CodeInvalidNextTokenException, "The next token is not valid, or the request has other parameters than the one that it came from.")
	blob, err := base64.RawURLEncoding.DecodeString(in.NextToken.V)
	if err != nil {
		return 0, invalid
	}
	text, err := s.config.Barrier.Decrypt(seal.Token, tokenData(q, in), blob)
	if err != nil || len(text.Expose()) != 8 {
		return 0, invalid
	}
	return binary.BigEndian.Uint64(text.Expose()), nil
}
