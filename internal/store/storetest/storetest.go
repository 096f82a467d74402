// Package storetest is the suite that every engine of the store must pass: one call of Run per engine.
//
// It trusts the engine's test for one thing only, to hand out a connection behind the store's back, with which it does
// what an attacker could do. It must not know which engine it runs on.
package storetest

import (
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
)

// Harness is what the suite needs of an engine.
type Harness struct {
	// Open opens a new, empty store for the test and closes it at its end. Its clock is Clock. Use
	// Unseal for the second half.
	Open func(t testing.TB) *store.Store
	// Reopen closes a store and opens it again, as a restart does. Nil if the engine forgets.
	Reopen func(t testing.TB, s *store.Store) *store.Store
	// Beside opens a store once more, as another process does that uses it at the same time. Nil if only one can use it.
	Beside func(t testing.TB, s *store.Store) *store.Store
	// SQL returns a pool on the store's database that may do anything: foreign keys are not enforced on it.
	SQL func(t testing.TB, s *store.Store) *sql.DB
}

// Run runs the suite, without the tests of the given names.
func Run(t *testing.T, h Harness, without ...string) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Harness)
	}{
		{"RoundTrips", testRoundTrips},
		{"Missing", testMissing},
		{"Refusals", testRefusals},
		{"Aliases", testAliases},
		{"DeleteKeyTakesAliases", testDeleteKey},
		{"Grants", testGrants},
		{"GrantPages", testGrantPages},
		{"MovedGrants", testMovedGrants},
		{"Pages", testPages},
		{"Due", testDue},
		{"Identities", testIdentities},
		{"KeyUses", testKeyUses},
		{"KeyUsesAtOnce", testKeyUsesAtOnce},
		{"Quotas", testQuotas},
		{"Counts", testCounts},
		{"GaplessChanges", testGapless},
		{"GroupIsolation", testGroupIsolation},
		{"Panic", testPanic},
		{"Contexts", testContexts},
		{"OnCommit", testOnCommit},
		{"TxEnds", testTxEnds},
		{"Reopen", testReopen},
		{"Close", testClose},
		{"EveryByteCounts", testEveryByteCounts},
		{"NumbersCount", testNumbersCount},
		{"MovedRows", testMovedRows},
		{"SealsAreVerified", testSeals},
		{"UsesSince", testUsesSince},
		{"Rekey", testRekey},
		{"RotateRoot", testRotateRoot},
		{"ReplaceKey", testReplaceKey},
		{"Expect", testExpect},
		{"Trim", testTrim},
		{"SeenBeside", testSeenBeside},
		{"ManyWriters", testManyWriters},
		{"ReadsHold", testReadsHold},
		{"RotateBeside", testRotateBeside},
		{"WrappedBefore", testWrappedBefore},
		{"SealsBeside", testSealsBeside},
		{"FollowAlone", testFollowAlone},
		{"Follow", testFollow},
		{"FollowTrimmed", testFollowTrimmed},
		{"FollowWriters", testFollowWriters},
		{"Lease", testLease},
		{"LeaseAlone", testLeaseAlone},
		{"Nodes", testNodes},
	} {
		if !slices.Contains(without, c.name) {
			t.Run(c.name, func(t *testing.T) { c.test(t, h) })
		}
	}
}

const (
	account = arn.Account("111122223333")
	region  = arn.Region("us-east-1")
)

// moment is in whole milliseconds, which is what the store keeps.
var moment = time.UnixMilli(1790000000123).UTC()

// Clock is the clock of the suite's stores.
func Clock() time.Time { return moment }

// Seal returns the seal that opens the stores of the suite.
func Seal() seal.Seal { return seal.KeyFile("test", secret.Take(make([]byte, 32))) }

