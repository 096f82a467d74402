package audit

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// Fields builds one JSON object of a record, such as requestParameters, in the order of its calls. It takes only values
// that may be shown: there is no method for octets, so a plaintext, a ciphertext or a secret.Bytes does not fit in.
type Fields struct {
	buf []byte
}

// Reset forgets everything but memory.
func (f *Fields) Reset() { f.buf = f.buf[:0] }

// Empty reports whether nothing was added.
func (f *Fields) Empty() bool { return len(f.buf) == 0 }

func (f *Fields) name(n string) {
	if len(f.buf) == 0 {
		f.buf = append(f.buf, '{')
	} else {
		f.buf = append(f.buf, ',')
	}
	f.buf = appendString(f.buf, n)
	f.buf = append(f.buf, ':')
}

// String adds a text member.
func (f *Fields) String(name, value string) {
	f.name(name)
	f.buf = appendString(f.buf, value)
}

// Float adds a number, which must not be infinite nor no number.
func (f *Fields) Float(name string, value float64) {
	f.name(name)
	f.buf = strconv.AppendFloat(f.buf, value, 'f', -1, 64)
}

// Int adds a whole number.
func (f *Fields) Int(name string, value int64) {
	f.name(name)
	f.buf = strconv.AppendInt(f.buf, value, 10)
}

// Bool adds a truth value.
func (f *Fields) Bool(name string, value bool) {
	f.name(name)
	f.buf = strconv.AppendBool(f.buf, value)
}

// Date adds a time in the long text form that CloudTrail uses inside parameters, "Aug 10, 2022, 10:38:27 PM", in UTC.
func (f *Fields) Date(name string, value time.Time) {
	f.String(name, value.UTC().Format("Jan 2, 2006, 3:04:05 PM"))
}

// Strings adds a list of texts.
func (f *Fields) Strings(name string, values []string) {
	f.name(name)
	f.buf = append(f.buf, '[')
	for i, v := range values {
		if i > 0 {
			f.buf = append(f.buf, ',')
		}
		f.buf = appendString(f.buf, v)
	}
	f.buf = append(f.buf, ']')
}

// Map adds an object of texts, in the order of its keys.
func (f *Fields) Map(name string, values map[string]string) {
	f.name(name)
	keys := make([]string, 0, len(values))
	for k := range values {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	f.buf = append(f.buf, '{')
	for i, k := range keys {
		if i > 0 {
			f.buf = append(f.buf, ',')
		}
		f.buf = appendString(f.buf, k)
		f.buf = append(f.buf, ':')
		f.buf = appendString(f.buf, values[k])
	}
	f.buf = append(f.buf, '}')
}

// Object adds an object that fill describes.
func (f *Fields) Object(name string, fill func(*Fields)) {
	f.name(name)
	var inner Fields
	fill(&inner)
	f.buf = inner.appendObject(f.buf)
}

// Objects adds a list of n objects; fill describes the one with the index.
func (f *Fields) Objects(name string, n int, fill func(i int, f *Fields)) {
	f.name(name)
	f.buf = append(f.buf, '[')
	for i := range n {
		if i > 0 {
			f.buf = append(f.buf, ',')
		}
		var inner Fields
		fill(i, &inner)
		f.buf = inner.appendObject(f.buf)
	}
	f.buf = append(f.buf, ']')
}

// appendObject appends the JSON text, {} when nothing was added.
func (f *Fields) appendObject(b []byte) []byte {
	if len(f.buf) == 0 {
		return append(b, "{}"...)
	}
	b = append(b, f.buf...)
	return append(b, '}')
}

// escaped has a 1 for every octet that cannot stand in a JSON string as it is, or may be no UTF-8.
var escaped = func() (t [256]byte) {
	for c := range t {
		if c < 0x20 || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			t[c] = 1
		}
	}
	return t
}()

// appendString appends s as a JSON string (RFC 8259). Octets that are no UTF-8 become U+FFFD, so that a caller cannot
// break the log with its User-Agent.
func appendString(dst []byte, s string) []byte {
	plain := byte(0)
	for i := 0; i < len(s); i++ {
		plain |= escaped[s[i]]
	}
	if plain == 0 {
		dst = append(dst, '"')
		dst = append(dst, s...)
		return append(dst, '"')
	}
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string always encodes
	}
	return append(dst, text...)
}
