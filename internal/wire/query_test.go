package wire_test

import (
	"encoding/xml"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/iamapi"
	"github.com/keywright/keywright/internal/wire/stsapi"
)

func TestDecodeQuery(t *testing.T) {
	body := "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr&RoleSessionName=a+b&DurationSeconds=900" +
		"&Tags.member.1.Key=team&Tags.member.1.Value=&Tags.member.2.Key=x&Tags.member.2.Value=%C3%A9" +
		"&TransitiveTagKeys.member.1=team&TransitiveTagKeys.member.2=x&PolicyArns=&Unknown.thing=1&X-Amz-Date=y"
	f, err := wire.ParseForm(body)
	if err != nil {
		t.Fatal(err)
	}
	if f.Action() != "AssumeRole" || f.Version() != "2011-06-15" {
		t.Errorf("action %s, version %s", f.Action(), f.Version())
	}
	var in stsapi.AssumeRoleRequest
	if err := wire.DecodeQuery(f, &in); err != nil {
		t.Fatal(err)
	}
	want := stsapi.AssumeRoleRequest{
		RoleARN: wire.Some("arn:aws:iam::1:role/r"), RoleSessionName: wire.Some("a b"), DurationSeconds: wire.Some(int32(900)),
		Tags:              []stsapi.Tag{{Key: wire.Some("team"), Value: wire.Some("")}, {Key: wire.Some("x"), Value: wire.Some("é")}},
		TransitiveTagKeys: []string{"team", "x"}, PolicyARNs: []stsapi.PolicyDescriptorType{},
	}
	if !reflect.DeepEqual(in, want) {
		t.Errorf("got  %+v\nwant %+v", in, want)
	}
}

func TestDecodeQuerySecret(t *testing.T) {
	f, err := wire.ParseForm("Action=ChangePassword&OldPassword=old&NewPassword=n%26w")
	if err != nil {
		t.Fatal(err)
	}
	var in iamapi.ChangePasswordRequest
	if err := wire.DecodeQuery(f, &in); err != nil || !in.NewPassword.Equal(secret.FromString("n&w")) {
		t.Errorf("got %v, %v", in, err)
	}
}

func TestParseFormRefuses(t *testing.T) {
	var many strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&many, "a%d=&", i)
	}
	for _, body := range []string{
		"A=1&A=1", "A=1&%41=2", "A=%zz", "A=%", "%zz=1", "A=%ff", "%ff=1", many.String(),
		strings.Repeat("a.", 20) + "b=1", strings.Repeat("a", 600) + "=1",
	} {
		if _, err := wire.ParseForm(body); err == nil || err.Code != wire.CodeSerialization {
			t.Errorf("%.40s: got %v", body, err)
		}
	}
}

func TestDecodeQueryRefuses(t *testing.T) {
	for _, body := range []string{
		"DurationSeconds=abc", "DurationSeconds=", "DurationSeconds=1.0", "DurationSeconds=99999999999", "DurationSeconds.x=1",
		"RoleArn.member.1=a", "TransitiveTagKeys=a", "TransitiveTagKeys.1=a", "TransitiveTagKeys.member=a", "TransitiveTagKeys.member.0=a",
		"TransitiveTagKeys.member.2=a", "TransitiveTagKeys.member.1=a&TransitiveTagKeys.member.3=b", "TransitiveTagKeys.member.01=a",
		"TransitiveTagKeys.member.1.x=a", "TransitiveTagKeys.member.1=a&TransitiveTagKeys.other=b", "Tags.member.1.Key.x=a",
	} {
		f, err := wire.ParseForm(body)
		if err != nil {
			t.Fatal(err)
		}
		if err := wire.DecodeQuery(f, new(stsapi.AssumeRoleRequest)); err == nil || err.Code != wire.CodeSerialization {
			t.Errorf("%s: got %v", body, err)
		}
	}
	f, _ := wire.ParseForm("SetAsDefault=yes")
	if err := wire.DecodeQuery(f, new(iamapi.CreatePolicyVersionRequest)); err == nil {
		t.Error("a boolean of yes was accepted")
	}
}

