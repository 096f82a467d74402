package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/server"
)

func serverCommand() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "server", Short: "Run the server of an installation", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return runServer(c, path)
		},
	}
	configFlag(c, &path)
	return c
}

// configFlag adds the flag that all commands on an installation have.
func configFlag(c *cobra.Command, path *string) {
	c.Flags().StringVar(path, "config", "", "configuration file")
	if err := c.MarkFlagRequired("config"); err != nil {
		panic(err) // the flag was defined the line before
	}
}

func runServer(c *cobra.Command, path string) error {
	ctx, out := c.Context(), c.OutOrStdout()
	config, err := server.LoadConfig(path)
	if err != nil {
		return err
	}
	config.Version = versionText()
	slog.SetDefault(config.Log.Logger(c.ErrOrStderr()))
	in, err := server.OpenInstallation(ctx, config, asker(c))
	if err != nil {
		return err
	}
	spareProcessor()
	s, err := server.New(config, in)
	if err != nil {
		return err
	}
	scheme := "http"
	if config.TLS != nil {
		scheme = "https"
	}
	var lines []string
	if at := s.AdminAddr(); at != nil {
		lines = append(lines, "Health is on http://"+at.String()+"/readyz")
	}
	if err := printAll(out, append(lines, "Keywright is ready on "+scheme+"://"+s.Addr().String())...); err != nil {
		return errors.Join(err, s.Close())
	}
	defer heapFloor()()
	notify("READY=1") // connections are accepted from now on, and requests answered with the next breath
	defer context.AfterFunc(ctx, func() { notify("STOPPING=1") })()
	return s.Run(ctx)
}
