package store_test

import (
	"bytes"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/store/storetest"
)

// golden is a key with every field set, whose body is in testdata: what was written once must stay readable.
func golden() *key.Key {
	at := func(n int64) time.Time { return time.UnixMilli(n).UTC() }
	return &key.Key{
		Name:      key.Name{Account: "111122223333", Region: "us-east-1", ID: "1234abcd-12ab-34cd-56ef-1234567890ab"},
		CreatedAt: at(1), Description: "d", Spec: "S", Usage: "U", Origin: "O", Manager: "M", Service: "s3", State: "T",
		MultiRegion: true, DeletionAt: at(-2), PendingWindowInDays: 7,
		Rotation:   key.Rotation{Enabled: true, PeriodInDays: 365, Next: at(1790000000123), OnDemand: 3},
		Principals: []key.Binding{{ARN: "arn:aws:iam::111122223333:user/u", ID: "AIDA1"}},
		Policy:     "{}", Tags: []key.Tag{{Key: "k", Value: "v"}},
		ReadyAt: at(5), Next: "N", Primary: "us-east-1", Replicas: []arn.Region{"eu-west-1", "us-west-2"},
		Material: []key.Material{{
			ID: "aa", CreatedAt: at(4), Wrapped: []byte("w"), RotatedBy: "AUTOMATIC", State: key.Current, Public: []byte("p"), RotatedAt: at(6),
			Description: "m", Expiration: key.Expires, ValidTo: at(7),
		}},
	}
}

func TestGoldenKeyBody(t *testing.T) {
	k := golden()
	want, err := os.ReadFile("testdata/key-body-v3.bin")
	if err != nil {
		t.Fatal(err)
	}
	if got := store.EncodeKey(k); !bytes.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got, err := store.DecodeKey(k.Name, want); err != nil || !reflect.DeepEqual(got, k) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// What older versions wrote stays readable: it has what there was then.
func TestGoldenOlderKeyBodies(t *testing.T) {
	k := golden()
	k.ReadyAt, k.Next, k.Primary, k.Replicas = time.Time{}, "", "", nil
	k.Material = []key.Material{{ID: "aa", CreatedAt: k.Material[0].CreatedAt, Wrapped: []byte("w"), RotatedBy: "AUTOMATIC", State: key.Current}}
	unbound := k.Clone()
	unbound.Principals = nil
	for file, want := range map[string]*key.Key{"key-body-v1.bin": unbound, "key-body-v2.bin": k} {
		old, err := os.ReadFile("testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := store.DecodeKey(k.Name, old); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v", file, got, err)
		}
	}
}

// goldenGrant is a grant with every field set.
func goldenGrant() *key.Grant {
	return &key.Grant{
		ID: strings.Repeat("ab", 32), Key: golden().Name, Name: "n", CreatedAt: time.UnixMilli(1790000000123).UTC(), Issuer: "111122223333",
		Grantee:     key.GrantPrincipal{ARN: "arn:aws:iam::111122223333:user/u", ID: "AIDA1"},
		Retiring:    key.GrantPrincipal{Service: "objects.example.com"},
		Operations:  key.GrantOperation("Decrypt") | key.GrantOperation("DeriveSharedSecret"),
		Constraints: key.GrantConstraints{Equals: map[string]string{}, Subset: map[string]string{"b": "2", "a": "1"}, SourceARN: "arn"},
	}
}

func TestGoldenGrantBody(t *testing.T) {
	want, err := os.ReadFile("testdata/grant-body-v1.bin")
	if err != nil {
		t.Fatal(err)
	}
	g := goldenGrant()
	if got := store.EncodeGrant(g); !bytes.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got, err := store.DecodeGrant(g.Key, g.ID, want); err != nil || !reflect.DeepEqual(got, g) {
		t.Errorf("got %+v, %v", got, err)
	}
	for i := range want {
		if _, err := store.DecodeGrant(g.Key, g.ID, want[:i]); err == nil {
			t.Errorf("the first %d of %d octets are a grant", i, len(want))
		}
	}
}

