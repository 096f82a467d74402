package trail_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/trail"
)

// various makes records of two accounts and Regions, many users and keys, some of them without anybody's trail.
func various(rnd *rand.Rand, n int) [][]byte {
	all := make([][]byte, n)
	for i := range all {
		all[i] = record(func(r *audit.Record) {
			r.Time = started.Add(time.Duration(i)*time.Second - time.Duration(rnd.IntN(3))*time.Second)
			r.EventID = fmt.Sprintf("event-%d", i)
			r.Recipient, r.Region = arn.Account(pick(rnd, account, account, account, "444455556666")), arn.Region(pick(rnd, region, region, "eu-west-1"))
			r.Name = pick(rnd, "Encrypt", "Encrypt", "Decrypt", "DescribeKey")
			r.ReadOnly = rnd.IntN(4) > 0
			r.Identity.UserName = fmt.Sprintf("user%d", rnd.IntN(500))
			r.Identity.AccessKeyID = pick(rnd, "AKIA1", "AKIA2")
			r.Resources = nil
			for range rnd.IntN(3) {
				r.Resources = append(r.Resources, audit.Resource{ARN: fmt.Sprintf("arn:key/%d", rnd.IntN(3000))})
			}
			if rnd.IntN(200) == 0 {
				r.Recipient, r.Region, r.Identity = "", "", audit.Identity{Type: "Unknown"}
			}
		})
	}
	return all
}

func pick(rnd *rand.Rand, words ...string) string { return words[rnd.IntN(len(words))] }

// filled returns a log in memory with room for all records.
func filled(t testing.TB, records [][]byte) *audit.Memory {
	t.Helper()
	m := audit.NewMemory(len(records) + 1)
	if err := m.Append(records...); err != nil {
		t.Fatal(err)
	}
	return m
}

func openIndex(t testing.TB, src audit.Source, dir string) *trail.Index {
	t.Helper()
	ix, err := trail.OpenIndex(src, dir)
	if err != nil {
		t.Fatal(err)
	}
	return ix
}

// all pages through the answer to a query.
func all(t testing.TB, ix *trail.Index, q *trail.Query, page int) []uint64 {
	t.Helper()
	var numbers []uint64
	for before := trail.Newest; ; {
		p, err := ix.Find(context.Background(), q, before, page)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Events) > page {
			t.Fatalf("%d events on a page of %d", len(p.Events), page)
		}
		for _, f := range p.Events {
			numbers = append(numbers, f.Number)
		}
		if !p.More {
			return numbers
		}
		before = p.Next
	}
}

// events remembers what records say, by where they are: tests look at the same ones again and again.
var events = map[*byte]*trail.Event{}

func event(t testing.TB, record []byte) *trail.Event {
	t.Helper()
	e := events[&record[0]]
	if e == nil {
		e = new(trail.Event)
		if err := e.Parse(record); err != nil {
			t.Fatal(err)
		}
		events[&record[0]] = e
	}
	return e
}

// byHand is what all should find.
func byHand(t testing.TB, records [][]byte, first int, q *trail.Query) []uint64 {
	t.Helper()
	var numbers []uint64
	for i := len(records) - 1; i >= first; i-- {
		if q.Admits(event(t, records[i])) {
			numbers = append(numbers, uint64(i))
		}
	}
	return numbers
}

