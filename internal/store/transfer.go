package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strings"
)

// The errors of Transfer that an operator can mend.
var (
	// ErrOtherInstallation says that the target of a transfer has an installation of its own, or a part of another one.
	ErrOtherInstallation = errors.New("the target has rows that are not the source's")
	// ErrTransferring says that a transfer into the store has begun and has not ended.
	ErrTransferring = errors.New("a transfer into this store has not ended")
	// ErrSourceChanged says that the source was written to while, or after, parts of it were copied.
	ErrSourceChanged = errors.New("source and target differ: the source was used since the transfer began")
)

// transferName is the row of table meta of a target, while a transfer into it goes on: the id of the installation that comes.
const transferName = "transfer"

// plainTable is a table as Transfer copies it: rows as they are, tags and all. The primary key comes first.
type plainTable struct {
	name    string
	keys    int
	columns []string
}

// plainTables are in an order in which foreign keys hold. Seals and domain keys are not among them: they come last, so that
// nothing can start on half a store. Columns of numbers are those with names in _ms, and n and key_count.
var plainTables = []plainTable{
	{"accounts", 1, []string{"account", "body", "tag"}},
	{"access_keys", 1, []string{"access_key_id", "account", "principal", "status", "sealed", "body", "tag"}},
	{"identities", 3, []string{"account", "kind", "name", "id", "sealed", "body", "tag"}},
	{"keys", 3, []string{"account", "region", "key_id", "due_ms", "body", "tag"}},
	{"aliases", 3, []string{"account", "region", "name", "target", "body", "tag"}},
	{"grants", 4, []string{"account", "region", "key_id", "grant_id", "retiring", "body", "tag"}},
	{"quotas", 4, []string{"account", "region", "kind", "name", "body", "tag"}},
	{"key_uses", 3, []string{"account", "region", "key_id", "body", "tag"}},
	{"counters", 2, []string{"account", "region", "n", "key_count"}},
	{"changes", 3, []string{"account", "region", "n", "kind", "ref"}},
}

// nullable is the one column that can be NULL.
const nullable = "due_ms"

// transferPage is how many rows go in one statement and one transaction.
const transferPage = 256

// Transferred says what a transfer found at its end, in the source and in the target alike.
type Transferred struct {
	Rows     int64  // of all tables, but seals and domain keys
	Checksum string // SHA-256 over all of them, in hexadecimal
}

// Transfer copies a whole store into another one, which is empty or has the beginning of the same transfer: interrupted, it goes on where
// it was. Nobody may use the source meanwhile. Before the target becomes usable, both are read in full and compared: rows carry their
// tags, so what verifies in the source verifies in the target. Small secrets whose names begin with stays, if that is not empty, are not
// copied: they are about a place. progress, which may be nil, hears after each page how many rows of a table there are in the target.
//
// The error wraps ErrNotInitialized if the source has no installation, ErrLocked if servers run on a database, ErrOtherInstallation or
// ErrSourceChanged.
func Transfer(ctx context.Context, from, to *DB, stays string, progress func(table string, rows int64)) (Transferred, error) {
	done, err := transfer(ctx, from, to, stays, progress)
	return done, doing("transferring the store", err)
}

func transfer(ctx context.Context, from, to *DB, stays string, progress func(table string, rows int64)) (Transferred, error) {
	if to.write == nil {
		return Transferred{}, errReadOnly
	}
	if err := errors.Join(from.knowsAll(ctx), to.knowsAll(ctx), from.mustBeIdle(ctx), to.mustBeIdle(ctx)); err != nil {
		return Transferred{}, err
	}
	if _, err := from.Sealed(ctx); err != nil {
		return Transferred{}, err
	}
	finished, err := to.expectTransfer(ctx, from.installation)
	if err != nil {
		return Transferred{}, err
	}
	if !finished {
		for _, t := range plainTables {
			if err := t.copyRows(ctx, from, to, progress); err != nil {
				return Transferred{}, fmt.Errorf("copying %s: %w", t.name, err)
			}
		}
	}
	done, err := compareStores(ctx, from, to)
	if err != nil || finished {
		return done, err
	}
	if err := from.mustBeIdle(ctx); err != nil { // one that started meanwhile
		return Transferred{}, err
	}
	return done, to.completeTransfer(ctx, from, stays)
}

