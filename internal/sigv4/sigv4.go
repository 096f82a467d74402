// Package sigv4 verifies and makes AWS Signature Version 4 signatures (AWS General Reference, "Signature Version 4
// signing process"), in the Authorization header and in the presigned query form.
//
// It is pure: the clock, the credential and the request all come in as values. It trusts nothing that it is handed but
// the SigningKey. A request counts as signed only after three steps, in this order: Parse reads what the client claims,
// Auth.Check compares the claimed scope and time with the service and the clock, Auth.Verify proves the claim with the
// key. Verify refuses an Auth that has not passed Check, so that no caller can forget the replay window.
//
// The package must never put a signature, a secret or a session token into an error text, must never compare a signature
// other than in constant time, and must never accept a body that the signature does not cover.
package sigv4

import "time"

// Names of the protocol: the algorithm, the last part of a credential scope, the time form of X-Amz-Date (in the layout
// notation of package time) and the day form in a scope.
const (
	Algorithm  = "AWS4-HMAC-SHA256"
	Terminator = "aws4_request"
	TimeFormat = "20060102T150405Z"
	dayFormat  = "20060102"
)

// Window is how far the time of a request may be from the clock, to either side. AWS KMS uses five minutes.
const Window = 5 * time.Minute

// MaxExpires is the longest life of a presigned request (X-Amz-Expires, seven days).
const MaxExpires = 7 * 24 * time.Hour

// Field is one header line. Name may have any letter case.
type Field struct{ Name, Value string }

// AppendFields appends the lines of a header map, such as a net/http.Header, to dst. Values of one name keep their
// order; the order of names does not matter to a signature. With a dst of enough capacity it allocates nothing.
func AppendFields(dst []Field, header map[string][]string) []Field {
	for name, values := range header {
		for _, v := range values {
			dst = append(dst, Field{name, v})
		}
	}
	return dst
}

// Request is what a signature covers, as it stood on the wire. The package keeps no reference to it.
type Request struct {
	Method   string
	Path     string  // as on the request line, still percent-encoded, without the query; "" means "/"
	RawQuery string  // without "?"
	Host     string  // the Host header or :authority
	Header   []Field // all header lines but Host
	Body     []byte

	keepPath bool // the published vectors "…-unnormalized": dot segments and double slashes stay
}

// Scope is a credential scope: what a derived key is good for.
type Scope struct {
	Date    string // eight digits, YYYYMMDD
	Region  string
	Service string // the signing name: kms, sts, iam, cloudtrail
}

// Auth is what a request claims about its signer. Nothing in it may be believed before Verify has succeeded, but
// AccessKeyID and Token are needed to look the secret up.
type Auth struct {
	AccessKeyID   string
	Scope         Scope
	Token         string        // the session token; "" if there is none
	Time          time.Time     // of signing, UTC
	Presigned     bool          // the query form
	Expires       time.Duration // presigned: how long the request stays valid after Time
	SignedHeaders string        // lower-case names joined by ';'

	stamp      string // Time in TimeFormat
	dated      string // the header that gave the time: x-amz-date or date; "" when presigned
	terminator string
	signature  string
	checked    bool // Check has succeeded
}

// Code is an error code as KMS sends it.
type Code string

// The codes of this package. UnrecognizedClient and ExpiredToken are for the caller, who looks credentials up.
const (
	MissingAuthenticationToken Code = "MissingAuthenticationTokenException"
	IncompleteSignature        Code = "IncompleteSignatureException"
	InvalidSignature           Code = "InvalidSignatureException"
	UnrecognizedClient         Code = "UnrecognizedClientException"
	ExpiredToken               Code = "ExpiredTokenException"
)

// Error is a refusal in the words of the service. The HTTP status is 400 for all of them.
type Error struct {
	Code    Code
	Message string
}

// Error implements error.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// ErrMissing is the answer to a request that carries no signature at all.
func ErrMissing() *Error {
	return &Error{MissingAuthenticationToken, "Missing Authentication Token"}
}

// ErrUnknownCredential is the answer when the access key id is unknown or its session token is not genuine.
func ErrUnknownCredential() *Error {
	return &Error{UnrecognizedClient, "The security token included in the request is invalid."}
}

// ErrExpiredToken is the answer to a genuine session token past its end. The missing full stop is the service's.
func ErrExpiredToken() *Error {
	return &Error{ExpiredToken, "The security token included in the request is expired"}
}

// ErrMismatch is the answer to a signature that is not the one calculated here, whatever the reason.
func ErrMismatch() *Error {
	return &Error{InvalidSignature, "The request signature we calculated does not match the signature you provided. " +
		"Check your AWS Secret Access Key and signing method. Consult the service documentation for details."}
}
