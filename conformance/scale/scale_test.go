// Package scale fills an account with keys through a real server and measures what must not depend on how many there are: a page
// of ListKeys and ListAliases, the time from the start of the process to its first answer, and its memory.
//
// It measures on whatever machine it runs on, so it compares with a server that has few keys, asked in turn; it trusts no single
// measurement, but the best of several. What it measures is printed always, and times are judged only where KEYWRIGHT_SCALE asks for
// a measurement: a machine that does other things besides says nothing about them.
package scale_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keywright/keywright/conformance/server"
)

const (
	few      = 1000 // keys with which the larger number is compared
	clients  = 64   // at once, so that they share what is written to disk
	perAlias = 10   // one key in so many has an alias

	maxPage   = 1.5       // times a page among few keys
	maxStart  = 3.0       // times the start with an empty store
	maxMemory = 300 << 20 // octets
	maxRSA    = 5.0       // times a symmetric CreateKey
	maxCold   = 2.0       // times the same among few keys
)

// scale is the number of keys that a measurement asks for.
const scale = "KEYWRIGHT_SCALE"

// keys is how many keys there will be: what a measurement asks for, or a number for every day.
func keys(t *testing.T) int {
	n := server.Number(t, scale, 3000)
	if n < few {
		t.Fatalf("%s=%d is less than %d", scale, n, few)
	}
	return n
}

// world is a server with what was made on it.
type world struct {
	t      *testing.T
	launch func() *server.Server // starts it
	server *server.Server
	client *kms.Client
	made   int
	tables string // the directory of the database's, if it is on PostgreSQL
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// start starts the server and returns how long it took from there to the first answer.
func (w *world) start() time.Duration {
	w.t.Helper()
	w.server = w.launch()
	w.client = w.server.KMS()
	began := time.Now()
	_, err := w.client.ListKeys(context.Background(), &kms.ListKeysInput{Limit: aws.Int32(1)})
	w.must(err)
	return w.server.Started + time.Since(began)
}

// starts stops the server and starts it again, several times, and returns the best time to the first answer.
func (w *world) starts() time.Duration {
	w.t.Helper()
	return best(w.restart)
}

// restart stops the server and starts it again, and returns the time to the first answer.
func (w *world) restart() time.Duration {
	w.t.Helper()
	w.server.Stop()
	return w.start()
}

// samples is how many there are of each measurement: fewer where times are not judged.
func samples() int {
	if os.Getenv(scale) == "" {
		return 2
	}
	return 9
}

func best(measure func() time.Duration) time.Duration {
	least := measure()
	for range samples() - 1 {
		least = min(least, measure())
	}
	return least
}

func timed(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}

// fill makes keys until there are n.
func (w *world) fill(n int) {
	w.t.Helper()
	first := w.made + 1
	w.atOnce(n-w.made, func(i int) error { return w.make(first + i) })
	w.made = n
}

// atOnce has n things done by many clients.
func (w *world) atOnce(n int, do func(i int) error) {
	w.t.Helper()
	var next atomic.Int64
	var workers sync.WaitGroup
	failures := make(chan error, clients)
	for range clients {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := do(i); err != nil {
					failures <- fmt.Errorf("number %d: %w", i, err)
					return
				}
			}
		})
	}
	workers.Wait()
	close(failures)
	for err := range failures {
		w.t.Fatal(err)
	}
}

// make makes key number i.
func (w *world) make(i int) error {
	ctx := context.Background()
	out, err := w.client.CreateKey(ctx, &kms.CreateKeyInput{})
	if err != nil || i%perAlias != 0 {
		return err
	}
	_, err = w.client.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String(fmt.Sprintf("alias/scale/%07d", i)), TargetKeyId: out.KeyMetadata.KeyId})
	return err
}

// list lists all keys and aliases and returns a marker from the middle of each list.
func (w *world) list() (keyMarker, aliasMarker string) {
	w.t.Helper()
	ctx := context.Background()
	seen := map[string]bool{}
	page := 0
	for p := kms.NewListKeysPaginator(w.client, &kms.ListKeysInput{Limit: aws.Int32(100)}); p.HasMorePages(); page++ {
		out, err := p.NextPage(ctx)
		w.must(err)
		for _, k := range out.Keys {
			seen[*k.KeyId] = true
		}
		if page == w.made/200-1 {
			keyMarker = aws.ToString(out.NextMarker)
		}
	}
	if len(seen) != w.made {
		w.t.Fatalf("%d keys are listed, of %d", len(seen), w.made)
	}
	aliases := 0
	page = 0
	for p := kms.NewListAliasesPaginator(w.client, &kms.ListAliasesInput{Limit: aws.Int32(50)}); p.HasMorePages(); page++ {
		out, err := p.NextPage(ctx)
		w.must(err)
		aliases += len(out.Aliases)
		if page == w.made/perAlias/100-1 {
			aliasMarker = aws.ToString(out.NextMarker)
		}
	}
	if aliases != w.made/perAlias {
		w.t.Fatalf("%d aliases are listed, of %d", aliases, w.made/perAlias)
	}
	return keyMarker, aliasMarker
}

