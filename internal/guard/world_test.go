package guard_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// world is what testdata/decisions.txt describes: accounts with principals, keys and policies.
type world struct {
	t        testing.TB
	callers  map[string]*guard.Caller
	policies map[string][]string // statements by whose they are: "identity bob", "key delegated", "scp no-keys"
	attached map[string]guard.Policy
	grants   grants
	tags     map[string][]key.Tag // of keys and roles
	multi    map[string]bool
	cases    []string
}

// grants are all of the world's, by key and grantee.
type grants map[string][]*key.Grant

func (g grants) Of(grantee string) ([]*key.Grant, error) {
	if grantee == "AIDABROKEN0000000" {
		return nil, errors.New("the store is down")
	}
	return g[grantee], nil
}

const (
	own   = arn.Account("111122223333")
	alien = arn.Account("444455556666")
)

// readWorld reads the declarations and the cases of the file.
func readWorld(t testing.TB) *world {
	t.Helper()
	w := &world{
		t: t, callers: map[string]*guard.Caller{}, policies: map[string][]string{}, attached: map[string]guard.Policy{}, grants: grants{},
		tags: map[string][]key.Tag{}, multi: map[string]bool{},
	}
	f, err := os.Open("testdata/decisions.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		words := strings.Fields(line)
		switch {
		case line == "" || line[0] == '#':
		case words[0] == "allow" || words[0] == "deny":
			w.cases = append(w.cases, line)
		default:
			w.declare(words)
		}
	}
	return w
}

// declare reads one declaration.
func (w *world) declare(words []string) {
	rest := func(n int) string { return strings.Join(words[n:], " ") }
	switch words[0] {
	case "root", "user", "role", "service", "bearer":
		w.caller(words[0], words[1], account(words[2]), words[3:])
	case "session", "federated":
		w.session(words[0], words[1], words[2:])
	case "identity", "boundary", "key", "trust", "scp", "rcp", "with": // with: session policies
		w.policies[words[0]+" "+words[1]] = append(w.policies[words[0]+" "+words[1]], rest(2))
	case "managed", "handed": // a managed policy: of a user or role, or of a session
		arn := "arn:aws:iam::111122223333:policy/" + words[2]
		kind := map[string]policy.Kind{"managed": policy.IdentityPolicy, "handed": policy.SessionPolicy}[words[0]]
		p := guard.Policy{ARN: arn, Name: words[2], Document: w.compile(kind, rest(3))}
		c := w.callers[words[1]]
		if words[0] == "managed" {
			c.Rights.Identity = append(c.Rights.Identity, p)
		} else {
			c.Session.Policies = append(c.Session.Policies, p)
		}
	case "tags":
		w.tags[words[1]] = tags(words[2:])
	case "multi":
		w.multi[words[1]] = true
	case "grant":
		w.grant(words[1], words[2], words[3], words[4:])
	default:
		w.t.Fatalf("what is %q?", rest(0))
	}
}

func account(name string) arn.Account {
	return map[string]arn.Account{"own": own, "other": alien}[name]
}

func uniqueID(prefix, name string) string {
	id := prefix + strings.ToUpper(strings.NewReplacer("-", "", "/", "").Replace(name)) + "0000000000000000"
	return id[:17]
}

func tags(words []string) (list []key.Tag) {
	for _, word := range words {
		k, v, _ := strings.Cut(word, "=")
		list = append(list, key.Tag{Key: k, Value: v})
	}
	return list
}

func (w *world) caller(kind, name string, a arn.Account, tagged []string) {
	c := &guard.Caller{Account: a, AccessKeyID: "AKIA" + name, Rights: &guard.Rights{}, Tags: tags(tagged)}
	switch kind {
	case "root":
		c.Type, c.ARN, c.UniqueID, c.Rights = policy.AccountRoot, a.Root("aws"), string(a), nil
	case "user":
		c.Type, c.Name, c.ARN, c.UniqueID = policy.User, name, "arn:aws:iam::"+string(a)+":user/"+name, uniqueID("AIDA", name)
	case "role": // never calls itself, but has what its sessions share
		c.Type, c.RoleARN, c.UniqueID = policy.RoleSession, "arn:aws:iam::"+string(a)+":role/path/"+name, uniqueID("AROA", name)
		c.ARN = c.RoleARN
	case "service":
		c.Type, c.Service, c.Rights, c.Tags = policy.Service, name+".amazonaws.com", nil, nil
		for _, a := range tagged {
			c.Serves = append(c.Serves, account(a))
		}
	case "bearer":
		c.Type, c.Rights = policy.WebIdentity, nil
		c.Session = &guard.Session{Provider: "arn:aws:iam::111122223333:oidc-provider/id.example.com"}
	}
	c.PrincipalID = c.UniqueID
	w.callers[name] = c
}

