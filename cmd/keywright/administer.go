package main

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/admin"
	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/server"
	"github.com/keywright/keywright/internal/store"
)

// asking is what all commands for administrators have in common: they ask the running server through its socket, or the
// installation itself while no server runs.
type asking struct{ config, socket string }

func (a *asking) flags(c *cobra.Command) {
	c.Flags().StringVar(&a.config, "config", "", "configuration file of the installation")
	c.Flags().StringVar(&a.socket, "socket", "", "socket of a running server, in place of --config (default: admin.sock in its data directory)")
	c.MarkFlagsMutuallyExclusive("config", "socket")
	c.MarkFlagsOneRequired("config", "socket")
}

// ask asks one question. answer may be nil.
func (a *asking) ask(c *cobra.Command, method string, question, answer any) (err error) {
	if a.socket != "" {
		return admin.Dial(a.socket).Ask(c.Context(), method, question, answer)
	}
	config, err := server.LoadConfig(a.config)
	if err != nil {
		return err
	}
	if socket := config.Socket(); listens(socket) {
		return admin.Dial(socket).Ask(c.Context(), method, question, answer)
	}
	in, err := server.OpenInstallation(c.Context(), config, asker(c))
	if errors.Is(err, store.ErrLocked) {
		return withHint(err, "a server runs without an administrators' socket: set adminSocket in its configuration, or stop it")
	}
	if err != nil {
		return err
	}
	door, err := server.NewAdministration(config, in)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, door.Close()) }()
	return admin.Local(door.Admin).Ask(c.Context(), method, question, answer)
}

// listens reports whether somebody answers on a socket.
func listens(socket string) bool {
	if socket == "" {
		return false
	}
	conn, err := net.DialTimeout("unix", socket, time.Second)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

func accountCommand() *cobra.Command {
	group := &cobra.Command{Use: "account", Short: "Manage accounts", Args: cobra.NoArgs, RunE: needsSubcommand}
	group.AddCommand(accountCreateCommand(), accountListCommand())
	return group
}

func accountCreateCommand() *cobra.Command {
	var a asking
	var account, name, partition string
	c := &cobra.Command{
		Use: "create", Short: "Make an account with an access key of its root user", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			id, err := accountID(account)
			if err != nil {
				return err
			}
			p, err := partitionOf(partition)
			if err != nil {
				return err
			}
			var made admin.Credential
			if err := a.ask(c, admin.MethodCreateAccount, admin.CreateAccount{Account: id, Name: name, Partition: p}, &made); err != nil {
				return err
			}
			return printAll(c.OutOrStdout(), append([]string{"Account:           " + string(id)}, credentialLines(made)...)...)
		},
	}
	a.flags(c)
	c.Flags().StringVar(&account, "account", "", "id of the account (default: a random one)")
	c.Flags().StringVar(&name, "name", "", "what the account is called")
	c.Flags().StringVar(&partition, "partition", string(arn.Commercial), "partition of the account: aws, aws-cn or aws-us-gov")
	return c
}

func credentialLines(made admin.Credential) []string {
	return []string{
		"Access key id:     " + made.AccessKeyID,
		"Secret access key: " + made.Secret,
		"The secret access key is stored sealed and will not be shown again.",
	}
}

func accountListCommand() *cobra.Command {
	var a asking
	c := &cobra.Command{
		Use: "list", Short: "List the accounts", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var list []admin.Account
			if err := a.ask(c, admin.MethodListAccounts, admin.Nothing{}, &list); err != nil {
				return err
			}
			lines := []string{"ACCOUNT	SINCE	NAME"}
			for _, x := range list {
				lines = append(lines, fmt.Sprintf("%s	%s	%s", x.Account, x.CreatedAt.Format(time.DateOnly), x.Name))
			}
			return table(c, lines)
		},
	}
	a.flags(c)
	return c
}
