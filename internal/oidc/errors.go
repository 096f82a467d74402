package oidc

import "time"

// Fault is what is wrong with a token or its provider.
type Fault uint8

// The faults. The zero value is invalid.
const (
	NotToken     Fault = iota + 1 // not a signed token at all, or with an algorithm that is not taken
	MissingClaim                  // a claim that every token must have is not there, or not of its type; Claim names it
	WrongIssuer                   // issued by somebody else than the provider
	WrongTime                     // not valid yet
	Expired                       // no longer valid; Expires says since when
	WrongClient                   // for an audience that is not registered
	BadSignature                  // no key of the provider verifies the signature
	NoKey                         // the provider has no key for it, or its documents make no sense
	Unreachable                   // the provider does not answer
	Untrusted                     // nothing vouches for the provider's server
)

// Error says why a token was not taken. What Detail says is for the log of the server: a bearer must not use the server to
// look around in its network.
type Error struct {
	Fault   Fault
	Claim   string    // MissingClaim: its name
	Expires time.Time // Expired
	Detail  string
	Err     error // what caused it, or nil
}

// Error implements error.
func (e *Error) Error() string {
	text := "verifying a web identity token: " + e.Detail
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
