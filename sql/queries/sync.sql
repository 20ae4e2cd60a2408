-- name: request
-- New requests. One that is there already, or whose window is open, is one.
INSERT INTO whatsapp_gateway.sync_state (request_id, session, chat, kind, reason, priority, since_s, until_s)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::smallint[], $7::bigint[], $8::bigint[])
ON CONFLICT DO NOTHING
RETURNING request_id;

-- name: spread
-- A request for all chats of an engine that cannot sweep them becomes one for each chat, and waits for them.
WITH p AS (
    UPDATE whatsapp_gateway.sync_state
    SET spread = true, status = 'waiting', error = format('for the requests of its %s chats', cardinality($3::text[])),
        lease_owner = NULL, lease_until = NULL, updated_at = now()
    WHERE id = $1 AND lease_owner = $2 AND status = 'running'
    RETURNING *
), made AS (
    INSERT INTO whatsapp_gateway.sync_state (request_id, session, chat, kind, reason, priority, since_s, until_s, parent_id)
    SELECT p.request_id || '/' || x.chat, p.session, x.chat, p.kind, p.reason, p.priority, p.since_s, p.until_s, p.id
    FROM p, unnest($3::text[]) AS x (chat)
    ON CONFLICT DO NOTHING
)
SELECT id FROM p;

-- name: gather
-- Requests that were spread, of the session $1 or of all, end with the last one of their chats: these have their window, whoever
-- asked for them.
UPDATE whatsapp_gateway.sync_state s
SET status = CASE WHEN x.short = 0 THEN 'completed' ELSE 'failed' END, cursor_s = CASE WHEN x.short = 0 THEN s.until_s END,
    error = CASE WHEN x.short > 0 THEN left(format('%s of %s chats were not fetched: %s', x.short, x.chats, x.why), 500) END,
    pages = x.pages, calls = x.calls, seen = x.seen, new = x.new, updated_at = now(), finished_at = now()
FROM whatsapp_gateway.sync_state p
CROSS JOIN LATERAL (
    SELECT count(*) AS chats, count(*) FILTER (WHERE c.status <> 'completed') AS short,
           min(concat(c.chat, ' ', c.status, ': ' || c.error)) FILTER (WHERE c.status <> 'completed') AS why,
           coalesce(sum(c.pages), 0) AS pages, coalesce(sum(c.calls), 0) AS calls,
           coalesce(sum(c.seen), 0) AS seen, coalesce(sum(c.new), 0) AS new
    FROM whatsapp_gateway.sync_state c
    WHERE (c.session, c.kind, c.since_s, c.until_s) = (p.session, p.kind, p.since_s, p.until_s) AND c.chat <> 'all'
) x
WHERE p.chat = 'all' AND p.status = 'waiting' AND p.spread AND ($1::text IS NULL OR p.session = $1)
  AND NOT EXISTS (
      SELECT FROM whatsapp_gateway.sync_state c
      WHERE (c.session, c.kind, c.since_s, c.until_s) = (p.session, p.kind, p.since_s, p.until_s) AND c.chat <> 'all'
        AND c.status IN ('pending', 'running', 'waiting'))
  AND s.id = p.id AND s.status = 'waiting'
RETURNING s.id, s.session, s.reason, s.status;

-- name: claim
-- The next request that nobody works on: by priority, then for the session with the fewest under way. A process that died
-- left its request running, with a lease that ends.
WITH due AS (
    SELECT s.id
    FROM whatsapp_gateway.sync_state s
    WHERE s.status IN ('pending', 'running', 'waiting') AND NOT s.spread AND s.next_try_at <= now()
      AND (s.lease_until IS NULL OR s.lease_until < now())
      AND NOT (SELECT stopped FROM whatsapp_gateway.sync_control)
      AND NOT EXISTS (
          SELECT FROM whatsapp_gateway.sync_state o
          WHERE o.session = s.session AND o.chat = s.chat AND o.kind = s.kind AND o.status = 'running' AND o.id <> s.id)
    ORDER BY s.priority,
             (SELECT count(*) FROM whatsapp_gateway.sync_state r
              WHERE r.session = s.session AND r.status = 'running' AND r.lease_until > now()),
             s.id
    LIMIT 1
    FOR UPDATE OF s SKIP LOCKED
)
UPDATE whatsapp_gateway.sync_state s
SET status = 'running', lease_owner = $1, lease_until = now() + make_interval(secs => $2),
    started_at = coalesce(started_at, now()), updated_at = now()
