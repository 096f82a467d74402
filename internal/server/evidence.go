package server

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
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

// own returns the name under which the store keeps something for this server.
func (i *Installation) own(name string) string {
	if i.node == "" {
		return name
	}
	return name + " " + i.node
}

// rememberCheckpoint keeps what the newest checkpoint of the audit log says. It does not put it in place of another log's, nor of a newer
// one: two servers with one name would else destroy each other's evidence.
func (i *Installation) rememberCheckpoint(text []byte) error {
	is, err := audit.ParseRemembered(text)
	if err != nil {
		return err
	}
	return i.Store.ReplaceSmallSecret(context.Background(), i.own(auditState), secret.Take(text), func(known []byte) error {
		was, err := audit.ParseRemembered(known)
		switch {
		case err != nil:
			return fmt.Errorf("reading what is remembered: %w", err)
		case was.Origin != is.Origin || was.Number > is.Number || was.Number == is.Number && !bytes.Equal(known, text):
			return fmt.Errorf("%w: %s has the newest checkpoint of %s", errOthersLog, cmp.Or(i.node, "the store"), was.Origin)
		}
		return nil
	})
}

// errOthersLog says that what is remembered is not of this audit log.
var errOthersLog = errors.New("another server with this name writes an audit log")

// knownCheckpoint returns what rememberCheckpoint was given last, nil for nothing.
func (i *Installation) knownCheckpoint(ctx context.Context) ([]byte, error) {
	text, err := i.Store.SmallSecret(ctx, i.own(auditState), nil)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return text.Expose(), nil
}

// auditBegun is the name, likewise, under which the store keeps what BeginAudit forgot, until it has its record. No node has that name.
const auditBegun = auditState + ": begun"

// BeginAudit has an installation forget which audit log it had, and returns what it forgot, nil if that is nothing or cannot be read: the
// next start takes what is in the log's directory, or begins a new log where there is none, and records there what was forgotten. It is
// for an operator who has moved a damaged log away.
func (i *Installation) BeginAudit(ctx context.Context) (*audit.Checkpoint, error) {
	text, err := i.Store.SmallSecret(ctx, i.own(auditState), nil)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	var known []byte
	if err == nil {
		known = text.Expose()
	} // and else it is forgotten all the same: a row that was changed must not be the end of an installation
	if err := i.Store.PutSmallSecret(ctx, i.own(auditBegun), secret.Take(bytes.Clone(known))); err != nil {
		return nil, err
	}
	if err := i.Store.DropSmallSecret(ctx, i.own(auditState)); err != nil {
		return nil, err
	}
	c, err := audit.ParseRemembered(known)
	if err != nil {
		return nil, nil //nolint:nilerr // it is forgotten, and what it was nobody knows
	}
	return c, nil
}

// recordBegin writes the record of what BeginAudit forgot, as the first one of the log that was begun then. known is what the store
// remembered when the log was opened: the same if BeginAudit did not come to its end.
func (s *Server) recordBegin(known []byte) error {
	ctx, st := context.Background(), s.in.Store
	text, err := st.SmallSecret(ctx, s.in.own(auditBegun), nil)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	drop := func() error { return st.DropSmallSecret(ctx, s.in.own(auditBegun)) }
	forgotten := text.Expose()
	if known != nil && bytes.Equal(forgotten, known) {
		return drop()
	}
	return s.guard.Administer("BeginAudit", "", func(f *audit.Fields) {
		c, err := audit.ParseRemembered(forgotten)
		if err != nil {
			f.Bool("unreadable", true)
			return
		}
		showForgotten(f, c)
	}, drop)
}

// showForgotten tells a record which audit log is forgotten.
func showForgotten(f *audit.Fields, c *audit.Checkpoint) {
	f.Object("forgotten", func(f *audit.Fields) {
		f.String("origin", c.Origin)
		f.Int("checkpoint", int64(c.Number))
		f.Int("records", int64(c.Size))
		f.Date("time", c.Time)
	})
}

// forgetLogs has a shared store forget the audit logs of servers that are gone, each with a record, when retention would have removed all
// that they had: where servers come and go under new names, what is remembered of them would only grow.
func (s *Server) forgetLogs(ctx context.Context) error {
	keep := s.config.Audit.Retention
	if keep == 0 || s.member == nil {
		return nil
	}
	all, err := s.in.Store.SmallSecrets(ctx, auditState+" ")
	if err != nil {
		return err
	}
	for _, n := range s.member.Live() {
		delete(all, auditState+" "+n.Name)
	}
	for name, text := range all {
		c, err := audit.ParseRemembered(text.Expose())
		if err != nil || s.config.Now().Sub(c.Time) < keep {
			continue
		}
		err = s.guard.Administer("ForgetAudit", "", func(f *audit.Fields) {
			f.String("node", strings.TrimPrefix(name, auditState+" "))
			showForgotten(f, c)
		}, func() error { return s.in.Store.DropSameSmallSecret(ctx, name, text) })
		if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound) {
			slog.Info("an audit log that was about to be forgotten is in use again, or forgotten", "log", name, "err", err)
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
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
