package policy_test

import (
	"testing"

	"github.com/keywright/keywright/internal/policy"
)

func TestMatchARN(t *testing.T) {
	const bucket = "arn:aws:s3:::photos"
	for _, c := range []struct {
		pattern, arn string
		want         bool
	}{
		{bucket, bucket, true},
		{"arn:aws:s3:::photo?", bucket, true},
		{"arn:*:s3:*:*:ph*s", bucket, true},
		{"arn:aws:s3:*", bucket, false}, // a wildcard does not reach over a colon
		{"arn:aws:s3:::video*", bucket, false},
		{"*", bucket, true},
		{"photos", bucket, false},
		{"photos", "photos", true},
		{"arn:aws:s3:::*", "", false},
		{"arn:aws:s3:::${aws:username}", "arn:aws:s3:::x", false}, // there are no variables
	} {
		if got := policy.MatchARN(c.pattern, c.arn); got != c.want {
			t.Errorf("MatchARN(%q, %q) = %t", c.pattern, c.arn, got)
		}
	}
}
