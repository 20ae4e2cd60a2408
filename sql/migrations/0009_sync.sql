-- Fetching what is missing: requests with their cursors, gaps with their evidence, and how fast it may go.

-- A request for the history of one chat (or 'all'), or for the people of a session; its state outlives every process.
-- Windows are whole seconds of WhatsApp's time, both ends inclusive; until_s is fixed when the request is made.
CREATE TABLE sync_state (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request_id   text NOT NULL UNIQUE,      -- of the record on wapipe.sync: the same record twice is one
    session      text NOT NULL,             -- qualified by its source
    chat         text NOT NULL,             -- a chat's id, or all
    kind         text NOT NULL,             -- messages, people
    reason       text NOT NULL,             -- gap, manual, initial, periodic
    priority     smallint NOT NULL,         -- the order of the reasons; the least goes first
    since_s      bigint NOT NULL,
    until_s      bigint NOT NULL,
    parent_id    bigint,                    -- of a chat's request: the one for all chats that it was made for
    status       text NOT NULL DEFAULT 'pending',  -- pending, running, waiting, completed, failed, stopped
    error        text,                      -- why it waits or failed
    cursor_s     bigint,                    -- everything before it is fetched
    page_rows    integer,                   -- size of the next page
    pages        integer NOT NULL DEFAULT 0,
    calls        integer NOT NULL DEFAULT 0,  -- requests to WAHA
    seen         bigint NOT NULL DEFAULT 0,   -- messages that WAHA had
    new          bigint NOT NULL DEFAULT 0,   -- of them, those that the database did not have
    attempts     integer NOT NULL DEFAULT 0,  -- failures in a row
    next_try_at  timestamptz NOT NULL DEFAULT now(),
    lease_owner  text,
    lease_until  timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now(),
    started_at   timestamptz,
    updated_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz
) WITH (fillfactor = 70);
-- The same window asked for again while it is open is one request; of a chat one runs at a time, in whatever process.
CREATE UNIQUE INDEX sync_state_open ON sync_state (session, chat, kind, since_s, until_s)
    WHERE status IN ('pending', 'running', 'waiting');
CREATE UNIQUE INDEX sync_state_running ON sync_state (session, chat, kind) WHERE status = 'running';
CREATE INDEX sync_state_due ON sync_state (priority, id) WHERE status IN ('pending', 'running', 'waiting');
CREATE INDEX sync_state_of ON sync_state (session, chat, kind, finished_at);

CREATE VIEW sync_queue AS
SELECT id, session, chat, kind, reason, status, error, to_timestamp(since_s) AS since, to_timestamp(until_s) AS until,
       to_timestamp(cursor_s) AS cursor, pages, seen, new, attempts, next_try_at, created_at, started_at, updated_at,
       row_number() OVER (ORDER BY status <> 'running', priority, id) AS place
FROM sync_state WHERE status IN ('pending', 'running', 'waiting')
ORDER BY place;

-- An interval in which events may be missing, with what speaks for it. chat '' stands for the whole session.
CREATE TABLE sync_gaps (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session     text NOT NULL,
    chat        text NOT NULL,
    cause       text NOT NULL,              -- not_working, unknown_quote, missed
    since_s     bigint NOT NULL,
    until_s     bigint NOT NULL,
    evidence    text NOT NULL,              -- JSON
    status      text NOT NULL DEFAULT 'open',  -- open, requested, closed, failed
    request_id  text,
    found       bigint,                     -- messages that the database did not have
    created_at  timestamptz NOT NULL DEFAULT now(),
    closed_at   timestamptz,
    UNIQUE (session, chat, cause, since_s)
);
CREATE INDEX sync_gaps_open ON sync_gaps (session) WHERE status <> 'closed';

-- What an operator set while it runs.
CREATE TABLE sync_control (
    only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    stopped     boolean NOT NULL DEFAULT false,
    rate_per_s  double precision             -- messages a second of each process; NULL: no limit
);
INSERT INTO sync_control DEFAULT VALUES;
