package soft

import (
	"time"

	"github.com/keywright/keywright/internal/custody"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
)

// ReadImportToken reads the plaintext of a token and writes it again.
func ReadImportToken(octets []byte) (again []byte, ok bool) {
	t, ok := parseImportToken(secret.Copy(octets))
	if !ok {
		return nil, false
	}
	return t.append().Expose(), true
}

// SealImportToken makes a token for any wrapping key, as a process in another mode could have made it.
func (e *Engine) SealImportToken(k *key.Key, w custody.Wrapping, until time.Time, wrapping keyspec.Private) ([]byte, error) {
	return e.barrier.Encrypt(seal.Token, importData(k), (&importToken{until, w, wrapping.Octets()}).append())
}
