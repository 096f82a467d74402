package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Placeholders are $1, $2, … numbered in order of their first appearance: drivers differ in whether they bind by number
// or by appearance, and this is where both agree. Pages are keyset pages: a page costs the same wherever it is.

// A statement names one prepared statement of a *Store.
type statement int

const (
	selectKey statement = iota
	selectKeyIDs
	selectKeyCount
	selectDue
	selectNextDue
	selectAlias
	selectAliases
	selectAliasesOfKey
	selectAliasCount
	selectAliasRange
	selectAccount
	selectAccessKey
	selectAccessKeysOfAccount
	selectWholeAccount
	selectIdentity
	selectIdentityByID
	selectChanges
	selectPositions
	selectPosition
	selectSeals
	selectDomainKeys
	walkKeys
	walkAliases
	walkAccounts
	walkAccessKeys
	walkIdentities
	selectGrant
	selectGrantsOfKey
	selectRetirable
	walkGrants
	selectKeyUse
	walkKeyUses
	selectQuota
	selectQuotas
	selectAllQuotas
	walkQuotas
	selectMeta
	selectSmallSecret
	walkSmallSecrets
	savepoint
	rollbackToSavepoint
	releaseSavepoint
	insertKey
	updateKey
	deleteKey
	insertAlias
	updateAlias
	deleteAlias
	upsertAccount
	upsertAccessKey
	deleteAccessKey
	upsertIdentity
	deleteIdentity
	claimCounter
	updateCounter
	insertChange
	deleteDomainKeys
	upsertGrant
	deleteGrant
	deleteGrantsOfKey
	upsertKeyUse
	updateKeyUse
	updateAccessKeyUse
	upsertMeta
	deleteMeta
	deleteKeyUse
	wipeKeyUses
	wipeGrants
	wipeAliases
	wipeKeys
	wipeIdentities
	wipeAccessKeys
	wipeAccounts
	wipeChanges
	wipeCounters
	wipeQuotas
	upsertQuota
	trimChanges
	updateKeyOf
	deleteQuota
	statementCount
)

// These are for engines that many processes use, and are not prepared.
const (
	lockCounter = statementCount + iota
	tryCounter
	lockAccessKey
	lockGeneration
	insertMark
	moveMark
	lockMark
	deleteMarks
	insertNews
	markTrimmed
	selectTrimmed
	selectMarks
	selectChangesOfWriters
	takeLease
	endLease
	putNode
	selectNodes
	deleteNode
	allStatements
)

// firstWrite is where the statements begin that only the writer prepares.
const firstWrite = savepoint

// databaseNow is the database's clock in milliseconds, at the moment at which it is asked.
const databaseNow = `CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS BIGINT)`

