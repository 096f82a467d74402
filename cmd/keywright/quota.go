package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/admin"
	"github.com/keywright/keywright/internal/arn"
)

func quotaCommand() *cobra.Command {
	group := &cobra.Command{
		Use: "quota", Short: "Manage what accounts may have, and how often they may call", Args: cobra.NoArgs, RunE: needsSubcommand,
		Long: `Manage what accounts may have, and how often they may call. Accounts ask for more by the Service Quotas API; what is approved or set
here holds at once, for one account in one Region. What holds for others is in the configuration.`,
	}
	group.AddCommand(
		quotaListCommand(), quotaRequestsCommand(), quotaSetCommand(),
		quotaAnswerCommand("approve", "Give what a request asks for", admin.MethodApproveQuotaRequest, "Approved"),
		quotaAnswerCommand("deny", "Refuse a request", admin.MethodDenyQuotaRequest, "Denied"),
	)
	return group
}

// placeFlags are the flags that say where a quota holds.
func placeFlags(c *cobra.Command, account, region *string) {
	c.Flags().StringVar(account, "account", "", "the account")
	c.Flags().StringVar(region, "region", "", "the Region")
	required(c, "account", "region")
}

func quotaListCommand() *cobra.Command {
	var a asking
	var account, region string
	c := &cobra.Command{
		Use: "list", Short: "List the quotas of an account in a Region", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var list []admin.Quota
			q := admin.ListQuotas{Account: arn.Account(account), Region: arn.Region(region)}
			if err := a.ask(c, admin.MethodListQuotas, q, &list); err != nil {
				return err
			}
			lines := []string{"SERVICE	CODE	VALUE	DEFAULT	NAME"}
			for _, x := range list {
				lines = append(lines, fmt.Sprintf("%s	%s	%s	%s	%s", x.Service, x.Code, quotaText(x.Value, x.Rate), quotaText(x.Default, x.Rate), x.Name))
			}
			return table(c, lines)
		},
	}
	a.flags(c)
	placeFlags(c, &account, &region)
	return c
}

// quotaText prints a value: a rate as 5/s.
func quotaText(v float64, rate bool) string {
	text := strconv.FormatFloat(v, 'f', -1, 64)
	if rate {
		text += "/s"
	}
	return text
}

func quotaRequestsCommand() *cobra.Command {
	var a asking
	var all bool
	c := &cobra.Command{
		Use: "requests", Short: "List the requests for more that wait for an answer", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var list []admin.QuotaRequest
			if err := a.ask(c, admin.MethodListQuotaRequests, admin.ListQuotaRequests{All: all}, &list); err != nil {
				return err
			}
			lines := []string{"ID	STATUS	SINCE	ACCOUNT	REGION	DESIRED	QUOTA	BY"}
			for _, x := range list {
				lines = append(lines, fmt.Sprintf("%s	%s	%s	%s	%s	%s	%s	%s", x.ID, x.Status, x.Created.Format(time.DateOnly), x.Account, x.Region, quotaText(x.Desired, false), x.Name, x.By))
			}
			return table(c, lines)
		},
	}
	a.flags(c)
	c.Flags().BoolVar(&all, "all", false, "those that were answered, too")
	return c
}

func quotaAnswerCommand(use, short, method, done string) *cobra.Command {
	var a asking
	var id string
	c := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := a.ask(c, method, admin.AnswerQuotaRequest{ID: id}, nil); err != nil {
				return err
			}
			return printAll(c.OutOrStdout(), done+" "+id)
		},
	}
	a.flags(c)
	c.Flags().StringVar(&id, "id", "", "id of the request")
	required(c, "id")
	return c
}

func quotaSetCommand() *cobra.Command {
	var a asking
	var account, region, name string
	var value float64
	c := &cobra.Command{
		Use: "set", Short: "Give a quota of an account in a Region another value", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			q := admin.SetQuota{Account: arn.Account(account), Region: arn.Region(region), Quota: name, Value: value}
			if err := a.ask(c, admin.MethodSetQuota, q, nil); err != nil {
				return err
			}
			return printAll(c.OutOrStdout(), fmt.Sprintf("%s of %s in %s is %s now", name, account, region, quotaText(value, false)))
		},
	}
	a.flags(c)
	placeFlags(c, &account, &region)
	c.Flags().StringVar(&name, "quota", "", "name or code of the quota")
	c.Flags().Float64Var(&value, "value", 0, "a number, or requests in a second")
	required(c, "quota", "value")
	return c
}
