package soft

import "github.com/keywright/keywright/internal/secret"

// ReadImportToken reads the plaintext of a token and writes it again.
func ReadImportToken(octets []byte) (again []byte, ok bool) {
	t, ok := parseImportToken(secret.Copy(octets))
	if !ok {
		return nil, false
	}
	return t.append().Expose(), true
}
