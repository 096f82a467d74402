package guard

import (
	"strconv"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/wire"
)

// Facts are condition values that an operation knows of its input.
type Facts struct {
	list []fact
}

// reset forgets everything but memory.
func (f *Facts) reset() {
	clear(f.list)
	f.list = f.list[:0]
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
func (f *Facts) String(name, value string) {
	k := policy.ParseKey(name)
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
func (f *Facts) Strings(name string, values []string) {
	f.list = append(f.list, fact{policy.ParseKey(name), policy.Many(values)})
}

// Int adds a whole number.
func (f *Facts) Int(name string, value int64) { f.String(name, strconv.FormatInt(value, 10)) }

// Bool adds true or false.
func (f *Facts) Bool(name string, value bool) { f.String(name, strconv.FormatBool(value)) }

// circumstances answers the conditions of one decision: facts about the caller, the call and the key, and those of the
// operation's input, which are collected when the first condition is asked.
type circumstances struct {
	call   *Call
	about  Resource
	asked  bool
	inputs Facts
}

// Lookup implements policy.Context. What can never be known here is absent, not empty (kms:ViaService, for one: no
// service calls on behalf of users).
func (c *circumstances) Lookup(k policy.Key) policy.Values {
	if v := c.ofCall(k); v.Len() > 0 {
		return v
	}
	if c.about.Key != nil {
		if v := ofKey(k, c.about.Key); v.Len() > 0 {
			return v
		}
	}
	if k.Name == "kms:requestalias" && c.about.Alias != "" {
		return policy.One(string(c.about.Alias))
	}
	if !c.asked {
		c.asked = true
		if c.about.Facts != nil && c.about.Input != nil {
			c.about.Facts(&c.inputs, c.about.Input)
		}
	}
	for i := range c.inputs.list {
		if c.inputs.list[i].key == k {
			return c.inputs.list[i].values
		}
	}
	return policy.Values{}
}

// ofCall answers the global keys that this server can know, and kms:CallerAccount.
func (c *circumstances) ofCall(k policy.Key) policy.Values {
	who := c.call.Caller
	switch k.Name {
	case "kms:calleraccount", "aws:principalaccount":
		return policy.One(string(who.Account))
	case "aws:principalarn":
		return policy.One(who.ARN)
	case "aws:principaltype":
		return policy.One("Account") // a root user, in the words of the global key
	case "aws:principalisawsservice", "aws:viaawsservice":
		return policy.One("false")
	case "aws:userid":
		return policy.One(who.PrincipalID)
	case "aws:requestedregion":
		return policy.One(string(c.call.Region))
	case "aws:sourceip":
		return policy.One(c.call.SourceIP)
	case "aws:useragent":
		return policy.One(c.call.UserAgent)
	case "aws:securetransport":
		return policy.One(strconv.FormatBool(c.call.TLS != nil))
	case "aws:currenttime":
		return policy.One(c.call.Time.UTC().Format(time.RFC3339))
	case "aws:epochtime":
		return policy.One(strconv.FormatInt(c.call.Time.Unix(), 10))
	case "aws:resourceaccount":
		if c.about.Key != nil {
			return policy.One(string(c.about.Key.Account))
		}
	}
	return policy.Values{}
}

// ofKey answers what conditions can ask about a key.
func ofKey(k policy.Key, about *key.Key) policy.Values {
	switch k.Name {
	case "kms:keyspec", "kms:customermasterkeyspec":
		return policy.One(string(about.Spec))
	case "kms:keyusage", "kms:customermasterkeyusage":
		return policy.One(string(about.Usage))
	case "kms:keyorigin":
		return policy.One(string(about.Origin))
	case "kms:multiregion":
		return policy.One(strconv.FormatBool(about.MultiRegion))
	case "aws:resourcetag":
		var values []string
		for _, t := range about.Tags {
			if strings.EqualFold(t.Key, k.Sub) {
				values = append(values, t.Value)
			}
		}
		return policy.Many(values)
	}
	return policy.Values{}
}
