package kms

import (
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// maxTags is the number of user tags that a key can have ("Resource quotas", KMS developer guide).
const maxTags = 50

func toTags(in []kmsapi.Tag) []key.Tag {
	tags := make([]key.Tag, len(in))
	for i, t := range in {
		tags[i] = key.Tag{Key: t.TagKey.V, Value: t.TagValue.V}
	}
	return tags
}

func tagError(message string) error { return wire.Errorf(kmsapi.CodeTagException, "%s", message) }

// checkTags refuses tags that no key can have.
func checkTags(tags []kmsapi.Tag) error {
	seen := make(map[string]bool, len(tags))
	for _, t := range tags {
		name := t.TagKey.V
		if len(name) >= 4 && strings.EqualFold(name[:4], "aws:") {
			return tagError("Tags beginning with aws: are reserved")
		}
		if seen[name] {
			return tagError("Duplicate tag keys")
		}
		seen[name] = true
	}
	if len(tags) > maxTags {
		return tagError("Too many tags")
	}
	return nil
}

func tagResource(r *request, in *kmsapi.TagResourceRequest) error {
	if err := checkTags(in.Tags); err != nil {
		return err
	}
	return r.change(func(k *key.Key) error {
		k.SetTags(toTags(in.Tags))
		if len(k.Tags) > maxTags {
			return tagError("Too many tags")
		}
		return nil
	})
}

func untagResource(r *request, in *kmsapi.UntagResourceRequest) error {
	for _, name := range in.TagKeys {
		if len(name) >= 4 && strings.EqualFold(name[:4], "aws:") {
			return tagError("Tags beginning with aws: are reserved")
		}
	}
	return r.change(func(k *key.Key) error {
		k.RemoveTags(in.TagKeys)
		return nil
	})
}

func listResourceTags(r *request, in *kmsapi.ListResourceTagsRequest) (*kmsapi.ListResourceTagsResponse, error) {
	after, err := r.readMarker(in.Marker)
	if err != nil {
		return nil, err
	}
	rest := r.key.Tags
	if in.Marker.Set {
		i, found := slices.BinarySearchFunc(rest, after, func(t key.Tag, name string) int { return strings.Compare(t.Key, name) })
		if found {
			i++
		}
		rest = rest[i:]
	}
	page := rest[:min(len(rest), int(in.Limit.Or(50)))]
	out := &kmsapi.ListResourceTagsResponse{Tags: make([]kmsapi.Tag, len(page)), Truncated: wire.Some(len(page) < len(rest))}
	for i, t := range page {
		out.Tags[i] = kmsapi.Tag{TagKey: wire.Some(t.Key), TagValue: wire.Some(t.Value)}
	}
	if out.Truncated.V {
		out.NextMarker, err = r.marker(page[len(page)-1].Key)
	}
	return out, err
}
