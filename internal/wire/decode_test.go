package wire_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
	"github.com/keywright/keywright/internal/wire/trailapi"
)

func TestDecodeFillsEveryKind(t *testing.T) {
	body := `{ "KeyId" : "a\u00e9\ud83d\ude00\/\"\\\b\f\n\r\t" , "Plaintext":"aGk=", "EncryptionContext":{"k":"v","":""},
		"GrantTokens":["one","two"],"EncryptionAlgorithm":"SYMMETRIC_DEFAULT","DryRun":false,
		"Later":{"x":[1,-2.5e+3,null,true,{"y":"z"}]}}`
	var in kmsapi.EncryptRequest
	if err := wire.DecodeJSON([]byte(body), &in); err != nil {
		t.Fatal(err)
	}
	if want := "aé😀/\"\\\b\f\n\r\t"; in.KeyID != wire.Some(want) {
		t.Errorf("KeyId is %q, want %q", in.KeyID.V, want)
	}
	if string(in.Plaintext.Expose()) != "hi" {
		t.Error("wrong plaintext")
	}
	if !reflect.DeepEqual(in.EncryptionContext, map[string]string{"k": "v", "": ""}) {
		t.Errorf("context is %v", in.EncryptionContext)
	}
	if !reflect.DeepEqual(in.GrantTokens, []string{"one", "two"}) {
		t.Errorf("grant tokens are %q", in.GrantTokens)
	}
	if in.DryRun != wire.Some(false) || in.EncryptionAlgorithm != wire.Some(kmsapi.EncryptionAlgorithmSpecSymmetricDefault) {
		t.Errorf("DryRun is %v, algorithm %v", in.DryRun, in.EncryptionAlgorithm)
	}
}

func TestDecodeKeepsNothingOfTheBody(t *testing.T) {
	body := []byte(`{"KeyId":"alias/a","Plaintext":"aGk=","GrantTokens":["tok"],"EncryptionContext":{"k":"v"}}`)
	var in kmsapi.EncryptRequest
	if err := wire.DecodeJSON(body, &in); err != nil {
		t.Fatal(err)
	}
	clear(body)
	if in.KeyID.V != "alias/a" || string(in.Plaintext.Expose()) != "hi" || in.GrantTokens[0] != "tok" || in.EncryptionContext["k"] != "v" {
		t.Error("the input changed with the body")
	}
}