// session declares a session of a role ("dev/plain"), of a user ("alice/token"), or a federated user ("alice/fay").
func (w *world) session(kind, name string, options []string) {
	of, short, _ := strings.Cut(name, "/")
	c := *w.callers[of]
	c.Session = &guard.Session{IssuedAt: time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC), IssuerType: "User", IssuerARN: c.ARN}
	switch {
	case kind == "federated":
		if c.Type == policy.AccountRoot {
			c.Session.IssuerType = "Root"
		}
		c.Session.IssuerID = c.UniqueID
		c.Type, c.ARN = policy.FederatedUser, "arn:aws:sts::"+string(c.Account)+":federated-user/"+short
		c.PrincipalID, c.Name = string(c.Account)+":"+short, ""
	case c.Type == policy.RoleSession:
		c.Session.IssuerType = "Role"
		c.ARN = "arn:aws:sts::" + string(c.Account) + ":assumed-role/" + of + "/" + short
		c.PrincipalID += ":" + short
	}
	for _, o := range options {
		k, v, _ := strings.Cut(o, "=")
		switch k {
		case "source":
			c.Session.SourceIdentity = v
		case "provider":
			c.Session.Provider = v
		default:
			c.Tags = append(c.Tags, key.Tag{Key: k, Value: v})
		}
	}
	w.callers[name] = &c
}

// grant declares a grant on a key: its id, grantee, and options.
func (w *world) grant(of, id, grantee string, options []string) {
	g := &key.Grant{ID: id, Key: w.keyName(of), Issuer: own, Grantee: w.grantPrincipal(grantee)}
	for _, o := range options {
		k, v, _ := strings.Cut(o, "=")
		switch k {
		case "equals":
			g.Constraints.Equals = contextOf(v)
		case "subset":
			g.Constraints.Subset = contextOf(v)
		case "source":
			g.Constraints.SourceARN = v
		case "retiring":
			g.Retiring = w.grantPrincipal(v)
		default:
			g.Operations |= key.GrantOperation(k)
			if key.GrantOperation(k) == 0 {
				w.t.Fatalf("grant %s: what is %s?", id, o)
			}
		}
	}
	at := g.Grantee.ID
	switch {
	case g.Grantee.Service != "":
		at = g.Grantee.Service
	case at == "":
		at = g.Grantee.ARN
	}
	w.grants[at] = append(w.grants[at], g)
	w.grants["id "+id] = append(w.grants["id "+id], g)
}

func (w *world) grantPrincipal(name string) key.GrantPrincipal {
	c := w.callers[name]
	if c.Type == policy.Service {
		return key.GrantPrincipal{Service: c.Service}
	}
	if c.Type == policy.FederatedUser {
		return key.GrantPrincipal{ARN: c.ARN}
	}
	return key.GrantPrincipal{ARN: c.ARN, ID: c.UniqueID}
}

func contextOf(text string) map[string]string {
	m := map[string]string{}
	for _, pair := range strings.Split(text, ",") {
		if k, v, ok := strings.Cut(strings.TrimSpace(pair), ":"); ok {
			m[k] = v
		}
	}
	return m
}

// keyName returns the name of a key of the world; those whose names start with "their-" belong to the other account.
func (w *world) keyName(name string) key.Name {
	a := own
	if strings.HasPrefix(name, "their-") {
		a = alien
	}
	return key.Name{Account: a, Region: "us-east-1", ID: arn.KeyID(name)}
}

