package policydiff_test

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/policy"
)

// exception is a way in which the other engine may differ, which docs/divergences.md explains. It holds for a question that
// has nothing left which the difference does not need, and that has the whole cause in it.
//
// reword says the same in words about which the engines do not differ, as we understand them; it reports false if the cause
// is not there. The other engine's verdict on that must be ours on the question: so an exception excuses nothing but what it
// says, and a fault of ours does not hide behind it.
type exception struct {
	name   string
	most   int // how many of the run's 12,000 questions it may explain; longer runs in proportion
	reword func(*question) bool
}

// exceptions are tried in order.
var exceptions = []exception{
	{"Null of an empty value", 60, about(func(q *question, c *condition, have []string) bool {
		delete(q.context, q.contextKey(c.key)) // is absent
		return c.operator == "Null" && slices.Equal(have, []string{""})
	})},
	{"ForAnyValue…IfExists of an absent key", 120, about(func(q *question, c *condition, have []string) bool {
		return strings.HasPrefix(c.operator, "ForAnyValue:") && strings.HasSuffix(c.operator, "IfExists") && len(have) == 0 && q.decide(true)
	})},
	{"literal with an operator without wildcards", 20, about(func(q *question, c *condition, _ []string) bool {
		return q.version == policy.Version2012 && strings.Contains(c.operator, "Equals") && replaceAny(c.values, "${*}", "*", "${?}", "?", "${$}", "$")
	})},
	{"negated operator, variable without a value", 250, about(func(q *question, c *condition, have []string) bool {
		return negated(c) && len(have) > 0 && len(c.values) == 1 && q.without(c.values[0]) && q.decide(true)
	})},
	{"negated operator, value of another type", 120, about(func(q *question, c *condition, have []string) bool {
		return negated(c) && len(have) == 1 && !fits(c, have[0]) && !slices.Contains(c.values, "*") && q.decide(true)
	})},
	{"ForAllValues of an empty value", 15, about(func(q *question, c *condition, have []string) bool {
		return strings.HasPrefix(c.operator, "ForAllValues:") && slices.Equal(have, []string{""}) && q.decide(true)
	})},
	{"NotPrincipal with Deny", 70, bare(func(q *question, s *statement) bool {
		if !s.notPrincipal || s.effect != "Deny" || !slices.ContainsFunc(s.principals, func(p principal) bool { return names(q.caller, p) != "" }) || spared(q.caller, s.principals) {
			return false
		}
		s.principals, s.notPrincipal = []principal{{"", "*"}}, false
		return true
	})},
	{"incomplete ARN as NotResource", 40, bare(func(_ *question, s *statement) bool {
		return s.notResource && complete(s.resources)
	})},
	{"wildcard in the type of a resource", 40, bare(func(q *question, s *statement) bool {
		if len(s.resources) != 1 || !strings.Contains(typeOf(s.resources[0]), "*") {
			return false
		}
		if !glob(s.resources[0], q.resource) {
			s.notResource = !s.notResource
		}
		s.resources = []string{"*"}
		return true
	})},
	{"multivalued key as a variable", 10, about(func(q *question, c *condition, _ []string) bool {
		return slices.Equal(c.values, []string{"${aws:TagKeys}"}) && len(q.context["aws:TagKeys"]) == 1 && q.fillIn(c)
	})},
	{"several values without a set operator", 100, about(func(_ *question, c *condition, have []string) bool {
		if strings.Contains(c.operator, ":") || !isMultivalued(c.key) || len(have) == 0 {
			return false
		}
		if negated(c) {
			c.operator = "ForAllValues:" + c.operator
		} else {
			c.operator = "ForAnyValue:" + c.operator
		}
		return true
	})},
	{"variables in the older version", 40, func(q *question) bool {
		return q.version == policy.Version2008 && q.dollarsAsText()
	}},
	{"dates in seconds since 1970", 50, about(func(_ *question, c *condition, have []string) bool {
		const seconds, date = "1795406400", "2026-11-23T04:00:00Z"
		if strings.Contains(c.operator, "Date") && slices.Contains(c.values, seconds) != slices.Contains(have, seconds) {
			return replaceAny(c.values, seconds, date) || replaceAny(have, seconds, date)
		}
		return false
	})},
	{"a range of all addresses", 60, about(func(_ *question, c *condition, have []string) bool {
		if !strings.Contains(c.operator, "IpAddress") || len(have) != 1 || !fits(c, have[0]) || !slices.Equal(c.values, []string{"0.0.0.0/0"}) {
			return false
		}
		c.values = []string{"0.0.0.0/1", "128.0.0.0/1"}
		return true
	})},
	{"ARN pattern that is no ARN", 90, about(func(q *question, c *condition, have []string) bool {
		if !strings.Contains(c.operator, "Arn") || len(c.values) != 1 || strings.Count(c.values[0], ":") >= 5 || len(have) == 0 || slices.Equal(have, c.values) {
			return false
		}
		return q.decide((c.values[0] == "*") != negated(c))
	})},
	{"addresses without a prefix length", 70, about(func(_ *question, c *condition, _ []string) bool {
		if !strings.Contains(c.operator, "IpAddress") || len(c.values) != 1 {
			return false
		}
		a, err := netip.ParseAddr(c.values[0])
		if err != nil {
			return false
		}
		c.values[0] = netip.PrefixFrom(a, a.BitLen()).String()
		return true
	})},
	{"resource that begins with a variable", 35, bare(func(q *question, s *statement) bool {
		if q.version != policy.Version2012 || len(s.resources) != 1 || !strings.HasPrefix(s.resources[0], "arn:aws:sqs:*:*:${") {
			return false
		}
		text, ok := q.filled(s.resources[0], true)
		if !ok { // matches nothing
			text, s.notResource = "*", !s.notResource
		}
		s.resources[0] = text
		return true
	})},
	{"variable in a condition on an ARN", 15, about(func(q *question, c *condition, have []string) bool {
		return strings.Contains(c.operator, "Arn") && len(have) > 0 && q.fillIn(c)
	})},
	{"variable with an empty value", 10, about(func(q *question, c *condition, _ []string) bool {
		empty := func(v variable) bool { return slices.Equal(q.value(v.key), []string{""}) }
		return slices.ContainsFunc(c.values, func(v string) bool { return slices.ContainsFunc(variables(v), empty) }) && q.fillIn(c)
	})},
	{"forms of numbers", 70, about(func(_ *question, c *condition, have []string) bool {
		if !strings.Contains(c.operator, "Numeric") {
			return false
		}
		changed := replaceAny(c.values, "1e2", "100")
		return replaceAny(have, "1e2", "100", "7 ", "seven") || changed
	})},
}

