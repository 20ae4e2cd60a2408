-- What the query API reads. Keyset paging only; message_content is read inside a window of time, so that a hypertable
-- opens a few chunks and not all of them. Tables are named with their schema: PgBouncer keeps no search_path.

-- name: ready
SELECT max(number) FROM whatsapp_gateway.schema_migrations;

-- name: session_and_chats
-- A session, its account, and those of the given ids that it has met.
SELECT s.id AS session_id, s.me_at, s.me, s.me_lid, s.me_push_name, j.id AS chat_id, j.jid
FROM whatsapp_gateway.sessions s
LEFT JOIN whatsapp_gateway.jids j ON j.session_id = s.id AND j.jid = ANY ($2)
WHERE s.name = $1;

-- name: messages
-- One chat ($1: all ids that it is known by) before the place ($2, $3, $4, $5), newest first, inside a window of whole
-- days. The window's bounds are put into the text ({lower}, {upper}): TimescaleDB excludes chunks by constants while it
-- plans, and not by parameters.
SELECT m.*, f.jid AS sender, p.jid AS participant
FROM (
    SELECT c.*
    FROM unnest($1::int[]) AS chat (id), LATERAL (
        SELECT *
        FROM whatsapp_gateway.message_content
        WHERE chat_id = chat.id AND ts >= '{lower}' AND ts < '{upper}'
          AND (ts, received_at, key, chat_id) < ($2, $3, $4, $5)
        ORDER BY ts DESC, received_at DESC, key DESC
        LIMIT $6
    ) c
    ORDER BY c.ts DESC, c.received_at DESC, c.key DESC, c.chat_id DESC
    LIMIT $6
) m
LEFT JOIN whatsapp_gateway.jids f ON f.id = m.sender_id
LEFT JOIN whatsapp_gateway.jids p ON p.id = m.participant_id
ORDER BY m.ts DESC, m.received_at DESC, m.key DESC, m.chat_id DESC;

-- name: sessions
SELECT name, status, status_at, me, me_lid, me_push_name, engine, waha_version, last_event_at
FROM whatsapp_gateway.sessions
WHERE name > $1
ORDER BY name
LIMIT $2;

-- name: hash_key
SELECT hash_key FROM whatsapp_gateway.installation;

-- name: keys
-- All messages that have one of these raw ids: a raw id is a range of keys, whoever the author is (schemas/keys.py). OFFSET 0: as
-- in `facts`.
SELECT k.*
FROM unnest($1::int[], $2::uuid[], $3::uuid[]) AS r (chat_id, low, high), LATERAL (
    SELECT chat_id, key, rank, ts, first_at FROM whatsapp_gateway.message_keys
    WHERE chat_id = r.chat_id AND key BETWEEN r.low AND r.high OFFSET 0
) k;

-- name: content
SELECT m.*, f.jid AS sender, p.jid AS participant
FROM whatsapp_gateway.message_content m
LEFT JOIN whatsapp_gateway.jids f ON f.id = m.sender_id
LEFT JOIN whatsapp_gateway.jids p ON p.id = m.participant_id
WHERE m.chat_id = $1 AND m.ts = $2 AND m.key = $3;

