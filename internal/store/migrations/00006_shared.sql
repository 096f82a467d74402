-- What several processes on one database need. writers has a row for each process that writes: mark is the number of the last of
-- its transactions that was committed, seen_ms when that was, and trimmed the last one of which changes are not in the feed any
-- more. A change says in which transaction of which process it was made; those of a store that one process uses say nothing.

-- +goose Up
CREATE TABLE writers (
    writer  TEXT   NOT NULL PRIMARY KEY,
    mark    BIGINT NOT NULL,
    seen_ms BIGINT NOT NULL,
    trimmed BIGINT NOT NULL DEFAULT 0
);
ALTER TABLE changes ADD COLUMN writer TEXT NOT NULL DEFAULT '';
ALTER TABLE changes ADD COLUMN mark BIGINT NOT NULL DEFAULT 0;

-- leases says which process does what only one may do, and until when; nodes which processes live, with the name and version of each.
-- Times in both are milliseconds of the database's clock.
CREATE TABLE leases (
    name     TEXT   NOT NULL PRIMARY KEY,
    holder   TEXT   NOT NULL,
    until_ms BIGINT NOT NULL
);
CREATE TABLE nodes (
    node    TEXT   NOT NULL PRIMARY KEY,
    name    TEXT   NOT NULL,
    version TEXT   NOT NULL,
    seen_ms BIGINT NOT NULL
);
