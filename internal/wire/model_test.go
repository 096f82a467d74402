package wire_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/wire"
)

// testModel is the model file as tests need it: an account of the shapes that did not go through the generator.
type testModel struct {
	Shapes map[string]testShape
	Errors map[string]struct{ Fault bool }
}

type testShape struct {
	Type, Member, Key, Value string
	Sensitive                bool
	Enum                     []string
	Members                  [][2]string
}

var kmsModel = loadModel("kms")

func loadModel(name string) (m testModel) {
	b, err := os.ReadFile("model/" + name + ".json")
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		panic(err)
	}
	return m
}

// sample writes a document with every member of a shape.
func sample(shape string, depth int) string {
	s := kmsModel.Shapes[shape]
	var parts []string
	switch s.Type {
	case "structure":
		for _, m := range s.Members {
			parts = append(parts, strconv.Quote(m[0])+":"+sample(m[1], depth+1))
		}
		return "{" + strings.Join(parts, ",") + "}"
	case "list":
		return "[" + sample(s.Member, depth+1) + "," + sample(s.Member, depth+1) + "]"
	case "map":
		return `{"key é":` + sample(s.Value, depth+1) + `,"":` + sample(s.Value, depth+1) + `}`
	case "integer":
		return "42"
	case "boolean":
		return "true"
	case "timestamp":
		return "1732320000.5"
	case "blob":
		return `"` + base64.StdEncoding.EncodeToString([]byte(shape)) + `"`
	}
	if s.Enum != nil {
		return strconv.Quote(s.Enum[0])
	}
	return `"text \"of\" ` + shape + ` \u20ac"`
}

// known keeps of a document what the model of a shape has, without nulls and in one spelling of numbers and times.
func known(doc map[string]any, shape string) map[string]any {
	out := map[string]any{}
	for _, m := range kmsModel.Shapes[shape].Members {
		if v, ok := doc[m[0]]; ok && v != nil {
			out[m[0]] = knownValue(v, m[1])
		}
	}
	return out
}

func knownValue(v any, shape string) any {
	s := kmsModel.Shapes[shape]
	switch v := v.(type) {
	case map[string]any:
		if s.Type == "structure" {
			return known(v, shape)
		}
	case []any:
		list := []any{}
		for _, e := range v {
			list = append(list, knownValue(e, s.Member))
		}
		return list
	case json.Number:
		if s.Type == "timestamp" {
			var t struct{ ValidTo wire.Opt[time.Time] }
			f, _ := v.Float64()
			t.ValidTo = wire.Some(time.UnixMilli(int64(roundMillis(f))))
			return json.Number(wire.AppendTime(nil, t.ValidTo.V))
		}
		n, _ := v.Int64()
		return json.Number(strconv.FormatInt(n, 10))
	case string:
		if s.Type == "timestamp" {
			t, _ := time.Parse(time.RFC3339Nano, v)
			return json.Number(wire.AppendTime(nil, t.Truncate(time.Millisecond)))
		}
	}
	return v
}

func roundMillis(seconds float64) float64 {
	ms := seconds * 1000
	if ms < 0 {
		return float64(int64(ms - 0.5))
	}
	return float64(int64(ms + 0.5))
}

// written writes an input as JSON by reflection, with names from the model.
func written(in wire.Input) []byte {
	return appendShape(nil, reflect.ValueOf(in).Elem(), in.ShapeName())
}

func appendShape(b []byte, v reflect.Value, shape string) []byte {
	b = append(b, '{')
	for i, m := range kmsModel.Shapes[shape].Members {
		value, there := appendValue(nil, v.Field(i), m[1])
		if there {
			b = append(b, strconv.Quote(m[0])+":"...)
			b = append(append(b, value...), ',')
		}
	}
	return wire.CloseObject(b)
}

func appendValue(b []byte, v reflect.Value, shape string) (text []byte, there bool) {
	s := kmsModel.Shapes[shape]
	switch x := v.Interface().(type) {
	case wire.Opt[string]:
		return wire.AppendString(b, x.V), x.Set
	case wire.Opt[bool]:
		return wire.AppendBool(b, x.V), x.Set
	case wire.Opt[int32]:
		return wire.AppendInt(b, x.V), x.Set
	case wire.Opt[time.Time]:
		return wire.AppendTime(b, x.V), x.Set
	case secret.Bytes:
		if s.Type == "blob" {
			return wire.AppendSecretBlob(b, x), !x.IsZero()
		}
		return wire.AppendSecretString(b, x), !x.IsZero()
	case []byte:
		return wire.AppendBlob(b, x), x != nil
	case []string:
		return wire.AppendStrings(b, x), x != nil
	case map[string]string:
		b = append(b, '{')
		for _, k := range slices.Sorted(maps.Keys(x)) {
			b = append(wire.AppendString(b, k), ':')
			b = append(wire.AppendString(b, x[k]), ',')
		}
		return wire.CloseObject(b), x != nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return b, false
		}
		return appendShape(b, v.Elem(), shape), true
	case reflect.Slice:
		b = append(b, '[')
		for i := range v.Len() {
			b = append(appendShape(b, v.Index(i), s.Member), ',')
		}
		return wire.CloseArray(b), !v.IsNil()
	}
	panic("no way to write " + shape + " " + v.Type().String() + string(bytes.TrimSpace(b)))
}
