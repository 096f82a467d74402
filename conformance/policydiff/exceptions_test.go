package policydiff_test

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/policy"
)

// exception is a reason for which the other engine may differ, which docs/divergences.md explains. It looks at a question
// that has nothing left which the difference does not need.
type exception struct {
	name    string
	applies func(*question) bool
}

// exceptions are tried in order.
var exceptions = []exception{
	{"Null of an empty value", about(func(c condition, have []string) bool {
		return c.operator == "Null" && len(have) == 1 && have[0] == ""
	})},
	{"ForAnyValue…IfExists of an absent key", about(func(c condition, have []string) bool {
		return strings.HasPrefix(c.operator, "ForAnyValue:") && strings.HasSuffix(c.operator, "IfExists") && len(have) == 0
	})},
	{"literal with an operator without wildcards", about(func(c condition, _ []string) bool {
		literal := func(v string) bool {
			return strings.Contains(v, "${*}") || strings.Contains(v, "${?}") || strings.Contains(v, "${$}")
		}
		return strings.Contains(c.operator, "Equals") && slices.ContainsFunc(c.values, literal)
	})},
	{"negated operator, variable without a value", about(func(c condition, _ []string) bool {
		return negated(c) && slices.ContainsFunc(c.values, func(v string) bool { return strings.Contains(v, "${") })
	})},
	{"negated operator, value of another type", about(func(c condition, have []string) bool {
		return negated(c) && slices.ContainsFunc(have, func(v string) bool { return !fits(c, v) })
	})},
	{"ForAllValues of an empty value", about(func(c condition, have []string) bool {
		return strings.HasPrefix(c.operator, "ForAllValues:") && len(have) == 1 && have[0] == ""
	})},
	{"NotPrincipal with Deny", bare(func(s statement) bool { return s.notPrincipal && s.effect == "Deny" })},
	{"incomplete ARN as NotResource", bare(func(s statement) bool {
		return s.notResource && slices.ContainsFunc(s.resources, func(r string) bool { return r != "*" && strings.Count(r, ":") < 5 })
	})},
	{"wildcard in the type of a resource", bare(func(s statement) bool {
		return slices.ContainsFunc(s.resources, func(r string) bool {
			parts := strings.SplitN(r, ":", 6)
			kind, _, typed := strings.Cut(parts[len(parts)-1], "/")
			return typed && strings.Contains(kind, "*")
		})
	})},
	{"multivalued key as a variable", about(func(c condition, _ []string) bool {
		return slices.Contains(c.values, "${aws:TagKeys}") && !negated(c)
	})},
	{"several values without a set operator", about(func(c condition, _ []string) bool {
		return !strings.Contains(c.operator, ":") && isMultivalued(c.key)
	})},
	{"variables in the older version", func(q *question) bool {
		return q.version == policy.Version2008 && strings.Contains(string(q.document()), "${")
	}},
	{"dates in seconds since 1970", about(func(c condition, have []string) bool {
		const seconds = "1795406400"
		return strings.Contains(c.operator, "Date") && slices.Contains(c.values, seconds) != slices.Contains(have, seconds)
	})},
	{"a range of all addresses", about(func(c condition, _ []string) bool {
		return strings.Contains(c.operator, "IpAddress") && slices.Equal(c.values, []string{"0.0.0.0/0"})
	})},
	{"ARN pattern that is no ARN", about(func(c condition, _ []string) bool {
		return strings.Contains(c.operator, "Arn") && slices.ContainsFunc(c.values, func(v string) bool { return strings.Count(v, ":") < 5 })
	})},
	{"addresses without a prefix length", about(func(c condition, _ []string) bool {
		return strings.Contains(c.operator, "IpAddress") && !strings.Contains(strings.Join(c.values, ""), "/")
	})},
	{"resource that begins with a variable", bare(func(s statement) bool {
		return len(s.resources) == 1 && strings.HasPrefix(s.resources[0], "arn:aws:sqs:*:*:${")
	})},
	{"variable in a condition on an ARN", about(func(c condition, _ []string) bool {
		return strings.Contains(c.operator, "Arn") && slices.ContainsFunc(c.values, func(v string) bool { return strings.Contains(v, "${") })
	})},
	{"variable with an empty value", func(q *question) bool {
		for k, v := range q.context {
			if v[0] == "" && strings.Contains(strings.ToLower(string(q.document())), "${"+strings.ToLower(k)) {
				return true
			}
		}
		return false
	}},
	{"forms of numbers", about(func(c condition, have []string) bool {
		odd := func(v string) bool { return v == "1e2" || v == "7 " }
		return strings.Contains(c.operator, "Numeric") && (slices.ContainsFunc(c.values, odd) || slices.ContainsFunc(have, odd))
	})},
}

// about makes a predicate of one about the only condition of the only statement, and what the request has for it.
func about(applies func(c condition, have []string) bool) func(*question) bool {
	return func(q *question) bool {
		if len(q.statements) != 1 || len(q.statements[0].conditions) != 1 {
			return false
		}
		c := q.statements[0].conditions[0]
		var have []string
		for k, v := range q.context {
			if strings.EqualFold(k, c.key) {
				have = v
			}
		}
		return applies(c, have)
	}
}

func negated(c condition) bool { return strings.Contains(c.operator, "Not") }

// bare makes a predicate of one about the only statement, which has no conditions.
func bare(applies func(statement) bool) func(*question) bool {
	return func(q *question) bool {
		return len(q.statements) == 1 && len(q.statements[0].conditions) == 0 && applies(q.statements[0])
	}
}

// fits reports whether a value of the request has the type that the operator compares.
func fits(c condition, v string) bool {
	switch {
	case strings.Contains(c.operator, "IpAddress"):
		_, err := netip.ParseAddr(v)
		return err == nil
	case strings.Contains(c.operator, "Numeric"):
		return v != "" && v != "seven"
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
