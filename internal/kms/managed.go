package kms

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/store"
)

// managedServices are the services whose AWS managed key appears when its alias, alias/aws/<service>, is first used
// ("AWS managed keys", KMS developer guide, and the services' own guides).
var managedServices = map[string]string{
	"acm": "ACM", "aoss": "OpenSearch Serverless", "backup": "Backup", "cassandra": "Keyspaces", "codeartifact": "CodeArtifact",
	"codecommit": "CodeCommit", "connect": "Connect", "dms": "Database Migration Service", "dynamodb": "DynamoDB", "ebs": "EBS",
	"ecr": "ECR", "elasticfilesystem": "EFS", "es": "OpenSearch Service", "fsx": "FSx", "glue": "Glue", "kafka": "MSK",
	"kinesis": "Kinesis", "kinesisvideo": "Kinesis Video Streams", "lambda": "Lambda", "lightsail": "Lightsail", "mq": "MQ",
	"rds": "RDS", "redshift": "Redshift", "s3": "S3", "secretsmanager": "Secrets Manager", "sns": "SNS", "sqs": "SQS", "ssm": "Systems Manager",
	"timestream": "Timestream", "workspaces": "WorkSpaces", "xray": "X-Ray",
}

// managedRotation is how often AWS managed keys rotate, in days ("Rotating AWS KMS keys", KMS developer guide).
const managedRotation = 365

// managedKey makes the AWS managed key behind a reserved alias, and the alias. Of several callers at the same time one
// makes it and all get the same. The error is store.ErrNotFound if no service has that alias.
func (r *request) managedKey(a aliasName) (*snapshot, error) {
	service := strings.TrimPrefix(string(a.name), arn.ReservedAliasPrefix)
	title, ok := managedServices[service]
	if !ok {
		return nil, store.ErrNotFound
	}
	unlock := r.aliases.lock(a)
	defer unlock()
	if alias, err := r.store.GetAlias(r.ctx, a.account, a.region, a.name); err == nil {
		return r.load(r.ctx, key.Name{Account: a.account, Region: a.region, ID: alias.Target})
	} else if !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	now := r.now().UTC().Truncate(time.Millisecond)
	k := &key.Key{
		Name: key.Name{Account: a.account, Region: a.region, ID: arn.NewKeyID(false)}, CreatedAt: now,
		Description: fmt.Sprintf("Default key that protects my %s data when no other key is defined", title),
		Spec:        key.SymmetricDefault, Usage: key.EncryptDecrypt, Origin: key.OriginAWSKMS,
		Manager: key.ManagerAWS, Service: service, State: key.Enabled,
		Rotation: key.Rotation{Enabled: true, PeriodInDays: managedRotation, Next: now.AddDate(0, 0, managedRotation)},
		Policy:   policy.AWSManagedKeyPolicy(service, a.account, a.region),
	}
	alias := &key.Alias{Account: a.account, Region: a.region, Name: a.name, Target: k.ID, CreatedAt: now, UpdatedAt: now}
	snap, err := r.makeManaged(k, alias)
	if errors.Is(err, store.ErrExists) { // another node was first
		existing, err := r.store.GetAlias(r.ctx, a.account, a.region, a.name)
		if err != nil {
			return nil, err
		}
		return r.load(r.ctx, key.Name{Account: a.account, Region: a.region, ID: existing.Target})
	}
	if err == nil {
		r.aliases.put(a, k.ID)
	}
	return snap, err
}

// makeManaged stores a new AWS managed key with its alias. That the service makes it is a record of its own.
func (r *request) makeManaged(k *key.Key, alias *key.Alias) (snap *snapshot, err error) {
	err = r.guard.Act(guard.ManagedKey, k.Name, func(p guard.Permit) (*audit.Fields, error) {
		m, err := r.custody.Generate(p, k, k.CreatedAt)
		k.Material = []key.Material{m}
		return nil, err
	}, func() error {
		snap, err = r.commit(r.ctx, k, func(tx *store.Tx) error { return tx.InsertAlias(alias) })
		return err
	})
	return snap, err
}
