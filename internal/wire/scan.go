package wire

import (
	"unicode/utf16"
	"unicode/utf8"
)

// This file reads the two tokens of JSON that have an inside, strings and numbers (RFC 8259, sections 6 and 7).

// text reads the string at hand, without its quotes. The result aliases the document or the decoder's scratch memory.
func (d *Decoder) text() ([]byte, bool) {
	if d.pos >= len(d.data) || d.data[d.pos] != '"' {
		d.malformed()
		return nil, false
	}
	start := d.pos + 1
	ascii := true
	for i := start; i < len(d.data); i++ {
		c := d.data[i]
		if plain[c] {
			continue
		}
		switch {
		case c == '"':
			s := d.data[start:i]
			if !ascii && !utf8.Valid(s) {
				d.malformed()
				return nil, false
			}
			d.pos = i + 1
			return s, true
		case c == '\\':
			return d.escaped(start, i)
		case c < 0x20:
			d.malformed()
			return nil, false
		}
		ascii = false
	}
	d.malformed()
	return nil, false
}

// escaped reads the rest of a string that has its first backslash at i.
func (d *Decoder) escaped(start, i int) ([]byte, bool) {
	out := append(d.scratch[:0], d.data[start:i]...)
	for i < len(d.data) {
		c := d.data[i]
		switch {
		case c == '"':
			d.scratch = out
			if !utf8.Valid(out) {
				d.malformed()
				return nil, false
			}
			d.pos = i + 1
			return out, true
		case c < 0x20:
			d.malformed()
			return nil, false
		case c != '\\':
			out = append(out, c)
			i++
		default:
			var ok bool
			if out, i, ok = d.escape(out, i+1); !ok {
				d.scratch = out
				d.malformed()
				return nil, false
			}
		}
	}
	d.scratch = out
	d.malformed()
	return nil, false
}

// escape appends the character whose escape letter is at i and returns where the text goes on.
func (d *Decoder) escape(out []byte, i int) ([]byte, int, bool) {
	if i >= len(d.data) {
		return out, i, false
	}
	switch c := d.data[i]; c {
	case '"', '\\', '/':
		return append(out, c), i + 1, true
	case 'b':
		return append(out, '\b'), i + 1, true
	case 'f':
		return append(out, '\f'), i + 1, true
	case 'n':
		return append(out, '\n'), i + 1, true
	case 'r':
		return append(out, '\r'), i + 1, true
	case 't':
		return append(out, '\t'), i + 1, true
	case 'u':
		r, ok := hex4(d.data, i+1)
		if !ok {
			return out, i, false
		}
		i += 5
		if utf16.IsSurrogate(r) {
			// A lone surrogate has no UTF-8 form; guessing one would let two texts become the same.
			if i+1 >= len(d.data) || d.data[i] != '\\' || d.data[i+1] != 'u' {
				return out, i, false
			}
			low, ok := hex4(d.data, i+2)
			if r = utf16.DecodeRune(r, low); !ok || r == utf8.RuneError {
				return out, i, false
			}
			i += 6
		}
		return utf8.AppendRune(out, r), i, true
	}
	return out, i, false
}

func hex4(b []byte, i int) (rune, bool) {
	if i+4 > len(b) {
		return 0, false
	}
	var r rune
	for _, c := range b[i : i+4] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// number reads the number at hand (RFC 8259, section 6) and reports whether it has neither fraction nor exponent.
func (d *Decoder) number() (token []byte, integral bool) {
	start := d.pos
	digits := func() bool {
		from := d.pos
		for d.pos < len(d.data) && d.data[d.pos] >= '0' && d.data[d.pos] <= '9' {
			d.pos++
		}
		return d.pos > from
	}
	at := func(c byte) bool { return d.pos < len(d.data) && d.data[d.pos] == c }
	if at('-') {
		d.pos++
	}
	ok := true
	if at('0') {
		d.pos++
	} else {
		ok = digits()
	}
	integral = true
	if ok && at('.') {
		d.pos++
		integral = false
		ok = digits()
	}
	if ok && (at('e') || at('E')) {
		d.pos++
		integral = false
		if at('+') || at('-') {
			d.pos++
		}
		ok = digits()
	}
	if !ok {
		d.malformed()
		return nil, false
	}
	return d.data[start:d.pos], integral
}
