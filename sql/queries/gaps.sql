-- name: schedule
-- When each of the sessions $1 was asked for last, and how far. deep: a look-back of at least $2 seconds.
SELECT x.session,
       coalesce(bool_or(s.status IN ('pending', 'running', 'waiting')) FILTER (WHERE s.kind = 'messages'), false) AS busy,
       coalesce(bool_or(s.status IN ('pending', 'running', 'waiting')) FILTER (WHERE s.kind = 'people'), false) AS busy_people,
       max(s.until_s) FILTER (WHERE s.kind = 'messages') AS until_s,
       max(extract(epoch FROM s.created_at)::bigint) FILTER (WHERE s.kind = 'messages') AS asked_s,
       max(extract(epoch FROM s.created_at)::bigint) FILTER (WHERE s.kind = 'messages' AND s.until_s - s.since_s >= $2) AS deep_s,
       max(extract(epoch FROM s.created_at)::bigint) FILTER (WHERE s.kind = 'people') AS people_s
FROM unnest($1::text[]) AS x (session)
LEFT JOIN whatsapp_gateway.sync_state s
    ON s.session = x.session AND s.chat = 'all' AND s.reason IN ('initial', 'periodic') AND s.status <> 'stopped'
GROUP BY x.session;

-- name: forget_runs
-- Finished requests are kept for three days, and as long as no later one saw all of their window: coverage is read from them,
-- and of people when they were read last.
DELETE FROM whatsapp_gateway.sync_state s
WHERE s.finished_at < now() - interval '3 days' AND (s.kind = 'people' AND s.chat <> 'all' OR EXISTS (
    SELECT FROM whatsapp_gateway.sync_state o
    WHERE (o.session, o.chat, o.kind) = (s.session, s.chat, s.kind) AND o.status = 'completed'
      AND (o.since_s <= s.since_s OR s.kind = 'people') AND o.finished_at > s.finished_at));

-- name: groups_told
-- Groups of which somebody came or went in the last hour, by webhook, and which were not read since. Half a minute later, so that
-- what comes together is read once; the same group again after ten minutes at the earliest.
SELECT t.session, t.chat, t.at_s
FROM (
    SELECT s.name AS session, j.jid AS chat, floor(extract(epoch FROM max(m.at)))::bigint AS at_s
    FROM whatsapp_gateway.group_members m
    JOIN whatsapp_gateway.jids j ON j.id = m.group_id
    JOIN whatsapp_gateway.sessions s ON s.id = j.session_id
    WHERE m.event_id NOT LIKE 'sync\_%' AND m.at BETWEEN now() - interval '1 hour' AND now() - interval '30 seconds'
    GROUP BY s.name, j.jid
) t
WHERE NOT EXISTS (
    SELECT FROM whatsapp_gateway.sync_state r
    WHERE r.session = t.session AND r.chat IN ('all', t.chat) AND r.kind = 'people'
      AND (r.until_s >= t.at_s OR (r.chat = t.chat AND r.created_at > now() - interval '10 minutes')))
LIMIT 100;

-- name: beat
-- A process has served the webhook for $1 seconds. When nobody had for half a minute before that, events may be missing.
WITH before AS (
    SELECT at FROM whatsapp_gateway.ingress_beat FOR UPDATE
), down AS (
    INSERT INTO whatsapp_gateway.sync_gaps (session, chat, cause, since_s, until_s, evidence)
    SELECT s.name, 'all', 'ingress_down', floor(extract(epoch FROM b.at))::bigint, ceil(extract(epoch FROM up.since))::bigint,
           json_build_object('seconds', ceil(extract(epoch FROM up.since - b.at)))::text
    FROM whatsapp_gateway.sessions s, before b, (SELECT now() - make_interval(secs => $1) AS since) up
    WHERE up.since > b.at + interval '30 seconds'
    ON CONFLICT DO NOTHING
)
UPDATE whatsapp_gateway.ingress_beat i SET at = greatest(i.at, now()) FROM before;

