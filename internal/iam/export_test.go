package iam

import "github.com/keywright/keywright/internal/sigv4"

// SigningKeys shows the signing keys that a directory remembers.
func SigningKeys(d *Directory) *sigv4.SigningKeys { return d.signing }
