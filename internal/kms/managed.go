package kms

import (
	"errors"
	"fmt"
	"strings"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
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

// plan returns the AWS managed key that would be behind a reserved alias, without material: the guard decides about it
// before it is made. The error is store.ErrNotFound if no service has that alias.
func (r *request) plan(a aliasName) (*snapshot, error) {
	service := strings.TrimPrefix(string(a.name), arn.ReservedAliasPrefix)
	title, ok := managedServices[service]
	if !ok {
		return nil, store.ErrNotFound
	}
	if r.planned != nil && r.planned.Service == service { // the alias is named twice, and means the same
		return r.planned, nil
	}
	now := r.moment()
	k := &key.Key{
		Name: key.Name{Account: a.account, Region: a.region, ID: arn.NewKeyID(false)}, CreatedAt: now,
		Description: fmt.Sprintf("Default key that protects my %s data when no other key is defined", title),
		Spec:        key.SymmetricDefault, Usage: key.EncryptDecrypt, Origin: key.OriginAWSKMS,
		Manager: key.ManagerAWS, Service: service, State: key.Enabled,
		Rotation: key.Rotation{Enabled: true, PeriodInDays: managedRotation, Next: now.AddDate(0, 0, managedRotation)},
		Policy:   policy.AWSManagedKeyPolicy(service, a.account, a.region),
	}
	doc, err := policy.Parse(policy.KeyPolicy, []byte(k.Policy)) // remembered only once there is a key
	if err != nil {
		return nil, fmt.Errorf("the policy of the AWS managed key of %s: %w", service, err)
	}
	r.planned = &snapshot{Key: k, arn: k.ARN(), policy: doc, aliases: func() ([]string, error) { return []string{string(a.name)}, nil }}
	return r.planned, nil
}

// isPlan reports whether a key is yet to be made.
func (s *snapshot) isPlan() bool { return s.material == nil }

// admit is authorize for a key that may be only planned: it is made if the guard allows, and only then.
func (r *request) admit(snap *snapshot, alias arn.AliasName, q question) (*snapshot, guard.Permit, error) {
	permit, err := r.authorize(snap, alias, q)
	if !snap.isPlan() {
		return snap, permit, err
	}
	a := aliasName{snap.Account, snap.Region, alias}
	var denied *wire.Error
	if errors.As(err, &denied) { // a key that will never be has no name to tell
		refusal := *denied
		refusal.Message = strings.ReplaceAll(denied.Message, snap.arn, a.ARN())
		return nil, guard.Permit{}, &refusal
	}
	if err == nil {
		snap, err = r.managedKey(a, snap.Key)
	}
	if err != nil {
		return nil, guard.Permit{}, err
	}
	permit, err = r.authorize(snap, alias, q) // it can be one that somebody else made
	return snap, permit, err
}

// managedKey makes the AWS managed key k behind a reserved alias, and the alias. Of several callers at the same time one
// makes it and all get the same.
func (r *request) managedKey(a aliasName, k *key.Key) (*snapshot, error) {
	defer r.aliases.lock(a)()
	moment := r.aliases.since(a)
	if alias, err := r.store.GetAlias(r.ctx, a.account, a.region, a.name); err == nil {
		return r.load(r.ctx, key.Name{Account: a.account, Region: a.region, ID: alias.Target})
	} else if !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	alias := &key.Alias{Account: a.account, Region: a.region, Name: a.name, Target: k.ID, CreatedAt: k.CreatedAt, UpdatedAt: k.CreatedAt}
	var snap *snapshot
	err := store.Retry(r.ctx, func() (err error) {
		snap, err = r.makeManaged(k, alias)
		return err
	})
	if errors.Is(err, store.ErrExists) { // another node was first
		existing, err := r.store.GetAlias(r.ctx, a.account, a.region, a.name)
		if err != nil {
			return nil, err
		}
		return r.load(r.ctx, key.Name{Account: a.account, Region: a.region, ID: existing.Target})
	}
	if err == nil {
		r.aliases.putSince(moment, a, k.ID)
	}
	return snap, err
}

// makeManaged stores a new AWS managed key with its alias. That the service makes it is a record of its own.
func (r *request) makeManaged(k *key.Key, alias *key.Alias) (snap *snapshot, err error) {
	k = k.Clone() // the plan stays what it was
	err = r.guard.Act(guard.ManagedKey, k.Name, func(p guard.Permit) (*audit.Fields, error) {
		m, err := r.custody.Generate(r.ctx, p, k, k.CreatedAt)
		k.Material = []key.Material{m}
		return nil, err
	}, func(record func() error) error {
		snap, err = r.commit(r.ctx, nil, k, anyTime, func(tx *store.Tx) error {
			if err := tx.InsertAlias(alias); err != nil {
				return err
			}
			return record()
		})
		return err
	})
	return snap, err
}