// compile reads statements of the form
//
//	Allow [to PRINCIPAL,…|not-to …] ACTION,… [on RESOURCE,…|not-on …] [if OPERATOR KEY = VALUE | VALUE & …]
//
// separated by semicolons.
func (w *world) compile(kind policy.Kind, statements string) *policy.Document {
	var list []map[string]any
	for _, text := range strings.Split(statements, ";") {
		head, condition, conditional := strings.Cut(text, " if ")
		words := strings.Fields(head)
		s := map[string]any{"Effect": words[0]}
		words = words[1:]
		if words[0] == "to" || words[0] == "not-to" {
			s[map[string]string{"to": "Principal", "not-to": "NotPrincipal"}[words[0]]] = w.principals(words[1])
			words = words[2:]
		}
		name := "Action"
		if words[0] == "but" {
			name, words = "NotAction", words[1:]
		}
		s[name] = strings.Split(words[0], ",")
		words = words[1:]
		switch {
		case len(words) > 1 && words[0] == "not-on":
			s["NotResource"] = w.resources(words[1])
		case len(words) > 1 && words[0] == "on":
			s["Resource"] = w.resources(words[1])
		case kind != policy.TrustPolicy:
			s["Resource"] = "*"
		}
		if conditional {
			s["Condition"] = conditions(condition)
		}
		list = append(list, s)
	}
	text, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": list})
	if err != nil {
		w.t.Fatal(err)
	}
	doc, err := policy.Parse(kind, text)
	if err != nil {
		w.t.Fatalf("%s: %v", statements, err)
	}
	return doc.Bind(func(arn string) (string, bool) {
		for _, c := range w.callers {
			switch {
			case c.ARN == arn && c.Type == policy.FederatedUser:
				return "", true // known by its name alone
			case c.ARN == arn || c.RoleARN == arn:
				return c.UniqueID, c.UniqueID != ""
			}
		}
		return "", false
	})
}

func (w *world) principals(names string) any {
	if names == "*" {
		return "*"
	}
	m := map[string][]string{}
	for _, name := range strings.Split(names, ",") {
		c := w.callers[name]
		switch {
		case c == nil:
			m["AWS"] = append(m["AWS"], name)
		case c.Type == policy.Service:
			m["Service"] = append(m["Service"], c.Service)
		case c.Type == policy.WebIdentity:
			m["Federated"] = append(m["Federated"], c.Session.Provider)
		default:
			m["AWS"] = append(m["AWS"], c.ARN)
		}
	}
	return m
}

func (w *world) resources(names string) (list []string) {
	for _, name := range strings.Split(names, ",") {
		list = append(list, w.arnOf(name))
	}
	return list
}

// arnOf returns the ARN of "*", key/x, alias/x, role:x or user:x; anything else is taken as it is.
func (w *world) arnOf(name string) string {
	switch {
	case strings.HasPrefix(name, "key/"):
		return w.keyName(name[4:]).ARN()
	case strings.HasPrefix(name, "alias/their-"):
		return arn.AliasName(name).ARN("us-east-1", alien)
	case strings.HasPrefix(name, "alias/"):
		return arn.AliasName(name).ARN("us-east-1", own)
	case strings.HasPrefix(name, "role:"), strings.HasPrefix(name, "user:"):
		return w.callers[name[5:]].ARN
	}
	return name
}

// conditions reads OPERATOR KEY = VALUE | VALUE & OPERATOR ….
func conditions(text string) map[string]map[string][]string {
	m := map[string]map[string][]string{}
	for _, one := range strings.Split(text, "&") {
		head, values, _ := strings.Cut(one, "=")
		op, name, _ := strings.Cut(strings.TrimSpace(head), " ")
		if m[op] == nil {
			m[op] = map[string][]string{}
		}
		for _, v := range strings.Split(values, "|") {
			m[op][name] = append(m[op][name], strings.TrimSpace(v))
		}
	}
	return m
}

// controls are the control policies that a case attaches to its account and to the key's.
type controls struct {
	service, resource []guard.Policy
	err               error
}

func (c *controls) ServiceControls(a arn.Account) ([]guard.Policy, error) {
	if a != own {
		return nil, c.err
	}
	return c.service, c.err
}

func (c *controls) ResourceControls(a arn.Account) ([]guard.Policy, error) {
	if a != own {
		return nil, c.err
	}
	return c.resource, c.err
}

