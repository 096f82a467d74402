package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/server"
)

// asker returns how to ask for a passphrase: at the terminal, without showing it, and once for each prompt. Where there is
// no terminal there is nobody to ask, and the error says so.
func asker(c *cobra.Command) server.Ask {
	answers := map[string]secret.Bytes{}
	return func(prompt string) (secret.Bytes, error) {
		if answer, ok := answers[prompt]; ok {
			return answer, nil
		}
		in, ok := c.InOrStdin().(*os.File)
		if !ok || !term.IsTerminal(int(in.Fd())) {
			return secret.Bytes{}, withHint(errors.New("a passphrase is needed and there is no terminal to ask for it"),
				"name a file or an environment variable for this seal in the configuration")
		}
		c.PrintErr(prompt)
		phrase, err := term.ReadPassword(int(in.Fd()))
		c.PrintErrln()
		if err != nil {
			return secret.Bytes{}, fmt.Errorf("reading the passphrase: %w", err)
		}
		answers[prompt] = secret.Take(phrase)
		return answers[prompt], nil
	}
}
