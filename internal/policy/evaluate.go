package policy

import "slices"

// Context gives the values of condition keys and policy variables for one request.
type Context interface {
	// Lookup returns the values of a key, whose Name and Sub are in lower case. A key that this request does not have is
	// absent: the zero Values. It must not block, and has to give the same answer each time.
	Lookup(key Key) Values
}

// Values are the values of a condition key. The zero value means that the key is absent.
type Values struct {
	one  string
	list []string
	n    int
}

// One returns the value of a key with a single value; One("") is present and empty.
func One(s string) Values { return Values{one: s, n: 1} }

// Many returns the values of a multivalued key. An empty list is the same as an absent key. The list must not change.
func Many(list []string) Values { return Values{list: list, n: len(list)} }

// Len returns the number of values, 0 for an absent key.
func (v Values) Len() int { return v.n }

// At returns the i-th value.
func (v Values) At(i int) string {
	if v.list != nil {
		return v.list[i]
	}
	return v.one
}

func lookup(ctx Context, key Key) Values {
	if ctx == nil {
		return Values{}
	}
	return ctx.Lookup(key)
}

// Request is what a decision is about.
type Request struct {
	Principal *Principal // the caller; ignored by kinds of policy that name no principals
	Action    string     // such as kms:Encrypt
	Resource  string     // an ARN, or "*" for an operation without a resource
	Context   Context    // nil: no key is present
	Explain   bool       // collect Reasons, which costs memory and time

	// Suppose, with Explain, asks what could be: a key that Context does not have is one that nobody has said anything about
	// yet. A condition on it is neither true nor false. An Allow applies all the same, a Deny does not, and both list what
	// they depend on in Reason.Given. Conditions on keys that are there are decided as ever.
	Suppose bool
}

// Settled is a Context that knows for certain that its requests do not have some keys. With Request.Suppose, conditions on
// those are decided too.
type Settled interface {
	// Absent reports whether the request cannot have the key, whose Name and Sub are in lower case.
	Absent(key Key) bool
}

// Effect is what a document says about a request.
type Effect uint8

// The effects. None means that no statement applies; whether that is a refusal is for the caller to say.
const (
	None Effect = iota
	Allow
	Deny
)

// String returns none, allow or deny.
func (e Effect) String() string { return [...]string{"none", "allow", "deny"}[e] }

// Decision is what one document says about one request.
type Decision struct {
	Effect Effect
	// Match is how the allowing statements name the caller, all of them together. It is MatchAnyone for policies that
	// name no principals, and 0 unless Effect is Allow.
	Match Match
	// Reasons has an entry for each statement, in their order, if the request asked for it.
	Reasons []Reason
}

// Part is a part of a statement.
type Part uint8

// The parts that can fail to match.
const (
	NoPart        Part = iota // all matched
	PartPrincipal             // Principal or NotPrincipal
	PartAction
	PartResource
	PartCondition
	PartMissing // a key policy's statement without Action or Resource
)

// String returns the name of the part.
func (p Part) String() string {
	return [...]string{"", "principal", "action", "resource", "condition", "missing element"}[p]
}

// Reason says whether and why a statement applies.
type Reason struct {
	Statement int    // index in the document
	Sid       string // may be empty
	Effect    Effect // Allow or Deny, as written
	Match     Match  // how it names the caller, 0 if it does not
	Failed    Part   // the first part that does not match; NoPart if the statement applies
	// For PartCondition: the operator and key as written, the values that the document wants and those that the request
	// has. Have is nil if the key is absent.
	Condition  string
	Want, Have []string

	// Given is what the statement depends on and a request with Suppose does not say: every line has to hold for it to
	// apply, as in "StringEquals kms:ViaService = s3.us-east-1.amazonaws.com". Several values are separated by commas. A Deny
	// that depends on anything has the part that does in Failed.
	Given []string
}

// Evaluate decides the request. An explicit Deny wins over every Allow; the order of statements does not matter. Without
// Explain it allocates nothing.
func (d *Document) Evaluate(req *Request) Decision {
	if req.Explain {
		return d.explain(req)
	}
	var out Decision
	for _, i := range d.order {
		s := &d.statements[i]
		match := s.names(req.Principal)
		if match == 0 || !s.deny && out.Match&match == match {
			continue // names the caller in no way, or in no way that is not allowed already
		}
		if s.test(req) != NoPart {
			continue
		}
		if s.deny {
			return Decision{Effect: Deny}
		}
		out.Effect = Allow
		out.Match |= match
	}
	return out
}

// evaluationOrder puts first what allows without conditions: where such a statement applies, others that allow and name the
// caller in no other way need not have their conditions asked.
func evaluationOrder(list []statement) []int {
	order := make([]int, len(list))
	for i := range order {
		order[i] = i
	}
	plain := func(i int) bool { return !list[i].deny && len(list[i].conditions) == 0 }
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case plain(a) == plain(b):
			return 0
		case plain(a):
			return -1
		}
		return 1
	})
	return order
}

// names returns how the statement names the caller.
func (s *statement) names(p *Principal) Match {
	if s.principals == nil {
		return MatchAnyone
	}
	m := matchAll(s.principals, p)
	switch {
	case !s.notPrincipal:
		return m
	case s.deny && exempt(m, p), !s.deny && m != 0:
		return 0
	}
	return MatchAnyone
}

// test returns the first part besides the principal that does not match.
func (s *statement) test(req *Request) Part {
	if s.inert {
		return PartMissing
	}
	if s.matchesAction(req.Action) == s.notAction {
		return PartAction
	}
	if s.matchesResource(req) == s.notResource {
		return PartResource
	}
	for i := range s.conditions {
		if !s.conditions[i].holds(req.Context) {
			return PartCondition
		}
	}
	return NoPart
}

func (s *statement) matchesAction(action string) bool {
	for i := range s.actions {
		if s.actions[i].match(action, nil, true) {
			return true
		}
	}
	return false
}

func (s *statement) matchesResource(req *Request) bool {
	for i := range s.resources {
		if s.resources[i].match(req.Resource, req.Context) {
			return true
		}
	}
	return false
}
