package kms_test

import "testing"

func TestCaches(t *testing.T) {
	w := newWorld(t, "")
	id, _ := w.newKey()
	w.done("CreateAlias", in{"AliasName": "alias/seen", "TargetKeyId": id})
	before := map[string][2]uint64{}
	for _, c := range w.service.Caches() {
		before[c.Name] = [2]uint64{c.Hits, c.Misses}
	}
	for range 10 {
		w.encrypt("alias/seen", []byte("x"), nil)
	}
	w.refused("NotFoundException: Alias arn:aws:kms:us-east-1:111122223333:alias/unseen is not found.", "DescribeKey", in{"KeyId": "alias/unseen"})
	got := map[string][2]uint64{}
	for _, c := range w.service.Caches() {
		got[c.Name] = [2]uint64{c.Hits - before[c.Name][0], c.Misses - before[c.Name][1]}
		if (c.Name == "keys" || c.Name == "aliases") && c.Entries != 1 {
			t.Errorf("%d %s in memory", c.Entries, c.Name)
		}
	}
	if got["keys"] != [2]uint64{10, 0} || got["aliases"] != [2]uint64{10, 1} {
		t.Errorf("hits and misses: %v", got)
	}
}
