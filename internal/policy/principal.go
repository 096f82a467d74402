package policy

import "strings"

// PrincipalType is what kind of caller a Principal is.
type PrincipalType uint8

// The types of callers. The zero value is nobody and matches only the principal "*".
const (
	Anonymous     PrincipalType = iota
	AccountRoot                 // the root user of an account
	User                        // an IAM user
	RoleSession                 // somebody who assumed a role
	FederatedUser               // a session of GetFederationToken
	Service                     // a service with a credential of its own
	WebIdentity                 // the bearer of an identity provider's token; trust policies only
)

// Principal is what is known of a caller. All of it must be proved before it gets here.
type Principal struct {
	Type      PrincipalType
	Account   string // twelve digits; "" for Service
	ARN       string // as GetCallerIdentity shows it; for a RoleSession that of the session
	RoleARN   string // RoleSession: the ARN of the role, with its path
	ID        string // unique id of the user or role, AIDA… or AROA…
	Service   string // Service: such as s3.amazonaws.com
	Federated string // WebIdentity: the ARN or domain of the provider
}

// Match is a set of ways in which a statement names a caller. Which of them it was decides what else has to allow: account
// delegation needs identity policies, a role named directly is still limited by its session policy, and so on.
type Match uint8

// The ways of matching.
const (
	MatchExact   Match = 1 << iota // the user, root user, session or service itself
	MatchRole                      // the role of the session
	MatchAccount                   // the account, by its id or the ARN of its root
	MatchAnyone                    // "*", or a NotPrincipal that does not list the caller
)

// principal is one compiled entry of Principal or NotPrincipal.
type principal struct {
	form principalForm
	text string // account id, ARN, unique id, service name or provider
	id   string // forms byARN and bySession: the unique id that Bind found, which then stands for the name
}

type principalForm uint8

const (
	anyone principalForm = iota + 1
	byAccount
	byARN     // user, role, federated user
	bySession // assumed-role session
	byID      // unique id of a user or role
	byService
	byProvider
	byCanonical // an S3 canonical user: nobody here is one
)

// match returns how the entry names the caller, 0 if not.
func (e *principal) match(p *Principal) Match {
	switch e.form {
	case anyone:
		return MatchAnyone
	case byAccount:
		if e.text != p.Account {
			return 0
		}
		if p.Type == AccountRoot {
			return MatchAccount | MatchExact
		}
		return MatchAccount
	case byARN, bySession, byID:
		return e.matchIdentity(p)
	case byService:
		if p.Type == Service && e.text == p.Service {
			return MatchExact
		}
	case byProvider:
		if p.Type == WebIdentity && e.text == p.Federated {
			return MatchExact
		}
	}
	return 0
}

// matchIdentity compares users, roles and sessions. A unique id, where there is one, outweighs a name: a user made again
// under an old name is somebody else.
func (e *principal) matchIdentity(p *Principal) Match {
	switch p.Type {
	case User, RoleSession, FederatedUser:
	default:
		return 0
	}
	if e.form == bySession {
		same := e.text == p.ARN
		if e.id != "" {
			same = p.Type == RoleSession && e.id == p.ID && afterSlash(e.text) == afterSlash(p.ARN)
		}
		if !same {
			return 0
		}
		return MatchExact
	}
	how, name := MatchExact, p.ARN
	if p.Type == RoleSession {
		how, name = MatchRole, p.RoleARN
	}
	same := e.text == name
	if e.form == byID {
		same = e.text == p.ID
	} else if e.id != "" {
		same = e.id == p.ID
	}
	if !same {
		return 0
	}
	return how
}

// afterSlash returns the name of the session in the ARN of one.
func afterSlash(s string) string { return s[strings.LastIndexByte(s, '/')+1:] }

// matchAll returns how the entries together name the caller.
func matchAll(entries []principal, p *Principal) (m Match) {
	if p == nil {
		p = &nobody
	}
	for i := range entries {
		m |= entries[i].match(p)
	}
	return m
}

var nobody Principal

// exempt reports whether a Deny with NotPrincipal leaves the caller alone. As the service has it, every name of the caller
// must be listed: the account besides the user, and for a session the role as well.
func exempt(listed Match, p *Principal) bool {
	if listed&MatchAnyone != 0 {
		return true
	}
	need := MatchExact
	if p != nil {
		switch p.Type {
		case User, FederatedUser, AccountRoot:
			need |= MatchAccount
		case RoleSession:
			need |= MatchAccount | MatchRole
		}
	}
	return listed&need == need
}

// Named is a principal that a document names.
type Named struct {
	Statement int    // index of the statement
	Type      string // AWS, Service, Federated or CanonicalUser
	Value     string // as written, but "*" is left out
}

