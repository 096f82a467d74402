package wire

import (
	"regexp"
	"sync"
	"unicode/utf8"
)

// Rule is what the model demands of a value of one shape. Generated tables hold one per constrained shape.
type Rule struct {
	Min, Max       int64 // of the number, or of the length in code points, octets or elements
	HasMin, HasMax bool
	Pattern        *Pattern // of the text
	Enum           []string // words in the order in which messages list them; nil: no enum
	Accept         []string // further words that are taken though messages never list them
	Sensitive      bool     // messages omit the value
	Elem           *Rule    // of each element of a list
	Key, Value     *Rule    // of each key and value of a map
}

func (r *Rule) member(word string) bool {
	for _, w := range r.Enum {
		if w == word {
			return true
		}
	}
	for _, w := range r.Accept {
		if w == word {
			return true
		}
	}
	return false
}

// Pattern is a pattern of the model. A text fits if all of it matches, anchored or not, as in the service. Most patterns
// are a repeated character class, which the generator turns into a table; the others become RE2 expressions.
type Pattern struct {
	Text  string // as messages print it
	Class *Class
	Exprs []string // used if Class is nil: RE2 expressions that must all match
	once  sync.Once
	exprs []*regexp.Regexp
}

// Class is a set of characters of which a text consists.
type Class struct {
	ASCII [2]uint64 // one bit for each of the 128 characters
	High  [][2]rune // inclusive ranges above ASCII
	Empty bool      // whether the empty text fits
}

// Match reports whether all of s fits the pattern.
func (p *Pattern) Match(s string) bool {
	if p.Class != nil {
		return p.Class.match(s)
	}
	p.once.Do(func() {
		for _, e := range p.Exprs {
			p.exprs = append(p.exprs, regexp.MustCompile(`^(?:`+e+`)$`))
		}
	})
	for _, re := range p.exprs {
		if !re.MatchString(s) {
			return false
		}
	}
	return true
}

func (c *Class) match(s string) bool {
	if s == "" {
		return c.Empty
	}
	for i := 0; i < len(s); {
		b := s[i]
		if b < utf8.RuneSelf {
			if c.ASCII[b>>6]&(1<<(b&63)) == 0 {
				return false
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if !c.high(r) {
			return false
		}
		i += size
	}
	return true
}

func (c *Class) high(r rune) bool {
	for _, span := range c.High {
		if r >= span[0] && r <= span[1] {
			return true
		}
	}
	return false
}
