-- name: stage
-- Times are staged as Unix milliseconds.
CREATE TEMP TABLE IF NOT EXISTS stage_acks (
    chat_id integer NOT NULL, key uuid NOT NULL, recipient_id integer NOT NULL, level smallint NOT NULL,
    server_ms bigint, device_ms bigint, read_ms bigint, played_ms bigint, origin smallint NOT NULL
) ON COMMIT DROP;
DELETE FROM stage_acks;

-- name: merge
-- A row is rewritten only when something really changed.
WITH changed AS (
    INSERT INTO whatsapp_gateway.message_acks AS a (chat_id, key, recipient_id, level, server_at, device_at, read_at, played_at)
    SELECT chat_id, key, recipient_id, level, to_timestamp(server_ms / 1000.0), to_timestamp(device_ms / 1000.0),
           to_timestamp(read_ms / 1000.0), to_timestamp(played_ms / 1000.0)
    FROM stage_acks
    ON CONFLICT (chat_id, key, recipient_id) DO UPDATE
    SET level = greatest(a.level, excluded.level), server_at = least(a.server_at, excluded.server_at), device_at = least(a.device_at, excluded.device_at),
        read_at = least(a.read_at, excluded.read_at), played_at = least(a.played_at, excluded.played_at)
    WHERE excluded.level > a.level
       OR excluded.server_at < coalesce(a.server_at, 'infinity')
       OR excluded.device_at < coalesce(a.device_at, 'infinity')
       OR excluded.read_at < coalesce(a.read_at, 'infinity')
       OR excluded.played_at < coalesce(a.played_at, 'infinity')
    RETURNING a.chat_id, a.key, a.recipient_id
)
SELECT origin, count(*) AS written FROM changed JOIN stage_acks USING (chat_id, key, recipient_id)
WHERE origin >= 0 GROUP BY origin;
