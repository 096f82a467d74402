package kms_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// twoOnPostgres returns two servers on one database.
func twoOnPostgres(t *testing.T) (one, two *world) {
	t.Helper()
	return twoServers["PostgreSQL"](t)
}

// misses returns how often one of the service's caches did not know something.
func (w *world) misses(name string) uint64 {
	for _, c := range w.service.Caches() {
		if c.Name == name {
			return c.Misses
		}
	}
	w.t.Fatalf("no cache of %s", name)
	return 0
}

// Who asks for a grant that is not there, with a right or without, has nothing forgotten of those that are.
func TestGrantThatIsNotThere(t *testing.T) {
	one, two := twoOnPostgres(t)
	id, keyARN := one.newKey()
	one.grant(id, one.user("u").caller.ARN, []string{"Encrypt"}, nil)
	u := one.user("u")
	u.encrypt(keyARN, []byte("x"), nil)
	before := one.misses("grants")
	for range 3 {
		nobodys := in{"KeyId": keyARN, "GrantId": strings.Repeat("5", 64)}
		if _, err := one.as(bob, region).try("RetireGrant", nobodys); err == nil || err.Code != "AccessDeniedException" {
			t.Errorf("another account: %v", err)
		}
		for _, operation := range []string{"RetireGrant", "RevokeGrant"} {
			if _, err := one.try(operation, nobodys); err == nil || err.Code != "NotFoundException" {
				t.Errorf("%s: %v", operation, err)
			}
		}
		u.encrypt(keyARN, []byte("x"), nil)
	}
	if after := one.misses("grants"); after != before {
		t.Errorf("the grants were read %d times", after-before)
	}
	for _, operation := range []string{"RetireGrant", "RevokeGrant"} { // what another server has just made is found
		grant, _ := two.grant(id, u.caller.ARN, []string{"Decrypt"}, nil)
		one.done(operation, in{"KeyId": keyARN, "GrantId": grant})
		if list := two.beside().grants(in{"KeyId": id}); len(list) != 1 {
			t.Errorf("%s leaves %d grants", operation, len(list))
		}
	}
}

// An alias that another server makes, moves or removes makes this one forget the aliases of the keys that it is about, and of no other.
func TestAliasesOfOthers(t *testing.T) {
	one, two := twoOnPostgres(t)
	var keys [3]string
	for i := range keys {
		id, keyARN := one.newKey()
		one.done("CreateAlias", in{"AliasName": fmt.Sprint("alias/of-", i), "TargetKeyId": id})
		keys[i] = keyARN
	}
	u := one.user("u").may(allowing(`"kms:Encrypt"`, "*", `{"ForAllValues:StringNotEquals":{"kms:ResourceAliases":"alias/stop"}}`))
	follower, err := one.store.Follow(t.Context())
	one.must(err)
	for i, c := range []struct {
		operation string
		in        in
		refused   string // the key that cannot be used after it
		read      uint64 // whose aliases are read again
	}{
		{"CreateAlias", in{"AliasName": "alias/other", "TargetKeyId": keys[0]}, "", 1},
		{"CreateAlias", in{"AliasName": "alias/stop", "TargetKeyId": keys[0]}, keys[0], 1},
		{"UpdateAlias", in{"AliasName": "alias/stop", "TargetKeyId": keys[1]}, keys[1], 2},
		{"DeleteAlias", in{"AliasName": "alias/stop"}, "", 1},
		{"UpdateKeyDescription", in{"KeyId": keys[2], "Description": "new"}, "", 0},
	} {
		use := func() (refused string) {
			for _, k := range keys {
				if _, err := u.try("Encrypt", in{"KeyId": k, "Plaintext": []byte("x")}); err != nil {
					refused += k
				}
			}
			return refused
		}
		use()
		before := one.misses("alias_lists")
		two.done(c.operation, c.in)
		news, lost, err := follower.Next(t.Context())
		one.must(err)
		one.service.Heard(news, lost)
		if refused := use(); refused != c.refused {
			t.Errorf("%d, %s: %q cannot be used, want %q", i, c.operation, refused, c.refused)
		}
		if read := one.misses("alias_lists") - before; read != c.read {
			t.Errorf("%d, %s: the aliases of %d keys were read again, want %d", i, c.operation, read, c.read)
		}
	}
}

