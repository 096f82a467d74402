package keyspec_test

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cloudflare/circl/sign"
	"github.com/cloudflare/circl/sign/mldsa/mldsa44"
	"github.com/cloudflare/circl/sign/mldsa/mldsa65"
	"github.com/cloudflare/circl/sign/mldsa/mldsa87"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
)

// acvpGroup is a test group of NIST's ACVP server, with the fields that are used here.
type acvpGroup struct {
	ParameterSet, Function string
	Pk                     hexes
	Tests                  []json.RawMessage
}

// acvpTest is one test, its prompt and its expected result together.
type acvpTest struct {
	TcID                            int
	Seed, D, Z, M, Ek, C, K, Pk, Sk hexes
	Message, Signature              hexes
	TestPassed                      bool
}

// spec returns the key spec of the group's parameter set, as FIPS 203 and FIPS 204 name it.
func (g *acvpGroup) spec() key.Spec { return key.Spec(strings.ReplaceAll(g.ParameterSet, "-", "_")) }

// acvp runs a test over the sample files in a directory of a module that is linked here.
func acvp(t *testing.T, dir string, run func(t *testing.T, g *acvpGroup, v *acvpTest)) {
	t.Helper()
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/cloudflare/circl").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(strings.TrimSpace(string(root)), dir)
	read := func(name string) []*acvpGroup {
		var file struct{ TestGroups []*acvpGroup }
		if err := json.Unmarshal(gunzip(t, filepath.Join(dir, name)), &file); err != nil {
			t.Fatal(err)
		}
		return file.TestGroups
	}
	number := func(text json.RawMessage) int {
		var v acvpTest
		if err := json.Unmarshal(text, &v); err != nil {
			t.Fatal(err)
		}
		return v.TcID
	}
	results := map[int]json.RawMessage{}
	for _, g := range read("expectedResults.json.gz") {
		for _, text := range g.Tests {
			results[number(text)] = text
		}
	}
	for _, g := range read("prompt.json.gz") {
		for _, text := range g.Tests {
			var v acvpTest
			for _, part := range []json.RawMessage{text, results[number(text)]} {
				if err := json.Unmarshal(part, &v); err != nil {
					t.Fatal(err)
				}
			}
			run(t, g, &v)
		}
	}
}

var circlMLDSA = map[key.Spec]sign.Scheme{keyspec.MLDSA44: mldsa44.Scheme(), keyspec.MLDSA65: mldsa65.Scheme(), keyspec.MLDSA87: mldsa87.Scheme()}

// mldsaACVP has keys, signatures, and signatures to verify. They are of the internal functions of FIPS 204, which are given
// what mu is made of as it is.
func mldsaACVP(t *testing.T, c *tally) {
	verifies := func(t *testing.T, s key.Spec, public, message, signature []byte) bool {
		t.Helper()
		p, err := keyspec.ParsePublic(s, spkiOf(t, s, public))
		if err != nil {
			t.Fatal(err)
		}
		return p.(keyspec.Verifier).Verify("ML_DSA_SHAKE_256", keyspec.ExternalMu, mu(public, message), signature)
	}
	acvp(t, "sign/mldsa/testdata/ML-DSA-keyGen-FIPS204", func(t *testing.T, g *acvpGroup, v *acvpTest) {
		s := g.spec()
		if k := parsed(t, s, seedOf(t, s, v.Seed)); !bytes.Equal(k.Public().SPKI(), spkiOf(t, s, v.Pk)) {
			t.Errorf("key %d: another public key", v.TcID)
		}
		c.run++
	})
	acvp(t, "sign/mldsa/testdata/ML-DSA-sigGen-FIPS204", func(t *testing.T, g *acvpGroup, v *acvpTest) {
		private, err := circlMLDSA[g.spec()].UnmarshalBinaryPrivateKey(v.Sk) // the prompts have no public keys
		if err != nil {
			t.Fatal(err)
		}
		public, err := private.Public().(sign.PublicKey).MarshalBinary()
		if err != nil || !verifies(t, g.spec(), public, v.Message, v.Signature) {
			t.Errorf("signature %d does not verify: %v", v.TcID, err)
		}
		c.run++
	})
	acvp(t, "sign/mldsa/testdata/ML-DSA-sigVer-FIPS204", func(t *testing.T, g *acvpGroup, v *acvpTest) {
		if got := verifies(t, g.spec(), g.Pk, v.Message, v.Signature); got != v.TestPassed {
			t.Errorf("signature %d: %v", v.TcID, got)
		}
		c.run++
	})
}

func mlkemACVP(t *testing.T, c *tally) {
	acvp(t, "kem/mlkem/testdata/ML-KEM-keyGen-FIPS203", func(t *testing.T, g *acvpGroup, v *acvpTest) {
		s := g.spec()
		if k := parsed(t, s, seedOf(t, s, slices.Concat(v.D, v.Z))); !bytes.Equal(k.Public().SPKI(), spkiOf(t, s, v.Ek)) {
			t.Errorf("key %d: another public key", v.TcID)
		}
		c.run++
	})
	acvp(t, "kem/mlkem/testdata/ML-KEM-encapDecap-FIPS203", func(t *testing.T, g *acvpGroup, v *acvpTest) {
		if g.Function == "decapsulation" {
			c.skip("private key without its seed")
			return
		}
		if shared, ciphertext := encapsulated(t, g.spec(), v.Ek, v.M); !bytes.Equal(shared, v.K) || !bytes.Equal(ciphertext, v.C) {
			t.Errorf("encapsulation %d: another secret or ciphertext", v.TcID)
		}
		c.run++
	})
}

// Another implementation signs what is verified here, and the other way round.
func TestMLDSAAgainstAnotherImplementation(t *testing.T) {
	for s, scheme := range circlMLDSA {
		for i := range 20 {
			seed, message := bytes.Repeat([]byte{byte(i)}, 32), []byte{byte(i)}
			ours := parsed(t, s, seedOf(t, s, seed))
			public, private := scheme.DeriveKey(seed)
			theirs, err := public.MarshalBinary()
			if err != nil || !bytes.Equal(spkiOf(t, s, theirs), ours.Public().SPKI()) {
				t.Fatalf("%s: another public key, %v", s, err)
			}
			verifier := ours.Public().(keyspec.Verifier)
			for kind, input := range map[keyspec.MessageType][]byte{keyspec.Raw: message, keyspec.ExternalMu: mu(theirs, []byte{0, 0}, message)} {
				signature, err := ours.(keyspec.Signer).Sign("ML_DSA_SHAKE_256", kind, input)
				if err != nil || !scheme.Verify(public, message, signature, nil) {
					t.Errorf("%s, %s: they do not verify ours: %v", s, kind, err)
				}
				other := scheme.Sign(private, message, nil)
				if !verifier.Verify("ML_DSA_SHAKE_256", kind, input, other) {
					t.Errorf("%s, %s: theirs does not verify", s, kind)
				}
				other[(i*131)%len(other)] ^= 1 << (i % 8)
				if verifier.Verify("ML_DSA_SHAKE_256", kind, input, other) {
					t.Errorf("%s, %s: verifies an altered signature", s, kind)
				}
			}
			expanded, err := private.MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			both, err := keyspec.Parse(s, bothOf(t, s, seed, expanded))
			if err != nil || !both.Octets().Equal(ours.Octets()) {
				t.Errorf("%s: the form with an expanded key: %v", s, err)
			}
			expanded[len(expanded)-1] ^= 1
			if _, err := keyspec.Parse(s, bothOf(t, s, seed, expanded)); err == nil {
				t.Errorf("%s: an expanded key of another seed", s)
			}
		}
	}
}
