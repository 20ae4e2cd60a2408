-- The spine: dictionaries, message keys and contents, contacts, the books. Runs on TimescaleDB and on plain PostgreSQL.
-- search_path is whatsapp_gateway while a migration runs.

-- One row: what this installation chose once. hash_key keys the 128-bit hashes of message keys, so that nobody who
-- chooses raw message ids can aim at a collision.
CREATE TABLE installation (
    only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    hash_key  bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO installation (hash_key)
VALUES (decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'));

-- A WhatsApp session. name is what users write: the session's name, with `source:` before it for a second WAHA.
CREATE TABLE sessions (
    id             integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name           text NOT NULL UNIQUE,
    status         text,                 -- as WAHA spells it: WORKING, STOPPED, SCAN_QR_CODE, …
    status_at      timestamptz,
    me_at          timestamptz,          -- envelope time of the newest event that named the account
    me             text,                 -- own id, …@c.us
    me_lid         text,
    me_push_name   text,
    engine         text,
    waha_version   text,
    last_event_at  timestamptz,          -- envelope time of the newest session event
    created_at     timestamptz NOT NULL DEFAULT now()
);

-- Chats and people of a session by their raw id; narrow integers for the wide tables.
CREATE TABLE jids (
    id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session_id  integer NOT NULL REFERENCES sessions (id),
    jid         text NOT NULL,
    UNIQUE (session_id, jid)
);

-- Decides what is new: (session, chat, from_me, sender in groups, raw id) -> time. chat_id implies the session;
-- key is blake2b-128 over the rest. rank says which of several contents of one message is shown (lowest wins).
CREATE TABLE message_keys (
    chat_id  integer NOT NULL,
    key      uuid NOT NULL,
    rank     uuid NOT NULL,
    ts       timestamptz NOT NULL,
    PRIMARY KEY (chat_id, key)
);

-- Content of messages, by WhatsApp's own time. No unique index: message_keys decides what is new.
CREATE TABLE message_content (
    ts              timestamptz NOT NULL,
    received_at     timestamptz NOT NULL,   -- when the ingress took it
    "offset"        bigint NOT NULL,        -- provenance: topic, partition, offset of the raw event
    session_id      integer NOT NULL,
    chat_id         integer NOT NULL,
    sender_id       integer,
    participant_id  integer,                -- fourth part of WAHA's serialized id, where it has one
    partition       smallint NOT NULL,
    lane            smallint NOT NULL,      -- 0 live, 1 backfill
    key             uuid NOT NULL,
    from_me         boolean NOT NULL,
    has_media       boolean NOT NULL,
    raw_id          text NOT NULL,
    type            text NOT NULL,
    body            text,
    reply_to        text,                   -- raw id of the quoted message
    source          text,                   -- app | api: how an own message was sent
    push_name       text,
    mimetype        text,
    filename        text,
    event_id        text,
    topic           text NOT NULL,
    extra           jsonb                   -- location, vcards, poll, quoted text: only what the type has
);

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
        PERFORM create_hypertable(
            'message_content', 'ts',
            chunk_time_interval => make_interval(days => current_setting('wapipe.chunk_days')::int),
            create_default_indexes => false);
    END IF;
END $$;
CREATE INDEX message_content_chat_ts ON message_content (chat_id, ts DESC);

-- People and groups as a session has met them; one row per (session, identity).
CREATE TABLE contacts (
    session_id     integer NOT NULL REFERENCES sessions (id),
    jid            text NOT NULL,
    push_name      text,
    push_name_at   timestamptz,             -- when the name was last shown, to the hour: a busy contact is not rewritten
    is_group       boolean NOT NULL,
    is_me          boolean NOT NULL DEFAULT false,
    first_seen_at  timestamptz NOT NULL,
    last_seen_at   timestamptz NOT NULL,    -- kept to the day, so that a busy chat does not rewrite its row
    PRIMARY KEY (session_id, jid)
);

-- The books: how far a consumer is, and what became of each record. Moved in the transaction of the rows.
-- next_offset - first_offset = records + gap; records = written + merged + skipped + dead.
CREATE TABLE progress (
    consumer      text NOT NULL,
    topic         text NOT NULL,
    partition     integer NOT NULL,
    first_offset  bigint NOT NULL,
    next_offset   bigint NOT NULL,
    records       bigint NOT NULL DEFAULT 0,
    written       bigint NOT NULL DEFAULT 0,
    merged        bigint NOT NULL DEFAULT 0,
    skipped       bigint NOT NULL DEFAULT 0,
    dead          bigint NOT NULL DEFAULT 0,
    gap           bigint NOT NULL DEFAULT 0, -- offsets that the broker no longer had
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, topic, partition)
) WITH (fillfactor = 50);

-- Records that a consumer does not store, by event name: nothing is skipped silently.
CREATE TABLE progress_skipped (
    consumer   text NOT NULL,
    topic      text NOT NULL,
    event      text NOT NULL,
    records    bigint NOT NULL,
    PRIMARY KEY (consumer, topic, event)
) WITH (fillfactor = 50);

-- What a person reads. Left joins on unique keys: count(*) does not touch them.
CREATE VIEW messages AS
SELECT CASE WHEN m.from_me THEN 'true_' ELSE 'false_' END || c.jid || '_' || m.raw_id
           || coalesce('_' || p.jid, '')   AS message_id,
       s.name                              AS session,
       c.jid                               AS chat,
       f.jid                               AS sender,
       m.from_me, m.ts AS "timestamp", m.type, m.body AS text, m.reply_to, m.source, m.push_name,
       m.has_media, m.mimetype, m.filename, m.extra, m.received_at, m.event_id, m.topic, m.partition, m."offset",
       m.lane, m.session_id, m.chat_id, m.key
FROM message_content m
LEFT JOIN sessions s ON s.id = m.session_id
LEFT JOIN jids c ON c.id = m.chat_id
LEFT JOIN jids f ON f.id = m.sender_id
LEFT JOIN jids p ON p.id = m.participant_id;

CREATE VIEW active_sessions AS
SELECT id, name AS session, status, status_at, me, me_push_name, engine, waha_version, last_event_at
FROM sessions WHERE status = 'WORKING';
