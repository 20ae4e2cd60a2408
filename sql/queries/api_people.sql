-- What the query API reads of people, groups, calls and lists of chats. Keyset paging only; verdicts are schemas.law's.

-- name: contacts
SELECT j.id, j.jid
FROM whatsapp_gateway.jids j JOIN whatsapp_gateway.contacts_seen c ON c.contact_id = j.id
WHERE j.session_id = $1 AND j.jid > $2
ORDER BY j.jid
LIMIT $3;

-- name: contacts_like
-- Those whose names or number have the text $4 (lower case) or the digits $5, and everybody who was ever said to be one of
-- them: who is, is decided later. Looks through the session's names and ids: an infix has no order that an index could have.
WITH named AS (
    SELECT j.id FROM whatsapp_gateway.jids j JOIN whatsapp_gateway.contact_names n ON n.contact_id = j.id
    WHERE j.session_id = $1 AND strpos(lower(n.name), $4) > 0
    UNION
    SELECT j.id FROM whatsapp_gateway.jids j JOIN whatsapp_gateway.group_settings g ON g.group_id = j.id
    WHERE j.session_id = $1 AND g.setting = 'subject' AND strpos(lower(g.value::json #>> '{}'), $4) > 0
    UNION
    SELECT j.id FROM whatsapp_gateway.jids j
    WHERE j.session_id = $1 AND $5 <> '' AND strpos(split_part(j.jid, '@', 1), $5) > 0
), hits AS (
    SELECT id FROM named
    UNION SELECT i.phone_id FROM whatsapp_gateway.identities i JOIN named ON named.id = i.lid_id
    UNION SELECT i.lid_id FROM whatsapp_gateway.identities i JOIN named ON named.id = i.phone_id
)
SELECT j.id, j.jid
FROM hits JOIN whatsapp_gateway.jids j USING (id) JOIN whatsapp_gateway.contacts_seen c ON c.contact_id = j.id
WHERE j.jid > $2
ORDER BY j.jid
LIMIT $3;

-- name: seen
SELECT contact_id, is_me, first_seen_at, last_seen_at FROM whatsapp_gateway.contacts_seen WHERE contact_id = ANY ($1);

-- name: names
SELECT contact_id, source, name, first_at, last_at FROM whatsapp_gateway.contact_names WHERE contact_id = ANY ($1);

-- name: groups
SELECT id, jid FROM whatsapp_gateway.jids
WHERE session_id = $1 AND jid LIKE '%@g.us' AND jid > $2
ORDER BY jid
LIMIT $3;

-- name: settings
-- Each setting as it was told last by then.
SELECT DISTINCT ON (group_id, setting) group_id, setting, at, event_id, value
FROM whatsapp_gateway.group_settings
WHERE group_id = ANY ($1) AND at <= $2
ORDER BY group_id, setting, at DESC;

-- name: roles
-- The newest role of each id that was told by then: enough to tell who is in.
SELECT DISTINCT ON (m.group_id, m.person_id) m.group_id, m.person_id, m.at, m.event_id, m.role, m.by_jid, j.jid AS person
FROM whatsapp_gateway.group_members m JOIN whatsapp_gateway.jids j ON j.id = m.person_id
WHERE m.group_id = ANY ($1) AND m.at <= $2
ORDER BY m.group_id, m.person_id, m.at DESC;

-- name: all_roles
SELECT m.group_id, m.person_id, m.at, m.event_id, m.role, m.by_jid, j.jid AS person
FROM whatsapp_gateway.group_members m JOIN whatsapp_gateway.jids j ON j.id = m.person_id
WHERE m.group_id = ANY ($1) AND m.at <= $2;

-- name: lists
SELECT group_id, at FROM whatsapp_gateway.group_settings
WHERE group_id = ANY ($1) AND setting = 'member_list' AND at <= $2;

-- name: calls
SELECT least(received_at, accepted_at, rejected_at) AS first_at, call_id, caller_id
FROM whatsapp_gateway.calls
WHERE session_id = $1
  AND (least(received_at, accepted_at, rejected_at), call_id COLLATE "C", caller_id) < ($2, $3 COLLATE "C", $4)
ORDER BY least(received_at, accepted_at, rejected_at) DESC, call_id COLLATE "C" DESC, caller_id DESC
LIMIT $5;

-- name: calls_of
-- Everything that is said of these calls, whoever made them.
SELECT c.*, j.jid AS caller
FROM whatsapp_gateway.calls c LEFT JOIN whatsapp_gateway.jids j ON j.id = c.caller_id
WHERE c.session_id = $1 AND c.call_id = ANY ($2);

-- name: chats
SELECT l.chat_id, l.minute_at, j.jid
FROM whatsapp_gateway.chat_latest l JOIN whatsapp_gateway.jids j ON j.id = l.chat_id
WHERE l.session_id = $1 AND (l.minute_at, l.chat_id) < ($2, $3)
ORDER BY l.minute_at DESC, l.chat_id DESC
LIMIT $4;

-- name: latest
SELECT chat_id, minute_at FROM whatsapp_gateway.chat_latest WHERE chat_id = ANY ($1);

-- name: last_messages
-- The newest message of each chat inside a window; for its bounds see `messages` in api.sql.
SELECT m.*, f.jid AS sender, p.jid AS participant
FROM unnest($1::int[]) AS chat (id), LATERAL (
    SELECT * FROM whatsapp_gateway.message_content
    WHERE chat_id = chat.id AND ts >= '{lower}' AND ts < '{upper}'
    ORDER BY ts DESC, received_at DESC, key DESC
    LIMIT 1
) m
LEFT JOIN whatsapp_gateway.jids f ON f.id = m.sender_id
LEFT JOIN whatsapp_gateway.jids p ON p.id = m.participant_id;

-- name: newest
-- The newest messages of each chat since a time of its own ($2), and whether they show that the account read until there:
-- it wrote them, or they are acknowledged as read (4 and more).
SELECT m.*
FROM unnest($1::int[], $2::timestamptz[]) AS chat (id, since), LATERAL (
    SELECT c.chat_id, c.ts, c.received_at, c.key,
           c.from_me OR EXISTS (
               SELECT FROM whatsapp_gateway.message_acks a
               WHERE a.chat_id = c.chat_id AND a.key = c.key AND a.level >= 4) AS reached
    FROM whatsapp_gateway.message_content c
    WHERE c.chat_id = chat.id AND c.ts >= '{lower}' AND c.ts < '{upper}' AND c.ts >= chat.since
    ORDER BY c.ts DESC, c.received_at DESC, c.key DESC
    LIMIT $3
) m;

-- name: chat_labels
SELECT chat_id, label_id, at, event_id, carried FROM whatsapp_gateway.chat_labels WHERE chat_id = ANY ($1);

-- name: labels
SELECT * FROM whatsapp_gateway.labels WHERE session_id = $1 AND label_id = ANY ($2);

-- name: archive
SELECT chat_id, at, event_id, archived FROM whatsapp_gateway.chat_archive WHERE chat_id = ANY ($1);
