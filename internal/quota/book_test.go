package quota_test

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/quota"
)

var (
	here  = quota.Place{Account: "111122223333", Region: "sa-east-1"}
	start = time.Date(2026, 7, 1, 12, 0, 0, 345_000_000, time.UTC)
)

// dial is a book and its clock.
type dial struct {
	*quota.Book
	now atomic.Pointer[time.Time]
}

// at sets the clock, and counts.
func (d *dial) at(now time.Time, r quota.Request) bool {
	d.now.Store(&now)
	return d.Allow(r)
}

func book(t testing.TB, values ...quota.Value) *dial {
	t.Helper()
	s := quota.Settings{Values: values}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	d := new(dial)
	d.now.Store(&start)
	d.Book = quota.New(s, func() time.Time { return *d.now.Load() })
	return d
}

func number(v float64) *float64 { return &v }

// rate returns a value for symmetric operations, everywhere.
func rate(v float64) quota.Value {
	return quota.Value{Name: quota.Of(quota.Symmetric).Name, Value: &v}
}

// Whoever asks for three times the quota is served at the quota, over whatever time of more than a few intervals.
func TestServedRate(t *testing.T) {
	for _, c := range []struct {
		quota float64
		over  time.Duration
	}{
		{5, 20 * time.Second},
		{60, 20 * time.Second},
		{1000, 20 * time.Second},
		{100_000, 4 * time.Second},
		{1, 20 * time.Second},
		{2.5, 24 * time.Second},
		{0.5, 40 * time.Second},
		{0.1, 200 * time.Second},
		{0.25, 80 * time.Second},
		{1500.7, 20 * time.Second},
	} {
		t.Run(fmt.Sprint(c.quota), func(t *testing.T) {
			b := book(t, rate(c.quota))
			asked := int(3 * c.quota * c.over.Seconds())
			served := 0
			for i := range asked {
				at := start.Add(time.Duration(float64(i) / float64(asked) * float64(c.over)))
				if b.at(at, quota.Request{Place: here, Bucket: quota.Symmetric}) {
					served++
				}
			}
			want := c.quota * c.over.Seconds()
			if math.Abs(float64(served)-want) > 0.01*want {
				t.Errorf("%d of %d served in %s, want %g", served, asked, c.over, want)
			}
			if got := b.Throttled(); got != uint64(asked-served) {
				t.Errorf("%d counted as refused, want %d", got, asked-served)
			}
		})
	}
}

// step is one request at a time after the start.
type step struct {
	after   time.Duration
	request quota.Request
	want    bool
}

func TestAllow(t *testing.T) {
	const sec = time.Second
	r := quota.Request{Place: here, Bucket: quota.Symmetric}
	with := func(change func(*quota.Request)) quota.Request {
		other := r
		change(&other)
		return other
	}
	for name, c := range map[string]struct {
		rate  float64
		steps []step
	}{
		"a burst, then the next interval": {2, []step{
			{0, r, true}, {0, r, true}, {0, r, false}, {999 * time.Millisecond, r, false}, {sec, r, true}, {sec, r, true}, {sec, r, false},
		}},
		"an interval begins with the first request after a pause": {1, []step{
			{0, r, true}, {2500 * time.Millisecond, r, true}, {3400 * time.Millisecond, r, false}, {3500 * time.Millisecond, r, true},
		}},
		"intervals follow each other without a gap": {1, []step{
			{0, r, true}, {1900 * time.Millisecond, r, true}, {1999 * time.Millisecond, r, false}, {2 * sec, r, true},
		}},
		"a tenth": {0.1, []step{{0, r, true}, {9999 * time.Millisecond, r, false}, {10 * sec, r, true}}},
		"nothing": {0, []step{{0, r, false}, {time.Hour, r, false}}},
		"others are not charged": {1, []step{
			{0, r, true},
			{0, r, false},
			{0, with(func(r *quota.Request) { r.Account = "444455556666" }), true},
			{0, with(func(r *quota.Request) { r.Region = "sa-west-1" }), true},
			{0, with(func(r *quota.Request) { r.Bucket = quota.RSA }), true},
		}},
		"what costs several": {3, []step{
			{0, with(func(r *quota.Request) { r.Cost = 2 }), true}, {0, with(func(r *quota.Request) { r.Cost = 2 }), false}, {0, r, true}, {0, r, false},
		}},
		"what costs more than there is counts in the next interval": {1, []step{
			{0, with(func(r *quota.Request) { r.Cost = 2 }), true}, {sec, r, false}, {2 * sec, r, true},
		}},
		"a clock that was put back": {1, []step{{0, r, true}, {-time.Hour, r, true}, {-time.Hour, r, false}}},
		"a request that came late":  {1, []step{{0, r, true}, {-50 * time.Millisecond, r, false}}},
		"no bucket":                 {0, []step{{0, with(func(r *quota.Request) { r.Bucket = 0 }), true}}},
	} {
		t.Run(name, func(t *testing.T) {
			b := book(t, rate(c.rate))
			for i, s := range c.steps {
				if got := b.at(start.Add(s.after), s.request); got != s.want {
					t.Errorf("step %d, after %s: %v, want %v", i, s.after, got, s.want)
				}
			}
		})
	}
}

