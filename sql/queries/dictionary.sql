-- name: hash_key
SELECT hash_key FROM whatsapp_gateway.installation;

-- name: sessions
WITH added AS (
    INSERT INTO whatsapp_gateway.sessions (name) SELECT unnest($1::text[]) ON CONFLICT (name) DO NOTHING
    RETURNING name, id
)
SELECT name, id FROM added UNION ALL SELECT name, id FROM whatsapp_gateway.sessions WHERE name = ANY ($1::text[]);

-- name: jids
WITH wanted AS (
    SELECT * FROM unnest($1::int[], $2::text[]) AS x (session_id, jid)
), added AS (
    INSERT INTO whatsapp_gateway.jids (session_id, jid) SELECT session_id, jid FROM wanted
    ON CONFLICT (session_id, jid) DO NOTHING
    RETURNING session_id, jid, id
)
SELECT session_id, jid, id FROM added
UNION ALL SELECT j.session_id, j.jid, j.id FROM wanted JOIN whatsapp_gateway.jids j USING (session_id, jid);
