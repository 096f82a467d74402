package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/admin"
	"github.com/keywright/keywright/internal/arn"
)

// keyFlags are the flags that name a key. whose says whose an id or alias name is if the account is not given.
func keyFlags(c *cobra.Command, k *admin.Key, whose string) {
	c.Flags().StringVar(&k.ID, "key", "", "key ARN or alias ARN; or key id or alias name, together with --account and --region")
	c.Flags().StringVar((*string)(&k.Account), "account", "", "account of a key id or alias name ("+whose+")")
	c.Flags().StringVar((*string)(&k.Region), "region", string(arn.Commercial.GlobalRegion()), "Region of a key id or alias name")
	required(c, "key")
}

func whyCommand() *cobra.Command {
	var a asking
	var q admin.Why
	var context []string
	c := &cobra.Command{
		Use: "why", Short: "Explain why a principal may or may not do something with a key", Args: cobra.NoArgs,
		Long: `Explain why a principal may or may not do something with a key: by which statement or grant, or what is missing. The decision is the one
that a call would get now. --context gives it what a call would bring: condition keys (aws:SourceIp=192.0.2.1, kms:ViaService=…), and
everything else as pairs of the encryption context (stage=prod). The exit status is 0 for either answer.`,
		RunE: func(c *cobra.Command, _ []string) error {
			var err error
			if q.Context, err = pairs(context); err != nil {
				return err
			}
			var answer admin.Explanation
			if err := a.ask(c, admin.MethodWhy, q, &answer); err != nil {
				return err
			}
			return printAll(c.OutOrStdout(), strings.TrimSuffix(answer.Text, "\n"))
		},
	}
	a.flags(c)
	keyFlags(c, &q.Key, "default: the principal's")
	c.Flags().StringVar(&q.Principal, "principal", "", "ARN of the user, role, role's session or root user, or a registered service's principal")
	c.Flags().StringVar(&q.Action, "action", "", "permission, such as kms:Decrypt")
	c.Flags().StringArrayVar(&context, "context", nil, "NAME=VALUE of a condition key or of the encryption context, repeatable")
	required(c, "principal", "action")
	return c
}

// pairs reads NAME=VALUE. A name that is given twice has several values.
func pairs(list []string) (map[string][]string, error) {
	all := map[string][]string{}
	for _, text := range list {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, withHint(fmt.Errorf("--context %q is not NAME=VALUE", text), "an example is --context stage=prod")
		}
		all[name] = append(all[name], value)
	}
	return all, nil
}

func whoCanCommand() *cobra.Command {
	var a asking
	var q admin.WhoCan
	c := &cobra.Command{
		Use: "who-can", Short: "List everybody who may do something with a key, how, and under which conditions", Args: cobra.NoArgs,
		Long: `List every principal of the installation that may do something with a key, through which statement or grant, and under which conditions:
root users, users, roles, registered services, and the sessions of roles and federated users that the key's policy or its grants name.
What a call would bring is not known here: conditions on it are listed rather than decided.`,
		RunE: func(c *cobra.Command, _ []string) error {
			var list []admin.Way
			if err := a.ask(c, admin.MethodWhoCan, q, &list); err != nil {
				return err
			}
			if len(list) == 0 {
				return printAll(c.OutOrStdout(), "Nobody.")
			}
			lines := []string{"PRINCIPAL	THROUGH	CONDITIONS"}
			for _, w := range list {
				lines = append(lines, w.Principal+"	"+w.Through+"	"+strings.Join(w.Conditions, "; "))
			}
			return table(c, lines)
		},
	}
	a.flags(c)
	keyFlags(c, &q.Key, "required for these")
	c.Flags().StringVar(&q.Action, "action", "", "permission, such as kms:Decrypt")
	required(c, "action")
	return c
}

func putKeyPolicyCommand() *cobra.Command {
	var a asking
	var q admin.ComparePolicy
	var file string
	var dry bool
	c := &cobra.Command{
		Use: "put-key-policy", Short: "Show who would gain and lose what by a new key policy", Args: cobra.NoArgs,
		Long: `Show who would gain and lose what by a new key policy, without putting it. To put it, use a client of the API, whose right to do so is
checked: aws kms put-key-policy.`,
		RunE: func(c *cobra.Command, _ []string) error {
			if !dry {
				return withHint(errors.New("administrators have no right of their own to put a key policy"), "add --dry-run to see what it would change; put it with aws kms put-key-policy")
			}
			text, err := os.ReadFile(file)
			if err != nil {
				return fmt.Errorf("reading the policy: %w", err)
			}
			q.Policy = string(text)
			var answer admin.Comparison
			if err := a.ask(c, admin.MethodComparePolicy, q, &answer); err != nil {
				return err
			}
			return printComparison(c, answer)
		},
	}
	a.flags(c)
	keyFlags(c, &q.Key, "required for these")
	c.Flags().StringVar(&file, "policy-file", "", "file with the new policy")
	c.Flags().BoolVar(&dry, "dry-run", false, "show the changes; required")
	required(c, "policy-file")
	return c
}

func printComparison(c *cobra.Command, answer admin.Comparison) error {
	lines := []string{"PRINCIPAL	CHANGE	PERMISSION	CONDITIONS"}
	for _, x := range answer.Changes {
		lines = append(lines, x.Principal+"	"+x.Kind+"	"+x.Action+"	"+strings.Join(x.Conditions, "; or "))
	}
	if len(answer.Changes) == 0 {
		lines = []string{"Nobody gains or loses anything."}
	}
	if err := table(c, lines); err != nil || !answer.Locked {
		return err
	}
	return printAll(c.OutOrStdout(), "Nobody could put another key policy then.")
}
