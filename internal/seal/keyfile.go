package seal

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/keywright/keywright/internal/kbkdf"
	"github.com/keywright/keywright/internal/secret"
)

// keyFile is the seal of whoever can read a file: a service manager's credential, a mounted secret, a removable disk.
type keyFile struct {
	name string
	key  secret.Bytes
}

// KeyFile returns a seal that wraps with the 32 random octets of a key file, as ReadKeyFile gives them. The name may be
// empty to try every record of the kind.
func KeyFile(name string, key secret.Bytes) Seal { return &keyFile{name, key} }

func (s *keyFile) Kind() Kind   { return KindKeyFile }
func (s *keyFile) Name() string { return s.name }

// wrapping returns the wrapping key of one record: derived for the record's id, because an operator may use one file for
// several installations.
func (s *keyFile) wrapping(rec *Record) (wrappingKey, error) {
	if s.key.Len() != keySize {
		return wrappingKey{}, errors.New("a key file holds 32 octets")
	}
	return newWrappingKey(kbkdf.Key(s.key.Expose(), "keywright key file seal v1", []byte(rec.ID), keySize)), nil
}

func (s *keyFile) Wrap(_ context.Context, rec *Record, root secret.Bytes) error {
	k, err := s.wrapping(rec)
	if err != nil {
		return err
	}
	rec.Params = nil
	rec.Wrapped = k.seal(0, rec.AssociatedData(), root)
	return nil
}

func (s *keyFile) Unwrap(_ context.Context, rec Record) (secret.Bytes, error) {
	k, err := s.wrapping(&rec)
	if err != nil {
		return secret.Bytes{}, err
	}
	return k.open(rec.AssociatedData(), rec.Wrapped)
}

// WriteKeyFile makes a new key file of 32 random octets, in hexadecimal with a line end, readable by its owner only. It
// never overwrites. When it returns nil the file is on disk.
func WriteKeyFile(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("making a key file: %w", err)
	}
	_, err = fmt.Fprintf(f, "%x\n", randomKey().Expose())
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("writing the key file %s: %w", path, err)
	}
	return nil
}

// syncDir makes the names in a directory durable.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ErrKeyFileMode says that the rights of a key file give away its key.
var ErrKeyFileMode = errors.New("others than its owner may use it")

// ReadKeyFile returns the key in a key file: 32 octets in hexadecimal or standard base64, with or without a line end. It
// refuses what is no regular file, and one that anybody but its owner has any right to. No error shows content.
func ReadKeyFile(path string) (secret.Bytes, error) {
	f, err := os.Open(path)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("reading a key file: %w", err)
	}
	defer f.Close() // nothing to lose: it is read only
	info, err := f.Stat()
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("reading a key file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return secret.Bytes{}, fmt.Errorf("the key file %s is no regular file", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return secret.Bytes{}, fmt.Errorf("the key file %s has mode %04o: %w (chmod 600)", path, mode, ErrKeyFileMode)
	}
	text, err := io.ReadAll(io.LimitReader(f, 128))
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("reading a key file: %w", err)
	}
	key, ok := parseKeyFile(text)
	clear(text)
	if !ok {
		return secret.Bytes{}, fmt.Errorf("the key file %s does not hold 32 octets in hexadecimal or base64", path)
	}
	return key, nil
}

// parseKeyFile reads the text of a key file.
func parseKeyFile(text []byte) (secret.Bytes, bool) {
	text = bytes.TrimSuffix(text, []byte("\n"))
	text = bytes.TrimSuffix(text, []byte("\r"))
	key := make([]byte, len(text)) // longer than what either form gives
	var n int
	var err error
	switch len(text) {
	case hex.EncodedLen(keySize):
		n, err = hex.Decode(key, text)
	case base64.StdEncoding.EncodedLen(keySize):
		n, err = base64.StdEncoding.Strict().Decode(key, text)
	}
	if err != nil || n != keySize {
		return secret.Bytes{}, false
	}
	return secret.Take(key[:n:n]), true
}