// about makes a rewording of one about the only condition of the only statement, and what the request has for it.
func about(reword func(q *question, c *condition, have []string) bool) func(*question) bool {
	return func(q *question) bool {
		if len(q.statements) != 1 || len(q.statements[0].conditions) != 1 {
			return false
		}
		c := &q.statements[0].conditions[0]
		return reword(q, c, q.value(c.key))
	}
}

// bare makes a rewording of one about the only statement, which has no conditions.
func bare(reword func(*question, *statement) bool) func(*question) bool {
	return func(q *question) bool {
		return len(q.statements) == 1 && len(q.statements[0].conditions) == 0 && reword(q, &q.statements[0])
	}
}

func negated(c *condition) bool { return strings.Contains(c.operator, "Not") }

// fits reports whether a value of the request has the type that the operator compares.
func fits(c *condition, v string) bool {
	switch {
	case strings.Contains(c.operator, "IpAddress"):
		_, err := netip.ParseAddr(v)
		return err == nil
	case strings.Contains(c.operator, "Numeric"):
		return v != "" && v != "seven" && v != "7 "
	case strings.Contains(c.operator, "Date"):
		return v != "tomorrow"
	case strings.Contains(c.operator, "Arn"):
		return strings.Count(v, ":") >= 5
	}
	return true
}

func isMultivalued(key string) bool {
	return slices.ContainsFunc(multivalued, func(k string) bool { return strings.EqualFold(k, key) })
}

// contextKey returns a key as the request spells it.
func (q *question) contextKey(key string) string {
	for k := range q.context {
		if strings.EqualFold(k, key) {
			return k
		}
	}
	return ""
}

// value returns what the request has for a key.
func (q *question) value(key string) []string { return q.context[q.contextKey(key)] }

// decide puts one that is true, or false, in the place of the only condition. It reports true.
func (q *question) decide(holds bool) bool {
	q.statements[0].conditions = nil
	if !holds {
		delete(q.context, "kms:ViaService")
		q.statements[0].conditions = []condition{{"StringEquals", "kms:ViaService", []string{"nothing"}}}
	}
	return true
}

// replaceAny replaces texts, given in pairs, in all values, and reports whether there were any.
func replaceAny(values []string, pairs ...string) bool {
	changed := false
	for i, v := range values {
		values[i] = strings.NewReplacer(pairs...).Replace(v)
		changed = changed || values[i] != v
	}
	return changed
}

