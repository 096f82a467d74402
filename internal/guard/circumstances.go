package guard

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
)

// circumstances answers the conditions of one decision: facts about the caller, the call and the key, and those of the
// operation's input, which are collected when the first condition is asked. docs/authorization.md says where each condition
// key has its value from; what can never be known here (organizations, networks, MFA devices) is absent, not empty.
type circumstances struct {
	call   *Call
	about  Resource
	asked  bool
	inputs Facts
	// The last keys that were asked for, and their values: the statements of a policy ask for the same few again and again.
	recent [4]fact
	turn   int
	failed error // a source that could not answer: there is no decision then

	// supposed is set when there is no real call, only a question about one.
	supposed *supposed
}

// Lookup implements policy.Context.
func (c *circumstances) Lookup(k policy.Key) policy.Values {
	if c.supposed != nil {
		if v, ok := c.supposed.values[k]; ok {
			c.call.trace.asked(k, v)
			return v
		}
	}
	v := c.lookup(k)
	if t := c.call.trace; t != nil {
		t.asked(k, v)
	}
	return v
}

func (c *circumstances) lookup(k policy.Key) policy.Values {
	for i := range c.recent {
		if c.recent[i].key == k {
			return c.recent[i].values
		}
	}
	v := c.find(k)
	c.recent[c.turn%len(c.recent)] = fact{k, v}
	c.turn++
	return v
}

// find asks where values come from, one after the other.
func (c *circumstances) find(k policy.Key) policy.Values {
	if !strings.HasPrefix(k.Name, "kms:encryption") { // these are asked for most, and come with the input alone
		for _, source := range [...]func(*circumstances, policy.Key) policy.Values{
			(*circumstances).ofCaller, (*circumstances).ofSession, (*circumstances).ofService, (*circumstances).ofCall, (*circumstances).ofResource,
		} {
			if v := source(c, k); v.Len() > 0 {
				return v
			}
		}
	}
	if !c.asked {
		c.asked = true
		if c.about.Facts != nil && c.about.Input != nil {
			c.about.Facts(&c.inputs, c.about.Input)
		}
	}
	return c.inputs.find(k)
}

// known returns a value that is absent when it is empty.
func known(s string) policy.Values {
	if s == "" {
		return policy.Values{}
	}
	return policy.One(s)
}

// principalTypes are the values of aws:PrincipalType ("Principal key values", IAM user guide).
var principalTypes = map[policy.PrincipalType]string{
	policy.AccountRoot: "Account", policy.User: "User", policy.RoleSession: "AssumedRole", policy.FederatedUser: "FederatedUser",
	policy.Service: "Service", policy.WebIdentity: "Anonymous",
}

// ofCaller answers what conditions can ask about the principal. A service and the bearer of a web identity have no account
// and no ARN.
func (c *circumstances) ofCaller(k policy.Key) policy.Values {
	who := c.call.Caller
	switch k.Name {
	case "kms:calleraccount", "aws:principalaccount":
		if who.belongs() {
			return policy.One(string(who.Account))
		}
	case "aws:principalarn":
		switch {
		case who.Type == policy.RoleSession: // the role, whatever its session is called
			return policy.One(who.RoleARN)
		case who.belongs():
			return policy.One(who.ARN)
		}
	case "aws:principaltype":
		return policy.One(principalTypes[who.Type])
	case "aws:principalisawsservice":
		return policy.One(strconv.FormatBool(who.Type == policy.Service))
	case "aws:principalservicename", "aws:principalservicenameslist":
		if who.Type == policy.Service {
			return policy.One(who.Service)
		}
	case "aws:userid":
		if who.belongs() {
			return known(who.PrincipalID)
		}
	case "aws:username":
		if who.Type == policy.User {
			return known(who.Name)
		}
	case "aws:principaltag":
		return ofTags(k, who.Tags)
	}
	return policy.Values{}
}

