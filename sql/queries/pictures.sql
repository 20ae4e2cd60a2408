-- Profile pictures: which contact is next, and what came of it.

-- name: note_new
-- Contacts met in the last $1 seconds that nobody has asked for: they are due before all others. A hidden id whose number is
-- known is asked by its number. Reads all contacts of that time.
INSERT INTO whatsapp_gateway.profile_pictures (contact_id, next_at)
SELECT c.contact_id, '-infinity'
FROM whatsapp_gateway.contacts_seen c
JOIN whatsapp_gateway.jids j ON j.id = c.contact_id
LEFT JOIN whatsapp_gateway.profile_pictures p USING (contact_id)
WHERE c.last_seen_at > now() - make_interval(secs => $1) AND p.contact_id IS NULL
  AND (j.jid LIKE '%@c.us' OR j.jid LIKE '%@g.us' OR (j.jid LIKE '%@lid' AND NOT EXISTS (
          SELECT FROM whatsapp_gateway.identities i WHERE i.lid_id = c.contact_id AND NOT i.fallen)))
ON CONFLICT DO NOTHING;

-- name: take
-- The contact whose picture is due for longest; whoever takes it has ten minutes. Not `wanted`: it was not met in the last $1
-- seconds, or its number is known meanwhile; that is looked at again in a day.
WITH due AS (
    SELECT contact_id FROM whatsapp_gateway.profile_pictures
    WHERE next_at <= now() ORDER BY next_at, contact_id LIMIT 1 FOR UPDATE SKIP LOCKED
), judged AS (
    SELECT due.contact_id, j.jid, s.name AS session,
           c.last_seen_at > now() - make_interval(secs => $1) AND NOT (j.jid LIKE '%@lid' AND EXISTS (
               SELECT FROM whatsapp_gateway.identities i WHERE i.lid_id = due.contact_id AND NOT i.fallen)) AS wanted
    FROM due
    JOIN whatsapp_gateway.contacts_seen c USING (contact_id)
    JOIN whatsapp_gateway.jids j ON j.id = due.contact_id
    JOIN whatsapp_gateway.sessions s ON s.id = j.session_id
)
UPDATE whatsapp_gateway.profile_pictures p
SET next_at = now() + CASE WHEN judged.wanted THEN interval '10 minutes' ELSE interval '1 day' END
FROM judged WHERE p.contact_id = judged.contact_id
RETURNING p.contact_id, judged.jid, judged.session, judged.wanted;

-- name: store
-- The bucket has the picture $2 of the contact $1; next in $4 seconds. Nothing: a sweep came in between. Answers whether
-- it is another one than before.
WITH object AS (
    UPDATE whatsapp_gateway.media_objects o
    SET stored_at = coalesce(o.stored_at, now()), claimed_at = clock_timestamp()
    WHERE o.sha256 = $2 AND o.swept = $3
    RETURNING o.sha256
), before AS (
    SELECT sha256 FROM whatsapp_gateway.profile_pictures WHERE contact_id = $1
)
UPDATE whatsapp_gateway.profile_pictures p
SET sha256 = object.sha256, asked_at = now(), next_at = now() + make_interval(secs => $4), last_error = NULL,
    changed_at = CASE WHEN p.sha256 = object.sha256 THEN p.changed_at ELSE now() END
FROM object, before
WHERE p.contact_id = $1
RETURNING before.sha256 IS DISTINCT FROM object.sha256 AS changed;

-- name: none
-- The contact $1 has no picture, or shows it to nobody; next in $2 seconds.
UPDATE whatsapp_gateway.profile_pictures
SET changed_at = CASE WHEN sha256 IS NULL THEN changed_at ELSE now() END, sha256 = NULL, asked_at = now(),
    next_at = now() + make_interval(secs => $2), last_error = NULL
WHERE contact_id = $1;

-- name: failed
-- $3 happened; the picture that was there stays. Next in $2 seconds.
UPDATE whatsapp_gateway.profile_pictures
SET asked_at = now(), next_at = now() + make_interval(secs => $2), last_error = $3
WHERE contact_id = $1;

-- name: of_contacts
SELECT contact_id FROM whatsapp_gateway.profile_pictures
WHERE contact_id = ANY ($1) AND sha256 IS NOT NULL;

-- name: of_contact
-- With what is known of its bytes.
SELECT p.sha256, p.asked_at, o.mimetype, o.extension, o.bytes
FROM whatsapp_gateway.profile_pictures p JOIN whatsapp_gateway.media_objects o USING (sha256)
WHERE p.contact_id = ANY ($1)
ORDER BY p.asked_at DESC LIMIT 1;

-- name: contact
SELECT id, jid FROM whatsapp_gateway.jids WHERE session_id = $1 AND jid = $2;
