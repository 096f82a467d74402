-- What accounts have besides keys: users, groups, roles, policies and the like. The store does not know what is in a body.

-- +goose Up
CREATE TABLE identities (
    account TEXT  NOT NULL REFERENCES accounts (account),
    kind    TEXT  NOT NULL,
    name    TEXT  NOT NULL,
    id      TEXT  NOT NULL,
    sealed  BYTEA NOT NULL,
    body    BYTEA NOT NULL,
    tag     BYTEA NOT NULL,
    PRIMARY KEY (account, kind, name)
);
CREATE UNIQUE INDEX identities_id ON identities (id);
