package guard_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/policy"
)

// encrypts are the actions of the table whose permits let encrypt.
var encrypts = map[string]bool{"kms:Encrypt": true, "kms:ReEncryptTo": true, "kms:GenerateDataKey": true, "kms:GenerateDataKeyPair": true}

// TestDecisions puts every case of the table to the guard, and asks for its explanation, which has to agree.
func TestDecisions(t *testing.T) {
	silence(t)
	w := readWorld(t)
	if len(w.cases) < 400 {
		t.Errorf("%d cases", len(w.cases))
	}
	for _, line := range w.cases {
		q := w.read(line)
		permit, refusal := q.put()
		if refusal != q.expected() {
			t.Errorf("%s\n got %q\nwant %q", line, refusal, q.expected())
			continue
		}
		if k := q.resource.Key; k != nil && permit.Allows(guard.UseEncrypt, k.Name) != (q.allow && encrypts[q.resource.Action.Name()]) {
			t.Errorf("%s: the permit says otherwise", line)
		}
		e, err := q.explain(false)
		if err != nil {
			if q.reason != "error" {
				t.Errorf("%s: %v", line, err)
			}
			continue
		}
		if e.Allowed != q.allow {
			t.Errorf("%s: explained as\n%s", line, e)
			continue
		}
		if q.allow && !q.explainedBy(e, permit) {
			t.Errorf("%s: explained by %+v, grant %v", line, e.Ways, permit.Grant())
		}
		// What may be, if all goes well, is at least what is.
		if e, err := q.explain(true); err != nil || q.allow && !e.Allowed {
			t.Errorf("%s: supposed, it is\n%s", line, e)
		}
	}
}

// expected returns the text of the refusal that the case's reason stands for.
func (q *question) expected() string {
	switch {
	case q.allow:
		return ""
	case q.reason == "error":
		return "error"
	}
	action := q.resource.Action.Name()
	who, where, reason := q.caller.ARN, " on resource: "+q.resource.ARN, q.reason
	switch {
	case reason == "bearer":
		return "Not authorized to perform " + action
	case q.caller.Type == policy.Service:
		who = q.caller.Service
	}
	if rest, ok := strings.CutPrefix(reason, "hidden "); ok {
		where, reason = " on this resource", rest
	}
	text := "User: " + who + " is not authorized to perform: " + action + where
	kind, rest, _ := strings.Cut(reason, " ")
	switch kind {
	case "no":
		return text + " because no " + rest + " allows the " + action + " action"
	case "explicit":
		article := "a "
		if strings.HasPrefix(rest, "i") {
			article = "an "
		}
		if before, arn, ok := strings.Cut(rest, " arn:"); ok {
			rest = before + ": arn:" + arn
		}
		return text + " with an explicit deny in " + article + rest
	}
	return text
}

// explainedBy reports whether the explanation has the way that the case names.
func (q *question) explainedBy(e *guard.Explanation, permit guard.Permit) bool {
	if id, ok := strings.CutPrefix(q.reason, "grant "); ok {
		retiring := q.resource.Retiring != nil
		if !retiring && (permit.Grant() == nil || permit.Grant().ID != id) {
			return false
		}
		for _, way := range e.Ways {
			if way.GrantID == id {
				return true
			}
		}
		return false
	}
	want := map[string]string{
		"principal": "the principal", "role": "the role", "sender": "the user that sent it", "account": "the account", "everybody": "everybody",
		"identity": "the identity-based policies allow", "root": "root user's",
	}[q.reason]
	if len(e.Ways) == 0 || permit.Grant() != nil || want == "" {
		return false
	}
	for _, way := range e.Ways {
		if strings.Contains(way.Path, want) {
			return true
		}
	}
	return false
}

// neverPresent are the condition keys that no request of the table has, and why. Cases show that conditions find them absent.
var neverPresent = map[string]string{
	"aws:PrincipalOrgID": "there are no organizations", "aws:PrincipalOrgPaths": "there are no organizations",
	"aws:ResourceOrgID": "there are no organizations", "aws:SourceOrgID": "there are no organizations",
	"aws:AssumedRoot": "nobody assumes a root user", "aws:MultiFactorAuthAge": "there are no MFA devices",
	"aws:SourceVpc": "there are no VPCs", "aws:SourceVpce": "there are no VPCs", "aws:VpcSourceIp": "there are no VPCs",
	"aws:referer": "it is not read", "kms:ResourceAliases": "not for the key's own policy, to which the cases add; an identity policy of the table asks for it",
}

// asked is a condition that a case adds to the resource's policy.
type asked struct {
	operator, key string
	allowed       bool // the case's verdict
}

var added = regexp.MustCompile(`\b(?:if|unless)\(([^)]*)\)`)

// conditionsOf returns the conditions that the cases add.
func conditionsOf(cases []string) (list []asked) {
	for _, line := range cases {
		for _, m := range added.FindAllStringSubmatch(line, -1) {
			for _, c := range strings.Split(m[1], "&") {
				if f := strings.Fields(c); len(f) > 1 {
					list = append(list, asked{f[0], f[1], strings.HasPrefix(line, "allow ")})
				}
			}
		}
	}
	return list
}

