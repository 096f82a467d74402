package store

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/seal"
)

// keyUseBodyVersion is the layout of a key use's body that is written now.
const keyUseBodyVersion = 1

// KeyUse is the last cryptographic use of a key.
type KeyUse struct {
	Key       key.Name
	At        time.Time // kept to the millisecond
	Operation string    // such as Decrypt
	EventID   string    // of its audit record
	RequestID string    // of its answer
}

type keyUseRow struct {
	account, region, key string
	body, tag            []byte
}

func scanKeyUseRow(rows *sql.Rows) (r keyUseRow, err error) {
	return r, rows.Scan(&r.account, &r.region, &r.key, &r.body, &r.tag)
}

func (r *keyUseRow) primaryKey() string { return r.account + "/" + r.region + "/" + r.key }

func (r *keyUseRow) data() []byte {
	return rowData("key_uses", r.account, r.region, r.key, string(r.body))
}

func encodeKeyUse(u *KeyUse) []byte {
	w := make(bodyWriter, 0, 128)
	w.octet(keyUseBodyVersion)
	w.time(u.At)
	w.str(u.Operation)
	w.str(u.EventID)
	w.str(u.RequestID)
	return w
}

func decodeKeyUse(name key.Name, body []byte) (*KeyUse, error) {
	r := bodyReader{rest: body}
	r.version(keyUseBodyVersion)
	u := &KeyUse{Key: name, At: r.time(), Operation: r.str(), EventID: r.str(), RequestID: r.str()}
	return u, r.end()
}

func (v *verifier) keyUse(ctx context.Context, q querier, r keyUseRow) (*KeyUse, error) {
	if err := v.verify(ctx, q, "key_uses", r.primaryKey(), r.data(), r.tag); err != nil {
		return nil, err
	}
	u, err := decodeKeyUse(key.Name{Account: arn.Account(r.account), Region: arn.Region(r.region), ID: arn.KeyID(r.key)}, r.body)
	if err != nil {
		return nil, v.corrupt("key_uses", r.primaryKey())
	}
	return u, nil
}

func (v *verifier) keyUseRow(u *KeyUse) (r keyUseRow, err error) {
	n := u.Key
	if n.Account == "" || n.Region == "" || n.ID == "" || u.At.IsZero() || u.Operation == "" {
		return r, errors.New("a use of a key has a key, a time and an operation")
	}
	r = keyUseRow{account: string(n.Account), region: string(n.Region), key: string(n.ID), body: encodeKeyUse(u)}
	r.tag, err = v.tag(r.data())
	return r, err
}

// GetKeyUse returns the last use of a key that was written down, or ErrNotFound.
func (s *Store) GetKeyUse(ctx context.Context, n key.Name) (*KeyUse, error) {
	u, err := verified(ctx, &s.verifier, s.reads, "key_uses", scanKeyUseRow, s.verifier.keyUse, selectKeyUse,
		string(n.Account), string(n.Region), string(n.ID))
	return u, doing("reading the last use of a key", err)
}

// PutKeyUse writes the last use of a key in place of the one before, unless that was later. It does nothing if the key is not there
// any more. A use is no change of the key: it is not in the feed.
func (tx *Tx) PutKeyUse(u *KeyUse) error {
	r, err := tx.g.w.verifier.keyUseRow(u)
	if err == nil {
		err = tx.touch(scope{u.Key.Account, u.Key.Region})
	}
	later := false
	if err == nil {
		later, err = tx.laterUse(u)
	}
	if err == nil && !later {
		_, err = tx.exec(upsertKeyUse, r.body, r.tag, r.account, r.region, r.key)
	}
	return doing("writing the last use of a key", err)
}

// PutKeyUses is PutKeyUse for many keys, each of which is there once. Where the engine is asked over a network it is asked twice for all.
func (tx *Tx) PutKeyUses(uses []KeyUse) error {
	if tx.g.w.shared {
		return doing("writing the last uses of keys", tx.putKeyUses(uses))
	}
	for i := range uses {
		if err := tx.PutKeyUse(&uses[i]); err != nil {
			return err
		}
	}
	return nil
}

func (tx *Tx) putKeyUses(uses []KeyUse) error {
	var of keyUseColumns
	for i := range uses {
		if err := tx.touch(scope{uses[i].Key.Account, uses[i].Key.Region}); err != nil {
			return err
		}
		of.add(keyUseRow{account: string(uses[i].Key.Account), region: string(uses[i].Key.Region), key: string(uses[i].Key.ID)})
	}
	v := &tx.g.w.verifier
	rows, err := collect(tx.g.ctx, tx.g, scanKeyUseRow, selectKeyUsesOf, of.accounts, of.regions, of.keys)
	if err != nil {
		return err
	}
	known := map[key.Name]time.Time{}
	for _, r := range rows {
		last, err := v.keyUse(tx.g.ctx, tx.g, r)
		var corrupt *CorruptRowError
		switch {
		case err == nil:
			known[last.Key] = last.At
		case !errors.As(err, &corrupt): // a row that was changed knows of no use
			return err
		}
	}
	var write keyUseColumns
	for i := range uses {
		if known[uses[i].Key].After(uses[i].At) {
			continue
		}
		r, err := v.keyUseRow(&uses[i])
		if err != nil {
			return err
		}
		write.add(r)
	}
	_, err = tx.exec(upsertKeyUses, write.accounts, write.regions, write.keys, write.bodies, write.tags)
	return err
}

