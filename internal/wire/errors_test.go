package wire_test

import (
	"testing"

	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/iamapi"
	"github.com/keywright/keywright/internal/wire/kmsapi"
	"github.com/keywright/keywright/internal/wire/stsapi"
)

func TestJSONErrors(t *testing.T) {
	tests := []struct {
		err    *wire.Error
		status int
		body   string
	}{
		{
			wire.Errorf(kmsapi.CodeNotFoundException, "Key '%s' does not exist", "arn"), 400,
			`{"__type":"NotFoundException","message":"Key 'arn' does not exist"}`,
		},
		{wire.Bare(kmsapi.CodeInvalidCiphertextException), 400, `{"__type":"InvalidCiphertextException"}`},
		{wire.Errorf(wire.CodeValidation, ""), 400, `{"__type":"ValidationException","message":""}`},
		{wire.Errorf(wire.CodeValidation, `%d%% "sure"`, 100), 400, `{"__type":"ValidationException","message":"100% \"sure\""}`},
		{wire.Errorf(wire.CodeAccessDenied, "no"), 400, `{"__type":"AccessDeniedException","message":"no"}`},
		{wire.Bare(wire.CodeKMSInternal), 500, `{"__type":"KMSInternalException"}`},
		{wire.Bare(wire.CodeServiceUnavailable), 503, `{"__type":"ServiceUnavailableException"}`},
	}
	for _, test := range tests {
		if got := string(kmsapi.Service.AppendError(nil, test.err, "id")); got != test.body {
			t.Errorf("got  %s\nwant %s", got, test.body)
		}
		if got := kmsapi.Service.Status(test.err); got != test.status {
			t.Errorf("%s: status %d, want %d", test.err.Code, got, test.status)
		}
	}
}

func TestQueryErrors(t *testing.T) {
	tests := []struct {
		service *wire.Service
		err     *wire.Error
		status  int
		code    string
		fault   string
	}{
		{&stsapi.Service, &wire.Error{Code: wire.CodeValidation}, 400, "ValidationError", "Sender"},
		{&stsapi.Service, &wire.Error{Code: wire.CodeAccessDenied}, 403, "AccessDenied", "Sender"},
		{&stsapi.Service, &wire.Error{Code: wire.CodeUnrecognizedClient, Auth: true}, 403, "InvalidClientTokenId", "Sender"},
		{&stsapi.Service, &wire.Error{Code: wire.CodeInvalidSignature, Auth: true}, 403, "SignatureDoesNotMatch", "Sender"},
		{&stsapi.Service, &wire.Error{Code: wire.CodeExpiredToken, Auth: true}, 403, "ExpiredToken", "Sender"},
		{&stsapi.Service, &wire.Error{Code: stsapi.CodeExpiredTokenException}, 400, "ExpiredTokenException", "Sender"},
		{&stsapi.Service, &wire.Error{Code: stsapi.CodePackedPolicyTooLargeException}, 400, "PackedPolicyTooLarge", "Sender"},
		{&stsapi.Service, &wire.Error{Code: wire.CodeUnknownOperation}, 400, "InvalidAction", "Sender"},
		{&stsapi.Service, &wire.Error{Code: wire.CodeInternalFailure}, 500, "InternalFailure", "Receiver"},
		{&stsapi.Service, &wire.Error{Code: wire.CodeSerialization}, 400, "MalformedInput", "Sender"},
		{&iamapi.Service, &wire.Error{Code: iamapi.CodeNoSuchEntityException}, 404, "NoSuchEntity", "Sender"},
		{&iamapi.Service, &wire.Error{Code: iamapi.CodeEntityAlreadyExistsException}, 409, "EntityAlreadyExists", "Sender"},
		{&iamapi.Service, &wire.Error{Code: iamapi.CodeServiceFailureException}, 500, "ServiceFailure", "Receiver"},
		{&iamapi.Service, &wire.Error{Code: "SomethingElse"}, 400, "SomethingElse", "Sender"},
	}
	for _, test := range tests {
		test.err.Message = "a < b"
		want := `<ErrorResponse xmlns="` + test.service.Namespace + `"><Error><Type>` + test.fault + `</Type><Code>` + test.code +
			`</Code><Message>a &lt; b</Message></Error><RequestId>id</RequestId></ErrorResponse>`
		if got := string(test.service.AppendError(nil, test.err, "id")); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if got := test.service.Status(test.err); got != test.status {
			t.Errorf("%s: status %d, want %d", test.err.Code, got, test.status)
		}
	}
}

// TestFaultsAgreeWithModel holds the statuses, which for JSON services are written by hand, against the model's marks.
func TestFaultsAgreeWithModel(t *testing.T) {
	for name, service := range services {
		for _, shape := range service.Errors {
			status := service.Status(&wire.Error{Code: shape.Code})
			if (status >= 500) != shape.Fault {
				t.Errorf("%s %s: status %d, fault %t", name, shape.Code, status, shape.Fault)
			}
		}
	}
}

func TestErrorText(t *testing.T) {
	for want, err := range map[string]error{
		"NotFoundException: gone": wire.Errorf(kmsapi.CodeNotFoundException, "gone"),
		"InternalFailure":         wire.Bare(wire.CodeInternalFailure),
	} {
		if err.Error() != want {
			t.Errorf("got %s, want %s", err, want)
		}
	}
}

func TestParseTarget(t *testing.T) {
	for header, want := range map[string][2]string{
		"TrentService.Encrypt": {"TrentService", "Encrypt"}, "com.x.Y_1.LookupEvents": {"com.x.Y_1", "LookupEvents"},
		"": {}, "Encrypt": {}, ".Encrypt": {}, "TrentService.": {},
	} {
		prefix, op, ok := wire.ParseTarget(header)
		if ok != (want[1] != "") || prefix != want[0] || op != want[1] {
			t.Errorf("%q: got %q, %q, %t", header, prefix, op, ok)
		}
	}
}
