package main

import (
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/admin"
	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/iam"
)

func controlCommand() *cobra.Command {
	group := &cobra.Command{
		Use: "control", Short: "Manage control policies of accounts", Args: cobra.NoArgs, RunE: needsSubcommand,
		Long: `Manage control policies of accounts. A service control policy limits what all principals of an account may do, its root
user too; a resource control policy limits what anybody may do with the account's resources. They give nothing to anybody.`,
	}
	group.AddCommand(controlPutCommand(), controlDeleteCommand(), controlListCommand())
	return group
}

// controlFlags are the flags that name a control policy.
func controlFlags(c *cobra.Command, account, kind, name *string) {
	c.Flags().StringVar(account, "account", "", "account that it limits")
	c.Flags().StringVar(kind, "type", "service", "service or resource")
	c.Flags().StringVar(name, "name", "", "name of the policy")
	required(c, "account", "name")
}

func required(c *cobra.Command, flags ...string) {
	for _, f := range flags {
		if err := c.MarkFlagRequired(f); err != nil {
			panic(err) // the flag was defined the line before
		}
	}
}

func controlPutCommand() *cobra.Command {
	var a asking
	var account, kind, name, file string
	c := &cobra.Command{
		Use: "put", Short: "Put a control policy on an account, new or in place of the one of that name", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			text, err := os.ReadFile(file)
			if err != nil {
				return fmt.Errorf("reading the policy: %w", err)
			}
			q := admin.Control{Account: arn.Account(account), Type: iam.ControlType(kind), Name: name, Document: string(text)}
			if err := a.ask(c, admin.MethodPutControl, q, nil); err != nil {
				return err
			}
			return printAll(c.OutOrStdout(), "Put the "+kind+" control policy "+name+" on "+account)
		},
	}
	a.flags(c)
	controlFlags(c, &account, &kind, &name)
	c.Flags().StringVar(&file, "policy-file", "", "file with the document")
	required(c, "policy-file")
	return c
}

func controlDeleteCommand() *cobra.Command {
	var a asking
	var account, kind, name string
	c := &cobra.Command{
		Use: "delete", Short: "Take a control policy from an account", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			q := admin.Control{Account: arn.Account(account), Type: iam.ControlType(kind), Name: name}
			if err := a.ask(c, admin.MethodDeleteControl, q, nil); err != nil {
				return err
			}
			return printAll(c.OutOrStdout(), "Deleted the "+kind+" control policy "+name+" of "+account)
		},
	}
	a.flags(c)
	controlFlags(c, &account, &kind, &name)
	return c
}

func controlListCommand() *cobra.Command {
	var a asking
	var account string
	c := &cobra.Command{
		Use: "list", Short: "List the control policies of an account", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var list []admin.Control
			if err := a.ask(c, admin.MethodListControls, admin.ListControls{Account: arn.Account(account)}, &list); err != nil {
				return err
			}
			lines := []string{"TYPE	NAME	DOCUMENT"}
			for _, x := range list {
				lines = append(lines, fmt.Sprintf("%s	%s	%s", x.Type, x.Name, oneLine(x.Document)))
			}
			return table(c, lines)
		},
	}
	a.flags(c)
	c.Flags().StringVar(&account, "account", "", "the account")
	required(c, "account")
	return c
}

// table prints lines whose columns are parted by tabs.
func table(c *cobra.Command, lines []string) error {
	w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
	if err := printAll(w, lines...); err != nil {
		return err
	}
	return w.Flush()
}

// oneLine returns a text with every run of white space as one space.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
