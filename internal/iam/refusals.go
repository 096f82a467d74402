package iam

import (
	"errors"
	"strings"

	"github.com/keywright/keywright/internal/identity"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/iamapi"
)

// The texts are those that the service gives, as far as they are public.

func notFound(format string, args ...any) error {
	return wire.Errorf(iamapi.CodeNoSuchEntityException, format, args...)
}

func alreadyExists(format string, args ...any) error {
	return wire.Errorf(iamapi.CodeEntityAlreadyExistsException, format, args...)
}

func conflict(text string) error {
	return wire.Errorf(iamapi.CodeDeleteConflictException, "%s", text)
}

func invalidInput(format string, args ...any) error {
	return wire.Errorf(iamapi.CodeInvalidInputException, format, args...)
}

func overQuota(name string, limit int) error {
	return wire.Errorf(iamapi.CodeLimitExceededException, "Cannot exceed quota for %s: %d", name, limit)
}

// invalidARN refuses what is no ARN of the caller's partition, or none of the kind that is wanted.
func invalidARN(given string) error { return invalidInput("ARN %s is not valid.", given) }

func malformedPolicy(text string) error {
	return wire.Errorf(iamapi.CodeMalformedPolicyDocumentException, "%s", text)
}

// titles are what messages call the kinds.
var titles = map[identity.Kind]string{identity.KindUser: "User", identity.KindGroup: "Group", identity.KindRole: "Role"}

// missing is the refusal for a user, group or role that is not there.
func missing(kind identity.Kind, name string) error {
	return notFound("The %s with name %s cannot be found.", kind, name)
}

// findNamed finds a user, group or role.
func findNamed[N identity.Noun](s *shelf[N], name string) (*entry[N], error) {
	if e := s.named(name); e != nil {
		return e, nil
	}
	return nil, missing(s.kind, name)
}

// free checks that a name can be given.
func free[N identity.Noun](s *shelf[N], name string) error {
	if s.named(name) != nil {
		return alreadyExists("%s with name %s already exists.", titles[s.kind], name)
	}
	return nil
}

// parse compiles a document that somebody wants to save, in the words of IAM if it is wrong. What it refuses for its size
// alone the caller words, who knows the quota: errTooLarge.
func parse(kind policy.Kind, text string) (*policy.Document, error) {
	d, err := policy.Parse(kind, []byte(text))
	var fault *policy.Error
	switch {
	case err == nil:
		return d, nil
	case !errors.As(err, &fault):
		return nil, err
	case fault.Fault == policy.TooLarge:
		return nil, errTooLarge
	}
	return nil, malformedPolicy(wordFault(kind, fault))
}

var errTooLarge = errors.New("the document is too large")

// faultWords gives IAM's words for what is wrong with a document, by what the last part of the place and the detail are.
var faultWords = []struct{ place, detail, words string }{
	{"Principal", "not allowed", "Policy document should not specify a principal."},
	{"NotPrincipal", "not allowed", "Policy document should not specify a principal."},
	{"Resource", "not allowed", "Has prohibited field Resource"},
	{"NotResource", "not allowed", "Has prohibited field NotResource"},
	{"", "has no Principal", "Missing required field Principal"},
	{"", "has no Action", "Policy statement must contain actions."},
	{"", "has no Resource", "Policy statement must contain resources."},
	{"", "has no Effect", "Missing required field Effect"},
	{"", "is not an action", "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."},
	{"Sid", "appears in another", "Statement IDs (SID) in a single policy must be unique."},
	{"Sid", "letters and digits", "Statement IDs must be alpha-numeric."},
}

func wordFault(kind policy.Kind, fault *policy.Error) string {
	if fault.Fault == policy.BadPrincipal || fault.Fault == policy.BadServicePrincipal {
		given, _, _ := strings.Cut(strings.TrimPrefix(fault.Detail, "'"), "' ")
		return `Invalid principal in policy: "` + strings.ToUpper(lastPart(fault.Place)) + `":"` + given + `"`
	}
	if given, _, ok := strings.Cut(fault.Detail, "' is neither"); ok {
		return `Resource ` + strings.TrimPrefix(given, "'") + ` must be in ARN format or "*".`
	}
	for _, w := range faultWords {
		if strings.Contains(fault.Detail, w.detail) && (w.place == "" || lastPart(fault.Place) == w.place) {
			return w.words
		}
	}
	if kind == policy.TrustPolicy && fault.Place == "" {
		return "This policy contains invalid Json"
	}
	return "Syntax errors in policy."
}

// lastPart returns the element that a place ends in: Principal of Statement[1].Principal.
func lastPart(place string) string {
	place = place[strings.LastIndexByte(place, '.')+1:]
	name, _, _ := strings.Cut(place, "[")
	return name
}