var statements = [allStatements]string{
	selectKey: `SELECT account, region, key_id, due_ms, body, tag FROM keys
		WHERE account = $1 AND region = $2 AND key_id = $3`,
	selectKeyIDs:   `SELECT key_id FROM keys WHERE account = $1 AND region = $2 AND key_id > $3 ORDER BY key_id LIMIT $4`,
	selectKeyCount: `SELECT key_count FROM counters WHERE account = $1 AND region = $2`,
	selectDue: `SELECT account, region, key_id FROM keys WHERE due_ms <= $1
		ORDER BY due_ms, account, region, key_id LIMIT $2`,
	selectNextDue: `SELECT due_ms FROM keys WHERE due_ms > $1 ORDER BY due_ms LIMIT 1`,
	selectAlias: `SELECT account, region, name, target, body, tag FROM aliases
		WHERE account = $1 AND region = $2 AND name = $3`,
	selectAliases: `SELECT account, region, name, target, body, tag FROM aliases
		WHERE account = $1 AND region = $2 AND name > $3 ORDER BY name LIMIT $4`,
	selectAliasesOfKey: `SELECT account, region, name, target, body, tag FROM aliases
		WHERE account = $1 AND region = $2 AND target = $3 AND name > $4 ORDER BY name LIMIT $5`,
	selectAliasCount: `SELECT count(*) FROM aliases WHERE account = $1 AND region = $2 AND target = $3`,
	selectAliasRange: `SELECT count(*) FROM aliases WHERE account = $1 AND region = $2 AND name >= $3 AND name < $4`,
	selectAccount:    `SELECT account, body, tag FROM accounts WHERE account = $1`,
	selectAccessKey: `SELECT access_key_id, account, principal, status, sealed, body, tag FROM access_keys
		WHERE access_key_id = $1`,
	selectAccessKeysOfAccount: `SELECT access_key_id, account, principal, status, sealed, body, tag FROM access_keys
		WHERE account = $1 AND access_key_id > $2 ORDER BY access_key_id LIMIT $3`,
	selectWholeAccount: `SELECT a.account, a.body, a.tag, c.n, i.account, i.kind, i.name, i.id, i.sealed, i.body, i.tag FROM accounts AS a
		LEFT JOIN counters AS c ON c.account = a.account AND c.region = '` + string(GlobalRegion) + `'
		LEFT JOIN identities AS i ON i.account = a.account
		WHERE a.account = $1 ORDER BY i.kind, i.name`,
	selectIdentity: `SELECT account, kind, name, id, sealed, body, tag FROM identities
		WHERE account = $1 AND kind = $2 AND name = $3`,
	selectIdentityByID: `SELECT account, kind, name, id, sealed, body, tag FROM identities WHERE id = $1`,
	selectChanges:      `SELECT n, kind, ref FROM changes WHERE account = $1 AND region = $2 AND n > $3 ORDER BY n LIMIT $4`,
	selectPositions:    `SELECT account, region, n FROM counters ORDER BY account, region`,
	selectPosition:     `SELECT n FROM counters WHERE account = $1 AND region = $2`,
	selectSeals:        `SELECT seal_id, kind, name, root_id, created_ms, params, wrapped FROM seals ORDER BY seal_id`,
	selectDomainKeys:   `SELECT domain, version, root_id, created_ms, wrapped FROM domain_keys ORDER BY domain, version`,
	walkKeys: `SELECT account, region, key_id, due_ms, body, tag FROM keys
		WHERE (account, region, key_id) > ($1, $2, $3) ORDER BY account, region, key_id LIMIT $4`,
	walkAliases: `SELECT account, region, name, target, body, tag FROM aliases
		WHERE (account, region, name) > ($1, $2, $3) ORDER BY account, region, name LIMIT $4`,
	walkAccounts: `SELECT account, body, tag FROM accounts WHERE account > $1 ORDER BY account LIMIT $2`,
	walkAccessKeys: `SELECT access_key_id, account, principal, status, sealed, body, tag FROM access_keys
		WHERE access_key_id > $1 ORDER BY access_key_id LIMIT $2`,
	walkIdentities: `SELECT account, kind, name, id, sealed, body, tag FROM identities
		WHERE (account, kind, name) > ($1, $2, $3) ORDER BY account, kind, name LIMIT $4`,

	selectGrant: `SELECT account, region, key_id, grant_id, retiring, body, tag FROM grants
		WHERE account = $1 AND region = $2 AND key_id = $3 AND grant_id = $4`,
	selectGrantsOfKey: `SELECT account, region, key_id, grant_id, retiring, body, tag FROM grants
		WHERE account = $1 AND region = $2 AND key_id = $3 AND grant_id > $4 ORDER BY grant_id LIMIT $5`,
	selectRetirable: `SELECT account, region, key_id, grant_id, retiring, body, tag FROM grants
		WHERE retiring = $1 AND region = $2 AND (account, key_id, grant_id) > ($3, $4, $5)
		ORDER BY account, key_id, grant_id LIMIT $6`,
	walkGrants: `SELECT account, region, key_id, grant_id, retiring, body, tag FROM grants
		WHERE (account, region, key_id, grant_id) > ($1, $2, $3, $4) ORDER BY account, region, key_id, grant_id LIMIT $5`,
	selectKeyUse: `SELECT account, region, key_id, body, tag FROM key_uses
		WHERE account = $1 AND region = $2 AND key_id = $3`,
	walkKeyUses: `SELECT account, region, key_id, body, tag FROM key_uses
		WHERE (account, region, key_id) > ($1, $2, $3) ORDER BY account, region, key_id LIMIT $4`,
	selectQuota: `SELECT account, region, kind, name, body, tag FROM quotas
		WHERE account = $1 AND region = $2 AND kind = $3 AND name = $4`,
	selectQuotas: `SELECT account, region, kind, name, body, tag FROM quotas
		WHERE account = $1 AND region = $2 AND kind = $3 ORDER BY name`,
	selectAllQuotas: `SELECT account, region, kind, name, body, tag FROM quotas ORDER BY account, region, kind, name`,
	walkQuotas: `SELECT account, region, kind, name, body, tag FROM quotas
		WHERE (account, region, kind, name) > ($1, $2, $3, $4) ORDER BY account, region, kind, name LIMIT $5`,
	selectMeta:        `SELECT value FROM meta WHERE name = $1`,
	selectSmallSecret: `SELECT name, value FROM meta WHERE name = $1`,
	// '!' is what comes after a space.
	walkSmallSecrets: `SELECT name, value FROM meta WHERE name > $1 AND name < 'secret!' ORDER BY name LIMIT $2`,

	savepoint:           `SAVEPOINT one_update`,
	rollbackToSavepoint: `ROLLBACK TO SAVEPOINT one_update`,
	releaseSavepoint:    `RELEASE SAVEPOINT one_update`,

	insertKey: `INSERT INTO keys (account, region, key_id, due_ms, body, tag) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (account, region, key_id) DO NOTHING`,
	updateKey: `UPDATE keys SET due_ms = $1, body = $2, tag = $3 WHERE account = $4 AND region = $5 AND key_id = $6`,
	deleteKey: `DELETE FROM keys WHERE account = $1 AND region = $2 AND key_id = $3`,
	insertAlias: `INSERT INTO aliases (account, region, name, target, body, tag) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (account, region, name) DO NOTHING`,
	updateAlias: `UPDATE aliases SET target = $1, body = $2, tag = $3 WHERE account = $4 AND region = $5 AND name = $6`,
	deleteAlias: `DELETE FROM aliases WHERE account = $1 AND region = $2 AND name = $3`,
	upsertAccount: `INSERT INTO accounts (account, body, tag) VALUES ($1, $2, $3)
		ON CONFLICT (account) DO UPDATE SET body = excluded.body, tag = excluded.tag`,
	upsertAccessKey: `INSERT INTO access_keys (access_key_id, account, principal, status, sealed, body, tag)
		VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (access_key_id) DO UPDATE SET account = excluded.account, principal = excluded.principal,
		status = excluded.status, sealed = excluded.sealed, body = excluded.body, tag = excluded.tag`,
	deleteAccessKey: `DELETE FROM access_keys WHERE access_key_id = $1`,
	upsertIdentity: `INSERT INTO identities (account, kind, name, id, sealed, body, tag) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (account, kind, name) DO UPDATE SET id = excluded.id, sealed = excluded.sealed, body = excluded.body,
		tag = excluded.tag`,
	deleteIdentity: `DELETE FROM identities WHERE account = $1 AND kind = $2 AND name = $3`,

	// Makes the row if it is not there, and locks it on an engine with many writers.
	claimCounter: `INSERT INTO counters (account, region, n, key_count) VALUES ($1, $2, 0, 0)
		ON CONFLICT (account, region) DO UPDATE SET n = counters.n RETURNING n, key_count`,
	updateCounter:    `UPDATE counters SET n = $1, key_count = $2 WHERE account = $3 AND region = $4`,
	insertChange:     `INSERT INTO changes (account, region, n, kind, ref) VALUES ($1, $2, $3, $4, $5)`,
	deleteDomainKeys: `DELETE FROM domain_keys WHERE domain = $1 AND version < $2`,
	upsertGrant: `INSERT INTO grants (account, region, key_id, grant_id, retiring, body, tag) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (account, region, key_id, grant_id) DO UPDATE SET retiring = excluded.retiring, body = excluded.body, tag = excluded.tag`,
	deleteGrant:       `DELETE FROM grants WHERE account = $1 AND region = $2 AND key_id = $3 AND grant_id = $4`,
	deleteGrantsOfKey: `DELETE FROM grants WHERE account = $1 AND region = $2 AND key_id = $3`,
	upsertKeyUse: `INSERT INTO key_uses (account, region, key_id, body, tag)
		SELECT account, region, key_id, $1, $2 FROM keys WHERE account = $3 AND region = $4 AND key_id = $5
		ON CONFLICT (account, region, key_id) DO UPDATE SET body = excluded.body, tag = excluded.tag`,
	updateKeyUse:       `UPDATE key_uses SET body = $1, tag = $2 WHERE account = $3 AND region = $4 AND key_id = $5 AND tag = $6`,
	updateAccessKeyUse: `UPDATE access_keys SET body = $1, tag = $2 WHERE access_key_id = $3 AND tag = $4`,
	upsertMeta:         `INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`,
	deleteMeta:         `DELETE FROM meta WHERE name = $1`,
	deleteKeyUse:       `DELETE FROM key_uses WHERE account = $1 AND region = $2 AND key_id = $3`,

	wipeKeyUses:    `DELETE FROM key_uses`,
	wipeGrants:     `DELETE FROM grants`,
	wipeAliases:    `DELETE FROM aliases`,
	wipeKeys:       `DELETE FROM keys`,
	wipeIdentities: `DELETE FROM identities`,
	wipeAccessKeys: `DELETE FROM access_keys`,
	wipeAccounts:   `DELETE FROM accounts`,
	wipeChanges:    `DELETE FROM changes`,
	wipeCounters:   `DELETE FROM counters`,
	wipeQuotas:     `DELETE FROM quotas`,
	deleteQuota:    `DELETE FROM quotas WHERE account = $1 AND region = $2 AND kind = $3 AND name = $4`,
	upsertQuota: `INSERT INTO quotas (account, region, kind, name, body, tag) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (account, region, kind, name) DO UPDATE SET body = excluded.body, tag = excluded.tag`,
	trimChanges: `DELETE FROM changes WHERE account = $1 AND region = $2 AND n <= $3`,
	updateKeyOf: `UPDATE keys SET due_ms = $1, body = $2, tag = $3 WHERE account = $4 AND region = $5 AND key_id = $6 AND body = $7`,

	lockCounter: `SELECT n, key_count FROM counters WHERE account = $1 AND region = $2 FOR UPDATE`,
	tryCounter:  `SELECT n, key_count FROM counters WHERE account = $1 AND region = $2 FOR UPDATE NOWAIT`,
	lockAccessKey: `SELECT access_key_id, account, principal, status, sealed, body, tag FROM access_keys
		WHERE access_key_id = $1 FOR UPDATE`,
	lockGeneration: `SELECT value, (SELECT count(*) FROM leases WHERE name = '` + sealsLease + `' AND until_ms > ` + databaseNow + `)
		FROM meta WHERE name = '` + generationName + `' FOR SHARE`,
	insertMark:    `INSERT INTO writers (writer, mark, seen_ms) VALUES ($1, 0, ` + databaseNow + `)`,
	moveMark:      `UPDATE writers SET mark = $2, seen_ms = ` + databaseNow + ` WHERE writer = $1 AND mark = $3`,
	insertNews:    `INSERT INTO changes (account, region, n, kind, ref, writer, mark) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
	markTrimmed:   `UPDATE writers SET trimmed = $1 WHERE writer = $2 AND trimmed < $1`,
	selectTrimmed: `SELECT writer, max(mark) FROM changes WHERE account = $1 AND region = $2 AND n <= $3 AND mark > 0 GROUP BY writer`,
	selectMarks:   `SELECT writer, mark, trimmed FROM writers`,
	// The limit inside is what keeps every plan to the index of each writer.
	selectChangesOfWriters: `SELECT t.trimmed > w.after, c.account, c.region, c.n, c.kind, c.ref
		FROM unnest(CAST($1 AS TEXT[]), CAST($2 AS BIGINT[]), CAST($3 AS BIGINT[])) AS w (writer, after, up_to)
		LEFT JOIN LATERAL (SELECT trimmed FROM writers WHERE writer = w.writer LIMIT 1) AS t ON true
		LEFT JOIN LATERAL (SELECT account, region, n, kind, ref FROM changes WHERE writer = w.writer AND mark > 0 AND mark > w.after AND mark <= w.up_to
		ORDER BY mark, account, region, n LIMIT $4) AS c ON true LIMIT $4`,
	deleteMarks: `DELETE FROM writers WHERE seen_ms < ` + databaseNow + ` - $1
		AND NOT EXISTS (SELECT 1 FROM nodes WHERE nodes.seen_ms > ` + databaseNow + ` - $1 AND writers.writer LIKE nodes.node || '.%')`,
	lockMark: `SELECT mark FROM writers WHERE writer = $1 FOR UPDATE`,
	takeLease: `INSERT INTO leases (name, holder, until_ms) VALUES ($1, $2, ` + databaseNow + ` + $3)
		ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until_ms = excluded.until_ms
		WHERE leases.holder = excluded.holder OR leases.until_ms <= ` + databaseNow,
	endLease: `UPDATE leases SET until_ms = 0 WHERE name = $1 AND holder = $2`,
	putNode: `INSERT INTO nodes (node, name, version, seen_ms) VALUES ($1, $2, $3, ` + databaseNow + `)
		ON CONFLICT (node) DO UPDATE SET name = excluded.name, version = excluded.version, seen_ms = excluded.seen_ms`,
	// Asked by every process each second: to look at the clock, and reckon, once and not for each row halves what it costs with a thousand rows.
	selectNodes: `SELECT node, name, version, (SELECT ` + databaseNow + `) FROM nodes WHERE seen_ms > (SELECT ` + databaseNow + `) - $1 ORDER BY name, node`,
	deleteNode:  `DELETE FROM nodes WHERE node = $1 OR seen_ms < ` + databaseNow + ` - $2`,
}

// prepared runs the statements on one pool: prepared, by their number, or by their text where the driver remembers what it
// prepared on which connection.
type prepared struct {
	pool    *sql.DB
	shared  bool
	timeout time.Duration // of a query, if shared
	renew   func()        // gives up connections that nobody uses, if shared
	stmts   [statementCount]*sql.Stmt
}

func (db *DB) prepare(ctx context.Context, pool *sql.DB, count statement) (*prepared, error) {
	p := &prepared{pool: pool, shared: db.shared, timeout: db.timeout, renew: db.renew}
	if p.shared {
		return p, nil
	}
	for i := range count {
		s, err := pool.PrepareContext(ctx, statements[i])
		if err != nil {
			p.close()
			return nil, fmt.Errorf("preparing statement %d: %w", i, err)
		}
		p.stmts[i] = s
	}
	return p, nil
}

func (p *prepared) close() {
	for _, s := range p.stmts {
		if s != nil {
			_ = s.Close() // the pool is closed next
		}
	}
}

// querier runs a statement: on the pool of readers, or inside a transaction.
type querier interface {
	query(ctx context.Context, s statement, args ...any) (*sql.Rows, error)
	// bound returns a context for a query and for reading what it gives, and whether the query may be made again after an error
	// that says nothing about it.
	bound(ctx context.Context) (context.Context, context.CancelFunc, bool)
	// note hears of the error of a query, or nil, and returns it.
	note(err error) error
}

func (p *prepared) query(ctx context.Context, s statement, args ...any) (*sql.Rows, error) {
	if p.shared {
		return p.pool.QueryContext(ctx, statements[s], args...)
	}
	return p.stmts[s].QueryContext(ctx, args...)
}

func (p *prepared) bound(ctx context.Context) (context.Context, context.CancelFunc, bool) {
	if !p.shared {
		return ctx, func() {}, false
	}
	ctx, cancel := context.WithTimeout(ctx, p.timeout+networkTime)
	return ctx, cancel, true
}

func (p *prepared) note(err error) error { return err }

// networkTime is what a statement may take longer than on the server.
const networkTime = time.Second

// readTries is how often a query outside a transaction is made when connections are lost.
const readTries = 3

// collect runs a query and gathers what scan makes of each row.
func collect[T any](ctx context.Context, q querier, scan func(*sql.Rows) (T, error), s statement, args ...any) ([]T, error) {
	if r, ok := q.(*reader); ok {
		defer r.leave()
		if err := r.enter(); err != nil {
			return nil, err
		}
		defer r.timing.read(r.timing.begin())
	}
	for try := 1; ; try++ {
		out, retry, err := collectOnce(ctx, q, scan, s, args...)
		if err == nil || !retry || ctx.Err() != nil {
			return out, err
		}
		v := judge(err)
		if v == refused {
			return out, err
		}
		if r, ok := q.(*reader); ok && errors.Is(err, context.DeadlineExceeded) {
			r.renew()
			v = slow
		}
		if v == slow || try == readTries { // not slow things twice
			return nil, unavailable(err)
		}
	}
}

func collectOnce[T any](ctx context.Context, q querier, scan func(*sql.Rows) (T, error), s statement, args ...any) ([]T, bool, error) {
	ctx, cancel, retry := q.bound(ctx)
	defer cancel()
	rows, err := q.query(ctx, s, args...)
	if err != nil {
		return nil, retry, q.note(err)
	}
	defer rows.Close() // its error is that of rows.Err
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, false, err
		}
		out = append(out, v)
	}
	return out, retry, q.note(rows.Err())
}

// one runs a query that gives one row at most; ErrNotFound if there is none.
func one[T any](ctx context.Context, q querier, scan func(*sql.Rows) (T, error), s statement, args ...any) (T, error) {
	all, err := collect(ctx, q, scan, s, args...)
	if err == nil && len(all) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		var zero T
		return zero, err
	}
	return all[0], nil
}

// page turns limit+1 rows into limit rows and whether there are more.
func page[T any](rows []T, limit int) ([]T, bool) {
	if len(rows) > limit {
		return rows[:limit], true
	}
	return rows, false
}
