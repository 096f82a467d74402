package store

import (
	"database/sql"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// Statements that an update runs for many rows: on a shared engine one round trip for all.

// scanner is a row of *sql.Rows or pgx.Rows.
type scanner interface{ Scan(into ...any) error }

// queryAll runs a query for each list of arguments and hands take each row, with the number of the list.
func (tx *Tx) queryAll(s statement, lists [][]any, take func(i int, row scanner) error) error {
	if err := tx.usable(); err != nil {
		return err
	}
	if !tx.g.w.shared {
		for i, args := range lists {
			_, err := collect(tx.g.ctx, tx.g, func(rows *sql.Rows) (struct{}, error) { return struct{}{}, take(i, rows) }, s, args...)
			if err != nil {
				return err
			}
		}
		return nil
	}
	var batch pgx.Batch
	for i, args := range lists {
		batch.Queue(statements[s], args...).Query(func(rows pgx.Rows) error {
			defer rows.Close()
			for rows.Next() {
				if err := take(i, rows); err != nil {
					return err
				}
			}
			return rows.Err()
		})
	}
	return tx.g.note(tx.g.send(&batch))
}

// execAll is exec for each list of arguments.
func (tx *Tx) execAll(s statement, lists [][]any) (counts []int64, err error) {
	counts = make([]int64, len(lists))
	if !tx.g.w.shared {
		for i, args := range lists {
			if counts[i], err = tx.exec(s, args...); err != nil {
				return nil, err
			}
		}
		return counts, nil
	}
	if len(lists) == 0 {
		return nil, nil
	}
	if err := tx.save(); err != nil {
		return nil, err
	}
	var batch pgx.Batch
	for i, args := range lists {
		batch.Queue(statements[s], args...).Exec(func(tag pgconn.CommandTag) error {
			counts[i] = tag.RowsAffected()
			return nil
		})
	}
	if err := tx.did(s, tx.g.note(tx.g.send(&batch))); err != nil {
		return nil, err
	}
	return counts, nil
}

func (g *group) send(batch *pgx.Batch) error {
	ctx, cancel, _ := g.bound(g.ctx)
	defer cancel()
	return g.conn.Raw(func(c any) error { return c.(*stdlib.Conn).Conn().SendBatch(ctx, batch).Close() })
}
