package iam

import (
	"crypto/fips140"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/crypto/argon2"

	"github.com/keywright/keywright/internal/secret"
)

// A password is kept as the text of its hash: the function, its parameters, the salt and the hash, between dollar signs, as
// in $argon2id$v=19$m=65536,t=3,p=1$salt$hash (the PHC string format; base 64 without padding). In FIPS 140-3 mode it is
// $pbkdf2-sha256$i=650000$salt$hash.
const (
	argonPrefix    = "$argon2id$v=19$m=65536,t=3,p=1$"
	oldArgonPrefix = "$argon2id$v=19$m=65536,t=3,p=4$" // four threads; no longer made
	pbkdf2Prefix   = "$pbkdf2-sha256$i="
)

// The parameters of new hashes: the second recommendation of RFC 9106 section 4 but with one thread, so that a hash takes no
// more than one processor from everybody else; and the iterations for PBKDF2 with
// SHA-256 of OWASP's password storage cheat sheet of 2023, and some more.
const (
	argonTime        = 3
	argonMemoryKiB   = 64 << 10
	pbkdf2Iterations = 650_000
	saltSize         = 16
	hashSize         = 32
)

// hashPassword returns the text to keep of a password.
func hashPassword(password secret.Bytes) (secret.Bytes, error) {
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // never fails: crypto/rand crashes the program instead
	prefix := argonPrefix
	if fips140.Enabled() {
		prefix = pbkdf2Prefix + strconv.Itoa(pbkdf2Iterations) + "$"
	}
	hash, err := derivePassword(prefix, password, salt)
	if err != nil {
		return secret.Bytes{}, err
	}
	return secret.FromString(prefix + base64.RawStdEncoding.EncodeToString(salt) + "$" + base64.RawStdEncoding.EncodeToString(hash)), nil
}

func derivePassword(prefix string, password secret.Bytes, salt []byte) ([]byte, error) {
	threads := map[string]uint8{argonPrefix: 1, oldArgonPrefix: 4}[prefix]
	if threads > 0 && !fips140.Enabled() {
		return argon2.IDKey(password.Expose(), salt, argonTime, argonMemoryKiB, threads, hashSize), nil
	}
	text, ok := strings.CutPrefix(prefix, pbkdf2Prefix)
	n, err := strconv.Atoi(strings.TrimSuffix(text, "$"))
	if !ok || err != nil || n < 1000 || n > 10_000_000 {
		return nil, errors.New("the password was hashed in a way that cannot be used now")
	}
	hash, err := pbkdf2.Key(sha256.New, string(password.Expose()), salt, n, hashSize)
	if err != nil {
		return nil, fmt.Errorf("hashing a password: %w", err)
	}
	return hash, nil
}

// samePassword reports whether a password is the one that was kept as that text.
func samePassword(password, kept secret.Bytes) (bool, error) {
	text := string(kept.Expose())
	at := strings.LastIndexByte(text, '$')
	if at < 0 {
		return false, nil
	}
	head, hash := text[:at], text[at+1:]
	at = strings.LastIndexByte(head, '$') + 1
	salt, err := base64.RawStdEncoding.DecodeString(head[at:])
	if err != nil {
		return false, fmt.Errorf("reading a kept password: %w", err)
	}
	want, err := base64.RawStdEncoding.DecodeString(hash)
	if err != nil {
		return false, fmt.Errorf("reading a kept password: %w", err)
	}
	have, err := derivePassword(head[:at], password, salt)
	return err == nil && subtle.ConstantTimeCompare(have, want) == 1, err
}

// strongEnough is the password policy of accounts that have none of their own ("Set an account password policy", IAM user
// guide): eight characters, three of the four classes, and not what the user is called.
func strongEnough(password secret.Bytes, user string) bool {
	text := string(password.Expose())
	var upper, lower, digit, other int
	for _, c := range text {
		switch {
		case unicode.IsUpper(c):
			upper = 1
		case unicode.IsLower(c):
			lower = 1
		case unicode.IsDigit(c):
			digit = 1
		default:
			other = 1
		}
	}
	return len(text) >= 8 && len(text) <= 128 && upper+lower+digit+other >= 3 && !strings.EqualFold(text, user)
}