// CreateGrant finds the grant of the same name that another server made since, whatever else has gone there.
func TestTwinOnAnotherServer(t *testing.T) {
	one, two := twoOnPostgres(t)
	id, _ := one.newKey()
	u := one.user("u").caller.ARN
	old, _ := one.grant(id, u, []string{"Encrypt"}, nil)
	named := in{"Name": "twin"}
	two.done("RevokeGrant", in{"KeyId": id, "GrantId": old})
	there, _ := two.grant(id, u, []string{"Decrypt"}, named)
	if again, _ := one.grant(id, u, []string{"Decrypt"}, named); again != there {
		t.Error("two grants of one name and the same parameters")
	}
	reads := new(reads) // what this server does itself is no reason to read the grants again
	one.store.Tell(reads)
	for range 3 {
		mine, _ := one.grant(id, u, []string{"Encrypt"}, nil)
		one.done("RevokeGrant", in{"KeyId": id, "GrantId": mine})
	}
	if n := reads.Load(); n > 0 {
		t.Errorf("%d queries for changes of grants that are known", n)
	}
}

// reads counts queries outside of transactions. It is a store.Observer.
type reads struct{ atomic.Int64 }

func (r *reads) Read(time.Duration)      { r.Add(1) }
func (*reads) Wrote(time.Duration, bool) {}
func (*reads) Refused(string)            {}

// rotateDomainKeys does what the rotation of seals does.
func (w *world) rotateDomainKeys() {
	w.t.Helper()
	b, ctx := w.store.Barrier(), w.t.Context()
	w.must(b.RotateDomainKeys(w.now(), func(keys []seal.DomainKey) error { return w.db.AddDomainKeys(ctx, keys) }))
	_, err := w.store.Rekey(ctx, w.custody.Rewrap)
	w.must(err)
	w.must(w.store.DropOldDomainKeys(ctx, w.custody.Rewrap))
}

// Material that was made before seals were rotated, and is stored after that, is good for who has the new domain keys only.
func TestMaterialOfBeforeARotation(t *testing.T) {
	one, two := twoOnPostgres(t)
	single, _ := one.newKey()
	several := do[*kmsapi.CreateKeyResponse](one, "CreateKey", in{"MultiRegion": true}).KeyMetadata.KeyID.V
	do[wire.Output](one, "ReplicateKey", in{"KeyId": several, "ReplicaRegion": "eu-west-1"})
	one.pass(time.Minute)
	empty, _ := one.external(in{})
	importer := one.parameters(empty, oaep256, "RSA_2048")
	for name, change := range map[string]func() (id string){
		"CreateKey":         func() string { id, _ := one.newKey(); return id },
		"RotateKeyOnDemand": func() string { do[wire.Output](one, "RotateKeyOnDemand", in{"KeyId": single}); return single },
		"of several Regions": func() string {
			do[wire.Output](one, "RotateKeyOnDemand", in{"KeyId": several})
			return several
		},
		"ImportKeyMaterial": func() string { importer.imports(secretOf(1), until(one.now().Add(day))); return empty },
		"an AWS managed key": func() string {
			return do[*kmsapi.DescribeKeyResponse](one, "DescribeKey", in{"KeyId": "alias/aws/s3"}).KeyMetadata.KeyID.V
		},
	} {
		one.making.meanwhile(two.rotateDomainKeys)
		id := change()
		c := *one
		later := &c
		later.making = new(making)
		later.open()
		for _, m := range later.stored(id).Material {
			if later.store.Barrier().OldMaterial(m.Wrapped) {
				t.Errorf("%s: material is wrapped with an old domain key", name)
			}
		}
		if _, err := later.store.Verify(t.Context(), nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if name == "an AWS managed key" { // which nobody may use directly
			continue
		}
		blob := one.encrypt(id, []byte("x"), nil)
		later.decrypts(blob, []byte("x"), nil)
		if id == several {
			later.as(alice, "eu-west-1").decrypts(blob, []byte("x"), nil)
		}
	}
}
