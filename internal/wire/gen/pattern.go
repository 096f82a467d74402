package main

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
)

// javaToRE2 are the spellings of the model's patterns that RE2 reads otherwise than the service's engine. The order
// matters: code points beyond the first plane are written with five or six digits in the model.
var javaToRE2 = []struct {
	find *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`\\u(10[0-9A-F]{4}|1[0-9A-F]{4})-`), `\x{$1}-`},
	{regexp.MustCompile(`\\u(10[0-9A-F]{4})`), `\x{$1}`},
	{regexp.MustCompile(`\\u([0-9A-F]{4})`), `\x{$1}`},
	{regexp.MustCompile(`\\p\{ASCII\}`), `[\x00-\x7F]`},
	{regexp.MustCompile(`\\s`), `\t\n\x0B\f\r `},
}

// expressions returns RE2 expressions that together match what the pattern matches.
func expressions(s *shape) []string {
	if s.RE2 != nil {
		return s.RE2
	}
	e := s.Pattern
	for _, r := range javaToRE2 {
		e = r.find.ReplaceAllString(e, r.with)
	}
	return []string{e}
}

// class is a pattern that is one character class, repeated without bound.
type class struct {
	ascii [2]uint64
	high  [][2]rune
	empty bool
}

// maxHigh is how many ranges above ASCII a table may have before the expression is the better form.
const maxHigh = 8

// classOf reports whether the expressions are a single repeated class, and which.
func classOf(exprs []string) (*class, bool, error) {
	var only *class
	for _, e := range exprs {
		re, err := syntax.Parse(`^(?:`+e+`)$`, syntax.Perl)
		if err != nil {
			return nil, false, fmt.Errorf("pattern %s: %w", e, err)
		}
		parts := []*syntax.Regexp{}
		flatten(re.Simplify(), &parts)
		if len(parts) == 1 && len(exprs) == 1 {
			only = repeated(parts[0])
		}
	}
	return only, only != nil, nil
}

// flatten lists the parts of a concatenation without anchors and groups.
func flatten(re *syntax.Regexp, into *[]*syntax.Regexp) {
	switch re.Op {
	case syntax.OpConcat, syntax.OpCapture:
		for _, sub := range re.Sub {
			flatten(sub, into)
		}
	case syntax.OpBeginText, syntax.OpEndText, syntax.OpBeginLine, syntax.OpEndLine:
	default:
		*into = append(*into, re)
	}
}

func repeated(re *syntax.Regexp) *class {
	if re.Op != syntax.OpPlus && re.Op != syntax.OpStar {
		return nil
	}
	set := re.Sub[0]
	for set.Op == syntax.OpCapture {
		set = set.Sub[0]
	}
	if set.Op != syntax.OpCharClass {
		return nil
	}
	c := &class{empty: re.Op == syntax.OpStar}
	for i := 0; i < len(set.Rune); i += 2 {
		low, high := set.Rune[i], set.Rune[i+1]
		for r := low; r <= high && r < 128; r++ {
			c.ascii[r>>6] |= 1 << (r & 63)
		}
		if high >= 128 {
			c.high = append(c.high, [2]rune{max(low, 128), high})
		}
	}
	if len(c.high) > maxHigh {
		return nil
	}
	return c
}

// literal writes the pattern as a Go value.
func (s *shape) literal() (string, error) {
	exprs := expressions(s)
	c, ok, err := classOf(exprs)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "&wire.Pattern{Text: %q, ", s.Pattern)
	if !ok {
		fmt.Fprintf(&b, "Exprs: %#v}", exprs)
		return b.String(), nil
	}
	fmt.Fprintf(&b, "Class: &wire.Class{ASCII: [2]uint64{%#x, %#x}", c.ascii[0], c.ascii[1])
	if c.high != nil {
		b.WriteString(", High: [][2]rune{")
		for _, span := range c.high {
			fmt.Fprintf(&b, "{%#x, %#x},", span[0], span[1])
		}
		b.WriteString("}")
	}
	if c.empty {
		b.WriteString(", Empty: true")
	}
	b.WriteString("}}")
	return b.String(), nil
}
