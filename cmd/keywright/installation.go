package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/server"
)

// opener opens or makes the installation of a configuration.
type opener func(*cobra.Command, server.Config, server.Ask) (*server.Installation, error)

// makeInstallation is an opener of what it makes, whose passphrases are new.
func makeInstallation(c *cobra.Command, config server.Config, _ server.Ask) (*server.Installation, error) {
	return server.CreateInstallation(c.Context(), config, time.Now(), newAsker(c))
}

// openInstallation is an opener of what is there.
func openInstallation(c *cobra.Command, config server.Config, ask server.Ask) (*server.Installation, error) {
	return server.OpenInstallation(c.Context(), config, ask)
}

// onInstallation does something with an installation and closes it. What it does gets the same ask as the opening, so that
// nobody is asked twice.
func onInstallation(c *cobra.Command, path string, open opener, do func(server.Config, *server.Installation, server.Ask) error) error {
	config, err := server.LoadConfig(path)
	if err != nil {
		return err
	}
	ask := asker(c)
	in, err := open(c, config, ask)
	if err != nil {
		return err
	}
	return errors.Join(do(config, in, ask), in.Close())
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
