-- What the query API reads. Keyset paging only; message_content is read inside a window of time, so that a hypertable
-- opens a few chunks and not all of them. Tables are named with their schema: PgBouncer keeps no search_path.

-- name: ready
SELECT max(number) FROM whatsapp_gateway.schema_migrations;

-- name: session
SELECT id FROM whatsapp_gateway.sessions WHERE name = $1;

-- name: session_and_chat
SELECT s.id AS session_id, j.id AS chat_id
FROM whatsapp_gateway.sessions s
LEFT JOIN whatsapp_gateway.jids j ON j.session_id = s.id AND j.jid = $2
WHERE s.name = $1;

-- name: messages
-- One chat ($1) before the place ($2, $3, $4), newest first, inside a window of whole days. The window's bounds are put
-- into the text ({lower}, {upper}): TimescaleDB excludes chunks by constants while it plans, and not by parameters.
SELECT m.ts, m.received_at, m.key, m.from_me, m.raw_id, m.type, m.body, m.reply_to, m.source, m.push_name,
       m.has_media, m.mimetype, m.filename, m.extra, f.jid AS sender, p.jid AS participant
FROM (
    SELECT *
    FROM whatsapp_gateway.message_content
    WHERE chat_id = $1 AND ts >= '{lower}' AND ts < '{upper}' AND (ts, received_at, key) < ($2, $3, $4)
    ORDER BY ts DESC, received_at DESC, key DESC
    LIMIT $5
) m
LEFT JOIN whatsapp_gateway.jids f ON f.id = m.sender_id
LEFT JOIN whatsapp_gateway.jids p ON p.id = m.participant_id
ORDER BY m.ts DESC, m.received_at DESC, m.key DESC;

-- name: contacts
SELECT jid, push_name, is_group, is_me, first_seen_at, last_seen_at
FROM whatsapp_gateway.contacts
WHERE session_id = $1 AND jid > $2
ORDER BY jid
LIMIT $3;

-- name: sessions
SELECT name, status, status_at, me, me_lid, me_push_name, engine, waha_version, last_event_at
FROM whatsapp_gateway.sessions
WHERE name > $1
ORDER BY name
LIMIT $2;
