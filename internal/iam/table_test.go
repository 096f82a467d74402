package iam

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/iam.md")

const aboutIAM = `# IAM on the same endpoint

Printed from the table in ` + "`internal/iam/operations.go`; `go test ./internal/iam -update`" + ` writes it anew.

Users, groups, roles and policies are made with the operations of IAM at the endpoint of KMS: ` + "`aws iam`" + `, boto3 and Terraform need nothing but
its URL (` + "`AWS_ENDPOINT_URL`, or `endpoints { iam = … sts = … kms = … }`" + `). An account's root user, whose access key
` + "`keywright init` and `keywright account create`" + ` print, makes the first ones.

What a caller needs is always the permission of the operation's own name, on the ARN below. What is made with tags takes the permission to tag, too, and
UpdateUser and UpdateGroup need theirs on the old and the new name. Conditions can ask for ` + "`iam:PolicyARN`, `iam:PermissionsBoundary`," + `
` + "`aws:RequestTag`, `aws:TagKeys` and `aws:ResourceTag`" + `. Everything holds for the very next request.

| Operation | Permission on | Changes state |
|---|---|---|
`

// The table of operations is documentation, too: docs/iam.md is printed from it.
func TestDocumentedTable(t *testing.T) {
	words := map[subject]string{
		onAccount: "`*`", onUser: "the user", onSelf: "the user; the caller, if none is named", onCaller: "the caller", onGroup: "the group",
		onRole: "the role", onPolicy: "the policy", onNewPolicy: "the policy", onProvider: "the provider", onUsers: "`user/` and the path",
		onGroups: "`group/` and the path", onRoles: "`role/` and the path", onPolicies: "`policy/` and the path",
		onSource: "the user, group or role", onKeyHolder: "the user whose access key it is",
	}
	var b strings.Builder
	b.WriteString(aboutIAM)
	for _, op := range operations {
		changes := "yes"
		if op.ReadOnly {
			changes = "no"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", op.Name, words[op.On], changes)
		if words[op.On] == "" {
			t.Errorf("%s has a subject without a word", op.Name)
		}
	}
	const path = "../../docs/iam.md"
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != b.String() {
		t.Errorf("docs/iam.md is not what the table says (go test ./internal/iam -update): %v", err)
	}
}
