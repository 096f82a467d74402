package trail_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/server"
	"github.com/keywright/keywright/internal/trail"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/trailapi"
)

// desk is the service with the guard before it, and one caller.
type desk struct {
	t       testing.TB
	service *trail.Service
	guard   *guard.Guard
	records *audit.Memory
	who     *guard.Caller
	region  arn.Region
	now     time.Time
	barrier *seal.Barrier
}

func newDesk(t testing.TB, records *audit.Memory) *desk {
	t.Helper()
	d := &desk{t: t, records: records, region: region, now: started.Add(100 * time.Hour)}
	in, err := server.EphemeralInstallation(context.Background(), d.now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close() })
	clock := func() time.Time { return d.now }
	d.guard = guard.New(guard.Config{Recorder: records, Now: clock})
	d.barrier = in.Barrier
	d.service = trail.New(trail.Config{Index: openIndex(t, records, ""), Barrier: in.Barrier, Now: clock})
	d.who = &guard.Caller{Type: policy.AccountRoot, Account: account, ARN: "arn:aws:iam::" + account + ":root", PrincipalID: account}
	return d
}

func (d *desk) call(name string, body string) (wire.Output, error) {
	d.t.Helper()
	ops := d.service.Operations()
	op := &ops[slices.IndexFunc(ops, func(o guard.Operation) bool { return o.Name == name })]
	out, failure := d.guard.Answer(guard.Meta{RequestID: "r", Time: d.now}, func(call *guard.Call) (wire.Output, error) {
		call.Service, call.Name, call.Operation = "cloudtrail", name, op
		call.Identify(d.who, d.region)
		in := op.New()
		if err := wire.DecodeJSON([]byte(body), in.(wire.JSONInput)); err != nil {
			return nil, err
		}
		if err := wire.Validate(in); err != nil {
			return nil, err
		}
		call.Input = in
		return op.Do(context.Background(), call, in)
	})
	if failure != nil {
		return nil, failure
	}
	return out, nil
}

func (d *desk) lookup(body string) *trailapi.LookupEventsResponse {
	d.t.Helper()
	out, err := d.call("LookupEvents", body)
	if err != nil {
		d.t.Fatalf("%s: %v", body, err)
	}
	return out.(*trailapi.LookupEventsResponse)
}

func (d *desk) refused(want, body string) {
	d.t.Helper()
	if _, err := d.call("LookupEvents", body); err == nil || !strings.HasPrefix(err.Error(), want) {
		d.t.Errorf("%s: %v, want %s", body, err, want)
	}
}

func TestLookupEvents(t *testing.T) {
	memory := audit.NewMemory(1000)
	line := record(func(r *audit.Record) {
		r.EventID = "one"
		r.Resources = append(r.Resources, audit.Resource{ARN: "arn:second"})
	})
	if err := memory.Append(line, record(func(r *audit.Record) { r.Recipient = "444455556666" }), record(func(r *audit.Record) { r.Region = "eu-west-1" })); err != nil {
		t.Fatal(err)
	}
	d := newDesk(t, memory)
	out := d.lookup(`{}`)
	if len(out.Events) != 1 || out.NextToken.Set {
		t.Fatalf("%d events of one account and Region", len(out.Events))
	}
	got := string(out.Events[0].AppendJSON(nil))
	want := `{"EventId":"one","EventName":"Encrypt","ReadOnly":"true","AccessKeyId":"AKIA1","EventTime":1779307200,"EventSource":"kms.amazonaws.com","Username":"ann",` +
		`"Resources":[{"ResourceType":"AWS::KMS::Key","ResourceName":"arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"},` +
		`{"ResourceType":"AWS::KMS::Key","ResourceName":"arn:second"}],"CloudTrailEvent":` + string(wire.AppendString(nil, string(line))) + `}`
	if got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	if out := d.lookup(`{}`); len(out.Events) != 2 || out.Events[0].EventName.V != "LookupEvents" || out.Events[0].Username.V != "root" || out.Events[0].ReadOnly.V != "true" {
		t.Error("LookupEvents itself was not found")
	}
	if out := d.lookup(`{"EventCategory":"insight"}`); len(out.Events) != 0 {
		t.Error("an insight")
	}
	d.region = "eu-west-1"
	if out := d.lookup(`{}`); len(out.Events) != 1 {
		t.Errorf("%d events in another Region", len(out.Events))
	}
}