func FuzzGrantBody(f *testing.F) {
	f.Add(store.EncodeGrant(goldenGrant()))
	f.Fuzz(func(t *testing.T, body []byte) {
		g, err := store.DecodeGrant(key.Name{}, "", body)
		if err != nil {
			return
		}
		again, err := store.DecodeGrant(key.Name{}, "", store.EncodeGrant(g))
		if err != nil || !reflect.DeepEqual(again, g) {
			t.Errorf("%+v became %+v, %v", g, again, err)
		}
	})
}

func TestCutBodies(t *testing.T) {
	body := store.EncodeKey(golden())
	for i := range body {
		if _, err := store.DecodeKey(key.Name{}, body[:i]); err == nil {
			t.Errorf("the first %d of %d octets are a key", i, len(body))
		}
	}
	if _, err := store.DecodeKey(key.Name{}, append(body, 0)); err == nil {
		t.Error("one octet more is a key")
	}
	body[0]++
	if _, err := store.DecodeKey(key.Name{}, body); err == nil {
		t.Error("an unknown version is read")
	}
}

// What was written before accounts had a partition is in partition aws.
func TestAccountsWithoutPartition(t *testing.T) {
	old := []byte{1, 4, 'n', 'a', 'm', 'e', 0}
	a, err := store.DecodeAccount(store.Account{ID: "111122223333"}, old)
	if err != nil || *a != (store.Account{ID: "111122223333", Name: "name", Partition: "aws"}) {
		t.Errorf("%+v, %v", a, err)
	}
	if a, err = store.DecodeAccount(store.Account{}, store.EncodeAccount(&store.Account{})); err != nil || a.Partition != "aws" {
		t.Errorf("%+v, %v", a, err)
	}
}

func FuzzBody(f *testing.F) {
	f.Add(store.EncodeKey(golden()))
	f.Add(store.EncodeKey(storetest.Key()))
	f.Add([]byte{1, 0, 0})
	f.Add([]byte{1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, body []byte) {
		_, _ = store.DecodeAlias(key.Alias{}, body) // must not crash
		_, _ = store.DecodeAccount(store.Account{}, body)
		_, _ = store.DecodeAccessKey(store.AccessKey{}, body)
		k, err := store.DecodeKey(key.Name{}, body)
		if err != nil {
			return
		}
		again, err := store.DecodeKey(key.Name{}, store.EncodeKey(k))
		if err != nil || !reflect.DeepEqual(again, k) {
			t.Errorf("%+v became %+v, %v", k, again, err)
		}
	})
}

// goldenUse is a use with every field set.
func goldenUse() *store.KeyUse {
	return &store.KeyUse{Key: golden().Name, At: time.UnixMilli(1790000000123).UTC(), Operation: "Decrypt", EventID: "an event", RequestID: "a request"}
}

func TestCutKeyUseBodies(t *testing.T) {
	u := goldenUse()
	body := store.EncodeKeyUse(u)
	if got, err := store.DecodeKeyUse(u.Key, body); err != nil || *got != *u {
		t.Errorf("%+v, %v", got, err)
	}
	for i := range body {
		if _, err := store.DecodeKeyUse(u.Key, body[:i]); err == nil {
			t.Errorf("the first %d of %d octets are a use", i, len(body))
		}
	}
	if _, err := store.DecodeKeyUse(u.Key, append(body, 0)); err == nil {
		t.Error("one octet more is a use")
	}
}

func FuzzKeyUseBody(f *testing.F) {
	f.Add(store.EncodeKeyUse(goldenUse()))
	f.Fuzz(func(t *testing.T, body []byte) {
		u, err := store.DecodeKeyUse(key.Name{}, body)
		if err != nil {
			return
		}
		again, err := store.DecodeKeyUse(key.Name{}, store.EncodeKeyUse(u))
		if err != nil || *again != *u {
			t.Errorf("%+v became %+v, %v", u, again, err)
		}
	})
}
