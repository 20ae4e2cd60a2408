-- name: stage
-- Times are staged as Unix milliseconds.
CREATE TEMP TABLE IF NOT EXISTS stage_messages (
    ts_ms bigint NOT NULL, received_at_ms bigint NOT NULL, "offset" bigint NOT NULL, session_id integer NOT NULL,
    chat_id integer NOT NULL, sender_id integer, participant_id integer, partition smallint NOT NULL,
    lane smallint NOT NULL, key uuid NOT NULL, from_me boolean NOT NULL, has_media boolean NOT NULL, raw_id text NOT NULL,
    type text NOT NULL, body text, reply_to text, source text, push_name text, mimetype text, filename text,
    event_id text, topic text NOT NULL, extra jsonb, rank uuid NOT NULL, first_ms bigint NOT NULL, origin smallint NOT NULL
) ON COMMIT DROP;
DELETE FROM stage_messages;

-- name: heard
-- Sessions of which a live message came are alive: noted to the minute, and left to others where others write the row. The
-- last statement of the transaction: whoever waits for these rows waits for nobody who waits.
UPDATE whatsapp_gateway.sessions s SET last_event_at = due.at
FROM (
    SELECT t.id, h.at
    FROM whatsapp_gateway.sessions t
    JOIN (
        SELECT session_id, to_timestamp(max(received_at_ms) / 1000.0) AS at FROM stage_messages WHERE lane = 0
        GROUP BY session_id
    ) h ON h.session_id = t.id
    WHERE t.last_event_at IS NULL OR t.last_event_at < h.at - interval '1 minute'
    FOR NO KEY UPDATE OF t SKIP LOCKED
) due
WHERE s.id = due.id;

-- name: insert_new
-- New messages: the key table decides, the hypertable follows. The stage holds each key once, sorted by it, so that two
-- writers lock in one order.
WITH fresh AS (
    INSERT INTO whatsapp_gateway.message_keys (chat_id, key, rank, ts, first_at)
    SELECT chat_id, key, rank, to_timestamp(ts_ms / 1000.0), to_timestamp(first_ms / 1000.0) FROM stage_messages
    ON CONFLICT (chat_id, key) DO NOTHING
    RETURNING chat_id, key
), stored AS (
    INSERT INTO whatsapp_gateway.message_content (
        ts, received_at, "offset", session_id, chat_id, sender_id, participant_id, partition, lane, key, from_me,
        has_media, raw_id, type, body, reply_to, source, push_name, mimetype, filename, event_id, topic, extra)
    SELECT to_timestamp(s.ts_ms / 1000.0), to_timestamp(s.received_at_ms / 1000.0), s."offset", s.session_id, s.chat_id, s.sender_id, s.participant_id, s.partition, s.lane,
           s.key, s.from_me, s.has_media, s.raw_id, s.type, s.body, s.reply_to, s.source, s.push_name, s.mimetype,
           s.filename, s.event_id, s.topic, s.extra
    FROM stage_messages s JOIN fresh USING (chat_id, key)
)
SELECT origin, count(*) AS written FROM fresh JOIN stage_messages USING (chat_id, key) WHERE origin >= 0 GROUP BY origin;

-- name: lock_known
-- Known messages that the stage changes: received earlier than anybody knew, or with a better content. Locked here all at
-- once and in one order, so that two writers never wait for each other, and the next statements see what others committed
-- meanwhile.
SELECT count(*) FILTER (WHERE earlier) AS earlier, count(*) FILTER (WHERE better) AS better FROM (
    SELECT to_timestamp(s.first_ms / 1000.0) < k.first_at AS earlier, s.rank < k.rank AS better
    FROM whatsapp_gateway.message_keys k JOIN stage_messages s USING (chat_id, key)
    WHERE s.rank < k.rank OR to_timestamp(s.first_ms / 1000.0) < k.first_at
    ORDER BY k.chat_id, k.key
    FOR UPDATE OF k
) AS locked;

-- name: first_seen
UPDATE whatsapp_gateway.message_keys k SET first_at = to_timestamp(s.first_ms / 1000.0)
FROM stage_messages s
WHERE k.chat_id = s.chat_id AND k.key = s.key AND to_timestamp(s.first_ms / 1000.0) < k.first_at;

-- name: replace_better
-- The better content takes the row's place; its time may differ, so the row may move to another chunk.
WITH better AS (
    SELECT s.*, k.ts AS old_ts
    FROM whatsapp_gateway.message_keys k JOIN stage_messages s USING (chat_id, key)
    WHERE s.rank < k.rank
), gone AS (
    DELETE FROM whatsapp_gateway.message_content m USING better b
    WHERE m.chat_id = b.chat_id AND m.ts = b.old_ts AND m.key = b.key
), moved AS (
    UPDATE whatsapp_gateway.message_keys k SET rank = b.rank, ts = to_timestamp(b.ts_ms / 1000.0)
    FROM better b WHERE k.chat_id = b.chat_id AND k.key = b.key
)
INSERT INTO whatsapp_gateway.message_content (
    ts, received_at, "offset", session_id, chat_id, sender_id, participant_id, partition, lane, key, from_me,
    has_media, raw_id, type, body, reply_to, source, push_name, mimetype, filename, event_id, topic, extra)
SELECT to_timestamp(ts_ms / 1000.0), to_timestamp(received_at_ms / 1000.0), "offset", session_id, chat_id, sender_id,
       participant_id, partition, lane, key, from_me, has_media, raw_id, type, body, reply_to, source, push_name, mimetype, filename, event_id, topic, extra
FROM better;