-- name: facts
-- Everything said of all messages that have one of these raw ids, in one round trip: a raw id is a range of keys, whoever
-- the author is (schemas/keys.py). Of every table but `keys` the columns are: chat, key, whose it is as jids.id, the rest
-- of the row's key as text, and what the table says. OFFSET 0 keeps a subquery one: joined, the planner takes a range
-- for a ninth of the table and reads all of it.
WITH places AS (SELECT * FROM unnest($1::int[], $2::uuid[], $3::uuid[]) AS r (chat_id, low, high))
SELECT
    ARRAY (
        SELECT ROW (f.chat_id, f.key, f.rank, f.ts, f.first_at)
        FROM places, LATERAL (
            SELECT * FROM whatsapp_gateway.message_keys
            WHERE chat_id = places.chat_id AND key BETWEEN places.low AND places.high OFFSET 0
        ) f
    ) AS keys,
    ARRAY (
        SELECT ROW (f.chat_id, f.key, f.recipient_id, (SELECT jid FROM whatsapp_gateway.jids WHERE id = f.recipient_id),
                    f.level, f.server_at, f.device_at, f.read_at, f.played_at)
        FROM places, LATERAL (
            SELECT * FROM whatsapp_gateway.message_acks
            WHERE chat_id = places.chat_id AND key BETWEEN places.low AND places.high OFFSET 0
        ) f
    ) AS acks,
    ARRAY (
        SELECT ROW (f.chat_id, f.key, NULL, f.edit_id, f.at, f.event_id, f.body, f.body_before)
        FROM places, LATERAL (
            SELECT * FROM whatsapp_gateway.message_edits
            WHERE chat_id = places.chat_id AND key BETWEEN places.low AND places.high OFFSET 0
        ) f
    ) AS edits,
    ARRAY (
        SELECT ROW (f.chat_id, f.key, f.by_id, (SELECT jid FROM whatsapp_gateway.jids WHERE id = f.by_id),
                    f.at, f.event_id, f.body_before)
        FROM places, LATERAL (
            SELECT * FROM whatsapp_gateway.message_revokes
            WHERE chat_id = places.chat_id AND key BETWEEN places.low AND places.high OFFSET 0
        ) f
    ) AS revokes,
    ARRAY (
        SELECT ROW (f.chat_id, f.key, f.by_id, (SELECT jid FROM whatsapp_gateway.jids WHERE id = f.by_id),
                    f.at, f.event_id, f.emoji)
        FROM places, LATERAL (
            SELECT * FROM whatsapp_gateway.reactions
            WHERE chat_id = places.chat_id AND key BETWEEN places.low AND places.high OFFSET 0
        ) f
    ) AS reactions,
    ARRAY (
        SELECT ROW (f.chat_id, f.key, f.voter_id, (SELECT jid FROM whatsapp_gateway.jids WHERE id = f.voter_id),
                    f.at, f.event_id, f.failed_at, f.options)
        FROM places, LATERAL (
            SELECT * FROM whatsapp_gateway.poll_votes
            WHERE chat_id = places.chat_id AND key BETWEEN places.low AND places.high OFFSET 0
        ) f
    ) AS votes,
    ARRAY (
        SELECT ROW (f.chat_id, f.key, f.by_id, (SELECT jid FROM whatsapp_gateway.jids WHERE id = f.by_id),
                    f.at, f.event_id, f.failed_at, f.response, f.guests)
        FROM places, LATERAL (
            SELECT * FROM whatsapp_gateway.event_responses
            WHERE chat_id = places.chat_id AND key BETWEEN places.low AND places.high OFFSET 0
        ) f
    ) AS responses;

-- name: identities
-- What was said of these ids ($1) and of those they were ever said to be the same as: enough to tell which of it holds.
WITH given AS (
    SELECT unnest($1::int[]) AS id
), near AS (
    SELECT id FROM given
    UNION SELECT i.phone_id FROM given, LATERAL (
        SELECT phone_id FROM whatsapp_gateway.identities WHERE lid_id = given.id OFFSET 0) i
    UNION SELECT i.lid_id FROM given, LATERAL (
        SELECT lid_id FROM whatsapp_gateway.identities WHERE phone_id = given.id OFFSET 0) i
), said AS (
    SELECT i.* FROM near, LATERAL (SELECT * FROM whatsapp_gateway.identities WHERE lid_id = near.id OFFSET 0) i
    UNION
    SELECT i.* FROM near, LATERAL (SELECT * FROM whatsapp_gateway.identities WHERE phone_id = near.id OFFSET 0) i
)
SELECT said.*, (SELECT jid FROM whatsapp_gateway.jids WHERE id = said.lid_id) AS lid,
       (SELECT jid FROM whatsapp_gateway.jids WHERE id = said.phone_id) AS phone
FROM said;

-- name: member_lists
SELECT group_id, at FROM whatsapp_gateway.group_settings WHERE group_id = ANY ($1) AND setting = 'member_list';

-- name: members_of
SELECT m.group_id, m.at, m.event_id, m.role, m.by_jid, j.jid AS person
FROM whatsapp_gateway.group_members m JOIN whatsapp_gateway.jids j ON j.id = m.person_id
WHERE m.group_id = ANY ($1) AND m.person_id = ANY ($2);
