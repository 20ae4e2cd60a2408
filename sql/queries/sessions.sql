-- name: silent
-- Sessions that work by WAHA's word, of which nothing was heard for $1 seconds.
SELECT count(*) FROM whatsapp_gateway.sessions
WHERE status = 'WORKING' AND greatest(status_at, last_event_at) < now() - make_interval(secs => $1);

-- name: stage
CREATE TEMP TABLE IF NOT EXISTS stage_sessions ON COMMIT DROP AS
SELECT name, status_at, status, engine, waha_version, me_at, me, me_lid, me_push_name, last_event_at, 0::smallint AS origin
FROM whatsapp_gateway.sessions WITH NO DATA;
DELETE FROM stage_sessions;

-- name: heard
-- When the last session event of each session came.
SELECT name, last_event_at FROM whatsapp_gateway.sessions WHERE last_event_at IS NOT NULL;