// Unseal initialises a DB if it is new, and unseals it.
func Unseal(t testing.TB, db *store.DB) *store.Store {
	t.Helper()
	ctx := t.Context()
	sealed, err := db.Sealed(ctx)
	var b *seal.Barrier
	switch {
	case errors.Is(err, store.ErrNotInitialized):
		if b, sealed, err = seal.Initialize(ctx, moment, Seal()); err == nil {
			err = db.Initialize(ctx, sealed)
		}
	case err == nil:
		b, err = seal.Unseal(ctx, sealed, Seal())
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := db.Unseal(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Key returns a valid key with a new id.
func Key() *key.Key {
	return &key.Key{
		Name:      key.Name{Account: account, Region: region, ID: arn.NewKeyID(false)},
		CreatedAt: moment, Spec: key.SymmetricDefault, Usage: key.EncryptDecrypt, Origin: key.OriginAWSKMS,
		Manager: key.ManagerCustomer, State: key.Enabled, Policy: `{"Version":"2012-10-17"}`,
		Material: []key.Material{{ID: strings.Repeat("0a", 32), CreatedAt: moment, Wrapped: []byte("wrapped material")}},
	}
}

func alias(k *key.Key, name string) *key.Alias {
	return &key.Alias{
		Account: k.Account, Region: k.Region, Name: arn.AliasName("alias/" + name), Target: k.ID,
		CreatedAt: moment, UpdatedAt: moment.Add(time.Hour),
	}
}

func anAccount() *store.Account {
	return &store.Account{ID: account, Name: "first", CreatedAt: moment, Partition: arn.Government}
}

func anAccessKey(id string) *store.AccessKey {
	return &store.AccessKey{
		ID: id, Account: account, Principal: account.Root("aws"), Status: store.AccessKeyActive,
		CreatedAt: moment, Secret: secret.FromString("the secret of " + id),
	}
}

// update runs updates that must succeed.
func update(t testing.TB, s *store.Store, f func(*store.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

func put(t testing.TB, s *store.Store, keys ...*key.Key) {
	t.Helper()
	update(t, s, func(tx *store.Tx) error {
		for _, k := range keys {
			if err := tx.PutKey(k); err != nil {
				return err
			}
		}
		return nil
	})
}

// in runs f in a transaction and returns what it gives.
func in[T any](t testing.TB, s *store.Store, f func(*store.Tx) (T, error)) (v T, err error) {
	t.Helper()
	update(t, s, func(tx *store.Tx) error { v, err = f(tx); return nil })
	return v, err
}

func testRoundTrips(t *testing.T, h Harness) {
	s := h.Open(t)
	ctx := t.Context()
	full := Key()
	full.ID = arn.NewKeyID(true)
	full.Description, full.Service, full.MultiRegion = "a \x00 description ü", "s3", true
	full.State, full.DeletionAt, full.PendingWindowInDays = key.PendingDeletion, moment.Add(7*24*time.Hour), 7
	full.Rotation = key.Rotation{Enabled: true, PeriodInDays: 365, Next: moment.Add(365 * 24 * time.Hour), OnDemand: 3}
	full.Tags = []key.Tag{{Key: "a", Value: "1"}, {Key: "b", Value: ""}}
	full.Material = append(full.Material, key.Material{ID: strings.Repeat("0b", 32), CreatedAt: moment, Wrapped: []byte{0, 1}, RotatedBy: "ON_DEMAND"})
	empty := Key()
	empty.CreatedAt, empty.Policy, empty.Material = time.Time{}, "", nil
	for _, k := range []*key.Key{full, empty} {
		put(t, s, k)
		got, err := s.GetKey(ctx, k.Name)
		if err != nil || !reflect.DeepEqual(got, k) {
			t.Errorf("got %+v, %v; want %+v", got, err, k)
		}
		got, err = in(t, s, func(tx *store.Tx) (*key.Key, error) { return tx.GetKey(k.Name) })
		if err != nil || !reflect.DeepEqual(got, k) {
			t.Errorf("in a transaction: got %+v, %v; want %+v", got, err, k)
		}
	}
	changed := full.Clone()
	changed.State, changed.Policy = key.Disabled, strings.Repeat("p", 32768)
	put(t, s, changed)
	if got, err := s.GetKey(ctx, full.Name); err != nil || !reflect.DeepEqual(got, changed) {
		t.Errorf("after a change: %v", err)
	}

	a, ak := anAccount(), anAccessKey("AKIA1")
	update(t, s, func(tx *store.Tx) error { return errors.Join(tx.PutAccount(a), tx.PutAccessKey(ak)) })
	if got, err := s.GetAccount(ctx, account); err != nil || !reflect.DeepEqual(got, a) {
		t.Errorf("account %+v, %v", got, err)
	}
	if got, err := s.ListAccounts(ctx); err != nil || len(got) != 1 || !reflect.DeepEqual(got[0], a) {
		t.Errorf("accounts %+v, %v", got, err)
	}
	sameAccessKey(t, s, ak)
	ak.Status, ak.Secret = store.AccessKeyInactive, secret.FromString("another")
	ak.LastUsed = store.AccessKeyUse{At: moment, Region: region, Service: "kms"}
	update(t, s, func(tx *store.Tx) error { return tx.PutAccessKey(ak) })
	sameAccessKey(t, s, ak)
	if got, err := s.ListAccessKeys(ctx, account); err != nil || len(got) != 1 || !got[0].Secret.Equal(ak.Secret) {
		t.Errorf("access keys %+v, %v", got, err)
	}
	update(t, s, func(tx *store.Tx) error { return tx.DeleteAccessKey(ak.ID) })
	if _, err := s.GetAccessKey(ctx, ak.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after deletion: %v", err)
	}
}

func sameAccessKey(t *testing.T, s *store.Store, want *store.AccessKey) {
	t.Helper()
	got, err := s.GetAccessKey(t.Context(), want.ID)
	if err != nil || !got.Secret.Equal(want.Secret) {
		t.Fatalf("access key: %v", err)
	}
	g, w := *got, *want
	g.Secret, w.Secret = secret.Bytes{}, secret.Bytes{}
	if !reflect.DeepEqual(g, w) {
		t.Errorf("got %+v, want %+v", g, w)
	}
}

func testMissing(t *testing.T, h Harness) {
	s := h.Open(t)
	ctx, n := t.Context(), Key().Name
	_, err1 := s.GetKey(ctx, n)
	_, err2 := s.GetAlias(ctx, account, region, "alias/x")
	_, err3 := s.GetAccount(ctx, account)
	_, err4 := s.GetAccessKey(ctx, "AKIA")
	err5 := s.Update(ctx, func(tx *store.Tx) error { return tx.DeleteKey(n) })
	err6 := s.Update(ctx, func(tx *store.Tx) error { return tx.DeleteAlias(account, region, "alias/x") })
	err7 := s.Update(ctx, func(tx *store.Tx) error { return tx.DeleteAccessKey("AKIA") })
	_, err8 := in(t, s, func(tx *store.Tx) (*key.Key, error) { return tx.GetKey(n) })
	_, err9 := in(t, s, func(tx *store.Tx) (*key.Alias, error) { return tx.GetAlias(account, region, "alias/x") })
	for i, err := range []error{err1, err2, err3, err4, err5, err6, err7, err8, err9} {
		if !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%d: %v", i+1, err)
		}
	}
	if changes, err := s.ChangesSince(ctx, account, region, 0, 10); err != nil || len(changes) > 0 {
		t.Errorf("changes %v, %v", changes, err)
	}
}

func testRefusals(t *testing.T, h Harness) {
	s := h.Open(t)
	k := Key()
	put(t, s, k)
	noState, noTarget, noSecret := k.Clone(), alias(k, "x"), anAccessKey("AKIA1")
	noState.State, noTarget.Target, noSecret.Secret = "", "", secret.Bytes{}
	elsewhere := alias(Key(), "elsewhere")
	for what, f := range map[string]func(*store.Tx) error{
		"key without a state":         func(tx *store.Tx) error { return tx.PutKey(noState) },
		"alias without a target":      func(tx *store.Tx) error { return tx.InsertAlias(noTarget) },
		"alias of no key":             func(tx *store.Tx) error { return tx.InsertAlias(elsewhere) },
		"access key without a secret": func(tx *store.Tx) error { return tx.PutAccessKey(noSecret) },
		"access key of no account":    func(tx *store.Tx) error { return tx.PutAccessKey(anAccessKey("AKIA2")) },
		"account without an id":       func(tx *store.Tx) error { return tx.PutAccount(&store.Account{}) },
		"swallowed error of a statement": func(tx *store.Tx) error {
			_ = tx.InsertAlias(elsewhere)
			return nil
		},
	} {
		if err := s.Update(t.Context(), f); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	if got, err := s.ChangesSince(t.Context(), account, region, 0, 10); err != nil || len(got) != 1 {
		t.Errorf("refused updates left changes: %v, %v", got, err)
	}
}

func testAliases(t *testing.T, h Harness) {
	s := h.Open(t)
	ctx, one, two := t.Context(), Key(), Key()
	put(t, s, one, two)
	a := alias(one, "a")
	update(t, s, func(tx *store.Tx) error { return tx.InsertAlias(a) })
	if err := s.Update(ctx, func(tx *store.Tx) error { return tx.InsertAlias(alias(two, "a")) }); !errors.Is(err, store.ErrExists) {
		t.Errorf("a second alias of the name: %v", err)
	}
	if got, err := s.GetAlias(ctx, account, region, a.Name); err != nil || !reflect.DeepEqual(got, a) {
		t.Errorf("got %+v, %v", got, err)
	}
	// The same name in another Region is another alias.
	other := Key()
	other.Region = "eu-west-1"
	put(t, s, other)
	update(t, s, func(tx *store.Tx) error { return tx.InsertAlias(alias(other, "a")) })
	moved := alias(two, "a")
	moved.UpdatedAt = moment.Add(2 * time.Hour)
	update(t, s, func(tx *store.Tx) error { return errors.Join(tx.PutAlias(moved), tx.PutAlias(alias(two, "b"))) })
	got, err := in(t, s, func(tx *store.Tx) (*key.Alias, error) { return tx.GetAlias(account, region, "alias/a") })
	if err != nil || !reflect.DeepEqual(got, moved) {
		t.Errorf("after moving: %+v, %v", got, err)
	}
	for k, want := range map[*key.Key]int64{one: 0, two: 2, other: 1} {
		n, err := in(t, s, func(tx *store.Tx) (int64, error) { return tx.CountAliasesOfKey(k.Name) })
		if err != nil || n != want {
			t.Errorf("%d aliases, %v; want %d", n, err, want)
		}
		list, more, err := s.ListAliasesOfKey(ctx, k.Name, "", 10)
		if err != nil || int64(len(list)) != want || more {
			t.Errorf("listed %d aliases, more %v, %v", len(list), more, err)
		}
	}
}

func testDeleteKey(t *testing.T, h Harness) {
	s := h.Open(t)
	ctx, k, other := t.Context(), Key(), Key()
	put(t, s, k, other)
	update(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.InsertAlias(alias(k, "a")), tx.InsertAlias(alias(k, "b")), tx.InsertAlias(alias(other, "c")))
	})
	update(t, s, func(tx *store.Tx) error { return tx.DeleteKey(k.Name) })
	if _, err := s.GetKey(ctx, k.Name); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the key: %v", err)
	}
	list, _, err := s.ListAliases(ctx, account, region, "", 10)
	if err != nil || len(list) != 1 || list[0].Name != "alias/c" {
		t.Errorf("aliases left: %v, %v", list, err)
	}
	changes, err := s.ChangesSince(ctx, account, region, 5, 10)
	want := []store.Change{
		{N: 6, Kind: store.ChangedAlias, Ref: "alias/a"},
		{N: 7, Kind: store.ChangedAlias, Ref: "alias/b"},
		{N: 8, Kind: store.ChangedKey, Ref: string(k.ID)},
	}
	if err != nil || !slices.Equal(changes, want) {
		t.Errorf("changes %v, %v", changes, err)
	}
}

func testPages(t *testing.T, h Harness) {
	s := h.Open(t)
	ctx := t.Context()
	var ids []arn.KeyID
	var names []arn.AliasName
	var keys []*key.Key
	for range 60 {
		k := Key()
		keys, ids = append(keys, k), append(ids, k.ID)
	}
	elsewhere, foreign := Key(), Key()
	elsewhere.Region, foreign.Account = "eu-west-1", "444455556666"
	put(t, s, append(keys, elsewhere, foreign)...)
	update(t, s, func(tx *store.Tx) error {
		for i, k := range keys {
			name := fmt.Sprintf("x/%d", i)
			names = append(names, arn.AliasName("alias/"+name))
			if err := tx.InsertAlias(alias(k, name)); err != nil {
				return err
			}
		}
		return nil
	})
	slices.Sort(ids)
	slices.Sort(names)
	for _, limit := range []int{1, 7, 59, 60, 61, 1000} {
		var gotIDs []arn.KeyID
		for more, after := true, arn.KeyID(""); more; {
			var list []arn.KeyID
			var err error
			if list, more, err = s.ListKeys(ctx, account, region, after, limit); err != nil || len(list) == 0 || len(list) > limit {
				t.Fatalf("limit %d: %d keys, %v", limit, len(list), err)
			}
			gotIDs, after = append(gotIDs, list...), list[len(list)-1]
		}
		var gotNames []arn.AliasName
		for more, after := true, arn.AliasName(""); more; {
			var list []*key.Alias
			var err error
			if list, more, err = s.ListAliases(ctx, account, region, after, limit); err != nil || len(list) == 0 || len(list) > limit {
				t.Fatalf("limit %d: %d aliases, %v", limit, len(list), err)
			}
			for _, a := range list {
				gotNames, after = append(gotNames, a.Name), a.Name
			}
		}
		if !slices.Equal(gotIDs, ids) || !slices.Equal(gotNames, names) {
			t.Errorf("limit %d: pages give %d keys and %d aliases, or not in order", limit, len(gotIDs), len(gotNames))
		}
	}
	if list, more, err := s.ListKeys(ctx, account, region, ids[59], 10); err != nil || len(list) > 0 || more {
		t.Errorf("after the last: %v, %v, %v", list, more, err)
	}
}

func testDue(t *testing.T, h Harness) {
	s := h.Open(t)
	never, rotates, goes, later := Key(), Key(), Key(), Key()
	rotates.Rotation = key.Rotation{Enabled: true, PeriodInDays: 90, Next: moment.Add(2 * time.Hour)}
	goes.State, goes.DeletionAt, goes.Region = key.PendingDeletion, moment.Add(time.Hour), "eu-west-1"
	later.State, later.DeletionAt = key.PendingDeletion, moment.Add(3*time.Hour)
	put(t, s, never, rotates, goes, later)
	for _, c := range []struct {
		after time.Duration
		limit int
		want  []key.Name
	}{
		{time.Hour - time.Millisecond, 10, nil},
		{time.Hour, 10, []key.Name{goes.Name}},
		{2 * time.Hour, 10, []key.Name{goes.Name, rotates.Name}},
		{99 * time.Hour, 10, []key.Name{goes.Name, rotates.Name, later.Name}},
		{99 * time.Hour, 2, []key.Name{goes.Name, rotates.Name}},
	} {
		if got, err := s.DueKeys(t.Context(), moment.Add(c.after), c.limit); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("after %v: %v, %v; want %v", c.after, got, err, c.want)
		}
	}
	later.State, later.DeletionAt = key.Disabled, time.Time{}
	put(t, s, later)
	if got, err := s.DueKeys(t.Context(), moment.Add(99*time.Hour), 10); err != nil || len(got) != 2 {
		t.Errorf("after a cancelled deletion: %v, %v", got, err)
	}
}

func testCounts(t *testing.T, h Harness) {
	s := h.Open(t)
	one, two := Key(), Key()
	count := func(what string, want int64) {
		t.Helper()
		got, err := s.CountKeys(t.Context(), account, region)
		inside, err2 := in(t, s, func(tx *store.Tx) (int64, error) { return tx.CountKeys(account, region) })
		if err != nil || err2 != nil || got != want || inside != want {
			t.Errorf("%s: %d and %d keys, %v, %v; want %d", what, got, inside, err, err2, want)
		}
	}
	count("nothing", 0)
	put(t, s, one, two)
	count("two keys", 2)
	put(t, s, one)
	count("one of them again", 2)
	_ = s.Update(t.Context(), func(tx *store.Tx) error { return errors.Join(tx.PutKey(Key()), errors.New("no")) })
	count("an undone one", 2)
	update(t, s, func(tx *store.Tx) error {
		err := errors.Join(tx.PutKey(Key()), tx.DeleteKey(one.Name), tx.DeleteKey(two.Name))
		if n, _ := tx.CountKeys(account, region); n != 1 {
			t.Errorf("in the transaction: %d keys", n)
		}
		return err
	})
	count("one left", 1)
}

func testReopen(t *testing.T, h Harness) {
	if h.Reopen == nil {
		t.Skip("a store in memory ends with its process: there is nothing to open again")
	}
	s := h.Open(t)
	k := Key()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { put(t, s, Key()) })
	}
	put(t, s, k)
	update(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.InsertAlias(alias(k, "a")), tx.PutAccount(anAccount()), tx.PutAccessKey(anAccessKey("AKIA1")))
	})
	wg.Wait()
	before, err := s.Verify(t.Context(), nil)
	installation := s.DB().Installation()
	if err != nil {
		t.Fatal(err)
	}
	s = h.Reopen(t, s)
	after, err := s.Verify(t.Context(), nil)
	if want := (store.Counts{Seals: 1, DomainKeys: 4, Accounts: 1, AccessKeys: 1, Keys: 51, Aliases: 1}); err != nil || before != want || after != want {
		t.Errorf("before %+v, after %+v, %v", before, after, err)
	}
	if s.DB().Installation() != installation || installation == "" {
		t.Error("the installation has another id")
	}
	put(t, s, Key())
	if p, err := s.Positions(t.Context()); err != nil || !slices.Equal(p, []store.Position{
		{Account: account, Region: store.GlobalRegion, N: 2}, {Account: account, Region: region, N: 53},
	}) {
		t.Errorf("positions %v, %v", p, err)
	}
}

func testClose(t *testing.T, h Harness) {
	s := h.Open(t)
	if err := s.DB().Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(t.Context(), func(*store.Tx) error { return nil }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("an update after the end: %v", err)
	}
	if _, err := s.GetKey(t.Context(), Key().Name); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("a read after the end: %v", err)
	}
}
