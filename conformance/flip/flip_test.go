// Package flip_test changes one bit at a time of what a stopped server has stored, and looks whether a later start ever
// gives a wrong plaintext or a right that nobody gave.
package flip_test

import (
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/keywright/keywright/conformance/server"
)

// amount reads how much to do: a number, or "all", which is -1.
func amount(t *testing.T, name string, usual int) int {
	t.Helper()
	if os.Getenv(name) == "all" {
		return -1
	}
	return server.Number(t, name, usual)
}

// Every octet of every row that decides or protects: KEYWRIGHT_FLIPS of them, or "all".
func TestFlipRows(t *testing.T) {
	in := install(t)
	intact := in.try(t, in.database)
	if intact.start != nil || len(intact.wrong) > 0 || intact.log != "" {
		t.Fatalf("before any change: %+v", intact)
	}
	all := sites(t, in)
	rng := rand.New(rand.NewPCG(rand.Uint64(), 1))
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	if n := amount(t, "KEYWRIGHT_FLIPS", 500); n >= 0 && n < len(all) {
		all = oneOfEachColumn(all, n)
	}
	var atStart, refused, gone, harmless int
	perTable := map[string]int{}
	for _, s := range all {
		perTable[s.table]++
		got := in.try(t, s.flipped(t, in, uint(rng.IntN(8))))
		for _, err := range got.wrong {
			t.Errorf("%v: %v", s, err)
		}
		switch {
		case got.start != nil:
			atStart++
		case strings.Contains(got.log, "table="+s.table) && strings.Contains(got.log, s.row):
			refused++
		case s.key():
			gone++ // not there under its name: a lost row, not a false one
			if got.asBefore >= intact.asBefore {
				t.Errorf("%v: nobody noticed", s)
			}
		case got.log == "":
			harmless++
			t.Errorf("%v: it was neither refused nor named in the log", s)
		default:
			t.Errorf("%v: the log does not name it: %s", s, got.log)
		}
	}
	t.Logf("%d flips of one bit in rows (%v): %d refused at the start, %d refused and named when read, %d rows no longer found, %d unnoticed",
		len(all), perTable, atStart, refused, gone, harmless)
}

// oneOfEachColumn returns n sites, at least one of each column.
func oneOfEachColumn(all []site, n int) []site {
	seen := map[string]bool{}
	var first, rest []site
	for _, s := range all {
		if c := s.table + "." + s.column; !seen[c] {
			seen[c] = true
			first = append(first, s)
		} else {
			rest = append(rest, s)
		}
	}
	return append(first, rest[:max(0, n-len(first))]...)
}

// Random octets of the database file, whatever they belong to: KEYWRIGHT_RAW_FLIPS of them.
func TestFlipFile(t *testing.T) {
	in := install(t)
	n := amount(t, "KEYWRIGHT_RAW_FLIPS", 300)
	var used []int // most of a small file is unused: three in four flips are of octets that are not zero
	for i, b := range in.database {
		if b != 0 {
			used = append(used, i)
		}
	}
	var atStart, refused, quiet int
	for i := range n {
		at, bit := used[rand.IntN(len(used))], rand.IntN(8)
		if i%4 == 0 {
			at = rand.IntN(len(in.database))
		}
		changed := append([]byte(nil), in.database...)
		changed[at] ^= 1 << bit
		got := in.try(t, changed)
		for _, err := range got.wrong {
			t.Errorf("octet %d, bit %d: %v", at, bit, err)
		}
		switch {
		case got.start != nil:
			atStart++
		case got.log != "":
			refused++
		default:
			quiet++ // unused space, an index, a table that decides nothing
		}
	}
	t.Logf("%d flips of one bit in a file of %d octets: %d refused at the start, %d refused when read, %d without effect", n, len(in.database), atStart, refused, quiet)
}

// A whole row exchanged for another of the same table: each octet is genuine, but not in that place.
func TestFlipWholeRows(t *testing.T) {
	in := install(t)
	tried := 0
	for name, change := range map[string]string{
		"policy and material of another key": `UPDATE keys SET body = (SELECT body FROM keys WHERE key_id = '` + in.lent.id + `'), tag = (SELECT tag FROM keys WHERE key_id = '` + in.lent.id + `') WHERE key_id = '` + in.closed.id + `'`,
		"alias to another key":               `UPDATE aliases SET target = '` + in.lent.id + `' WHERE name = '` + openAlias + `'`,
		"alias under another name":           `UPDATE aliases SET body = (SELECT body FROM aliases WHERE name = '` + closedAlias + `'), tag = (SELECT tag FROM aliases WHERE name = '` + closedAlias + `') WHERE name = '` + openAlias + `'`,
		"secret of another account":          `UPDATE access_keys SET sealed = (SELECT sealed FROM access_keys WHERE account = '444455556666') WHERE account = '111122223333'`,
		"access key of another account":      `UPDATE access_keys SET account = '111122223333' WHERE account = '444455556666'`,
		"key of another account":             `UPDATE keys SET account = '444455556666' WHERE key_id = '` + in.open.id + `'`,
		"key of another Region":              `UPDATE keys SET region = 'eu-west-1' WHERE key_id = '` + in.open.id + `'`,
		"due at once":                        `UPDATE keys SET due_ms = 1`,
		"a user's rights given to another":   `UPDATE identities SET body = (SELECT body FROM identities WHERE name = 'inline'), tag = (SELECT tag FROM identities WHERE name = 'inline') WHERE name = 'bounded'`,
		"a policy in the place of another":   `UPDATE identities SET body = (SELECT body FROM identities WHERE name = 'allow'), tag = (SELECT tag FROM identities WHERE name = 'allow') WHERE name = 'deny'`,
		"a policy that denies, gone":         `DELETE FROM identities WHERE kind = 'policy' AND name = 'deny'`,
		"the use of another key":             `UPDATE key_uses SET body = (SELECT body FROM key_uses WHERE key_id = '` + in.lent.id + `'), tag = (SELECT tag FROM key_uses WHERE key_id = '` + in.lent.id + `') WHERE key_id = '` + in.closed.id + `'`,
		"a use that is gone":                 `DELETE FROM key_uses WHERE key_id = '` + in.closed.id + `'`,
		"a grant to another key":             `UPDATE grants SET key_id = '` + in.closed.id + `'`,
		"domain keys exchanged":              `UPDATE domain_keys SET wrapped = (SELECT wrapped FROM domain_keys WHERE domain = 'row')`,
	} {
		tried++
		got := in.try(t, in.edited(t, change))
		for _, err := range got.wrong {
			t.Errorf("%s: %v", name, err)
		}
		if got.start == nil && got.log == "" && !strings.HasPrefix(name, "key of") && name != "a policy that denies, gone" && name != "a use that is gone" {
			t.Errorf("%s: nobody noticed", name)
		}
	}
	t.Logf("%d exchanges of rows were tried", tried)
}
