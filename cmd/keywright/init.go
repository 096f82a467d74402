package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/admin"
	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/iam"
	"github.com/keywright/keywright/internal/server"
)

func initCommand() *cobra.Command {
	var path, account, partition string
	c := &cobra.Command{
		Use:   "init",
		Short: "Make a new installation with its first account",
		Long: `Make a new installation: the store in the data directory of the configuration, a root key wrapped by every seal that the
configuration names, and an account with an access key of its root user. Key files that are not there are made; keep
copies of them, apart from copies of the store. The secret access key is printed once.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			id, err := accountID(account) // before anything is made that would have to be removed
			if err != nil {
				return err
			}
			p, err := partitionOf(partition)
			if err != nil {
				return err
			}
			return onInstallation(c, path, makeInstallation, func(config server.Config, in *server.Installation, _ server.Ask) error {
				lines := []string{"Made an installation in " + config.Data}
				for _, s := range config.Seals {
					lines = append(lines, "Sealed with "+describeSeal(s))
				}
				if err := printAll(c.OutOrStdout(), lines...); err != nil {
					return err
				}
				return createAccount(c, in, p, id)
			})
		},
	}
	configFlag(c, &path)
	c.Flags().StringVar(&account, "account", "", "id of the first account (default: a random one)")
	c.Flags().StringVar(&partition, "partition", string(arn.Commercial), "its partition: aws, aws-cn or aws-us-gov")
	return c
}

// needsSubcommand is what a command does that only groups others.
func needsSubcommand(c *cobra.Command, _ []string) error {
	var names []string
	for _, sub := range c.Commands() {
		names = append(names, sub.Name())
	}
	return withHint(fmt.Errorf("keywright %s alone does nothing", c.Name()), "add one of "+strings.Join(names, ", "))
}

// createAccount makes an account and prints its access key.
func createAccount(c *cobra.Command, in *server.Installation, p arn.Partition, id arn.Account) error {
	directory := iam.New(iam.Config{Store: in.Store, Barrier: in.Barrier, Now: time.Now})
	accessKeyID, secretKey, err := directory.CreateAccountIn(c.Context(), p, id, "")
	if err != nil {
		return err
	}
	made := admin.Credential{AccessKeyID: accessKeyID, Secret: string(secretKey.Expose())}
	return printAll(c.OutOrStdout(), append([]string{"Account:           " + string(id)}, credentialLines(made)...)...)
}

func printAll(out io.Writer, lines ...string) error {
	_, err := io.WriteString(out, strings.Join(lines, "\n")+"\n")
	return err
}

// partitionOf reads the partition of an account.
func partitionOf(text string) (arn.Partition, error) {
	p, err := arn.ParsePartition(text)
	if err != nil {
		return "", withHint(fmt.Errorf("--partition: %w", err), "aws is the one of us-east-1 and most others, aws-cn of cn-…, aws-us-gov of us-gov-…")
	}
	return p, nil
}

// accountID reads an account id, or makes a random one.
func accountID(text string) (arn.Account, error) {
	if text != "" {
		id, err := arn.ParseAccount(text)
		if err != nil {
			return "", withHint(fmt.Errorf("--account: %w", err), "an example is --account 111122223333")
		}
		return id, nil
	}
	n, err := rand.Int(rand.Reader, big.NewInt(900_000_000_000))
	if err != nil {
		return "", errors.New("no random number")
	}
	return arn.Account(fmt.Sprint(n.Int64() + 100_000_000_000)), nil
}
