package iam

import (
	"time"

	"github.com/keywright/keywright/internal/identity"
	"github.com/keywright/keywright/internal/secret"
)

// awsManaged has the AWS managed policies that there are, by ARN. There are only those that say something about the
// services that Keywright speaks. Their names and what they give are those of "AWS managed policies for AWS KMS" and "AWS
// managed policies" in the developer and user guides; the documents are ours and name no other service's actions.
var awsManaged = func() map[string]*entry[*identity.Policy] {
	all := map[string]*entry[*identity.Policy]{}
	for _, p := range []struct{ id, name, description, document string }{
		{
			"ANPAKWADMINISTRATORAC", "AdministratorAccess", "Provides full access to all services and resources.",
			`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`,
		},
		{
			"ANPAKWPOWERUSERACCESS", "PowerUserAccess", "Provides full access to services and resources, but not to the management of users and groups.",
			`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","NotAction":["iam:*","organizations:*","account:*"],"Resource":"*"},` +
				`{"Effect":"Allow","Action":["iam:ListRoles","iam:GetRole"],"Resource":"*"}]}`,
		},
		{
			"ANPAKWREADONLYACCESSA", "ReadOnlyAccess", "Provides read-only access to services and resources.",
			`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["cloudtrail:Get*","cloudtrail:List*","cloudtrail:LookupEvents",` +
				`"iam:Get*","iam:List*","iam:Simulate*","kms:Describe*","kms:Get*","kms:List*","sts:Get*"],"Resource":"*"}]}`,
		},
		{
			"ANPAKWIAMFULLACCESSAA", "IAMFullAccess", "Provides full access to IAM.",
			`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:*","Resource":"*"}]}`,
		},
		{
			"ANPAKWIAMREADONLYACCE", "IAMReadOnlyAccess", "Provides read-only access to IAM.",
			`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iam:Get*","iam:List*","iam:Simulate*"],"Resource":"*"}]}`,
		},
		{
			"ANPAKWIAMUSERCHANGEPA", "IAMUserChangePassword", "Lets a user change its own password.",
			`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:ChangePassword","Resource":"arn:*:iam::*:user/${aws:username}"}]}`,
		},
		{
			"ANPAKWKMSPOWERUSERAAA", "AWSKeyManagementServicePowerUser", "Provides access to KMS, but not to the use or deletion of keys.",
			`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["kms:CreateAlias","kms:CreateKey","kms:DeleteAlias","kms:Describe*",` +
				`"kms:GenerateRandom","kms:Get*","kms:List*","kms:TagResource","kms:UntagResource","iam:ListGroups","iam:ListRoles","iam:ListUsers"],"Resource":"*"}]}`,
		},
	} {
		since := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		n := &identity.Policy{
			Meta:        identity.Meta{ID: p.id, Name: p.name, Path: "/", CreatedAt: since},
			Description: p.description, UpdatedAt: since, Default: 1, Next: 2, AWS: true,
			Versions: []identity.Version{{N: 1, Document: p.document, CreatedAt: since}},
		}
		all[n.ARN(home)] = newEntry(n, secret.Bytes{})
	}
	return all
}()