func TestLookupRefuses(t *testing.T) {
	d := newDesk(t, audit.NewMemory(1000))
	now := d.now.Unix()
	for body, want := range map[string]string{
		`{"MaxResults":0}`:                                "InvalidMaxResultsException: A maxResults value of 0 is invalid.",
		`{"MaxResults":51}`:                               "InvalidMaxResultsException",
		`{"EventCategory":"data"}`:                        "InvalidEventCategoryException",
		`{"NextToken":"x"}`:                               "InvalidNextTokenException",
		`{"NextToken":"` + strings.Repeat("A", 90) + `"}`: "InvalidNextTokenException",
		`{"LookupAttributes":[{"AttributeKey":"EventName","AttributeValue":"x"},{"AttributeKey":"EventName","AttributeValue":"y"}]}`: "InvalidLookupAttributesException",
		`{"LookupAttributes":[{"AttributeKey":"eventName","AttributeValue":"x"}]}`:                                                   "InvalidLookupAttributesException",
		`{"LookupAttributes":[{"AttributeKey":"EventName","AttributeValue":""}]}`:                                                    "InvalidLookupAttributesException",
		`{"LookupAttributes":[{"AttributeKey":"EventName"}]}`:                                                                        "InvalidLookupAttributesException",
		`{"LookupAttributes":[{"AttributeKey":"EventName","AttributeValue":"` + strings.Repeat("ü", 2001) + `"}]}`:                   "InvalidLookupAttributesException",
		`{"LookupAttributes":[{"AttributeKey":"ReadOnly","AttributeValue":"True"}]}`:                                                 "InvalidLookupAttributesException",
		fmt.Sprintf(`{"StartTime":%d,"EndTime":%d}`, now, now-1):                                                                     "InvalidTimeRangeException",
		fmt.Sprintf(`{"EndTime":%d}`, now-91*86400):                                                                                  "InvalidTimeRangeException",
	} {
		d.refused(want, body)
	}
	d.who = &guard.Caller{Type: policy.User, Account: account, ARN: "arn:aws:iam::" + account + ":user/u", PrincipalID: "AIDA1", UniqueID: "AIDA1", Name: "u", Rights: &guard.Rights{}}
	d.refused("AccessDeniedException: User: arn:aws:iam::"+account+":user/u is not authorized to perform: cloudtrail:LookupEvents", `{}`)
	d.who = &guard.Caller{Type: policy.Service, Account: account, Service: "objects.example.com"}
	d.refused("AccessDeniedException", `{}`)
}

