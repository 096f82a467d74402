package iam

import (
	"reflect"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/iamapi"
)

// IAM has many operations that differ in little. What its table and its audit records need of their inputs and outputs is
// found by the names of members, which the model gives. Secrets are safe from this: they have a type of their own, which no
// function here reads.

// member returns the text of a member of an input, and whether it is there.
func member(in wire.Input, name string) (string, bool) {
	v := reflect.ValueOf(in).Elem().FieldByName(name)
	if !v.IsValid() {
		return "", false
	}
	o, ok := v.Interface().(wire.Opt[string])
	return o.V, ok && o.Set
}

// requestTags returns the tags that a request brings, and the keys of the tags that it concerns.
func requestTags(in wire.Input) (tags []key.Tag, keys []string) {
	v := reflect.ValueOf(in).Elem()
	if f := v.FieldByName("Tags"); f.IsValid() {
		if list, ok := f.Interface().([]iamapi.Tag); ok {
			tags = toTags(list)
		}
	}
	for _, t := range tags {
		keys = append(keys, t.Key)
	}
	if f := v.FieldByName("TagKeys"); f.IsValid() {
		if list, ok := f.Interface().([]string); ok {
			keys = append(keys, list...)
		}
	}
	return tags, keys
}

// showInput is the Show of all operations: every member that is there and no secret.
func showInput(f *audit.Fields, in wire.Input) { showMembers(f, reflect.ValueOf(in).Elem()) }

// showOutput is the Reply of all operations that change something.
func showOutput(f *audit.Fields, _ *guard.Call, out wire.Output) {
	if out != nil {
		showMembers(f, reflect.ValueOf(out).Elem())
	}
}

func showMembers(f *audit.Fields, v reflect.Value) {
	for i := range v.NumField() {
		name := memberName(v.Type().Field(i).Name)
		switch m := v.Field(i).Interface().(type) {
		case wire.Opt[string]:
			if m.Set {
				f.String(name, m.V)
			}
		case wire.Opt[int32]:
			if m.Set {
				f.Int(name, int64(m.V))
			}
		case wire.Opt[bool]:
			if m.Set {
				f.Bool(name, m.V)
			}
		case wire.Opt[time.Time]:
			if m.Set {
				f.Date(name, m.V)
			}
		case []string:
			if len(m) > 0 {
				f.Strings(name, m)
			}
		default:
			showNested(f, name, v.Field(i))
		}
	}
}

// showNested shows structures and lists of them; everything else stays out of the record.
func showNested(f *audit.Fields, name string, v reflect.Value) {
	switch {
	case v.Kind() == reflect.Pointer && v.Type().Elem().Kind() == reflect.Struct && !v.IsNil():
		f.Object(name, func(f *audit.Fields) { showMembers(f, v.Elem()) })
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct && v.Len() > 0:
		f.Objects(name, v.Len(), func(i int, f *audit.Fields) { showMembers(f, v.Index(i)) })
	}
}

// memberName returns a member's name as records have it: userName, policyArn, accessKeyId.
func memberName(field string) string {
	switch field {
	case "ARN", "URL":
		return strings.ToLower(field)
	case "ClientID", "ClientIDList":
		return "c" + field[1:]
	}
	for _, s := range [...][2]string{{"ARNs", "Arns"}, {"ARN", "Arn"}, {"ID", "Id"}} {
		if rest, ok := strings.CutSuffix(field, s[0]); ok {
			field = rest + s[1]
			break
		}
	}
	return strings.ToLower(field[:1]) + field[1:]
}
