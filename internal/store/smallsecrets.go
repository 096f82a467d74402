package store

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"strings"

	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
)

// Small secrets are those of the installation itself, such as the seed of the key that signs audit checkpoints. Each is a row of
// the table meta whose name begins with smallSecretPrefix: encrypted, and so authenticated, with its name bound. One that make made
// cannot be made again when it is lost, so it is never overwritten but by Rekey; PutSmallSecret is for names of their own.
const smallSecretPrefix = "secret "

type smallSecretRow struct{ name, value string }

func (r *smallSecretRow) primaryKey() string { return r.name }

func scanSmallSecretRow(rows *sql.Rows) (r smallSecretRow, err error) {
	return r, rows.Scan(&r.name, &r.value)
}

var smallSecretTable = table[smallSecretRow]{
	walkSmallSecrets, scanSmallSecretRow,
	[]any{smallSecretPrefix},
	func(r smallSecretRow) []any { return []any{r.name} },
	func(smallSecretRow) scope { return installation },
}

// smallSecretAssociatedData is what the encryption of a small secret binds.
func smallSecretAssociatedData(row string) []byte {
	return seal.Associate("keywright small secret v1", row)
}

func (v *verifier) smallSecret(ctx context.Context, q querier, r smallSecretRow) (secret.Bytes, error) {
	blob, err := base64.StdEncoding.Strict().DecodeString(r.value)
	if err != nil {
		return secret.Bytes{}, v.corrupt("meta", r.name)
	}
	s, err := v.barrier.Decrypt(seal.Credential, smallSecretAssociatedData(r.name), blob)
	if v.reloaded(ctx, q, err) {
		s, err = v.barrier.Decrypt(seal.Credential, smallSecretAssociatedData(r.name), blob)
	}
	if err != nil {
		return secret.Bytes{}, v.corrupt("meta", r.name)
	}
	return s, nil
}

// SmallSecret returns a secret of the installation by its name. If there is none yet, make makes it and it is stored; with make
// nil the error is ErrNotFound.
func (s *Store) SmallSecret(ctx context.Context, name string, make func() secret.Bytes) (secret.Bytes, error) {
	row := smallSecretPrefix + name
	found, err := verified(ctx, &s.verifier, s.reads, "meta", scanSmallSecretRow, s.verifier.smallSecret, selectSmallSecret, row)
	if make == nil || !errors.Is(err, ErrNotFound) {
		return found, doing("reading a secret of the installation", err)
	}
	made := make()
	err = s.Update(ctx, func(tx *Tx) error {
		err := tx.touch(installation)
		if err == nil { // another process may have made one meanwhile
			found, err = verified(ctx, &s.verifier, tx.g, "meta", scanSmallSecretRow, s.verifier.smallSecret, selectSmallSecret, row)
		}
		if !errors.Is(err, ErrNotFound) {
			return err
		}
		found = made
		return tx.putSmallSecret(row, made)
	})
	return found, doing("storing a secret of the installation", err)
}

// SmallSecrets returns the secrets of the installation whose names begin with prefix, by their names.
func (s *Store) SmallSecrets(ctx context.Context, prefix string) (map[string]secret.Bytes, error) {
	const page = 100
	all := map[string]secret.Bytes{}
	for after := smallSecretPrefix + prefix; ; {
		rows, err := collect(ctx, s.reads, scanSmallSecretRow, walkSmallSecrets, after, page)
		if err != nil {
			return nil, doing("listing secrets of the installation", err)
		}
		for _, r := range rows {
			name, ours := strings.CutPrefix(r.name, smallSecretPrefix+prefix)
			if !ours {
				return all, nil
			}
			if all[prefix+name], err = s.verifier.smallSecret(ctx, s.reads, r); err != nil {
				return nil, doing("reading a secret of the installation", err)
			}
			after = r.name
		}
		if len(rows) < page {
			return all, nil
		}
	}
}

// PutSmallSecret stores something under a name that SmallSecret makes nothing for, in place of what it had.
func (s *Store) PutSmallSecret(ctx context.Context, name string, value secret.Bytes) error {
	err := s.Update(ctx, func(tx *Tx) error { return tx.putSmallSecret(smallSecretPrefix+name, value) })
	return doing("storing a secret of the installation", err)
}

// ReplaceSmallSecret is PutSmallSecret if mayReplace, which gets what there is, has no error. Without anything there it is not asked.
func (s *Store) ReplaceSmallSecret(ctx context.Context, name string, value secret.Bytes, mayReplace func([]byte) error) error {
	row := smallSecretPrefix + name
	err := s.Update(ctx, func(tx *Tx) error {
		if err := tx.touch(installation); err != nil {
			return err
		}
		switch was, err := verified(ctx, &s.verifier, tx.g, "meta", scanSmallSecretRow, s.verifier.smallSecret, selectSmallSecret, row); {
		case errors.Is(err, ErrNotFound):
		case err != nil:
			return err
		default:
			if err := mayReplace(was.Expose()); err != nil {
				return err
			}
		}
		return tx.putSmallSecret(row, value)
	})
	return doing("storing a secret of the installation", err)
}

// DropSmallSecret deletes what PutSmallSecret stored, if anything, without looking at it.
func (s *Store) DropSmallSecret(ctx context.Context, name string) error {
	return s.dropSmallSecret(ctx, name, func(*Tx, string) error { return nil })
}

// DropSameSmallSecret deletes what PutSmallSecret stored; ErrConflict if it is not was any more, ErrNotFound if it is gone.
func (s *Store) DropSameSmallSecret(ctx context.Context, name string, was secret.Bytes) error {
	return s.dropSmallSecret(ctx, name, func(tx *Tx, row string) error {
		is, err := verified(ctx, &s.verifier, tx.g, "meta", scanSmallSecretRow, s.verifier.smallSecret, selectSmallSecret, row)
		if err == nil && !is.Equal(was) {
			err = ErrConflict
		}
		return err
	})
}

func (s *Store) dropSmallSecret(ctx context.Context, name string, may func(tx *Tx, row string) error) error {
	row := smallSecretPrefix + name
	err := s.Update(ctx, func(tx *Tx) error {
		if err := tx.touch(installation); err != nil {
			return err
		}
		if err := may(tx, row); err != nil {
			return err
		}
		_, err := tx.exec(deleteMeta, row)
		return err
	})
	return doing("deleting a secret of the installation", err)
}

func (tx *Tx) putSmallSecret(row string, value secret.Bytes) error {
	if err := tx.touch(installation); err != nil {
		return err
	}
	blob, err := tx.g.w.verifier.barrier.Encrypt(seal.Credential, smallSecretAssociatedData(row), value)
	if err != nil {
		return err
	}
	_, err = tx.exec(upsertMeta, row, base64.StdEncoding.EncodeToString(blob))
	return err
}

func (tx *Tx) rekeySmallSecret(r smallSecretRow, checkOnly bool) (bool, error) {
	v := tx.g.w.verifier
	value, err := v.smallSecret(context.Background(), tx.g, r)
	if err != nil {
		return false, err
	}
	if blob, err := base64.StdEncoding.DecodeString(r.value); err == nil && !v.barrier.Stale(seal.Credential, blob) {
		return false, nil
	}
	if checkOnly {
		return true, nil
	}
	return true, tx.putSmallSecret(r.name, value)
}
