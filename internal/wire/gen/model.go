package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// model is one file under internal/wire/model, as scripts/wire-model writes it.
type model struct {
	Service struct {
		Package, Title, SigningName, APIVersion, Protocol, TargetPrefix, Namespace string
	}
	Operations map[string]*operation
	Errors     map[string]*apiError
	Shapes     map[string]*shape

	requiredUnless map[string]unless
}

type operation struct {
	Input, Output, ResultWrapper string
	Errors                       []string
	Anonymous                    bool
}

type apiError struct {
	Code   string
	Status int
	Fault  bool
}

type shape struct {
	Type       string
	Min, Max   *int64
	Pattern    string
	RE2        []string
	Enum       []string
	Print      []string
	Accept     []string
	Sensitive  bool
	Members    []member
	Required   []string
	Member     string
	Key, Value string
}

type member struct{ Name, Shape string }

// UnmarshalJSON reads a member from its pair of name and shape.
func (m *member) UnmarshalJSON(b []byte) error {
	var pair [2]string
	if err := json.Unmarshal(b, &pair); err != nil {
		return err
	}
	m.Name, m.Shape = pair[0], pair[1]
	return nil
}

// unless is a member that is required unless a list member holds a value.
type unless struct{ List, Holds string }

// overlay is the part of overlay.json for one service. Attributes of shapes replace those of the model.
type overlay struct {
	Shapes         map[string]json.RawMessage
	RequiredUnless map[string]unless
}

// load reads the model file name and lays its part of overlay.json over it.
func load(root, name string) (*model, error) {
	m := new(model)
	if err := readJSON(filepath.Join(root, "model", name+".json"), m); err != nil {
		return nil, err
	}
	var parts map[string]json.RawMessage
	if err := readJSON(filepath.Join(root, "model", "overlay.json"), &parts); err != nil {
		return nil, err
	}
	var over overlay
	if raw, ok := parts[name]; ok {
		if err := strict(raw, &over); err != nil {
			return nil, fmt.Errorf("reading overlay of %s: %w", name, err)
		}
	}
	for shapeName, raw := range over.Shapes {
		s, ok := m.Shapes[shapeName]
		if !ok {
			return nil, fmt.Errorf("overlay names unknown shape %s", shapeName)
		}
		if err := strict(raw, s); err != nil {
			return nil, fmt.Errorf("reading overlay of shape %s: %w", shapeName, err)
		}
		for _, w := range s.Enum {
			if s.Print != nil && !slices.Contains(s.Print, w) && !slices.Contains(s.Accept, w) {
				return nil, fmt.Errorf("overlay of %s lacks the model's word %s", shapeName, w)
			}
		}
	}
	m.requiredUnless = over.RequiredUnless
	return m, nil
}

func readJSON(path string, into any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := strict(b, into); err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	return nil
}

// strict reads JSON and refuses names that nothing here understands: a misspelt constraint must not vanish.
func strict(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

// kind is how a shape looks in Go.
type kind uint8

const (
	kindString kind = iota + 1
	kindEnum
	kindSecretString
	kindBlob
	kindSecretBlob
	kindBool
	kindInt32
	kindInt64
	kindFloat
	kindTime
	kindStruct
	kindStrings // list of strings or enum words
	kindStructs // list of structures
	kindStringMap
	kindIntMap
)

// kindOf sorts a shape into its kind, and refuses those that no service in use needs.
func (m *model) kindOf(name string) (kind, error) {
	s, ok := m.Shapes[name]
	if !ok {
		return 0, fmt.Errorf("no shape %s", name)
	}
	scalars := map[string]kind{
		"boolean": kindBool, "integer": kindInt32, "long": kindInt64, "double": kindFloat, "float": kindFloat,
		"timestamp": kindTime, "structure": kindStruct,
	}
	switch s.Type {
	case "string":
		switch {
		case s.Sensitive:
			return kindSecretString, nil
		case s.Enum != nil:
			return kindEnum, nil
		}
		return kindString, nil
	case "blob":
		if s.Sensitive {
			return kindSecretBlob, nil
		}
		return kindBlob, nil
	case "list":
		switch k, err := m.kindOf(s.Member); {
		case err != nil:
			return 0, err
		case k == kindString || k == kindEnum:
			return kindStrings, nil
		case k == kindStruct:
			return kindStructs, nil
		}
	case "map":
		switch k, err := m.kindOf(s.Value); {
		case err != nil:
			return 0, err
		case k == kindString || k == kindEnum:
			return kindStringMap, nil
		case k == kindInt32:
			return kindIntMap, nil
		}
	default:
		if k, ok := scalars[s.Type]; ok {
			return k, nil
		}
	}
	return 0, fmt.Errorf("shape %s: no Go form for this %s", name, s.Type)
}

// structs returns the structures that can be reached from the given shapes.
func (m *model) structs(from []string) map[string]bool {
	found, seen := map[string]bool{}, map[string]bool{}
	for len(from) > 0 {
		name := from[len(from)-1]
		from = from[:len(from)-1]
		s := m.Shapes[name]
		if s == nil || seen[name] {
			continue
		}
		seen[name] = true
		if s.Type == "structure" {
			found[name] = true
		}
		for _, mb := range s.Members {
			from = append(from, mb.Shape)
		}
		from = append(from, s.Member, s.Key, s.Value)
	}
	return found
}

// depth returns how many structures nest below name, which the validator's fixed path must hold.
func (m *model) depth(name string, above int) (int, error) {
	if above > maxDepth {
		return 0, fmt.Errorf("shape %s nests deeper than %d levels or contains itself", name, maxDepth)
	}
	s := m.Shapes[name]
	if s == nil {
		return above, nil
	}
	below := above
	next := []string{s.Member, s.Value}
	for _, mb := range s.Members {
		next = append(next, mb.Shape)
	}
	step := 0
	if s.Type == "structure" {
		step = 1
	}
	for _, n := range next {
		d, err := m.depth(n, above+step)
		if err != nil {
			return 0, err
		}
		below = max(below, d)
	}
	return below, nil
}

// maxDepth is the number of path steps that wire.Violations holds.
const maxDepth = 8