// outcome is the form of a case that says what comes of it, and why.
var outcome = regexp.MustCompile(`^(allow .* : (principal|role|sender|account|everybody|identity|root|grant \S+)` +
	`|deny .* : (short|bearer|error|(hidden )?(short|no [a-z -]+|explicit [a-z -]+( arn:\S+)?)))$`)

// The table has every condition operator and every condition key that the services document (KMS developer guide, "Condition
// keys"; IAM user guide, "Global condition context keys"), each in a case that allows and in one that denies.
func TestTableIsComplete(t *testing.T) {
	w := readWorld(t)
	for i, line := range w.cases {
		if !outcome.MatchString(line) {
			t.Errorf("no outcome: %s", line)
		}
		if slices.Contains(w.cases[:i], line) {
			t.Errorf("twice: %s", line)
		}
	}
	conditions := conditionsOf(w.cases)
	has := func(fits func(asked) bool) bool { return slices.ContainsFunc(conditions, fits) }
	for _, op := range strings.Fields(`StringEquals StringNotEquals StringEqualsIgnoreCase StringNotEqualsIgnoreCase StringLike StringNotLike
		NumericEquals NumericNotEquals NumericLessThan NumericLessThanEquals NumericGreaterThan NumericGreaterThanEquals
		DateEquals DateNotEquals DateLessThan DateLessThanEquals DateGreaterThan DateGreaterThanEquals Bool BinaryEquals
		IpAddress NotIpAddress ArnEquals ArnNotEquals ArnLike ArnNotLike`) {
		for _, allowed := range []bool{true, false} {
			if !has(func(c asked) bool { return c.operator == op && c.allowed == allowed }) {
				t.Errorf("no case with %s has the verdict %t", op, allowed)
			}
		}
		if !has(func(c asked) bool { return c.operator == op+"IfExists" }) {
			t.Errorf("no case with %sIfExists", op)
		}
	}
	text := strings.Join(w.cases, "\n")
	for _, part := range []string{"(Null ", "(ForAllValues:", "(ForAnyValue:", "${aws:", ", 'nobody'}", ", 'all'}", "${*}"} {
		if !strings.Contains(text+strings.Join(w.policies["identity grace"], ""), part) {
			t.Errorf("no case with %s", part)
		}
	}
	for _, key := range strings.Fields(`aws:PrincipalArn aws:PrincipalAccount aws:PrincipalType aws:PrincipalTag/ aws:PrincipalOrgID aws:PrincipalOrgPaths
		aws:PrincipalIsAWSService aws:PrincipalServiceName aws:PrincipalServiceNamesList aws:userid aws:username aws:FederatedProvider
		aws:TokenIssueTime aws:MultiFactorAuthPresent aws:MultiFactorAuthAge aws:SourceIdentity aws:RequestedRegion aws:SourceIp aws:VpcSourceIp
		aws:SourceVpc aws:SourceVpce aws:SourceAccount aws:SourceArn aws:SourceOrgID aws:ViaAWSService aws:CalledVia aws:CalledViaFirst
		aws:CalledViaLast aws:CurrentTime aws:EpochTime aws:SecureTransport aws:UserAgent aws:referer aws:RequestTag/ aws:TagKeys
		aws:ResourceTag/ aws:ResourceAccount aws:ResourceOrgID aws:AssumedRoot kms:BypassPolicyLockoutSafetyCheck kms:CallerAccount
		kms:CustomerMasterKeySpec kms:CustomerMasterKeyUsage kms:DataKeyPairSpec kms:EncryptionAlgorithm kms:EncryptionContext:
		kms:EncryptionContextKeys kms:ExpirationModel kms:ValidTo kms:GrantConstraintType kms:GrantConstraintSourceArn kms:GrantIsForAWSResource
		kms:GrantOperations kms:GranteePrincipal kms:RetiringPrincipal kms:GranteeServicePrincipal kms:RetiringServicePrincipal
		kms:KeyAgreementAlgorithm kms:KeyOrigin kms:KeySpec kms:KeyUsage kms:MacAlgorithm kms:MessageType kms:MultiRegion kms:MultiRegionKeyType
		kms:PrimaryRegion kms:ReEncryptOnSameKey kms:ReplicaRegion kms:RequestAlias kms:ResourceAliases kms:RotationPeriodInDays
		kms:ScheduleKeyDeletionPendingWindowInDays kms:SigningAlgorithm kms:TrailingDaysWithoutKeyUsage kms:ViaService kms:WrappingAlgorithm
		kms:WrappingKeySpec kms:RecipientAttestation:ImageSha384 kms:RecipientAttestation:PCR0 kms:RecipientAttestation:NitroTPMPCR4`) {
		family := strings.HasSuffix(key, "/") || strings.HasSuffix(key, ":") // of keys that end with a name of their own
		for _, allowed := range []bool{true, false} {
			if !has(func(c asked) bool {
				return (c.key == key || family && strings.HasPrefix(c.key, key)) && c.allowed == allowed && (c.operator != "Null" || neverPresent[key] != "")
			}) {
				t.Errorf("no case with %s has the verdict %t", key, allowed)
			}
		}
	}
}
