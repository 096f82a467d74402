package policy

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Parse reads, checks and compiles a document. The error is always an *Error.
func Parse(kind Kind, doc []byte) (*Document, error) {
	d, err := parse(kind, doc)
	if err != nil {
		return nil, err
	}
	return d, nil
}

func parse(kind Kind, doc []byte) (*Document, *Error) {
	d := &Document{kind: kind, chars: countChars(doc)}
	if limit := kind.limit(); kind.size(doc) > limit {
		return nil, &Error{TooLarge, "", fmt.Sprintf("the document is larger than %d", limit)}
	}
	if len(doc) > maxOctets {
		return nil, &Error{TooLarge, "", fmt.Sprintf("the document is larger than %d octets", maxOctets)}
	}
	root, err := readJSON(doc)
	if err != nil {
		return nil, err
	}
	if root.kind != objectNode {
		return nil, malformed("", "the document must be a JSON object")
	}
	d.root = root
	version, err := readHead(&root)
	if err != nil {
		return nil, err
	}
	c := compiler{kind: kind, lang: language{variables: version == Version2012}, sids: map[string]bool{}}
	n := root.member("Statement")
	switch {
	case n != nil && n.kind == objectNode:
		err = c.add(n, "Statement")
	case n != nil && n.kind == arrayNode && len(n.items) > 0:
		for i := range n.items {
			if err = c.add(&n.items[i], index("Statement", i)); err != nil {
				break
			}
		}
	default:
		err = malformed("Statement", "must be a statement or a list of at least one")
	}
	if err != nil {
		return nil, err
	}
	d.statements, d.order = c.out, evaluationOrder(c.out)
	return d, nil
}

func countChars(doc []byte) (n int) {
	for len(doc) > 0 {
		c, size := utf8.DecodeRune(doc)
		if !unicode.IsSpace(c) {
			n++
		}
		doc = doc[size:]
	}
	return n
}

// readHead checks the members of the document and returns its version.
func readHead(root *node) (string, *Error) {
	version := Version2008
	for i := range root.members {
		m := &root.members[i]
		switch m.name {
		case "Version":
			if version = m.value.text; m.value.kind != stringNode || version != Version2012 && version != Version2008 {
				return "", malformed("Version", "must be "+Version2012+" or "+Version2008)
			}
		case "Id":
			if m.value.kind != stringNode {
				return "", malformed("Id", "must be a string")
			}
		case "Statement":
		default:
			return "", malformed(m.name, "is not an element of a policy")
		}
	}
	return version, nil
}

// compiler turns statements into their compiled form.
type compiler struct {
	kind Kind
	lang language
	sids map[string]bool
	out  []statement
}

func (c *compiler) add(n *node, place string) *Error {
	if n.kind != objectNode {
		return malformed(place, "must be an object")
	}
	var s statement
	seen := map[string]bool{}
	for i := range n.members {
		m := &n.members[i]
		if err := c.element(&s, m, within(place, m.name)); err != nil {
			return err
		}
		seen[m.name] = true
	}
	if err := c.complete(&s, seen, place); err != nil {
		return err
	}
	c.out = append(c.out, s)
	return nil
}

// element compiles one member of a statement.
func (c *compiler) element(s *statement, m *member, place string) (err *Error) {
	switch m.name {
	case "Sid":
		s.sid, err = c.sid(&m.value, place)
	case "Effect":
		s.deny = m.value.text == "Deny"
		if m.value.kind != stringNode || !s.deny && m.value.text != "Allow" {
			err = malformed(place, "must be Allow or Deny")
		}
	case "Principal", "NotPrincipal":
		if !c.kind.principals() {
			return malformed(place, "is not allowed in this kind of policy")
		}
		if s.notPrincipal = m.name == "NotPrincipal"; s.notPrincipal && c.kind == ResourceControlPolicy {
			return malformed(place, "is not allowed in this kind of policy")
		}
		s.principals, err = readPrincipals(&m.value, place)
	case "Action", "NotAction":
		s.notAction = m.name == "NotAction"
		s.actions, err = c.actions(&m.value, place)
	case "Resource", "NotResource":
		if c.kind == TrustPolicy {
			return malformed(place, "is not allowed in this kind of policy")
		}
		s.notResource = m.name == "NotResource"
		s.resources, err = c.resources(&m.value, place)
	case "Condition":
		s.conditions, err = c.conditions(&m.value, place)
	default:
		err = malformed(place, "is not an element of a statement")
	}
	return err
}