func TestLookupPages(t *testing.T) {
	rnd := rand.New(rand.NewPCG(13, 14))
	memory := audit.NewMemory(10_000)
	if err := memory.Append(various(rnd, 2000)...); err != nil {
		t.Fatal(err)
	}
	d := newDesk(t, memory)
	const asks = `"LookupAttributes":[{"AttributeKey":"EventName","AttributeValue":"Encrypt"}]`
	seen, token, last := map[string]bool{}, "", int64(0)
	for page := 0; ; page++ {
		body := `{` + asks
		if token != "" {
			body += `,"NextToken":"` + token + `"`
		}
		out := d.lookup(body + `,"MaxResults":17}`)
		for _, e := range out.Events {
			if seen[e.EventID.V] || e.EventName.V != "Encrypt" {
				t.Fatalf("page %d: %s twice, or not asked for", page, e.EventID.V)
			}
			if at := e.EventTime.V.Unix(); last != 0 && at > last+2 { // as far as the records are out of order
				t.Errorf("page %d: %s is newer than the one before it", page, e.EventID.V)
			}
			seen[e.EventID.V], last = true, e.EventTime.V.Unix()
		}
		if !out.NextToken.Set {
			break
		}
		token = out.NextToken.V
		if page == 1 { // it holds for this question and asker only
			d.refused("InvalidNextTokenException", `{"NextToken":"`+token+`"}`)
			d.refused("InvalidNextTokenException", `{`+asks+`,"StartTime":1,"NextToken":"`+token+`"}`)
			d.refused("InvalidNextTokenException", `{`+asks+`,"NextToken":"`+token[:len(token)-2]+`"}`)
			d.who.Account = "444455556666"
			d.refused("InvalidNextTokenException", `{`+asks+`,"NextToken":"`+token+`"}`)
			d.who.Account = account
		}
	}
	q := &trail.Query{Account: account, Region: region, Conditions: []trail.Condition{{Attribute: trail.EventName, Value: "Encrypt"}}}
	if want := len(byHand(t, memory.Records()[:2000], 0, q)); len(seen) != want {
		t.Errorf("%d events on all pages, want %d", len(seen), want)
	}
}

func TestLookupTimeRange(t *testing.T) {
	memory := audit.NewMemory(1000)
	for i := range 10 {
		if err := memory.Append(record(func(r *audit.Record) { r.Time = started.Add(time.Duration(i) * 24 * time.Hour) })); err != nil {
			t.Fatal(err)
		}
	}
	d := newDesk(t, memory)
	day := func(i int) float64 { return float64(started.Add(time.Duration(i) * 24 * time.Hour).Unix()) }
	for _, c := range []struct {
		begin, end float64
		now        int
		want       int
	}{
		{day(0), day(9), 20, 10},
		{day(2), day(4), 20, 3},
		{day(2) + 0.5, day(4) - 0.5, 20, 1},
		{day(4), day(4), 20, 1},
		{day(-1000), day(9), 20, 10},
		{day(0), day(9), 90 + 4, 6},
		{day(0), day(9) + 1, 90 + 9, 1},
	} {
		d.now = started.Add(time.Duration(c.now) * 24 * time.Hour)
		if out := d.lookup(fmt.Sprintf(`{"StartTime":%f,"EndTime":%f}`, c.begin, c.end)); len(out.Events) != c.want {
			t.Errorf("%+v: %d events", c, len(out.Events))
		}
	}
}

// Who asks too often is told so, and the record says it.
func TestLookupIsThrottled(t *testing.T) {
	memory := audit.NewMemory(100)
	d := newDesk(t, memory)
	left := 2
	d.service = trail.New(trail.Config{Index: openIndex(t, memory, ""), Barrier: d.barrier, Now: func() time.Time { return d.now }, Allow: func(a arn.Account, r arn.Region) bool {
		if a != account || r != region {
			t.Errorf("counted for %s in %s", a, r)
		}
		left--
		return left >= 0
	}})
	d.refused("InvalidMaxResultsException", `{"MaxResults":0}`) // is counted
	d.lookup(`{}`)
	d.refused("ThrottlingException: Rate exceeded", `{}`)
	left = 1
	if e := d.lookup(`{}`).Events[0]; !strings.Contains(e.CloudTrailEvent.V, `"errorCode":"ThrottlingException"`) {
		t.Errorf("%s", e.CloudTrailEvent.V)
	}
}

// Nobody's trail is not everybody's.
func TestLookupOfNobody(t *testing.T) {
	d := newDesk(t, audit.NewMemory(10))
	d.lookup(`{}`)
	d.who.Account = ""
	d.refused("InternalFailure", `{}`)
	d.who.Account, d.region = account, ""
	d.refused("InternalFailure", `{}`)
}

