package iam

import (
	"context"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/sigv4"
)

// SigningKeys shows the signing keys that a directory remembers.
func SigningKeys(d *Directory) *sigv4.SigningKeys { return d.signing }

// CompileManaged compiles the AWS managed policies.
func CompileManaged() map[string]error {
	all := map[string]error{}
	for name, e := range awsManaged {
		_, all[name] = e.documents[0].compile()
	}
	return all
}

// StatementPlaces returns where the statements of a document start and end, in octets.
func StatementPlaces(text string) [][2]int { return statementSpans(text) }

// Subjects returns for every operation the members of its input that name what it works on, any of which is enough.
func Subjects() map[string][]string {
	members := map[subject][]string{
		onUser: {"UserName"}, onSelf: {"UserName"}, onGroup: {"GroupName"}, onRole: {"RoleName"}, onPolicy: {"PolicyARN"}, onNewPolicy: {"PolicyName"},
		onProvider: {"OpenIDConnectProviderARN", "URL"}, onUsers: {"PathPrefix"}, onGroups: {"PathPrefix"}, onRoles: {"PathPrefix"},
		onPolicies: {"PathPrefix"}, onSource: {"PolicySourceARN"}, onKeyHolder: {"AccessKeyID"},
	}
	all := map[string][]string{}
	for _, op := range operations {
		all[op.Name] = members[op.On]
	}
	return all
}

// SamePassword compares a password with what was kept of one.
var SamePassword = samePassword

// PasswordWork returns what passwords are hashed in.
func PasswordWork() func(ctx context.Context, f func() error) error { return newPasswords().work }

// Changing reports whether somebody changes an account, or waits to.
func Changing(d *Directory, a arn.Account) bool {
	d.changing.mu.Lock()
	defer d.changing.mu.Unlock()
	return d.changing.locks[a] != nil
}
