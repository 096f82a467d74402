package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/keywright/keywright/internal/trail"
)

// Events says which events of the audit log are wanted: those that meet all that is given.
type Events struct {
	Account    string      `json:"account,omitempty"` // whose trail
	Region     string      `json:"region,omitempty"`
	Attributes []Attribute `json:"attributes,omitempty"`
	Since      *time.Time  `json:"since,omitempty"` // both included
	Until      *time.Time  `json:"until,omitempty"`
}

// Attribute is an attribute of LookupEvents and the value that it must have.
type Attribute struct {
	Key   string `json:"key"` // EventName, Username, …
	Value string `json:"value"`
}

// Query returns the question to the index.
func (e *Events) Query() (*trail.Query, error) {
	q := &trail.Query{Account: e.Account, Region: e.Region}
	for _, a := range e.Attributes {
		key, ok := trail.ParseAttribute(a.Key)
		if !ok {
			return nil, fmt.Errorf("there is no attribute %q", a.Key)
		}
		q.Conditions = append(q.Conditions, trail.Condition{Attribute: key, Value: a.Value})
	}
	if e.Since != nil {
		q.Since = e.Since.Unix()
		if e.Since.Nanosecond() > 0 {
			q.Since++ // events have whole seconds
		}
	}
	if e.Until != nil {
		if q.Until = e.Until.Unix(); q.Until < q.Since || q.Until <= 0 {
			return nil, errors.New("the end of the time range is before its beginning")
		}
	}
	return q, nil
}

// SearchEvents asks for a page of events, newest first. The answer is an EventPage.
type SearchEvents struct {
	Events
	Before *uint64 `json:"before,omitempty"` // Next of the page before; nil for the first page
	Limit  int     `json:"limit"`            // how many events at most; 1 to MaxEvents
}

// FollowEvents asks for events in the order of the log, from a record on, and waits up to ten seconds for one. The answer is an
// EventPage.
type FollowEvents struct {
	Events
	From  *uint64 `json:"from,omitempty"` // Next of the page before; nil for what comes after the question
	Limit int     `json:"limit"`          // how many records are looked at, at most; 1 to MaxEvents
}

// MaxEvents is the greatest Limit.
const MaxEvents = 1000

// EventPage is a page of records as they are in the log.
type EventPage struct {
	Records []json.RawMessage `json:"records"`
	Next    uint64            `json:"next"` // where the next page begins
	More    bool              `json:"more"` // of a SearchEvents: whether there may be more
	End     uint64            `json:"end"`  // likewise: the number that the record after those that were looked at has
}

// NewEventPage returns the page for what was found.
func NewEventPage(p trail.Page) EventPage {
	out := EventPage{Records: []json.RawMessage{}, Next: p.Next, More: p.More, End: p.End}
	for i := range p.Events {
		out.Records = append(out.Records, p.Events[i].Record)
	}
	return out
}

func limited(n int) error {
	if n < 1 || n > MaxEvents {
		return fmt.Errorf("limit: want 1 to %d", MaxEvents)
	}
	return nil
}

func (a *Admin) searchEvents(ctx context.Context, q *SearchEvents) (EventPage, error) {
	query, err := q.Query()
	if err == nil {
		err = limited(q.Limit)
	}
	if err != nil {
		return EventPage{}, err
	}
	before := trail.Newest
	if q.Before != nil {
		before = *q.Before
	}
	page, err := a.index.Find(ctx, query, before, q.Limit)
	return NewEventPage(page), err
}

// followFor is how long followEvents waits: less than a client's patience.
const followFor = 10 * time.Second

func (a *Admin) followEvents(ctx context.Context, q *FollowEvents) (EventPage, error) {
	query, err := q.Query()
	if err == nil {
		err = limited(q.Limit)
	}
	if err != nil {
		return EventPage{}, err
	}
	from := trail.Newest
	if q.From != nil {
		from = *q.From
	}
	ctx, cancel := context.WithTimeout(ctx, followFor)
	defer cancel()
	page, err := trail.Follow(ctx, a.index.Source(), query, from, q.Limit)
	return NewEventPage(page), err
}