// question is a case of the table, ready to be put.
type question struct {
	line     string
	allow    bool
	reason   string
	caller   *guard.Caller
	resource guard.Resource
	forward  *guard.Forward
	controls controls
	meta     guard.Meta
	region   arn.Region
}

// read reads a case: verdict, principal, action, resource, modifiers, colon, reason.
func (w *world) read(line string) *question {
	head, reason, ok := strings.Cut(line, " : ")
	words := strings.Fields(head)
	if !ok || len(words) < 4 {
		w.t.Fatalf("%q is no case", line)
	}
	q := &question{
		line: line, allow: words[0] == "allow", reason: strings.TrimSpace(reason), region: "us-east-1",
		meta: guard.Meta{RequestID: "r", Time: now(), SourceIP: "192.0.2.1", UserAgent: "aws-cli/2.0"},
	}
	if q.caller = w.complete(words[1]); q.caller == nil {
		w.t.Fatalf("%q: who is %s?", line, words[1])
	}
	q.resource = guard.Resource{Action: guard.NewAction(words[2]), ARN: w.arnOf(words[3]), Foreign: true, Input: &kmsapi.EncryptRequest{}}
	options := map[string]string{}
	for rest := strings.Join(words[4:], " "); rest != ""; {
		name, after, _ := strings.Cut(rest, "(")
		value, after, found := strings.Cut(after, ")")
		if !found {
			w.t.Fatalf("%q: what is %q?", line, rest)
		}
		options[name], rest = value, strings.TrimSpace(after)
	}
	w.place(q, words[3], options)
	if via, ok := options["via"]; ok { // before what the service says of the source
		w.modify(q, "via", via)
		delete(options, "via")
	}
	for name, value := range options {
		w.modify(q, name, value)
	}
	return q
}

// complete returns a caller with all the policies that were declared for it.
func (w *world) complete(name string) *guard.Caller {
	c := w.callers[name]
	if c == nil {
		return nil
	}
	done := *c
	of, _, _ := strings.Cut(name, "/")
	if c.Rights != nil {
		w.entitle(&done, of)
	}
	if list := w.policies["with "+name]; list != nil {
		s := *c.Session
		s.Policies = append(append([]guard.Policy(nil), s.Policies...), guard.Policy{Name: "inline", Document: w.compile(policy.SessionPolicy, strings.Join(list, ";"))})
		done.Session = &s
	}
	return &done
}

// entitle gives a caller the policies of a user or role.
func (w *world) entitle(c *guard.Caller, of string) {
	c.Rights = &guard.Rights{Identity: append([]guard.Policy(nil), w.callers[of].Rights.Identity...)}
	if list := w.policies["identity "+of]; list != nil {
		c.Rights.Identity = append(c.Rights.Identity, guard.Policy{Name: "inline", Holder: c.ARN, Document: w.compile(policy.IdentityPolicy, strings.Join(list, ";"))})
	}
	if list := w.policies["boundary "+of]; list != nil {
		c.Rights.Boundary = &guard.Policy{ARN: "arn:aws:iam::111122223333:policy/" + of + "-boundary", Document: w.compile(policy.BoundaryPolicy, strings.Join(list, ";"))}
	}
}

// place gives a key or role its own policy, with the statements that the case adds.
func (w *world) place(q *question, name string, options map[string]string) {
	r := &q.resource
	statements, kind := []string(nil), policy.KeyPolicy
	switch {
	case strings.HasPrefix(name, "key/"):
		short := name[4:]
		statements = w.policies["key "+short]
		r.Key = &key.Key{
			Name: w.keyName(short), Spec: key.SymmetricDefault, Usage: key.EncryptDecrypt, Origin: key.OriginAWSKMS, Tags: w.tags[short],
			MultiRegion: w.multi[short],
		}
		r.Key.Primary = r.Key.Region
		r.Grants = w.grants
	case strings.HasPrefix(name, "role:") && strings.HasPrefix(r.Action.Name(), "sts:"):
		statements, kind = w.policies["trust "+name[5:]], policy.TrustPolicy
		r.Tags = w.tags[name[5:]]
	default:
		r.Tags = w.tags[name]
		return
	}
	if c, ok := options["if"]; ok {
		statements = append(statements[:len(statements):len(statements)], "Allow to * "+r.Action.Name()+" if "+c)
	}
	if c, ok := options["unless"]; ok {
		statements = append(statements[:len(statements):len(statements)], "Deny to * "+r.Action.Name()+" if "+c)
	}
	delete(options, "if")
	delete(options, "unless")
	r.Policy = w.compile(kind, strings.Join(statements, ";"))
}

