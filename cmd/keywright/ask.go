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

// asker returns how to ask for a passphrase that there is already: at the terminal, and once for each prompt.
func asker(c *cobra.Command) server.Ask {
	return oncePerPrompt(func(prompt string) (secret.Bytes, error) { return readPassphrase(c, prompt) })
}

// newAsker returns how to ask for a new passphrase: twice, because a slip of the fingers would lock everybody out.
func newAsker(c *cobra.Command) server.Ask {
	return oncePerPrompt(func(prompt string) (secret.Bytes, error) {
		phrase, err := readPassphrase(c, prompt)
		if err != nil {
			return secret.Bytes{}, err
		}
		again, err := readPassphrase(c, "The same once more: ")
		if err != nil {
			return secret.Bytes{}, err
		}
		if !phrase.Equal(again) {
			return secret.Bytes{}, withHint(errors.New("the two passphrases differ"), "run the command again and type the same passphrase twice")
		}
		return phrase, nil
	})
}

// oncePerPrompt remembers answers.
func oncePerPrompt(ask server.Ask) server.Ask {
	answers := map[string]secret.Bytes{}
	return func(prompt string) (secret.Bytes, error) {
		if answer, ok := answers[prompt]; ok {
			return answer, nil
		}
		answer, err := ask(prompt)
		if err == nil {
			answers[prompt] = answer
		}
		return answer, err
	}
}

// readPassphrase asks at the terminal, without showing what is typed. Where there is no terminal there is nobody to ask,
// and the error says so.
func readPassphrase(c *cobra.Command, prompt string) (secret.Bytes, error) {
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
	return secret.Take(phrase), nil
}