func randomQuery(rnd *rand.Rand, n int) *trail.Query {
	q := &trail.Query{Account: account, Region: region}
	if rnd.IntN(4) == 0 {
		q.Account, q.Region = pick(rnd, "", account), pick(rnd, "", "eu-west-1")
	}
	for range rnd.IntN(3) {
		c := trail.Condition{Attribute: trail.Attribute(1 + rnd.IntN(8))}
		switch c.Attribute {
		case trail.EventID:
			c.Value = fmt.Sprintf("event-%d", rnd.IntN(n))
		case trail.EventName:
			c.Value = pick(rnd, "Encrypt", "DescribeKey", "encrypt")
		case trail.ReadOnly:
			c.Value = pick(rnd, "true", "false")
		case trail.Username:
			c.Value = fmt.Sprintf("user%d", rnd.IntN(501))
		case trail.ResourceType:
			c.Value = pick(rnd, "AWS::KMS::Key", "AWS::IAM::Role")
		case trail.ResourceName:
			c.Value = fmt.Sprintf("arn:key/%d", rnd.IntN(3001))
		case trail.EventSource:
			c.Value = pick(rnd, "kms.amazonaws.com", "iam.amazonaws.com")
		case trail.AccessKeyID:
			c.Value = pick(rnd, "AKIA1", "AKIA3")
		}
		q.Conditions = append(q.Conditions, c)
	}
	if rnd.IntN(3) == 0 {
		q.Since = started.Unix() + int64(rnd.IntN(n))
	}
	if rnd.IntN(3) == 0 {
		q.Until = max(q.Since, started.Unix()) + int64(rnd.IntN(n))
	}
	return q
}

func check(t *testing.T, ix *trail.Index, records [][]byte, first int, rnd *rand.Rand, queries int) {
	t.Helper()
	for range queries {
		q := randomQuery(rnd, len(records))
		got, want := all(t, ix, q, 1+rnd.IntN(900)), byHand(t, records, first, q)
		if !slices.Equal(got, want) {
			t.Fatalf("%+v: found %d events from %d on, want %d from %d on", q, len(got), slices.Max(append(got, 0)), len(want), slices.Max(append(want, 0)))
		}
	}
}

// Whatever is asked, the index answers what a look at every record does: while it fills, from its files, and after these were
// lost or damaged.
func TestFindIsALookAtEveryRecord(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	records := various(rnd, 3*trail.BlockSize+1000)
	dir := filepath.Join(t.TempDir(), "lookup")
	src := audit.NewMemory(len(records))
	ix := openIndex(t, src, dir)
	for at := 0; at < len(records); {
		n := min(len(records)-at, 1+rnd.IntN(20_000))
		if err := src.Append(records[at : at+n]...); err != nil {
			t.Fatal(err)
		}
		at += n
		check(t, ix, records[:at], 0, rnd, 2)
	}
	check(t, ix, records, 0, rnd, 10)
	files, err := filepath.Glob(filepath.Join(dir, "*.idx"))
	if err != nil || len(files) != 3 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	check(t, openIndex(t, src, dir), records, 0, rnd, 5)
	for name, damage := range map[string]func(string) error{
		"lost":  os.Remove,
		"short": func(f string) error { return os.Truncate(f, 1000) },
		"empty": func(f string) error { return os.Truncate(f, 0) },
		"changed": func(f string) error {
			b, err := os.ReadFile(f)
			if err != nil {
				return err
			}
			b[rnd.IntN(len(b))] ^= 1 << rnd.IntN(8)
			return os.WriteFile(f, b, 0o600)
		},
	} {
		if err := damage(files[rnd.IntN(3)]); err != nil {
			t.Fatal(err)
		}
		again := openIndex(t, src, dir)
		check(t, again, records, 0, rnd, 3)
		if err := os.Chmod(files[0], 0o600); err != nil {
			t.Errorf("%s: was not made again: %v", name, err)
		}
	}
}

// A power cut can take records that were indexed already, and others get their numbers.
func TestIndexOfAnotherLog(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	dir := t.TempDir()
	before := various(rnd, trail.BlockSize+10)
	all(t, openIndex(t, filled(t, before), dir), &trail.Query{}, 1000)
	after := append(slices.Clone(before[:trail.BlockSize-5]), various(rnd, 100)...)
	check(t, openIndex(t, filled(t, after), dir), after, 0, rnd, 10)
	short := before[:trail.BlockSize-1]
	check(t, openIndex(t, filled(t, short), dir), short, 0, rnd, 10)
}

