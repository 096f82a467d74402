package policy

import "strings"

// explain is Evaluate without short cuts.
func (d *Document) explain(req *Request) Decision {
	var out Decision
	out.Reasons = make([]Reason, len(d.statements))
	for i := range d.statements {
		s := &d.statements[i]
		r := &out.Reasons[i]
		*r = Reason{Statement: i, Sid: s.sid, Effect: Allow, Match: s.names(req.Principal)}
		if s.deny {
			r.Effect = Deny
		}
		switch {
		case r.Match == 0:
			r.Failed = PartPrincipal
		case req.Suppose:
			s.suppose(r, req)
		default:
			if r.Failed = s.test(req); r.Failed == PartCondition {
				s.explainCondition(r, req.Context)
			}
		}
		switch {
		case r.Failed != NoPart:
		case s.deny:
			out.Effect = Deny
		default:
			out.Effect = max(out.Effect, Allow)
			out.Match |= r.Match
		}
	}
	if out.Effect != Allow {
		out.Match = 0
	}
	return out
}

// explainCondition tells of the first condition that is not true.
func (s *statement) explainCondition(r *Reason, ctx Context) {
	for i := range s.conditions {
		if c := &s.conditions[i]; !c.holds(ctx) {
			c.tell(r, ctx)
			return
		}
	}
}

// tell says in r which condition failed, and with what values.
func (c *condition) tell(r *Reason, ctx Context) {
	r.Condition, r.Want = c.name, c.want
	if c.never {
		return
	}
	v := lookup(ctx, c.key)
	for j := range v.Len() {
		r.Have = append(r.Have, v.At(j))
	}
}

// truth is the value of something that may depend on what is not known. The values are in order, so that "and" is the least
// and "or" the greatest.
type truth uint8

const (
	no truth = iota
	unknown
	yes
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// unless returns the truth of the contrary if negated.
func (t truth) unless(negated bool) truth {
	if negated {
		return yes - t
	}
	return t
}

// open reports whether nothing is known of a key.
func open(ctx Context, key Key) bool {
	if lookup(ctx, key).Len() > 0 {
		return false
	}
	settled, ok := ctx.(Settled)
	return !ok || !settled.Absent(key)
}

// suppose fills in whether the statement applies, as far as that can be known, and what it depends on.
func (s *statement) suppose(r *Reason, req *Request) {
	switch {
	case s.inert:
		r.Failed = PartMissing
		return
	case s.matchesAction(req.Action) == s.notAction:
		r.Failed = PartAction
		return
	}
	about, texts := s.supposeResource(req)
	if about == no {
		r.Failed = PartResource
		return
	}
	doubt := NoPart
	if about == unknown {
		doubt = PartResource
		name := "Resource"
		if s.notResource {
			name = "NotResource"
		}
		r.Given = append(r.Given, name+" = "+strings.Join(texts, ", "))
	}
	for i := range s.conditions {
		c := &s.conditions[i]
		switch c.suppose(req.Context) {
		case no:
			r.Failed, r.Given = PartCondition, nil
			c.tell(r, req.Context)
			return
		case unknown:
			doubt = PartCondition
			r.Given = append(r.Given, c.name+" = "+strings.Join(c.want, ", "))
		}
	}
	if s.deny {
		r.Failed = doubt
	}
}

// supposeResource returns whether Resource or NotResource matches, and which of its patterns are in doubt.
func (s *statement) supposeResource(req *Request) (t truth, doubtful []string) {
	for i := range s.resources {
		a := &s.resources[i]
		one := a.suppose(req.Resource, req.Context)
		if one == unknown {
			doubtful = append(doubtful, a.text)
		}
		t = max(t, one)
	}
	return t.unless(s.notResource), doubtful
}

// suppose is holds where a key that is absent may be there or not.
func (c *condition) suppose(ctx Context) truth {
	switch {
	case c.never:
		return truthOf(c.holds(ctx))
	case open(ctx, c.key):
		return unknown
	}
	v := lookup(ctx, c.key)
	if n := v.Len(); c.op.family == nullFamily || n == 0 || n == 1 && v.At(0) == "" {
		return truthOf(c.holds(ctx))
	}
	all := c.set == forAllValues || c.set == single && c.op.negated
	t := truthOf(all)
	for i := range v.Len() {
		one := c.supposeValue(v.At(i), ctx).unless(c.op.negated)
		if all {
			t = min(t, one)
		} else {
			t = max(t, one)
		}
	}
	return t
}

// supposeValue is matches where the policy's values may depend on variables that nothing is known of.
func (c *condition) supposeValue(v string, ctx Context) (t truth) {
	for i := range c.strings {
		t = max(t, c.strings[i].suppose(v, ctx, c.op.fold))
	}
	for i := range c.arns {
		t = max(t, c.arns[i].suppose(v, ctx))
	}
	return max(t, truthOf(c.matches(v, ctx)))
}

// suppose is match where a variable without a value may have one.
func (p *pattern) suppose(s string, ctx Context, fold bool) truth {
	for i := range p.segs {
		if p.segs[i].variable && open(ctx, p.segs[i].key) {
			return unknown
		}
	}
	return truthOf(p.match(s, ctx, fold))
}

func (a *arnPattern) suppose(s string, ctx Context) truth {
	if len(a.parts) == 0 {
		return a.whole.suppose(s, ctx, false)
	}
	t := yes
	for i := range a.parts {
		part := s
		if i < arnParts-1 {
			var ok bool
			if part, s, ok = strings.Cut(s, ":"); !ok {
				return no
			}
		}
		t = min(t, a.parts[i].suppose(part, ctx, false))
	}
	return t
}

// ContextKeys lists the condition keys and policy variables that the document uses, as they are written, each once
// whatever its letter case, in the order of the document (GetContextKeysForCustomPolicy).
func (d *Document) ContextKeys() []string {
	var list []string
	seen := map[Key]bool{}
	add := func(written string, key Key) {
		if !seen[key] {
			seen[key] = true
			list = append(list, written)
		}
	}
	variables := func(p *pattern) {
		for i := range p.segs {
			if p.segs[i].variable {
				add(p.segs[i].name, p.segs[i].key)
			}
		}
	}
	arns := func(patterns []arnPattern) {
		for i := range patterns {
			variables(&patterns[i].whole)
			for j := range patterns[i].parts {
				variables(&patterns[i].parts[j])
			}
		}
	}
	for i := range d.statements {
		s := &d.statements[i]
		arns(s.resources)
		for j := range s.conditions {
			c := &s.conditions[j]
			_, written, _ := strings.Cut(c.name, " ") // after the operator
			add(written, c.key)
			for k := range c.strings {
				variables(&c.strings[k])
			}
			arns(c.arns)
		}
	}
	return list
}
