package seal

import (
	"crypto/fips140"

	"github.com/keywright/keywright/internal/secret"
)

// CheapPassphrase is a passphrase seal whose new records cost next to nothing, for tests of what does not depend on it.
func CheapPassphrase(name string, phrase secret.Bytes) Seal {
	if fips140.Enabled() {
		return &passphrase{name, phrase, passphraseParams{KDF: kdfPBKDF2, Iterations: 1000}}
	}
	return &passphrase{name, phrase, passphraseParams{KDF: kdfArgon2id, Time: 1, MemoryKiB: 64, Threads: 1}}
}

// The parsers of outside bytes, for the fuzz targets.
var (
	ParseBlob    = parseBlob
	ParseKeyFile = parseKeyFile
)

// ParseParams reports whether a record's parameters would be used.
func ParseParams(text []byte) (kdf string, memoryKiB uint32, ok bool) {
	p, ok := parsePassphraseParams(text)
	return p.KDF, p.MemoryKiB, ok
}

// SecretsForTest returns the root key.
func (b *Barrier) SecretsForTest() [][]byte { return [][]byte{b.root.Expose()} }
