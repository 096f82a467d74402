package server

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
)

// Seal says where the secret of a seal comes from. It never holds the secret itself.
type Seal struct {
	// Kind is "passphrase" or "key-file". Required.
	Kind seal.Kind `yaml:"kind"`
	// Name is what the seal is called. Empty means its kind.
	Name string `yaml:"name"`
	// File is the key file, or a file whose first line is the passphrase. A key file needs it.
	File string `yaml:"file"`
	// Env is the environment variable with the passphrase. With neither Env nor File the passphrase is asked for.
	Env string `yaml:"env"`
}

// Ask gets a passphrase from whoever sits at the terminal.
type Ask func(prompt string) (secret.Bytes, error)

func (s *Seal) check() error {
	switch s.Kind {
	case seal.KindKeyFile:
		if s.File == "" || s.Env != "" {
			return errors.New("a key-file has a file and nothing else")
		}
	case seal.KindPassphrase:
		if s.File != "" && s.Env != "" {
			return errors.New("a passphrase comes from a file or from the environment, not from both")
		}
	default:
		return fmt.Errorf("unknown kind %q: want passphrase or key-file", s.Kind)
	}
	return nil
}

// label is the name of the seal in messages.
func (s *Seal) label() string {
	if s.Name == "" {
		return string(s.Kind)
	}
	return s.Name
}

// makeKeyFile makes the key file of a seal, if it is one that needs a file and has none.
func (s *Seal) makeKeyFile() error {
	if s.Kind != seal.KindKeyFile || s.File == "" {
		return nil
	}
	if err := seal.WriteKeyFile(s.File); !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

// open gets the secret and returns the seal.
func (s *Seal) open(ask Ask) (seal.Seal, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	if s.Kind == seal.KindKeyFile {
		key, err := seal.ReadKeyFile(s.File)
		if err != nil {
			return nil, err
		}
		return seal.KeyFile(s.Name, key), nil
	}
	phrase, err := s.passphrase(ask)
	if err != nil {
		return nil, err
	}
	return seal.Passphrase(s.Name, phrase), nil
}

// ErrNoPassphrase says that there is nothing in the place that the configuration names for a passphrase.
var ErrNoPassphrase = errors.New("no passphrase")

func (s *Seal) passphrase(ask Ask) (secret.Bytes, error) {
	switch {
	case s.File != "":
		text, err := os.ReadFile(s.File)
		if err != nil {
			return secret.Bytes{}, fmt.Errorf("reading the passphrase: %w", err)
		}
		defer clear(text)
		line, _, _ := bytes.Cut(text, []byte("\n"))
		line = bytes.TrimSuffix(line, []byte("\r"))
		if len(line) == 0 {
			return secret.Bytes{}, fmt.Errorf("the passphrase file %s has an empty first line: %w", s.File, ErrNoPassphrase)
		}
		return secret.Copy(line), nil
	case s.Env != "":
		text := os.Getenv(s.Env)
		if text == "" {
			return secret.Bytes{}, fmt.Errorf("the environment variable %s has %w", s.Env, ErrNoPassphrase)
		}
		return secret.FromString(text), nil
	case ask == nil:
		return secret.Bytes{}, errors.New("there is nobody to ask for the passphrase")
	}
	return ask("Passphrase of the seal " + s.label() + ": ")
}
