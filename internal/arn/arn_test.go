package arn_test

import (
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/arn"
)

const (
	uuid = "1234abcd-12ab-34cd-56ef-1234567890ab"
	mrk  = "mrk-1234abcd12ab34cd56ef1234567890ab"
)

func TestParseRef(t *testing.T) {
	for _, c := range []struct {
		in   string
		form arn.Form
		want string // the key id, alias, or malformed text
	}{
		{uuid, arn.FormKeyID, uuid},
		{strings.ToUpper(uuid), arn.FormKeyID, strings.ToUpper(uuid)},
		{mrk, arn.FormKeyID, mrk},
		{"arn:aws:kms:us-east-1:111122223333:key/" + uuid, arn.FormKeyARN, uuid},
		{"arn:aws-cn:kms:cn-north-1:111122223333:key/" + mrk, arn.FormKeyARN, mrk},
		{"alias/x", arn.FormAlias, "alias/x"},
		{"alias/", arn.FormAlias, "alias/"},
		{"arn:aws:kms:eu-west-1:111122223333:alias/aws/s3", arn.FormAliasARN, "alias/aws/s3"},
		{"", arn.FormBadID, ""},
		{"foo", arn.FormBadID, "foo"},
		{strings.ReplaceAll(uuid, "-", ""), arn.FormBadID, strings.ReplaceAll(uuid, "-", "")},
		{"mrk-12", arn.FormBadID, "mrk-12"},
		{uuid + "0", arn.FormBadID, uuid + "0"},
		{"arn:aws:kms:us-east-1:111122223333:key/foo", arn.FormBadARN, "foo"},
		{"arn:aws:s3:us-east-1:111122223333:key/" + uuid, arn.FormNotKMS, ""},
		{"arn:aws-cn:kms:us-east-1:111122223333:key/" + uuid, arn.FormNotKMS, ""},
		{"arn:aws:kms:us-east-1:1111:key/" + uuid, arn.FormNotKMS, ""},
		{"arn:aws:kms:us-east-1:111122223333:cat/" + uuid, arn.FormNotKMS, ""},
		{"arn:aws:kms", arn.FormNotKMS, ""},
		{"arn:aws:iam::111122223333:root", arn.FormNotKMS, ""},
	} {
		got := arn.ParseRef(c.in)
		text := map[arn.Form]string{
			arn.FormKeyID: string(got.Key), arn.FormKeyARN: string(got.Key), arn.FormAlias: string(got.Alias),
			arn.FormAliasARN: string(got.Alias), arn.FormBadID: got.Given, arn.FormBadARN: got.Given,
		}[got.Form]
		if got.Form != c.form || text != c.want {
			t.Errorf("ParseRef(%q) = form %d, %q; want form %d, %q", c.in, got.Form, text, c.form, c.want)
		}
	}
}

func TestKeyIDRoundTrip(t *testing.T) {
	for _, multi := range []bool{false, true} {
		id := arn.NewKeyID(multi)
		if _, ok := arn.ParseKeyID(string(id)); !ok || id.MultiRegion() != multi {
			t.Errorf("NewKeyID(%v) = %q, which does not parse as such", multi, id)
		}
		if back := arn.KeyIDFromBytes(id.Bytes(), multi); back != id {
			t.Errorf("KeyIDFromBytes(%q.Bytes()) = %q", id, back)
		}
		ref := arn.ParseRef(id.ARN("us-gov-west-1", "111122223333"))
		if ref.Form != arn.FormKeyARN || ref.Key != id || ref.Region != "us-gov-west-1" || ref.Account != "111122223333" {
			t.Errorf("the ARN of %q parses as %+v", id, ref)
		}
	}
	if u := arn.NewUUID(); len(u) != 36 || u[14] != '4' || !strings.ContainsRune("89ab", rune(u[19])) {
		t.Errorf("NewUUID() = %q is no version 4 UUID", u)
	}
}

func TestParseParts(t *testing.T) {
	for in, ok := range map[string]bool{"111122223333": true, "": false, "11112222333": false, "11112222333a": false, "1111222233334": false} {
		if _, err := arn.ParseAccount(in); (err == nil) != ok {
			t.Errorf("ParseAccount(%q): %v", in, err)
		}
	}
	for in, ok := range map[string]bool{"us-east-1": true, "x-y": true, "": false, "useast1": false, "US-east-1": false, "us-east-": false, "us_east-1": false, "1-a": false} {
		if _, err := arn.ParseRegion(in); (err == nil) != ok {
			t.Errorf("ParseRegion(%q): %v", in, err)
		}
	}
	if got := arn.Account("111122223333").Root("aws"); got != "arn:aws:iam::111122223333:root" {
		t.Errorf("Root = %q", got)
	}
}

func FuzzParseRef(f *testing.F) {
	f.Add(uuid)
	f.Add("arn:aws:kms:us-east-1:111122223333:key/" + uuid)
	f.Add("arn:aws:kms:us-east-1:111122223333:alias/x")
	f.Fuzz(func(t *testing.T, s string) {
		ref := arn.ParseRef(s)
		switch ref.Form {
		case arn.FormKeyARN:
			if ref.Key.ARN(ref.Region, ref.Account) != s {
				t.Errorf("%q became %+v", s, ref)
			}
		case arn.FormAliasARN:
			if ref.Alias.ARN(ref.Region, ref.Account) != s {
				t.Errorf("%q became %+v", s, ref)
			}
		case 0:
			t.Errorf("%q has no form", s)
		}
	})
}

func TestPartitions(t *testing.T) {
	for _, p := range []arn.Partition{arn.Commercial, arn.China, arn.Government} {
		if got, err := arn.ParsePartition(string(p)); got != p || err != nil || p.GlobalRegion().Partition() != p {
			t.Errorf("%s: %s, %v, in %s", p, got, err, p.GlobalRegion())
		}
	}
	for _, s := range []string{"", "AWS", "aws-", "aws-iso", "aws "} {
		if p, err := arn.ParsePartition(s); err == nil {
			t.Errorf("%q is the partition %q", s, p)
		}
	}
}

func TestRegionSet(t *testing.T) {
	for _, c := range []struct {
		list     []string
		in, out  []arn.Region
		mistaken bool
	}{
		{nil, []arn.Region{"us-east-1", "cn-north-1", "us-gov-west-1", "ap-southeast-7"}, []arn.Region{"aa-1", "us-east-11", "aws-global", ""}, false},
		{[]string{"published", "local-1"}, []arn.Region{"us-east-1", "local-1"}, []arn.Region{"local-2"}, false},
		{[]string{"eu-central-1"}, []arn.Region{"eu-central-1", "us-east-1"}, []arn.Region{"eu-west-1", "cn-north-1"}, false},
		{[]string{"any"}, []arn.Region{"us-east-1", "aa-1"}, nil, false},
		{[]string{"US"}, nil, nil, true},
	} {
		has, err := arn.RegionSet(c.list)
		if (err != nil) != c.mistaken {
			t.Errorf("%q: %v", c.list, err)
			continue
		}
		for _, r := range c.in {
			if !has(r) {
				t.Errorf("%q has no %s", c.list, r)
			}
		}
		for _, r := range c.out {
			if has(r) {
				t.Errorf("%q has %s", c.list, r)
			}
		}
	}
}
