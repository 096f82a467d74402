package policy

import (
	"strings"
	"unicode/utf8"
)

// Marks in compiled patterns. Documents cannot contain these octets, and values from a request that do never fill in a
// variable, so that a literal '*' and a wildcard cannot be mistaken for one another.
const (
	anyRun  = '\x01' // the wildcard *
	anyChar = '\x02' // the wildcard ?

	runMark = string(anyRun)
)

// pattern is a string of a document, compiled: wildcards replaced by marks, variables cut out.
type pattern struct {
	text string    // the whole pattern when there are no variables
	wild bool      // text has marks
	any  bool      // the pattern is a lone wildcard *
	segs []segment // with variables: the pieces, in order
}

// segment is literal text (with marks), or a variable.
type segment struct {
	text     string
	least    int // how many octets text matches at least
	variable bool
	name     string // of the variable, as written
	key      Key
	fallback string // the default value, if there is one
	defaults bool
}

// language says how strings of a place are to be read.
type language struct {
	wildcards bool // * and ? are wildcards
	variables bool // ${…} is a variable: Version2012, and an element that can have them
}

// compile reads a string of a document. It fails on a variable that does not end.
func (l language) compile(place, s string) (pattern, *Error) {
	var p pattern
	var text strings.Builder
	flush := func() {
		if text.Len() > 0 {
			t := text.String()
			p.segs = append(p.segs, segment{text: t, least: len(t) - strings.Count(t, runMark)})
			text.Reset()
		}
	}
	hasVariable := false
	for s != "" {
		if l.variables && strings.HasPrefix(s, "${") {
			end := variableEnd(s)
			if end < 0 {
				return pattern{}, malformed(place, "a policy variable is not closed")
			}
			name := s[2:end]
			s = s[end+1:]
			if name == "*" || name == "?" || name == "$" {
				text.WriteString(name)
				continue
			}
			flush()
			seg, err := readVariable(place, name)
			if err != nil {
				return pattern{}, err
			}
			p.segs, hasVariable = append(p.segs, seg), true
			continue
		}
		switch c := s[0]; {
		case l.wildcards && c == '*':
			text.WriteByte(anyRun)
			p.wild = true
		case l.wildcards && c == '?':
			text.WriteByte(anyChar)
			p.wild = true
		default:
			text.WriteByte(c)
		}
		s = s[1:]
	}
	if hasVariable {
		flush()
		return p, nil
	}
	p.text, p.segs = text.String(), nil
	p.any = p.text == runMark
	return p, nil
}

// variableEnd returns where the brace is that closes the variable at the start of s, or -1. A quoted default may contain
// braces.
func variableEnd(s string) int {
	quoted := false
	for i := 2; i < len(s); i++ {
		switch {
		case s[i] == '\'':
			quoted = !quoted
		case s[i] == '}' && !quoted:
			return i
		}
	}
	return -1
}

// readVariable reads "key" or "key, 'default'".
func readVariable(place, s string) (segment, *Error) {
	name, rest, hasDefault := strings.Cut(s, ",")
	name = strings.TrimSpace(name)
	seg := segment{variable: true, name: name, key: ParseKey(name)}
	if seg.key.Name == "" || strings.ContainsAny(seg.key.Name, "${'") {
		return segment{}, malformed(place, "'${"+s+"}' is not a policy variable")
	}
	if hasDefault {
		rest = strings.TrimSpace(rest)
		if len(rest) < 2 || rest[0] != '\'' || rest[len(rest)-1] != '\'' {
			return segment{}, malformed(place, "the default of a policy variable must be in single quotes")
		}
		seg.fallback, seg.defaults = rest[1:len(rest)-1], true
	}
	return seg, nil
}

// match compares the pattern with s. fold ignores letter case. A pattern with a variable that has no value matches nothing.
func (p *pattern) match(s string, ctx Context, fold bool) bool {
	switch {
	case p.any:
		return true
	case p.segs != nil:
		var buf [256]byte
		room := len(s)
		if fold {
			room *= utf8.UTFMax // letters that differ in case may differ in length
		}
		b, ok := p.expand(buf[:0], ctx, room)
		switch {
		case !ok:
			return false
		case fold && !p.wild:
			return strings.EqualFold(string(b), s)
		}
		return glob(b, s, fold)
	case p.wild:
		return glob(p.text, s, fold)
	case fold:
		return strings.EqualFold(p.text, s)
	}
	return p.text == s
}

