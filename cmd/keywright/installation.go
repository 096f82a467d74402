package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/server"
)

// opener opens or makes the installation of a configuration.
type opener func(context.Context, server.Config, time.Time, server.Ask) (*server.Installation, error)

// openInstallation is an opener of what is there.
func openInstallation(ctx context.Context, config server.Config, _ time.Time, ask server.Ask) (*server.Installation, error) {
	return server.OpenInstallation(ctx, config, ask)
}

// onInstallation does something with an installation and closes it.
func onInstallation(c *cobra.Command, path string, open opener, do func(server.Config, *server.Installation) error) error {
	config, err := server.LoadConfig(path)
	if err != nil {
		return err
	}
	in, err := open(c.Context(), config, time.Now(), asker(c))
	if err != nil {
		return err
	}
	return errors.Join(do(config, in), in.Close())
}

// describeSeal says what a seal is and where its secret comes from.
func describeSeal(s server.Seal) string {
	switch {
	case s.Kind == seal.KindKeyFile:
		return "the key file " + s.File
	case s.File != "":
		return "the passphrase in the file " + s.File
	case s.Env != "":
		return "the passphrase in the environment variable " + s.Env
	}
	return "a passphrase that is asked for"
}
