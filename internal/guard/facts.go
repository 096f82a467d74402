package guard

import (
	"strconv"

	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/wire"
)

// Facts are condition values that an operation knows of its input.
type Facts struct {
	list  []fact
	later []later
}

// later adds facts with keys of one name once they are asked for.
type later struct {
	name string
	more func(*Facts)
}

// reset forgets everything but memory.
func (f *Facts) reset() {
	clear(f.list)
	f.list = f.list[:0]
	clear(f.later)
	f.later = f.later[:0]
}

// find returns the values of a key.
func (f *Facts) find(k policy.Key) policy.Values {
	for i := range f.later {
		if l := f.later[i]; l.more != nil && l.name == k.Name {
			f.later[i].more = nil
			l.more(f)
		}
	}
	for i := range f.list {
		if f.list[i].key == k {
			return f.list[i].values
		}
	}
	return policy.Values{}
}

type fact struct {
	key    policy.Key
	values policy.Values
}

// FactSource adds what it knows of an operation's input. It is called only when a policy asks a condition.
type FactSource func(*Facts, wire.Input)

// String adds a key with a single value. Names are those of documents, such as kms:EncryptionContext:stage. Names that
// differ in letter case only are one key to a policy: it then has all of their values, so that a caller cannot hide one
// behind another.
func (f *Facts) String(name, value string) { f.Add(policy.ParseKey(name), value) }

// Add is String for a key that was parsed before, which is what takes the time.
func (f *Facts) Add(k policy.Key, value string) {
	for i := range f.list {
		if f.list[i].key == k {
			f.list[i].values = policy.Many(append(all(f.list[i].values), value))
			return
		}
	}
	f.list = append(f.list, fact{k, policy.One(value)})
}

func all(v policy.Values) []string {
	var list []string
	for i := range v.Len() {
		list = append(list, v.At(i))
	}
	return list
}

// Strings adds a key with several values. No values is the same as no key.
func (f *Facts) Strings(name string, values []string) { f.AddMany(policy.ParseKey(name), values) }

// AddMany is Strings for a key that was parsed before.
func (f *Facts) AddMany(k policy.Key, values []string) {
	f.list = append(f.list, fact{k, policy.Many(values)})
}

// Later has more called when a condition asks for a key of the given name, whatever its free part, and not before.
func (f *Facts) Later(name string, more func(*Facts)) {
	f.later = append(f.later, later{policy.ParseKey(name).Name, more})
}

// Int adds a whole number.
func (f *Facts) Int(name string, value int64) { f.String(name, strconv.FormatInt(value, 10)) }

// Bool adds true or false.
func (f *Facts) Bool(name string, value bool) { f.String(name, strconv.FormatBool(value)) }
