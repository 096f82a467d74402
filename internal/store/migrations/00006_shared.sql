-- What several processes on one database need. writers has a row for each process that writes: mark is the number of the last of
-- its transactions that was committed, and seen_ms when that was.

-- +goose Up
CREATE TABLE writers (
    writer  TEXT   NOT NULL PRIMARY KEY,
    mark    BIGINT NOT NULL,
    seen_ms BIGINT NOT NULL
);
