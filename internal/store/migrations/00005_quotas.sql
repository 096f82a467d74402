-- What was said of quotas of an account in a Region: values that were given, and requests for others. The store does not know
-- what is in a body.

-- +goose Up
CREATE TABLE quotas (
    account TEXT  NOT NULL REFERENCES accounts (account),
    region  TEXT  NOT NULL,
    kind    TEXT  NOT NULL,
    name    TEXT  NOT NULL,
    body    BYTEA NOT NULL,
    tag     BYTEA NOT NULL,
    PRIMARY KEY (account, region, kind, name)
);
