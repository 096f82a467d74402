package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/server"
)

func storeCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "store", Short: "Manage where an installation is kept", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(migrateCommand())
	return c
}

func migrateCommand() *cobra.Command {
	var path, from, to string
	c := &cobra.Command{
		Use:   "migrate",
		Short: "Copy an installation from a data directory to a PostgreSQL database, or back",
		Long: `Copy an installation from a data directory to a PostgreSQL database, or back.

A place is sqlite:DIRECTORY or a URL that begins with postgres://, without a password; one of the two may be left out, and is then
the configuration's. The password of a database comes from where the configuration says, if it names that database, or from
PGPASSWORD or ~/.pgpass.

Stop every server first: no row may change meanwhile. Every row is verified in the source, copied as it is and compared, and
the target can be used only then; there every row is verified once more. Interrupted, the command goes on where it was when it is run again. The
source stays as it is: once servers run on the target, do not start one on the source any more.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return runMigrate(c, path, from, to) },
	}
	configFlag(c, &path)
	c.Flags().StringVar(&from, "from", "", "where the installation is")
	c.Flags().StringVar(&to, "to", "", "where it is to be")
	return c
}

func runMigrate(c *cobra.Command, path, from, to string) error {
	config, err := server.LoadConfig(path)
	if err != nil {
		return err
	}
	source, err := server.ParsePlace(from, config)
	if err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	target, err := server.ParsePlace(to, config)
	if err != nil {
		return fmt.Errorf("--to: %w", err)
	}
	if source.Dir == target.Dir && source.Storage.DSN == target.Storage.DSN {
		return withHint(errors.New("--from and --to are the same place"), "see keywright store migrate --help")
	}
	shown := ""
	done, err := server.MigrateStore(c.Context(), config, source, target, asker(c), func(table string, rows int64) {
		if rows >= 10_000 && rows%10_000 < 256 || table != shown {
			shown = table
			_, _ = fmt.Fprintf(c.ErrOrStderr(), "copying %s: %d rows\n", table, rows) // a message lost is not a row lost
		}
	})
	if err != nil {
		return err
	}
	n := done.Counts
	return printAll(c.OutOrStdout(),
		"Migrated installation "+done.Installation,
		fmt.Sprintf("verified %d keys, %d aliases, %d grants, %d accounts, %d access keys, %d identities", n.Keys, n.Aliases, n.Grants, n.Accounts, n.AccessKeys, n.Identities),
		fmt.Sprintf("compared %d rows, SHA-256 %s", done.Rows, done.Checksum))
}
