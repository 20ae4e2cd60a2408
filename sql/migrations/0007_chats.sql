-- What lists of chats and groups are ordered by, so that reading one costs its page and not the history.

-- When a chat had its newest message, to the minute: a busy chat writes its row once a minute. The greatest minute of any
-- content that was told stays, so it is never earlier than the newest message's.
CREATE TABLE chat_latest (
    chat_id     integer PRIMARY KEY,
    session_id  integer NOT NULL,
    minute_at   timestamptz NOT NULL
) WITH (fillfactor = 80);
INSERT INTO chat_latest
SELECT chat_id, min(session_id), date_trunc('minute', max(ts), 'UTC') FROM message_content GROUP BY chat_id;
CREATE INDEX chat_latest_order ON chat_latest (session_id, minute_at DESC, chat_id DESC);

CREATE INDEX jids_groups ON jids (session_id, jid) WHERE jid LIKE '%@g.us';
