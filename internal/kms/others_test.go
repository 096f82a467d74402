package kms_test

import (
	"strings"
	"testing"
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
