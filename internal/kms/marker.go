package kms

import (
	"encoding/base64"

	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// markerData is the associated data of a pagination marker: it holds for the operation, account and Region that made it.
func (r *request) markerData() []byte {
	return seal.Associate("keywright marker v1", r.op.Name, string(r.call.Caller.Account), string(r.call.Region))
}

// marker returns an opaque marker from which the next page goes on behind last. It is encrypted, so that clients cannot
// come to rely on what is in it, and any node can read it.
func (r *request) marker(last string) (wire.Opt[string], error) {
	blob, err := r.barrier.Encrypt(seal.Token, r.markerData(), secret.FromString(last))
	if err != nil {
		return wire.Opt[string]{}, err
	}
	return wire.Some(base64.RawURLEncoding.EncodeToString(blob)), nil
}

// readMarker returns what marker was given, or an empty text where there is none.
func (r *request) readMarker(m wire.Opt[string]) (string, error) {
	if !m.Set {
		return "", nil
	}
	blob, err := base64.RawURLEncoding.DecodeString(m.V)
	if err != nil {
		return "", wire.Bare(kmsapi.CodeInvalidMarkerException)
	}
	last, err := r.barrier.Decrypt(seal.Token, r.markerData(), blob)
	if err != nil {
		return "", wire.Bare(kmsapi.CodeInvalidMarkerException)
	}
	return string(last.Expose()), nil
}