// Old records go: from a memory that is full, and by retention.
func TestFindWhatIsStillThere(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	records := various(rnd, 2*trail.BlockSize+500)
	for _, keep := range []int{1000, trail.BlockSize + 3000} {
		for _, dir := range []string{"", t.TempDir()} {
			src := audit.NewMemory(keep)
			ix := openIndex(t, src, dir)
			for at := 0; at < len(records); at += 700 {
				if err := src.Append(records[at:min(len(records), at+700)]...); err != nil {
					t.Fatal(err)
				}
				if rnd.IntN(3) == 0 {
					all(t, ix, &trail.Query{Account: account}, 1000)
				}
			}
			check(t, ix, records, len(records)-keep, rnd, 10)
			check(t, openIndex(t, src, dir), records, len(records)-keep, rnd, 5)
			if lag := ix.Lag(); lag != 0 {
				t.Errorf("lag %d", lag)
			}
		}
	}
}

func TestRunFollows(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	records := various(rnd, trail.BlockSize+100)
	src := filled(t, records)
	ix := openIndex(t, src, t.TempDir())
	if ix.Lag() != uint64(len(records)) || ix.Needs() != 0 {
		t.Errorf("lag %d, needs %d before it runs", ix.Lag(), ix.Needs())
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { ix.Run(ctx); close(done) }()
	for deadline := time.Now().Add(10 * time.Second); ix.Lag() > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("lag %d", ix.Lag())
		}
		time.Sleep(time.Millisecond)
	}
	if ix.Needs() != uint64(len(records)) {
		t.Errorf("needs %d of %d", ix.Needs(), len(records))
	}
	stop()
	<-done
	if err := src.Append([]byte("no event"), record(func(r *audit.Record) { r.EventID = "last" })); err != nil {
		t.Fatal(err)
	}
	if got := all(t, ix, &trail.Query{Conditions: []trail.Condition{{trail.EventID, "last"}}}, 5); len(got) != 1 || ix.Unreadable() != 1 {
		t.Errorf("behind a record that is no event: %v, %d unreadable", got, ix.Unreadable())
	}
}

// A block of any octets with a right checksum is refused, or asked without harm.
func FuzzBlock(f *testing.F) {
	rnd := rand.New(rand.NewPCG(9, 10))
	b := trail.BuildBlock(0, various(rnd, 200))
	f.Add(b, uint64(100), "user1")
	f.Add(b[:len(b)-8], uint64(1), "")
	f.Fuzz(func(t *testing.T, b []byte, below uint64, value string) {
		table := crc32.MakeTable(crc32.Castagnoli)
		if len(b) > trail.HeadSize {
			b = slices.Clone(b)
			binary.LittleEndian.PutUint32(b[trail.HeadSize-4:], crc32.Checksum(b[:trail.HeadSize-4], table))
			binary.LittleEndian.PutUint32(b[len(b)-4:], crc32.Checksum(b[:len(b)-4], table))
		}
		for _, q := range []*trail.Query{{}, {Account: account, Region: region, Conditions: []trail.Condition{{trail.Username, value}, {trail.EventName, "Encrypt"}}}} {
			for _, n := range trail.AskBlock(b, q, below, 51) {
				if n >= below {
					t.Errorf("record %d is not below %d", n, below)
				}
			}
		}
	})
}

func BenchmarkIndex(b *testing.B) {
	rnd := rand.New(rand.NewPCG(11, 12))
	records := various(rnd, trail.BlockSize)
	b.ReportAllocs()
	before := processorTime(b)
	for n := 0; b.Loop(); n += len(records) {
		trail.BuildBlock(uint64(n), records)
	}
	b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/float64(b.N)/float64(len(records)), "cpu-ns/record")
}

