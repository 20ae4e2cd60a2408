-- What is said of messages afterwards, and events without a table of their own. Every table has a merge that does not
-- depend on the order of events (docs/merge-law.md); none needs its message to be there.

-- Keys of messages get a form in which all facts about one raw id of a chat, whoever wrote it, are one range:
-- ten bytes of SHA-256(hash_key, 0, raw id), then six for the author (…01 me, …02 the peer of a direct chat, else
-- SHA-256(hash_key, 1, jid) with the highest bit set). See schemas/keys.py.
CREATE FUNCTION message_key(hash_key bytea, from_me boolean, chat text, sender text, raw_id text) RETURNS uuid
LANGUAGE sql IMMUTABLE AS $$
    SELECT encode(
        substring(sha256(hash_key || '\x00'::bytea || convert_to(raw_id, 'UTF8')) FROM 1 FOR 10)
        || CASE WHEN from_me THEN '\x000000000001'::bytea
                WHEN chat NOT LIKE '%@g.us' AND chat NOT LIKE '%@broadcast' THEN '\x000000000002'::bytea
                ELSE set_byte(a.author, 0, get_byte(a.author, 0) | 128) END,
        'hex')::uuid
    FROM (SELECT substring(sha256(hash_key || '\x01'::bytea || convert_to(coalesce(sender, chat), 'UTF8')) FROM 1 FOR 6)
          AS author) a
$$;

CREATE TEMP TABLE new_keys ON COMMIT DROP AS
SELECT m.chat_id, m.key AS old_key, message_key(i.hash_key, m.from_me, c.jid, s.jid, m.raw_id) AS key
FROM message_content m CROSS JOIN installation i JOIN jids c ON c.id = m.chat_id LEFT JOIN jids s ON s.id = m.sender_id;
UPDATE message_keys k SET key = n.key FROM new_keys n WHERE n.chat_id = k.chat_id AND n.old_key = k.key;
UPDATE message_content m SET key = n.key FROM new_keys n WHERE n.chat_id = m.chat_id AND n.old_key = m.key;

-- When a message was received first, whichever of its contents is shown: the elder of two messages with one raw id.
ALTER TABLE message_keys ADD COLUMN first_at timestamptz;
UPDATE message_keys k SET first_at = m.received_at FROM message_content m WHERE m.chat_id = k.chat_id AND m.key = k.key;
ALTER TABLE message_keys ALTER COLUMN first_at SET NOT NULL, ALTER COLUMN first_at SET DEFAULT now();

-- How far a message got: in direct chats one row without a recipient (0), in groups one a reader.
-- level: 0 pending, 1 error, 2 server, 3 device, 4 read, 5 played: it only rises. The first time of each level stays.
CREATE TABLE message_acks (
    chat_id       integer NOT NULL,
    key           uuid NOT NULL,
    recipient_id  integer NOT NULL,        -- jids.id; 0: the event names nobody
    level         smallint NOT NULL,
    server_at     timestamptz,
    device_at     timestamptz,
    read_at       timestamptz,
    played_at     timestamptz,
    PRIMARY KEY (chat_id, key, recipient_id)
) WITH (fillfactor = 70);

-- Every edit, by its own id; of one edit told twice the readable and the earliest stays. The newest one is shown.
CREATE TABLE message_edits (
    chat_id      integer NOT NULL,
    key          uuid NOT NULL,            -- of the message, its author being whoever edits
    edit_key     uuid NOT NULL,            -- key of edit_id without an author
    unreadable   boolean NOT NULL,         -- could not be decrypted
    at           timestamptz NOT NULL,
    event_id     text NOT NULL,
    body         text,
    body_before  text,                     -- as WEBJS remembers it
    edit_id      text NOT NULL,
    PRIMARY KEY (chat_id, key, edit_key)
);

-- Who took a message back first when. Whether he may is decided when it is read.
CREATE TABLE message_revokes (
    chat_id      integer NOT NULL,
    key          uuid NOT NULL,            -- author unknown where the act does not say it
    by_id        integer NOT NULL,
    at           timestamptz NOT NULL,
    event_id     text NOT NULL,
    body_before  text,
    PRIMARY KEY (chat_id, key, by_id)
);

-- One reaction a person, the newest; '' took it away.
CREATE TABLE reactions (
    chat_id   integer NOT NULL,
    key       uuid NOT NULL,
    by_id     integer NOT NULL,
    at        timestamptz NOT NULL,
    event_id  text NOT NULL,
    emoji     text NOT NULL,
    PRIMARY KEY (chat_id, key, by_id)
);

-- A voter's last readable selection, whole.
CREATE TABLE poll_votes (
    chat_id   integer NOT NULL,
    key       uuid NOT NULL,               -- of the poll
    voter_id  integer NOT NULL,
    at         timestamptz,
    event_id   text,
    options    text[],                     -- names; {} cleared
    failed_at  timestamptz,                -- when he last voted for what could not be decrypted
    PRIMARY KEY (chat_id, key, voter_id)
);

-- Answers to event messages.
CREATE TABLE event_responses (
    chat_id   integer NOT NULL,
    key       uuid NOT NULL,
    by_id     integer NOT NULL,
    at         timestamptz,
    event_id   text,
    response   text,                       -- GOING, NOT_GOING, MAYBE, UNKNOWN
    guests     integer,
    failed_at  timestamptz,
    PRIMARY KEY (chat_id, key, by_id)
);

-- Events without a table of their own, whole; key is SHA-256 (16 bytes) of name and envelope id, or body.
CREATE TABLE other_events (
    session_id  integer NOT NULL,
    key         uuid NOT NULL,
    at          timestamptz NOT NULL,
    event       text NOT NULL,
    event_id    text NOT NULL,
    engine      text,
    chat        text,
    body        text NOT NULL,             -- JSON
    PRIMARY KEY (session_id, key)
);
CREATE INDEX other_events_at ON other_events (session_id, at DESC);

-- What a chat is (waha.chat, waha.presence) is read by the contacts consumer now.
DELETE FROM progress WHERE consumer = 'messages' AND topic IN ('waha.chat', 'waha.presence');
DELETE FROM progress_skipped WHERE consumer = 'messages' AND topic IN ('waha.chat', 'waha.presence');