// Principals lists the principals of Principal and NotPrincipal elements, so that the caller can check that they exist.
func (d *Document) Principals() (list []Named) {
	for i := range d.statements {
		for _, e := range d.statements[i].principals {
			t := "AWS"
			switch e.form {
			case anyone:
				continue
			case byService:
				t = "Service"
			case byProvider:
				t = "Federated"
			case byCanonical:
				t = "CanonicalUser"
			}
			list = append(list, Named{i, t, e.text})
		}
	}
	return list
}

// Bind returns a copy of the document in which users, roles and sessions are known by unique id: id gives that of an ARN (for
// a session, that of its role), and reports false if it has none. A bound entry matches whoever has the id, under whatever
// name, and nobody who has the same ARN but another id. A session has to have the name that the entry says, too.
func (d *Document) Bind(id func(arn string) (string, bool)) *Document {
	c := *d
	c.statements = append([]statement(nil), d.statements...)
	for i := range c.statements {
		s := &c.statements[i]
		s.principals = append([]principal(nil), s.principals...)
		for j := range s.principals {
			e := &s.principals[j]
			if e.form != byARN && e.form != bySession {
				continue
			}
			if bound, ok := id(e.text); ok {
				e.id = bound
			}
		}
	}
	return &c
}

// readPrincipals reads a Principal or NotPrincipal element: "*", or an object of types and their values.
func readPrincipals(n *node, place string) ([]principal, *Error) {
	if n.kind == stringNode && n.text == "*" {
		return []principal{{form: anyone}}, nil
	}
	if n.kind != objectNode || len(n.members) == 0 {
		return nil, malformed(place, `must be "*" or an object with AWS, Service, Federated or CanonicalUser`)
	}
	var list []principal
	for i := range n.members {
		m := &n.members[i]
		at := within(place, m.name)
		values, err := m.value.strings(at)
		if err != nil {
			return nil, err
		}
		for _, v := range values {
			e, fault := readPrincipal(m.name, v)
			if fault != 0 {
				return nil, &Error{fault, at, "'" + v + "' is not a principal that can be named here"}
			}
			list = append(list, e)
		}
	}
	return list, nil
}

func readPrincipal(kind, v string) (principal, Fault) {
	switch kind {
	case "AWS":
		return readAWSPrincipal(v)
	case "Service":
		if !strings.Contains(v, ".") || strings.Trim(v, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" {
			return principal{}, BadServicePrincipal
		}
		return principal{form: byService, text: v}, 0
	case "Federated":
		if v == "" || strings.ContainsAny(v, "*?") {
			return principal{}, BadPrincipal
		}
		return principal{form: byProvider, text: v}, 0
	case "CanonicalUser":
		return principal{form: byCanonical, text: v}, 0
	}
	return principal{}, Malformed
}

// readAWSPrincipal reads "*", an account id, a unique id, or one of the ARNs of IAM and STS.
func readAWSPrincipal(v string) (principal, Fault) {
	switch {
	case v == "*":
		return principal{form: anyone}, 0
	case isAccount(v):
		return principal{form: byAccount, text: v}, 0
	case isUniqueID(v):
		return principal{form: byID, text: v}, 0
	case strings.ContainsAny(v, "*?"):
		return principal{}, BadPrincipal
	}
	p := strings.SplitN(v, ":", arnParts)
	if len(p) != arnParts || p[0] != "arn" || !strings.HasPrefix(p[1], "aws") || p[3] != "" || !isAccount(p[4]) {
		return principal{}, BadPrincipal
	}
	kind, name, _ := strings.Cut(p[5], "/")
	switch {
	case p[2] == "iam" && p[5] == "root":
		return principal{form: byAccount, text: p[4]}, 0
	case name == "" || strings.HasSuffix(name, "/"):
	case p[2] == "iam" && (kind == "user" || kind == "role"), p[2] == "sts" && kind == "federated-user":
		return principal{form: byARN, text: v}, 0
	case p[2] == "sts" && kind == "assumed-role" && strings.Count(name, "/") == 1 && name[0] != '/':
		return principal{form: bySession, text: v}, 0
	}
	return principal{}, BadPrincipal
}

func isAccount(s string) bool { return len(s) == 12 && strings.Trim(s, "0123456789") == "" }

// isUniqueID reports whether s has the form of a user's or role's unique id (IAM user guide, "Unique identifiers").
func isUniqueID(s string) bool {
	return len(s) >= 16 && len(s) <= 128 && (strings.HasPrefix(s, "AIDA") || strings.HasPrefix(s, "AROA")) &&
		strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == ""
}