// However much a caller writes into a request that is refused, its record is small.
func TestRecordOfMuchAsked(t *testing.T) {
	memory := audit.NewMemory(100)
	d := newDesk(t, memory)
	long := strings.Repeat("ü", 100_000)
	for body, want := range map[string]string{
		`{"LookupAttributes":[` + strings.Repeat("{},", 500_000) + `{}]}`:                             `"requestParameters":{"lookupAttributes":[{"attributeKey":"","attributeValue":""}]}`,
		`{"LookupAttributes":[{"AttributeKey":"` + long + `","AttributeValue":"` + long + `"}]}`:      `"attributeKey":"` + long[:2*64] + `","attributeValue":"` + long[:2*2000] + `"`,
		`{"EventCategory":"` + long + `"}`:                                                            `"eventCategory":"` + long[:2*64] + `"`,
		`{"LookupAttributes":[{"AttributeKey":"Username","AttributeValue":"` + long[:2*2000] + `"}]}`: `"attributeValue":"` + long[:2*2000] + `"`,
	} {
		_, _ = d.call("LookupEvents", body)
		records := memory.Records()
		if last := string(records[len(records)-1]); len(last) > 8<<10 || !strings.Contains(last, want) {
			t.Errorf("%.60s: a record of %d octets, %.500s", body, len(last), last)
		}
	}
}

// A page ends where its records would be too many octets, and the next ones have the rest.
func TestPagesOfLargeRecords(t *testing.T) {
	memory := audit.NewMemory(3000)
	for i := range 100 {
		line := record(func(r *audit.Record) {
			r.EventID = fmt.Sprint(i)
			r.Parameters = new(audit.Fields)
			r.Parameters.String("policy", strings.Repeat("x", 200<<10))
		})
		if err := memory.Append(line); err != nil {
			t.Fatal(err)
		}
	}
	d := newDesk(t, memory)
	token, got := "", 0
	for pages := 0; ; pages++ {
		out := d.lookup(`{"LookupAttributes":[{"AttributeKey":"EventName","AttributeValue":"Encrypt"}]` + token + `}`)
		octets := 0
		for _, e := range out.Events {
			got++
			octets += len(e.CloudTrailEvent.V)
			if want := fmt.Sprint(100 - got); e.EventID.V != want {
				t.Fatalf("event %s, want %s", e.EventID.V, want)
			}
		}
		if octets > 20<<20 {
			t.Errorf("page %d has %d octets", pages, octets)
		}
		if !out.NextToken.Set {
			break
		}
		token = `,"NextToken":"` + out.NextToken.V + `"`
	}
	if got != 100 {
		t.Errorf("%d events", got)
	}
}

func TestListPublicKeys(t *testing.T) {
	d := newDesk(t, audit.NewMemory(10))
	out, err := d.call("ListPublicKeys", `{}`)
	if err != nil || string(out.(wire.JSONOutput).AppendJSON(nil)) != `{"PublicKeyList":[]}` {
		t.Errorf("%v, %v", out, err)
	}
	for body, want := range map[string]string{`{"StartTime":2,"EndTime":1}`: "InvalidTimeRangeException", `{"NextToken":"x"}`: "InvalidTokenException"} {
		if _, err := d.call("ListPublicKeys", body); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// Scan finds what the index finds, and Follow what comes.
func TestScanAndFollow(t *testing.T) {
	rnd := rand.New(rand.NewPCG(15, 16))
	records := various(rnd, 5000)
	src := filled(t, records[:4000])
	ctx := context.Background()
	for range 10 {
		q := randomQuery(rnd, 4000)
		var got []uint64
		for before := trail.Newest; ; {
			p, err := trail.Scan(ctx, src, q, before, 300)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range p.Events {
				got = append(got, f.Number)
			}
			if before = p.Next; !p.More {
				break
			}
		}
		if !slices.Equal(got, byHand(t, records[:4000], 0, q)) {
			t.Errorf("%+v: Scan found %d events", q, len(got))
		}
	}
	q := &trail.Query{Conditions: []trail.Condition{{Attribute: trail.EventName, Value: "Decrypt"}}}
	short, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	p, err := trail.Follow(short, src, q, trail.Newest, 100)
	if err != nil || len(p.Events) != 0 || p.Next != 4000 {
		t.Fatalf("%+v, %v", p, err)
	}
	if err := src.Append(records[4000:]...); err != nil {
		t.Fatal(err)
	}
	var got []uint64
	for p.Next < 5000 {
		if p, err = trail.Follow(ctx, src, q, p.Next, 100); err != nil {
			t.Fatal(err)
		}
		for _, f := range p.Events {
			got = append(got, f.Number)
		}
	}
	want := byHand(t, records, 4000, q)
	slices.Reverse(want)
	if !slices.Equal(got, want) {
		t.Errorf("Follow found %d events, want %d", len(got), len(want))
	}
}

// A token of any octets is refused or one of ours.
func FuzzToken(f *testing.F) {
	d := newDesk(f, audit.NewMemory(1000))
	f.Add("")
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, token string) {
		d.t = t
		_, err := d.call("LookupEvents", `{"NextToken":`+string(wire.AppendString(nil, token))+`}`)
		if err == nil || !strings.HasPrefix(err.Error(), "InvalidNextTokenException") && !strings.HasPrefix(err.Error(), "SerializationException") {
			t.Errorf("%q: %v", token, err)
		}
	})
}

