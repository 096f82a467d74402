package main

import (
	"fmt"
	"slices"
	"strings"
)

func (e *emitter) kind(shapeName string) kind {
	k, err := e.m.kindOf(shapeName)
	if err != nil {
		e.fail(err)
	}
	return k
}

// scalarCall is the name of the reading method of each kind that one call reads.
var scalarCall = map[kind]string{
	kindString: "OptString", kindSecretString: "SecretString", kindBlob: "Blob", kindSecretBlob: "SecretBlob",
	kindBool: "OptBool", kindInt32: "OptInt32", kindInt64: "OptInt64", kindFloat: "OptFloat64", kindTime: "OptTime",
	kindStrings: "Strings", kindStringMap: "StringMap",
}

func (e *emitter) decodeJSON(name string, s *shape) {
	e.p("\n// DecodeJSON fills r from the object at hand.")
	e.p("func (r *%s) DecodeJSON(d *wire.Decoder) {", goName(name))
	e.p("var o wire.Object\nfor d.Member(&o) {")
	if len(s.Members) == 0 {
		e.p("d.Unknown(&o)\n}\n}")
		return
	}
	e.p("switch string(o.Name) {")
	for i, m := range s.Members {
		e.p("case %q:\nd.Once(&o, %d)", m.Name, i)
		field, elem := "r."+goName(m.Name), e.m.Shapes[m.Shape].Member
		switch k := e.kind(m.Shape); k {
		case kindEnum:
			e.p("%s = d.OptEnum(%s)", field, e.rule(m.Shape))
		case kindStruct:
			e.p("if !d.Null() {\n%s = new(%s)\n%s.DecodeJSON(d)\n}", field, goName(m.Shape), field)
		case kindStructs:
			e.p("if !d.Null() {\n%s = []%s{}\nvar a wire.Array\nfor d.Element(&a) {", field, goName(elem))
			e.p("%s = append(%s, %s{})\n%s[len(%s)-1].DecodeJSON(d)\n}\n}", field, field, goName(elem), field, field)
		default:
			e.p("%s = d.%s()", field, e.call(k, m.Shape))
		}
	}
	e.p("default:\nd.Unknown(&o)\n}\n}\n}")
}

func (e *emitter) call(k kind, shapeName string) string {
	c, ok := scalarCall[k]
	if !ok {
		e.unsupported(shapeName)
	}
	return c
}

func (e *emitter) unsupported(shapeName string) {
	e.fail(fmt.Errorf("shape %s: this kind cannot be coded in this protocol and direction", shapeName))
}

func (e *emitter) decodeQuery(name string, s *shape) {
	e.p("\n// DecodeQuery fills r from the parameters below at.")
	if len(s.Members) == 0 {
		e.p("func (r *%s) DecodeQuery(*wire.Form, string) {}", goName(name))
		return
	}
	e.p("func (r *%s) DecodeQuery(f *wire.Form, at string) {", goName(name))
	for _, m := range s.Members {
		field, elem := "r."+goName(m.Name), e.m.Shapes[m.Shape].Member
		switch k := e.kind(m.Shape); k {
		case kindEnum:
			e.p("%s = f.OptString(at + %q)", field, m.Name)
		case kindStruct:
			e.p("if f.Has(at + %q) {\n%s = new(%s)\n%s.DecodeQuery(f, at + %q)\n}", m.Name, field, goName(m.Shape), field, m.Name+".")
		case kindStructs:
			e.p("if n, there := f.Len(at + %q); there {\n%s = make([]%s, n)", m.Name, field, goName(elem))
			e.p("for i := range %s {\n%s[i].DecodeQuery(f, f.At(at + %q, i+1))\n}\n}", field, field, m.Name)
		case kindBlob, kindSecretBlob, kindStringMap, kindInt64, kindFloat:
			e.unsupported(m.Shape) // no Query input in use has one
		default:
			e.p("%s = f.%s(at + %q)", field, e.call(k, m.Shape), m.Name)
		}
	}
	e.p("}")
}

func (e *emitter) validate(name string, s *shape) {
	e.p("\n// Validate reports the constraints that r breaks.")
	if len(s.Members) == 0 {
		e.p("func (r *%s) Validate(*wire.Violations) {}", goName(name))
		return
	}
	start := e.body.Len()
	e.p("func (r *%s) Validate(v *wire.Violations) {", goName(name))
	empty := e.body.Len()
	for _, m := range s.Members {
		required := slices.Contains(s.Required, m.Name)
		field := "r." + goName(m.Name)
		if u, ok := e.m.requiredUnless[name+"."+m.Name]; ok {
			e.p("// Absent only where %s holds %s.", u.List, u.Holds)
			e.validateMember(m, field, "!slices.Contains(r."+goName(u.List)+", \""+u.Holds+"\")")
			continue
		}
		e.validateMember(m, field, map[bool]string{true: "true", false: "false"}[required])
	}
	if e.body.Len() == empty {
		e.body.Truncate(start)
		e.p("func (r *%s) Validate(*wire.Violations) {}", goName(name))
		return
	}
	e.p("}")
}

