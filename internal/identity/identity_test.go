package identity_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/identity"
	"github.com/keywright/keywright/internal/key"
)

const account arn.Account = "111122223333"

func meta(kind identity.Kind, name, path string) identity.Meta {
	return identity.Meta{
		Account: account, ID: identity.NewID(kind), Name: name, Path: path,
		CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Tags: []key.Tag{{Key: "team", Value: "a\x00b"}},
	}
}

var holder = identity.Holder{
	Inline: []identity.Inline{{Name: "p", Document: `{"a":"é"}`}}, Attached: []string{"arn:aws:iam::aws:policy/x"},
}

func nouns() (*identity.User, *identity.Group, *identity.Role, *identity.Policy, *identity.Provider) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return &identity.User{
			Meta: meta(identity.KindUser, "Bob", "/a/"), Holder: holder, Groups: []string{"AGPA1"}, Boundary: "arn:b",
			Login: &identity.Login{CreatedAt: now, MustChange: true},
		},
		&identity.Group{Meta: meta(identity.KindGroup, "devs", "/"), Holder: holder},
		&identity.Role{
			Meta: meta(identity.KindRole, "ci", "/x/y/"), Holder: holder, Description: "d", Trust: "{}", MaxSession: time.Hour,
			Principals: map[string]string{"arn:x": "AIDA1"}, Boundary: "arn:b",
		},
		&identity.Policy{
			Meta: meta(identity.KindPolicy, "use", "/"), Description: "d", UpdatedAt: now, Default: 1, Next: 2,
			Versions: []identity.Version{{N: 1, Document: "{}", CreatedAt: now}},
		},
		&identity.Provider{
			Meta: meta(identity.KindProvider, "id.example.com/realm", ""), ClientIDs: []string{"c"}, Thumbprints: []string{"00"},
		}
}

func TestARNs(t *testing.T) {
	u, g, r, p, o := nouns()
	own := *p
	own.AWS = true
	for got, want := range map[string]string{
		u.ARN("aws"):             "arn:aws:iam::111122223333:user/a/Bob",
		g.ARN("aws-cn"):          "arn:aws-cn:iam::111122223333:group/devs",
		r.ARN("aws"):             "arn:aws:iam::111122223333:role/x/y/ci",
		r.SessionARN("aws", "s"): "arn:aws:sts::111122223333:assumed-role/ci/s",
		p.ARN("aws"):             "arn:aws:iam::111122223333:policy/use",
		own.ARN("aws"):           "arn:aws:iam::aws:policy/use",
		o.ARN("aws"):             "arn:aws:iam::111122223333:oidc-provider/id.example.com/realm",
		o.URL():                  "https://id.example.com/realm",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestIDs(t *testing.T) {
	for kind, prefix := range map[identity.Kind]string{
		identity.KindUser: "AIDA", identity.KindGroup: "AGPA", identity.KindRole: "AROA", identity.KindPolicy: "ANPA",
	} {
		id := identity.NewID(kind)
		if len(id) != 21 || id[:4] != prefix || id == identity.NewID(kind) {
			t.Error(id)
		}
		if k, ok := identity.KindOfID(id); !ok || k != kind {
			t.Errorf("%s is said to be a %s", id, k)
		}
	}
	for _, bad := range []string{"", "AIDA", "AIDA0123456789ABCDEFG", "XXXXAAAAAAAAAAAAAAAAA", "AIDAaaaaaaaaaaaaaaaaa"} {
		if _, ok := identity.KindOfID(bad); ok {
			t.Errorf("%q is taken for an id", bad)
		}
	}
}

// again encodes a noun and reads it into another one.
func again[N identity.Noun](t *testing.T, n, into N) N {
	t.Helper()
	body, err := identity.Encode(n)
	if err == nil {
		err = identity.Decode(into, n.Of().Account, n.Of().ID, body)
	}
	if err != nil {
		t.Fatal(err)
	}
	return into
}

func TestBodies(t *testing.T) {
	u, g, r, p, o := nouns()
	s := &identity.Settings{Meta: meta(identity.KindSettings, identity.SettingsName, ""), Alias: "a", Services: holder.Inline, Resource: holder.Inline}
	v := &identity.Service{Meta: meta(identity.KindService, "objects.amazonaws.com", ""), Accounts: []arn.Account{account}}
	for _, c := range []struct{ got, want any }{
		{again(t, u, &identity.User{}), u},
		{again(t, g, &identity.Group{}), g},
		{again(t, r, &identity.Role{}), r},
		{again(t, p, &identity.Policy{}), p},
		{again(t, o, &identity.Provider{}), o},
		{again(t, s, &identity.Settings{}), s},
		{again(t, v, &identity.Service{}), v},
		{u.Clone(), u},
		{g.Clone(), g},
		{r.Clone(), r},
		{p.Clone(), p},
		{o.Clone(), o},
		{s.Clone(), s},
		{v.Clone(), v},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("got %+v, want %+v", c.got, c.want)
		}
	}
	c := u.Clone()
	c.SetTags([]key.Tag{{Key: "TEAM", Value: "c"}, {Key: "a", Value: ""}})
	c.PutInline(identity.Inline{Name: "o", Document: "1"})
	c.PutInline(identity.Inline{Name: "p", Document: "2"})
	c.Login.MustChange, c.Attached[0] = false, "x"
	if want := []key.Tag{{Key: "TEAM", Value: "c"}, {Key: "a", Value: ""}}; !reflect.DeepEqual(c.Tags, want) {
		t.Errorf("tags %v", c.Tags)
	}
	if p, ok := c.FindInline("p"); !ok || p.Document != "2" || len(c.Inline) != 2 || !c.RemoveInline("p") || c.RemoveInline("p") {
		t.Errorf("inline policies %v", c.Inline)
	}
	if fresh, _, _, _, _ := nouns(); u.Tags[0] != fresh.Tags[0] || u.Inline[0] != fresh.Inline[0] || !u.Login.MustChange || u.Attached[0] == "x" {
		t.Error("the original changed with its copy")
	}
}

func FuzzDecode(f *testing.F) {
	u, _, r, p, _ := nouns()
	for _, encode := range []func() ([]byte, error){
		func() ([]byte, error) { return identity.Encode(u) },
		func() ([]byte, error) { return identity.Encode(r) },
		func() ([]byte, error) { return identity.Encode(p) },
	} {
		body, err := encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Add([]byte("\x01{}{}"))
	f.Fuzz(func(t *testing.T, body []byte) {
		var u identity.User
		if err := identity.Decode(&u, account, "id", body); err == nil {
			if got := again(t, &u, &identity.User{}); got.Name != u.Name || got.ID != "id" {
				t.Errorf("%+v came back as %+v", u, got)
			}
		}
		_ = identity.Decode(&identity.Role{}, account, "id", body)
		_ = identity.Decode(&identity.Policy{}, account, "id", body)
		_ = identity.Decode(&identity.Settings{}, account, "id", body)
	})
}