// ofSession answers what conditions can ask about temporary credentials; long-term ones have none of it. Nobody shows an
// MFA device here, so that aws:MultiFactorAuthPresent is false where it is present and aws:MultiFactorAuthAge is absent.
func (c *circumstances) ofSession(k policy.Key) policy.Values {
	s := c.call.Caller.Session
	if s == nil {
		return policy.Values{}
	}
	switch k.Name {
	case "aws:tokenissuetime":
		if !s.IssuedAt.IsZero() {
			return policy.One(s.IssuedAt.UTC().Format(time.RFC3339))
		}
	case "aws:multifactorauthpresent":
		return policy.One("false")
	case "aws:federatedprovider":
		return known(s.Provider)
	case "aws:sourceidentity":
		return known(s.SourceIdentity)
	}
	return policy.Values{}
}

// ofService answers what only a registered service can say, for itself or on behalf of somebody.
func (c *circumstances) ofService(k policy.Key) policy.Values {
	f := c.call.Forward
	via := f != nil && f.ViaService != ""
	switch k.Name {
	case "aws:viaawsservice":
		return policy.One(strconv.FormatBool(via))
	case "kms:grantisforawsresource":
		// Present where it means something, and false for a direct call (KMS developer guide, "kms:GrantIsForAWSResource").
		switch c.about.Action.name {
		case "kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant":
			return policy.One(strconv.FormatBool(via))
		}
	}
	if f == nil {
		return policy.Values{}
	}
	switch k.Name {
	case "kms:viaservice":
		return known(f.ViaService)
	case "aws:calledvia", "aws:calledviafirst", "aws:calledvialast":
		if via {
			return known(f.Service)
		}
	case "aws:sourcearn":
		return known(f.SourceARN)
	case "aws:sourceaccount":
		return known(string(f.SourceAccount))
	}
	return policy.Values{}
}

// ofCall answers what conditions can ask about the request itself.
func (c *circumstances) ofCall(k policy.Key) policy.Values {
	call := c.call
	switch k.Name {
	case "aws:requestedregion":
		return known(string(call.Region))
	case "aws:sourceip":
		// The address of a service says nothing about the user it calls for, and the user's own is not known.
		if call.Forward == nil || call.Forward.ViaService == "" {
			return known(call.SourceIP)
		}
	case "aws:useragent":
		return known(call.UserAgent)
	case "aws:securetransport":
		if c.supposed == nil {
			return policy.One(strconv.FormatBool(call.TLS != nil))
		}
	case "aws:currenttime":
		if !call.Time.IsZero() {
			return policy.One(call.Time.UTC().Format(time.RFC3339))
		}
	case "aws:epochtime":
		if !call.Time.IsZero() {
			return policy.One(strconv.FormatInt(call.Time.Unix(), 10))
		}
	}
	return policy.Values{}
}

// ofResource answers what conditions can ask about a key or another resource.
func (c *circumstances) ofResource(k policy.Key) policy.Values {
	r := &c.about
	switch k.Name {
	case "aws:resourceaccount":
		if r.ARN != "*" {
			return policy.One(string(r.owner(c.call.Caller)))
		}
	case "kms:requestalias":
		return known(string(r.Alias))
	case "kms:resourcealiases":
		return c.aliases()
	}
	if r.Key != nil {
		return ofKey(k, r.Key)
	}
	if k.Name == "aws:resourcetag" {
		return ofTags(k, r.Tags)
	}
	return policy.Values{}
}

func (c *circumstances) aliases() policy.Values {
	if c.about.Aliases == nil {
		return policy.Values{}
	}
	names, err := c.about.Aliases()
	if err != nil {
		c.failed = fmt.Errorf("reading the aliases of %s: %w", c.about.ARN, err)
		return policy.Values{}
	}
	return policy.Many(names)
}

// ofTags returns the values of the tags whose key is the free part of k. Case does not count, so there can be several.
func ofTags(k policy.Key, tags []key.Tag) policy.Values {
	var values []string
	for _, t := range tags {
		if strings.EqualFold(t.Key, k.Sub) {
			values = append(values, t.Value)
		}
	}
	return policy.Many(values)
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
	case "kms:multiregionkeytype":
		switch {
		case about.IsReplica():
			return policy.One("REPLICA")
		case about.MultiRegion:
			return policy.One("PRIMARY")
		}
	case "aws:resourcetag":
		return ofTags(k, about.Tags)
	}
	return policy.Values{}
}
