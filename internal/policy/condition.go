package policy

import (
	"encoding/base64"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// condition is one key of one operator, compiled. Only the list of its operator's family is filled.
type condition struct {
	name     string // as written, for reasons: "ForAnyValue:StringEquals kms:GrantOperations"
	want     []string
	op       *operator
	set      setOperator
	ifExists bool
	never    bool // the key is never present in this kind of policy
	key      Key

	strings []pattern // String…, Binary
	arns    []arnPattern
	numbers []float64
	dates   []time.Time
	bools   []bool // Bool, Null
	nets    []netip.Prefix
}

// setOperator is the prefix of an operator.
type setOperator uint8

const (
	single setOperator = iota
	forAllValues
	forAnyValue
)

// family is the type of value that an operator compares.
type family uint8

const (
	stringFamily family = iota + 1
	numberFamily
	dateFamily
	boolFamily
	binaryFamily
	ipFamily
	arnFamily
	nullFamily
)

// operator is a row of the table of operators.
type operator struct {
	family  family
	negated bool
	fold    bool           // compares without letter case
	like    bool           // * and ? are wildcards
	order   func(int) bool // numbers and dates: whether the sign of (request - policy) satisfies
}

func equal(c int) bool          { return c == 0 }
func less(c int) bool           { return c < 0 }
func lessOrEqual(c int) bool    { return c <= 0 }
func greater(c int) bool        { return c > 0 }
func greaterOrEqual(c int) bool { return c >= 0 }

// operators are all of IAM's (IAM user guide, "IAM JSON policy elements: Condition operators").
var operators = map[string]*operator{
	"StringEquals":              {family: stringFamily},
	"StringNotEquals":           {family: stringFamily, negated: true},
	"StringEqualsIgnoreCase":    {family: stringFamily, fold: true},
	"StringNotEqualsIgnoreCase": {family: stringFamily, fold: true, negated: true},
	"StringLike":                {family: stringFamily, like: true},
	"StringNotLike":             {family: stringFamily, like: true, negated: true},
	"NumericEquals":             {family: numberFamily, order: equal},
	"NumericNotEquals":          {family: numberFamily, order: equal, negated: true},
	"NumericLessThan":           {family: numberFamily, order: less},
	"NumericLessThanEquals":     {family: numberFamily, order: lessOrEqual},
	"NumericGreaterThan":        {family: numberFamily, order: greater},
	"NumericGreaterThanEquals":  {family: numberFamily, order: greaterOrEqual},
	"DateEquals":                {family: dateFamily, order: equal},
	"DateNotEquals":             {family: dateFamily, order: equal, negated: true},
	"DateLessThan":              {family: dateFamily, order: less},
	"DateLessThanEquals":        {family: dateFamily, order: lessOrEqual},
	"DateGreaterThan":           {family: dateFamily, order: greater},
	"DateGreaterThanEquals":     {family: dateFamily, order: greaterOrEqual},
	"Bool":                      {family: boolFamily},
	"BinaryEquals":              {family: binaryFamily},
	"IpAddress":                 {family: ipFamily},
	"NotIpAddress":              {family: ipFamily, negated: true},
	"ArnEquals":                 {family: arnFamily},
	"ArnLike":                   {family: arnFamily},
	"ArnNotEquals":              {family: arnFamily, negated: true},
	"ArnNotLike":                {family: arnFamily, negated: true},
	"Null":                      {family: nullFamily},
}

// conditions compiles a Condition element: operator, key, values.
func (c *compiler) conditions(n *node, place string) ([]condition, *Error) {
	if n.kind != objectNode {
		return nil, malformed(place, "must be an object")
	}
	var list []condition
	for i := range n.members {
		m := &n.members[i]
		at := within(place, m.name)
		proto, err := readOperator(m.name, at)
		if err != nil {
			return nil, err
		}
		if m.value.kind != objectNode {
			return nil, malformed(at, "must be an object")
		}
		for j := range m.value.members {
			k := &m.value.members[j]
			cond := proto
			if err := c.condition(&cond, k, within(at, k.name)); err != nil {
				return nil, err
			}
			cond.name = m.name + " " + k.name
			list = append(list, cond)
		}
	}
	return list, nil
}

// readOperator reads the name of an operator with its prefix and suffix.
func readOperator(name, place string) (c condition, err *Error) {
	base := name
	if rest, ok := strings.CutPrefix(base, "ForAllValues:"); ok {
		c.set, base = forAllValues, rest
	} else if rest, ok := strings.CutPrefix(base, "ForAnyValue:"); ok {
		c.set, base = forAnyValue, rest
	}
	base, c.ifExists = strings.CutSuffix(base, "IfExists")
	c.op = operators[base]
	if c.op == nil || c.op.family == nullFamily && (c.ifExists || c.set != single) {
		return c, malformed(place, "is not a condition operator")
	}
	return c, nil
}

// condition compiles one key and its values.
func (c *compiler) condition(cond *condition, m *member, place string) (err *Error) {
	cond.key = ParseKey(m.name)
	if !strings.Contains(m.name, ":") || strings.Contains(m.name, "${") {
		return malformed(place, "is not a condition key")
	}
	if c.kind == KeyPolicy {
		if err := checkPermissive(cond, place); err != nil {
			return err
		}
		// The aliases of a key are no ground for its own policy (KMS developer guide, kms:ResourceAliases).
		cond.never = cond.key.Name == "kms:resourcealiases"
	}
	if cond.want, err = m.value.scalars(place); err != nil {
		return err
	}
	for _, v := range cond.want {
		if err := c.conditionValue(cond, v, place); err != nil {
			return err
		}
	}
	return nil
}

// checkPermissive refuses ForAllValues with keys that have one value: it would be true when the key is absent.
func checkPermissive(cond *condition, place string) *Error {
	if cond.set != forAllValues || cond.key.Sub == "" {
		return nil
	}
	prefix, thing := "", ""
	switch cond.key.Name {
	case "kms:encryptioncontext":
		prefix, thing = "EncryptionContext", "encryption context"
	case "aws:resourcetag", "aws:requesttag":
		prefix, thing = "Tag", "tag"
	default:
		return nil
	}
	return &Error{OverlyPermissive, place, "OverlyPermissiveCondition:" + prefix + ": Using the ForAllValues set operator with a " +
		"single-valued condition key matches requests without the specified " + thing + " or with an unspecified " + thing +
		". To fix, remove ForAllValues."}
}

// conditionValue compiles one value for the family of the operator.
func (c *compiler) conditionValue(cond *condition, v, place string) *Error {
	bad := func(what string) *Error { return malformed(place, "'"+v+"' is not "+what) }
	switch cond.op.family {
	case stringFamily:
		lang := c.lang
		lang.wildcards = cond.op.like
		p, err := lang.compile(place, v)
		if err != nil {
			return err
		}
		cond.strings = append(cond.strings, p)
	case binaryFamily:
		if _, err := base64.StdEncoding.DecodeString(v); err != nil {
			return bad("Base64")
		}
		cond.strings = append(cond.strings, pattern{text: v})
	case arnFamily:
		p, err := c.lang.compileARN(place, v, false)
		if err != nil {
			return err
		}
		cond.arns = append(cond.arns, p)
	case numberFamily:
		f, ok := parseNumber(v)
		if !ok {
			return bad("a number")
		}
		cond.numbers = append(cond.numbers, f)
	case dateFamily:
		t, ok := parseDate(v)
		if !ok {
			return bad("a date")
		}
		cond.dates = append(cond.dates, t)
	case boolFamily, nullFamily:
		b := strings.EqualFold(v, "true")
		if !b && !strings.EqualFold(v, "false") {
			return bad("true or false")
		}
		cond.bools = append(cond.bools, b)
	case ipFamily:
		n, ok := parseNet(v)
		if !ok {
			return bad("an IP address or range")
		}
		cond.nets = append(cond.nets, n)
	}
	return nil
}

// holds reports whether the condition is true for the request.
func (c *condition) holds(ctx Context) bool {
	var v Values
	if !c.never {
		v = lookup(ctx, c.key)
	}
	n := v.Len()
	empty := n == 1 && v.At(0) == ""
	if c.op.family == nullFamily {
		absent := n == 0 || empty
		for _, want := range c.bools {
			if want == absent {
				return true
			}
		}
		return false
	}
	if n == 0 || empty && c.set == forAllValues {
		switch {
		case c.ifExists || c.set == forAllValues:
			return true
		case c.set == forAnyValue:
			return false
		}
		return c.op.negated
	}
	// Without a prefix, several request values count as alternatives: one match makes a positive operator true and a
	// negated one false.
	all := c.set == forAllValues || c.set == single && c.op.negated
	for i := range n {
		if ok := c.matches(v.At(i), ctx) != c.op.negated; ok != all {
			return ok
		}
	}
	return all
}

// matches compares one value of the request with those of the policy, which are alternatives. Negation is left to holds.
func (c *condition) matches(v string, ctx Context) bool {
	switch c.op.family {
	case stringFamily, binaryFamily:
		for i := range c.strings {
			if c.strings[i].match(v, ctx, c.op.fold) {
				return true
			}
		}
	case arnFamily:
		for i := range c.arns {
			if c.arns[i].match(v, ctx) {
				return true
			}
		}
	case numberFamily:
		f, ok := parseNumber(v)
		for i := range c.numbers {
			if ok && c.op.order(compare(f, c.numbers[i])) {
				return true
			}
		}
	case dateFamily:
		t, ok := parseDate(v)
		for i := range c.dates {
			if ok && c.op.order(t.Compare(c.dates[i])) {
				return true
			}
		}
	case boolFamily:
		b := strings.EqualFold(v, "true")
		for _, want := range c.bools {
			if want == b && (b || strings.EqualFold(v, "false")) {
				return true
			}
		}
	case ipFamily:
		a, err := netip.ParseAddr(v)
		for _, n := range c.nets {
			if err == nil && n.Contains(a.Unmap().WithZone("")) {
				return true
			}
		}
	}
	return false
}

func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// parseNumber reads a decimal number; the words and hexadecimal forms that strconv also knows are none.
func parseNumber(s string) (float64, bool) {
	if s == "" || strings.Trim(s, "0123456789+-.eE") != "" {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil
}

// dateForms are the ISO 8601 forms that IAM takes (W3C profile), with and without a zone.
var dateForms = [...]string{
	time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02", "2006-01",
}

// parseDate reads an ISO 8601 date, or seconds since the epoch.
func parseDate(s string) (time.Time, bool) {
	for _, form := range dateForms {
		if len(s) > 4 && s[4] == '-' {
			if t, err := time.Parse(form, s); err == nil {
				return t, true
			}
		}
	}
	f, ok := parseNumber(s)
	if !ok || math.Abs(f) > 1e12 {
		return time.Time{}, false
	}
	return time.UnixMicro(int64(math.Round(f * 1e6))), true // f is no more exact than that: 0.123 s must be the 123 ms of an ISO date
}

// parseNet reads an address or a range in CIDR form, version 4 or 6.
func parseNet(s string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), a.Zone() == ""
	}
	n, err := netip.ParsePrefix(s)
	return n.Masked(), err == nil
}
