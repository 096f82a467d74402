package soft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/keywright/keywright/internal/custody"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
	"github.com/keywright/keywright/internal/keywrap"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
)

// An import token is the private wrapping key itself, sealed, so that nothing is stored for an import that may never come:
//
//	octet      1, the version
//	8 octets   when it ends, milliseconds since 1970, big-endian
//	1 + n      the wrapping algorithm, after its length
//	1 + n      the spec of the wrapping key, after its length
//	the rest   the wrapping key, in its canonical form
//
// It is sealed with the domain key for tokens under importData.
const importTokenVersion = 1

// importData is the associated data of a token: it holds for one key in one Region, and related multi-Region keys need their own.
func importData(k *key.Key) []byte {
	return seal.Associate("keywright import token v1", string(k.Account), string(k.Region), string(k.ID), string(k.Spec))
}

// importToken is what a token says.
type importToken struct {
	until    time.Time
	wrapping custody.Wrapping
	key      secret.Bytes
}

func (t *importToken) append() secret.Bytes {
	algorithm, spec := t.wrapping.Algorithm, string(t.wrapping.Spec)
	b := make([]byte, 0, 1+8+1+len(algorithm)+1+len(spec)+t.key.Len())
	b = binary.BigEndian.AppendUint64(append(b, importTokenVersion), uint64(t.until.UnixMilli()))
	b = append(append(b, byte(len(algorithm))), algorithm...)
	b = append(append(b, byte(len(spec))), spec...)
	return secret.Take(append(b, t.key.Expose()...))
}

// parseImportToken reads what append wrote. The key shares its octets.
func parseImportToken(octets secret.Bytes) (t importToken, ok bool) {
	b := octets.Expose()
	if len(b) < 1+8 || b[0] != importTokenVersion {
		return importToken{}, false
	}
	t.until = time.UnixMilli(int64(binary.BigEndian.Uint64(b[1:]))).UTC()
	b = b[9:]
	word := func() string {
		if len(b) == 0 || len(b) < 1+int(b[0]) {
			ok = false
			return ""
		}
		s := string(b[1 : 1+int(b[0])])
		b = b[1+len(s):]
		return s
	}
	ok = true
	t.wrapping.Algorithm = word()
	t.wrapping.Spec = key.Spec(word())
	if !ok || len(b) == 0 {
		return importToken{}, false
	}
	t.key = secret.Take(b)
	return t, true
}

// WrappingKey implements custody.Importer.
func (e *Engine) WrappingKey(ctx context.Context, k *key.Key, w custody.Wrapping, until time.Time) (public, token []byte, err error) {
	if !slices.Contains(keywrap.Algorithms(w.Spec), w.Algorithm) {
		return nil, nil, fmt.Errorf("no wrapping algorithm %q of key spec %q", w.Algorithm, w.Spec)
	}
	pair, err := e.Pair(ctx, k.Account, w.Spec)
	if err != nil {
		return nil, nil, err
	}
	defer keyspec.Wipe(pair)
	octets := pair.Octets()
	defer octets.Wipe()
	plain := (&importToken{until, w, octets}).append()
	defer plain.Wipe()
	if token, err = e.barrier.Encrypt(seal.Token, importData(k), plain); err != nil {
		return nil, nil, err
	}
	if len(token) > custody.MaxToken {
		return nil, nil, fmt.Errorf("an import token of %d octets", len(token))
	}
	return pair.Public().SPKI(), token, nil
}

// OpenImport implements custody.Importer. A token whose wrapping key must not be used in FIPS mode, made before the mode was
// turned on, is none.
func (e *Engine) OpenImport(k *key.Key, token, encrypted []byte, now time.Time) (id string, wrapped, public []byte, err error) {
	if !keyspec.Allowed(k.Spec) {
		return "", nil, nil, fmt.Errorf("key spec %q is not available here", k.Spec)
	}
	plain, err := e.barrier.Decrypt(seal.Token, importData(k), token)
	if err != nil { // also one of a domain key that is gone: the token is no more
		return "", nil, nil, custody.ErrImportToken
	}
	defer plain.Wipe()
	t, ok := parseImportToken(plain)
	if !ok || !keyspec.Allowed(t.wrapping.Spec) {
		return "", nil, nil, custody.ErrImportToken
	}
	if !t.until.After(now) {
		return "", nil, nil, custody.ErrImportTokenExpired
	}
	if !keywrap.Fits(t.wrapping.Spec, t.wrapping.Algorithm, len(encrypted)) {
		return "", nil, nil, custody.ErrImportSize
	}
	wrapping, err := keyspec.Parse(t.wrapping.Spec, t.key.Expose())
	if err != nil {
		return "", nil, nil, errors.New("the wrapping key of an import token is malformed")
	}
	defer keyspec.Wipe(wrapping)
	octets, err := keywrap.Unwrap(t.wrapping.Algorithm, t.wrapping.Spec, wrapping, encrypted)
	if err != nil { // why is nobody's business
		return "", nil, nil, custody.ErrImportUnwrap
	}
	defer octets.Wipe()
	return e.Take(k, octets)
}

// Take implements custody.Taker.
func (e *Engine) Take(k *key.Key, octets secret.Bytes) (id string, wrapped, public []byte, err error) {
	if !keyspec.Allowed(k.Spec) {
		return "", nil, nil, fmt.Errorf("key spec %q is not available here", k.Spec)
	}
	material, err := keyspec.Parse(k.Spec, octets.Expose())
	if err != nil {
		return "", nil, nil, custody.ErrImportMaterial
	}
	return e.wrap(k, material)
}