// keyUseColumns is rows as the engine takes many at once.
type keyUseColumns struct {
	accounts, regions, keys []string
	bodies, tags            [][]byte
}

func (c *keyUseColumns) add(r keyUseRow) {
	c.accounts, c.regions, c.keys = append(c.accounts, r.account), append(c.regions, r.region), append(c.keys, r.key)
	c.bodies, c.tags = append(c.bodies, r.body), append(c.tags, r.tag)
}

// laterUse reports whether a later use of the key is known. A row that was changed knows of none.
func (tx *Tx) laterUse(u *KeyUse) (bool, error) {
	v, n := &tx.g.w.verifier, u.Key
	last, err := verified(context.Background(), v, tx.g, "key_uses", scanKeyUseRow, v.keyUse, selectKeyUse, string(n.Account), string(n.Region), string(n.ID))
	var corrupt *CorruptRowError
	if errors.Is(err, ErrNotFound) || errors.As(err, &corrupt) {
		return false, nil
	}
	return err == nil && last.At.After(u.At), err
}

var keyUseTable = table[keyUseRow]{
	walkKeyUses, scanKeyUseRow,
	[]any{"", "", ""},
	func(r keyUseRow) []any { return []any{r.account, r.region, r.key} },
	func(r keyUseRow) scope { return within(r.account, r.region) },
}

func (tx *Tx) rekeyKeyUse(r keyUseRow, checkOnly bool) (bool, error) {
	v := tx.g.w.verifier
	u, err := v.keyUse(context.Background(), tx.g, r)
	if err != nil || !v.barrier.StaleTag(seal.Row, r.tag) {
		return false, err
	}
	if checkOnly {
		return true, nil
	}
	return true, tx.PutKeyUse(u)
}

// usesSinceName is the row of table meta that says since when the uses of keys are written down: milliseconds since 1970, 0 for
// always, a space and the tag in base64.
const usesSinceName = "uses since"

func (v *verifier) usesSinceText(ms string) (string, error) {
	tag, err := v.tag(rowData("meta", usesSinceName, ms))
	return ms + " " + base64.RawStdEncoding.EncodeToString(tag), err
}

func scanText(rows *sql.Rows) (s string, err error) { return s, rows.Scan(&s) }

// usesSince reads that row. One without a tag, as there was at first, is not found.
func (v *verifier) usesSince(ctx context.Context, q querier) (ms string, tag []byte, err error) {
	text, err := one(ctx, q, scanText, selectMeta, usesSinceName)
	if err != nil {
		return "", nil, err
	}
	ms, encoded, found := strings.Cut(text, " ")
	if !found {
		return "", nil, ErrNotFound
	}
	if tag, err = base64.RawStdEncoding.Strict().DecodeString(encoded); err != nil {
		return "", nil, v.corrupt("meta", usesSinceName)
	}
	return ms, tag, v.verify(ctx, q, "meta", usesSinceName, rowData("meta", usesSinceName, ms), tag)
}

// trackUses notes since when the uses of keys are written down, once: in an installation that had keys before, since now. So
// whoever takes the row away makes keys seem used, and not unused.
func (s *Store) trackUses(ctx context.Context, now time.Time) error {
	return s.Update(ctx, func(tx *Tx) error {
		if err := tx.touch(installation); err != nil {
			return err
		}
		_, _, err := s.verifier.usesSince(ctx, tx.g)
		var corrupt *CorruptRowError
		if err == nil || errors.As(err, &corrupt) { // that is for who reads it
			return nil
		}
		if !errors.Is(err, ErrNotFound) {
			return err
		}
		ms := "0"
		keys, err := collect(ctx, tx.g, scanKeyRow, walkKeys, "", "", "", 1)
		if err != nil {
			return err
		}
		if len(keys) > 0 {
			ms = strconv.FormatInt(now.UnixMilli(), 10)
		}
		return tx.putUsesSince(ms)
	})
}

func (tx *Tx) putUsesSince(ms string) error {
	text, err := tx.g.w.verifier.usesSinceText(ms)
	if err == nil {
		_, err = tx.exec(upsertMeta, usesSinceName, text)
	}
	return err
}

// rekeyUsesSince is what rekeyTable is for a table.
func (s *Store) rekeyUsesSince(ctx context.Context, checkOnly bool) (n int64, err error) {
	err = s.Update(ctx, func(tx *Tx) error {
		n = 0 // this may be a second run
		if err := tx.touch(installation); err != nil {
			return err
		}
		ms, tag, err := s.verifier.usesSince(ctx, tx.g)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err != nil || !s.verifier.barrier.StaleTag(seal.Row, tag) {
			return err
		}
		n = 1
		if checkOnly {
			return nil
		}
		return tx.putUsesSince(ms)
	})
	return n, err
}

// UsesSince returns since when the uses of keys are written down in this installation; zero for always. Of a key that was
// there before nobody knows whether it was used.
func (s *Store) UsesSince(ctx context.Context) (time.Time, error) {
	text, _, err := s.verifier.usesSince(ctx, s.reads)
	var ms int64
	if err == nil {
		ms, err = strconv.ParseInt(text, 10, 64)
	}
	if err != nil || ms == 0 {
		return time.Time{}, doing("reading since when uses are written down", err)
	}
	return time.UnixMilli(ms).UTC(), nil
}
