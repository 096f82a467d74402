package trail_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/trail"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/trailapi"
)

// library is a log on disk with its index, and somebody who looks events up.
type library struct {
	*desk
	deep string // token of a page in the middle
}

// newLibrary fills a log with n records. Rare events are five of all, evenly spread.
func newLibrary(b *testing.B, n int) *library {
	b.Helper()
	dir := b.TempDir()
	log, err := audit.Open(audit.Options{Dir: filepath.Join(dir, "audit"), Durability: audit.Written})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = log.Close() })
	rnd := rand.New(rand.NewPCG(17, 18))
	for i := range n {
		line := record(func(r *audit.Record) {
			r.Time = started.Add(time.Duration(i) * time.Second / 100)
			r.Identity.UserName = fmt.Sprintf("user%d", rnd.IntN(100))
			r.Resources[0].ARN = fmt.Sprintf("arn:aws:kms:us-east-1:111122223333:key/%d", rnd.IntN(1000))
			if i%(n/5) == n/10 {
				r.Name = "ScheduleKeyDeletion"
			}
		})
		if err := log.Append(line); err != nil {
			b.Fatal(err)
		}
	}
	l := &library{desk: newDesk(b, audit.NewMemory(100_000))}
	ix := openIndex(b, log, filepath.Join(dir, "lookup"))
	began := time.Now()
	all(b, ix, &trail.Query{Until: 1}, 1) // makes every block
	b.Logf("indexing %d records took %d ns for each", n, time.Since(began).Nanoseconds()/int64(n))
	l.service = trail.New(trail.Config{Index: ix, Barrier: l.barrier, Now: func() time.Time { return l.now }})
	for page := 0; page < n/50/2; page += 50 { // half of the way, in big steps
		body := `{"MaxResults":50}`
		if l.deep != "" {
			body = `{"NextToken":"` + l.deep + `"}`
		}
		l.deep = l.lookup(body).NextToken.V
	}
	return l
}

// p50 is the median time of looking one question up, with the rendering of its answer.
func p50(b *testing.B, l *library, body string, want int) func() time.Duration {
	var buf []byte
	return func() time.Duration {
		began := time.Now()
		out, err := l.call("LookupEvents", body)
		if err != nil {
			b.Fatal(err)
		}
		buf = out.(wire.JSONOutput).AppendJSON(buf[:0])
		took := time.Since(began)
		if got := len(out.(*trailapi.LookupEventsResponse).Events); got != want {
			b.Fatalf("%s: %d events, want %d", body, got, want)
		}
		return took
	}
}

// request is what a request costs besides, at least: its signature, its record, its way through the door.
const request = 40 * time.Microsecond

// fewestPages is how many pages of each log make a median that can be judged.
const fewestPages = 100

// BenchmarkLookupEvents compares a long log, of KEYWRIGHT_LOOKUP_EVENTS (1,000,000), with one of 1,000 events, in turn, and
// fails where a page takes more than three times as long.
func BenchmarkLookupEvents(b *testing.B) {
	n := 1_000_000
	if text := os.Getenv("KEYWRIGHT_LOOKUP_EVENTS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	short, long := newLibrary(b, 1000), newLibrary(b, n)
	at := func(share int, of int) string {
		return strconv.FormatInt(started.Add(time.Duration(of*share/10)*time.Second/100).Unix(), 10)
	}
	attribute := func(key, value string) string {
		return `"LookupAttributes":[{"AttributeKey":"` + key + `","AttributeValue":"` + value + `"}]`
	}
	for _, c := range []struct {
		name        string
		short, long string
		want        int
	}{
		{"newest", `{}`, `{}`, 50},
		{"frequent", `{` + attribute("EventName", "Encrypt") + `}`, `{` + attribute("EventName", "Encrypt") + `}`, 50},
		{"rare", `{` + attribute("EventName", "ScheduleKeyDeletion") + `}`, `{` + attribute("EventName", "ScheduleKeyDeletion") + `}`, 5},
		{"none", `{` + attribute("Username", "nobody") + `}`, `{` + attribute("Username", "nobody") + `}`, 0},
		{"user", `{` + attribute("Username", "user7") + `,"MaxResults":5}`, `{` + attribute("Username", "user7") + `,"MaxResults":5}`, 5},
		{"deep", `{"NextToken":"` + short.deep + `"}`, `{"NextToken":"` + long.deep + `"}`, 50},
		{"older", `{"EndTime":` + at(3, 1000) + `}`, `{"EndTime":` + at(3, n) + `}`, 50},
	} {
		b.Run(c.name, func(b *testing.B) {
			one, two := p50(b, short, c.short, c.want), p50(b, long, c.long, c.want)
			var ones, twos []time.Duration
			for b.Loop() {
				ones, twos = append(ones, one()), append(twos, two())
			}
			slices.Sort(ones)
			slices.Sort(twos)
			x, y := ones[len(ones)/2], twos[len(twos)/2]
			b.ReportMetric(float64(x.Microseconds()), "us-short")
			b.ReportMetric(float64(y.Microseconds()), "us-long")
			ratio := float64(y+request) / float64(x+request)
			b.ReportMetric(ratio, "ratio")
			if len(ones) < fewestPages {
				b.Errorf("%d pages are too few to tell anything by: run it with -benchtime %dx or more", len(ones), fewestPages)
			} else if ratio > 3 {
				b.Errorf("a page of %d events takes %.1f times as long as one of 1,000: %v, %v", n, ratio, y, x)
			}
		})
	}
}
