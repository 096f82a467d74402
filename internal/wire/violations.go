package wire

import (
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/keywright/keywright/internal/secret"
)

// Violations collects what an input breaks, worded as the service words it. It allocates only once something is wrong.
type Violations struct {
	found []string
	path  [maxPath]segment
	depth int
}

// maxFound bounds how many violations one answer lists, so that a request full of broken list elements does not get an
// answer many times its own size.
const maxFound = 64

// maxPath is how deep modelled inputs nest; the generator refuses a model that nests deeper.
const maxPath = 8

type segment struct {
	name  string
	index int // 1-based place in a list; 0: not a list
}

var violations = sync.Pool{New: func() any { return new(Violations) }}

// Validate checks an input against its model. The error is a ValidationException that names every violation, in the
// order of the model.
func Validate(in Input) *Error {
	v := violations.Get().(*Violations)
	in.Validate(v)
	err := v.Err()
	*v = Violations{}
	violations.Put(v)
	return err
}

// Err returns the ValidationException for what was found, or nil.
func (v *Violations) Err() *Error {
	switch n := len(v.found); n {
	case 0:
		return nil
	case 1:
		return &Error{Code: CodeValidation, Message: "1 validation error detected: " + v.found[0]}
	default:
		return &Error{
			Code:    CodeValidation,
			Message: strconv.Itoa(n) + " validation errors detected: " + strings.Join(v.found, "; "),
		}
	}
}

// Enter steps into a structure member; index is its 1-based place if it is an element of a list member, else 0.
func (v *Violations) Enter(name string, index int) {
	v.path[v.depth] = segment{name, index}
	v.depth++
}

// Leave steps back out.
func (v *Violations) Leave() { v.depth-- }

// Null reports a required member that is absent.
func (v *Violations) Null(name string) { v.null(name, nil) }

func (v *Violations) null(name string, r *Rule) {
	if r != nil && r.Sensitive {
		v.add(name, "", "Member must not be null")
		return
	}
	v.add(name, " null", "Member must not be null")
}

// add words one violation; shown is the value as printed, with a leading space, or empty if it is not shown.
func (v *Violations) add(name, shown, constraint string) {
	if len(v.found) >= maxFound {
		return
	}
	var b strings.Builder
	b.WriteString("Value")
	b.WriteString(shown)
	b.WriteString(" at '")
	for _, s := range v.path[:v.depth] {
		b.WriteString(s.name)
		if s.index > 0 {
			b.WriteByte('.')
			b.WriteString(strconv.Itoa(s.index))
			b.WriteString(".member")
		}
		b.WriteByte('.')
	}
	b.WriteString(name)
	b.WriteString("' failed to satisfy constraint: ")
	b.WriteString(constraint)
	v.found = append(v.found, b.String())
}

func quoted(s string) string { return " '" + s + "'" }

// String checks a text member.
func (v *Violations) String(name string, o Opt[string], required bool, r *Rule) {
	if !o.Set {
		if required {
			v.null(name, r)
		}
		return
	}
	if r != nil {
		v.text(name, o.V, r)
	}
}

func (v *Violations) text(name, s string, r *Rule) {
	if !r.okLength(textLength(s, r)) || !r.okText(s) {
		shown := ""
		if !r.Sensitive {
			shown = quoted(s)
		}
		v.length(name, shown, textLength(s, r), r)
		if r.Pattern != nil && !r.Pattern.Match(s) {
			v.add(name, shown, r.wordPattern())
		}
		if r.Enum != nil && !r.member(s) {
			v.add(name, shown, r.wordEnum())
		}
	}
}

// textLength counts code points, as Smithy defines the length of a string, but only where a limit asks for it.
func textLength(s string, r *Rule) int64 {
	if !r.HasMin && !r.HasMax {
		return 0
	}
	return int64(utf8.RuneCountInString(s))
}

func (r *Rule) okLength(n int64) bool { return (!r.HasMin || n >= r.Min) && (!r.HasMax || n <= r.Max) }

func (r *Rule) okText(s string) bool {
	return (r.Pattern == nil || r.Pattern.Match(s)) && (r.Enum == nil || r.member(s))
}

func (r *Rule) wordMin() string {
	return "Member must have length greater than or equal to " + strconv.FormatInt(r.Min, 10)
}

func (r *Rule) wordMax() string {
	return "Member must have length less than or equal to " + strconv.FormatInt(r.Max, 10)
}

func (r *Rule) wordPattern() string {
	return "Member must satisfy regular expression pattern: " + r.Pattern.Text
}

func (r *Rule) wordEnum() string {
	return "Member must satisfy enum value set: [" + strings.Join(r.Enum, ", ") + "]"
}

func (v *Violations) length(name, shown string, n int64, r *Rule) {
	if r.HasMin && n < r.Min {
		v.add(name, shown, r.wordMin())
	}
	if r.HasMax && n > r.Max {
		v.add(name, shown, r.wordMax())
	}
}

