package wire_test

import (
	"encoding/xml"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/iamapi"
	"github.com/keywright/keywright/internal/wire/kmsapi"
	"github.com/keywright/keywright/internal/wire/quotaapi"
	"github.com/keywright/keywright/internal/wire/stsapi"
	"github.com/keywright/keywright/internal/wire/trailapi"
)

var services = map[string]*wire.Service{
	"kms": &kmsapi.Service, "sts": &stsapi.Service, "iam": &iamapi.Service, "cloudtrail": &trailapi.Service, "servicequotas": &quotaapi.Service,
}

// outputs returns an empty value of every output of every operation.
func outputs() []wire.Output {
	var all []wire.Output
	for _, service := range services {
		for _, op := range service.Operations {
			if op.HasOutput {
				all = append(all, op.NewOutput())
			}
		}
	}
	return all
}

// fill sets every member to something.
func fill(v reflect.Value, depth int) {
	switch v.Interface().(type) {
	case wire.Opt[string]:
		v.Set(reflect.ValueOf(wire.Some("a <text> & \"more\"")))
		return
	case wire.Opt[bool]:
		v.Set(reflect.ValueOf(wire.Some(true)))
		return
	case wire.Opt[int32]:
		v.Set(reflect.ValueOf(wire.Some(int32(-5))))
		return
	case wire.Opt[float64]:
		v.Set(reflect.ValueOf(wire.Some(0.5)))
		return
	case wire.Opt[time.Time]:
		v.Set(reflect.ValueOf(wire.Some(time.UnixMilli(1732320000050))))
		return
	case secret.Bytes:
		v.Set(reflect.ValueOf(secret.FromString("a secret")))
		return
	case []byte:
		v.SetBytes([]byte{1, 2, 3})
		return
	case string:
		v.SetString("word")
		return
	case int32:
		v.SetInt(7)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), depth+1)
		}
	case reflect.Pointer:
		if depth < 12 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem(), depth+1)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), depth+1)
		fill(v.Index(1), depth+1)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		value := reflect.New(v.Type().Elem()).Elem()
		fill(value, depth+1)
		v.SetMapIndex(reflect.ValueOf("key"), value)
	default:
		panic("cannot fill " + v.Type().String())
	}
}

// TestSecretsAreWhereTheModelSaysSo walks every input and output of every operation: a member is a secret.Bytes if and
// only if the model marks its shape sensitive. Otherwise a secret could print, or a public value would not.
func TestSecretsAreWhereTheModelSaysSo(t *testing.T) {
	checked := 0
	for name, service := range services {
		model := loadModel(name)
		seen := map[string]bool{}
		var walk func(v reflect.Type, shape string)
		walk = func(v reflect.Type, shape string) {
			s := model.Shapes[shape]
			if want := s.Sensitive; (v == reflect.TypeFor[secret.Bytes]()) != want {
				t.Errorf("%s shape %s: Go type %v, sensitive %t", name, shape, v, want)
			}
			checked++
			switch s.Type {
			case "structure":
				if v.Kind() == reflect.Pointer {
					v = v.Elem()
				}
				if seen[shape] {
					return
				}
				seen[shape] = true
				for i, m := range s.Members {
					walk(v.Field(i).Type, m[1])
				}
			case "list":
				if element := v.Elem(); element.Kind() == reflect.Struct {
					walk(element, s.Member)
				}
			}
		}
		for _, op := range service.Operations {
			in := op.New()
			walk(reflect.TypeOf(in), in.ShapeName())
			if op.HasOutput {
				out := op.NewOutput()
				walk(reflect.TypeOf(out), out.ShapeName())
			}
		}
	}
	if checked < 500 {
		t.Errorf("only %d members were looked at", checked)
	}
}

func TestOperations(t *testing.T) {
	counts := map[string]int{"kms": 56, "sts": 7, "cloudtrail": 2}
	for name, service := range services {
		if want, ok := counts[name]; ok && len(service.Operations) != want {
			t.Errorf("%s has %d operations, want %d", name, len(service.Operations), want)
		}
		for _, op := range service.Operations {
			if op.HasOutput != (op.NewOutput != nil) {
				t.Errorf("%s %s: HasOutput is %t", name, op.Name, op.HasOutput)
			}
			if found, ok := service.Operation(op.Name); !ok || found.Name != op.Name {
				t.Errorf("%s: %s is not found by its name", name, op.Name)
			}
			in := op.New()
			_, isJSON := in.(wire.JSONInput)
			_, isQuery := in.(wire.QueryInput)
			if isJSON != (service.Protocol == wire.JSON11) || isQuery != (service.Protocol == wire.Query) {
				t.Errorf("%s %s: its input has the wrong codec", name, op.Name)
			}
			if anonymous := op.Name == "AssumeRoleWithWebIdentity"; op.Anonymous != anonymous {
				t.Errorf("%s %s: Anonymous is %t", name, op.Name, op.Anonymous)
			}
		}
	}
	if _, ok := kmsapi.Service.Operation("encrypt"); ok {
		t.Error("operation names ignore case")
	}
	for name, want := range map[string]bool{"Encrypt": true, "ConnectCustomKeyStore": true, "CreateAlias": false, "TagResource": false, "UpdatePrimaryRegion": false} {
		if op, ok := kmsapi.Service.Operation(name); !ok || op.HasOutput != want {
			t.Errorf("%s: HasOutput is not %t", name, want)
		}
	}
	if op, _ := kmsapi.Service.Operation("CreateAlias"); !slices.Contains(op.Errors, kmsapi.CodeAlreadyExistsException) {
		t.Error("CreateAlias lacks AlreadyExistsException")
	}
}

func TestXMLOutputsAreReadable(t *testing.T) {
	for _, out := range outputs() {
		x, ok := out.(wire.XMLOutput)
		if !ok {
			continue
		}
		fill(reflect.ValueOf(out).Elem(), 0)
		text := "<r>" + string(x.AppendXML(nil)) + "</r>"
		for d := xml.NewDecoder(strings.NewReader(text)); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v in %s", x.ShapeName(), err, text)
			}
		}
	}
}