// validateMember writes the check of one member; required is a Go expression.
func (e *emitter) validateMember(m member, field, required string) {
	path, rule := pathName(m.Name), e.rule(m.Shape)
	if rule == "nil" && required == "false" && !e.hasStructs(m.Shape) {
		return
	}
	check := map[kind]string{
		kindString: "String", kindEnum: "String", kindSecretString: "SecretString", kindBlob: "Blob",
		kindSecretBlob: "SecretBlob", kindInt32: "Int32", kindInt64: "Int64", kindStrings: "Strings", kindStringMap: "StringMap",
	}
	k := e.kind(m.Shape)
	if method, ok := check[k]; ok {
		e.p("v.%s(%q, %s, %s, %s)", method, path, field, required, rule)
		return
	}
	switch k {
	case kindBool:
		e.p("v.Bool(%q, %s, %s)", path, field, required)
	case kindTime, kindFloat:
		e.p("v.Present(%q, %s.Set)", path, field)
	case kindStruct:
		if required == "true" {
			e.p("v.Present(%q, %s != nil)", path, field)
		}
		e.p("if %s != nil {\nv.Enter(%q, 0)\n%s.Validate(v)\nv.Leave()\n}", field, path, field)
	case kindStructs:
		if required != "false" || e.hasBounds(m.Shape) {
			e.p("v.List(%q, %s != nil, len(%s), %s, %s)", path, field, field, required, rule)
		}
		e.p("for i := range %s {\nv.Enter(%q, i+1)\n%s[i].Validate(v)\nv.Leave()\n}", field, path, field)
	default:
		e.unsupported(m.Shape)
	}
}

func (e *emitter) hasBounds(shapeName string) bool {
	s := e.m.Shapes[shapeName]
	return s.Min != nil || s.Max != nil
}

func (e *emitter) hasStructs(shapeName string) bool {
	k := e.kind(shapeName)
	return k == kindStruct || k == kindStructs
}

// appender is the function that writes the value of each scalar kind in JSON.
var appender = map[kind]string{
	kindString: "AppendString", kindEnum: "AppendString", kindSecretString: "AppendSecretString", kindBlob: "AppendBlob",
	kindSecretBlob: "AppendSecretBlob", kindBool: "AppendBool", kindInt32: "AppendInt", kindInt64: "AppendInt",
	kindFloat: "AppendFloat", kindTime: "AppendTime", kindStrings: "AppendStrings", kindStringMap: "AppendStringMap",
}

// presence returns the condition under which a member is there, and the expression of its value.
func presence(k kind, field string) (there, value string) {
	switch k {
	case kindSecretString, kindSecretBlob:
		return "!" + field + ".IsZero()", field
	case kindBlob, kindStruct, kindStructs, kindStrings, kindStringMap, kindIntMap:
		return field + " != nil", field
	}
	return field + ".Set", field + ".V"
}

func (e *emitter) appendJSON(name string, s *shape) {
	e.p("\n// AppendJSON appends r as an object.")
	if len(s.Members) == 0 {
		e.p("func (r *%s) AppendJSON(b []byte) []byte { return append(b, \"{}\"...) }", goName(name))
		return
	}
	e.p("func (r *%s) AppendJSON(b []byte) []byte {\nb = append(b, '{')", goName(name))
	for _, m := range s.Members {
		k := e.kind(m.Shape)
		there, value := presence(k, "r."+goName(m.Name))
		e.p("if %s {\nb = append(b, `%q:`...)", there, m.Name)
		switch k {
		case kindStruct:
			e.p("b = %s.AppendJSON(b)", value)
		case kindStructs:
			e.p("b = append(b, '[')\nfor i := range %s {\nb = %s[i].AppendJSON(b)\nb = append(b, ',')\n}\nb = wire.CloseArray(b)", value, value)
		default:
			f, ok := appender[k]
			if !ok {
				e.unsupported(m.Shape)
			}
			e.p("b = wire.%s(b, %s)", f, value)
		}
		e.p("b = append(b, ',')\n}")
	}
	e.p("return wire.CloseObject(b)\n}")
}

func (e *emitter) appendXML(name string, s *shape) {
	e.p("\n// AppendXML appends the elements of r.")
	if len(s.Members) == 0 {
		e.p("func (r *%s) AppendXML(b []byte) []byte { return b }", goName(name))
		return
	}
	e.p("func (r *%s) AppendXML(b []byte) []byte {", goName(name))
	for _, m := range s.Members {
		k := e.kind(m.Shape)
		there, value := presence(k, "r."+goName(m.Name))
		e.p("if %s {", there)
		wrap := func(inner string) { // between the tags of the member
			e.p("b = wire.OpenElement(b, %q)\n%s\nb = wire.EndElement(b, %q)", m.Name, inner, m.Name)
		}
		switch k {
		case kindString, kindEnum:
			e.p("b = wire.AppendElement(b, %q, %s)", m.Name, value)
		case kindSecretString:
			e.p("b = wire.AppendElement(b, %q, string(%s.Expose()))", m.Name, value)
		case kindSecretBlob:
			wrap("b = wire.AppendSecretBlobText(b, " + value + ")")
		case kindStrings:
			e.p("b = wire.AppendElements(b, %q, %s)", m.Name, value)
		case kindBool, kindInt32, kindInt64:
			wrap("b = wire." + appender[k] + "(b, " + value + ")")
		case kindTime:
			wrap("b = wire.AppendTimeText(b, " + value + ")")
		case kindStruct:
			wrap("b = " + value + ".AppendXML(b)")
		case kindStructs:
			wrap(strings.ReplaceAll("for i := range $ {\nb = wire.OpenElement(b, \"member\")\nb = $[i].AppendXML(b)\nb = wire.EndElement(b, \"member\")\n}", "$", value))
		case kindIntMap:
			e.p("b = wire.AppendEntries(b, %q, %s, wire.AppendInt[int32])", m.Name, value)
		case kindStringMap:
			e.p("b = wire.AppendEntries(b, %q, %s, wire.AppendText)", m.Name, value)
		default:
			e.unsupported(m.Shape)
		}
		e.p("}")
	}
	e.p("return b\n}")
}