// complete checks what a statement must have and must not have together.
func (c *compiler) complete(s *statement, seen map[string]bool, place string) *Error {
	for _, name := range [...]string{"Principal", "Action", "Resource"} {
		if seen[name] && seen["Not"+name] {
			return malformed(place, "has both "+name+" and Not"+name)
		}
	}
	has := func(name string) bool { return seen[name] || seen["Not"+name] }
	if !seen["Effect"] {
		return malformed(place, "has no Effect")
	}
	if c.kind.principals() && !has("Principal") {
		return malformed(place, "has no Principal")
	}
	switch c.kind {
	case TrustPolicy:
		s.resources = []arnPattern{{whole: pattern{any: true}}} // the role itself
		seen["Resource"] = true
	case ResourceControlPolicy:
		if err := s.checkControl(place); err != nil {
			return err
		}
	}
	for _, name := range [...]string{"Action", "Resource"} {
		if has(name) {
			continue
		}
		// The service takes such a statement in a key policy, and it has no effect there.
		if s.inert = true; c.kind != KeyPolicy {
			return malformed(place, "has no "+name)
		}
	}
	return nil
}

// checkControl holds a statement of a resource control policy to what such a policy is for (Organizations user guide, "RCP
// syntax"): it takes from everybody. What gives is the policy that every account starts with, and nothing narrower.
func (s *statement) checkControl(place string) *Error {
	if len(s.principals) != 1 || s.principals[0].form != anyone {
		return &Error{BadPrincipal, within(place, "Principal"), `must be "*"`}
	}
	everything := false
	for i := range s.actions {
		everything = everything || s.actions[i].any
	}
	switch {
	case s.deny && s.notAction:
		return malformed(within(place, "NotAction"), "is not allowed in this kind of policy")
	case s.deny && everything:
		return malformed(within(place, "Action"), "must name a service, as in kms:*")
	case s.deny:
		return nil
	}
	if !everything || s.notAction || s.notResource || len(s.conditions) > 0 || len(s.resources) != 1 || !s.resources[0].whole.any {
		return malformed(within(place, "Effect"), "must be Deny, except in the statement that allows every action on every resource")
	}
	return nil
}

func (c *compiler) sid(n *node, place string) (string, *Error) {
	if n.kind != stringNode {
		return "", malformed(place, "must be a string")
	}
	if c.kind == KeyPolicy {
		return n.text, nil
	}
	if strings.ContainsFunc(n.text, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9')
	}) {
		return "", malformed(place, "must have letters and digits only")
	}
	if n.text != "" && c.sids[n.text] {
		return "", malformed(place, "appears in another statement as well")
	}
	c.sids[n.text] = true
	return n.text, nil
}

// actions compiles "*" and "vendor:name" patterns. Case does not count, and they take no variables.
func (c *compiler) actions(n *node, place string) ([]pattern, *Error) {
	texts, err := n.strings(place)
	if err != nil {
		return nil, err
	}
	list := make([]pattern, len(texts))
	for i, t := range texts {
		vendor, name, ok := strings.Cut(t, ":")
		if t != "*" && (!ok || vendor == "" || name == "" || strings.ContainsAny(vendor, "*? ")) {
			return nil, malformed(place, "'"+t+"' is not an action: it must be * or have a vendor, as in kms:Encrypt")
		}
		if list[i], err = (language{wildcards: true}).compile(place, t); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// resources compiles ARN patterns. A key policy may name anything, but only what matches the key has effect.
func (c *compiler) resources(n *node, place string) ([]arnPattern, *Error) {
	texts, err := n.strings(place)
	if err != nil {
		return nil, err
	}
	list := make([]arnPattern, len(texts))
	for i, t := range texts {
		if c.kind != KeyPolicy && t != "*" && !strings.HasPrefix(t, "arn:") {
			return nil, malformed(place, "'"+t+"' is neither * nor an ARN")
		}
		if list[i], err = c.lang.compileARN(place, t, true); err != nil {
			return nil, err
		}
	}
	return list, nil
}