// mustBeIdle gives ErrLocked if a server uses the store. Where only one process can, it has its lock.
func (db *DB) mustBeIdle(ctx context.Context) error {
	if !db.shared {
		return nil
	}
	rows, err := db.read.QueryContext(ctx, statements[selectNodes], LiveFor.Milliseconds())
	if err != nil {
		return err
	}
	defer rows.Close() // its error is that of Err
	if rows.Next() {
		return fmt.Errorf("%w: servers run on the database", ErrLocked)
	}
	return rows.Err()
}

// expectTransfer makes sure that the store may be, or is, the target of a transfer, and reports whether that has ended.
func (db *DB) expectTransfer(ctx context.Context, installation string) (finished bool, err error) {
	switch _, err := db.Sealed(ctx); {
	case err == nil && db.installation == installation:
		return true, nil
	case err == nil:
		return false, ErrOtherInstallation
	case !errors.Is(err, ErrNotInitialized):
		return false, err
	}
	var coming string
	err = db.write.QueryRowContext(ctx, statements[selectMeta], transferName).Scan(&coming)
	switch {
	case err == nil && coming == installation:
		return false, nil
	case err == nil:
		return false, ErrOtherInstallation
	case !errors.Is(err, sql.ErrNoRows):
		return false, err
	}
	for _, t := range plainTables {
		var n int64
		if err := db.slow().QueryRowContext(ctx, `SELECT count(*) FROM `+t.name).Scan(&n); err != nil {
			return false, err
		}
		if n > 0 {
			return false, ErrOtherInstallation
		}
	}
	_, err = db.write.ExecContext(ctx, statements[upsertMeta], transferName, installation)
	return false, err
}

// completeTransfer makes the target an installation.
func (db *DB) completeTransfer(ctx context.Context, from *DB, stays string) error {
	sealed, err := from.Sealed(ctx)
	if err != nil {
		return err
	}
	meta, err := from.movedMeta(ctx, stays)
	if err != nil {
		return err
	}
	err = db.writeSealed(ctx, func(tx *sql.Tx) error {
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM seals`).Scan(&n); err != nil {
			return err
		}
		if n > 0 { // somebody has made another installation of it meanwhile
			return ErrOtherInstallation
		}
		if err := insertSealed(ctx, tx, sealed); err != nil {
			return err
		}
		for _, r := range meta {
			if _, err := tx.ExecContext(ctx, statements[upsertMeta], r.name, r.value); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, statements[upsertMeta], "installation", from.installation); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM meta WHERE name = $1`, transferName)
		return err
	})
	if err == nil {
		db.installation = from.installation
	}
	return err
}

// movedMeta reads the rows of table meta that go with a transfer: since when uses are written down, and small secrets.
func (db *DB) movedMeta(ctx context.Context, stays string) (all []smallSecretRow, err error) {
	rows, err := db.read.QueryContext(ctx, `SELECT name, value FROM meta WHERE name = $1 OR name LIKE '`+smallSecretPrefix+`%'`, usesSinceName)
	if err != nil {
		return nil, err
	}
	defer rows.Close() // its error is that of Err
	for rows.Next() {
		r, err := scanSmallSecretRow(rows)
		if err != nil {
			return nil, err
		}
		if stays == "" || !strings.HasPrefix(r.name, smallSecretPrefix+stays) {
			all = append(all, r)
		}
	}
	return all, rows.Err()
}

func (t *plainTable) primaryKey() string { return strings.Join(t.columns[:t.keys], ", ") }

// page reads the rows after a primary key; those from the beginning if it is nil.
func (t *plainTable) page(ctx context.Context, pool *sql.DB, after []any) (rows [][]any, err error) {
	q := `SELECT ` + strings.Join(t.columns, ", ") + ` FROM ` + t.name
	if after != nil {
		q += ` WHERE (` + t.primaryKey() + `) > (` + placeholders(1, t.keys) + `)`
	}
	q += fmt.Sprintf(` ORDER BY %s LIMIT %d`, t.primaryKey(), transferPage)
	found, err := pool.QueryContext(ctx, q, after...)
	if err != nil {
		return nil, err
	}
	defer found.Close() // its error is that of Err
	for found.Next() {
		row, targets := make([]any, len(t.columns)), make([]any, len(t.columns))
		for i := range row {
			targets[i] = &row[i]
		}
		if err := found.Scan(targets...); err != nil {
			return nil, err
		}
		for i, v := range row {
			if b, octets := v.([]byte); octets && b == nil || v == nil && t.columns[i] != nullable {
				row[i] = []byte{} // what one of the drivers makes of none
			}
		}
		rows = append(rows, row)
	}
	return rows, found.Err()
}

