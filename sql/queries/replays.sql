-- name: create
INSERT INTO whatsapp_gateway.replays (consumer, spec, records, host, pid) VALUES ($1, $2, $3, $4, $5) RETURNING id;

-- name: add_ranges
INSERT INTO whatsapp_gateway.replay_ranges (replay_id, topic, partition, first_offset, end_offset)
SELECT $1, * FROM unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[]);

-- name: lock
-- A session's lock, so that it goes with its process.
SELECT pg_try_advisory_lock($1, $2);

-- name: owner
SELECT host, pid FROM whatsapp_gateway.replays WHERE id = $1;

-- name: replays
-- held: a process works on it (the lock's two halves stand in classid and objid).
SELECT r.id, r.consumer, r.spec::text AS spec, r.state, r.records, r.passed, r.error, r.result::text AS result, r.host,
       r.pid, r.created_at, r.heartbeat_at, r.finished_at, l.objid IS NOT NULL AS held
FROM whatsapp_gateway.replays r
LEFT JOIN pg_locks l ON l.locktype = 'advisory' AND l.classid = $1::int::oid AND l.objid = r.id::oid AND l.objsubid = 2
     AND l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
WHERE $2::int IS NULL OR r.id = $2
ORDER BY r.id;

-- name: ranges
SELECT topic, partition, first_offset, end_offset
FROM whatsapp_gateway.replay_ranges WHERE replay_id = $1 ORDER BY topic, partition;

-- name: resume
UPDATE whatsapp_gateway.replays
SET state = 'running', error = NULL, host = $2, pid = $3, heartbeat_at = now(), finished_at = NULL
WHERE id = $1;

-- name: beat
UPDATE whatsapp_gateway.replays SET heartbeat_at = now(), passed = $2 WHERE id = $1 RETURNING state;

-- name: stop
UPDATE whatsapp_gateway.replays SET state = $2 WHERE id = $1 AND state = 'running';

-- name: finish
UPDATE whatsapp_gateway.replays
SET state = $2, passed = $3, error = $4, result = $5, heartbeat_at = now(), finished_at = now()
WHERE id = $1;

-- name: forget_books
DELETE FROM whatsapp_gateway.progress WHERE consumer = $1;

-- name: forget_skipped
DELETE FROM whatsapp_gateway.progress_skipped WHERE consumer = $1;

-- name: forget
DELETE FROM whatsapp_gateway.replays WHERE id = $1;

-- name: scratch_schemas
SELECT nspname::text AS name FROM pg_namespace WHERE nspname LIKE 'whatsapp\_gateway\_shadow\_%' ORDER BY 1;
