package kms

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/wire/kmsapi"
)

var update = flag.Bool("update", false, "write docs/operations.md")

// The table of operations is documentation, too: docs/operations.md is printed from it.
func TestDocumentedTable(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Operations\n\nPrinted from the table in `internal/kms/operations.go`; `go test ./internal/kms -update` writes it anew.\n\n" +
		"| Operation | Permission | Key named by | Other accounts' keys | Key usage | Refused while the key is | Request quota | Changes state |\n|---|---|---|---|---|---|---|---|\n")
	for _, op := range operations {
		bucket := op.Bucket
		if bucket == "" {
			bucket = "its own"
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s | %s | %s | %s | %s |\n", op.Name, op.Permission, [...]string{"–", "id, ARN", "id, ARN, alias, alias ARN", "see below"}[op.Key],
			yes(op.Foreign), orDash(string(op.Usage)), orDash(op.States.words()), bucket, yes(!op.ReadOnly))
	}
	b.WriteString("\nDecrypt finds its key by the ciphertext, or by an identifier in any form; ReEncrypt does so for its source and needs\n" +
		"`kms:ReEncryptTo` on the destination. The alias operations need their permission on the alias and on the key.\n" +
		"RetireGrant finds its grant by a token, or by key and id; the grant says who may retire it. ListRetirableGrants needs its permission on `*`, but of\n" +
		"a service that asks about itself: it gets the grants on keys of the accounts that it serves, unless a key policy or control policy denies it that.\n")
	const path = "../../docs/operations.md"
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != b.String() {
		t.Errorf("docs/operations.md is not what the table says (go test ./internal/kms -update): %v", err)
	}
}

// Every operation is counted to a rate: its own, or one that it shares.
func TestEveryOperationHasARate(t *testing.T) {
	for _, op := range operations {
		if shares := op.Bucket != ""; shares == (op.rate() != 0) {
			t.Errorf("%s: shared rate %q, own rate %d", op.Name, op.Bucket, op.rate())
		}
	}
}

func (s stateRule) words() string {
	var w []string
	for _, c := range []struct {
		on   bool
		word string
	}{
		{s.Disabled, "disabled"},
		{s.PendingDeletion, "pending deletion"},
		{s.PendingImport, "pending import"},
		{s.Creating, "creating"},
		{s.Updating, "updating"},
		{s.Unavailable, "unavailable"},
		{s.OnlyPending, "not pending deletion"},
		{s.OnlyExternal, "of another origin than EXTERNAL"},
	} {
		if c.on {
			w = append(w, c.word)
		}
	}
	return strings.Join(w, ", ")
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

// Every operation of the model is either in the table or owned up to in docs/divergences.md, and the table is in order.
func TestWhatIsMissingIsOwnedUpTo(t *testing.T) {
	text, err := os.ReadFile("../../docs/divergences.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "## Operations that are not there")
	section, _, _ := strings.Cut(rest, "\n## ")
	if !ok {
		t.Fatal("docs/divergences.md has no section of missing operations")
	}
	var names []string
	for _, op := range operations {
		names = append(names, op.Name)
	}
	if !slices.IsSorted(names) {
		t.Error("the table is not in the order of names")
	}
	for _, op := range kmsapi.Service.Operations {
		built, owned := slices.Contains(names, op.Name), strings.Contains(section, "`"+op.Name+"`")
		if built == owned {
			t.Errorf("%s: in the table %v, listed as missing %v", op.Name, built, owned)
		}
	}
}
