-- Jobs and objects of the media consumer. Times of leases and deadlines are the database's own: one clock for everybody.
-- Who waits for locks of several jobs takes them in the order of (chat_id, key), or two of them wait for each other.

-- name: stage
CREATE TEMP TABLE IF NOT EXISTS stage_media_downloads (
    chat_id integer NOT NULL, key uuid NOT NULL, session_id integer NOT NULL, source text NOT NULL,
    lane smallint NOT NULL, ts timestamptz NOT NULL, message_id text NOT NULL, type text NOT NULL, url text,
    s3_bucket text, s3_key text, mimetype text, filename text, claimed_bytes bigint, claimed_sha256 bytea,
    deadline timestamptz, origin smallint NOT NULL
) ON COMMIT DROP;
DELETE FROM stage_media_downloads;

-- name: merge
-- A message that is told again makes no second job. What is not stored yet takes the file that lives longer; a job that
-- was given up is taken up again when WAHA has the file again.
WITH merged AS (
    INSERT INTO whatsapp_gateway.media_downloads AS t (
        chat_id, key, session_id, source, lane, ts, message_id, type, url, s3_bucket, s3_key, mimetype, filename,
        claimed_bytes, claimed_sha256, deadline)
    SELECT chat_id, key, session_id, source, lane, ts, message_id, type, url, s3_bucket, s3_key, mimetype, filename,
           claimed_bytes, claimed_sha256, deadline
    FROM stage_media_downloads ORDER BY chat_id, key
    ON CONFLICT (chat_id, key) DO UPDATE SET
        url = excluded.url, s3_bucket = excluded.s3_bucket, s3_key = excluded.s3_key, deadline = excluded.deadline,
        lane = least(t.lane, excluded.lane), mimetype = coalesce(excluded.mimetype, t.mimetype),
        filename = coalesce(excluded.filename, t.filename),
        claimed_bytes = coalesce(t.claimed_bytes, excluded.claimed_bytes),
        claimed_sha256 = coalesce(t.claimed_sha256, excluded.claimed_sha256),
        next_at = now(), download_status = 'pending', reason = NULL, finished_at = NULL,
        asked = CASE WHEN t.download_status = 'expired' THEN 0 ELSE t.asked END
    WHERE (excluded.url IS NOT NULL OR excluded.s3_key IS NOT NULL)
      AND (t.download_status = 'pending' AND (excluded.deadline > coalesce(t.deadline, '-infinity')
                                              OR (t.url IS NULL AND t.s3_key IS NULL))
           OR t.download_status = 'expired' AND excluded.deadline > now())
    RETURNING t.chat_id, t.key, (xmax = 0) AS inserted
)
SELECT origin, count(*) AS written FROM merged JOIN stage_media_downloads USING (chat_id, key)
WHERE inserted AND origin >= 0 GROUP BY origin;

-- name: take
-- At most $1 jobs of the source $2 under the lease $3 for $4 seconds: first what a dead process left, then files that
-- are there (those that WAHA deletes first, unless under $5 seconds are left), then at most $6 for which WAHA must be
-- asked: no haste helps those. Live before backfill in each. A lease need not outlive a crash of the database: who works
-- under one that is gone writes nothing. So the commit does not wait for the disk.
WITH abandoned AS (
    SELECT chat_id, key FROM whatsapp_gateway.media_downloads
    WHERE download_status = 'running' AND leased_until < now() AND source = $2
    ORDER BY leased_until LIMIT $1 FOR UPDATE SKIP LOCKED
), there AS (
    SELECT chat_id, key FROM whatsapp_gateway.media_downloads
    WHERE download_status = 'pending' AND source = $2 AND next_at <= now() AND coalesce(url, s3_key) IS NOT NULL
      AND (deadline IS NULL OR deadline > now() + make_interval(secs => $5))
    ORDER BY lane, deadline
    LIMIT $1 - (SELECT count(*) FROM abandoned) FOR UPDATE SKIP LOCKED
), others AS (
    SELECT chat_id, key FROM whatsapp_gateway.media_downloads
    WHERE download_status = 'pending' AND source = $2 AND next_at <= now()
      AND (coalesce(url, s3_key) IS NULL OR deadline <= now() + make_interval(secs => $5))
    ORDER BY lane, next_at
    LIMIT least($6, $1 - (SELECT count(*) FROM abandoned) - (SELECT count(*) FROM there)) FOR UPDATE SKIP LOCKED
), taken AS (
    SELECT *, 1 AS left_behind FROM abandoned UNION ALL SELECT *, 0 FROM there UNION ALL SELECT *, 0 FROM others
)
UPDATE whatsapp_gateway.media_downloads d
SET download_status = 'running', lease = $3, leased_until = now() + make_interval(secs => $4),
    attempts = d.attempts + 1, abandoned = d.abandoned + taken.left_behind, started_at = coalesce(d.started_at, now())
