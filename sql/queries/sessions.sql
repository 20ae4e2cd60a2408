-- name: upsert
-- The greatest (at, status) is shown; what the newest event does not say (me before pairing) stays as it was known.
INSERT INTO whatsapp_gateway.sessions AS s
    (name, status, status_at, me, me_lid, me_push_name, engine, waha_version, last_event_at)
SELECT x.name, x.status, x.at, x.me, x.me_lid, x.me_push_name, x.engine, x.waha_version, x.at
FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])
     AS x (name, status, at, me, me_lid, me_push_name, engine, waha_version)
ORDER BY x.name
ON CONFLICT (name) DO UPDATE
SET status = excluded.status, status_at = excluded.status_at, me = coalesce(excluded.me, s.me),
    me_lid = coalesce(excluded.me_lid, s.me_lid), me_push_name = coalesce(excluded.me_push_name, s.me_push_name),
    engine = coalesce(excluded.engine, s.engine), waha_version = coalesce(excluded.waha_version, s.waha_version),
    last_event_at = excluded.last_event_at
WHERE s.status_at IS NULL OR (excluded.status_at, excluded.status COLLATE "C") > (s.status_at, s.status COLLATE "C")
RETURNING name;
