package seal

import (
	"bytes"
	"context"
	"crypto/fips140"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/crypto/argon2"

	"github.com/keywright/keywright/internal/secret"
)

// The functions that turn a passphrase into a key-encryption key, as they are named in a record.
const (
	kdfArgon2id = "argon2id"           // RFC 9106
	kdfPBKDF2   = "pbkdf2-hmac-sha256" // RFC 8018, NIST SP 800-132: the one that FIPS 140-3 allows
)

// passphraseParams is Record.Params of a passphrase seal, as JSON.
type passphraseParams struct {
	KDF        string `json:"kdf"`
	Salt       []byte `json:"salt"`
	Time       uint32 `json:"time,omitempty"`       // Argon2id: passes
	MemoryKiB  uint32 `json:"memoryKiB,omitempty"`  // Argon2id
	Threads    uint8  `json:"threads,omitempty"`    // Argon2id: lanes
	Iterations int    `json:"iterations,omitempty"` // PBKDF2
}

// What new records get: for Argon2id the second recommendation of RFC 9106 section 4, for PBKDF2 the iterations that
// OWASP's password storage cheat sheet of 2023 asks for with SHA-256, and some more.
const (
	saltSize         = 16
	argonTime        = 3
	argonMemoryKiB   = 64 << 10
	argonThreads     = 4
	pbkdf2Iterations = 650_000
)

// check bounds what a record can make this process spend. The parameters are not authenticated when they are used: a
// forged record must cost seconds at most, and fail then. Weak values need no lower bound: they give another key, and
// the record does not open.
func (p *passphraseParams) check() bool {
	if len(p.Salt) < saltSize || len(p.Salt) > 64 {
		return false
	}
	switch p.KDF {
	case kdfArgon2id:
		return p.Iterations == 0 && p.Time >= 1 && p.Time <= 16 && p.Threads >= 1 && p.Threads <= 16 &&
			p.MemoryKiB >= 8*uint32(p.Threads) && p.MemoryKiB <= 1<<20
	case kdfPBKDF2:
		return p.Time == 0 && p.MemoryKiB == 0 && p.Threads == 0 && p.Iterations >= 1000 && p.Iterations <= 10_000_000
	}
	return false
}

// passphrase is the seal of someone who remembers something.
type passphrase struct {
	name   string
	phrase secret.Bytes
	params passphraseParams // for Wrap; without salt
}

// Passphrase returns a seal that wraps with a passphrase: Argon2id, or PBKDF2-HMAC-SHA-256 when the process runs in
// FIPS 140-3 mode. The octets of the phrase count as they are; an empty one is refused when used. The name may be
// empty to try every record of the kind.
func Passphrase(name string, phrase secret.Bytes) Seal {
	p := passphraseParams{KDF: kdfArgon2id, Time: argonTime, MemoryKiB: argonMemoryKiB, Threads: argonThreads}
	if fips140.Enabled() {
		p = passphraseParams{KDF: kdfPBKDF2, Iterations: pbkdf2Iterations}
	}
	return &passphrase{name, phrase, p}
}

var errEmptyPassphrase = errors.New("the passphrase is empty")

func (s *passphrase) Kind() Kind   { return KindPassphrase }
func (s *passphrase) Name() string { return s.name }

func (s *passphrase) Wrap(_ context.Context, rec *Record, root secret.Bytes) error {
	if s.phrase.Len() == 0 {
		return errEmptyPassphrase
	}
	p := s.params
	p.Salt = make([]byte, saltSize)
	_, _ = rand.Read(p.Salt) // never fails: crypto/rand crashes the program instead
	key, err := s.derive(&p)
	if err != nil {
		return err
	}
	if rec.Params, err = json.Marshal(&p); err != nil {
		return fmt.Errorf("encoding parameters: %w", err)
	}
	rec.Wrapped = newWrappingKey(key).seal(0, rec.AssociatedData(), root)
	return nil
}

func (s *passphrase) Unwrap(_ context.Context, rec Record) (secret.Bytes, error) {
	if s.phrase.Len() == 0 {
		return secret.Bytes{}, errEmptyPassphrase
	}
	p, ok := parsePassphraseParams(rec.Params)
	if !ok {
		return secret.Bytes{}, ErrOpen
	}
	if p.KDF == kdfArgon2id && fips140.Enabled() {
		return secret.Bytes{}, fmt.Errorf("the passphrase seal %q uses Argon2id, which FIPS 140-3 mode does not allow", rec.Name)
	}
	key, err := s.derive(&p)
	if err != nil {
		return secret.Bytes{}, err
	}
	return newWrappingKey(key).open(rec.AssociatedData(), rec.Wrapped)
}

func parsePassphraseParams(text []byte) (p passphraseParams, ok bool) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	return p, dec.Decode(&p) == nil && p.check()
}

func (s *passphrase) derive(p *passphraseParams) ([]byte, error) {
	if p.KDF == kdfArgon2id {
		return argon2.IDKey(s.phrase.Expose(), p.Salt, p.Time, p.MemoryKiB, p.Threads, keySize), nil
	}
	key, err := pbkdf2.Key(sha256.New, string(s.phrase.Expose()), p.Salt, p.Iterations, keySize)
	if err != nil {
		return nil, fmt.Errorf("deriving a key from the passphrase: %w", err)
	}
	return key, nil
}