// SecretString checks a sensitive text member; its value is never shown.
func (v *Violations) SecretString(name string, s secret.Bytes, required bool, r *Rule) {
	if s.IsZero() {
		if required {
			v.null(name, r)
		}
		return
	}
	if r == nil {
		return
	}
	n := int64(utf8.RuneCount(s.Expose()))
	v.length(name, "", n, r)
	if r.Pattern != nil && !r.Pattern.Match(string(s.Expose())) {
		v.add(name, "", r.wordPattern())
	}
}

// Blob checks a member of octets; its value is never shown.
func (v *Violations) Blob(name string, b []byte, required bool, r *Rule) {
	if b == nil {
		if required {
			v.null(name, r)
		}
		return
	}
	if r != nil {
		v.length(name, "", int64(len(b)), r)
	}
}

// SecretBlob checks a sensitive member of octets; its value is never shown.
func (v *Violations) SecretBlob(name string, s secret.Bytes, required bool, r *Rule) {
	if s.IsZero() {
		if required {
			v.null(name, r)
		}
		return
	}
	if r != nil {
		v.length(name, "", int64(s.Len()), r)
	}
}

// Bool checks a boolean member.
func (v *Violations) Bool(name string, o Opt[bool], required bool) {
	if !o.Set && required {
		v.null(name, nil)
	}
}

// Int32 checks an integer member.
func (v *Violations) Int32(name string, o Opt[int32], required bool, r *Rule) {
	v.Int64(name, Opt[int64]{V: int64(o.V), Set: o.Set}, required, r)
}

// Int64 checks an integer member.
func (v *Violations) Int64(name string, o Opt[int64], required bool, r *Rule) {
	switch {
	case !o.Set:
		if required {
			v.null(name, r)
		}
	case r == nil:
	case r.HasMin && o.V < r.Min:
		v.add(name, quoted(strconv.FormatInt(o.V, 10)),
			"Member must have value greater than or equal to "+strconv.FormatInt(r.Min, 10))
	case r.HasMax && o.V > r.Max:
		v.add(name, quoted(strconv.FormatInt(o.V, 10)),
			"Member must have value less than or equal to "+strconv.FormatInt(r.Max, 10))
	}
}

// Present checks that a required member of a kind without further constraints is there.
func (v *Violations) Present(name string, there bool) {
	if !there {
		v.null(name, nil)
	}
}

// List checks the number of elements of a list of structures. Its elements check themselves after Enter.
func (v *Violations) List(name string, there bool, n int, required bool, r *Rule) {
	if !there {
		if required {
			v.null(name, r)
		}
		return
	}
	if r != nil {
		v.length(name, "", int64(n), r)
	}
}

// Strings checks a list of texts: its length, and each element. The service reports broken elements once for the
// whole list, with every constraint an element has.
func (v *Violations) Strings(name string, list []string, required bool, r *Rule) {
	if list == nil {
		if required {
			v.null(name, r)
		}
		return
	}
	if r == nil {
		return
	}
	if !r.okLength(int64(len(list))) {
		v.length(name, r.showList(list), int64(len(list)), r)
	}
	if e := r.Elem; e != nil {
		for _, s := range list {
			if !e.okLength(textLength(s, e)) || !e.okText(s) {
				v.add(name, r.showList(list), "Member must satisfy constraint: ["+e.words()+"]")
				return
			}
		}
	}
}

func (r *Rule) showList(list []string) string {
	if r.Sensitive || r.Elem != nil && r.Elem.Sensitive {
		return ""
	}
	return " '[" + strings.Join(list, ", ") + "]'"
}

// words lists every constraint of a text, longest first as the service does.
func (r *Rule) words() string {
	var all []string
	if r.HasMax {
		all = append(all, r.wordMax())
	}
	if r.HasMin {
		all = append(all, r.wordMin())
	}
	if r.Pattern != nil {
		all = append(all, r.wordPattern())
	}
	if r.Enum != nil {
		all = append(all, r.wordEnum())
	}
	return strings.Join(all, ", ")
}

// StringMap checks a map of texts: its size, its keys and its values. Keys and values are not shown.
func (v *Violations) StringMap(name string, m map[string]string, required bool, r *Rule) {
	if m == nil {
		if required {
			v.null(name, r)
		}
		return
	}
	if r == nil {
		return
	}
	v.length(name, "", int64(len(m)), r)
	badKey, badValue := false, false
	for key, value := range m {
		badKey = badKey || r.Key != nil && (!r.Key.okLength(textLength(key, r.Key)) || !r.Key.okText(key))
		badValue = badValue || r.Value != nil && (!r.Value.okLength(textLength(value, r.Value)) || !r.Value.okText(value))
	}
	if badKey {
		v.add(name, "", "Map keys must satisfy constraint: ["+r.Key.words()+"]")
	}
	if badValue {
		v.add(name, "", "Map value must satisfy constraint: ["+r.Value.words()+"]")
	}
}