// modify applies one modifier of a case.
func (w *world) modify(q *question, name, value string) {
	r := &q.resource
	switch name {
	case "ctx":
		r.EncryptionContext = contextOf(value)
	case "facts":
		r.Facts = func(f *guard.Facts, _ wire.Input) { addFacts(f, value) }
	case "via": // a service on behalf of the caller
		q.forward = &guard.Forward{Service: value + ".amazonaws.com", ViaService: value + ".us-east-1.amazonaws.com"}
	case "source": // what a service, or another through which the caller came, says of the source
		from, account, _ := strings.Cut(value, " ")
		if q.forward == nil {
			q.forward = &guard.Forward{Service: q.caller.Service}
		}
		q.forward.SourceARN, q.forward.SourceAccount = from, arn.Account(account)
	case "alias":
		r.Alias = arn.AliasName(value)
	case "aliases":
		r.Aliases = func() ([]string, error) { return strings.Split(value, ","), nil }
		if value == "broken" {
			r.Aliases = func() ([]string, error) { return nil, errors.New("the store is down") }
		}
	case "scp", "rcp":
		kind, list := policy.ServiceControlPolicy, &q.controls.service
		if name == "rcp" {
			kind, list = policy.ResourceControlPolicy, &q.controls.resource
		}
		for _, short := range strings.Split(value, ",") {
			if short == "broken" {
				q.controls.err = errors.New("the store is down")
				continue
			}
			*list = append(*list, guard.Policy{Name: short, Document: w.compile(kind, strings.Join(w.policies[name+" "+short], ";"))})
		}
	case "retire":
		r.Retiring = w.grants["id "+value][0]
	case "fits":
		r.GrantFits = func(g *key.Grant) bool { return g.ID == value }
	case "terse":
		r.Terse = true
	case "internal": // not for other accounts
		r.Foreign = false
	case "from":
		q.meta.SourceIP = value
	case "agent":
		q.meta.UserAgent = value
	case "region":
		q.region = arn.Region(value)
	case "tls":
		q.meta.TLS = &audit.TLS{Version: "TLSv1.3"}
	default:
		w.t.Fatalf("%q: what is %s?", q.line, name)
	}
}

// addFacts reads KEY=VALUE|VALUE, separated by commas.
func addFacts(f *guard.Facts, text string) {
	for _, pair := range strings.Split(text, ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(pair), "=")
		if list := strings.Split(v, "|"); len(list) > 1 {
			f.Strings(k, list)
		} else {
			f.String(k, v)
		}
	}
}

// put asks the guard, and returns the permit and the text of the refusal.
func (q *question) put() (permit guard.Permit, refusal string) {
	g := guard.New(guard.Config{Recorder: audit.NewMemory(1), Now: now, Directory: &q.controls})
	_, failure := g.Answer(q.meta, func(c *guard.Call) (_ wire.Output, err error) {
		c.Identify(q.caller, q.region)
		c.Service, c.Forward = "kms", q.forward
		permit, err = c.Authorize(q.resource)
		return nil, err
	})
	switch {
	case failure == nil:
		return permit, ""
	case failure.Code != wire.CodeAccessDenied:
		return permit, "error"
	}
	return permit, failure.Message
}

// explain asks why.
func (q *question) explain(suppose bool) (*guard.Explanation, error) {
	g := guard.New(guard.Config{Recorder: audit.NewMemory(1), Now: now, Directory: &q.controls})
	values := map[string][]string{"aws:SourceIp": {q.meta.SourceIP}, "aws:UserAgent": {q.meta.UserAgent}, "aws:SecureTransport": {fmt.Sprint(q.meta.TLS != nil)}}
	if q.meta.SourceIP == "" || q.forward != nil && q.forward.ViaService != "" {
		delete(values, "aws:SourceIp")
	}
	return g.Explain(guard.Question{
		Caller: q.caller, Region: q.region, Time: q.meta.Time, Forward: q.forward, Resource: q.resource, Suppose: suppose, Values: values,
	})
}