// often is how many pages make one measurement.
const often = 20

// keyPages measures pages of 100 keys that begin at the marker.
func (w *world) keyPages(marker string) time.Duration {
	return timed(func() {
		for range often {
			out, err := w.client.ListKeys(context.Background(), &kms.ListKeysInput{Limit: aws.Int32(100), Marker: &marker})
			w.must(err)
			if len(out.Keys) != 100 {
				w.t.Fatalf("a page of %d keys", len(out.Keys))
			}
		}
	}) / often
}

// aliasPages measures pages of 50 aliases that begin at the marker.
func (w *world) aliasPages(marker string) time.Duration {
	return timed(func() {
		for range often {
			out, err := w.client.ListAliases(context.Background(), &kms.ListAliasesInput{Limit: aws.Int32(50), Marker: &marker})
			w.must(err)
			if len(out.Aliases) != 50 {
				w.t.Fatalf("a page of %d aliases", len(out.Aliases))
			}
		}
	}) / often
}

// inTurn measures two things in turn and returns the best time of each.
func inTurn(a, b func() time.Duration) (time.Duration, time.Duration) {
	bestA, bestB := a(), b()
	for range samples() - 1 {
		bestA, bestB = min(bestA, a()), min(bestB, b())
	}
	return bestA, bestB
}

// limit reports how many times a measurement is another one, and fails if it is over what it may be.
func limit[N time.Duration | int64](t *testing.T, what string, got, than N, most float64) {
	t.Helper()
	if ratio := report(t, what, got, than); ratio > most {
		t.Errorf("%s: %.2f times, at most %.2f", what, ratio, most)
	}
}

// limitTime is limit for times, which are judged only where somebody measures.
func limitTime(t *testing.T, what string, got, than time.Duration, most float64) {
	t.Helper()
	if os.Getenv(scale) == "" {
		report(t, what, got, than)
		return
	}
	limit(t, what, got, than, most)
}

func report[N time.Duration | int64](t *testing.T, what string, got, than N) float64 {
	t.Helper()
	ratio := float64(got) / float64(than)
	t.Logf("%s: %v, %.2f times %v", what, got, ratio, than)
	return ratio
}

// newWorld starts a server of its own.
func newWorld(t *testing.T) *world {
	dir := t.TempDir()
	w := &world{t: t, launch: func() *server.Server { return server.Start(t, filepath.Join(dir, "data"), filepath.Join(dir, "log")) }}
	w.start() // which makes the store
	return w
}

func TestScale(t *testing.T) {
	n := keys(t)
	small, w := newWorld(t), newWorld(t)
	empty := w.starts()
	small.fill(few)
	smallKey, smallAlias := small.list()
	took := timed(func() { w.fill(n) })
	t.Logf("%d keys, made at %.0f/s", n, float64(n)/took.Seconds())
	key, alias := w.list()
	many, least := inTurn(func() time.Duration { return w.keyPages(key) }, func() time.Duration { return small.keyPages(smallKey) })
	limitTime(t, "a page of 100 keys", many, least, maxPage)
	many, least = inTurn(func() time.Duration { return w.aliasPages(alias) }, func() time.Duration { return small.aliasPages(smallAlias) })
	limitTime(t, "a page of 50 aliases", many, least, maxPage)
	small.server.Stop()
	limit(t, "memory with all keys made and listed", w.server.Memory(t), maxMemory, 1)
	limitTime(t, "start to first answer", w.starts(), empty, maxStart)
	limit(t, "memory after a start", w.server.Memory(t), maxMemory, 1)
}

// While keys are ready, it takes about as long to get an RSA key as a symmetric one.
func TestReadyKeys(t *testing.T) {
	w := newWorld(t)
	time.Sleep(10 * time.Second) // while the pool fills
	median := func(in *kms.CreateKeyInput) time.Duration {
		var times []time.Duration
		for range samples() {
			times = append(times, timed(func() {
				_, err := w.client.CreateKey(context.Background(), in)
				w.must(err)
			}))
		}
		slices.Sort(times)
		return times[len(times)/2]
	}
	symmetric := median(&kms.CreateKeyInput{})
	limitTime(t, "CreateKey RSA_2048, median", median(&kms.CreateKeyInput{KeySpec: types.KeySpecRsa2048, KeyUsage: types.KeyUsageTypeSignVerify}), symmetric, maxRSA)
}