// variable is ${key} or ${key, 'fallback'} in a text.
type variable struct{ text, key, fallback string }

var variableForm = regexp.MustCompile(`\$\{([\w:/]+)(?:, '([^']*)')?\}`)

func variables(text string) (list []variable) {
	for _, m := range variableForm.FindAllStringSubmatch(text, -1) {
		list = append(list, variable{m[0], m[1], m[2]})
	}
	return list
}

// without reports whether a text has a variable for which there is no value, nor a default, or more than one value.
func (q *question) without(text string) bool {
	_, ok := q.filled(text, false)
	return !ok
}

// filled returns a text with the values of its variables; false if there is none for one of them. Where there are wildcards,
// those of a value are none.
func (q *question) filled(text string, wildcards bool) (string, bool) {
	if q.version != policy.Version2012 {
		return text, true
	}
	for _, v := range variables(text) {
		value := v.fallback
		switch have := q.value(v.key); {
		case len(have) == 1:
			value = have[0]
		case len(have) > 1 || value == "":
			return "", false
		}
		if wildcards {
			value = strings.NewReplacer("*", "${*}", "?", "${?}", "$", "${$}").Replace(value)
		}
		text = strings.Replace(text, v.text, value, 1)
	}
	return text, true
}

// fillIn fills in the variables of the only condition's only value; false if there are none.
func (q *question) fillIn(c *condition) bool {
	if q.version != policy.Version2012 || len(c.values) != 1 || len(variables(c.values[0])) == 0 {
		return false
	}
	text, ok := q.filled(c.values[0], strings.Contains(c.operator, "Like") || strings.Contains(c.operator, "Arn"))
	if !ok {
		return q.decide(negated(c))
	}
	c.values[0] = text
	return true
}

// dollarsAsText makes ${ something that is no variable to anybody, everywhere; false if there is none.
func (q *question) dollarsAsText() bool {
	changed := false
	for i := range q.statements {
		s := &q.statements[i]
		changed = replaceAny(s.resources, "${", "#{") || changed
		for _, c := range s.conditions {
			changed = replaceAny(c.values, "${", "#{") || changed
		}
	}
	for _, v := range q.context {
		replaceAny(v, "${", "#{")
	}
	return changed
}

// names returns which of a caller's names in a key policy the entry is: "itself", "role" or "account"; "" if it is none.
func names(caller string, p principal) string {
	c := callers[caller]
	switch {
	case c == nil:
		return ""
	case p.kind == "Service":
		if c.Service == p.value {
			return "itself"
		}
	case c.Account != "" && (p.value == c.Account || p.value == "arn:aws:iam::"+c.Account+":root"):
		return "account"
	case p.value == c.ARN:
		return "itself"
	case p.value == c.RoleARN && p.value != "":
		return "role"
	}
	return ""
}

// spared reports whether a Deny with these in NotPrincipal is not for a caller: if all of its names are there, or everybody.
func spared(caller string, list []principal) bool {
	missing := map[string]bool{"itself": true, "account": true, "role": callers[caller].RoleARN != ""}
	if caller == "root" {
		delete(missing, "itself") // is its account
	}
	if caller == "service" {
		delete(missing, "account")
	}
	for _, p := range list {
		if p.value == "*" {
			return true
		}
		delete(missing, names(caller, p))
	}
	for _, m := range missing {
		if m {
			return false
		}
	}
	return true
}

// complete adds the parts that ARNs lack; false if none does.
func complete(resources []string) bool {
	changed := false
	for i, r := range resources {
		if r == "*" {
			continue
		}
		if n := strings.Count(r, ":"); n < 5 {
			resources[i], changed = r+strings.Repeat(":*", 5-n), true
		}
	}
	return changed
}

// typeOf returns what a resource has before the slash after its last colon.
func typeOf(resource string) string {
	parts := strings.SplitN(resource, ":", 6)
	kind, _, typed := strings.Cut(parts[len(parts)-1], "/")
	if !typed {
		return ""
	}
	return kind
}

// glob compares an ARN with a pattern, part by part.
func glob(pattern, arn string) bool {
	want, have := strings.SplitN(pattern, ":", 6), strings.SplitN(arn, ":", 6)
	if len(want) != len(have) {
		return false
	}
	for i := range want {
		if form := strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(want[i])); !regexp.MustCompile("^" + form + "$").MatchString(have[i]) {
			return false
		}
	}
	return true
}
