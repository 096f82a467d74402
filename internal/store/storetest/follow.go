package storetest

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/keywright/keywright/internal/store"
)

func follow(t *testing.T, s *store.Store) *store.Follower {
	t.Helper()
	f, err := s.Follow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func next(t *testing.T, f *store.Follower) (refs []string, lost bool) {
	t.Helper()
	news, lost, err := f.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range news {
		refs = append(refs, fmt.Sprintf("%s/%s %d %s %s", n.Account, n.Region, n.N, n.Kind, n.Ref))
	}
	return refs, lost
}

// testFollowAlone: what only this process changes is no news.
func testFollowAlone(t *testing.T, h Harness) {
	s := h.Open(t)
	f := follow(t, s)
	put(t, s, Key())
	if news, lost := next(t, f); len(news) > 0 || lost {
		t.Errorf("%v, lost %v", news, lost)
	}
}

// testFollow has one process hear of what others do: once, in order, and of all from its beginning on.
func testFollow(t *testing.T, h Harness) {
	nodes := besides(t, h, 3)
	one, two, three := nodes[0], nodes[1], nodes[2]
	k, other := Key(), Key()
	put(t, two, k)
	f := follow(t, one)
	if news, lost := next(t, f); len(news) > 0 || lost {
		t.Errorf("of before: %v, lost %v", news, lost)
	}
	put(t, one, other)
	update(t, two, func(tx *store.Tx) error { return tx.PutAlias(alias(k, "a")) })
	update(t, two, func(tx *store.Tx) error { return tx.PutAlias(alias(other, "a")) })
	update(t, two, func(tx *store.Tx) error { return tx.PutAlias(alias(other, "a")) })
	update(t, two, func(tx *store.Tx) error { return tx.DeleteAlias(account, region, alias(k, "a").Name) })
	update(t, three, func(tx *store.Tx) error { return tx.PutAccount(anAccount()) })
	news, lost := next(t, f)
	slices.Sort(news)
	at := fmt.Sprintf("%s/%s ", account, region)
	want := []string{
		fmt.Sprintf("%s3 alias alias/a %s", at, k.ID), fmt.Sprintf("%s4 alias alias/a %s %s", at, other.ID, k.ID),
		fmt.Sprintf("%s5 alias alias/a %s", at, other.ID), fmt.Sprintf("%s6 alias alias/a %s", at, other.ID),
		fmt.Sprintf("%s/%s 1 account %s", anAccount().ID, store.GlobalRegion, anAccount().ID),
	}
	slices.Sort(want)
	if !slices.Equal(news, want) || lost {
		t.Errorf("news %q, want %q; lost %v", news, want, lost)
	}
	if news, lost := next(t, f); len(news) > 0 || lost {
		t.Errorf("a second time: %v, lost %v", news, lost)
	}
	if news, _ := next(t, follow(t, three)); len(news) > 0 {
		t.Errorf("a new follower hears %v", news)
	}
	put(t, h.Beside(t, one), k) // by a process that is new
	if news, lost := next(t, f); len(news) != 1 || lost {
		t.Errorf("of a new process: %v, lost %v", news, lost)
	}
}

// testFollowTrimmed: a follower that was away for longer than the feed goes back is told so, and others hear all.
func testFollowTrimmed(t *testing.T, h Harness) {
	nodes := besides(t, h, 3)
	one, two, three := nodes[0], nodes[1], nodes[2]
	k := Key()
	put(t, two, k)
	away, early := follow(t, one), follow(t, three)
	for range 10 {
		put(t, two, k)
	}
	if news, lost := next(t, early); len(news) != 10 || lost {
		t.Errorf("%d changes, lost %v", len(news), lost)
	}
	if n, err := three.TrimChanges(t.Context(), 2); err != nil || n != 9 {
		t.Fatalf("%d went, %v", n, err)
	}
	put(t, two, k)
	if news, lost := next(t, early); len(news) != 1 || lost {
		t.Errorf("%d changes after the trimming, lost %v", len(news), lost)
	}
	if _, lost := next(t, away); !lost {
		t.Error("nothing is lost where changes are missing")
	}
	put(t, two, k)
	if news, lost := next(t, away); len(news) != 1 || lost {
		t.Errorf("%d changes after that, lost %v", len(news), lost)
	}
}

// testFollowWriters has several processes write at once while one hears of it: nothing is missing and nothing comes twice, whatever
// commits overtake each other.
func testFollowWriters(t *testing.T, h Harness) {
	const writers, each = 3, 60
	nodes := besides(t, h, writers+1)
	f := follow(t, nodes[0])
	var wg sync.WaitGroup
	for _, s := range nodes[1:] {
		own := Key()
		for range 4 {
			wg.Go(func() {
				for range each / 4 {
					put(t, s, own)
				}
			})
		}
	}
	heard := map[int64]bool{}
	hear := func() {
		news, lost, err := f.Next(t.Context())
		if err != nil || lost {
			t.Errorf("lost %v, %v", lost, err)
		}
		for _, n := range news {
			if n.Kind != store.ChangedKey || heard[n.N] {
				t.Errorf("%+v comes twice, or is none of these", n)
			}
			heard[n.N] = true
		}
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for wait := true; wait; {
		select {
		case <-done:
			wait = false
		default:
		}
		hear()
	}
	if len(heard) != writers*each {
		t.Errorf("%d changes were heard of, want %d", len(heard), writers*each)
	}
	for n := range int64(writers * each) {
		if !heard[n+1] {
			t.Errorf("number %d was not heard of", n+1)
		}
	}
}