// last reads the last primary key; nil if there is no row.
func (t *plainTable) last(ctx context.Context, pool *sql.DB) ([]any, error) {
	after, targets := make([]any, t.keys), make([]any, t.keys)
	for i := range after {
		targets[i] = &after[i]
	}
	q := `SELECT ` + t.primaryKey() + ` FROM ` + t.name + ` ORDER BY ` + strings.Join(t.columns[:t.keys], " DESC, ") + ` DESC LIMIT 1`
	err := pool.QueryRowContext(ctx, q).Scan(targets...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return after, err
}

// copyRows copies what the target does not have yet.
func (t *plainTable) copyRows(ctx context.Context, from, to *DB, progress func(string, int64)) error {
	after, err := t.last(ctx, to.slow())
	if err != nil {
		return err
	}
	var count int64
	if err := to.slow().QueryRowContext(ctx, `SELECT count(*) FROM `+t.name).Scan(&count); err != nil {
		return err
	}
	for {
		rows, err := t.page(ctx, from.read, after)
		if err != nil || len(rows) == 0 {
			return err
		}
		var args []any
		var values []string
		for i, row := range rows {
			args = append(args, row...)
			values = append(values, `(`+placeholders(i*len(t.columns)+1, len(t.columns))+`)`)
		}
		_, err = to.slow().ExecContext(ctx, `INSERT INTO `+t.name+` (`+strings.Join(t.columns, ", ")+`) VALUES `+strings.Join(values, ", "), args...)
		if err != nil {
			return err
		}
		count += int64(len(rows))
		if progress != nil {
			progress(t.name, count)
		}
		after = rows[len(rows)-1][:t.keys]
	}
}

func placeholders(first, n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "$%d", first+i)
	}
	return b.String()
}

// compareStores reads two stores in full.
func compareStores(ctx context.Context, from, to *DB) (Transferred, error) {
	all := sha256.New()
	var total int64
	for _, t := range plainTables {
		n, sum, err := t.checksum(ctx, from.read)
		if err != nil {
			return Transferred{}, err
		}
		n2, sum2, err := t.checksum(ctx, to.slow())
		if err != nil {
			return Transferred{}, err
		}
		if n != n2 || sum != sum2 {
			return Transferred{}, fmt.Errorf("%w: table %s has %d rows in the source and %d in the target", ErrSourceChanged, t.name, n, n2)
		}
		total += n
		_, _ = fmt.Fprintf(all, "%s %x\n", t.name, sum) // a hash takes everything
	}
	return Transferred{Rows: total, Checksum: hex.EncodeToString(all.Sum(nil))}, nil
}

// checksum reads a table in the order of its primary key.
func (t *plainTable) checksum(ctx context.Context, pool *sql.DB) (n int64, sum [sha256.Size]byte, err error) {
	h := sha256.New()
	var after []any
	for {
		rows, err := t.page(ctx, pool, after)
		if err != nil {
			return n, sum, fmt.Errorf("reading %s: %w", t.name, err)
		}
		if len(rows) == 0 {
			return n, [sha256.Size]byte(h.Sum(nil)), nil
		}
		n += int64(len(rows))
		for _, row := range rows {
			for _, v := range row {
				addColumn(h, v)
			}
		}
		after = rows[len(rows)-1][:t.keys]
	}
}

// addColumn adds a value to a checksum, with its type and length. Engines give texts and octets alike for what is not a number.
func addColumn(h hash.Hash, v any) {
	kind, content := byte('t'), []byte(nil)
	switch v := v.(type) {
	case nil:
		kind = '0'
	case int64:
		kind, content = 'n', binary.BigEndian.AppendUint64(nil, uint64(v))
	case string:
		content = []byte(v)
	case []byte:
		content = v
	default:
		content = fmt.Append(nil, v)
	}
	head := binary.BigEndian.AppendUint64([]byte{kind}, uint64(len(content)))
	h.Write(append(head, content...))
}
