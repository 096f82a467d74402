-- Columns are TEXT, BIGINT and BYTEA only: the same text must work on every engine. Times are milliseconds since 1970.
-- A tag authenticates its row: see rows.go for what it covers.

-- +goose Up
CREATE TABLE meta (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE seals (
    seal_id    TEXT   NOT NULL PRIMARY KEY,
    kind       TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    root_id    TEXT   NOT NULL,
    created_ms BIGINT NOT NULL,
    params     BYTEA  NOT NULL,
    wrapped    BYTEA  NOT NULL
);

CREATE TABLE domain_keys (
    domain     TEXT   NOT NULL,
    version    BIGINT NOT NULL,
    root_id    TEXT   NOT NULL,
    created_ms BIGINT NOT NULL,
    wrapped    BYTEA  NOT NULL,
    PRIMARY KEY (domain, version)
);

CREATE TABLE accounts (
    account TEXT  NOT NULL PRIMARY KEY,
    body    BYTEA NOT NULL,
    tag     BYTEA NOT NULL
);

CREATE TABLE access_keys (
    access_key_id TEXT  NOT NULL PRIMARY KEY,
    account       TEXT  NOT NULL REFERENCES accounts (account),
    principal     TEXT  NOT NULL,
    status        TEXT  NOT NULL,
    sealed        BYTEA NOT NULL,
    body          BYTEA NOT NULL,
    tag           BYTEA NOT NULL
);
CREATE INDEX access_keys_account ON access_keys (account, access_key_id);

CREATE TABLE keys (
    account TEXT  NOT NULL,
    region  TEXT  NOT NULL,
    key_id  TEXT  NOT NULL,
    due_ms  BIGINT,
    body    BYTEA NOT NULL,
    tag     BYTEA NOT NULL,
    PRIMARY KEY (account, region, key_id)
);
CREATE INDEX keys_due ON keys (due_ms, account, region, key_id) WHERE due_ms IS NOT NULL;

CREATE TABLE aliases (
    account TEXT  NOT NULL,
    region  TEXT  NOT NULL,
    name    TEXT  NOT NULL,
    target  TEXT  NOT NULL,
    body    BYTEA NOT NULL,
    tag     BYTEA NOT NULL,
    PRIMARY KEY (account, region, name),
    FOREIGN KEY (account, region, target) REFERENCES keys (account, region, key_id)
);
CREATE INDEX aliases_target ON aliases (account, region, target, name);

-- One row per account and Region that ever had a key: the last change number, and how many keys there are.
CREATE TABLE counters (
    account   TEXT   NOT NULL,
    region    TEXT   NOT NULL,
    n         BIGINT NOT NULL,
    key_count BIGINT NOT NULL,
    PRIMARY KEY (account, region)
);

-- The change feed: n is gapless within an account and Region, in commit order.
CREATE TABLE changes (
    account TEXT   NOT NULL,
    region  TEXT   NOT NULL,
    n       BIGINT NOT NULL,
    kind    TEXT   NOT NULL,
    ref     TEXT   NOT NULL,
    PRIMARY KEY (account, region, n)
);