FROM due WHERE s.id = due.id
RETURNING s.id, s.request_id, s.session, s.chat, s.kind, s.reason, s.since_s, s.until_s, s.cursor_s, s.page_rows, s.attempts;

-- name: renew
UPDATE whatsapp_gateway.sync_state SET lease_until = now() + make_interval(secs => $3)
WHERE id = $1 AND lease_owner = $2 AND status = 'running'
RETURNING id;

-- name: advance
-- A page is published. No row: the lease is somebody else's, or the request was stopped.
UPDATE whatsapp_gateway.sync_state
SET cursor_s = $3, page_rows = $4, pages = pages + 1, calls = calls + 1, seen = seen + $5, new = new + $6, attempts = 0,
    error = NULL, updated_at = now(), lease_until = now() + make_interval(secs => $7)
WHERE id = $1 AND lease_owner = $2 AND status = 'running'
RETURNING id;

-- name: complete
UPDATE whatsapp_gateway.sync_state
SET status = 'completed', error = NULL, cursor_s = until_s, lease_owner = NULL, lease_until = NULL, updated_at = now(),
    finished_at = now()
WHERE id = $1 AND lease_owner = $2 AND status = 'running'
RETURNING request_id, new;

-- name: wait
-- It goes on at its cursor after $4 seconds.
UPDATE whatsapp_gateway.sync_state
SET status = 'waiting', error = $3, attempts = attempts + $5, page_rows = coalesce($6, page_rows), lease_owner = NULL,
    lease_until = NULL, next_try_at = now() + make_interval(secs => $4), updated_at = now()
WHERE id = $1 AND lease_owner = $2 AND status = 'running';

-- name: fail
UPDATE whatsapp_gateway.sync_state
SET status = 'failed', error = $3, lease_owner = NULL, lease_until = NULL, updated_at = now(), finished_at = now()
WHERE id = $1 AND lease_owner = $2 AND status = 'running';

-- name: release
-- A process that stops gives its requests back at once.
UPDATE whatsapp_gateway.sync_state SET status = 'pending', lease_owner = NULL, lease_until = NULL, updated_at = now()
WHERE lease_owner = $1 AND status = 'running';

-- name: known
-- Which of the messages of a page the database has: their numbers.
SELECT x.n
FROM unnest($2::text[], $3::uuid[]) WITH ORDINALITY AS x (chat, key, n)
JOIN whatsapp_gateway.sessions s ON s.name = $1
JOIN whatsapp_gateway.jids j ON j.session_id = s.id AND j.jid = x.chat
JOIN whatsapp_gateway.message_keys k ON k.chat_id = j.id AND k.key = x.key;

-- name: forms
-- The ids under which a direct chat is known: its hidden id and its number.
SELECT DISTINCT o.jid
FROM whatsapp_gateway.sessions s
JOIN whatsapp_gateway.jids j ON j.session_id = s.id AND j.jid = $2
JOIN whatsapp_gateway.identities i ON NOT i.fallen AND (i.lid_id = j.id OR i.phone_id = j.id)
JOIN whatsapp_gateway.jids o ON o.id IN (i.lid_id, i.phone_id)
WHERE s.name = $1;

-- name: siblings
-- Which of the chats $2 have requests of their own that were made together with $1.
SELECT o.chat
FROM whatsapp_gateway.sync_state s
JOIN whatsapp_gateway.sync_state o ON (o.session, o.kind, o.parent_id) = (s.session, s.kind, s.parent_id)
WHERE s.id = $1 AND o.chat = ANY ($2::text[]);

-- name: twins
-- Which of the chats $2 are the hidden id and the number of one person.
SELECT l.jid AS lid, p.jid AS phone
FROM whatsapp_gateway.sessions s
JOIN whatsapp_gateway.jids l ON l.session_id = s.id AND l.jid = ANY ($2::text[])
JOIN whatsapp_gateway.identities i ON i.lid_id = l.id AND NOT i.fallen
JOIN whatsapp_gateway.jids p ON p.id = i.phone_id AND p.jid = ANY ($2::text[])
WHERE s.name = $1;

-- name: control
SELECT stopped, rate_per_s FROM whatsapp_gateway.sync_control;

-- name: set_control
UPDATE whatsapp_gateway.sync_control SET stopped = coalesce($1, stopped), rate_per_s = CASE WHEN $2 THEN $3 ELSE rate_per_s END;

