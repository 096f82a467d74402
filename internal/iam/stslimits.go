package iam

import (
	"errors"
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/stsapi"
)

// Quotas of what a session carries ("IAM and AWS STS quotas", IAM user guide).
const (
	maxSessionPolicies = 10   // managed ones
	maxSessionText     = 2048 // characters of the inline policy and the ARNs of managed ones together
	maxSessionTags     = 50
)

// codeInvalidParameter is an error of STS that its model does not know.
const codeInvalidParameter wire.Code = "InvalidParameterValue"

// sessionLimits reads what the maker of a session hands over with it: everything that can be checked without looking
// anything up. Managed policies are those of partition p, where the role or user is.
func sessionLimits(p arn.Partition, document wire.Opt[string], managed []stsapi.PolicyDescriptorType, tags []stsapi.Tag, transitive []string) (limits, error) {
	l := limits{Policy: document.V, Transitive: slices.Clone(transitive)}
	size := len([]rune(document.V))
	if document.Set {
		_, err := policy.Parse(policy.SessionPolicy, []byte(document.V))
		var fault *policy.Error
		switch {
		case errors.As(err, &fault) && fault.Fault == policy.TooLarge:
			return l, tooLarge(size * 100 / maxSessionText)
		case errors.As(err, &fault):
			return l, wire.Errorf(stsapi.CodeMalformedPolicyDocumentException, "%s", fault.Message())
		case err != nil:
			return l, err
		}
	}
	if len(managed) > maxSessionPolicies {
		return l, wire.Errorf(wire.CodeValidation, "The number of session policies exceeds the limit of %d.", maxSessionPolicies)
	}
	for _, m := range managed {
		rest, here := strings.CutPrefix(m.ARN.V, "arn:"+string(p)+":")
		stored := "arn:" + string(home) + ":" + rest
		switch {
		case m.ARN.Set && !here:
			return l, wire.Errorf(wire.CodeValidation, "ARN %s is not valid.", m.ARN.V)
		case !m.ARN.Set || slices.Contains(l.Managed, stored):
			return l, wire.Errorf(wire.CodeValidation, "Session policies must be given by ARN, each once.")
		}
		size += len(m.ARN.V)
		l.Managed = append(l.Managed, stored)
	}
	if size > maxSessionText {
		return l, tooLarge(size * 100 / maxSessionText)
	}
	return l, l.readTags(tags)
}

// tooLarge says that policies and tags do not fit.
func tooLarge(percent int) error {
	return wire.Errorf(stsapi.CodePackedPolicyTooLargeException, "Packed policy consumes %d%% of allotted space, please use smaller policy.", max(percent, 101))
}

// readTags takes the session tags. The keys of tags differ in more than letter case.
func (l *limits) readTags(tags []stsapi.Tag) error {
	for _, t := range tags {
		if _, twice := findTag(l.Tags, t.Key.V); twice {
			return wire.Errorf(codeInvalidParameter, "Duplicate tag keys found. Please note that Tag keys are case insensitive.")
		}
		if strings.HasPrefix(strings.ToLower(t.Key.V), "aws:") {
			return wire.Errorf(codeInvalidParameter, "Tag keys must not start with aws:, which is reserved.")
		}
		l.Tags = append(l.Tags, key.Tag{Key: t.Key.V, Value: t.Value.V})
	}
	for _, k := range l.Transitive {
		if _, there := findTag(l.Tags, k); !there {
			return wire.Errorf(codeInvalidParameter, "The specified transitive tag key must be included in the requested tags.")
		}
	}
	return nil
}

// inherit returns the limits with the transitive tags of the session that a chained one is made with.
func (l limits) inherit(from *guard.Session) (limits, error) {
	if from == nil {
		return l, nil
	}
	l.Tags, l.Transitive = slices.Clone(l.Tags), slices.Clone(l.Transitive)
	for _, k := range from.Transitive {
		t, there := findTag(from.Tags, k)
		if !there {
			continue
		}
		if _, twice := findTag(l.Tags, k); twice {
			return l, wire.Errorf(codeInvalidParameter, "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from the calling session.")
		}
		l.Tags, l.Transitive = append(l.Tags, t), append(l.Transitive, k)
	}
	return l, nil
}

// fit measures the limits. It returns the percentage of the space that they take, absent if there are none.
func (l *limits) fit() (wire.Opt[int32], error) {
	if l.empty() {
		return wire.Opt[int32]{}, nil
	}
	if len(l.Tags) > maxSessionTags {
		return wire.Opt[int32]{}, wire.Errorf(codeInvalidParameter, "A session has at most %d tags.", maxSessionTags)
	}
	n, err := l.packed()
	if err != nil {
		return wire.Opt[int32]{}, err
	}
	percent := (n*100 + packedSpace - 1) / packedSpace
	if percent > 100 {
		return wire.Opt[int32]{}, tooLarge(percent)
	}
	return wire.Some(int32(percent)), nil
}

// attach finds the managed session policies, in the account or AWS's, and notes which they are.
func (l *limits) attach(v *view) error {
	l.ManagedIDs = nil
	for _, a := range l.Managed {
		e := v.managed(a)
		if e == nil {
			return wire.Errorf(wire.CodeValidation, "Policy %s does not exist or is not attachable.", v.shown(a))
		}
		l.ManagedIDs = append(l.ManagedIDs, e.noun.ID)
	}
	return nil
}

// facts are what conditions may ask about the tags of a request.
func (l *limits) facts(f *guard.Facts) {
	names := make([]string, len(l.Tags))
	for i, t := range l.Tags {
		f.String("aws:RequestTag/"+t.Key, t.Value)
		names[i] = t.Key
	}
	f.Strings("aws:TagKeys", names)
	f.Strings("sts:TransitiveTagKeys", l.Transitive)
}

// What the records of all operations that make sessions show. A session token is never shown, though AWS does.

func showCredentials(f *audit.Fields, c *stsapi.Credentials) {
	f.Object("credentials", func(f *audit.Fields) {
		f.String("accessKeyId", c.AccessKeyID.V)
		f.Date("expiration", c.Expiration.V)
	})
}

func showDuration(f *audit.Fields, d wire.Opt[int32]) {
	if d.Set {
		f.Int("durationSeconds", int64(d.V))
	}
}

func showOptional(f *audit.Fields, name string, s wire.Opt[string]) {
	if s.Set {
		f.String(name, s.V)
	}
}

func showLimits(f *audit.Fields, document wire.Opt[string], managed []stsapi.PolicyDescriptorType, tags []stsapi.Tag, transitive []string) {
	showOptional(f, "policy", document)
	if len(managed) > 0 {
		f.Objects("policyArns", len(managed), func(i int, f *audit.Fields) { f.String("arn", managed[i].ARN.V) })
	}
	if len(tags) > 0 {
		f.Objects("tags", len(tags), func(i int, f *audit.Fields) {
			f.String("key", tags[i].Key.V)
			f.String("value", tags[i].Value.V)
		})
	}
	if len(transitive) > 0 {
		f.Strings("transitiveTagKeys", transitive)
	}
}

func showPacked(f *audit.Fields, percent wire.Opt[int32]) {
	if percent.Set {
		f.Int("packedPolicySize", int64(percent.V))
	}
}

// partitionOf returns the partition of a call.
func partitionOf(call *guard.Call) arn.Partition { return call.Region.Partition() }
