package iam

import (
	"encoding/base64"
	"net/url"
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/identity"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/wire"
)

// defaultPage is how many items a list gives without MaxItems.
const defaultPage = 100

// markerData is the associated data of a pagination marker: it holds for the operation and account that made it.
func (r *request) markerData() []byte {
	return seal.Associate("keywright iam marker v1", r.op.Name, string(r.account))
}

// page returns the items that come after a marker, and the marker of the next page. The list is in ascending order of at,
// which no two items share.
func page[T any](r *request, all []T, at func(T) string, marker wire.Opt[string], limit wire.Opt[int32]) (
	items []T, truncated wire.Opt[bool], next wire.Opt[string], err error,
) {
	if marker.Set {
		last, err := r.openMarker(marker.V)
		if err != nil {
			return nil, truncated, next, err
		}
		from, found := slices.BinarySearchFunc(all, last, func(item T, last string) int { return strings.Compare(at(item), last) })
		if found {
			from++
		}
		all = all[from:]
	}
	n := min(len(all), int(limit.Or(defaultPage)))
	if n < len(all) {
		blob, err := r.barrier.Encrypt(seal.Token, r.markerData(), secret.FromString(at(all[n-1])))
		if err != nil {
			return nil, truncated, next, err
		}
		next = wire.Some(base64.RawURLEncoding.EncodeToString(blob))
	}
	return all[:n], wire.Some(n < len(all)), next, nil
}

func (r *request) openMarker(marker string) (string, error) {
	blob, err := base64.RawURLEncoding.DecodeString(marker)
	if err == nil {
		var last secret.Bytes
		if last, err = r.barrier.Decrypt(seal.Token, r.markerData(), blob); err == nil {
			return string(last.Expose()), nil
		}
	}
	return "", wire.Errorf(wire.CodeValidation, "Invalid Marker")
}

// below returns the entries of a shelf whose paths start with a prefix, in the order of their names.
func below[N identity.Noun](s *shelf[N], prefix wire.Opt[string]) []*entry[N] {
	all := s.sorted()
	if prefix.Set {
		all = slices.DeleteFunc(all, func(e *entry[N]) bool { return !strings.HasPrefix(e.noun.Of().Path, prefix.V) })
	}
	return all
}

func nameOf[N identity.Noun](e *entry[N]) string { return identity.Fold(e.noun.Of().Name) }

// listed pages through a list and makes of each item what the answer shows.
func listed[T, S any](r *request, all []T, at func(T) string, marker wire.Opt[string], limit wire.Opt[int32], show func(T) S) (
	out []S, truncated wire.Opt[bool], next wire.Opt[string], err error,
) {
	items, truncated, next, err := page(r, all, at, marker, limit)
	out = make([]S, len(items))
	for i, item := range items {
		out[i] = show(item)
	}
	return out, truncated, next, err
}

// itself is for lists of texts.
func itself(s string) string { return s }

// encoded returns a policy document as answers show it: percent-encoded (RFC 3986).
func encoded(document string) wire.Opt[string] {
	return wire.Some(strings.ReplaceAll(url.QueryEscape(document), "+", "%20"))
}