-- name: silent
-- Of the sessions $1 those of which no webhook came for ten minutes, and how far apart their chats usually fall silent.
SELECT s.name, extract(epoch FROM s.last_event_at)::float8 AS heard_s, r.usual_s
FROM whatsapp_gateway.sessions s
CROSS JOIN LATERAL (
    SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY g.apart_s) AS usual_s
    FROM (
        SELECT extract(epoch FROM l.minute_at - lag(l.minute_at) OVER (ORDER BY l.minute_at))::float8 AS apart_s
        FROM (
            SELECT minute_at FROM whatsapp_gateway.chat_latest
            WHERE session_id = s.id AND minute_at BETWEEN now() - interval '7 days' AND s.last_event_at
            ORDER BY minute_at DESC LIMIT 500
        ) l
    ) g
) r
WHERE s.name = ANY ($1::text[]) AND s.last_event_at < now() - interval '10 minutes';

-- name: note_deaf
-- WAHA has messages of the session $1 that no webhook told of since $2. The gap grows as long as it lasts.
INSERT INTO whatsapp_gateway.sync_gaps (session, chat, cause, since_s, until_s, evidence)
VALUES ($1, 'all', 'silent', $2, $3, '{}')
ON CONFLICT (session, chat, cause, since_s) DO UPDATE
SET until_s = excluded.until_s, status = 'open', request_id = NULL, found = NULL, closed_at = NULL, created_at = now();

-- name: find_lost
-- Records of the topics $2 that retention deleted before `messages` read them: whose they were, nobody can say, nor how old;
-- so every session's last $1 seconds.
WITH lost AS (
    SELECT p.consumer, p.topic, p.partition, p.gap, p.gap - coalesce(l.records, 0) AS fresh
    FROM whatsapp_gateway.progress p
    LEFT JOIN whatsapp_gateway.sync_lost l USING (consumer, topic, partition)
    WHERE p.consumer = 'messages' AND p.topic = ANY ($2::text[]) AND p.gap > coalesce(l.records, 0)
), noted AS (
    INSERT INTO whatsapp_gateway.sync_lost (consumer, topic, partition, records)
    SELECT consumer, topic, partition, gap FROM lost
    ON CONFLICT (consumer, topic, partition) DO UPDATE SET records = excluded.records
)
INSERT INTO whatsapp_gateway.sync_gaps (session, chat, cause, since_s, until_s, evidence)
SELECT s.name, 'all', 'lost_records', floor(extract(epoch FROM now()) - $1)::bigint, floor(extract(epoch FROM now()))::bigint,
       json_build_object('records', l.records)::text
FROM whatsapp_gateway.sessions s, (SELECT sum(fresh) AS records FROM lost HAVING count(*) > 0) l
ON CONFLICT DO NOTHING;

-- name: find_not_working
-- From the moment at which a session stopped working until it worked again, within the last $1 seconds.
INSERT INTO whatsapp_gateway.sync_gaps (session, chat, cause, since_s, until_s, evidence)
SELECT session, 'all', 'not_working', extract(epoch FROM since)::bigint, extract(epoch FROM until)::bigint,
       json_build_object('statuses', statuses)::text
FROM (
    SELECT session, min(at) AS since, until, array_agg(DISTINCT status ORDER BY status) AS statuses
    FROM (
        SELECT s.name AS session, h.status, h.at,
               (SELECT min(w.at) FROM whatsapp_gateway.session_status w
                WHERE w.session_id = h.session_id AND w.status = 'WORKING' AND w.at > h.at) AS until,
               (SELECT max(w.at) FROM whatsapp_gateway.session_status w
                WHERE w.session_id = h.session_id AND w.status = 'WORKING' AND w.at < h.at) AS worked
        FROM whatsapp_gateway.session_status h JOIN whatsapp_gateway.sessions s ON s.id = h.session_id
        WHERE h.status <> 'WORKING' AND h.at > now() - make_interval(secs => $1)
    ) away
    WHERE until IS NOT NULL AND worked IS NOT NULL
    GROUP BY session, until
) found
ON CONFLICT DO NOTHING;

-- name: find_unknown_quotes
-- Messages of the last hour that answer one that is not there under any id of the chat. It was written before: how long before,
-- nobody says, so at most $1 seconds. One gap a chat and day.
INSERT INTO whatsapp_gateway.sync_gaps (session, chat, cause, since_s, until_s, evidence)
SELECT s.name, j.jid, 'unknown_quote', (extract(epoch FROM date_trunc('day', now(), 'UTC')) - $1)::bigint,
       extract(epoch FROM max(m.ts))::bigint, json_build_object('answers', count(*))::text
