-- Grants on keys. retiring is who may retire a grant, for the list of those: a unique id, the id of an account, AROA…:name
-- for a session, a service principal, or empty.

-- +goose Up
CREATE TABLE grants (
    account  TEXT  NOT NULL,
    region   TEXT  NOT NULL,
    key_id   TEXT  NOT NULL,
    grant_id TEXT  NOT NULL,
    retiring TEXT  NOT NULL,
    body     BYTEA NOT NULL,
    tag      BYTEA NOT NULL,
    PRIMARY KEY (account, region, key_id, grant_id),
    FOREIGN KEY (account, region, key_id) REFERENCES keys (account, region, key_id)
);
CREATE INDEX grants_retiring ON grants (retiring, region, account, key_id, grant_id);
