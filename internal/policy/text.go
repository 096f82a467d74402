package policy

import (
	"fmt"
	"strings"
)

// Text returns the document as GetKeyPolicy shows it: members in the order they were given, two spaces of indent for each
// object, " : " after names, lists on one line, and the principal "*" as {"AWS" : "*"}.
func (d *Document) Text() string { return d.TextWith(nil) }

// TextWith is Text with each AWS principal shown under the name that rename gives it: a principal that has been deleted
// shows by its unique id. A nil rename changes nothing.
func (d *Document) TextWith(rename func(principal string) string) string {
	p := printer{rename: rename}
	p.object(&d.root, 0, "")
	return p.out.String()
}

type printer struct {
	out    strings.Builder
	rename func(string) string
}

// value writes n; path says, for rename, whose value it is: "Principal" and "Principal/AWS" are of interest.
func (p *printer) value(n *node, indent int, path string) {
	switch n.kind {
	case objectNode:
		p.object(n, indent, path)
	case arrayNode:
		p.out.WriteString("[ ")
		for i := range n.items {
			if i > 0 {
				p.out.WriteString(", ")
			}
			p.value(&n.items[i], indent, path)
		}
		if len(n.items) > 0 {
			p.out.WriteByte(' ')
		}
		p.out.WriteByte(']')
	case stringNode:
		s := n.text
		if path == awsPrincipalPath && p.rename != nil {
			s = p.rename(s)
		}
		writeQuoted(&p.out, s)
	case nullNode:
		p.out.WriteString("null")
	default:
		p.out.WriteString(n.text)
	}
}

const (
	principalPath    = "Principal"
	awsPrincipalPath = "Principal/AWS"
)

func (p *printer) object(n *node, indent int, path string) {
	if len(n.members) == 0 {
		p.out.WriteString("{ }")
		return
	}
	p.out.WriteString("{\n")
	for i := range n.members {
		m := &n.members[i]
		p.out.WriteString(strings.Repeat("  ", indent+1))
		writeQuoted(&p.out, m.name)
		p.out.WriteString(" : ")
		inner, v := "", &m.value
		switch {
		case path == "" && indent == 1 && (m.name == "Principal" || m.name == "NotPrincipal"): // of a statement
			inner = principalPath
			if v.kind == stringNode {
				v = &node{kind: objectNode, members: []member{{"AWS", *v}}}
			}
		case path == principalPath && m.name == "AWS":
			inner = awsPrincipalPath
		case path == principalPath:
			inner = "other"
		}
		p.value(v, indent+1, inner)
		if i < len(n.members)-1 {
			p.out.WriteByte(',')
		}
		p.out.WriteByte('\n')
	}
	p.out.WriteString(strings.Repeat("  ", indent))
	p.out.WriteByte('}')
}

// writeQuoted writes a JSON string, escaping only what has to be.
func writeQuoted(out *strings.Builder, s string) {
	out.WriteByte('"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			out.WriteByte('\\')
			out.WriteRune(c)
		case c == '\n':
			out.WriteString(`\n`)
		case c == '\r':
			out.WriteString(`\r`)
		case c == '\t':
			out.WriteString(`\t`)
		case c < ' ':
			fmt.Fprintf(out, `\u%04X`, c)
		case c > 0xffff:
			c -= 0x10000
			fmt.Fprintf(out, `\u%04X\u%04X`, 0xd800+c>>10, 0xdc00+c&0x3ff)
		case c > 0xff: // came in as an escape, and has to go out as one: the document's characters end at U+00FF
			fmt.Fprintf(out, `\u%04X`, c)
		default:
			out.WriteRune(c)
		}
	}
	out.WriteByte('"')
}
