package dev

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/kms"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// Home is the account and Region of what names none.
type Home struct {
	Account arn.Account
	Region  arn.Region
}

// seedFile is the form of a seed file. docs/testing.md has an example.
type seedFile struct {
	Keys []seedKey `yaml:"keys"`
}

// seedKey is a key. Only the id is required.
type seedKey struct {
	ID          string            `yaml:"id"`
	Account     string            `yaml:"account"`
	Region      string            `yaml:"region"`
	Spec        string            `yaml:"spec"`
	Usage       string            `yaml:"usage"`
	Origin      string            `yaml:"origin"`
	MultiRegion bool              `yaml:"multiRegion"`
	Description string            `yaml:"description"`
	Disabled    bool              `yaml:"disabled"`
	Rotation    int               `yaml:"rotationPeriodInDays"`
	Aliases     []string          `yaml:"aliases"`
	Tags        map[string]string `yaml:"tags"`
	Policy      yaml.Node         `yaml:"policy"`   // JSON text, or the same as YAML
	Material    texts             `yaml:"material"` // one text, or several, oldest first
}

// texts is one text or a list of them.
type texts []string

// UnmarshalYAML implements yaml.Unmarshaler.
func (t *texts) UnmarshalYAML(n *yaml.Node) error {
	var one string
	if n.Kind == yaml.ScalarNode {
		if n.Decode(&one) != nil || n.Tag == "!!null" {
			return errors.New("material is a text, or a list of them") // and no word of what it is
		}
		*t = texts{one}
		return nil
	}
	var list []string
	if n.Decode(&list) != nil {
		return errors.New("material is a text, or a list of them")
	}
	*t = list
	return nil
}

// maxSeed bounds a seed file in octets.
const maxSeed = 4 << 20

// entryName is what errors call an entry.
func entryName(i int, id string) string { return fmt.Sprintf("keys[%d] %.60q", i, id) }

// ParseSeed reads a seed file. Unknown names, keys and aliases that are there twice, and what no key could be are errors, which
// name the entry and never show material. No text is no keys.
func ParseSeed(text []byte, home Home) ([]kms.Seed, error) {
	if len(text) > maxSeed {
		return nil, fmt.Errorf("seed: more than %d octets", maxSeed)
	}
	var file seedFile
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("seed: %w", shortened(err))
	}
	if err := dec.Decode(new(seedFile)); !errors.Is(err, io.EOF) {
		return nil, errors.New("seed: more than one document")
	}
	seeds := make([]kms.Seed, 0, len(file.Keys))
	seen := map[string]bool{}
	for i := range file.Keys {
		k := &file.Keys[i]
		s, err := k.seed(home)
		if err == nil {
			err = unique(seen, &s)
		}
		if err != nil {
			return nil, fmt.Errorf("seed: %s: %w", entryName(i, k.ID), err)
		}
		seeds = append(seeds, s)
	}
	return seeds, nil
}

// shortened keeps what a YAML error shows of a file short: it quotes scalars, and one could be material.
func shortened(err error) error {
	var wrong *yaml.TypeError
	if !errors.As(err, &wrong) {
		return err
	}
	lines := make([]string, len(wrong.Errors))
	for i, line := range wrong.Errors {
		before, _, quoted := strings.Cut(line, "`")
		if lines[i] = line; quoted {
			lines[i] = strings.TrimSpace(before) + " of another kind"
		}
	}
	return errors.New(strings.Join(lines, "; "))
}

// unique notes the names of a key and its aliases, and refuses those that it has seen.
func unique(seen map[string]bool, s *kms.Seed) error {
	names := []string{s.ARN()}
	for _, a := range s.Aliases {
		names = append(names, a.ARN(s.Region, s.Account))
	}
	for _, n := range names {
		if seen[n] {
			return fmt.Errorf("%s is there twice", n)
		}
		seen[n] = true
	}
	return nil
}

// seed makes an entry what the service takes. What only the service knows it checks itself.
func (k *seedKey) seed(home Home) (s kms.Seed, err error) {
	s = kms.Seed{
		Name:     key.Name{Account: home.Account, Region: home.Region, ID: arn.KeyID(k.ID)},
		Disabled: k.Disabled, RotationPeriod: k.Rotation,
	}
	if k.ID == "" {
		return s, errors.New("it has no id")
	}
	if k.Account != "" {
		if s.Account, err = arn.ParseAccount(k.Account); err != nil {
			return s, err
		}
	}
	if k.Region != "" {
		if s.Region, err = arn.ParseRegion(k.Region); err != nil {
			return s, err
		}
	}
	in := &s.Create
	for _, member := range []struct {
		into *wire.Opt[string]
		text string
	}{{&in.KeySpec, k.Spec}, {&in.KeyUsage, k.Usage}, {&in.Origin, k.Origin}, {&in.Description, k.Description}} {
		if member.text != "" {
			*member.into = wire.Some(member.text)
		}
	}
	in.MultiRegion = wire.Some(k.MultiRegion)
	for _, name := range slices.Sorted(maps.Keys(k.Tags)) {
		in.Tags = append(in.Tags, kmsapi.Tag{TagKey: wire.Some(name), TagValue: wire.Some(k.Tags[name])})
	}
	for _, a := range k.Aliases {
		s.Aliases = append(s.Aliases, arn.AliasName(a))
	}
	if in.Policy, err = policyOf(&k.Policy); err != nil {
		return s, err
	}
	for i, text := range k.Material {
		octets, err := materialOf(text)
		if err != nil {
			return s, fmt.Errorf("material number %d: %w", i+1, err)
		}
		s.Material = append(s.Material, octets)
	}
	return s, nil
}

// policyOf returns a policy as JSON text.
func policyOf(n *yaml.Node) (wire.Opt[string], error) {
	switch {
	case n.IsZero():
		return wire.Opt[string]{}, nil
	case n.Kind == yaml.ScalarNode:
		return wire.Some(n.Value), nil
	}
	var document map[string]any
	if err := n.Decode(&document); err != nil {
		return wire.Opt[string]{}, errors.New("the policy is neither JSON text nor the same as YAML")
	}
	text, err := json.Marshal(document)
	if err != nil {
		return wire.Opt[string]{}, errors.New("the policy is nothing that JSON could say")
	}
	return wire.Some(string(text)), nil
}

// pemType is the PEM type of PKCS#8 (RFC 7468, section 10).
const pemType = "PRIVATE KEY"

// materialOf reads material: PKCS#8 in PEM, or base64. Its errors do not show it.
func materialOf(text string) (secret.Bytes, error) {
	if strings.Contains(text, "-----BEGIN") {
		block, rest := pem.Decode([]byte(text))
		switch {
		case block == nil || len(bytes.TrimSpace(rest)) > 0:
			return secret.Bytes{}, errors.New("it is not one block of PEM")
		case block.Type != pemType:
			return secret.Bytes{}, fmt.Errorf("the PEM type is not %s: openssl pkcs8 -topk8 -nocrypt converts other private keys", pemType)
		}
		return secret.Take(block.Bytes), nil
	}
	octets, err := base64.StdEncoding.Strict().DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil || len(octets) == 0 {
		return secret.Bytes{}, errors.New("it is neither base64 nor PEM")
	}
	return secret.Take(octets), nil
}