// processorTime is what the process has used: other programs do not count.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// A disk that fails under the index, here a file that becomes shorter while it is looked at, costs a block and not the server.
func TestFileThatIsLostWhileItIsOpen(t *testing.T) {
	rnd := rand.New(rand.NewPCG(19, 20))
	records := various(rnd, trail.BlockSize+100)
	src, dir := filled(t, records), t.TempDir()
	ix := openIndex(t, src, dir)
	check(t, ix, records, 0, rnd, 3)
	files, err := filepath.Glob(filepath.Join(dir, "*.idx"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	if err := os.Truncate(files[0], 0); err != nil {
		t.Fatal(err)
	}
	check(t, ix, records, 0, rnd, 3)
	if info, err := os.Stat(files[0]); err != nil || info.Size() == 0 {
		t.Errorf("the block was not made again: %v, %v", info, err)
	}
}

// While the log grows and the index follows, everybody finds at least what was there before they asked.
func TestFindWhileTheLogGrows(t *testing.T) {
	rnd := rand.New(rand.NewPCG(21, 22))
	records := various(rnd, trail.BlockSize+3000)
	src := audit.NewMemory(len(records))
	ix := openIndex(t, src, t.TempDir())
	ctx, stop := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { ix.Run(ctx) })
	for range 3 {
		all.Go(func() {
			for ctx.Err() == nil {
				there := src.Next()
				p, err := ix.Find(context.Background(), &trail.Query{}, trail.Newest, 5)
				if err != nil || there > 0 && (len(p.Events) == 0 || p.Events[0].Number+1 < there) {
					t.Errorf("of %d records: %d events, %v", there, len(p.Events), err)
					return
				}
			}
		})
	}
	for at := 0; at < len(records); at += 100 {
		if err := src.Append(records[at:min(len(records), at+100)]...); err != nil {
			t.Error(err)
		}
	}
	stop()
	all.Wait()
	check(t, ix, records, 0, rnd, 2)
}

// broken is a log of which a part cannot be read.
type broken struct {
	audit.Source
	from, to uint64 // records, to not included
}

func (b broken) Read(from uint64, most int) ([][]byte, error) {
	if from < b.to && b.from < from+uint64(most) {
		return nil, errors.New("input/output error")
	}
	return b.Source.Read(from, most)
}

// Where a part of the log is damaged, the rest of it can be searched, also after a start.
func TestLogThatIsDamaged(t *testing.T) {
	rnd := rand.New(rand.NewPCG(23, 24))
	records := various(rnd, 3*trail.BlockSize+100)
	whole := filled(t, records)
	dir := t.TempDir()
	all(t, openIndex(t, whole, dir), &trail.Query{}, 1000)
	for what, b := range map[string]broken{
		"the last of a block":  {whole, 3*trail.BlockSize - 1, 3 * trail.BlockSize},
		"a whole block":        {whole, trail.BlockSize, 2 * trail.BlockSize},
		"a part of the oldest": {whole, 0, 100},
	} {
		for _, of := range []string{dir, t.TempDir(), ""} {
			ix := openIndex(t, b, of)
			found := map[uint64]bool{}
			got := all(t, ix, &trail.Query{}, 1000)
			for _, n := range got {
				found[n] = true
			}
			for n := range uint64(len(records)) {
				outside := n/trail.BlockSize != b.from/trail.BlockSize
				if outside && !found[n] {
					t.Fatalf("%s, %q: record %d is not found", what, of, n)
				}
			}
			if ix.Unreadable() == 0 {
				t.Errorf("%s: nobody knows", what)
			}
			if of == dir && len(got) < len(records)-int(b.to-b.from)-64 {
				t.Errorf("%s: %d of %d found", what, len(got), len(records))
			}
		}
	}
}

// A directory that cannot be written costs memory, and nobody an answer.
func TestDirectoryThatCannotBeWritten(t *testing.T) {
	rnd := rand.New(rand.NewPCG(25, 26))
	records := various(rnd, 2*trail.BlockSize+100)
	dir := filepath.Join(t.TempDir(), "lookup")
	ix := openIndex(t, filled(t, records), dir)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	check(t, ix, records, 0, rnd, 3)
	if ix.Lag() != 0 {
		t.Errorf("lag %d", ix.Lag())
	}
}
