package pipeline_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/fresh"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/pipeline"
)

// knowledge is a Freshness that a test decides about.
type knowledge struct {
	err    error
	late   bool
	checks int
	since  time.Time
	asked  time.Time // with what Late was asked
}

func (k *knowledge) Check(context.Context) (time.Time, error) {
	k.checks++
	k.since = k.since.Add(time.Second)
	return k.since, k.err
}

func (k *knowledge) Late(since time.Time) bool {
	k.asked = since
	return k.late
}

// What is remembered is checked before a request; and after one that used a key whether it was decided too long ago. What changed
// something has done so, and is answered however late it is.
func TestFreshness(t *testing.T) {
	w := newWorld(t)
	id := w.newKey()
	var k knowledge
	w.config.Fresh = &k
	w.pipeline = pipeline.New(w.config)
	encrypt, change := `{"KeyId":"`+id+`","Plaintext":"eA=="}`, `{"KeyId":"`+id+`","Description":"later"}`
	for _, c := range []struct {
		name            string
		err             error
		late            bool
		operation, body string
		refused         bool
		checks          int
	}{
		{"fresh", nil, false, "Encrypt", encrypt, false, 1},
		{"stale", errors.New("nothing heard"), false, "Encrypt", encrypt, true, 1},
		{"stale, a change", errors.New("nothing heard"), false, "UpdateKeyDescription", change, true, 1},
		{"late", nil, true, "Encrypt", encrypt, true, 1},
		{"late, a change, which is decided anew", nil, true, "UpdateKeyDescription", change, false, 2},
		{"late, and no key was used", nil, true, "ListKeys", `{}`, false, 1},
		{"late, and refused anyhow", nil, true, "Encrypt", `{"KeyId":"alias/none","Plaintext":"eA=="}`, true, 1},
	} {
		k = knowledge{err: c.err, late: c.late, since: time.Unix(1, 0)}
		got := w.serve(w.sign(jsonRequest(c.operation, c.body), aliceRoot, "kms"))
		if refused := got.Status != 200; refused != c.refused || k.checks != c.checks {
			t.Errorf("%s: %d %s, with %d checks", c.name, got.Status, got.body, k.checks)
		}
		timeout := strings.Contains(got.body, "DependencyTimeoutException")
		if want := c.refused && !strings.Contains(c.body, "none"); timeout != want {
			t.Errorf("%s: %s", c.name, got.body)
		}
		if c.checks == 1 && !k.asked.IsZero() && !k.asked.Equal(k.since) {
			t.Errorf("%s: late since %s, known up to %s", c.name, k.asked, k.since)
		}
	}
}

// once is a Freshness that is not asked a second time.
type once struct{ guard.Freshness }

func (once) Late(time.Time) bool { return false }

// BenchmarkFreshness measures what an Encrypt costs more if somebody else changes the store, in turn. The metrics are ratios of medians:
// with a look at how old what is remembered is before the call, and with a second one after it.
func BenchmarkFreshness(b *testing.B) {
	w := newWorld(b)
	req := w.sign(jsonRequest("Encrypt", `{"KeyId":"`+w.newKey()+`","Plaintext":"eA=="}`), aliceRoot, "kms")
	keeper := fresh.New(fresh.Config{MaxStaleness: time.Hour})
	cases := []struct {
		name      string
		freshness guard.Freshness
		pipeline  *pipeline.Pipeline
		times     []time.Duration
	}{{name: "none"}, {name: "once", freshness: once{keeper}}, {name: "twice", freshness: keeper}}
	for i := range cases {
		w.config.Fresh = cases[i].freshness
		cases[i].pipeline = pipeline.New(w.config)
	}
	const batch = 20
	var resp pipeline.Response
	for b.Loop() {
		for i := range cases {
			start := time.Now()
			for range batch {
				cases[i].pipeline.Serve(context.Background(), req, &resp)
			}
			cases[i].times = append(cases[i].times, time.Since(start)/batch)
			if resp.Status != 200 {
				b.Fatal(string(resp.Body))
			}
		}
	}
	median := func(i int) float64 {
		slices.Sort(cases[i].times)
		return float64(cases[i].times[len(cases[i].times)/2])
	}
	b.ReportMetric(median(0), "ns/none")
	b.ReportMetric(median(1)/median(0), "x-once")
	b.ReportMetric(median(2)/median(0), "x-twice")
}
