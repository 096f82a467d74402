package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/server"
	"github.com/keywright/keywright/internal/store"
)

func backupCommand() *cobra.Command {
	return copyCommand("backup", "to", "new file to write the backup to",
		"Copy the store to a file, beside a running server, and check the copy",
		func(c *cobra.Command, config server.Config, file string, unsealed bool) error {
			info, err := server.Backup(c.Context(), config, file, unsealed, asker(c))
			if err != nil {
				return err
			}
			return printBackup(c, "Wrote "+file, info, unsealed)
		})
}

func restoreCommand() *cobra.Command {
	return copyCommand("restore", "from", "backup to read",
		"Check a backup and make the store of an empty data directory from it",
		func(c *cobra.Command, config server.Config, file string, unsealed bool) error {
			info, err := server.Restore(c.Context(), config, file, unsealed, asker(c))
			if err != nil {
				return err
			}
			if err := printBackup(c, "Restored "+config.Data, info, unsealed); err != nil {
				return err
			}
			if names, err := os.ReadDir(config.AuditDir()); err == nil && len(names) > 0 {
				return nil
			}
			return printAll(c.OutOrStdout(), "Its audit log is not in "+config.AuditDir()+": put it there, or run keywright audit begin.")
		})
}

// copyCommand makes a command about a backup file.
func copyCommand(name, flag, what, short string, do func(*cobra.Command, server.Config, string, bool) error) *cobra.Command {
	var path, file string
	var sealed bool
	c := &cobra.Command{
		Use: name, Short: short, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			config, err := server.LoadConfig(path)
			if err != nil {
				return err
			}
			return do(c, config, file, !sealed)
		},
	}
	configFlag(c, &path)
	c.Flags().StringVar(&file, flag, "", what)
	c.Flags().BoolVar(&sealed, "sealed", false, "do not open the backup's seals: check the file, but not that its rows are genuine")
	if err := c.MarkFlagRequired(flag); err != nil {
		panic(err) // the flag was defined two lines before
	}
	return c
}

func printBackup(c *cobra.Command, did string, info store.BackupInfo, unsealed bool) error {
	checked := "counted"
	if unsealed {
		checked = "verified"
	}
	n := info.Counts
	_, err := fmt.Fprintf(c.OutOrStdout(), "%s: installation %s\n%s %d keys, %d aliases, %d accounts, %d access keys\n",
		did, info.Installation, checked, n.Keys, n.Aliases, n.Accounts, n.AccessKeys)
	return err
}
