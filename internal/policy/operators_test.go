package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/policy"
)

// operatorRows has every operator: a value of the policy, one of a request that makes it true, and one that does not.
const operatorRows = `
	StringEquals               abc                   abc                         ABC
	StringNotEquals            abc                   ABC                         abc
	StringEqualsIgnoreCase     abc                   aBC                         abd
	StringNotEqualsIgnoreCase  abc                   abd                         ABc
	StringLike                 a*c?                  abbc1                       abbc
	StringNotLike              a*c?                  abbc                        abbc1
	NumericEquals              10                    10.0                        11
	NumericNotEquals           10                    9.99                        1e1
	NumericLessThan            10                    -10                         10
	NumericLessThanEquals      10                    10                          10.01
	NumericGreaterThan         10                    11                          10
	NumericGreaterThanEquals   10                    10                          9
	DateEquals                 2026-11-23T04:00:00Z  2026-11-23T06:00:00+02:00   2026-11-23T04:00:01Z
	DateNotEquals              2026-11-23T04:00:00Z  2026-11-23T04:00:00.001Z    1795406400
	DateLessThan               2026-11-23T04:00:00Z  1795406399                  2026-11-23T04:00:00Z
	DateLessThanEquals         2026-11-23T04:00:00Z  2026-11-23T04:00:00Z        2026-11-24
	DateGreaterThan            2026-11-23T04:00:00Z  2026-12                     2026-11-23T04:00Z
	DateGreaterThanEquals      2026-11-23T04:00:00Z  2026-11-23T04:00:00         2026-11-23
	Bool                       true                  TRUE                        false
	BinaryEquals               QUJD                  QUJD                        qujd
	IpAddress                  203.0.113.0/24        203.0.113.255               203.0.114.0
	NotIpAddress               2001:db8::/33         2001:db8:8000::1            2001:db8:7fff::1
	ArnEquals                  arn:aws:s3:::b*       arn:aws:s3:::bucket         arn:aws:s3:::a
	ArnLike                    arn:*:sns:*:*:t?      arn:aws:sns:x:1:t1          arn:aws:sns:x:1:t
	ArnNotEquals               arn:aws:s3:::b        arn:aws:s3:::bb             arn:aws:s3:::b
	ArnNotLike                 arn:aws:s3:::b*       arn:aws:s3:::a              arn:aws:s3:::b`

// Every operator alone, with IfExists and with each set operator, asked about a value that is right, one that is wrong,
// several, and none.
func TestOperators(t *testing.T) {
	rows := strings.Split(strings.TrimSpace(operatorRows), "\n")
	if len(rows) != 26 {
		t.Errorf("%d operators, IAM has 26 besides Null", len(rows))
	}
	count := 0
	for _, row := range rows {
		f := strings.Fields(row)
		name, want, right, wrong := f[0], f[1], f[2], f[3]
		not := strings.Contains(name, "Not")
		for _, prefix := range []string{"", "ForAllValues:", "ForAnyValue:"} {
			for _, suffix := range []string{"", "IfExists"} {
				// What a key that is absent makes of it: true after IfExists and for all of no values, false for any of them,
				// and else what the value that is not there would.
				absent := suffix != "" || prefix == "ForAllValues:" || prefix == "" && not
				mixed := prefix == "ForAnyValue:" || prefix == "" && !not
				for _, tt := range []struct {
					have []string
					want bool
				}{
					{nil, absent},
					{[]string{right}, true},
					{[]string{wrong}, false},
					{[]string{right, right}, true},
					{[]string{wrong, wrong}, false},
					{[]string{right, wrong}, mixed},
					{[]string{wrong, right}, mixed},
				} {
					count++
					operator := prefix + name + suffix
					if got := conditionHolds(t, operator, []string{want}, tt.have); got != tt.want {
						t.Errorf("%s %s of %q: %v", operator, want, tt.have, got)
					}
				}
			}
		}
	}
	if count < 1000 {
		t.Errorf("%d cases only", count)
	}
}

// The values of a policy are alternatives; with a negated operator none of them may match.
func TestOperatorsWithSeveralValues(t *testing.T) {
	for _, row := range strings.Split(strings.TrimSpace(operatorRows), "\n") {
		f := strings.Fields(row)
		name, value, right, wrong := f[0], f[1], f[2], f[3]
		// A second value that matches neither.
		other := map[byte]string{
			'S': "zzz", 'N': "12345", 'D': "1999-01-01", 'B': "false", 'I': "10.0.0.0/8", 'A': "arn:aws:sqs:::z",
		}[name[0]]
		switch {
		case name == "NotIpAddress":
			other = "10.0.0.0/8"
		case name == "BinaryEquals":
			other = "WFla"
		case name == "Bool", strings.Contains(name, "Less"), strings.Contains(name, "Greater"):
			continue // for these any second value changes what is right
		}
		for _, want := range [][]string{{value, other}, {other, value}} {
			if !conditionHolds(t, name, want, []string{right}) {
				t.Errorf("%s %q of %s: false", name, want, right)
			}
			if conditionHolds(t, name, want, []string{wrong}) {
				t.Errorf("%s %q of %s: true", name, want, wrong)
			}
		}
	}
}

// A value of another type is not in order with anything, so only negated operators are true of it.
func TestOperatorsWithOtherTypes(t *testing.T) {
	for _, row := range strings.Split(strings.TrimSpace(operatorRows), "\n") {
		f := strings.Fields(row)
		for _, odd := range []string{"", "seven", "0x10", "Inf", "NaN", "2026-13-01", "2026-11-23T25:00Z", "1.2.3", "arn:aws", "\x00", "é"} {
			if got := conditionHolds(t, f[0], []string{f[1]}, []string{odd}); got != strings.Contains(f[0], "Not") {
				t.Errorf("%s %s of %q: %v", f[0], f[1], odd, got)
			}
		}
	}
}

// conditionHolds evaluates one condition; no have means that the key is absent.
func conditionHolds(t *testing.T, operator string, want, have []string) bool {
	t.Helper()
	var list []string
	for _, w := range want {
		list = append(list, fmt.Sprintf("%q", w))
	}
	d, err := policy.Parse(policy.IdentityPolicy, []byte(document(when(`"`+operator+`":{"a:b":[`+strings.Join(list, ",")+`]}`))))
	if err != nil {
		t.Fatalf("%s %q: %v", operator, want, err)
	}
	f := facts{}
	if have != nil {
		f["a:b"] = have
	}
	return d.Evaluate(&policy.Request{Action: "a:b", Resource: "*", Context: f}).Effect == policy.Allow
}
