-- A Follower reads the changes of one process by the numbers of its transactions. Some engines make no index of columns that are as new as
-- the transaction.

-- +goose Up
CREATE INDEX changes_of_writer ON changes (writer, mark) WHERE mark > 0;
