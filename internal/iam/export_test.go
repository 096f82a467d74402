package iam

import "github.com/keywright/keywright/internal/sigv4"

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
