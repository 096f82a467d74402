package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/admin"
	"github.com/keywright/keywright/internal/arn"
)

func serviceCommand() *cobra.Command {
	group := &cobra.Command{
		Use: "service", Short: "Manage services that call on behalf of users", Args: cobra.NoArgs, RunE: needsSubcommand,
	}
	group.AddCommand(serviceRegisterCommand(), serviceRemoveCommand(), serviceListCommand())
	return group
}

// serviceFlags are the flags that name a service.
func serviceFlags(c *cobra.Command, account, principal *string) {
	c.Flags().StringVar(account, "account", "", "account that runs the service")
	c.Flags().StringVar(principal, "principal", "", "what policies call it, such as objects.example.com")
	required(c, "account", "principal")
}

func serviceRegisterCommand() *cobra.Command {
	var a asking
	var account, principal string
	var accounts []string
	c := &cobra.Command{
		Use: "register", Short: "Register a service and make its access key", Args: cobra.NoArgs,
		Long: `Register a service and make its access key. The service may call KMS in its own name and on behalf of any principal of the accounts
given with --for, whom it must have authenticated itself: register only what you trust that far.`,
		RunE: func(c *cobra.Command, _ []string) error {
			q := admin.Service{Account: arn.Account(account), Principal: principal}
			for _, x := range accounts {
				q.For = append(q.For, arn.Account(x))
			}
			var made admin.Credential
			if err := a.ask(c, admin.MethodRegisterService, q, &made); err != nil {
				return err
			}
			return printAll(c.OutOrStdout(), append([]string{"Service:           " + principal}, credentialLines(made)...)...)
		},
	}
	a.flags(c)
	serviceFlags(c, &account, &principal)
	c.Flags().StringArrayVar(&accounts, "for", nil, "account whose principals it may speak for, repeatable (default: none)")
	return c
}

func serviceRemoveCommand() *cobra.Command {
	var a asking
	var account, principal string
	c := &cobra.Command{
		Use: "remove", Short: "Remove a service and its access key", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := a.ask(c, admin.MethodRemoveService, admin.Service{Account: arn.Account(account), Principal: principal}, nil); err != nil {
				return err
			}
			return printAll(c.OutOrStdout(), "Removed the service "+principal)
		},
	}
	a.flags(c)
	serviceFlags(c, &account, &principal)
	return c
}

func serviceListCommand() *cobra.Command {
	var a asking
	c := &cobra.Command{
		Use: "list", Short: "List the registered services", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var list []admin.Service
			if err := a.ask(c, admin.MethodListServices, admin.Nothing{}, &list); err != nil {
				return err
			}
			lines := []string{"PRINCIPAL	ACCOUNT	FOR"}
			for _, x := range list {
				var accounts []string
				for _, f := range x.For {
					accounts = append(accounts, string(f))
				}
				lines = append(lines, x.Principal+"	"+string(x.Account)+"	"+strings.Join(accounts, " "))
			}
			return table(c, lines)
		},
	}
	a.flags(c)
	return c
}