FROM taken, whatsapp_gateway.sessions s, (SELECT set_config('synchronous_commit', 'off', true)) AS relaxed
WHERE d.chat_id = taken.chat_id AND d.key = taken.key AND s.id = d.session_id
RETURNING d.chat_id, d.key, s.name AS session, d.source, d.lane, d.ts, d.message_id, d.type, d.url, d.s3_bucket,
          d.s3_key, d.mimetype, d.filename, d.claimed_bytes, d.claimed_sha256, d.attempts, d.asked, d.abandoned, d.lease,
          d.created_at, extract(epoch FROM d.deadline - now())::float8 AS left_s,
          extract(epoch FROM now() - d.created_at)::float8 AS age_s;

-- name: renew
-- The leases that are still held, for $3 seconds more.
WITH held AS (
    SELECT d.chat_id, d.key FROM whatsapp_gateway.media_downloads d
    JOIN unnest($1::int[], $2::uuid[]) AS named (chat_id, key) USING (chat_id, key)
    WHERE d.lease = $4
    ORDER BY d.chat_id, d.key FOR UPDATE OF d
)
UPDATE whatsapp_gateway.media_downloads d SET leased_until = now() + make_interval(secs => $3)
FROM held WHERE d.chat_id = held.chat_id AND d.key = held.key
RETURNING d.chat_id, d.key;

-- name: release
WITH held AS (
    SELECT chat_id, key FROM whatsapp_gateway.media_downloads
    WHERE download_status = 'running' AND lease = $1
    ORDER BY chat_id, key FOR UPDATE
)
UPDATE whatsapp_gateway.media_downloads d
SET download_status = 'pending', lease = NULL, leased_until = NULL, attempts = d.attempts - 1
FROM held WHERE d.chat_id = held.chat_id AND d.key = held.key;

-- name: new_place
-- WAHA has downloaded the file again: where it lies now, for $6 seconds (null: for ever).
UPDATE whatsapp_gateway.media_downloads
SET url = $4, s3_bucket = $5, s3_key = $7, deadline = now() + make_interval(secs => $6)
WHERE chat_id = $1 AND key = $2 AND lease = $3
RETURNING 1;

-- name: postpone
-- Try again in $4 seconds. $6: WAHA was asked in vain; $7: the place that is known is no good any more; $8: this
-- was no attempt at all (what it needs is away).
UPDATE whatsapp_gateway.media_downloads
SET download_status = 'pending', lease = NULL, leased_until = NULL, next_at = now() + make_interval(secs => $4),
    last_error = $5, asked = asked + $6::int, attempts = attempts - $8::int,
    url = CASE WHEN $7 THEN NULL ELSE url END, s3_key = CASE WHEN $7 THEN NULL ELSE s3_key END,
    s3_bucket = CASE WHEN $7 THEN NULL ELSE s3_bucket END
WHERE chat_id = $1 AND key = $2 AND lease = $3
RETURNING 1;

-- name: finish
-- $4: skipped, failed or expired; $5 its reason, $6 what happened last.
UPDATE whatsapp_gateway.media_downloads
SET download_status = $4, reason = $5, last_error = coalesce($6, last_error), lease = NULL, leased_until = NULL,
    finished_at = now()
WHERE chat_id = $1 AND key = $2 AND lease = $3
RETURNING 1;

-- name: fail_unknown
-- Jobs of WAHA servers that are not configured here.
WITH strange AS (
    SELECT chat_id, key FROM whatsapp_gateway.media_downloads
    WHERE download_status = 'pending' AND source <> ALL ($1::text[])
    ORDER BY chat_id, key FOR UPDATE
)
UPDATE whatsapp_gateway.media_downloads d
SET download_status = 'failed', reason = 'unknown_source', finished_at = now()
FROM strange WHERE d.chat_id = strange.chat_id AND d.key = strange.key
RETURNING 1;

-- name: claim
-- Says that the object is about to be referred to: no sweep takes it away meanwhile. Waits for one that is at it. If a
-- crash of the database forgets it, `store` finds no such object and all is done again: no wait for the disk here either.
INSERT INTO whatsapp_gateway.media_objects AS o (sha256, bytes, mimetype, extension) VALUES ($1, $2, $3, $4)
ON CONFLICT (sha256) DO UPDATE SET claimed_at = clock_timestamp()
RETURNING o.swept, o.stored_at IS NOT NULL AS stored, set_config('synchronous_commit', 'off', true);