func TestXMLAnswers(t *testing.T) {
	tests := []struct {
		service *wire.Service
		op      string
		out     wire.Output
		want    string
	}{
		{
			&stsapi.Service, "GetCallerIdentity", &stsapi.GetCallerIdentityResponse{UserID: wire.Some("1"), Account: wire.Some("1"), ARN: wire.Some("arn:aws:iam::1:root")},
			`<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult><UserId>1</UserId>` +
				`<Account>1</Account><Arn>arn:aws:iam::1:root</Arn></GetCallerIdentityResult><ResponseMetadata><RequestId>id</RequestId>` +
				`</ResponseMetadata></GetCallerIdentityResponse>`,
		},
		{
			&stsapi.Service, "GetSessionToken", &stsapi.GetSessionTokenResponse{Credentials: &stsapi.Credentials{
				SecretAccessKey: secret.FromString("a&b"), Expiration: wire.Some(time.UnixMilli(1732320000000)),
			}},
			`<GetSessionTokenResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetSessionTokenResult><Credentials>` +
				`<SecretAccessKey>a&amp;b</SecretAccessKey><Expiration>2024-11-23T00:00:00Z</Expiration></Credentials></GetSessionTokenResult>` +
				`<ResponseMetadata><RequestId>id</RequestId></ResponseMetadata></GetSessionTokenResponse>`,
		},
		{
			&iamapi.Service, "DeleteUser", nil,
			`<DeleteUserResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><ResponseMetadata><RequestId>id</RequestId>` +
				`</ResponseMetadata></DeleteUserResponse>`,
		},
		{
			&iamapi.Service, "GetAccountSummary", &iamapi.GetAccountSummaryResponse{SummaryMap: map[string]int32{"Users": 3}},
			`<GetAccountSummaryResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><GetAccountSummaryResult><SummaryMap><entry>` +
				`<key>Users</key><value>3</value></entry></SummaryMap></GetAccountSummaryResult><ResponseMetadata><RequestId>id</RequestId>` +
				`</ResponseMetadata></GetAccountSummaryResponse>`,
		},
		{
			&iamapi.Service, "ListAccountAliases", &iamapi.ListAccountAliasesResponse{AccountAliases: []string{"a"}, IsTruncated: wire.Some(false)},
			`<ListAccountAliasesResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><ListAccountAliasesResult><AccountAliases>` +
				`<member>a</member></AccountAliases><IsTruncated>false</IsTruncated></ListAccountAliasesResult><ResponseMetadata>` +
				`<RequestId>id</RequestId></ResponseMetadata></ListAccountAliasesResponse>`,
		},
		{
			&iamapi.Service, "ListVirtualMFADevices",
			&iamapi.ListVirtualMFADevicesResponse{VirtualMFADevices: []iamapi.VirtualMFADevice{{Base32StringSeed: secret.FromString("ab")}}},
			`<ListVirtualMFADevicesResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><ListVirtualMFADevicesResult><VirtualMFADevices>` +
				`<member><Base32StringSeed>YWI=</Base32StringSeed></member></VirtualMFADevices></ListVirtualMFADevicesResult><ResponseMetadata>` +
				`<RequestId>id</RequestId></ResponseMetadata></ListVirtualMFADevicesResponse>`,
		},
		{
			&iamapi.Service, "ListUsers", &iamapi.ListUsersResponse{Users: []iamapi.User{{UserName: wire.Some("u")}}},
			`<ListUsersResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><ListUsersResult><Users><member><UserName>u</UserName>` +
				`</member></Users></ListUsersResult><ResponseMetadata><RequestId>id</RequestId></ResponseMetadata></ListUsersResponse>`,
		},
	}
	for _, test := range tests {
		op, ok := test.service.Operation(test.op)
		if !ok {
			t.Fatal(test.op)
		}
		if got := string(test.service.AppendAnswer(nil, op, test.out, "id")); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}

func TestAppendTextAgreesWithStandardLibrary(t *testing.T) {
	for r := rune(0); r < 0x11000; r++ {
		s := "a" + string(r) + "b"
		var got struct {
			Text string `xml:",chardata"`
		}
		text := "<x>" + string(wire.AppendText(nil, s)) + "</x>"
		if err := xml.Unmarshal([]byte(text), &got); err != nil {
			t.Fatalf("%U: %v", r, err)
		}
		if got.Text != s && got.Text != "a\uFFFDb" {
			t.Fatalf("%U: read back as %q", r, got.Text)
		}
	}
}

// FuzzQuery reads any form as the input of any Query operation. It must not panic, and must agree with net/url on what
// the parameters are.
func FuzzQuery(f *testing.F) {
	f.Add(uint8(0), "RoleArn=a&Tags.member.1.Key=b&Tags.member.1.Value=c")
	f.Add(uint8(90), "ContextEntries.member.1.ContextKeyValues.member.1=a&ActionNames.member.1=b")
	f.Add(uint8(3), "A.=1&.=2&..a=3&=4")
	ops := append(append([]wire.Operation{}, stsapi.Operations...), iamapi.Operations...)
	f.Fuzz(func(t *testing.T, which uint8, body string) {
		form, err := wire.ParseForm(body)
		if err != nil {
			return
		}
		values, errStandard := url.ParseQuery(body)
		if errStandard == nil && form.Action() != values.Get("Action") {
			t.Fatalf("action %q, net/url reads %q", form.Action(), values.Get("Action"))
		}
		in := ops[int(which)%len(ops)].New().(wire.QueryInput)
		if err := wire.DecodeQuery(form, in); err != nil && err.Code != wire.CodeSerialization {
			t.Fatalf("code %s", err.Code)
		}
		if err := wire.Validate(in); err != nil && err.Code != wire.CodeValidation {
			t.Fatalf("code %s", err.Code)
		}
	})
}
