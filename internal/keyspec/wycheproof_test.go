package keyspec_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/c2sp/wycheproof"
)

// hexes are octets that a vector file has in hexadecimal digits. Files have other things in fields of the same name; what is
// no string of hexadecimal digits is left out.
type hexes []byte

func (h *hexes) UnmarshalJSON(text []byte) error {
	b, err := hex.DecodeString(strings.Trim(string(text), `"`))
	if err == nil {
		*h = b
	}
	return nil
}

// group is a test group of Wycheproof, with the fields of all its schemas that are used here.
type group struct {
	KeySize, TagSize, IvSize, SLen int
	Sha, MgfSha, ParameterSet      string
	PrivateKeyPkcs8, PublicKeyDer  hexes
	PrivateSeed, PublicKey         hexes
	Tests                          []*vector
}

// vector is one test.
type vector struct {
	TcID                         int
	Comment, Result              string
	Flags                        []string
	Msg, Ct, Label, Sig, Ctx, Mu hexes
	Key, Tag, Iv, Aad            hexes
	Public, Private, Shared      hexes
	Seed, Ek, C, K, M            hexes
}

// tally counts the vectors of one run.
type tally struct {
	name    string
	run     int
	skipped map[string]int // by reason
}

func (c *tally) skip(reason string) {
	if c.skipped == nil {
		c.skipped = map[string]int{}
	}
	c.skipped[reason]++
}

func (c *tally) String() string {
	text := fmt.Sprintf("%-26s %5d run", c.name, c.run)
	for _, reason := range slices.Sorted(maps.Keys(c.skipped)) {
		text += fmt.Sprintf(", %d skipped (%s)", c.skipped[reason], reason)
	}
	return text
}

// check tries one vector: whether what it has was accepted, or why it is skipped.
type check func(t *testing.T, g *group, v *vector) (accepted bool, skip string)

// wycheproofFiles runs a check over all vectors of files of the Wycheproof project. "acceptable" ones may go both ways, but a
// check fails by itself where it accepts and gets a wrong result.
func wycheproofFiles(t *testing.T, c *tally, try check, files ...string) {
	t.Helper()
	for _, name := range files {
		text, err := fs.ReadFile(wycheproof.TestVectors, name+"_test.json")
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			NumberOfTests int
			TestGroups    []*group
		}
		if err := json.Unmarshal(text, &file); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		seen := 0
		for _, g := range file.TestGroups {
			for _, v := range g.Tests {
				seen++
				accepted, skip := try(t, g, v)
				if skip != "" {
					c.skip(skip)
					continue
				}
				c.run++
				if v.Result != "acceptable" && accepted != (v.Result == "valid") {
					t.Errorf("%s, %d (%s, %v): accepted: %v, but it is %s", name, v.TcID, v.Comment, v.Flags, accepted, v.Result)
				}
			}
		}
		if seen != file.NumberOfTests || seen == 0 {
			t.Errorf("%s has %d tests and says %d", name, seen, file.NumberOfTests)
		}
	}
}