// meter is a log that says how many octets of neighbouring records were read at once.
type meter struct {
	audit.Source
	next      uint64
	run, most int
}

func (m *meter) Read(from uint64, most int) ([][]byte, error) {
	records, err := m.Source.Read(from, most)
	if from != m.next {
		m.run = 0
	}
	m.next = from + uint64(len(records))
	for _, r := range records {
		m.run += len(r)
	}
	m.most = max(m.most, m.run)
	return records, err
}

// Records as large as they can be are found as others are, some MiB at a time.
func TestLargeRecordsAreFound(t *testing.T) {
	const all, bound = 300, 6 << 20
	parameters := new(audit.Fields)
	parameters.String("policy", strings.Repeat("p", audit.MaxRecord-2000))
	var records [][]byte
	for i := range all {
		records = append(records, record(func(r *audit.Record) {
			if r.Name = "Decrypt"; i%3 == 0 {
				r.Name, r.Parameters = "PutKeyPolicy", parameters
			}
			if i >= all/2 {
				r.Parameters = parameters
			}
		}))
	}
	log := audit.NewMemory(all * 40)
	if err := log.Append(records...); err != nil {
		t.Fatal(err)
	}
	src := &meter{Source: log}
	ix := openIndex(t, src, "")
	if _, err := ix.Find(t.Context(), &trail.Query{}, trail.Newest, 1); err != nil { // which reads all for the index
		t.Fatal(err)
	}
	src.next, src.most = 0, 0
	for _, name := range []string{"PutKeyPolicy", "Decrypt", ""} {
		q := &trail.Query{}
		if name != "" {
			q.Conditions = []trail.Condition{{Attribute: trail.EventName, Value: name}}
		}
		for way, find := range map[string]func(before uint64) (trail.Page, error){
			"Find": func(before uint64) (trail.Page, error) { return ix.Find(t.Context(), q, before, 1000) },
			"Scan": func(before uint64) (trail.Page, error) { return trail.Scan(t.Context(), src, q, before, 1000) },
		} {
			var got []uint64
			for before, more := trail.Newest, true; more; {
				p, err := find(before)
				if err != nil {
					t.Fatal(err)
				}
				octets := 0
				for _, f := range p.Events {
					got = append(got, f.Number)
					octets += len(f.Record)
				}
				if octets > 2*bound {
					t.Errorf("%s of %q: a page of %d octets", way, name, octets)
				}
				before, more = p.Next, p.More
			}
			if !slices.Equal(got, byHand(t, records, 0, q)) {
				t.Errorf("%s of %q found %d events", way, name, len(got))
			}
		}
	}
	if src.most > bound {
		t.Errorf("%d octets were read together", src.most)
	}
}
