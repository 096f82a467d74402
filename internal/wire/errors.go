package wire

import "fmt"

// Code is an error code of the API as JSON services print it, such as "NotFoundException".
type Code string

// Codes that every service knows (KMS API reference, "Common Error Types", in the spelling of the JSON protocol).
// Codes of one service only are constants of its package.
const (
	CodeValidation            Code = "ValidationException"
	CodeAccessDenied          Code = "AccessDeniedException"
	CodeSerialization         Code = "SerializationException"
	CodeUnknownOperation      Code = "UnknownOperationException"
	CodeThrottling            Code = "ThrottlingException"
	CodeUnrecognizedClient    Code = "UnrecognizedClientException"
	CodeInvalidSignature      Code = "InvalidSignatureException"
	CodeIncompleteSignature   Code = "IncompleteSignatureException"
	CodeMissingAuthentication Code = "MissingAuthenticationTokenException"
	CodeExpiredToken          Code = "ExpiredTokenException"
	CodeOptInRequired         Code = "OptInRequired"
	CodeRequestEntityTooLarge Code = "RequestEntityTooLargeException"
	CodeServiceUnavailable    Code = "ServiceUnavailableException"
	CodeInternalFailure       Code = "InternalFailure"
	CodeKMSInternal           Code = "KMSInternalException"
	CodeDependencyTimeout     Code = "DependencyTimeoutException"
	CodeKeyUnavailable        Code = "KeyUnavailableException"
	CodeServiceException      Code = "ServiceException" // of Service Quotas
)

// Error is the one error of the API: what a client gets to see. Anything else that reaches the renderer is an internal
// failure, whose detail belongs into the log.
type Error struct {
	Code      Code
	Message   string
	NoMessage bool // the answer has no message member at all, which differs from an empty one
	// Auth marks a refusal of the request's credentials rather than of what it asks. It matters for Query services
	// only, where an expired session token and an expired web identity token have two spellings and statuses.
	Auth bool
	// Authorization is the token of an access refusal that explains it to whoever may decode it. It goes into the header
	// x-keywright-authorization-message, never into the body; empty for none.
	Authorization string
}

// Errorf returns an Error with a formatted message.
func Errorf(code Code, format string, args ...any) *Error {
	if len(args) == 0 {
		return &Error{Code: code, Message: format}
	}
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Bare returns an Error whose answer has no message member.
func Bare(code Code) *Error { return &Error{Code: code, NoMessage: true} }

// Error implements error.
func (e *Error) Error() string {
	if e.NoMessage || e.Message == "" {
		return string(e.Code)
	}
	return string(e.Code) + ": " + e.Message
}

// Status returns the HTTP status in JSON services: 400 for whatever the client can change, access and signature errors
// included, 503 when the service sheds load and 500 for its own faults.
func (e *Error) Status() int {
	switch e.Code {
	case CodeKMSInternal, CodeDependencyTimeout, CodeKeyUnavailable, CodeInternalFailure, CodeServiceException:
		return 500
	case CodeServiceUnavailable:
		return 503
	case CodeRequestEntityTooLarge:
		return 413
	}
	return 400
}

// AppendJSON appends the body of the answer in JSON services: the code without a namespace in __type, and message.
func (e *Error) AppendJSON(b []byte) []byte {
	b = append(b, `{"__type":`...)
	b = AppendString(b, string(e.Code))
	if !e.NoMessage {
		b = append(b, `,"message":`...)
		b = AppendString(b, e.Message)
	}
	return append(b, '}')
}

// ErrorShape is an error of the model whose Query form is not the plain one.
type ErrorShape struct {
	Code   Code
	Query  string // code in Query answers
	Status int    // HTTP status in Query answers
	Fault  bool   // the service's fault, not the caller's
}

// commonQueryErrors are the Query forms of the codes that belong to no single service (IAM and STS API references,
// "Common Errors"; statuses as both services answer).
var commonQueryErrors = map[Code]ErrorShape{
	CodeValidation:            {Query: "ValidationError", Status: 400},
	CodeAccessDenied:          {Query: "AccessDenied", Status: 403},
	CodeSerialization:         {Query: "MalformedInput", Status: 400},
	CodeUnknownOperation:      {Query: "InvalidAction", Status: 400},
	CodeThrottling:            {Query: "Throttling", Status: 400},
	CodeUnrecognizedClient:    {Query: "InvalidClientTokenId", Status: 403},
	CodeInvalidSignature:      {Query: "SignatureDoesNotMatch", Status: 403},
	CodeIncompleteSignature:   {Query: "IncompleteSignature", Status: 400},
	CodeMissingAuthentication: {Query: "MissingAuthenticationToken", Status: 403},
	CodeExpiredToken:          {Query: "ExpiredToken", Status: 403},
	CodeOptInRequired:         {Query: "OptInRequired", Status: 403},
	CodeRequestEntityTooLarge: {Query: "RequestEntityTooLarge", Status: 413},
	CodeServiceUnavailable:    {Query: "ServiceUnavailable", Status: 503, Fault: true},
	CodeInternalFailure:       {Query: "InternalFailure", Status: 500, Fault: true},
}

// queryForm returns how e looks in the service's Query answers.
func (s *Service) queryForm(e *Error) ErrorShape {
	common, known := commonQueryErrors[e.Code]
	if known && e.Auth {
		return common
	}
	for _, shape := range s.Errors {
		if shape.Code == e.Code {
			return shape
		}
	}
	if known {
		return common
	}
	status := e.Status()
	return ErrorShape{Code: e.Code, Query: string(e.Code), Status: status, Fault: status >= 500}
}

// Status returns the HTTP status of an answer with e.
func (s *Service) Status(e *Error) int {
	if s.Protocol == Query {
		return s.queryForm(e).Status
	}
	return e.Status()
}

// AppendError appends the body of an answer with e. The request id appears in the body of Query answers only.
func (s *Service) AppendError(b []byte, e *Error, requestID string) []byte {
	if s.Protocol != Query {
		return e.AppendJSON(b)
	}
	form := s.queryForm(e)
	b = append(b, `<ErrorResponse xmlns="`...)
	b = AppendText(b, s.Namespace)
	b = append(b, `"><Error><Type>`...)
	if form.Fault {
		b = append(b, `Receiver`...)
	} else {
		b = append(b, `Sender`...)
	}
	b = append(b, `</Type><Code>`...)
	b = AppendText(b, form.Query)
	b = append(b, `</Code>`...)
	if !e.NoMessage {
		b = append(b, `<Message>`...)
		b = AppendText(b, e.Message)
		b = append(b, `</Message>`...)
	}
	b = append(b, `</Error><RequestId>`...)
	b = AppendText(b, requestID)
	return append(b, `</RequestId></ErrorResponse>`...)
}

// ContentType returns the media type of the service's answers.
func (s *Service) ContentType() string {
	if s.Protocol == Query {
		return "text/xml"
	}
	return "application/x-amz-json-1.1"
}