FROM whatsapp_gateway.chat_latest l
JOIN whatsapp_gateway.message_content m ON m.chat_id = l.chat_id AND m.ts > now() - interval '1 hour'
CROSS JOIN whatsapp_gateway.installation i
JOIN whatsapp_gateway.sessions s ON s.id = l.session_id
JOIN whatsapp_gateway.jids j ON j.id = m.chat_id
CROSS JOIN LATERAL (
    SELECT left(encode(sha256(i.hash_key || '\x00'::bytea || convert_to(m.reply_to, 'UTF8')), 'hex'), 20) AS raw
) quoted
WHERE l.minute_at > now() - interval '1 hour' AND m.reply_to IS NOT NULL AND NOT EXISTS (
    SELECT FROM whatsapp_gateway.message_keys k
    WHERE k.chat_id IN (SELECT m.chat_id
                        UNION SELECT lid_id FROM whatsapp_gateway.identities WHERE phone_id = m.chat_id AND NOT fallen
                        UNION SELECT phone_id FROM whatsapp_gateway.identities WHERE lid_id = m.chat_id AND NOT fallen)
      AND k.key BETWEEN (quoted.raw || '000000000000')::uuid AND (quoted.raw || 'ffffffffffff')::uuid)
GROUP BY s.name, j.jid
ON CONFLICT DO NOTHING;

-- name: find_unknown_reactions
-- Reactions of the last hour, told by webhook, to a message that is not there under any id of the chat. A minute is left for
-- a message that comes after what is said of it. Window as of quotes; one gap a chat and day.
INSERT INTO whatsapp_gateway.sync_gaps (session, chat, cause, since_s, until_s, evidence)
SELECT s.name, j.jid, 'unknown_reaction', (extract(epoch FROM date_trunc('day', now(), 'UTC')) - $1)::bigint,
       extract(epoch FROM max(r.at))::bigint, json_build_object('reactions', count(*))::text
FROM whatsapp_gateway.reactions r
JOIN whatsapp_gateway.jids j ON j.id = r.chat_id
JOIN whatsapp_gateway.sessions s ON s.id = j.session_id
CROSS JOIN LATERAL (SELECT left(replace(r.key::text, '-', ''), 20) AS raw) reacted
WHERE r.at BETWEEN now() - interval '1 hour' AND now() - interval '1 minute' AND r.event_id <> '' AND NOT EXISTS (
    SELECT FROM whatsapp_gateway.message_keys k
    WHERE k.chat_id IN (SELECT r.chat_id
                        UNION SELECT lid_id FROM whatsapp_gateway.identities WHERE phone_id = r.chat_id AND NOT fallen
                        UNION SELECT phone_id FROM whatsapp_gateway.identities WHERE lid_id = r.chat_id AND NOT fallen)
      AND k.key BETWEEN (reacted.raw || '000000000000')::uuid AND (reacted.raw || 'ffffffffffff')::uuid)
GROUP BY s.name, j.jid
ON CONFLICT DO NOTHING;

-- name: note_missed
-- A look-back found what no webhook had brought. Of one that was spread, the requests of its chats say so.
INSERT INTO whatsapp_gateway.sync_gaps
    (session, chat, cause, since_s, until_s, evidence, status, request_id, found, closed_at)
SELECT session, chat, 'missed', since_s, until_s, json_build_object('seen', seen)::text, 'closed', request_id, new, now()
FROM whatsapp_gateway.sync_state
WHERE status = 'completed' AND reason = 'periodic' AND kind = 'messages' AND NOT spread AND new > 0 AND finished_at > now() - interval '1 day'
ON CONFLICT DO NOTHING;

-- name: open_gaps
-- What nobody has asked for yet.
SELECT id, session, chat, since_s, until_s FROM whatsapp_gateway.sync_gaps WHERE status = 'open' ORDER BY id LIMIT 200;

-- name: requested
UPDATE whatsapp_gateway.sync_gaps SET status = 'requested', request_id = $2 WHERE id = $1 AND status = 'open';

