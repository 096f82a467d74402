package wire

import (
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/keywright/keywright/internal/secret"
)

// Limits of a form, so that a body within the request limit cannot take much memory or time.
const (
	maxFormParameters = 4096
	maxFormName       = 512 // octets
	maxFormLevels     = 16  // dots in a name
)

// Form is a parsed Query request: the parameters of a form body or of a query string. Names address members by path:
// Tags.member.1.Key. Decoding keeps the first error and then yields zero values.
type Form struct {
	values   map[string]string
	children map[string]int // for each path, how many distinct steps follow it
	err      *Error
}

// ParseForm reads application/x-www-form-urlencoded text (WHATWG URL standard, section 5.1). It refuses a parameter that
// occurs twice and text that is not UTF-8: the next reader might pick the other one.
func ParseForm(body string) (*Form, *Error) {
	f := &Form{values: make(map[string]string), children: make(map[string]int)}
	for body != "" {
		var pair string
		pair, body, _ = strings.Cut(body, "&")
		if pair == "" {
			continue
		}
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, errName := url.QueryUnescape(rawName)
		value, errValue := url.QueryUnescape(rawValue)
		switch {
		case errName != nil || errValue != nil || !utf8.ValidString(name) || !utf8.ValidString(value):
			return nil, Errorf(CodeSerialization, "The request is not well-formed form data.")
		case len(f.values) >= maxFormParameters || len(name) > maxFormName || strings.Count(name, ".") > maxFormLevels:
			return nil, Errorf(CodeSerialization, "The request has too many or too long parameters.")
		}
		if _, dup := f.values[name]; dup {
			return nil, Errorf(CodeSerialization, "A parameter occurs more than once.")
		}
		f.values[name] = value
		f.note(name)
	}
	return f, nil
}

// note records name and every path above it, and counts the distinct steps below each.
func (f *Form) note(name string) {
	if _, known := f.children[name]; known {
		return
	}
	f.children[name] = 0
	if dot := strings.LastIndexByte(name, '.'); dot >= 0 {
		f.note(name[:dot])
		f.children[name[:dot]]++
	}
}

// Action returns the operation that the form asks for.
func (f *Form) Action() string { return f.values["Action"] }

// Version returns the API version that the form names.
func (f *Form) Version() string { return f.values["Version"] }

// DecodeQuery reads the form into in. The error, if any, is a SerializationException, which Query services print as
// MalformedInput.
func DecodeQuery(f *Form, in QueryInput) *Error {
	f.err = nil
	in.DecodeQuery(f, "")
	return f.err
}

func (f *Form) fail(kind string) {
	if f.err == nil {
		f.err = Errorf(CodeSerialization, "The value of a parameter can not be converted to %s.", kind)
	}
}

// Has reports whether the form has the parameter or any below it.
func (f *Form) Has(name string) bool {
	_, ok := f.children[name]
	return ok
}

// OptString reads a text parameter.
func (f *Form) OptString(name string) Opt[string] {
	v, ok := f.values[name]
	if !ok && f.Has(name) {
		f.fail("a String")
	}
	return Opt[string]{V: v, Set: ok}
}

// SecretString reads a sensitive text parameter.
func (f *Form) SecretString(name string) secret.Bytes {
	if v := f.OptString(name); v.Set {
		return secret.FromString(v.V)
	}
	return secret.Bytes{}
}

// OptBool reads a boolean parameter: true or false in any letter case.
func (f *Form) OptBool(name string) Opt[bool] {
	v := f.OptString(name)
	switch {
	case !v.Set:
		return Opt[bool]{}
	case strings.EqualFold(v.V, "true"):
		return Some(true)
	case strings.EqualFold(v.V, "false"):
		return Some(false)
	}
	f.fail("a Boolean")
	return Opt[bool]{}
}

// OptInt32 reads an integer parameter in decimal.
func (f *Form) OptInt32(name string) Opt[int32] {
	v := f.OptString(name)
	if !v.Set {
		return Opt[int32]{}
	}
	n, err := strconv.ParseInt(v.V, 10, 32)
	if err != nil {
		f.fail("an Integer")
		return Opt[int32]{}
	}
	return Some(int32(n))
}

// OptTime reads a timestamp parameter in the RFC 3339 profile of ISO 8601.
func (f *Form) OptTime(name string) Opt[time.Time] {
	v := f.OptString(name)
	if !v.Set {
		return Opt[time.Time]{}
	}
	t, err := time.Parse(time.RFC3339Nano, v.V)
	if err != nil {
		f.fail("a Timestamp")
		return Opt[time.Time]{}
	}
	return Some(t.UTC().Truncate(time.Millisecond))
}

// Len returns the number of elements of a list, and whether the list is there at all: name= alone is an empty list.
// Elements are numbered from 1 without gaps, so that none can be passed over in silence.
func (f *Form) Len(name string) (n int, there bool) {
	if !f.Has(name) {
		return 0, false
	}
	members := name + ".member"
	n = f.children[members]
	if f.children[name] > 1 || f.children[name] == 1 && n == 0 || f.values[name] != "" {
		f.fail("a list")
		return 0, true
	}
	for i := 1; i <= n; i++ {
		if !f.Has(members + "." + strconv.Itoa(i)) {
			f.fail("a list")
			return 0, true
		}
	}
	return n, true
}

// At returns the path below which the members of list element i, counted from 1, are found.
func (f *Form) At(name string, i int) string { return name + ".member." + strconv.Itoa(i) + "." }

// Strings reads a list of texts; nil if it is absent.
func (f *Form) Strings(name string) []string {
	n, there := f.Len(name)
	if !there {
		return nil
	}
	list := make([]string, 0, n)
	for i := 1; i <= n; i++ {
		list = append(list, f.OptString(strings.TrimSuffix(f.At(name, i), ".")).V)
	}
	return list
}
