-- name: silent
-- Sessions that work by WAHA's word, of which nothing was heard for $1 seconds.
SELECT count(*) FROM whatsapp_gateway.sessions
WHERE status = 'WORKING' AND greatest(status_at, last_event_at) < now() - make_interval(secs => $1);

-- name: upsert
-- Two registers, each won by its newest event (ties: the greater text): the state, and the account, which events before
-- pairing do not name.
INSERT INTO whatsapp_gateway.sessions AS s
    (name, status, status_at, engine, waha_version, last_event_at, me_at, me, me_lid, me_push_name)
SELECT x.name, x.status, x.at, x.engine, x.waha_version, x.at, x.me_at, x.me, x.me_lid, x.me_push_name
FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::timestamptz[], $7::text[], $8::text[],
            $9::text[]) AS x (name, status, at, engine, waha_version, me_at, me, me_lid, me_push_name)
ORDER BY x.name
ON CONFLICT (name) DO UPDATE
SET last_event_at = greatest(s.last_event_at, excluded.last_event_at),
    (status, status_at, engine, waha_version) = (
        SELECT n.status, n.status_at, n.engine, n.waha_version
        FROM (VALUES (excluded.status, excluded.status_at, excluded.engine, excluded.waha_version),
                     (s.status, s.status_at, s.engine, s.waha_version)) AS n (status, status_at, engine, waha_version)
        ORDER BY n.status_at DESC NULLS LAST, n.status COLLATE "C" DESC NULLS LAST,
                 coalesce(n.engine, '') COLLATE "C" DESC, coalesce(n.waha_version, '') COLLATE "C" DESC LIMIT 1),
    (me_at, me, me_lid, me_push_name) = (
        SELECT n.me_at, n.me, n.me_lid, n.me_push_name
        FROM (VALUES (excluded.me_at, excluded.me, excluded.me_lid, excluded.me_push_name),
                     (s.me_at, s.me, s.me_lid, s.me_push_name)) AS n (me_at, me, me_lid, me_push_name)
        ORDER BY n.me_at DESC NULLS LAST, n.me COLLATE "C" DESC NULLS LAST, coalesce(n.me_lid, '') COLLATE "C" DESC,
                 coalesce(n.me_push_name, '') COLLATE "C" DESC LIMIT 1)
WHERE -- a row is rewritten only when one of its registers is won anew
      (coalesce(excluded.status_at, '-infinity'), coalesce(excluded.status, '') COLLATE "C", coalesce(excluded.engine, '') COLLATE "C", coalesce(excluded.waha_version, '') COLLATE "C")
      > (coalesce(s.status_at, '-infinity'), coalesce(s.status, '') COLLATE "C", coalesce(s.engine, '') COLLATE "C", coalesce(s.waha_version, '') COLLATE "C")
   OR (coalesce(excluded.me_at, '-infinity'), coalesce(excluded.me, '') COLLATE "C", coalesce(excluded.me_lid, '') COLLATE "C", coalesce(excluded.me_push_name, '') COLLATE "C")
      > (coalesce(s.me_at, '-infinity'), coalesce(s.me, '') COLLATE "C", coalesce(s.me_lid, '') COLLATE "C", coalesce(s.me_push_name, '') COLLATE "C")
RETURNING name;