-- name: stop
-- Open requests of a session ($1, NULL: all) and chat ($2, NULL: all); whoever works on one notices at its next page.
UPDATE whatsapp_gateway.sync_state
SET status = 'stopped', lease_owner = NULL, lease_until = NULL, updated_at = now(), finished_at = now()
WHERE status IN ('pending', 'running', 'waiting') AND ($1::text IS NULL OR session = $1) AND ($2::text IS NULL OR chat = $2)
RETURNING id;

-- name: resume
-- Stopped and failed ones go on at their cursor, unless their window was asked for again meanwhile. Those that were spread wait for
-- their chats again, also when one chat alone goes on.
WITH resumed AS (
    UPDATE whatsapp_gateway.sync_state s
    SET status = CASE WHEN s.spread THEN 'waiting' ELSE 'pending' END,
        error = CASE WHEN s.spread THEN 'for the requests of its chats' END,
        attempts = 0, next_try_at = now(), finished_at = NULL, updated_at = now()
    WHERE s.status IN ('stopped', 'failed') AND ($1::text IS NULL OR s.session = $1) AND ($2::text IS NULL OR s.chat = $2)
      AND NOT EXISTS (
          SELECT FROM whatsapp_gateway.sync_state o
          WHERE (o.session, o.chat, o.kind, o.since_s, o.until_s) = (s.session, s.chat, s.kind, s.since_s, s.until_s)
            AND o.id <> s.id AND (o.status IN ('pending', 'running', 'waiting', 'completed') OR o.id > s.id))
    RETURNING s.id, s.session, s.kind, s.since_s, s.until_s
), reopened AS (
    UPDATE whatsapp_gateway.sync_state p
    SET status = 'waiting', error = 'for the requests of its chats', finished_at = NULL, updated_at = now()
    WHERE p.chat = 'all' AND p.spread AND p.status IN ('stopped', 'failed') AND p.id NOT IN (SELECT id FROM resumed)
      AND (p.session, p.kind, p.since_s, p.until_s) IN (SELECT session, kind, since_s, until_s FROM resumed)
      AND NOT EXISTS (
          SELECT FROM whatsapp_gateway.sync_state o
          WHERE (o.session, o.chat, o.kind, o.since_s, o.until_s) = (p.session, p.chat, p.kind, p.since_s, p.until_s)
            AND o.id <> p.id AND o.status IN ('pending', 'running', 'waiting'))
)
SELECT id FROM resumed;

-- name: runs
-- The newest requests, open ones first. Of one that waits for its chats: what these have so far.
SELECT s.id, s.request_id, s.session, s.chat, s.kind, s.reason, s.status, s.error, s.since_s, s.until_s, s.cursor_s,
       coalesce(x.pages, s.pages) AS pages, coalesce(x.calls, s.calls) AS calls, coalesce(x.seen, s.seen) AS seen,
       coalesce(x.new, s.new) AS new, s.attempts, s.created_at, s.started_at, s.updated_at, s.finished_at, x.chats, x.chats_done
FROM whatsapp_gateway.sync_state s
LEFT JOIN LATERAL (
    SELECT count(*) AS chats, count(*) FILTER (WHERE c.status = 'completed') AS chats_done, sum(c.pages)::bigint AS pages,
           sum(c.calls)::bigint AS calls, sum(c.seen)::bigint AS seen, sum(c.new)::bigint AS new
    FROM whatsapp_gateway.sync_state c
    WHERE (c.session, c.kind, c.since_s, c.until_s) = (s.session, s.kind, s.since_s, s.until_s) AND c.chat <> 'all'
) x ON s.spread AND s.status <> 'completed'
WHERE ($1::text IS NULL OR session = $1) AND ($2::text IS NULL OR chat = $2) AND ($3::text IS NULL OR status = $3)
ORDER BY status NOT IN ('running', 'waiting', 'pending'), CASE WHEN finished_at IS NULL THEN priority END, id DESC
LIMIT $4;

-- name: counts
SELECT status, count(*) AS requests, coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 AS oldest_s
FROM whatsapp_gateway.sync_state WHERE status IN ('pending', 'running', 'waiting') AND NOT spread GROUP BY status;

-- name: positions
SELECT consumer, topic, partition, next_offset FROM whatsapp_gateway.progress WHERE topic = ANY ($1::text[]);

-- name: message_ids
SELECT message_id FROM whatsapp_gateway.messages WHERE session = $1;