func TestDecodeAbsent(t *testing.T) {
	for _, body := range []string{``, `{}`, ` {} `, `{"Tags":null,"Policy":null,"MultiRegion":null}`} {
		var in kmsapi.CreateKeyRequest
		if err := wire.DecodeJSON([]byte(body), &in); err != nil {
			t.Errorf("%s: %v", body, err)
		}
		if !reflect.DeepEqual(in, kmsapi.CreateKeyRequest{}) {
			t.Errorf("%s: got %v", body, in)
		}
	}
	var in kmsapi.CreateKeyRequest
	if err := wire.DecodeJSON([]byte(`{"Tags":[]}`), &in); err != nil || in.Tags == nil {
		t.Errorf("an empty list became nil, or %v", err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	deep := strings.Repeat("[", 100) + strings.Repeat("]", 100)
	tests := []struct{ op, body string }{
		{"Encrypt", `null`},
		{"Encrypt", `[]`},
		{"Encrypt", `"x"`},
		{"Encrypt", `1`},
		{"Encrypt", `true`},
		{"Encrypt", ` `},
		{"Encrypt", `{`},
		{"Encrypt", `{"KeyId"`},
		{"Encrypt", `{"KeyId":`},
		{"Encrypt", `{"KeyId":"a"`},
		{"Encrypt", `{"KeyId":"a",}`},
		{"Encrypt", `{"KeyId":"a"}}`},
		{"Encrypt", `{"KeyId":"a"} x`},
		{"Encrypt", `{}{}`},
		{"Encrypt", `{,}`},
		{"Encrypt", `{"a" "b"}`},
		{"Encrypt", `{KeyId:"a"}`},
		{"Encrypt", `{'KeyId':'a'}`},
		{"Encrypt", `{"KeyId":"a" "DryRun":true}`},
		{"Encrypt", `{"KeyId":"a","KeyId":"a"}`},
		{"Encrypt", `{"KeyId":"a","\u004beyId":"a"}`},
		{"Encrypt", `{"X":1,"X":1}`},
		{"Encrypt", `{"X":{"y":1,"y":1}}`},
		{"Encrypt", `{"X":[{"y":1,"y":1}]}`},
		{"Encrypt", `{"EncryptionContext":{"a":"b","a":"c"}}`},
		{"Encrypt", `{"EncryptionContext":{"a":"b","\u0061":"c"}}`},
		{"Encrypt", `{"EncryptionContext":{"a":null}}`},
		{"Encrypt", `{"EncryptionContext":{"a":1}}`},
		{"Encrypt", `{"EncryptionContext":[]}`},
		{"Encrypt", `{"GrantTokens":{}}`},
		{"Encrypt", `{"GrantTokens":[null]}`},
		{"Encrypt", `{"GrantTokens":[1]}`},
		{"Encrypt", `{"GrantTokens":["a",]}`},
		{"Encrypt", `{"GrantTokens":["a" "b"]}`},
		{"Encrypt", `{"GrantTokens":["a"`},
		{"Encrypt", `{"GrantTokens":`},
		{"Encrypt", `{"KeyId":1}`},
		{"Encrypt", `{"KeyId":true}`},
		{"Encrypt", `{"KeyId":{}}`},
		{"Encrypt", `{"KeyId":["a"]}`},
		{"Encrypt", `{"KeyId":nul}`},
		{"Encrypt", `{"DryRun":"true"}`},
		{"Encrypt", `{"DryRun":1}`},
		{"Encrypt", `{"DryRun":tru}`},
		{"Encrypt", `{"DryRun":True}`},
		{"Encrypt", `{"Plaintext":"aGk"}`},
		{"Encrypt", `{"Plaintext":"aGl="}`},
		{"Encrypt", `{"Plaintext":"a Gk="}`},
		{"Encrypt", `{"Plaintext":"aG-_"}`},
		{"Encrypt", `{"Plaintext":"===="}`},
		{"Encrypt", `{"Plaintext":"a==="}`},
		{"Encrypt", `{"Plaintext":"aGk=aGk="}`},
		{"Encrypt", `{"Plaintext":"aGk=\r\n\r\n"}`},
		{"Encrypt", "{\"Plaintext\":\"aGk\n\"}"},
		{"Encrypt", `{"Plaintext":"aGk\n"}`},
		{"Encrypt", `{"Plaintext":"aGk=`},
		{"Encrypt", `{"Plaintext":5}`},
		{"Encrypt", "{\"KeyId\":\"a\x01\"}"},
		{"Encrypt", "{\"KeyId\":\"\xff\"}"},
		{"Encrypt", "{\"KeyId\":\"\\n\xff\"}"},
		{"Encrypt", "{\"KeyId\":\"\xed\xa0\x80\"}"},
		{"Encrypt", `{"KeyId":"\ud800"}`},
		{"Encrypt", `{"KeyId":"\udc00\ud800"}`},
		{"Encrypt", `{"KeyId":"\ud800\u0041"}`},
		{"Encrypt", `{"KeyId":"\ud800x"}`},
		{"Encrypt", `{"KeyId":"\u12"}`},
		{"Encrypt", `{"KeyId":"\u12g4"}`},
		{"Encrypt", `{"KeyId":"\x41"}`},
		{"Encrypt", `{"KeyId":"a\`},
		{"Encrypt", `{"KeyId":"a\"`},
		{"Encrypt", "\xef\xbb\xbf{}"},
		{"Encrypt", `{"X":` + deep + `}`},
		{"Encrypt", `{"X":01}`},
		{"Encrypt", `{"X":1.}`},
		{"Encrypt", `{"X":.5}`},
		{"Encrypt", `{"X":+1}`},
		{"Encrypt", `{"X":1e}`},
		{"Encrypt", `{"X":-}`},
		{"Encrypt", `{"X":NaN}`},
		{"Encrypt", `{"X":Infinity}`},
		{"Encrypt", `{"X":}`},
		{"ListKeys", `{"Limit":"5"}`},
		{"ListKeys", `{"Limit":5.0}`},
		{"ListKeys", `{"Limit":5e0}`},
		{"ListKeys", `{"Limit":1.5}`},
		{"ListKeys", `{"Limit":2147483648}`},
		{"ListKeys", `{"Limit":-2147483649}`},
		{"ListKeys", `{"Limit":99999999999999999999}`},
		{"ListKeys", `{"Limit":true}`},
		{"ListKeys", `{"Limit":05}`},
		{"TagResource", `{"Tags":{}}`},
		{"TagResource", `{"Tags":[1]}`},
		{"TagResource", `{"Tags":[null]}`},
		{"TagResource", `{"Tags":[{"TagKey":"a","TagKey":"b"}]}`},
		{"TagResource", `{"Tags":[{]}`},
		{"Decrypt", `{"Recipient":[]}`},
		{"Decrypt", `{"Recipient":""}`},
		{"ImportKeyMaterial", `{"ValidTo":"yesterday"}`},
		{"ImportKeyMaterial", `{"ValidTo":1e300}`},
		{"ImportKeyMaterial", `{"ValidTo":1e999}`},
		{"ImportKeyMaterial", `{"ValidTo":true}`},
	}
	for _, test := range tests {
		op, _ := kmsapi.Service.Operation(test.op)
		err := wire.DecodeJSON([]byte(test.body), op.New().(wire.JSONInput))
		if err == nil || err.Code != wire.CodeSerialization {
			t.Errorf("%s %q: got %v, want SerializationException", test.op, test.body, err)
		}
	}
}

func TestDecodeErrorsEchoNothing(t *testing.T) {
	for _, body := range []string{`{"Plaintext":"hunter2!"}`, `{"Plaintext":"hunter2","hunter2":1,"hunter2":2}`, `{"DryRun":"hunter2"}`, `{"KeyId":{"hunter2":1}}`} {
		err := wire.DecodeJSON([]byte(body), new(kmsapi.EncryptRequest))
		if err == nil || strings.Contains(err.Error(), "hunter") {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestDecodeTime(t *testing.T) {
	want := time.Date(2024, 11, 23, 0, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		`1732320000`:                  want,
		`1732320000.0`:                want,
		`1.73232E9`:                   want,
		`1732320000.1234`:             want.Add(123 * time.Millisecond),
		`"2024-11-23T00:00:00Z"`:      want,
		`"2024-11-23T01:00:00+01:00"`: want,
		`-1`:                          time.Unix(-1, 0).UTC(),
	} {
		var in kmsapi.ImportKeyMaterialRequest
		if err := wire.DecodeJSON([]byte(`{"ValidTo":`+text+`}`), &in); err != nil || !in.ValidTo.V.Equal(want) || !in.ValidTo.Set {
			t.Errorf("%s: got %v, %v, want %v", text, in.ValidTo.V, err, want)
		}
	}
}

func TestDecodeBlobSizes(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	for size := range 70 {
		blob := make([]byte, size)
		_, _ = random.Read(blob)
		for _, text := range []string{base64.StdEncoding.EncodeToString(blob), strings.ReplaceAll(base64.StdEncoding.EncodeToString(blob), "/", `\/`)} {
			var in kmsapi.DecryptRequest
			if err := wire.DecodeJSON([]byte(`{"CiphertextBlob":"`+text+`"}`), &in); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(in.CiphertextBlob, blob) || in.CiphertextBlob == nil || cap(in.CiphertextBlob) > size+8 {
				t.Errorf("size %d: got %x (capacity %d), want %x", size, in.CiphertextBlob, cap(in.CiphertextBlob), blob)
			}
		}
	}
}

func TestDecodeBoundsUnknownNames(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"KeyId":"a"`)
	for i := range 5000 {
		fmt.Fprintf(&b, `,"x%d":0`, i)
	}
	b.WriteByte('}')
	if err := wire.DecodeJSON([]byte(b.String()), new(kmsapi.DescribeKeyRequest)); err == nil {
		t.Error("5000 unknown members were accepted")
	}
}

func TestDecodeTrail(t *testing.T) {
	var in trailapi.LookupEventsRequest
	body := `{"LookupAttributes":[{"AttributeKey":"EventName","AttributeValue":"Encrypt"}],"StartTime":1732320000,"MaxResults":5}`
	if err := wire.DecodeJSON([]byte(body), &in); err != nil {
		t.Fatal(err)
	}
	if len(in.LookupAttributes) != 1 || in.LookupAttributes[0].AttributeValue.V != "Encrypt" || in.MaxResults.V != 5 {
		t.Errorf("got %+v", in)
	}
}

// FuzzDecodeJSON reads any document as the input of any operation. What is accepted must be JSON to the standard
// library too, must mean the same to both, and must survive being written and read again.
func FuzzDecodeJSON(f *testing.F) {
	for i, op := range kmsapi.Operations {
		f.Add(uint8(i), []byte(`{}`))
		f.Add(uint8(i), []byte(sample(op.New().ShapeName(), 0)))
	}
	f.Add(uint8(0), []byte(`{"KeyId":"\ud83d\ude00","X":[{}]}`))
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		op := kmsapi.Operations[int(which)%len(kmsapi.Operations)]
		in := op.New().(wire.JSONInput)
		if err := wire.DecodeJSON(body, in); err != nil {
			if err.Code != wire.CodeSerialization {
				t.Fatalf("code %s", err.Code)
			}
			return
		}
		if err := wire.Validate(in); err != nil && err.Code != wire.CodeValidation {
			t.Fatalf("code %s", err.Code)
		}
		checkMeaning(t, body, op, in)
	})
}

// TestDecodeAgreesWithStandardLibrary reads a full document of every operation.
func TestDecodeAgreesWithStandardLibrary(t *testing.T) {
	for _, op := range kmsapi.Operations {
		body := []byte(sample(op.New().ShapeName(), 0))
		in := op.New().(wire.JSONInput)
		if err := wire.DecodeJSON(body, in); err != nil {
			t.Errorf("%s: %v in %s", op.Name, err, body)
			continue
		}
		checkMeaning(t, body, op, in)
		if n := len(kmsModel.Shapes[in.ShapeName()].Members); n != len(generic(t, written(in))) {
			t.Errorf("%s: not all of %d members were read", op.Name, n)
		}
	}
}

func checkMeaning(t *testing.T, body []byte, op wire.Operation, in wire.JSONInput) {
	t.Helper()
	again := op.New().(wire.JSONInput)
	text := written(in)
	if err := wire.DecodeJSON(text, again); err != nil {
		t.Fatalf("%s: reading back %s: %v", op.Name, text, err)
	}
	if second := written(again); !bytes.Equal(text, second) {
		t.Fatalf("%s: wrote %s, then %s", op.Name, text, second)
	}
	if len(body) == 0 {
		return
	}
	if !json.Valid(body) {
		t.Fatalf("%s: accepted what is not JSON: %q", op.Name, body)
	}
	ours, theirs := generic(t, text), generic(t, body)
	if theirs := known(theirs, in.ShapeName()); !reflect.DeepEqual(ours, theirs) {
		t.Fatalf("%s: we read %v, the standard library %v", op.Name, ours, theirs)
	}
}

func generic(t *testing.T, body []byte) map[string]any {
	t.Helper()
	var m map[string]any
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&m); err != nil {
		t.Fatalf("the standard library reads %q: %v", body, err)
	}
	return m
}
