package policy

import (
	"strings"

	"github.com/keywright/keywright/internal/arn"
)

// DefaultKeyPolicy returns the policy of a key for which none was given: the account decides, through its identity policies
// (KMS developer guide, "Default key policy"; the API's form of it, with Id key-default-1).
func DefaultKeyPolicy(a arn.Account, p arn.Partition) string {
	return fill(`{
  "Version" : "2012-10-17",
  "Id" : "key-default-1",
  "Statement" : [ {
    "Sid" : "Enable IAM User Permissions",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "ROOT"
    },
    "Action" : "kms:*",
    "Resource" : "*"
  } ]
}`, "ROOT", a.Root(p))
}

// AWSManagedKeyPolicy returns the policy of an AWS managed key: the account's principals may use it through the service,
// and the account may look at it but change nothing (KMS developer guide, "AWS managed keys").
func AWSManagedKeyPolicy(service string, a arn.Account, r arn.Region) string {
	domain := ".amazonaws.com"
	if r.Partition() == "aws-cn" {
		domain += ".cn"
	}
	return fill(`{
  "Version" : "2012-10-17",
  "Id" : "auto-SERVICE-1",
  "Statement" : [ {
    "Sid" : "Use through SERVICE by principals of this account",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "*"
    },
    "Action" : [ "kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:CreateGrant", "kms:DescribeKey" ],
    "Resource" : "*",
    "Condition" : {
      "StringEquals" : {
        "kms:CallerAccount" : "ACCOUNT",
        "kms:ViaService" : "ENDPOINT"
      }
    }
  }, {
    "Sid" : "Metadata for this account",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "ROOT"
    },
    "Action" : [ "kms:Describe*", "kms:Get*", "kms:List*", "kms:RevokeGrant" ],
    "Resource" : "*"
  } ]
}`, "ENDPOINT", service+"."+string(r)+domain, "SERVICE", service, "ROOT", a.Root(r.Partition()), "ACCOUNT", string(a))
}

// fill replaces placeholders. The values are identifiers that need no escaping in JSON.
func fill(text string, pairs ...string) string { return strings.NewReplacer(pairs...).Replace(text) }