// However many ask at once, nobody gets more than there is, and all of it is given.
func TestAllowAtOnce(t *testing.T) {
	b := book(t, rate(1000))
	var served atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 1000 {
				if b.at(start.Add(time.Minute), quota.Request{Place: here, Bucket: quota.Symmetric}) {
					served.Add(1)
				}
			}
		})
	}
	all.Wait()
	if got := served.Load(); got != 1000 {
		t.Errorf("%d served in one interval of 1000", got)
	}
}

func TestApply(t *testing.T) {
	b := book(t, rate(1))
	r := quota.Request{Place: here, Bucket: quota.Symmetric}
	if !b.at(start, r) || b.at(start, r) {
		t.Fatal("the rate is not one")
	}
	b.Apply(quota.Applied{Place: here, ID: quota.Symmetric, Value: 3})
	more := 0
	for range 5 {
		if b.at(start, r) {
			more++
		}
	}
	if more != 2 {
		t.Error("a new value does not hold at once")
	}
	if v := b.Value(here, quota.Symmetric); v != 3 {
		t.Errorf("value %g", v)
	}
	if v := b.Default(here, quota.Symmetric); v != 1 {
		t.Errorf("default %g", v)
	}
	other := quota.Place{Account: here.Account, Region: "us-east-1"}
	if v := b.Value(other, quota.Symmetric); v != 1 {
		t.Errorf("elsewhere %g", v)
	}
}

// Several books that share a rate allow it together, neither more nor less, whatever it is and however the requests are spread evenly.
func TestShare(t *testing.T) {
	for _, c := range []struct {
		rate    float64
		servers int
		over    time.Duration
	}{{0.1, 3, 300 * time.Second}, {0.1, 10, 1000 * time.Second}, {1, 3, 60 * time.Second}, {5, 3, 60 * time.Second}, {5, 10, 60 * time.Second}, {1000, 3, 20 * time.Second}, {10_000, 7, 5 * time.Second}} {
		books := make([]*dial, c.servers)
		for i := range books {
			books[i] = book(t, rate(c.rate))
			books[i].Share(c.servers)
		}
		asked := int(4*c.rate*c.over.Seconds()) * c.servers
		first, served := 0, 0
		for i := range asked {
			at := start.Add(time.Duration(float64(i) / float64(asked) * float64(c.over)))
			if books[i%c.servers].at(at, quota.Request{Place: here, Bucket: quota.Symmetric}) {
				served++
				if i < c.servers {
					first++
				}
			}
		}
		if want := c.rate * c.over.Seconds(); math.Abs(float64(served)-want) > 0.02*want+1 {
			t.Errorf("%g by %d: %d served in %s, want %g", c.rate, c.servers, served, c.over, want)
		}
		if first != c.servers {
			t.Errorf("%g by %d: the first request of %d servers was refused", c.rate, c.servers, c.servers-first)
		}
	}
}

// A share holds at once, for accounts that called before, too, and is no matter of what values are said to be.
func TestShareChanges(t *testing.T) {
	b := book(t, rate(6))
	r := quota.Request{Place: here, Bucket: quota.Symmetric}
	taken := func(second int) (n int) {
		for range 10 {
			if b.at(start.Add(time.Duration(second)*time.Second), r) {
				n++
			}
		}
		return n
	}
	for second, c := range []struct{ servers, want int }{{1, 6}, {2, 3}, {3, 2}, {0, 6}, {-1, 6}, {6, 1}} {
		b.Share(c.servers)
		if got := taken(10 * second); got != c.want {
			t.Errorf("one of %d: %d served in a second, want %d", c.servers, got, c.want)
		}
	}
	if v := b.Value(here, quota.Symmetric); v != 6 {
		t.Errorf("the value is %g", v)
	}
	if n := b.Most(here, quota.Keys); n != int64(b.Value(here, quota.Keys)) {
		t.Errorf("%d keys", n)
	}
	b.Usage(func(_, _, _ string, used, limit float64) {
		if used != 1 || limit != 1 {
			t.Errorf("%g of %g used", used, limit)
		}
	})
}

