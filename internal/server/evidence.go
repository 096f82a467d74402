package server

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"path/filepath"
	"strings"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
)

// auditSecret is the name of the seed of the key that signs audit checkpoints, as the store keeps it: never change it.
const auditSecret = "audit checkpoints"

// auditState is the name under which the store keeps the newest checkpoint of the audit log, as its text without signature; where several
// servers share the store, each has one, with a space and the node's name behind. It is
// encrypted as secrets are, and so authenticated: whoever writes to the directory of the log cannot have it say that the log was shorter.
const auditState = "audit state"

// ErrNoAuditKey says that no server has run on the installation yet that signs checkpoints.
var ErrNoAuditKey = errors.New("there is no key for audit checkpoints yet")

// AuditDir returns the directory of the audit log; "" if records stay in memory.
func (c *Config) AuditDir() string {
	if c.Audit.Dir == "" && c.Data != "" {
		return filepath.Join(c.Data, "audit")
	}
	return c.Audit.Dir
}

// auditSeed returns the seed of the key that signs audit checkpoints, and makes it if there is none.
func (i *Installation) auditSeed(ctx context.Context, make bool) (secret.Bytes, error) {
	var fresh func() secret.Bytes
	if make {
		fresh = func() secret.Bytes { return secret.Take(randomOctets(ed25519.SeedSize)) }
	}
	seed, err := i.Store.SmallSecret(ctx, auditSecret, fresh)
	if errors.Is(err, store.ErrNotFound) {
		err = ErrNoAuditKey
	}
	return seed, err
}

func (i *Installation) auditState() string {
	if i.node == "" {
		return auditState
	}
	return auditState + " " + i.node
}

// rememberCheckpoint keeps what the newest checkpoint of the audit log says.
func (i *Installation) rememberCheckpoint(text []byte) error {
	return i.Store.PutSmallSecret(context.Background(), i.auditState(), secret.Take(bytes.Clone(text)))
}

// knownCheckpoint returns what rememberCheckpoint was given last, nil for nothing.
func (i *Installation) knownCheckpoint(ctx context.Context) ([]byte, error) {
	text, err := i.Store.SmallSecret(ctx, i.auditState(), nil)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return text.Expose(), nil
}

// BeginAudit has an installation forget which audit log it had: the next start takes what is in the log's directory, or begins a
// new log where there is none. It is for an operator who has moved a damaged log away.
func (i *Installation) BeginAudit(ctx context.Context) error {
	return i.Store.DropSmallSecret(ctx, i.auditState())
}

// AuditKey returns the text that verifies the checkpoints of the configuration's audit log. It comes from the installation and not
// from the directory of the log, and a server may run meanwhile.
func AuditKey(ctx context.Context, c Config, ask Ask) (key string, err error) {
	checkpoint, err := audit.NewestCheckpoint(c.AuditDir())
	if err != nil {
		return "", err
	}
	db, err := openReadOnly(ctx, c)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	in, err := unseal(ctx, db, c.Seals, ask)
	if err != nil {
		return "", err
	}
	seed, err := in.auditSeed(ctx, false)
	if err != nil {
		return "", err
	}
	origin, _, _ := strings.Cut(string(checkpoint), "\n")
	private := ed25519.NewKeyFromSeed(seed.Expose())
	if key, err = audit.VerifierKey(origin, private.Public().(ed25519.PublicKey)); err != nil {
		return "", err
	}
	_, err = audit.ParseCheckpoint(checkpoint, key)
	return key, err
}
