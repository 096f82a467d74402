package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/dev"
	"github.com/keywright/keywright/internal/quota"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/server"
	"github.com/keywright/keywright/internal/store"
)

// What keywright dev uses when nothing is said. The secret is known to everybody: it protects nothing, which is why dev
// listens on loopback only.
const (
	devAccount     = "111122223333"
	devAccessKeyID = "AKIAKEYWRIGHTDEVROOT"
	devSecret      = "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"
)

// devOptions are the flags of keywright dev.
type devOptions struct {
	listen, data, socket   string
	admin, store, node     string
	maxStaleness           time.Duration
	accounts               []string
	accessKeyID, secretKey string
	partition              string
	attestationRoots       string
	auditDurability        string
	auditSegment           int64
	auditCompress          bool
	auditRetention         time.Duration
	tls                    bool
	control, seed          string
	quotas                 string
}

func devCommand() *cobra.Command {
	var o devOptions
	c := &cobra.Command{
		Use:   "dev",
		Short: "Run a server for development and tests, without any set-up",
		Long: `Run a server for development and tests, without any set-up.

It listens on loopback addresses only. Without --data everything stays in memory and ends with the process. With it, keys
live in DIR and audit records in DIR/audit; the key file that unseals DIR lies in DIR too, so whoever can read DIR can read
the keys: do not use it for keys that matter. For those there are keywright init and keywright server.

A control endpoint beside it moves the clock, makes keys with known material, has calls fail, and takes everything away between
two tests: docs/testing.md.

With --store keys live in a PostgreSQL database, which several servers for development can share. Its seal is known to everybody.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return runDev(c.Context(), &o, c.OutOrStdout()) },
	}
	f := c.Flags()
	f.StringVar(&o.listen, "listen", server.DefaultListen, "loopback address and port to serve on; port 0 takes any free one")
	f.StringVar(&o.data, "data", "", "directory to keep keys and audit records in (default: memory)")
	f.StringVar(&o.store, "store", "", "URL of a PostgreSQL database to keep keys in, such as postgres://user:password@127.0.0.1/name?sslmode=disable")
	f.StringVar(&o.node, "node", "", "with --store, name of this server among those that share the database, whose audit logs are told apart by it (default: the machine's, and without --data one of its own)")
	f.DurationVar(&o.maxStaleness, "max-staleness", 0, "with --store, for how long at most something that another server has changed is relied on (default 1s)")
	f.StringVar(&o.socket, "admin-socket", "", "path of the administrators' socket, which keywright why, service and the like ask (default: admin.sock in DIR, and none without --data)")
	f.StringVar(&o.admin, "admin", "", "loopback address and port of /healthz, /readyz and /metrics (default: none)")
	f.StringArrayVar(&o.accounts, "account", nil, "account id; or ID=ACCESSKEYID:SECRET for a further account, repeatable (default "+devAccount+")")
	f.StringVar(&o.accessKeyID, "root-access-key-id", devAccessKeyID, "access key id of the account's root user")
	f.StringVar(&o.secretKey, "root-secret-access-key", devSecret, "its secret access key")
	f.StringVar(&o.partition, "partition", string(arn.Commercial), "partition of the accounts: aws, aws-cn or aws-us-gov")
	f.StringVar(&o.attestationRoots, "attestation-roots", "", "PEM file with the roots of the attestation documents of enclaves (default: answers for enclaves are refused)")
	f.StringVar(&o.control, "control", "", "loopback address and port of the control endpoint, which keywright dev clock, seed, fault, throttle and reset ask; or none (default "+defaultControl+", and any free port with another --listen than its default)")
	f.StringVar(&o.seed, "seed", "", "YAML file with keys to begin with")
	c.AddCommand(devClockCommand(), devSeedCommand(), devFaultCommand(), devThrottleCommand(), devResetCommand())
	f.StringVar(&o.quotas, "quotas", quota.EnforceUnlimited, "aws: enforce the quotas of AWS KMS; unlimited: no request rates, and any number of keys")
	f.StringVar(&o.auditDurability, "audit-durability", "written", "with --data, what an answer waits for: its record is written, or synced to the disk")
	f.Int64Var(&o.auditSegment, "audit-segment-size", 0, "with --data, after how many octets the next segment of the audit log begins (default 64 MiB)")
	f.BoolVar(&o.auditCompress, "audit-compress", false, "with --data, compress segments of the audit log when the next one has begun")
	f.DurationVar(&o.auditRetention, "audit-retention", 0, "with --data, how long segments of the audit log are kept (default: for ever)")
	f.BoolVar(&o.tls, "tls", false, "serve HTTPS with a certificate of a CA that is made here")
	return c
}

// devAccountKey is an account with the access key that its root user is to have.
type devAccountKey struct {
	account     arn.Account
	accessKeyID string
	secret      secret.Bytes
}

// parse returns the accounts to have, the default one first.
func (o *devOptions) parse() ([]devAccountKey, error) {
	first := devAccountKey{account: devAccount, accessKeyID: o.accessKeyID, secret: secret.FromString(o.secretKey)}
	if o.accessKeyID == "" || o.secretKey == "" {
		return nil, errors.New("the root credentials must not be empty")
	}
	all := []devAccountKey{first}
	bare := false
	for _, text := range o.accounts {
		idText, credentials, further := strings.Cut(text, "=")
		id, err := arn.ParseAccount(idText)
		if err != nil {
			return nil, fmt.Errorf("--account: %w", err) // without the text, which may hold a secret
		}
		if !further {
			if bare {
				return nil, errors.New("--account: there is one default account; a further one needs =ACCESSKEYID:SECRET")
			}
			bare, all[0].account = true, id
			continue
		}
		accessKeyID, secretKey, ok := strings.Cut(credentials, ":")
		if !ok || accessKeyID == "" || secretKey == "" {
			return nil, fmt.Errorf("--account: want %s=ACCESSKEYID:SECRET", id)
		}
		all = append(all, devAccountKey{id, accessKeyID, secret.FromString(secretKey)})
	}
	seen, seenAccounts := map[string]bool{}, map[arn.Account]bool{}
	for _, a := range all {
		if seen[a.accessKeyID] {
			return nil, fmt.Errorf("the access key id %s is given twice", a.accessKeyID)
		}
		if seenAccounts[a.account] { // the second key would deactivate the first
			return nil, fmt.Errorf("--account: the account %s is given twice", a.account)
		}
		seen[a.accessKeyID], seenAccounts[a.account] = true, true
	}
	return all, nil
}

func (o *devOptions) audit() server.Audit {
	return server.Audit{Durability: o.auditDurability, SegmentSize: o.auditSegment, Compress: o.auditCompress, Retention: o.auditRetention}
}

func runDev(ctx context.Context, o *devOptions, out io.Writer) (err error) {
	accounts, err := o.parse()
	if err != nil {
		return withHint(err, "see keywright dev --help")
	}
	partition, err := partitionOf(o.partition)
	if err != nil {
		return err
	}
	for _, at := range []string{o.listen, o.admin} {
		if at != "" && !server.Loopback(at) {
			return withHint(fmt.Errorf("keywright dev does not listen on %s: its credentials are known to everybody", at),
				"use a loopback address such as 127.0.0.1:4599, or keywright server for other machines")
		}
	}
	config := server.Config{
		Listen: o.listen, AdminSocket: o.socket, Data: o.data, Audit: o.audit(), Drain: 5 * time.Second, LoopbackProviders: true,
		Node: o.node, Attestation: server.Attestation{Roots: o.attestationRoots}, Admin: o.admin, Version: versionText(), Quotas: quota.Settings{Enforce: o.quotas}, Regions: []string{arn.AnyRegion},
	}
	control, err := o.openControl()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, control.close()) }()
	control.steer(&config)
	scheme, bundle := "http", ""
	if o.tls {
		ca, err := makeDevCA(o.data)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, ca.close()) }()
		config.Certificate, scheme, bundle = ca.get, "https", ca.bundle
	}
	in, err := openDev(ctx, &config, o)
	if err != nil {
		return err
	}
	spareProcessor()
	s, err := server.New(config, in)
	if err != nil {
		return err
	}
	ensure := func(ctx context.Context) error {
		for _, a := range accounts {
			if err := s.Directory().EnsureAccountIn(ctx, partition, a.account, a.accessKeyID, a.secret); err != nil {
				return fmt.Errorf("account %s: %w", a.account, err)
			}
		}
		return nil
	}
	err = ensure(ctx)
	if err == nil {
		err = control.attach(ctx, dev.Rooms{
			Store: s.Store(), KMS: s.KMS(), Directory: s.Directory(), Accounts: ensure, Home: dev.Home{Account: accounts[0].account, Region: partition.GlobalRegion()},
			Forget: []func(context.Context) error{func(context.Context) error {
				s.Quotas().Reset()
				return nil
			}},
		})
	}
	if err == nil {
		err = announce(out, scheme+"://"+s.Addr().String(), bundle, control.url(), partition.GlobalRegion(), accounts[0])
	}
	if err != nil {
		return errors.Join(err, s.Close())
	}
	defer heapFloor()()
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() { // a reset that is under way needs the store to its end
		control.End()
		stop()
	})()
	return s.Run(running)
}

// announce prints the lines to paste into a shell and then the one that says that requests will be answered.
func announce(out io.Writer, url, bundle, control string, region arn.Region, a devAccountKey) error {
	lines := []string{
		"export AWS_ENDPOINT_URL=" + url,
		"export AWS_ACCESS_KEY_ID=" + shellWord(a.accessKeyID),
		"export AWS_SECRET_ACCESS_KEY=" + shellWord(string(a.secret.Expose())),
		// The SDK for Go reads the first, boto3 and version 1 of the AWS CLI the second.
		"export AWS_REGION=" + string(region) + " AWS_DEFAULT_REGION=" + string(region),
	}
	if bundle != "" {
		lines = append(lines, "export AWS_CA_BUNDLE="+shellWord(bundle))
	}
	if control != "" {
		lines = append(lines, "export "+controlVariable+"="+control)
	}
	return printAll(out, append(lines, "Keywright is ready on "+url)...)
}

// shellWord quotes a word for a shell where it needs it.
func shellWord(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=/.,:@%"
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// openDev opens the installation in the database or in the data directory, or makes it there, or in memory if there is neither.
func openDev(ctx context.Context, c *server.Config, o *devOptions) (in *server.Installation, err error) {
	if o.store != "" {
		if c.Store, err = server.ParseStorage(o.store); err != nil {
			return nil, fmt.Errorf("--store: %w", err)
		}
		c.Store.MaxStaleness = o.maxStaleness
		return server.DevelopmentInstallation(ctx, *c, time.Now())
	}
	if c.Data == "" {
		return server.EphemeralInstallation(ctx, time.Now())
	}
	keyPath := filepath.Join(c.Data, "seal.key")
	config := server.Config{Data: c.Data, Seals: []server.Seal{{Kind: seal.KindKeyFile, Name: "dev", File: keyPath}}}
	in, err = server.OpenInstallation(ctx, config, nil)
	if !errors.Is(err, store.ErrNotInitialized) {
		return in, err
	}
	return server.CreateInstallation(ctx, config, time.Now(), nil)
}