func TestDefaults(t *testing.T) {
	for _, c := range []struct {
		id     quota.ID
		region arn.Region
		want   float64
	}{
		{quota.Symmetric, "sa-east-1", 10_000},
		{quota.Symmetric, "us-east-2", 20_000},
		{quota.Symmetric, "eu-west-1", 100_000},
		{quota.RSA, "us-east-1", 1000},
		{quota.Keys, "us-east-1", 100_000},
		{quota.OnDemandRotations, "us-east-1", 25},
		{quota.Pair("RSA_4096"), "us-east-1", 1},
		{quota.Pair("RSA_4096"), "cn-north-1", 0.1},
		{quota.Pair("ECC_NIST_P256"), "cn-north-1", 100},
		{quota.Own("kms", "CreateKey"), "us-east-1", 5},
		{quota.Own("kms", "DescribeKey"), "us-east-1", 2000},
		{quota.Own("cloudtrail", "LookupEvents"), "us-east-1", 2},
	} {
		if got := book(t).Value(quota.Place{Account: here.Account, Region: c.region}, c.id); got != c.want {
			t.Errorf("%s in %s: %g, want %g", quota.Of(c.id).Name, c.region, got, c.want)
		}
	}
	if quota.Own("kms", "Encrypt") != 0 || quota.Pair("nothing") != 0 || quota.Find("nothing") != nil {
		t.Error("there is what is not there")
	}
}

// The table is what clients see: names and codes are one to one, and the codes never change.
func TestTable(t *testing.T) {
	for i, q := range quota.All() {
		if int(q.ID) != i+1 || quota.Find(q.Name) != quota.Of(q.ID) || quota.Find(q.Code) != quota.Of(q.ID) {
			t.Errorf("%s is not found by its names", q.Name)
		}
		if len(q.Code) != 10 || !strings.HasPrefix(q.Code, "L-") || strings.ToUpper(q.Code) != q.Code {
			t.Errorf("code %s", q.Code)
		}
		if q.Rate != (len(q.Operations) > 0) || q.Default <= 0 {
			t.Errorf("%+v", q)
		}
	}
	if got := quota.Of(quota.Symmetric).Code; got != "L-5EF278FC" {
		t.Errorf("the code of the symmetric rate is %s now", got)
	}
}

func TestMostSpecificValue(t *testing.T) {
	name := quota.Of(quota.AliasesPerKey).Name
	b := book(t,
		quota.Value{Name: name, Account: here.Account, Region: here.Region, Value: number(4)},
		quota.Value{Name: name, Account: here.Account, Value: number(3)},
		quota.Value{Name: name, Region: here.Region, Value: number(2)},
		quota.Value{Name: quota.Of(quota.AliasesPerKey).Code, Value: number(1)},
	)
	for p, want := range map[quota.Place]float64{
		here: 4, {Account: here.Account, Region: "us-east-1"}: 3, {Account: "444455556666", Region: here.Region}: 2, {Account: "444455556666", Region: "us-east-1"}: 1,
	} {
		if got := b.Value(p, quota.AliasesPerKey); got != want {
			t.Errorf("%v: %g, want %g", p, got, want)
		}
	}
}

func TestUnlimited(t *testing.T) {
	b := quota.New(quota.Settings{Enforce: quota.EnforceUnlimited, Values: []quota.Value{rate(0)}}, time.Now)
	if !b.Allow(quota.Request{Place: here, Bucket: quota.Symmetric}) {
		t.Error("a request is refused")
	}
	for id, want := range map[quota.ID]int64{quota.Keys: math.MaxInt64, quota.AliasesPerKey: 50, quota.PolicySize: 32_768, quota.OnDemandRotations: 25} {
		if got := b.Most(here, id); got != want {
			t.Errorf("%s: %d, want %d", quota.Of(id).Name, got, want)
		}
	}
}

