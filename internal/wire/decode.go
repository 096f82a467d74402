package wire

import (
	"bytes"
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/secret"
)

// maxDepth bounds how deep arrays and objects may nest. The deepest modelled input has four levels; unknown members may
// go deeper, but not so deep that a small body takes a large stack.
const maxDepth = 64

// maxUnknownNames bounds how many member names outside the model one object may have, since each is remembered to find
// duplicates.
const maxUnknownNames = 1024

// Decoder reads one JSON document (RFC 8259) in one pass, pulled by generated code. It is strict where a lenient reader
// could be made to see another request than the next one sees: every name occurs once per object, text is UTF-8 without
// lone surrogates, nothing follows the document. It keeps the first error and then yields zero values.
type Decoder struct {
	data    []byte
	pos     int
	depth   int
	err     *Error
	scratch []byte
}

var decoders = sync.Pool{New: func() any { return new(Decoder) }}

// DecodeJSON reads body into in. An empty body counts as an empty object. The input keeps nothing of body. The error, if
// any, is a SerializationException whose text never repeats what the document held.
func DecodeJSON(body []byte, in JSONInput) *Error {
	if len(body) == 0 {
		return nil
	}
	d := decoders.Get().(*Decoder)
	d.data, d.pos, d.depth, d.err = body, 0, 0, nil
	if d.peek() != '{' {
		d.unexpected("structure or map")
	} else {
		in.DecodeJSON(d)
		if d.space(); d.err == nil && d.pos != len(d.data) {
			d.malformed()
		}
	}
	err := d.err
	clear(d.scratch[:cap(d.scratch)]) // it may hold an unescaped plaintext
	d.data, d.scratch, d.err = nil, nil, nil
	decoders.Put(d)
	return err
}

func (d *Decoder) fail(err *Error) {
	if d.err == nil {
		d.err = err
		d.pos = len(d.data) // nothing more to read: loops end
	}
}

// malformed is a document that is not JSON at all. The service answers it without a message.
func (d *Decoder) malformed() { d.fail(Bare(CodeSerialization)) }

// unexpected says that the value at hand cannot be what the model wants.
func (d *Decoder) unexpected(want string) {
	var have string
	switch c := d.peek(); {
	case c == '{':
		d.fail(Errorf(CodeSerialization, "Start of structure or map found where not expected."))
		return
	case c == '[':
		d.fail(Errorf(CodeSerialization, "Start of list found where not expected."))
		return
	case c == '"':
		have = "STRING_VALUE"
	case c == '-' || c >= '0' && c <= '9':
		have = "NUMBER_VALUE"
	case c == 't':
		have = "TRUE_VALUE"
	case c == 'f':
		have = "FALSE_VALUE"
	case c == 'n':
		have = "NULL_VALUE"
	default:
		d.malformed()
		return
	}
	d.fail(Errorf(CodeSerialization, "%s can not be converted to a %s", have, want))
}

func (d *Decoder) space() {
	for d.pos < len(d.data) {
		switch d.data[d.pos] {
		case ' ', '\t', '\n', '\r':
			d.pos++
		default:
			return
		}
	}
}

// peek skips white space and returns the next octet, 0 at the end.
func (d *Decoder) peek() byte {
	d.space()
	if d.pos < len(d.data) {
		return d.data[d.pos]
	}
	return 0
}

func (d *Decoder) word(w string) bool {
	if d.pos+len(w) > len(d.data) || string(d.data[d.pos:d.pos+len(w)]) != w {
		return false
	}
	d.pos += len(w)
	return true
}

// Null consumes a null and reports whether there was one. A member that is null counts as absent.
func (d *Decoder) Null() bool { return d.peek() == 'n' && d.word("null") }

func (d *Decoder) push() bool {
	d.depth++
	if d.depth > maxDepth {
		d.malformed()
		return false
	}
	return true
}

// Object is the state of a walk over the members of one JSON object. The zero value starts a walk.
type Object struct {
	Name    []byte // name of the member at hand, unescaped; valid until the next call of Member
	started bool
	seen    uint64              // modelled members, by their index
	others  map[string]struct{} // names of unknown members
}

// Member moves to the next member of the object at hand and reports whether there is one. The caller must consume its
// value. It also consumes the braces.
func (d *Decoder) Member(o *Object) bool {
	c := d.peek()
	if !o.started {
		o.started = true
		if c != '{' {
			d.unexpected("structure or map")
			return false
		}
		if !d.push() {
			return false
		}
		d.pos++
		if c = d.peek(); c == '}' {
			d.pos++
			d.depth--
			return false
		}
	} else {
		switch c {
		case '}':
			d.pos++
			d.depth--
			return false
		case ',':
			d.pos++
			c = d.peek()
		default:
			d.malformed()
			return false
		}
	}
	if c != '"' {
		d.malformed()
		return false
	}
	name, ok := d.text()
	if !ok {
		return false
	}
	if d.peek() != ':' {
		d.malformed()
		return false
	}
	d.pos++
	o.Name = name
	return true
}

