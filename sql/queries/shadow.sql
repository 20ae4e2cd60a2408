-- The scratch schema of a shadow replay beside the live one. Names in braces are put into the text.

-- name: seed
-- What makes rows comparable: the key of the hashes, and the numbers of sessions and jids. New ones get numbers that the
-- live tables do not reach.
UPDATE {scratch}.installation SET hash_key = (SELECT hash_key FROM whatsapp_gateway.installation);
INSERT INTO {scratch}.sessions (id, name) OVERRIDING SYSTEM VALUE SELECT id, name FROM whatsapp_gateway.sessions;
INSERT INTO {scratch}.jids (id, session_id, jid) OVERRIDING SYSTEM VALUE
SELECT id, session_id, jid FROM whatsapp_gateway.jids;
ALTER TABLE {scratch}.sessions ALTER COLUMN id RESTART WITH 1500000000;
ALTER TABLE {scratch}.jids ALTER COLUMN id RESTART WITH 1500000000;
CREATE TABLE {scratch}.replayed (
    topic text NOT NULL, partition integer NOT NULL, first_offset bigint NOT NULL, next_offset bigint NOT NULL
);

-- name: replayed
INSERT INTO whatsapp_gateway.replayed (topic, partition, first_offset, next_offset)
SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[]);

-- name: columns
SELECT attname::text AS name FROM pg_attribute
WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum;

-- name: stage_replayed
CREATE TEMP TABLE stage_replayed ON COMMIT DROP AS
SELECT topic, partition, range_agg(int8range(first_offset, next_offset)) AS offsets
FROM {scratch}.replayed GROUP BY topic, partition;

-- name: touched_by_place
-- Live rows that a replayed record decided: rows name their record.
CREATE TEMP TABLE touched ON COMMIT DROP AS
SELECT l.* FROM {live} l
JOIN stage_replayed r ON r.topic = l.topic AND r.partition = l.partition AND l."offset" <@ r.offsets;

-- name: touched_by_decider
-- Live rows that the same record decided, told by columns that are equal then.
CREATE TEMP TABLE touched ON COMMIT DROP AS
SELECT l.* FROM {live} l JOIN {scratch_table} s ON {same_key} WHERE {same_decider};

-- name: unmatched
CREATE TEMP TABLE unmatched ON COMMIT DROP AS
SELECT s.*, EXISTS (SELECT FROM {live} l WHERE {same_key}) AS decided_elsewhere
FROM {scratch_table} s WHERE NOT EXISTS (SELECT FROM touched l WHERE {same_key});

-- name: count
SELECT (SELECT count(*) FROM touched l JOIN {scratch_table} s ON {same_key} WHERE {same}) AS same,
       (SELECT count(*) FROM touched l JOIN {scratch_table} s ON {same_key} WHERE NOT {same}) AS changed,
       (SELECT count(*) FROM touched l WHERE NOT EXISTS (SELECT FROM {scratch_table} s WHERE {same_key})) AS missing,
       (SELECT count(*) FROM unmatched WHERE NOT decided_elsewhere) AS added,
       (SELECT count(*) FROM unmatched WHERE decided_elsewhere) AS elsewhere;

-- name: count_columns
SELECT {changed_columns} FROM touched l JOIN {scratch_table} s ON {same_key} WHERE NOT {same};

-- name: changed_rows
SELECT {both_columns} FROM touched l JOIN {scratch_table} s ON {same_key} WHERE NOT {same} LIMIT $1;

-- name: missing_rows
SELECT l.* FROM touched l WHERE NOT EXISTS (SELECT FROM {scratch_table} s WHERE {same_key}) LIMIT $1;

-- name: added_rows
SELECT * FROM unmatched WHERE NOT decided_elsewhere LIMIT $1;