-- name: store
-- The object is in the bucket, and the job refers to it. No row: the lease is lost. Null: a sweep came in between.
WITH mine AS (
    SELECT chat_id, key FROM whatsapp_gateway.media_downloads
    WHERE chat_id = $1 AND key = $2 AND lease = $3
    FOR UPDATE
), object AS (
    UPDATE whatsapp_gateway.media_objects o
    SET stored_at = coalesce(o.stored_at, now()), claimed_at = clock_timestamp(),
        thumbnail = CASE WHEN $6 AND o.thumbnail IS NULL THEN 'wanted' ELSE o.thumbnail END,
        thumbnail_at = CASE WHEN $6 AND o.thumbnail IS NULL THEN now() ELSE o.thumbnail_at END
    WHERE o.sha256 = $4 AND o.swept = $5 AND EXISTS (SELECT FROM mine)
    RETURNING o.sha256, o.bytes
), done AS (
    UPDATE whatsapp_gateway.media_downloads d
    SET download_status = 'stored', reason = NULL, sha256 = object.sha256, bytes = object.bytes, lease = NULL,
        leased_until = NULL, last_error = NULL, finished_at = now()
    FROM mine, object
    WHERE d.chat_id = mine.chat_id AND d.key = mine.key
    RETURNING d.sha256
)
SELECT (SELECT count(*) FROM mine) AS held, (SELECT count(*) FROM done) AS done;

-- name: states
SELECT download_status AS state, count(*) AS jobs,
       coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 AS oldest_s
FROM whatsapp_gateway.media_downloads GROUP BY download_status;

-- name: waiting
-- How many jobs wait, and the oldest of them, by what their deadline says.
SELECT CASE WHEN deadline IS NULL THEN 'none' WHEN deadline < now() THEN 'past'
            WHEN deadline < now() + interval '60 s' THEN 'under_1m' ELSE 'over_1m' END AS deadline,
       count(*) AS jobs, extract(epoch FROM now() - min(created_at))::float8 AS oldest_s
FROM whatsapp_gateway.media_downloads WHERE download_status IN ('pending', 'running') GROUP BY 1;

-- name: due
-- Jobs that are under way, or will be within five seconds.
SELECT count(*) FROM whatsapp_gateway.media_downloads
WHERE download_status = 'running' OR (download_status = 'pending' AND next_at < now() + interval '5 seconds');

-- name: reasons
SELECT download_status AS state, reason, count(*) AS jobs FROM whatsapp_gateway.media_downloads
WHERE download_status IN ('skipped', 'failed', 'expired') GROUP BY 1, 2 ORDER BY 1, 3 DESC;

-- name: objects
SELECT count(*) AS objects, coalesce(sum(bytes), 0)::bigint AS bytes,
       count(*) FILTER (WHERE thumbnail = 'made') AS thumbnails,
       count(*) FILTER (WHERE thumbnail = 'wanted') AS thumbnails_wanted
FROM whatsapp_gateway.media_objects WHERE stored_at IS NOT NULL;

-- name: list
-- Newest first, before the place ($3, $4, $5); of all sessions when $2 is null.
SELECT d.*, s.name AS session, o.mimetype AS sniffed, o.extension, o.thumbnail
FROM whatsapp_gateway.media_downloads d
JOIN whatsapp_gateway.sessions s ON s.id = d.session_id
LEFT JOIN whatsapp_gateway.media_objects o ON o.sha256 = d.sha256
WHERE d.download_status = $1 AND ($2::text IS NULL OR s.name = $2)
  AND (d.created_at < $3 OR (d.created_at = $3 AND (d.chat_id, d.key) > ($4, $5)))
ORDER BY d.created_at DESC, d.chat_id, d.key
LIMIT $6;

-- name: session
SELECT id FROM whatsapp_gateway.sessions WHERE name = $1;

-- name: of_messages
SELECT f.*
FROM unnest($1::int[], $2::uuid[], $3::uuid[]) AS r (chat_id, low, high), LATERAL (
    SELECT d.chat_id, d.key, d.session_id, d.download_status, d.reason, d.bytes, d.sha256, d.filename,
           d.mimetype AS claimed, o.mimetype AS sniffed, o.extension, o.thumbnail
    FROM whatsapp_gateway.media_downloads d LEFT JOIN whatsapp_gateway.media_objects o ON o.sha256 = d.sha256
    WHERE d.chat_id = r.chat_id AND d.key BETWEEN r.low AND r.high OFFSET 0
) f;