// Once records that modelled member number i is at hand, and refuses a second one. Names are scratch memory of the
// decoder, so this is called before the value is read.
func (d *Decoder) Once(o *Object, i uint) {
	if bit := uint64(1) << i; o.seen&bit == 0 {
		o.seen |= bit
		return
	}
	d.duplicate()
}

func (d *Decoder) duplicate() { d.fail(Errorf(CodeSerialization, "A member occurs more than once.")) }

// Unknown skips a member that the model does not have, as the service does, but still refuses a second one.
func (d *Decoder) Unknown(o *Object) {
	if _, dup := o.others[string(o.Name)]; dup || len(o.others) >= maxUnknownNames {
		d.duplicate()
		return
	}
	if o.others == nil {
		o.others = make(map[string]struct{})
	}
	o.others[string(o.Name)] = struct{}{}
	d.skip()
}

func (d *Decoder) skip() {
	switch c := d.peek(); {
	case c == '{':
		var o Object
		for d.Member(&o) {
			d.Unknown(&o)
		}
	case c == '[':
		var a Array
		for d.Element(&a) {
			d.skip()
		}
	case c == '"':
		d.text()
	case c == '-' || c >= '0' && c <= '9':
		d.number()
	case d.word("true") || d.word("false") || d.word("null"):
	default:
		d.malformed()
	}
}

// Array is the state of a walk over the elements of one JSON array. The zero value starts a walk.
type Array struct{ started bool }

// Element moves to the next element of the array at hand and reports whether there is one. The caller must consume it.
func (d *Decoder) Element(a *Array) bool {
	c := d.peek()
	if !a.started {
		a.started = true
		if c != '[' {
			d.unexpected("list")
			return false
		}
		if !d.push() {
			return false
		}
		d.pos++
		if d.peek() == ']' {
			d.pos++
			d.depth--
			return false
		}
		return d.err == nil
	}
	switch c {
	case ']':
		d.pos++
		d.depth--
		return false
	case ',':
		d.pos++
		return true
	}
	d.malformed()
	return false
}

func (d *Decoder) isNumber() bool {
	c := d.peek()
	return c == '-' || c >= '0' && c <= '9'
}

// OptString reads a string member; null is absent.
func (d *Decoder) OptString() Opt[string] {
	if d.Null() {
		return Opt[string]{}
	}
	return Some(d.String())
}

// String reads a string.
func (d *Decoder) String() string {
	if d.peek() != '"' {
		d.unexpected("String")
		return ""
	}
	s, _ := d.text()
	return string(s)
}

// OptEnum reads a string member that usually is one of the words of rule, and then needs no memory of its own.
func (d *Decoder) OptEnum(rule *Rule) Opt[string] {
	if d.Null() {
		return Opt[string]{}
	}
	return Some(d.Enum(rule))
}

// Enum reads a string that usually is one of the words of rule.
func (d *Decoder) Enum(rule *Rule) string {
	if d.peek() != '"' {
		d.unexpected("String")
		return ""
	}
	s, _ := d.text()
	for _, w := range rule.Enum {
		if string(s) == w {
			return w
		}
	}
	for _, w := range rule.Accept {
		if string(s) == w {
			return w
		}
	}
	return string(s)
}

// OptBool reads a boolean member; null is absent.
func (d *Decoder) OptBool() Opt[bool] {
	switch d.peek() {
	case 't':
		if d.word("true") {
			return Some(true)
		}
	case 'f':
		if d.word("false") {
			return Some(false)
		}
	case 'n':
		if d.word("null") {
			return Opt[bool]{}
		}
	}
	d.unexpected("Boolean")
	return Opt[bool]{}
}

// OptInt32 reads an integer member; null is absent.
func (d *Decoder) OptInt32() Opt[int32] {
	n, set := d.integer(math.MinInt32, math.MaxInt32, "Integer")
	return Opt[int32]{V: int32(n), Set: set}
}

// OptInt64 reads an integer member; null is absent.
func (d *Decoder) OptInt64() Opt[int64] {
	n, set := d.integer(math.MinInt64, math.MaxInt64, "Long")
	return Opt[int64]{V: n, Set: set}
}

