package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// node is a JSON value that remembers the order of its members, which GetKeyPolicy gives back.
type node struct {
	kind    nodeKind
	text    string // a string's content; a number or boolean as written
	members []member
	items   []node
}

type member struct {
	name  string
	value node
}

type nodeKind uint8

const (
	nullNode nodeKind = iota
	stringNode
	numberNode
	boolNode
	objectNode
	arrayNode
)

// maxDepth is more than any valid document needs: statements, condition, operator, key, list of values.
const maxDepth = 10

// readJSON reads a document as a tree. Broken JSON, duplicate members, anything after the value and characters that the
// API does not let into a policy are refused.
func readJSON(doc []byte) (node, *Error) {
	if err := checkCharacters(doc); err != nil {
		return node{}, err
	}
	r := treeReader{json.NewDecoder(bytes.NewReader(doc))}
	r.dec.UseNumber()
	n, err := r.value("", 0)
	if err != nil {
		return node{}, err
	}
	if _, err := r.dec.Token(); err != io.EOF {
		return node{}, malformed("", "there is something after the end of the document")
	}
	return n, nil
}

// checkCharacters allows tab, line feed, carriage return and U+0020 to U+00FF (KMS API reference, PutKeyPolicy).
func checkCharacters(doc []byte) *Error {
	for i := 0; i < len(doc); {
		c, size := utf8.DecodeRune(doc[i:])
		if c == utf8.RuneError && size == 1 {
			return malformed("", "the document is not UTF-8")
		}
		if c != '\t' && c != '\n' && c != '\r' && (c < ' ' || c > 0xff) {
			return malformed("", fmt.Sprintf("character U+%04X is not allowed", c))
		}
		i += size
	}
	return nil
}

type treeReader struct{ dec *json.Decoder }

func (r treeReader) value(place string, depth int) (node, *Error) {
	tok, err := r.dec.Token()
	if err != nil {
		return node{}, malformed(place, "the document is not valid JSON")
	}
	if depth > maxDepth {
		return node{}, malformed(place, "nested too deeply")
	}
	switch v := tok.(type) {
	case json.Delim:
		if v == '{' {
			return r.object(place, depth)
		}
		return r.array(place, depth)
	case string:
		return textNode(place, v)
	case json.Number:
		return node{kind: numberNode, text: v.String()}, nil
	case bool:
		return node{kind: boolNode, text: fmt.Sprint(v)}, nil
	}
	return node{kind: nullNode}, nil
}

// textNode refuses control characters, which JSON can smuggle in as escapes. Compiled patterns use them as marks.
func textNode(place, s string) (node, *Error) {
	if strings.ContainsFunc(s, func(c rune) bool { return c < ' ' && c != '\t' && c != '\n' && c != '\r' }) {
		return node{}, malformed(place, "control characters are not allowed")
	}
	return node{kind: stringNode, text: s}, nil
}

func (r treeReader) object(place string, depth int) (node, *Error) {
	n := node{kind: objectNode}
	seen := map[string]bool{}
	for r.dec.More() {
		tok, err := r.dec.Token()
		name, ok := tok.(string)
		if err != nil || !ok {
			return node{}, malformed(place, "the document is not valid JSON")
		}
		at := within(place, name)
		if seen[name] {
			return node{}, malformed(at, "appears twice")
		}
		seen[name] = true
		v, bad := r.value(at, depth+1)
		if bad != nil {
			return node{}, bad
		}
		n.members = append(n.members, member{name, v})
	}
	return n, r.end(place)
}

func (r treeReader) array(place string, depth int) (node, *Error) {
	n := node{kind: arrayNode}
	for r.dec.More() {
		v, bad := r.value(index(place, len(n.items)), depth+1)
		if bad != nil {
			return node{}, bad
		}
		n.items = append(n.items, v)
	}
	return n, r.end(place)
}

// end reads the closing bracket.
func (r treeReader) end(place string) *Error {
	if _, err := r.dec.Token(); err != nil {
		return malformed(place, "the document is not valid JSON")
	}
	return nil
}

func within(place, name string) string {
	if place == "" {
		return name
	}
	return place + "." + name
}

func index(place string, i int) string { return fmt.Sprintf("%s[%d]", place, i) }

// member returns the member with the name, or nil.
func (n *node) member(name string) *node {
	for i := range n.members {
		if n.members[i].name == name {
			return &n.members[i].value
		}
	}
	return nil
}

// strings reads a string or a list of strings.
func (n *node) strings(place string) ([]string, *Error) {
	switch n.kind {
	case stringNode:
		return []string{n.text}, nil
	case arrayNode:
		if len(n.items) == 0 {
			return nil, malformed(place, "must not be an empty list")
		}
		list := make([]string, len(n.items))
		for i := range n.items {
			if n.items[i].kind != stringNode {
				return nil, malformed(index(place, i), "must be a string")
			}
			list[i] = n.items[i].text
		}
		return list, nil
	}
	return nil, malformed(place, "must be a string or a list of strings")
}

// scalars reads condition values: a string, number or boolean, or a list of them, which may be empty.
func (n *node) scalars(place string) ([]string, *Error) {
	switch n.kind {
	case stringNode, numberNode, boolNode:
		return []string{n.text}, nil
	case arrayNode:
		list := make([]string, len(n.items))
		for i := range n.items {
			switch n.items[i].kind {
			case stringNode, numberNode, boolNode:
				list[i] = n.items[i].text
			default:
				return nil, malformed(index(place, i), "must be a string, number or boolean")
			}
		}
		return list, nil
	}
	return nil, malformed(place, "must be a string, number or boolean, or a list of them")
}