-- name: settle
-- Closed by its own request, or by another that was made after it and saw all of it.
UPDATE whatsapp_gateway.sync_gaps g
SET status = CASE s.status WHEN 'completed' THEN 'closed' ELSE 'failed' END, found = s.new, closed_at = s.finished_at
FROM whatsapp_gateway.sync_state s
WHERE g.status IN ('open', 'requested', 'failed') AND s.session = g.session AND s.kind = 'messages'
  AND ((s.request_id = g.request_id AND s.status IN ('completed', 'failed') AND g.status <> s.status
        AND NOT (g.status = 'failed' AND s.status = 'failed'))
       OR (s.status = 'completed' AND s.chat IN ('all', g.chat) AND s.created_at > g.created_at
           AND s.since_s <= g.since_s AND s.until_s >= g.until_s));

-- name: count_gaps
SELECT cause, count(*) AS gaps FROM whatsapp_gateway.sync_gaps WHERE status <> 'closed' GROUP BY cause;

-- name: covered
-- What was fetched of a session ($1) and, when $2 is given, of a chat under all its ids: the requests that say something of it. A session is not
-- complete while a request for one of its chats is open or failed. What a chat's own request saw is not counted once more with the one
-- that was spread.
SELECT chat, reason, status, error, since_s, until_s, finished_at, CASE WHEN spread AND $2::text IS NOT NULL THEN 0 ELSE seen END AS seen,
       CASE WHEN spread AND $2::text IS NOT NULL THEN 0 ELSE new END AS new
FROM whatsapp_gateway.sync_state
WHERE session = $1 AND kind = 'messages' AND (chat = 'all' OR chat = $2 OR ($2::text IS NULL AND status <> 'completed')
       OR chat IN (SELECT o.jid
                   FROM whatsapp_gateway.sessions s
                   JOIN whatsapp_gateway.jids j ON j.session_id = s.id AND j.jid = $2
                   JOIN whatsapp_gateway.identities i ON NOT i.fallen AND j.id IN (i.lid_id, i.phone_id)
                   JOIN whatsapp_gateway.jids o ON o.id IN (i.lid_id, i.phone_id)
                   WHERE s.name = $1))
  AND status <> 'stopped'
ORDER BY id DESC LIMIT 1000;

-- name: of_page
-- Of a chat under all its ids ($2), between two seconds: whether completed requests saw all of it (as far as the newest one
-- looked: later messages come by webhook), whether one that did not get there matters, and the gaps that are not closed.
WITH runs AS (
    SELECT status, int8range(since_s, until_s, '[]') AS span
    FROM whatsapp_gateway.sync_state
    WHERE session = $1 AND kind = 'messages' AND (chat = 'all' OR chat = ANY ($2::text[])) AND status <> 'stopped'
      AND until_s >= $3
), seen AS (
    SELECT coalesce(range_agg(span), '{}'::int8multirange) AS spans FROM runs WHERE status = 'completed'
)
SELECT s.spans @> int8range($3, greatest($3, least($4, upper(s.spans) - 1)), '[]') AS covered,
       EXISTS (SELECT FROM runs r WHERE r.status <> 'completed' AND r.span && int8range($3, $4, '[]') AND NOT s.spans @> r.span)
           AS unfinished,
       (SELECT coalesce(json_agg(json_build_object('chat', g.chat, 'cause', g.cause, 'since_s', g.since_s, 'until_s', g.until_s,
                                                   'status', g.status) ORDER BY g.id DESC), '[]')
        FROM whatsapp_gateway.sync_gaps g
        WHERE g.session = $1 AND g.status <> 'closed' AND (g.chat = 'all' OR g.chat = ANY ($2::text[]))
          AND g.since_s <= $4 AND g.until_s >= $3) AS gaps
FROM seen s;

-- name: gaps
-- Of a session, and of a chat when $2 is given; the newest first.
SELECT id, chat, cause, since_s, until_s, status, found, evidence, created_at, closed_at
FROM whatsapp_gateway.sync_gaps
WHERE session = $1 AND (chat = 'all' OR $2::text IS NULL OR chat = $2) AND ($3 OR status <> 'closed')
ORDER BY id DESC LIMIT $4;

-- name: session_names
SELECT name FROM whatsapp_gateway.sessions
UNION SELECT session FROM whatsapp_gateway.sync_state
ORDER BY 1;
