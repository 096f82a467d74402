-- The last cryptographic use of each key that has been used.

-- +goose Up
CREATE TABLE key_uses (
    account TEXT  NOT NULL,
    region  TEXT  NOT NULL,
    key_id  TEXT  NOT NULL,
    body    BYTEA NOT NULL,
    tag     BYTEA NOT NULL,
    PRIMARY KEY (account, region, key_id),
    FOREIGN KEY (account, region, key_id) REFERENCES keys (account, region, key_id)
);
