package main

import (
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/server"
)

func sealCommand() *cobra.Command {
	group := &cobra.Command{Use: "seal", Short: "Manage what opens the root key", Args: cobra.NoArgs, RunE: needsSubcommand}
	group.AddCommand(sealStatusCommand(), sealAddCommand(), sealRemoveCommand(), sealRotateCommand())
	return group
}

func sealStatusCommand() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "status", Short: "List the seals and the versions of the domain keys", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			config, err := server.LoadConfig(path)
			if err != nil {
				return err
			}
			sealed, err := server.Seals(c.Context(), config)
			if err != nil {
				return err
			}
			return printSeals(c, sealed)
		},
	}
	configFlag(c, &path)
	return c
}

func printSeals(c *cobra.Command, sealed seal.Sealed) error {
	lines := []string{"SEAL	KIND	SINCE	ID"}
	for _, r := range sealed.Seals {
		lines = append(lines, fmt.Sprintf("%s	%s	%s	%s", r.Name, r.Kind, r.CreatedAt.Format(time.DateOnly), r.ID))
	}
	lines = append(lines, "", "DOMAIN KEY	VERSION	SINCE")
	for _, k := range sealed.DomainKeys {
		lines = append(lines, fmt.Sprintf("%s	%d	%s", k.Domain, k.Version, k.CreatedAt.Format(time.DateOnly)))
	}
	w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
	return errors.Join(printAll(w, lines...), w.Flush())
}

func sealAddCommand() *cobra.Command {
	var path, kind string
	var s server.Seal
	c := &cobra.Command{
		Use: "add", Short: "Add a seal, while no server runs", Args: cobra.NoArgs,
		Long: `Add a seal: from then on it opens the root key as well as the others. The key file must be there already; a passphrase
is asked for if neither a file nor an environment variable is named.`,
		RunE: func(c *cobra.Command, _ []string) error {
			s.Kind = seal.Kind(kind)
			return onInstallation(c, path, openInstallation, func(_ server.Config, in *server.Installation, _ server.Ask) error {
				rec, err := in.AddSeal(c.Context(), time.Now(), s, newAsker(c))
				if err != nil {
					return err
				}
				return printAll(c.OutOrStdout(), "Added the seal "+rec.Name+" ("+rec.ID+").", "Name it in the configuration to have the server use it.")
			})
		},
	}
	configFlag(c, &path)
	c.Flags().StringVar(&kind, "kind", "", "passphrase or key-file")
	c.Flags().StringVar(&s.Name, "name", "", "name of the new seal (default: its kind)")
	c.Flags().StringVar(&s.File, "file", "", "key file, or file whose first line is the passphrase")
	c.Flags().StringVar(&s.Env, "env", "", "environment variable with the passphrase")
	return c
}

func sealRemoveCommand() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "remove NAME-OR-ID", Short: "Remove a seal, while no server runs", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return onInstallation(c, path, openInstallation, func(config server.Config, in *server.Installation, ask server.Ask) error {
				rec, err := in.RemoveSeal(c.Context(), config, args[0], ask)
				if err != nil {
					return err
				}
				return printAll(c.OutOrStdout(), "Removed the seal "+rec.Name+" ("+rec.ID+").",
					"Its secret still opens copies of the store made until now. Run keywright seal rotate so that such a copy opens nothing new.")
			})
		},
	}
	configFlag(c, &path)
	return c
}

func sealRotateCommand() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "rotate", Short: "Make a new root key and new domain keys, while no server runs", Args: cobra.NoArgs,
		Long: `Make new domain keys, wrap and authenticate everything stored with them, drop the old ones, and make a new root key. Every
seal must be named in the configuration. Key ids and ciphertexts stay as they are; temporary credentials and pagination
markers that were handed out end.`,
		RunE: func(c *cobra.Command, _ []string) error {
			return onInstallation(c, path, openInstallation, func(config server.Config, in *server.Installation, ask server.Ask) error {
				rows, err := in.Rotate(c.Context(), config, time.Now(), ask)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(c.OutOrStdout(), "Rotated the root key and the domain keys; %d rows were written again.\n", rows)
				return err
			})
		},
	}
	configFlag(c, &path)
	return c
}
