package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"slices"
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

func scanKeyUseRow(rows *sql.Rows) (r keyUseRow, err error) { return r, r.scan(rows) }

func (r *keyUseRow) scan(row scanner) error {
	return row.Scan(&r.account, &r.region, &r.key, &r.body, &r.tag)
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
	v, n := &tx.g.w.verifier, u.Key
	r, err := v.keyUseRow(u)
	if err == nil {
		err = tx.touch(scope{n.Account, n.Region}) // so that nobody else writes a first use, or deletes the key
	}
	for err == nil {
		var was keyUseRow
		was, err = one(context.Background(), tx.g, scanKeyUseRow, selectKeyUse, r.account, r.region, r.key)
		if err != nil && !errors.Is(err, ErrNotFound) {
			break
		}
		later, usable := false, false
		if err == nil {
			later, usable = tx.laterUse(was, u)
		}
		if !usable {
			_, err = tx.exec(upsertKeyUse, r.body, r.tag, r.account, r.region, r.key)
			break
		}
		var written int64
		if !later {
			written, err = tx.exec(updateKeyUse, r.body, r.tag, r.account, r.region, r.key, was.tag)
		}
		if later || written > 0 {
			break
		} // PutKeyUses of somebody else came in between
	}
	return doing("writing the last use of a key", err)
}

// laterUse reports whether a row has a later use of a key, and whether it is to be believed: one that was changed, or is another key's,
// is not.
func (tx *Tx) laterUse(r keyUseRow, u *KeyUse) (later, usable bool) {
	last, err := tx.g.w.verifier.keyUse(context.Background(), tx.g, r)
	return err == nil && last.At.After(u.At), err == nil && last.Key == u.Key
}

// usesAtOnce is how many uses PutKeyUses and PutAccessKeyUses write in one transaction at most.
const usesAtOnce = 64

// PutKeyUses is PutKeyUse for many. It takes no account and Region from others but to write the first use of a key, whichever server
// writes others at the same time. After an error it can be called again with the same.
func (s *Store) PutKeyUses(ctx context.Context, uses []KeyUse) error {
	uses = slices.SortedFunc(slices.Values(uses), func(a, b KeyUse) int { // so that no two servers wait for each other
		return cmp.Or(cmp.Compare(a.Key.Account, b.Key.Account), cmp.Compare(a.Key.Region, b.Key.Region), cmp.Compare(a.Key.ID, b.Key.ID))
	})
	var rest []KeyUse
	for some := range slices.Chunk(uses, usesAtOnce) {
		var first, other []KeyUse
		err := s.Update(ctx, func(tx *Tx) (err error) {
			first, other, err = tx.replaceKeyUses(some)
			return err
		})
		if err != nil {
			return doing("writing last uses of keys", err)
		}
		rest = append(append(rest, first...), other...)
	}
	for some := range slices.Chunk(rest, usesAtOnce) {
		err := s.Update(ctx, func(tx *Tx) error { return tx.putFirstUses(some) })
		if err != nil {
			return doing("writing first uses of keys", err)
		}
	}
	return nil
}

// putFirstUses is PutKeyUse for many, most of which are first uses.
func (tx *Tx) putFirstUses(uses []KeyUse) error {
	for _, u := range uses {
		if err := tx.touch(scope{u.Key.Account, u.Key.Region}); err != nil {
			return err
		}
	}
	first, other, err := tx.replaceKeyUses(uses)
	if err != nil {
		return err
	}
	writes := make([][]any, len(first))
	for i := range first {
		r, err := tx.g.w.verifier.keyUseRow(&first[i])
		if err != nil {
			return err
		}
		writes[i] = []any{r.body, r.tag, r.account, r.region, r.key}
	}
	if _, err := tx.execAll(upsertKeyUse, writes); err != nil {
		return err
	}
	for i := range other {
		if err := tx.PutKeyUse(&other[i]); err != nil {
			return err
		}
	}
	return nil
}

// replaceKeyUses writes uses in place of those of before, where these are not later. It returns those of keys that have none which is to be
// believed, and those of keys that have another one by now.
func (tx *Tx) replaceKeyUses(uses []KeyUse) (first, other []KeyUse, err error) {
	asked := make([][]any, len(uses))
	rows := make([]keyUseRow, len(uses))
	for i, u := range uses {
		asked[i] = []any{string(u.Key.Account), string(u.Key.Region), string(u.Key.ID)}
	}
	err = tx.queryAll(selectKeyUse, asked, func(i int, row scanner) error { return rows[i].scan(row) })
	if err != nil {
		return nil, nil, err
	}
	var written []KeyUse
	var writes [][]any
	for i := range uses {
		later, usable := false, false
		if rows[i].tag != nil {
			later, usable = tx.laterUse(rows[i], &uses[i])
		}
		switch {
		case later:
		case !usable:
			first = append(first, uses[i])
		default:
			r, err := tx.g.w.verifier.keyUseRow(&uses[i])
			if err != nil {
				return nil, nil, err
			}
			written = append(written, uses[i])
			writes = append(writes, []any{r.body, r.tag, r.account, r.region, r.key, rows[i].tag})
		}
	}
	counts, err := tx.execAll(updateKeyUse, writes)
	for i, n := range counts {
		if n == 0 {
			other = append(other, written[i])
		}
	}
	return first, other, err
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
