-- name: stage
CREATE TEMP TABLE IF NOT EXISTS stage_messages (LIKE whatsapp_gateway.message_content, rank uuid NOT NULL) ON COMMIT DROP;
DELETE FROM stage_messages;

-- name: insert_new
-- New messages: the key table decides, the hypertable follows. The stage holds each key once, sorted by it, so that two
-- writers lock in one order.
WITH fresh AS (
    INSERT INTO whatsapp_gateway.message_keys (chat_id, key, rank, ts)
    SELECT chat_id, key, rank, ts FROM stage_messages
    ON CONFLICT (chat_id, key) DO NOTHING
    RETURNING chat_id, key
), stored AS (
    INSERT INTO whatsapp_gateway.message_content (
        ts, received_at, "offset", session_id, chat_id, sender_id, participant_id, partition, lane, key, from_me,
        has_media, raw_id, type, body, reply_to, source, push_name, mimetype, filename, event_id, topic, extra)
    SELECT s.ts, s.received_at, s."offset", s.session_id, s.chat_id, s.sender_id, s.participant_id, s.partition, s.lane,
           s.key, s.from_me, s.has_media, s.raw_id, s.type, s.body, s.reply_to, s.source, s.push_name, s.mimetype,
           s.filename, s.event_id, s.topic, s.extra
    FROM stage_messages s JOIN fresh USING (chat_id, key)
    RETURNING topic, partition
)
SELECT topic, partition, count(*) AS written FROM stored GROUP BY topic, partition;

-- name: lock_better
-- Known messages for which the stage holds a better content. Locked here, so that the next statement sees what others
-- committed meanwhile.
SELECT count(*) FROM (
    SELECT FROM whatsapp_gateway.message_keys k JOIN stage_messages s USING (chat_id, key)
    WHERE s.rank < k.rank
    ORDER BY k.chat_id, k.key
    FOR UPDATE OF k
) AS locked;

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
    UPDATE whatsapp_gateway.message_keys k SET rank = b.rank, ts = b.ts
    FROM better b WHERE k.chat_id = b.chat_id AND k.key = b.key
)
INSERT INTO whatsapp_gateway.message_content (
    ts, received_at, "offset", session_id, chat_id, sender_id, participant_id, partition, lane, key, from_me,
    has_media, raw_id, type, body, reply_to, source, push_name, mimetype, filename, event_id, topic, extra)
SELECT ts, received_at, "offset", session_id, chat_id, sender_id, participant_id, partition, lane, key, from_me,
       has_media, raw_id, type, body, reply_to, source, push_name, mimetype, filename, event_id, topic, extra
FROM better;