// integer takes integers only: 32.0 and 3.2e1 are refused, because a number that clients and auditors may read in two
// ways has no place in a request.
func (d *Decoder) integer(low, high int64, want string) (int64, bool) {
	if d.Null() {
		return 0, false
	}
	if !d.isNumber() {
		d.unexpected(want)
		return 0, false
	}
	token, integral := d.number()
	if d.err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(string(token), 10, 64)
	if !integral || err != nil || n < low || n > high {
		d.fail(Errorf(CodeSerialization, "NUMBER_VALUE can not be converted to a %s", want))
		return 0, false
	}
	return n, true
}

// OptFloat64 reads a number member; null is absent.
func (d *Decoder) OptFloat64() Opt[float64] {
	if d.Null() {
		return Opt[float64]{}
	}
	if !d.isNumber() {
		d.unexpected("Double")
		return Opt[float64]{}
	}
	token, _ := d.number()
	f, err := strconv.ParseFloat(string(token), 64)
	if d.err == nil && err != nil {
		d.fail(Errorf(CodeSerialization, "NUMBER_VALUE can not be converted to a Double"))
	}
	return Opt[float64]{V: f, Set: d.err == nil}
}

// The years that timestamps may name, as Unix milliseconds: 0001 to 9999.
const (
	minTimeMillis = -62135596800000
	maxTimeMillis = 253402300799999
)

// OptTime reads a timestamp member: seconds since 1970 as a number, rounded to milliseconds, or an ISO 8601 text as RFC
// 3339 profiles it. Null is absent.
func (d *Decoder) OptTime() Opt[time.Time] {
	switch {
	case d.Null():
		return Opt[time.Time]{}
	case d.isNumber():
		seconds := d.OptFloat64()
		ms := math.Round(seconds.V * 1000)
		if ms < minTimeMillis || ms > maxTimeMillis {
			d.badTime()
		}
		if d.err != nil {
			return Opt[time.Time]{}
		}
		return Some(time.UnixMilli(int64(ms)).UTC())
	case d.peek() == '"':
		s, ok := d.text()
		t, err := time.Parse(time.RFC3339Nano, string(s))
		if ok && err != nil {
			d.badTime()
		}
		if d.err != nil {
			return Opt[time.Time]{}
		}
		return Some(t.UTC().Truncate(time.Millisecond))
	}
	d.unexpected("Timestamp")
	return Opt[time.Time]{}
}

func (d *Decoder) badTime() {
	d.fail(Errorf(CodeSerialization, "The value can not be converted to a Timestamp"))
}

// Blob reads a base64 member (RFC 4648, section 4: padded, no white space, no stray bits) into memory of its own; null
// is nil, an empty text an empty slice.
func (d *Decoder) Blob() []byte {
	if d.Null() {
		return nil
	}
	if d.peek() != '"' {
		d.unexpected("Blob")
		return nil
	}
	// Whatever base64 accepts has no quote, escape or foreign octet, so one fast search finds the end in nearly every
	// document; the alphabet check of the decoding is the check of the text.
	rest := d.data[d.pos+1:]
	end := bytes.IndexByte(rest, '"')
	if end < 0 {
		d.malformed()
		return nil
	}
	text := rest[:end]
	if bytes.IndexByte(text, '\\') >= 0 {
		var ok bool
		if text, ok = d.text(); !ok { // an escaped slash, say
			return nil
		}
	} else {
		d.pos += end + 2
	}
	out, ok := decodeBase64(text)
	if !ok {
		d.badBlob()
	}
	return out
}

func (d *Decoder) badBlob() { d.fail(Errorf(CodeSerialization, "The value is not valid base64.")) }

// SecretBlob reads a sensitive base64 member; null is the zero value.
func (d *Decoder) SecretBlob() secret.Bytes { return secret.Take(d.Blob()) }

// SecretString reads a sensitive text member; null is the zero value.
func (d *Decoder) SecretString() secret.Bytes {
	if d.Null() {
		return secret.Bytes{}
	}
	if d.peek() != '"' {
		d.unexpected("String")
		return secret.Bytes{}
	}
	s, ok := d.text()
	if !ok {
		return secret.Bytes{}
	}
	return secret.Take(append(make([]byte, 0, len(s)), s...))
}

// Strings reads a list of strings; null is nil, an empty list is not.
func (d *Decoder) Strings() []string {
	if d.Null() {
		return nil
	}
	list := []string{}
	var a Array
	for d.Element(&a) {
		list = append(list, d.String())
	}
	return list
}

// StringMap reads an object of strings; null is nil, an empty object is not. A name that occurs twice is refused.
func (d *Decoder) StringMap() map[string]string {
	if d.Null() {
		return nil
	}
	m := make(map[string]string)
	var o Object
	for d.Member(&o) {
		name := string(o.Name)
		if _, dup := m[name]; dup {
			d.duplicate()
			return m
		}
		m[name] = d.String()
	}
	return m
}
