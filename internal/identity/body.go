package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/keywright/keywright/internal/arn"
)

// bodyVersion is the first octet of every body; JSON follows. A field that only adds needs no new version, because its
// absence means its zero value; a field that an older program must not overlook does.
const bodyVersion = 1

// errBody says that a body cannot be read.
var errBody = errors.New("malformed body")

// Noun is any of the structures that the store keeps.
type Noun interface {
	*User | *Group | *Role | *Policy | *Provider | *Settings | *Service
	Of() *Meta
}

// Encode returns the body of a noun: everything but its account and id.
func Encode[N Noun](n N) ([]byte, error) {
	text, err := json.Marshal(n)
	if err != nil {
		return nil, fmt.Errorf("encoding %s: %w", n.Of().ID, err)
	}
	return append([]byte{bodyVersion}, text...), nil
}

// Decode reads a body into into, which must be new, and gives it the account and the id. Unknown fields are refused: they
// come from a newer program.
func Decode[N Noun](into N, account arn.Account, id string, body []byte) error {
	if len(body) == 0 || body[0] != bodyVersion {
		return errBody
	}
	d := json.NewDecoder(bytes.NewReader(body[1:]))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%w: %w", errBody, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errBody
	}
	m := into.Of()
	if m.Name == "" {
		return errBody
	}
	m.Account, m.ID = account, id
	return nil
}
