package key_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/key"
)

func TestGrantOperations(t *testing.T) {
	var set key.GrantOperations
	for _, name := range []string{"DescribeKey", "Encrypt", "Unknown"} {
		set |= key.GrantOperation(name)
	}
	if got := set.Names(); !slices.Equal(got, []string{"Encrypt", "DescribeKey"}) {
		t.Errorf("names %v", got)
	}
	if !set.Has(key.GrantOperation("Encrypt")) || set.Has(key.GrantOperation("Decrypt")) || set.Has(set|key.GrantOperation("Decrypt")) || !set.Has(0) {
		t.Error("Has")
	}
}

func TestGrantOperationsOf(t *testing.T) {
	for _, c := range []struct {
		spec  key.Spec
		usage key.Usage
		want  string // beside CreateGrant, RetireGrant and DescribeKey
	}{
		{key.SymmetricDefault, key.EncryptDecrypt, "Decrypt Encrypt GenerateDataKey GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext GenerateDataKeyWithoutPlaintext ReEncryptFrom ReEncryptTo"},
		{"RSA_2048", key.EncryptDecrypt, "Decrypt Encrypt GetPublicKey ReEncryptFrom ReEncryptTo"},
		{"RSA_2048", "SIGN_VERIFY", "GetPublicKey Sign Verify"},
		{"ECC_NIST_P256", "KEY_AGREEMENT", "DeriveSharedSecret GetPublicKey"},
		{"HMAC_256", "GENERATE_VERIFY_MAC", "GenerateMac VerifyMac"},
		{"UNKNOWN", "UNKNOWN", ""},
	} {
		got := key.GrantOperationsOf(c.spec, c.usage).Names()
		want := append(strings.Fields(c.want), "CreateGrant", "RetireGrant", "DescribeKey")
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s %s: %v, want %v", c.spec, c.usage, got, want)
		}
	}
}

func TestGrantPrincipals(t *testing.T) {
	for _, c := range []struct {
		p             key.GrantPrincipal
		known, holder string
	}{
		{key.GrantPrincipal{}, "", ""},
		{key.GrantPrincipal{Service: "objects.example.com"}, "objects.example.com", "objects.example.com"},
		{key.GrantPrincipal{ARN: "arn:aws:iam::111122223333:root", ID: "111122223333"}, "111122223333", "111122223333"},
		{key.GrantPrincipal{ARN: "arn:aws:iam::111122223333:user/a/b", ID: "AIDA1"}, "AIDA1", "AIDA1"},
		{key.GrantPrincipal{ARN: "arn:aws:iam::111122223333:role/assumed-role/x", ID: "AROA1"}, "AROA1", "AROA1"},
		{key.GrantPrincipal{ARN: "arn:aws:sts::111122223333:assumed-role/r/s", ID: "AROA1"}, "AROA1", "AROA1:s"},
		{key.GrantPrincipal{ARN: "arn:aws:sts::111122223333:federated-user/f"}, "arn:aws:sts::111122223333:federated-user/f", "arn:aws:sts::111122223333:federated-user/f"},
	} {
		if c.p.Known() != c.known || c.p.Holder() != c.holder {
			t.Errorf("%+v: known as %q, holder %q", c.p, c.p.Known(), c.p.Holder())
		}
	}
}

func TestConstraints(t *testing.T) {
	context := map[string]string{"a": "1", "b": "2"}
	for _, c := range []struct {
		about       string
		constraints key.GrantConstraints
		want        bool
	}{
		{"nothing asked", key.GrantConstraints{}, true},
		{"equal", key.GrantConstraints{Equals: map[string]string{"b": "2", "a": "1"}}, true},
		{"one pair short", key.GrantConstraints{Equals: map[string]string{"a": "1"}}, false},
		{"another value", key.GrantConstraints{Equals: map[string]string{"a": "1", "b": "3"}}, false},
		{"an empty context asked", key.GrantConstraints{Equals: map[string]string{}}, false},
		{"a part", key.GrantConstraints{Subset: map[string]string{"a": "1"}}, true},
		{"another part", key.GrantConstraints{Subset: map[string]string{"c": ""}}, false},
	} {
		if got := c.constraints.Meets(context); got != c.want {
			t.Errorf("%s: %v", c.about, got)
		}
	}
	if !(&key.GrantConstraints{Equals: map[string]string{}}).Meets(nil) {
		t.Error("an empty context is refused where one is asked")
	}
}

// A grant that another covers never lets anything through that the other does not.
func TestCovers(t *testing.T) {
	maps := []map[string]string{nil, {}, {"a": "1"}, {"a": "2"}, {"b": "1"}, {"a": "1", "b": "1"}}
	var all []key.GrantConstraints
	for _, m := range maps {
		for _, source := range []string{"", "arn:one", "arn:two"} {
			all = append(all, key.GrantConstraints{Equals: m, SourceARN: source})
			if m != nil {
				all = append(all, key.GrantConstraints{Subset: m, SourceARN: source})
			}
		}
	}
	one, two := key.GrantOperation("Encrypt"), key.GrantOperation("Encrypt")|key.GrantOperation("Decrypt")
	covered := 0
	for i := range all {
		outer := key.Grant{Operations: one, Constraints: all[i]}
		if !outer.Covers(one, &all[i]) || outer.Covers(two, &all[i]) {
			t.Errorf("%+v and itself", all[i])
		}
		for j := range all {
			inner := &all[j]
			if !outer.Covers(one, inner) {
				continue
			}
			covered++
			if s := all[i].SourceARN; s != "" && s != inner.SourceARN {
				t.Errorf("%+v covers the source of %+v", all[i], inner)
			}
			for _, context := range maps {
				if inner.Meets(context) && !all[i].Meets(context) {
					t.Errorf("%+v covers %+v, which lets %v through", all[i], inner, context)
				}
			}
		}
	}
	if covered <= len(all) {
		t.Errorf("only %d pairs are covered", covered)
	}
}
