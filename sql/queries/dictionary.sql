-- name: find_sessions
SELECT name, id FROM whatsapp_gateway.sessions WHERE name = ANY ($1::text[]);

-- name: add_sessions
INSERT INTO whatsapp_gateway.sessions (name) SELECT unnest($1::text[]) ON CONFLICT (name) DO NOTHING;

-- name: find_jids
SELECT j.session_id, j.jid, j.id
FROM unnest($1::int[], $2::text[]) AS x (session_id, jid)
JOIN whatsapp_gateway.jids j ON j.session_id = x.session_id AND j.jid = x.jid;

-- name: add_jids
INSERT INTO whatsapp_gateway.jids (session_id, jid)
SELECT x.session_id, x.jid FROM unnest($1::int[], $2::text[]) AS x (session_id, jid)
ON CONFLICT (session_id, jid) DO NOTHING;