-- name: retry
-- Takes up again what was given up: states $1, of session $2 (null: all), reason $3 (null: all), at most $4 jobs.
WITH chosen AS (
    SELECT d.chat_id, d.key FROM whatsapp_gateway.media_downloads d
    JOIN whatsapp_gateway.sessions s ON s.id = d.session_id
    WHERE d.download_status = ANY ($1) AND ($2::text IS NULL OR s.name = $2) AND ($3::text IS NULL OR d.reason = $3)
    ORDER BY d.created_at DESC LIMIT $4 FOR UPDATE OF d SKIP LOCKED
)
UPDATE whatsapp_gateway.media_downloads d
SET download_status = 'pending', reason = NULL, next_at = now(), attempts = 0, asked = 0, abandoned = 0,
    finished_at = NULL
FROM chosen WHERE d.chat_id = chosen.chat_id AND d.key = chosen.key
RETURNING 1;

-- name: unreferenced
-- Objects that nobody refers to, and nobody has claimed for $1 seconds; after the hash $2.
SELECT o.sha256, o.bytes, o.swept, o.thumbnail FROM whatsapp_gateway.media_objects o
WHERE o.sha256 > $2 AND o.claimed_at < now() - make_interval(secs => $1)
  AND NOT EXISTS (SELECT FROM whatsapp_gateway.media_downloads d WHERE d.sha256 = o.sha256)
  AND NOT EXISTS (SELECT FROM whatsapp_gateway.profile_pictures p WHERE p.sha256 = o.sha256)
ORDER BY o.sha256 LIMIT $3;

-- name: lock_object
-- A statement of its own: the next one sees whoever referred to the object before this one got the lock.
SELECT 1 FROM whatsapp_gateway.media_objects WHERE sha256 = $1 FOR UPDATE;

-- name: mark_swept
-- From here on nobody believes that the bucket has it. Answers the mark, by which the next step knows its own.
UPDATE whatsapp_gateway.media_objects o SET stored_at = NULL, swept = o.swept + 1
WHERE o.sha256 = $1 AND o.claimed_at < now() - make_interval(secs => $2)
  AND NOT EXISTS (SELECT FROM whatsapp_gateway.media_downloads d WHERE d.sha256 = o.sha256)
  AND NOT EXISTS (SELECT FROM whatsapp_gateway.profile_pictures p WHERE p.sha256 = o.sha256)
RETURNING o.swept, o.claimed_at;

-- name: lock_swept
-- Held until the object is gone from the bucket. Nothing when somebody has claimed it since it was marked.
SELECT 1 FROM whatsapp_gateway.media_objects o
WHERE o.sha256 = $1 AND o.swept = $2 AND o.claimed_at = $3 AND o.stored_at IS NULL
FOR UPDATE;

-- name: delete_object
DELETE FROM whatsapp_gateway.media_objects WHERE sha256 = $1;

-- name: some_objects
SELECT sha256, bytes, thumbnail FROM whatsapp_gateway.media_objects
WHERE stored_at IS NOT NULL AND sha256 > $1 ORDER BY sha256 LIMIT $2;

-- name: sample_objects
SELECT sha256, bytes, thumbnail FROM whatsapp_gateway.media_objects
WHERE stored_at IS NOT NULL ORDER BY random() LIMIT $1;

-- name: known_objects
SELECT sha256 FROM whatsapp_gateway.media_objects WHERE sha256 = ANY ($1::bytea[]);

-- name: verified
UPDATE whatsapp_gateway.media_objects SET verified_at = now() WHERE sha256 = $1;

-- name: take_thumbnails
-- Objects whose thumbnail is wanted; whoever takes one has two minutes.
UPDATE whatsapp_gateway.media_objects o
SET thumbnail_at = now() + interval '2 minutes', thumbnail_tries = o.thumbnail_tries + 1
WHERE o.sha256 IN (
    SELECT sha256 FROM whatsapp_gateway.media_objects
    WHERE thumbnail = 'wanted' AND thumbnail_at <= now() AND stored_at IS NOT NULL
    ORDER BY thumbnail_at LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING o.sha256, o.bytes, o.thumbnail_tries;

-- name: thumbnail_done
UPDATE whatsapp_gateway.media_objects SET thumbnail = $2 WHERE sha256 = $1;

-- name: adopt
-- A row for an object that has none: a sweep takes it like any other.
INSERT INTO whatsapp_gateway.media_objects (sha256, bytes, claimed_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING;

-- name: is_stored
SELECT stored_at IS NOT NULL FROM whatsapp_gateway.media_objects WHERE sha256 = $1;