// expand fills in the variables. It reports false if one has no value, more than one, or one that contains a mark, and
// when there is more text than room: such a pattern matches nothing, and a document could make it grow without bound.
func (p *pattern) expand(b []byte, ctx Context, room int) ([]byte, bool) {
	for i := range p.segs {
		seg := &p.segs[i]
		text, least := seg.text, seg.least
		if seg.variable {
			v := lookup(ctx, seg.key)
			switch {
			case v.Len() == 1 && strings.IndexByte(v.At(0), anyRun) < 0 && strings.IndexByte(v.At(0), anyChar) < 0:
				text = v.At(0)
			case v.Len() == 0 && seg.defaults:
				text = seg.fallback
			default:
				return b, false
			}
			least = len(text)
		}
		if room -= least; room < 0 {
			return b, false
		}
		b = append(b, text...)
	}
	return b, true
}

// glob matches s against a pattern with marks. Text between two runs, or behind the last, is looked for as a whole, in a time
// that grows with the sum of the lengths. Where letter case does not count, or a single character may be any, it goes back to
// the last run and no further, so that its time is at most the product of the lengths.
func glob[P string | []byte](p P, s string, fold bool) bool {
	i, j := 0, 0
	star, back := -1, 0
	for j < len(s) {
		switch {
		case i < len(p) && p[i] == anyRun:
			star, back = i, j
			i++
			if fold {
				continue
			}
			end := i
			for end < len(p) && p[end] != anyRun && p[end] != anyChar {
				end++
			}
			switch {
			case end == len(p):
				return strings.HasSuffix(s[j:], string(p[i:]))
			case p[end] == anyRun:
				at := strings.Index(s[j:], string(p[i:end]))
				if at < 0 {
					return false
				}
				i, j = end, j+at+end-i
			}
			continue
		case i < len(p) && p[i] == anyChar:
			_, size := utf8.DecodeRuneInString(s[j:])
			i++
			j += size
			continue
		case i < len(p) && (p[i] == s[j] || fold && lower(p[i]) == lower(s[j])):
			i++
			j++
			continue
		}
		if star < 0 {
			return false
		}
		_, size := utf8.DecodeRuneInString(s[back:]) // a run ends between characters, not within one
		back += size
		i, j = star+1, back
	}
	for i < len(p) && p[i] == anyRun {
		i++
	}
	return i == len(p)
}

// lower folds ASCII letters. Patterns that ignore case are of action names, which have no others, and of
// StringEqualsIgnoreCase, whose values have no wildcards and are compared by the full rules of Unicode.
func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// arnParts is how many parts an ARN has; the last one may itself contain colons.
const arnParts = 6

// arnPattern is the pattern of an ARN: each of its parts is matched on its own, so that a wildcard or the value of a
// variable never reaches over a colon into the next part. A pattern that is no ARN is kept in whole.
type arnPattern struct {
	parts []pattern // six, or none
	whole pattern   // without parts: "*", or text that only equals itself
	text  string    // as written
}

// compileARN reads an ARN pattern. In a Resource element parts that are missing at the end match anything, and only the last
// part has variables (IAM user guide, "IAM policy elements: Variables and tags": after the fifth colon). In a condition
// nothing is added, and every part has them.
func (l language) compileARN(place, s string, resource bool) (arnPattern, *Error) {
	l.wildcards = true
	front := l
	front.variables = l.variables && !resource
	if !strings.HasPrefix(s, "arn:") {
		whole, err := l.compile(place, s)
		return arnPattern{whole: whole, text: s}, err
	}
	texts := front.splitARN(s)
	for resource && len(texts) < arnParts {
		texts = append(texts, "*")
	}
	if len(texts) < arnParts { // no ARN, but its variables have to be right all the same
		_, err := l.compile(place, s)
		return arnPattern{whole: pattern{text: s}, text: s}, err
	}
	a := arnPattern{parts: make([]pattern, arnParts), text: s}
	for i, t := range texts {
		lang := front
		if i == arnParts-1 {
			lang = l
		}
		var err *Error
		if a.parts[i], err = lang.compile(place, t); err != nil {
			return arnPattern{}, err
		}
	}
	return a, nil
}

// splitARN cuts a pattern at its first five colons that are not within variables.
func (l language) splitARN(s string) (parts []string) {
	from := 0
	for i := 0; i < len(s) && len(parts) < arnParts-1; i++ {
		if l.variables && strings.HasPrefix(s[i:], "${") {
			end := variableEnd(s[i:])
			if end < 0 {
				break // compile will complain
			}
			i += end
		} else if s[i] == ':' {
			parts = append(parts, s[from:i])
			from = i + 1
		}
	}
	return append(parts, s[from:])
}

// match compares the pattern with an ARN, or with "*" for an operation that has no resource.
func (a *arnPattern) match(s string, ctx Context) bool {
	if len(a.parts) == 0 {
		return a.whole.match(s, ctx, false)
	}
	for i := range a.parts {
		part := s
		if i < arnParts-1 {
			colon := strings.IndexByte(s, ':')
			if colon < 0 {
				return false
			}
			part, s = s[:colon], s[colon+1:]
		}
		if !a.parts[i].match(part, ctx, false) {
			return false
		}
	}
	return true
}