func TestCheckSettings(t *testing.T) {
	for _, s := range []quota.Settings{
		{Enforce: "some"},
		{Values: []quota.Value{{Name: "nothing", Value: number(1)}}},
		{Values: []quota.Value{{Name: "KMS keys"}}},
		{Values: []quota.Value{{Name: "KMS keys", Value: number(-1)}}},
		{Values: []quota.Value{{Name: "KMS keys", Value: number(math.NaN())}}},
		{Values: []quota.Value{{Name: "KMS keys", Value: number(0.0001)}}},
		{Values: []quota.Value{{Name: "KMS keys", Value: number(2 * quota.MaxValue)}}},
		{Values: []quota.Value{{Name: "Key policy document size", Value: number(32_769)}}},
		{Values: []quota.Value{{Name: "KMS keys", Value: number(1), Account: "1"}}},
		{Values: []quota.Value{{Name: "KMS keys", Value: number(1), Region: "Europe"}}},
	} {
		if err := s.Check(); err == nil {
			t.Errorf("%+v is accepted", s)
		}
	}
}

func TestUsage(t *testing.T) {
	b := book(t, rate(10))
	usage := func() (list []string) {
		b.Usage(func(account, region, bucket string, used, limit float64) {
			list = append(list, fmt.Sprint(account, region, bucket, used, limit))
		})
		return list
	}
	for range 7 {
		b.at(start, quota.Request{Place: here, Bucket: quota.Symmetric})
	}
	want := fmt.Sprint(here.Account, here.Region, quota.Of(quota.Symmetric).Name, 7.0, 10.0)
	for _, after := range []time.Duration{0, 500 * time.Millisecond, 1500 * time.Millisecond} {
		now := start.Add(after)
		b.now.Store(&now)
		if got := usage(); len(got) != 1 || got[0] != want {
			t.Errorf("after %s: %q", after, got)
		}
		if after == 500*time.Millisecond {
			b.at(start.Add(time.Second), quota.Request{Place: here, Bucket: quota.Symmetric})
		}
	}
	now := start.Add(time.Minute)
	b.now.Store(&now)
	if got := usage(); got != nil {
		t.Errorf("a minute later: %q", got)
	}
}

// Whoever calls from ever more Regions takes no more memory, and those who keep calling are not forgotten.
func TestBoundedMemory(t *testing.T) {
	slow := quota.Value{Name: quota.Of(quota.Symmetric).Name, Account: here.Account, Value: number(0.01)}
	b := book(t, slow, rate(1))
	if !b.at(start, quota.Request{Place: here, Bucket: quota.Symmetric}) {
		t.Fatal("the first is refused")
	}
	for i := range 20_000 {
		at := start.Add(time.Duration(i) * time.Millisecond)
		p := quota.Place{Account: "444455556666", Region: arn.Region(fmt.Sprintf("xx-region-%d", i))}
		if !b.at(at, quota.Request{Place: p, Bucket: quota.Symmetric}) {
			t.Fatal("refused")
		}
	}
	if n := quota.Meters(b.Book); n > 64*64 {
		t.Errorf("%d meters", n)
	}
	if b.at(start.Add(20*time.Second), quota.Request{Place: here, Bucket: quota.Symmetric}) {
		t.Error("what the first one used was forgotten")
	}
}

func TestAllowAllocatesNothing(t *testing.T) {
	b := book(t)
	r := quota.Request{Place: here, Bucket: quota.Symmetric}
	b.at(start, r)
	if n := testing.AllocsPerRun(100, func() { b.Allow(r) }); n > 0 {
		t.Errorf("%g allocations", n)
	}
}

func BenchmarkAllow(b *testing.B) {
	accounts := []arn.Account{"111122223333", "444455556666", "777788889999", "000011112222"}
	k := book(b)
	b.ReportAllocs()
	b.Run("one", func(b *testing.B) {
		for b.Loop() {
			k.Allow(quota.Request{Place: here, Bucket: quota.Symmetric})
		}
	})
	b.Run("refused", func(b *testing.B) {
		k := book(b, rate(1))
		for b.Loop() {
			k.Allow(quota.Request{Place: here, Bucket: quota.Symmetric})
		}
	})
	b.Run("parallel", func(b *testing.B) {
		var n atomic.Int64
		b.RunParallel(func(pb *testing.PB) {
			p := quota.Place{Account: accounts[n.Add(1)%4], Region: "us-east-1"}
			for pb.Next() {
				k.Allow(quota.Request{Place: p, Bucket: quota.Symmetric})
			}
		})
	})
	b.Run("parallel one account", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				k.Allow(quota.Request{Place: here, Bucket: quota.Symmetric})
			}
		})
	})
}
